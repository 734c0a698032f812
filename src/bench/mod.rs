//! bench: how fast a job is on this machine, beside what the machine can do.
//!
//! The ceilings are measured first (`ceilings`), then the whole job (`job_runs`) on planted data or on the user's own,
//! by [`crate::mine`] itself. All figures make one record (`record`), which is shown (`table`) and compared with an
//! earlier one (`baseline`).
//!
//! Memory: that of the job or of the ceilings' buffer, one after the other; both are within the job's budget.

mod baseline;
mod ceilings;
mod folder;
mod job_runs;
mod machine;
mod measured;
mod record;
mod table;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::config::{Config, KernelPrecision, name_of};
use crate::error::{Error, Kind, Result};
use crate::job::{Job, on_threads};
use crate::neighbors::calibrate::operations_per_second;
use crate::planted::{Planted, Spectrum, Type, write_watched};
use crate::run::{Disk, Progress};
use crate::watch::Watch;

use folder::BenchFolder;
use job_runs::Repeats;

pub(crate) use baseline::compare;
use record::BenchSettings;
pub(crate) use record::{BENCH_FORMAT, BenchRecord};
pub(crate) use table::describe_record;

/// Dimensions of planted rows: those of small sentence encoders.
pub(crate) const PLANTED_DIM: u32 = 384;
/// Planted rows, where the search of so many is soon done; else half as many, a quarter …
const MOST_ROWS: u64 = 100_000;
const LEAST_ROWS: u64 = 3125;
/// Rows of a planted cluster.
const CLUSTER_ROWS: u64 = 100;
/// A search longer than this takes fewer rows.
const SEARCH_SECONDS: f64 = 15.0;
/// No further job begins that would end later, unless a number of jobs was asked for.
const ALL_SECONDS: Duration = Duration::from_secs(90);
/// Jobs by default.
const JOBS: usize = 2;

/// What is to be measured.
#[derive(Debug)]
pub(crate) struct BenchOptions {
    /// Planted data, or the user's own where `None`.
    pub planted: Option<PlantedShape>,
    /// Jobs to run; by default two, or one where there is no time for more.
    pub repeats: Option<usize>,
}

/// The shape of planted data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlantedShape {
    /// By default as many as are searched soon.
    pub rows: Option<u64>,
    pub dim: u32,
}

/// Measures the machine and the job. `config` makes the job's settings from input paths: none for the user's own. Files
/// are made inside `work`, and removed.
///
/// # Errors
/// Settings or data that `mine` would refuse, a folder that is not there, a disk that fails, or an interrupt.
pub(crate) fn measure(
    options: &BenchOptions,
    config: &dyn Fn(Option<String>) -> Result<Config>,
    work: &Path,
    interrupted: &Arc<AtomicBool>,
) -> Result<BenchRecord> {
    // A job says how to go on with its folder; this one is gone.
    all(options, config, work, interrupted).map_err(|error| match error.kind() {
        Kind::Interrupted => stopped(),
        _ => error,
    })
}

fn all(
    options: &BenchOptions,
    config: &dyn Fn(Option<String>) -> Result<Config>,
    work: &Path,
    interrupted: &Arc<AtomicBool>,
) -> Result<BenchRecord> {
    let start = Instant::now();
    let listen = |_| match interrupted.load(Ordering::Relaxed) {
        true => Err(stopped()),
        false => Ok(()),
    };
    let watch = Watch::new(&listen);
    let folder = BenchFolder::inside(work)?;
    let data = folder.path().join("data");
    let job = match options.planted {
        None => Job::open(config(None)?)?,
        Some(shape) => {
            let path = data.display().to_string();
            let settings = config(Some(path.clone()))?;
            let planted = planted(shape, &settings)?;
            tracing::info!("bench: {} planted rows x {} dimensions", planted.rows, planted.dim);
            on_threads(settings.threads, || write_watched(&planted, &data, &Disk, &Progress::silent(), watch))??;
            Job::open(settings)?
        }
    };
    let Job { config, shards, .. } = &job;
    let buffer_bytes = ceilings::buffer_bytes(machine::cache_bytes(), config.memory_bytes);
    tracing::info!("bench: ceilings of the machine");
    let ceilings =
        on_threads(config.threads, || ceilings::measure(shards.shape.dim, buffer_bytes, folder.path(), watch))??;
    let repeats = Repeats {
        times: options.repeats.unwrap_or(JOBS),
        until: options.repeats.is_none().then(|| start + ALL_SECONDS),
    };
    let runs = job_runs::run(&job, folder.path(), repeats, interrupted)?;
    let settings = BenchSettings {
        data: if options.planted.is_some() { "planted".into() } else { format!("own, {}", runs.contents()) },
        rows: shards.shape.rows,
        dim: shards.shape.dim,
        k: config.window.ranks(),
        skip: config.window.skip,
        cluster_size: config.clusters.size,
        batch_size: config.batches.size,
        precision: name_of(config.precision),
        search: String::from(config.method),
        backend: name_of(config.backend),
        stages: runs.settings().collect(),
        threads: config.threads,
        memory_bytes: config.memory_bytes,
        buffer_bytes,
    };
    Ok(BenchRecord {
        format: BENCH_FORMAT,
        batchmine: env!("CARGO_PKG_VERSION").into(),
        machine: machine::machine(),
        settings,
        stages: runs.stages(config, &ceilings),
        whole: runs.whole(),
        ceilings,
    })
}

/// The planted data of a shape; without a number of rows as many as are searched soon here.
fn planted(shape: PlantedShape, config: &Config) -> Result<Planted> {
    let rows = match shape.rows {
        Some(rows) => rows,
        None => {
            let rate = |precision: KernelPrecision| {
                operations_per_second(precision, shape.dim as usize, Duration::from_millis(300))
            };
            rows_within(SEARCH_SECONDS, on_threads(config.threads, || rate(config.precision))?, shape.dim)
        }
    };
    let planted = Planted {
        clusters: rows.div_ceil(CLUSTER_ROWS),
        dim: shape.dim,
        dtype: Type::F16,
        noise: 1.0,
        rows,
        seed: 0,
        spectrum: Spectrum::Falling,
        tasks: 1,
    };
    planted.checked()
}

/// The rows whose exact search takes at most so long at a rate: `MOST_ROWS`, or that halved some times.
fn rows_within(seconds: f64, operations_per_second: f64, dim: u32) -> u64 {
    let takes = |rows: u64| 2.0 * (rows as f64).powi(2) * f64::from(dim) / operations_per_second;
    let halved = std::iter::successors(Some(MOST_ROWS), |rows| Some(rows / 2)).take_while(|rows| *rows >= LEAST_ROWS);
    halved.into_iter().find(|rows| takes(*rows) <= seconds).unwrap_or(LEAST_ROWS)
}

/// The error of a bench that the user ended.
fn stopped() -> Error {
    Error::new(Kind::Interrupted, "the bench was stopped: nothing of it is kept").remedy("run it again")
}

/// Refuses settings of which the bench makes nothing.
///
/// # Errors
/// A table is to be published.
pub(crate) fn refuse_publishing(config: &Config) -> Result<()> {
    if config.table.is_none() {
        return Ok(());
    }
    Err(Error::input("a bench publishes no table")
        .expected("no --table, no --table-out, no --partition-by")
        .found("settings of a table to publish")
        .remedy("leave them out; also look at BATCHMINE_* variables and at the file of --config"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_machines_get_fewer_rows() {
        assert_eq!(rows_within(15.0, 1e12, 384), 100_000);
        assert_eq!(rows_within(15.0, 2e11, 384), 50_000);
        assert_eq!(rows_within(15.0, 1e9, 384), 3125);
        assert_eq!(rows_within(15.0, 1.0, 384), 3125);
        assert_eq!(rows_within(15.0, 1e12, 4096), 25_000);
    }
}

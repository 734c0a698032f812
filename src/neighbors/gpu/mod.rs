//! The search on GPUs: tiles go to worker processes, each with a device, and their answers are made exact here.
//!
//! A worker is this executable once more, with a plugin that knows the device ([`plugin`]). The base lies in a
//! file that the workers map ([`base`]); tiles of queries and their answers lie in shared memory ([`shared`]);
//! commands go over pipes ([`protocol`]). So a crash, a device that is lost or hangs, or too little memory costs
//! a tile: it is searched in quarters, then by the CPU ([`segment`]), and the job goes on.
//!
//! Memory: the slots of the devices ([`layout`]), and the candidates of every query of a segment. What CUDA takes
//! in the workers is not counted.

pub(crate) mod base;
pub(crate) mod device;
pub(crate) mod layout;
pub(crate) mod plugin;
pub(crate) mod process;
pub(crate) mod protocol;
pub(crate) mod segment;
pub(crate) mod shared;
pub(crate) mod worker;

use std::time::Duration;

use indicatif::{HumanBytes, HumanCount};

use self::base::{DeviceBase, DeviceBaseWriter};
use self::device::DeviceHandle;
use self::layout::{LayoutInput, Resident, TileLayout};
use self::process::Worker;
use self::protocol::{Device, Reply, Request};
use super::answers::SPARE;
use crate::config::{Backend, Config, KernelPrecision, Method};
use crate::error::{Error, Result};
use crate::neighbors::budget::NeighborsCounts;
use crate::run::{Run, Stage, StageRun};
use crate::vectors::{Shape, StoreType, Vectors};

/// Name of the base in the run folder.
pub(crate) const BASE: &str = "base.gpu";

/// Devices that answered, and what is done with them.
#[derive(Debug)]
pub(crate) struct Gpus {
    devices: Vec<Device>,
    layout: TileLayout,
    precision: StoreType,
    k: usize,
}

/// Seeks devices, where the settings ask for them or allow them; the log says what was found. `None`: the CPU
/// searches.
///
/// # Errors
/// `--backend faiss-gpu` was asked for, and no device answers; or `look` stops the job.
pub(crate) fn find(
    config: &Config,
    counts: &NeighborsCounts,
    shape: Shape,
    task_rows: usize,
    look: &dyn Fn() -> Result<()>,
) -> Result<Option<Gpus>> {
    let asked = config.backend == Backend::FaissGpu;
    let Some(plugin) = config.gpu.plugin.as_deref().filter(|_| asked || config.backend == Backend::Auto) else {
        if config.backend == Backend::Auto {
            tracing::debug!("the CPU searches: there is no GPU plugin");
        }
        return Ok(None);
    };
    let k = config.most_ranks() as usize + SPARE;
    let stays = |why: String| {
        tracing::info!("the CPU searches, though there is a GPU plugin: {why}");
        Ok(None)
    };
    if config.method != Method::Exact {
        return stays("approximate search is the CPU's".into());
    }
    if k > plugin::RANKS_MAX {
        let most = plugin::RANKS_MAX - SPARE;
        return stays(format!("--skip + --window is {}, and GPUs search up to {most}", k - SPARE));
    }
    let devices = match devices(plugin, config.gpu.patience(), look)? {
        Ok((about, devices)) if !devices.is_empty() => {
            let names: Vec<String> = devices.iter().map(described).collect();
            tracing::info!("{} with {about}", names.join(", "));
            devices
        }
        other => {
            let why = other.err().unwrap_or_else(|| "there is no device".into());
            return if asked { Err(no_device(plugin, &why)) } else { stays(why) };
        }
    };
    let precision = if config.precision == KernelPrecision::F32 { StoreType::F32 } else { StoreType::F16 };
    let free: Vec<u64> = devices.iter().map(|device| device.free_bytes).collect();
    let job = LayoutInput {
        task_rows,
        rows: shape.rows as usize,
        row_bytes: shape.dim * precision.bytes(),
        k: k.min(task_rows),
        block_rows: counts.block_rows,
        free_bytes: &free,
        shared_bytes: counts.gpu_shared_bytes,
    };
    match TileLayout::new(job) {
        Some(layout) => Ok(Some(Gpus { devices, layout, precision, k })),
        None => {
            let names: Vec<String> = devices.iter().map(described).collect();
            let tiles = HumanBytes(counts.gpu_shared_bytes as u64);
            let found = format!("{}; {tiles} of --memory for tiles of queries", names.join(", "));
            if asked { Err(too_small(&found)) } else { stays(format!("its tiles are too small: {found}")) }
        }
    }
}

fn too_small(found: &str) -> Error {
    Error::runtime("there is too little memory for a search on GPUs")
        .expected(format!("room for {} base rows on each device, and for a few queries here", layout::BASE_ROWS_MIN))
        .found(found)
        .remedy("free the device, leave it out by CUDA_VISIBLE_DEVICES, raise --memory, or mine with --backend cpu")
}

/// What the plugin says of itself, and its devices; or why there are none.
type Found = Result<(String, Vec<Device>), String>;

fn devices(plugin: &std::path::Path, patience: Duration, look: &dyn Fn() -> Result<()>) -> Result<Found> {
    let mut worker = match Worker::start(plugin) {
        Ok(worker) => worker,
        Err(fault) => return Ok(Err(fault.to_string())),
    };
    Ok(match worker.call(&Request::Devices, patience, look)? {
        Ok(Reply::Devices { devices, silent, .. }) if devices.is_empty() && !silent.is_empty() => {
            Err(silent.join("; "))
        }
        Ok(Reply::Devices { about, devices, silent }) => {
            for text in silent {
                tracing::warn!("a device is left out, for it does not answer (see nvidia-smi): {text}");
            }
            let (roomy, small) = part_by_room(devices);
            for device in small {
                tracing::warn!(
                    "a device is left out, for another has more than four times its room (free it, or choose by \
                     CUDA_VISIBLE_DEVICES): {}",
                    described(&device)
                );
            }
            Ok((about, roomy))
        }
        Ok(_) => Err("the GPU worker gave another answer than was asked for".into()),
        Err(fault) => Err(fault.to_string()),
    })
}

/// Devices that are worth a seat, and those with so little free memory that they would make all tiles small.
fn part_by_room(devices: Vec<Device>) -> (Vec<Device>, Vec<Device>) {
    let most = devices.iter().map(|device| device.free_bytes).max().unwrap_or(0);
    devices.into_iter().partition(|device| device.free_bytes >= most / 4)
}

fn no_device(plugin: &std::path::Path, why: &str) -> Error {
    Error::runtime("no GPU answers")
        .path(plugin)
        .expected("a plugin that loads here, and a device (nvidia-smi lists them)")
        .found(why)
        .remedy("see docs/gpu.md, or mine with --backend cpu")
}

fn described(device: &Device) -> String {
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    format!("{} ({:.1} of {:.1} GiB free)", device.name, gib(device.free_bytes), gib(device.total_bytes))
}

impl Gpus {
    /// How tiles are cut and what is copied, for a person.
    pub(crate) fn describe(&self) -> String {
        let TileLayout { base_rows, query_rows, base_tiles, resident, moved_bytes, other_bytes } = self.layout;
        let names: Vec<String> = self.devices.iter().map(described).collect();
        let width = if self.precision == StoreType::F16 { "f16" } else { "f32" };
        let stays = match resident {
            Resident::Base if base_tiles <= self.devices.len() => "base tiles stay on the device, queries stream",
            Resident::Base => "a base tile stays on the device while the queries of a block stream",
            Resident::Queries => "the queries of a block stay on the device while base tiles stream",
        };
        let bytes = |bytes: u128| HumanBytes(u64::try_from(bytes).unwrap_or(u64::MAX)).to_string();
        let other = if other_bytes > moved_bytes {
            format!(" (the other way round {})", bytes(other_bytes))
        } else {
            String::new()
        };
        format!(
            "{}: base of {base_tiles} x {} rows in {width}, {} queries at a time; {stays}: {} copied to devices{other}",
            names.join(", "),
            HumanCount(base_rows as u64),
            HumanCount(query_rows as u64),
            bytes(moved_bytes),
        )
    }

    /// Makes the base, or takes the one that is there, and seats a worker at each device.
    ///
    /// # Errors
    /// The disk fails, memory is missing, or the user interrupts.
    pub(crate) fn begin(
        self,
        run: &Run,
        stage: &StageRun<'_>,
        vectors: &Vectors,
        config: &Config,
    ) -> Result<GpuSearch> {
        let unit = config.metric == crate::config::Metric::Cosine;
        let (store, scales) = (&vectors.positives, vectors.rows.positive_scales());
        let path = run.part_path(Stage::Neighbors, BASE);
        // One of an earlier session may be of another width.
        let fits = |base: &DeviceBase| base.width() == self.precision.bytes();
        let old = run.has(Stage::Neighbors, BASE).then(|| DeviceBase::open(&path)).transpose()?.filter(fits);
        let base = if let Some(base) = old {
            base
        } else {
            let packing = DeviceBaseWriter { store, scales, unit, precision: self.precision };
            let part = stage.scattered(BASE, packing.file_bytes())?;
            packing.write(&part, &|_| run.check_interrupt())?;
            stage.publish(vec![part])?;
            DeviceBase::open(&path)?
        };
        tracing::info!("GPU search: {}", self.describe());
        let slot_bytes = self.layout.slot_bytes(base.width() * base.dim(), self.k);
        let plugin = config.gpu.plugin.clone().unwrap_or_default();
        let handle =
            |device: &Device| DeviceHandle::new(device.clone(), &plugin, &path, slot_bytes, config.gpu.patience());
        let devices_held = self.devices.iter().map(handle).collect::<Result<Vec<DeviceHandle>>>()?;
        Ok(GpuSearch::new(base, self.layout, devices_held, unit))
    }
}

pub(crate) use segment::GpuSearch;

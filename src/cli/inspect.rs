//! `batchmine inspect`: what a shard, a run folder or a file of it holds.

use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{HumanBytes, HumanCount};

use super::{log, rows};
use crate::clusters::labels::LABELS;
use crate::config::{Columns, EmbeddingColumns};
use crate::edges::file::EDGES;
use crate::error::{Error, Result};
use crate::neighbors::file::NEIGHBORS;
use crate::run::sealed::Sealed;
use crate::run::{RunReader, Stage};
use crate::vectors::dot::dot;
use crate::vectors::{EmbeddingRows, INT_IDS, KEY_LISTS, ROWS, Shards, Source, TASKS, TEXT_IDS, Unit, VECTORS};

/// Rows whose norms are sampled.
const SAMPLE_ROWS: usize = 1000;

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A Parquet, Arrow or .npy shard (or a folder of them, or a glob), a run folder, or one of its files
    path: PathBuf,
    /// Input rows A..B of a run: their neighbours, edges and clusters, one object a line
    #[arg(long, value_name = "A..B", value_parser = rows::parse_range)]
    rows: Option<std::ops::Range<u64>>,
    /// With --rows: the two vectors as well
    #[arg(long, requires = "rows")]
    vectors: bool,
    /// Embedding column of a shard [default: found]
    #[arg(long, value_name = "NAME")]
    embedding_column: Option<String>,
}

impl InspectArgs {
    /// Prints what is there.
    ///
    /// # Errors
    /// The path is none of the three, or is damaged.
    pub fn run(self) -> Result<()> {
        if self.path.join("manifest.json").exists() {
            let run = RunReader::open(&self.path)?;
            return match self.rows {
                Some(range) => rows::print(&run, range, self.vectors),
                None => describe_run(&run),
            };
        }
        if self.rows.is_some() {
            return Err(Error::input("--rows needs a run folder")
                .path(&self.path)
                .expected("a folder made by `batchmine mine`")
                .found("something else")
                .remedy("name the run folder"));
        }
        if self.path.is_file() && describe_artefact(&self.path)? {
            return Ok(());
        }
        self.describe_shards()
    }

    fn describe_shards(&self) -> Result<()> {
        let embeddings = match &self.embedding_column {
            Some(name) => EmbeddingColumns::Shared(name.clone()),
            None => EmbeddingColumns::Pair { query: None, positive: None },
        };
        let columns = Columns { embeddings, ..Columns::unnamed() };
        let shards = Shards::open_unlabelled(&vec![self.path.display().to_string()].into(), &columns)?;
        log::print(&format!(
            "{} rows x {} dimensions in {} files, {}",
            HumanCount(shards.shape.rows),
            shards.shape.dim,
            shards.list.len(),
            HumanBytes(shards.input_bytes())
        ));
        let roles = &shards.roles;
        let name = |role: &Option<String>| role.clone().unwrap_or_else(|| "none".into());
        log::print(&format!(
            "query {}, positive {}{}, id {}",
            name(&roles.query),
            name(&roles.positive),
            if roles.shared { " (one side serves as both)" } else { "" },
            roles.id.clone().unwrap_or_else(|| "row number".into())
        ));
        if let Some(schema) = shards.list.first().and_then(|shard| shard.schema()) {
            for field in schema.fields() {
                let own = shards.list.iter().all(|shard| !shard.is_of_path(field.name()));
                let whose = if own { "" } else { ", of the path" };
                log::print(&format!("  {:<24} {}{whose}", field.name(), field.data_type()));
            }
        }
        for shard in &shards.list {
            let pieces = Unit::all(std::slice::from_ref(shard)).len();
            let pieces = match &shard.source {
                Source::Parquet { .. } => format!("{pieces} row groups"),
                Source::Arrow(_) => format!("{pieces} pieces of Arrow record batches"),
                Source::Npy(_) => format!("{pieces} pieces"),
            };
            log::print(&format!("{}: {} rows in {pieces}", shard.path.display(), HumanCount(shard.rows)));
            if let Some(path) = shard.files.get(1).map(|file| &file.path) {
                log::print(&format!("  its positives: {}", path.display()));
            }
        }
        self.norms(&shards)
    }

    fn norms(&self, shards: &Shards) -> Result<()> {
        let Some(unit) =
            Unit::all(&shards.list).into_iter().find(|unit| unit.shard.schema().is_some() && unit.rows > 0)
        else {
            return Ok(());
        };
        let dim = shards.shape.dim;
        for column in [&shards.roles.query, &shards.roles.positive].into_iter().flatten() {
            let mut norms: Vec<f64> = Vec::new();
            let mut preview = String::new();
            let read = unit.for_each_batch(&[column], SAMPLE_ROWS, |_, arrays| {
                let embeddings = EmbeddingRows::new(&arrays[0], dim, None)
                    .map_err(|(error, row)| unit.place(error, column, Some(row)))?;
                let values = embeddings.values();
                let mut row = vec![0f32; dim];
                for index in 0..arrays[0].len() {
                    values.copy_f32(index * dim, &mut row);
                    norms.push(dot(&row, &row).sqrt());
                    if preview.is_empty() {
                        preview = row.iter().take(6).map(|value| format!("{value:.4}")).collect::<Vec<_>>().join(" ");
                    }
                }
                // One batch is enough; the error only ends the reading.
                Err(Error::runtime("enough"))
            });
            if let Err(error) = read
                && norms.is_empty()
            {
                return Err(error);
            }
            let least = norms.iter().copied().fold(f64::INFINITY, f64::min);
            let most = norms.iter().copied().fold(0.0, f64::max);
            log::print(&format!(
                "{column}: norms of the first {} rows {least:.4} to {most:.4}; row 0: {preview} ...",
                norms.len()
            ));
        }
        Ok(())
    }
}

fn describe_run(run: &RunReader) -> Result<()> {
    let manifest = run.manifest();
    let state = if run.succeeded() { "finished" } else { "not finished: run `mine` again to go on" };
    log::print(&format!("run of batchmine {}, {state}", manifest.version));
    for stage in Stage::ALL {
        let Some(record) = manifest.stages.get(&stage) else { continue };
        log::print(&format!(
            "{:>10}  {}  {} files, {}, {:.2} s, peak {}",
            stage.name(),
            match (record.complete, record.cleaned) {
                (true, true) => "cleaned",
                (true, false) => "done   ",
                (false, _) => "pending",
            },
            record.parts.len(),
            HumanBytes(record.bytes()),
            record.seconds,
            HumanBytes(record.peak_bytes),
        ));
        if let Some(facts) = record.facts_text() {
            log::print(&format!("{:>12}{facts}", ""));
        }
        log::print(&format!("{:>12}{}", "", record.settings_text()));
    }
    Ok(())
}

/// Prints what one of a run's files holds; false where it is none.
fn describe_artefact(path: &Path) -> Result<bool> {
    let formats: [(_, &[&str]); 9] = [
        (VECTORS, &["rows", "dimensions", "bytes a value"]),
        (ROWS, &["rows", "key columns", "key lists"]),
        (KEY_LISTS, &["rows", "codes"]),
        (INT_IDS, &["rows"]),
        (TEXT_IDS, &["rows", "bytes of text"]),
        (TASKS, &["tasks", "bytes of text"]),
        (NEIGHBORS, &["first place", "rows", "ranks"]),
        (EDGES, &["first place", "rows", "arcs", "blocks", "rows of the graph"]),
        (LABELS, &["rows", "clusters", "cluster size"]),
    ];
    let mut magic = [0u8; 8];
    let read = std::fs::File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut magic));
    let Some((format, names)) = formats.iter().find(|(format, _)| read.is_ok() && format.magic == magic) else {
        return Ok(false);
    };
    let sealed = Sealed::open(path, format)?;
    sealed.check()?;
    log::print(&format!("{} file, version {}, checksum good", format.name, format.version));
    for (name, value) in names.iter().zip(sealed.fields) {
        log::print(&format!("  {name}: {}", HumanCount(value)));
    }
    log::print(&format!("  payload: {}", HumanBytes(sealed.payload().len() as u64)));
    Ok(true)
}

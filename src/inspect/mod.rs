//! inspect: what a path holds. Input shards, a run folder, or any one file of it.
//!
//! Each kind has a file here, with a record that is the output of `--json`, and its text. Binary files of a run are
//! known by their first bytes, `manifest.json` and the other files by their names, the batch table by its footer.
//!
//! Memory: footers, one row of an input file or a thousand of an embedding column, one batch of rows of the table.

mod artefact;
pub(crate) mod line;
mod run_folder;
mod shards;
mod table;

use std::path::Path;

use serde::Serialize;

use crate::config::Columns;
use crate::error::{Error, Result};
use crate::run::{Manifest, RunReader, Stage};
use artefact::Artefact;
use run_folder::{FolderMark, ManifestFile, RunFolder};
use shards::InputShards;
use table::BatchTableFiles;

/// What a path holds.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Description {
    /// Files that `mine` may take.
    Shards(InputShards),
    /// A run folder.
    Run(RunFolder),
    /// `manifest.json` of a run folder.
    Manifest(ManifestFile),
    /// A binary file of a run folder.
    Artefact(Artefact),
    /// Files of a batch table.
    Table(BatchTableFiles),
    /// A file of a run folder that holds no data.
    Mark(FolderMark),
}

impl Description {
    /// The description as a person reads it, in lines.
    pub(crate) fn text(&self) -> String {
        match self {
            Description::Shards(shards) => shards.text(),
            Description::Run(run) => run.text(),
            Description::Manifest(manifest) => manifest.text(),
            Description::Artefact(artefact) => artefact.text(),
            Description::Table(table) => table.text(),
            Description::Mark(mark) => mark.text(),
        }
    }
}

/// Describes what lies at a path. Input files are taken as `columns` say.
///
/// # Errors
/// Nothing is there, it is of no known kind, or it is damaged.
pub(crate) fn describe(path: &Path, columns: &Columns) -> Result<Description> {
    // A folder with the stages' folders is that of a run, and says so where its manifest is gone.
    if path.join("manifest.json").exists() || Stage::ALL.iter().all(|stage| path.join(stage.name()).is_dir()) {
        return Ok(Description::Run(RunFolder::read(&RunReader::open(path)?)));
    }
    if path.is_file() {
        if path.file_name().is_some_and(|name| name == "manifest.json") {
            return manifest(path);
        }
        if let Some(artefact) = Artefact::read(path)? {
            return Ok(Description::Artefact(artefact));
        }
        if let Some(mark) = FolderMark::of(path)? {
            return Ok(Description::Mark(mark));
        }
    }
    check_of_run(path)?;
    match BatchTableFiles::read(path)? {
        Some(table) => Ok(Description::Table(table)),
        None => Ok(Description::Shards(InputShards::read(path, columns)?)),
    }
}

/// Compares a file of a run's batch table with the manifest of that run: the file itself has no hash. Nothing where the
/// file is no such one.
fn check_of_run(path: &Path) -> Result<()> {
    let batches = path.parent().filter(|folder| folder.ends_with(Stage::Batches.name()));
    let (Some(run), Some(name)) = (batches.and_then(Path::parent), path.file_name().and_then(|name| name.to_str()))
    else {
        return Ok(());
    };
    if !run.join("manifest.json").exists() {
        return Ok(());
    }
    let run = RunReader::open(run)?;
    let is_listed = run.stage(Stage::Batches).is_ok_and(|stage| stage.parts.contains_key(name));
    if is_listed { run.part(Stage::Batches, name).map(drop) } else { Ok(()) }
}

fn manifest(path: &Path) -> Result<Description> {
    let manifest = Manifest::read(path)?.ok_or_else(|| {
        Error::input("the manifest is gone")
            .path(path)
            .expected("the file that was there")
            .found("nothing")
            .remedy("check the path")
    })?;
    Ok(Description::Manifest(ManifestFile::new(path, manifest)))
}

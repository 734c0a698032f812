//! Which files and folders a run folder has, and where they are.

use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::manifest::Manifest;
use super::stage::Stage;
use super::storage::{Storage, list};
use crate::error::{Error, Result};

pub(super) const SUCCESS: &str = "_SUCCESS";
pub(super) const MANIFEST: &str = "manifest.json";
/// Folder of files that are being written; emptied when the run folder is opened.
pub(super) const TEMPORARY: &str = "tmp";

/// The folder of a stage's parts.
pub(super) fn stage_folder(folder: &Path, manifest: &Manifest, stage: Stage) -> PathBuf {
    match &manifest.work {
        Some(work) if stage != Stage::Batches => work.join(stage.name()),
        _ => folder.join(stage.name()),
    }
}

/// The run's own folder inside `work`: its name is a hash of the run folder's path.
pub(super) fn own_work_folder(work: &Path, run: &Path, storage: &dyn Storage) -> Result<PathBuf> {
    let own = work.join(format!("batchmine-{:016x}", xxh3_64(run.as_os_str().as_encoded_bytes())));
    let failed = |e| Error::io("the work folder cannot be created", &own, e);
    storage.create_folder(&own.join(TEMPORARY)).map_err(failed)?;
    let own = own.canonicalize().map_err(failed)?;
    if own.to_str().is_none() {
        return Err(Error::input("the manifest cannot hold the path of the work folder")
            .path(&own)
            .expected("a path in UTF-8")
            .found("other bytes")
            .remedy("give another folder to --work"));
    }
    Ok(own)
}

/// The first entry that no killed job can have left in a folder without manifest: such a job leaves a lock, empty
/// folders of stages, and the manifest's temporary file.
pub(super) fn foreign(folder: &Path) -> Result<Option<PathBuf>> {
    for path in list(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ours = name == TEMPORARY || Stage::ALL.iter().any(|stage| stage.name() == name);
        let temporary = name == TEMPORARY && list(&path)?.iter().all(|file| file.ends_with(MANIFEST));
        if name != "lock" && !(ours && path.is_dir() && (temporary || list(&path)?.is_empty())) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// The work folder as a message names it.
pub(super) fn display_work(work: &Option<PathBuf>) -> String {
    work.as_ref().map_or("none".into(), |path| path.display().to_string())
}

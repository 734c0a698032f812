//! Which files and folders a run folder has, and where they are.

use std::path::{Path, PathBuf};

use super::lock::LOCK;
use super::manifest::Manifest;
use super::stage::Stage;
use super::storage::list;
use crate::error::{Error, Result};

pub(super) const SUCCESS: &str = "_SUCCESS";
pub(super) const MANIFEST: &str = "manifest.json";
/// A temporary file that may be there before the manifest is: the rows of a stream.
pub(crate) const STREAM: &str = "input.arrow";
/// Folder of files that are being written; emptied when the run folder is opened.
pub(super) const TEMPORARY: &str = "tmp";

/// The folder of a stage's parts.
pub(super) fn stage_folder(folder: &Path, manifest: &Manifest, stage: Stage) -> PathBuf {
    match &manifest.work {
        Some(work) if stage != Stage::Batches => work.join(stage.name()),
        _ => folder.join(stage.name()),
    }
}

/// Fails where a folder without manifest is none that a run may begin in.
///
/// # Errors
/// It is a file, or has entries that are not a run's.
pub(super) fn refuse_foreign(folder: &Path) -> Result<()> {
    let found = if folder.exists() && !folder.is_dir() {
        "a file".into()
    } else if let Some(other) = foreign(folder)? {
        format!("{}, and no {MANIFEST}", other.display())
    } else {
        return Ok(());
    };
    Err(Error::input("the output folder is not a run folder")
        .path(folder)
        .expected("a folder that is new, empty, or made by `batchmine mine`")
        .found(found)
        .remedy("give another folder to --out"))
}

/// The first entry that no killed job can have left in a folder without manifest: such a job leaves a lock, empty
/// folders of stages, and the temporary files of the manifest and of a stream.
fn foreign(folder: &Path) -> Result<Option<PathBuf>> {
    for path in list(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ours = name == TEMPORARY || Stage::ALL.iter().any(|stage| stage.name() == name);
        let temporary =
            name == TEMPORARY && list(&path)?.iter().all(|file| file.ends_with(MANIFEST) || file.ends_with(STREAM));
        if name != LOCK && !(ours && path.is_dir() && (temporary || list(&path)?.is_empty())) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// The work folder as a message names it.
pub(super) fn display_work(work: &Option<PathBuf>) -> String {
    work.as_ref().map_or("none".into(), |path| path.display().to_string())
}

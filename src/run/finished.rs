//! A run folder opened for reading only: nothing is locked or changed.

use std::path::{Path, PathBuf};

use super::manifest::{Manifest, StageRecord};
use super::{MANIFEST, SUCCESS, Stage, stage_folder};
use crate::error::{Error, Result};

/// A run folder opened for reading only.
#[derive(Debug)]
pub struct FinishedRun {
    folder: PathBuf,
    manifest: Manifest,
}

impl FinishedRun {
    /// Reads a run folder's manifest; nothing is locked or changed.
    ///
    /// # Errors
    /// There is no manifest, or it is damaged.
    pub fn open(folder: &Path) -> Result<FinishedRun> {
        let path = folder.join(MANIFEST);
        let manifest = Manifest::read(&path)?.ok_or_else(|| {
            Error::input("not a run folder")
                .path(folder)
                .expected("a folder made by `batchmine mine`")
                .found("no manifest.json")
                .remedy("check the path")
        })?;
        Ok(FinishedRun { folder: folder.to_owned(), manifest })
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The run folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A stage's record.
    ///
    /// # Errors
    /// The stage is not finished.
    pub fn stage(&self, stage: Stage) -> Result<&StageRecord> {
        self.manifest.stages.get(&stage).filter(|record| record.complete).ok_or_else(|| {
            Error::input("the run is not finished")
                .path(&self.folder)
                .expected(format!("the {} stage complete", stage.name()))
                .found("a run that was interrupted or is under way")
                .remedy("run the `mine` command again to finish it")
        })
    }

    /// Whether the job was marked as done.
    pub fn succeeded(&self) -> bool {
        self.folder.join(SUCCESS).exists()
    }

    /// The folder of a stage's parts.
    pub fn stage_folder(&self, stage: Stage) -> PathBuf {
        stage_folder(&self.folder, &self.manifest, stage)
    }
}

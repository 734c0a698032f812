//! A run folder opened for reading only: nothing is locked or changed.

use std::path::{Path, PathBuf};

use super::checked_parts::{CheckedParts, check_whole};
use super::layout::{MANIFEST, SUCCESS, stage_folder};
use super::lock::Lock;
use super::manifest::{Manifest, PartRecord, StageRecord};
use super::record::{self, StageFacts, StageSettings};
use super::scratch::LocalCopies;
use super::stage::Stage;
use super::storage::list;
use crate::error::{Error, Result};

/// A run folder opened for reading only.
#[derive(Debug)]
pub struct RunReader {
    folder: PathBuf,
    manifest: Manifest,
    checked: CheckedParts,
    scratch: Option<LocalCopies>,
}

impl RunReader {
    /// Reads a run folder's manifest; nothing is locked or changed.
    ///
    /// # Errors
    /// There is no manifest, or it is damaged.
    pub fn open(folder: &Path) -> Result<RunReader> {
        let path = folder.join(MANIFEST);
        let manifest = Manifest::read(&path)?.ok_or_else(|| {
            Error::input("not a run folder")
                .path(folder)
                .expected("a folder made by `batchmine mine`")
                .found("no manifest.json")
                .remedy("check the path")
        })?;
        Ok(RunReader { folder: folder.to_owned(), manifest, checked: CheckedParts::default(), scratch: None })
    }

    /// Itself, with copies of the parts of some names in a folder, where one is given: they are read there.
    pub(crate) fn with_scratch(self, folder: Option<&Path>, names: &'static [&'static str]) -> RunReader {
        RunReader { scratch: folder.map(|folder| LocalCopies::new(folder.to_owned(), names)), ..self }
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A stage's record.
    ///
    /// # Errors
    /// The stage is not finished.
    pub fn stage(&self, stage: Stage) -> Result<&StageRecord> {
        complete(&self.folder, &self.manifest, stage)
    }

    /// A stage's settings.
    ///
    /// # Errors
    /// The stage is not finished, or its record is not one.
    pub fn settings<T: StageSettings>(&self) -> Result<T> {
        let record = self.stage(T::STAGE)?;
        record::from_value(&record.settings).map_err(|found| unreadable(&self.folder, T::STAGE, "settings", found))
    }

    /// A stage's facts.
    ///
    /// # Errors
    /// The stage is not finished, or its record is not one.
    pub fn facts<T: StageFacts>(&self) -> Result<T> {
        facts(&self.folder, &self.manifest)
    }

    /// A finished part, to be read: its path, if the file is the one that the manifest records. Who reads an artefact
    /// checks its blocks as well ([`super::sealed`]); another file, such as a batch table, is read whole, once a
    /// process.
    ///
    /// # Errors
    /// The stage is not finished or was cleaned, the file is gone, or it is not what was written.
    pub(crate) fn part(&self, stage: Stage, name: &str) -> Result<PathBuf> {
        let record = self.stage(stage)?.parts.get(name);
        if record.is_none() {
            self.files_of(stage)?;
        }
        self.checked.check(stage, self.place_of(stage, name, record)?, record)
    }

    /// Where a part is read: in the run folder, or its copy.
    fn place_of(&self, stage: Stage, name: &str, record: Option<&PartRecord>) -> Result<PathBuf> {
        let part = self.stage_folder(stage).join(name);
        match (&self.scratch, record) {
            (Some(scratch), Some(record)) => scratch.copy_of(part, name, record),
            _ => Ok(part),
        }
    }

    /// A part of a stage that may be under way, to be read: see [`RunReader::part`].
    ///
    /// # Errors
    /// There is no such part, or it is not what was written.
    pub(crate) fn part_so_far(&self, stage: Stage, name: &str) -> Result<PathBuf> {
        let record = self.manifest.stages.get(&stage).and_then(|record| record.parts.get(name));
        self.checked.check(stage, self.place_of(stage, name, record)?, record)
    }

    /// The settings of a stage that may be under way.
    ///
    /// # Errors
    /// The stage was not begun, or its record is not one.
    pub(crate) fn settings_so_far<T: StageSettings>(&self) -> Result<T> {
        let settings = self.manifest.stages.get(&T::STAGE).map(|record| &record.settings);
        let found = record::from_value(settings.unwrap_or(&serde_json::Value::Null));
        found.map_err(|found| unreadable(&self.folder, T::STAGE, "settings", found))
    }

    /// Reads a part whole and compares its length and its hash with what was recorded. O(bytes), on all threads.
    ///
    /// # Errors
    /// The stage is not finished, the file is gone, or it is not what was written.
    pub fn check_part(&self, stage: Stage, name: &str) -> Result<()> {
        let record = self.stage(stage)?.parts.get(name);
        let path = self.stage_folder(stage).join(name);
        match record {
            Some(record) => check_whole(path, record),
            None => self.checked.check(stage, path, None).map(drop),
        }
    }

    /// Fails where a job is at work in the run folder.
    ///
    /// # Errors
    /// Another process holds the folder's lock.
    pub fn refuse_in_use(&self) -> Result<()> {
        Lock::refuse_held(&self.folder)
    }

    /// Whether the job was marked as done.
    pub fn succeeded(&self) -> bool {
        self.folder.join(SUCCESS).exists()
    }

    /// Whether `clean` deleted a stage's files.
    pub fn is_cleaned(&self, stage: Stage) -> bool {
        self.manifest.stages.get(&stage).is_some_and(|record| record.cleaned)
    }

    /// The run folder, and the folder of the first four stages where that is another.
    pub(crate) fn top_folders(&self) -> Vec<PathBuf> {
        std::iter::once(&self.folder).chain(&self.manifest.work).cloned().collect()
    }

    /// The entries of a folder of the run, in order of name; none where there is no folder.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub(crate) fn entries(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        list(folder)
    }

    /// The folder of a stage's parts, for those who read them.
    ///
    /// # Errors
    /// The stage is not finished, or was cleaned.
    pub fn files_of(&self, stage: Stage) -> Result<PathBuf> {
        if !self.stage(stage)?.cleaned {
            return Ok(self.stage_folder(stage));
        }
        Err(Error::input("the run was cleaned")
            .path(&self.folder)
            .expected(format!("the files of the {} stage", stage.name()))
            .found("none: `batchmine clean` deleted them")
            .remedy("run the `mine` command again with --replace: it makes them again"))
    }

    /// The folder of a stage's parts.
    pub fn stage_folder(&self, stage: Stage) -> PathBuf {
        stage_folder(&self.folder, &self.manifest, stage)
    }
}

fn complete<'m>(folder: &Path, manifest: &'m Manifest, stage: Stage) -> Result<&'m StageRecord> {
    manifest.stages.get(&stage).filter(|record| record.complete).ok_or_else(|| {
        Error::input("the run is not finished")
            .path(folder)
            .expected(format!("the {} stage complete", stage.name()))
            .found("a run that was interrupted or is under way")
            .remedy("run the `mine` command again to finish it")
    })
}

/// The facts of a finished stage.
pub(super) fn facts<T: StageFacts>(folder: &Path, manifest: &Manifest) -> Result<T> {
    let record = complete(folder, manifest, T::STAGE)?;
    record::from_value(&record.facts).map_err(|found| unreadable(folder, T::STAGE, "facts", found))
}

fn unreadable(folder: &Path, stage: Stage, what: &str, found: String) -> Error {
    Error::runtime(format!("the manifest's record of the {} stage cannot be read", stage.name()))
        .path(folder.join(MANIFEST))
        .expected(format!("each of the stage's {what}, and no other"))
        .found(found)
        .remedy("use the batchmine that made the run, or run `mine` again with --replace")
}

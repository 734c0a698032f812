//! A stage under way: its parts are written, made durable, renamed, recorded.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

use serde_json::json;

use super::folder::Run;
use super::json::to_value;
use super::layout::{TEMPORARY, stage_folder};
use super::manifest::{PartRecord, StageRecord};
use super::mapped::Mapped;
use super::record::StageFacts;
use super::sealed::{PartWriter, seal_scattered};
use super::stage::Stage;
use super::storage::StorageFile;
use crate::error::{Error, Result};

/// A stage under way.
#[derive(Debug)]
pub struct StageRun<'r> {
    run: &'r Run,
    stage: Stage,
    clock: Mutex<Instant>,
}

/// A part that is durable in its temporary file.
pub(crate) struct WrittenPart {
    pub(super) name: String,
    pub(super) temp: PathBuf,
    pub(super) bytes: u64,
    /// xxh3-64 of the whole file.
    pub(super) hash: u64,
}

/// A part being written in any order; give it to [`StageRun::publish`].
pub struct ScatteredPart {
    name: String,
    temp: PathBuf,
    file: Box<dyn StorageFile>,
    bytes: u64,
}

impl ScatteredPart {
    /// Writes at an offset of the file. Safe from many threads at once, on disjoint ranges.
    ///
    /// # Errors
    /// The write fails.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|e| Error::io("a file cannot be written", &self.temp, e))
    }

    /// Corrects the length of header and payload that was announced at the start.
    pub fn set_payload_end(&mut self, bytes: u64) {
        self.bytes = bytes;
    }

    /// Makes the file as long as announced: padding that nobody writes reads as zeros.
    ///
    /// # Errors
    /// The file cannot be extended.
    pub fn extend(&self) -> Result<()> {
        self.file.set_len(self.bytes).map_err(|e| Error::io("a file cannot be extended", &self.temp, e))
    }

    /// Maps the file as it is written so far.
    ///
    /// # Errors
    /// The file cannot be mapped.
    pub fn map(&self) -> Result<Mapped> {
        Mapped::open(&self.temp)
    }
}

impl Run {
    /// Begins or resumes a stage.
    pub fn begin(&self, stage: Stage) -> StageRun<'_> {
        self.memory.take_peak();
        self.progress.event(&json!({"event": "stage", "stage": stage.name()}));
        StageRun { run: self, stage, clock: Mutex::new(Instant::now()) }
    }
}

impl StageRun<'_> {
    /// Writes a part front to back, makes it durable and records it.
    ///
    /// # Errors
    /// `write` fails, or the disk does. An [`Error`] inside the error of `write` comes back as it is.
    pub(crate) fn commit(&self, name: &str, write: impl FnOnce(&mut PartWriter) -> std::io::Result<()>) -> Result<()> {
        self.supersede(None, name, write)
    }

    /// Does the same with a part that replaces an `old` one of another name.
    ///
    /// # Errors
    /// `write` fails, or the disk does.
    pub(crate) fn supersede(
        &self,
        old: Option<&str>,
        name: &str,
        write: impl FnOnce(&mut PartWriter) -> std::io::Result<()>,
    ) -> Result<()> {
        let part = self.prepare(name, write)?;
        self.record(vec![part], old)?;
        match old {
            Some(old) => self.run.remove_if_there(&self.run.stage_folder(self.stage).join(old)),
            None => Ok(()),
        }
    }

    /// Writes a part front to back and makes it durable, but does not record it: give it to [`StageRun::publish_with`].
    ///
    /// # Errors
    /// `write` fails, or the disk does. An [`Error`] inside the error of `write` comes back as it is.
    pub(crate) fn prepare(
        &self,
        name: &str,
        write: impl FnOnce(&mut PartWriter) -> std::io::Result<()>,
    ) -> Result<WrittenPart> {
        let temp = self.temp_path(name);
        let go = || {
            let mut writer = PartWriter::new(self.run.storage.create(&temp)?);
            write(&mut writer)?;
            writer.finish()
        };
        let (bytes, hash) = go().map_err(|e| match e.downcast::<Error>() {
            Ok(own) => own,
            Err(e) => Error::io("a part cannot be written", &temp, e),
        })?;
        Ok(WrittenPart { name: name.to_owned(), temp, bytes, hash })
    }

    /// Starts a part of `bytes` bytes (header and payload) that is written in any order.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn scattered(&self, name: &str, bytes: u64) -> Result<ScatteredPart> {
        let temp = self.temp_path(name);
        let file = self.run.storage.create(&temp).map_err(|e| Error::io("a part cannot be created", &temp, e))?;
        Ok(ScatteredPart { name: name.to_owned(), temp, file, bytes })
    }

    /// Seals scattered parts, makes them durable and records them all at once.
    ///
    /// # Errors
    /// A part lacks bytes, or the disk fails.
    pub fn publish(&self, parts: Vec<ScatteredPart>) -> Result<()> {
        self.publish_with(parts, Vec::new())
    }

    /// Does the same, with parts that are `done` but not recorded.
    ///
    /// # Errors
    /// A part lacks bytes, or the disk fails.
    pub(crate) fn publish_with(&self, parts: Vec<ScatteredPart>, mut done: Vec<WrittenPart>) -> Result<()> {
        for part in parts {
            let (bytes, hash) = seal_scattered(&part.temp, part.file.as_ref(), part.bytes)?;
            done.push(WrittenPart { name: part.name, temp: part.temp, bytes, hash });
        }
        self.record(done, None)
    }

    /// Records the stage as complete, with its facts, and deletes the parts that `keep` refuses.
    ///
    /// # Errors
    /// The manifest cannot be written.
    pub fn finish<T: StageFacts>(self, facts: &T, keep: impl Fn(&str) -> bool) -> Result<()> {
        let mut manifest = self.run.manifest();
        let record = manifest.stages.entry(self.stage).or_default();
        record.complete = true;
        record.facts = to_value(facts);
        self.account(record);
        let unwanted: Vec<_> = record.parts.keys().filter(|name| !keep(name)).cloned().collect();
        record.parts.retain(|name, _| keep(name));
        let bytes = record.bytes();
        self.run.progress.event(&json!({
            "event": "done", "stage": self.stage.name(), "seconds": record.seconds,
            "peak_bytes": record.peak_bytes, "bytes": bytes, "facts": record.facts,
        }));
        self.run.write_manifest(&manifest)?;
        let folder = stage_folder(&self.run.folder, &manifest, self.stage);
        if unwanted.is_empty() {
            return Ok(());
        }
        for name in unwanted {
            self.run.remove_if_there(&folder.join(name))?;
        }
        // Else a loss of power could bring back what no finished run has.
        self.run.sync_folder(&folder)
    }

    /// Temporary files lie on the disk that the part will lie on: a rename must not copy.
    fn temp_path(&self, name: &str) -> PathBuf {
        let manifest = self.run.manifest();
        match &manifest.work {
            Some(work) if self.stage != Stage::Batches => work.join(TEMPORARY).join(name),
            _ => self.run.folder.join(TEMPORARY).join(name),
        }
    }

    /// Renames and records new parts, and drops the record of the one that they replace.
    pub(super) fn record(&self, parts: Vec<WrittenPart>, old: Option<&str>) -> Result<()> {
        // The lock is held throughout: another thread must not write a manifest without these parts after this one.
        let mut manifest = self.run.manifest();
        let folder = stage_folder(&self.run.folder, &manifest, self.stage);
        let storage = &self.run.storage;
        for part in &parts {
            let path = folder.join(&part.name);
            storage.rename(&part.temp, &path).map_err(|e| Error::io("a part cannot be renamed", &path, e))?;
        }
        storage.sync_folder(&folder).map_err(|e| Error::io("a folder cannot be synced", &folder, e))?;
        let record = manifest.stages.entry(self.stage).or_default();
        for part in parts {
            let xxh3 = format!("{:016x}", part.hash);
            record.parts.insert(part.name, PartRecord { bytes: part.bytes, xxh3 });
        }
        old.map(|old| record.parts.remove(old));
        self.account(record);
        self.run.write_manifest(&manifest)
    }

    /// Adds the time since the last call, and takes the peak of memory since then.
    fn account(&self, record: &mut StageRecord) {
        let mut clock = self.clock.lock().expect("no thread panics while it holds the clock");
        record.seconds += clock.elapsed().as_secs_f64();
        *clock = Instant::now();
        record.peak_bytes = record.peak_bytes.max(self.run.memory.take_peak());
    }
}

//! A run folder that a job writes to: opened, locked, with its manifest in memory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::checked_parts::CheckedParts;
use super::inputs::vectors_changes;
use super::interrupt::Interrupt;
use super::json::{differences, to_value};
use super::layout::{MANIFEST, SUCCESS, TEMPORARY, refuse_foreign, stage_folder};
use super::lock::Lock;
use super::manifest::{Manifest, StageRecord, fingerprint};
use super::memory::MemoryWatch;
use super::progress::{Meter, Progress};
use super::reader;
use super::record::{FileIdentity, FilePlace, JobSettings, StageFacts, VectorsSettings, facts_fault, from_value};
use super::sealed::PartWriter;
use super::stage::Stage;
use super::storage::{self, Storage, folder_of, list};
use super::work_folder;
use crate::error::{Error, Kind, Result};
use crate::regular;

/// An open, locked run folder.
#[derive(Debug)]
pub struct Run {
    pub(super) folder: PathBuf,
    pub(super) storage: Arc<dyn Storage>,
    manifest: Mutex<Manifest>,
    pub(super) progress: Progress,
    interrupt: Interrupt,
    pub(super) memory: MemoryWatch,
    pub(super) checked: CheckedParts,
    /// Temporary files that are in use.
    scratch: Mutex<BTreeSet<PathBuf>>,
    /// There has been a manifest in the folder.
    has_manifest: AtomicBool,
    // Freed before the run folder's.
    _work_lock: Option<Lock>,
    _lock: Lock,
}

impl Run {
    /// Opens or creates the run folder and locks it. The first four stages put their files into a folder of the run's
    /// own inside `work`, where that is given.
    ///
    /// # Errors
    /// The folder is in use, is not a run folder, was made with another `work`, or a path is not UTF-8.
    pub fn open(
        folder: &Path,
        work: Option<&Path>,
        storage: Arc<dyn Storage>,
        progress: Progress,
        interrupt: Arc<AtomicBool>,
    ) -> Result<Run> {
        let made = |e| Error::io("the run folder cannot be created", folder, e);
        regular::utf8_path(folder, "the run folder")?;
        refuse_url(folder)?;
        if let Some(work) = work {
            regular::utf8_path(work, "the work folder")?;
        }
        let is_new = !folder.join(MANIFEST).exists();
        if is_new {
            refuse_foreign(folder)?;
        }
        make_folder(storage.as_ref(), &folder.join(TEMPORARY)).map_err(made)?;
        let folder = folder.canonicalize().map_err(made)?;
        let lock = Lock::acquire(&folder)?;
        let asked = work.map(|work| work_folder::inside(work, &folder, storage.as_ref())).transpose()?;
        let manifest = match Manifest::read(&folder.join(MANIFEST))? {
            Some(manifest) => {
                work_folder::same(&manifest, &asked, &folder)?;
                manifest
            }
            None => {
                tracing::debug!("new run folder {}", folder.display());
                storage.sync_folder(folder_of(&folder)).map_err(made)?;
                let manifest = Manifest::new(asked.clone());
                if asked.is_some() {
                    // The identity must be known before the work folder is marked with it.
                    let (temp, path) = (folder.join(TEMPORARY).join(MANIFEST), folder.join(MANIFEST));
                    storage::replace_file(storage.as_ref(), &temp, &path, &manifest.to_bytes()).map_err(made)?;
                }
                manifest
            }
        };
        let work_lock = work_folder::claim(&manifest, &folder, asked.is_some(), storage.as_ref())?;
        let run = Run {
            interrupt: Interrupt::new(interrupt, folder.clone()),
            folder,
            storage,
            manifest: Mutex::new(manifest),
            progress,
            memory: MemoryWatch::start(),
            checked: CheckedParts::default(),
            scratch: Mutex::default(),
            has_manifest: AtomicBool::new(!is_new || asked.is_some()),
            _work_lock: work_lock,
            _lock: lock,
        };
        for stage in Stage::ALL {
            let path = run.stage_folder(stage);
            make_folder(run.storage.as_ref(), &path).map_err(|e| Error::io("a folder cannot be created", &path, e))?;
        }
        run.sweep()?;
        Ok(run)
    }

    /// Input files as an earlier call recorded them, with their places; `None` in a new run folder.
    pub(crate) fn known_inputs(&self) -> Option<(Vec<FileIdentity>, Vec<FilePlace>)> {
        let manifest = self.manifest();
        let record = manifest.stages.get(&Stage::Vectors)?;
        let settings: VectorsSettings = from_value(&record.settings).ok()?;
        (settings.inputs.len() == manifest.inputs.len()).then(|| (settings.inputs, manifest.inputs.clone()))
    }

    /// Adds the input files' contents to the settings of the vectors stage, once they were read. The next write of the
    /// manifest records them.
    pub(crate) fn set_contents(&self, contents: Vec<String>) {
        let mut manifest = self.manifest();
        let record = manifest.stages.entry(Stage::Vectors).or_default();
        let Ok(mut settings) = from_value::<VectorsSettings>(&record.settings) else { return };
        for (input, content) in settings.inputs.iter_mut().zip(contents) {
            input.content = Some(content);
        }
        record.settings = to_value(&settings);
        manifest.chain_fingerprints();
    }

    /// Records the job's settings, and the places of its input files. Where settings differ from the recorded ones,
    /// the first stage that they touch and all later ones are cleared with `replace`, and refused without. Stages that
    /// were cleaned are made again where a stage is to be made, and with `replace`.
    ///
    /// # Errors
    /// Settings changed and `replace` is off.
    pub fn apply_settings(&self, settings: &JobSettings, places: Vec<FilePlace>, replace: bool) -> Result<()> {
        let mut manifest = self.manifest();
        let before = manifest.clone();
        let changed = changed_settings(&manifest, settings, &places, replace);
        if let Some((first, names)) = changed {
            let again = |stage: &Stage| *stage >= first || manifest.stages.get(stage).is_some_and(|s| s.cleaned);
            let touched: Vec<_> = Stage::ALL.into_iter().filter(again).map(Stage::name).collect();
            // Where nothing was made that a repeated call would use, nothing can be lost: the first settings were
            // refused, or just begun. The vectors stage begins anew whatever it had.
            let of_use = |(stage, record): (&Stage, &StageRecord)| {
                *stage >= first && (record.complete || (*stage != Stage::Vectors && !record.parts.is_empty()))
            };
            let made = manifest.stages.iter().any(of_use);
            if !replace && made {
                return Err(Error::input("the run folder was made with other settings")
                    .path(&self.folder)
                    .expected("the settings and inputs of the first call")
                    .found(format!("{}\n            (touches {})", names.join("\n            "), touched.join(", ")))
                    .remedy(format!(
                        "repeat the first settings to resume, add --replace to redo {} and keep what stands before, \
                         or choose another --out",
                        touched.join(", ")
                    )));
            }
            if replace {
                tracing::info!("replacing {} ({})", touched.join(", "), names.join("; "));
            }
            manifest.stages.retain(|stage, _| *stage < first);
        }
        for (stage, settings) in settings.by_stage() {
            manifest.stages.entry(stage).or_default().settings = settings;
        }
        manifest.chain_fingerprints();
        manifest.inputs = places;
        redo_cleaned(&mut manifest, replace);
        if !manifest.stages.values().all(|record| record.complete) {
            self.remove_if_there(&self.folder.join(SUCCESS))?;
        }
        // A finished run may be asked for on a disk that is full or read-only.
        if *manifest == before && self.folder.join(MANIFEST).exists() {
            return Ok(());
        }
        self.write_manifest(&manifest)?;
        drop(manifest);
        self.sweep()
    }

    /// The folder of the batch tables and the manifest.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of a stage's parts.
    pub fn stage_folder(&self, stage: Stage) -> PathBuf {
        stage_folder(&self.folder, &self.manifest(), stage)
    }

    /// A finished part, to be read: see [`RunReader::part`].
    ///
    /// # Errors
    /// There is no such part, or its file is not the one that was written.
    pub(crate) fn part(&self, stage: Stage, name: &str) -> Result<PathBuf> {
        let (path, record) = {
            let manifest = self.manifest();
            let record = manifest.stages.get(&stage).and_then(|record| record.parts.get(name).cloned());
            (stage_folder(&self.folder, &manifest, stage).join(name), record)
        };
        self.checked.check(stage, path, record.as_ref())
    }

    /// Explains an error that came because somebody removed the run folder.
    pub(crate) fn explain(&self, error: Error) -> Error {
        let is_gone = self.has_manifest.load(Ordering::Relaxed) && !self.folder.join(MANIFEST).exists();
        if !is_gone || error.kind() != Kind::Runtime {
            return error;
        }
        Error::runtime("the run folder was removed or replaced while the job ran")
            .path(&self.folder)
            .expected("the folder as batchmine left it")
            .found(format!("no {MANIFEST}; {}", error.to_string().lines().next().unwrap_or_default()))
            .remedy("run the same command again: it begins anew")
    }

    /// Names of a stage's finished parts that start with `prefix`, in order.
    pub fn parts(&self, stage: Stage, prefix: &str) -> Vec<String> {
        let manifest = self.manifest();
        let Some(record) = manifest.stages.get(&stage) else { return Vec::new() };
        record.parts.keys().filter(|name| name.starts_with(prefix)).cloned().collect()
    }

    /// Whether a part is finished.
    pub fn has(&self, stage: Stage, name: &str) -> bool {
        self.manifest().stages.get(&stage).is_some_and(|record| record.parts.contains_key(name))
    }

    /// Whether a stage is finished.
    pub fn is_complete(&self, stage: Stage) -> bool {
        self.manifest().stages.get(&stage).is_some_and(|record| record.complete)
    }

    /// Whether all stages are finished.
    pub fn is_finished(&self) -> bool {
        Stage::ALL.into_iter().all(|stage| self.is_complete(stage))
    }

    /// Whether `clean` deleted a stage's files.
    pub fn is_cleaned(&self, stage: Stage) -> bool {
        self.manifest().stages.get(&stage).is_some_and(|record| record.cleaned)
    }

    /// Forgets parts of finished stages, and then deletes their files: a job that is killed meanwhile leaves files that
    /// the next opening sweeps. `keep` says which parts stay.
    ///
    /// # Errors
    /// The manifest cannot be written, or a file cannot be removed.
    pub(crate) fn clean(&self, stages: &[Stage], keep: impl Fn(Stage, &str) -> bool) -> Result<()> {
        let mut manifest = self.manifest();
        for stage in stages {
            let Some(record) = manifest.stages.get_mut(stage) else { continue };
            record.parts.retain(|name, _| keep(*stage, name));
            record.cleaned = true;
        }
        self.write_manifest(&manifest)?;
        drop(manifest);
        self.sweep()
    }

    /// A stage's record; an empty one where the stage was never begun.
    pub fn record(&self, stage: Stage) -> StageRecord {
        self.manifest().stages.get(&stage).cloned().unwrap_or_default()
    }

    /// The facts of a finished stage.
    ///
    /// # Errors
    /// The stage is not finished, or its record is not one.
    pub fn facts<T: StageFacts>(&self) -> Result<T> {
        reader::facts(&self.folder, &self.manifest())
    }

    /// Creates a temporary file on the disk of the batch tables; it is removed when the folder is next opened.
    ///
    /// # Errors
    /// The file cannot be created.
    pub(crate) fn scratch(&self, name: &str) -> Result<(PathBuf, PartWriter)> {
        let path = self.folder.join(TEMPORARY).join(name);
        let file = self.storage.create(&path).map_err(|e| Error::io("a file cannot be created", &path, e))?;
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
        Ok((path, PartWriter::new(file)))
    }

    /// Removes a file that [`Run::scratch`] made.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub(crate) fn discard(&self, path: &Path) -> Result<()> {
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
        self.remove_if_there(path)
    }

    /// A meter for a stage's work, which fails once the user has asked to stop.
    pub fn meter(&self, stage: Stage, total: u64, unit: &'static str) -> Meter {
        self.progress.meter(stage.name(), total, unit).stopped_by(self.interrupt.clone())
    }

    /// Where the job reports its progress.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Fails with [`crate::error::Kind::Interrupted`] once the user has asked to stop.
    ///
    /// # Errors
    /// The user has asked to stop.
    pub fn check_interrupt(&self) -> Result<()> {
        self.interrupt.check()
    }

    /// Marks the whole job as done, by the file `_SUCCESS`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn succeed(&self) -> Result<()> {
        let path = self.folder.join(SUCCESS);
        if path.exists() {
            return Ok(());
        }
        self.replace_file(&path, b"").inspect_err(|_| {
            // Where the mark is not known to last, there must be none: this call has failed.
            let _ = self.storage.remove(&path);
        })
    }

    /// Whether the whole job is done.
    pub fn succeeded(&self) -> bool {
        self.folder.join(SUCCESS).exists()
    }

    pub(super) fn manifest(&self) -> MutexGuard<'_, Manifest> {
        self.manifest.lock().expect("no thread panics while it holds the manifest")
    }

    pub(super) fn write_manifest(&self, manifest: &Manifest) -> Result<()> {
        self.replace_file(&self.folder.join(MANIFEST), &manifest.to_bytes())?;
        self.has_manifest.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn replace_file(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let temp = self.folder.join(TEMPORARY).join(name);
        storage::replace_file(self.storage.as_ref(), &temp, path, bytes)
            .map_err(|e| Error::io("a file of the run folder cannot be written", path, e))
    }

    /// Writes a file beside the manifest, which no stage lists. It takes the place of one of that name.
    ///
    /// # Errors
    /// `write` fails, or the disk does.
    pub(crate) fn put_file(&self, name: &str, write: impl FnOnce(&mut PartWriter) -> Result<()>) -> Result<()> {
        let (temp, path) = (self.folder.join(TEMPORARY).join(name), self.folder.join(name));
        let failed = |e| Error::io("a file of the run folder cannot be written", &path, e);
        let mut out = PartWriter::new(self.storage.create(&temp).map_err(failed)?);
        write(&mut out)?;
        out.finish().map_err(failed)?;
        self.storage.rename(&temp, &path).map_err(failed)?;
        self.storage.sync_folder(&self.folder).map_err(failed)
    }

    /// Removes a file that [`Run::put_file`] wrote, if it is there.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub(crate) fn remove_file(&self, name: &str) -> Result<()> {
        self.remove_if_there(&self.folder.join(name))
    }

    pub(super) fn storage(&self) -> &dyn Storage {
        self.storage.as_ref()
    }

    pub(super) fn sync_folder(&self, folder: &Path) -> Result<()> {
        self.storage.sync_folder(folder).map_err(|e| Error::io("a folder cannot be synced", folder, e))
    }

    pub(super) fn remove_if_there(&self, path: &Path) -> Result<()> {
        match self.storage.remove(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("a file cannot be removed", path, e)),
            _ => Ok(()),
        }
    }

    /// Removes files that the manifest does not list, and forgets parts whose file is gone.
    fn sweep(&self) -> Result<()> {
        let mut manifest = self.manifest();
        let (mut lost, mut swept) = (false, BTreeSet::new());
        for stage in Stage::ALL {
            let folder = stage_folder(&self.folder, &manifest, stage);
            let record = manifest.stages.entry(stage).or_default();
            for entry in own_entries(&folder)? {
                let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if !record.parts.contains_key(&name) {
                    self.remove_if_there(&entry)?;
                    swept.insert(folder.clone());
                }
            }
            let before = record.parts.len();
            record
                .parts
                .retain(|name, part| std::fs::metadata(folder.join(name)).is_ok_and(|meta| meta.len() == part.bytes));
            if record.parts.len() < before {
                tracing::warn!(
                    "{} of {}'s files are gone or cut short; they are made again",
                    before - record.parts.len(),
                    stage.name()
                );
                record.complete = false;
                lost = true;
            }
        }
        manifest.stages.retain(|_, record| !record.fingerprint.is_empty());
        let in_use = self.scratch.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for folder in std::iter::once(&self.folder).chain(&manifest.work) {
            for temp in own_entries(&folder.join(TEMPORARY))?.into_iter().filter(|temp| !in_use.contains(temp)) {
                self.remove_if_there(&temp)?;
                swept.insert(folder.join(TEMPORARY));
            }
        }
        // Else a loss of power could bring them back beside a finished run's files.
        swept.iter().try_for_each(|folder| self.sync_folder(folder))?;
        if lost {
            self.remove_if_there(&self.folder.join(SUCCESS))?;
            self.write_manifest(&manifest)?;
        }
        Ok(())
    }
}

/// Creates a folder where there is none. Where it is, nothing is written: the disk may be read-only.
fn make_folder(storage: &dyn Storage, path: &Path) -> std::io::Result<()> {
    if path.is_dir() { Ok(()) } else { storage.create_folder(path) }
}

/// What may be deleted in a folder: its entries, where it is a folder and no link to one, which may be anybody's.
fn own_entries(folder: &Path) -> Result<Vec<PathBuf>> {
    if folder.is_symlink() {
        return Ok(Vec::new());
    }
    list(folder)
}

/// The first stage whose settings differ from the recorded ones, and all that differs.
fn changed_settings(
    manifest: &Manifest,
    settings: &JobSettings,
    places: &[FilePlace],
    replace: bool,
) -> Option<(Stage, Vec<String>)> {
    let mut before = String::new();
    let mut changed: Option<(Stage, Vec<String>)> = None;
    for (stage, value) in &settings.by_stage() {
        before = fingerprint(&before, value);
        let Some(record) = manifest.stages.get(stage) else { continue };
        if record.fingerprint != before {
            let names = match (stage, from_value::<VectorsSettings>(&record.settings)) {
                (Stage::Vectors, Ok(recorded)) => vectors_changes(manifest, recorded, settings, places),
                _ => differences(&record.settings, value),
            };
            changed.get_or_insert((*stage, Vec::new())).1.extend(names);
        } else if replace
            && record.complete
            && let Some(fault) = facts_fault(*stage, &record.facts)
        {
            changed.get_or_insert((*stage, Vec::new())).1.push(fault);
        }
    }
    changed
}

/// Cleaned stages are to be made again where a stage is to be made, which may read them, or where `all` are.
fn redo_cleaned(manifest: &mut Manifest, all: bool) {
    if !all && manifest.stages.values().all(|record| record.complete) {
        return;
    }
    let cleaned: Vec<_> = manifest.stages.iter_mut().filter(|(_, record)| record.cleaned).collect();
    if cleaned.is_empty() {
        return;
    }
    let names: Vec<_> = cleaned.iter().map(|(stage, _)| stage.name()).collect();
    tracing::info!("{} were cleaned, and are made again", names.join(", "));
    for (_, record) in cleaned {
        (record.complete, record.cleaned, record.facts) = (false, false, Value::Null);
    }
}

/// Fails where a run folder is named by a URL: a folder of that name would be made.
fn refuse_url(folder: &Path) -> Result<()> {
    if !folder.to_str().is_some_and(|text| text.contains("://")) {
        return Ok(());
    }
    Err(Error::input("a run folder lies on a file system")
        .path(folder)
        .expected("a path")
        .found("a URL")
        .remedy("name a local path; --table-out publishes the table to a store"))
}

//! Parts that other processes make, on this machine or on others that share the folder: `pieces/FINGERPRINT/` of a run
//! folder, FINGERPRINT being that of the stage.
//!
//! A piece is the file of a part under its own name. Whoever makes one writes it under a name of its own, makes it
//! durable and renames it: two makers of one piece are harmless. The job alone moves pieces among the stage's parts and
//! records them; it checks their bytes first. Memory: none.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::xxh3_64;

use super::checked_parts::check_whole;
use super::folder::Run;
use super::json;
use super::manifest::PartRecord;
use super::mapped::Mapped;
use super::reader::RunReader;
use super::sealed::{PartWriter, root_of};
use super::stage::Stage;
use super::stage_run::{StageRun, WrittenPart};
use super::storage::{Disk, Storage, list, replace_file};
use crate::error::{Error, Result};
use crate::regular;

/// The folder of all pieces in a run folder.
pub(crate) const PIECES: &str = "pieces";
/// What whoever makes pieces must know beside the run's files.
pub(crate) const TASK: &str = "task.json";
/// Most bytes of that file.
const TASK_BYTES: u64 = 1 << 26;

/// Where pieces of a stage lie.
#[derive(Debug, Clone)]
pub(crate) struct PieceFolder {
    folder: PathBuf,
    /// Ends the name of each piece: those of other runs, and those that follow another description, are none.
    tag: String,
}

impl PieceFolder {
    fn new(run: &Path, fingerprint: &str) -> PieceFolder {
        PieceFolder { folder: run.join(PIECES).join(fingerprint), tag: String::new() }
    }

    /// Itself, for pieces that are what `rule` says: all that decides their bytes beside the stage's fingerprint.
    pub(crate) fn of_rule(self, rule: &impl Serialize) -> Result<PieceFolder> {
        let fingerprint = self.folder.file_name().unwrap_or_default().as_encoded_bytes();
        let tag = xxh3_64(&[fingerprint, json::line(rule)?.as_bytes()].concat());
        Ok(PieceFolder { tag: format!("{tag:016x}"), ..self })
    }

    /// Any folder, for who reads what lies there.
    pub(crate) fn at(folder: PathBuf) -> PieceFolder {
        PieceFolder { folder, tag: String::new() }
    }

    /// A piece's file.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.{}", self.tag))
    }

    /// The names of all pieces.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub(crate) fn names(&self) -> Result<BTreeSet<String>> {
        let name = |path: PathBuf| {
            let name = path.file_name()?.to_str()?;
            name.strip_suffix(&self.tag)?.strip_suffix('.').map(str::to_owned)
        };
        Ok(list(&self.folder)?.into_iter().filter_map(name).collect())
    }

    /// What ends the name of each piece's file, behind a dot.
    pub(crate) fn tag(&self) -> &str {
        &self.tag
    }

    /// Whether the job still has a folder for pieces.
    pub(crate) fn is_there(&self) -> bool {
        self.folder.is_dir()
    }

    /// Whether a piece is there. Its bytes are not read.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.path(name).is_file()
    }

    /// Writes a piece: whole, or not at all.
    ///
    /// # Errors
    /// The write fails; or the folder is gone, since the job needs no pieces any more.
    pub(crate) fn put(&self, name: &str, write: impl FnOnce(&mut PartWriter) -> std::io::Result<()>) -> Result<()> {
        let host = sysinfo::System::host_name().unwrap_or_default();
        let temp = self.folder.join(format!(".{name}.{}.{}.tmp", host.replace('/', "_"), std::process::id()));
        let path = self.path(name);
        let failed = |e| Error::io("a piece cannot be written", &path, e);
        let written = || {
            let mut writer = PartWriter::new(Disk.create(&temp)?);
            write(&mut writer)?;
            writer.finish()?;
            Disk.rename(&temp, &path)?;
            Disk.sync_folder(&self.folder)
        };
        written().map_err(|e| {
            let _ = Disk.remove(&temp);
            failed(e)
        })
    }

    /// Compares a piece with its own hashes. O(bytes), on all threads.
    ///
    /// # Errors
    /// It is not what was written.
    pub(crate) fn check(&self, name: &str) -> Result<()> {
        check_whole(self.path(name), &self.record(name)?)
    }

    /// What the manifest would say of a piece.
    fn record(&self, name: &str) -> Result<PartRecord> {
        let mapped = Mapped::open(&self.path(name))?;
        Ok(PartRecord { bytes: mapped.bytes().len() as u64, xxh3: format!("{:016x}", self.root(name)?) })
    }

    /// The hash of a piece, as its footer gives it.
    fn root(&self, name: &str) -> Result<u64> {
        let path = self.path(name);
        let mapped = Mapped::open(&path)?;
        let root = root_of(mapped.bytes()).filter(|[footer, table]| footer == table);
        root.map(|[footer, _]| footer).ok_or_else(|| {
            Error::runtime("a piece is not what was written").path(&path).found("no hashes of its blocks")
        })
    }

    /// Whether the job says what it wants.
    pub(crate) fn is_described(&self) -> bool {
        self.folder.join(TASK).exists()
    }

    /// What the job says of the pieces; none where it wants none.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn task<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let path = self.folder.join(TASK);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = regular::read(&path, TASK_BYTES)?;
        let unreadable = |e: serde_json::Error| {
            Error::runtime("the description of a run's pieces cannot be read")
                .path(&path)
                .found(e.to_string())
                .remedy("use the batchmine that runs `mine`")
        };
        serde_json::from_slice(&bytes).map(Some).map_err(unreadable)
    }
}

impl Run {
    /// Fails where the first stages lie in a folder that others may not see.
    ///
    /// # Errors
    /// The run has a work folder.
    pub(crate) fn refuse_work_folder(&self) -> Result<()> {
        if self.manifest().work.is_none() {
            return Ok(());
        }
        Err(Error::input("pieces need the whole run in one folder")
            .path(self.folder())
            .expected("--pieces external without --work")
            .found("a run whose first stages lie in a work folder")
            .remedy("leave out --work, and put the run folder where all workers see it"))
    }

    /// Removes pieces of other fingerprints than a stage's.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub(crate) fn remove_other_pieces(&self, stage: Stage) -> Result<()> {
        self.remove_pieces(Some(&self.record(stage).fingerprint))
    }

    /// Says in the folder of pieces what is wanted, where that does not stand there.
    ///
    /// # Errors
    /// The disk fails.
    pub(crate) fn describe_pieces(&self, pieces: &PieceFolder, task: &str) -> Result<()> {
        let path = pieces.folder.join(TASK);
        if regular::read_if_there(&path, TASK_BYTES).is_ok_and(|found| found.is_some_and(|it| it == task.as_bytes())) {
            return Ok(());
        }
        let failed = |e| Error::io("the folder of pieces cannot be made", &pieces.folder, e);
        self.storage().create_folder(&pieces.folder).map_err(failed)?;
        let temp = pieces.folder.join(format!(".{TASK}.tmp"));
        replace_file(self.storage(), &temp, &path, task.as_bytes()).map_err(failed)
    }

    /// The pieces of a stage that are there, of an earlier call perhaps.
    pub(crate) fn pieces(&self, stage: Stage) -> PieceFolder {
        PieceFolder::new(self.folder(), &self.record(stage).fingerprint)
    }

    /// Removes a piece.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub(crate) fn remove_piece(&self, pieces: &PieceFolder, name: &str) -> Result<()> {
        self.remove_if_there(&pieces.path(name))
    }

    /// Removes all pieces but those of a fingerprint.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub(crate) fn remove_pieces(&self, but: Option<&str>) -> Result<()> {
        let all = self.folder().join(PIECES);
        if all.is_symlink() || !all.is_dir() {
            return Ok(());
        }
        for folder in list(&all)?.into_iter().filter(|folder| !folder.is_symlink() && folder.is_dir()) {
            if but.is_some_and(|own| folder.ends_with(own)) {
                continue;
            }
            for file in list(&folder)? {
                self.remove_if_there(&file)?;
            }
            // A worker may have put a file there meanwhile: it is removed the next time.
            let _ = std::fs::remove_dir(&folder);
        }
        let _ = std::fs::remove_dir(&all);
        Ok(())
    }
}

impl StageRun<'_> {
    /// Makes pieces that were checked parts: they are renamed, and recorded together.
    ///
    /// # Errors
    /// A piece is gone, or the disk fails.
    pub(crate) fn adopt(&self, names: &[String], pieces: &PieceFolder) -> Result<()> {
        let part = |name: &String| {
            let PartRecord { bytes, .. } = pieces.record(name)?;
            let (temp, hash) = (pieces.path(name), pieces.root(name)?);
            Ok(WrittenPart { name: name.clone(), temp, bytes, hash })
        };
        self.record(names.iter().map(part).collect::<Result<_>>()?, None)
    }
}

impl RunReader {
    /// The pieces of a stage under way.
    ///
    /// # Errors
    /// The stage was not begun.
    pub(crate) fn pieces(&self, stage: Stage) -> Result<PieceFolder> {
        let record = self.manifest().stages.get(&stage);
        let record = record.ok_or_else(|| {
            Error::runtime("the run has not come so far")
                .path(self.folder())
                .expected(format!("settings of the {} stage", stage.name()))
                .found("none")
                .remedy("try again when `mine` has begun")
        })?;
        Ok(PieceFolder::new(self.folder(), &record.fingerprint))
    }
}

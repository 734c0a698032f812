//! A storage that works on the disk until its n-th call, and then does not.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use batchmine::run::{Disk, Storage, StorageFile};

/// What happens at the n-th call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// That call fails; the disk works again afterwards.
    Error,
    /// That call writes half of its bytes, if it writes, and fails.
    Tear,
    /// Nothing reaches the disk any more, as after `kill -9`.
    Kill,
    /// The same, and [`Failing::lose_unsynced`] takes what was never synced.
    PowerLoss,
}

/// Shared by all files of one run. One lock round every call: what was synced when is never in doubt.
#[derive(Debug, Clone)]
pub struct Failing(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    blow: Blow,
    at: u64,
    calls: u64,
    dead: bool,
    unsynced_files: BTreeSet<PathBuf>,
    unsynced_renames: Vec<Rename>,
}

#[derive(Debug)]
struct Rename {
    from: PathBuf,
    to: PathBuf,
    /// What lay at `to` before.
    replaced: Option<Vec<u8>>,
}

impl State {
    /// Counts a call; fails if it is the one, or if the process is dead.
    fn step(&mut self) -> io::Result<()> {
        if self.dead {
            return Err(io::Error::other("the process is dead"));
        }
        self.calls += 1;
        if self.calls - 1 != self.at {
            return Ok(());
        }
        self.dead = matches!(self.blow, Blow::Kill | Blow::PowerLoss);
        Err(io::Error::new(io::ErrorKind::StorageFull, "no space left, says the test"))
    }
}

impl Failing {
    /// Strikes at call `at`, counted from 0.
    pub fn at(at: u64, blow: Blow) -> Failing {
        Failing(Arc::new(Mutex::new(State {
            blow,
            at,
            calls: 0,
            dead: false,
            unsynced_files: BTreeSet::new(),
            unsynced_renames: Vec::new(),
        })))
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Undoes renames whose folder was not synced, and blanks files whose content was not. Only when
    /// the run is closed: until then its files may be mapped.
    pub fn lose_unsynced(&self) {
        let mut state = self.state();
        for path in std::mem::take(&mut state.unsynced_files) {
            if let Ok(file) = fs::OpenOptions::new().write(true).open(&path) {
                // File systems may keep the length and lose the content: the second half reads as zeros.
                let length = file.metadata().unwrap().len();
                file.set_len(length / 2).unwrap();
                file.set_len(length).unwrap();
            }
        }
        while let Some(rename) = state.unsynced_renames.pop() {
            if rename.to.exists() {
                fs::rename(&rename.to, &rename.from).unwrap();
            }
            if let Some(bytes) = rename.replaced {
                fs::write(&rename.to, bytes).unwrap();
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl Storage for Failing {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.state().step()?;
        Disk.create_folder(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let mut state = self.state();
        state.step()?;
        state.unsynced_files.insert(path.to_owned());
        Ok(Box::new(FailingFile { file: Disk.create(path)?, path: path.to_owned(), storage: self.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        let replaced = fs::read(to).ok();
        Disk.rename(from, to)?;
        if state.unsynced_files.remove(from) {
            state.unsynced_files.insert(to.to_owned());
        }
        state.unsynced_renames.push(Rename { from: from.to_owned(), to: to.to_owned(), replaced });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.unsynced_files.remove(path);
        Disk.remove(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.unsynced_renames.retain(|rename| rename.to.parent() != Some(path));
        Ok(())
    }
}

struct FailingFile {
    file: Box<dyn StorageFile>,
    path: PathBuf,
    storage: Failing,
}

impl Write for FailingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.storage.state();
        if let Err(error) = state.step() {
            if state.blow == Blow::Tear {
                self.file.write_all(&bytes[..bytes.len() / 2])?;
            }
            return Err(error);
        }
        state.unsynced_files.insert(self.path.clone());
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl StorageFile for FailingFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.storage.state();
        if let Err(error) = state.step() {
            if state.blow == Blow::Tear {
                self.file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
            }
            return Err(error);
        }
        state.unsynced_files.insert(self.path.clone());
        self.file.write_all_at(bytes, offset)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.storage.state();
        state.step()?;
        state.unsynced_files.insert(self.path.clone());
        self.file.set_len(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.storage.state();
        state.step()?;
        // The real thing is left out: the test runs hundreds of jobs, and none of them loses power.
        state.unsynced_files.remove(&self.path);
        Ok(())
    }
}

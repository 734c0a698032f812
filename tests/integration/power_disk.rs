//! A storage that records what a job does to the disk, and what a disk may hold of it after the power went.
//!
//! A file's content is what was written before its last sync, and any of what was written after it; one write may be
//! torn. A name that a folder got, lost or exchanged after its last sync may or may not be so. A new folder is there as
//! soon as anything in it is: file systems with a journal commit the one with the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use batchmine::run::{Disk, Storage, StorageFile};
use rand::{Rng, RngExt};

use super::undisturbed::Made;

/// A file as the recorder knows it, whatever its names are.
type FileNumber = usize;

#[derive(Debug, Clone)]
enum Step {
    Create(PathBuf, FileNumber),
    Write(FileNumber, u64, Vec<u8>),
    SetLength(FileNumber, u64),
    Sync(FileNumber),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    SyncFolder(PathBuf),
}

/// Records every step below a folder, and takes it on the disk.
#[derive(Debug, Clone)]
pub struct Recorder(Arc<Mutex<Log>>);

#[derive(Debug)]
struct Log {
    root: PathBuf,
    /// The files that were there before, durable.
    before: Made,
    steps: Vec<Step>,
    files: FileNumber,
}

impl Recorder {
    pub fn new(root: &Path) -> Recorder {
        let mut before = Made::new();
        collect(root, root, &mut before);
        Recorder(Arc::new(Mutex::new(Log { root: root.to_owned(), before, steps: Vec::new(), files: 0 })))
    }

    /// Steps so far.
    pub fn steps(&self) -> usize {
        self.log().steps.len()
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap()
    }

    /// Takes a step and records it, while no other thread takes one.
    fn step<T>(&self, take: impl FnOnce() -> io::Result<T>, step: impl FnOnce(&Log) -> Step) -> io::Result<T> {
        let mut log = self.log();
        let done = take()?;
        let step = step(&log);
        log.steps.push(step);
        Ok(done)
    }
}

impl Log {
    fn name(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).unwrap_or(path).to_owned()
    }
}

/// All files below a folder, hidden ones too.
fn collect(root: &Path, folder: &Path, all: &mut Made) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, all);
        } else {
            all.push((path.strip_prefix(root).unwrap().display().to_string(), fs::read(&path).unwrap()));
        }
    }
}

impl Storage for Recorder {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        Disk.create_folder(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let mut log = self.log();
        let (number, name) = (log.files, log.name(path));
        let file = Disk.create(path)?;
        log.files += 1;
        log.steps.push(Step::Create(name, number));
        Ok(Box::new(RecordedFile { file, number, at: 0, recorder: self.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|| Disk.rename(from, to), |log| Step::Rename(log.name(from), log.name(to)))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step(|| Disk.remove(path), |log| Step::Remove(log.name(path)))
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        // The real thing is left out, here and below: nothing here loses its power.
        self.step(|| Ok(()), |log| Step::SyncFolder(log.name(path)))
    }
}

struct RecordedFile {
    file: Box<dyn StorageFile>,
    number: FileNumber,
    at: u64,
    recorder: Recorder,
}

impl Write for RecordedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (at, number, file) = (self.at, self.number, &mut self.file);
        self.recorder.step(|| file.write_all(bytes), |_| Step::Write(number, at, bytes.to_owned()))?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl StorageFile for RecordedFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let step = |_: &Log| Step::Write(self.number, offset, bytes.to_owned());
        self.recorder.step(|| self.file.write_all_at(bytes, offset), step)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.recorder.step(|| self.file.set_len(bytes), |_| Step::SetLength(self.number, bytes))
    }

    fn sync(&self) -> io::Result<()> {
        self.recorder.step(|| Ok(()), |_| Step::Sync(self.number))
    }
}

/// What became of steps that no sync made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsynced {
    /// All of them were taken, as after `kill -9`.
    All,
    /// None was.
    None,
    /// Each may have been, by chance; one write of a file may be torn.
    Some,
}

/// A file's content: what is durable, and what may be.
#[derive(Default)]
struct Content {
    durable: Vec<u8>,
    open: Vec<Step>,
}

/// A change of names, and whether it is durable.
struct NameChange {
    step: Step,
    file: FileNumber,
    is_durable: bool,
}

/// What a disk holds after some steps.
struct Held {
    contents: BTreeMap<FileNumber, Content>,
    /// The names before the first step, and all changes since.
    names: BTreeMap<PathBuf, FileNumber>,
    changes: Vec<NameChange>,
}

impl Log {
    /// Follows the first steps.
    fn held(&self, steps: usize) -> Held {
        let mut held = Held { contents: BTreeMap::new(), names: BTreeMap::new(), changes: Vec::new() };
        for (number, (name, bytes)) in self.before.iter().enumerate() {
            held.contents.insert(usize::MAX - number, Content { durable: bytes.clone(), open: Vec::new() });
            held.names.insert(name.into(), usize::MAX - number);
        }
        let (mut names, contents) = (held.names.clone(), &mut held.contents);
        let mut change = |step: &Step, file: FileNumber| {
            held.changes.push(NameChange { step: step.clone(), file, is_durable: false });
        };
        // A file that is created over another one is that file, emptied.
        let mut same: BTreeMap<FileNumber, FileNumber> = BTreeMap::new();
        let mut synced: Vec<(usize, &Path)> = Vec::new();
        let mut count = 0;
        for step in &self.steps[..steps] {
            match step {
                Step::Create(name, number) => {
                    if let Some(there) = names.get(name) {
                        same.insert(*number, *there);
                        contents.get_mut(there).unwrap().open.push(Step::SetLength(*there, 0));
                    } else {
                        contents.insert(*number, Content::default());
                        names.insert(name.clone(), *number);
                        change(step, *number);
                        count += 1;
                    }
                }
                Step::Write(number, ..) | Step::SetLength(number, _) => {
                    contents.get_mut(same.get(number).unwrap_or(number)).unwrap().open.push(step.clone());
                }
                Step::Sync(number) => {
                    let content = contents.get_mut(same.get(number).unwrap_or(number)).unwrap();
                    let open = std::mem::take(&mut content.open);
                    open.iter().for_each(|step| apply(&mut content.durable, step, None));
                }
                Step::Rename(from, to) => {
                    let file = names.remove(from).unwrap_or_else(|| panic!("{} is renamed", from.display()));
                    names.insert(to.clone(), file);
                    change(step, file);
                    count += 1;
                }
                Step::Remove(name) => {
                    let file = names.remove(name).unwrap_or_else(|| panic!("{} is removed", name.display()));
                    change(step, file);
                    count += 1;
                }
                Step::SyncFolder(folder) => synced.push((count, folder.as_path())),
            }
        }
        for (count, folder) in synced {
            for change in &mut held.changes[..count] {
                change.is_durable |= folders(&change.step).contains(folder);
            }
        }
        held
    }
}

impl Recorder {
    /// Writes into `to` what a disk may hold if the power goes after so many steps.
    pub fn rebuild(&self, to: &Path, steps: usize, unsynced: Unsynced, chance: &mut impl Rng) {
        let Held { mut contents, mut names, changes } = self.log().held(steps);
        let taken = |chance: &mut dyn Rng| match unsynced {
            Unsynced::All => true,
            Unsynced::None => false,
            Unsynced::Some => chance.next_u32().is_multiple_of(2),
        };
        for change in &changes {
            if change.is_durable || taken(chance) {
                rename(&mut names, change);
            }
        }
        for content in contents.values_mut() {
            let open: Vec<Step> = content.open.drain(..).filter(|_| taken(chance)).collect();
            let torn = (unsynced == Unsynced::Some && !open.is_empty()).then(|| chance.random_range(0..open.len()));
            for (at, step) in open.iter().enumerate() {
                let cut = (torn == Some(at)).then(|| chance.random_range(0.0..1.0));
                apply(&mut content.durable, step, cut);
            }
        }
        fs::create_dir_all(to).unwrap();
        for (name, file) in &names {
            let path = to.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, &contents[file].durable).unwrap();
        }
    }
}

/// The folders whose sync makes a change of names durable.
fn folders(step: &Step) -> BTreeSet<&Path> {
    match step {
        Step::Create(name, _) | Step::Remove(name) => name.parent().into_iter().collect(),
        Step::Rename(from, to) => from.parent().into_iter().chain(to.parent()).collect(),
        _ => BTreeSet::new(),
    }
}

fn rename(names: &mut BTreeMap<PathBuf, FileNumber>, change: &NameChange) {
    let forget = |names: &mut BTreeMap<PathBuf, FileNumber>, name: &PathBuf| {
        if names.get(name) == Some(&change.file) {
            names.remove(name);
        }
    };
    match &change.step {
        Step::Create(name, _) => {
            names.insert(name.clone(), change.file);
        }
        Step::Rename(from, to) => {
            forget(names, from);
            names.insert(to.clone(), change.file);
        }
        Step::Remove(name) => forget(names, name),
        _ => {}
    }
}

/// Takes a step on a file's content; `cut`: only this share of a write.
fn apply(content: &mut Vec<u8>, step: &Step, cut: Option<f64>) {
    match step {
        Step::Write(_, at, bytes) => {
            let length = cut.map_or(bytes.len(), |share| (share * bytes.len() as f64) as usize);
            let end = *at as usize + length;
            content.resize(content.len().max(end), 0);
            content[*at as usize..end].copy_from_slice(&bytes[..length]);
        }
        Step::SetLength(_, length) => content.resize(*length as usize, 0),
        _ => {}
    }
}

//! The folder of a run inside `--work`: which one it is, and that it is this run's.
//!
//! A run deletes files there that its manifest does not list. So it must be sure that the folder is its own, whatever
//! the manifest says: `owner.json` in the folder holds the run's identity, and a lock keeps others out.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::json::to_value;
use super::layout::{MANIFEST, TEMPORARY, display_work};
use super::lock::{LOCK, Lock};
use super::manifest::Manifest;
use super::storage::{Storage, folder_of, list, replace_file};
use crate::error::{Error, Result};
use crate::regular;

const OWNER: &str = "owner.json";
const OWNER_TEMPORARY: &str = "owner.json.tmp";
/// What the names of all such folders begin with.
const PREFIX: &str = "batchmine-";
/// More bytes than `owner.json` ever has.
const OWNER_BYTES_MAX: u64 = 64 << 10;

/// Whose folder it is.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Owner {
    /// The identity in the run's manifest.
    run: String,
    /// The run folder, when it was last opened.
    folder: String,
}

/// The path of the run's own folder inside `work`, which is created: its name is a hash of the run folder's path.
///
/// # Errors
/// `work` cannot be created, or its path is no text.
pub(super) fn inside(work: &Path, run: &Path, storage: &dyn Storage) -> Result<PathBuf> {
    let failed = |e| Error::io("the work folder cannot be created", work, e);
    if !work.is_dir() {
        storage.create_folder(work).map_err(failed)?;
    }
    let own = work.canonicalize().map_err(failed)?;
    let own = own.join(format!("{PREFIX}{:016x}", xxh3_64(run.as_os_str().as_encoded_bytes())));
    if own.to_str().is_none() {
        return Err(Error::input("the manifest cannot hold the path of the work folder")
            .path(&own)
            .expected("a path in UTF-8")
            .found("other bytes")
            .remedy("give another folder to --work"));
    }
    Ok(own)
}

/// Checks that a manifest's work folder is the run's, locks it, and creates it where `asked`: the user has just named
/// it.
///
/// # Errors
/// The folder is not there, is another run's or nobody's, or is in use.
pub(super) fn claim(manifest: &Manifest, run: &Path, asked: bool, storage: &dyn Storage) -> Result<Option<Lock>> {
    let Some(own) = &manifest.work else { return Ok(None) };
    let failed = |e| Error::io("the work folder cannot be created", own, e);
    let named = own.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
    let plain = own.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !(named && plain && own.is_absolute()) {
        return Err(not_own(run, own, "a path that batchmine never writes"));
    }
    let owner = Owner { run: manifest.id.clone(), folder: run.display().to_string() };
    match marked(own)? {
        Some(mark) if mark == owner => {}
        Some(mark) if mark.run == owner.run && is_copy(&mark, run) => {
            return Err(not_own(run, own, &format!("a copy of the run in {}, whose work folder it is", mark.folder))
                .remedy("go on in that run folder; or delete one of the two"));
        }
        // The run folder was moved.
        Some(mark) if mark.run == owner.run => mark_folder(own, &owner, storage).map_err(failed)?,
        Some(mark) => return Err(not_own(run, own, &format!("the mark of another run, {}", mark.folder))),
        None => {
            if let Some(stranger) = stranger(own)? {
                return Err(not_own(run, own, &format!("{}, and no mark of this run", stranger.display())));
            }
            if !asked {
                return Err(Error::input("the run's work folder is gone")
                    .path(own)
                    .expected("the folder with the files of the first four stages")
                    .found("none, or an empty one")
                    .remedy("repeat --work DIR as at first: its files are made again"));
            }
            storage.create_folder(own).map_err(failed)?;
            mark_folder(own, &owner, storage).map_err(failed)?;
            storage.sync_folder(folder_of(own)).map_err(failed)?;
        }
    }
    let lock = Lock::acquire(own)?;
    if !own.join(TEMPORARY).is_dir() {
        storage.create_folder(&own.join(TEMPORARY)).map_err(failed)?;
    }
    Ok(Some(lock))
}

fn mark_folder(own: &Path, owner: &Owner, storage: &dyn Storage) -> std::io::Result<()> {
    let text = format!("{}\n", to_value(owner));
    replace_file(storage, &own.join(OWNER_TEMPORARY), &own.join(OWNER), text.as_bytes())
}

/// The mark of a folder; `None` where there is none.
fn marked(own: &Path) -> Result<Option<Owner>> {
    let path = own.join(OWNER);
    let Some(bytes) = regular::read_if_there(&path, OWNER_BYTES_MAX)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| damaged(&path, e.to_string()))
}

/// Whether the run that the mark names is still there, elsewhere.
fn is_copy(mark: &Owner, run: &Path) -> bool {
    let other = Path::new(&mark.folder);
    let same = other.canonicalize().is_ok_and(|path| path == run);
    let there = Manifest::read(&other.join(MANIFEST)).ok().flatten();
    !same && there.is_some_and(|manifest| manifest.id == mark.run)
}

/// An entry that no killed opening can have left in a folder without a mark.
fn stranger(own: &Path) -> Result<Option<PathBuf>> {
    let ours = |path: &PathBuf| path.ends_with(OWNER_TEMPORARY) || path.ends_with(LOCK);
    Ok(list(own)?.into_iter().find(|path| !ours(path)))
}

fn not_own(run: &Path, own: &Path, found: &str) -> Error {
    Error::input("the work folder is not this run's: nothing is written or deleted there")
        .path(own)
        .expected(format!("a folder that is new, or marked by the run in {}", run.display()))
        .found(found.to_owned())
        .remedy(
            "give another folder to --work for a new run; or delete this one, if the run that it was made for is gone",
        )
}

fn damaged(path: &Path, found: String) -> Error {
    Error::runtime("a work folder's mark is damaged")
        .path(path)
        .expected("the run's identity and folder")
        .found(found)
        .remedy(
            "give another folder to --work and to --out; or delete this one, if the run that it was made for is gone",
        )
}

/// Refuses another work folder than the one that the run was begun with.
///
/// # Errors
/// They differ.
pub(super) fn same(manifest: &Manifest, asked: &Option<PathBuf>, run: &Path) -> Result<()> {
    if asked.is_none() || manifest.work == *asked {
        return Ok(());
    }
    Err(Error::input("the run was begun with another work folder")
        .path(run)
        .expected(format!("--work as before: {}", display_work(&manifest.work)))
        .found(display_work(asked))
        .remedy("leave --work out to go on, or choose another --out"))
}

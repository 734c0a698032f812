//! Bandwidth of the disk: a file written and made durable, read again past the page cache, and small durable writes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use rand::Rng;

use super::repeat::{LONG_REPEATS, repeated};
use crate::bench::record::{Ceiling, CeilingUnit};
use crate::error::{Error, Result};
use crate::random::{Purpose, stream};
use crate::run::{Disk, Storage};
use crate::watch::Watch;

/// Name of the ceiling of files that are written and made durable.
pub(in crate::bench) const DISK_WRITE: &str = "disk write";
/// Bytes of the file; fewer where the disk takes longer than `LONGEST` for them.
const FILE_BYTES: usize = 64 << 20;
const LONGEST: Duration = Duration::from_secs(2);
/// Bytes of a write and of a read.
const CHUNK: usize = 1 << 20;
/// Durable writes of one value, each of as many bytes.
const SYNCS: usize = 16;
const SYNC_BYTES: usize = 4096;

/// Bytes written and read a second, and durable writes a second.
///
/// # Errors
/// The disk fails, or the work is to stop.
pub(super) fn measure(folder: &Path, watch: Watch<'_>) -> Result<Vec<Ceiling>> {
    let path = folder.join("disk");
    let failed = |e| Error::io("the disk cannot be measured", &path, e);
    // Bytes by chance, which no file system makes smaller.
    let mut chunk = vec![0u8; CHUNK];
    stream(Purpose::BenchBytes).fill_bytes(&mut chunk);
    let write = repeated(LONG_REPEATS, watch, || written(&path, &chunk).map_err(failed))?;
    let mut found = vec![Ceiling { name: DISK_WRITE.into(), unit: CeilingUnit::Bytes, rate: write }];
    if cfg!(target_os = "linux") {
        let rate = repeated(LONG_REPEATS, watch, || read(&path, &mut chunk).map_err(failed))?;
        found.push(Ceiling { name: "disk read".into(), unit: CeilingUnit::Bytes, rate });
    }
    let rate = repeated(LONG_REPEATS, watch, || synced(&path, &chunk[..SYNC_BYTES]).map_err(failed))?;
    found.push(Ceiling { name: "disk sync".into(), unit: CeilingUnit::Calls, rate });
    Disk.remove(&path).map_err(failed)?;
    Ok(found)
}

/// Gigabytes a second of a file that is written and made durable.
fn written(path: &Path, chunk: &[u8]) -> io::Result<f64> {
    let start = Instant::now();
    let mut file = Disk.create(path)?;
    let mut bytes = 0;
    while bytes < FILE_BYTES && start.elapsed() < LONGEST {
        file.write_all(chunk)?;
        bytes += chunk.len();
    }
    file.sync()?;
    Ok(bytes as f64 / start.elapsed().as_secs_f64() / 1e9)
}

/// Gigabytes a second of the file, read once the page cache has forgotten it.
fn read(path: &Path, chunk: &mut [u8]) -> io::Result<f64> {
    let mut file = File::open(path)?;
    forget(&file)?;
    let start = Instant::now();
    let mut bytes = 0;
    while start.elapsed() < LONGEST {
        match file.read(chunk)? {
            0 => break,
            n => bytes += n,
        }
    }
    Ok(bytes as f64 / start.elapsed().as_secs_f64() / 1e9)
}

/// Takes a durable file out of the page cache.
#[cfg(target_os = "linux")]
fn forget(file: &File) -> io::Result<()> {
    Ok(rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)?)
}

#[cfg(not(target_os = "linux"))]
fn forget(_: &File) -> io::Result<()> {
    Ok(())
}

/// Small durable writes a second.
fn synced(path: &Path, bytes: &[u8]) -> io::Result<f64> {
    let mut file = Disk.create(path)?;
    let start = Instant::now();
    let mut calls = 0;
    while calls < SYNCS && start.elapsed() < LONGEST {
        file.write_all(bytes)?;
        file.sync()?;
        calls += 1;
    }
    Ok(calls as f64 / start.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_measured_and_left_empty() {
        let folder = tempfile::tempdir().unwrap();
        let found = measure(folder.path(), Watch::silent()).unwrap();
        let names: Vec<_> = found.iter().map(|ceiling| ceiling.name.as_str()).collect();
        let all = ["disk write", "disk read", "disk sync"];
        assert!(names == all || !cfg!(target_os = "linux"), "{names:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let gone = folder.path().join("none");
        let error = measure(&gone, Watch::silent()).unwrap_err();
        assert!(error.exit_code() == 1 && error.to_string().contains("none"), "{error}");
    }
}

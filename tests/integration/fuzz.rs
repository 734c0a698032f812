//! Every decoder takes any bytes: each file of the corpus, and changes of them by chance, end without a panic, soon.
//!
//! BATCHMINE_FUZZ sets how many changed inputs each decoder gets. What fails is written to the folder for temporary
//! files: put it into `tests/fuzz/corpus/DECODER/`, where this test finds it.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use batchmine::fuzzing::{decode, decoders};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::pages::root;

/// Changed inputs of each decoder.
const EXECUTIONS: u64 = 150;
/// More than this no input takes, unoptimised.
const LONGEST: Duration = Duration::from_secs(3);
/// Longest input.
const BYTES_MAX: usize = 64 << 10;
/// Inputs that were taken, and are changed again.
const KEPT_MAX: usize = 500;
/// Numbers at the edges of types.
const EDGES: [u64; 12] =
    [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 40, u64::MAX >> 1, u64::MAX];

fn corpus(decoder: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = root().join("tests/fuzz/corpus").join(decoder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// The folder of files that decoders read: in memory, where the machine has such a folder.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// Puts numbers, bytes of other inputs, or nothing in the place of some bytes.
fn change(bytes: &mut Vec<u8>, others: &[Vec<u8>], random: &mut ChaCha8Rng) {
    let at = random.random_range(0..=bytes.len());
    let rest = bytes.len() - at;
    match random.random_range(0..9) {
        0 | 1 if rest > 0 => bytes[at] ^= 1 << random.random_range(0..8),
        2 if rest > 0 => bytes[at] = random.random(),
        3 | 4 => {
            let width = [1, 2, 4, 8][random.random_range(0..4)].min(rest);
            let number =
                EDGES[random.random_range(0..EDGES.len())].wrapping_add(random.random_range(0..3)).to_le_bytes();
            bytes[at..at + width].copy_from_slice(&number[..width]);
        }
        5 => bytes.truncate(at),
        6 if rest > 0 => drop(bytes.drain(at..at + random.random_range(1..=rest.min(64)))),
        7 => {
            let new: Vec<u8> = (0..random.random_range(1..9)).map(|_| random.random()).collect();
            drop(bytes.splice(at..at, new));
        }
        _ => {
            let other = &others[random.random_range(0..others.len())];
            let from = random.random_range(0..=other.len());
            let piece = &other[from..(from + random.random_range(0..256)).min(other.len())];
            let end = (at + piece.len()).min(bytes.len());
            drop(bytes.splice(at..end, piece.iter().copied()));
        }
    }
    bytes.truncate(BYTES_MAX);
}

/// Decodes an input; fails where the decoder panics or takes long. Returns whether the input was taken.
fn tried(decoder: &str, bytes: &[u8], folder: &Path, name: &str) -> (bool, Duration) {
    let begin = Instant::now();
    let done = catch_unwind(AssertUnwindSafe(|| decode(decoder, bytes, folder)));
    let took = begin.elapsed();
    if done.is_err() || took > LONGEST {
        let kept = std::env::temp_dir().join(format!("batchmine-{decoder}-{}", bytes.len()));
        fs::write(&kept, bytes).unwrap();
        panic!("{decoder}: {name}: a panic, or {took:?}; the input is in {}", kept.display());
    }
    (done.unwrap_or(false), took)
}

/// Decodes the corpus and changed inputs: how many, how many of them were taken, and the longest time.
fn fuzzed(decoder: &str, executions: u64) -> (u64, u64, Duration) {
    let folder = scratch();
    let (mut taken, mut longest) = (0, Duration::ZERO);
    let mut seeds = Vec::new();
    for (path, bytes) in corpus(decoder) {
        let (sound, took) = tried(decoder, &bytes, folder.path(), &path.display().to_string());
        (taken, longest) = (taken + u64::from(sound), longest.max(took));
        seeds.push(bytes);
    }
    let known = seeds.len() as u64;
    assert!(taken > 0, "{decoder}: the corpus has no sound input");
    let mut random = ChaCha8Rng::seed_from_u64(executions ^ 0xba7c);
    for number in 0..executions {
        let mut bytes = seeds[random.random_range(0..seeds.len())].clone();
        (0..random.random_range(1..5)).for_each(|_| change(&mut bytes, &seeds, &mut random));
        let (sound, took) = tried(decoder, &bytes, folder.path(), &format!("change {number}"));
        (taken, longest) = (taken + u64::from(sound), longest.max(took));
        if sound && seeds.len() < KEPT_MAX {
            seeds.push(bytes);
        }
    }
    (known + executions, taken, longest)
}

#[test]
fn no_decoder_panics_on_any_bytes() {
    let asked = std::env::var("BATCHMINE_FUZZ").ok().map(|text| text.parse().expect("BATCHMINE_FUZZ is a number"));
    let only = std::env::var("BATCHMINE_FUZZ_DECODER").ok();
    for decoder in decoders().filter(|name| only.as_ref().is_none_or(|only| only == name)) {
        let (executions, taken, longest) = fuzzed(decoder, asked.unwrap_or(EXECUTIONS));
        println!("fuzz: {decoder}: {executions} executions, {taken} taken, 0 panics, longest {longest:.1?}");
    }
}

#[test]
fn every_decoder_has_a_target_for_guided_fuzzing() {
    let manifest = fs::read_to_string(root().join("tests/fuzz/Cargo.toml")).unwrap();
    let targets: Vec<&str> = manifest
        .split("[[bin]]")
        .skip(1)
        .map(|target| target.split("name = \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap())
        .collect();
    assert_eq!(targets, decoders().collect::<Vec<_>>());
}

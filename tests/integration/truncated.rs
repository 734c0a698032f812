//! Files that become shorter while they are read: a message that names them, and no signal.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::command::{Outcome, Place, mine, mine_command, verify};
use super::dataset::Dataset;

const FLAGS: &str = "--skip 4 --window 16 --cluster-size 8 --batch-size 32";

/// Starts a job, cuts a file once `ready`, and gives what became of it.
fn cut(place: &Place, run: &Path, file: &Path, ready: impl Fn() -> bool) -> Outcome {
    let job = mine_command(&place.input(), run, FLAGS).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let since = Instant::now();
    while !ready() {
        assert!(since.elapsed() < Duration::from_secs(60), "it is never ready");
        std::thread::sleep(Duration::from_millis(1));
    }
    fs::OpenOptions::new().write(true).open(file).unwrap().set_len(4096).unwrap();
    job.wait_with_output().unwrap().into()
}

#[test]
fn a_run_file_that_becomes_shorter_is_named() {
    let place = Place::with(&Dataset::planted(8000, 256, 3));
    for (attempt, name) in ["queries.vec", "positives.vec"].into_iter().enumerate() {
        let run = place.path(&format!("run-{attempt}"));
        let file = run.join("vectors").join(name);
        let outcome = cut(&place, &run, &file, || run.join("neighbors/partition.ord").exists());
        outcome.fails(1, &["error:", name, "remedy:"]);
        // The file is made again, and the job ends well.
        mine(&place.input(), &run, FLAGS).ok();
        verify(&run).ok();
    }
}

/// A `.npy` file of the same rows again and again, larger than what a reader holds at once.
fn large_array(path: &Path, rows: usize) -> PathBuf {
    let path = path.with_extension("npy");
    let mut file = std::io::BufWriter::new(fs::File::create(&path).unwrap());
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, 256), }}");
    let padded = format!("{header:<117}\n");
    file.write_all(b"\x93NUMPY\x01\x00\x76\x00").unwrap();
    file.write_all(padded.as_bytes()).unwrap();
    for row in 0..rows {
        let value = |at: usize| ((row * 31 + at * 17) % 101) as f32 - 50.0;
        (0..256).for_each(|at| file.write_all(&value(at).to_le_bytes()).unwrap());
    }
    file.flush().unwrap();
    path
}

#[test]
fn an_input_that_becomes_shorter_is_named() {
    let place = Place::empty();
    let input = large_array(&place.input(), 150_000);
    let run = place.path("run");
    let job = mine_command(&input, &run, FLAGS).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let since = Instant::now();
    let begun = || {
        fs::read_dir(run.join("tmp")).is_ok_and(|mut entries| {
            entries.any(|entry| entry.is_ok_and(|entry| entry.metadata().is_ok_and(|meta| meta.len() > 1 << 20)))
        })
    };
    while !begun() {
        assert!(since.elapsed() < Duration::from_secs(60), "no vectors");
        std::thread::sleep(Duration::from_millis(1));
    }
    fs::OpenOptions::new().write(true).open(&input).unwrap().set_len(1 << 20).unwrap();
    let outcome: Outcome = job.wait_with_output().unwrap().into();
    assert!(matches!(outcome.code, Some(1 | 2)), "{outcome:?}");
    let said = outcome.said();
    assert!(said.contains("input.npy") && said.contains("remedy:"), "{said}");
}

//! A job that ends early, at any point and for any reason, goes on to the same bytes.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use batchmine::Job;
use batchmine::config::{Config, Settings, Width};
use batchmine::error::{Error, Kind};
use batchmine::run::Progress;
use batchmine::run::Run;
use batchmine::run::{Disk, Storage};
use serde_json::Value;

use super::command::{MADE, Place, assert_same, mine, mine_command, verify};
use super::dataset::Dataset;
use super::failing::{Blow, Failing};

pub const STAGES: [&str; 5] = ["vectors", "neighbors", "edges", "clusters", "batches"];

/// Enough rows for each stage to take a while.
pub fn large() -> Dataset {
    Dataset::planted(3000, 96, 31).with_text_ids().with_tasks(|row| ["a", "b", "c"][row * row % 7 % 3].into())
}

pub const LARGE: &str = "--task-column task --skip 10 --window 50 --cluster-size 16 --batch-size 64 --epochs 2 \
    --hard-negatives 3 --world-size 2 --rank-layout strided";

/// Starts the job and returns when the stage begins, or, with `false`, when it ended before.
pub fn start_until(stage: &str, input: &Path, run: &Path) -> (Child, bool) {
    let mut command = mine_command(input, run, &format!("{LARGE} --json"));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut events = BufReader::new(child.stdout.take().unwrap()).lines();
    let begun = events.any(|line| {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        event["event"] == "stage" && event["stage"] == stage
    });
    // The job goes on writing events: a thread reads them, so that the pipe neither fills nor breaks.
    std::thread::spawn(move || events.count());
    (child, begun)
}

fn kill(mut child: Child) -> ExitStatus {
    // The job may have ended by itself.
    let _ = child.kill();
    child.wait().unwrap()
}

/// A finished run that nothing disturbed.
fn undisturbed(place: &Place) -> PathBuf {
    let run = place.path("undisturbed");
    mine(&place.input(), &run, LARGE).ok();
    run
}

#[test]
fn killed_in_each_stage_it_goes_on_to_the_same_bytes() {
    let place = Place::with(&large());
    let reference = undisturbed(&place);
    let mut killed = 0;
    for stage in STAGES {
        let run = place.path(stage);
        let (child, begun) = start_until(stage, &place.input(), &run);
        assert!(begun, "no event says that {stage} begins");
        if !kill(child).success() {
            killed += 1;
            assert!(!run.join("_SUCCESS").exists(), "killed in {stage}, and yet marked as done");
        }
        mine(&place.input(), &run, LARGE).ok();
        assert_same(&run, &reference, &MADE);
        verify(&run).ok();
    }
    assert!(killed >= 4, "only {killed} of 5 jobs were killed in time");
}

#[test]
fn killed_at_any_time_again_and_again_it_goes_on_to_the_same_bytes() {
    let place = Place::with(&large());
    let begin = Instant::now();
    let reference = undisturbed(&place);
    let whole = begin.elapsed();
    for round in 0..3u32 {
        let run = place.path(&format!("run-{round}"));
        // Each attempt is given a little longer than the one before.
        for attempt in 1..=5u32 {
            let mut command = mine_command(&place.input(), &run, LARGE);
            let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(whole * (3 * attempt + round) / 24 + Duration::from_millis(1));
            kill(child);
        }
        mine(&place.input(), &run, LARGE).ok();
        assert_same(&run, &reference, &MADE);
    }
}

#[test]
fn interrupted_it_says_so_and_goes_on() {
    let place = Place::with(&large());
    let reference = undisturbed(&place);
    for stage in ["vectors", "neighbors"] {
        let run = place.path(stage);
        let (mut child, begun) = start_until(stage, &place.input(), &run);
        assert!(begun, "no event says that {stage} begins");
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(130), "interrupted in {stage}");
        assert!(!run.join("_SUCCESS").exists());
        mine(&place.input(), &run, LARGE).ok();
        assert_same(&run, &reference, &MADE);
    }
}

#[test]
fn a_folder_in_use_is_left_alone() {
    let place = Place::with(&large());
    let run = place.path("run");
    let silent = Progress::silent();
    let held = Run::open(&run, None, Arc::new(Disk), silent, Arc::new(AtomicBool::new(false))).unwrap();
    mine(&place.input(), &run, LARGE).fails(1, &["in use", "remedy:"]);
    drop(held);
    mine(&place.input(), &run, LARGE).ok();
}

/// The settings of a small job.
pub fn small_settings() -> Settings {
    Settings {
        task_column: Some("task".into()),
        skip: Some(4),
        window: Some(Width::Ranks(16)),
        cluster_size: Some(8),
        batch_size: Some(32),
        epochs: Some(2),
        hard_negatives: Some(2),
        threads: Some(2),
        ..Settings::default()
    }
}

/// A small job inside this process, on the given storage.
fn mine_on(storage: Arc<dyn Storage>, input: &Path, run: &Path, interrupt: bool) -> Result<(), Error> {
    let config = Config::new(vec![input.display().to_string()], small_settings())?;
    let run = Run::open(run, None, storage, Progress::silent(), Arc::new(AtomicBool::new(interrupt)))?;
    Job::open(config)?.run(&run, false).map(drop)
}

fn small() -> Dataset {
    Dataset { files: 2, row_group_rows: 40, ..Dataset::planted(150, 16, 32) }
        .with_text_ids()
        .with_tasks(|row| ["a", "b"][row / 100].into())
}

/// Lets the storage fail at calls spread over the whole job, goes on with the disk, compares bytes.
fn fails_everywhere(blow: Blow) {
    let place = Place::with(&small());
    let (input, reference) = (place.input(), place.path("reference"));
    let counting = Failing::at(u64::MAX, blow);
    mine_on(Arc::new(counting.clone()), &input, &reference, false).unwrap();
    let calls = counting.calls();
    assert!(calls > 20, "{calls} calls: the job does not write through its storage");
    let mut failures = 0;
    for at in (0..calls).step_by((calls as usize).div_ceil(60)) {
        let run = place.path(&format!("run-{at}"));
        let storage = Failing::at(at, blow);
        // Threads may order a few calls differently: a job may need fewer than `at`.
        if let Err(error) = mine_on(Arc::new(storage.clone()), &input, &run, false) {
            failures += 1;
            assert_eq!(error.kind(), Kind::Runtime, "call {at}: {error}");
            assert!(error.to_string().contains("says the test") || error.to_string().contains("dead"), "{error}");
            assert!(!run.join("_SUCCESS").exists() || at + 3 >= calls, "call {at} failed, and yet marked as done");
        }
        if blow == Blow::PowerLoss {
            storage.lose_unsynced();
        }
        mine_on(Arc::new(Disk), &input, &run, false).unwrap_or_else(|error| panic!("after call {at}: {error}"));
        assert_same(&run, &reference, &MADE);
        std::fs::remove_dir_all(&run).unwrap();
    }
    assert!(failures > 15, "only {failures} jobs failed");
}

#[test]
fn a_failed_call_costs_no_finished_work() {
    fails_everywhere(Blow::Error);
}

#[test]
fn a_torn_write_is_never_taken_for_a_part() {
    fails_everywhere(Blow::Tear);
}

#[test]
fn a_kill_at_any_call_loses_nothing() {
    fails_everywhere(Blow::Kill);
}

#[test]
fn a_power_loss_at_any_call_loses_nothing() {
    fails_everywhere(Blow::PowerLoss);
}

#[test]
fn a_request_to_stop_is_heeded_inside_the_library() {
    let place = Place::with(&small());
    let (run, reference) = (place.path("run"), place.path("reference"));
    let error = mine_on(Arc::new(Disk), &place.input(), &run, true).unwrap_err();
    assert_eq!(error.exit_code(), 130, "{error}");
    mine_on(Arc::new(Disk), &place.input(), &run, false).unwrap();
    mine_on(Arc::new(Disk), &place.input(), &reference, false).unwrap();
    assert_same(&run, &reference, &MADE);
}

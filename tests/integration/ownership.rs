//! Whose a folder is: one process in a run folder, one run in a work folder, nothing deleted in anybody else's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use batchmine::Job;
use batchmine::config::{Config, Settings, Width};
use batchmine::run::{Disk, Manifest, Progress, Run};

use super::command::{MADE, Outcome, Place, assert_same, call, files, mine, mine_command, skipped, verify};
use super::dataset::Dataset;
use super::failing::{Blow, Failing};

const FLAGS: &str = "--skip 4 --window 16 --cluster-size 8 --batch-size 32";
const STAGES: [&str; 5] = ["vectors", "neighbors", "edges", "clusters", "batches"];

fn place() -> Place {
    Place::with(&Dataset::planted(240, 16, 31).with_text_ids())
}

fn with_work(place: &Place, run: &Path, work: &Path) -> Outcome {
    mine(&place.input(), run, &format!("{FLAGS} --work {}", work.display()))
}

/// The only entry of a folder.
fn only_entry(folder: &Path) -> PathBuf {
    let mut entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let entry = entries.next().expect("an entry");
    assert_eq!(entries.next(), None, "one entry in {}", folder.display());
    entry
}

/// Holds a run folder as a job does, in this process.
fn hold(run: &Path) -> Run {
    Run::open(run, None, Arc::new(Disk), Progress::silent(), Arc::new(AtomicBool::new(false))).unwrap()
}

#[test]
fn the_second_process_is_refused_with_the_first_ones_number_and_machine() {
    let place = place();
    let run = place.path("run");
    mine(&place.input(), &run, FLAGS).ok();
    let link = place.path("link");
    std::os::unix::fs::symlink(&run, &link).unwrap();
    let held = hold(&run);
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let holder = format!("process {} on {}", std::process::id(), host.trim());
    for path in [&run, &link] {
        mine(&place.input(), path, FLAGS).fails(1, &["the folder is in use", &holder, "wait for the other job"]);
        call(["clean", path.to_str().unwrap()]).fails(1, &["in use", &holder]);
        verify(path).fails(1, &["in use", &holder]);
    }
    match mounted(&run, &place.path("mount"), false) {
        Some(mount) => mine(&place.input(), &mount.0, FLAGS).fails(1, &["in use", &holder]),
        None => return skipped("the lock through another mount: this process may not mount"),
    };
    drop(held);
    assert_eq!(fs::read_to_string(run.join("lock")).unwrap(), "", "nobody is here");
    mine(&place.input(), &run, FLAGS).ok();
    verify(&run).ok();
}

/// Starts a job and waits until its vectors are made.
fn started(place: &Place, run: &Path, flags: &str) -> Child {
    let mut job = mine_command(&place.input(), run, flags).stderr(Stdio::null()).spawn().unwrap();
    let since = Instant::now();
    while fs::read_dir(run.join("vectors")).map_or(0, Iterator::count) < 3 {
        assert!(since.elapsed() < Duration::from_secs(60), "no vectors");
        assert_eq!(job.try_wait().unwrap(), None, "the job ended early");
        std::thread::sleep(Duration::from_millis(2));
    }
    job
}

#[test]
fn the_lock_of_a_killed_process_is_taken_over() {
    let place = Place::with(&Dataset::planted(6000, 256, 3));
    let (run, reference) = (place.path("run"), place.path("reference"));
    let mut job = started(&place, &run, FLAGS);
    mine(&place.input(), &run, FLAGS).fails(1, &["in use", &format!("process {} on", job.id())]);
    job.kill().unwrap();
    job.wait().unwrap();
    mine(&place.input(), &run, FLAGS).ok();
    mine(&place.input(), &reference, FLAGS).ok();
    assert_same(&run, &reference, &MADE);
}

#[test]
fn a_folder_that_is_removed_under_a_job_is_named() {
    let place = Place::with(&Dataset::planted(6000, 256, 3));
    let run = place.path("run");
    let job = mine_command(&place.input(), &run, FLAGS).stderr(Stdio::piped()).spawn().unwrap();
    let since = Instant::now();
    while fs::read_dir(run.join("vectors")).map_or(0, Iterator::count) < 3 {
        assert!(since.elapsed() < Duration::from_secs(60), "no vectors");
        std::thread::sleep(Duration::from_millis(2));
    }
    // At once: in the midst of a removal it is a single file that is missing.
    fs::rename(&run, place.path("elsewhere")).unwrap();
    let outcome: Outcome = job.wait_with_output().unwrap().into();
    outcome.fails(1, &["the run folder was removed or replaced while the job ran", "remedy:"]);
}

/// The settings of `FLAGS`.
fn config(place: &Place) -> Config {
    let settings = Settings {
        skip: Some(4),
        window: Some(Width::Ranks(16)),
        cluster_size: Some(8),
        batch_size: Some(32),
        ..Settings::default()
    };
    Config::new(vec![place.input().display().to_string()], settings).unwrap()
}

/// Mounts a folder a second time; `None` where this process may not.
fn mounted(folder: &Path, at: &Path, read_only: bool) -> Option<Mount> {
    fs::create_dir(at).unwrap();
    let mount = |words: &[&str], paths: &[&Path]| {
        Command::new("mount")
            .args(words)
            .args(paths)
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let mounted = mount(&["--bind"], &[folder, at]).then(|| Mount(at.to_owned()))?;
    (!read_only || mount(&["-o", "remount,bind,ro"], &[at])).then_some(mounted)
}

/// Unmounts what was mounted.
struct Mount(PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        Command::new("umount").arg(&self.0).status().expect("umount");
    }
}

#[test]
fn a_finished_run_can_be_asked_for_where_nothing_can_be_written() {
    let place = place();
    let (run, work) = (place.path("run"), place.path("work"));
    with_work(&place, &run, &work).ok();
    // Every call to the disk fails.
    let disk = Failing::at(0, Blow::Kill);
    let job = Job::open(config(&place)).unwrap();
    let silent = Progress::silent();
    let opened = Run::open(&run, None, Arc::new(disk.clone()), silent, Arc::new(AtomicBool::new(false))).unwrap();
    assert!(job.run(&opened, false).unwrap().was_finished);
    assert_eq!(disk.calls(), 0, "calls that would write");
    drop(opened);
    let Some(mount) = mounted(&run, &place.path("mount"), true) else {
        return skipped("a finished run on a read-only disk: this process may not mount");
    };
    // Its work folder knows the run by its own path.
    let plain = place.path("plain");
    mine(&place.input(), &plain, FLAGS).ok();
    let read_only = mounted(&plain, &place.path("plain-mount"), true).unwrap();
    assert!(fs::write(read_only.0.join("x"), "").is_err(), "read-only");
    let said = mine(&place.input(), &read_only.0, FLAGS).ok().stderr;
    assert!(said.contains("finished already"), "{said}");
    verify(&read_only.0).ok();
    drop((mount, read_only));
}

#[test]
fn a_mark_of_success_that_may_not_last_is_removed() {
    let place = place();
    let mine_on = |run: &Path, disk: &Failing| {
        let (job, flag) = (Job::open(config(&place)).unwrap(), Arc::new(AtomicBool::new(false)));
        let opened = Run::open(run, None, Arc::new(disk.clone()), Progress::silent(), flag).unwrap();
        job.run(&opened, false)
    };
    let counted = Failing::at(u64::MAX, Blow::Error);
    mine_on(&place.path("counted"), &counted).unwrap();
    // The last calls of a job make the mark: created, written, synced, renamed, its folder synced.
    for before_end in 1..=4 {
        let run = place.path(&format!("run-{before_end}"));
        mine_on(&run, &Failing::at(counted.calls() - before_end, Blow::Error)).unwrap_err();
        assert!(!run.join("_SUCCESS").exists(), "{before_end} calls before the end");
        mine(&place.input(), &run, FLAGS).ok();
        verify(&run).ok();
    }
}

#[test]
fn inputs_are_never_written() {
    let place = place();
    let shards: Vec<PathBuf> = fs::read_dir(place.input()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let state = || {
        let of = |path: &PathBuf| (fs::read(path).unwrap(), fs::metadata(path).unwrap().modified().unwrap());
        shards.iter().map(of).collect::<Vec<_>>()
    };
    let before = state();
    let run = place.path("run");
    mine(&place.input(), &run, FLAGS).ok();
    mine(&place.input(), &run, &format!("{FLAGS} --seed 5 --replace")).ok();
    assert!(!shards.is_empty() && state() == before);
    assert_eq!(fs::read_dir(place.input()).unwrap().count(), shards.len());
}

#[test]
fn a_work_folder_has_one_run() {
    let place = place();
    let (run, work, plain) = (place.path("run"), place.path("work"), place.path("plain"));
    with_work(&place, &run, &work).ok();
    mine(&place.input(), &plain, FLAGS).ok();
    let own = only_entry(&work);
    let before = files(&own, &STAGES[..4]);

    // A new run in the same place, as of another machine that shares the work folder.
    let kept = place.path("kept");
    fs::rename(&run, &kept).unwrap();
    with_work(&place, &run, &work).refuses(&["the work folder is not this run's", "the mark of another run"]);
    assert!(files(&own, &STAGES[..4]) == before, "the first run's files are as they were");

    // The run was only moved: it is the owner wherever it is.
    verify(&kept).ok();
    mine(&place.input(), &kept, &format!("{FLAGS} --seed 1 --replace")).ok();
    mine(&place.input(), &plain, &format!("{FLAGS} --seed 1 --replace")).ok();
    assert_same(&kept, &plain, &["batches"]);
    verify(&kept).ok();

    // A copy would delete the original's files.
    let copy = place.path("copy");
    assert!(Command::new("cp").arg("-r").args([&kept, &copy]).status().unwrap().success());
    mine(&place.input(), &copy, &format!("{FLAGS} --seed 2 --replace")).refuses(&["a copy of the run in"]);
    assert!(files(&own, &STAGES[..4]) == before);

    fs::remove_dir_all(&work).unwrap();
    mine(&place.input(), &kept, &format!("{FLAGS} --seed 1")).refuses(&["the run's work folder is gone", "--work DIR"]);
}

#[test]
fn what_was_there_before_is_no_work_folder() {
    let place = place();
    let (run, work) = (place.path("run"), place.path("work"));
    with_work(&place, &run, &work).ok();
    let own = only_entry(&work);
    fs::remove_dir_all(&run).unwrap();
    fs::remove_dir_all(&own).unwrap();
    fs::create_dir_all(own.join("vectors")).unwrap();
    fs::write(own.join("vectors/thesis.tex"), "years of work").unwrap();
    with_work(&place, &run, &work).refuses(&["the work folder is not this run's", "no mark of this run"]);
    assert_eq!(fs::read_to_string(own.join("vectors/thesis.tex")).unwrap(), "years of work");
}

#[test]
fn a_manifest_that_names_a_folder_of_others_deletes_nothing_there() {
    let place = place();
    let run = place.path("run");
    mine(&place.input(), &run, FLAGS).ok();
    let sound = Manifest::read(&run.join("manifest.json")).unwrap().unwrap();
    let victim = place.path("batchmine-victim");
    for folder in ["vectors", "neighbors", "edges", "clusters", "tmp"] {
        fs::create_dir_all(victim.join(folder)).unwrap();
        fs::write(victim.join(folder).join("precious"), folder).unwrap();
    }
    let inside = place.path("batchmine-victim/../batchmine-victim");
    let new = place.path("batchmine-new");
    let relative = PathBuf::from("batchmine-victim");
    let works = [PathBuf::from("/"), "/etc".into(), relative, victim.clone(), inside, new.clone(), place.path("run")];
    for work in works {
        let hostile = Manifest { work: Some(work.clone()), ..sound.clone() };
        fs::write(run.join("manifest.json"), hostile.to_bytes()).unwrap();
        for flags in ["", "--replace", "--seed 7 --replace"] {
            let outcome = mine(&place.input(), &run, &format!("{FLAGS} {flags}"));
            outcome.refuses(&["work folder"]);
        }
        let outcome = call(["clean", run.to_str().unwrap()]);
        assert!(matches!(outcome.code, Some(1 | 2)), "{work:?}: {outcome:?}");
        for folder in ["vectors", "neighbors", "edges", "clusters", "tmp"] {
            assert_eq!(fs::read_to_string(victim.join(folder).join("precious")).unwrap(), folder, "{work:?}");
        }
        assert!(!Path::new("/etc/vectors").exists() && !Path::new("/vectors").exists() && !new.exists());
    }
    fs::write(run.join("manifest.json"), sound.to_bytes()).unwrap();
    verify(&run).ok();
}

#[test]
fn nothing_is_deleted_through_a_link() {
    let place = place();
    let (run, others) = (place.path("run"), place.path("others"));
    fs::create_dir_all(&others).unwrap();
    fs::write(others.join("photo.jpg"), "a photo").unwrap();
    mine(&place.input(), &run, FLAGS).ok();
    fs::remove_dir_all(run.join("edges")).unwrap();
    std::os::unix::fs::symlink(&others, run.join("edges")).unwrap();
    mine(&place.input(), &run, &format!("{FLAGS} --seed 3 --replace"));
    assert_eq!(fs::read_to_string(others.join("photo.jpg")).unwrap(), "a photo");
}

#[test]
fn a_manifest_with_any_other_key_is_damaged() {
    let place = place();
    let run = place.path("run");
    mine(&place.input(), &run, FLAGS).ok();
    let path = run.join("manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("\"work\": null"), "the key that a reader could miss");
    for (from, to) in [
        ("\"work\": null", "\"wosk\": null"),
        ("\"facts\"", "\"fasts\""),
        ("\"cleaned\": false", "\"cleaned\": false, \"more\": null"),
        ("\"fingerprint\": \"", "\"fingerprint\": \"0"),
    ] {
        assert!(text.contains(from), "{from}");
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        verify(&run).fails(1, &["the run folder's manifest is damaged", "manifest.json"]);
    }
    // A fingerprint that is not that of its settings, in a manifest that is sound by its checksum.
    fs::write(&path, &text).unwrap();
    let mut manifest = Manifest::read(&path).unwrap().unwrap();
    for record in manifest.stages.values_mut() {
        record.fingerprint = "0123456789abcdef".into();
    }
    fs::write(&path, manifest.to_bytes()).unwrap();
    verify(&run).fails(1, &["manifest is damaged", "0123456789abcdef"]);
}

//! `clean`: what it deletes, what works on, and that nothing is lost whenever it is killed.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::command::{MADE, Outcome, Place, assert_same, batchmine, files, mine, verify};
use super::dataset::Dataset;

const FLAGS: &str = "--task-column task --skip 4 --window 16 --cluster-size 8 --batch-size 32";
const STAGES: [&str; 5] = ["vectors", "neighbors", "edges", "clusters", "batches"];

fn mined(flags: &str) -> (Place, PathBuf) {
    let data = Dataset::planted(240, 16, 47).with_text_ids().with_tasks(|row| ["a", "b"][row % 2].into());
    let place = Place::with(&data);
    let run = place.path("run");
    mine(&place.input(), &run, &format!("{FLAGS} {flags}")).ok();
    (place, run)
}

fn call(verb: &str, run: &Path, flags: &str) -> Outcome {
    let mut command = batchmine();
    command.arg(verb).arg(run).args(flags.split_whitespace()).output().unwrap().into()
}

fn bytes(files: &[(String, Vec<u8>)]) -> usize {
    files.iter().map(|(_, bytes)| bytes.len()).sum()
}

#[test]
fn the_table_stays_and_the_rest_says_what_it_cannot_do() {
    let (place, run) = mined("");
    let before = files(&run, &STAGES);
    let told: Value = serde_json::from_str(&call("clean", &run, "--dry-run --json").ok().stdout).unwrap();
    assert!(files(&run, &STAGES) == before, "a dry run deletes nothing");

    let said = call("clean", &run, "").ok().stderr;
    assert!(said.contains("stay") && said.contains("`report`") && said.contains("`export`"), "{said}");
    let left = files(&run, &STAGES);
    let names: Vec<&str> = left.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["batches/part-00000-00000.parquet", "vectors/tasks.col"]);
    assert_eq!(told["bytes"].as_u64().unwrap() as usize, bytes(&before) - bytes(&left));
    assert_eq!(told["files"].as_u64().unwrap() as usize, before.len() - left.len());

    let said = verify(&run).ok().stdout;
    assert!(said.contains("batches by themselves") && said.contains("not checked:"), "{said}");
    call("report", &run, "").refuses(&["cleaned", "--replace"]);
    call("inspect", &run, "--rows 0..1").refuses(&["cleaned", "--replace"]);
    let said = call("inspect", &run, "").ok().stdout;
    assert!(said.contains("cleaned"), "{said}");
    let said = mine(&place.input(), &run, FLAGS).ok().stderr;
    assert!(said.contains("finished already"), "{said}");
    assert!(files(&run, &STAGES) == left, "a finished job is not made again");
    let said = call("clean", &run, "").ok().stderr;
    assert!(said.contains("nothing to delete"), "{said}");
}

#[test]
fn what_was_cleaned_is_made_again_where_it_is_needed() {
    let (place, run) = mined("");
    let fresh = place.path("fresh");
    let before = files(&run, &STAGES);
    call("clean", &run, "").ok();
    let refused = mine(&place.input(), &run, &format!("{FLAGS} --seed 7")).refuses(&["seed: 0 → 7", "--replace"]);
    assert!(refused.stderr.contains("touches vectors, neighbors, edges, clusters, batches"), "{}", refused.stderr);
    let said = mine(&place.input(), &run, &format!("{FLAGS} --seed 7 --replace")).ok().stderr;
    assert!(said.contains("were cleaned, and are made again"), "{said}");
    mine(&place.input(), &fresh, &format!("{FLAGS} --seed 7")).ok();
    assert_same(&run, &fresh, &MADE);
    verify(&run).ok();
    // With the same settings only what was cleaned is made.
    mine(&place.input(), &run, &format!("{FLAGS} --replace")).ok();
    call("clean", &run, "").ok();
    mine(&place.input(), &run, &format!("{FLAGS} --replace")).ok();
    assert!(files(&run, &STAGES) == before);
    call("report", &run, "").ok();
}

#[test]
fn stages_can_be_kept() {
    let (place, run) = mined("");
    call("clean", &run, "--keep vectors --keep neighbors,clusters").ok();
    assert_eq!(files(&run, &["edges"]).len(), 0);
    assert!(files(&run, &["neighbors"]).len() > 1 && files(&run, &["clusters"]).len() == 1);
    let said = verify(&run).ok().stdout;
    assert!(said.contains("neighbor lists equal brute force") && said.contains("the edges were cleaned"), "{said}");
    call("report", &run, "").ok();
    call("clean", &run, "--keep batches").fails(2, &["batches"]);
    drop(place);
}

#[test]
fn a_clean_that_was_killed_is_finished_by_the_next_opening() {
    let (place, run) = mined("");
    let before = files(&run, &STAGES);
    call("clean", &run, "").ok();
    // As if it had been killed after the manifest, before the files.
    for (name, bytes) in before.iter().filter(|(name, _)| name.starts_with("vectors/") || name.starts_with("edges/")) {
        fs::write(run.join(name), bytes).unwrap();
    }
    verify(&run).ok();
    mine(&place.input(), &run, FLAGS).ok();
    assert_eq!(files(&run, &["vectors", "edges"]).len(), 1, "only the tasks stay");
}

#[test]
fn an_unfinished_run_is_not_cleaned_and_work_folders_are() {
    let (place, run) = mined("");
    let before = files(&run, &STAGES);
    fs::remove_file(run.join("_SUCCESS")).unwrap();
    call("clean", &run, "").refuses(&["not finished", "mine"]);
    assert!(files(&run, &STAGES) == before);

    let (other, work) = (place.path("other"), place.path("work"));
    mine(&place.input(), &other, &format!("{FLAGS} --work {}", work.display())).ok();
    let own = fs::read_dir(&work).unwrap().next().unwrap().unwrap().path();
    call("clean", &other, "").ok();
    assert_eq!(files(&own, &["vectors", "neighbors", "edges", "clusters"]).len(), 1);
    verify(&other).ok();
}

#[test]
fn a_table_that_was_changed_is_found_without_the_vectors() {
    let (_place, run) = mined("");
    call("clean", &run, "").ok();
    let path = run.join("batches/part-00000-00000.parquet");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    verify(&run).fails(3, &["part-00000-00000.parquet"]);
}

#[test]
fn files_that_are_not_the_runs_are_named_everywhere_and_deleted_in_stages_only() {
    let (place, run) = mined("");
    let strangers = ["notes.txt", "edges/run-7.edg", "batches/more.parquet"];
    strangers.iter().for_each(|name| fs::write(run.join(name), "mine").unwrap());
    fs::create_dir(run.join("table")).unwrap();
    fs::write(run.join("table/of-mine.txt"), "mine").unwrap();
    let said = verify(&run).fails(3, &["notes.txt", "run-7.edg", "more.parquet", "move the files"]).said();
    assert!(!said.contains("of-mine"), "{said}");
    mine(&place.input(), &run, FLAGS).ok();
    assert!(run.join("notes.txt").exists() && run.join("table/of-mine.txt").exists());
    assert!(!run.join("edges/run-7.edg").exists() && !run.join("batches/more.parquet").exists());
    call("report", &run, "").ok();
    verify(&run).fails(3, &["notes.txt"]);
    fs::remove_file(run.join("notes.txt")).unwrap();
    verify(&run).ok();
}

#[test]
fn an_unfinished_run_is_told_to_go_on() {
    let (_place, run) = mined("");
    fs::remove_file(run.join("_SUCCESS")).unwrap();
    let said = verify(&run).fails(3, &["not finished", "run the same `mine` command again to finish"]).stderr;
    assert!(!said.contains("delete"), "{said}");
}

#[cfg(feature = "export")]
#[test]
fn an_export_needs_the_table_and_the_source_alone() {
    let data = Dataset::planted(240, 16, 48)
        .with_text("query", |row| Some(format!("question {row}")))
        .with_text("positive", |row| Some(format!("answer {row}")));
    let place = Place::with(&data);
    let run = place.path("run");
    let flags = "--skip 4 --window 16 --cluster-size 8 --batch-size 32 --hard-negatives 2";
    mine(&place.input(), &run, flags).ok();
    let export = |out: &str, flags: &str| super::command::export(&run, "tevatron", &place.path(out), flags);
    export("before", "").ok();
    call("clean", &run, "").ok();
    // The files are elsewhere, and were touched: the next call of `mine` says where.
    let moved = place.path("moved");
    fs::rename(place.input(), &moved).unwrap();
    export("gone", "").refuses(&["is gone", "its new place"]);
    mine(&moved, &run, flags).ok();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(100);
    let file = fs::File::options().append(true).open(moved.join("part-0.parquet")).unwrap();
    file.set_modified(later).unwrap();
    export("after", "").ok();
    let read = |name: &str| fs::read(place.path(name).join("train.jsonl")).unwrap();
    assert!(read("before") == read("after"));
    // An export inside the run folder is no stranger there.
    super::command::export(&run, "swift", &run.join("swift"), "").ok();
    verify(&run).ok();
}

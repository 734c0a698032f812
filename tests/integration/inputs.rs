//! An input is what it contains: files that were touched, moved or copied are the same, changed ones are others.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::command::{MADE, Outcome, Place, assert_same, batchmine, files, mine, verify};
use super::dataset::{Dataset, Float, npy};

const FLAGS: &str = "--skip 4 --window 16 --cluster-size 8 --batch-size 32";
const STAGES: [&str; 5] = ["vectors", "neighbors", "edges", "clusters", "batches"];

fn data() -> Dataset {
    Dataset { files: 2, ..Dataset::planted(200, 16, 43) }
}

fn mined() -> (Place, PathBuf) {
    let place = Place::with(&data());
    let run = place.path("run");
    mine(&place.input(), &run, FLAGS).ok();
    (place, run)
}

/// A file as if it had been written later.
fn touch(path: &Path) {
    let later = SystemTime::now() + Duration::from_secs(100);
    File::options().append(true).open(path).unwrap().set_modified(later).unwrap();
}

/// Changes one byte in the middle; size and footer stay.
fn change(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
    touch(path);
}

/// Nothing was mined, and the manifest knows the new place: the next call need not look at contents.
#[track_caller]
fn assert_found(input: &Path, run: &Path, before: &[(String, Vec<u8>)]) {
    let said = mine(input, run, FLAGS).ok().stderr;
    assert!(said.contains("their content is compared") && said.contains("finished already"), "{said}");
    let said = mine(input, run, FLAGS).ok().stderr;
    assert!(!said.contains("content is compared") && said.contains("finished already"), "{said}");
    assert!(files(run, &STAGES) == before);
    verify(run).ok();
}

#[test]
fn touched_moved_and_copied_inputs_are_the_same() {
    let (place, run) = mined();
    let before = files(&run, &STAGES);
    touch(&place.input().join("part-1.parquet"));
    assert_found(&place.input(), &run, &before);

    let moved = place.path("parent/elsewhere");
    fs::create_dir_all(moved.parent().unwrap()).unwrap();
    fs::rename(place.input(), &moved).unwrap();
    assert_found(&moved, &run, &before);

    let copy = place.path("copy");
    fs::create_dir(&copy).unwrap();
    for (from, to) in [("part-0.parquet", "a.parquet"), ("part-1.parquet", "b.parquet")] {
        fs::copy(moved.join(from), copy.join(to)).unwrap();
    }
    fs::remove_dir_all(&moved).unwrap();
    assert_found(&copy, &run, &before);
}

#[test]
fn the_table_does_not_depend_on_places_and_times() {
    let (place, run) = mined();
    let copy = place.path("copy");
    data().write(&copy);
    touch(&copy.join("part-0.parquet"));
    mine(&copy, &place.path("other"), FLAGS).ok();
    assert_same(&run, &place.path("other"), &MADE);
}

#[test]
fn another_content_under_the_same_footer_is_another_input() {
    let (place, run) = mined();
    let before = files(&run, &STAGES);
    change(&place.input().join("part-1.parquet"));
    let said = mine(&place.input(), &run, FLAGS).refuses(&["file part-1.parquet:", "with another content"]);
    assert!(!said.stderr.contains("part-0.parquet") && !said.stderr.contains("modified_ns"), "{}", said.stderr);
    assert!(files(&run, &STAGES) == before);
}

#[test]
fn the_order_of_files_counts() {
    let (place, run) = mined();
    let call = |first: &str, second: &str| -> Outcome {
        let mut command = batchmine();
        command.arg("mine").args([first, second].map(|name| place.input().join(name)));
        command.arg("--out").arg(&run).args(FLAGS.split(' ')).output().unwrap().into()
    };
    call("part-0.parquet", "part-1.parquet").ok();
    call("part-1.parquet", "part-0.parquet").refuses(&["the order of the input files", "it is part-1.parquet now"]);
}

#[test]
fn a_changed_list_of_many_files_is_a_count() {
    let place = Place::with(&Dataset { files: 20, ..data() });
    let run = place.path("run");
    mine(&place.input(), &run, FLAGS).ok();
    Dataset { files: 20, ..Dataset::planted(220, 16, 44) }.write(&place.input());
    let said = mine(&place.input(), &run, FLAGS).refuses(&["bytes before,", "and 17 more of 20 input files"]);
    assert!(!said.stderr.contains('{'), "no JSON in:\n{}", said.stderr);
    fs::remove_file(place.input().join("part-19.parquet")).unwrap();
    mine(&place.input(), &run, FLAGS).refuses(&["input files: 20 before, 19 now"]);
}

#[test]
fn both_sides_of_arrays_are_looked_at() {
    let place = Place::empty();
    fs::create_dir(place.input()).unwrap();
    let values = |side: usize| (0..120 * 8).map(move |at| ((at * 37 + side * 11) % 101) as f64 - 50.0);
    let write = |name: &str, side| fs::write(place.input().join(name), npy(Float::F32, &[120, 8], false, values(side)));
    write("queries.npy", 0).unwrap();
    write("positives.npy", 1).unwrap();
    let run = place.path("run");
    mine(&place.input(), &run, FLAGS).ok();
    touch(&place.input().join("positives.npy"));
    let said = mine(&place.input(), &run, FLAGS).ok().stderr;
    assert!(said.contains("finished already"), "{said}");
    // The header is the same for any content of a shape.
    for (name, side) in [("positives.npy", 2), ("queries.npy", 3)] {
        let before = fs::read(place.input().join(name)).unwrap();
        write(name, side).unwrap();
        touch(&place.input().join(name));
        mine(&place.input(), &run, FLAGS).refuses(&[name, "with another content"]);
        fs::write(place.input().join(name), before).unwrap();
    }
    mine(&place.input(), &run, FLAGS).ok();
}

//! A run folder that exists: other settings, other inputs, files that are gone.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use batchmine::run::{Manifest, Stage};

use super::command::{MADE, Place, assert_same, files, mine, verify};
use super::dataset::Dataset;

const FLAGS: [&str; 4] = ["--skip 4", "--window 16", "--cluster-size 8", "--batch-size 32"];

/// The flags, with some of them changed or added.
fn with(changes: &[&str]) -> String {
    let name = |flag: &str| flag.split(' ').next().unwrap().to_owned();
    let changed = |own: &&str| changes.iter().any(|change| name(change) == name(own));
    let kept = FLAGS.into_iter().filter(|own| !changed(own));
    kept.chain(changes.iter().copied()).collect::<Vec<_>>().join(" ")
}

fn flags() -> String {
    FLAGS.join(" ")
}

fn data() -> Dataset {
    Dataset::planted(300, 32, 41).with_text_ids()
}

/// What changes when a stage is made again, even to the same bytes.
fn stamps(run: &Path, stages: &[&str]) -> Vec<(String, u64, i64, i64)> {
    let stamp = |(name, _): (String, Vec<u8>)| {
        let meta = fs::metadata(run.join(&name)).unwrap();
        (name, meta.ino(), meta.mtime(), meta.mtime_nsec())
    };
    files(run, stages).into_iter().map(stamp).collect()
}

#[test]
fn other_settings_are_refused_and_then_replaced_from_the_first_touched_stage() {
    let place = Place::with(&data());
    let all = ["vectors", "neighbors", "edges", "clusters", "batches"];
    // What to change, the setting that is named, and how many stages are kept.
    let changes: [(&[&str], &str, usize); 13] = [
        (&["--cluster-size 4"], "cluster-size", 3),
        // Half of a batch: then the edges are mutual ones.
        (&["--cluster-size 16"], "edges", 2),
        (&["--batch-size 64"], "batch-size", 3),
        (&["--epochs 3"], "epochs", 4),
        (&["--seed 5"], "seed", 4),
        (&["--hard-negatives 3"], "hard-negatives", 4),
        (&["--world-size 2"], "world-size", 4),
        (&["--rank-layout strided"], "rank-layout", 4),
        (&["--edges mutual"], "edges", 2),
        (&["--relative-margin 0.1"], "relative-margin", 2),
        (&["--max-score 0.9", "--min-score 0.1"], "min-score", 2),
        // The same ranks are kept, only other ones of them are skipped.
        (&["--skip 8", "--window 12"], "skip", 2),
        (&["--window 20"], "window", 1),
    ];
    for (number, (change, setting, first)) in changes.into_iter().enumerate() {
        let (run, fresh) = (place.path(&format!("run-{number}")), place.path(&format!("fresh-{number}")));
        let (kept, touched) = all.split_at(first);
        let changed = with(change);
        mine(&place.input(), &run, &flags()).ok();
        let (before, old) = (stamps(&run, kept), files(&run, &MADE));

        let refused = mine(&place.input(), &run, &changed).refuses(&[setting, "--replace"]);
        for stage in touched {
            assert!(refused.stderr.contains(stage), "{changed} touches {stage}:\n{}", refused.stderr);
        }
        assert!(old == files(&run, &MADE) && run.join("_SUCCESS").exists(), "a refusal changes nothing");

        mine(&place.input(), &run, &format!("{changed} --replace")).ok();
        assert_eq!(before, stamps(&run, kept), "{changed} must not redo {kept:?}");
        mine(&place.input(), &fresh, &changed).ok();
        assert_same(&run, &fresh, &MADE);
        verify(&run).ok();
    }
}

#[test]
fn resources_are_no_settings() {
    let place = Place::with(&data());
    let run = place.path("run");
    mine(&place.input(), &run, &flags()).ok();
    let before = stamps(&run, &MADE);
    mine(&place.input(), &run, &with(&["--threads 1"])).ok();
    mine(&place.input(), &run, &with(&["--memory 3GiB"])).ok();
    assert_eq!(before, stamps(&run, &MADE), "threads and memory change no result, so nothing is made again");
}

#[test]
fn other_inputs_are_refused() {
    let place = Place::with(&data());
    let (run, fresh) = (place.path("run"), place.path("fresh"));
    mine(&place.input(), &run, &flags()).ok();
    Dataset::planted(300, 32, 42).with_text_ids().write(&place.input());
    mine(&place.input(), &run, &flags()).refuses(&["--replace", "vectors"]);
    mine(&place.input(), &run, &with(&["--replace"])).ok();
    mine(&place.input(), &fresh, &flags()).ok();
    assert_same(&run, &fresh, &MADE);
    // One file more is another input, too.
    fs::copy(place.input().join("part-0.parquet"), place.input().join("part-1.parquet")).unwrap();
    mine(&place.input(), &run, &flags()).refuses(&["--replace"]);
}

#[test]
fn files_that_are_gone_or_cut_are_made_again() {
    let place = Place::with(&data());
    let (run, reference) = (place.path("run"), place.path("reference"));
    mine(&place.input(), &run, &flags()).ok();
    mine(&place.input(), &reference, &flags()).ok();
    let names: Vec<String> =
        files(&run, &["vectors", "neighbors", "edges", "clusters", "batches"]).into_iter().map(|file| file.0).collect();
    for name in names {
        for cut in [false, true] {
            let path = run.join(&name);
            if cut {
                let length = fs::metadata(&path).unwrap().len();
                fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 1).unwrap();
            } else {
                fs::remove_file(&path).unwrap();
            }
            mine(&place.input(), &run, &flags()).ok();
            assert_same(&run, &reference, &["vectors", "neighbors", "edges", "clusters", "batches"]);
            assert!(run.join("_SUCCESS").exists(), "done again after {name}");
        }
    }
    verify(&run).ok();
}

#[test]
fn strangers_among_the_batches_are_swept_away() {
    let place = Place::with(&data());
    let run = place.path("run");
    mine(&place.input(), &run, &flags()).ok();
    // A reader that globs the folder would take this for a batch table.
    fs::write(run.join("batches/part-99999.parquet"), "half a file").unwrap();
    fs::write(run.join("tmp/part-00000.parquet"), "half a file").unwrap();
    mine(&place.input(), &run, &flags()).ok();
    assert!(!run.join("batches/part-99999.parquet").exists());
    assert!(!run.join("tmp/part-00000.parquet").exists());
}

#[test]
fn facts_of_another_version_are_refused_and_then_made_again() {
    let (place, all) = (Place::with(&data()), [Stage::Vectors, Stage::Neighbors, Stage::Edges, Stage::Batches]);
    let run = place.path("run");
    mine(&place.input(), &run, &flags()).ok();
    let made = files(&run, &MADE);
    for stage in all {
        let path = run.join("manifest.json");
        let mut manifest = Manifest::read(&path).unwrap().unwrap();
        manifest.stages.get_mut(&stage).unwrap().facts["later"] = 1.into();
        fs::write(&path, manifest.to_bytes()).unwrap();
        if [Stage::Vectors, Stage::Batches].contains(&stage) {
            mine(&place.input(), &run, &flags()).fails(1, &[stage.name(), "later", "--replace"]);
        }
        mine(&place.input(), &run, &format!("{} --replace", flags())).ok();
        verify(&run).ok();
        assert!(made == files(&run, &MADE));
    }
}

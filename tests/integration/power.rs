//! The power may go at any moment: whatever a disk then holds, the same call makes the right bytes of it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use batchmine::Job;
use batchmine::config::{Config, Settings};
use batchmine::error::Error;
use batchmine::measured::{Planted, Spectrum, Type, write_planted};
use batchmine::run::{Progress, Run, Storage};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::command::{MADE, Place, files};
use super::dataset::Dataset;
use super::power_disk::{Recorder, Unsynced};
use super::resume::small_settings;
use super::undisturbed::{Made, copy, count_of, figures};

type Call<'a> = &'a dyn Fn(Arc<dyn Storage>, &Path) -> Result<(), Error>;

/// A call that writes below a folder.
struct Written<'a> {
    name: &'a str,
    call: Call<'a>,
    /// What the call makes.
    made: &'a dyn Fn(&Path) -> Made,
    /// Files whose presence says that all is made.
    mark: &'a str,
}

fn text_data() -> Dataset {
    Dataset { files: 2, row_group_rows: 40, ..Dataset::planted(150, 16, 33) }
        .with_text_ids()
        .with_tasks(|row| ["a", "b"][row / 100].into())
        .with_text("query", |row| Some(format!("question {row}")))
        .with_text("positive", |row| Some(format!("answer {row}")))
}

/// A small job inside this process. Its run is the folder `run` below `root`.
fn mine_on(storage: Arc<dyn Storage>, input: &Path, root: &Path, seed: u64, replace: bool) -> Result<(), Error> {
    let settings = Settings { seed: Some(seed), ..small_settings() };
    let config = Config::new(vec![input.display().to_string()], settings)?;
    let go_on = Arc::new(AtomicBool::new(false));
    let run = Run::open(&root.join("run"), None, storage, Progress::silent(), go_on)?;
    Job::open(config)?.run(&run, replace).map(drop)
}

/// Rebuilds the disk after prefixes of what the call did to it, and repeats the call on each. `before`: what was there
/// before the call.
fn lose_power(place: &Place, before: Option<&Path>, written: &Written<'_>) {
    let root = |name: &str| {
        let root = place.path(name);
        match before {
            Some(before) => copy(before, &root),
            None => std::fs::create_dir(&root).unwrap(),
        }
        root.canonicalize().unwrap()
    };
    let made_before = before.map(|before| (written.made)(before));
    let whole = root("whole");
    let recorder = Recorder::new(&whole);
    (written.call)(Arc::new(recorder.clone()), &whole).unwrap();
    let expected = (written.made)(&whole);
    let steps = recorder.steps();
    // By the environment every prefix, with so many random losses of each.
    let losses = count_of("BATCHMINE_POWER_LOSSES", 0);
    let every = if losses > 0 { 1 } else { steps.div_ceil(24) };
    let variants = [Unsynced::All, Unsynced::None].into_iter().chain((0..losses.max(1)).map(|_| Unsynced::Some));
    let variants: Vec<Unsynced> = variants.collect();
    let (mut prefixes, mut rebuilt, mut marked) = (0, 0, 0);
    for steps in (0..=steps).rev().step_by(every) {
        prefixes += 1;
        for (variant, unsynced) in variants.iter().enumerate() {
            let mut chance = ChaCha8Rng::seed_from_u64((steps * 1000 + variant) as u64);
            let lost = place.path("lost");
            recorder.rebuild(&lost, steps, *unsynced, &mut chance);
            let lost = lost.canonicalize().unwrap();
            let what = format!("{}, {steps} steps, {unsynced:?} {variant}", written.name);
            if lost.join(written.mark).exists() {
                marked += 1;
                let made = (written.made)(&lost);
                // Files that were deleted may be there again: no manifest lists them.
                let holds = |all: &Made| all.iter().all(|file| made.contains(file));
                assert!(holds(&expected) || made_before.as_ref().is_some_and(holds), "{what}: marked, and not whole");
            }
            // What the disk really does is of no interest any more.
            let disk = Arc::new(Recorder::new(&lost));
            (written.call)(disk, &lost).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!((written.made)(&lost) == expected, "{what}: wrong bytes");
            std::fs::remove_dir_all(&lost).unwrap();
            rebuilt += 1;
        }
    }
    assert!(prefixes > 10 && marked > 0, "{prefixes} prefixes, {marked} marked as done");
    figures(&format!(
        "power losses in {}: {prefixes} prefixes of {steps} steps x {} = {rebuilt} disks, {marked} of them marked as \
         done; 0 refused, 0 with wrong bytes",
        written.name,
        variants.len()
    ));
}

fn run_made(root: &Path) -> Made {
    if root.join("run/batches").exists() { files(&root.join("run"), &MADE) } else { Made::new() }
}

#[test]
fn a_job_whose_power_goes_is_finished() {
    let place = Place::with(&text_data());
    let input = place.input();
    let call = |storage: Arc<dyn Storage>, root: &Path| mine_on(storage, &input, root, 0, false);
    lose_power(&place, None, &Written { name: "mine", call: &call, made: &run_made, mark: "run/_SUCCESS" });
}

#[test]
fn a_replacement_whose_power_goes_is_finished() {
    let place = Place::with(&text_data());
    let (input, before) = (place.input(), place.path("before"));
    mine_on(Arc::new(Recorder::new(&before)), &input, &before, 0, false).unwrap();
    let call = |storage: Arc<dyn Storage>, root: &Path| mine_on(storage, &input, root, 1, true);
    let written = Written { name: "mine --replace", call: &call, made: &run_made, mark: "run/_SUCCESS" };
    lose_power(&place, Some(&before), &written);
}

/// Every file of a folder but locks and hidden ones.
fn folder_made(folder: &Path) -> Made {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap());
    let named = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path()));
    let is_made = |name: &str| name != "lock" && !name.starts_with('.');
    let mut made: Made = named
        .filter(|(name, path)| is_made(name) && path.is_file())
        .map(|(name, path)| (name, std::fs::read(path).unwrap()))
        .collect();
    made.sort();
    made
}

#[test]
fn planted_data_whose_power_goes_are_finished() {
    let place = Place::empty();
    let planted = Planted {
        clusters: 4,
        dim: 1,
        dtype: Type::F16,
        noise: 1.0,
        rows: 3000,
        seed: 3,
        spectrum: Spectrum::Flat,
        tasks: 1,
    }
    .checked()
    .unwrap();
    let call = |storage: Arc<dyn Storage>, root: &Path| {
        write_planted(&planted, &root.join("planted"), storage.as_ref(), &Progress::silent()).map(drop)
    };
    let made = |root: &Path| folder_made(&root.join("planted"));
    lose_power(&place, None, &Written { name: "gen", call: &call, made: &made, mark: "planted/_SUCCESS" });
}

#[cfg(feature = "export")]
#[test]
fn an_export_whose_power_goes_is_finished() {
    use batchmine::export::{Epochs, ExportSettings, Format, export};
    use batchmine::run::{Disk, RunReader};

    let place = Place::with(&text_data());
    let mined = place.path("mined");
    mine_on(Arc::new(Disk), &place.input(), &mined, 0, false).unwrap();
    let reader = RunReader::open(&mined.join("run")).unwrap();
    for format in [Format::SentenceTransformers, Format::Tevatron] {
        let settings = ExportSettings {
            format,
            epochs: Epochs::All,
            query_text: None,
            positive_text: None,
            document_text: None,
            corpus_source: Vec::new(),
            source: Vec::new(),
            negatives: None,
            memory_bytes: 1 << 30,
            replace: false,
        };
        let call = |storage: Arc<dyn Storage>, root: &Path| {
            export(&reader, &settings, &root.join("export"), storage, &Progress::silent()).map(drop)
        };
        let made = |root: &Path| folder_made(&root.join("export"));
        let name = format!("export {format:?}");
        lose_power(&place, None, &Written { name: &name, call: &call, made: &made, mark: "export/_SUCCESS" });
        ["whole", "lost"].iter().for_each(|name| drop(std::fs::remove_dir_all(place.path(name))));
    }
}

//! Damaged runs: every verb finds the damage and names the file, or gives what it gives of the undamaged run.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use batchmine::run::RunReader;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::damage::{Change, Told, Verb, World};

/// What became of a damage.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Refused, with the file's name.
    Detected,
    /// The same result as without it.
    Harmless,
    Wrong(String),
}

/// Verdicts by who gave them.
#[derive(Default)]
pub struct Tally {
    counts: Mutex<BTreeMap<String, [usize; 3]>>,
    wrong: Mutex<Vec<String>>,
}

impl Tally {
    pub fn add(&self, who: &str, what: &str, verdict: Verdict) {
        let column = match verdict {
            Verdict::Detected => 0,
            Verdict::Harmless => 1,
            Verdict::Wrong(why) => {
                self.wrong.lock().unwrap().push(format!("{who}, {what}: {why}"));
                2
            }
        };
        self.counts.lock().unwrap().entry(who.to_owned()).or_default()[column] += 1;
    }

    /// Prints a line for each verb, and fails if anything went wrong.
    pub fn finish(self, of: &str) {
        for (who, [detected, harmless, wrong]) in self.counts.into_inner().unwrap() {
            println!("{of}: {who}: {detected} detected, {harmless} harmless, {wrong} wrong");
        }
        let wrong = self.wrong.into_inner().unwrap();
        let shown: Vec<String> = wrong.iter().take(60).cloned().collect();
        assert!(wrong.is_empty(), "{} of {of} wrong:\n{}", wrong.len(), shown.join("\n"));
    }
}

/// `all`, or how many times as many as the tests of every day.
pub fn flips() -> (bool, usize) {
    match std::env::var("BATCHMINE_FLIPS").as_deref() {
        Ok("all") => (true, 30),
        Ok(number) => (false, number.parse().expect("BATCHMINE_FLIPS is `all` or a number")),
        Err(_) => (false, 1),
    }
}

/// Runs all cases on two threads; each has a number.
pub fn in_parallel(cases: usize, run: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let case = next.fetch_add(1, Ordering::Relaxed);
            if case >= cases {
                return;
            }
            run(case);
        }
    };
    std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(work))));
}

const UNFINISHED: &str = "not finished";

/// Damages that `verify` does not have to find: reports that are gone.
fn is_excused(name: &str, change: &Change) -> bool {
    name.starts_with("report.") && *change == Change::Delete
}

/// Whether a file of JSON has other bytes and the same values: without its last line break, or with a number of more
/// digits than it needs.
fn says_the_same(world: &World, file: usize, run: &Path) -> bool {
    let (name, bytes) = &world.files[file];
    let values = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).ok();
    name.ends_with(".json") && values(&fs::read(run.join(name)).unwrap_or_default()) == values(bytes)
}

/// `inspect RUN` shows the manifest and `inspect FILE` the file that is there: a whole one of another run is shown, and
/// of marks and reports the length.
fn shows_what_is_there(world: &World, verb: Verb, file: usize, change: &Change) -> bool {
    let is_manifest = |file: usize| world.files[file].0 == "manifest.json";
    match (verb, change) {
        (Verb::File, Change::Older | Change::Swap(_)) => true,
        (Verb::File, _) => !world.files[file].0.contains('/') && !is_manifest(file),
        (Verb::Inspect, Change::Older) => is_manifest(file),
        // A run without a report is sound.
        (Verb::Verify, Change::Delete) => world.files[file].0.starts_with("report."),
        _ => false,
    }
}

/// The names of which a message must have one.
fn names<'w>(world: &'w World, file: usize, change: &Change) -> Vec<&'w str> {
    let base = |name: &'w str| name.rsplit('/').next().unwrap();
    let name = base(&world.files[file].0);
    match change {
        // The manifest of another run: each part may be what does not fit it.
        Change::Older if name == "manifest.json" => vec![""],
        Change::Swap(other) => vec![name, base(&world.files[*other].0)],
        Change::Delete if name == "_SUCCESS" => vec![name, UNFINISHED],
        _ => vec![name],
    }
}

pub fn judge(told: &Told, expected: &Told, names: &[&str]) -> Verdict {
    let said = told.outcome.said();
    match told.outcome.code {
        Some(0) if told.made == expected.made => Verdict::Harmless,
        // `inspect RUN` shows a run that is not finished, and says so.
        Some(0) if names.contains(&UNFINISHED) && said.contains(UNFINISHED) => Verdict::Detected,
        Some(0) => Verdict::Wrong("it ended with 0 and another result".into()),
        Some(1..=3) if names.iter().any(|name| said.contains(name)) => Verdict::Detected,
        Some(1..=3) if told.outcome.code == expected.outcome.code && told.made == expected.made => Verdict::Harmless,
        Some(1..=3) => Verdict::Wrong(format!("none of {names:?} is named in: {said}")),
        code => Verdict::Wrong(format!("it died with {code:?}: {said}")),
    }
}

#[test]
fn every_verb_finds_a_damage_or_gives_the_same_as_without() {
    let world = World::new().with_expected();
    let verbs = Verb::all();
    let tally = Tally::default();
    let (rounds, pairs) = (flips().1, world.files.len() * verbs.len());
    in_parallel(rounds * pairs, |case| {
        let (file, verb) = (case % pairs / verbs.len(), verbs[case % verbs.len()]);
        // Each pair of a file and a verb begins elsewhere, so that all pairs together see every kind of change.
        let mut random = ChaCha8Rng::seed_from_u64(case as u64);
        let change = world.some_change(file, file + 2 * (case % verbs.len()) + 5 * (case / pairs), &mut random);
        let name = &world.files[file].0;
        if shows_what_is_there(&world, verb, file, &change) {
            return;
        }
        let folder = world.undamaged(&format!("case-{case}"));
        if world.damage(&folder.join("run"), file, &change).is_some() {
            let told = world.tell(verb, &folder, file);
            let verdict = match judge(&told, world.expected(verb, file), &names(&world, file, &change)) {
                Verdict::Harmless if verb == Verb::Verify && !is_excused(name, &change) => {
                    Verdict::Wrong("it is called sound".into())
                }
                verdict => verdict,
            };
            tally.add(&verb.name(), &format!("{name}, {change:?}"), verdict);
        }
        fs::remove_dir_all(folder).unwrap();
    });
    tally.finish("damages");
}

#[test]
fn a_damage_in_a_large_file_is_found_by_who_reads_its_place() {
    let world = World::of(3000, 48).with_expected();
    let mut verbs = Verb::all();
    verbs.retain(|verb| !matches!(verb, Verb::Inspect | Verb::Again | Verb::Verify));
    let large: Vec<usize> = (0..world.files.len()).filter(|file| world.files[*file].1.len() > 200_000).collect();
    let names: Vec<&str> = large.iter().map(|file| &*world.files[*file].0).collect();
    for part in ["queries.vec", "positives.vec", "block-000000.nbr"] {
        assert!(names.iter().any(|name| name.ends_with(part)), "{part} has several blocks: {names:?}");
    }
    let tally = Tally::default();
    let pairs = large.len() * verbs.len();
    in_parallel(pairs * flips().1, |case| {
        let (file, verb) = (large[case % pairs / verbs.len()], verbs[case % verbs.len()]);
        let (name, bytes) = &world.files[file];
        let mut random = ChaCha8Rng::seed_from_u64(case as u64);
        // Between the first block of 64 KiB and the last one.
        let change = Change::Flip { at: random.random_range(65_536..bytes.len() - 65_536), bit: case as u32 % 8 };
        let folder = world.undamaged(&format!("case-{case}"));
        world.damage(&folder.join("run"), file, &change).expect("a flipped bit changes a byte");
        let told = world.tell(verb, &folder, file);
        let verdict = judge(&told, world.expected(verb, file), &self::names(&world, file, &change));
        tally.add(&verb.name(), &format!("{name}, {change:?}"), verdict);
        fs::remove_dir_all(folder).unwrap();
    });
    tally.finish("damages of large files");
}

/// The faults that `verify` finds, in this process.
fn faults(run: &Path) -> Result<String, String> {
    let found = catch_unwind(AssertUnwindSafe(|| match RunReader::open(run) {
        Ok(reader) => {
            batchmine::verify::verify(&reader, 3, batchmine::verify::CheckShare::WHOLE, batchmine::Watch::silent())
                .unwrap()
                .faults
                .join("\n")
        }
        Err(error) => error.to_string(),
    }));
    found.map_err(|_| "it panicked".into())
}

#[test]
fn verify_finds_every_damaged_byte() {
    let world = World::new();
    let (all, times) = flips();
    let tally = Tally::default();
    in_parallel(world.files.len(), |file| {
        let mut random = ChaCha8Rng::seed_from_u64(file as u64);
        let changes = match all {
            true => world.every_change(file, &mut random),
            false => (0..27 * times).map(|n| world.some_change(file, n, &mut random)).collect(),
        };
        let folder = world.undamaged(&format!("file-{file}"));
        let run = folder.join("run");
        let name = &world.files[file].0;
        for change in changes {
            if world.damage(&run, file, &change).is_some() {
                let names = names(&world, file, &change);
                let verdict = match faults(&run) {
                    Ok(said) if said.is_empty() && (is_excused(name, &change) || says_the_same(&world, file, &run)) => {
                        Verdict::Harmless
                    }
                    Ok(said) if said.is_empty() => Verdict::Wrong("it is called sound".into()),
                    Ok(said) if names.iter().any(|name| said.contains(name)) => Verdict::Detected,
                    Ok(said) => Verdict::Wrong(format!("none of {names:?} is named in: {said}")),
                    Err(why) => Verdict::Wrong(why),
                };
                tally.add(name, &format!("{change:?}"), verdict);
            }
            fs::write(run.join(name), &world.files[file].1).unwrap();
            if let Change::Swap(other) = change {
                let (other, bytes) = &world.files[other];
                fs::write(run.join(other), bytes).unwrap();
            }
        }
    });
    tally.finish("verify in-process");
}

/// Exports to a folder that has the export already, with one of its files damaged.
#[test]
#[cfg(feature = "export")]
fn an_export_that_is_there_and_damaged_is_found() {
    use super::damage::files_below;

    let world = World::new();
    let folder = world.undamaged("exports");
    let tally = Tally::default();
    let mut random = ChaCha8Rng::seed_from_u64(3);
    for format in ["sentence-transformers", "flagembedding"] {
        let out = folder.join(format);
        let again = || super::command::export(&folder.join("run"), format, &out, "");
        again().ok();
        assert!(again().ok().stderr.contains("holds this export already"));
        let mut files = files_below(&out);
        files.retain(|(name, _)| name != "lock");
        assert!(files.len() >= 4, "{files:?}");
        for (name, bytes) in &files {
            let path = out.join(name);
            for round in 0..3 * flips().1 {
                let at = random.random_range(0..bytes.len());
                let damaged = match round % 3 {
                    0 => [&bytes[..at], &[bytes[at] ^ 1 << random.random_range(0..8)], &bytes[at + 1..]].concat(),
                    1 => bytes[..at].to_vec(),
                    _ => [&bytes[..], b"\n"].concat(),
                };
                fs::write(&path, damaged).unwrap();
                let outcome = again();
                let verdict = match outcome.code {
                    // Where it is `_SUCCESS` that is damaged, another file is what does not fit it.
                    Some(1 | 2) if outcome.stderr.contains(name) || name.starts_with('_') => Verdict::Detected,
                    // What says of the files what they are may be said in other words.
                    Some(0) if name == "_SUCCESS" && round % 3 == 2 => Verdict::Harmless,
                    _ => Verdict::Wrong(outcome.said()),
                };
                tally.add(&format!("export again, {format}"), &format!("{name}, change {round} at {at}"), verdict);
            }
            fs::remove_file(&path).unwrap();
            // Without a mark it is an export that was interrupted.
            if name != "_SUCCESS" {
                assert_ne!(again().code, Some(0), "{name} is gone");
            }
            fs::write(&path, bytes).unwrap();
        }
        again().ok();
        let run = folder.join("run");
        fs::write(out.join(&files[2].0), "something else").unwrap();
        super::command::export(&run, format, &out, "--replace").ok();
        assert!(files_below(&out).into_iter().filter(|(name, _)| name != "lock").eq(files), "written again");
    }
    tally.finish("damaged exports");
}

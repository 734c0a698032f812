//! Processes that are killed, at every commit and at random moments, again and again in one folder.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::command::verify;
use super::fault_disk::{Fault, calls_of, disturbed};
use super::undisturbed::{Bench, Verb, count_of, figures};

/// Threads of the jobs: so many parts may be in work at a time.
const THREADS: usize = 2;

/// Parts that a manifest records, with the number of their file.
type Recorded = BTreeMap<(String, String), u64>;

fn recorded(run: &Path) -> Recorded {
    let Ok(text) = fs::read_to_string(run.join("manifest.json")) else { return Recorded::new() };
    let manifest: Value = serde_json::from_str(&text).unwrap();
    let mut all = Recorded::new();
    for (stage, record) in manifest["stages"].as_object().unwrap() {
        for name in record["parts"].as_object().unwrap().keys() {
            let meta = fs::metadata(run.join(stage).join(name)).unwrap_or_else(|e| panic!("{stage}/{name}: {e}"));
            all.insert((stage.clone(), name.clone()), meta.ino());
        }
    }
    all
}

/// Parts that a kill cost: those that were being written, or were not recorded yet. The vectors stage is one unit.
fn lost(run: &Path) -> usize {
    let known = recorded(run);
    let names = |folder: &str| -> Vec<String> {
        let entries = fs::read_dir(run.join(folder)).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let is_part = |name: &String| {
        !["manifest.json", "_SUCCESS"].contains(&name.as_str())
            && ![".vec", ".col", ".lst"].iter().any(|end| name.ends_with(end))
    };
    let unfinished = names("tmp").into_iter().filter(is_part).count();
    let stages = ["neighbors", "edges", "clusters", "batches"];
    // What a stage that is complete drops, it deletes after it was recorded as dropped: that is no work lost.
    let is_final = |name: &String| !["base.", "run-", "pass-"].iter().any(|start| name.starts_with(start));
    let unrecorded = |stage: &&str| {
        let is_new = |name: &String| !known.contains_key(&((*stage).to_owned(), name.clone()));
        names(stage).into_iter().filter(|name| is_new(name) && is_final(name)).count()
    };
    unfinished + stages.iter().map(unrecorded).sum::<usize>()
}

/// What kills came to.
#[derive(Default)]
struct Toll {
    kills: BTreeMap<String, u64>,
    /// Most parts that a kill cost.
    lost: usize,
    /// Most recorded parts that were made again after a kill, in vectors and in other stages.
    remade_vectors: usize,
    remade: usize,
    /// Names of such parts of other stages.
    remade_names: Vec<String>,
}

impl Toll {
    fn killed(&mut self, verb: Verb, run: &Path) {
        *self.kills.entry(format!("{verb:?}").to_lowercase()).or_default() += 1;
        if verb == Verb::Mine {
            self.lost = self.lost.max(lost(run));
        }
    }

    /// Looks at parts that were recorded at a kill and are still there now.
    fn compare(&mut self, before: &Recorded, now: &Recorded) {
        let again: Vec<_> =
            before.iter().filter(|(part, file)| now.get(*part).is_some_and(|now| now != *file)).collect();
        let vectors = again.iter().filter(|((stage, _), _)| stage == "vectors").count();
        self.remade_vectors = self.remade_vectors.max(vectors);
        self.remade = self.remade.max(again.len() - vectors);
        let others = again.iter().filter(|((stage, _), _)| stage != "vectors");
        self.remade_names.extend(others.map(|((stage, name), _)| format!("{stage}/{name}")));
    }

    fn tell(&self, when: &str) {
        let kills: Vec<String> = self.kills.iter().map(|(verb, count)| format!("{count} of {verb}")).collect();
        figures(&format!(
            "kills {when}: {}; a kill cost {} parts at most, with {THREADS} threads; recorded parts made again: {} of \
             vectors (one unit), {} of other stages",
            kills.join(", "),
            self.lost,
            self.remade_vectors,
            self.remade
        ));
        assert!(self.lost <= THREADS, "a kill cost {} parts", self.lost);
        assert_eq!(self.remade, 0, "recorded parts were made again: {:?}", self.remade_names);
    }
}

#[test]
fn killed_at_every_commit_all_verbs_go_on_to_the_same_bytes() {
    let bench = Bench::new();
    let mut toll = Toll::default();
    for verb in Verb::ALL {
        let undisturbed = bench.undisturbed(*verb);
        // Every part, manifest and mark gets its name by a rename or a link.
        let calls = "rename,unlink";
        let count = calls_of(&bench, *verb, "rename");
        assert!(count > 0, "{verb:?} commits nothing");
        let count = if *verb == Verb::Mine { count } else { calls_of(&bench, *verb, calls) };
        for at in 0..count {
            let name = "killed";
            bench.remove(name);
            bench.prepare(*verb, name);
            let does = if at % 2 == 0 { "kill" } else { "killed-after" };
            let calls = if *verb == Verb::Mine { "rename" } else { calls };
            let fault = Fault { calls, does, at, forever: false };
            let status = disturbed(&bench, *verb, name, fault).stderr(Stdio::null()).status().unwrap();
            if status.signal() != Some(9) {
                // Threads may order calls differently: the last call may not be reached.
                assert!(status.success() && at + 2 >= count, "{verb:?} {fault:?}: {status}");
                continue;
            }
            let folder = bench.folder(name);
            toll.killed(*verb, &folder);
            let before = recorded(&folder);
            bench.finish(*verb, name, &undisturbed, &format!("{fault:?}"));
            toll.compare(&before, &recorded(&folder));
        }
    }
    toll.tell("at commits");
}

#[test]
fn killed_at_random_moments_again_and_again_all_verbs_go_on_to_the_same_bytes() {
    let bench = Bench::new();
    let mut toll = Toll::default();
    let mut random = ChaCha8Rng::seed_from_u64(18);
    let wanted = count_of("BATCHMINE_KILLS", 120);
    // Mining has the most moments.
    let share = wanted / (Verb::ALL.len() as u64 + 2);
    for verb in Verb::ALL {
        let undisturbed = bench.undisturbed(*verb);
        bench.remove("timed");
        bench.prepare(*verb, "timed");
        let begin = Instant::now();
        bench.call(*verb, "timed").ok();
        let whole = begin.elapsed();
        let wanted = if *verb == Verb::Mine { 3 * share } else { share };
        let (mut killed, mut attempts) = (0, 0);
        while killed < wanted && attempts < 4 * wanted {
            let name = "killed";
            bench.remove(name);
            bench.prepare(*verb, name);
            let mut before: Vec<Recorded> = Vec::new();
            for _ in 0..random.random_range(1..=4) {
                attempts += 1;
                let mut command = bench.command(*verb, name);
                let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
                std::thread::sleep(Duration::from_secs_f64(whole.as_secs_f64() * random.random_range(0.0..1.0)));
                child.kill().unwrap();
                if child.wait().unwrap().signal() == Some(9) {
                    killed += 1;
                    toll.killed(*verb, &bench.folder(name));
                    before.push(recorded(&bench.folder(name)));
                }
            }
            bench.finish(*verb, name, &undisturbed, "kills");
            let now = recorded(&bench.folder(name));
            before.iter().for_each(|before| toll.compare(before, &now));
        }
        assert!(2 * killed >= wanted, "only {killed} of {attempts} calls of {verb:?} were killed in time");
    }
    toll.tell("at random moments");
}

#[test]
fn what_is_killed_inside_a_run_folder_leaves_a_run_that_verifies() {
    let bench = Bench::new();
    let run = bench.folder("run");
    let inside = [
        (Verb::Report, "run"),
        #[cfg(feature = "export")]
        (Verb::Export, "run/export"),
    ];
    for (verb, name) in inside {
        for at in 0..2 {
            let fault = Fault { calls: "rename", does: "kill", at, forever: false };
            let status = disturbed(&bench, verb, name, fault).stderr(Stdio::null()).status().unwrap();
            assert_eq!(status.signal(), Some(9), "{verb:?} {fault:?}");
            verify(&run).ok();
        }
        bench.call(verb, name).ok();
        verify(&run).ok();
    }
}

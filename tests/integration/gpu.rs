//! The GPU against the CPU, where `BATCHMINE_GPU_PLUGIN` names a plugin and a device answers.

use std::path::{Path, PathBuf};

use super::command::{MADE, Outcome, Place, assert_same, call, mine, mine_command, skipped};
use super::dataset::Dataset;
use super::table;

/// The plugin, if it finds a device here.
fn device() -> Option<PathBuf> {
    let Some(plugin) = std::env::var_os("BATCHMINE_GPU_PLUGIN").map(PathBuf::from) else {
        skipped("BATCHMINE_GPU_PLUGIN names no plugin: nothing is tested on a GPU");
        return None;
    };
    let small = Place::with(&Dataset::planted(200, 8, 1));
    let outcome = on_gpu(&small, &plugin, "--skip 2 --window 10 --cluster-size 4 --batch-size 16");
    if outcome.code == Some(1) && outcome.stderr.contains("no GPU answers") {
        skipped(&format!("nothing is tested on a GPU: {}", outcome.stderr));
        return None;
    }
    outcome.ok();
    Some(plugin)
}

fn on_gpu(place: &Place, plugin: &Path, flags: &str) -> Outcome {
    let mut command = mine_command(&place.input(), &place.path("gpu"), &format!("{flags} --backend faiss-gpu"));
    Outcome::from(command.arg("--gpu-plugin").arg(plugin).output().unwrap())
}

/// The GPU's files are the CPU's, and the CPU did not make them.
fn agrees(place: &Place, plugin: &Path, flags: &str) {
    mine(&place.input(), &place.path("cpu"), &format!("{flags} --backend cpu")).ok();
    let outcome = on_gpu(place, plugin, flags).ok();
    assert_same(&place.path("gpu"), &place.path("cpu"), &MADE);
    for word in ["takes over", "given up", "the CPU takes", "the CPU searches"] {
        assert!(!outcome.stderr.contains(word), "{}", outcome.stderr);
    }
    let left = outcome.stderr.split("the GPUs left ").nth(1).expect("a search on GPUs").split(' ').next().unwrap();
    let rows = table::read(&place.path("gpu")).len();
    assert!(left.parse::<usize>().unwrap() * 20 < rows, "{left} of {rows} queries were left to the CPU");
}

#[test]
fn a_real_gpu_writes_the_same_files() {
    let generated = Place::empty();
    let Some(plugin) = device() else { return };
    let words = "--rows 60000 --dim 384 --clusters 800 --tasks 3".split(' ');
    call(["gen", "--out", generated.input().to_str().unwrap()].into_iter().chain(words)).ok();
    agrees(&generated, &plugin, "--task-column task");
    for precision in ["int8", "f32"] {
        for (data, metric) in [(Dataset::planted(9000, 70, 2), "dot"), (Dataset::integers(3000, 24, 3), "cosine")] {
            let flags = format!("--metric {metric} --precision {precision} --skip 5 --window 40 --batch-size 64");
            agrees(&Place::with(&data), &plugin, &flags);
        }
    }
    // The widest window of a GPU.
    agrees(&Place::with(&Dataset::planted(6000, 24, 4)), &plugin, "--skip 484 --window 1500 --batch-size 64");
}

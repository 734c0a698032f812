//! A search finds the same with any instructions and in any precision, whatever the vectors are like: the same bytes.

use super::command::{MADE, Outcome, Place, assert_same, inspect, mine_command};
use super::dataset::Dataset;
use super::oracle::{Exactness, Oracle};

const FLAGS: &str = "--skip 5 --window 30 --cluster-size 8 --batch-size 64 --threads 2";
/// Instructions that a search can be held to; those that the machine lacks are not taken.
const INSTRUCTIONS: [&str; 5] = ["avx512vnni", "avx512", "avxvnni", "avx2", "scalar"];
const PRECISIONS: [&str; 4] = ["auto", "int8", "bf16", "f32"];

/// Rows in a narrow cone about a common direction, or in two cones that face away from each other.
fn in_cones(rows: usize, dim: usize, height: f64, both: bool) -> Dataset {
    let plain = Dataset::planted(rows, dim, 3);
    let lift = |(row, vector): (usize, Vec<f64>)| -> Vec<f64> {
        let side = if both && row % 3 == 0 { -height } else { height };
        vector.iter().enumerate().map(|(at, value)| side * (1.0 + (at as f64).sin()) + value).collect()
    };
    let [queries, positives] =
        [plain.queries, plain.positives].map(|side| side.into_iter().enumerate().map(lift).collect());
    Dataset::of(dim, queries, positives)
}

/// Mines with each of the instructions and precisions, and compares all files with those of the first.
fn assert_all_same(data: &Dataset) {
    let place = Place::with(data);
    let reference = place.path("reference");
    let mine = |run: &std::path::Path, name: &str, precision: &str| {
        let mut command = mine_command(&place.input(), run, FLAGS);
        command.args(["--precision", precision]).env("BATCHMINE_SIMD", name);
        Outcome::from(command.output().unwrap()).ok();
    };
    mine(&reference, "", "auto");
    Oracle::new(data, true).check(&inspect(&reference, 0..data.rows()), 35, Exactness::NearTies);
    for instructions in INSTRUCTIONS {
        for precision in PRECISIONS {
            let run = place.path(&format!("{instructions}-{precision}"));
            mine(&run, instructions, precision);
            assert_same(&run, &reference, &MADE);
            std::fs::remove_dir_all(&run).unwrap();
        }
    }
}

#[test]
fn any_instructions_find_the_same() {
    assert_all_same(&Dataset::planted(1500, 70, 11));
}

#[test]
fn any_instructions_find_the_same_among_nearly_equal_vectors() {
    assert_all_same(&in_cones(1500, 64, 4.0, false));
    assert_all_same(&in_cones(1200, 37, 60.0, true));
}

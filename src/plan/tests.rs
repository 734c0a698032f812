use bytesize::ByteSize;

use super::*;
use crate::config::{BatchRules, Settings};

fn config(memory: u64, threads: usize) -> Config {
    let settings = Settings { memory: Some(ByteSize(memory)), threads: Some(threads), ..Settings::default() };
    Config::new(vec!["x".into()], settings).unwrap()
}

fn plan(memory: u64, threads: usize, shape: Shape) -> Plan {
    Plan::new(&config(memory, threads), shape).unwrap()
}

/// The least budget that a refusal names, in bytes.
fn least(shape: Shape) -> u64 {
    let error = Plan::new(&config(MIB, 2), shape).unwrap_err();
    assert_eq!(error.exit_code(), 4);
    let text = error.to_string();
    let number = text.split("raise --memory to ").nth(1).unwrap().split("MiB").next().unwrap();
    number.parse::<u64>().unwrap() * MIB
}

#[test]
fn the_least_budget_that_is_named_is_accepted() {
    for rows in [1_000, 60_940, 1_000_000, 10_000_000] {
        let shape = Shape { rows, dim: 384 };
        let least = least(shape);
        let plan = plan(least, 2, shape);
        assert!(plan.needs.iter().all(|need| plan.memory_bytes(need) <= least), "{plan:?}");
        assert!(Plan::new(&config(least - MIB, 2), shape).is_err());
    }
}

#[test]
fn files_do_not_depend_on_the_budget() {
    let shape = Shape { rows: 1_000_000, dim: 1024 };
    let (small, large) = (plan(least(shape), 2, shape), plan(64 << 30, 16, shape));
    assert_eq!(small.neighbors.block_rows, large.neighbors.block_rows);
    assert_eq!(small.batches.row_group_rows, large.batches.row_group_rows);
    assert!(small.edges.spill_edges < large.edges.spill_edges);
}

#[test]
fn hard_negatives_of_the_largest_batches_take_what_their_windows_do() {
    let of = |hard_negatives, batch_size| {
        let config = config(1 << 40, 2);
        let batches = BatchRules { size: batch_size, hard_negatives, ..config.batches };
        let plan = Plan::new(&Config { batches, ..config }, Shape { rows: 10_000_000, dim: 64 }).unwrap();
        plan.memory_bytes(&plan.needs[4])
    };
    // 65,536 windows of 100 are 26 MB; pools of smaller batches are 8 MB together.
    assert!((52 * MIB..96 * MIB).contains(&(of(5, 65_536) - of(0, 65_536))));
    assert!((16 * MIB..52 * MIB).contains(&(of(5, 1024) - of(0, 1024))));
}

#[test]
fn no_stage_needs_more_than_28_bytes_a_row() {
    const MORE: u64 = 10_000_000;
    let of = |rows| plan(1 << 40, 2, Shape { rows, dim: 64 }).needs;
    for (small, large) in of(MORE).iter().zip(of(2 * MORE)) {
        // Without keys: labels and state of clusters 20 bytes, and 9/K bytes for each thread and one more.
        assert!(large.least() - small.least() <= 28 * MORE, "{small:?} {large:?}");
    }
}

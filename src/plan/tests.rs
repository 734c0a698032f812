use bytesize::ByteSize;

use super::*;
use crate::budget::{BASE_BYTES, THREAD_BYTES, written};
use crate::config::{
    Backend, BatchRules, Columns, GpuRules, Mask, NegativesOf, RankWindow, ScoreLimits, Settings, TableFormat,
    TableRules,
};
use crate::vectors::ListElements;
use crate::vectors::budget::UnitBytes;

const NO_LISTS: ListElements = ListElements { columns: 0, most: 0, total: 0 };

const UNITS: UnitBytes = UnitBytes { record_batch: 0, pages: 0, stored_columns: 0, count: 1 << 20 };

const INPUT: InputMeasures = measured(NO_LISTS, UNITS);

const fn measured(lists: ListElements, units: UnitBytes) -> InputMeasures {
    InputMeasures { lists, units, documents: 0, judged_bytes: 0, epoch_rows: 0 }
}

fn config(memory: u64, threads: usize) -> Config {
    let settings = Settings { memory: Some(ByteSize(memory)), threads: Some(threads), ..Settings::default() };
    Config::new(vec!["x".into()], settings).unwrap()
}

fn plan(memory: u64, threads: usize, shape: Shape) -> Plan {
    Plan::new(&config(memory, threads), shape, INPUT).unwrap()
}

/// The least budget that a refusal names, in bytes.
fn least(shape: Shape) -> u64 {
    let error = Plan::new(&config(MIB, 2), shape, INPUT).unwrap_err();
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
        assert!(Plan::new(&config(least - MIB, 2), shape, INPUT).is_err());
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
        let plan = Plan::new(&Config { batches, ..config }, Shape { rows: 10_000_000, dim: 64 }, INPUT).unwrap();
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

#[test]
fn lists_of_keys_are_in_the_plan_by_their_elements() {
    let shape = Shape { rows: 1_000_000, dim: 64 };
    let of = |most| {
        let lists = ListElements { columns: u64::from(most > 0), most, total: most };
        Plan::new(&config(64 << 30, 2), shape, measured(lists, UNITS)).map(|plan| plan.needs[0].least())
    };
    assert_eq!(of(100_000_000).unwrap() - of(0).unwrap(), 2_400_000_000);
    assert_eq!(of(1 << 48).unwrap_err().exit_code(), 4, "a footer that promises too much is no overflow");
}

/// Marks around the generated part of docs/memory.md.
const BEGIN: &str = "<!-- terms: begin -->\n";
const END: &str = "<!-- terms: end -->";
/// Variable with which the test rewrites docs/memory.md.
const REWRITE: &str = "BATCHMINE_REWRITE_DOCS";

/// Plans that together have all terms: import with key columns, also of lists, hard negatives of batches and of
/// clusters, own ranks, limits for sides, judged pairs, a mask, and a table divided by task; FAISS; GPUs.
fn all_plans() -> [Plan; 3] {
    let plain = config(4 << 30, 2);
    let columns = Columns { keys: vec!["key".into()], ..plain.columns.clone() };
    let table = TableRules { format: TableFormat::Delta, out: None, by_task: true };
    let batches = BatchRules { hard_negatives: 5, mask: Mask::Suspects, ..plain.batches };
    let gpu = GpuRules { plugin: Some("plugin.so".into()), ..plain.gpu.clone() };
    let of_clusters = BatchRules { negatives_of: NegativesOf::Cluster, ..batches };
    let limits = ScoreLimits { max_query_score: Some(0.9), ..ScoreLimits::default() };
    let window = RankWindow { limits, ..plain.window };
    let cpu = Config { columns, batches, table: Some(table), backend: Backend::Cpu, ..plain.clone() };
    let cpu = Config { window, max_own_rank: Some(9), ..cpu };
    let faiss = Config { batches: of_clusters, backend: Backend::Faiss, ..plain.clone() };
    let gpus = Config { gpu, backend: Backend::FaissGpu, ..plain };
    let lists = ListElements { columns: 1, most: 20_000_000, total: 20_000_000 };
    let units = UnitBytes { record_batch: 100 * MIB, ..UNITS };
    let measures = InputMeasures { judged_bytes: 100 * MIB, ..measured(lists, units) };
    [cpu, faiss, gpus].map(|config| Plan::divide(&config, Shape { rows: 10_000_000, dim: 1024 }, measures))
}

/// The terms of all stages as a Markdown table: each once, with the phases that have it.
fn terms_table() -> String {
    let mut text = format!(
        "Every stage: {} + t · {} for code, stacks and the allocator. To this come:\n\n\
         | stage | phase | bytes | what it is |\n|---|---|---|---|\n",
        written(BASE_BYTES),
        written(THREAD_BYTES)
    );
    let plans = all_plans();
    for stage in 0..plans[0].needs.len() {
        let mut rows: Vec<(Vec<&str>, &str, &str)> = Vec::new();
        for phase in plans.iter().flat_map(|plan| &plan.needs[stage].phases) {
            for term in &phase.terms {
                match rows.iter_mut().find(|(_, formula, what)| (*formula, *what) == (&term.formula, term.what)) {
                    Some((phases, ..)) if phases.contains(&phase.name) => {}
                    Some((phases, ..)) => phases.push(phase.name),
                    None => rows.push((vec![phase.name], &term.formula, term.what)),
                }
            }
        }
        for (index, (phases, formula, what)) in rows.into_iter().enumerate() {
            let name = if index == 0 { plans[0].needs[stage].stage.name() } else { "" };
            let cells = [name, &phases.join(", "), formula, what].map(|cell| cell.replace('|', "\\|"));
            text += &format!("| {} |\n", cells.join(" | ")).replace("|  |", "| |");
        }
    }
    text
}

#[test]
fn the_table_of_docs_memory_is_that_of_the_terms() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/memory.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("docs/memory.md has the mark of the table's begin");
    let (found, after) = rest.split_once(END).expect("docs/memory.md has the mark of the table's end");
    let table = terms_table();
    if std::env::var_os(REWRITE).is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        return;
    }
    assert!(
        found == table,
        "the table in docs/memory.md is not that of the budgets: this test rewrites it with {REWRITE}=1"
    );
}

#[test]
fn a_small_budget_takes_threads_and_refuses_no_job_for_them() {
    let shape = Shape { rows: 1_000_000, dim: 384 };
    let on = |memory, threads| Plan::on_fewer_threads(&config(memory, threads), shape, INPUT);
    let text = on(MIB, 1024).unwrap_err().to_string();
    let least: u64 = text.split("--memory ").nth(1).unwrap().split("MiB").next().unwrap().parse().unwrap();
    for asked in [1, 2, 64, 1024] {
        assert!(on((least - 1) * MIB, asked).is_err());
        for memory in [least, 256, 1024, 4096, 65_536] {
            let (plan, threads) = on(memory * MIB, asked).unwrap();
            assert!(plan.least().1 <= memory * MIB && (1..=asked).contains(&threads));
            // One more thread would not fit.
            let more = || Plan::new(&config(memory * MIB, threads + 1), shape, INPUT);
            assert!(threads == asked || more().is_err(), "{memory} MiB, {threads} of {asked}");
        }
    }
}

#[test]
fn threads_without_a_unit_to_read_need_no_pages() {
    let need = |count, pages| {
        let units = UnitBytes { pages, count, ..UNITS };
        let shape = Shape { rows: 100_000, dim: 64 };
        Plan::new(&config(64 << 30, 64), shape, measured(NO_LISTS, units)).map(|plan| plan.needs[0].least())
    };
    // Pages, and the stack; sizes are rounded.
    let third = need(3, 100 * MIB).unwrap() - need(2, 100 * MIB).unwrap();
    assert!(third.abs_diff(102 * MIB) < 4096, "{third}");
    assert_eq!(need(64, 0).unwrap(), need(1000, 6 * MIB).unwrap());
    assert_eq!(need(64, 1 << 62).unwrap_err().exit_code(), 4, "a header that promises too much is no overflow");
}

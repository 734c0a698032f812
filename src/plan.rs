//! The plan: a memory budget and a shape become counts, before any work. Pure.
//!
//! Every stage's peak is a sum of terms that are written down here once; [`Plan::new`] gives what the
//! budget leaves to the buffer that gains from more room (spilled arcs) and refuses a
//! budget that cannot hold the least of it. Sizes that shape files (query blocks, edge windows) do not
//! depend on the budget: the same job gives the same bytes under any.

use std::collections::BTreeMap;

use crate::batches::negatives::POOL_ENTRIES;
use crate::config::{Backend, Config, Method, Precision, Remainder};
use crate::edges::build::WINDOW_ARCS;
use crate::error::{Error, Kind, Result};
use crate::neighbors::answers::SPARE;
use crate::neighbors::tiles::{LIST_TILE_QUERIES, PACKED_COLUMNS, TILE_QUERIES};
use crate::neighbors::{gpu, head, partition, recall, topk};
use crate::run::Stage;
use crate::vectors::Shape;

const MIB: u64 = 1 << 20;
/// What the process needs before it holds any data: code, thread stacks, allocator slack.
const BASE_BYTES: u64 = 24 * MIB;
/// The same for each thread.
const THREAD_BYTES: u64 = 2 * MIB;
/// What a thread decodes at a time at import: a Parquet page of each column, and rows of both sides.
const IMPORT_BATCH_BYTES: u64 = 2 * MIB;
const IMPORT_PAGE_BYTES: u64 = 6 * MIB;
/// Finished lists of one block.
const BLOCK_BYTES: u64 = 48 * MIB;
const BLOCK_ROWS_MAX: u64 = 8192;
const BLOCK_ROWS_MIN: u64 = 96;
/// Queries, answers and BLAS's own buffers of one of FAISS's callers.
const FAISS_THREAD_BYTES: u64 = 20 * MIB;
const FAISS_TILE_ROWS_MIN: u64 = 1024;
const FAISS_TILE_ROWS_MAX: u64 = 65_536;
/// More runs than this are not merged at once.
const RUNS_MAX: u64 = 256;
const SPILL_ARCS_MAX: u64 = 64 * MIB;
/// Bytes that one spilled arc needs: in the buffer, and while its run is encoded.
const SPILL_ARC_BYTES: u64 = 8;
/// Bytes of an arc in a merge window: reversed, joined, encoded.
const WINDOW_ARC_BYTES: u64 = 20;
/// Decoded blocks of a chunk of the graph, while it is clustered.
const PASS_BYTES: u64 = 8 * MIB;
/// Rows near which a row group of the batch table ends.
const ROW_GROUP_ROWS: u64 = 122_880;
const BATCH_ROW_BYTES: u64 = 160;
/// The same for each hard negative of a row: id, row and score, encoded.
const NEGATIVE_BYTES: u64 = 40;
/// What is known of a row while its hard negatives are drawn, apart from its window and the negatives themselves.
const DRAWN_ROW_BYTES: u64 = 96;

/// What an open Parquet file holds besides rows: a compressor for each column.
const OPEN_FILE_BYTES: u64 = 4 * MIB;
/// More than this gains nothing: the table is read once.
const OPEN_BYTES_MAX: u64 = 4096 * MIB;
/// What publishing a table needs: a store's clients and buffers, a Delta log.
pub const LAKE_BYTES: u64 = 48 * MIB;

/// What a stage needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageNeed {
    /// The stage.
    pub stage: Stage,
    /// Peak of anonymous memory in bytes, all of the process.
    pub memory_bytes: u64,
    /// Least budget that this stage can work in.
    pub least_bytes: u64,
}

/// Counts that bound every buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Rows of one side that a thread decodes at a time.
    pub import_batch_rows: usize,
    /// Queries of a block: a part of the neighbors stage. A function of the shape alone.
    pub block_rows: usize,
    /// Base rows that FAISS holds at a time.
    pub faiss_tile_rows: usize,
    /// Memory that the slots of all GPUs take; 0 where no GPU is sought or the budget has no room.
    pub gpu_shared_bytes: usize,
    /// Reversed arcs of a spilled run.
    pub spill_arcs: usize,
    /// Rows of a row group of the batch table.
    pub row_group_rows: usize,
    /// Rows that get their hard negatives and are written at a time; the last batch goes beyond it.
    pub group_rows: usize,
    /// What the files may hold that are open while a published table is divided by task.
    pub open_bytes: u64,
    /// What one of them holds: for each row of its row group, and by itself.
    pub open_file_bytes: [u64; 2],
    /// What each stage needs.
    pub needs: [StageNeed; 5],
}

impl Plan {
    /// Divides the budget.
    ///
    /// # Errors
    /// The rank window is wider than the input, or the budget is too small; the message names what would do.
    pub fn new(config: &Config, shape: Shape) -> Result<Plan> {
        let windows = config.windows();
        let widest = windows.each().max_by_key(|window| window.ranks());
        if let Some(window) = widest.filter(|window| u64::from(window.ranks()) >= shape.rows) {
            let most = shape.rows.saturating_sub(1);
            return Err(Error::input("the rank window is wider than the input")
                .expected(format!("--skip + --window of at most {most}: the other rows of {} rows", shape.rows))
                .found(format!("--skip {} --window {}", window.skip, window.window))
                .remedy(format!(
                    "mine more rows, or try --skip {} --window {}",
                    most * 3 / 13,
                    (most - most * 3 / 13).max(1)
                )));
        }
        let plan = Plan::divide(config, shape, config.memory_bytes);
        let least = plan.needs.iter().map(|need| need.least_bytes).max().unwrap_or(0).div_ceil(MIB) * MIB;
        if config.memory_bytes >= least {
            return Ok(plan);
        }
        let stage = plan.needs.iter().max_by_key(|need| need.least_bytes).map_or("", |need| need.stage.name());
        Err(Error::new(Kind::OverBudget, "the memory budget is too small for this job")
            .expected(format!("--memory {}MiB or more (the {stage} stage needs it)", least / MIB))
            .found(format!("--memory {}MiB", config.memory_bytes / MIB))
            .remedy(format!("raise --memory to {}MiB, or lower --threads or --window", least / MIB)))
    }

    fn divide(config: &Config, shape: Shape, budget: u64) -> Plan {
        let (rows, dim) = (shape.rows, shape.dim as u64);
        let threads = config.threads as u64;
        let base = BASE_BYTES + threads * THREAD_BYTES;
        let room = budget.saturating_sub(base);
        let need = |stage, fixed: u64, least: u64, wanted: u64| StageNeed {
            stage,
            memory_bytes: base + fixed + wanted,
            least_bytes: base + fixed + least,
        };

        let import_batch_rows = (IMPORT_BATCH_BYTES / (dim * 24)).clamp(16, 4096);
        let import_thread = import_batch_rows * dim * 24 + IMPORT_PAGE_BYTES;
        let labels = rows * if config.columns.keys.is_empty() { 20 } else { 28 };
        let vectors = need(Stage::Vectors, labels + threads * import_thread, 0, 0);

        // The widest task's: blocks and buffers are made for it.
        let ranks = u64::from(config.most_ranks()).min(rows);
        // Finished lists, once as they come and once in the order of places.
        let list_bytes = 2 * (ranks * 8 + 24) + 16;
        let block_rows = (BLOCK_BYTES / list_bytes).clamp(BLOCK_ROWS_MIN, BLOCK_ROWS_MAX);
        let query_bytes = topk::capacity(ranks as usize) as u64 * 8 + dim * 16 + 64;
        let small = config.method == Method::Exact && config.precision == Precision::Int8;
        let tile_of =
            |queries: usize| (queries as u64).min(rows) * query_bytes + PACKED_COLUMNS as u64 * (dim * 4 + 8) + MIB / 2;
        let tile = tile_of(if small { TILE_QUERIES } else { LIST_TILE_QUERIES });
        let sample = recall::SAMPLE as u64 * (ranks * 8 + 24);
        let [choice, axes] =
            if config.precision == Precision::Int8 { head::bytes(rows as usize, shape.dim) } else { [0; 2] };
        // One sampled row in sixteen.
        let block = block_rows.min(rows) * list_bytes + sample + threads * tile + axes + rows / 4;
        // The sample is searched before, in large tiles, when there are no lists of a block yet.
        let sampling = threads * tile_of(LIST_TILE_QUERIES) + sample + axes + rows / 4;
        let partition = 12 * rows + 3 * partition::centre_values(rows as usize, shape.dim) as u64 * 4;
        // FAISS holds every query's candidates and one base tile in f32, which gains from room.
        let faiss = config.backend == Backend::Faiss;
        let candidates = block_rows.min(rows) * topk::capacity(ranks as usize) as u64 * 8;
        let faiss_fixed = block + candidates + threads * FAISS_THREAD_BYTES;
        let tile_most = FAISS_TILE_ROWS_MAX.min(rows.max(FAISS_TILE_ROWS_MIN));
        let faiss_tile_rows = (room.saturating_sub(faiss_fixed) / (dim * 4)).clamp(FAISS_TILE_ROWS_MIN, tile_most);
        // A GPU search holds every query's candidates too, and the slots, which take what is left. With `auto` they
        // are no reason to refuse a budget.
        let [shared_least, shared_most] =
            if config.seeks_gpus() { gpu::layout::shared_bytes(dim, ranks + SPARE as u64) } else { [0; 2] };
        let gpu_fixed = (block + candidates).max(partition).max(sampling);
        let shared_room = room.saturating_sub(gpu_fixed).min(shared_most);
        let gpu_asked = config.backend == Backend::FaissGpu;
        let gpu_shared_bytes = if shared_room < shared_least { 0 } else { shared_room };
        let neighbors = if gpu_asked || gpu_shared_bytes > 0 {
            let own = block.max(partition).max(rows / 4 + choice + threads * tile).max(sampling);
            let most = gpu_fixed + gpu_shared_bytes.max(shared_least);
            let fixed = if gpu_asked { gpu_fixed + shared_least } else { 0 }.max(own);
            need(Stage::Neighbors, fixed, 0, most.saturating_sub(fixed))
        } else if faiss {
            let tile = |rows: u64| rows * dim * 4;
            need(
                Stage::Neighbors,
                faiss_fixed.max(partition).max(sampling),
                tile(FAISS_TILE_ROWS_MIN),
                tile(faiss_tile_rows),
            )
        } else {
            need(Stage::Neighbors, block.max(partition).max(rows / 4 + choice + threads * tile).max(sampling), 0, 0)
        };

        let arcs = rows * ranks;
        let merge = threads * WINDOW_ARCS as u64 * WINDOW_ARC_BYTES + 16 * WINDOW_ARCS as u64 * 2;
        // Places within a run have 32 bits.
        let spill_least = (arcs / RUNS_MAX).max(block_rows * ranks).min(arcs).min(u64::from(u32::MAX));
        let spill_arcs = (room.saturating_sub(8 * rows) / SPILL_ARC_BYTES)
            .clamp(spill_least, SPILL_ARCS_MAX.min(arcs).max(spill_least));
        let spill = spill_arcs * SPILL_ARC_BYTES;
        let edges = need(Stage::Edges, 8 * rows, merge.max(spill_least * SPILL_ARC_BYTES), merge.max(spill));

        let sizes = config.sizes();
        let least_size = sizes.each().map(|sizes| sizes.cluster_size).min().unwrap_or(2);
        let per_thread = 2 * MIB + rows / u64::from(least_size) * 9;
        let clusters = need(Stage::Clusters, 20 * rows + PASS_BYTES + (threads + 1) * per_thread, 0, 0);

        let size = u64::from(sizes.each().map(|sizes| sizes.batch_size).max().unwrap_or(2));
        let row_group_rows = (ROW_GROUP_ROWS / size).max(1) * size;
        let fill = if config.batches.remainder == Remainder::Fill { 8 } else { 0 };
        let negatives = u64::from(config.batches.hard_negatives);
        let table = row_group_rows.min(rows) * (BATCH_ROW_BYTES + negatives * NEGATIVE_BYTES) + rows * (16 + fill);
        let preferred = u64::from(config.windows().each().map(|window| window.window).max().unwrap_or(1));
        let group_rows = if negatives == 0 { ROW_GROUP_ROWS } else { (POOL_ENTRIES as u64 / preferred).max(1) };
        let drawn = (group_rows + size).min(rows) * (4 * preferred + DRAWN_ROW_BYTES + 8 * negatives);
        let written = table + if negatives == 0 { 0 } else { drawn };
        // After the table is written it is published. Divided files gain from room: more of them are open at once.
        let published = rows * 20 + LAKE_BYTES;
        let open_file = |rows: u64| rows * (BATCH_ROW_BYTES + negatives * NEGATIVE_BYTES) + OPEN_FILE_BYTES;
        let open_least = open_file(row_group_rows.min(rows));
        let open_bytes = room.saturating_sub(published).clamp(open_least, OPEN_BYTES_MAX.max(open_least));
        let batches = match &config.table {
            None => need(Stage::Batches, written, 0, 0),
            Some(table) if !table.by_task => need(Stage::Batches, written.max(published), 0, 0),
            Some(_) => {
                let least = written.max(published + open_least);
                need(Stage::Batches, least, 0, written.max(published + open_bytes) - least)
            }
        };

        Plan {
            import_batch_rows: import_batch_rows as usize,
            block_rows: block_rows as usize,
            faiss_tile_rows: faiss_tile_rows as usize,
            gpu_shared_bytes: gpu_shared_bytes as usize,
            spill_arcs: spill_arcs as usize,
            row_group_rows: row_group_rows as usize,
            group_rows: group_rows as usize,
            open_bytes,
            open_file_bytes: [open_file(1) - open_file(0), open_file(0)],
            needs: [vectors, neighbors, edges, clusters, batches],
        }
    }
}

/// What a job costs, apart from memory. Bytes are estimates from above.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// Multiplications and additions of the search.
    pub operations: u128,
    /// Bytes left in the run folder by each stage.
    pub disk_bytes: [(Stage, u64); 5],
    /// Most bytes of temporary files that stand beside them for a time: the packed base, then spilled runs, at last
    /// divided tables.
    pub spill_bytes: u64,
}

impl Cost {
    /// From the shape, the bytes of a stored row (both sides), and each task's name and rows.
    pub fn new(config: &Config, shape: Shape, row_bytes: u64, tasks: &BTreeMap<String, u64>) -> Cost {
        let (windows, most_ranks) = (config.windows(), u64::from(config.most_ranks()));
        let pairs: u128 = tasks.values().map(|rows| u128::from(*rows) * u128::from(*rows)).sum();
        let ranks = |name: &str, rows: u64| u64::from(windows.of(name).ranks()).min(rows.saturating_sub(1));
        let arcs: u64 = tasks.iter().map(|(name, rows)| rows * ranks(name, *rows)).sum();
        let rows = shape.rows;
        let batch_row = 24 + 16 * u64::from(config.batches.hard_negatives);
        let batches = rows * batch_row * u64::from(config.batches.epochs);
        // Published into the run folder, it lies there twice; divided, once more on the way.
        let inside = config.table.as_ref().is_some_and(|table| table.out.is_none());
        let divided = if config.table.as_ref().is_some_and(|table| table.by_task) { batches } else { 0 };
        let keys = 1 + config.columns.keys.len() as u64;
        let gpu_width = if config.precision == Precision::F32 { 4 } else { 2 };
        let gpu_base = if config.seeks_gpus() { rows * shape.dim as u64 * gpu_width } else { 0 };
        Cost {
            operations: pairs * shape.dim as u128 * 2,
            disk_bytes: [
                (Stage::Vectors, rows * (row_bytes + 32 + 4 * keys)),
                // With the partition: two numbers a row, and a centre for some hundred rows.
                (Stage::Neighbors, rows * (12 + 8 * most_ranks) + rows * shape.dim as u64 / 100 + 4096),
                // Two bytes an arc, each arc seen from both ends.
                (Stage::Edges, arcs * 4),
                (Stage::Clusters, rows * 4),
                (Stage::Batches, batches * if inside { 2 } else { 1 }),
            ],
            // The packed base: a byte a value, lines of tails filled up, what is known of rows, one row in 16 once more.
            spill_bytes: (arcs * 5 / 2)
                .max(divided)
                .max((rows * (shape.dim as u64 + 80)) * 17 / 16 + 4 * (shape.dim as u64).pow(2) + gpu_base),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use bytesize::ByteSize;

    fn config(memory: u64, threads: usize) -> Config {
        let settings = Settings { memory: Some(ByteSize(memory)), threads: Some(threads), ..Settings::default() };
        Config::new(vec!["x".into()], settings).unwrap()
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
            let plan = Plan::new(&config(least, 2), shape).unwrap();
            assert!(plan.needs.iter().all(|need| need.memory_bytes <= least), "{plan:?}");
            assert!(Plan::new(&config(least - MIB, 2), shape).is_err());
        }
    }

    #[test]
    fn files_do_not_depend_on_the_budget() {
        let shape = Shape { rows: 1_000_000, dim: 1024 };
        let small = Plan::new(&config(least(shape), 2), shape).unwrap();
        let large = Plan::new(&config(64 << 30, 16), shape).unwrap();
        assert_eq!((small.block_rows, small.row_group_rows), (large.block_rows, large.row_group_rows));
        assert!(small.spill_arcs < large.spill_arcs);
    }

    #[test]
    fn hard_negatives_of_the_largest_batches_take_what_their_windows_do() {
        let of = |hard_negatives, batch_size| {
            let config = config(1 << 40, 2);
            let batches = crate::config::BatchRules { size: batch_size, hard_negatives, ..config.batches };
            let plan = Plan::new(&Config { batches, ..config }, Shape { rows: 10_000_000, dim: 64 }).unwrap();
            plan.needs[4].memory_bytes
        };
        // 65,536 windows of 100 are 26 MB; pools of smaller batches are 8 MB together.
        assert!((52 * MIB..96 * MIB).contains(&(of(5, 65_536) - of(0, 65_536))));
        assert!((16 * MIB..52 * MIB).contains(&(of(5, 1024) - of(0, 1024))));
    }

    #[test]
    fn the_state_stays_below_24_bytes_a_row() {
        let of = |rows| Plan::new(&config(1 << 40, 2), Shape { rows, dim: 64 }).unwrap().needs;
        for (small, large) in of(10_000_000).iter().zip(of(20_000_000)) {
            assert!(large.least_bytes - small.least_bytes <= 28 * 10_000_000, "{small:?} {large:?}");
        }
    }
}

//! The neighbors stage: IVF lists and packed base first, then a part for each block of queries, near ones together.

use rayon::prelude::*;

use super::blocks::{BASE, BlockSearch, Prepared, open_candidates, pairs_of};
use super::budget::NeighborsCounts;
use super::candidates::{CANDIDATES_FILE, Candidates, PositiveGroups};
use super::columns::BaseColumns;
use super::cpu::int8::{PackedBase, Packing};
use super::cpu::simd::Simd;
use super::engine::SearchEngine;
use super::file::{Block, Neighbors, block_name, write_block};
use super::gpu;
use super::head;
use super::initial_thresholds::ThresholdSample;
use super::ivf::{self, IVF_FILE, IvfIndex};
use super::pieces;
use super::probes::choose_probes;
use super::recall::RecallSample;
use super::tiles::Tiles;
use super::trial;
use super::window::refuse_empty_windows;
use crate::config::{Backend, Config, KernelPrecision, Pieces, RankWindow};
use crate::error::{Error, Result};
use crate::run::record::NeighborsFacts;
use crate::run::{Run, RunReader, Stage, StageRun};
use crate::vectors::{Place, Tasks, Vectors};
use crate::watch::Watch;

/// Finds the best p + m positives of every query, or opens the lists that are there.
///
/// # Errors
/// No query can have a preferred negative, the user interrupts, or the disk fails.
pub fn search(run: &Run, vectors: &Vectors, config: &Config, counts: &NeighborsCounts) -> Result<Neighbors> {
    let part = |name: &str| run.part(Stage::Neighbors, name);
    let windows = config.windows().all(vectors.tasks.names());
    let others = |task: usize| vectors.tasks.range(task).len() + vectors.documents_of(task).len();
    refuse_empty_windows(windows.iter().copied().zip((0..windows.len()).map(others)))?;
    if run.is_complete(Stage::Neighbors) {
        let facts: NeighborsFacts = run.facts()?;
        let candidates = open_candidates(&part, vectors, facts.candidates.is_some())?;
        return Neighbors::open(&part, vectors, facts.block_rows, candidates);
    }
    vectors.check()?;
    let stage = run.begin(Stage::Neighbors);
    let interrupt = |_: u64| run.check_interrupt();
    let watch = Watch::new(&interrupt);
    let simd = Simd::detect();
    let ranks: Vec<usize> = windows.iter().map(|window| window.ranks() as usize).collect();
    let gpus = find_gpus(config, counts, vectors, watch)?;
    let prepared = prepare(run, &stage, vectors, config, simd)?;
    warn_of_slow_bf16(config, simd);
    let mut tiles = prepared.tiles(vectors, config, counts, simd);
    if config.precision == KernelPrecision::Auto && gpus.is_none() && prepared.packed.is_some() {
        tiles.precision = trial::fastest(&tiles, &ranks, watch)?;
    }
    let sample = RecallSample::draw(&tiles, &ranks, watch)?;
    let gpus = gpus.map(|gpus| gpus.begin(run, &stage, vectors, config)).transpose()?;
    let choose = |goal: f64| choose_probes(&tiles, &sample, &ranks, goal, watch);
    let engine = SearchEngine::choose(config, counts, gpus, choose)?;
    tracing::debug!("search: {engine:?}, {:?}, {simd:?}", tiles.precision);
    let blocks = BlockSearch { tiles: &tiles, engine: &engine, ranks: &ranks, block_rows: counts.block_rows };
    make_blocks(run, &stage, &blocks, config.pieces)?;
    let candidates = prepared.candidates.clone();
    let total = candidates.as_ref().map(|_| tiles.columns.rows().len() as u64);
    let neighbors = Neighbors::open(&part, vectors, counts.block_rows, candidates)?;
    let recall = sample.of_lists(&neighbors)?;
    if engine.probes().is_none() && recall.share() < 1.0 {
        return Err(Error::runtime("the lists of an exact search lack candidates")
            .path(run.stage_folder(Stage::Neighbors))
            .expected(format!("those that brute force finds for {} queries", recall.queries))
            .found(format!("recall@{} of {:.4}", ranks.iter().max().unwrap_or(&0), recall.share()))
            .remedy("run `mine` again with --replace; if it comes again, report it"));
    }
    let [short, without] = count_short(&neighbors, &vectors.tasks, &windows);
    let facts = NeighborsFacts {
        block_rows: counts.block_rows,
        ranks: ranks.iter().copied().max().unwrap_or(0),
        short_rows: short,
        rows_without_window: without,
        recall: recall.share(),
        recall_queries: recall.queries,
        probes: engine.probes(),
        lists: prepared.ivf.starts().len() - 1,
        left_to_cpu: engine.left_to_cpu(),
        candidates: total,
    };
    log_result(&facts, config);
    log_documents(&neighbors);
    drop((engine, prepared));
    stage.finish(&facts, |name| name != BASE && name != gpu::BASE)?;
    run.remove_pieces(None)?;
    Ok(neighbors)
}

/// Opens the lists of a finished run.
///
/// # Errors
/// The stage is not finished, or a file is damaged.
pub(crate) fn open(run: &RunReader, vectors: &Vectors) -> Result<Neighbors> {
    let facts: NeighborsFacts = run.facts()?;
    let part = |name: &str| run.part(Stage::Neighbors, name);
    let candidates = open_candidates(&part, vectors, facts.candidates.is_some())?;
    Neighbors::open(&part, vectors, facts.block_rows, candidates)
}

/// The devices that search, if any do: their base is all rows, so none does where ranks are those of positives, or
/// where documents are candidates.
fn find_gpus(
    config: &Config,
    counts: &NeighborsCounts,
    vectors: &Vectors,
    watch: Watch<'_>,
) -> Result<Option<gpu::Gpus>> {
    if config.pieces == Pieces::External {
        return Ok(None);
    }
    if !config.ranks_positives() && vectors.documents.is_none() {
        let largest_task = vectors.tasks.ranges().map(|range| range.len()).max().unwrap_or(0);
        return gpu::find(config, counts.gpu_room(), vectors.shape(), largest_task, watch);
    }
    if config.backend == Backend::FaissGpu {
        tracing::warn!(
            "ranks of distinct positives, and those with a corpus, are searched on the CPU; the result is the same"
        );
    }
    Ok(None)
}

fn warn_of_slow_bf16(config: &Config, simd: Simd) {
    let asked = config.precision == KernelPrecision::Bf16 && config.backend != Backend::Faiss;
    if asked && !simd.multiplies_bf16() {
        tracing::warn!("this machine has no instruction for bf16: the search will be slow; --precision f32 is faster");
    }
}

/// The IVF lists, who is a candidate, and, for int8, the packed base: made, or those of an interrupted run.
fn prepare(run: &Run, stage: &StageRun<'_>, vectors: &Vectors, config: &Config, simd: Simd) -> Result<Prepared> {
    let interrupt = |_: u64| run.check_interrupt();
    let watch = Watch::new(&interrupt);
    if !run.has(Stage::Neighbors, IVF_FILE) {
        ivf::build(stage, IVF_FILE, vectors, simd, watch)?;
    }
    let ivf = IvfIndex::open(&run.part(Stage::Neighbors, IVF_FILE)?, vectors)?;
    let candidates = make_candidates(run, stage, vectors, config, &ivf)?;
    let columns = BaseColumns { ivf: &ivf, tasks: &vectors.tasks, chosen: candidates.as_ref() };
    let samples = ThresholdSample::new(columns);
    let packs = matches!(config.precision, KernelPrecision::Auto | KernelPrecision::Int8);
    if !packs || config.backend == Backend::Faiss {
        return Ok(Prepared { ivf, candidates, samples, packed: None });
    }
    let dim = vectors.shape().dim;
    if !run.has(Stage::Neighbors, BASE) {
        let frame = head::choose(simd, vectors, config.most_ranks() as usize, config.metric);
        let (order, sampled, metric) = (columns.rows(), samples.rows(), config.metric);
        let packing = Packing { order, sampled, frame: &frame, metric, simd };
        let part = stage.scattered(BASE, packing.file_bytes(dim))?;
        packing.write(&part, &vectors.positives, watch)?;
        stage.publish(vec![part])?;
    }
    let rows = columns.rows().len() as u64;
    let packed = PackedBase::open(&run.part(Stage::Neighbors, BASE)?, simd, rows, dim, samples.rows().len() as u64)?;
    packed.check()?;
    Ok(Prepared { ivf, candidates, samples, packed: Some(packed) })
}

/// Finds out which rows share a positive, where any task's ranks are those of distinct positives; and which documents
/// are candidates, where there is a corpus.
fn make_candidates(
    run: &Run,
    stage: &StageRun<'_>,
    vectors: &Vectors,
    config: &Config,
    ivf: &IvfIndex,
) -> Result<Option<Candidates>> {
    if !config.ranks_positives() && vectors.documents.is_none() {
        return Ok(None);
    }
    if !run.has(Stage::Neighbors, CANDIDATES_FILE) {
        let codes = vectors.row_positives(config.columns.positive_key.as_deref())?;
        let by = config.ranks_by().all(vectors.tasks.names());
        let groups = PositiveGroups::new(vectors, &codes, ivf.places(), &by);
        stage.commit(CANDIDATES_FILE, |out| groups.write(out, ivf.list_order()))?;
    }
    open_candidates(&|name| run.part(Stage::Neighbors, name), vectors, true)
}

/// Makes the blocks that are not there yet, and commits each as a part; or waits until others have made them.
fn make_blocks(run: &Run, stage: &StageRun<'_>, search: &BlockSearch<'_>, pieces: Pieces) -> Result<()> {
    let Tiles { vectors, columns, .. } = *search.tiles;
    let rows = vectors.row_count();
    let total = pairs_of(columns, 0..rows);
    let is_exact = search.engine.probes().is_none();
    let operations = if is_exact { 2.0 * vectors.shape().dim as f64 } else { 0.0 };
    let meter =
        run.meter(Stage::Neighbors, total, "pairs").with_rates(f64::from(rows) / total.max(1) as f64, operations);
    // Pairs that approximate search leaves out count as done when the block is.
    let listen = |pairs: u64| meter.add(if is_exact { pairs } else { 0 });
    let watch = Watch::new(&listen);
    let pairs = |index: usize| pairs_of(columns, search.block(index));
    let mut missing = Vec::new();
    for index in 0..search.count() {
        match run.has(Stage::Neighbors, &block_name(index)) {
            true => meter.skip(pairs(index)),
            false => missing.push(index),
        }
    }
    if pieces == Pieces::External {
        return pieces::wait(run, stage, search, missing, |index| meter.add(pairs(index)));
    }
    // Workers may have made some for an earlier call.
    let there = pieces::adopt(run, stage, search, &missing)?;
    for index in missing {
        if there.contains(&index) {
            meter.skip(pairs(index));
            continue;
        }
        let block = search.block(index);
        let lists = search.lists(block.clone(), watch)?;
        stage.commit(&block_name(index), |out| write_block(out, Place::new(block.start), search.most(), &lists))?;
        if !is_exact {
            meter.add(pairs(index))?;
        }
    }
    Ok(())
}

/// Logs recall, what the GPUs left, and short lists.
fn log_result(facts: &NeighborsFacts, config: &Config) {
    let NeighborsFacts { ranks, short_rows: short, rows_without_window: without, .. } = facts;
    tracing::info!("recall@{ranks} {:.4} on a sample of {} queries", facts.recall, facts.recall_queries);
    if let Some(left) = facts.left_to_cpu {
        tracing::info!("the GPUs left {left} queries to the CPU");
    }
    if *short > 0 {
        let ranks = if config.windows().tasks.is_empty() { format!("p + m = {ranks}") } else { "p + m".into() };
        tracing::warn!(
            "{short} rows have fewer than {ranks} candidates in their task: their rank window is shorter, and \
             {without} have no preferred negative"
        );
    }
}

/// Says how many documents are candidates, and how many of those in lists are documents: only the others have edges.
/// O(rows · ranks) with a corpus.
fn log_documents(neighbors: &Neighbors) {
    let rows = Place::new(neighbors.row_count());
    if neighbors.order().len() == rows.index() {
        return;
    }
    let of_block = |block: &Block| {
        let lists = block.range().iter().map(|place| block.neighbors(place));
        lists.fold([0, 0], |[all, documents], list| {
            [all + list.len(), documents + list.iter().filter(|other| **other >= rows).count()]
        })
    };
    let sum = |a: [usize; 2], b: [usize; 2]| [a[0] + b[0], a[1] + b[1]];
    let [all, documents] = neighbors.blocks().par_iter().map(of_block).reduce(|| [0; 2], sum);
    if let Some(candidates) = neighbors.candidates() {
        let (known, found) = (neighbors.order().len() - rows.index(), candidates.parts()[1].len());
        tracing::info!(
            "{found} documents are candidates; {} have the positive of a row, or of another document",
            known - found
        );
    }
    let share = 100.0 * documents as f64 / all.max(1) as f64;
    tracing::info!("{share:.1} % of the candidates in lists are documents; the graph is made of the others");
}

/// Rows whose list is shorter than their window, and of these those without one preferred negative by rank.
fn count_short(neighbors: &Neighbors, tasks: &Tasks, windows: &[RankWindow]) -> [u64; 2] {
    let lengths = windows.iter().enumerate().flat_map(|(task, window)| {
        let length = |place| neighbors.of(place).len();
        let lengths = tasks.places(task).iter().map(length);
        lengths.map(move |length| (length, window.ranks() as usize, window.skip as usize))
    });
    lengths.fold([0; 2], |[short, without], (length, ranks, skip)| {
        [short + u64::from(length < ranks), without + u64::from(length <= skip)]
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use npyz::WriterBuilder;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::config::{Metric, Settings};
    use crate::job::Job;
    use crate::neighbors::cpu::frame::Frame;
    use crate::neighbors::cpu::rotation::Rotation;
    use crate::neighbors::tiles::TILE_QUERIES;
    use crate::neighbors::topk::Candidate;
    use crate::run::progress::Progress;
    use crate::run::storage::Disk;
    use crate::vectors::{self, RowId};

    /// Enough rows for four stretches of a tile, so that it can change its precision twice.
    const ROWS: usize = 25_000;
    const DIM: usize = 48;

    /// Rows whose first value outweighs all others by so much, as an array of f32 on disk.
    fn write_dominated(path: &std::path::Path, by: f32) {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let values = (0..ROWS * DIM).map(|index| if index % DIM == 0 { by } else { random.random_range(-1.0f32..1.0) });
        let file = std::fs::File::create(path).unwrap();
        let options = npyz::WriteOptions::new().default_dtype().shape(&[ROWS as u64, DIM as u64]);
        let mut writer = options.writer(std::io::BufWriter::new(file)).begin_nd().unwrap();
        writer.extend(values).unwrap();
        writer.finish().unwrap();
    }

    /// A run whose rows are imported.
    fn imported(place: &std::path::Path, by: f32) -> (Run, Config, Vectors) {
        let input = place.join("input.npy");
        write_dominated(&input, by);
        let config = Config::new(vec![input.display().to_string()], Settings::default()).unwrap();
        let job = Job::open(config).unwrap();
        let interrupt = Arc::new(AtomicBool::new(false));
        let run = Run::open(&place.join("run"), None, Arc::new(Disk), Progress::silent(), interrupt).unwrap();
        run.apply_settings(&job.settings(), job.places(), false).unwrap();
        let vectors = vectors::import(&run, &job.shards, None, &job.config, &job.plan.vectors).unwrap();
        (run, job.config, vectors)
    }

    #[test]
    fn initial_thresholds_that_are_too_high_cost_no_candidate() {
        const RANKS: usize = 20;
        let place = tempfile::tempdir().unwrap();
        let (run, config, vectors) = imported(place.path(), 0.0);
        let stage = run.begin(Stage::Neighbors);
        let simd = Simd::detect();
        let prepared = prepare(&run, &stage, &vectors, &config, simd).unwrap();
        let columns = prepared.columns(&vectors.tasks);
        let Prepared { ivf, samples, packed, .. } = &prepared;
        let rows: Vec<RowId> = (0..ROWS as RowId).step_by(ROWS / 100).collect();
        let search = |samples: &ThresholdSample, packed: Option<&PackedBase>| {
            let (vectors, precision) = (&vectors, KernelPrecision::Int8);
            let fine_queries = TILE_QUERIES;
            let tiles =
                Tiles { vectors, columns, packed, samples, precision, simd, metric: Metric::Cosine, fine_queries };
            tiles.exact(0..ROWS, &rows, RANKS, Watch::silent()).unwrap()
        };
        let wanted = search(samples, packed.as_ref());
        // A sample of nothing but the best of these queries: every initial threshold lies above the last of them.
        let best = |list: &Vec<Candidate>| list[..RANKS / 2].iter().map(|candidate| candidate.row).collect::<Vec<_>>();
        let chosen: Vec<RowId> = wanted.iter().flat_map(best).collect();
        assert!(crate::neighbors::initial_thresholds::rank(RANKS, ROWS, chosen.len()).unwrap() <= RANKS / 2);
        let rotation = Rotation::new(simd, &vectors.positives, &rows, DIM * 3 / 4);
        let samples = ThresholdSample::of_one_task(chosen);
        for (name, rotation) in [("whole.pak", None), ("turned.pak", Some(rotation))] {
            let (order, frame) = (ivf.order(), Frame::rotated(rotation));
            let (sampled, metric) = (samples.rows(), Metric::Cosine);
            let packing = Packing { order, sampled, frame: &frame, metric, simd };
            let part = stage.scattered(name, packing.file_bytes(DIM)).unwrap();
            packing.write(&part, &vectors.positives, Watch::silent()).unwrap();
            stage.publish(vec![part]).unwrap();
            let path = run.part(Stage::Neighbors, name).unwrap();
            let other = PackedBase::open(&path, simd, ROWS as u64, DIM, samples.rows().len() as u64).unwrap();
            assert!(search(&samples, Some(&other)) == wanted, "{name}");
        }
    }

    #[test]
    fn tiles_that_change_their_precision_find_the_same() {
        // int8 filters; int8 does not, and bf16 does; neither does.
        for by in [0.0, 20.0, 200.0] {
            let place = tempfile::tempdir().unwrap();
            let (run, config, vectors) = imported(place.path(), by);
            let stage = run.begin(Stage::Neighbors);
            for simd in [Simd::detect(), Simd::Avx512] {
                let prepared = prepare(&run, &stage, &vectors, &config, simd).unwrap();
                let columns = prepared.columns(&vectors.tasks);
                let Prepared { samples, packed, .. } = &prepared;
                let search = |precision| {
                    let packed = packed.as_ref();
                    let tiles = Tiles {
                        vectors: &vectors,
                        columns,
                        packed,
                        samples,
                        precision,
                        simd,
                        metric: Metric::Cosine,
                        fine_queries: TILE_QUERIES,
                    };
                    let rows: Vec<RowId> = (0..ROWS as RowId).step_by(ROWS / 100).collect();
                    let exact = tiles.exact(0..ROWS, &rows, 20, Watch::silent()).unwrap();
                    (exact, tiles.approximate(0, &rows, 20, 4, Watch::silent()).unwrap())
                };
                let wanted = search(KernelPrecision::F32);
                let packed = packed.as_ref();
                let (precision, fine_queries) = (KernelPrecision::Auto, TILE_QUERIES);
                let (vectors, metric) = (&vectors, Metric::Cosine);
                let tiles = Tiles { vectors, columns, packed, samples, precision, simd, metric, fine_queries };
                let tried = trial::tried(&tiles, 0..ROWS, &[20], Watch::silent()).unwrap();
                assert!(search(tried) == wanted, "{by} {simd:?} {tried:?}");
                // A trial ends with its job.
                let stopped = |_: u64| Err(crate::error::Error::runtime("stopped"));
                assert!(trial::tried(&tiles, 0..ROWS, &[20], Watch::new(&stopped)).is_err());
                assert!(
                    search(KernelPrecision::Int8) == wanted && search(KernelPrecision::Bf16) == wanted,
                    "{by} {simd:?}"
                );
            }
        }
    }
}

//! clusters: a label for every row, so that much edge weight lies inside clusters of exactly K.
//!
//! Algorithm, streaming: size-constrained label propagation from singletons ([`propagate`]), exact sizes
//! ([`exact`]), then swaps that keep them ([`refine`]). Each pass reads the graph once. Chunks of rows
//! propose in parallel against frozen state and are applied in order: the same labels at any number
//! of threads. After Meyerhenke, Sanders, Schulz, *Partitioning Complex Networks via Size-constrained
//! Clustering* (2014) for the first phase; the swaps with best other clusters are our own.
//!
//! Rows are known by their places in the order of the partition, so that neighbours lie close in every table;
//! labels are by row again. Each pass leaves its state as a part ([`passes`]).
//!
//! Memory: at most 20 bytes a row, 8 bytes a cluster, the decoded blocks of a chunk, and for each thread tables of 9
//! bytes a cluster.

pub(crate) mod budget;
pub(crate) mod chunks;
pub(crate) mod exact;
pub(crate) mod exclude;
pub(crate) mod labels;
pub(crate) mod metrics;
pub(crate) mod passes;
pub(crate) mod propagate;
pub(crate) mod refine;
pub(crate) mod tally;

use std::ops::Range;

use crate::config::Config;
use crate::edges::{EdgeRows, Relation};
use crate::error::Result;
use crate::neighbors::{Neighbors, Windows};
use crate::run::record::{ClusterMetrics, ClustersFacts};
use crate::run::{Run, RunReader, Stage, StageRun};
use crate::vectors::{Keys, RowId, Vectors};
use exact::Slots;
use labels::write_labels;
pub(crate) use labels::{Clusters, NO_CLUSTER};
use passes::{PassState, pass_name};
use propagate::Communities;
use refine::Swaps;

const LABELS: &str = "labels.lbl";

/// Weights are sums of multiples of 1/[`UNIT`]: integers, so that sums are exact in any order.
pub(crate) const UNIT: i32 = 64;

/// The weight of each kind of arc, in units.
pub(crate) type Weights = [i32; Relation::COUNT];

/// What every pass goes by.
#[derive(Debug, Clone)]
pub struct PassRules<'a> {
    /// Who may not meet.
    pub keys: Keys<'a>,
    /// Each task's rows and K, in order; together they are all rows.
    pub tasks: Vec<TaskPlaces>,
    /// What arcs weigh.
    pub weights: Weights,
}

impl PassRules<'_> {
    /// K of a row's task. O(log tasks).
    #[inline]
    pub fn size_of(&self, row: RowId) -> u32 {
        match &self.tasks[..] {
            [task] => task.size,
            tasks => tasks[tasks.partition_point(|task| task.rows.end <= row)].size,
        }
    }
}

/// A task, as clusters see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskPlaces {
    /// Its rows.
    pub rows: Range<RowId>,
    /// K.
    pub size: u32,
}

/// Weights for a suspect weight λ: + 1 for a direction in the window, − λ for one as a suspect.
pub fn weights(suspect_weight: f32) -> Weights {
    let penalty = (f64::from(suspect_weight) * f64::from(UNIT)).round() as i32;
    std::array::from_fn(|code| {
        Relation::from_code(code as u8)
            .map_or(0, |relation| UNIT * i32::from(relation.window()) - penalty * i32::from(relation.suspects()))
    })
}

/// Clusters the graph, or opens the labels that are there.
///
/// # Errors
/// The user interrupts, the graph is damaged, or the disk fails.
pub(crate) fn cluster(
    run: &Run,
    vectors: &Vectors,
    neighbors: &Neighbors,
    edges: &impl EdgeRows,
    config: &Config,
) -> Result<Clusters> {
    let path = run.part_path(Stage::Clusters, LABELS);
    if !run.is_complete(Stage::Clusters) {
        let stage = run.begin(Stage::Clusters);
        let (slots, phases) = group(run, &stage, vectors, neighbors, edges, config)?;
        let (clusters, labels) = (slots.clusters(), slots.labels());
        drop(slots);
        let unplaced = labels.iter().filter(|label| **label == NO_CLUSTER).count();
        if unplaced > 0 {
            tracing::warn!(
                "{unplaced} rows fit into no cluster: their tasks have more rows of one key (or one positive) than \
                 batches, and a batch takes one of each; --remainder decides what becomes of them"
            );
        }
        let largest =
            config.sizes().all(vectors.tasks.names()).iter().map(|sizes| sizes.cluster_size).max().unwrap_or(0);
        let labels: Vec<u32> = neighbors.places().iter().map(|place| labels[*place as usize]).collect();
        stage.commit(LABELS, |out| write_labels(out, &labels, clusters, largest))?;
        let metrics = phases.last().map(|(_, metrics)| *metrics);
        stage.finish(&ClustersFacts { clusters, unplaced, metrics, phases }, |name| name == LABELS)?;
    }
    Clusters::open(&path, vectors.row_count())
}

/// What clusters were worth after each phase that this call saw the end of.
type Phases = Vec<(String, ClusterMetrics)>;

/// Pass after pass, from where the last call stopped. Rows are places.
fn group(
    run: &Run,
    stage: &StageRun<'_>,
    vectors: &Vectors,
    neighbors: &Neighbors,
    edges: &impl EdgeRows,
    config: &Config,
) -> Result<(Slots, Phases)> {
    let order = neighbors.order();
    let windows = Windows::new(vectors, neighbors, config);
    let sizes = config.sizes().all(vectors.tasks.names());
    let tasks = || vectors.tasks.ranges().zip(&sizes);
    let rules = PassRules {
        keys: vectors.rows.keys().by_place(order),
        tasks: tasks().map(|(rows, sizes)| TaskPlaces { rows, size: sizes.cluster_size }).collect(),
        weights: weights(config.clusters.suspect_weight),
    };
    let most_passes = config.clusters.passes;
    let rows = u64::from(edges.rows());
    let meter = run.meter(Stage::Clusters, rows * (u64::from(propagate::PASSES) + 1 + u64::from(most_passes)), "rows");
    let watch = |rows: u64| meter.add(rows);
    let by_row = exclude::exclude(&vectors.rows.keys(), tasks().map(|(rows, sizes)| (rows, sizes.batch_size)));
    let mut excluded: Vec<bool> = order.iter().map(|row| by_row[*row as usize]).collect();
    drop(by_row);

    let mut last = run.parts(Stage::Clusters, passes::PREFIX).pop();
    let (mut done, mut progress) = match &last {
        Some(name) => PassState::read(&run.part_path(Stage::Clusters, name), &rules.tasks, &excluded)?,
        None => (0, PassState::Growing(Communities::singletons(&excluded))),
    };
    if !matches!(progress, PassState::Growing(_)) {
        excluded = Vec::new();
    }
    // The last pass of growth is followed by the one that fixes sizes.
    meter.skip(rows * u64::from(done + u32::from(done >= propagate::PASSES)));
    let mut phases = Phases::new();
    let ends = |phases: &mut Phases, phase: &str, labels: &[u32]| {
        let metrics = metrics::measure(&windows, labels);
        if phases.is_empty() {
            tracing::info!("{}", ClusterMetrics::HEADING);
        }
        tracing::info!("{}", metrics.line(phase));
        phases.push((phase.to_owned(), metrics));
    };
    loop {
        progress = match progress {
            PassState::Growing(mut communities) => {
                propagate::propagate(edges, &mut communities, &rules, &watch)?;
                if done + 1 < propagate::PASSES {
                    PassState::Growing(communities)
                } else {
                    ends(&mut phases, "propagation", communities.labels());
                    let slots = exact::fix_sizes(edges, communities, &excluded, &rules, &watch)?;
                    excluded = Vec::new(); // 20 bytes a row are needed from here on
                    ends(&mut phases, "exact sizes", &slots.labels());
                    PassState::Exact(slots)
                }
            }
            PassState::Exact(slots) if most_passes == 0 => {
                if phases.is_empty() {
                    ends(&mut phases, "exact sizes", &slots.labels());
                }
                return Ok((slots, phases));
            }
            PassState::Exact(slots) => {
                let mut swaps = Swaps::new(slots);
                refine::swap(edges, &mut swaps, &rules, &watch)?;
                PassState::Swapping(swaps)
            }
            PassState::Swapping(mut swaps) => {
                let before = swaps.inside();
                let number = done - propagate::PASSES + 1;
                if number <= most_passes {
                    refine::swap(edges, &mut swaps, &rules, &watch)?;
                    tracing::debug!("swap pass {number}: {} of weight inside more", swaps.inside() - before);
                }
                // After the first pass not all connections are known yet.
                if number >= most_passes || (number > 2 && !refine::gained(before, swaps.inside())) {
                    let slots = swaps.into_slots();
                    ends(&mut phases, "swaps", &slots.labels());
                    return Ok((slots, phases));
                }
                PassState::Swapping(swaps)
            }
        };
        done += 1;
        let name = pass_name(done);
        stage.supersede(last.as_deref(), &name, |out| progress.write(out, done, &rules.tasks))?;
        last = Some(name);
    }
}

/// Opens the labels of a finished run.
///
/// # Errors
/// The stage is not finished, or the file is damaged.
pub(crate) fn open(run: &RunReader, rows: u32) -> Result<Clusters> {
    run.stage(Stage::Clusters)?;
    Clusters::open(&run.stage_folder(Stage::Clusters).join(LABELS), rows)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::edges::{Edge, MemoryEdges};
    use crate::vectors::rows::UNIQUE;

    const ROWS: RowId = 5000;
    const SIZES: [(Range<RowId>, u32); 2] = [(0..3001, 8), (3001..ROWS, 12)];

    /// Two tasks of rows that mostly know rows near them, in more blocks than a chunk has.
    fn graph() -> MemoryEdges {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let mut lists: Vec<BTreeMap<RowId, Relation>> = vec![BTreeMap::new(); ROWS as usize];
        for row in 0..ROWS {
            let task = if row < 3001 { 0..3001 } else { 3001..ROWS };
            for number in 0..12 {
                let near = row.saturating_sub(40).max(task.start)..(row + 40).min(task.end);
                let other = random.random_range(if number < 10 { near } else { task.clone() });
                if other != row {
                    let relation = if number % 4 == 0 { Relation::SUSPECT } else { Relation::WINDOW };
                    lists[row as usize].insert(other, relation);
                    lists[other as usize].insert(row, relation);
                }
            }
        }
        let arcs =
            |list: BTreeMap<RowId, Relation>| list.into_iter().map(|(row, relation)| Edge { row, relation }).collect();
        MemoryEdges::new(lists.into_iter().map(arcs).collect(), 32)
    }

    /// All passes; with `stops`, everything but what a part holds is thrown away after each.
    fn cluster_all(edges: &MemoryEdges, codes: &[u32], stops: bool) -> Vec<u32> {
        let tasks = SIZES.map(|(rows, size)| TaskPlaces { rows, size });
        let rules = PassRules { keys: Keys::new(vec![codes]), tasks: tasks.to_vec(), weights: weights(0.5) };
        let watch = |_: u64| Ok(());
        let excluded = vec![false; ROWS as usize];
        let mut communities = Communities::singletons(&excluded);
        for _ in 0..propagate::PASSES {
            propagate::propagate(edges, &mut communities, &rules, &watch).unwrap();
            if stops {
                let labels = communities.labels().to_vec();
                communities = Communities::from_labels(&tasks, &excluded, labels).unwrap();
            }
        }
        let slots = exact::fix_sizes(edges, communities, &excluded, &rules, &watch).unwrap();
        let again = |slots: &Slots| Slots::from_slots(&tasks, &excluded, slots.slot_of.clone()).unwrap();
        let mut swaps = Swaps::new(if stops { again(&slots) } else { slots });
        let mut inside = Vec::new();
        for _ in 0..4 {
            refine::swap(edges, &mut swaps, &rules, &watch).unwrap();
            inside.push(swaps.inside());
            if stops {
                let words =
                    |bytes: &[u8]| -> Vec<u32> { bytes.as_chunks().0.iter().map(|w| u32::from_ne_bytes(*w)).collect() };
                let signed = |words: Vec<u32>| words.into_iter().map(u32::cast_signed).collect();
                let [slot_of, own, best_other, best_other_sum] = swaps.arrays().map(words);
                let slots = Slots::from_slots(&tasks, &excluded, slot_of).unwrap();
                swaps = Swaps::from_arrays(slots, signed(own), best_other, signed(best_other_sum));
            }
        }
        assert!(inside.is_sorted() && inside[3] > inside[0], "{inside:?}");
        swaps.into_slots().labels()
    }

    #[test]
    fn stops_and_threads_change_no_label_and_no_key_meets_itself() {
        let edges = graph();
        let codes: Vec<u32> = (0..ROWS).map(|row| if row % 3 == 0 { row / 30 } else { UNIQUE }).collect();
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let wanted = pool(1).install(|| cluster_all(&edges, &codes, false));
        for (threads, stops) in [(2, false), (7, true), (1, true)] {
            assert!(pool(threads).install(|| cluster_all(&edges, &codes, stops)) == wanted, "{threads} {stops}");
        }
        let [first, second] = SIZES.map(|(rows, size)| (rows.len() as u32).div_ceil(size));
        let (starts, rows) = labels::members(&wanted, first + second);
        let sizes: Vec<u32> = starts.windows(2).map(|bounds| bounds[1] - bounds[0]).collect();
        // The last one is nobody's: rows without a cluster.
        let wanted_sizes = |(rows, size): (Range<RowId>, u32)| {
            let rows = rows.len() as u32;
            (0..rows.div_ceil(size)).map(move |cluster| size.min(rows - cluster * size))
        };
        assert!(sizes.into_iter().eq(SIZES.into_iter().flat_map(wanted_sizes).chain([0])));
        for bounds in starts.windows(2) {
            let mut keys: Vec<u32> = rows[bounds[0] as usize..bounds[1] as usize]
                .iter()
                .map(|row| codes[*row as usize])
                .filter(|code| *code != UNIQUE)
                .collect();
            keys.sort_unstable();
            assert!(keys.windows(2).all(|pair| pair[0] != pair[1]));
        }
    }
}

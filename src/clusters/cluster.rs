//! The stage: pass after pass, a part for the state after each, and the labels at the end.

use super::exact::{self, Slots};
use std::ops::Range;

use super::exclude::{exclude, most_of_one_key};
use super::labels::{Clusters, NO_CLUSTER, write_labels};
use super::metrics::measure;
use super::passes::{self, PassState, pass_name};
use super::propagate::{self, Communities};
use super::refine::{self, Swaps};
use super::rules::{PassRules, TaskPlaces, weights};
use crate::config::{Config, Sizes};
use crate::edges::{self, EdgeRows};
use crate::error::Result;
use crate::neighbors::{Neighbors, Windows};
use crate::run::record::{ClusterMetrics, ClustersFacts};
use crate::run::{Run, RunReader, Stage, StageRun};
use crate::vectors::{self, RowId, Vectors};
use crate::watch::Watch;

const LABELS: &str = "labels.lbl";

/// Clusters the graph, or opens the labels that are there.
///
/// # Errors
/// The user interrupts, the graph is damaged, or the disk fails.
pub(crate) fn cluster(
    run: &Run,
    vectors: &Vectors,
    neighbors: &Neighbors,
    graph: &impl EdgeRows,
    config: &Config,
) -> Result<Clusters> {
    if !run.is_complete(Stage::Clusters) {
        let stage = run.begin(Stage::Clusters);
        neighbors.check_lists()?;
        let (slots, phases) = all_passes(run, &stage, vectors, neighbors, graph, config)?;
        let (clusters, labels) = (slots.clusters(), slots.labels());
        drop(slots);
        let unplaced = labels.iter().filter(|label| **label == NO_CLUSTER).count();
        let left_out = edges::own_ranks::open_of(run, vectors, config)?.map_or(0, |ranks| ranks.left_out());
        let by_keys = unplaced.saturating_sub(left_out as usize);
        if by_keys > 0 {
            let parted = if config.verdicts.files.is_empty() { "" } else { ", or parted by verdicts," };
            tracing::warn!(
                "{by_keys} rows fit into no cluster: their tasks have more rows of one key (or one vector){parted} \
                 than batches take; --remainder decides what becomes of them"
            );
        }
        let largest = sizes(config, vectors).iter().map(|sizes| sizes.cluster_size).max().unwrap_or(0);
        let labels: Vec<u32> =
            neighbors.places()[..vectors.row_count() as usize].iter().map(|place| labels[place.index()]).collect();
        // A job that was killed just before the end has written them.
        if !run.has(Stage::Clusters, LABELS) {
            stage.commit(LABELS, |out| write_labels(out, &labels, clusters, largest))?;
        }
        let metrics = phases.last().map(|(_, metrics)| *metrics);
        stage.finish(&ClustersFacts { clusters, unplaced, metrics, phases }, |name| name == LABELS)?;
    }
    Clusters::open(&run.part(Stage::Clusters, LABELS)?, vectors.row_count())
}

/// Opens the labels of a finished run.
///
/// # Errors
/// The stage is not finished, or the file is damaged.
pub(crate) fn open(run: &RunReader, rows: u32) -> Result<Clusters> {
    Clusters::open(&run.part(Stage::Clusters, LABELS)?, rows)
}

/// The cluster of each input row of a finished run, in the input's order; -1: in none.
///
/// # Errors
/// The run is not finished, or a file is damaged.
pub fn labels_by_input_row(run: &RunReader) -> Result<Vec<i32>> {
    let vectors = vectors::open(run)?;
    let clusters = open(run, vectors.row_count())?;
    let rows = &vectors.rows.input_rows()[..vectors.row_count() as usize];
    // Rows that were left out have no cluster either.
    let mut all = vec![-1; rows.iter().max().map_or(0, |last| *last as usize + 1)];
    for (row, label) in rows.iter().zip(clusters.labels()) {
        if *label != NO_CLUSTER {
            all[*row as usize] = label.cast_signed();
        }
    }
    Ok(all)
}

/// The sizes of each task.
fn sizes(config: &Config, vectors: &Vectors) -> Vec<Sizes> {
    config.sizes().all(vectors.tasks.names())
}

/// What clusters were worth after each phase that this call saw the end of.
type Phases = Vec<(String, ClusterMetrics)>;

/// Pass after pass, from where the last job stopped.
fn all_passes(
    run: &Run,
    stage: &StageRun<'_>,
    vectors: &Vectors,
    neighbors: &Neighbors,
    graph: &impl EdgeRows,
    config: &Config,
) -> Result<(Slots, Phases)> {
    let rows = u64::from(graph.rows());
    let most_swaps = config.clusters.passes;
    let meter = run.meter(Stage::Clusters, rows * (u64::from(propagate::PASSES) + 1 + u64::from(most_swaps)), "rows");
    let listen = |rows: u64| meter.add(rows);
    let sizes = sizes(config, vectors);
    let task_places = |(task, sizes): (usize, &Sizes)| {
        TaskPlaces::new(vectors.tasks.places(task), *sizes, config.batches.rows_per_key)
    };
    let rules = PassRules {
        keys: vectors.rows.parting_keys().by_place(neighbors.order()),
        tasks: sizes.iter().enumerate().map(task_places).collect(),
        weights: weights(config.clusters.suspect_weight),
    };
    let windows = edges::windows(run, vectors, neighbors, config)?;
    let own_ranks = edges::own_ranks::open_of(run, vectors, config)?;
    let is_out = |row: RowId| own_ranks.as_ref().is_some_and(|ranks| ranks.leaves_out(row));
    let by_row: Vec<bool> = (0..vectors.row_count()).map(is_out).collect();
    let by_row = excluded(vectors, &sizes, config.batches.rows_per_key, by_row);
    let mut excluded: Vec<bool> = neighbors.row_order().iter().map(|row| by_row[*row as usize]).collect();
    drop(by_row);

    let mut last = run.parts(Stage::Clusters, passes::PREFIX).pop();
    let (mut done, mut state) = match &last {
        Some(name) => PassState::read(&run.part(Stage::Clusters, name)?, &rules.tasks, &excluded)?,
        None => (0, PassState::Growing(Communities::singletons(&excluded))),
    };
    if !matches!(state, PassState::Growing(_)) {
        excluded = Vec::new();
    }
    // The last pass of growth is followed by the one that fixes sizes.
    meter.skip(rows * u64::from(done + u32::from(done >= propagate::PASSES)));
    let watch = Watch::new(&listen);
    let mut passes = Passes { graph, rules, windows, excluded, most_swaps, watch, phases: Phases::new() };
    loop {
        state = match passes.next(done, state)? {
            Next::Pass(state) => state,
            Next::End(slots) => return Ok((slots, passes.phases)),
        };
        done += 1;
        let name = pass_name(done);
        stage.supersede(last.as_deref(), &name, |out| state.write(out, done, &passes.rules.tasks))?;
        last = Some(name);
    }
}

/// Which rows are excluded, by row; `left_out` are so in any case.
fn excluded(vectors: &Vectors, sizes: &[Sizes], rows_per_key: u32, left_out: Vec<bool>) -> Vec<bool> {
    let most = |(rows, sizes): (Range<RowId>, &Sizes)| {
        let out = left_out[rows.start as usize..rows.end as usize].iter().filter(|out| **out).count();
        let most = most_of_one_key((rows.len() - out) as u32, sizes.batch_size).saturating_mul(rows_per_key);
        (rows, most)
    };
    let tasks: Vec<(Range<RowId>, u32)> = vectors.tasks.ranges().zip(sizes).map(most).collect();
    exclude(&vectors.rows.parting_keys(), &tasks, left_out)
}

/// What every pass needs, and what the phases were worth so far.
struct Passes<'a, G> {
    graph: &'a G,
    rules: PassRules<'a>,
    windows: Windows<'a>,
    /// Which rows are excluded, by place; empty once sizes are exact.
    excluded: Vec<bool>,
    /// Passes of swaps at most.
    most_swaps: u32,
    watch: Watch<'a>,
    phases: Phases,
}

/// What follows a state.
enum Next {
    /// The state after one more pass.
    Pass(PassState),
    /// No pass is left to do.
    End(Slots),
}

impl<G: EdgeRows> Passes<'_, G> {
    /// One more pass, after `done` of them.
    fn next(&mut self, done: u32, state: PassState) -> Result<Next> {
        match state {
            PassState::Growing(communities) => self.grow(done, communities).map(Next::Pass),
            PassState::Exact(slots) if self.most_swaps == 0 => {
                if self.phases.is_empty() {
                    self.end_phase("exact sizes", &slots.labels());
                }
                Ok(Next::End(slots))
            }
            PassState::Exact(slots) => {
                let mut swaps = Swaps::new(slots);
                refine::swap(self.graph, &mut swaps, &self.rules, self.watch)?;
                Ok(Next::Pass(PassState::Swapping(swaps)))
            }
            PassState::Swapping(swaps) => self.swap(done, swaps),
        }
    }

    /// A pass of growth; the last one fixes sizes too.
    fn grow(&mut self, done: u32, mut communities: Communities) -> Result<PassState> {
        propagate::propagate(self.graph, &mut communities, &self.rules, self.watch)?;
        if done + 1 < propagate::PASSES {
            return Ok(PassState::Growing(communities));
        }
        self.end_phase("propagation", communities.labels());
        let slots = exact::fix_sizes(self.graph, communities, &self.excluded, &self.rules, self.watch)?;
        self.excluded = Vec::new(); // the swaps need the memory
        self.end_phase("exact sizes", &slots.labels());
        Ok(PassState::Exact(slots))
    }

    /// A pass of swaps, if one is left to do.
    fn swap(&mut self, done: u32, mut swaps: Swaps) -> Result<Next> {
        let before = swaps.inside();
        let number = done - propagate::PASSES + 1;
        if number <= self.most_swaps {
            refine::swap(self.graph, &mut swaps, &self.rules, self.watch)?;
            tracing::debug!("swap pass {number}: {} of weight inside more", swaps.inside() - before);
        }
        // After the first pass not all connections are known yet.
        if number >= self.most_swaps || (number > 2 && !refine::gained(before, swaps.inside())) {
            let slots = swaps.into_slots();
            self.end_phase("swaps", &slots.labels());
            return Ok(Next::End(slots));
        }
        Ok(Next::Pass(PassState::Swapping(swaps)))
    }

    /// Measures labels, by place, at the end of a phase.
    fn end_phase(&mut self, phase: &str, labels: &[u32]) {
        let metrics = measure(&self.windows, labels);
        if self.phases.is_empty() {
            tracing::info!("{}", ClusterMetrics::HEADING);
        }
        tracing::info!("{}", metrics.line(phase));
        self.phases.push((phase.to_owned(), metrics));
    }
}

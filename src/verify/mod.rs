//! verify: reads all files of a finished run again and checks that it keeps its promises.
//!
//! Checks: every part's length and checksum; the files against each other; cluster sizes and keys; the
//! batch table's coverage, sizes, tasks, keys, order and hard negatives (`table`, `negatives`); the graph against
//! the lists, for a sample of rows; a sample of lists against brute force; that no other file is there
//! (`strangers`); that a report in the run folder is as it was written and of this run (`report_files`); and that
//! fingerprints (`footers`) and counts (`claims`) of the manifest are those of the files. Of a run that was cleaned,
//! what is there is checked; of a batch table without the vectors, its own columns (`table_alone`). Memory: 12 bytes a
//! row, one batch, where there are hard negatives the rank windows of its rows, and a report whole.

mod candidates;
mod claims;
mod footers;
mod mask;
mod mix;
mod negatives;
mod outcome;
mod report_files;
mod share;
mod strangers;
mod table;
mod table_alone;
pub(crate) mod table_file;
mod verdicts;

use std::collections::HashMap;

use rand::RngExt;
use rayon::prelude::*;

use crate::clusters::labels::members;
use crate::clusters::{self, Clusters, TaskPlaces};
use crate::config::{EdgeRule, Method, Sizes};
use crate::edges::merge::{join, own_edges};
use crate::edges::{self, Adjacency, Edge, EdgeRows};
use crate::error::Result;
use crate::neighbors::own_ranks::{OwnRanks, of_place};
use crate::neighbors::topk::{Candidate, by_rank};
use crate::neighbors::{self, Neighbors, Windows, marks};
use crate::random::{Purpose, stream};
use crate::run::record::{ClustersSettings, EdgesSettings, NeighborsFacts, NeighborsSettings};
use crate::run::{RunReader, Stage};
use crate::vectors::{self, Place, RowId, Scorer, SideScorer, Vectors};
use crate::watch::Watch;

pub use outcome::{Outcome, Remedy};
pub use share::CheckShare;

/// Checks a finished run, or a share of it; `sample` lists are recomputed. O(all bytes + sample · rows · dim).
///
/// # Errors
/// The watch stops the work: it is asked before each file and each list, and told of nothing.
pub fn verify(run: &RunReader, sample: usize, share: CheckShare, watch: Watch<'_>) -> Result<Outcome> {
    let mut outcome = checked(run, sample, share, watch);
    outcome.unchecked.extend(share.others());
    // What was stopped has checked less than it says.
    watch.add(0)?;
    Ok(outcome)
}

fn checked(run: &RunReader, sample: usize, share: CheckShare, watch: Watch<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    if let Some(stage) = Stage::ALL.into_iter().find(|stage| run.stage(*stage).is_err()) {
        outcome.fault_with(Remedy::Finish, format!("the run is not finished: the {} stage is not done", stage.name()));
        return outcome;
    }
    if !run.succeeded() {
        outcome.fault_with(Remedy::Finish, "the run is not finished: there is no _SUCCESS".into());
    }
    if share.has_whole() {
        let strangers = strangers::check(run, &mut outcome);
        outcome.record_silent(strangers);
        let reported = report_files::check(run, &mut outcome);
        outcome.record_silent(reported);
    }
    let before = outcome.faults.len();
    let checksums = checksums(run, &mut outcome, share, watch);
    outcome.record(checksums, before);
    if outcome.faults.len() > before {
        // Every later check would only find the damaged files again.
        return outcome;
    }
    let claimed = footers::check(run, &mut outcome);
    outcome.record_silent(claimed);
    let cleaned: Vec<&str> = Stage::ALL.into_iter().filter(|stage| run.is_cleaned(*stage)).map(Stage::name).collect();
    let marks_are_gone = cleaned.iter().any(|name| *name == Stage::Edges.name()) && has_marks(run);
    if marks_are_gone || cleaned.iter().any(|name| *name != Stage::Edges.name()) {
        if share.has_whole() {
            let checked = table_alone::check(run, &mut outcome);
            outcome.record(checked, before);
        }
        outcome.unchecked.push(format!(
            "clusters, keys, scores, hard negatives, neighbor lists and edges: the files of {} were cleaned",
            cleaned.join(", ")
        ));
        return outcome;
    }
    match open(run) {
        Ok(opened) => opened.check(&mut outcome, sample, share, watch),
        Err(error) => outcome.record(Err(error), before),
    }
    outcome
}

/// Whether the edges stage has more files than the graph.
fn has_marks(run: &RunReader) -> bool {
    let settings = run.settings::<EdgesSettings>();
    let of_sides = |settings: &EdgesSettings| settings.windows.each().any(|window| window.limits.of_sides());
    settings.is_ok_and(|settings| settings.max_own_rank.is_some() || of_sides(&settings))
}

/// Every part of every stage: there, as long as recorded, with the recorded checksum.
fn checksums(run: &RunReader, outcome: &mut Outcome, share: CheckShare, watch: Watch<'_>) -> Result<String> {
    let (mut files, mut bytes) = (0u64, 0u64);
    for stage in Stage::ALL {
        let record = run.stage(stage)?;
        let names: Vec<&String> = share.of(record.parts.keys().collect());
        let check = |name: &&String| watch.add(0).and_then(|()| run.check_part(stage, name));
        let found: Vec<Result<()>> = names.par_iter().map(check).collect();
        let faults = found.into_iter().filter_map(Result::err);
        faults.for_each(|fault| outcome.fault(fault.to_string().replace('\n', "\n       ")));
        files += names.len() as u64;
        bytes += names.iter().map(|name| record.parts[*name].bytes).sum::<u64>();
    }
    Ok(format!("checksums of {files} files, {bytes} bytes"))
}

/// The files of a run, opened.
struct Opened<'r> {
    run: &'r RunReader,
    vectors: Vectors,
    neighbors: Neighbors,
    /// `None`: they were cleaned.
    edges: Option<edges::EdgeFile>,
    clusters: Clusters,
    rule: EdgeRule,
    /// By task.
    sizes: Vec<Sizes>,
    job_sizes: Sizes,
    /// R.
    rows_per_key: u32,
    /// Where rows are left out by them.
    own_ranks: Option<OwnRanks>,
}

fn open(run: &RunReader) -> Result<Opened<'_>> {
    let vectors = vectors::open(run)?;
    let rows = vectors.row_count();
    let ClustersSettings { sizes, rows_per_key, .. } = run.settings()?;
    Ok(Opened {
        run,
        neighbors: neighbors::open(run, &vectors)?,
        edges: match run.is_cleaned(Stage::Edges) {
            true => None,
            false => Some(edges::open(run, vectors.row_count())?),
        },
        clusters: clusters::open(run, rows)?,
        rule: run.settings::<EdgesSettings>()?.edges,
        sizes: sizes.all(vectors.tasks.names()),
        job_sizes: sizes.job,
        rows_per_key,
        own_ranks: match run.is_cleaned(Stage::Edges) {
            true => None,
            false => edges::own_ranks::open(run, &vectors)?,
        },
        vectors: match run.is_cleaned(Stage::Edges) {
            true => vectors,
            false => edges::verdicts::open_parted(run, vectors)?,
        },
    })
}

/// A size, or the smallest and the largest.
fn shown(sizes: impl Iterator<Item = u32> + Clone) -> String {
    match (sizes.clone().min(), sizes.max()) {
        (Some(least), Some(most)) if least != most => format!("{least} to {most}"),
        (least, _) => least.unwrap_or(0).to_string(),
    }
}

impl Opened<'_> {
    fn windows(&self) -> Result<Windows<'_>> {
        self.neighbors.check_lists()?;
        edges::open_windows(self.run, &self.vectors, &self.neighbors)
    }

    fn check(&self, outcome: &mut Outcome, sample: usize, share: CheckShare, watch: Watch<'_>) {
        if share.has_whole() {
            self.check_whole(outcome, watch);
        }
        if watch.add(0).is_err() {
            return;
        }
        let chosen = share.of(self.sample(sample));
        let before = outcome.faults.len();
        let result = self.check_lists(&chosen, outcome, watch);
        outcome.record(result, before);
        if watch.add(0).is_err() {
            return;
        }
        let before = outcome.faults.len();
        match self.windows() {
            Ok(windows) if !windows.limited_by_sides() && self.own_ranks.is_none() => {}
            _ => {
                let result = self.check_marks(&chosen, outcome);
                outcome.record(result, before);
            }
        }
        let before = outcome.faults.len();
        match &self.edges {
            Some(graph) => {
                let result = self.check_edges(graph, &chosen, outcome);
                outcome.record(result, before);
            }
            None => outcome.unchecked.push("the edges of sampled rows: the edges were cleaned".into()),
        }
    }

    /// What is no matter of single rows.
    fn check_whole(&self, outcome: &mut Outcome, watch: Watch<'_>) {
        let counted = self.check_counts(outcome);
        outcome.record_silent(counted);
        for check in [Self::check_clusters, Self::check_batches] {
            if watch.add(0).is_err() {
                return;
            }
            let before = outcome.faults.len();
            let result = check(self, outcome);
            outcome.record(result, before);
        }
        let before = outcome.faults.len();
        match candidates::check(self.run, &self.vectors, &self.neighbors, outcome) {
            Ok(said) if said.is_empty() && outcome.faults.len() == before => {}
            result => outcome.record(result, before),
        }
        let before = outcome.faults.len();
        match self.check_verdicts(outcome) {
            Ok(said) if said.is_empty() && outcome.faults.len() == before => {}
            result => outcome.record(result, before),
        }
    }

    /// Some rows, ascending.
    fn sample(&self, sample: usize) -> Vec<RowId> {
        let rows = self.vectors.row_count();
        let mut random = stream(Purpose::VerifySample { rows: u64::from(rows) });
        // Draws repeat rows: beyond a few times all of them, more find nothing.
        let draws = sample.min(4 * rows as usize);
        let mut chosen: Vec<RowId> = (0..draws).map(|_| random.random_range(0..rows)).collect();
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    }

    /// The rule for keys in a batch, in words.
    fn key_rule(&self) -> String {
        match self.rows_per_key {
            1 => "no key twice".into(),
            most => format!("no key more than {most} times in a batch"),
        }
    }

    /// Each cluster exactly K but one smaller for each task; one task; keys no more often than they may be.
    fn check_clusters(&self, outcome: &mut Outcome) -> Result<String> {
        let labels = self.clusters.labels();
        let keys = self.vectors.rows.parting_keys();
        let (starts, rows) = members(labels, self.clusters.count());
        let mut unplaced = vec![0usize; self.vectors.tasks.len()];
        let mut smaller = vec![0usize; self.vectors.tasks.len()];
        for row in &rows[starts[self.clusters.count() as usize] as usize..] {
            let is_out = self.own_ranks.as_ref().is_some_and(|ranks| ranks.leaves_out(*row));
            unplaced[self.vectors.tasks.of(*row)] += usize::from(!is_out);
        }
        for cluster in 0..self.clusters.count() as usize {
            let rows = &rows[starts[cluster] as usize..starts[cluster + 1] as usize];
            let Some(first) = rows.first() else {
                outcome.fault(format!("cluster {cluster} is empty"));
                continue;
            };
            let task = self.vectors.tasks.of(*first);
            if rows.iter().any(|row| !self.vectors.tasks.range(task).contains(row)) {
                outcome.fault(format!("cluster {cluster} holds rows of several tasks"));
            }
            let size = self.sizes[task].cluster_size as usize;
            if rows.len() > size {
                outcome.fault(format!("cluster {cluster} holds {} rows, more than {size}", rows.len()));
            }
            smaller[task] += usize::from(rows.len() < size);
            let of_task = TaskPlaces::new(self.vectors.tasks.places(task), self.sizes[task], self.rows_per_key);
            if let Some(fault) = crowded(rows, &keys, of_task.per_key) {
                outcome.fault(format!("cluster {cluster} {fault}"));
            }
        }
        for (task, count) in smaller.iter().enumerate() {
            // Rows that keys shut out leave their clusters smaller.
            if *count > 1 + unplaced[task] {
                let name = self.vectors.tasks.name(task);
                let size = self.sizes[task].cluster_size;
                outcome.fault(format!("task {name:?}: {count} clusters are smaller than {size}"));
            }
        }
        let unplaced: usize = unplaced.iter().sum();
        Ok(format!(
            "{} clusters of {} (one smaller a task at most), {}; {unplaced} rows kept out by keys",
            self.clusters.count(),
            shown(self.sizes.iter().map(|sizes| sizes.cluster_size)),
            self.key_rule(),
        ))
    }

    /// Lists of approximate search: true scores, in rank order, of rows that may be negatives.
    fn check_approximate(&self, chosen: &[RowId], outcome: &mut Outcome) -> Result<String> {
        let keys = self.vectors.rows.keys();
        let mut scorer = Scorer::new(&self.vectors);
        for query in chosen {
            let number = self.vectors.tasks.of(*query);
            let (task, documents) = (self.vectors.tasks.range(number), self.vectors.documents_of(number));
            let found = self.neighbors.of_row(*query)?;
            let known = |candidate: &Candidate| {
                (task.contains(&candidate.row) || documents.contains(&candidate.row))
                    && self.is_candidate(candidate.row)
                    && candidate.row != *query
                    && !keys.conflict(*query, candidate.row)
            };
            let sorted = found.is_sorted_by(|a, b| by_rank(a, b).is_lt());
            if !sorted
                || !found
                    .iter()
                    .all(|candidate| known(candidate) && scorer.pair(*query, candidate.row) == candidate.score)
            {
                outcome.fault(format!("row {query}: its list is not sorted, or a score or a row in it is wrong"));
            }
        }
        let recall = self.run.facts::<NeighborsFacts>()?.recall;
        Ok(format!("{} approximate lists have true scores in order; recall {recall:.4} was measured", chosen.len()))
    }

    /// Whether a row or document is one, or another stands for its positive.
    fn is_candidate(&self, row: RowId) -> bool {
        let place = self.neighbors.place_of(row);
        self.neighbors.candidates().is_none_or(|known| known.has_column(place))
    }

    /// Lists against brute force.
    fn check_lists(&self, chosen: &[RowId], outcome: &mut Outcome, watch: Watch<'_>) -> Result<String> {
        if self.run.settings::<NeighborsSettings>()?.search != Method::Exact {
            return self.check_approximate(chosen, outcome);
        }
        let keys = self.vectors.rows.keys();
        let windows = self.windows()?;
        let wrong: Vec<String> = chosen
            .par_iter()
            .map_init(
                || Scorer::new(&self.vectors),
                |scorer, query| {
                    watch.add(0).ok()?;
                    let number = self.vectors.tasks.of(*query);
                    let task = self.vectors.tasks.range(number);
                    let mut all: Vec<Candidate> = task
                        .chain(self.vectors.documents_of(number))
                        .filter(|row| self.is_candidate(*row) && row != query && !keys.conflict(*query, *row))
                        .map(|row| Candidate { row, score: scorer.pair(*query, row) })
                        .collect();
                    all.sort_unstable_by(by_rank);
                    all.truncate(windows.of_task(number).ranks() as usize);
                    let found = match self.neighbors.of_row(*query) {
                        Ok(found) => found,
                        Err(error) => return Some(error.to_string()),
                    };
                    let rank = (0..all.len().max(found.len())).find(|rank| all.get(*rank) != found.get(*rank))?;
                    Some(format!(
                        "row {query}: rank {rank} is {:?}, brute force says {:?}",
                        found.get(rank),
                        all.get(rank)
                    ))
                },
            )
            .flatten()
            .collect();
        wrong.into_iter().for_each(|fault| outcome.fault(fault));
        Ok(format!("{} neighbor lists equal brute force", chosen.len()))
    }

    /// The marks of candidates that are too close on the other side, and the ranks of own positives, of some rows.
    fn check_marks(&self, chosen: &[RowId], outcome: &mut Outcome) -> Result<String> {
        let windows = self.windows()?;
        let mut scorer = SideScorer::new(&self.vectors);
        for row in chosen {
            let place = self.neighbors.place_of(*row);
            let window = windows.of(place);
            let mut wanted = vec![0; window.marks.len()];
            if windows.limits(place).of_sides() {
                marks::mark(windows.limits(place), place, &self.neighbors, &mut scorer, &mut wanted);
            }
            if let Some(ranks) = &self.own_ranks
                && ranks.of(*row) != of_place(&self.vectors, &windows, place).map(|rank| rank as u32)
            {
                outcome.fault(format!("row {row}: its own positive has another rank"));
            }
            if wanted != window.marks {
                outcome.fault(format!("row {row}: other candidates are too close on the other side than are marked"));
            }
        }
        let left_out = self.own_ranks.as_ref().map(OwnRanks::left_out);
        let ranks = left_out
            .map(|rows| format!("{} rows have the ranks of their own positives; {rows} are left out", chosen.len()));
        let marks = format!("the candidates of {} rows that are too close on the other side are marked", chosen.len());
        let marks = Some(marks).filter(|_| windows.limited_by_sides());
        Ok([marks, ranks].into_iter().flatten().collect::<Vec<_>>().join("; "))
    }

    /// The graph against the lists.
    fn check_edges(&self, graph: &edges::EdgeFile, chosen: &[RowId], outcome: &mut Outcome) -> Result<String> {
        let windows = self.windows()?;
        let mut chosen: Vec<Place> = chosen.iter().map(|row| self.neighbors.place_of(*row)).collect();
        chosen.sort_unstable();
        let mut reversed: Vec<Vec<Edge>> = vec![Vec::new(); chosen.len()];
        let (mut keys, mut own) = (Vec::new(), Vec::new());
        for place in windows.places() {
            own_edges(&windows.of(place), &mut keys, &mut own);
            for edge in &own {
                if let Ok(index) = chosen.binary_search(&edge.other) {
                    reversed[index].push(Edge { other: place, relation: edge.relation });
                }
            }
        }
        let mut block = Adjacency::default();
        for (place, reversed) in chosen.iter().zip(reversed) {
            own_edges(&windows.of(*place), &mut keys, &mut own);
            let mut wanted = Vec::new();
            join(&own, &reversed, self.rule, &mut wanted);
            graph.read(graph.block_of(*place), &mut block)?;
            if block.at(*place) != Some(&wanted[..]) {
                let row = self.neighbors.row_at(*place);
                outcome.fault(format!("row {row}: its edges are not those of the neighbor lists"));
            }
        }
        Ok(format!("the edges of {} rows are those of the neighbor lists", chosen.len()))
    }
}

/// What is wrong where more than `most` of some rows share a key.
fn crowded(rows: &[RowId], keys: &vectors::Keys<'_>, most: u32) -> Option<String> {
    let mut held = HashMap::<(u32, u32), u32>::new();
    let mut enter = |key| {
        let rows = held.entry(key).or_default();
        *rows += 1;
        *rows > most
    };
    let row = rows.iter().find(|row| keys.shared(**row).any(&mut enter))?;
    let other = rows.iter().find(|other| other != &row && keys.conflict(**other, *row))?;
    Some(match most {
        1 => format!("holds rows {other} and {row}, which share a key or a vector"),
        _ => format!("holds more than {most} rows of a key or a vector, {other} and {row} among them"),
    })
}

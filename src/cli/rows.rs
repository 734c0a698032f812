//! `batchmine inspect RUN --rows A..B`: everything that a run knows of some input rows.

use std::ops::Range;

use serde::Serialize;

use super::log;
use crate::clusters::{self, NO_CLUSTER};
use crate::edges::{self, Adjacency, Edge, EdgeRows};
use crate::error::{Error, Result};
use crate::neighbors::{self, Windows};
use crate::run::{RunReader, json};
use crate::vectors::{self, Place, RowId};

/// Parses `A..B`.
///
/// # Errors
/// The text is no such range.
pub fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let range = text.split_once("..").and_then(|(from, to)| Some(from.trim().parse().ok()?..to.trim().parse().ok()?));
    range.filter(|range| range.start < range.end).ok_or_else(|| "expected a range such as 0..10".into())
}

/// What a run knows of a row. All rows are input rows.
#[derive(Serialize)]
struct KnownRow<'a> {
    row: u32,
    id: RowName<'a>,
    task: Option<&'a str>,
    cluster_id: Option<u32>,
    /// Score of the row's own pair.
    score: f32,
    /// Best first.
    neighbors: Vec<ScoredRow>,
    /// Ranks of the rank window: the first one, and the one after the last.
    window: [usize; 2],
    /// Edges of the graph with a weight: rows that are a preferred negative in either direction.
    arcs: Vec<WeightedRow>,
    suspects: Vec<SuspectRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<Vec<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    positive: Option<Vec<f32>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum RowName<'a> {
    Text(&'a str),
    Int(Option<i64>),
}

#[derive(Serialize)]
struct ScoredRow {
    row: u32,
    score: f32,
}

#[derive(Serialize)]
struct WeightedRow {
    row: u32,
    /// In how many directions, 1 or 2, the edge is one of a preferred negative.
    weight: u8,
}

#[derive(Serialize)]
struct SuspectRow {
    row: u32,
    /// In how many directions, 1 or 2, the edge is one of a suspect.
    directions: u8,
}

/// Prints one JSON object a line.
///
/// # Errors
/// The run is not finished or damaged, or has no such rows.
pub fn print(run: &RunReader, range: Range<u64>, with_vectors: bool) -> Result<()> {
    let vectors = vectors::open(run)?;
    let count = u64::from(vectors.row_count());
    if range.end > count {
        return Err(Error::input("the run has no such rows")
            .path(run.folder())
            .expected(format!("rows within 0..{count}"))
            .found(format!("{}..{}", range.start, range.end))
            .remedy("choose a smaller range"));
    }
    let neighbors = neighbors::open(run, &vectors)?;
    let windows = Windows::open(run, &vectors, &neighbors)?;
    let graph = edges::open(run, vectors.row_count())?;
    let clusters = clusters::open(run, vectors.row_count())?;
    let input_rows = vectors.rows.input_rows();
    let mut wanted: Vec<(u32, RowId)> = (0..vectors.row_count())
        .map(|row| (input_rows[row as usize], row))
        .filter(|(input, _)| range.contains(&u64::from(*input)))
        .collect();
    wanted.sort_unstable();
    let input = |row: RowId| input_rows[row as usize];
    let at = |place: Place| input(neighbors.row_at(place));
    let mut block = Adjacency::default();
    for (input_row, row) in wanted {
        let place = neighbors.place_of(row);
        graph.read(graph.block_of(place), &mut block)?;
        let edges = block.at(place).unwrap_or_default();
        let label = clusters.labels()[row as usize];
        let list = neighbors.of_row(row)?;
        let ranks = windows.of(place).ranks;
        let load = |store: &vectors::VectorStore| {
            let mut values = vec![0f32; vectors.shape().dim];
            store.load(row, &mut values);
            values
        };
        let known = KnownRow {
            row: input_row,
            id: vectors.ids.text(input_row).map_or_else(|| RowName::Int(vectors.ids.int(input_row)), RowName::Text),
            task: vectors.named_tasks.then(|| vectors.tasks.name(vectors.tasks.of(row))),
            cluster_id: (label != NO_CLUSTER).then_some(label),
            score: vectors.rows.scores()[row as usize],
            neighbors: list.iter().map(|other| ScoredRow { row: input(other.row), score: other.score }).collect(),
            window: [ranks.start, ranks.end],
            arcs: by_row(edges, at, |edge| edge.relation.window())
                .map(|(row, weight)| WeightedRow { row, weight })
                .collect(),
            suspects: by_row(edges, at, |edge| edge.relation.suspects())
                .map(|(row, directions)| SuspectRow { row, directions })
                .collect(),
            query: with_vectors.then(|| load(&vectors.queries)),
            positive: with_vectors.then(|| load(&vectors.positives)),
        };
        log::print(&json::line(&known)?);
    }
    Ok(())
}

/// The other rows of a row's edges, as input rows in order, each with a number of the edge that is not zero.
fn by_row(
    edges: &[Edge],
    input: impl Fn(Place) -> u32,
    number: impl Fn(&Edge) -> u8,
) -> impl Iterator<Item = (u32, u8)> {
    let numbers = edges.iter().map(|edge| (input(edge.other), number(edge)));
    let mut found: Vec<(u32, u8)> = numbers.filter(|(_, number)| *number > 0).collect();
    found.sort_unstable();
    found.into_iter()
}

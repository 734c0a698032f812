//! `batchmine inspect RUN --rows A..B`: everything that a run knows of some input rows.

use std::ops::Range;

use serde_json::{Value, json};

use super::log;
use crate::clusters::{self, NO_CLUSTER};
use crate::edges::{self, Adjacency, Edge, EdgeRows};
use crate::error::{Error, Result};
use crate::neighbors::{self, Windows};
use crate::run::RunReader;
use crate::vectors::{self, Place, RowId};

/// Parses `A..B`.
///
/// # Errors
/// The text is no such range.
pub fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let range = text.split_once("..").and_then(|(from, to)| Some(from.trim().parse().ok()?..to.trim().parse().ok()?));
    range.filter(|range| range.start < range.end).ok_or_else(|| "expected a range such as 0..10".into())
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
        let list: Vec<Value> =
            list.iter().map(|other| json!({"row": input(other.row), "score": other.score})).collect();
        let id = vectors.ids.text(input_row).map_or_else(|| json!(vectors.ids.int(input_row)), |text| json!(text));
        let task = vectors.named_tasks.then(|| vectors.tasks.name(vectors.tasks.of(row)));
        let mut object = json!({
            "row": input_row,
            "id": id,
            "task": task,
            "cluster_id": (label != NO_CLUSTER).then_some(label),
            "score": vectors.rows.scores()[row as usize],
            "neighbors": list,
            "window": [ranks.start, ranks.end],
            "arcs": by_row(edges, at, "weight", |edge| edge.relation.window()),
            "suspects": by_row(edges, at, "directions", |edge| edge.relation.suspects()),
        });
        if with_vectors {
            let load = |store: &vectors::VectorStore| {
                let mut values = vec![0f32; vectors.shape().dim];
                store.load(row, &mut values);
                values
            };
            object["query"] = json!(load(&vectors.queries));
            object["positive"] = json!(load(&vectors.positives));
        }
        log::print(&object.to_string());
    }
    Ok(())
}

/// Edges of which a number is not zero, sorted by input row.
fn by_row(edges: &[Edge], input: impl Fn(Place) -> u32, name: &str, number: impl Fn(&Edge) -> u8) -> Vec<Value> {
    let mut found: Vec<(u32, u8)> =
        edges.iter().map(|edge| (input(edge.other), number(edge))).filter(|(_, number)| *number > 0).collect();
    found.sort_unstable();
    found.into_iter().map(|(row, number)| json!({"row": row, name: number})).collect()
}

//! `batchmine inspect RUN --rows A..B`: everything that a run knows of some input rows, with their texts.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;

use super::log;
use crate::batches::texts::{RowText, RowTexts, TextSource};
use crate::clusters::{self, Clusters, NO_CLUSTER};
use crate::edges::{self, Adjacency, Edge, EdgeFile, EdgeRows};
use crate::error::{Error, Result};
use crate::inspect::line::one_line;
use crate::neighbors::{self, Neighbors, Windows};
use crate::run::record::VectorsFacts;
use crate::run::{RunReader, json};
use crate::vectors::{self, Place, RowId, Vectors};

/// Rows whose texts are read at a time.
const CHUNK_ROWS: usize = 256;
/// Characters of a text at most.
const TEXT_CHARS: usize = 2000;
/// Characters of a text in a line.
const LINE_CHARS: usize = 100;

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
    #[serde(skip_serializing_if = "Option::is_none")]
    query_text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    positive_text: Option<String>,
    /// Best first.
    neighbors: Vec<ScoredRow>,
    /// Ranks of the rank window: the first one, and the one after the last.
    window: [usize; 2],
    /// Ranks within it that are suspects all the same: their queries or positives are too close.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    too_close: Vec<usize>,
    /// Ranks before the window that are no suspects, by a verdict.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cleared: Vec<usize>,
    /// The run has verdicts.
    #[serde(skip)]
    judged: bool,
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
    /// It is a document of the corpus, of this number there: `row` counts them behind the rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<u32>,
    /// Text of its positive, of the candidates that are shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
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

/// What is shown of each row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown {
    /// Both vectors.
    pub vectors: bool,
    /// How many suspects, and how many preferred negatives, have their texts.
    pub candidates: usize,
    /// As JSON, one object a line.
    pub json: bool,
}

/// Prints what a run knows of some input rows, as text or as one JSON object a line.
///
/// Memory: 8 bytes a row of the range, and the lists and texts of [`CHUNK_ROWS`] rows.
///
/// # Errors
/// The run is not finished or damaged, or has no such rows; or the texts that the user named are not there.
pub(super) fn print(run: &RunReader, range: Range<u64>, shown: &Shown, texts: &TextSource) -> Result<()> {
    for_each(run, &range, shown, texts, |line| log::print(&line))
}

/// What a run knows of some input rows, without their texts, as one JSON object each.
///
/// # Errors
/// The run is not finished or damaged, or has no such rows.
pub fn known_rows(run: &RunReader, range: Range<u64>) -> Result<Vec<String>> {
    let mut rows = Vec::new();
    let shown = Shown { vectors: false, candidates: 0, json: true };
    for_each(run, &range, &shown, &TextSource::default(), |row| {
        rows.push(row);
        Ok(true)
    })?;
    Ok(rows)
}

/// Calls `each` for each row, as long as it returns true.
fn for_each(
    run: &RunReader,
    range: &Range<u64>,
    shown: &Shown,
    texts: &TextSource,
    mut each: impl FnMut(String) -> Result<bool>,
) -> Result<()> {
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
    let facts: VectorsFacts = run.facts()?;
    let known = RunFiles {
        files_rows: (facts.rows + facts.bad_rows_dropped) as u32,
        windows: edges::open_windows(run, &vectors, &neighbors)?,
        graph: edges::open(run, vectors.row_count())?,
        clusters: clusters::open(run, vectors.row_count())?,
        vectors: &vectors,
        neighbors: &neighbors,
    };
    let texts = if shown.candidates > 0 { Some(RowTexts::find(run, texts)?) } else { None };
    if let Some(Err(why)) = &texts {
        tracing::info!("no texts are shown: {why}");
    }
    let texts = texts.and_then(|texts| texts.ok());
    let input_rows = vectors.rows.input_rows();
    let mut wanted: Vec<(u32, RowId)> = (0..vectors.row_count())
        .map(|row| (input_rows[row as usize], row))
        .filter(|(input, _)| range.contains(&u64::from(*input)))
        .collect();
    wanted.sort_unstable();
    let mut block = Adjacency::default();
    for chunk in wanted.chunks(CHUNK_ROWS) {
        let mut rows = Vec::with_capacity(chunk.len());
        for (input, row) in chunk {
            rows.push(known.row(*input, *row, shown.vectors, &mut block)?);
        }
        if let Some(texts) = &texts {
            let asked = rows.iter().flat_map(|row| row.with_texts(shown.candidates)).collect();
            let found = texts.read(&asked, TEXT_CHARS)?;
            rows.iter_mut().for_each(|row| row.put_texts(&found, shown.candidates));
        }
        for row in &rows {
            if !each(if shown.json { json::line(row)? } else { row.text(shown.candidates) })? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The files of a run that know of rows.
struct RunFiles<'a> {
    /// Rows of the input files, with those that were left out.
    files_rows: u32,
    vectors: &'a Vectors,
    neighbors: &'a Neighbors,
    windows: Windows<'a>,
    graph: EdgeFile,
    clusters: Clusters,
}

impl<'a> RunFiles<'a> {
    fn row(&self, input_row: u32, row: RowId, with_vectors: bool, block: &mut Adjacency) -> Result<KnownRow<'a>> {
        let (vectors, neighbors) = (self.vectors, self.neighbors);
        let input = |row: RowId| vectors.rows.input_rows()[row as usize];
        let at = |place: Place| input(neighbors.row_at(place));
        let place = neighbors.place_of(row);
        self.graph.read(self.graph.block_of(place), block)?;
        let edges = block.at(place).unwrap_or_default();
        let label = self.clusters.labels()[row as usize];
        let list = neighbors.of_row(row)?;
        let window = self.windows.of(place);
        let ranks = window.ranks.clone();
        let load = |store: &vectors::VectorStore| -> Result<Vec<f32>> {
            store.check_row(row)?;
            let mut values = vec![0f32; vectors.shape().dim];
            store.load(row, &mut values);
            Ok(values)
        };
        let scored = |row: RowId, score: f32| {
            let document = (row >= vectors.row_count()).then(|| input(row) - self.files_rows);
            ScoredRow { row: input(row), score, document, text: None }
        };
        Ok(KnownRow {
            row: input_row,
            id: vectors.ids.text(input_row).map_or_else(|| RowName::Int(vectors.ids.int(input_row)), RowName::Text),
            task: vectors.named_tasks.then(|| vectors.tasks.name(vectors.tasks.of(row))),
            cluster_id: (label != NO_CLUSTER).then_some(label),
            score: vectors.rows.scores()[row as usize],
            query_text: None,
            positive_text: None,
            neighbors: list.iter().map(|other| scored(other.row, other.score)).collect(),
            judged: self.windows.verdicts().is_some(),
            window: [ranks.start, ranks.end],
            too_close: (ranks.start..list.len()).filter(|rank| window.is_suspect(*rank)).collect(),
            cleared: (0..ranks.start).filter(|rank| !window.is_suspect(*rank)).collect(),
            arcs: by_row(edges, at, |edge| edge.relation.window())
                .map(|(row, weight)| WeightedRow { row, weight })
                .collect(),
            suspects: by_row(edges, at, |edge| edge.relation.suspects())
                .map(|(row, directions)| SuspectRow { row, directions })
                .collect(),
            query: with_vectors.then(|| load(&vectors.queries)).transpose()?,
            positive: with_vectors.then(|| load(&vectors.positives)).transpose()?,
        })
    }
}

impl KnownRow<'_> {
    /// The ranks of the candidates that are shown: the best suspects, and the best preferred negatives.
    fn shown_ranks(&self, count: usize) -> impl Iterator<Item = usize> + use<> {
        let [start, end] = self.window;
        let (too_close, cleared) = (self.too_close.clone(), self.cleared.clone());
        let is_suspect = move |rank: &usize| cleared.binary_search(rank).is_err();
        let suspects = (0..start).filter(is_suspect).chain(self.too_close.clone()).take(count);
        let preferred = (start..end).filter(move |rank| too_close.binary_search(rank).is_err());
        suspects.chain(self.cleared.clone().into_iter().chain(preferred).take(count))
    }

    /// Input rows whose texts are shown.
    fn with_texts(&self, count: usize) -> Vec<u32> {
        let candidates = self.shown_ranks(count).filter_map(|rank| self.neighbors.get(rank));
        candidates.map(|candidate| candidate.row).chain([self.row]).collect()
    }

    fn put_texts(&mut self, texts: &BTreeMap<u32, RowText>, count: usize) {
        let own = texts.get(&self.row).cloned().unwrap_or_default();
        (self.query_text, self.positive_text) = (own.query, own.positive);
        for rank in self.shown_ranks(count) {
            if let Some(candidate) = self.neighbors.get_mut(rank) {
                candidate.text = texts.get(&candidate.row).and_then(|text| text.positive.clone());
            }
        }
    }

    /// The row as a person reads it, in lines.
    fn text(&self, count: usize) -> String {
        let id = match &self.id {
            RowName::Text(id) => one_line(id, LINE_CHARS),
            RowName::Int(id) => id.unwrap_or_default().to_string(),
        };
        let task = self.task.map_or(String::new(), |task| format!(", task {}", one_line(task, LINE_CHARS)));
        let cluster = self.cluster_id.map_or("no cluster".into(), |cluster| format!("cluster {cluster}"));
        let mut lines = vec![format!("row {}, id {id}{task}, {cluster}, own score {:.4}", self.row, self.score)];
        for (name, text) in [("query", &self.query_text), ("positive", &self.positive_text)] {
            lines.extend(
                text.as_ref().map(|text| format!("  {:<9} {}", format!("{name}:"), one_line(text, LINE_CHARS))),
            );
        }
        let [start, end] = self.window;
        let (candidates, suspects, edges) = (self.neighbors.len(), self.suspects.len(), self.arcs.len());
        let [too_close, cleared] = [self.too_close.len(), self.cleared.len()];
        let of_window = self.too_close.iter().filter(|rank| **rank < end).count();
        let by = if self.judged { " or judged right" } else { "" };
        let more =
            if too_close > 0 { format!(" and {too_close} too close on the other side{by}") } else { String::new() };
        let less = if cleared > 0 { format!(" ({cleared} of them cleared)") } else { String::new() };
        lines.push(format!(
            "  {candidates} candidates: {start} suspects{less}{more}, {} preferred negatives from rank {start} on; in \
             the graph {suspects} suspects and {edges} edges",
            (end + cleared).saturating_sub(start + of_window)
        ));
        for rank in self.shown_ranks(count) {
            let Some(ScoredRow { row, score, document, text }) = self.neighbors.get(rank) else { continue };
            let other = document.map_or_else(|| format!("row {row}"), |document| format!("document {document}"));
            let by_rank = rank < start && self.cleared.binary_search(&rank).is_err();
            let is_suspect = by_rank || self.too_close.binary_search(&rank).is_ok();
            let kind = if is_suspect { "suspect  " } else { "preferred" };
            let text = one_line(text.as_deref().unwrap_or_default(), LINE_CHARS);
            lines.push(format!("  {kind} {rank:>4}  {score:.4}  {other}  {text}").trim_end().to_owned());
        }
        lines.join("\n")
    }
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

//! The pairs whose judgement matters most, for `batchmine candidates`: a query and another row's positive that is its
//! negative somewhere in training, because both rows share a batch, or because it was drawn as a hard negative.
//!
//! Of rows that share a batch only those are looked at of which one is in the other's list: all others score lower.
//! They come in the order of their scores, closest first. On real pairs (docs/choosing.md) two thirds of the first
//! thousand were near-copies, of the best ranks half as many, and next to none of those nearest to the score of the own
//! positive. A pair of rows comes once, with the query that scores higher. What was judged is left out. A share of the
//! pairs is drawn evenly from the rest, so that the rest can be judged by them.
//!
//! O(rows · ranks · epochs). Memory: 4 bytes a row and epoch; 100 bytes a pair; what the texts of some hundred pairs
//! take.

pub(crate) mod select;
mod table;

use std::ops::Range;
use std::path::Path;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float32Type, Int64Type};
use rayon::prelude::*;
use serde::Serialize;

use self::select::{MeetingPair, closest, evenly};
use crate::batches::texts::{RowTexts, TextSource};
use crate::batches::{BatchReader, BatchRows};
use crate::clusters::{self, Clusters, NO_CLUSTER};
use crate::edges;
use crate::error::{Error, Result};
use crate::neighbors::{self, Neighbors, Windows};
use crate::run::RunReader;
use crate::run::record::BatchesSettings;
use crate::vectors::{self, Place, RowId, Vectors};

/// Rows that a thread looks at before their pairs are selected.
const BLOCK_ROWS: usize = 4096;
/// A row that is in no batch of an epoch.
const NO_BATCH: u32 = u32::MAX;
/// Most pairs that are written.
pub(crate) const BUDGET_MAX: u64 = 1 << 27;

/// What is asked for.
#[derive(Debug, Default)]
pub struct PairsAsked {
    /// Most pairs.
    pub budget: u64,
    /// The share of them that is drawn evenly.
    pub sample: f64,
    /// Of the draw.
    pub seed: u64,
    pub texts: TextSource,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PairsWritten {
    pub pairs: u64,
    /// Of these, drawn evenly.
    pub sampled: u64,
    /// The highest and the lowest score of the others.
    pub scores: Option<[f32; 2]>,
    /// Pairs of rows that share a batch, one of which is in the other's list.
    pub meeting: u64,
    /// Hard negatives of all epochs.
    pub draws: u64,
    /// There are columns of texts.
    pub texts: bool,
}

/// Writes the pairs whose judgement matters most into a Parquet file.
///
/// # Errors
/// A number is out of range, the run is not finished, its files are damaged or cleaned, what names the texts does not,
/// or the disk fails.
pub fn write(run: &RunReader, asked: &PairsAsked, path: &Path) -> Result<PairsWritten> {
    refuse_numbers(asked)?;
    let vectors = vectors::open(run)?;
    let neighbors = neighbors::open(run, &vectors)?;
    neighbors.check_lists()?;
    let windows = edges::open_windows(run, &vectors, &neighbors)?;
    let clusters = clusters::open(run, vectors.row_count())?;
    let texts = RowTexts::find(run, &asked.texts)?;
    let settings: BatchesSettings = run.settings()?;
    let batch_of =
        (0..settings.epochs).map(|epoch| batches_of_rows(run, &vectors, epoch)).collect::<Result<Vec<_>>>()?;
    let meetings =
        Meetings { vectors: &vectors, neighbors: &neighbors, windows: &windows, clusters: &clusters, batch_of };
    let sampled = (asked.budget as f64 * asked.sample).round() as usize;
    let direct = asked.budget as usize - sampled;
    // Those drawn evenly come out of the rest: so many are drawn that enough are left.
    let (mut first, mut lots) = (closest(direct), evenly(asked.budget as usize, asked.seed));
    let (mut meeting, mut draws) = (0, 0);
    let mut add = |pair: MeetingPair| {
        *(if pair.drawn == 0 { &mut meeting } else { &mut draws }) += 1;
        first.add(pair);
        lots.add(pair);
    };
    for block in blocks(vectors.row_count()) {
        let found: Vec<Vec<MeetingPair>> = block.into_par_iter().map(|row| meetings.of_row(row)).collect();
        found.into_iter().flatten().for_each(&mut add);
    }
    if settings.hard_negatives > 0 {
        for epoch in 0..settings.epochs {
            meetings.each_drawn(run, epoch, &mut add)?;
        }
    }
    let first = first.finish();
    let mut known: Vec<(RowId, RowId)> = first.iter().map(|pair| (pair.query, pair.other)).collect();
    known.sort_unstable();
    let rest = lots.finish().into_iter().filter(|pair| known.binary_search(&(pair.query, pair.other)).is_err());
    let sample: Vec<MeetingPair> = rest.take(sampled).collect();
    let written = PairsWritten {
        pairs: (first.len() + sample.len()) as u64,
        sampled: sample.len() as u64,
        scores: first.first().zip(first.last()).map(|(best, last)| [best.score, last.score]),
        meeting,
        draws,
        texts: texts.is_ok(),
    };
    let texts = texts.map_err(|why| tracing::info!("no texts are written: {why}")).ok();
    table::write(path, &vectors, texts.as_ref(), &[&first, &sample])?;
    Ok(written)
}

fn refuse_numbers(asked: &PairsAsked) -> Result<()> {
    if !(1..=BUDGET_MAX).contains(&asked.budget) {
        return Err(Error::input("the number of pairs is out of range")
            .expected(format!("--budget from 1 to {BUDGET_MAX}"))
            .found(asked.budget.to_string())
            .remedy("as many pairs as you will judge"));
    }
    if !(0.0..=1.0).contains(&asked.sample) {
        return Err(Error::input("the share of the sample is out of range")
            .expected("--sample from 0 to 1")
            .found(asked.sample.to_string())
            .remedy("0.1 is the default"));
    }
    Ok(())
}

fn blocks(rows: RowId) -> impl Iterator<Item = Range<RowId>> {
    (0..rows).step_by(BLOCK_ROWS).map(move |start| start..rows.min(start + BLOCK_ROWS as RowId))
}

/// The batch of each row in an epoch.
fn batches_of_rows(run: &RunReader, vectors: &Vectors, epoch: u32) -> Result<Vec<u32>> {
    let mut by_input = vec![NO_BATCH; vectors.rows.input_row_limit() as usize];
    // An epoch without batches has no file.
    let BatchRows { starts, rows } = BatchRows::read(run, epoch)?;
    for (number, bounds) in (0..).zip(starts.windows(2)) {
        for row in &rows[bounds[0] as usize..bounds[1] as usize] {
            let entry = usize::try_from(*row).ok().and_then(|row| by_input.get_mut(row));
            *entry.ok_or_else(|| unknown(run, *row))? = number;
        }
    }
    let rows = &vectors.rows.input_rows()[..vectors.row_count() as usize];
    Ok(rows.iter().map(|input| by_input[*input as usize]).collect())
}

fn unknown(run: &RunReader, row: u64) -> Error {
    Error::runtime("the batch table has a row that the input has not")
        .path(run.folder())
        .found(format!("row {row}"))
        .remedy("check the run with `batchmine verify`")
}

/// A run, as far as it says who meets.
struct Meetings<'a> {
    vectors: &'a Vectors,
    neighbors: &'a Neighbors,
    windows: &'a Windows<'a>,
    clusters: &'a Clusters,
    /// By epoch the batch of each row.
    batch_of: Vec<Vec<u32>>,
}

impl Meetings<'_> {
    /// In how many batches two rows are.
    fn batches(&self, a: RowId, b: RowId) -> u32 {
        let meet = |epoch: &&Vec<u32>| epoch[a as usize] != NO_BATCH && epoch[a as usize] == epoch[b as usize];
        self.batch_of.iter().filter(meet).count() as u32
    }

    /// The rows of a list's candidates that share batches with the row, each with the candidate's rank, where the row's
    /// query is the one to be judged. O(ranks · epochs), and for those that meet O(ranks).
    fn of_row(&self, row: RowId) -> Vec<MeetingPair> {
        let place = self.neighbors.place_of(row);
        let (window, scores) = (self.windows.of(place), self.neighbors.scores(place));
        let mut found = Vec::new();
        for (rank, candidate) in window.places.iter().enumerate() {
            if window.judged(rank).is_some() || candidate.number() >= self.vectors.row_count() {
                continue;
            }
            // Of rows that share the positive, the one that the query meets most often.
            let met = |other: &RowId| self.batches(row, *other);
            let others = self.neighbors.rows_behind(*candidate).filter(|other| *other != row);
            let Some(other) = others.max_by_key(|other| (met(other), std::cmp::Reverse(*other))) else { continue };
            let batches = met(&other);
            if batches == 0 || self.is_the_other_ones(place, scores[rank], other) {
                continue;
            }
            let labels = self.clusters.labels();
            let same_cluster = labels[row as usize] != NO_CLUSTER && labels[row as usize] == labels[other as usize];
            let (rank, suspect) = (Some(rank as u32), window.is_suspect(rank));
            let score = scores[rank.unwrap_or(0) as usize];
            found.push(MeetingPair { score, query: row, other, rank, suspect, batches, same_cluster, drawn: 0 });
        }
        found
    }

    /// Whether the other row's query scores higher with this row's positive, and is to be judged in its place.
    fn is_the_other_ones(&self, place: Place, score: f32, other: RowId) -> bool {
        let theirs = self.neighbors.place_of(other);
        let window = self.windows.of(theirs);
        let own = self.neighbors.stands_for(place);
        let Some(rank) = window.places.iter().position(|candidate| *candidate == own) else { return false };
        let reverse = self.neighbors.scores(theirs)[rank];
        window.judged(rank).is_none() && (reverse > score || reverse == score && theirs < place)
    }

    /// Calls `each` with every hard negative of an epoch that was not judged.
    fn each_drawn(&self, run: &RunReader, epoch: u32, each: &mut impl FnMut(MeetingPair)) -> Result<()> {
        let rows = self.rows_of_input();
        for batch in BatchReader::open(run, Some(epoch))? {
            self.drawn_of(&batch?, &rows, each).ok_or_else(|| {
                Error::runtime("the batch table cannot be read")
                    .path(run.folder())
                    .expected("columns row, negative_rows and negative_scores of mined rows")
                    .found("others")
                    .remedy("check the run with `batchmine verify`")
            })?;
        }
        Ok(())
    }

    /// Row, or document, by input row.
    fn rows_of_input(&self) -> Vec<RowId> {
        let table = &self.vectors.rows;
        let mut rows = vec![RowId::MAX; table.input_row_limit() as usize];
        (0..).zip(table.input_rows()).for_each(|(row, input)| rows[*input as usize] = row);
        rows
    }

    /// The hard negatives of some rows of the table; `None`: it has other columns, or rows that are not mined.
    fn drawn_of(&self, batch: &RecordBatch, rows: &[RowId], each: &mut impl FnMut(MeetingPair)) -> Option<()> {
        let known = |input: i64| rows.get(usize::try_from(input).ok()?).copied().filter(|row| *row != RowId::MAX);
        let queries = batch.column_by_name("row")?.as_primitive_opt::<Int64Type>()?;
        let lists = batch.column_by_name("negative_rows")?.as_list_opt::<i32>()?;
        let scores = batch.column_by_name("negative_scores")?.as_list_opt::<i32>()?;
        for at in 0..batch.num_rows() {
            let query = known(queries.value(at))?;
            let window = self.windows.of(self.neighbors.place_of(query));
            let (drawn, scores) = (lists.value(at), scores.value(at));
            let (drawn, scores) = (drawn.as_primitive_opt::<Int64Type>()?, scores.as_primitive_opt::<Float32Type>()?);
            for (input, score) in drawn.values().iter().zip(scores.values()) {
                let other = known(*input)?;
                let candidate = self.neighbors.stands_for(self.neighbors.place_of(other));
                if self.windows.verdicts_of(self.neighbors.place_of(query)).on(candidate).is_none() {
                    let rank = window.places.iter().position(|place| *place == candidate).map(|rank| rank as u32);
                    let pair = MeetingPair { score: *score, query, other, rank, ..NOT_MET };
                    each(pair);
                }
            }
        }
        Some(())
    }
}

/// A hard negative is no suspect, and in no batch of its row.
const NOT_MET: MeetingPair = MeetingPair {
    score: 0.0,
    query: 0,
    other: 0,
    rank: None,
    suspect: false,
    batches: 0,
    same_cluster: false,
    drawn: 1,
};

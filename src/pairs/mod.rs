//! The pairs whose judgement matters most, for `batchmine candidates`: a query and another row's positive that is its
//! negative somewhere in training, because both rows share a batch, or because it was drawn as a hard negative.
//!
//! Of rows that share a batch only those are looked at of which one is in the other's list: all others score lower.
//! They come in the order of their scores, closest first. On real pairs (docs/choosing.md) two thirds of the first
//! thousand were near-copies, of the best ranks half as many, and next to none of those nearest to the score of the own
//! positive. A pair of rows comes once, with the query that scores higher, and so do a query and copies of a
//! positive. What was judged, in either direction, is left out. A share of the
//! pairs is drawn evenly from the rest, so that the rest can be judged by them.
//!
//! O(rows · ranks · epochs). Memory: 8 bytes a row and epoch; 100 bytes a pair; what the texts of some hundred pairs
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
use crate::run::storage::folder_of;
use crate::vectors::{self, Place, PositiveCodes, RowId, UNIQUE, Vectors};

/// Rows that a thread looks at before their pairs are selected.
const BLOCK_ROWS: usize = 4096;
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
    /// A file that is there is written over.
    pub replace: bool,
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
    refuse_others_files(run, asked, path)?;
    let vectors = vectors::open(run)?;
    let neighbors = neighbors::open(run, &vectors)?;
    neighbors.check_lists()?;
    let windows = edges::open_windows(run, &vectors, &neighbors)?;
    let clusters = clusters::open(run, vectors.row_count())?;
    let texts = RowTexts::find(run, &asked.texts)?;
    let settings: BatchesSettings = run.settings()?;
    let codes = vectors.positive_codes(None)?;
    let batch_of =
        (0..settings.epochs).map(|epoch| BatchesOfRows::read(run, &vectors, epoch)).collect::<Result<Vec<_>>>()?;
    let meetings =
        Meetings { vectors: &vectors, neighbors: &neighbors, windows: &windows, clusters: &clusters, codes, batch_of };
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
    let mut known: Vec<(RowId, u64)> = first.iter().map(MeetingPair::name).collect();
    known.sort_unstable();
    let rest = lots.finish().into_iter().filter(|pair| known.binary_search(&pair.name()).is_err());
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

/// Fails where a file would be written over, or among those of the run.
fn refuse_others_files(run: &RunReader, asked: &PairsAsked, path: &Path) -> Result<()> {
    let folder = folder_of(path);
    let inside = [folder, run.folder()].map(|folder| folder.canonicalize().ok());
    let is_inside = matches!(&inside, [Some(folder), Some(run)] if folder.starts_with(run));
    if !is_inside && (asked.replace || !path.exists()) {
        return Ok(());
    }
    Err(Error::input("a file of pairs would lie where another is")
        .path(path)
        .expected("a path of no file, outside of the run folder")
        .found(if is_inside { "a path in the run folder" } else { "a file" })
        .remedy(if is_inside {
            "write elsewhere"
        } else {
            "write elsewhere, or add --replace: verdicts in it would be lost"
        }))
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

/// The batches of each row in an epoch.
struct BatchesOfRows {
    /// Of each row the first of its batches, and behind the last row their number.
    starts: Vec<u32>,
    /// In order, row after row.
    batches: Vec<u32>,
}

impl BatchesOfRows {
    fn of(&self, row: RowId) -> &[u32] {
        &self.batches[self.starts[row as usize] as usize..self.starts[row as usize + 1] as usize]
    }

    /// In how many batches two rows are. O(batches of the two).
    fn both(&self, a: RowId, b: RowId) -> u32 {
        let others = self.of(b);
        self.of(a).iter().filter(|batch| others.binary_search(batch).is_ok()).count() as u32
    }

    /// Reads an epoch. O(rows of its batches).
    fn read(run: &RunReader, vectors: &Vectors, epoch: u32) -> Result<BatchesOfRows> {
        let mut row_of_input = vec![None; vectors.rows.input_row_limit() as usize];
        let inputs = &vectors.rows.input_rows()[..vectors.row_count() as usize];
        (0..).zip(inputs).for_each(|(row, input)| row_of_input[*input as usize] = Some(row));
        // An epoch without batches has no file.
        let table = BatchRows::read(run, epoch)?;
        let known = |input: &u64| -> Result<RowId> {
            let row = usize::try_from(*input).ok().and_then(|input| *row_of_input.get(input)?);
            row.ok_or_else(|| unknown(run, *input))
        };
        let mut starts = vec![0u32; inputs.len() + 1];
        for input in &table.rows {
            starts[known(input)? as usize + 1] += 1;
        }
        (1..starts.len()).for_each(|row| starts[row] += starts[row - 1]);
        let mut next = starts.clone();
        let mut batches = vec![0; table.rows.len()];
        for (number, bounds) in (0..).zip(table.starts.windows(2)) {
            for input in &table.rows[bounds[0] as usize..bounds[1] as usize] {
                let place = &mut next[known(input)? as usize];
                batches[*place as usize] = number;
                *place += 1;
            }
        }
        Ok(BatchesOfRows { starts, batches })
    }
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
    /// Which positives are the same.
    codes: PositiveCodes<'a>,
    /// By epoch the batches of each row.
    batch_of: Vec<BatchesOfRows>,
}

impl Meetings<'_> {
    /// In how many batches two rows are.
    fn batches(&self, a: RowId, b: RowId) -> u32 {
        self.batch_of.iter().map(|epoch| epoch.both(a, b)).sum()
    }

    fn share_a_cluster(&self, a: RowId, b: RowId) -> bool {
        let labels = self.clusters.labels();
        labels[a as usize] != NO_CLUSTER && labels[a as usize] == labels[b as usize]
    }

    /// The rows of a list's candidates that share batches with the row, each with the candidate's rank, where the row's
    /// query is the one to be judged. O(ranks · epochs), and for those that meet O(ranks).
    fn of_row(&self, row: RowId) -> Vec<MeetingPair> {
        let place = self.neighbors.place_of(row);
        let list = self.windows.of(place).places;
        let candidates = list.iter().filter(|candidate| candidate.number() < self.vectors.row_count());
        let met = candidates.filter_map(|candidate| self.most_met(row, *candidate));
        met.filter_map(|other| self.question(row, other).filter(|pair| pair.query == row)).collect()
    }

    /// Of the rows with a candidate's positive the one that a row meets most often, if it meets any.
    fn most_met(&self, row: RowId, candidate: Place) -> Option<RowId> {
        let others = self.neighbors.rows_behind(candidate).filter(|other| *other != row);
        let counted = others.map(|other| (self.batches(row, other), std::cmp::Reverse(other)));
        counted.max().filter(|(batches, _)| *batches > 0).map(|(_, other)| other.0)
    }

    /// What is asked of two rows that meet: the query that scores higher with the other's positive, of those that have
    /// it in their list. `None`: none has, or one of the two was judged.
    fn question(&self, a: RowId, b: RowId) -> Option<MeetingPair> {
        let one_way = |query: RowId, other: RowId| -> Result<Option<MeetingPair>, ()> {
            let [place, theirs] = [query, other].map(|row| self.neighbors.place_of(row));
            let candidate = self.neighbors.stands_for(theirs);
            if self.windows.verdicts_of(place).on(candidate).is_some() {
                return Err(());
            }
            let window = self.windows.of(place);
            let Some(rank) = window.places.iter().position(|known| *known == candidate) else { return Ok(None) };
            Ok(Some(MeetingPair {
                score: self.neighbors.scores(place)[rank],
                query,
                other,
                positive: self.positive(other),
                rank: Some(rank as u32),
                suspect: window.is_suspect(rank),
                batches: self.batches(query, other),
                same_cluster: self.share_a_cluster(query, other),
                drawn: 0,
            }))
        };
        let (Ok(forth), Ok(back)) = (one_way(a, b), one_way(b, a)) else { return None };
        match (forth, back) {
            (Some(forth), Some(back)) => {
                let is_forth = forth.score > back.score || forth.score == back.score && a < b;
                Some(if is_forth { forth } else { back })
            }
            (one, other) => one.or(other),
        }
    }

    /// What bit-identical positives have in common: their code, or where no other is the same the row's number.
    fn positive(&self, row: RowId) -> u64 {
        let code = self.codes.vectors.get(row as usize).copied().filter(|code| *code != UNIQUE);
        code.map_or(u64::from(row) | 1 << 32, u64::from)
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
                let is_row = candidate.number() < self.vectors.row_count();
                if self.windows.verdicts_of(self.neighbors.place_of(query)).on(candidate).is_some() {
                    continue;
                }
                // Where the rows meet as well, it is the same question.
                let met = is_row.then(|| self.most_met(query, candidate)).flatten();
                if let Some(pair) = met.and_then(|met| self.question(query, met)) {
                    each(MeetingPair { drawn: 1, ..pair });
                    continue;
                }
                each(MeetingPair {
                    score: *score,
                    query,
                    other,
                    positive: self.positive(other),
                    rank: window.places.iter().position(|place| *place == candidate).map(|rank| rank as u32),
                    suspect: false, // as a hard negative is none
                    batches: if is_row { self.batches(query, other) } else { 0 },
                    same_cluster: is_row && self.share_a_cluster(query, other),
                    drawn: 1,
                });
            }
        }
        Some(())
    }
}

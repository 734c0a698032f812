//! One chunk of the batch table joined to the texts of its rows and of their negatives.
//!
//! Texts are looked up by row number in what was read of the sources.
//!
//! Memory: the chunk's texts once, with those of its negatives.

use std::ops::Range;

use arrow::array::ArrayRef;
use polars::prelude::*;

use super::chunks::Pick;
use super::documents::Documents;
use super::engine::{self, flattened};
use super::padding::Padding;
use super::sources::{IMAGE, Sources};
use super::table::BatchTable;
use crate::error::Result;

/// Rows in order, with everything that a trainer's format may contain.
#[derive(Debug)]
pub(crate) struct Joined {
    /// Numbers of the rows in the sources.
    rows: Vec<u32>,
    /// Texts of queries and positives, then the columns that are kept.
    documents: Documents,
    negatives: Option<JoinedNegatives>,
    batches: Int64Chunked,
    epochs: Int32Chunked,
    tasks: StringChunked,
    ids: Column,
    scores: Float32Chunked,
}

/// The negatives of all rows, one row's after the other's.
#[derive(Debug)]
struct JoinedNegatives {
    /// Where each row's negatives begin; the last element is the number of all.
    starts: Vec<usize>,
    rows: Vec<u32>,
    ids: Column,
    scores: Float32Chunked,
    /// Texts, then images where the sources have them.
    documents: Documents,
    image: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Id<'a> {
    Int(i64),
    Text(&'a str),
}

impl std::fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Id::Int(id) => write!(f, "{id}"),
            Id::Text(id) => f.write_str(id),
        }
    }
}

/// One row, joined.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JoinedRow<'a> {
    pub epoch: i32,
    pub batch: i64,
    /// The task, in a run with tasks.
    pub task: Option<&'a str>,
    pub id: Id<'a>,
    /// Score of the query and its positive.
    pub score: f32,
    /// Text of the query.
    pub query: &'a str,
    /// Text of the positive.
    pub positive: &'a str,
}

/// One negative of a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Negative<'a> {
    /// Id of the row whose positive it is.
    pub id: Id<'a>,
    pub text: &'a str,
    /// Score of the query and the negative.
    pub score: f32,
    /// Path of the positive's image, where the sources have `pos_image_path`.
    pub image: Option<&'a str>,
}

impl Joined {
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn row(&self, at: usize) -> JoinedRow<'_> {
        JoinedRow {
            epoch: self.epochs.get(at).unwrap_or(0),
            batch: self.batches.get(at).unwrap_or(0),
            task: self.tasks.get(at),
            id: id_at(&self.ids, at),
            score: self.scores.get(at).unwrap_or(0.0),
            query: self.documents.text(0, self.rows[at]).unwrap_or_default(),
            positive: self.documents.text(1, self.rows[at]).unwrap_or_default(),
        }
    }

    /// A row's negatives, in the table's order.
    pub(crate) fn negatives(&self, at: usize) -> impl ExactSizeIterator<Item = Negative<'_>> {
        let range = self.negatives.as_ref().map_or(0..0, |negatives| negatives.starts[at]..negatives.starts[at + 1]);
        let of = |at: usize| {
            let negatives = self.negatives.as_ref().expect("a range of negatives has negatives");
            let row = negatives.rows[at];
            Negative {
                id: id_at(&negatives.ids, at),
                text: negatives.documents.text(0, row).unwrap_or_default(),
                score: negatives.scores.get(at).unwrap_or(0.0),
                image: negatives.image.and_then(|image| negatives.documents.text(image, row)),
            }
        };
        range.map(of)
    }

    /// Bytes of a row's texts, with those of its negatives.
    pub(crate) fn bytes(&self, at: usize) -> u64 {
        let row = self.row(at);
        let of_negatives: usize = self.negatives(at).map(|negative| negative.text.len()).sum();
        (row.query.len() + row.positive.len() + of_negatives) as u64
    }

    /// Whether a column is kept beside the texts.
    pub(crate) fn keeps(&self, name: &str) -> bool {
        self.kept_index(name).is_some()
    }

    /// A kept column of some rows.
    ///
    /// # Errors
    /// There is no such column.
    pub(crate) fn kept(&self, name: &str, range: Range<usize>) -> Result<ArrayRef> {
        let column = self.kept_index(name).ok_or_else(|| engine::damaged(&format!("no column {name}")))?;
        self.documents.values(column, &self.rows[range])
    }

    fn kept_index(&self, name: &str) -> Option<usize> {
        // The first two are texts, which may have the name of another column only if it is one of them.
        self.documents.column(name).filter(|column| *column > 1)
    }
}

fn id_at(ids: &Column, at: usize) -> Id<'_> {
    match ids.str() {
        Ok(ids) => Id::Text(ids.get(at).unwrap_or_default()),
        Err(_) => Id::Int(ids.i64().ok().and_then(|ids| ids.get(at)).unwrap_or_default()),
    }
}

/// Reads a chunk and joins it. `padding`: negatives of rows that have none; `longest`: most bytes of a row's texts.
///
/// # Errors
/// A file cannot be read, the sources lack a row, or lists of negatives have different lengths.
pub(crate) fn join(
    table: &BatchTable,
    sources: &Sources,
    pick: &Pick,
    padding: &Padding,
    longest: u64,
) -> Result<Joined> {
    let chunk = table.chunk(pick)?;
    let negatives = match table.negatives {
        0 => None,
        _ => Some(negatives(&chunk, sources, padding, longest)?),
    };
    let numbers = || -> PolarsResult<Vec<Option<i64>>> { Ok(chunk.column("row")?.i64()?.iter().collect()) };
    let rows = numbers().map_err(engine::failed)?.into_iter().map(|row| row_number(row.unwrap_or(-1)));
    let rows = rows.collect::<Result<Vec<u32>>>()?;
    let documents = Documents::read(sources, &sources.columns(), rows.clone(), longest)?;
    let all = || -> PolarsResult<Joined> {
        Ok(Joined {
            rows,
            documents,
            negatives,
            batches: chunk.column("batch_id")?.i64()?.rechunk().into_owned(),
            epochs: chunk.column("epoch")?.i32()?.rechunk().into_owned(),
            tasks: chunk.column("task")?.str()?.rechunk().into_owned(),
            ids: chunk.column("id")?.rechunk(),
            scores: chunk.column("score")?.f32()?.rechunk().into_owned(),
        })
    };
    all().map_err(engine::failed)
}

fn row_number(row: i64) -> Result<u32> {
    u32::try_from(row).map_err(|_| engine::damaged(&format!("row {row}")))
}

/// The lists of negatives of a chunk, one row's after the other's.
struct FlatLists {
    /// How many each row has.
    counts: Vec<usize>,
    rows: Vec<i64>,
    ids: Column,
    scores: Float32Chunked,
}

impl FlatLists {
    fn of(chunk: &DataFrame) -> Result<FlatLists> {
        let lists = || -> PolarsResult<FlatLists> {
            let (rows, counts) = flattened(chunk.column("negative_rows")?.list()?)?;
            let options = ExplodeOptions { empty_as_null: false, keep_nulls: false };
            let flat = |name: &str| chunk.column(name)?.list()?.explode(options);
            let scores = flat("negative_scores")?.f32()?.rechunk().into_owned();
            Ok(FlatLists { counts, rows, ids: flat("negatives")?.rechunk().into_column(), scores })
        };
        let lists = lists().map_err(engine::failed)?;
        let lengths = [lists.rows.len(), lists.ids.len(), lists.scores.len()];
        if lengths != [lists.counts.iter().sum::<usize>(); 3] {
            return Err(engine::damaged("lists of negatives of different lengths in one row"));
        }
        Ok(lists)
    }

    /// The same lists, and those that are given to rows without any.
    fn padded(self, chunk: &DataFrame, padding: &Padding) -> PolarsResult<FlatLists> {
        let (batches, inputs) = (chunk.column("batch_id")?.i64()?, chunk.column("row")?.i64()?);
        let mut counts = self.counts;
        let (mut rows, mut scores, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        let is_text = self.ids.str().is_ok();
        let mut at = 0;
        for (count, (batch, input)) in counts.iter_mut().zip(batches.iter().zip(inputs.iter())) {
            for own in at..at + *count {
                rows.push(self.rows[own]);
                scores.push(self.scores.get(own).unwrap_or(0.0));
                ids.push(id_at(&self.ids, own));
            }
            at += *count;
            if *count == 0 {
                let given = padding.of(batch.unwrap_or(-1), input.unwrap_or(-1));
                for negative in given {
                    rows.push(i64::from(negative.row));
                    scores.push(negative.score);
                    ids.push(match is_text {
                        true => Id::Text(padding.text_id(negative.row).unwrap_or_default()),
                        false => Id::Int(padding.int_id(negative.row).unwrap_or_default()),
                    });
                }
                *count = given.len();
            }
        }
        let number = |id: &Id<'_>| if let Id::Int(id) = id { *id } else { 0 };
        let ids = match is_text {
            true => Column::new("ids".into(), ids.iter().map(ToString::to_string).collect::<Vec<String>>()),
            false => Column::new("ids".into(), ids.iter().map(number).collect::<Vec<i64>>()),
        };
        Ok(FlatLists { counts, rows, ids, scores: Float32Chunked::from_vec("scores".into(), scores) })
    }
}

/// The texts of all negatives of a chunk, in the order in which its rows list them.
fn negatives(chunk: &DataFrame, sources: &Sources, padding: &Padding, longest: u64) -> Result<JoinedNegatives> {
    let mut lists = FlatLists::of(chunk)?;
    if !padding.is_empty() {
        lists = lists.padded(chunk, padding).map_err(engine::failed)?;
    }
    let FlatLists { counts, rows, ids, scores } = lists;
    let rows = rows.into_iter().map(row_number).collect::<Result<Vec<u32>>>()?;
    let documents = Documents::read(sources, &sources.negative_columns(), rows.clone(), longest)?;
    let starts = std::iter::once(0).chain(counts.iter().scan(0, |sum, count| {
        *sum += count;
        Some(*sum)
    }));
    let image = sources.negative_columns().iter().skip(1).position(|name| *name == IMAGE).map(|at| at + 1);
    Ok(JoinedNegatives { starts: starts.collect(), rows, ids, scores, documents, image })
}

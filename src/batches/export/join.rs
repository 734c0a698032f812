//! One chunk of the batch table joined to the texts of its rows and of their negatives.
//!
//! The chunk's rows are the join's build side; the sources are its probe side and are read once a chunk, twice where
//! there are negatives. The engine yields matches in any order; each carries its place in the chunk, by which they are
//! sorted. Texts are copied out of the pages that they were read from, so that the pages are freed.
//!
//! Memory: the chunk's texts once, and 16 bytes a text for sorting.

use polars::prelude::*;

use super::chunks::Pick;
use super::engine::{self, flattened};
use super::padding::Padding;
use super::sources::{IMAGE, POSITIVE, QUERY, ROW, Sources, kept_name};
use super::table::BatchTable;
use crate::error::{Error, Result};

/// Rows in order, with everything that a trainer's format may contain.
#[derive(Debug)]
pub(crate) struct Joined {
    /// Columns of the batch table, [`QUERY`], [`POSITIVE`], and those that are kept, by their [`kept_name`].
    pub table: DataFrame,
    negatives: Option<JoinedNegatives>,
    batches: Int64Chunked,
    epochs: Int32Chunked,
    tasks: StringChunked,
    ids: Column,
    scores: Float32Chunked,
    queries: StringChunked,
    positives: StringChunked,
}

/// The negatives of all rows, one row's after the other's.
#[derive(Debug)]
struct JoinedNegatives {
    /// Where each row's negatives begin; the last element is the number of all.
    starts: Vec<usize>,
    ids: Column,
    scores: Float32Chunked,
    texts: StringChunked,
    images: Option<StringChunked>,
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
        self.table.height()
    }

    pub(crate) fn row(&self, at: usize) -> JoinedRow<'_> {
        JoinedRow {
            epoch: self.epochs.get(at).unwrap_or(0),
            batch: self.batches.get(at).unwrap_or(0),
            task: self.tasks.get(at),
            id: id_at(&self.ids, at),
            score: self.scores.get(at).unwrap_or(0.0),
            query: self.queries.get(at).unwrap_or_default(),
            positive: self.positives.get(at).unwrap_or_default(),
        }
    }

    /// A row's negatives, in the table's order.
    pub(crate) fn negatives(&self, at: usize) -> impl ExactSizeIterator<Item = Negative<'_>> {
        let range = self.negatives.as_ref().map_or(0..0, |negatives| negatives.starts[at]..negatives.starts[at + 1]);
        let of = |at: usize| {
            let negatives = self.negatives.as_ref().expect("a range of negatives has negatives");
            Negative {
                id: id_at(&negatives.ids, at),
                text: negatives.texts.get(at).unwrap_or_default(),
                score: negatives.scores.get(at).unwrap_or(0.0),
                image: negatives.images.as_ref().and_then(|images| images.get(at)),
            }
        };
        range.map(of)
    }
}

fn id_at(ids: &Column, at: usize) -> Id<'_> {
    match ids.str() {
        Ok(ids) => Id::Text(ids.get(at).unwrap_or_default()),
        Err(_) => Id::Int(ids.i64().ok().and_then(|ids| ids.get(at)).unwrap_or_default()),
    }
}

/// Reads a chunk and joins it. `kept`: columns of the sources to keep beside the texts; `padding`: negatives of rows
/// that have none.
///
/// # Errors
/// A file cannot be read, the sources lack a row, or lists of negatives have different lengths.
pub(crate) fn join(
    table: &BatchTable,
    sources: &Sources,
    pick: &Pick,
    kept: &[String],
    padding: &Padding,
) -> Result<Joined> {
    let chunk = table.chunk(pick)?;
    let negatives = match table.negatives {
        0 => None,
        _ => Some(negatives(&chunk, sources, kept.iter().any(|name| name == IMAGE), padding)?),
    };
    let chunk = chunk.drop_many(["negatives", "negative_rows", "negative_scores"]);
    let texts = texts(&chunk, sources, kept)?;
    let all = || -> PolarsResult<Joined> {
        let table = chunk.hstack(texts.columns())?;
        let text =
            |name: &str| -> PolarsResult<StringChunked> { Ok(table.column(name)?.str()?.rechunk().into_owned()) };
        Ok(Joined {
            batches: table.column("batch_id")?.i64()?.rechunk().into_owned(),
            epochs: table.column("epoch")?.i32()?.rechunk().into_owned(),
            tasks: text("task")?,
            ids: table.column("id")?.rechunk(),
            scores: table.column("score")?.f32()?.rechunk().into_owned(),
            queries: text(QUERY)?,
            positives: text(POSITIVE)?,
            negatives,
            table,
        })
    };
    all().map_err(engine::failed)
}

/// The texts (and kept columns) of a chunk's rows, in its order.
fn texts(chunk: &DataFrame, sources: &Sources, kept: &[String]) -> Result<DataFrame> {
    let wanted = || -> PolarsResult<LazyFrame> {
        let keys = chunk.select(["place", "row"])?.lazy();
        let keys = keys.select([col("place"), col("row").cast(IDX_DTYPE).alias(ROW)]);
        let columns = sources
            .texts()
            .into_iter()
            .chain(kept.iter().map(|name| col(name.as_str()).alias(kept_name(name))))
            .collect();
        Ok(probe(keys, sources.scan(columns)?, ROW))
    };
    let found = gather(wanted().map_err(engine::failed)?)?;
    if found.height() != chunk.height() {
        return Err(Error::runtime("the sources lack rows of the batch table")
            .path(&sources.paths[0])
            .expected(format!("{} rows", chunk.height()))
            .found(format!("{} of them", found.height()))
            .remedy("`batchmine verify RUN` checks the batch table"));
    }
    let sorted = found.sort(["place"], SortMultipleOptions::default()).map_err(engine::failed)?;
    Ok(sorted.drop_many(["place", ROW]))
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
fn negatives(chunk: &DataFrame, sources: &Sources, images: bool, padding: &Padding) -> Result<JoinedNegatives> {
    let mut lists = FlatLists::of(chunk)?;
    if !padding.is_empty() {
        lists = lists.padded(chunk, padding).map_err(engine::failed)?;
    }
    let FlatLists { counts, rows, ids, scores } = lists;
    let rows = Column::new(ROW.into(), rows).cast(&IDX_DTYPE).map_err(engine::failed)?;
    let unique = || -> PolarsResult<LazyFrame> {
        let unique = rows.unique()?;
        let keys = DataFrame::new(unique.len(), vec![unique])?.lazy();
        let mut columns = vec![col(sources.positive.as_str()).alias(POSITIVE)];
        columns.extend(images.then(|| col(IMAGE)));
        Ok(probe(keys, sources.scan(columns)?, ROW))
    };
    let documents = gather(unique().map_err(engine::failed)?)?;
    let placed = || -> PolarsResult<DataFrame> {
        let wanted = DataFrame::new(rows.len(), vec![rows.clone()])?;
        let arguments = JoinArgs { maintain_order: MaintainOrderJoin::Left, ..JoinArgs::new(JoinType::Left) };
        wanted.join(&documents, [ROW], [ROW], arguments, None)
    };
    let placed = placed().map_err(engine::failed)?;
    if placed.height() != rows.len() {
        return Err(engine::damaged(&format!("{} texts of {} negatives", placed.height(), rows.len())));
    }
    let column = |name: &str| -> Result<StringChunked> {
        let texts = placed.column(name).and_then(|column| Ok(column.str()?.rechunk().into_owned()));
        texts.map_err(engine::failed)
    };
    let starts = std::iter::once(0).chain(counts.iter().scan(0, |sum, count| {
        *sum += count;
        Some(*sum)
    }));
    let (starts, texts) = (starts.collect(), column(POSITIVE)?);
    let images = if images { Some(column(IMAGE)?) } else { None };
    Ok(JoinedNegatives { starts, ids, scores, texts, images })
}

/// Joins a small frame of keys to a large one, which is streamed.
fn probe(keys: LazyFrame, large: LazyFrame, key: &str) -> LazyFrame {
    let joined = keys.join_builder().with(large).how(JoinType::Inner).on([col(key)]);
    joined.build_side(Some(JoinBuildSide::ForceLeft)).finish()
}

/// Collects matches in any order, with texts copied: as they come they point into the pages that they were read from.
fn gather(frame: LazyFrame) -> Result<DataFrame> {
    let found = engine::fold(frame.clone(), false, None::<DataFrame>, |all, piece| {
        let piece = copied(piece).map_err(engine::failed)?;
        match all {
            Some(all) => all.vstack_mut(&piece).map(drop).map_err(engine::failed),
            None => {
                *all = Some(piece);
                Ok(())
            }
        }
    })?;
    match found {
        Some(found) => Ok(found),
        // Not one match: an empty frame of the same columns.
        None => engine::collect(frame.limit(0)),
    }
}

fn copied(piece: DataFrame) -> PolarsResult<DataFrame> {
    let copy = |column: &Column| match column.str() {
        Ok(texts) => {
            let copied: StringChunked = texts.iter().collect();
            copied.with_name(column.name().clone()).into_column()
        }
        Err(_) => column.clone(),
    };
    DataFrame::new(piece.height(), piece.columns().iter().map(copy).collect())
}

//! Negatives for rows that have none, where the trainer cannot read a row without.
//!
//! Leaving such a row out would make its batch smaller, and shift all batches that follow it where batches are
//! positions. So it gets positives of other rows of its batch, which are its negatives in training anyway: up to as
//! many as other rows have, of its own task first, counted from half a batch behind it, so that rows of its own cluster
//! come last. Rows that share a key, a positive or a query with it are passed over.
//!
//! Memory: the rows of two batches, and 8 bytes for each negative that is given. The vectors stage's files are mapped.

use std::collections::HashMap;
use std::sync::Arc;

use polars::prelude::*;

use super::engine;
use super::table::BatchTable;
use crate::error::{Error, Result};
use crate::run::RunReader;
use crate::vectors::{self, Keys, RowId, Scorer, Vectors};

/// Rows of an export by their hard negatives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct NegativeCounts {
    /// Rows with fewer than the most that is exported, and with one at least.
    pub short: u64,
    /// Rows without any.
    pub without: u64,
    /// Of these, rows that got others.
    pub filled: u64,
}

/// The negatives that are given to rows without any.
#[derive(Debug, Default)]
pub(crate) struct Padding {
    /// By batch and input row.
    given: HashMap<(i64, i64), Vec<GivenNegative>>,
    vectors: Option<Arc<Vectors>>,
}

/// A negative that is given to a row: an input row, and the score of the row's query with its positive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct GivenNegative {
    pub row: u32,
    pub score: f32,
}

impl Padding {
    /// The negatives of a row that has none of its own; empty where none are given.
    pub(crate) fn of(&self, batch: i64, row: i64) -> &[GivenNegative] {
        self.given.get(&(batch, row)).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// The id of an input row, where ids are numbers.
    pub(crate) fn int_id(&self, row: u32) -> Option<i64> {
        self.vectors.as_ref()?.ids.int(row)
    }

    /// The id of an input row, where ids are strings.
    pub(crate) fn text_id(&self, row: u32) -> Option<&str> {
        self.vectors.as_ref()?.ids.text(row)
    }
}

/// Counts rows by their negatives, and gives some to those without if `fill`. `size`: only batches of so many rows
/// are exported.
///
/// # Errors
/// The table cannot be read, or no other row can be a negative of a row without.
pub(crate) fn read(
    run: &RunReader,
    table: &BatchTable,
    size: Option<u64>,
    fill: bool,
) -> Result<(Padding, NegativeCounts)> {
    if table.negatives == 0 {
        return Ok(Default::default());
    }
    let vectors = if fill && table.has_rows_without_negatives()? { Some(Arc::new(vectors::open(run)?)) } else { None };
    let places = vectors.as_ref().map(|vectors| row_of_input(vectors)).transpose()?;
    let start = Filling {
        size,
        most: table.negatives as usize,
        vectors: vectors.clone(),
        row_of_input: places.unwrap_or_default(),
        batch: -1,
        rows: Vec::new(),
        before: Vec::new(),
        padding: Padding { given: HashMap::new(), vectors },
        counts: NegativeCounts::default(),
    };
    let mut filling = engine::fold(table.rows(false)?, true, start, |filling, piece| {
        let columns = || -> PolarsResult<_> {
            let counts: Vec<u32> =
                piece.column("negative_rows")?.list()?.lst_lengths().iter().map(|count| count.unwrap_or(0)).collect();
            Ok((piece.column("batch_id")?.i64()?, piece.column("row")?.i64()?, counts))
        };
        let (batches, rows, counts) = columns().map_err(engine::failed)?;
        for ((batch, row), count) in batches.iter().zip(rows.iter()).zip(counts) {
            filling.take(batch.unwrap_or(-1), row.unwrap_or(-1), count as usize)?;
        }
        Ok(())
    })?;
    filling.end_batch()?;
    Ok((filling.padding, filling.counts))
}

/// The row of each input row; of those that are in no batch it is not asked for.
fn row_of_input(vectors: &Vectors) -> Result<Vec<RowId>> {
    let (input_rows, all) = (vectors.rows.input_rows(), vectors.rows.input_row_limit());
    let mut rows = vec![0; all as usize];
    for (row, input) in input_rows.iter().enumerate() {
        let Some(of_input) = rows.get_mut(*input as usize) else {
            return Err(engine::damaged(&format!("input row {input} of {all}")));
        };
        *of_input = row as RowId;
    }
    Ok(rows)
}

/// A row of a batch, and how many negatives it has.
#[derive(Debug, Clone, Copy)]
struct Member {
    input: i64,
    negatives: usize,
}

/// The pass over the table.
struct Filling {
    size: Option<u64>,
    most: usize,
    vectors: Option<Arc<Vectors>>,
    row_of_input: Vec<RowId>,
    batch: i64,
    /// Rows of the open batch.
    rows: Vec<Member>,
    /// Rows of the batch before.
    before: Vec<Member>,
    padding: Padding,
    counts: NegativeCounts,
}

impl Filling {
    fn take(&mut self, batch: i64, input: i64, negatives: usize) -> Result<()> {
        if batch != self.batch {
            self.end_batch()?;
            self.batch = batch;
        }
        self.rows.push(Member { input, negatives });
        Ok(())
    }

    fn end_batch(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        if self.size.is_none_or(|size| size == rows.len() as u64) {
            self.counts.short += rows.iter().filter(|row| (1..self.most).contains(&row.negatives)).count() as u64;
            let without = rows.iter().enumerate().filter(|(_, row)| row.negatives == 0);
            for (at, member) in without {
                self.counts.without += 1;
                if let Some(vectors) = &self.vectors {
                    let given = self.negatives_for(vectors, at, &rows)?;
                    self.padding.given.insert((self.batch, member.input), given);
                    self.counts.filled += 1;
                }
            }
        }
        self.before = rows;
        Ok(())
    }

    fn row(&self, member: Member) -> Result<RowId> {
        let row = usize::try_from(member.input).ok().and_then(|input| self.row_of_input.get(input));
        row.copied().ok_or_else(|| engine::damaged(&format!("row {} of {}", member.input, self.row_of_input.len())))
    }

    fn negatives_for(&self, vectors: &Vectors, at: usize, rows: &[Member]) -> Result<Vec<GivenNegative>> {
        let own = self.row(rows[at])?;
        let mut others: Vec<RowId> = Vec::with_capacity(rows.len() + self.before.len());
        for step in 0..rows.len() {
            let other = (at + rows.len() / 2 + step) % rows.len();
            if other != at {
                others.push(self.row(rows[other])?);
            }
        }
        for member in &self.before {
            others.push(self.row(*member)?);
        }
        let task = vectors.tasks.range(vectors.tasks.of(own));
        let chosen = choose(own, &others, rows.len() - 1, &task, &vectors.rows.keys_and_queries(), self.most);
        if chosen.is_empty() {
            return Err(Error::input("a row has no hard negative, and no other row of its batch can be one")
                .row(rows[at].input as u64)
                .expected("a row of the batch that shares no key, positive or query with it")
                .found(format!("none in batch {} of {} rows", self.batch, rows.len()))
                .remedy("export without negatives (--negatives 0), or mine with a wider --window"));
        }
        vectors.queries.check_row(own)?;
        chosen.iter().try_for_each(|row| vectors.positives.check_row(*row))?;
        let mut scorer = Scorer::new(vectors);
        let input = vectors.rows.input_rows();
        let given = |row: RowId| GivenNegative { row: input[row as usize], score: scorer.pair(own, row) };
        Ok(chosen.into_iter().map(given).collect())
    }
}

/// Up to `most` of `others` that share no key with a row: of its batch (the first `mates`) and its task, else of its
/// batch, else any one. Pure. O(others · keys).
fn choose(
    own: RowId,
    others: &[RowId],
    mates: usize,
    task: &std::ops::Range<RowId>,
    keys: &Keys<'_>,
    most: usize,
) -> Vec<RowId> {
    let may = |row: &&RowId| !keys.conflict(own, **row);
    let (mates, before) = others.split_at(mates);
    let of_task: Vec<RowId> = mates.iter().filter(|row| task.contains(row)).filter(may).take(most).copied().collect();
    if !of_task.is_empty() {
        return of_task;
    }
    let of_batch: Vec<RowId> = mates.iter().filter(may).take(most).copied().collect();
    if of_batch.is_empty() { before.iter().filter(may).take(1).copied().collect() } else { of_batch }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mates_of_the_task_come_first_and_no_row_of_a_key() {
        // Rows 0..5 are the task; 1 and 2 share a key with row 0.
        let codes = [7, 7, 7, 3, 4, 5, 6, 8];
        let keys = Keys::new(vec![&codes]);
        let choose = |others: &[RowId], mates| choose(0, others, mates, &(0..5), &keys, 2);
        assert_eq!(choose(&[1, 6, 3, 2, 4], 5), [3, 4]);
        assert_eq!(choose(&[1, 6, 2, 4], 4), [4]);
        assert_eq!(choose(&[1, 6, 2, 7], 4), [6, 7], "of another task where there is none of its own");
        assert_eq!(choose(&[1, 2, 7, 4], 2), [7], "of the batch before where its own has none");
        assert_eq!(choose(&[1, 2], 2), [] as [RowId; 0]);
    }
}

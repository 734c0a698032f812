//! Rows with an embedding that cannot be used: all of them are found, counted and listed.
//!
//! Memory: a bit a row; while they are listed, one batch of both sides.

use std::collections::BTreeMap;

use super::bad_row_table::{BadRow, BadRowTable, bad_row_table};
use super::context::Input;
use super::labels::for_each_unit;
use super::row_marks::RowMarks;
use super::sides::{for_each_pair_batch, side_names};
use crate::error::{Error, Result};
use crate::run::{Run, Stage};
use crate::watch::Watch;

/// Bad rows that a message shows.
const ROWS_SHOWN: usize = 20;

/// All bad rows of an input, counted, and the first of them.
#[derive(Debug, Default)]
pub(crate) struct BadRowCounts {
    rows: u64,
    /// By column and kind.
    counts: BTreeMap<(String, &'static str), u64>,
    first: Option<Error>,
    lines: Vec<String>,
}

impl BadRowCounts {
    fn add(&mut self, bad: &BadRow<'_>) {
        *self.counts.entry((bad.column.to_owned(), bad.fault.kind())).or_default() += 1;
        if self.lines.len() < ROWS_SHOWN {
            self.lines.push(bad.line());
        }
        self.first.get_or_insert_with(|| bad.error());
    }

    /// How many there are of each kind.
    pub(crate) fn words(&self) -> String {
        let of = |((column, kind), count): (&(String, &str), &u64)| match column.as_str() {
            "" => format!("{count} {kind}"),
            column => format!("{count} {kind} in {column}"),
        };
        self.counts.iter().map(of).collect::<Vec<_>>().join(", ")
    }

    /// The first of them, a line each.
    pub(crate) fn lines(&self) -> String {
        let more = self.counts.values().sum::<u64>() - self.lines.len() as u64;
        let more = if more > 0 { format!("\n            and {more} more") } else { String::new() };
        format!("{}{more}", self.lines.join("\n            "))
    }

    /// The error for them; `listed`: where all are listed.
    fn error(self, input: &Input<'_>, listed: Option<&str>) -> Error {
        let listed = listed.map_or_else(String::new, |path| format!("\n            all are listed in {path}"));
        match self.first {
            Some(only) if self.rows == 1 => only,
            _ => Error::input(format!("{} {} have embeddings that cannot be used", self.rows, input.noun()))
                .expected("a finite vector above zero, of one number of dimensions, in every row")
                .found(format!("{}; the first of them:\n            {}{listed}", self.words(), self.lines()))
                .remedy(match self.rows == input.rows() as u64 {
                    true => "embed them again: none is left",
                    false => "embed these rows again, or leave them out with --bad-rows drop",
                }),
        }
    }
}

/// Marks the rows that cannot be used, and measures the others. One pass over the embeddings.
///
/// # Errors
/// The data cannot be decoded, or the watch stops the work.
pub(super) fn mark_bad_rows(
    input: &Input<'_>,
    batch_rows: usize,
    watch: Watch<'_>,
) -> Result<(RowMarks, [NormRange; 2])> {
    let marks = RowMarks::new(input.rows());
    let norms = std::sync::Mutex::new([NormRange::default(); 2]);
    for_each_unit(&input.units, |unit| {
        let (mut vector, mut own) = (vec![0f32; input.shards.shape.dim], [NormRange::default(); 2]);
        for_each_pair_batch(input, unit, batch_rows, |first, sides, rows| {
            for row in 0..rows {
                for (side, own) in sides.iter().zip(&mut own) {
                    match side.load(row, &mut vector) {
                        Ok(norm) => own.add(norm),
                        Err(_) => marks.mark(unit.first_input_row() + first + row as u64),
                    }
                }
            }
            watch.add(rows as u64)
        })?;
        let mut all = norms.lock().expect("no thread panics while it holds the norms");
        all.iter_mut().zip(own).for_each(|(all, own)| all.join(own));
        Ok(())
    })?;
    Ok((marks, norms.into_inner().expect("no thread panics while it holds the norms")))
}

/// The least and the greatest norm of some vectors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct NormRange {
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Default for NormRange {
    fn default() -> Self {
        NormRange { least: f64::INFINITY, most: 0.0 }
    }
}

impl NormRange {
    pub(super) fn add(&mut self, norm: f64) {
        self.join(NormRange { least: norm, most: norm });
    }

    pub(super) fn join(&mut self, other: NormRange) {
        *self = NormRange { least: self.least.min(other.least), most: self.most.max(other.most) };
    }
}

/// Reads the marked rows once more, in order, and counts them; `each` hears of all of them.
///
/// # Errors
/// The data cannot be decoded, or the closure fails.
pub(super) fn list_bad_rows(
    input: &Input<'_>,
    batch_rows: usize,
    marks: &RowMarks,
    mut each: impl FnMut(&BadRow<'_>) -> Result<()>,
) -> Result<BadRowCounts> {
    let mut counts = BadRowCounts { rows: marks.count(), ..BadRowCounts::default() };
    let names = side_names(input.shards);
    let shown = if input.shards.roles.shared { 1 } else { 2 };
    let mut vector = vec![0f32; input.shards.shape.dim];
    for unit in input.units.iter().filter(|unit| marks.any_of(unit)) {
        for_each_pair_batch(input, unit, batch_rows, |first, sides, rows| {
            let of_unit = |row: &u64| marks.has(unit.first_input_row() + row);
            for row in (first..first + rows as u64).filter(of_unit) {
                for (side, column) in sides.iter().zip(names).take(shown) {
                    if let Err(fault) = side.load((row - first) as usize, &mut vector) {
                        let bad = BadRow { unit, row, column, fault };
                        counts.add(&bad);
                        each(&bad)?;
                    }
                }
            }
            Ok(())
        })?;
    }
    Ok(counts)
}

/// Lists the marked rows in a file of the run folder, and counts them.
///
/// # Errors
/// The data cannot be decoded, or the disk fails.
pub(super) fn write_bad_rows(
    run: &Run,
    input: &Input<'_>,
    batch_rows: usize,
    marks: &RowMarks,
) -> Result<BadRowCounts> {
    let mut counts = None;
    run.put_file(bad_row_table(input), |out| {
        let mut table = BadRowTable::new(out)?;
        counts = Some(list_bad_rows(input, batch_rows, marks, |bad| table.add(bad))?);
        table.close()
    })?;
    Ok(counts.unwrap_or_default())
}

/// Fails if rows are marked, with all of them listed in a file of the run folder.
///
/// # Errors
/// There are bad rows.
pub(super) fn refuse_bad_rows(run: &Run, input: &Input<'_>, batch_rows: usize, marks: &RowMarks) -> Result<()> {
    if marks.count() == 0 {
        return Ok(());
    }
    let counts = write_bad_rows(run, input, batch_rows, marks)?;
    let path = run.folder().join(bad_row_table(input)).display().to_string();
    Err(counts.error(input, Some(&path)))
}

/// Finds the rows that cannot be used, lists them in a file of the run folder, and says how many they are. Returns
/// their marks, if there are any.
///
/// # Errors
/// No row is left; the data cannot be decoded, or the disk fails.
pub(super) fn drop_bad_rows(run: &Run, input: &Input<'_>, batch_rows: usize) -> Result<Option<RowMarks>> {
    let meter = run.meter(Stage::Vectors, input.shards.shape.rows, input.checked());
    let listen = |rows| meter.add(rows);
    let (marks, _) = mark_bad_rows(input, batch_rows, Watch::new(&listen))?;
    let (bad, rows) = (marks.count(), input.rows() as u64);
    if bad == 0 {
        return Ok(None);
    }
    if bad == rows {
        refuse_bad_rows(run, input, batch_rows, &marks)?;
    }
    let counts = write_bad_rows(run, input, batch_rows, &marks)?;
    let path = run.folder().join(bad_row_table(input));
    let noun = input.noun();
    tracing::warn!("{bad} of {rows} {noun} are left out ({}): they are listed in {}", counts.words(), path.display());
    Ok(Some(marks))
}

/// Counts the rows that cannot be used without writing anything; fails if there are any and they are not to be dropped,
/// or if none is left.
///
/// # Errors
/// There are bad rows, or the data cannot be decoded.
pub(super) fn check_bad_rows(
    input: &Input<'_>,
    batch_rows: usize,
    drop: bool,
    watch: Watch<'_>,
) -> Result<(RowMarks, BadRowCounts, [NormRange; 2])> {
    let (marks, norms) = mark_bad_rows(input, batch_rows, watch)?;
    let counts = list_bad_rows(input, batch_rows, &marks, |_| Ok(()))?;
    match counts.rows {
        0 => Ok((marks, counts, norms)),
        bad if drop && bad < input.rows() as u64 => Ok((marks, counts, norms)),
        _ => Err(counts.error(input, None)),
    }
}

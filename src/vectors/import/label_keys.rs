//! What labels alone say: tasks and keys, without a look at the vectors. For `plan`.
//!
//! Memory: 4 bytes a row for tasks and for each key column, and what coding one column takes.

use std::ops::Range;

use super::context::Input;
use super::key_lists::{CodedLists, key_lists};
use super::keys::key_column;
use super::labels::for_each_label;
use super::row_marks::RowMarks;
use super::tasks::{Numbers, tasks_of_rows};
use crate::config::Config;
use crate::error::Result;
use crate::vectors::decode::Unit;
use crate::vectors::keys::{KeyColumn, Keys};
use crate::vectors::labels::LabelColumn;
use crate::vectors::row::RowId;
use crate::vectors::shards::Shards;

/// Most characters of a value that a message shows.
const VALUE_SHOWN: usize = 60;

/// Tasks, and the key columns.
pub(crate) struct LabelKeys {
    /// Names and rows, in order.
    pub(crate) tasks: Vec<(String, Range<RowId>)>,
    columns: Vec<CodedColumn>,
    /// Each input row's number in task-grouped order.
    row_ids: Vec<RowId>,
}

enum CodedColumn {
    One(Vec<u32>),
    Lists(CodedLists),
}

impl CodedColumn {
    fn view(&self) -> KeyColumn<'_> {
        match self {
            CodedColumn::One(codes) => KeyColumn::One(codes),
            CodedColumn::Lists(lists) => KeyColumn::Lists(lists.lists()),
        }
    }
}

impl LabelKeys {
    /// The keys; those of one key a row first, as the row table has them.
    pub(crate) fn keys(&self) -> Keys<'_> {
        Keys::of_columns(self.columns.iter().map(CodedColumn::view).collect())
    }

    /// The input row of a row. O(rows).
    pub(crate) fn input_row(&self, row: RowId) -> u32 {
        self.row_ids.iter().position(|id| *id == row).unwrap_or(0) as u32
    }
}

/// Reads the task column and the key columns, without the rows that are left out.
///
/// # Errors
/// A column cannot be read, or a task is null.
pub(crate) fn label_keys(shards: &Shards, config: &Config, dropped: Option<&RowMarks>) -> Result<LabelKeys> {
    let input = Input::new(shards, config).without(dropped);
    let (names, starts, row_ids) = tasks_of_rows(&input)?;
    let ranges = starts.windows(2).map(|pair| pair[0] as RowId..pair[1] as RowId);
    let numbers = Numbers::of_rows(row_ids);
    let mut columns = Vec::new();
    for column in in_table_order(shards) {
        columns.push(match column.list {
            true => CodedColumn::Lists(key_lists(&input, None, column, &numbers)?.0),
            false => CodedColumn::One(key_column(&input, None, column, &numbers)?.0),
        });
    }
    Ok(LabelKeys { tasks: names.into_iter().zip(ranges).collect(), columns, row_ids: numbers.rows })
}

/// The key columns in the order of the row table: those of lists last.
fn in_table_order(shards: &Shards) -> impl Iterator<Item = &LabelColumn> {
    let keys = &shards.labels.keys;
    keys.iter().filter(|column| !column.list).chain(keys.iter().filter(|column| column.list))
}

/// Words for the key that rows share with an input row; `column` counts as the row table does, without the vectors.
pub(crate) fn words_on_key(shards: &Shards, column: usize, input_row: u32) -> String {
    let Some(column) = in_table_order(shards).nth(column) else {
        return format!("share a key of input row {input_row}");
    };
    if column.list {
        return format!("share an element of `{}` with input row {input_row}", column.name);
    }
    match value_at(shards, column, u64::from(input_row)) {
        Some(value) => format!("have `{}` {value:?}", column.name),
        None => format!("have the `{}` of input row {input_row}", column.name),
    }
}

/// A label's text, if it can be read; what is long is cut.
fn value_at(shards: &Shards, column: &LabelColumn, input_row: u64) -> Option<String> {
    let units = Unit::all(&shards.list);
    let unit = units.iter().rfind(|unit| unit.first_input_row() <= input_row)?;
    let wanted = input_row - unit.first_input_row();
    let mut value = None;
    for_each_label(unit, column, |row, label| {
        if row == wanted {
            value = label.ok().map(|label| String::from_utf8_lossy(label).chars().take(VALUE_SHOWN).collect());
        }
        Ok(())
    })
    .ok()?;
    value
}

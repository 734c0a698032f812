//! The task column becomes `tasks.col` and the order of rows: tasks by name, and within a task the input's order.
//!
//! Memory: 4 bytes a row: its task's code, which the row's number then replaces; and the names, whose share of the
//! budget is bounded.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::sync::Mutex;

use super::context::{Import, Input};
use super::labels::{for_each_text, for_each_unit, missing_label};
use super::scatter::Scatter;
use crate::config::{BadRows, Config};
use crate::error::{Error, Kind, Result};
use crate::vectors::decode::Unit;
use crate::vectors::documents::write_documents;
use crate::vectors::labels::{LabelColumn, Missing};
use crate::vectors::open::{DOCUMENT_TABLE, TASK_TABLE};
use crate::vectors::row::{NO_ROW, RowId};
use crate::vectors::shards::Shards;
use crate::vectors::tasks::{TASKS, Tasks};

/// Tasks that a message names.
const NAMES_SHOWN: usize = 50;

/// Codes of task names, in the order in which threads meet them; [`group_by_task`] sorts them.
#[derive(Default)]
struct Names {
    codes: HashMap<String, u32>,
    list: Vec<String>,
    /// Bytes of all names, with what is held beside each.
    bytes: u64,
}

/// Bytes of a name beside its text.
const NAME_BYTES: u64 = 48;
/// The share of the budget that names may take: they are there some times over.
const NAMES_SHARE: u64 = 16;

impl Names {
    fn code(&mut self, name: &str) -> u32 {
        if let Some(code) = self.codes.get(name) {
            return *code;
        }
        let code = self.list.len() as u32;
        self.codes.insert(name.to_owned(), code);
        self.list.push(name.to_owned());
        self.bytes += name.len() as u64 + NAME_BYTES;
        code
    }
}

/// The number of each input row, and of each document, in task-grouped order, documents behind rows.
pub(super) struct Numbers {
    pub(super) rows: Vec<RowId>,
    pub(super) documents: Vec<RowId>,
    /// Documents that have a number.
    pub(super) kept: u64,
    /// Documents of tasks that no row has: they have no number.
    pub(super) of_other_tasks: u64,
}

impl Numbers {
    /// Those of rows alone.
    pub(super) fn of_rows(rows: Vec<RowId>) -> Numbers {
        Numbers { rows, documents: Vec::new(), kept: 0, of_other_tasks: 0 }
    }
}

/// Commits the task table, and that of the documents, and returns all numbers.
///
/// # Errors
/// The column cannot be read, a task is null, or the disk fails.
pub(super) fn write_tasks(import: &Import<'_>) -> Result<Numbers> {
    let (names, starts, rows) = tasks_of_rows(&import.input)?;
    let (fields, payload) = Tasks::encode(&names, &starts);
    import.stage.commit(TASK_TABLE, |out| {
        out.write_all(&TASKS.header(fields))?;
        out.write_all(&payload)?;
        out.seal()
    })?;
    let Some(corpus) = &import.documents else {
        return Ok(Numbers::of_rows(rows));
    };
    let (own_names, own_starts, mut documents) = tasks_of_rows(corpus)?;
    let first = starts.last().copied().unwrap_or(0);
    let (of_tasks, moved) = documents_of_tasks(&names, &own_names, &own_starts);
    let of_other_tasks = own_starts.last().zip(of_tasks.last()).map_or(0, |(all, kept)| all - kept);
    for number in documents.iter_mut().filter(|number| **number != NO_ROW) {
        let task = own_starts.partition_point(|start| *start <= u64::from(*number)) - 1;
        *number = moved[task].map_or(NO_ROW, |start| (first + start + u64::from(*number) - own_starts[task]) as RowId);
    }
    import.stage.commit(DOCUMENT_TABLE, |out| write_documents(out, &of_tasks))?;
    let kept = of_tasks.last().copied().unwrap_or(0);
    Ok(Numbers { rows, documents, kept, of_other_tasks })
}

/// Where the documents of each of the rows' tasks begin, with the total at the end; and by task of the documents, where
/// its own begin, if rows have this task. Both lists of names are in order. Pure.
fn documents_of_tasks(names: &[String], own: &[String], own_starts: &[u64]) -> (Vec<u64>, Vec<Option<u64>>) {
    let (mut starts, mut moved, mut end) = (vec![0], vec![None; own.len()], 0);
    for name in names {
        if let Ok(task) = own.binary_search(name) {
            moved[task] = Some(end);
            end += own_starts[task + 1] - own_starts[task];
        }
        starts.push(end);
    }
    (starts, moved)
}

/// Task names in order, where each task's rows start, with the total at the end, and each input row's number in
/// task-grouped order: [`NO_ROW`] of rows that are left out.
///
/// # Errors
/// The column cannot be read, or a task is null.
pub(super) fn tasks_of_rows(input: &Input<'_>) -> Result<(Vec<String>, Vec<u64>, Vec<RowId>)> {
    let Some(column) = &input.shards.labels.task else {
        let mut next = 0..input.kept().rows as RowId;
        let number = |row| if input.keeps(row) { next.next().unwrap_or(NO_ROW) } else { NO_ROW };
        let row_ids = (0..input.rows() as u64).map(number).collect();
        return Ok((vec![String::new()], vec![0, input.kept().rows], row_ids));
    };
    let codes = Scatter::new(vec![NO_ROW; input.rows()]);
    let known = Mutex::new(Names::default());
    for_each_unit(&input.units, |unit| task_codes(input, unit, column, &known, &codes))?;
    let mut codes = codes.into_inner();
    let names = known.into_inner().expect("no thread panics while it holds the names").list;
    let (names, starts) = group_by_task(names, &mut codes);
    Ok((names, starts, codes))
}

/// Writes the code of each row's task.
fn task_codes(
    input: &Input<'_>,
    unit: &Unit<'_>,
    column: &LabelColumn,
    known: &Mutex<Names>,
    codes: &Scatter<u32>,
) -> Result<()> {
    // Names repeat: each unit keeps the codes it has seen, and asks the shared list for new ones.
    let mut seen = HashMap::<String, u32>::new();
    for_each_text(unit, column, |row, name| {
        if !input.keeps(unit.first_input_row() + row) {
            return Ok(());
        }
        let name = name.map_err(|missing| null_task(input, unit, column, row, missing))?;
        let code = match seen.get(name) {
            Some(code) => *code,
            None => {
                let mut known = known.lock().expect("no thread panics while it holds the names");
                let code = known.code(name);
                if known.bytes > input.config.memory_bytes / NAMES_SHARE {
                    return Err(unit.place(too_many_names(&known), &column.name, Some(row)));
                }
                seen.insert(name.to_owned(), code);
                code
            }
        };
        codes.write((unit.first_input_row() + row) as usize, [code]);
        Ok(())
    })
}

/// The error for names that the budget has no room for.
fn too_many_names(known: &Names) -> Error {
    let least = (known.bytes * NAMES_SHARE).div_ceil(1 << 20);
    Error::new(Kind::OverBudget, "the memory budget is too small for the names of the tasks")
        .expected(format!("names that take 1/{NAMES_SHARE} of the budget at most"))
        .found(format!("{} tasks whose names take {} bytes, and more rows to read", known.list.len(), known.bytes))
        .remedy(format!(
            "check that the column names tasks; else shorten the names, or raise --memory to {least}MiB or more"
        ))
}

/// The error for a row without a task.
fn null_task(input: &Input<'_>, unit: &Unit<'_>, column: &LabelColumn, row: u64, missing: Missing) -> Error {
    let error = Error::input("a task is missing")
        .expected(if input.is_corpus() { "a task name for every document" } else { "a task name in every row" })
        .remedy("fill the column, or mine without --task-column");
    unit.place(missing_label(error, input, column, missing), &column.name, Some(row))
}

/// Groups rows by task: sorts the task names, and replaces each row's task code by the row's number in task-grouped
/// order (stable: the input's order within a task). Rows without a code stay without a number. O(rows + tasks log
/// tasks).
///
/// Returns the names in order and where each task's rows start, with the total at the end.
fn group_by_task(names: Vec<String>, codes: &mut [u32]) -> (Vec<String>, Vec<u64>) {
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_unstable_by(|a, b| names[*a].cmp(&names[*b]));
    let mut next = vec![0u64; names.len()];
    codes.iter().filter(|code| **code != NO_ROW).for_each(|code| next[*code as usize] += 1);
    let mut starts = Vec::with_capacity(names.len() + 1);
    let mut start = 0;
    for code in &order {
        starts.push(start);
        start += std::mem::replace(&mut next[*code], start);
    }
    starts.push(start);
    for code in codes.iter_mut().filter(|code| **code != NO_ROW) {
        let row = &mut next[*code as usize];
        *code = *row as RowId;
        *row += 1;
    }
    let mut names = names;
    let names = order.into_iter().map(|code| std::mem::take(&mut names[code])).collect();
    (names, starts)
}

/// Rows of each task, in task order. Reads the task column only.
///
/// # Errors
/// The column cannot be read, or a task is null.
pub(crate) fn task_sizes(shards: &Shards, config: &Config) -> Result<BTreeMap<String, u64>> {
    let mut sizes = BTreeMap::<String, u64>::new();
    let Some(column) = &shards.labels.task else {
        sizes.insert(String::new(), shards.shape.rows);
        return Ok(sizes);
    };
    let input = Input::new(shards, config);
    for unit in &input.units {
        for_each_text(unit, column, |row, name| {
            let name = match name {
                Ok(name) => name,
                // The row may be one that is left out: import knows.
                Err(_) if config.columns.bad_rows == BadRows::Drop => return Ok(()),
                Err(missing) => return Err(null_task(&input, unit, column, row, missing)),
            };
            match sizes.get_mut(name) {
                Some(rows) => *rows += 1,
                None => drop(sizes.insert(name.to_owned(), 1)),
            }
            Ok(())
        })?;
    }
    Ok(sizes)
}

/// Fails where settings are given to a task that is not among the known ones.
///
/// # Errors
/// There is no such task.
pub(crate) fn refuse_unknown_tasks(config: &Config, shards: &Shards, known: &BTreeMap<String, u64>) -> Result<()> {
    let Some(unknown) = config.tasks.keys().find(|name| !known.contains_key(*name)) else { return Ok(()) };
    let mut names: Vec<String> = known.keys().take(NAMES_SHOWN).map(|name| format!("{name:?}")).collect();
    if known.len() > NAMES_SHOWN {
        names.push(format!("and {} more", known.len() - NAMES_SHOWN));
    }
    Err(Error::input("settings are given to a task that the input does not have")
        .task(unknown)
        .column(shards.roles.task.as_deref().unwrap_or_default())
        .expected(format!("one of the tasks {}", names.join(", ")))
        .found(format!("[task.{unknown:?}]"))
        .remedy("correct the name in the configuration file, or take the table out"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_grouped_by_sorted_task_in_input_order() {
        let mut codes = vec![0, 1, 0, NO_ROW, 2, 1, 0];
        let (names, starts) = group_by_task(vec!["b".into(), "c".into(), "a".into()], &mut codes);
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(starts, [0, 1, 4, 6]);
        assert_eq!(codes, [1, 4, 2, NO_ROW, 0, 5, 3]);
    }
}

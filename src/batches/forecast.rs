//! What keys allow a job: how many full batches, and whether any batch at all. Known from the counts of keys alone,
//! before anything is searched.

use std::collections::HashMap;
use std::ops::Range;

use super::bound::{KeyGroups, NO_GROUP, most_full};
use super::mix::{self, TaskBatches};
use crate::config::{Config, MixRules, Remainder, Sizes};
use crate::error::{Error, Result};
use crate::run::record::MixFacts;
use crate::vectors::{Keys, RowId, RowMarks, Shards, Vectors, label_keys, words_on_key};

/// Batch sizes that are tried to find a better one.
const SIZES_TRIED: usize = 64;

/// What keys allow all tasks of a job in one epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Forecast {
    /// The most full batches; without those that `fill` makes of what is left over.
    pub possible: u64,
    /// Full batches, if no two rows shared a key.
    pub without_keys: u64,
    /// Whether some batch of two rows or more comes out.
    pub has_batch: bool,
    /// The task that keys take most full batches from, if they take any.
    pub worst: Option<Shortage>,
    /// Tasks from which keys take full batches.
    pub tasks_short: usize,
    /// Tasks of the job.
    pub tasks: usize,
    /// The most full batches of each task.
    pub by_task: Vec<u64>,
    /// What weights make of them in the first epoch, where tasks have any.
    pub mix: Option<MixFacts>,
}

/// What keys take from a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shortage {
    /// The task's number.
    pub task: usize,
    pub rows: u64,
    /// |B|.
    pub batch_size: u32,
    pub possible: u64,
    /// Full batches, if no two rows shared a key.
    pub without_keys: u64,
    pub most_frequent: Option<FrequentKey>,
    /// The largest batch size below |B| whose full batches hold nearly as many rows as those of any smaller size, and
    /// more than those of |B|.
    pub better_size: Option<u32>,
}

/// The key that most rows of a task have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrequentKey {
    /// Number of the key column, as [`Keys::columns`] has them.
    pub column: u32,
    /// A row that has it.
    pub row: RowId,
    /// Rows of the task that have it.
    pub rows: u32,
}

/// Counts keys. `tasks`: each task's rows and sizes. O(rows · keys).
pub(crate) fn forecast(keys: &Keys<'_>, tasks: &[(Range<RowId>, Sizes)], config: &Config) -> Forecast {
    let rules = config.batches;
    let mut result = Forecast { tasks: tasks.len(), ..Forecast::default() };
    let (mut worst, mut most_lost) = (None, 0);
    for (task, (range, sizes)) in tasks.iter().enumerate() {
        let groups = KeyGroups::new(range.clone(), keys);
        let possible_of = |size| most_full(&groups.sizes, groups.single(), size, rules.rows_per_key);
        let possible = possible_of(sizes.batch_size);
        let without_keys = range.len() as u64 / u64::from(sizes.batch_size);
        result.possible += possible;
        result.by_task.push(possible);
        result.without_keys += without_keys;
        result.has_batch |= match rules.remainder {
            Remainder::Drop => possible > 0,
            Remainder::Short | Remainder::Fill => possible_of(2) > 0,
        };
        let lost = without_keys - possible;
        result.tasks_short += usize::from(lost > 0);
        if lost > most_lost {
            (worst, most_lost) = (Some(task), lost);
        }
    }
    if rules.remainder == Remainder::Fill && !result.has_batch {
        // Rows of different tasks may share a batch.
        let rows = tasks.last().map_or(0, |(range, _)| range.end);
        let groups = KeyGroups::new(0..rows, keys);
        result.has_batch = most_full(&groups.sizes, groups.single(), 2, rules.rows_per_key) > 0;
    }
    result.worst = worst.map(|task| shortage(keys, task, &tasks[task], config));
    result
}

/// What keys take from one task. O(rows · keys).
fn shortage(keys: &Keys<'_>, task: usize, (range, sizes): &(Range<RowId>, Sizes), config: &Config) -> Shortage {
    let groups = KeyGroups::new(range.clone(), keys);
    let possible = |size| most_full(&groups.sizes, groups.single(), size, config.batches.rows_per_key);
    let playing = |size: u32| possible(size) * u64::from(size);
    // Of the sizes that the trainer's processes can share, not more than can be counted in a moment.
    let step = sizes.cluster_size * config.batches.world_size;
    let numbers = 1..sizes.batch_size / step;
    let stride = numbers.len().div_ceil(SIZES_TRIED).max(1);
    let smaller = || numbers.clone().rev().step_by(stride).map(|number| number * step).filter(|size| *size > 1);
    let now = playing(sizes.batch_size);
    let most = smaller().map(playing).max().unwrap_or(0);
    let better = |size: &u32| playing(*size) * 10 >= most * 9 && playing(*size) * 20 > now * 21;
    Shortage {
        task,
        rows: range.len() as u64,
        batch_size: sizes.batch_size,
        possible: possible(sizes.batch_size),
        without_keys: range.len() as u64 / u64::from(sizes.batch_size),
        most_frequent: most_frequent(&groups, range.clone(), keys),
        better_size: smaller().find(better),
    }
}

fn most_frequent(groups: &KeyGroups, rows: Range<RowId>, keys: &Keys<'_>) -> Option<FrequentKey> {
    let largest = (0..groups.sizes.len() as u32).max_by_key(|group| groups.sizes[*group as usize])?;
    let of_largest = || rows.clone().zip(&groups.of).filter(|(_, group)| **group == largest).map(|(row, _)| row);
    // Rows may have several keys: the group's own is the one that all of them have.
    let mut counts = HashMap::<(u32, u32), u32>::new();
    of_largest().flat_map(|row| keys.shared(row)).for_each(|key| *counts.entry(key).or_default() += 1);
    let row = of_largest().next().filter(|_| largest != NO_GROUP)?;
    let (column, code) = keys.shared(row).max_by_key(|key| (counts.get(key).copied(), std::cmp::Reverse(*key)))?;
    let column_rows = keys.columns().get(column as usize)?;
    let rows = rows.filter(|row| column_rows.of(*row).contains(&code)).count() as u32;
    Some(FrequentKey { column, row, rows })
}

impl Forecast {
    /// Fails where no batch can come out. `name` gives the words for a task's number, `value` those for a key.
    ///
    /// # Errors
    /// Keys, or too few rows, allow no batch.
    pub(crate) fn refuse_nothing(
        &self,
        config: &Config,
        name: impl Fn(usize) -> String,
        value: impl Fn(FrequentKey) -> String,
    ) -> Result<()> {
        if self.has_batch {
            return Ok(());
        }
        let remedy = match (config.batches.remainder, self.worst.as_ref().and_then(|worst| worst.better_size)) {
            (Remainder::Drop, Some(size)) => format!("try --batch-size {size}, or --remainder short"),
            (Remainder::Drop, None) => "lower --batch-size, or use --remainder short".into(),
            (Remainder::Short, _) if self.tasks > 1 => "use --remainder fill, or another --key-column".into(),
            _ => "choose another --key-column, or let several rows of a key into a batch with --rows-per-key".into(),
        };
        let found = match &self.worst {
            Some(worst) => worst.describe(name(worst.task), value),
            None => "fewer rows than that in each task".into(),
        };
        let expected = match config.batches.remainder {
            Remainder::Drop => format!("--batch-size {} rows that may share a batch", config.batches.size),
            Remainder::Short | Remainder::Fill => "two rows that may share a batch".into(),
        };
        Err(Error::input("no batch can be made").expected(expected).found(found).remedy(remedy))
    }

    /// What keys take, for the log.
    pub(crate) fn warning(
        &self,
        config: &Config,
        name: impl Fn(usize) -> String,
        value: impl Fn(FrequentKey) -> String,
    ) -> Option<String> {
        let worst = self.worst.as_ref()?;
        let others = match self.tasks_short - 1 {
            0 => String::new(),
            1 => "; one more task is short of batches".into(),
            more => format!("; {more} more tasks are short of batches"),
        };
        let smaller = worst.better_size.map(|size| format!("--batch-size {size}"));
        let other = match config.batches.remainder {
            Remainder::Drop => Some("--remainder short, which keeps the other rows".to_owned()),
            Remainder::Short if self.tasks > 1 && config.mix.is_none() => {
                Some("--remainder fill, which unites what tasks leave over".to_owned())
            }
            Remainder::Short | Remainder::Fill => None,
        };
        let help: Vec<String> = smaller.into_iter().chain(other).collect();
        let help = if help.is_empty() { String::new() } else { format!(". What helps: {}", help.join(", or ")) };
        Some(format!(
            "keys allow {} of {} full batches. {}{others}{help}",
            self.possible,
            self.without_keys,
            worst.describe(name(worst.task), value),
        ))
    }
}

/// Says what keys allow an imported job, and fails where they allow no batch.
///
/// # Errors
/// Keys, or too few rows, allow no batch.
pub(crate) fn foresee(vectors: &Vectors, shards: &Shards, config: &Config) -> Result<()> {
    let names = vectors.tasks.names();
    let ranges: Vec<Range<RowId>> = vectors.tasks.ranges().collect();
    let value = |key: FrequentKey| {
        let row = vectors.rows.input_rows()[key.row as usize];
        match key.column.checked_sub(1) {
            None => format!("have a vector of input row {row}"),
            Some(column) => words_on_key(shards, column as usize, row),
        }
    };
    let named: Vec<(&str, Range<RowId>)> = names.into_iter().zip(ranges).collect();
    let forecast = checked(&vectors.rows.keys(), &named, vectors.named_tasks, config, value)?;
    if let Some(warning) = forecast.1 {
        tracing::warn!("{warning}");
    }
    Ok(())
}

/// What labels allow a job, before its vectors are read, and a warning where they take full batches; `dropped`: rows
/// that are left out.
///
/// # Errors
/// A label column cannot be read; or labels, or too few rows, allow no batch.
pub(crate) fn foresee_labels(
    shards: &Shards,
    config: &Config,
    dropped: Option<&RowMarks>,
) -> Result<(Forecast, Option<String>)> {
    let labels = label_keys(shards, config, dropped)?;
    let value = |key: FrequentKey| words_on_key(shards, key.column as usize, labels.input_row(key.row));
    let named: Vec<(&str, Range<RowId>)> =
        labels.tasks.iter().map(|(name, range)| (name.as_str(), range.clone())).collect();
    checked(&labels.keys(), &named, shards.labels.task.is_some(), config, value)
}

fn checked(
    keys: &Keys<'_>,
    tasks: &[(&str, Range<RowId>)],
    named: bool,
    config: &Config,
    value: impl Fn(FrequentKey) -> String,
) -> Result<(Forecast, Option<String>)> {
    let sizes = config.sizes().all(tasks.iter().map(|(name, _)| *name));
    let ranges: Vec<(Range<RowId>, Sizes)> = tasks.iter().map(|(_, range)| range.clone()).zip(sizes).collect();
    let mut forecast = forecast(keys, &ranges, config);
    let mixed = config.mix.as_ref().map(|rules| {
        let names = tasks.iter().map(|(name, _)| rules.tasks.of(name));
        let tasks = names.zip(&forecast.by_task);
        (rules, tasks.map(|(rule, of_round)| TaskBatches { rule, of_round: *of_round }).collect::<Vec<_>>())
    });
    if let Some((rules, tasks)) = &mixed {
        forecast.mix = Some(mix::counted(rules, tasks, 0));
        refuse_weights(config, rules, tasks)?;
    }
    let name = |task: usize| if named { format!("task {:?}", tasks[task].0) } else { "the input".into() };
    forecast.refuse_nothing(config, name, &value)?;
    let warning = forecast.warning(config, name, &value);
    Ok((forecast, warning))
}

/// Fails where tasks' weights leave no batch in any epoch.
fn refuse_weights(config: &Config, rules: &MixRules, tasks: &[TaskBatches]) -> Result<()> {
    let shares = mix::shares(rules, tasks);
    let has_some = |epoch| mix::batches_of_epoch(&shares, epoch).iter().any(|count| *count > 0);
    let all_zero = tasks.iter().all(|task| task.rule.weight == Some(0.0));
    let has_short = config.batches.remainder != Remainder::Drop && !all_zero;
    if has_short || (shares.iter().sum::<f64>() > 0.0 && (0..config.batches.epochs).any(has_some)) {
        return Ok(());
    }
    // Without a full batch weights have nothing to do with it.
    if !all_zero && tasks.iter().all(|task| task.of_round == 0) {
        return Ok(());
    }
    Err(Error::input("no batch can be made")
        .expected("tasks' weights that leave some batches")
        .found(format!("shares of {} full batches an epoch", shares.iter().sum::<f64>()))
        .remedy("raise a task's weight, or write more --epochs"))
}

impl Shortage {
    fn describe(&self, name: String, value: impl Fn(FrequentKey) -> String) -> String {
        let Shortage { rows, batch_size, possible, without_keys, .. } = self;
        let frequent =
            self.most_frequent.map(|key| format!(": {} of them {}", key.rows, value(key))).unwrap_or_default();
        format!("{name}: {rows} rows make {possible} batches of {batch_size}, not {without_keys}{frequent}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn config(remainder: Remainder) -> Config {
        let settings =
            Settings { cluster_size: Some(2), batch_size: Some(8), remainder: Some(remainder), ..Settings::default() };
        Config::new(vec!["x".into()], settings).unwrap()
    }

    #[test]
    fn the_task_that_loses_most_is_named_with_its_most_frequent_key() {
        // Task 0: 32 rows, 20 of one key; task 1: 16 rows of as many keys.
        let codes: Vec<u32> = (0..48).map(|row| if (12..32).contains(&row) { 12 } else { u32::MAX }).collect();
        let keys = Keys::new(vec![&codes]);
        let sizes = Sizes { cluster_size: 2, batch_size: 8 };
        let found = forecast(&keys, &[(0..32, sizes), (32..48, sizes)], &config(Remainder::Drop));
        assert_eq!((found.possible, found.without_keys, found.has_batch, found.tasks_short), (3, 6, true, 1));
        let worst = found.worst.clone().unwrap();
        assert_eq!((worst.task, worst.possible, worst.without_keys), (0, 1, 4));
        assert_eq!(worst.most_frequent, Some(FrequentKey { column: 0, row: 12, rows: 20 }));
        assert_eq!(worst.better_size, Some(2), "24 rows play, and 12 at 6");
        let text = found
            .warning(&config(Remainder::Drop), |task| format!("task {task}"), |key| format!("like row {}", key.row))
            .unwrap();
        assert!(text.contains("keys allow 3 of 6") && text.contains("20 of them like row 12"), "{text}");
    }

    #[test]
    fn a_job_without_a_batch_is_refused() {
        let sizes = Sizes { cluster_size: 2, batch_size: 8 };
        let refused = |codes: &[u32], tasks: &[(Range<RowId>, Sizes)], remainder| {
            let config = config(remainder);
            let found = forecast(&Keys::new(vec![codes]), tasks, &config);
            let error = found.refuse_nothing(&config, |task| format!("task {task}"), |_| "have one key".into());
            error.err().map(|error| error.to_string())
        };
        let one = [0; 16];
        let whole = [(0..16, sizes)];
        for remainder in [Remainder::Drop, Remainder::Short, Remainder::Fill] {
            let text = refused(&one, &whole, remainder).unwrap();
            assert!(text.contains("16 of them have one key"), "{text}");
        }
        let few: Vec<u32> = (0..16).map(|row| row % 7).collect();
        assert!(refused(&few, &whole, Remainder::Drop).unwrap().contains("--batch-size 4"));
        assert_eq!(refused(&few, &whole, Remainder::Short), None);
        let tasks = [(0..8, sizes), (8..16, sizes)];
        let by_task: Vec<u32> = (0..16).map(|row| row / 8 * 8).collect();
        assert!(refused(&by_task, &tasks, Remainder::Short).is_some());
        assert_eq!(refused(&by_task, &tasks, Remainder::Fill), None);
    }
}

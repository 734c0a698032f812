//! What batches need: the order of an epoch, one row group of the table, windows of batches that negatives are drawn
//! for; and then what publishing the table needs.

use std::collections::BTreeMap;

use super::mask::{entries_of_chunk, most_masked};
use super::negatives::POOL_ENTRIES;
use crate::budget::{MIB, Phase, StageNeed, Term, written};
use crate::config::{Config, NegativesOf, RankWindow, Remainder};
use crate::run::Stage;
use crate::vectors::Shape;
use crate::vectors::budget::InputMeasures;

/// Rows near which a row group of the batch table ends.
const ROW_GROUP_ROWS: u64 = 122_880;
/// Bytes of a row in the Parquet writer.
const TABLE_ROW_BYTES: u64 = 160;
/// The same for each hard negative of a row: id, row and score, encoded.
const NEGATIVE_BYTES: u64 = 40;
/// Bytes of a masked position of a chunk of the table: found, collected, and as an array.
const MASKED_BYTES: u64 = 12;
/// The same in the table's files.
const MASKED_DISK_BYTES: u64 = 2;
/// What is known of a row while its hard negatives are drawn, apart from its window and the negatives themselves.
const DRAWN_ROW_BYTES: u64 = 96;
/// Members by cluster; the batches; and while clusters are divided each row's key, rows by key, and places there.
const ORDER_BYTES: u64 = 26;
/// A batch's end, in each of the orders; and what is known of a cluster while it is packed.
const BATCH_BYTES: u64 = 16;
/// A row that comes once more in an epoch: among its task's batches, and in the epoch's order.
const REPEATED_BYTES: u64 = 8;
/// What is known of a key, by the rows of a small task; keys of a large one have eight rows at least.
const KEY_BYTES: u64 = 17;
const KEYED_ROWS: u64 = 1 << 20;
/// A row of the short batches that are still being packed, with its keys.
const SHORT_ROW_BYTES: u64 = 44;
const SHORT_ROWS: u64 = 1 << 18;
/// Of what judged pairs take while they are read, the part that their keys take in batches: 32 bytes of 160 a pair.
const VERDICT_SHARE: u64 = 5;
/// Left-over rows of all tasks, which `--remainder fill` unites.
const FILL_BYTES: u64 = 8;
/// What an open Parquet file holds besides rows: a compressor for each column.
const OPEN_FILE_BYTES: u64 = 4 * MIB;
/// More than this gains nothing: the table is read once.
const OPEN_BYTES_MAX: u64 = 4096 * MIB;
/// What publishing a table needs: a store's clients and buffers, a Delta log.
const LAKE_BYTES: u64 = 48 * MIB;
/// What is still there of each row while the table is published.
const PUBLISHED_ROW_BYTES: u64 = 20;

/// Counts of the batches stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchesCounts {
    /// Rows of a row group of the batch table. A function of the settings alone.
    pub row_group_rows: usize,
    /// Rows that get their hard negatives and are written at a time; the last batch goes beyond it.
    pub group_rows: usize,
    /// Rows of an epoch at most, where tasks have weights.
    pub epoch_rows: Option<u64>,
    /// What the files may hold that are open while a published table is divided by task.
    pub open_bytes: u64,
    /// What one of them holds for each row of its row group.
    pub open_row_bytes: u64,
    /// What one of them holds by itself.
    pub open_file_bytes: u64,
}

/// Divides `room`, the budget without what every process needs.
pub(crate) fn divide(config: &Config, shape: Shape, input: InputMeasures, room: u64) -> (BatchesCounts, StageNeed) {
    let rows = shape.rows;
    let epoch_rows = input.epoch_rows.max(rows);
    let size = u64::from(config.sizes().each().map(|sizes| sizes.batch_size).max().unwrap_or(2));
    let negatives = u64::from(config.batches.hard_negatives);
    let row_group_rows = (ROW_GROUP_ROWS / size).max(1) * size;
    let row_bytes = TABLE_ROW_BYTES + negatives * NEGATIVE_BYTES;
    let preferred = u64::from(config.windows().each().map(RankWindow::preferred).max().unwrap_or(1));
    let group_rows = if negatives == 0 { ROW_GROUP_ROWS } else { (POOL_ENTRIES as u64 / preferred).max(1) };

    let least_size = u64::from(config.sizes().each().map(|sizes| sizes.cluster_size).min().unwrap_or(2));
    let fill = if config.batches.remainder == Remainder::Fill { FILL_BYTES } else { 0 };
    let mut writing = vec![
        Term::fixed(
            format!("rows of a row group · ({TABLE_ROW_BYTES} + {NEGATIVE_BYTES}h)"),
            "the Parquet writer",
            row_group_rows.min(epoch_rows) * row_bytes,
        ),
        Term::fixed(
            format!(
                "{ORDER_BYTES}n + {BATCH_BYTES}n/K, and {FILL_BYTES}n more with --remainder fill, {REPEATED_BYTES} a \
                 row that comes again by a task's weight"
            ),
            "members by cluster, the epoch's order, rows by key",
            rows * (ORDER_BYTES + fill) + rows / least_size * BATCH_BYTES + (epoch_rows - rows) * REPEATED_BYTES,
        ),
        Term::fixed(
            format!("min(n, 2²⁰) · {KEY_BYTES} + min(n, 2¹⁸) · {SHORT_ROW_BYTES}"),
            "keys of rows, and short batches, while they are packed",
            rows.min(KEYED_ROWS) * KEY_BYTES + rows.min(SHORT_ROWS) * SHORT_ROW_BYTES,
        ),
    ];
    writing.push(negatives_term(config, group_rows + size, epoch_rows));
    if input.judged_bytes > 0 {
        writing.push(Term::fixed(
            format!("1/{VERDICT_SHARE} of what judged pairs take"),
            "keys of verdicts, of the batches that are being packed",
            input.judged_bytes / VERDICT_SHARE,
        ));
    }

    let most = most_masked(config);
    if most > 0 {
        writing.push(Term::fixed(
            format!("min(np, 2²⁰) · {MASKED_BYTES} + 8|B|; for p the whole batch where score limits make suspects"),
            "masked positions of a chunk of the table",
            entries_of_chunk(most).min(epoch_rows * most as u64) * MASKED_BYTES + 8 * size,
        ));
    }

    let open_least = row_group_rows.min(epoch_rows) * row_bytes + OPEN_FILE_BYTES;
    let published = rows * PUBLISHED_ROW_BYTES + LAKE_BYTES;
    let open_bytes = room.saturating_sub(published).clamp(open_least, OPEN_BYTES_MAX.max(open_least));
    let mut phases = vec![Phase { name: "writing", terms: writing }];
    if let Some(table) = &config.table {
        let open = if table.by_task { [open_least, open_bytes] } else { [0; 2] };
        phases.push(Phase { name: "publishing", terms: published_terms(rows, open) });
    }
    let counts = BatchesCounts {
        row_group_rows: row_group_rows as usize,
        group_rows: group_rows as usize,
        epoch_rows: config.mix.is_some().then_some(epoch_rows),
        open_bytes,
        open_row_bytes: row_bytes,
        open_file_bytes: OPEN_FILE_BYTES,
    };
    (counts, StageNeed { stage: Stage::Batches, phases })
}

/// What hard negatives need, where so many rows get them at a time.
fn negatives_term(config: &Config, group_rows: u64, epoch_rows: u64) -> Term {
    let negatives = u64::from(config.batches.hard_negatives);
    let preferred = u64::from(config.windows().each().map(RankWindow::preferred).max().unwrap_or(1));
    let drawn = if negatives == 0 { 0 } else { group_rows.min(epoch_rows) };
    let (of_cluster, more) = match config.batches.negatives_of {
        NegativesOf::Cluster => (" + 4(p + m)", 4 * config.windows().each().map(RankWindow::ranks).max().unwrap_or(0)),
        NegativesOf::Batch | NegativesOf::Row | NegativesOf::RowTop => ("", 0),
    };
    Term::fixed(
        format!("({POOL_ENTRIES} / m + |B|) · (4m{of_cluster} + {DRAWN_ROW_BYTES} + 8h), where h is not 0"),
        "rank windows of the batches that negatives are drawn for, and what is drawn",
        drawn * (4 * preferred + u64::from(more) + DRAWN_ROW_BYTES + 8 * negatives),
    )
}

/// After the table is written it is published. Divided files gain from room: more of them are open at once.
fn published_terms(rows: u64, [open_least, open_bytes]: [u64; 2]) -> Vec<Term> {
    vec![
        Term::fixed(
            format!("{PUBLISHED_ROW_BYTES}n + {}", written(LAKE_BYTES)),
            "what is still there of each row; a store's clients, three chunks of an upload, a Delta log",
            rows * PUBLISHED_ROW_BYTES + LAKE_BYTES,
        ),
        Term::elastic(
            format!(
                "open files · ({} + rows of a row group · ({TABLE_ROW_BYTES} + {NEGATIVE_BYTES}h)), with \
                 --partition-by task",
                written(OPEN_FILE_BYTES)
            ),
            "files of the divided table; takes what is left",
            open_least,
            open_bytes,
        ),
    ]
}

/// Rows of an epoch's batches at most, where tasks of so many rows have weights.
pub(crate) fn epoch_rows(config: &Config, tasks: &BTreeMap<String, u64>) -> u64 {
    let Some(mix) = &config.mix else { return 0 };
    let sizes = config.sizes();
    let largest = u64::from(sizes.each().map(|sizes| sizes.batch_size).max().unwrap_or(0));
    let most = |(name, rows): (&String, &u64)| {
        let size = u64::from(sizes.of(name).batch_size);
        let full = rows / size;
        // A share that is no whole number is rounded up in some epochs.
        let rule = mix.tasks.of(name);
        let most = rule.max_batches.map_or(u64::MAX, u64::from);
        let more = match rule.weight {
            Some(weight) => ((full as f64 * weight).ceil() as u64).min(most).saturating_sub(full) * size,
            None if mix.task_temperature.is_some() => full * (largest - size) + largest,
            None => 0,
        };
        rows.saturating_add(more)
    };
    tasks.iter().map(most).fold(0, u64::saturating_add)
}

/// Bytes of the batch tables of all epochs of so many rows.
pub(crate) fn table_bytes(config: &Config, rows: u64) -> u64 {
    let ranks = config.windows().each().map(RankWindow::ranks).max().unwrap_or(0);
    let masked = (most_masked(config) as u64).min(u64::from(ranks));
    let row = 24 + 16 * u64::from(config.batches.hard_negatives) + MASKED_DISK_BYTES * masked;
    rows * row * u64::from(config.batches.epochs)
}

/// Bytes of the stage's files: published into the run folder, the table lies there twice.
pub(crate) fn disk_bytes(config: &Config, rows: u64) -> u64 {
    let inside = config.table.as_ref().is_some_and(|table| table.out.is_none());
    table_bytes(config, rows) * if inside { 2 } else { 1 }
}

/// Bytes of files that stand for a time while the published table is divided.
pub(crate) fn temporary_bytes(config: &Config, rows: u64) -> u64 {
    let divided = config.table.as_ref().is_some_and(|table| table.by_task);
    if divided { table_bytes(config, rows) } else { 0 }
}

//! The input checked without a run folder: rows, ids, tasks, keys and norms. For `--dry-run`.
//!
//! Memory: as import, without stores.

use super::bad_rows::{BadRowCounts, NormRange, check_bad_rows};
use super::context::Input;
use super::embeddings::refuse_long;
use super::ids::check_ids;
use super::row_marks::RowMarks;
use super::sides::side_names;
use crate::config::{BadRows, Config};
use crate::error::Result;
use crate::vectors::shards::Shards;
use crate::watch::Watch;

/// What a look at every row found.
#[derive(Debug)]
pub(crate) struct CheckedInput {
    /// Rows that are left out.
    pub(crate) dropped: RowMarks,
    bad: BadRowCounts,
    norms: [NormRange; 2],
    names: Vec<String>,
    rows: u64,
}

impl CheckedInput {
    /// What was found, for a person.
    pub(crate) fn words(&self) -> String {
        let dropped = self.dropped.count();
        let norm =
            |(name, range): (&String, &NormRange)| format!("; norms of {name} {:.4} to {:.4}", range.least, range.most);
        let norms: String = self.names.iter().zip(&self.norms).map(norm).collect();
        let bad = match dropped {
            0 => String::new(),
            bad => {
                format!("\n         {bad} rows are left out ({}):\n            {}", self.bad.words(), self.bad.lines())
            }
        };
        format!("{} rows can be used{norms}{bad}", self.rows - dropped)
    }
}

/// Reads every row's id and embeddings, and checks them as import does. Tasks and keys are read by whoever foresees
/// batches.
///
/// # Errors
/// As import's; bad rows are counted, and the first are named.
pub(crate) fn check_input(
    shards: &Shards,
    config: &Config,
    batch_rows: usize,
    watch: Watch<'_>,
) -> Result<CheckedInput> {
    let input = Input::new(shards, config);
    let drop = config.columns.bad_rows == BadRows::Drop;
    let (dropped, bad, norms) = check_bad_rows(&input, batch_rows, drop, watch)?;
    refuse_long(config.metric, norms.map(|range| range.most))?;
    check_ids(&input.without(Some(&dropped)))?;
    let sides = if shards.roles.shared { &["embeddings"][..] } else { &["queries", "positives"] };
    let named = side_names(shards).into_iter().zip(sides);
    let names = named.map(|(name, side)| if name.is_empty() { (*side).to_owned() } else { name.to_owned() });
    Ok(CheckedInput { dropped, bad, norms, names: names.collect(), rows: shards.shape.rows })
}

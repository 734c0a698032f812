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
    /// What they are called.
    noun: &'static str,
    /// What was found of a corpus.
    documents: Option<Box<CheckedInput>>,
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
                let noun = self.noun;
                format!(
                    "\n         {bad} {noun} are left out ({}):\n            {}",
                    self.bad.words(),
                    self.bad.lines()
                )
            }
        };
        let documents =
            self.documents.as_ref().map_or_else(String::new, |found| format!("\n         {}", found.words()));
        format!("{} {} can be used{norms}{bad}{documents}", self.rows - dropped, self.noun)
    }
}

/// Reads every row's id and embeddings, and checks them as import does. Tasks and keys are read by whoever foresees
/// batches.
///
/// # Errors
/// As import's; bad rows are counted, and the first are named.
pub(crate) fn check_input(
    shards: &Shards,
    corpus: Option<&Shards>,
    config: &Config,
    batch_rows: usize,
    watch: Watch<'_>,
) -> Result<CheckedInput> {
    let rows = check_one(Input::new(shards, config), batch_rows, watch)?;
    let corpus = corpus.map(|corpus| Input::of_corpus(corpus, config, shards.shape.rows));
    let documents = corpus.map(|input| check_one(input, batch_rows, watch)).transpose()?;
    let norms = [&rows].into_iter().chain(&documents).flat_map(|found| found.norms.map(|range| range.most));
    let largest = norms.fold(0.0, f64::max);
    refuse_long(config.metric, [rows.norms[0].most, largest])?;
    Ok(CheckedInput { documents: documents.map(Box::new), ..rows })
}

/// The rows, or the documents.
fn check_one(input: Input<'_>, batch_rows: usize, watch: Watch<'_>) -> Result<CheckedInput> {
    let (shards, config, noun, is_corpus) = (input.shards, input.config, input.noun(), input.is_corpus());
    let drop = config.columns.bad_rows == BadRows::Drop;
    let (dropped, bad, norms) = check_bad_rows(&input, batch_rows, drop, watch)?;
    check_ids(&input.without(Some(&dropped)))?;
    let sides = if is_corpus {
        &["documents"][..]
    } else if shards.roles.shared {
        &["embeddings"][..]
    } else {
        &["queries", "positives"]
    };
    let named = side_names(shards).into_iter().zip(sides);
    let names = named.map(|(name, side)| if name.is_empty() { (*side).to_owned() } else { name.to_owned() });
    Ok(CheckedInput { dropped, bad, norms, names: names.collect(), rows: shards.shape.rows, noun, documents: None })
}

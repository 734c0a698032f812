//! Tevatron: `train.jsonl` in batch order with `query_id`, `query`, `positive_passages`, `negative_passages`.
//!
//! Passages have no `title`: the trainer would put it and a space before every text.

use serde::Serialize;

use super::folder::Folder;
use super::join::{Id, Joined};
use super::lines::LinesFile;
use super::trainer::{Trainer, needs_negatives};
use crate::error::Result;

/// The export under way.
pub(crate) struct Tevatron {
    file: LinesFile,
    negatives: u32,
}

#[derive(Serialize)]
struct TevatronLine<'a> {
    query_id: String,
    query: &'a str,
    positive_passages: [Passage<'a>; 1],
    negative_passages: Vec<Passage<'a>>,
}

#[derive(Serialize)]
struct Passage<'a> {
    docid: String,
    text: &'a str,
}

fn passage<'a>(id: Id<'a>, text: &'a str) -> Passage<'a> {
    Passage { docid: id.to_string(), text }
}

impl Tevatron {
    /// Starts `train.jsonl`.
    ///
    /// # Errors
    /// It cannot be created.
    pub(crate) fn create(folder: &mut Folder, negatives: u32) -> Result<Tevatron> {
        Ok(Tevatron { file: LinesFile::create(folder, "train.jsonl")?, negatives })
    }
}

impl Trainer for Tevatron {
    fn write(&mut self, rows: &Joined, _: &mut Folder) -> Result<()> {
        for at in 0..rows.len() {
            let row = rows.row(at);
            let negatives: Vec<_> = rows.negatives(at).map(|negative| passage(negative.id, negative.text)).collect();
            if negatives.is_empty() && self.negatives > 0 {
                return Err(needs_negatives(row.id));
            }
            self.file.write(&TevatronLine {
                query_id: row.id.to_string(),
                query: row.query,
                positive_passages: [passage(row.id, row.positive)],
                negative_passages: negatives,
            })?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>, folder: &mut Folder) -> Result<()> {
        self.file.finish(folder)
    }
}

//! FlagEmbedding: one JSONL file for each batch, `data/batch-NNNNNNNN.jsonl`, with `query`, `pos`, `neg`.
//!
//! With `--same_dataset_within_batch` the trainer draws each of its batches from one file. A file of exactly one
//! batch is therefore one of its batches.

use serde::Serialize;

use super::folder::Folder;
use super::join::{Joined, JoinedRow};
use super::lines::LinesFile;
use super::trainer::{Trainer, needs_negatives};
use crate::error::Result;

/// The export under way.
#[derive(Default)]
pub(crate) struct FlagEmbedding {
    open: Option<(i64, LinesFile)>,
    negatives: u32,
}

#[derive(Serialize)]
struct FlagEmbeddingLine<'a> {
    query: &'a str,
    pos: [&'a str; 1],
    neg: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pos_scores: Option<[f32; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    neg_scores: Option<Vec<f32>>,
}

impl FlagEmbedding {
    pub(crate) fn new(negatives: u32) -> FlagEmbedding {
        FlagEmbedding { open: None, negatives }
    }

    /// The file of a row's batch.
    fn file(&mut self, row: JoinedRow<'_>, folder: &mut Folder) -> Result<&mut LinesFile> {
        if self.open.as_ref().is_none_or(|(batch, _)| *batch != row.batch) {
            self.end_batch(folder)?;
            let file = LinesFile::create(folder, &format!("data/batch-{:08}.jsonl", row.batch))?;
            self.open = Some((row.batch, file));
        }
        Ok(&mut self.open.as_mut().expect("opened above").1)
    }

    fn end_batch(&mut self, folder: &mut Folder) -> Result<()> {
        self.open.take().map_or(Ok(()), |(_, file)| file.finish(folder))
    }
}

impl Trainer for FlagEmbedding {
    fn write(&mut self, rows: &Joined, folder: &mut Folder) -> Result<()> {
        for at in 0..rows.len() {
            let row = rows.row(at);
            let neg: Vec<&str> = rows.negatives(at).map(|negative| negative.text).collect();
            if neg.is_empty() && self.negatives > 0 {
                return Err(needs_negatives(row.id));
            }
            let scored = !neg.is_empty();
            let neg_scores = scored.then(|| rows.negatives(at).map(|negative| negative.score).collect());
            let pos_scores = scored.then_some([row.score]);
            let line = FlagEmbeddingLine { query: row.query, pos: [row.positive], neg, pos_scores, neg_scores };
            self.file(row, folder)?.write(&line)?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, folder: &mut Folder) -> Result<()> {
        self.end_batch(folder)
    }
}

//! ms-swift: `train.jsonl` in batch order, as its embedding training with the InfoNCE loss reads it: `messages`
//! is the query, `positive_messages` and `negative_messages` are lists of conversations of one message.

use serde::Serialize;

use super::folder::Folder;
use super::join::Joined;
use super::lines::LinesFile;
use super::trainer::Trainer;
use crate::error::Result;

/// The export under way.
pub(crate) struct Swift {
    file: LinesFile,
}

#[derive(Serialize)]
struct SwiftLine<'a> {
    messages: [Message<'a>; 1],
    positive_messages: [[Message<'a>; 1]; 1],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    negative_messages: Vec<[Message<'a>; 1]>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

fn user(content: &str) -> [Message<'_>; 1] {
    [Message { role: "user", content }]
}

impl Swift {
    /// Starts `train.jsonl`.
    ///
    /// # Errors
    /// It cannot be created.
    pub(crate) fn create(folder: &mut Folder) -> Result<Swift> {
        Ok(Swift { file: LinesFile::create(folder, "train.jsonl")? })
    }
}

impl Trainer for Swift {
    fn write(&mut self, rows: &Joined, _: &mut Folder) -> Result<()> {
        for at in 0..rows.len() {
            let row = rows.row(at);
            let negative_messages = rows.negatives(at).map(|negative| user(negative.text)).collect();
            let positive_messages = [user(row.positive)];
            self.file.write(&SwiftLine { messages: user(row.query), positive_messages, negative_messages })?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>, folder: &mut Folder) -> Result<()> {
        self.file.finish(folder)
    }
}

//! `batchmine inspect`: what a shard, a run folder or a file of it holds.

use std::ops::Range;
use std::path::PathBuf;

use clap::Args;

use super::text_args::TextArgs;
use super::{log, rows};
use crate::config::{Columns, EmbeddingColumns};
use crate::error::{Error, Result};
use crate::inspect::describe;
use crate::run::{RunReader, json};

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A Parquet, Arrow or .npy shard (or a folder of them, or a glob), a run folder, or one of its files
    path: PathBuf,
    /// Input rows A..B of a run: their neighbours, edges and clusters, with texts; with --json one object a line
    #[arg(long, value_name = "A..B", value_parser = rows::parse_range)]
    rows: Option<Range<u64>>,
    /// With --rows: the two vectors as well, in the objects of --json
    #[arg(long, requires = "rows")]
    vectors: bool,
    /// With --rows: how many suspects and how many preferred negatives of each row are shown with their texts
    #[arg(long, value_name = "N", default_value_t = 3, requires = "rows")]
    show: usize,
    #[command(flatten)]
    texts: TextArgs,
    /// Embedding column of a shard [default: found]
    #[arg(long, value_name = "NAME")]
    embedding_column: Option<String>,
}

impl InspectArgs {
    /// Prints what is there.
    ///
    /// # Errors
    /// The path holds nothing of the kind, or is damaged.
    pub fn run(self, output: &log::Output) -> Result<()> {
        if let Some(range) = self.rows {
            if !self.path.join("manifest.json").exists() {
                return Err(Error::input("--rows needs a run folder")
                    .path(&self.path)
                    .expected("a folder made by `batchmine mine`")
                    .found("no manifest.json")
                    .remedy("name the run folder"));
            }
            let shown = rows::Shown { vectors: self.vectors, candidates: self.show, json: output.json };
            return rows::print(&RunReader::open(&self.path)?, range, &shown, &self.texts.into());
        }
        if self.texts.is_given() {
            return Err(Error::input("texts are shown of single rows only")
                .expected("--rows beside --source, --query-text and --positive-text")
                .found("no --rows")
                .remedy("name rows of a run, such as --rows 0..10"));
        }
        let embeddings = match self.embedding_column {
            Some(name) => EmbeddingColumns::Shared(name),
            None => EmbeddingColumns::Pair { query: None, positive: None },
        };
        let columns = Columns { embeddings, ..Columns::unnamed() };
        let found = describe(&self.path, &columns)?;
        log::print(&if output.json { json::line(&found)? } else { found.text() })?;
        Ok(())
    }
}

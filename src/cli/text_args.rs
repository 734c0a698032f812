//! The flags that name the texts of mined rows: the same for every verb that shows or writes texts.

use clap::Args;

use crate::batches::texts::TextSource;

/// Where texts are found.
#[derive(Debug, Args)]
pub(super) struct TextArgs {
    /// Column of the queries' texts [default: query or another usual name; text for both sides]
    #[arg(long, value_name = "NAME")]
    query_text: Option<String>,
    /// Column of the positives' texts [default: positive or another usual name]
    #[arg(long, value_name = "NAME")]
    positive_text: Option<String>,
    /// Parquet files, folders or globs with the texts of the mined rows, in their order [default: the mined files]
    #[arg(long, value_name = "PATHS", num_args = 1..)]
    source: Vec<String>,
}

impl TextArgs {
    /// Whether any of them was given.
    pub(super) fn is_given(&self) -> bool {
        self.query_text.is_some() || self.positive_text.is_some() || !self.source.is_empty()
    }
}

impl From<TextArgs> for TextSource {
    fn from(arguments: TextArgs) -> TextSource {
        let TextArgs { query_text, positive_text, source } = arguments;
        TextSource { query: query_text, positive: positive_text, source }
    }
}

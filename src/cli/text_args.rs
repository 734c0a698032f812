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
    /// Column of the documents' texts, with a corpus [default: text or another usual name]
    #[arg(long, value_name = "NAME")]
    document_text: Option<String>,
    /// Parquet files, folders or globs with the texts of the mined rows, in their order [default: the mined files]
    #[arg(long, value_name = "PATHS", num_args = 1..)]
    source: Vec<String>,
    /// The same of the corpus' documents [default: the corpus' files]
    #[arg(long, value_name = "PATHS", num_args = 1..)]
    corpus_source: Vec<String>,
}

impl TextArgs {
    /// Whether any of them was given.
    pub(super) fn is_given(&self) -> bool {
        let named = [&self.query_text, &self.positive_text, &self.document_text].iter().any(|name| name.is_some());
        named || !self.source.is_empty() || !self.corpus_source.is_empty()
    }
}

impl From<TextArgs> for TextSource {
    fn from(arguments: TextArgs) -> TextSource {
        let TextArgs { query_text, positive_text, document_text, source, corpus_source } = arguments;
        TextSource {
            query: query_text,
            positive: positive_text,
            document: document_text,
            source,
            corpus: corpus_source,
        }
    }
}

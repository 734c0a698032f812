//! What the user says of texts.

/// Files and columns with texts, as the user names them.
#[derive(Debug, Clone, Default)]
pub struct TextSource {
    /// Column of the queries' texts; `None`: found by its usual names.
    pub query: Option<String>,
    /// Column of the positives' texts; `None`: found by its usual names.
    pub positive: Option<String>,
    /// Column of the documents' texts, with a corpus; `None`: found by its usual names.
    pub document: Option<String>,
    /// Files, folders and globs to read in place of those that were mined; may be empty.
    pub source: Vec<String>,
    /// The same in place of the corpus.
    pub corpus: Vec<String>,
}

impl TextSource {
    /// Whether the user says nothing: then texts are shown only where they are found.
    pub(super) fn is_default(&self) -> bool {
        let named = [&self.query, &self.positive, &self.document].iter().any(|name| name.is_some());
        !named && self.source.is_empty() && self.corpus.is_empty()
    }
}

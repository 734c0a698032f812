//! The texts of a few rows, to be looked at.
//!
//! Memory: the whole texts of some rows, and of all of them what is shown.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use serde::Serialize;

use super::columns::{both, expect_text, of_documents, sides};
use super::files::{self, schema_of};
use super::source::TextSource;
use crate::error::{Error, Result};
use crate::run::RunReader;
use crate::run::record::VectorsSettings;
use crate::vectors::{Shard, Unit};

/// Rows whose whole texts are in memory at a time: what is kept of them is shortened.
const ROWS_AT_A_TIME: usize = 256;

/// Files of a run that hold texts, and the columns with them.
#[derive(Debug)]
pub(crate) struct RowTexts {
    rows: TextFiles,
    /// Those of the corpus, where there is one with texts.
    corpus: Option<TextFiles>,
}

/// Files with the same columns of texts. A document's text is its positive's.
#[derive(Debug)]
struct TextFiles {
    shards: Vec<Shard>,
    query: Option<String>,
    positive: Option<String>,
}

/// The texts of one row, cut to a length; none where the side has no column, or the row a null.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct RowText {
    pub query: Option<String>,
    pub positive: Option<String>,
}

impl RowTexts {
    /// Finds texts. Where the user named neither files nor columns and none are found, the inner error says in one
    /// line why.
    ///
    /// # Errors
    /// What the user named is not there, or holds no texts.
    pub(crate) fn find(run: &RunReader, asked: &TextSource) -> Result<Result<RowTexts, String>> {
        match RowTexts::open(run, asked) {
            Ok(texts) => Ok(Ok(texts)),
            Err(error) if asked.is_default() => Ok(Err(in_one_line(&error))),
            Err(error) => Err(error),
        }
    }

    fn open(run: &RunReader, asked: &TextSource) -> Result<RowTexts> {
        let recorded: VectorsSettings = run.settings()?;
        let shards = files::open(run, &recorded, &asked.source)?;
        let first = shards.iter().find(|shard| shard.rows > 0).unwrap_or(&shards[0]);
        let found = sides(schema_of(first), asked, &recorded.columns);
        if found.iter().all(|side| side.text().is_none()) {
            both(found.clone(), &first.path, schema_of(first))?;
        }
        let [query, positive] = found.each_ref().map(|side| side.text().map(str::to_owned));
        for shard in shards.iter().filter(|shard| shard.rows > 0) {
            for (name, flag) in [(&query, "--query-text"), (&positive, "--positive-text")] {
                name.as_ref().map_or(Ok(()), |name| expect_text(&shard.path, schema_of(shard), name, flag))?;
            }
        }
        let corpus = corpus_texts(run, &recorded, asked)?;
        Ok(RowTexts { rows: TextFiles { shards, query, positive }, corpus })
    }

    /// The columns that were found, of query and positive.
    pub(crate) fn columns(&self) -> [Option<&str>; 2] {
        [self.rows.query.as_deref(), self.rows.positive.as_deref()]
    }

    /// The texts of some input rows, and of documents by their numbers, each of at most `most` characters: a longer one
    /// ends with an ellipsis. Only the row groups with these rows are read.
    ///
    /// # Errors
    /// A file cannot be decoded, or there is no such row.
    pub(crate) fn read(&self, rows: &BTreeSet<u32>, most: usize) -> Result<BTreeMap<u32, RowText>> {
        let mut found = BTreeMap::new();
        for files in std::iter::once(&self.rows).chain(&self.corpus) {
            files.read(rows, most, &mut found)?;
        }
        Ok(found)
    }
}

/// The corpus' files, where there is one and its texts are found. Documents without are shown by their numbers.
fn corpus_texts(run: &RunReader, recorded: &VectorsSettings, asked: &TextSource) -> Result<Option<TextFiles>> {
    let Some(corpus) = &recorded.corpus else { return Ok(None) };
    let named = asked.document.is_some() || !asked.corpus.is_empty();
    let open = || -> Result<TextFiles> {
        let shards = files::open_corpus(run, recorded, &asked.corpus)?;
        let first = shards.iter().find(|shard| shard.rows > 0).unwrap_or(&shards[0]);
        let text = of_documents(schema_of(first), asked.document.as_deref(), &corpus.columns, &first.path)?;
        for shard in shards.iter().filter(|shard| shard.rows > 0) {
            expect_text(&shard.path, schema_of(shard), &text, "--document-text")?;
        }
        Ok(TextFiles { shards, query: None, positive: Some(text) })
    };
    match open() {
        Ok(files) => Ok(Some(files)),
        Err(error) if named => Err(error),
        Err(error) => {
            tracing::info!("no texts of documents are shown: {}", in_one_line(&error));
            Ok(None)
        }
    }
}

impl TextFiles {
    fn read(&self, rows: &BTreeSet<u32>, most: usize, found: &mut BTreeMap<u32, RowText>) -> Result<()> {
        let mut columns: Vec<&str> = [&self.query, &self.positive].into_iter().flatten().map(String::as_str).collect();
        columns.dedup();
        for unit in Unit::all(&self.shards) {
            let first = unit.first_input_row();
            let end = first.saturating_add(unit.rows).min(u64::from(u32::MAX));
            let Ok(start) = u32::try_from(first) else { break };
            let wanted: Vec<u32> = rows.range(start..end as u32).copied().collect();
            if wanted.is_empty() {
                continue;
            }
            for some in wanted.chunks(ROWS_AT_A_TIME) {
                self.read_some(&unit, &columns, some, most, found)?;
            }
        }
        Ok(())
    }

    /// The texts of some rows of a unit.
    fn read_some(
        &self,
        unit: &Unit<'_>,
        columns: &[&str],
        rows: &[u32],
        most: usize,
        found: &mut BTreeMap<u32, RowText>,
    ) -> Result<()> {
        let within: Vec<u64> = rows.iter().map(|row| u64::from(*row) - unit.first_input_row()).collect();
        let arrays = unit.some_rows(columns, &within)?;
        let mut texts = Vec::with_capacity(arrays.len());
        for (array, column) in arrays.iter().zip(columns) {
            let text = cast(array, &DataType::LargeUtf8).map_err(|e| {
                let error = Error::input("a column of texts cannot be read as strings").found(e.to_string());
                unit.place(error.remedy("cast the column to strings"), column, None)
            })?;
            texts.push(text);
        }
        let text = |name: &Option<String>, at: usize| -> Option<String> {
            let column = columns.iter().position(|column| Some(*column) == name.as_deref())?;
            let array = texts[column].as_string_opt::<i64>()?;
            array.is_valid(at).then(|| shortened(array.value(at), most))
        };
        for (at, row) in rows.iter().enumerate() {
            found.insert(*row, RowText { query: text(&self.query, at), positive: text(&self.positive, at) });
        }
        Ok(())
    }
}

/// An error without what was expected, in one line.
fn in_one_line(error: &Error) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("expected:"));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join("; ")
}

/// The first `most` characters of a text; with an ellipsis where there are more.
fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_end_with_an_ellipsis() {
        assert_eq!(shortened("größer", 6), "größer");
        assert_eq!(shortened("größer", 3), "grö…");
        assert_eq!(shortened("", 0), "");
    }

    #[test]
    fn an_error_in_one_line_says_what_where_and_the_remedy() {
        let error = Error::input("no texts").path("a.parquet").expected("texts").found("no  column").remedy("look");
        assert_eq!(in_one_line(&error), "no texts; where: a.parquet; found: no column; remedy: look");
    }
}

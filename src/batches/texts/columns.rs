//! Which columns hold the texts of queries and positives. Pure.

use std::path::Path;

use arrow::datatypes::{DataType, Schema};

use super::source::TextSource;
use crate::error::{Error, Result};
use crate::run::record::Roles;

const QUERY_NAMES: &[&str] =
    &["query", "anchor", "question", "query_text", "qry", "sentence1", "sentence_0", "instruction"];
const POSITIVE_NAMES: &[&str] = &[
    "positive",
    "passage",
    "document",
    "doc",
    "answer",
    "pos",
    "pos_text",
    "positive_text",
    "passage_text",
    "document_text",
    "sentence2",
    "sentence_1",
    "response",
];
const SHARED_NAMES: &[&str] = &["text", "sentence", "content"];
/// What a column of texts is.
pub(crate) const TEXT_TYPES: &str = "a column of strings: string, large_string, string_view, or a dictionary of them";

/// Whether a column of this type holds one text a row.
pub(crate) fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, value) => is_text(value),
        _ => false,
    }
}

/// Whether a column of this type holds several texts a row.
fn is_list_of_texts(kind: &DataType) -> bool {
    match kind {
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _) => is_text(field.data_type()) || is_list_of_texts(field.data_type()),
        _ => false,
    }
}

/// What to do about a column that does not hold one text a row.
fn remedy(kind: &DataType, flag: &str) -> String {
    match kind {
        list if is_list_of_texts(list) => format!(
            "a row has one text on each side: write one text of each list into a column of strings and name it with \
             {flag}, or mine a row for each text"
        ),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            format!("cast the bytes to strings if they are UTF-8, or name a column of strings with {flag}")
        }
        DataType::Null => format!("all of its rows are null: name a column of strings with {flag}"),
        DataType::Struct(_) | DataType::Map(..) => {
            format!("write the field with the text into a column of strings, and name it with {flag}")
        }
        other if other.is_nested() => format!("name a column of strings with {flag}"),
        _ => format!(
            "such values are no texts: name a column of strings with {flag}, give files that hold the texts to \
             --source, or cast the column to strings if its values are the texts"
        ),
    }
}

/// What is known of the text column of one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TextColumn {
    /// Its name.
    Text(String),
    /// No column of texts was found; this one has a usual name and another type.
    Wrong(String, DataType),
    Missing,
}

impl TextColumn {
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            TextColumn::Text(name) => Some(name),
            _ => None,
        }
    }
}

/// The first column of texts of some names. A list of texts before it is taken for what is meant, and is no text.
fn usual(schema: &Schema, names: &[&str], taken: &[&str]) -> TextColumn {
    let mut found = TextColumn::Missing;
    for name in names.iter().filter(|name| !taken.contains(name)) {
        let Ok(field) = schema.field_with_name(name) else { continue };
        let kind = field.data_type();
        match &found {
            TextColumn::Missing if is_text(kind) => return TextColumn::Text((*name).to_owned()),
            TextColumn::Wrong(..) if is_text(kind) => return TextColumn::Text((*name).to_owned()),
            TextColumn::Missing => found = TextColumn::Wrong((*name).to_owned(), kind.clone()),
            _ => {}
        }
        if is_list_of_texts(kind) {
            return TextColumn::Wrong((*name).to_owned(), kind.clone());
        }
    }
    found
}

/// The text columns of query and positive: those named by the user, else those of the usual names, embeddings aside.
/// One column serves both where one embedding does, or where it has the usual name of such a column.
pub(crate) fn sides(schema: &Schema, asked: &TextSource, roles: &Roles) -> [TextColumn; 2] {
    let taken: Vec<&str> = [&roles.query, &roles.positive].into_iter().flatten().map(String::as_str).collect();
    let side = |named: &Option<String>, names: &[&str]| match named {
        Some(name) => TextColumn::Text(name.clone()),
        None => usual(schema, names, &taken),
    };
    let [query, positive] = [side(&asked.query, QUERY_NAMES), side(&asked.positive, POSITIVE_NAMES)];
    let is_list = |side: &TextColumn| matches!(side, TextColumn::Wrong(_, kind) if is_list_of_texts(kind));
    match (query, positive, usual(schema, SHARED_NAMES, &taken)) {
        (TextColumn::Text(query), other, _) if roles.shared && other.text().is_none() && !is_list(&other) => {
            [TextColumn::Text(query.clone()), TextColumn::Text(query)]
        }
        (other, TextColumn::Text(positive), _) if roles.shared && other.text().is_none() && !is_list(&other) => {
            [TextColumn::Text(positive.clone()), TextColumn::Text(positive)]
        }
        (query, positive, shared @ TextColumn::Text(_))
            if [&query, &positive].into_iter().all(|side| side.text().is_none() && !is_list(side)) =>
        {
            [shared.clone(), shared]
        }
        (query, positive, _) => [query, positive],
    }
}

/// The column of a corpus' texts: the one that the user named, or one of a usual name. `path`: the file whose schema it
/// is.
///
/// # Errors
/// There is none.
pub(crate) fn of_documents(schema: &Schema, named: Option<&str>, roles: &Roles, path: &Path) -> Result<String> {
    if let Some(name) = named {
        return Ok(name.to_owned());
    }
    let taken: Vec<&str> = roles.query.iter().map(String::as_str).collect();
    let names = [SHARED_NAMES, POSITIVE_NAMES].concat();
    match usual(schema, &names, &taken) {
        TextColumn::Text(name) => Ok(name),
        TextColumn::Wrong(column, kind) => Err(wrong_type(path, &column, &kind, "--document-text")),
        TextColumn::Missing => Err(Error::input("no column of the documents' texts was found")
            .path(path)
            .expected(format!("one of: {}", names.join(", ")))
            .found(format!("columns {}", names_of(schema)))
            .remedy("name it with --document-text, or give files that hold the texts to --corpus-source")),
    }
}

/// The names of both sides' columns. `path`: the file whose schema it is.
///
/// # Errors
/// A side has no column of texts.
pub(crate) fn both(sides: [TextColumn; 2], path: &Path, schema: &Schema) -> Result<(String, String)> {
    match sides {
        [TextColumn::Text(query), TextColumn::Text(positive)] => Ok((query, positive)),
        [TextColumn::Text(_), positive] => Err(not_found(&positive, "positive", POSITIVE_NAMES, path, schema)),
        [query, _] => Err(not_found(&query, "query", QUERY_NAMES, path, schema)),
    }
}

fn not_found(side: &TextColumn, name: &str, names: &[&str], path: &Path, schema: &Schema) -> Error {
    let flag = format!("--{name}-text");
    match side {
        TextColumn::Wrong(column, kind) => wrong_type(path, column, kind, &flag),
        _ => Error::input(format!("no column of {name} texts was found"))
            .path(path)
            .expected(format!("one of: {}; or one column for both: {}", names.join(", "), SHARED_NAMES.join(", ")))
            .found(format!("columns {}", names_of(schema)))
            .remedy(format!("name it with {flag}, or give files that hold the texts to --source")),
    }
}

/// The error of a column that is there, and holds no texts.
fn wrong_type(path: &Path, column: &str, kind: &DataType, flag: &str) -> Error {
    Error::input("not a column of texts")
        .path(path)
        .column(column)
        .expected(TEXT_TYPES)
        .found(kind.to_string())
        .remedy(remedy(kind, flag))
}

/// Fails unless a file has one column of this name, and it holds texts. `flag` names such a column.
///
/// # Errors
/// The column is not there, is there twice, or holds something else.
pub(crate) fn expect_text(path: &Path, schema: &Schema, name: &str, flag: &str) -> Result<()> {
    let mut named = schema.fields().iter().filter(|field| field.name() == name);
    let wrong = |found: String, remedy: &str| {
        let error = Error::input("not a column of texts").path(path).column(name);
        error.expected(TEXT_TYPES).found(found).remedy(remedy)
    };
    match (named.next(), named.count()) {
        (Some(_), 1..) => Err(wrong("several columns of this name".into(), "rename all but one of them")),
        (Some(field), 0) if is_text(field.data_type()) => Ok(()),
        (Some(field), 0) => Err(wrong_type(path, name, field.data_type(), flag)),
        (None, _) => Err(wrong(
            format!("no column of this name among {}", names_of(schema)),
            "check the spelling; names are case-sensitive, and every file needs the column",
        )),
    }
}

fn names_of(schema: &Schema) -> String {
    schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Field;

    use super::*;

    fn schema(columns: &[(&str, DataType)]) -> Schema {
        Schema::new(columns.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect::<Vec<_>>())
    }

    fn list(kind: DataType) -> DataType {
        DataType::List(Arc::new(Field::new("item", kind, true)))
    }

    fn roles(query: &str, shared: bool) -> Roles {
        let query = Some(query.to_owned());
        Roles { positive: query.clone(), query, shared, id: None, task: None, keys: Vec::new() }
    }

    fn found(columns: &[(&str, DataType)]) -> Result<(String, String)> {
        let schema = schema(columns);
        both(sides(&schema, &TextSource::default(), &roles("v", false)), Path::new("a.parquet"), &schema)
    }

    #[test]
    fn texts_of_every_string_type_are_found_by_their_usual_names() {
        let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::LargeUtf8));
        for kind in [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View, dictionary] {
            let names = found(&[("answer", kind.clone()), ("id", DataType::Int64), ("question", kind)]).unwrap();
            assert_eq!(names, ("question".to_owned(), "answer".to_owned()));
        }
        let shared = found(&[("text", DataType::Utf8)]).unwrap();
        assert_eq!(shared, ("text".to_owned(), "text".to_owned()));
    }

    #[test]
    fn a_column_of_another_type_is_named_with_its_type_and_a_remedy() {
        let texts = list(DataType::Utf8);
        let cases = [
            (DataType::Int64, "Int64", "no texts"),
            (texts.clone(), "List", "one text of each list"),
            (list(texts), "List", "one text of each list"),
            (DataType::Binary, "Binary", "UTF-8"),
            (DataType::Null, "Null", "null"),
            (DataType::Struct(vec![Field::new("a", DataType::Utf8, true)].into()), "Struct", "field"),
        ];
        for (kind, name, word) in cases {
            let error = found(&[("query", kind), ("positive", DataType::Utf8)]).unwrap_err();
            let text = error.to_string();
            assert_eq!(error.exit_code(), 2);
            for word in ["column query", name, word, "--query-text", "a.parquet"] {
                assert!(text.contains(word), "no {word} in {text}");
            }
        }
    }

    #[test]
    fn numbers_are_passed_over_and_lists_of_texts_are_not() {
        let number = [("query", DataType::Int64), ("query_text", DataType::Utf8), ("positive", DataType::Utf8)];
        assert_eq!(found(&number).unwrap().0, "query_text");
        let lists = [("positive", list(DataType::Utf8)), ("answer", DataType::Utf8), ("query", DataType::Utf8)];
        let text = found(&lists).unwrap_err().to_string();
        assert!(text.contains("column positive") && text.contains("--positive-text"), "{text}");
        // Embeddings have no texts, whatever their names are.
        let schema = schema(&[("query", list(DataType::Float32)), ("anchor", DataType::Utf8)]);
        let [query, positive] = sides(&schema, &TextSource::default(), &roles("query", true));
        assert_eq!((query.text(), positive.text()), (Some("anchor"), Some("anchor")));
    }

    #[test]
    fn two_columns_of_one_name_are_refused() {
        let schema = schema(&[("query", DataType::Utf8), ("query", DataType::Utf8)]);
        let error = expect_text(Path::new("a.parquet"), &schema, "query", "--query-text").unwrap_err().to_string();
        assert!(error.contains("several columns") && error.contains("rename"), "{error}");
    }
}

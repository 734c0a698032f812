//! Reads exports of every format back into one shape, and derives from the sources and the batch table what they must
//! contain.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{cast, concat, concat_batches};
use arrow::datatypes::{DataType, Int64Type};
use batchmine::run::Stage;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use super::table::{self, Row};
use super::verify::record;

/// A column of strings of all files of a folder, in order, read by the parquet crate alone.
pub fn column(folder: &Path, name: &str) -> Vec<Option<String>> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let all = paths.iter().flat_map(|path| {
        let texts = cast(parquet(path).column_by_name(name).unwrap(), &DataType::Utf8).unwrap();
        texts.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect::<Vec<_>>()
    });
    all.collect()
}

pub fn parquet(path: &Path) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let schema = reader.schema().clone();
    let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

pub fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub fn names(rows: &RecordBatch) -> Vec<String> {
    rows.schema().fields().iter().map(|field| field.name().clone()).collect()
}

pub fn strings(rows: &RecordBatch, name: &str) -> Vec<String> {
    let column = rows.column_by_name(name).unwrap_or_else(|| panic!("no column {name} in {:?}", names(rows)));
    column.as_string::<i32>().iter().map(|text| text.expect("no null").to_owned()).collect()
}

pub fn numbers(rows: &RecordBatch, name: &str) -> Vec<i64> {
    let column = cast(rows.column_by_name(name).unwrap(), &DataType::Int64).unwrap();
    column.as_primitive::<Int64Type>().values().to_vec()
}

/// A row of an export: query, positive, negatives.
pub type Told = (String, String, Vec<String>);

/// What an export of `format` holds, batch by batch (b3: cluster by cluster).
pub fn told(out: &Path, format: &str, size: usize) -> Vec<Vec<Told>> {
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("no text in {value}")).to_owned();
    let list = |value: &Value, of: fn(&Value) -> &Value| -> Vec<String> {
        value.as_array().map(|list| list.iter().map(|value| text(of(value))).collect()).unwrap_or_default()
    };
    let in_batches = |rows: Vec<Told>| rows.chunks(size).map(<[_]>::to_vec).collect();
    match format {
        "sentence-transformers" => {
            let rows = parquet(&out.join("pairs.parquet"));
            let columns: Vec<Vec<String>> = names(&rows).iter().map(|name| strings(&rows, name)).collect();
            let told = |row: usize| {
                let negatives = columns[2..].iter().map(|column| column[row].clone()).collect();
                (columns[0][row].clone(), columns[1][row].clone(), negatives)
            };
            let index = parquet(&out.join("batches.parquet"));
            let (starts, counts) = (numbers(&index, "start"), numbers(&index, "rows"));
            starts
                .iter()
                .zip(counts)
                .map(|(start, rows)| (*start..start + rows).map(|r| told(r as usize)).collect())
                .collect()
        }
        "b3" => {
            let mut rows = Vec::new();
            for folder in folders(out) {
                let task = parquet(&folder.join("train-00000-of-00001.parquet"));
                assert_eq!(task.num_rows() % size, 0, "{}", folder.display());
                let negatives = task.column_by_name("neg_text").map(|column| {
                    let lists = column.as_list::<i32>();
                    let texts =
                        |row| lists.value(row).as_string::<i32>().iter().map(|t| t.unwrap().to_owned()).collect();
                    (0..lists.len()).map(texts).collect::<Vec<Vec<String>>>()
                });
                let sides = strings(&task, "qry").into_iter().zip(strings(&task, "pos_text"));
                rows.extend(sides.enumerate().map(|(row, (query, positive))| {
                    (query, positive, negatives.as_ref().map_or(Vec::new(), |negatives| negatives[row].clone()))
                }));
            }
            in_batches(rows)
        }
        "flagembedding" => {
            let mut files: Vec<_> = fs::read_dir(out.join("data")).unwrap().map(|file| file.unwrap().path()).collect();
            files.sort();
            let told = |line: &Value| (text(&line["query"]), text(&line["pos"][0]), list(&line["neg"], |v| v));
            files.iter().map(|file| lines(file).iter().map(told).collect()).collect()
        }
        "tevatron" => {
            let told = |line: &Value| {
                let negatives = list(&line["negative_passages"], |passage| &passage["text"]);
                (text(&line["query"]), text(&line["positive_passages"][0]["text"]), negatives)
            };
            in_batches(lines(&out.join("train.jsonl")).iter().map(told).collect())
        }
        "swift" => {
            let told = |line: &Value| {
                assert_eq!(line["messages"][0]["role"], "user");
                let negatives = list(&line["negative_messages"], |messages| &messages[0]["content"]);
                (text(&line["messages"][0]["content"]), text(&line["positive_messages"][0][0]["content"]), negatives)
            };
            in_batches(lines(&out.join("train.jsonl")).iter().map(told).collect())
        }
        _ => folders(&out.join("data")).iter().map(|batch| arctic(batch)).collect(),
    }
}

/// A batch of the arctic format, rebuilt from its relations.
pub fn arctic(folder: &Path) -> Vec<Told> {
    let read = |name: &str| parquet(&folder.join(format!("{name}.parquet")));
    let (queries, documents, relations) = (read("queries"), read("documents"), read("relations"));
    let texts: BTreeMap<i64, String> =
        numbers(&documents, "BATCH_DOCUMENT_ID").into_iter().zip(strings(&documents, "DOCUMENT_TEXT")).collect();
    assert_eq!(texts.len(), documents.num_rows(), "each document once");
    let related = |query: i64, relevance: i64| -> Vec<String> {
        let all = numbers(&relations, "BATCH_QUERY_ID").into_iter().zip(numbers(&relations, "RELEVANCE"));
        let found = all.zip(numbers(&relations, "BATCH_DOCUMENT_ID")).filter(|(pair, _)| *pair == (query, relevance));
        found.map(|(_, document)| texts[&document].clone()).collect()
    };
    let numbered = numbers(&queries, "BATCH_QUERY_ID").into_iter().zip(strings(&queries, "QUERY_TEXT"));
    let told = |(number, text): (i64, String)| {
        let positives = related(number, 1);
        assert_eq!(positives.len(), 1);
        (text, positives[0].clone(), related(number, -1))
    };
    numbered.map(told).collect()
}

pub fn folders(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.retain(|path| path.is_dir());
    all.sort();
    all
}

/// What a format must contain, from the batch table and the sources.
pub fn expected(format: &str, rows: &[Row], input: &Path, negatives: impl Fn(&Row) -> Vec<usize>) -> Vec<Vec<Told>> {
    let (queries, positives) = (column(input, "query"), column(input, "positive"));
    let text = |texts: &[Option<String>], row: usize| texts[row].clone().unwrap();
    let told = |row: &Row| {
        let negatives = negatives(row).into_iter().map(|row| text(&positives, row)).collect();
        (text(&queries, row.row), text(&positives, row.row), negatives)
    };
    let batches: Vec<&[Row]> = rows.chunk_by(|a, b| a.batch == b.batch).collect();
    if format == "b3" {
        let mut clusters: BTreeMap<i64, Vec<Told>> = BTreeMap::new();
        for row in rows {
            row.cluster.into_iter().for_each(|cluster| clusters.entry(cluster).or_default().push(told(row)));
        }
        // A task's folder has its name, so folders may come in another order than the tasks.
        let mut full: Vec<Vec<Told>> = clusters.into_values().filter(|cluster| cluster.len() == 4).collect();
        full.sort();
        return full;
    }
    let whole = ["tevatron", "swift"].contains(&format);
    batches.into_iter().filter(|b| !whole || b.len() == 16).map(|batch| batch.iter().map(told).collect()).collect()
}

pub fn assert_told(out: &Path, format: &str, wanted: &[Vec<Told>]) {
    let mut found = told(out, format, if format == "b3" { 4 } else { 16 });
    if format == "b3" {
        found.sort();
    }
    assert_eq!(found.len(), wanted.len(), "{format}: batches");
    for (at, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        assert_eq!(found, wanted, "{format}: batch {at}");
    }
    assert!(out.join("_SUCCESS").exists(), "{format}");
}

/// All files of an export, by name.
pub fn files(out: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut waiting = vec![out.to_owned()];
    let mut all = BTreeMap::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            all.insert(path.strip_prefix(out).unwrap().to_owned(), fs::read(&path).unwrap());
        }
    }
    all
}

/// Removes negatives from a run's tables: each row keeps only its first ones.
pub fn keep_negatives(run: &Path, keep: impl Fn(usize) -> usize) {
    for part in table::parts(run) {
        let (rows, footer) = table::load(&part);
        let kept: Vec<usize> = numbers(&rows, "row").into_iter().map(|row| keep(row as usize)).collect();
        let cut = |column: &ArrayRef| -> ArrayRef {
            let lists = column.as_list::<i32>();
            let pieces: Vec<ArrayRef> = (0..lists.len()).map(|row| lists.value(row).slice(0, kept[row])).collect();
            let pieces: Vec<&dyn Array> = pieces.iter().map(AsRef::as_ref).collect();
            let DataType::List(element) = lists.data_type() else { unreachable!("a list") };
            let offsets = OffsetBuffer::from_lengths(kept.iter().copied());
            Arc::new(ListArray::new(element.clone(), offsets, concat(&pieces).unwrap(), None))
        };
        let columns = rows.columns().iter();
        let columns = columns.map(|column| if column.data_type().is_nested() { cut(column) } else { column.clone() });
        table::store(&part, &RecordBatch::try_new(rows.schema(), columns.collect()).unwrap(), &footer);
        record(run, Stage::Batches, &part);
    }
}

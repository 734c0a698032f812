//! `inspect`: every file of a run, input files, and rows with their texts.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, ListArray, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use serde_json::Value;

use super::command::{Outcome, Place, batchmine, call, mine};
use super::dataset::{Dataset, Float, npy};
use super::table;

const FLAGS: &str = "--skip 3 --window 12 --cluster-size 4 --batch-size 16";

fn described(path: &Path) -> Outcome {
    call(["inspect".as_ref(), path.as_os_str()])
}

fn json(path: &Path) -> Value {
    let outcome = call(["inspect".as_ref(), path.as_os_str(), OsStr::new("--json")]).ok();
    let mut lines = outcome.stdout.lines();
    let value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!(lines.next(), None, "one line");
    value
}

/// `inspect RUN --rows RANGE FLAGS`.
fn rows(run: &Path, range: &str, flags: &str) -> Outcome {
    let mut command = batchmine();
    command.arg("inspect").arg(run).args(["--rows", range]).args(flags.split_whitespace());
    command.output().unwrap().into()
}

fn query(row: usize) -> String {
    format!("question {row}\nin two lines")
}

fn positive(row: usize) -> String {
    format!("answer {row} {}", "long ".repeat(row % 9 * 100))
}

/// Pairs with texts, tasks, string ids and a key.
fn pairs() -> Dataset {
    let data = Dataset { files: 2, row_group_rows: 31, ..Dataset::planted(120, 16, 7) };
    data.with_text_ids()
        .with_tasks(|row| ["news", "wiki"][row % 2].into())
        .with_key(|row| Some(format!("k{}", row / 2)))
        .with_text("query", |row| (row != 5).then(|| query(row)))
        .with_text("positive", |row| Some(positive(row)))
}

fn mined(data: &Dataset, flags: &str) -> (Place, PathBuf) {
    let place = Place::with(data);
    let run = place.path("run");
    mine(&place.input(), &run, &format!("{FLAGS} {} {flags}", data.column_flags())).ok();
    (place, run)
}

/// All files of a folder and the folders in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut waiting, mut found) = (vec![folder.to_owned()], Vec::new());
    while let Some(path) = waiting.pop() {
        match path.is_dir() {
            true => waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path())),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

#[test]
fn every_file_of_a_run_is_described_and_a_damaged_one_is_an_error_with_its_name() {
    let (place, run) = mined(&pairs(), "--hard-negatives 2 --epochs 2");
    call(["report".as_ref(), run.as_os_str()]).ok();
    let mut kinds = std::collections::BTreeSet::new();
    for file in files(&run) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        described(&file).ok();
        let found = json(&file);
        let kind = found["kind"].as_str().unwrap().to_owned();
        let expected = match &*name {
            "manifest.json" => "manifest",
            "lock" | "_SUCCESS" | "report.json" | "report.html" => "mark",
            _ if name.ends_with(".parquet") => "table",
            _ => "artefact",
        };
        assert_eq!(kind, expected, "{name}");
        if kind != "mark" {
            let whole = fs::read(&file).unwrap();
            let copy = place.path("copy").join(&name);
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            let flipped = |at: usize| {
                let mut bytes = whole.clone();
                bytes[at] ^= 0x41;
                bytes
            };
            // Behind the first bytes, which say what the file is.
            for bytes in
                [flipped(12), flipped(whole.len() / 2), flipped(whole.len() - 1), whole[..whole.len() - 3].to_vec()]
            {
                fs::write(&copy, bytes).unwrap();
                let outcome = described(&copy);
                let parquet = name.ends_with(".parquet");
                // A Parquet file has no checksum of the columns that are not read.
                assert!(outcome.code != Some(0) || parquet, "{name}: {}", outcome.said());
                assert!(matches!(outcome.code, Some(0..=2)), "{name}: {}", outcome.said());
                assert!(outcome.code == Some(0) || outcome.stderr.contains(&name), "{name}: {}", outcome.stderr);
                assert!(!outcome.stderr.contains("panicked"), "{name}: {}", outcome.stderr);
            }
            fs::remove_file(&copy).unwrap();
        }
        kinds.insert(kind);
    }
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["artefact", "manifest", "mark", "table"]);
    let run_json = json(&run);
    assert_eq!((run_json["kind"].as_str(), run_json["finished"].as_bool()), (Some("run"), Some(true)));
    assert_eq!(run_json["stages"][0]["facts"]["rows"], 120);
}

#[test]
fn the_counts_of_a_run_are_those_of_its_files() {
    let (_place, run) = mined(&pairs(), "--hard-negatives 2 --epochs 2");
    let tasks = json(&run.join("vectors/tasks.col"));
    assert_eq!((tasks["format"].as_str(), tasks["fields"]["tasks"].as_u64()), (Some("task"), Some(2)));
    assert_eq!(tasks["content"][0], "task \"news\": 60 rows");
    let ids = json(&run.join("vectors/ids.col"));
    assert_eq!(ids["content"][1], "id of row 1: doc/ä-1eef");
    let order = json(&run.join("neighbors/partition.ord"));
    assert_eq!((order["fields"]["rows"].as_u64(), order["fields"]["dimensions"].as_u64()), (Some(120), Some(16)));
    let table = json(&run.join("batches"));
    let rows = table::read(&run);
    assert_eq!(table["rows"].as_u64(), Some(rows.len() as u64));
    let epochs: Vec<&Value> = table["files"].as_array().unwrap().iter().map(|file| &file["epochs"][0]).collect();
    assert_eq!(epochs.len(), 2);
    for (epoch, found) in epochs.iter().enumerate() {
        let own: Vec<&table::Row> = rows.iter().filter(|row| row.epoch == epoch as i32).collect();
        let batches: Vec<_> = own.chunk_by(|a, b| a.batch == b.batch).collect();
        assert_eq!(found["rows"].as_u64(), Some(own.len() as u64));
        assert_eq!(found["batches"].as_u64(), Some(batches.len() as u64));
        let ends = [&own[0], &own[own.len() - 1]].map(|row| Some(row.batch));
        assert_eq!([&found["first_batch"], &found["last_batch"]].map(Value::as_i64), ends);
        assert_eq!(found["batch_rows"][1].as_u64(), batches.iter().map(|batch| batch.len() as u64).max());
    }
    let first = &table["files"][0];
    assert_eq!(first["footer"]["batchmine.hard_negatives"], "2");
    let names: Vec<&str> = first["columns"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert!(names.starts_with(&["epoch", "batch_id", "position"]) && names.contains(&"negatives"), "{names:?}");
    let text = described(&run.join("batches")).ok().stdout;
    assert!(text.contains("epoch 1: ") && text.contains("batchmine.seed: 0"), "{text}");
}

#[test]
fn a_shard_is_described_by_column() {
    let place = Place::with(&pairs());
    let found = json(&place.input());
    let column = |name: &str| -> Value {
        let columns = found["columns"].as_array().unwrap();
        columns.iter().find(|column| column["name"] == name).unwrap_or_else(|| panic!("no {name}")).clone()
    };
    let roles = [
        ("id", "id", 0),
        ("task", "maybe-id-task-or-key", 0),
        ("key0", "maybe-id-task-or-key", 0),
        ("query", "query-text", 1),
        ("positive", "positive-text", 0),
    ];
    for (name, role, nulls) in roles {
        assert_eq!(
            (column(name)["role"].as_str(), column(name)["nulls"].as_u64()),
            (Some(role), Some(nulls)),
            "{name}"
        );
    }
    assert_eq!(column("query_embedding")["role"], "query-embedding");
    assert_eq!(column("query_embedding")["nulls"], Value::Null);
    assert_eq!(column("query")["first"], "question 0 in two lines");
    assert!(column("query_embedding")["first"].as_str().unwrap().ends_with("… 16 in all]"));
    assert_eq!((found["rows"].as_u64(), found["dimensions"].as_u64()), (Some(120), Some(16)));
    assert_eq!((found["files"].as_array().unwrap().len(), &found["refused"]), (2, &Value::Null));
    assert_eq!(found["norms"].as_array().unwrap().len(), 2);
    let text = described(&place.input()).ok().stdout;
    for words in ["query text; 1 nulls; first row: question 0", "may be id, task or key", "norms of the first"] {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
}

#[test]
fn columns_that_cannot_be_mined_are_shown_all_the_same() {
    let place = Place::empty();
    let folder = place.path("input");
    fs::create_dir(&folder).unwrap();
    let write = |name: &str, columns: Vec<(&str, ArrayRef)>| {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut writer = ArrowWriter::try_new(File::create(folder.join(name)).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    };
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), None, Some(9)]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
    let field = Arc::new(Field::new("item", DataType::Utf8, true));
    let list: ArrayRef = Arc::new(ListArray::new(field, OffsetBuffer::from_lengths([1, 0, 2]), texts.clone(), None));
    write("a.parquet", vec![("label", numbers.clone()), ("names", list), ("text", texts.clone())]);
    write("b.parquet", vec![("label", texts)]);
    let found = json(&folder);
    assert!(found["refused"].as_str().unwrap().contains("no query embedding column was found"), "{found}");
    assert_eq!((found["dimensions"].clone(), found["rows"].as_u64()), (Value::Null, Some(6)));
    let columns = found["columns"].as_array().unwrap();
    let role = |at: usize| columns[at]["role"].as_str().unwrap();
    assert_eq!([role(0), role(1), role(2)], ["maybe-id-task-or-key", "maybe-key", "text"]);
    assert_eq!(columns[0]["other_types"][0], "Utf8");
    assert_eq!(columns[1]["other_types"][0], "absent");
    assert_eq!((columns[0]["nulls"].as_u64(), columns[1]["first"].as_str()), (Some(1), Some("[a]")));
    let said = described(&folder).ok().stdout;
    assert!(said.contains("would refuse this input") && said.contains("(in other files Utf8)"), "{said}");
    call(["inspect".as_ref(), folder.as_os_str(), OsStr::new("--embedding-column"), OsStr::new("no")])
        .refuses(&["no such column", "label, names, text"]);
    fs::write(folder.join("c.parquet"), "no Parquet").unwrap();
    described(&folder).refuses(&["c.parquet"]);
    described(&place.path("nothing")).refuses(&["nothing"]);
}

#[test]
fn rows_are_shown_with_the_texts_of_their_best_candidates() {
    let (place, run) = mined(&pairs(), "");
    let lines = |flags: &str| -> Vec<Value> {
        let said = rows(&run, "0..120", &format!("--json {flags}")).ok().stdout;
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let shortened = |text: String| match text.chars().count() {
        0..=2000 => text,
        _ => format!("{}…", text.chars().take(2000).collect::<String>()),
    };
    for (row, line) in lines("--show 2").iter().enumerate() {
        let expected = (row != 5).then(|| query(row));
        assert_eq!(line["query_text"].as_str(), expected.as_deref());
        assert_eq!(line["positive_text"].as_str(), Some(&*shortened(positive(row))));
        let start = line["window"][0].as_u64().unwrap() as usize;
        let end = line["window"][1].as_u64().unwrap() as usize;
        for (rank, candidate) in line["neighbors"].as_array().unwrap().iter().enumerate() {
            let shown = rank < start.min(2) || (start..end.min(start + 2)).contains(&rank);
            let text = shortened(positive(candidate["row"].as_u64().unwrap() as usize));
            assert_eq!(candidate["text"].as_str(), shown.then_some(&*text), "rank {rank} of row {row}");
        }
    }
    assert!(lines("--show 0").iter().all(|line| line.get("query_text").is_none()));
    let text = rows(&run, "7..8", "").ok().stdout;
    for words in
        ["row 7, id doc/ä-d889, task wiki", "query:    question 7 in two lines", "suspect      0", "preferred    3"]
    {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
    // Other files with the same rows, and columns of other names.
    let other = place.path("other");
    let named = Dataset::planted(120, 4, 1).with_text("q", |row| Some(format!("other {row}")));
    named.with_text("p", |row| Some(format!("else {row}"))).write(&other);
    let flags = format!("--source {} --query-text q --positive-text p", other.display());
    assert_eq!(lines(&flags)[9]["query_text"], "other 9");
    rows(&run, "0..1", &format!("--source {} --query-text q", other.display())).ok();
    rows(&run, "0..1", &format!("--source {} --query-text no", other.display()))
        .refuses(&["column no", "case-sensitive"]);
    rows(&run, "0..1", "--positive-text query_embedding").refuses(&["not a column of texts", "query_embedding"]);
    let text = call(["inspect".as_ref(), run.as_os_str(), OsStr::new("--query-text"), OsStr::new("q")]);
    text.refuses(&["--rows"]);
}

#[test]
fn rows_are_shown_without_texts_where_there_are_none() {
    let without = |run: &Path, why: &str| {
        let outcome = rows(run, "3..5", "--json").ok();
        let told: Vec<&str> = outcome.stderr.lines().filter(|line| line.contains("no texts are shown")).collect();
        assert!(told.len() == 1 && told[0].contains(why), "{}", outcome.stderr);
        assert!(!outcome.stdout.contains("text"), "{}", outcome.stdout);
        assert_eq!(outcome.stdout.lines().count(), 2);
        rows(run, "3..5", "").ok();
    };
    let (_place, run) = mined(&Dataset::planted(60, 16, 3), "");
    without(&run, "no column of query texts was found");
    let (place, run) = mined(&pairs(), "");
    fs::remove_file(place.input().join("part-1.parquet")).unwrap();
    without(&run, "is gone");
    let data = Dataset::planted(60, 16, 3);
    let place = Place::empty();
    let values = data.queries.iter().zip(&data.positives).flat_map(|(q, p)| q.iter().chain(p).copied());
    let array = place.path("pairs.npy");
    fs::write(&array, npy(Float::F32, &[60, 2, 16], false, values)).unwrap();
    let run = place.path("run");
    mine(&array, &run, FLAGS).ok();
    without(&run, ".npy files, which hold no texts");
    assert_eq!(json(&array)["dimensions"], 16);
    described(&array).ok();
}

//! What `export` writes, compared with the source rows and the batch table, each read separately.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use batchmine::export::{Epochs, ExportSettings, Format};
use batchmine::run::Progress;
use batchmine::run::RunReader;
use batchmine::run::{Disk, Storage};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use serde_json::Value;

use super::command::{Outcome, Place, export, export_command, mine, skipped};
use super::dataset::{Dataset, Float, Ids, npy};
use super::exported::{
    Told, assert_told, column, expected, files, folders, keep_negatives, lines, names, numbers, parquet, strings, told,
};
use super::failing::{Blow, Failing};
use super::readers::python;
use super::table::{self, Row};

const FORMATS: [&str; 6] = ["sentence-transformers", "b3", "flagembedding", "tevatron", "swift", "arctic"];
const MINE: &str = "--skip 3 --cluster-size 4 --batch-size 16";

/// Texts with characters that a format might get wrong.
fn query(row: usize) -> String {
    match row % 5 {
        0 => format!("query {row}: \"quoted\" \\ and\ttabs\nand lines"),
        1 => format!("Anfrage {row} — größer 東京 🗼"),
        2 => format!("{row}"),
        3 => String::new(),
        _ => format!("{{\"json\": {row}}} \u{2028} \u{0}"),
    }
}

fn positive(row: usize) -> String {
    format!("document {row} {}", "długi ".repeat(row % 7))
}

/// Three tasks, texts, a few more columns, two files of several row groups.
fn pairs(rows: usize) -> Dataset {
    let data = Dataset::planted(rows, 16, 91);
    Dataset { files: 2, row_group_rows: 37, ..data }
        .with_tasks(|row| ["news", "wiki/en", "wiki en"][row % 3].into())
        .with_text("query", |row| Some(query(row)))
        .with_text("positive", |row| Some(positive(row)))
        .with_text("source", |row| (row % 4 != 0).then(|| format!("source {}", row % 9)))
}

/// A mined run of `pairs`.
fn mined(data: &Dataset, flags: &str) -> (Place, PathBuf) {
    let place = Place::with(data);
    let run = place.path("run");
    let window = if flags.contains("--window") { "" } else { "--window 12" };
    mine(&place.input(), &run, &format!("{MINE} {window} {} {flags}", data.column_flags())).ok();
    (place, run)
}

#[test]
fn every_format_holds_the_texts_of_the_source_rows_in_batch_order() {
    for data in [pairs(200), pairs(200).with_text_ids()] {
        let (place, run) = mined(&data, "--epochs 2");
        let table = table::read(&run);
        for format in FORMATS {
            let first: Vec<Row> = table.iter().filter(|row| row.epoch == 0).cloned().collect();
            let out = place.path(format);
            export(&run, format, &out, "").ok();
            assert_told(&out, format, &expected(format, &first, &place.input(), |_| Vec::new()));
            if format == "b3" {
                export(&run, format, &out, "--epoch all").refuses(&["anew"]);
                continue;
            }
            let all = place.path(&format!("{format}-all"));
            export(&run, format, &all, "--epoch all").ok();
            assert_told(&all, format, &expected(format, &table, &place.input(), |_| Vec::new()));
            export(&run, format, &place.path("none"), "--epoch 2").refuses(&["--epoch from 0 to 1", "--epoch 2"]);
        }
    }
}

#[test]
fn tables_have_the_columns_that_trainers_read() {
    let data = pairs(200).with_text_ids();
    let (place, run) = mined(&data, "");
    let table = table::read(&run);
    let out = |format: &str| {
        let out = place.path(format);
        export(&run, format, &out, "").ok();
        out
    };
    let index = parquet(&out("sentence-transformers").join("batches.parquet"));
    assert_eq!(names(&index), ["epoch", "batch_id", "start", "rows", "task"]);
    let batches: Vec<&[Row]> = table.chunk_by(|a, b| a.batch == b.batch).collect();
    assert_eq!(numbers(&index, "batch_id"), batches.iter().map(|batch| batch[0].batch).collect::<Vec<_>>());
    let tasks: Vec<String> = batches.iter().map(|batch| batch[0].task.clone().unwrap()).collect();
    assert_eq!(strings(&index, "task"), tasks);
    // Tasks whose names give the same folder, and kept columns with nulls.
    let b3 = out("b3");
    let found: Vec<String> =
        folders(&b3).iter().map(|f| f.file_name().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(found, ["news", "wiki_en", "wiki_en-2"]);
    let task = parquet(&b3.join("news/train-00000-of-00001.parquet"));
    assert_eq!(names(&task), ["qry", "qry_image_path", "pos_text", "pos_image_path", "id", "task", "source"]);
    assert!(strings(&task, "qry_image_path").iter().all(String::is_empty));
    let source = column(&place.input(), "source");
    let row_of: BTreeMap<String, usize> = (0..data.rows()).map(|row| (data.id(row), row)).collect();
    for (at, id) in strings(&task, "id").iter().enumerate() {
        let kept = task.column_by_name("source").unwrap().as_string::<i32>();
        assert_eq!(kept.is_valid(at).then(|| kept.value(at)), source[row_of[id]].as_deref(), "row {id}");
    }
    let line = &lines(&out("tevatron").join("train.jsonl"))[0];
    let id = table[0].id.as_str();
    assert_eq!((line["query_id"].as_str(), line["positive_passages"][0]["docid"].as_str()), (Some(id), Some(id)));
}

#[test]
fn trainers_that_cut_batches_themselves_get_only_whole_ones() {
    let (place, run) = mined(&pairs(203), "--epochs 2");
    let short: usize = table::read(&run).chunk_by(|a, b| a.batch == b.batch).map(<[_]>::len).filter(|n| *n != 16).sum();
    assert!(short > 0);
    for format in ["tevatron", "swift"] {
        let said = export(&run, format, &place.path(format), "--epoch all").ok().stderr;
        assert!(said.contains(&format!("{short} rows left out")), "{said}");
    }
    let place = Place::with(&Dataset { files: 1, ..pairs(20) });
    let run = place.path("run");
    mine(&place.input(), &run, "--skip 3 --window 12 --cluster-size 32 --batch-size 64").ok();
    for format in ["swift", "b3"] {
        export(&run, format, &place.path(format), "").refuses(&["nothing to export", "--batch-size"]);
    }
}

/// Input rows of the first negatives of a row.
fn negatives(row: &Row, count: usize) -> Vec<usize> {
    row.negatives.iter().flatten().take(count).map(|negative| negative.0).collect()
}

#[test]
fn negatives_come_with_their_texts() {
    let integers = Dataset { ids: Ids::Int((0..200).map(|row| Some(row * 31 - 900)).collect()), ..pairs(200) };
    for data in [pairs(200), integers, pairs(200).with_text_ids()] {
        let (place, run) = mined(&data, "--window 30 --hard-negatives 3");
        let table = table::read(&run);
        assert!(table.iter().all(|row| negatives(row, 3).len() == 3), "data with negatives for all");
        for format in FORMATS {
            for (flags, count) in [("", 3), ("--negatives 2", 2)] {
                let out = place.path(&format!("{format}{count}"));
                export(&run, format, &out, flags).ok();
                assert_told(&out, format, &expected(format, &table, &place.input(), |row| negatives(row, count)));
            }
        }
        let line = &lines(&place.path("flagembedding3/data/batch-00000000.jsonl"))[0];
        let scores: Vec<f32> = serde_json::from_value(line["neg_scores"].clone()).unwrap();
        assert_eq!(scores, table[0].negatives.iter().flatten().map(|negative| negative.2).collect::<Vec<_>>());
        assert_eq!(line["pos_scores"][0].as_f64().unwrap() as f32, table[0].score);
        let line = &lines(&place.path("tevatron3/train.jsonl"))[0];
        assert_eq!(line["negative_passages"][0]["docid"], table[0].negatives.as_ref().unwrap()[0].1.as_str());
    }
}

#[test]
fn exports_load_as_their_trainers_load_them() {
    let has = python().args(["-c", "import datasets, pyarrow, tokenizers"]).output();
    if !has.is_ok_and(|output| output.status.success()) {
        skipped("no datasets, pyarrow and tokenizers for the Python in BATCHMINE_PYTHON (else python3)");
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exports.py");
    let data = pairs(203).with_text_ids();
    for count in [0, 3] {
        let (place, run) = mined(&data, &format!("--window 30 --hard-negatives {count}"));
        let root = place.path("exports");
        FORMATS.iter().for_each(|format| drop(export(&run, format, &root.join(format), "").ok()));
        let output = python().arg(&script).arg(&root).args(["16", "4"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{count} negatives:\n{said}");
        let mut found: BTreeMap<String, Vec<Vec<Told>>> = serde_json::from_slice(&output.stdout).unwrap();
        found.get_mut("b3").unwrap().sort();
        for format in FORMATS {
            let wanted = expected(format, &table::read(&run), &place.input(), |row| negatives(row, count));
            assert!(found[format] == wanted, "{format}, {count} negatives: what Python loads is not what was mined");
        }
    }
}

#[test]
fn rows_with_few_negatives_are_filled_up() {
    let (place, run) = mined(&pairs(200), "--window 30 --hard-negatives 3");
    keep_negatives(&run, |row| 1 + row % 3);
    let out = place.path("fewer");
    export(&run, "sentence-transformers", &out, "").ok();
    let rows = parquet(&out.join("pairs.parquet"));
    let table = table::read(&run);
    let positives = column(&place.input(), "positive");
    for number in 0..3 {
        let texts = strings(&rows, &format!("negative_{}", number + 1));
        for (row, text) in table.iter().zip(texts) {
            let own = negatives(row, 3);
            assert_eq!(own.len(), 1 + row.row % 3);
            assert_eq!(Some(text), positives[own[number % own.len()]], "a row's own negatives, over again");
        }
    }
    let (place, run) = mined(&pairs(200), "");
    export(&run, "swift", &place.path("x"), "--negatives 2").refuses(&["no hard negatives", "--hard-negatives"]);
}

#[test]
fn text_columns_are_found_named_or_missed_with_a_remedy() {
    let named = |query: &str, positive: &str| {
        let data = Dataset::planted(80, 16, 5).with_text(query, |row| Some(self::query(row)));
        data.with_text(positive, |row| Some(self::positive(row)))
    };
    let (place, run) = mined(&named("anchor", "document"), "");
    export(&run, "swift", &place.path("found"), "").ok();
    let (place, run) = mined(&named("left", "right"), "");
    let out = place.path("out");
    export(&run, "swift", &out, "").refuses(&["query texts", "--query-text", "left, right"]);
    export(&run, "swift", &out, "--query-text left").refuses(&["positive texts", "--positive-text"]);
    export(&run, "swift", &out, "--query-text left --positive-text no").refuses(&["column no", "case-sensitive"]);
    let wrong = "--query-text left --positive-text query_embedding";
    export(&run, "swift", &out, wrong).refuses(&["not a column of texts", "query_embedding"]);
    export(&run, "swift", &out, "--query-text left --positive-text right").ok();
    // One column for both sides.
    let data = Dataset { one_column: true, ..Dataset::planted(80, 16, 5) }.with_text("text", |row| Some(query(row)));
    let (place, run) = mined(&data, "");
    export(&run, "swift", &place.path("out"), "").ok();
    let line = &lines(&place.path("out/train.jsonl"))[0];
    assert_eq!(line["messages"][0]["content"], line["positive_messages"][0][0]["content"]);
}

#[test]
fn a_row_without_a_text_is_refused_and_named() {
    let data = Dataset::planted(80, 16, 5).with_text("query", |row| (row != 33).then(|| query(row)));
    let (place, run) = mined(&data.with_text("positive", |row| Some(positive(row))), "");
    export(&run, "swift", &place.path("out"), "").refuses(&["no text", "row 33", "column query"]);
}

#[test]
fn changed_sources_are_refused_and_others_may_stand_in() {
    let data = pairs(120);
    let (place, run) = mined(&data, "");
    export(&run, "tevatron", &place.path("first"), "").ok();
    // The same rows elsewhere, in one file.
    let copy = place.path("copy");
    Dataset { files: 1, ..data.clone() }.write(&copy);
    let source = format!("--source {}", copy.display());
    export(&run, "tevatron", &place.path("second"), &source).ok();
    let read = |name: &str| fs::read(place.path(name).join("train.jsonl")).unwrap();
    assert!(read("first") == read("second"), "the same texts from other files");
    let part = place.input().join("part-1.parquet");
    let changed = Dataset { files: 2, ..pairs(120) }.with_text("more", |_| None);
    changed.write(&place.input());
    export(&run, "tevatron", &place.path("third"), "").refuses(&["has changed", "part-0.parquet", "--source"]);
    fs::remove_file(&part).unwrap();
    export(&run, "tevatron", &place.path("third"), "").refuses(&["is gone", "part-1.parquet"]);
    pairs(119).write(&place.path("fewer"));
    let fewer = format!("--source {}", place.path("fewer").display());
    export(&run, "tevatron", &place.path("third"), &fewer).refuses(&["120 rows", "119 rows"]);
}

#[test]
fn arrays_have_no_texts_but_a_source_has() {
    let data = pairs(120);
    let place = Place::with(&data);
    let values = data.queries.iter().zip(&data.positives).flat_map(|(q, p)| q.iter().chain(p).copied());
    let array = place.path("pairs.npy");
    fs::write(&array, npy(Float::F32, &[120, 2, 16], false, values)).unwrap();
    let run = place.path("run");
    mine(&array, &run, &format!("{MINE} --window 12")).ok();
    export(&run, "swift", &place.path("out"), "").refuses(&[".npy", "--source"]);
    export(&run, "swift", &place.path("out"), &format!("--source {}", array.display())).refuses(&[".npy"]);
    export(&run, "swift", &place.path("out"), &format!("--source {}", place.input().display())).ok();
    assert_told(&place.path("out"), "swift", &expected("swift", &table::read(&run), &place.input(), |_| Vec::new()));
}

#[test]
fn small_budgets_take_more_chunks_and_write_the_same_bytes() {
    let long = |row: usize| Some(format!("{row} {}", "some words ".repeat(200 + row % 500)));
    let data = Dataset { row_group_rows: 64, ..Dataset::planted(1000, 16, 3) };
    let data = data.with_tasks(|row| ["a", "b"][row % 2].into()).with_text("query", long).with_text("positive", long);
    let (place, run) = mined(&data, "--window 30 --remainder drop --hard-negatives 2");
    let least = export(&run, "swift", &place.path("x"), "--memory 1MiB").fails(4, &["--memory"]).stderr;
    let least = least.split("raise --memory to ").nth(1).unwrap().split(',').next().unwrap().to_owned();
    let mib: u64 = least.trim_end_matches("MiB").parse().unwrap();
    // Lines, tables of rows in batch order, and tables in cluster order.
    for format in ["flagembedding", "sentence-transformers", "b3"] {
        let chunks = |name: &str, flags: &str, threads: &str| {
            let out = place.path(&format!("{format}-{name}"));
            let mut command = export_command(&run, format, &out, &format!("--json {flags}"));
            let outcome = Outcome::from(command.env("POLARS_MAX_THREADS", threads).output().unwrap());
            let facts: Value = serde_json::from_str(outcome.ok().stdout.lines().last().unwrap()).unwrap();
            eprintln!("{format} {flags}, {threads} threads: {facts}");
            (facts["chunks"].as_u64().unwrap(), facts["peak_bytes"].as_u64().unwrap(), files(&out))
        };
        let (one, _, large) = chunks("large", "--memory 4GiB", "2");
        let (many, peak, small) = chunks("small", &format!("--memory {least}"), "1");
        assert_eq!(one, 1, "{format}");
        assert!(many > 3, "{format}: {many} chunks");
        assert!(peak <= mib << 20, "{format}: a peak of {peak} bytes in a budget of {least}");
        assert_eq!(large.keys().collect::<Vec<_>>(), small.keys().collect::<Vec<_>>(), "{format}");
        for (name, bytes) in &large {
            assert!(small[name] == *bytes, "{format}: {} differs", name.display());
        }
    }
}

#[test]
fn folders_are_refused_kept_or_replaced() {
    let (place, run) = mined(&pairs(120), "--epochs 2");
    let out = place.path("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("thesis.tex"), "years of work").unwrap();
    export(&run, "swift", &out, "").refuses(&["not an export", "thesis.tex"]);
    export(&run, "swift", &out, "--replace").refuses(&["not an export"]);
    fs::remove_file(out.join("thesis.tex")).unwrap();
    export(&run, "swift", &out, "").ok();
    let made = files(&out);
    let said = export(&run, "swift", &out, "").ok().stderr;
    assert!(said.contains("already"), "{said}");
    export(&run, "swift", &out, "--epoch 1").refuses(&["another export", "epoch: 0 → 1", "--replace"]);
    assert!(files(&out) == made, "a refused export touches nothing");
    export(&run, "b3", &out, "--replace").ok();
    assert!(!out.join("train.jsonl").exists(), "what another format wrote is gone");
    // An interrupted export is written anew.
    fs::remove_file(out.join("_SUCCESS")).unwrap();
    fs::write(out.join("data"), "left over").unwrap();
    export(&run, "swift", &out, "").ok();
    assert!(files(&out) == made);
    // So is one of another version, whose record has other keys.
    let record = out.join("_export.json");
    let text = fs::read_to_string(&record).unwrap().replacen('{', "{\"later\": 1,", 1);
    fs::write(&record, text).unwrap();
    export(&run, "swift", &out, "").refuses(&["another export", "later: 1 → null", "--replace"]);
    export(&run, "swift", &out, "--replace").ok();
    assert!(files(&out) == made);
}

/// An export through a storage of the test's own.
fn export_on(storage: Arc<dyn Storage>, run: &Path, format: Format, out: &Path) -> batchmine::error::Result<()> {
    let settings = ExportSettings {
        format,
        epochs: Epochs::One(0),
        query_text: None,
        positive_text: None,
        document_text: None,
        corpus_source: Vec::new(),
        source: Vec::new(),
        negatives: None,
        memory_bytes: 1 << 30,
        replace: false,
    };
    let run = RunReader::open(run)?;
    batchmine::export::export(&run, &settings, out, storage, &Progress::silent()).map(drop)
}

#[test]
fn an_export_on_a_failing_disk_is_not_finished() {
    let (place, run) = mined(&pairs(120), "");
    for (format, calls) in [(Format::FlagEmbedding, 40), (Format::SentenceTransformers, 10)] {
        let reference = place.path(&format!("{format:?}"));
        let counting = Failing::at(u64::MAX, Blow::Error);
        export_on(Arc::new(counting.clone()), &run, format, &reference).unwrap();
        let all = counting.calls();
        assert!(all > calls, "{all} calls: the export does not write through its storage");
        for blow in [Blow::Error, Blow::Tear, Blow::Kill, Blow::PowerLoss] {
            for at in (0..all).step_by((all as usize).div_ceil(9)) {
                let out = place.path(&format!("{format:?}-{blow:?}-{at}"));
                let storage = Failing::at(at, blow);
                let error = export_on(Arc::new(storage.clone()), &run, format, &out).unwrap_err();
                assert!(error.to_string().contains("says the test"), "{error}");
                if blow == Blow::PowerLoss {
                    storage.lose_unsynced();
                }
                assert!(!out.join("_SUCCESS").exists() || at + 2 >= all, "{blow:?} at {at}: marked as done");
                export_on(Arc::new(Disk), &run, format, &out).unwrap_or_else(|e| panic!("{blow:?} at {at}: {e}"));
                assert!(files(&out) == files(&reference), "{blow:?} at {at}: other bytes");
            }
        }
    }
}

#[test]
fn an_unfinished_run_and_damaged_files_are_errors() {
    let (place, run) = mined(&pairs(200), "");
    export(&place.path("nothing"), "swift", &place.path("out"), "").refuses(&["not a run folder"]);
    let part = &table::parts(&run)[0];
    let whole = fs::read(part).unwrap();
    let mut bytes = whole.clone();
    let middle = bytes.len() / 2;
    bytes[4..middle].fill(0xA5);
    fs::write(part, bytes).unwrap();
    export(&run, "swift", &place.path("out"), "").fails(1, &["remedy:"]);
    fs::write(part, whole).unwrap();
    // Damaged pages of the source, with footer and time unchanged.
    let source = place.input().join("part-0.parquet");
    let time = fs::metadata(&source).unwrap().modified().unwrap();
    let mut bytes = fs::read(&source).unwrap();
    let middle = bytes.len() / 2;
    bytes[4..middle].fill(0xA5);
    fs::write(&source, bytes).unwrap();
    File::options().write(true).open(&source).unwrap().set_modified(time).unwrap();
    export(&run, "swift", &place.path("out"), "").refuses(&["part-0.parquet, column query, row group 0"]);
}

#[test]
fn texts_of_every_string_type_and_column_order_are_read() {
    let place = Place::empty();
    let folder = place.path("input");
    fs::create_dir(&folder).unwrap();
    let data = Dataset { float: Float::F16, ..Dataset::planted(120, 16, 9) };
    let plain = place.path("plain");
    data.with_text("query", |row| Some(query(row))).with_text("positive", |row| Some(positive(row))).write(&plain);
    let rows = parquet(&plain.join("part-0.parquet"));
    for (file, kind) in [DataType::LargeUtf8, DataType::Utf8View, dictionary()].into_iter().enumerate() {
        let slice = rows.slice(file * 40, 40);
        let texts = ["query", "positive"].map(|name| (name, cast(slice.column_by_name(name).unwrap(), &kind).unwrap()));
        let vectors =
            ["query_embedding", "positive_embedding"].map(|name| (name, slice.column_by_name(name).unwrap().clone()));
        let extra: ArrayRef = Arc::new(StringArray::from(vec![format!("only here {file}"); 40]));
        let name = format!("extra{file}");
        let mut columns: Vec<(&str, ArrayRef)> = texts.into_iter().chain(vectors).collect();
        columns.rotate_left(file);
        columns.push((&name, extra));
        let schema =
            Schema::new(columns.iter().map(|(n, c)| Field::new(*n, c.data_type().clone(), true)).collect::<Vec<_>>());
        let schema = Arc::new(schema);
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(17)).build();
        let path = folder.join(format!("part {file} [a]*.parquet"));
        let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), schema.clone(), Some(properties)).unwrap();
        writer.write(&RecordBatch::try_new(schema, columns.into_iter().map(|(_, c)| c).collect()).unwrap()).unwrap();
        writer.close().unwrap();
    }
    let run = place.path("run");
    mine(&folder, &run, &format!("{MINE} --window 12")).ok();
    for format in FORMATS {
        export(&run, format, &place.path(format), "").ok();
        assert_told(&place.path(format), format, &expected(format, &table::read(&run), &folder, |_| Vec::new()));
    }
}

fn dictionary() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

#[test]
fn rows_of_tasks_by_weight_come_as_often_as_in_the_table() {
    let task = |row: usize| if row.is_multiple_of(8) { "small" } else { "large" };
    let data = pairs(400).with_tasks(|row| task(row).into());
    let (place, run) = mined(&data, "--task-temperature 1000 --max-task-repeats 5 --hard-negatives 1");
    let rows = table::read(&run);
    let negatives = |row: &Row| row.negatives.iter().flatten().map(|negative| negative.0).collect();
    for format in ["sentence-transformers", "tevatron", "flagembedding"] {
        let out = place.path(format);
        export(&run, format, &out, "--negatives 0").ok();
        assert_told(&out, format, &expected(format, &rows, &place.input(), |_| Vec::new()));
    }
    // Whole clusters, as often as batches have them.
    let out = place.path("b3");
    export(&run, "b3", &out, "").ok();
    let mut wanted = Vec::new();
    for batch in rows.chunk_by(|a, b| a.batch == b.batch) {
        let clusters: BTreeSet<i64> = batch.iter().filter_map(|row| row.cluster).collect();
        for cluster in clusters {
            let own: Vec<Row> = batch.iter().filter(|row| row.cluster == Some(cluster)).cloned().collect();
            wanted.extend(expected("b3", &own, &place.input(), negatives));
        }
    }
    let mut found = told(&out, "b3", 4);
    found.sort();
    wanted.sort();
    let first = |cluster: &Vec<Told>| cluster[0].0.clone();
    assert!(
        wanted.windows(2).any(|pair| first(&pair[0]) == first(&pair[1])),
        "no cluster comes twice: {} rows, {} clusters",
        rows.len(),
        wanted.len()
    );
    assert_eq!(found, wanted);
}

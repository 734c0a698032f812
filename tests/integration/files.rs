//! Which files are input: the same pairs in every kind of file give the same vectors, and what is no input is named.
//!
//! `fixtures/make_files.py` wrote the files.

use std::fs;
use std::path::{Path, PathBuf};

use super::command::{Outcome, Place, batchmine, call, mine};

const FLAGS: &str = "--batch-size 8 --cluster-size 4 --skip 2 --window 5";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/files")
}

/// The bytes of some files of the vectors stage.
fn vectors(run: &Path, names: &[&str]) -> Vec<Vec<u8>> {
    let read = |name: &&str| fs::read(run.join("vectors").join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    names.iter().map(read).collect()
}

/// Mines each input by task, and asserts that its vectors and tasks are those of `pairs.parquet`, and so are its ids
/// where the rows are in the same order.
#[track_caller]
fn same_as_parquet(inputs: &[PathBuf], same_order: bool) {
    let all = ["queries.vec", "positives.vec", "tasks.col", "ids.col"];
    let names = if same_order { &all[..] } else { &all[..3] };
    let place = Place::empty();
    let flags = format!("{FLAGS} --task-column task");
    mine(&fixtures().join("pairs.parquet"), &place.path("expected"), &flags).ok();
    let expected = vectors(&place.path("expected"), names);
    for (number, input) in inputs.iter().enumerate() {
        let run = place.path(&format!("run{number}"));
        mine(input, &run, &flags).ok();
        assert!(vectors(&run, names) == expected, "{}", input.display());
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &target) } else { fs::copy(&path, &target).map(|_| ()).unwrap() }
    }
}

/// `batchmine plan` of some arguments, in a folder.
fn plan(folder: &Path, arguments: &[&str]) -> Outcome {
    let flags = "--batch-size 8 --cluster-size 4 --skip 2 --window 5";
    batchmine().current_dir(folder).arg("plan").args(arguments).args(flags.split(' ')).output().unwrap().into()
}

#[test]
fn arrow_files_of_every_writer_are_read() {
    let folder = fixtures().join("arrow");
    let mut inputs: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.retain(|path| !path.ends_with("version-1.feather"));
    inputs.sort();
    assert_eq!(inputs.len(), 12);
    same_as_parquet(&inputs, true);
}

#[test]
fn content_decides_and_kinds_mix_but_for_arrays() {
    let place = Place::empty();
    fs::create_dir(place.input()).unwrap();
    let (pairs, stream) = (fixtures().join("pairs.parquet"), fixtures().join("arrow/stream-zstd.arrow"));
    fs::copy(&stream, place.input().join("0.parquet")).unwrap();
    fs::copy(&pairs, place.input().join("1.arrow")).unwrap();
    let said = call(["inspect".as_ref(), place.input().as_os_str()]).ok().said();
    assert!(said.contains("120 rows x 8 dimensions in 2 files"), "{said}");
    fs::copy(fixtures().join("arrays/double-queries.npy"), place.input().join("2.pq")).unwrap();
    plan(&place.input(), &["."]).refuses(&["arrays and tables are mixed", "1 .npy files among 3"]);
}

#[test]
fn damaged_arrow_files_are_refused_with_their_path() {
    let place = Place::empty();
    for name in ["file-plain.arrow", "stream-plain.arrow", "file-lz4.arrow"] {
        let bytes = fs::read(fixtures().join("arrow").join(name)).unwrap();
        let path = place.path(name);
        fs::write(&path, &bytes[..bytes.len() * 2 / 3]).unwrap();
        plan(&place.path("."), &[name]).refuses(&[name, "not a readable Arrow file"]);
    }
    // A compressed buffer that promises more bytes than it can hold.
    let mut bytes = fs::read(fixtures().join("arrow/file-zstd.arrow")).unwrap();
    let frame = bytes.windows(4).position(|window| window == [0x28, 0xb5, 0x2f, 0xfd]).unwrap();
    bytes[frame - 8..frame].copy_from_slice(&(1u64 << 62).to_le_bytes());
    fs::write(place.path("much.arrow"), bytes).unwrap();
    plan(&place.path("."), &["much.arrow"]).refuses(&["much.arrow", "that stand for 4611686018427387904"]);
}

#[test]
fn saved_datasets_are_read_as_their_state_says() {
    let place = Place::empty();
    let saved = fixtures().join("datasets/saved");
    same_as_parquet(&[saved.clone(), fixtures().join("datasets/cache")], true);
    // The state's order is the order, whatever the names are.
    copy(&saved, &place.input());
    fs::rename(place.input().join("data-00000-of-00002.arrow"), place.input().join("z.arrow")).unwrap();
    let state = fs::read_to_string(place.input().join("state.json")).unwrap();
    fs::write(place.input().join("state.json"), state.replace("data-00000-of-00002.arrow", "z.arrow")).unwrap();
    same_as_parquet(&[place.input()], true);
    fs::copy(place.input().join("z.arrow"), place.input().join("stale.arrow")).unwrap();
    same_as_parquet(&[place.input()], true);
    plan(&place.input(), &["*.arrow"]).refuses(&["stale.arrow", "state.json"]);
}

#[test]
fn datasets_that_are_not_their_files_are_refused() {
    let place = Place::empty();
    let folder = fixtures().join("datasets");
    plan(&folder, &["saved-shuffled"]).refuses(&["mapping of indices", "flatten_indices()"]);
    plan(&folder, &["saved-shuffled/*.arrow"]).refuses(&["mapping of indices", "flatten_indices()"]);
    plan(&folder, &["saved-splits"]).refuses(&["DatasetDict", "train, test", "saved-splits/train"]);
    copy(&folder.join("cache"), &place.input());
    let part = place.input().join("pairs-train-00001-of-00002.arrow");
    fs::rename(part, place.input().join("pairs-test.arrow")).unwrap();
    plan(&place.path("."), &["input"]).refuses(&["several splits", "pairs-test*.arrow, pairs-train*.arrow"]);
}

#[test]
fn hive_folders_give_columns() {
    let folder = fixtures().join("hive");
    let place = Place::empty();
    let glob = folder.join("hive-pyarrow/*/*.parquet");
    same_as_parquet(&[folder.join("hive-pyarrow"), folder.join("hive-duckdb"), glob], false);
    // A column of the file wins.
    copy(&folder.join("hive-pyarrow"), &place.path("year=2024/pairs"));
    fs::create_dir(place.path("year=2024/task=other")).unwrap();
    fs::copy(fixtures().join("pairs.parquet"), place.path("year=2024/task=other/pairs.parquet")).unwrap();
    same_as_parquet(&[place.path("year=2024/task=other"), place.path("year=2024/pairs")], false);
    let key = ["year=2024/pairs", "--key-column", "year"];
    plan(&place.path("."), &key).refuses(&["of them have `year` \"2024\""]);
    let said = call(["inspect".as_ref(), folder.join("hive-pyarrow").as_os_str()]).ok().said();
    assert!(said.contains("of the path; may be task or key"), "{said}");
}

#[test]
fn hive_nulls_are_nulls() {
    let folder = fixtures().join("hive");
    plan(&folder, &["hive-null"]).ok();
    let place = Place::empty();
    mine(&folder.join("hive-null"), &place.path("run"), &format!("{FLAGS} --task-column task")).refuses(&[
        "__HIVE_DEFAULT_PARTITION__",
        "column task",
        "of 60 rows 30 are null",
    ]);
    let said = mine(&folder.join("hive-null"), &place.path("keys"), &format!("{FLAGS} --key-column task")).said();
    assert!(said.contains("30 of 60 rows have no key: 30 null"), "{said}");
}

#[test]
fn hive_columns_are_labels_and_nothing_else() {
    let place = Place::empty();
    let folder = place.path("id=7/embedding=minilm/query_embedding=x");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(fixtures().join("pairs.parquet"), folder.join("pairs.parquet")).unwrap();
    plan(&folder, &["pairs.parquet"]).ok();
    let said = call(["inspect".as_ref(), place.path("id=7").as_os_str()]).ok().said();
    assert!(said.contains("query query_embedding, positive positive_embedding, id id"), "{said}");
    fs::write(place.path("id=7/beside.parquet"), "x").unwrap();
    plan(&place.path("."), &["id=7"]).refuses(&["files beside Hive folders", "id=7/**/*.parquet"]);
}

#[test]
fn folders_of_folders_name_the_glob() {
    let place = Place::empty();
    for name in ["train/a", "test/b", "train/_temporary", "train/.ipynb_checkpoints", "[x]*"] {
        fs::create_dir_all(place.path("data").join(name)).unwrap();
        fs::copy(fixtures().join("pairs.parquet"), place.path("data").join(name).join("0.parquet")).unwrap();
    }
    plan(&place.path("."), &["data/train"]).refuses(&["subfolders only", "data/train/**/*.parquet"]);
    let said = plan(&place.path("."), &["data/train/**/*.parquet"]).ok().said();
    assert!(said.contains("60 "), "{said}");
    plan(&place.path("."), &["data/[x]*"]).ok();
    plan(&place.path("."), &["data/[x]*/*.parquet"]).ok();
    plan(&place.path("."), &["data/[x]*/0.parquet"]).ok();
    plan(&place.path("."), &["data/*"]).refuses(&["folders and no file", "data/*/*.parquet"]);
    plan(&place.path("."), &["data/nothing/*.parquet"]).refuses(&["no match"]);
    plan(&place.path("."), &["ftp://host/*.parquet"]).refuses(&["the scheme ftp", "copy the files to a local disk"]);
    #[cfg(not(feature = "lake"))]
    plan(&place.path("."), &["s3://bucket/*.parquet"]).refuses(&["a URL", "--features lake"]);
}

/// A folder with files of no content.
fn table_folder(folder: &Path, files: &[&str]) {
    for file in files {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(fixtures().join("pairs.parquet"), path).unwrap();
    }
}

#[test]
fn tables_are_named_for_what_they_are() {
    let place = Place::empty();
    table_folder(&place.path("iceberg"), &["data/0.parquet", "metadata/v1.metadata.json"]);
    table_folder(&place.path("hudi"), &["0.parquet", ".hoodie/hoodie.properties"]);
    table_folder(&place.path("x.lance"), &["data/0.lance", "_versions/1.manifest"]);
    for (name, words) in [
        ("iceberg", ["an Iceberg table", "StaticTable.from_metadata"]),
        ("hudi", ["a Hudi table", "format('hudi')"]),
        ("x.lance", ["a Lance data set", "lance.dataset("]),
    ] {
        plan(&place.path("."), &[name]).refuses(&words);
    }
    plan(&place.path("."), &["iceberg/data"]).refuses(&["the folder of an Iceberg table"]);
    plan(&place.path("."), &["hudi/*.parquet"]).refuses(&["the folder of a Hudi table"]);
    plan(&place.path("iceberg/data"), &["0.parquet"]).refuses(&["the folder of an Iceberg table"]);
}

/// A Delta table in which one of three files is not live any more.
fn delta(folder: &Path, property: &str) {
    table_folder(folder, &["task=fonts/0.parquet", "task=web/1.parquet", "task=web/gone.parquet"]);
    let field = |name: &str, kind: &str| {
        format!(r#"{{\"name\":\"{name}\",\"type\":\"{kind}\",\"nullable\":true,\"metadata\":{{}}}}"#)
    };
    let fields = [field("id", "long"), field("site", "string")].join(",");
    let schema = format!(r#"{{\"type\":\"struct\",\"fields\":[{fields}]}}"#);
    let rest = format!(r#""partitionColumns":["site"],"configuration":{{{property}}},"createdTime":0"#);
    let format = r#""format":{"provider":"parquet","options":{}}"#;
    let add = |file: &str, site: &str| {
        let what = r#""size":6807,"modificationTime":0,"dataChange":true"#;
        format!(r#"{{"add":{{"path":"{file}","partitionValues":{{"site":"{site}"}},{what}}}}}"#)
    };
    let first = [
        r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}"#.to_owned(),
        format!(r#"{{"metaData":{{"id":"x",{format},"schemaString":"{schema}",{rest}}}}}"#),
        add("task=fonts/0.parquet", "a"),
        add("task=web/gone.parquet", "b"),
    ];
    let second = [
        r#"{"remove":{"path":"task=web/gone.parquet","deletionTimestamp":0,"dataChange":true}}"#.to_owned(),
        add("task=web/1.parquet", "c"),
    ];
    let log = folder.join("_delta_log");
    fs::create_dir(&log).unwrap();
    fs::write(log.join("00000000000000000000.json"), first.join("\n")).unwrap();
    fs::write(log.join("00000000000000000001.json"), second.join("\n")).unwrap();
}

#[test]
fn a_delta_table_is_read_by_its_log_or_refused() {
    let place = Place::empty();
    delta(&place.path("table"), "");
    plan(&place.path("."), &["table/**/*.parquet"]).refuses(&["name the table's folder", "table"]);
    plan(&place.path("."), &["table/task=web"]).refuses(&["name the table's folder", "table"]);
    if !cfg!(feature = "lake") {
        plan(&place.path("."), &["table"]).refuses(&["a Delta table", "--features lake", "to_pyarrow_table()"]);
        return;
    }
    let said = call(["inspect".as_ref(), place.path("table").as_os_str()]).ok().said();
    assert!(said.contains("120 rows") && said.contains("site") && !said.contains("gone.parquet"), "{said}");
    // The log's columns count, and not the folders' names.
    let columns = format!("{FLAGS} --id-column id --task-column");
    mine(&place.path("table"), &place.path("run"), &format!("{columns} site")).refuses(&["id"]);
    plan(&place.path("."), &["table", "--task-column", "site"]).ok();
    delta(&place.path("mapped"), r#""delta.columnMapping.mode":"name""#);
    plan(&place.path("."), &["mapped"]).refuses(&["mapped", "to_pyarrow_table()"]);
    fs::remove_file(place.path("table/task=web/1.parquet")).unwrap();
    plan(&place.path("."), &["table"]).refuses(&["1.parquet, which the log lists"]);
}

#[test]
fn what_is_no_input_is_named() {
    let folder = fixtures().join("foreign");
    for (name, what, remedy) in [
        ("archive.npz", "a .npz archive", "np.load('archive.npz')"),
        ("tensors.safetensors", "a safetensors file", "load_file('tensors.safetensors')"),
        ("pickled.pkl", "a Python pickle", "pickle.load(open('pickled.pkl', 'rb'))"),
        ("table.csv", "a CSV file", "pd.read_csv('table.csv')"),
        ("table.tsv", "a TSV file", "pd.read_csv('table.tsv', sep='\\t')"),
        ("lines.jsonl", "a file of JSON lines", "pd.read_json('lines.jsonl', lines=True)"),
        ("table.json", "a JSON file", "pd.read_json('table.json')"),
        ("lines.jsonl.gz", "a gzip-compressed file", "gunzip -k 'lines.jsonl.gz'"),
        ("table.orc", "an ORC file", "read_table('table.orc')"),
        ("table.avro", "an Avro file", "read_avro('table.avro')"),
        ("base.sqlite", "an SQLite database", "sqlite3.connect('base.sqlite')"),
        ("pointer.parquet", "a Git LFS pointer", "git lfs pull"),
        ("page.parquet", "an HTML page", "/resolve/"),
        ("encrypted.parquet", "an encrypted Parquet file", "decryption_properties"),
        ("empty.parquet", "an empty file", "again"),
        ("../arrow/version-1.feather", "a Feather file of version 1", "feather.read_table("),
    ] {
        plan(&folder, &[name]).refuses(&[name, what, remedy]);
    }
    plan(&folder, &["."]).refuses(&["empty.parquet", "an empty file"]);
    let place = Place::empty();
    fs::create_dir(place.input()).unwrap();
    for (from, to) in [("table.csv", "a.csv"), ("table.csv", "b.csv"), ("table.json", "table.json")] {
        fs::copy(folder.join(from), place.input().join(to)).unwrap();
    }
    plan(&place.path("."), &["input"]).refuses(&[
        "holds no embedding shards",
        "2 files like a CSV file",
        "pd.read_csv(",
    ]);
}

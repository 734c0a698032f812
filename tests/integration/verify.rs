//! `verify` finds what was changed behind the run's back.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float32Array, RecordBatch, UInt32Array};
use arrow::compute::take;
use batchmine::run::Stage;
use batchmine::run::{Manifest, PartRecord};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::command::{Place, files, mine, verify};
use super::dataset::Dataset;
use super::table;

/// A finished run with tasks, string ids and keys.
fn finished() -> (Place, PathBuf) {
    let data = Dataset::planted(240, 24, 61)
        .with_text_ids()
        .with_tasks(|row| ["a", "b"][row % 2].into())
        .with_key(|row| (row < 20).then(|| format!("{}", row / 4)));
    let place = Place::with(&data);
    let run = place.path("run");
    let flags = "--task-column task --key-column key0 --skip 3 --window 12 --cluster-size 4 --batch-size 16";
    mine(&place.input(), &run, flags).ok();
    (place, run)
}

#[test]
fn an_untouched_run_is_sound() {
    let (_place, run) = finished();
    let outcome = verify(&run).ok();
    for word in ["checksums", "clusters", "batches", "brute force"] {
        assert!(outcome.stdout.contains(word), "nothing about {word}:\n{}", outcome.stdout);
    }
}

#[test]
fn every_flipped_byte_is_found_and_its_file_named() {
    let (_place, run) = finished();
    for (name, bytes) in files(&run, &["vectors", "neighbors", "edges", "clusters", "batches"]) {
        let path = run.join(&name);
        let file = path.file_name().unwrap().to_str().unwrap();
        // Magic, version, fields, payload, checksum, end.
        let length = bytes.len();
        for at in [0, 9, 17, length / 3, length / 2, length - 30, length - 12, length - 1] {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            fs::write(&path, flipped).unwrap();
            let outcome = verify(&run);
            assert_eq!(outcome.code, Some(3), "byte {at} of {name}, of {length}:\n{}", outcome.said());
            outcome.fails(3, &[file]);
        }
        fs::write(&path, bytes).unwrap();
    }
    verify(&run).ok();
}

#[test]
fn missing_cut_and_longer_parts_are_found() {
    let (_place, run) = finished();
    for (name, bytes) in files(&run, &["vectors", "neighbors", "edges", "clusters", "batches"]) {
        let path = run.join(&name);
        let file = path.file_name().unwrap().to_str().unwrap();
        let found = |kind: &str| {
            let outcome = verify(&run);
            assert_eq!(outcome.code, Some(3), "{name} is {kind}:\n{}", outcome.said());
            outcome.fails(3, &[file]);
        };
        fs::remove_file(&path).unwrap();
        found("missing");
        fs::write(&path, &bytes[..bytes.len() - 8]).unwrap();
        found("cut");
        fs::write(&path, [&bytes[..], b"more"].concat()).unwrap();
        found("longer");
        fs::write(&path, bytes).unwrap();
    }
    verify(&run).ok();
}

#[test]
fn a_damaged_manifest_is_no_sound_run() {
    let (_place, run) = finished();
    let path = run.join("manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    for changed in [text.replacen("true", "false", 1), text[..text.len() / 2].to_owned(), String::new()] {
        fs::write(&path, changed).unwrap();
        let outcome = verify(&run);
        assert!(matches!(outcome.code, Some(1 | 3)), "{}", outcome.said());
        outcome.said().find("manifest").expect("the manifest is named");
    }
}

#[test]
fn an_unfinished_run_is_not_called_sound() {
    let (_place, run) = finished();
    fs::remove_file(run.join("_SUCCESS")).unwrap();
    let path = run.join("manifest.json");
    let mut manifest = Manifest::read(&path).unwrap().unwrap();
    manifest.stages.get_mut(&Stage::Batches).unwrap().complete = false;
    fs::write(&path, manifest.to_bytes()).unwrap();
    assert_ne!(verify(&run).code, Some(0));
}

/// Changes the manifest at a JSON pointer, and gives it a checksum that fits.
fn claim(run: &Path, at: &str, value: Value) {
    let path = run.join("manifest.json");
    let mut text: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    *text.pointer_mut(at).unwrap_or_else(|| panic!("no {at}")) = value;
    let manifest: Manifest = serde_json::from_value(text).unwrap();
    fs::write(&path, manifest.to_bytes()).unwrap();
}

#[test]
fn counts_and_settings_that_are_not_the_runs_are_found() {
    let (_place, run) = finished();
    let path = run.join("manifest.json");
    let sound = fs::read(&path).unwrap();
    let counts = [
        ("vectors/facts/rows", "rows of vectors"),
        ("vectors/facts/dim", "dimensions"),
        ("vectors/facts/tasks", "tasks"),
        ("edges/facts/rows", "rows of the graph"),
        ("edges/facts/arcs", "arcs"),
        ("clusters/facts/clusters", "clusters"),
        ("clusters/facts/unplaced", "rows in no cluster"),
        ("batches/facts/batches", "batches"),
    ];
    for (at, word) in counts {
        let at = format!("/stages/{at}");
        let old = serde_json::from_slice::<Value>(&sound).unwrap().pointer(&at).unwrap().as_u64().unwrap();
        claim(&run, &at, (old + 1).into());
        verify(&run).fails(3, &[word, &format!("where the manifest counts {}", old + 1)]);
        fs::write(&path, &sound).unwrap();
    }
    let settings = [
        ("vectors/settings/metric", "dot"),
        ("neighbors/settings/skip + window", "16"),
        ("batches/settings/seed", "7"),
        ("vectors/fingerprint", "\"0123456789abcdef\""),
    ];
    for (at, value) in settings {
        let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        claim(&run, &format!("/stages/{at}"), value);
        verify(&run).fails(1, &["manifest.json", "fingerprint"]);
        fs::write(&path, &sound).unwrap();
    }
    // All fingerprints are made anew, too: the batch table has others.
    let mut manifest = Manifest::read(&path).unwrap().unwrap();
    let before = manifest.stages[&Stage::Clusters].fingerprint.clone();
    let record = manifest.stages.get_mut(&Stage::Batches).unwrap();
    record.settings["seed"] = 7.into();
    record.fingerprint = format!("{:016x}", xxh3_64(format!("{before}\n{}", record.settings).as_bytes()));
    fs::write(&path, manifest.to_bytes()).unwrap();
    verify(&run).fails(3, &["part-00000-00000.parquet", "batchmine.settings"]);
    fs::write(&path, &sound).unwrap();
    verify(&run).ok();
}

/// Records a part anew after it was changed, so that no checksum tells.
pub fn record(run: &Path, stage: Stage, part: &Path) {
    let path = run.join("manifest.json");
    let mut manifest = Manifest::read(&path).unwrap().unwrap();
    let bytes = fs::read(part).unwrap();
    let sealed = bytes.ends_with(b"BMBLOCKS");
    let hash = if sealed { u64_at(&bytes, bytes.len() - 16) } else { xxh3_64(&block_hashes(&bytes)) };
    let name = part.file_name().unwrap().to_str().unwrap().to_owned();
    let record = PartRecord { bytes: bytes.len() as u64, xxh3: format!("{hash:016x}") };
    manifest.stages.get_mut(&stage).unwrap().parts.insert(name, record);
    fs::write(&path, manifest.to_bytes()).unwrap();
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The payload of a file of a run, without its header, the hashes of its blocks, and its footer.
pub fn payload(bytes: &[u8]) -> &[u8] {
    let footer = bytes.len() - 24;
    let end = (0..footer).rfind(|end| end + 8 * end.div_ceil(64 << 10) == footer).unwrap();
    &bytes[64..end]
}

/// The hashes of blocks of 64 KiB.
fn block_hashes(bytes: &[u8]) -> Vec<u8> {
    bytes.chunks(64 << 10).flat_map(|block| xxh3_64(block).to_le_bytes()).collect()
}

/// Changes a part before the hashes of its blocks and its footer of 24 bytes, so that no hash tells.
fn reseal(run: &Path, stage: Stage, path: &Path, change: impl FnOnce(&mut [u8])) {
    let mut bytes = fs::read(path).unwrap();
    let (footer, end) = (bytes.len() - 24, 64 + payload(&bytes).len());
    change(&mut bytes[..end]);
    let hashes = block_hashes(&bytes[..end]);
    bytes[footer + 8..footer + 16].copy_from_slice(&xxh3_64(&hashes).to_le_bytes());
    bytes[end..footer].copy_from_slice(&hashes);
    fs::write(path, bytes).unwrap();
    record(run, stage, path);
}

/// Rewrites the batch table by `change`, which gets its columns by name.
pub fn forge(run: &Path, change: impl FnOnce(&mut BTreeMap<String, ArrayRef>)) {
    let part = table::parts(run).remove(0);
    let (rows, footer) = table::load(&part);
    let names: Vec<String> = rows.schema().fields().iter().map(|field| field.name().clone()).collect();
    let mut columns: BTreeMap<String, ArrayRef> = names.iter().cloned().zip(rows.columns().iter().cloned()).collect();
    change(&mut columns);
    let changed = names.iter().map(|name| columns[name].clone()).collect();
    table::store(&part, &RecordBatch::try_new(rows.schema(), changed).unwrap(), &footer);
    record(run, Stage::Batches, &part);
}

/// Puts into each place what stands in another, all but the place itself.
pub fn put(columns: &mut BTreeMap<String, ArrayRef>, from_to: &[(usize, usize)]) {
    let mut order: Vec<u32> = (0..columns["row"].len() as u32).collect();
    for (from, to) in from_to {
        order[*to] = *from as u32;
    }
    let order = UInt32Array::from(order);
    for (name, column) in columns {
        if !["epoch", "batch_id", "position"].contains(&name.as_str()) {
            *column = take(column, &order, None).unwrap();
        }
    }
}

/// Two places of the table whose rows fulfil `wanted`.
pub fn places(run: &Path, wanted: impl Fn(&table::Row, &table::Row) -> bool) -> (usize, usize) {
    let table = table::read(run);
    let pairs = (0..table.len()).flat_map(|a| (0..table.len()).map(move |b| (a, b)));
    let mut found = pairs.filter(|(a, b)| wanted(&table[*a], &table[*b]));
    found.next().expect("there are two such rows")
}

#[test]
fn a_table_that_is_merely_written_again_is_sound() {
    // What the forgeries below rest on: the rewriting itself is no fault.
    let (_place, run) = finished();
    forge(&run, |_| ());
    verify(&run).ok();
}

#[test]
fn rows_swapped_between_batches_are_found() {
    let (_place, run) = finished();
    // Of clusters that are whole: rows of divided ones and rows without one may be in any batch.
    let mut found = std::collections::BTreeMap::<_, usize>::new();
    table::read(&run).iter().for_each(|row| *found.entry((row.batch, row.cluster)).or_default() += 1);
    let whole = |row: &table::Row| row.cluster.is_some() && found[&(row.batch, row.cluster)] == 4;
    let (a, b) = places(&run, |a, b| a.batch != b.batch && a.task == b.task && whole(a) && whole(b));
    forge(&run, |columns| put(columns, &[(a, b), (b, a)]));
    verify(&run).fails(3, &["2 clusters are divided, where the manifest counts 0"]);
}

#[test]
fn rows_swapped_between_tasks_are_found() {
    let (_place, run) = finished();
    let (a, b) = places(&run, |a, b| a.task != b.task);
    forge(&run, |columns| put(columns, &[(a, b), (b, a)]));
    verify(&run).fails(3, &["task"]);
}

#[test]
fn a_row_in_the_place_of_another_is_found() {
    let (_place, run) = finished();
    let (a, b) = places(&run, |a, b| a.batch != b.batch && a.task == b.task);
    forge(&run, |columns| put(columns, &[(a, b)]));
    verify(&run).fails(3, &["row"]);
}

#[test]
fn an_id_of_another_row_is_found() {
    let (_place, run) = finished();
    let (a, b) = places(&run, |a, b| a.batch != b.batch);
    forge(&run, |columns| {
        let mut ids =
            BTreeMap::from([("id".to_owned(), columns["id"].clone()), ("row".to_owned(), columns["row"].clone())]);
        put(&mut ids, &[(a, b), (b, a)]);
        columns.insert("id".into(), ids["id"].clone());
    });
    verify(&run).fails(3, &["row"]);
}

#[test]
fn a_score_that_is_not_the_rows_is_found() {
    let (_place, run) = finished();
    let mut scores: Vec<f32> = table::read(&run).iter().map(|row| row.score).collect();
    scores[17] += 0.25;
    forge(&run, |columns| {
        columns.insert("score".into(), Arc::new(Float32Array::from(scores)));
    });
    verify(&run).fails(3, &["row"]);
}

#[test]
fn two_rows_of_one_key_in_a_batch_are_found() {
    // Rows 0..4 share a key, so they stand in four batches: bring two of them together.
    let (_place, run) = finished();
    let table = table::read(&run);
    let place = |row: usize| table.iter().position(|found| found.row == row).unwrap();
    let (first, second) = (place(0), place(2));
    assert_ne!(table[first].batch, table[second].batch);
    let victim = (0..table.len()).find(|at| *at != first && table[*at].batch == table[first].batch).unwrap();
    forge(&run, |columns| put(columns, &[(second, victim), (victim, second)]));
    verify(&run).fails(3, &["key"]);
}

#[test]
fn neighbours_that_no_search_found_are_found() {
    let (_place, run) = finished();
    for (name, _) in files(&run, &["neighbors"]) {
        // Behind the header of 64 bytes, all low bits are turned over.
        let flip = |bytes: &mut [u8]| bytes[64..].iter_mut().for_each(|byte| *byte ^= 1);
        reseal(&run, Stage::Neighbors, &run.join(&name), flip);
    }
    verify(&run).fails(3, &["FAULT"]);
}

#[test]
fn vectors_that_are_out_of_range_are_found_though_their_checksum_fits() {
    let (_place, run) = finished();
    // Bytes a value; the first input row; where the first task's rows start.
    for (name, at, bytes) in [("queries.vec", 32, &[3][..]), ("rows.col", 64, &[0xff; 4]), ("tasks.col", 64, &[1])] {
        let path = run.join("vectors").join(name);
        let sound = fs::read(&path).unwrap();
        reseal(&run, Stage::Vectors, &path, |content| content[at..][..bytes.len()].copy_from_slice(bytes));
        verify(&run).fails(3, &[name, "remedy:"]);
        fs::write(&path, sound).unwrap();
        record(&run, Stage::Vectors, &path);
    }
    verify(&run).ok();
}

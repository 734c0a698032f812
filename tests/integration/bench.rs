//! `bench`: its table and its record agree, baselines name what got slower, and what cannot be measured is refused.
//! `gen --spectrum`: the same bytes for one seed, and data of their own.

use std::path::Path;

use serde_json::{Value, json};

use super::command::{Outcome, Place, batchmine, call};
use super::dataset::Dataset;

const STAGES: [&str; 5] = ["vectors", "neighbors", "edges", "clusters", "batches"];

/// A bench of little data; files are made in `place`.
fn bench(place: &Place, flags: &str) -> Outcome {
    let mut command = batchmine();
    command.arg("bench").args(flags.split_whitespace()).arg("--work").arg(place.path(""));
    command.current_dir(place.path(""));
    if !flags.contains("--show") {
        command.args(["--threads", "2", "--memory", "512MiB"]);
    }
    command.output().unwrap().into()
}

fn record(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn names(place: &Place) -> Vec<String> {
    let entries = std::fs::read_dir(place.path("")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The table's line of this name.
fn line<'t>(table: &'t str, name: &str) -> &'t str {
    let found = table.lines().find(|line| line.trim_start().starts_with(&format!("{name} ")));
    found.unwrap_or_else(|| panic!("no line {name} in:\n{table}"))
}

/// A number as the table shows it: three significant digits.
fn shown(value: &Value) -> String {
    let value = value.as_f64().unwrap_or_else(|| panic!("{value} is no number"));
    match value {
        value if value >= 1000.0 => {
            let digits = format!("{value:.0}");
            let groups: Vec<&str> =
                digits.as_bytes().rchunks(3).rev().map(|g| std::str::from_utf8(g).unwrap()).collect();
            groups.join(",")
        }
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 0.1 => format!("{value:.2}"),
        value if value >= 0.001 => format!("{value:.4}"),
        value => format!("{value:.1e}"),
    }
}

#[test]
fn the_table_and_the_record_are_of_one_bench_and_baselines_name_what_got_slower() {
    let place = Place::empty();
    let out = place.path("new.json");
    let measured = bench(&place, "--rows 2000 --dim 64 --k 40 --out new.json").ok();
    assert_eq!(names(&place), ["new.json"], "nothing but the record is left");
    let new = record(&out);
    assert_eq!(new["format"], 1);
    assert_eq!((&new["settings"]["rows"], &new["settings"]["dim"]), (&json!(2000), &json!(64)));
    assert_eq!((&new["settings"]["k"], &new["settings"]["skip"]), (&json!(40), &json!(10)));
    assert_eq!((&new["settings"]["threads"], &new["settings"]["memory_bytes"]), (&json!(2), &json!(512 << 20)));
    agrees(&measured.stdout, &new);

    // The record is shown as it was measured, as a table and as JSON.
    let show = |flags: &str| bench(&place, &format!("--show {} {flags}", out.display())).ok();
    assert_eq!(show("").stdout, measured.stdout);
    assert_eq!(serde_json::from_str::<Value>(&show("--json").stdout).unwrap(), new);

    let same = show(&format!("--baseline {}", out.display())).stdout;
    assert!(same.contains("baseline: nothing is slower than the noise"), "{same}");
    assert!(!same.contains("another machine") && !same.contains("other settings"), "{same}");

    // Against a record ten times as fast everything is slower, and against a slow one nothing is.
    let old = place.path("old.json");
    let doctored = |times: f64, edit: &dyn Fn(&mut Value)| {
        let mut doctored = faster(&new, times);
        edit(&mut doctored);
        std::fs::write(&old, doctored.to_string()).unwrap();
        show(&format!("--baseline {}", old.display())).stdout
    };
    let said = doctored(100.0, &|_| {});
    let slower = said.split("baseline: slower than the noise\n").nth(1).unwrap_or_else(|| panic!("{said}"));
    for name in ["memory read", "disk write", "search int8", "neighbors", "whole job"] {
        assert!(slower.lines().any(|line| line.starts_with(&format!("  {name}:"))), "no {name} in:\n{slower}");
    }
    assert!(doctored(0.01, &|_| {}).contains("nothing is slower"));
    let said = doctored(1.0, &|old| old["machine"]["cpu"] = json!("another CPU"));
    assert!(said.contains("another machine") && said.contains("cpu: \"another CPU\""), "{said}");
    let said = doctored(100.0, &|old| old["settings"]["rows"] = json!(4000));
    assert!(said.contains("rows: 4000 → 2000") && !said.contains("  neighbors:"), "{said}");

    // What is no record is refused, before anything is measured.
    for (edit, words) in
        [(json!({"format": 2}), ["format 2", "--out FILE"]), (json!({"format": 1}), ["batchmine", "is no record"])]
    {
        std::fs::write(&old, edit.to_string()).unwrap();
        bench(&place, &format!("--rows 2000 --dim 64 --baseline {}", old.display())).refuses(&words);
        bench(&place, &format!("--show {}", old.display())).refuses(&words);
    }
    let taken = bench(&place, &format!("--rows 2000 --dim 64 --out {}", out.display()));
    taken.refuses(&["new.json", "something of this name"]);
}

/// Each figure of the record is in the table.
#[track_caller]
fn agrees(table: &str, record: &Value) {
    for stage in record["stages"].as_array().unwrap() {
        let name = stage["stage"].as_str().unwrap();
        let line = line(table, name);
        for figure in [&stage["seconds"]["median"], &stage["rows_per_second"], &stage["written_gb_per_second"]] {
            assert!(line.contains(&shown(figure)), "no {} in: {line}", shown(figure));
        }
        for name in ["gop_per_second", "arcs_per_second", "bytes_per_arc", "read_gb_per_second"] {
            assert!(stage[name].is_null() || line.contains(&shown(&stage[name])), "no {name} in: {line}");
        }
        assert!(stage["seconds"]["values"].as_array().unwrap().len() == 2, "{stage}");
        assert!(stage["peak_bytes"].as_u64().unwrap() > 1 << 20, "{stage}");
        if let Some(ceiling) = stage["of_ceiling"]["ceiling"].as_str() {
            assert!(line.contains(&format!(" of {ceiling}")), "no {ceiling} in: {line}");
        }
    }
    let stages: Vec<&str> = record["stages"].as_array().unwrap().iter().map(|s| s["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, STAGES);
    let gop = |name: &str| record["stages"][STAGES.iter().position(|stage| *stage == name).unwrap()].clone();
    let neighbors = gop("neighbors");
    let seconds = neighbors["seconds"]["median"].as_f64().unwrap();
    let gops = neighbors["gop_per_second"].as_f64().unwrap();
    let operations = 2.0 * 2000.0 * 2000.0 * 64.0;
    assert!((gops * seconds * 1e9 / operations - 1.0).abs() < 1e-6, "{gops} GOP/s in {seconds} s");
    let share = neighbors["of_ceiling"]["percent"].as_f64().unwrap();
    assert!(neighbors["of_ceiling"]["ceiling"].as_str().unwrap().starts_with("int8 ") && share > 0.0);
    for ceiling in record["ceilings"].as_array().unwrap() {
        let line = line(table, ceiling["name"].as_str().unwrap());
        assert!(line.contains(&shown(&ceiling["rate"]["median"])), "{ceiling} is not in: {line}");
        assert!(line.contains(ceiling["unit"].as_str().unwrap()), "{ceiling} is not in: {line}");
    }
    for name in
        ["f32 ", "int8 ", "search int8", "search bf16", "search f32", "memory read", "memory copy", "disk write"]
    {
        let ceilings = record["ceilings"].as_array().unwrap();
        assert!(ceilings.iter().any(|c| c["name"].as_str().unwrap().starts_with(name)), "no ceiling {name}");
    }
    let whole = line(table, "whole");
    assert!(whole.contains(&shown(&record["whole"]["seconds"]["median"])), "{whole}");
}

/// The record as if everything had been so many times as fast.
fn faster(record: &Value, times: f64) -> Value {
    let mut faster = record.clone();
    let scale = |figure: &mut Value, by: f64| {
        let scaled = |value: &Value| json!(value.as_f64().unwrap() * by);
        let values: Vec<Value> = figure["values"].as_array().unwrap().iter().map(scaled).collect();
        figure["values"] = json!(values);
        figure["median"] = scaled(&figure["median"]);
    };
    for ceiling in faster["ceilings"].as_array_mut().unwrap() {
        scale(&mut ceiling["rate"], times);
    }
    for stage in faster["stages"].as_array_mut().unwrap() {
        scale(&mut stage["seconds"], times.recip());
    }
    scale(&mut faster["whole"]["seconds"], times.recip());
    faster
}

#[test]
fn own_data_are_measured_with_settings_of_their_own() {
    let data = Dataset::planted(300, 16, 1);
    let place = Place::with(&data);
    let flags = format!(
        "{} --repeats 1 --json --skip 2 --window 8 --cluster-size 4 --batch-size 16 --precision f32",
        place.input().display()
    );
    let found: Value = serde_json::from_str(&bench(&place, &flags).ok().stdout).unwrap();
    assert!(found["settings"]["data"].as_str().unwrap().starts_with("own, "), "{found}");
    assert_eq!(found["settings"]["precision"], "f32");
    assert_eq!(found["stages"][1]["seconds"]["spread"], Value::Null, "one job has no spread");
    assert_eq!(found["stages"].as_array().unwrap().len(), 5);
    assert_eq!(names(&place), ["input"]);
}

#[test]
fn what_cannot_be_measured_is_refused_and_nothing_is_left() {
    let place = Place::empty();
    let refused = |flags: &str, words: &[&str]| {
        bench(&place, flags).refuses(words);
        assert!(names(&place).is_empty(), "{flags}: {:?}", names(&place));
    };
    refused("--rows 2000 --k 10", &["--k above --skip (10)"]);
    refused("--rows 2000 --dim 8 --cluster-size 3 --batch-size 16", &["--cluster-size"]);
    refused("--rows 2000 --dim 8 --table parquet --table-out x", &["publishes no table"]);
    refused("--rows 2000 --query-file a.npy --positive-file b.npy", &["planted data have a shape"]);
    refused("--rows 5 --dim 8", &["--skip + 1"]);
    refused("--baseline none.json", &["none.json", "no record"]);
    refused("--out none/record.json", &["no such folder"]);
    refused("none.parquet", &["none.parquet"]);
    for words in ["--rows 0", "--dim 0", "--repeats 0", "--rows 9 input"] {
        bench(&place, words).fails(2, &["error"]);
    }
    let work = place.path("none");
    let outcome = call(["bench", "--rows", "2000", "--work", work.to_str().unwrap()]);
    outcome.refuses(&["the folder for measuring is not there"]);
    assert!(!work.exists());
}

#[test]
#[cfg(unix)]
fn an_interrupted_bench_leaves_nothing() {
    use std::process::Stdio;
    let place = Place::empty();
    // Far more rows than could be measured before the signal.
    let mut command = batchmine();
    command.args(["bench", "--rows", "3000000", "--dim", "384", "--threads", "2", "--work"]).arg(place.path(""));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begin = std::time::Instant::now();
    while !names(&place).iter().any(|name| place.path(name).join("data").exists()) {
        assert!(begin.elapsed().as_secs() < 60, "no data were begun");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let outcome: Outcome = child.wait_with_output().unwrap().into();
    outcome.fails(130, &["the bench was stopped"]);
    assert!(names(&place).is_empty(), "{:?}", names(&place));
}

#[test]
fn a_falling_spectrum_is_the_same_for_one_seed_and_a_folder_of_another_is_refused() {
    let place = Place::empty();
    let generate = |name: &str, more: &str| {
        let out = place.path(name);
        let words = format!("gen --rows 300 --dim 24 --clusters 10 {more} --out {}", out.display());
        call(words.split_whitespace())
    };
    let bytes = |name: &str| std::fs::read(place.path(name).join("part-00000.parquet")).unwrap();
    generate("flat", "").ok();
    generate("default", "--spectrum flat").ok();
    generate("falling", "--spectrum falling").ok();
    generate("again", "--spectrum falling").ok();
    assert!(bytes("flat") == bytes("default"), "flat is the default");
    assert!(bytes("falling") == bytes("again"), "one seed, one output");
    assert!(bytes("falling") != bytes("flat"), "another spectrum, another output");
    let said = |name: &str| record(&place.path(name).join("_gen.json"));
    assert_eq!(said("falling")["spectrum"], "falling");
    assert!(said("flat").get("spectrum").is_none(), "{}", said("flat"));
    generate("flat", "--spectrum falling").refuses(&["other planted data", "spectrum"]);
    let run = place.path("run");
    super::command::mine(&place.path("falling"), &run, "--skip 4 --window 16 --batch-size 32").ok();
    super::command::verify(&run).ok();
}

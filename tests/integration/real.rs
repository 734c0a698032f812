//! The whole set of 60,940 real pairs, where it is at hand and asked for: minutes, not seconds.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::Value;

use super::command::{Place, call, inspect, mine, skipped, verify};
use super::oracle::check_graph;
use super::table;

#[test]
fn real_pairs_are_mined_inside_one_gibibyte() {
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data/debian");
    if std::env::var("BATCHMINE_REAL").as_deref() != Ok("1") {
        skipped(&format!("set BATCHMINE_REAL=1 to mine the whole set in {}", data.display()));
        return;
    }
    if !data.exists() {
        skipped(&format!("there is no {}", data.display()));
        return;
    }
    for (name, tasks) in [("whole", ""), ("tasks", "--task-column dataset")] {
        let place = Place::empty();
        let run = place.path("run");
        let begin = Instant::now();
        let flags = "--memory 1GiB --skip 30 --cluster-size 32 --batch-size 1024 --json";
        let outcome = mine(&data, &run, &format!("{flags} {tasks}")).ok();
        let mined = begin.elapsed().as_secs_f64();
        eprintln!("{name}: {mined:.1} s");
        for event in outcome.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
            if event["event"] == "done" {
                eprintln!("{event}");
                assert!(event["peak_bytes"].as_u64().unwrap() <= 1 << 30, "over budget: {event}");
            }
        }
        verify(&run).ok();
        let begin = Instant::now();
        call([OsStr::new("report"), run.as_os_str()]).ok();
        let reported = begin.elapsed().as_secs_f64();
        eprintln!("{name}: reported in {reported:.1} s");
        assert!(reported < mined, "a report takes less time than the job that it is of");
        let rows = table::read(&run);
        assert_eq!(rows.len(), 60_940);
        let short = rows.chunk_by(|a, b| a.batch == b.batch).filter(|batch| batch.len() < 1024).count();
        eprintln!("{name}: {short} short batches");
        check_graph(&inspect(&run, 0..60_940), 30, false);
    }
}

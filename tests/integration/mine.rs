//! The main job from end to end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow::datatypes::DataType;
use serde_json::Value;

use super::command::{Line, MADE, Place, assert_same, call, files, inspect, mine, mine_command, verify};
use super::dataset::Dataset;
use super::oracle::{Exactness, Oracle, check_graph};
use super::promises::{self, Terms};
use super::table;

fn debian() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/debian")
}

/// Two tasks of planted rows with text ids, enough of them for every stage to have work.
fn sample() -> Dataset {
    Dataset::planted(400, 48, 1).with_text_ids().with_tasks(|row| ["news", "wiki"][usize::from(row % 5 == 0)].into())
}

const SAMPLE: &str = "--task-column task --skip 4 --window 16 --cluster-size 8 --batch-size 32";

#[test]
fn the_documented_command_works_on_the_fixture() {
    let place = Place::empty();
    let run = place.path("run");
    mine(&debian(), &run, "--task-column dataset --batch-size 64").ok();
    assert!(run.join("_SUCCESS").exists());
    let checked = verify(&run).ok();
    assert!(!checked.stdout.trim().is_empty(), "verify sums up what it checked");
    // The same command again has nothing to do and says so with success.
    let before = files(&run, &MADE);
    mine(&debian(), &run, "--task-column dataset --batch-size 64").ok();
    assert!(before == files(&run, &MADE));
}

#[test]
fn real_rows_are_ranked_joined_and_packed_as_promised() {
    let data = Dataset::debian(&debian());
    let place = Place::empty();
    let run = place.path("run");
    let flags = "--task-column dataset --skip 30 --window 100 --cluster-size 32 --batch-size 64 --edges any";
    let outcome = mine(&debian(), &run, flags).ok();
    // Some tasks have fewer than 131 rows, one fewer than 31.
    assert!(outcome.stderr.contains("window is shorter"), "the log says that windows shrink:\n{}", outcome.stderr);
    let lines = inspect(&run, 0..data.rows());
    Oracle::new(&data, true).check(&lines, 130, Exactness::NearTies);
    check_graph(&lines, 30, false);
    let terms = Terms { cluster_size: 32, batch_size: 64, epochs: 1, remainder: "short" };
    promises::check(&data, &lines, &table::read(&run), terms);
}

#[test]
fn mutual_edges_are_those_of_both_directions() {
    let data = sample();
    let place = Place::with(&data);
    let run = place.path("run");
    mine(&place.input(), &run, &format!("{SAMPLE} --edges mutual")).ok();
    verify(&run).ok();
    let lines = inspect(&run, 0..data.rows());
    check_graph(&lines, 4, true);
    assert!(lines.iter().any(|line| !line.arcs.is_empty()), "a graph without edges would prove nothing");
    let terms = Terms { cluster_size: 8, batch_size: 32, epochs: 1, remainder: "short" };
    promises::check(&data, &lines, &table::read(&run), terms);
}

#[test]
fn rows_of_one_key_are_never_together() {
    // Two key columns with gaps; the largest group has 4 rows.
    let data = sample()
        .with_key(|row| (row % 10 < 9).then(|| format!("page {}", row % 150)))
        .with_key(|row| (row % 3 == 0).then(|| format!("author {}", row % 111)));
    let place = Place::with(&data);
    let run = place.path("run");
    mine(&place.input(), &run, &format!("{SAMPLE} --key-column key0 --key-column key1")).ok();
    verify(&run).ok();
    let lines = inspect(&run, 0..data.rows());
    Oracle::new(&data, true).check(&lines, 20, Exactness::NearTies);
    let terms = Terms { cluster_size: 8, batch_size: 32, epochs: 1, remainder: "short" };
    promises::check(&data, &lines, &table::read(&run), terms);
}

#[test]
fn a_key_that_all_rows_share_leaves_nothing_to_unite() {
    let data = Dataset::planted(12, 8, 2).with_key(|_| Some("the same".into()));
    let place = Place::with(&data);
    let run = place.path("run");
    let outcome = mine(&place.input(), &run, "--key-column key0 --skip 1 --window 4 --cluster-size 2 --batch-size 4");
    // Either is honest: batches of one row each, or a refusal that says why.
    if outcome.code == Some(2) {
        outcome.refuses(&["key"]);
        return;
    }
    outcome.ok();
    let lines = inspect(&run, 0..12);
    assert!(lines.iter().all(|line| line.neighbors.is_empty()));
    let terms = Terms { cluster_size: 2, batch_size: 4, epochs: 1, remainder: "short" };
    promises::check(&data, &lines, &table::read(&run), terms);
}

#[test]
fn clusters_gather_edges_and_not_suspects() {
    let data = Dataset::planted(600, 32, 3);
    let place = Place::with(&data);
    let run = place.path("run");
    mine(&place.input(), &run, "--skip 4 --window 16 --cluster-size 8 --batch-size 32").ok();
    let lines = inspect(&run, 0..data.rows());
    let inside = |pairs: fn(&Line) -> &Vec<(usize, u64)>| -> f64 {
        let count = |line: &Line| pairs(line).iter().filter(|pair| lines[pair.0].cluster == line.cluster).count();
        let all: usize = lines.iter().map(|line| pairs(line).len()).sum();
        lines.iter().map(count).sum::<usize>() as f64 / all as f64
    };
    let (edges, suspects) = (inside(|line| &line.arcs), inside(|line| &line.suspects));
    // Clusters at random would hold 7 of 599 other rows: 1.2 % of either.
    assert!(edges > 8.0 * 7.0 / 599.0, "{edges} of the edges are inside clusters");
    assert!(suspects < edges, "{suspects} of the suspects are inside clusters, and {edges} of the edges");
}

#[test]
fn the_batch_table_has_types_that_lakes_take() {
    for (data, id) in [(sample(), DataType::Utf8), (Dataset::planted(100, 16, 4), DataType::Int64)] {
        let place = Place::with(&data);
        let run = place.path("run");
        let flags = "--skip 4 --window 16 --cluster-size 8 --batch-size 32";
        mine(&place.input(), &run, &format!("{flags} {}", data.column_flags())).ok();
        for part in table::parts(&run) {
            let (rows, footer) = table::load(&part);
            let columns: BTreeMap<_, _> =
                rows.schema().fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect();
            let expected = [
                ("epoch", DataType::Int32),
                ("batch_id", DataType::Int64),
                ("position", DataType::Int32),
                ("cluster_id", DataType::Int64),
                ("task", DataType::Utf8),
                ("id", id.clone()),
                ("row", DataType::Int64),
                ("score", DataType::Float32),
            ];
            assert_eq!(columns, expected.map(|(name, kind)| (name.to_owned(), kind)).into());
            let names: Vec<_> = rows.schema().fields().iter().map(|field| field.name().clone()).collect();
            let keys: Vec<_> = footer.file_metadata().key_value_metadata().into_iter().flatten().collect();
            for word in ["version", "seed", "settings", "inputs"] {
                assert!(keys.iter().any(|pair| pair.key.contains(word)), "no {word} in the footer: {keys:?}");
            }
            for group in footer.row_groups() {
                let sorting = group.sorting_columns().expect("sorting columns are declared");
                let sorted: Vec<_> = sorting.iter().map(|column| &names[column.column_idx as usize]).collect();
                assert_eq!(sorted, ["epoch", "batch_id", "position"]);
                for column in group.columns() {
                    let path = column.column_path().string();
                    assert!(column.offset_index_offset().is_some(), "{path} has no page index");
                    let codec = format!("{:?}", column.compression());
                    assert!(codec.starts_with("ZSTD"), "{path} is compressed with {codec}");
                }
            }
        }
    }
}

#[test]
fn threads_do_not_change_a_byte() {
    let place = Place::with(&Dataset { files: 3, row_group_rows: 50, ..sample() });
    let runs = ["1", "2", "8"].map(|threads| {
        let run = place.path(&format!("run-{threads}"));
        mine(&place.input(), &run, &format!("{SAMPLE} --hard-negatives 4 --threads {threads}")).ok();
        run
    });
    assert_same(&runs[1], &runs[0], &MADE);
    assert_same(&runs[2], &runs[0], &MADE);
}

#[test]
fn json_events_tell_each_stage_in_order() {
    let place = Place::with(&sample());
    let outcome = mine(&place.input(), &place.path("run"), &format!("{SAMPLE} --json")).ok();
    let events: Vec<Value> = outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let stages = |kind: &str| -> Vec<&str> {
        events.iter().filter(|event| event["event"] == kind).map(|event| event["stage"].as_str().unwrap()).collect()
    };
    let all = ["vectors", "neighbors", "edges", "clusters", "batches"];
    assert_eq!(stages("stage"), all);
    assert_eq!(stages("done"), all);
    for event in events.iter().filter(|event| event["event"] == "done") {
        assert!(event["seconds"].is_number() && event["peak_bytes"].is_u64(), "{event}");
        assert!(event["bytes"].as_u64().unwrap() > 0 && event["facts"].is_object(), "{event}");
    }
}

#[test]
fn work_folder_takes_all_but_the_batches() {
    let place = Place::with(&sample());
    let (run, work, plain) = (place.path("run"), place.path("work"), place.path("plain"));
    mine(&place.input(), &run, &format!("{SAMPLE} --work {}", work.display())).ok();
    mine(&place.input(), &plain, SAMPLE).ok();
    assert_same(&run, &plain, &["batches"]);
    for stage in ["vectors", "neighbors", "edges", "clusters"] {
        let entries = std::fs::read_dir(run.join(stage)).map_or(0, Iterator::count);
        assert_eq!(entries, 0, "{stage} lies in the work folder");
    }
    let own = std::fs::read_dir(&work).unwrap().next().expect("a folder of the run's own").unwrap().path();
    assert_same(&own, &plain, &["neighbors", "edges", "clusters"]);
    verify(&run).ok();
}

#[test]
fn flags_are_stronger_than_environment_and_file() {
    let place = Place::with(&sample());
    let config = place.path("batchmine.toml");
    let text = "task-column = \"task\"\nskip = 4\nwindow = 16\ncluster-size = 8\nbatch-size = 64\nseed = 3\n";
    std::fs::write(&config, text).unwrap();
    let (run, reference) = (place.path("run"), place.path("reference"));
    let flags = format!("--config {} --seed 0", config.display());
    let outcome = mine_command(&place.input(), &run, &flags)
        .env("BATCHMINE_BATCH_SIZE", "32")
        .env("BATCHMINE_SEED", "9")
        .output()
        .unwrap();
    assert!(outcome.status.success(), "{}", String::from_utf8_lossy(&outcome.stderr));
    mine(&place.input(), &reference, SAMPLE).ok();
    assert_same(&run, &reference, &MADE);
}

#[test]
fn plan_tells_the_cost_and_writes_nothing() {
    let place = Place::with(&sample());
    let input = place.input();
    let mut words = vec!["plan", input.to_str().unwrap()];
    words.extend(SAMPLE.split_whitespace());
    let outcome = call(words).ok();
    assert!(outcome.stdout.contains("400"), "the number of rows:\n{}", outcome.stdout);
    let left: Vec<_> = std::fs::read_dir(place.path("")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, [input], "nothing but the input");
}

#[test]
fn the_planted_fixture_is_what_gen_writes_and_is_mined_by_its_clusters() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/planted");
    let place = Place::empty();
    let out = place.path("planted");
    let words = "--rows 1000 --dim 32 --clusters 20 --tasks 3".split(' ');
    call(["gen", "--out", out.to_str().unwrap()].into_iter().chain(words)).ok();
    let file = |folder: &Path| std::fs::read(folder.join("part-00000.parquet")).unwrap();
    assert!(file(&fixture) == file(&out), "gen no longer writes the fixture: see fixtures/README.md");
    let run = place.path("run");
    mine(&fixture, &run, "--task-column task --skip 2 --window 20 --batch-size 64").ok();
    call(["verify", run.to_str().unwrap()]).ok();
}

#[test]
fn generated_data_is_mined_and_is_the_same_for_one_seed() {
    let place = Place::empty();
    let generate = |name: &str, seed: &str| {
        let out = place.path(name);
        let out = out.to_str().unwrap();
        let words = "--rows 300 --dim 24 --clusters 10 --tasks 2".split(' ');
        call(["gen", "--out", out, "--seed", seed].into_iter().chain(words)).ok();
        let mut files: Vec<_> = std::fs::read_dir(out).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.into_iter().map(|path| std::fs::read(path).unwrap()).collect::<Vec<_>>()
    };
    let (a, b, c) = (generate("a", "5"), generate("b", "5"), generate("c", "6"));
    assert!(!a.is_empty() && a == b, "one seed, one output");
    assert!(a != c, "another seed, another output");
    let run = place.path("run");
    mine(&place.path("a"), &run, "--skip 4 --window 16 --cluster-size 8 --batch-size 32").ok();
    verify(&run).ok();
    assert_eq!(table::read(&run).len(), 300);
}

#[test]
fn the_executable_explains_itself() {
    for shell in ["bash", "zsh", "fish"] {
        let outcome = call(["completions", shell]).ok();
        assert!(outcome.stdout.contains("batchmine"), "completions for {shell}");
    }
    let manual = call(["man"]).ok();
    assert!(manual.stdout.contains(".TH"), "a manual page in roff");
    let help = call(["mine", "--help"]).ok();
    for flag in ["--skip", "--window", "--cluster-size", "--batch-size", "--memory", "--replace", "--work"] {
        assert!(help.stdout.contains(flag), "{flag} is not in the help");
    }
    assert!(call(["--version"]).ok().stdout.contains(env!("CARGO_PKG_VERSION")));
}

#[cfg(feature = "faiss")]
#[test]
fn the_faiss_backend_writes_the_same_files() {
    let place = Place::empty();
    let (cpu, faiss) = (place.path("cpu"), place.path("faiss"));
    mine(&debian(), &cpu, "--task-column dataset --batch-size 64").ok();
    mine(&debian(), &faiss, "--task-column dataset --batch-size 64 --backend faiss").ok();
    assert_same(&cpu, &faiss, &MADE);
}

#[test]
fn all_precisions_write_the_same_files() {
    for (number, data) in [sample(), Dataset::planted(900, 70, 4)].into_iter().enumerate() {
        let place = Place::with(&data);
        for metric in ["cosine", "dot"] {
            let run = |precision: &str| {
                let run = place.path(&format!("{number}-{metric}-{precision}"));
                mine(
                    &place.input(),
                    &run,
                    &format!("--metric {metric} --precision {precision} --skip 5 --window 40 --batch-size 64"),
                )
                .ok();
                run
            };
            let reference = run("f32");
            assert_same(&run("int8"), &reference, &MADE);
            assert_same(&run("bf16"), &reference, &MADE);
        }
    }
}

#[test]
fn all_precisions_find_the_same_neighbors_of_the_fixtures() {
    let place = Place::empty();
    for fixture in ["debian", "planted"] {
        let lists = |precision: &str| {
            let run = place.path(&format!("{fixture}-{precision}"));
            let input = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(fixture);
            mine(&input, &run, &format!("--precision {precision} --batch-size 64")).ok();
            let mut parts = files(&run, &["neighbors"]);
            parts.retain(|(name, _)| name.starts_with("neighbors/block-"));
            parts
        };
        let reference = lists("f32");
        assert!(!reference.is_empty());
        for precision in ["int8", "bf16"] {
            assert!(lists(precision) == reference, "{fixture} in {precision}");
        }
    }
}

#[test]
fn approximate_search_reaches_the_recall_that_it_aims_at() {
    let place = Place::empty();
    let input = place.path("input");
    let words = "--rows 6000 --dim 24 --clusters 60".split(' ');
    call(["gen", "--out", input.to_str().unwrap()].into_iter().chain(words)).ok();
    let facts = |flags: &str| -> Value {
        let run = place.path(&flags.replace([' ', ':'], "_"));
        let flags = format!("--skip 5 --window 45 --batch-size 64 {flags}");
        mine(&input, &run, &flags).ok();
        call(["verify", run.to_str().unwrap()]).ok();
        let manifest = std::fs::read_to_string(run.join("manifest.json")).unwrap();
        serde_json::from_str::<Value>(&manifest).unwrap()["stages"]["neighbors"]["facts"].clone()
    };
    let exact = facts("--search exact");
    assert_eq!((exact["recall"].as_f64(), exact["probes"].as_u64()), (Some(1.0), None));
    let aimed = facts("--search ivf --recall 0.9");
    let (recall, probes) = (aimed["recall"].as_f64().unwrap(), aimed["probes"].as_u64().unwrap());
    assert!((0.9..1.0).contains(&recall) && probes < aimed["lists"].as_u64().unwrap(), "{aimed}");
    let one = facts("--search ivf:1");
    assert!(one["recall"].as_f64().unwrap() < recall, "{one}");
}

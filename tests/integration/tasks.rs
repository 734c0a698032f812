//! Settings of single tasks: each task is mined as if it were alone, with its own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use batchmine::run::Manifest;
use batchmine::run::Stage;
use serde_json::{Value, json};

use super::command::{Line, MADE, Outcome, Place, assert_same, call, files, inspect, mine, verify};
use super::dataset::Dataset;
use super::oracle::{Cut, Exactness, Oracle, check_cut_graph};
use super::promises::{self, Terms};
use super::table::{self, Row};

/// A task, its cut and window, K and |B|.
#[derive(Clone, Copy)]
struct Own {
    task: &'static str,
    cut: Cut,
    window: usize,
    cluster_size: usize,
    batch_size: usize,
}

impl Own {
    fn table(&self) -> String {
        let Own { task, cut, window, cluster_size, batch_size } = self;
        let limit = |name: &str, limit: Option<f64>| match limit {
            Some(limit) => format!("{name} = {limit:?}\n"),
            None => format!("{name} = \"none\"\n"),
        };
        format!(
            "[task.{task:?}]\nskip = {}\nwindow = {window}\ncluster-size = {cluster_size}\nbatch-size = {batch_size}\n",
            cut.skip
        ) + &limit("relative-margin", cut.relative_margin)
            + &limit("max-score", cut.max_score)
            + &limit("min-score", cut.min_score)
            + &limit("max-query-score", cut.sides[0])
            + &limit("max-positive-score", cut.sides[1])
    }

    fn flags(&self) -> String {
        format!(
            "--skip {} --window {} --cluster-size {} --batch-size {}{}",
            self.cut.skip,
            self.window,
            self.cluster_size,
            self.batch_size,
            self.cut.flags()
        )
    }

    fn terms(&self, remainder: &'static str) -> Terms<'static> {
        Terms { cluster_size: self.cluster_size, batch_size: self.batch_size, epochs: 1, remainder }
    }
}

/// Mines with a configuration file.
fn mine_with(place: &Place, input: &Path, run: &Path, file: &str, flags: &str) -> Outcome {
    let config = place.path("batchmine.toml");
    std::fs::write(&config, file).unwrap();
    mine(input, run, &format!("--config {} {flags}", config.display()))
}

/// The input rows of a task.
fn rows_of(data: &Dataset, task: &str) -> Vec<usize> {
    (0..data.rows()).filter(|row| data.task(*row) == Some(task)).collect()
}

/// Checks each task by itself: lists, graph, clusters and batches.
fn check(data: &Dataset, run: &Path, own: impl Fn(&str) -> Own, remainder: &'static str) {
    let lines = inspect(run, 0..data.rows());
    let oracle = Oracle::new(data, true);
    let of_line = |line: &Line| own(line.task.as_deref().unwrap());
    oracle.check_too_close(&lines, |line| of_line(line).cut);
    check_cut_graph(&lines, |line| of_line(line).cut, false);
    let table = table::read(run);
    let names: BTreeSet<&str> = (0..data.rows()).map(|row| data.task(row).unwrap()).collect();
    for name in names {
        let (rows, own) = (rows_of(data, name), own(name));
        let mut of_task: Vec<Line> = rows.iter().map(|row| lines[*row].clone()).collect();
        oracle.check(&of_task, own.cut.skip + own.window, Exactness::NearTies);
        // The task's promises, as of a run of its own.
        let number = |row: usize| rows.binary_search(&row).unwrap();
        of_task.iter_mut().for_each(|line| line.row = number(line.row));
        let mut table: Vec<Row> = table.iter().filter(|row| row.task.as_deref() == Some(name)).cloned().collect();
        table.iter_mut().for_each(|row| row.row = number(row.row));
        promises::check(&data.subset(&rows), &of_task, &table, own.terms(remainder));
    }
}

#[test]
fn real_tasks_are_mined_by_their_own_settings() {
    let input = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/debian");
    let data = Dataset::debian(&input);
    let job = Own { task: "", cut: Cut::skip(10), window: 40, cluster_size: 16, batch_size: 64 };
    let limited = Cut { skip: 0, relative_margin: Some(0.05), max_score: None, min_score: Some(0.2), sides: [None; 2] };
    let special = [
        Own { task: "fonts", cut: limited, window: 120, cluster_size: 8, batch_size: 24 },
        Own { task: "python", cut: Cut::skip(70), window: 30, cluster_size: 32, batch_size: 96 },
    ];
    let own = |task: &str| *special.iter().find(|own| own.task == task).unwrap_or(&job);
    let file: String = special.iter().map(Own::table).collect();
    for remainder in ["short", "drop"] {
        let place = Place::empty();
        let run = place.path("run");
        let flags = format!("--task-column dataset --remainder {remainder} {}", job.flags());
        mine_with(&place, &input, &run, &file, &flags).ok();
        verify(&run).ok();
        check(&data, &run, own, remainder);
    }
}

/// Tasks of 120 and 90 rows: few enough arcs for one block, which both alone and together begin with.
fn two_tasks() -> Dataset {
    Dataset::planted(210, 24, 81).with_tasks(|row| if row % 7 < 4 { "a" } else { "b" }.into())
}

const A: Own = Own {
    task: "a",
    cut: Cut { skip: 2, relative_margin: Some(0.05), max_score: None, min_score: None, sides: [None; 2] },
    window: 10,
    cluster_size: 4,
    batch_size: 16,
};
const B: Own = Own {
    task: "b",
    cut: Cut { skip: 0, relative_margin: None, max_score: Some(0.95), min_score: Some(0.1), sides: [Some(0.9), None] },
    window: 20,
    cluster_size: 6,
    batch_size: 18,
};

/// Sets of rows, sorted.
fn groups(rows: impl Iterator<Item = (i64, usize)>) -> BTreeSet<Vec<usize>> {
    let mut groups = std::collections::BTreeMap::<i64, Vec<usize>>::new();
    rows.for_each(|(group, row)| groups.entry(group).or_default().push(row));
    groups.into_values().map(|mut rows| (rows.sort_unstable(), rows).1).collect()
}

#[test]
fn two_tasks_with_their_own_settings_are_two_runs() {
    let data = two_tasks();
    let place = Place::with(&data);
    let run = place.path("run");
    // More passes are made or not by what all clusters together gain.
    let file = format!("task-column = \"task\"\ncluster-passes = 2\nedges = \"any\"\n{}{}", A.table(), B.table());
    mine_with(&place, &place.input(), &run, &file, "").ok();
    verify(&run).ok();
    check(&data, &run, |task| if task == "a" { A } else { B }, "short");
    let (together, all) = (inspect(&run, 0..data.rows()), table::read(&run));
    for own in [A, B] {
        let rows = rows_of(&data, own.task);
        let (input, alone) = (place.path(&format!("input {}", own.task)), place.path(&format!("run {}", own.task)));
        data.subset(&rows).write(&input);
        mine(&input, &alone, &format!("--task-column task --cluster-passes 2 --edges any {}", own.flags())).ok();
        let lines = inspect(&alone, 0..rows.len());
        let known = |pairs: &[(usize, u64)]| pairs.iter().map(|(row, n)| (rows[*row], *n)).collect::<Vec<_>>();
        for line in &lines {
            let other = &together[rows[line.row]];
            let neighbors: Vec<_> = line.neighbors.iter().map(|(row, score)| (rows[*row], *score)).collect();
            assert_eq!(neighbors, other.neighbors, "task {} row {}", own.task, line.row);
            assert_eq!((line.score, &line.window), (other.score, &other.window));
            assert_eq!((known(&line.arcs), known(&line.suspects)), (other.arcs.clone(), other.suspects.clone()));
        }
        let clusters = groups(lines.iter().map(|line| (line.cluster.unwrap(), rows[line.row])));
        let of_task = together.iter().filter(|line| line.task.as_deref() == Some(own.task));
        assert_eq!(clusters, groups(of_task.map(|line| (line.cluster.unwrap(), line.row))), "task {}", own.task);
        let batches = groups(table::read(&alone).iter().map(|row| (row.batch, rows[row.row])));
        let of_task = all.iter().filter(|row| row.task.as_deref() == Some(own.task));
        let found = groups(of_task.map(|row| (row.batch, row.row)));
        if own.task == "a" {
            assert_eq!(batches, found, "the first task of both runs draws the same random numbers");
        } else {
            let sizes = |batches: &BTreeSet<Vec<usize>>| {
                let mut sizes: Vec<usize> = batches.iter().map(Vec::len).collect();
                sizes.sort_unstable();
                sizes
            };
            assert_eq!(sizes(&batches), sizes(&found));
        }
    }
}

#[test]
fn keys_and_tasks_of_a_few_rows_keep_their_promises() {
    let data = Dataset::planted(260, 20, 82)
        .with_tasks(|row| ["a", "b", "c"][if row < 9 { 2 } else { row % 2 }].into())
        .with_key(|row| (row % 5 < 2).then(|| format!("{}", row / 10)));
    let place = Place::with(&data);
    let run = place.path("run");
    let own = |task: &str| match task {
        "a" => A,
        "b" => B,
        _ => Own { task: "c", cut: Cut::skip(5), window: 6, cluster_size: 2, batch_size: 8 },
    };
    let file =
        format!("task-column = \"task\"\nkey-column = [\"key0\"]\nskip = 5\nwindow = 6\n{}{}", A.table(), B.table());
    mine_with(&place, &place.input(), &run, &file, "--cluster-size 2 --batch-size 8").ok();
    verify(&run).ok();
    check(&data, &run, own, "short");
}

#[test]
fn left_over_rows_of_all_tasks_fill_batches_of_the_jobs_size() {
    let data = two_tasks();
    let place = Place::with(&data);
    let run = place.path("run");
    let file = format!("task-column = \"task\"\n{}{}", A.table(), B.table());
    // 120 = 7 · 16 + 8 rows, 90 = 5 · 18: 8 are left over, of which 4 fill a batch each.
    let flags = "--cluster-size 2 --batch-size 4 --remainder fill";
    mine_with(&place, &place.input(), &run, &file, flags).ok();
    verify(&run).ok();
    let table = table::read(&run);
    let mut sizes: Vec<(String, usize)> =
        table.chunk_by(|a, b| a.batch == b.batch).map(|b| (b[0].task.clone().unwrap(), b.len())).collect();
    sizes.sort();
    let wanted = [vec![("a".to_owned(), 4); 2], vec![("a".to_owned(), 16); 7], vec![("b".to_owned(), 18); 5]].concat();
    assert_eq!(sizes, wanted);
    let facts = &Manifest::read(&run.join("manifest.json")).unwrap().unwrap().stages[&Stage::Batches].facts;
    assert_eq!((&facts["full_batches"], &facts["short_batches"]), (&json!(14), &json!(0)));
}

#[test]
fn unknown_tasks_and_settings_are_refused_and_bind_nobody() {
    let place = Place::with(&two_tasks());
    let (input, run) = (place.input(), place.path("run"));
    let flags = "--task-column task --skip 2 --window 10 --cluster-size 4 --batch-size 16";
    let refused = mine_with(&place, &input, &run, "[task.z]\nskip = 1\n", flags);
    refused.refuses(&["task z", "\"a\", \"b\"", "column task"]);
    // Nothing was recorded: the corrected file needs no --replace.
    mine_with(&place, &input, &run, "[task.b]\nskip = 1\n", flags).ok();
    mine_with(&place, &input, &place.path("x"), "[task.a]\nseed = 1\n", flags).refuses(&["seed", "batch-size"]);
    mine_with(&place, &input, &place.path("x"), "[task.a]\ncluster-size = 5\n", flags).refuses(&["task a", "divide"]);
    let other = flags.replace("--task-column task", "");
    mine_with(&place, &input, &place.path("x"), "[task.a]\nskip = 1\n", &other).refuses(&["--task-column"]);
    let config = place.path("batchmine.toml");
    std::fs::write(&config, "[task.z]\nskip = 1\n").unwrap();
    let words = ["plan", input.to_str().unwrap(), "--config", config.to_str().unwrap()];
    call(words.into_iter().chain(flags.split(' '))).refuses(&["task z"]);
}

#[test]
fn only_the_stages_that_a_table_touches_are_redone() {
    let place = Place::with(&two_tasks());
    let (input, run) = (place.input(), place.path("run"));
    let flags = "--task-column task --skip 2 --window 10 --cluster-size 4 --batch-size 16";
    mine(&input, &run, flags).ok();
    let before = files(&run, &MADE);
    // A table that says what holds anyway is no other setting.
    mine_with(&place, &input, &run, "[task.a]\nskip = 2\nbatch-size = 16\n", flags).ok();
    assert!(before == files(&run, &MADE));
    let changes = [
        ("[task.b]\ncluster-size = 8\n", "tasks: null → {\"b\":", "(touches clusters, batches)"),
        ("[task.b]\nbatch-size = 32\n", "tasks: null → {\"b\":", "(touches clusters, batches)"),
        ("[task.b]\nrelative-margin = 0.1\n", "tasks: null → {\"b\":", "(touches edges, clusters, batches)"),
        ("[task.b]\nskip = 4\nwindow = 8\n", "tasks: null → {\"b\":", "(touches edges, clusters, batches)"),
        ("[task.b]\nwindow = 11\n", "tasks: null → {\"b\":", "(touches neighbors, edges, clusters, batches)"),
    ];
    for (number, (file, setting, touched)) in changes.into_iter().enumerate() {
        let fresh = place.path(&format!("fresh-{number}"));
        mine_with(&place, &input, &run, file, flags).refuses(&[setting, touched, "--replace"]);
        mine_with(&place, &input, &run, file, &format!("{flags} --replace")).ok();
        mine_with(&place, &input, &fresh, file, flags).ok();
        assert_same(&run, &fresh, &MADE);
        verify(&run).ok();
        mine(&input, &run, &format!("{flags} --replace")).ok();
        assert!(before == files(&run, &MADE), "{file}");
    }
}

#[test]
fn the_widest_task_decides_the_memory() {
    let place = Place::with(&Dataset::planted(3000, 16, 83).with_tasks(|row| ["a", "b"][row % 2].into()));
    let config = place.path("batchmine.toml");
    let input = place.input();
    let plan = |file: &str| -> Value {
        std::fs::write(&config, file).unwrap();
        let words = ["plan", input.to_str().unwrap(), "--json", "--task-column", "task", "--config"];
        let outcome = call(words.into_iter().chain([config.to_str().unwrap()])).ok();
        serde_json::from_str(&outcome.stdout).unwrap()
    };
    let (plain, wide, all) = (plan(""), plan("[task.b]\nwindow = 1000\n"), plan("window = 1000\n"));
    let memory = |plan: &Value, stage: &str| plan["memory_bytes"][stage].as_u64().unwrap();
    assert!(memory(&wide, "neighbors") > memory(&plain, "neighbors"));
    assert_eq!(memory(&wide, "neighbors"), memory(&all, "neighbors"));
    let disk = |plan: &Value| plan["disk_bytes"]["edges"].as_u64().unwrap();
    assert!(disk(&plain) < disk(&wide) && disk(&wide) < disk(&all), "half of the rows have long lists");
    std::fs::write(&config, "[task.b]\nwindow = 5000\n").unwrap();
    let words = ["plan", input.to_str().unwrap(), "--task-column", "task", "--config", config.to_str().unwrap()];
    call(words).refuses(&["wider than the input", "5000"]);
}

#[test]
fn verify_holds_each_task_to_its_own_sizes() {
    let place = Place::with(&two_tasks());
    let run = place.path("run");
    let file = format!("task-column = \"task\"\n{}{}", A.table(), B.table());
    mine_with(&place, &place.input(), &run, &file, "").ok();
    let outcome = verify(&run).ok();
    assert!(outcome.stdout.contains("clusters of 4 to 6"), "{}", outcome.stdout);
    let path = run.join("manifest.json");
    let sound = Manifest::read(&path).unwrap().unwrap();
    for (setting, value, word) in [
        ("cluster-size", 3, "rows, more than 3"),
        ("batch-size", 12, "rows, more than 12"),
        ("batch-size", 20, "smaller batches"),
    ] {
        let mut manifest = sound.clone();
        let clusters = manifest.stages.get_mut(&Stage::Clusters).unwrap();
        clusters.settings["tasks"]["a"][setting] = json!(value);
        manifest.chain_fingerprints();
        std::fs::write(&path, manifest.to_bytes()).unwrap();
        verify(&run).fails(3, &[word]);
    }
}

//! Ranks of distinct positives: who is a candidate, to which rows edges lead, windows that are shares of them, and what
//! a job decides by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;

use super::budgets::{least_mib, measured};
use super::command::{Line, Place, assert_same, call, inspect, mine, mine_command, verify};
use super::dataset::Dataset;
use super::oracle::{Exactness, Oracle, check_graph};
use super::promises::{self, Terms};
use super::table::{self, Row};

/// Rows of classes, in a scattered order: row r is of class r · 37 mod classes, but each tenth row has a positive of
/// its own. Rows of a class have its positive.
fn of_classes(rows: usize, classes: usize, seed: u64) -> Dataset {
    let mut data = Dataset::planted(rows, 16, seed);
    let of = data.positives.clone();
    for (row, positive) in data.positives.iter_mut().enumerate() {
        if let Some(class) = class_of(row, classes) {
            *positive = of[class].clone();
        }
    }
    data
}

fn class_of(row: usize, classes: usize) -> Option<usize> {
    // Classes of 1 to some times the mean size.
    (row % 10 != 3).then(|| (row * row / 7 + row * 37) % classes)
}

/// Rows with one positive in one task, each group in order of rows.
fn groups(data: &Dataset, same: impl Fn(usize) -> String) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<(Option<&str>, String), Vec<usize>> = BTreeMap::new();
    (0..data.rows()).for_each(|row| groups.entry((data.task(row), same(row))).or_default().push(row));
    groups.into_values().collect()
}

fn by_vector(data: &Dataset) -> Vec<Vec<usize>> {
    groups(data, |row| format!("{:?}", data.positives[row]))
}

/// Checks the edges of all rows against their lists: each candidate of the window leads to one row that has its
/// positive, of a number that the rule allows.
pub fn check_carriers(lines: &[Line], groups: &[Vec<usize>], mutual: bool) {
    let mut own = vec![(0, 0); lines.len()];
    for (number, group) in groups.iter().enumerate() {
        group.iter().enumerate().for_each(|(index, row)| own[*row] = (number, index));
    }
    let allowed = |row: usize, candidate: usize| -> Vec<usize> {
        let ((mine, index), others) = (own[row], &groups[own[candidate].0]);
        let size = groups[mine].len();
        match others.len() <= size {
            true => vec![others[index % others.len()]],
            false => others.iter().copied().skip(index).step_by(size).collect(),
        }
    };
    let mut explained = BTreeSet::new();
    let [mut arcs, mut suspects] = [0, 0];
    for line in lines {
        let cut = line.neighbors[..line.window.end].iter().enumerate();
        // Documents have no edges.
        for (rank, (candidate, _)) in cut.filter(|(_, (candidate, _))| *candidate < lines.len()) {
            let found = if rank < line.window.start { &line.suspects } else { &line.arcs };
            let rows = allowed(line.row, *candidate);
            let carriers: Vec<usize> =
                found.iter().map(|(row, _)| *row).filter(|row| rows.binary_search(row).is_ok()).collect();
            let is_mutual_only = mutual && rank >= line.window.start;
            assert!(is_mutual_only || !carriers.is_empty(), "row {}, rank {rank}: none of {rows:?}", line.row);
            carriers.iter().for_each(|row| _ = explained.insert((line.row, *row)));
        }
        arcs += line.arcs.iter().map(|(_, weight)| weight).sum::<u64>();
        suspects += line.suspects.iter().map(|(_, directions)| directions).sum::<u64>();
    }
    let entries = |of: &dyn Fn(&Line) -> Range<usize>| {
        let rows = |line: &Line| of(line).filter(|rank| line.neighbors[*rank].0 < lines.len()).count();
        2 * lines.iter().map(rows).sum::<usize>() as u64
    };
    assert_eq!(
        suspects,
        entries(&|line| 0..line.window.start.min(line.neighbors.len())),
        "one edge a suspect, each way"
    );
    assert!(mutual || arcs == entries(&|line| line.window.clone()), "one edge a preferred negative, from both ends");
    for line in lines {
        for (other, weight) in line.arcs.iter().chain(&line.suspects) {
            let ways = [(line.row, *other), (*other, line.row)].iter().filter(|way| explained.contains(way)).count();
            assert!(ways > 0 && *weight <= 2, "rows {} and {other}: an edge that no list has", line.row);
            assert!(own[line.row].0 != own[*other].0, "rows {} and {other} have one positive", line.row);
        }
    }
}

/// Checks that hard negatives stand for positives in a window of the batch, and for none of a row of the batch.
pub fn check_negatives(lines: &[Line], groups: &[Vec<usize>], table: &[Row]) {
    let all = lines.iter().flat_map(|line| &line.neighbors).map(|(candidate, _)| candidate + 1).max().unwrap_or(0);
    let mut stands: Vec<usize> = (0..lines.len().max(all)).collect();
    groups.iter().flat_map(|group| group.iter().map(|row| (*row, group[0]))).for_each(|(row, of)| stands[row] = of);
    for batch in table.chunk_by(|a, b| (a.epoch, a.batch) == (b.epoch, b.batch)) {
        let own: BTreeSet<usize> = batch.iter().map(|row| stands[row.row]).collect();
        let of_line = |row: &Row| {
            let line = &lines[row.row];
            line.neighbors[line.window.clone()].iter().map(|(candidate, _)| *candidate)
        };
        let pool: BTreeSet<usize> = batch.iter().flat_map(of_line).collect();
        for (row, (negative, ..)) in batch.iter().flat_map(|row| row.negatives.iter().flatten().map(move |n| (row, n)))
        {
            assert!(!own.contains(negative) && pool.contains(negative), "row {}: negative {negative}", row.row);
        }
    }
}

#[test]
fn lists_graph_and_batches_are_those_of_distinct_positives() {
    let data = of_classes(700, 60, 1).with_tasks(|row| if row % 3 == 0 { "a" } else { "b" }.into());
    let data = data.with_key(|row| (row % 5 == 0).then(|| format!("k{}", row % 45)));
    let place = Place::with(&data);
    let groups = by_vector(&data);
    let flags = "--task-column task --key-column key0 --skip 3 --cluster-size 4 --batch-size 16";
    let runs = [
        ("--window 20", 23, false),
        ("--window 20 --edges mutual --hard-negatives 3", 23, true),
        ("--window 20 --hard-negatives 3 --negatives-of cluster --max-own-rank 12", 23, false),
        ("--window 20 --hard-negatives 3 --negatives-of row-top --remainder drop --max-score 0.9", 23, false),
    ];
    for (more, ranks, mutual) in runs {
        let (run, other) = (place.path("run"), place.path("other"));
        let said = mine(&place.input(), &run, &format!("{flags} {more} --replace")).ok().stderr;
        assert!(said.contains("distinct positives: these take the ranks"), "{said}");
        let verified = verify(&run).ok().stdout;
        let candidates = format!("{} candidates stand for the distinct positives of 700 rows", groups.len());
        assert!(verified.contains(&candidates), "{verified}");
        let lines = inspect(&run, 0..data.rows());
        Oracle::new(&data, true).by_positive(&groups).check(&lines, ranks, Exactness::NearTies);
        if !more.contains("max-score") {
            check_carriers(&lines, &groups, mutual);
        }
        let table = table::read(&run);
        check_negatives(&lines, &groups, &table);
        if !more.contains("own-rank") {
            let remainder = if more.contains("drop") { "drop" } else { "short" };
            promises::check(&data, &lines, &table, Terms { cluster_size: 4, batch_size: 16, epochs: 1, remainder });
        }
        let same = "--threads 1 --memory 64MiB --precision f32 --replace";
        mine(&place.input(), &other, &format!("{flags} {more} {same}")).ok();
        assert_same(&run, &other, &["neighbors", "edges", "clusters", "batches"]);
        call(["report", run.to_str().unwrap(), "--sample", "50"]).ok();
        ["report.json", "report.html"].iter().for_each(|name| std::fs::remove_file(run.join(name)).unwrap());
    }
}

#[test]
fn report_counts_whoever_has_a_candidates_positive() {
    let text = |row: usize| Some(format!("text {row}"));
    let data = of_classes(400, 30, 2).with_text("query", text).with_text("positive", text);
    let place = Place::with(&data);
    let (run, groups) = (place.path("run"), by_vector(&data));
    mine(&place.input(), &run, "--skip 2 --window 10 --cluster-size 4 --batch-size 16 --hard-negatives 1").ok();
    call(["report", run.to_str().unwrap(), "--sample", "50"]).ok();
    #[cfg(feature = "export")]
    super::command::export(&run, "neighbors", &place.path("lists"), "").ok();
    let report = std::fs::read_to_string(run.join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let lines = inspect(&run, 0..data.rows());
    let table = table::read(&run);
    let batch: BTreeMap<usize, i64> = table.iter().map(|row| (row.row, row.batch)).collect();
    let members = |candidate: usize| groups.iter().find(|group| group[0] == candidate).unwrap();
    let [mut wanted, mut suspects] = [0u64, 0];
    for line in lines.iter().filter(|line| batch.contains_key(&line.row)) {
        let cut = line.neighbors[..line.window.end].iter().enumerate();
        // Documents have no edges.
        for (rank, (candidate, _)) in cut.filter(|(_, (candidate, _))| *candidate < lines.len()) {
            let meets = members(*candidate).iter().any(|row| batch.get(row) == batch.get(&line.row));
            *(if rank < line.window.start { &mut suspects } else { &mut wanted }) += u64::from(meets);
        }
    }
    let mined = &report["overall"]["mined"];
    assert_eq!(
        [&mined["window_pairs"], &mined["suspect_pairs"]],
        [&wanted.into(), &suspects.into()] as [&serde_json::Value; 2]
    );
}

#[test]
fn a_positive_key_says_which_rows_have_one_positive_and_parts_them() {
    // Positives of a class differ; each twentieth row has no key, and pairs of these have one vector.
    let mut data = Dataset::planted(600, 16, 3);
    for row in (0..600).step_by(40) {
        data.positives[row + 20] = data.positives[row].clone();
    }
    let key =
        |row: usize| (!row.is_multiple_of(20)).then(|| format!("class {}", class_of(row, 50).unwrap_or(row + 1000)));
    let data = data.with_key(key);
    let groups = groups(&data, |row| key(row).unwrap_or_else(|| format!("{:?}", data.positives[row])));
    let place = Place::with(&data);
    let (run, other) = (place.path("run"), place.path("other"));
    let flags = "--positive-key key0 --skip 2 --cluster-size 4 --batch-size 16";
    let said = mine(&place.input(), &run, &format!("{flags} --window 30% --seed 3")).ok().stderr;
    let ranks = 2 + (groups.len() - 1) * 3 / 10 + usize::from((groups.len() - 1) * 3 % 10 > 0);
    assert!(said.contains(&format!("{} distinct positives", groups.len())), "{said}");
    assert!(said.contains(&format!("a window of 30% is {} ranks", ranks - 2)), "{said}");
    verify(&run).ok();
    let lines = inspect(&run, 0..data.rows());
    Oracle::new(&data, true).by_positive(&groups).check(&lines, ranks, Exactness::NearTies);
    check_carriers(&lines, &groups, false);
    let terms = Terms { cluster_size: 4, batch_size: 16, epochs: 1, remainder: "short" };
    promises::check(&data, &lines, &table::read(&run), terms);
    // The same by numbers, by a configuration of the task, and by approximate search that looks everywhere.
    let ranks = ranks - 2;
    mine(&place.input(), &other, &format!("{flags} --rank-by positive --window {ranks} --seed 3")).ok();
    assert_same(&run, &other, &["neighbors", "edges", "clusters"]);
    assert_eq!(table::read(&run), table::read(&other));
    let lists = place.path("lists");
    mine(&place.input(), &lists, &format!("{flags} --window 30% --seed 3 --search ivf:100")).ok();
    verify(&lists).ok();
    assert_same(&run, &lists, &["neighbors", "edges", "clusters"]);
    // A key column as any other: without ranks of positives, only the batches know.
    let rows = place.path("rows");
    mine(&place.input(), &rows, &format!("{flags} --rank-by row --window 20")).ok();
    let lines = inspect(&rows, 0..data.rows());
    Oracle::new(&data, true).check(&lines, 22, Exactness::NearTies);
    check_graph(&lines, 2, false);
}

#[test]
fn each_task_decides_for_itself_and_a_changed_rule_keeps_the_vectors() {
    // Copies are most of task a, and half of task b, which is not more than half.
    let mut data = Dataset::planted(400, 16, 4);
    for row in 0..400 {
        data.positives[row] = data.positives[if row % 2 == 0 { row % 30 } else { row / 4 * 4 + 1 }].clone();
    }
    let data = data.with_tasks(|row| if row % 2 == 0 { "a" } else { "b" }.into());
    let place = Place::with(&data);
    let (run, plain) = (place.path("run"), place.path("plain"));
    let flags = "--task-column task --skip 2 --window 8 --cluster-size 4 --batch-size 8";
    let said = mine(&place.input(), &run, flags).ok().stderr;
    assert!(said.contains("task \"a\": 200 rows have 15 distinct positives"), "{said}");
    verify(&run).ok();
    let all = by_vector(&data);
    let of_a: Vec<Vec<usize>> = all.iter().filter(|group| group[0] % 2 == 0).cloned().collect();
    Oracle::new(&data, true).by_positive(&of_a).check(&inspect(&run, 0..400), 10, Exactness::NearTies);
    mine(&place.input(), &run, &format!("{flags} --rank-by row")).fails(2, &["--replace", "rank-by"]);
    mine(&place.input(), &run, &format!("{flags} --rank-by row --replace")).ok();
    mine(&place.input(), &plain, &format!("{flags} --rank-by row")).ok();
    assert_same(&run, &plain, &["vectors", "neighbors", "edges", "clusters", "batches"]);
    assert!(!run.join("neighbors/candidates.col").exists());
    // A task's own rule, in the file.
    let file = place.path("rules.toml");
    std::fs::write(&file, "[task.a]\nrank-by = \"row\"\n[task.b]\nrank-by = \"positive\"\nwindow = \"20%\"\n").unwrap();
    let of_b: Vec<Vec<usize>> = all.into_iter().filter(|group| group[0] % 2 == 1).collect();
    mine(&place.input(), &run, &format!("{flags} --config {} --replace", file.display())).ok();
    verify(&run).ok();
    let lines = inspect(&run, 0..400);
    let share = 2 + (of_b.len() - 1).div_ceil(5);
    let oracle = Oracle::new(&data, true).by_positive(&of_b);
    let [a, b] = [0, 1].map(|task| lines.iter().filter(|line| line.row % 2 == task).cloned().collect::<Vec<_>>());
    oracle.check(&a, 10, Exactness::NearTies);
    oracle.check(&b, share, Exactness::NearTies);
}

#[test]
fn what_does_not_fit_is_refused_before_the_search() {
    let data = of_classes(200, 20, 5).with_key(|row| Some((row % 20).to_string()));
    let data = Dataset { lists: vec![vec![Some(vec!["x".to_owned()]); 200]], ..data };
    let place = Place::with(&data);
    let refused = |flags: &str, words: &[&str]| {
        let flags = format!("{flags} --cluster-size 4 --batch-size 8");
        mine(&place.input(), &place.path("none"), &flags).refuses(words);
    };
    refused("--rank-by row --window 30%", &["--rank-by positive", "30%"]);
    refused("--positive-key list0", &["--positive-key list0, a column of lists"]);
    // As many distinct positives as would leave no rank behind the suspects.
    refused("--positive-key key0 --rank-by positive --skip 19 --window 3", &["no row can have a preferred negative"]);
    for window in ["0%", "101%", "-3", "x", "3.5"] {
        let flags = format!("--window {window} --cluster-size 4 --batch-size 8");
        mine(&place.input(), &place.path("none"), &flags).fails(2, &["--window"]);
    }
}

#[test]
fn classes_by_the_hundred_rows_make_no_dense_graph_and_stay_within_the_least_budget() {
    let data = of_classes(6000, 40, 6);
    let place = Place::with(&data);
    let run = place.path("run");
    let flags = "--rank-by positive --skip 2 --window 30% --cluster-size 4 --batch-size 16 --threads 1";
    // What the counted windows need is known when the positives are: the plan before takes a share for one rank.
    let early = least_mib(mine_command(&place.input(), &run, flags));
    let refused =
        mine(&place.input(), &run, &format!("{flags} --memory {early}MiB")).fails(4, &["--memory", "MiB or more"]);
    let least = refused.stderr.split("raise --memory to ").nth(1).unwrap().split("MiB").next().unwrap();
    let mib: u64 = least.parse().unwrap();
    assert!(mib > early);
    std::fs::remove_dir_all(&run).ok();
    let taken = measured(mine_command(&place.input(), &run, &format!("{flags} --memory {mib}MiB")), &run);
    taken.outcome.ok();
    eprintln!("rank by positive: {mib} MiB, peak {:.1} MiB", taken.peak as f64 / f64::from(1 << 20));
    assert!(taken.peak <= mib << 20);
    let lines = inspect(&run, 0..data.rows());
    let arcs: usize = lines.iter().map(|line| line.arcs.len() + line.suspects.len()).sum();
    let entries: usize = lines.iter().map(|line| line.window.end).sum();
    assert!(arcs <= 2 * entries, "{arcs} edges of {entries} entries");
    let other = place.path("faiss");
    if cfg!(feature = "faiss") {
        mine(&place.input(), &other, &format!("{flags} --backend faiss")).ok();
        assert_same(&run, &other, &["neighbors", "edges", "clusters", "batches"]);
    }
}

fn debian() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/debian")
}

#[test]
fn without_copies_the_rule_changes_nothing() {
    let place = Place::empty();
    let (row, positive) = (place.path("row"), place.path("positive"));
    let flags = "--task-column dataset --cluster-size 8 --batch-size 64 --hard-negatives 2";
    mine(&debian(), &row, flags).ok();
    mine(&debian(), &positive, &format!("{flags} --rank-by row")).ok();
    assert_same(&row, &positive, &["neighbors", "edges", "clusters"]);
    assert_eq!(table::read(&row), table::read(&positive));
    let said = mine(&debian(), &positive, &format!("{flags} --rank-by positive --replace")).ok();
    assert!(!said.stderr.contains("these take the ranks"), "only what was not asked for is told");
    verify(&positive).ok();
}

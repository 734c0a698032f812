//! As many full batches as keys allow, no row of a key too many, and words where keys take batches.

use std::collections::{BTreeMap, BTreeSet};

use super::command::{Outcome, Place, call, inspect, mine, verify};
use super::dataset::Dataset;
use super::table::{self, Row};

const WINDOW: &str = "--skip 2 --window 20 --threads 2";

/// Numbers below `rows`, each once, in an order without a pattern.
fn mixed(rows: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows).collect();
    order.sort_by_key(|row| (row.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20) & 0xF_FFFF);
    order
}

/// `keys` values of `key0` with `each` rows each.
fn keyed(keys: usize, each: usize) -> Dataset {
    let order = mixed(keys * each);
    Dataset::planted(keys * each, 8, 5).with_key(|row| Some(format!("k{}", order[row] % keys)))
}

/// The batches of a table, and for each the most rows that have one label.
fn batches(table: &[Row]) -> Vec<&[Row]> {
    table.chunk_by(|a, b| a.batch == b.batch).collect()
}

/// The most rows of a batch that share anything that keeps rows apart.
fn most_of_one(data: &Dataset, batch: &[Row]) -> usize {
    let mut counts = BTreeMap::<(usize, Vec<u8>), usize>::new();
    for row in batch {
        for (column, labels) in data.labels(row.row).into_iter().enumerate() {
            labels.into_iter().for_each(|label| *counts.entry((column, label)).or_default() += 1);
        }
    }
    counts.into_values().max().unwrap_or(0)
}

fn full(data: &Dataset, flags: &str, size: usize) -> (usize, Outcome) {
    let place = Place::with(data);
    let run = place.path("run");
    let outcome = mine(&place.input(), &run, &format!("{WINDOW} {flags}")).ok();
    let table = table::read(&run);
    for batch in batches(&table) {
        assert_eq!(most_of_one(data, batch), 1, "a batch holds a key twice");
    }
    let found = batches(&table).iter().filter(|batch| batch.len() == size).count();
    let said = verify(&run).ok();
    assert!(said.stdout.contains(&format!("{found} batches of {size}")), "{}", said.stdout);
    (found, outcome)
}

#[test]
fn few_keys_make_all_full_batches_that_are_possible() {
    for ([keys, each, size], possible) in
        [([77, 26, 64], 31), ([400, 5, 256], 7), ([150, 14, 128], 16), ([40, 30, 32], 37), ([100, 20, 64], 31)]
    {
        let data = keyed(keys, each);
        let flags = format!("--key-column key0 --batch-size {size} --cluster-size 8 --remainder drop");
        let (found, outcome) = full(&data, &flags, size);
        assert_eq!(found, possible, "{keys} keys of {each}, |B| {size}");
        assert!(outcome.stderr.contains("clusters are divided"), "{}", outcome.stderr);
    }
}

#[test]
fn passages_with_several_questions_make_all_full_batches_without_a_key_column() {
    for (passages, questions, possible) in [(2000, 5, 9), (1500, 7, 10)] {
        let mut data = Dataset::planted(passages * questions, 8, 6);
        let order = mixed(data.rows());
        let positives = data.positives.clone();
        for row in 0..data.rows() {
            data.positives[row] = positives[order[row] % passages].clone();
        }
        let (found, _) = full(&data, "--remainder drop", 1024);
        assert_eq!(found, possible, "{passages} passages of {questions} questions");
    }
}

#[test]
fn class_labels_make_all_full_batches_that_are_possible() {
    // 40 % of the rows have one class; and classes of 1/c.
    let rows = 1500;
    let order = mixed(rows);
    let one = |row: usize| if order[row] < 600 { 0 } else { order[row] };
    let zipf = |row: usize| {
        let mut left = order[row];
        (1..).find(|class| {
            let size = 250 / class + 1;
            let found = left < size;
            left = left.saturating_sub(size);
            found
        })
    };
    for (name, classes) in [
        ("one", (0..rows).map(one).collect::<Vec<usize>>()),
        ("zipf", (0..rows).map(|row| zipf(row).unwrap()).collect()),
    ] {
        let data = Dataset::planted(rows, 8, 7).with_key(|row| Some(classes[row].to_string()));
        let size = 32;
        let mut counts = BTreeMap::<usize, usize>::new();
        classes.iter().for_each(|class| *counts.entry(*class).or_default() += 1);
        let possible = (0..=rows / size)
            .rev()
            .find(|batches| counts.values().map(|rows| rows.min(batches)).sum::<usize>() >= batches * size)
            .unwrap();
        let (found, outcome) = full(&data, &format!("--key-column key0 --batch-size {size} --remainder drop"), size);
        assert_eq!(found, possible, "{name}");
        let most = counts.values().max().unwrap();
        assert!(possible < rows / size);
        for words in
            ["keys allow", &format!("{possible} of {}", rows / size), &format!("{most} of them"), "--batch-size"]
        {
            assert!(outcome.stderr.contains(words), "{words}: {}", outcome.stderr);
        }
    }
}

#[test]
fn clusters_are_divided_for_full_batches_only() {
    let data = keyed(77, 26);
    let place = Place::with(&data);
    let run = place.path("run");
    mine(&place.input(), &run, &format!("{WINDOW} --key-column key0 --batch-size 64 --remainder short --epochs 2"))
        .ok();
    let table = table::read(&run);
    let mut parts = BTreeMap::<(i32, i64), BTreeSet<i64>>::new();
    for row in &table {
        parts.entry((row.epoch, row.cluster.unwrap_or(-1))).or_default().insert(row.batch);
    }
    let divided = parts.iter().filter(|((_, cluster), batches)| *cluster >= 0 && batches.len() > 1).count();
    let clusters = parts.keys().filter(|(_, cluster)| *cluster >= 0).count();
    assert!(divided > 0 && divided * 2 < clusters, "{divided} of {clusters} clusters are divided");
    let said = verify(&run).ok().stdout;
    assert!(said.contains(&format!("{divided} clusters divided")), "{said}");
    let rows: BTreeSet<(i32, usize)> = table.iter().map(|row| (row.epoch, row.row)).collect();
    assert_eq!(rows.len(), table.len());
    let alone = 2 * data.rows() - rows.len();
    assert!(alone < 4 && said.contains(&format!("({alone} left out)")), "{said}");
    // Rows of one cluster stand side by side.
    for batch in batches(&table) {
        let runs: Vec<_> = batch.chunk_by(|a, b| a.cluster == b.cluster).map(|rows| rows[0].cluster).collect();
        let named: Vec<i64> = runs.into_iter().flatten().collect();
        assert_eq!(named.iter().collect::<BTreeSet<_>>().len(), named.len());
    }
}

#[test]
fn ranks_share_whole_clusters_of_batches_that_have_no_other() {
    let data = keyed(100, 20);
    let place = Place::with(&data);
    for layout in ["contiguous", "strided"] {
        let run = place.path(layout);
        let flags = "--key-column key0 --batch-size 64 --remainder drop --world-size 2";
        mine(&place.input(), &run, &format!("{WINDOW} {flags} --rank-layout {layout}")).ok();
        verify(&run).ok();
        let table = table::read(&run);
        assert_eq!(batches(&table).len(), 31);
        let lines = inspect(&run, 0..data.rows());
        let mut sizes = BTreeMap::<i64, usize>::new();
        lines.iter().filter_map(|line| line.cluster).for_each(|cluster| *sizes.entry(cluster).or_default() += 1);
        for batch in batches(&table) {
            let mut found = BTreeMap::<Option<i64>, usize>::new();
            batch.iter().for_each(|row| *found.entry(row.cluster).or_default() += 1);
            if !found.iter().all(|(cluster, rows)| *rows == 8 && cluster.is_some()) {
                continue;
            }
            for rank in 0..2 {
                let share: Vec<&Row> = match layout {
                    "contiguous" => batch[rank * 32..][..32].iter().collect(),
                    _ => batch.iter().skip(rank).step_by(2).collect(),
                };
                assert!(share.chunks(8).all(|rows| rows.iter().all(|row| row.cluster == rows[0].cluster)));
            }
        }
    }
}

#[test]
fn several_rows_of_a_class_share_a_batch_where_they_may() {
    for (classes, per_key, cluster_size) in [(16, 4, 8), (4, 16, 8), (32, 2, 4)] {
        let data = keyed(classes, 640 / classes);
        let place = Place::with(&data);
        let run = place.path("run");
        let flags = format!(
            "{WINDOW} --key-column key0 --batch-size 64 --cluster-size {cluster_size} --rows-per-key {per_key} \
             --remainder drop"
        );
        mine(&place.input(), &run, &flags).ok();
        let said = verify(&run).ok().stdout;
        assert!(said.contains(&format!("no key more than {per_key} times")), "{said}");
        let table = table::read(&run);
        assert_eq!(batches(&table).len(), 10, "{classes} classes");
        for batch in batches(&table) {
            assert_eq!((batch.len(), most_of_one(&data, batch)), (64, per_key));
        }
    }
    let place = Place::with(&keyed(4, 4));
    let flags = format!("{WINDOW} --key-column key0 --rows-per-key 0");
    mine(&place.input(), &place.path("run"), &flags).refuses(&["--rows-per-key"]);
}

#[test]
fn no_batch_has_one_row() {
    // 33 rows, |B| 8: one row is left over. And 40 rows of which 20 share a key: 4 batches take one each.
    let one_over = Dataset::planted(33, 8, 8);
    let one_key = Dataset::planted(40, 8, 9).with_key(|row| (row < 20).then(|| "same".to_owned()));
    for (data, flags) in [(&one_over, ""), (&one_key, "--key-column key0")] {
        let place = Place::with(data);
        for remainder in ["short", "fill"] {
            let run = place.path(remainder);
            let flags = format!("--skip 1 --window 5 --batch-size 8 --cluster-size 4 {flags} --remainder {remainder}");
            let outcome = mine(&place.input(), &run, &flags).ok();
            let table = table::read(&run);
            assert!(batches(&table).iter().all(|batch| batch.len() > 1));
            let alone = data.rows() - table.len();
            assert!(alone > 0);
            assert!(
                outcome.stderr.contains(&format!("{alone} rows left out: they would be alone")),
                "{}",
                outcome.stderr
            );
            let said = verify(&run).ok().stdout;
            assert!(said.contains(&format!("({alone} left out)")), "{said}");
        }
    }
}

#[test]
fn a_job_without_a_batch_is_refused_before_the_search() {
    let seven = Dataset::planted(70, 8, 10).with_key(|row| Some(format!("k{}", row % 7)));
    let same = Dataset::planted(70, 8, 10).with_key(|_| Some("same".to_owned()));
    let cases = [
        (&seven, "--key-column key0 --remainder drop", "--batch-size 6"),
        (&same, "--key-column key0 --remainder drop", "--remainder short"),
        (&same, "--key-column key0", "70 of them"),
        (&same, "--key-column key0 --remainder fill", "another --key-column"),
        (&seven, "--remainder drop --batch-size 128", "--batch-size"),
    ];
    for (data, flags, words) in cases {
        let place = Place::with(data);
        let run = place.path("run");
        let size = if flags.contains("--batch-size") { "" } else { "--batch-size 8" };
        let flags = format!("--skip 1 --window 5 --cluster-size 2 {size} {flags}");
        mine(&place.input(), &run, &flags).refuses(&["no batch can be made", words]);
        assert!(!run.join("neighbors").join("partition.ord").exists(), "{words}: the search had begun");
        assert!(!run.join("_SUCCESS").exists());
    }
}

#[test]
fn left_over_rows_of_all_tasks_make_all_full_batches_that_are_possible() {
    // Two tasks of 20 keys each, shared by both: no task makes a batch of 32 alone, all rows together do.
    let order = mixed(600);
    let data = Dataset::planted(600, 8, 11)
        .with_tasks(|row| ["a", "b"][row % 2].into())
        .with_key(|row| Some(format!("k{}", 20 * (row % 2) + order[row] % 20)));
    let place = Place::with(&data);
    let run = place.path("run");
    let flags = "--task-column task --key-column key0 --batch-size 32 --remainder fill";
    mine(&place.input(), &run, &format!("{WINDOW} {flags}")).ok();
    let table = table::read(&run);
    let mut counts = BTreeMap::<String, usize>::new();
    (0..600).for_each(|row| *counts.entry(data.keys[0][row].clone().unwrap()).or_default() += 1);
    let possible = (0..=600 / 32)
        .rev()
        .find(|batches| counts.values().map(|rows| rows.min(batches)).sum::<usize>() >= batches * 32)
        .unwrap();
    let found = batches(&table).iter().filter(|batch| batch.len() == 32).count();
    assert_eq!(found, possible);
    assert!(batches(&table).iter().all(|batch| most_of_one(&data, batch) == 1));
    verify(&run).ok();
    let said = call(["report", run.to_str().unwrap()]).ok().stdout;
    assert!(said.contains("Duplicates"), "{said}");
}

#[test]
fn a_plan_foresees_what_keys_allow() {
    // 40 % of 500 rows have one key: 9 batches of 32 of 15.
    let data =
        Dataset::planted(500, 8, 12).with_key(|row| Some(if row % 5 < 2 { "cat".into() } else { row.to_string() }));
    let place = Place::with(&data);
    let (input, out) = (place.input(), place.path("run"));
    let (input, out) = (input.to_str().unwrap(), out.to_str().unwrap());
    let flags = ["--skip", "2", "--window", "20", "--key-column", "key0", "--batch-size", "32"];
    let said = call([&["plan", input][..], &flags].concat()).ok().stdout;
    for words in
        ["batches  9 full ones at most", "keys allow 9 of 15", "200 of them have `key0` \"cat\"", "--batch-size 24"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    let said = call([&["plan", input, "--json"][..], &flags].concat()).ok().stdout;
    let plan: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(plan["full_batches"], serde_json::json!({"possible": 9, "without_keys": 15}));
    let dry = call([&["mine", input, "--out", out, "--dry-run"][..], &flags].concat());
    assert!(dry.ok().stdout.contains("9 full ones at most"));
    let flags = &flags[..flags.len() - 2];
    let more = ["mine", input, "--out", out, "--dry-run", "--batch-size", "400", "--remainder", "drop"];
    call([&more[..], flags].concat()).refuses(&["no batch can be made", "200 of them have `key0` \"cat\""]);
    assert!(!place.path("run").exists());
}

#[test]
fn rows_of_two_keys_leave_a_run_that_is_sound() {
    // Where rows have several keys, a batch may get stuck, and `drop` leaves its rows out.
    let mut mined = 0;
    for seed in 0..12 {
        let order = mixed(90 + seed);
        let key = |row: usize, keys: usize| Some((order[row] * 7919 % 1009 % keys).to_string());
        let data = Dataset::planted(order.len(), 8, 20 + seed as u64)
            .with_key(|row| key(row, 9 + seed))
            .with_key(|row| key((row * 31) % order.len(), 12));
        let place = Place::with(&data);
        for remainder in ["drop", "short"] {
            let run = place.path(remainder);
            let flags = "--skip 1 --window 8 --cluster-size 4 --batch-size 8 --key-column key0 --key-column key1";
            let outcome = mine(&place.input(), &run, &format!("{flags} --remainder {remainder}"));
            if outcome.code == Some(2) {
                outcome.refuses(&["no batch can be made"]);
                continue;
            }
            outcome.ok();
            verify(&run).ok();
            let table = table::read(&run);
            assert!(batches(&table).iter().all(|batch| most_of_one(&data, batch) == 1 && batch.len() > 1));
            mined += 1;
        }
    }
    assert!(mined > 12, "{mined} jobs had batches");
}

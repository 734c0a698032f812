//! What every run promises about its clusters and batches, checked from what it wrote.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::command::Line;
use super::dataset::Dataset;
use super::table::Row;

/// The settings that the promises depend on.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    pub cluster_size: usize,
    pub batch_size: usize,
    pub epochs: usize,
    /// `short`, `drop` or `fill`.
    pub remainder: &'a str,
}

/// What the keys leave of a task: with few conflicts sizes must be exact, with many they may not be.
struct Task {
    rows: usize,
    /// Clusters can be exact.
    loose: bool,
    /// Batches of whole clusters can be exact.
    loose_batches: bool,
}

/// Checks the lines of all input rows and the whole table.
pub fn check(data: &Dataset, lines: &[Line], table: &[Row], terms: Terms<'_>) {
    assert_eq!(lines.len(), data.rows(), "a line for each input row");
    for line in lines {
        assert_eq!(line.id, data.id(line.row), "id of row {}", line.row);
        assert_eq!(line.task.as_deref(), data.task(line.row), "task of row {}", line.row);
    }
    let labels: Vec<_> = (0..data.rows()).map(|row| data.labels(row)).collect();
    let tasks = tasks(data, &labels, terms);
    check_clusters(data, &labels, lines, &tasks, terms);
    check_rows(lines, table, terms);
    for epoch in 0..terms.epochs {
        let rows: Vec<&Row> = table.iter().filter(|row| row.epoch == epoch as i32).collect();
        check_epoch(data, &labels, &rows, &tasks, terms);
    }
}

type Labels = [Vec<BTreeSet<Vec<u8>>>];

fn tasks<'d>(data: &'d Dataset, labels: &Labels, terms: Terms<'_>) -> BTreeMap<Option<&'d str>, Task> {
    let mut groups: HashMap<(Option<&str>, usize, &[u8]), usize> = HashMap::new();
    let mut sizes: BTreeMap<Option<&str>, usize> = BTreeMap::new();
    // Filled batches unite tasks, and there a key counts across them.
    let scope = |row: usize| if terms.remainder == "fill" { None } else { data.task(row) };
    for (row, labels) in labels.iter().enumerate() {
        *sizes.entry(data.task(row)).or_default() += 1;
        for (column, label) in labels.iter().enumerate() {
            for label in label {
                *groups.entry((scope(row), column, label.as_slice())).or_default() += 1;
            }
        }
    }
    let mut most: HashMap<(Option<&str>, usize), usize> = HashMap::new();
    for ((task, column, _), size) in groups {
        let most = most.entry((task, column)).or_default();
        *most = size.max(*most);
    }
    let describe = |(task, rows): (Option<&'d str>, usize)| {
        let within = |key: &(Option<&str>, usize)| terms.remainder == "fill" || key.0 == task;
        // At most so many rows are in conflict with any one row of the task, which may have two vectors, or a list.
        let most_labels = |column: usize| labels.iter().map(|labels| labels[column].len()).max().unwrap_or(0);
        let of_column = |(key, size): (&(Option<&str>, usize), &usize)| most_labels(key.1) * (size - 1);
        let conflicts: usize = most.iter().filter(|(key, _)| within(key)).map(of_column).sum();
        // Of a key with more rows than the task has batches to spare, the rest sit out.
        let batches = rows / terms.batch_size;
        let room = if batches < 2 { 1 } else { batches - batches.div_ceil(8) };
        let seated = most.iter().filter(|(key, _)| within(key)).all(|(_, size)| *size <= room);
        let loose = conflicts == 0 || seated && 2 * conflicts < rows.div_ceil(terms.cluster_size);
        let loose_batches = conflicts == 0 || 2 * conflicts * terms.cluster_size < rows.div_ceil(terms.batch_size);
        (task, Task { rows, loose, loose_batches })
    };
    sizes.into_iter().map(describe).collect()
}

fn check_clusters(
    data: &Dataset,
    labels: &Labels,
    lines: &[Line],
    tasks: &BTreeMap<Option<&str>, Task>,
    terms: Terms<'_>,
) {
    let mut clusters: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for line in lines {
        if let Some(cluster) = line.cluster {
            clusters.entry(cluster).or_default().push(line.row);
        }
    }
    let mut sizes: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
    for (cluster, rows) in &clusters {
        assert!(rows.len() <= terms.cluster_size, "cluster {cluster} holds {} rows", rows.len());
        let task = data.task(rows[0]);
        assert!(rows.iter().all(|row| data.task(*row) == task), "cluster {cluster} mixes tasks");
        assert_no_conflict(labels, rows.iter().copied(), &format!("cluster {cluster}"));
        sizes.entry(task).or_default().push(rows.len());
    }
    for (task, about) in tasks.iter().filter(|(_, about)| about.loose) {
        let sizes = sizes.remove(task).unwrap_or_default();
        let full = sizes.iter().filter(|size| **size == terms.cluster_size).count();
        let place = format!("task {task:?}: {} rows in clusters of {sizes:?}", about.rows);
        assert_eq!(full, about.rows / terms.cluster_size, "{place}");
        assert!(sizes.len() - full <= 1, "{place}");
    }
}

/// The table is sorted, says of each row what `inspect` says, and numbers batches once for all epochs.
fn check_rows(lines: &[Line], table: &[Row], terms: Terms<'_>) {
    let key = |row: &Row| (row.epoch, row.batch, row.position);
    assert!(table.is_sorted_by(|a, b| key(a) < key(b)), "sorted by epoch, batch and position");
    let mut epochs: BTreeMap<i64, i32> = BTreeMap::new();
    for row in table {
        assert!((0..terms.epochs as i32).contains(&row.epoch), "{row:?}");
        assert_eq!(*epochs.entry(row.batch).or_insert(row.epoch), row.epoch, "batch {} in two epochs", row.batch);
        let line = &lines[row.row];
        let known = (&line.id, &line.task, line.cluster, line.score.to_bits());
        assert_eq!((&row.id, &row.task, row.cluster, row.score.to_bits()), known, "row {}", row.row);
    }
}

fn check_epoch(data: &Dataset, labels: &Labels, rows: &[&Row], tasks: &BTreeMap<Option<&str>, Task>, terms: Terms<'_>) {
    let distinct: BTreeSet<usize> = rows.iter().map(|row| row.row).collect();
    assert_eq!(distinct.len(), rows.len(), "a row twice in one epoch");
    let batches: Vec<&[&Row]> = rows.chunk_by(|a, b| a.batch == b.batch).collect();
    for batch in &batches {
        check_batch(labels, batch, terms);
    }
    let full = |task: Option<&str>| {
        let of_task = |batch: &&&[&Row]| batch.iter().all(|row| row.task.as_deref() == task);
        let sizes: Vec<usize> = batches.iter().filter(of_task).map(|batch| batch.len()).collect();
        (sizes.iter().filter(|size| **size == terms.batch_size).count(), sizes)
    };
    match terms.remainder {
        "short" => {
            check_missing(data, labels, &distinct, |row| data.task(row));
            for (task, about) in tasks.iter().filter(|(_, about)| about.loose_batches) {
                let (full, sizes) = full(*task);
                let place = format!("task {task:?}: {} rows in batches of {sizes:?}", about.rows);
                assert_eq!(full, about.rows / terms.batch_size, "{place}");
                assert!(sizes.len() - full <= 1, "{place}");
            }
        }
        "drop" => {
            assert!(batches.iter().all(|batch| batch.len() == terms.batch_size), "only full batches");
            for (task, about) in tasks.iter().filter(|(_, about)| about.loose_batches) {
                assert_eq!(full(*task).0, about.rows / terms.batch_size, "batches of task {task:?}");
            }
        }
        "fill" => {
            check_missing(data, labels, &distinct, |_| None);
            let whole = batches.iter().filter(|batch| batch.len() == terms.batch_size).count();
            if tasks.values().all(|about| about.loose_batches) {
                assert!(batches.len() - whole <= 1, "at most one batch is smaller");
                assert_eq!(whole, data.rows() / terms.batch_size, "full batches out of all tasks' rows");
            }
            for (task, about) in tasks.iter().filter(|(_, about)| about.loose_batches) {
                assert!(full(*task).0 >= about.rows / terms.batch_size, "full batches of task {task:?} alone");
            }
        }
        other => panic!("no such remainder: {other}"),
    }
    if terms.remainder != "fill" && tasks.values().all(|about| about.loose_batches) {
        check_whole_clusters(&batches);
    }
}

/// Only rows that would be alone in a batch are in none: no two of them, of one task, could share one.
fn check_missing<'d>(
    data: &'d Dataset,
    labels: &Labels,
    found: &BTreeSet<usize>,
    task: impl Fn(usize) -> Option<&'d str>,
) {
    let missing: Vec<usize> = (0..data.rows()).filter(|row| !found.contains(row)).collect();
    for (at, a) in missing.iter().enumerate() {
        for b in missing[at + 1..].iter().filter(|b| task(**b) == task(*a)) {
            let conflict = labels[*a].iter().zip(&labels[*b]).any(|(a, b)| a.intersection(b).next().is_some());
            assert!(conflict, "rows {a} and {b} are in no batch, and could share one");
        }
    }
}

fn check_batch(labels: &Labels, batch: &[&Row], terms: Terms<'_>) {
    let number = batch[0].batch;
    assert!(batch.len() <= terms.batch_size, "batch {number} holds {} rows", batch.len());
    assert!(batch.iter().map(|row| row.position).eq(0..batch.len() as i32), "positions of batch {number}");
    let tasks: BTreeSet<_> = batch.iter().map(|row| &row.task).collect();
    assert!(tasks.len() == 1 || terms.remainder == "fill", "batch {number} mixes tasks {tasks:?}");
    let stretches = batch.chunk_by(|a, b| a.cluster == b.cluster).filter(|rows| rows[0].cluster.is_some()).count();
    let clusters: BTreeSet<i64> = batch.iter().filter_map(|row| row.cluster).collect();
    // Batches that `fill` unites take what is left of several.
    assert!(
        stretches == clusters.len() || terms.remainder == "fill",
        "batch {number}: its {} clusters are contiguous, in {stretches} stretches",
        clusters.len()
    );
    assert_no_conflict(labels, batch.iter().map(|row| row.row), &format!("batch {number}"));
}

/// No cluster is divided between batches.
fn check_whole_clusters(batches: &[&[&Row]]) {
    let mut home: HashMap<i64, i64> = HashMap::new();
    for row in batches.iter().copied().flatten() {
        if let Some(cluster) = row.cluster {
            let home = home.entry(cluster).or_insert(row.batch);
            assert_eq!(*home, row.batch, "cluster {cluster} is divided between batches");
        }
    }
}

/// No two of the rows share a key or a vector.
fn assert_no_conflict(labels: &Labels, rows: impl Iterator<Item = usize>, place: &str) {
    let mut seen = HashMap::new();
    for row in rows {
        for (column, label) in
            labels[row].iter().enumerate().flat_map(|(column, own)| own.iter().map(move |own| (column, own)))
        {
            if let Some(other) = seen.insert((column, label), row) {
                panic!("{place}: rows {other} and {row} share label {column} (0: a vector)");
            }
        }
    }
}

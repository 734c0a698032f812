//! Randomness, epochs, and what becomes of the rows that fill no whole batch.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::command::{MADE, Place, assert_same, files, inspect, mine, verify};
use super::dataset::Dataset;
use super::promises::{self, Terms};
use super::table;

const FLAGS: &str = "--skip 4 --window 16 --cluster-size 8 --batch-size 32";

/// Tasks of 40, 56 and 133 rows: after whole batches of 32 they leave 8, 24 and 5.
fn uneven() -> Dataset {
    let task = |row: usize| match row % 229 {
        0..40 => "forty",
        40..96 => "fifty-six",
        _ => "the rest",
    };
    Dataset::planted(229, 24, 7).with_tasks(|row| task(row * 100).into())
}

#[test]
fn each_epoch_covers_all_rows_in_batches_of_its_own() {
    let data = uneven();
    let place = Place::with(&data);
    let run = place.path("run");
    mine(&place.input(), &run, &format!("{FLAGS} --task-column task --epochs 3")).ok();
    verify(&run).ok();
    let table = table::read(&run);
    let terms = Terms { cluster_size: 8, batch_size: 32, epochs: 3, remainder: "short" };
    promises::check(&data, &inspect(&run, 0..data.rows()), &table, terms);
    let united = |epoch: i32| {
        let mut batches: Vec<Vec<usize>> = Vec::new();
        for batch in table.chunk_by(|a, b| a.batch == b.batch).filter(|batch| batch[0].epoch == epoch) {
            let mut rows: Vec<usize> = batch.iter().map(|row| row.row).collect();
            rows.sort_unstable();
            batches.push(rows);
        }
        batches.sort();
        batches
    };
    assert_ne!(united(0), united(1), "clusters are united anew");
    assert_ne!(united(1), united(2), "clusters are united anew");
    // The clusters themselves stay, and no epoch brings the same two of them together again and again.
    let pairs = |epoch: i32| -> BTreeSet<(i64, i64)> {
        let mut pairs = BTreeSet::new();
        for batch in table.chunk_by(|a, b| a.batch == b.batch).filter(|batch| batch[0].epoch == epoch) {
            let clusters: BTreeSet<i64> = batch.iter().filter_map(|row| row.cluster).collect();
            pairs.extend(clusters.iter().flat_map(|a| clusters.iter().filter(move |b| a < b).map(move |b| (*a, *b))));
        }
        pairs
    };
    let (first, second) = (pairs(0), pairs(1));
    assert!(first.intersection(&second).count() < first.len() / 2, "{first:?} {second:?}");
    let cluster_of = |epoch: i32| -> BTreeMap<usize, Option<i64>> {
        table.iter().filter(|row| row.epoch == epoch).map(|row| (row.row, row.cluster)).collect()
    };
    assert!(cluster_of(0) == cluster_of(1) && cluster_of(1) == cluster_of(2), "the same clusters");
}

#[test]
fn the_seed_decides_everything_random() {
    let place = Place::with(&uneven());
    let run = |name: &str, seed: u64| {
        let run = place.path(name);
        mine(&place.input(), &run, &format!("{FLAGS} --seed {seed}")).ok();
        run
    };
    let (a, b, c) = (run("a", 1), run("b", 1), run("c", 2));
    assert_same(&b, &a, &MADE);
    assert!(files(&a, &["batches"]) != files(&c, &["batches"]), "another seed, other batches");
    assert_same(&c, &a, &["neighbors", "edges"]);
    // Not the footer alone: the rows are in other batches.
    let rows = |run: &Path| table::read(run).into_iter().map(|row| row.row).collect::<Vec<_>>();
    assert_ne!(rows(&a), rows(&c));
}

#[test]
fn more_epochs_begin_with_the_same_ones() {
    let place = Place::with(&uneven());
    let (one, two) = (place.path("one"), place.path("two"));
    mine(&place.input(), &one, FLAGS).ok();
    mine(&place.input(), &two, &format!("{FLAGS} --epochs 2")).ok();
    let (one, mut two) = (table::read(&one), table::read(&two));
    two.retain(|row| row.epoch == 0);
    assert_eq!(one, two);
}

#[test]
fn remainders_are_short_dropped_or_filled_up() {
    let data = uneven();
    let place = Place::with(&data);
    let rows_in_batches = ["short", "drop", "fill"].map(|remainder| {
        let run = place.path(remainder);
        mine(&place.input(), &run, &format!("{FLAGS} --task-column task --epochs 2 --remainder {remainder}")).ok();
        verify(&run).ok();
        let table = table::read(&run);
        let terms = Terms { cluster_size: 8, batch_size: 32, epochs: 2, remainder };
        promises::check(&data, &inspect(&run, 0..data.rows()), &table, terms);
        table.iter().filter(|row| row.epoch == 1).count()
    });
    let [short, dropped, filled] = rows_in_batches;
    assert_eq!((short, dropped), (229, 32 + 32 + 128));
    // 37 rows are left over: one more batch, and 5 rows that fill none.
    assert!(filled == 224 || filled == 229, "{filled} rows");
}

#[test]
fn filled_batches_mix_tasks_and_rows_keep_their_own() {
    // 8 and 24 left over: exactly one batch of both tasks.
    let data = Dataset::planted(96, 16, 8).with_tasks(|row| if row % 12 < 5 { "a" } else { "b" }.into());
    let place = Place::with(&data);
    let run = place.path("run");
    mine(&place.input(), &run, &format!("{FLAGS} --task-column task --remainder fill")).ok();
    verify(&run).ok();
    let table = table::read(&run);
    assert_eq!(table.len(), 96, "no row is left over");
    let mixed = |batch: &&[table::Row]| batch.iter().any(|row| row.task != batch[0].task);
    assert_eq!(table.chunk_by(|a, b| a.batch == b.batch).filter(mixed).count(), 1);
    let terms = Terms { cluster_size: 8, batch_size: 32, epochs: 1, remainder: "fill" };
    promises::check(&data, &inspect(&run, 0..96), &table, terms);
}

#[test]
fn keys_hold_across_tasks_in_filled_batches() {
    // Each key has one row in each task, so every mixed batch could go wrong.
    let data = Dataset::planted(96, 16, 9)
        .with_tasks(|row| if row % 12 < 5 { "a" } else { "b" }.into())
        .with_key(|row| (row % 12 < 10).then(|| format!("{}", row / 12 * 5 + row % 12 % 5)));
    let place = Place::with(&data);
    let run = place.path("run");
    mine(&place.input(), &run, &format!("{FLAGS} --task-column task --key-column key0 --remainder fill")).ok();
    verify(&run).ok();
    let terms = Terms { cluster_size: 8, batch_size: 32, epochs: 1, remainder: "fill" };
    promises::check(&data, &inspect(&run, 0..96), &table::read(&run), terms);
}

#[test]
fn rows_of_a_key_beyond_the_batches_are_the_remainders() {
    // 60 of 320 rows have one key, and there are 10 batches, 8 of which take one each.
    let data = Dataset::planted(320, 24, 10).with_key(|row| (row % 16 < 3).then(|| "everywhere".into()));
    let place = Place::with(&data);
    for remainder in ["short", "drop", "fill"] {
        let run = place.path(remainder);
        let outcome = mine(&place.input(), &run, &format!("{FLAGS} --key-column key0 --remainder {remainder}")).ok();
        let said = "52 rows fit into no cluster: their tasks have more rows of one key";
        assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
        verify(&run).ok();
        let table = table::read(&run);
        let lines = inspect(&run, 0..320);
        promises::check(&data, &lines, &table, Terms { cluster_size: 8, batch_size: 32, epochs: 1, remainder });
        let of_key = |rows: &[table::Row]| rows.iter().filter(|row| row.row % 16 < 3).count();
        let batches: Vec<&[table::Row]> = table.chunk_by(|a, b| a.batch == b.batch).collect();
        assert!(batches.iter().all(|batch| of_key(batch) <= 1), "a batch takes one of them");
        if remainder == "drop" {
            // All that were left over are of this key, and what it kept from filling a batch.
            assert!(table.len() >= 256 && of_key(&table) <= 10, "{} rows, {}", table.len(), of_key(&table));
            assert!(outcome.stderr.contains(&format!("{} rows left out by --remainder drop", 320 - table.len())));
        } else {
            // Batches of one row are none: of the key, as many rows are there as there are batches.
            assert_eq!(table.len() - of_key(&table), 260, "every other row is in some batch");
            assert_eq!(of_key(&table), batches.len());
            let alone = format!("{} rows left out: they would be alone", 60 - of_key(&table));
            assert!(outcome.stderr.contains(&alone), "{}", outcome.stderr);
        }
    }
}

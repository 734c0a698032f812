//! Ranks of a distributed trainer share each batch in whole clusters.

use std::collections::BTreeSet;

use super::command::{Place, inspect, mine, verify};
use super::dataset::Dataset;
use super::promises::{self, Terms};
use super::table::{self, Row};
use super::verify::{forge, places, put};

const FLAGS: &str = "--skip 4 --window 16 --cluster-size 8 --batch-size 32";

fn data() -> Dataset {
    Dataset::planted(300, 24, 91).with_tasks(|row| ["a", "b"][usize::from(row % 3 == 0)].into())
}

/// The rows of a batch as each rank reads them.
fn shares<'t>(batch: &'t [Row], world: usize, layout: &str) -> Vec<Vec<&'t Row>> {
    let of = |rank: usize| match layout {
        "contiguous" => batch[rank * batch.len() / world..(rank + 1) * batch.len() / world].iter().collect(),
        _ => batch.iter().skip(rank).step_by(world).collect(),
    };
    (0..world).map(of).collect()
}

fn batches(table: &[Row]) -> impl Iterator<Item = &[Row]> {
    table.chunk_by(|a, b| a.batch == b.batch)
}

#[test]
fn no_cluster_of_a_whole_batch_is_divided() {
    let data = data();
    let place = Place::with(&data);
    for (world, layout) in [(1, "strided"), (2, "contiguous"), (2, "strided"), (4, "strided"), (4, "contiguous")] {
        let run = place.path(&format!("{world}-{layout}"));
        let flags = format!("{FLAGS} --task-column task --epochs 2 --remainder drop --world-size {world}");
        mine(&place.input(), &run, &format!("{flags} --rank-layout {layout}")).ok();
        verify(&run).ok();
        let mut read = Vec::new();
        let table = table::read(&run);
        for batch in batches(&table) {
            let shares = shares(batch, world, layout);
            for share in &shares {
                assert_eq!(share.len(), 32 / world);
                for cluster in share.chunks(8) {
                    assert!(cluster.iter().all(|row| row.cluster.is_some() && row.cluster == cluster[0].cluster));
                }
            }
            let order = shares.concat().into_iter().enumerate();
            read.extend(order.map(|(position, row)| Row { position: position as i32, ..row.clone() }));
        }
        let terms = Terms { cluster_size: 8, batch_size: 32, epochs: 2, remainder: "drop" };
        promises::check(&data, &inspect(&run, 0..data.rows()), &read, terms);
        let (_, footer) = table::load(&table::parts(&run)[0]);
        let pairs: Vec<_> = footer.file_metadata().key_value_metadata().unwrap().clone();
        let value = |key: &str| pairs.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.clone());
        assert_eq!(value("batchmine.world_size"), Some(world.to_string()));
        assert_eq!(value("batchmine.rank_layout").as_deref(), Some(layout));
    }
}

#[test]
fn strided_is_what_a_distributed_sampler_deals_out() {
    let place = Place::with(&data());
    let run = place.path("run");
    mine(&place.input(), &run, &format!("{FLAGS} --remainder drop --world-size 4 --rank-layout strided")).ok();
    let table = table::read(&run);
    for rank in 0..4 {
        // A sampler gives each rank every fourth row of the whole table; its loader cuts them into steps of |B|/W.
        let own: Vec<&Row> = table.iter().skip(rank).step_by(4).collect();
        for step in own.chunks(8) {
            assert!(step.iter().all(|row| row.batch == step[0].batch && row.cluster == step[0].cluster));
        }
    }
}

#[test]
fn ranks_change_the_order_within_batches_and_nothing_else() {
    let place = Place::with(&data());
    let rows = |name: &str, more: &str| {
        let run = place.path(name);
        mine(&place.input(), &run, &format!("{FLAGS} --task-column task {more}")).ok();
        verify(&run).ok();
        table::read(&run)
    };
    let one = rows("one", "");
    let sorted = |table: &[Row]| -> Vec<(i64, BTreeSet<usize>)> {
        batches(table).map(|batch| (batch[0].batch, batch.iter().map(|row| row.row).collect())).collect()
    };
    for (name, more) in [("contiguous", "--world-size 4"), ("strided", "--world-size 4 --rank-layout strided")] {
        let four = rows(name, more);
        assert_eq!(sorted(&one), sorted(&four), "each row stays in its batch");
        let (short, full): (Vec<&[Row]>, Vec<&[Row]>) = batches(&four).partition(|batch| batch.len() < 32);
        assert!(!short.is_empty() && !full.is_empty());
        let even =
            |batch: &[Row]| shares(batch, 4, name).iter().all(|share| share.len().abs_diff(batch.len() / 4) <= 1);
        assert!(short.into_iter().all(even));
    }
}

#[test]
fn a_batch_that_cannot_be_shared_is_refused() {
    let place = Place::with(&data());
    let run = place.path("run");
    mine(&place.input(), &run, &format!("{FLAGS} --world-size 3")).refuses(&["--batch-size 48", "--world-size 3"]);
    mine(&place.input(), &run, &format!("{FLAGS} --world-size 8")).refuses(&["--batch-size 64"]);
    mine(&place.input(), &run, &format!("{FLAGS} --world-size 0")).refuses(&["--world-size 1"]);
}

#[test]
fn verify_finds_rows_on_another_rank() {
    let place = Place::with(&data());
    let run = place.path("run");
    mine(&place.input(), &run, &format!("{FLAGS} --remainder drop --world-size 4 --rank-layout strided")).ok();
    let (a, b) = places(&run, |a, b| a.batch == b.batch && a.cluster != b.cluster);
    forge(&run, |columns| put(columns, &[(a, b), (b, a)]));
    verify(&run).fails(3, &["process", "cluster"]);
}

#[test]
fn verify_finds_a_table_for_other_ranks() {
    // Clusters one after the other, where each rank was to read every second row.
    let place = Place::with(&data());
    let (run, other) = (place.path("run"), place.path("other"));
    let flags = format!("{FLAGS} --remainder drop --world-size 2 --rank-layout");
    mine(&place.input(), &run, &format!("{flags} strided")).ok();
    mine(&place.input(), &other, &format!("{flags} contiguous")).ok();
    let (rows, _) = table::load(&table::parts(&other)[0]);
    forge(&run, |columns| {
        for (name, column) in columns {
            *column = rows.column_by_name(name).unwrap().clone();
        }
    });
    verify(&run).fails(3, &["process", "cluster"]);
}

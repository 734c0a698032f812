//! Ids of every kind that people have, and columns called `id` that are none.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, FixedSizeBinaryArray};

use super::command::{Place, mine, verify};
use super::dataset::{Dataset, Ids};
use super::labels::{FLAGS, HALF, ROWS, add_column, with_columns};
use super::table;

/// The ids of a run's table, by input row.
fn ids_of(run: &Path) -> Vec<(usize, String)> {
    let mut ids: Vec<(usize, String)> = table::read(run).into_iter().map(|row| (row.row, row.id)).collect();
    ids.sort();
    ids
}

/// Both halves of a column of bytes.
fn halves(column: impl Fn(usize) -> Vec<u8>, array: fn(Vec<Vec<u8>>) -> ArrayRef) -> [ArrayRef; 2] {
    [0, 1].map(|half| array((half * HALF..(half + 1) * HALF).map(&column).collect()))
}

fn fixed(rows: Vec<Vec<u8>>) -> ArrayRef {
    Arc::new(FixedSizeBinaryArray::try_from_iter(rows.into_iter()).unwrap())
}

fn binary(rows: Vec<Vec<u8>>) -> ArrayRef {
    Arc::new(BinaryArray::from_iter_values(rows))
}

#[test]
fn uuids_are_written_as_text() {
    let place = Place::empty();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/files/duckdb-uuid.parquet");
    let flags = "--skip 2 --window 8 --cluster-size 4 --batch-size 8";
    for flags in [flags.to_owned(), format!("{flags} --task-column id --bad-rows refuse")] {
        let run = place.path(if flags.contains("task") { "tasks" } else { "run" });
        let outcome = mine(&fixture, &run, &flags);
        if flags.contains("task") {
            // Each row is a task of its own: what matters is that it has a name.
            assert!(!outcome.said().contains("UTF-8"), "{}", outcome.said());
            continue;
        }
        outcome.ok();
        for (row, id) in ids_of(&run) {
            assert_eq!(id, format!("00000000-0000-4000-8000-{:012x}", row * 7919 % 65_536));
        }
        verify(&run).ok();
    }
}

#[test]
fn other_bytes_are_text_or_hex() {
    let bytes = |row: usize| (row as u32 * 7919).to_be_bytes().to_vec();
    let place = with_columns("doc", halves(bytes, fixed));
    let run = place.path("run");
    mine(&place.input(), &run, &format!("{FLAGS} --id-column doc")).ok();
    assert!(ids_of(&run).into_iter().all(|(row, id)| id == format!("{:08x}", row * 7919)));
    let place = with_columns("doc", halves(|row| format!("ä{row}").into_bytes(), binary));
    let run = place.path("run");
    mine(&place.input(), &run, &format!("{FLAGS} --id-column doc")).ok();
    assert!(ids_of(&run).into_iter().all(|(row, id)| id == format!("ä{row}")));
    let place =
        with_columns("doc", halves(|row| if row == 7 { vec![0xff] } else { vec![b'a', row as u8 % 100] }, binary));
    mine(&place.input(), &place.path("run"), &format!("{FLAGS} --id-column doc")).refuses(&[
        "column doc",
        "row 7",
        "ff",
    ]);
}

#[test]
fn a_column_called_id_that_is_none_does_not_stop_the_job() {
    let ids = (0..ROWS).map(|row| Some(format!("document {}", row / 3))).collect();
    let place = Place::with(&Dataset { ids: Ids::Text(ids), ..Dataset::planted(ROWS, 8, 1) });
    let run = place.path("run");
    mine(&place.input(), &run, FLAGS).refuses(&["two rows have the same id", "column id", "--id-column none"]);
    mine(&place.input(), &run, &format!("{FLAGS} --id-column none --replace")).ok();
    assert!(ids_of(&run).into_iter().all(|(row, id)| id == row.to_string()));
    verify(&run).ok();
    // A column of that name would be meant, or not: nobody knows.
    let place = with_columns("none", halves(|row| row.to_string().into_bytes(), binary));
    mine(&place.input(), &place.path("run"), &format!("{FLAGS} --id-column none")).refuses(&["column none", "rename"]);
}

#[test]
fn no_ids_are_no_fault_where_only_some_files_have_them() {
    let place = with_columns("doc", halves(|row| row.to_string().into_bytes(), binary));
    add_column(&place.input().join("part-1.parquet"), "id", binary((0..HALF).map(|row| vec![row as u8]).collect()));
    mine(&place.input(), &place.path("run"), FLAGS).refuses(&["some files have ids", "--id-column none"]);
    mine(&place.input(), &place.path("run"), &format!("{FLAGS} --id-column none")).ok();
}

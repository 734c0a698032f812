//! Rows whose own positive is not found are left out: who they are, and what becomes of everyone else.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int32Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::command::{Line, Place, assert_same, call, inspect, mine, verify};
use super::dataset::Dataset;
use super::oracle::{Cut, Exactness, Oracle, check_cut_graph};
use super::promises::{self, Terms};
use super::table;

fn debian() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/debian")
}

const FLAGS: &str = "--task-column dataset --skip 5 --window 60 --cluster-size 8 --batch-size 64";

/// The rank of a line's own pair in its list of `ranks` ranks; none beyond it.
fn own_rank(line: &Line, ranks: usize) -> Option<usize> {
    let before = line.neighbors.iter().filter(|(row, score)| (-score, *row) < (-line.score, line.row)).count();
    (before < line.neighbors.len() || line.neighbors.len() < ranks).then_some(before)
}

/// The column of own ranks, file after file.
fn column(run: &Path) -> Vec<Option<i32>> {
    let mut ranks = Vec::new();
    for part in table::parts(run) {
        let file = std::fs::File::open(part).unwrap();
        for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            let last = batch.column_by_name("own_rank").unwrap().as_primitive::<Int32Type>().clone();
            ranks.extend((0..last.len()).map(|row| last.is_valid(row).then(|| last.value(row))));
        }
    }
    ranks
}

#[test]
fn rows_whose_own_positive_is_not_found_are_in_no_batch() {
    let data = Dataset::debian(&debian());
    let place = Place::empty();
    let plain = place.path("plain");
    mine(&debian(), &plain, FLAGS).ok();
    for (most, more) in
        [(0usize, "--remainder short"), (3, "--remainder drop --hard-negatives 2"), (3, "--remainder fill --epochs 2")]
    {
        let run = place.path("run");
        let said = mine(&debian(), &run, &format!("{FLAGS} --max-own-rank {most} --replace {more}")).ok().stderr;
        let verified = verify(&run).ok().stdout;
        assert_same(&run, &plain, &["neighbors"]);
        let lines = inspect(&run, 0..data.rows());
        Oracle::new(&data, true).check(&lines, 65, Exactness::NearTies);
        check_cut_graph(&lines, |_| Cut::skip(5), false);
        let is_out = |line: &&Line| own_rank(line, 65).is_none_or(|rank| rank > most);
        let out: BTreeSet<usize> = lines.iter().filter(is_out).map(|line| line.row).collect();
        assert!(out.len() > 100 && out.len() < 1900, "{} rows", out.len());
        // What the edges stage says, where it runs.
        let told = format!("{} rows left out: their own positive", out.len());
        assert!(more.contains("fill") || said.replace(',', "").contains(&told), "{said}");
        assert!(verified.contains(&format!("{} are left out", out.len())), "{verified}");
        let rows = table::read(&run);
        assert!(rows.iter().all(|row| !out.contains(&row.row)), "a row that is left out");
        assert!(out.iter().all(|row| lines[*row].cluster.is_none()), "a cluster of a row that is left out");
        let ranks = column(&run);
        assert_eq!(ranks.len(), rows.len());
        for (row, rank) in rows.iter().zip(ranks) {
            assert_eq!(rank, own_rank(&lines[row.row], 65).map(|rank| rank as i32), "{row:?}");
        }
        // The others are in batches as if there were no more of them.
        let kept: Vec<usize> = (0..data.rows()).filter(|row| !out.contains(row)).collect();
        let number = |row: usize| kept.binary_search(&row).unwrap();
        let mut of_kept: Vec<Line> = kept.iter().map(|row| lines[*row].clone()).collect();
        of_kept.iter_mut().for_each(|line| line.row = number(line.row));
        let mut rows = rows;
        rows.iter_mut().for_each(|row| row.row = number(row.row));
        let (epochs, remainder) = (1 + usize::from(more.contains("epochs")), more.split_whitespace().nth(1).unwrap());
        let terms = Terms { cluster_size: 8, batch_size: 64, epochs, remainder };
        promises::check(&data.subset(&kept), &of_kept, &rows, terms);
        let (other, small) = (place.path("small"), "--threads 1 --memory 128MiB --replace");
        mine(&debian(), &other, &format!("{FLAGS} --max-own-rank {most} {small} {more}")).ok();
        assert_same(&run, &other, &["edges", "clusters", "batches"]);
        call(["report", run.to_str().unwrap(), "--sample", "50"]).ok();
        ["report.json", "report.html"].iter().for_each(|name| std::fs::remove_file(run.join(name)).unwrap());
    }
}

#[test]
fn a_limit_that_leaves_nobody_is_refused_and_one_that_is_lifted_leaves_no_trace() {
    // Queries that look for another row's positive.
    let mut data = Dataset::planted(200, 16, 7);
    data.queries.rotate_left(100);
    let place = Place::with(&data);
    let (run, plain) = (place.path("run"), place.path("plain"));
    let flags = "--skip 2 --window 8 --cluster-size 4 --batch-size 16";
    mine(&place.input(), &place.path("none"), &format!("{flags} --max-own-rank 0"))
        .refuses(&["no row's own positive is found", "--max-own-rank"]);
    let few = Place::with(&Dataset::planted(200, 16, 8));
    mine(&few.input(), &run, &format!("{flags} --max-own-rank 0")).ok();
    mine(&few.input(), &run, flags).fails(2, &["--replace", "max-own-rank"]);
    mine(&few.input(), &run, &format!("{flags} --replace")).ok();
    mine(&few.input(), &plain, flags).ok();
    assert_same(&run, &plain, &["neighbors", "edges", "clusters", "batches"]);
    mine(&few.input(), &run, &format!("{flags} --max-own-rank 4 --replace")).ok();
    call(["clean", run.to_str().unwrap()]).ok();
    let said = verify(&run).ok().stdout;
    assert!(said.contains("not checked"), "{said}");
}

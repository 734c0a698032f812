//! Hard negatives out of other windows than the batch's, against the lists that `inspect` shows.

use std::collections::{BTreeMap, BTreeSet};

use super::command::{Line, Place, inspect, mine, verify};
use super::dataset::Dataset;
use super::negatives::{allowed, counted, forge_first, part, sample};
use super::oracle::{Cut, Oracle, Part};
use super::table;

const FLAGS: &str = "--skip 4 --window 16 --cluster-size 8 --batch-size 32";

/// A mined run, as its files say.
struct Mined {
    data: Dataset,
    lines: Vec<Line>,
    table: Vec<table::Row>,
    short: Option<u64>,
}

impl Mined {
    fn new(place: &Place, data: Dataset, name: &str, flags: &str) -> Mined {
        let run = place.path(name);
        mine(&place.input(), &run, flags).ok();
        verify(&run).ok();
        let (lines, table) = (inspect(&run, 0..data.rows()), table::read(&run));
        Mined { data, lines, table, short: counted(&run) }
    }

    fn batches(&self) -> impl Iterator<Item = &[table::Row]> {
        self.table.chunk_by(|a, b| a.batch == b.batch)
    }

    /// Ids, scores, and that all three lists belong together.
    fn check_values(&self, row: &table::Row, oracle: &Oracle) {
        for (other, id, score) in row.negatives.as_ref().unwrap() {
            let (expected, slack) = oracle.score(row.row, *other);
            assert_eq!(*id, self.data.id(*other));
            assert!((expected - f64::from(*score)).abs() <= slack, "{other} scores {expected}, {row:?}");
        }
    }
}

fn rows_of(row: &table::Row) -> Vec<usize> {
    row.negatives.as_ref().unwrap().iter().map(|negative| negative.0).collect()
}

/// A line's preferred negatives whose positives are not in the batch, in the order of ranks.
fn window(data: &Dataset, line: &Line, batch: &[table::Row], cut: Cut) -> Vec<usize> {
    let own: BTreeSet<Vec<u32>> = batch.iter().map(|row| data.positive_bits(row.row)).collect();
    let preferred = part(line, cut, Part::Preferred);
    let in_order = line.neighbors.iter().map(|neighbor| neighbor.0).filter(|other| preferred.contains(other));
    in_order.filter(|other| !own.contains(&data.positive_bits(*other))).collect()
}

/// Rows of a cluster with what may be drawn for them, and how often each counts.
type Cluster<'a> = (Vec<&'a table::Row>, BTreeMap<usize, u64>);

/// The clusters of a batch; rows without a cluster are clusters of one.
fn clusters<'a>(data: &Dataset, lines: &[Line], batch: &'a [table::Row], cut: Cut) -> Vec<Cluster<'a>> {
    let mut rows: BTreeMap<(i64, usize), Vec<&table::Row>> = BTreeMap::new();
    for row in batch {
        let alone = (-1, row.row);
        rows.entry(row.cluster.map_or(alone, |cluster| (cluster, 0))).or_default().push(row);
    }
    let counted = |rows: Vec<&'a table::Row>| {
        let mut counts: BTreeMap<usize, i64> = BTreeMap::new();
        for row in &rows {
            let line = &lines[row.row];
            window(data, line, batch, cut).into_iter().for_each(|other| *counts.entry(other).or_default() += 1);
            part(line, cut, Part::Suspect).into_iter().for_each(|other| *counts.entry(other).or_default() -= 2);
        }
        let counts = counts.into_iter().filter(|(_, count)| *count > 0);
        (rows, counts.map(|(other, count)| (other, count as u64)).collect())
    };
    rows.into_values().map(counted).collect()
}

#[test]
fn of_rows_they_come_out_of_the_rows_own_windows() {
    let place = Place::with(&sample());
    let data = sample();
    let (mut ranks, mut expected, mut variance) = (0.0, 0.0, 0.0);
    for (of, remainder) in [("row", "short"), ("row-top", "short"), ("row", "fill"), ("row-top", "drop")] {
        let flags = format!("{FLAGS} {} --epochs 2 --hard-negatives 5 --remainder {remainder}", data.column_flags());
        let name = format!("{of}-{remainder}");
        let mined = Mined::new(&place, sample(), &name, &format!("{flags} --negatives-of {of}"));
        let oracle = Oracle::new(&mined.data, true);
        let mut short = 0;
        for batch in mined.batches() {
            for row in batch {
                let (window, drawn) = (window(&mined.data, &mined.lines[row.row], batch, Cut::skip(4)), rows_of(row));
                if of == "row-top" {
                    assert_eq!(drawn, window[..window.len().min(5)], "{row:?}");
                }
                let distinct: BTreeSet<usize> = drawn.iter().copied().collect();
                assert_eq!((distinct.len(), drawn.len()), (drawn.len(), window.len().min(5)), "{row:?}");
                for other in &drawn {
                    let rank = window.iter().position(|preferred| preferred == other);
                    ranks += if of == "row" { rank.expect("it is in the window") as f64 } else { 0.0 };
                }
                if of == "row" {
                    // Without replacement: the mean is that of one draw, the variance at most that of so many.
                    let (width, count) = (window.len() as f64, drawn.len() as f64);
                    expected += count * (width - 1.0) / 2.0;
                    variance += count * (width * width - 1.0) / 12.0;
                }
                mined.check_values(row, &oracle);
                short += u64::from(drawn.len() < 5);
            }
        }
        assert_eq!(mined.short, Some(short), "{name}");
    }
    assert!((ranks - expected).abs() < 4.0 * f64::sqrt(variance), "{ranks} of {expected}: not drawn evenly");
}

#[test]
fn of_clusters_they_are_shared_out_and_no_suspects_of_others() {
    let place = Place::with(&sample());
    let data = sample();
    // Windows of a cluster that are empty but for a few, and many a row.
    for (number, (flags, count)) in
        [(FLAGS, 3), ("--skip 4 --window 7 --cluster-size 8 --batch-size 32", 9)].into_iter().enumerate()
    {
        let flags = format!("{flags} {} --epochs 2 --hard-negatives {count}", data.column_flags());
        let name = format!("run-{number}");
        let mined = Mined::new(&place, sample(), &name, &format!("{flags} --negatives-of cluster"));
        let (oracle, cut) = (Oracle::new(&mined.data, true), Cut::skip(4));
        let (mut short, mut suspects) = (0, 0);
        for batch in mined.batches() {
            for (rows, counts) in clusters(&mined.data, &mined.lines, batch, cut) {
                let all: Vec<usize> = rows.iter().flat_map(|row| rows_of(row)).collect();
                let distinct: BTreeSet<usize> = all.iter().copied().collect();
                assert_eq!(all.len(), distinct.len(), "{rows:?}");
                for row in rows {
                    let drawn = rows_of(row);
                    let may = allowed(&oracle, &mined.lines[row.row], &counts, cut, true);
                    assert!(drawn.iter().all(|other| may.iter().any(|(may, _)| may == other)), "{row:?}");
                    let left = may.iter().filter(|(other, _)| !distinct.contains(other)).count();
                    assert!(drawn.len() == count || left == 0 && drawn.len() < count, "{left} left for {row:?}");
                    mined.check_values(row, &oracle);
                    short += u64::from(drawn.len() < count);
                    let against = part(&mined.lines[row.row], cut, Part::Suspect);
                    suspects += against.iter().filter(|other| !counts.contains_key(other)).count();
                }
            }
        }
        assert_eq!(mined.short, Some(short));
        assert!(suspects > 0, "no candidate was ever a suspect of another row");
        assert_eq!(short > 500, count == 9, "{short} rows are short");
    }
}

/// In a cluster of two rows the first one draws by counts.
#[test]
fn of_clusters_who_stands_in_more_windows_is_drawn_more_often() {
    let data = Dataset::planted(600, 16, 82);
    let place = Place::with(&data);
    let flags = "--skip 4 --window 16 --cluster-size 16 --batch-size 32 --epochs 8 --hard-negatives 1";
    let mined = Mined::new(&place, data, "run", &format!("{flags} --negatives-of cluster"));
    let oracle = Oracle::new(&mined.data, true);
    let (mut found, mut expected, mut variance, mut even) = (0.0, 0.0, 0.0, 0.0);
    for batch in mined.batches() {
        for (mut rows, counts) in clusters(&mined.data, &mined.lines, batch, Cut::skip(4)) {
            // Rows draw in the order of their numbers: the first one has all to choose from.
            rows.sort_by_key(|row| row.row);
            let may = allowed(&oracle, &mined.lines[rows[0].row], &counts, Cut::skip(4), false);
            let Some(drawn) = rows_of(rows[0]).first().copied() else { continue };
            let moment = |power: i32| may.iter().map(|(_, count)| (*count as f64).powi(power)).sum::<f64>();
            let mean = moment(2) / moment(1);
            found += counts[&drawn] as f64;
            expected += mean;
            variance += moment(3) / moment(1) - mean * mean;
            even += moment(1) / moment(0);
        }
    }
    let deviation = variance.sqrt();
    assert!((found - expected).abs() < 4.0 * deviation, "{found}, expected {expected} +- {deviation}");
    assert!(expected - even > 6.0 * deviation, "an even draw ({even}) would not be told from {expected}");
}

#[test]
fn they_depend_on_the_batch_alone() {
    let place = Place::with(&sample());
    for of in ["cluster", "row", "row-top"] {
        let drawn = |name: &str, more: &str| {
            let run = place.path(&format!("{of}-{name}"));
            mine(&place.input(), &run, &format!("{FLAGS} --hard-negatives 3 --negatives-of {of} {more}")).ok();
            let mut rows = table::read(&run);
            rows.retain(|row| row.epoch == 0);
            rows.sort_by_key(|row| (row.batch, row.row));
            rows.into_iter().map(|row| (row.batch, row.row, row.negatives)).collect::<Vec<_>>()
        };
        let one = drawn("one", "--threads 1");
        assert_eq!(one, drawn("threads", "--threads 4 --epochs 2"));
        assert_eq!(one, drawn("ranks", "--world-size 4 --rank-layout strided"));
    }
}

#[test]
fn verify_finds_what_is_out_of_place() {
    let data = Dataset::planted(240, 24, 84);
    let place = Place::with(&data);
    let flags = "--skip 3 --window 12 --cluster-size 4 --batch-size 16 --hard-negatives 3";
    let oracle = Oracle::new(&data, true);
    let run = place.path("run");
    for (of, word) in [("row", "not in its rank window"), ("row-top", "not the first"), ("cluster", "another's")] {
        let flags = format!("{flags} --negatives-of {of} --replace");
        mine(&place.input(), &run, &flags).ok();
        let (lines, table) = (inspect(&run, 0..240), table::read(&run));
        forge_first(&run, |_, _, _| ());
        verify(&run).ok();
        forge_first(&run, |row, rows, scores| {
            let batch: Vec<table::Row> = table.iter().filter(|mate| mate.batch == row.batch).cloned().collect();
            let own = window(&data, &lines[row.row], &batch, Cut::skip(3));
            let known = |other: &usize| oracle.is_candidate(row.row, *other) && !rows.contains(&(*other as i64));
            let other = match of {
                "row" => {
                    let mut windows =
                        batch.iter().flat_map(|mate| window(&data, &lines[mate.row], &batch, Cut::skip(3)));
                    let suspects = part(&lines[row.row], Cut::skip(3), Part::Suspect);
                    windows.find(|other| known(other) && !own.contains(other) && !suspects.contains(other))
                }
                "row-top" => own[3..].iter().copied().find(known),
                _ => {
                    let mut mates = batch.iter().filter(|mate| mate.cluster == row.cluster && mate.row != row.row);
                    mates.find_map(|mate| {
                        let suspects = part(&lines[row.row], Cut::skip(3), Part::Suspect);
                        rows_of(mate).into_iter().find(|other| known(other) && !suspects.contains(other))
                    })
                }
            };
            let other = other.expect("there is such a row");
            // The list's own score where there is one: it is right to the bit.
            let known = lines[row.row].neighbors.iter().find(|neighbor| neighbor.0 == other);
            let score = known.map_or_else(|| oracle.score(row.row, other).0 as f32, |neighbor| neighbor.1);
            (rows[2], scores[2]) = (other as i64, score);
        });
        verify(&run).fails(3, &[word, "hard negatives"]);
    }
}

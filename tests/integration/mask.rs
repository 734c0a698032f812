//! The column `masked`: every suspect of a row that is in its batch, and nobody else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Int32Type};

use super::command::{Line, Place, assert_same, call, inspect, mine, mine_command, verify};
use super::dataset::Dataset;
use super::oracle::{Cut, Oracle, Part};
use super::table::{self, Row};
use super::undisturbed::copy;
use super::verify::forge;

/// A row's suspects: in a list, or by what it scores with the others. Ranks of positives: `groups` have one each.
struct Suspects<'a> {
    data: &'a Dataset,
    oracle: &'a Oracle<'a>,
    cut: Cut,
    /// Rows that share a positive are suspects together.
    by_positive: bool,
}

impl Suspects<'_> {
    /// Whether a row of the batch is masked: surely, and perhaps, where a score is within its slack of a limit.
    fn masked(&self, line: &Line, other: usize) -> (bool, bool) {
        if other == line.row || self.data.task(line.row) != self.data.task(other) {
            return (false, false);
        }
        let stands = |listed: usize| {
            listed == other || self.by_positive && self.data.positive_bits(listed) == self.data.positive_bits(other)
        };
        let rank = line.neighbors.iter().position(|neighbor| stands(neighbor.0));
        if rank.is_some_and(|rank| self.cut.part(line, rank) == Part::Suspect) {
            return (true, true);
        }
        let (score, slack) = self.oracle.score(line.row, other);
        let own = f64::from(line.score);
        let Cut { relative_margin, max_score, min_score, .. } = self.cut;
        let limits = [relative_margin.map(|margin| own - margin * own.abs()), max_score];
        let above = |by: f64| limits.iter().flatten().any(|limit| score - limit > by);
        let easy = |by: f64| min_score.is_some_and(|least| least - score > by);
        let sides = self.cut.too_close(self.oracle, line.row, other);
        (
            (above(slack) || sides.0) && !easy(-slack),
            rank.is_none() && above(-slack) && !easy(slack) || sides.1 && !easy(slack),
        )
    }
}

/// Compares the mask of every row with what lists and scores say; how many positions are masked.
pub fn check(data: &Dataset, lines: &[Line], table: &[Row], oracle: &Oracle, cut: Cut, by_positive: bool) -> usize {
    let suspects = Suspects { data, oracle, cut, by_positive };
    let mut count = 0;
    for batch in table.chunk_by(|a, b| a.batch == b.batch) {
        for row in batch {
            let masked = row.masked.as_ref().expect("there is a mask");
            assert!(masked.is_sorted_by(|a, b| a < b), "{row:?}");
            for (position, other) in batch.iter().enumerate() {
                let (surely, perhaps) = suspects.masked(&lines[row.row], other.row);
                let found = masked.contains(&(position as i32));
                assert!(found || !surely, "{} is a suspect and not masked: {row:?}", other.row);
                assert!(!found || perhaps, "{} is masked and no suspect: {row:?}", other.row);
            }
            assert!(masked.iter().all(|position| (*position as usize) < batch.len()), "{row:?}");
            count += masked.len();
        }
    }
    count
}

fn debian() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/debian")
}

const FLAGS: &str = "--cluster-size 8 --batch-size 32 --mask suspects";

#[test]
fn it_has_every_suspect_of_the_batch_and_nobody_else() {
    let data = Dataset::debian(&debian());
    let oracle = Oracle::new(&data, true);
    let place = Place::empty();
    let limits = Cut { max_score: Some(0.5), ..Cut::skip(3) };
    let margin = Cut { relative_margin: Some(0.3), min_score: Some(0.3), ..Cut::skip(0) };
    let sides = Cut { sides: [Some(0.6), Some(0.7)], ..Cut::skip(2) };
    let jobs = [
        // Whoever is a suspect by rank meets where clusters do not care.
        ("rank", Cut::skip(20), "--window 40 --suspect-weight 0 --epochs 2"),
        // Lists that end with suspects: limits hold beyond them.
        ("short lists", limits, "--window 4"),
        ("margin", margin, "--window 30 --remainder fill"),
        ("sides", sides, "--window 20 --max-own-rank 15"),
        ("negatives", limits, "--window 30 --hard-negatives 2 --search ivf"),
    ];
    for (name, cut, more) in jobs {
        let run = place.path(name);
        let flags = format!("{FLAGS} --task-column dataset --skip {} {more}{}", cut.skip, cut.flags());
        mine(&debian(), &run, &flags).ok();
        let verified = verify(&run).ok().stdout;
        assert!(verified.contains("every suspect in a batch is masked, and nobody else"), "{verified}");
        let (lines, table) = (inspect(&run, 0..data.rows()), table::read(&run));
        let count = check(&data, &lines, &table, &oracle, cut, false);
        assert!(count > 300, "{name}: {count} masked positions prove little");
        let shown = call(["inspect", run.to_str().unwrap()]).ok().stdout;
        assert!(shown.contains(r#""mask":"suspects""#), "{shown}");
    }
}

#[test]
fn a_suspect_that_stands_for_several_rows_masks_each() {
    let mut data = Dataset::planted(300, 16, 7);
    // Three rows in four have one of 40 positives.
    for row in 0..300 {
        if row % 4 > 0 {
            data.positives[row] = data.positives[row % 40 / 4 * 4].clone();
        }
    }
    // Whoever stands for a positive shares its query with a row that then has this positive in no list, but meets
    // other rows with it.
    for row in 0..10 {
        data.queries[200 + 4 * row] = data.queries[4 * row].clone();
    }
    let place = Place::with(&data);
    let oracle = Oracle::new(&data, true);
    let low = Cut { max_score: Some(0.2), ..Cut::skip(2) };
    for (name, cut) in
        [("rank", Cut::skip(6)), ("limit", Cut { max_score: Some(0.8), ..Cut::skip(2) }), ("low limit", low)]
    {
        let run = place.path(name);
        let flags =
            format!("{FLAGS} --rank-by positive --window 12 --suspect-weight 0 --skip {}{}", cut.skip, cut.flags());
        mine(&place.input(), &run, &flags).ok();
        verify(&run).ok();
        let (lines, table) = (inspect(&run, 0..data.rows()), table::read(&run));
        assert!(check(&data, &lines, &table, &oracle, cut, true) > 20, "{name}");
    }
}

#[test]
fn rows_of_a_key_that_meet_are_masked() {
    let data = Dataset::planted(240, 16, 8).with_key(|row| Some(format!("class {}", row % 6)));
    let place = Place::with(&data);
    let run = place.path("run");
    let flags = format!("{FLAGS} --key-column key0 --rows-per-key 8 --skip 0 --window 20");
    mine(&place.input(), &run, &flags).ok();
    verify(&run).ok();
    let mut met = 0;
    for batch in table::read(&run).chunk_by(|a, b| a.batch == b.batch) {
        for row in batch {
            let mates = (0..).zip(batch).filter(|(_, other)| other.row != row.row && other.row % 6 == row.row % 6);
            let mates: Vec<i32> = mates.map(|(position, _)| position).collect();
            met += mates.len();
            assert_eq!(row.masked.as_ref(), Some(&mates), "{row:?}");
        }
    }
    assert!(met > 100, "{met}");
}

/// Rewrites the mask of the first row that has one.
fn forge_mask(run: &Path, change: impl FnOnce(&mut Vec<i32>)) {
    let rows = table::read(run);
    let at = rows.iter().position(|row| row.masked.as_ref().is_some_and(|masked| !masked.is_empty())).unwrap();
    forge(run, |columns| {
        let lists = columns["masked"].as_list::<i32>();
        let mut all: Vec<Vec<i32>> =
            lists.iter().map(|list| list.unwrap().as_primitive::<Int32Type>().values().to_vec()).collect();
        change(&mut all[at]);
        let flat: ArrayRef = Arc::new(Int32Array::from(all.concat()));
        let element = Arc::new(Field::new("element", DataType::Int32, false));
        let ends = OffsetBuffer::from_lengths(all.iter().map(Vec::len));
        columns.insert("masked".into(), Arc::new(ListArray::new(element, ends, flat, None)));
    });
}

#[test]
fn verify_finds_masks_that_are_not_complete_or_too_many() {
    let data = Dataset::planted(240, 16, 9);
    let place = Place::with(&data);
    let base = place.path("base");
    mine(&place.input(), &base, &format!("{FLAGS} --skip 12 --window 12 --suspect-weight 0")).ok();
    type Change = fn(&mut Vec<i32>);
    let changes: [(&str, Change); 4] = [
        ("one less", |masked| masked.truncate(masked.len() - 1)),
        ("one more", |masked| masked.push(if masked.contains(&31) { 30 } else { 31 })),
        ("beyond", |masked| masked.push(99)),
        ("negative", |masked| masked.insert(0, -1)),
    ];
    for (name, change) in changes {
        let run = place.path(name);
        copy(&base, &run);
        forge_mask(&run, change);
        verify(&run).fails(3, &["the mask of row", "must be"]);
    }
}

#[test]
fn it_changes_the_batches_stage_alone_and_is_the_same_under_any_budget() {
    let data = Dataset::planted(600, 16, 10);
    let place = Place::with(&data);
    let (plain, run) = (place.path("plain"), place.path("run"));
    let flags = "--cluster-size 4 --batch-size 64 --skip 10 --window 30 --max-score 0.6";
    mine(&place.input(), &plain, flags).ok();
    assert!(table::read(&plain).iter().all(|row| row.masked.is_none()));
    mine(&place.input(), &run, &format!("{flags} --mask suspects")).ok();
    assert_same(&plain, &run, &["vectors", "neighbors", "edges", "clusters"]);
    let without =
        |run: &Path| -> Vec<Row> { table::read(run).into_iter().map(|row| Row { masked: None, ..row }).collect() };
    assert_eq!(without(&plain), without(&run));
    // Asked for later, only the table is written anew.
    mine(&place.input(), &plain, &format!("{flags} --mask suspects")).refuses(&["mask", "--replace"]);
    mine(&place.input(), &plain, &format!("{flags} --mask suspects --replace")).ok();
    assert_same(&plain, &run, &["batches"]);
    let least = super::budgets::least_mib(mine_command(&place.input(), &run, &format!("{flags} --mask suspects")));
    let small = place.path("small");
    mine(&place.input(), &small, &format!("{flags} --mask suspects --threads 1 --memory {least}MiB")).ok();
    assert_same(&small, &run, &["batches"]);
    let said = mine(&place.input(), &place.path("idle"), &format!("{FLAGS} --skip 0 --window 9")).ok().stderr;
    assert!(said.contains("--mask has no effect here"), "{said}");
}

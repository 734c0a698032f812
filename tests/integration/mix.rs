//! Tasks by weight: shares, rounds, order, counts, and what reads the table.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use batchmine::run::{Manifest, Stage};
use serde_json::{Value, json};

use super::budgets::{Measured, least_mib, measured};
use super::command::{MADE, Place, assert_same, call, mine, mine_command, verify};
use super::dataset::Dataset;
use super::pairs::{self, candidates};
use super::table::{self, Row};
use super::verify::{forge, put, record};

/// What a job asks of its tasks.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    pub temperature: Option<f64>,
    pub repeats: Option<u32>,
    pub most: Option<u32>,
    pub weights: BTreeMap<String, f64>,
}

impl Asked {
    pub fn flags(&self) -> String {
        let flag =
            |name: &str, value: Option<String>| value.map_or(String::new(), |value| format!(" --{name} {value}"));
        flag("task-temperature", self.temperature.map(|number| number.to_string()))
            + &flag("max-task-repeats", self.repeats.map(|number| number.to_string()))
            + &flag("max-task-batches", self.most.map(|number| number.to_string()))
    }

    /// A file with the weights.
    fn config(&self, place: &Place) -> String {
        let tables = self.weights.iter().map(|(task, weight)| format!("[task.{task:?}]\nweight = {weight}\n"));
        let path = place.path("weights.toml");
        std::fs::write(&path, tables.collect::<String>()).unwrap();
        format!(" --config {}", path.display())
    }

    /// The shares of tasks whose packing makes so many full batches: of those by temperature found by halves.
    fn shares(&self, sizes: &BTreeMap<String, usize>) -> BTreeMap<String, f64> {
        let most = self.most.map_or(f64::INFINITY, f64::from);
        let weighted = |task: &String, size: usize| (self.weights.get(task).unwrap_or(&1.0) * size as f64).min(most);
        let mut shares: BTreeMap<String, f64> =
            sizes.iter().map(|(task, size)| (task.clone(), weighted(task, *size))).collect();
        let Some(temperature) = self.temperature else { return shares };
        let free: Vec<(&String, f64)> = sizes
            .iter()
            .filter(|(task, _)| !self.weights.contains_key(*task))
            .map(|(task, size)| (task, *size as f64))
            .collect();
        let cap = |size: f64| most.min(self.repeats.map_or(f64::INFINITY, |times| f64::from(times) * size));
        let share = |size: f64, scale: f64| (scale * size.powf(1.0 / temperature)).min(cap(size));
        let wanted = free.iter().map(|(_, size)| size).sum::<f64>().min(free.iter().map(|(_, size)| cap(*size)).sum());
        let (mut low, mut high) = (0.0, 1e9);
        for _ in 0..200 {
            let middle = (low + high) / 2.0;
            let all: f64 = free.iter().map(|(_, size)| share(*size, middle)).sum();
            if all < wanted { low = middle } else { high = middle }
        }
        shares.extend(free.into_iter().map(|(task, size)| (task.clone(), share(size, high))));
        shares
    }
}

/// Batches of an epoch by task, in their order: the rows of each.
fn of_tasks(table: &[Row], epoch: i32) -> Vec<(String, Vec<usize>)> {
    let rows: Vec<&Row> = table.iter().filter(|row| row.epoch == epoch).collect();
    let batches = rows.chunk_by(|a, b| a.batch == b.batch);
    let named = |batch: &[&Row]| {
        let mut rows: Vec<usize> = batch.iter().map(|row| row.row).collect();
        rows.sort_unstable();
        (batch[0].task.clone().unwrap_or_default(), rows)
    };
    batches.map(named).collect()
}

/// Holds a table of tasks by weight against that of the same job without: how many batches repeat rows, and how many
/// are left out.
pub fn check(table: &[Row], plain: &[Row], asked: &Asked, (batch_size, epochs): (usize, i32)) -> [usize; 2] {
    let mut counts = [0; 2];
    for epoch in 0..epochs {
        let (mixed, once) = (of_tasks(table, epoch), of_tasks(plain, epoch));
        let is_full = |batch: &&(String, Vec<usize>)| batch.1.len() == batch_size;
        let mut first: BTreeMap<String, BTreeSet<Vec<usize>>> =
            plain.iter().map(|row| (row.task.clone().unwrap_or_default(), BTreeSet::new())).collect();
        for (task, rows) in once.iter().filter(is_full) {
            first.get_mut(task).unwrap().insert(rows.clone());
        }
        let sizes: BTreeMap<String, usize> =
            first.iter().map(|(task, batches)| (task.clone(), batches.len())).collect();
        let full: Vec<&(String, Vec<usize>)> = mixed.iter().filter(is_full).collect();
        assert!(mixed[..full.len()].iter().eq(full.iter().copied()), "full batches come first");
        // Smaller ones are as they were, but of tasks that are to have none.
        let short = |batches: &[(String, Vec<usize>)]| -> Vec<_> {
            let there = |batch: &&(String, Vec<usize>)| !is_full(batch) && asked.weights.get(&batch.0) != Some(&0.0);
            batches.iter().filter(there).cloned().collect()
        };
        assert_eq!(mixed[full.len()..], short(&once), "smaller batches");
        let shares = asked.shares(&sizes);
        let mut wanted: BTreeMap<&String, usize> = BTreeMap::new();
        for (task, size) in &sizes {
            let batches: Vec<&Vec<usize>> =
                full.iter().filter(|batch| batch.0 == *task).map(|batch| &batch.1).collect();
            let share = shares[task];
            let off = batches.len() as f64 - share;
            assert!(off.abs() < 1.0 + 1e-6, "{task}: {} batches, share {share} of {size}", batches.len());
            wanted.insert(task, batches.len());
            // The first round has the batches of the job without weights; the others have each row once.
            let once: BTreeSet<&Vec<usize>> = batches.iter().take(*size).copied().collect();
            assert_eq!(once.len(), batches.len().min(*size), "{task}: a batch of the first round comes twice");
            assert!(once.iter().all(|batch| first[task].contains(*batch)), "{task}: another first round");
            counts[0] += batches.len().saturating_sub(*size);
            counts[1] += size.saturating_sub(batches.len());
        }
        let all: f64 = shares.values().sum();
        assert!((full.len() as f64 - all).abs() < 1.0 + 1e-6, "epoch {epoch}: {} batches, shares {all}", full.len());
        if (all - all.round()).abs() < 1e-6 {
            assert_eq!(full.len() as f64, all.round(), "epoch {epoch}: what is whole stays as it is");
        }
        // Among the first k batches each task has its share, to less than one.
        let mut came: BTreeMap<&String, usize> = BTreeMap::new();
        for (step, (task, _)) in (1..).zip(&full) {
            *came.entry(task).or_default() += 1;
            for (task, count) in &wanted {
                let came = came.get(task).copied().unwrap_or(0);
                assert!((came * full.len()).abs_diff(step * count) < full.len(), "{task}: {came} of {step} batches");
            }
        }
    }
    counts
}

/// No row comes twice in a round, of tasks whose rounds all make as many batches.
fn check_rounds(table: &[Row], batches_of: &BTreeMap<String, usize>, batch_size: usize) {
    let mut rounds: BTreeMap<(String, usize), BTreeSet<usize>> = BTreeMap::new();
    let mut came: BTreeMap<String, usize> = BTreeMap::new();
    for (task, rows) in of_tasks(table, 0).into_iter().filter(|batch| batch.1.len() == batch_size) {
        let number = came.entry(task.clone()).or_default();
        let round = rounds.entry((task.clone(), *number / batches_of[&task])).or_default();
        *number += 1;
        rows.into_iter().for_each(|row| assert!(round.insert(row), "{task}: row {row} twice in a round"));
    }
}

fn manifest(run: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(run.join("manifest.json")).unwrap()).unwrap()
}

fn debian() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/debian")
}

/// 400 rows of a task, 120 of another, 40 of a third, 10 of the last.
fn uneven() -> Dataset {
    let task = |row: usize| match row % 57 {
        0..40 => "large",
        40..52 => "middle",
        52..56 => "small",
        _ => "tiny",
    };
    Dataset::planted(570, 16, 77).with_tasks(|row| task(row).into())
}

const SIZES: &str = "--skip 3 --window 20 --cluster-size 4 --batch-size 16 --task-column task";

fn weights(weights: &[(&str, f64)]) -> BTreeMap<String, f64> {
    weights.iter().map(|(task, weight)| ((*task).to_owned(), *weight)).collect()
}

#[test]
fn shares_rounds_and_order_are_what_the_weights_say() {
    let data = uneven();
    let place = Place::with(&data);
    let jobs = [
        ("natural", Asked { temperature: Some(1.0), ..Asked::default() }),
        ("temperature", Asked { temperature: Some(3.0), ..Asked::default() }),
        ("alike", Asked { temperature: Some(1000.0), repeats: Some(4), ..Asked::default() }),
        ("most", Asked { most: Some(5), ..Asked::default() }),
        ("weights", Asked { weights: weights(&[("small", 3.5), ("large", 0.4), ("tiny", 2.0)]), ..Asked::default() }),
        (
            "all",
            Asked { temperature: Some(2.0), repeats: Some(3), most: Some(14), weights: weights(&[("middle", 0.0)]) },
        ),
    ];
    for (remainder, epochs) in [("short", 3), ("drop", 1)] {
        let plain = place.path(&format!("plain {remainder}"));
        let base = format!("{SIZES} --remainder {remainder} --epochs {epochs}");
        mine(&place.input(), &plain, &base).ok();
        let once = table::read(&plain);
        for (name, asked) in &jobs {
            let run = place.path(&format!("{name} {remainder}"));
            let flags = format!("{base}{}{}", asked.flags(), asked.config(&place));
            let said = mine(&place.input(), &run, &flags).ok().stderr;
            let found = table::read(&run);
            let [repeated, skipped] = check(&found, &once, asked, (16, epochs));
            check_rounds(
                &found,
                &BTreeMap::from(
                    [("large", 25), ("middle", 7), ("small", 2), ("tiny", 0)]
                        .map(|(task, count)| (task.to_owned(), count)),
                ),
                16,
            );
            let facts = &manifest(&run)["stages"]["batches"]["facts"];
            let counted = json!({
                "first_round_batches": 34 * epochs, "repeated_batches": repeated, "skipped_batches": skipped,
            });
            assert_eq!(facts["mix"], counted, "{name}");
            let distinct: BTreeSet<(i32, usize)> = found.iter().map(|row| (row.epoch, row.row)).collect();
            assert_eq!(facts["dropped_rows"], 570 * epochs as usize - distinct.len());
            if *name != "natural" {
                assert!(repeated + skipped > 0, "{name}: weights that do nothing prove nothing");
                assert!(said.contains("task \"") && said.contains(" instead of "), "{said}");
            }
            assert_eq!(
                said.contains("weights do nothing for tasks without a full batch: \"tiny\""),
                *name != "most",
                "{said}"
            );
            let verified = verify(&run).ok().stdout;
            assert!(verified.contains(&format!("evenly mixed: {repeated} batches repeat rows")), "{verified}");
            // The same by any number of threads, and from the batches stage on alone.
            let again = place.path("again");
            mine(&place.input(), &again, &format!("{base} --threads 1 --replace")).ok();
            mine(&place.input(), &again, &format!("{flags} --replace")).ok();
            assert_same(&again, &run, &MADE);
            std::fs::remove_dir_all(&again).unwrap();
        }
    }
}

#[test]
fn real_tasks_are_mixed_with_keys_negatives_and_processes() {
    let place = Place::empty();
    let base = "--task-column dataset --key-column positive --skip 5 --window 40 --cluster-size 8 --batch-size 64 \
                --epochs 2 --hard-negatives 2 --mask suspects --world-size 2";
    let plain = place.path("plain");
    mine(&debian(), &plain, base).ok();
    let asked = Asked { temperature: Some(4.0), repeats: Some(5), ..Asked::default() };
    let run = place.path("run");
    mine(&debian(), &run, &format!("{base}{}", asked.flags())).ok();
    verify(&run).ok();
    let [repeated, skipped] = check(&table::read(&run), &table::read(&plain), &asked, (64, 2));
    assert!(repeated > 5 && skipped > 5, "{repeated} repeated, {skipped} left out");
    assert_same(&run, &plain, &["vectors", "neighbors", "edges", "clusters"]);
    let report = call(["report", run.to_str().unwrap(), "--progress", "none"]).ok();
    assert!(report.stdout.contains("by the tasks' weights"), "{}", report.stdout);
}

#[test]
fn a_plan_says_what_weights_make_of_an_epoch() {
    let data = uneven();
    let place = Place::with(&data);
    let run = place.path("run");
    let flags = format!("{SIZES} --task-temperature 3 --max-task-repeats 4");
    let plan = |json: &[&str]| {
        let arguments = ["plan", place.input().to_str().unwrap()].map(str::to_owned).into_iter();
        call(arguments.chain(flags.split_whitespace().chain(json.iter().copied()).map(str::to_owned))).ok().stdout
    };
    let json: Value = serde_json::from_str(&plan(&["--json"])).unwrap();
    mine(&place.input(), &run, &flags).ok();
    assert_eq!(json["full_batches"]["mix"], manifest(&run)["stages"]["batches"]["facts"]["mix"]);
    assert!(plan(&[]).contains("repeat rows of a task"));
}

#[test]
fn verify_finds_shares_and_orders_that_are_not_so() {
    let data = uneven();
    let place = Place::with(&data);
    let base = place.path("base");
    mine(&place.input(), &base, &format!("{SIZES} --task-temperature 3 --remainder drop")).ok();
    verify(&base).ok();
    let table = table::read(&base);
    let task = |number: usize| table[16 * number].task.clone().unwrap();
    let batches = table.len() / 16;
    let swapped = |a: usize, b: usize| -> Vec<(usize, usize)> {
        (0..16).flat_map(|at| [(16 * a + at, 16 * b + at), (16 * b + at, 16 * a + at)]).collect()
    };
    let copied =
        |from: usize, to: usize| -> Vec<(usize, usize)> { (0..16).map(|at| (16 * from + at, 16 * to + at)).collect() };
    // The first batches come late, in exchange for others.
    let other =
        |from: usize| (0..batches).find(|to| to.abs_diff(from) > batches / 3 && task(*to) != task(from)).unwrap();
    let same = |from: usize| (from + 1..batches).find(|to| task(*to) == task(from)).unwrap();
    let large = (0..batches).find(|number| task(*number) == "large").unwrap();
    let cases = [
        ("order", swapped(0, other(0)), "not evenly mixed"),
        ("twice", copied(large, same(large)), "16 rows of it are in round 0 of their task twice"),
        ("share", copied(large, other(large)), "where its share is"),
    ];
    for (name, moves, word) in cases {
        let run = place.path(name);
        super::undisturbed::copy(&base, &run);
        forge(&run, |columns| put(columns, &moves));
        verify(&run).fails(3, &[word]);
    }
    let path = base.join("manifest.json");
    let mut forged = Manifest::read(&path).unwrap().unwrap();
    forged.stages.get_mut(&Stage::Batches).unwrap().facts["mix"]["repeated_batches"] = 1.into();
    std::fs::write(&path, forged.to_bytes()).unwrap();
    verify(&base).fails(3, &["the mix of tasks is 34 full batches of first rounds", "counts 34 full batches"]);
    record(&base, Stage::Batches, &table::parts(&base)[0]);
}

#[test]
fn verify_compares_every_batch_with_what_packing_makes() {
    let data = uneven();
    let place = Place::with(&data);
    let base = place.path("base");
    mine(&place.input(), &base, &format!("{SIZES} --task-temperature 1000 --remainder drop")).ok();
    let table = table::read(&base);
    // Two batches of a task in one round change places: no share and no order tells.
    let batches: Vec<usize> =
        (0..table.len() / 16).filter(|at| table[16 * at].task.as_deref() == Some("large")).collect();
    let [a, b] = [batches[0], batches[1]];
    let moves: Vec<(usize, usize)> =
        (0..16).flat_map(|at| [(16 * a + at, 16 * b + at), (16 * b + at, 16 * a + at)]).collect();
    forge(&base, |columns| put(columns, &moves));
    verify(&base).fails(3, &["is not the one that packing makes"]);
}

#[test]
fn tasks_of_equal_shares_take_turns() {
    // Fifty tasks of one batch each: half of them come in every epoch, and not always the same.
    let data = Dataset::planted(400, 8, 78).with_tasks(|row| format!("task {}", row / 8));
    let place = Place::with(&data);
    let run = place.path("run");
    let half = Asked { weights: (0..50).map(|task| (format!("task {task}"), 0.5)).collect(), ..Asked::default() };
    let flags = format!(
        "--task-column task --skip 1 --window 4 --cluster-size 4 --batch-size 8 --remainder drop --epochs 4{}",
        half.config(&place)
    );
    mine(&place.input(), &run, &flags).ok();
    verify(&run).ok();
    let mut came = BTreeMap::<String, usize>::new();
    let table = table::read(&run);
    for epoch in 0..4 {
        let batches = of_tasks(&table, epoch);
        assert_eq!(batches.len(), 25, "epoch {epoch}");
        batches.into_iter().for_each(|(task, _)| *came.entry(task).or_default() += 1);
    }
    assert!(came.len() == 50 && came.values().all(|count| (1..=3).contains(count)), "{came:?}");
}

#[test]
fn a_cleaned_run_says_what_it_could_not_check() {
    let data = uneven();
    let place = Place::with(&data);
    let run = place.path("run");
    mine(&place.input(), &run, &format!("{SIZES} --task-temperature 3")).ok();
    call(["clean", run.to_str().unwrap(), "--keep", "vectors,neighbors,clusters"]).ok();
    assert!(verify(&run).ok().stdout.contains("evenly mixed"));
    call(["clean", run.to_str().unwrap()]).ok();
    let said = verify(&run).ok().said();
    assert!(said.contains("the tasks' shares") && said.contains("rows as often as they come"), "{said}");
}

#[test]
fn candidates_count_every_batch_in_which_two_rows_meet() {
    let data = uneven();
    let place = Place::with(&data);
    let (run, out) = (place.path("run"), place.path("pairs.parquet"));
    mine(&place.input(), &run, &format!("{SIZES} --task-temperature 1000 --epochs 2")).ok();
    candidates(&run, &out, "--budget 100000 --sample 0").ok();
    let mut met: BTreeMap<(usize, usize), i32> = BTreeMap::new();
    for batch in table::read(&run).chunk_by(|a, b| a.batch == b.batch) {
        for row in batch {
            batch.iter().for_each(|other| *met.entry((row.row, other.row)).or_default() += 1);
        }
    }
    let pairs = pairs::found(&pairs::read(&out));
    for pair in &pairs {
        assert_eq!(met.get(&pair.rows), Some(&pair.batches), "{pair:?}");
    }
    assert!(pairs.iter().any(|pair| pair.batches > 6), "rows of a repeated task meet often");
}

#[test]
fn a_job_with_a_large_weight_stays_within_its_least_budget() {
    let data = Dataset::planted(30_000, 4, 5).with_tasks(|row| if row % 10 > 0 { "most" } else { "few" }.into());
    let place = Place::with(&data);
    let asked = Asked { weights: weights(&[("few", 200.0)]), ..Asked::default() };
    let flags = format!(
        "--task-column task --skip 3 --window 10 --cluster-size 8 --batch-size 256 --threads 2 --remainder drop{}",
        asked.config(&place)
    );
    let run = place.path("run");
    let least = least_mib(mine_command(&place.input(), &run, &flags));
    let plain = flags.split(" --config").next().unwrap();
    assert!(least > least_mib(mine_command(&place.input(), &run, plain)), "the weight takes memory");
    let command = mine_command(&place.input(), &run, &format!("{flags} --memory {least}MiB"));
    let Measured { outcome, peak, .. } = measured(command, &run);
    outcome.ok();
    assert!(peak <= least << 20, "{peak} bytes of {least} MiB");
    eprintln!("budget: {least} MiB, peak {:.1} MiB, of a task that comes 200 times", peak as f64 / f64::from(1 << 20));
    // A cap is known to the plan.
    let capped = asked.config(&place);
    let file = place.path("weights.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text + "max-batches = 3\n").unwrap();
    assert!(capped.ends_with("weights.toml"));
    assert_eq!(
        least_mib(mine_command(&place.input(), &place.path("capped"), &flags)),
        least_mib(mine_command(&place.input(), &place.path("plain"), plain))
    );
}

#[test]
fn weights_that_leave_no_batch_are_refused() {
    let data = uneven();
    let place = Place::with(&data);
    let all = Asked {
        weights: weights(&[("large", 0.0), ("middle", 0.0), ("small", 0.0), ("tiny", 0.0)]),
        ..Asked::default()
    };
    mine(&place.input(), &place.path("none"), &format!("{SIZES}{}", all.config(&place))).fails(2, &["weight"]);
    // Those that have full batches, and short ones are left out: refused before the search.
    let full = Asked { weights: weights(&[("large", 0.0), ("middle", 0.0), ("small", 0.0)]), ..Asked::default() };
    let run = place.path("full");
    let flags = format!("{SIZES} --remainder drop{}", full.config(&place));
    mine(&place.input(), &run, &flags).fails(2, &["raise a task's weight"]);
    assert!(super::command::files(&run, &["neighbors"]).is_empty());
    mine(&place.input(), &place.path("fill"), &format!("{SIZES} --remainder fill --task-temperature 2"))
        .fails(2, &["--remainder short"]);
    let unknown = Asked { weights: weights(&[("huge", 2.0)]), ..Asked::default() };
    mine(&place.input(), &place.path("unknown"), &format!("{SIZES}{}", unknown.config(&place))).fails(2, &["huge"]);
}

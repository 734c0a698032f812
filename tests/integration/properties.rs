//! Any small job, drawn at random: lists, graph, clusters and batches are what brute force says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::select;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::command::{Line, Place, inspect, mine};
use super::dataset::{Dataset, Float};
use super::mask;
use super::mix;
use super::negatives;
use super::oracle::{Cut, Exactness, Oracle, Part, check_cut_graph, check_graph, check_windows};
use super::promises::{self, Terms};
use super::rank_by;
use super::table::{self, Row};

/// Widths at and around the lanes and tiles of the kernels.
const WIDTHS: [usize; 23] =
    [1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 257, 512, 1023, 1024, 1030];

#[derive(Debug, Clone)]
pub struct Input {
    rows: usize,
    dim: usize,
    float: Float,
    /// Small whole numbers, so that scores tie exactly.
    integers: bool,
    one_column: bool,
    /// 0: no column.
    tasks: usize,
    key_columns: usize,
    list_columns: usize,
    /// Rows that have another row's positive.
    copies: usize,
    /// Documents of a corpus, some of them copies of positives.
    documents: usize,
    files: usize,
    row_group_rows: usize,
    seed: u64,
}

#[derive(Debug, Clone)]
pub struct Job {
    input: Input,
    cosine: bool,
    mutual: bool,
    cut: Cut,
    window: usize,
    pub cluster_size: usize,
    pub clusters_in_batch: usize,
    negatives: usize,
    epochs: usize,
    remainder: &'static str,
    /// row, positive or auto.
    rank_by: &'static str,
    mask: bool,
    /// Tasks by weight: temperature, most repeats, most batches.
    mix: Option<(f64, Option<u32>, Option<u32>)>,
}

/// A job that was mined and is what it should be.
pub struct Made {
    pub place: Place,
    pub data: Dataset,
    /// In `run` of the place.
    pub run: PathBuf,
    /// All flags but those of the machine.
    pub flags: String,
}

impl Input {
    fn data(&self) -> Dataset {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        let draw = if self.integers { Dataset::integers } else { Dataset::planted };
        let all = self.rows + self.documents;
        let mut data = draw(all, self.dim, self.seed);
        data.documents = self.documents;
        let copies = if self.documents > 0 { self.copies + all / 10 } else { self.copies };
        for _ in 0..copies {
            let (from, to) = (random.random_range(0..all), random.random_range(0..all));
            data.positives[to] = data.positives[from].clone();
            data.queries[to] = data.queries[from].clone();
        }
        if self.tasks > 0 {
            // Uneven: the last tasks have a few rows or none.
            let mut task = || (random.random_range(0.0..1.0f64).powi(3) * self.tasks as f64) as usize;
            let tasks: Vec<usize> = (0..all).map(|_| task()).collect();
            data = data.with_tasks(|row| format!("task {}", tasks[row]));
        }
        for _ in 0..self.key_columns {
            let groups = (self.rows / 2).max(1);
            let keys: Vec<usize> = (0..all).map(|_| random.random_range(0..groups + 2)).collect();
            data = data.with_key(|row| (keys[row] < groups).then(|| keys[row].to_string()));
        }
        for _ in 0..self.list_columns {
            // Few rows share an element: clusters and batches stay possible.
            let mut element = || random.random_range(0..3 * self.rows).to_string();
            let mut list = |length: usize| (0..length).map(|_| element()).collect::<Vec<_>>();
            let lists = (0..all).map(|row| (row % 5 > 0).then(|| list(row % 4))).collect();
            data.lists.push(lists);
        }
        Dataset {
            float: self.float,
            one_column: self.one_column,
            files: self.files,
            row_group_rows: self.row_group_rows,
            ..data
        }
    }
}

fn inputs() -> impl Strategy<Value = Input> {
    let rows = prop_oneof![2..20usize, 20..300usize];
    let dim = prop_oneof![select(WIDTHS.to_vec()), 1..=1030usize];
    let float = select(vec![Float::F16, Float::F32, Float::F64]);
    let documents = prop_oneof![2 => Just(0), 1 => 1..20usize, 1 => 20..200usize];
    let labels = (0..4usize, 0..3usize, prop_oneof![3 => Just(0), 1 => 1..3usize], 0..6usize, documents);
    (rows, dim, float, any::<bool>(), prop::bool::weighted(0.2), labels, 1..4usize, 1..200usize, any::<u64>()).prop_map(
        |(
            rows,
            dim,
            float,
            integers,
            one_column,
            (tasks, key_columns, list_columns, copies, documents),
            files,
            row_group_rows,
            seed,
        )| Input {
            rows,
            dim,
            float,
            integers,
            one_column,
            tasks,
            key_columns,
            list_columns,
            copies,
            documents,
            files: files.min(rows),
            row_group_rows,
            seed,
        },
    )
}

/// Mostly by rank alone; else with limits in the range of cosines, and of small products.
fn cuts() -> impl Strategy<Value = Cut> {
    let some = |numbers: Vec<f64>| prop::option::weighted(0.4, select(numbers));
    let sides = [some(vec![0.3, 0.8]), some(vec![0.1, 0.7, 1.0])];
    let limits = (some(vec![0.0, 0.05, 0.3, 1.0]), some(vec![0.25, 0.6, 1.0]), some(vec![-1.0, 0.0, 0.2]), sides);
    (0..8usize, prop::option::weighted(0.6, limits)).prop_map(|(skip, limits)| {
        let (relative_margin, max_score, min_score, sides) = limits.unwrap_or_default();
        Cut { skip, relative_margin, max_score, min_score, sides }
    })
}

pub fn jobs() -> impl Strategy<Value = Job> {
    let ranks = (cuts(), 1..40usize);
    let sizes = (select(vec![2usize, 3, 4, 8, 16]), 1..5usize);
    let by = prop_oneof![3 => Just("row"), 1 => Just("auto"), 2 => Just("positive")];
    let mix = (1.0..6.0f64, prop::option::of(1..4u32), prop::option::weighted(0.3, 1..9u32));
    let mix = prop::option::weighted(0.3, mix);
    let drawn = (0..7usize, 1..4usize, select(vec!["short", "short", "drop", "fill"]), by, any::<bool>(), mix);
    (inputs(), any::<bool>(), prop::bool::weighted(0.3), ranks, sizes, drawn).prop_map(
        |(input, cosine, mutual, (cut, window), (cluster_size, clusters_in_batch), drawn)| Job {
            negatives: drawn.0,
            epochs: drawn.1,
            remainder: drawn.2,
            rank_by: drawn.3,
            mask: drawn.4,
            mix: drawn.5.filter(|_| drawn.2 != "fill"),
            input,
            cosine,
            mutual,
            // What sides are compared where a candidate stands for several rows, no list says.
            cut: if drawn.3 == "row" { cut } else { Cut { sides: [None; 2], ..cut } },
            window,
            cluster_size,
            clusters_in_batch,
        },
    )
}

impl Job {
    fn batch_size(&self) -> usize {
        self.cluster_size * self.clusters_in_batch
    }

    /// The same, with ranks that the input has rows for; some jobs are refused all the same.
    pub fn fitting(self) -> Job {
        let rows = self.input.rows;
        let skip = self.cut.skip.min(rows.saturating_sub(3));
        let window = self.window.min(rows.saturating_sub(skip + 1)).max(1);
        Job { cut: Cut { skip, ..self.cut }, window, ..self }
    }

    fn flags(&self, data: &Dataset) -> String {
        format!(
            "--metric {} --edges {} --skip {} --window {} --cluster-size {} --batch-size {} --hard-negatives {} \
             --epochs {} --remainder {} --rank-by {} --mask {} {}",
            if self.cosine { "cosine" } else { "dot" },
            if self.mutual { "mutual" } else { "any" },
            self.cut.skip,
            self.window,
            self.cluster_size,
            self.batch_size(),
            self.negatives,
            self.epochs,
            self.remainder,
            self.rank_by,
            if self.mask { "suspects" } else { "none" },
            data.column_flags(),
        )
    }

    fn mix(&self) -> Option<mix::Asked> {
        let of = |(temperature, repeats, most)| mix::Asked {
            temperature: Some(temperature),
            repeats,
            most,
            ..mix::Asked::default()
        };
        self.mix.map(of)
    }

    /// The rows that share a rank, where ranks are those of positives: in each task, first row first.
    fn groups(&self, data: &Dataset) -> Vec<Vec<usize>> {
        let bits = |row: usize| data.candidates()[row].iter().map(|value| data.stored(*value).to_bits()).collect();
        let mut tasks: BTreeMap<Option<&str>, BTreeMap<Vec<u32>, Vec<usize>>> = BTreeMap::new();
        for row in 0..data.rows() {
            tasks.entry(data.task(row)).or_default().entry(bits(row)).or_default().push(row);
        }
        let grouped = |task: BTreeMap<Vec<u32>, Vec<usize>>| -> Vec<Vec<usize>> {
            let rows: usize = task.values().map(Vec::len).sum();
            match self.rank_by == "positive" || self.rank_by == "auto" && 2 * task.len() < rows {
                true => task.into_values().collect(),
                false => task.into_values().flatten().map(|row| vec![row]).collect(),
            }
        };
        tasks.into_values().flat_map(grouped).collect()
    }

    /// Whether some rows could be a batch: two of them, or with `drop` |B|.
    fn allows_a_batch(&self, data: &Dataset) -> bool {
        let wanted = if self.remainder == "drop" { self.batch_size() } else { 2 };
        let tasks: BTreeSet<Option<&str>> = match self.remainder {
            "fill" => BTreeSet::from([None]),
            _ => (0..data.rows()).map(|row| data.task(row)).collect(),
        };
        let labels: Vec<_> = (0..data.rows()).map(|row| data.labels(row)).collect();
        let together = |task: Option<&str>| {
            let mut rows: Vec<usize> = Vec::new();
            for row in (0..data.rows()).filter(|row| self.remainder == "fill" || data.task(*row) == task) {
                if rows.iter().all(|other| !Dataset::conflict(&labels[row], &labels[*other])) {
                    rows.push(row);
                }
            }
            rows.len()
        };
        tasks.into_iter().any(|task| together(task) >= wanted)
    }
}

/// Mines the job and checks everything that `inspect`, the batch table and the manifest say; `None`: it was refused,
/// and for a reason.
pub fn check(job: &Job) -> Option<Made> {
    let data = job.input.data();
    let place = Place::with(&data);
    let run = place.path("run");
    let batch_size = job.batch_size();
    let plain = job.flags(&data) + &data.corpus_flags(&place.input());
    let once = format!("{plain}{}", job.cut.flags());
    let flags = format!("{once}{}", job.mix().map_or(String::new(), |mix| mix.flags()));
    let outcome = mine(&place.input(), &run, &flags);
    if outcome.stderr.contains("no batch can be made") {
        outcome.refuses(&["batch"]);
        assert!(!job.allows_a_batch(&data), "a refusal without reason");
        return None;
    }
    let groups = job.groups(&data);
    let documents = |row: usize| (data.rows()..data.all()).filter(|other| data.task(*other) == data.task(row)).count();
    let of_groups = |row: usize| groups.iter().filter(|group| data.task(group[0]) == data.task(row)).count();
    let in_task = |row: usize| of_groups(row) + documents(row);
    let largest = (0..data.rows()).map(in_task).max().unwrap_or(0);
    if job.cut.skip + job.window >= data.all() || largest <= job.cut.skip + 1 {
        outcome.refuses(&["--skip"]);
        return None;
    }
    if outcome.stderr.contains("leave no row a preferred negative") {
        outcome.refuses(&["--window", "--replace"]);
        let without = place.path("without limits");
        let outcome = mine(&place.input(), &without, &plain);
        if outcome.stderr.contains("no batch can be made") {
            // Without lists of all rows there is nothing to compare the refusal with.
            return None;
        }
        outcome.ok();
        let oracle = Oracle::new(&data, job.cosine);
        let far = |line: &Line, rank: usize| !job.cut.too_close(&oracle, line.row, line.neighbors[rank].0).1;
        let is_preferred = |line: &Line, rank| job.cut.part(line, rank) == Part::Preferred && far(line, rank);
        let preferred = |line: &Line| (0..line.neighbors.len()).any(|rank| is_preferred(line, rank));
        assert!(!inspect(&without, 0..data.rows()).iter().any(preferred), "a refusal without reason");
        return None;
    }
    outcome.ok();
    let lines = inspect(&run, 0..data.rows());
    let exactness = if job.input.integers && !job.cosine { Exactness::Exact } else { Exactness::NearTies };
    let oracle = Oracle::new(&data, job.cosine).by_positive(&groups);
    oracle.check(&lines, job.cut.skip + job.window, exactness);
    let by_row = groups.iter().all(|group| group.len() == 1);
    if by_row {
        oracle.check_too_close(&lines, |_| job.cut);
        check_cut_graph(&lines, |_| job.cut, job.mutual);
    } else {
        check_windows(&lines, |_| job.cut);
        rank_by::check_carriers(&lines, &groups, job.mutual);
    }
    let table = table::read(&run);
    check_promises(job, (&place, &once), &data, &lines, &table);
    check_counts(&run, &table, data.rows() * job.epochs, batch_size);
    if job.negatives > 0 && !by_row {
        rank_by::check_negatives(&lines, &groups, &table);
    } else if job.negatives > 0 {
        negatives::check(&data, &lines, &table, job.cosine, &|_| job.cut, job.negatives);
    }
    if job.mask {
        mask::check(&data, &lines, &table, &oracle, job.cut, !by_row);
    }
    assert!(table.iter().all(|row| row.masked.is_some() == job.mask));
    assert!(job.negatives > 0 || table.iter().all(|row| row.negatives.is_none()));
    Some(Made { place, data, run, flags })
}

/// The promises of batches hold; those of tasks by weight against the same job without, whose flags are `once`.
fn check_promises(job: &Job, (place, once): (&Place, &str), data: &Dataset, lines: &[Line], table: &[Row]) {
    let batch_size = job.batch_size();
    let terms = Terms { cluster_size: job.cluster_size, batch_size, epochs: job.epochs, remainder: job.remainder };
    let Some(asked) = job.mix() else { return promises::check(data, lines, table, terms) };
    let run = place.path("without weights");
    mine(&place.input(), &run, once).ok();
    let plain = table::read(&run);
    promises::check(data, lines, &plain, terms);
    mix::check(table, &plain, &asked, (batch_size, job.epochs as i32));
}

/// The manifest counts the batches as they are, and each row that is in none.
fn check_counts(run: &Path, table: &[Row], rows: usize, batch_size: usize) {
    let manifest = std::fs::read(run.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let counted = |name: &str| manifest["stages"]["batches"]["facts"][name].as_u64().unwrap() as usize;
    let sizes: Vec<usize> = table.chunk_by(|a, b| a.batch == b.batch).map(<[Row]>::len).collect();
    let full = sizes.iter().filter(|size| **size == batch_size).count();
    assert_eq!(counted("batches"), sizes.len());
    assert_eq!((counted("full_batches"), counted("short_batches")), (full, sizes.len() - full));
    let facts = &manifest["stages"]["batches"]["facts"];
    let once = facts["mix"]["first_round_batches"].as_u64().map_or(full, |once| once as usize);
    assert!(once <= counted("possible_batches"), "{once} full batches, and keys allow fewer");
    let distinct: BTreeSet<(i32, usize)> = table.iter().map(|row| (row.epoch, row.row)).collect();
    assert_eq!(counted("dropped_rows"), rows - distinct.len(), "rows in no batch");
}

proptest! {
    // Each case is two processes and a run on disk: few cases, and little patience for shrinking.
    #![proptest_config(ProptestConfig {
        cases: 48,
        max_shrink_iters: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_job_is_what_brute_force_says(job in jobs()) {
        check(&job);
    }
}

#[test]
fn every_awkward_width_is_ranked_right() {
    for (number, dim) in WIDTHS.into_iter().enumerate() {
        let input = Input {
            rows: 70,
            dim,
            float: [Float::F32, Float::F16][number % 2],
            integers: number % 3 == 0,
            one_column: number % 5 == 4,
            tasks: 0,
            key_columns: 0,
            list_columns: 0,
            copies: 3,
            documents: 10 * (number % 3),
            files: 1,
            row_group_rows: 64,
            seed: dim as u64,
        };
        let (cosine, mutual) = (number % 4 < 2, false);
        check(&Job {
            input,
            cosine,
            mutual,
            cut: Cut::skip(3),
            window: 20,
            cluster_size: 4,
            clusters_in_batch: 4,
            negatives: 3,
            epochs: 1,
            remainder: "short",
            rank_by: "row",
            mask: true,
            mix: None,
        });
    }
}

#[test]
fn ties_go_to_the_lower_row_across_tiles() {
    // Three vectors, 700 rows: every list is one long tie, cut in the middle of it.
    let vector = |row: usize| [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]][row * 5 % 3].to_vec();
    let positive = |row: usize| {
        // The third dimension meets a zero in every query: positives differ, scores do not.
        let [x, y] = [[2.0, 0.0], [0.0, 2.0]][row % 2];
        vec![x, y, 1.0 + row as f64]
    };
    let queries = (0..700).map(|row| [vector(row), vec![0.0]].concat()).collect();
    let data = Dataset::of(3, queries, (0..700).map(positive).collect());
    let place = Place::with(&data);
    let run = place.path("run");
    mine(&place.input(), &run, "--metric dot --skip 10 --window 50 --cluster-size 8 --batch-size 32").ok();
    let lines = inspect(&run, 0..700);
    Oracle::new(&data, false).check(&lines, 60, Exactness::Exact);
    check_graph(&lines, 10, false);
}

#[test]
fn copies_of_a_row_are_no_negatives_of_it() {
    // 90 rows in 30 groups of three with one positive each, under queries of their own.
    let mut data = Dataset::planted(90, 12, 21);
    for row in 0..90 {
        data.positives[row] = data.positives[row % 30].clone();
    }
    let place = Place::with(&data);
    let run = place.path("run");
    mine(&place.input(), &run, "--rank-by row --skip 0 --window 89 --cluster-size 3 --batch-size 9").ok();
    let lines = inspect(&run, 0..90);
    assert!(lines.iter().all(|line| line.neighbors.len() == 87), "all rows but the three of its own group");
    Oracle::new(&data, true).check(&lines, 89, Exactness::NearTies);
    let terms = Terms { cluster_size: 3, batch_size: 9, epochs: 1, remainder: "short" };
    promises::check(&data, &lines, &table::read(&run), terms);
}

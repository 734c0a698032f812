//! Any small job, drawn at random: lists, graph, clusters and batches are what brute force says.

use proptest::prelude::*;
use proptest::sample::select;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::command::{Line, Place, inspect, mine};
use super::dataset::{Dataset, Float};
use super::negatives;
use super::oracle::{Cut, Exactness, Oracle, Part, check_cut_graph, check_graph};
use super::promises::{self, Terms};
use super::table;

/// Widths at and around the lanes and tiles of the kernels.
const WIDTHS: [usize; 23] =
    [1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 257, 512, 1023, 1024, 1030];

#[derive(Debug, Clone)]
struct Input {
    rows: usize,
    dim: usize,
    float: Float,
    /// Small whole numbers, so that scores tie exactly.
    integers: bool,
    one_column: bool,
    /// 0: no column.
    tasks: usize,
    key_columns: usize,
    /// Rows that have another row's positive.
    copies: usize,
    files: usize,
    row_group_rows: usize,
    seed: u64,
}

#[derive(Debug, Clone)]
struct Job {
    input: Input,
    cosine: bool,
    mutual: bool,
    cut: Cut,
    window: usize,
    cluster_size: usize,
    clusters_in_batch: usize,
    negatives: usize,
}

impl Input {
    fn data(&self) -> Dataset {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        let draw = if self.integers { Dataset::integers } else { Dataset::planted };
        let mut data = draw(self.rows, self.dim, self.seed);
        for _ in 0..self.copies {
            let (from, to) = (random.random_range(0..self.rows), random.random_range(0..self.rows));
            data.positives[to] = data.positives[from].clone();
            data.queries[to] = data.queries[from].clone();
        }
        if self.tasks > 0 {
            // Uneven: the last tasks have a few rows or none.
            let mut task = || (random.random_range(0.0..1.0f64).powi(3) * self.tasks as f64) as usize;
            let tasks: Vec<usize> = (0..self.rows).map(|_| task()).collect();
            data = data.with_tasks(|row| format!("task {}", tasks[row]));
        }
        for _ in 0..self.key_columns {
            let groups = (self.rows / 2).max(1);
            let keys: Vec<usize> = (0..self.rows).map(|_| random.random_range(0..groups + 2)).collect();
            data = data.with_key(|row| (keys[row] < groups).then(|| keys[row].to_string()));
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
    let labels = (0..4usize, 0..3usize, 0..6usize);
    (rows, dim, float, any::<bool>(), prop::bool::weighted(0.2), labels, 1..4usize, 1..200usize, any::<u64>()).prop_map(
        |(rows, dim, float, integers, one_column, (tasks, key_columns, copies), files, row_group_rows, seed)| Input {
            rows,
            dim,
            float,
            integers,
            one_column,
            tasks,
            key_columns,
            copies,
            files: files.min(rows),
            row_group_rows,
            seed,
        },
    )
}

/// Mostly by rank alone; else with limits in the range of cosines, and of small products.
fn cuts() -> impl Strategy<Value = Cut> {
    let some = |numbers: Vec<f64>| prop::option::weighted(0.4, select(numbers));
    let limits = (some(vec![0.0, 0.05, 0.3, 1.0]), some(vec![0.25, 0.6, 1.0]), some(vec![-1.0, 0.0, 0.2]));
    (0..8usize, prop::option::weighted(0.6, limits)).prop_map(|(skip, limits)| {
        let (relative_margin, max_score, min_score) = limits.unwrap_or_default();
        Cut { skip, relative_margin, max_score, min_score }
    })
}

fn jobs() -> impl Strategy<Value = Job> {
    let ranks = (cuts(), 1..40usize);
    let sizes = (select(vec![2usize, 3, 4, 8, 16]), 1..5usize, 0..7usize);
    (inputs(), any::<bool>(), prop::bool::weighted(0.3), ranks, sizes).prop_map(
        |(input, cosine, mutual, (cut, window), (cluster_size, clusters_in_batch, negatives))| Job {
            input,
            cosine,
            mutual,
            cut,
            window,
            cluster_size,
            clusters_in_batch,
            negatives,
        },
    )
}

/// Mines the job and checks everything that `inspect` and the batch table say.
fn check(job: &Job) {
    let data = job.input.data();
    let place = Place::with(&data);
    let run = place.path("run");
    let batch_size = job.cluster_size * job.clusters_in_batch;
    let flags = format!(
        "--metric {} --edges {} --skip {} --window {} --cluster-size {} --batch-size {batch_size} \
         --hard-negatives {} {}",
        if job.cosine { "cosine" } else { "dot" },
        if job.mutual { "mutual" } else { "any" },
        job.cut.skip,
        job.window,
        job.cluster_size,
        job.negatives,
        data.column_flags(),
    );
    let outcome = mine(&place.input(), &run, &format!("{flags}{}", job.cut.flags()));
    let in_task = |row: usize| (0..data.rows()).filter(|other| data.task(*other) == data.task(row)).count();
    let largest = (0..data.rows()).map(in_task).max().unwrap_or(0);
    if job.cut.skip + job.window >= data.rows() || largest <= job.cut.skip + 1 {
        outcome.refuses(&["--skip"]);
        return;
    }
    if outcome.stderr.contains("leave no row a preferred negative") {
        outcome.refuses(&["--window", "--replace"]);
        let without = place.path("without limits");
        mine(&place.input(), &without, &flags).ok();
        let preferred = |line: &Line| (0..line.neighbors.len()).any(|rank| job.cut.part(line, rank) == Part::Preferred);
        assert!(!inspect(&without, 0..data.rows()).iter().any(preferred), "a refusal without reason");
        return;
    }
    outcome.ok();
    let lines = inspect(&run, 0..data.rows());
    let exactness = if job.input.integers && !job.cosine { Exactness::Exact } else { Exactness::NearTies };
    Oracle::new(&data, job.cosine).check(&lines, job.cut.skip + job.window, exactness);
    check_cut_graph(&lines, |_| job.cut, job.mutual);
    let terms = Terms { cluster_size: job.cluster_size, batch_size, epochs: 1, remainder: "short" };
    let table = table::read(&run);
    promises::check(&data, &lines, &table, terms);
    if job.negatives > 0 {
        negatives::check(&data, &lines, &table, job.cosine, &|_| job.cut, job.negatives);
    }
    assert!(job.negatives > 0 || table.iter().all(|row| row.negatives.is_none()));
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
            copies: 3,
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
    mine(&place.input(), &run, "--skip 0 --window 89 --cluster-size 3 --batch-size 9").ok();
    let lines = inspect(&run, 0..90);
    assert!(lines.iter().all(|line| line.neighbors.len() == 87), "all rows but the three of its own group");
    Oracle::new(&data, true).check(&lines, 89, Exactness::NearTies);
    let terms = Terms { cluster_size: 3, batch_size: 9, epochs: 1, remainder: "short" };
    promises::check(&data, &lines, &table::read(&run), terms);
}

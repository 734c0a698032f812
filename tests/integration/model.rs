//! Small worlds, drawn at random: all that a job makes is what brute force says (`properties`), and the same however
//! its input is cut into files, whatever the machine, after any kill, and for any number of ranks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use parquet::basic::Compression;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestError, TestRunner};

use super::command::{MADE, assert_same, mine, mine_command, verify};
use super::dataset::Dataset;
use super::properties::{Job, Made, check, jobs};
use super::table::{self, Row};

/// What is another about a job that must make the same.
#[derive(Debug, Clone)]
struct Otherwise {
    files: usize,
    row_group_rows: usize,
    compression: Compression,
    dictionary: bool,
    threads: usize,
    /// Milliseconds after which it is killed, each time in the same folder.
    kills: Vec<u64>,
    strided: bool,
}

fn otherwise() -> impl Strategy<Value = Otherwise> {
    let codecs = vec![
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::ZSTD(Default::default()),
        Compression::LZ4_RAW,
        Compression::GZIP(Default::default()),
        Compression::BROTLI(Default::default()),
    ];
    let files = (1..12usize, 1..150usize, select(codecs), any::<bool>());
    (files, 1..6usize, prop::collection::vec(1..400u64, 1..4), any::<bool>()).prop_map(
        |(files, threads, kills, strided)| {
            let (files, row_group_rows, compression, dictionary) = files;
            Otherwise { files, row_group_rows, compression, dictionary, threads, kills, strided }
        },
    )
}

/// Input cut otherwise: the same vectors, lists, edges, clusters and rows of batches. The batch table's footer knows
/// the input files by their content.
fn cut_otherwise(made: &Made, other: &Otherwise) {
    let input = made.place.path("cut otherwise");
    let data = Dataset {
        files: other.files.min(made.data.rows()),
        row_group_rows: other.row_group_rows,
        compression: other.compression,
        dictionary: other.dictionary,
        ..made.data.clone()
    };
    data.write(&input);
    let run = made.place.path("of other files");
    mine(&input, &run, &made.flags).ok();
    assert_same(&run, &made.run, &["vectors", "neighbors", "edges", "clusters"]);
    assert_eq!(table::read(&run), table::read(&made.run), "rows of batches");
}

/// Other threads, and the least budget that is accepted with them.
fn on_another_machine(made: &Made, other: &Otherwise) {
    let run = made.place.path("on another machine");
    let flags = format!("{} --threads {}", made.flags, other.threads);
    let refusal = mine(&made.place.input(), &run, &format!("{flags} --memory 1MiB")).fails(4, &["raise --memory to"]);
    let least = refusal.stderr.split("raise --memory to ").nth(1).unwrap().split(',').next().unwrap();
    mine(&made.place.input(), &run, &format!("{flags} --memory {least}")).ok();
    assert_same(&run, &made.run, &MADE);
}

/// Killed, again and again, and finished.
fn killed(made: &Made, other: &Otherwise) -> usize {
    let run = made.place.path("killed");
    let mut kills = 0;
    for milliseconds in &other.kills {
        let mut command = mine_command(&made.place.input(), &run, &made.flags);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(*milliseconds));
        let _ = child.kill();
        kills += usize::from(!child.wait().unwrap().success());
    }
    mine(&made.place.input(), &run, &made.flags).ok();
    assert_same(&run, &made.run, &MADE);
    kills
}

/// The rows of each batch.
fn batches(run: &Path) -> BTreeMap<i64, BTreeSet<usize>> {
    let mut batches = BTreeMap::<_, BTreeSet<usize>>::new();
    for row in table::read(run) {
        batches.entry(row.batch).or_default().insert(row.row);
    }
    batches
}

/// For several ranks the same batches, and of a batch of whole clusters each rank reads whole ones.
fn for_ranks(made: &Made, job: &Job, other: &Otherwise) {
    let Some(world) = (2..=job.clusters_in_batch).find(|world| job.clusters_in_batch.is_multiple_of(*world)) else {
        return;
    };
    let run = made.place.path("for ranks");
    let layout = if other.strided { "strided" } else { "contiguous" };
    mine(&made.place.input(), &run, &format!("{} --world-size {world} --rank-layout {layout}", made.flags)).ok();
    verify(&run).ok();
    assert_eq!(batches(&run), batches(&made.run));
    let (table, size) = (table::read(&run), job.cluster_size * job.clusters_in_batch);
    for batch in table.chunk_by(|a, b| a.batch == b.batch) {
        let mut clusters = BTreeMap::<_, usize>::new();
        batch.iter().for_each(|row| *clusters.entry(row.cluster).or_default() += 1);
        let whole = |(cluster, rows): (&Option<i64>, &usize)| cluster.is_some() && *rows == job.cluster_size;
        if batch.len() < size || !clusters.iter().all(whole) {
            continue;
        }
        for rank in 0..world {
            let share: Vec<&Row> = match other.strided {
                true => batch.iter().skip(rank).step_by(world).collect(),
                false => batch[rank * size / world..(rank + 1) * size / world].iter().collect(),
            };
            let mut own = BTreeMap::<_, usize>::new();
            share.iter().for_each(|row| *own.entry(row.cluster).or_default() += 1);
            assert!(own.values().all(|rows| *rows == job.cluster_size), "rank {rank} of batch {}", batch[0].batch);
        }
    }
}

#[derive(Debug, Default)]
struct Seen {
    worlds: usize,
    refused: usize,
    kills: usize,
}

#[test]
fn any_world_is_what_brute_force_says_and_the_same_in_every_way() {
    let worlds = std::env::var("BATCHMINE_WORLDS").ok().map(|number| number.parse().expect("a number of worlds"));
    let seen = Mutex::new(Seen::default());
    let half = |half: u32| {
        let cases = worlds.unwrap_or(30u32).div_ceil(2);
        let config = Config { cases, max_shrink_iters: 30, failure_persistence: None, ..Config::default() };
        let run = TestRunner::new(config).run(&(jobs().prop_map(Job::fitting), otherwise()), |(job, other)| {
            let made = check(&job);
            let number = {
                let mut seen = seen.lock().unwrap();
                seen.worlds += 1;
                seen.refused += usize::from(made.is_none());
                seen.worlds
            };
            let Some(made) = made else { return Ok(()) };
            verify(&made.run).ok();
            // Of the few worlds of every day each is made in one other way, of many in every one.
            let is_turn = |way: usize| worlds.is_some() || number % 4 == way;
            if is_turn(0) {
                cut_otherwise(&made, &other);
            }
            if is_turn(1) {
                on_another_machine(&made, &other);
            }
            if is_turn(2) {
                seen.lock().unwrap().kills += killed(&made, &other);
            }
            if is_turn(3) {
                for_ranks(&made, &job, &other);
            }
            Ok(())
        });
        match run {
            Ok(()) => {}
            Err(TestError::Fail(why, (job, other))) => panic!("half {half}: {why}\n{job:#?}\n{other:#?}"),
            Err(error) => panic!("half {half}: {error}"),
        }
    };
    std::thread::scope(|scope| {
        let halves = [0, 1].map(|number| scope.spawn(move || half(number)));
        halves.into_iter().for_each(|half| half.join().unwrap());
    });
    let Seen { worlds, refused, kills } = seen.into_inner().unwrap();
    println!("worlds: {worlds}, {refused} of them refused for a reason; {kills} jobs were killed under way");
    assert!(refused * 2 < worlds, "most worlds are mined");
}

//! The search on GPUs without one: a plugin that computes on the CPU behind the same C interface, and fails on demand.
//! Whatever happens, the files are those of the CPU's search.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::command::{MADE, Outcome, Place, assert_same, mine, mine_command, verify};
use super::dataset::Dataset;

/// Two base tiles of the least size, and a few tiles of queries.
const ROWS: usize = 5000;
pub const FLAGS: &str = "--skip 5 --window 40 --cluster-size 16 --batch-size 64";

/// Compiles the fake plugin, once for a target folder and version of its sources.
fn plugin() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = root.join("tests/integration/fake_plugin.c");
    let include = root.join("src/neighbors/gpu/plugin");
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libfake_gpu.so");
    let time = |path: &Path| std::fs::metadata(path).and_then(|data| data.modified()).ok();
    if time(&built) > time(&source).max(time(&include.join("batchmine_gpu.h"))) {
        return built;
    }
    // Several tests may do this at a time: each makes a file of its own and puts it in place whole.
    let own = built.with_extension(format!("{}.so", std::process::id()));
    let cc = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let mut command = Command::new(cc);
    command.args(["-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]);
    command.arg("-I").arg(include).arg(source).arg("-o").arg(&own).arg("-lm");
    assert!(command.status().unwrap().success(), "the fake plugin does not compile");
    std::fs::rename(own, &built).unwrap();
    built
}

/// Rows with ties, copies and keys, and more than one task.
pub fn data() -> Dataset {
    let mut data = Dataset::planted(ROWS, 24, 77);
    // Copies, which may not be negatives of each other: more than the search asks for beyond the ranks.
    for row in (0..ROWS).step_by(40) {
        data.positives[row] = data.positives[0].clone();
    }
    data.with_key(|row| (row % 9 == 0).then(|| (row % 7).to_string()))
        .with_tasks(|row| ["a", "b"][usize::from(row > 4700)].into())
}

/// A plugin, the input, and the CPU's run.
pub struct Bench {
    pub place: Place,
    flags: String,
    plugin: PathBuf,
    /// Of the names of the variables that say how to fake.
    prefix: &'static str,
}

impl Bench {
    fn new(data: &Dataset, flags: &str) -> Bench {
        Bench::with(plugin(), "FAKE_GPU", data, flags)
    }

    pub fn with(plugin: PathBuf, prefix: &'static str, data: &Dataset, flags: &str) -> Bench {
        let place = Place::with(data);
        mine(&place.input(), &place.path("cpu"), &format!("{flags} --backend cpu")).ok();
        Bench { place, flags: flags.into(), plugin, prefix }
    }

    pub fn command(&self, name: &str, flags: &str, fakes: &[(&str, &str)]) -> Command {
        let mut command = mine_command(&self.place.input(), &self.place.path(name), &format!("{} {flags}", self.flags));
        command.arg("--gpu-plugin").arg(&self.plugin);
        command.envs(fakes.iter().map(|(name, value)| (format!("{}_{name}", self.prefix), value)));
        command
    }

    /// Mines with fakes, holds the files against the CPU's, and returns what was said.
    pub fn same(&self, name: &str, flags: &str, fakes: &[(&str, &str)]) -> Outcome {
        let outcome = Outcome::from(self.command(name, flags, fakes).output().unwrap()).ok();
        assert_same(&self.place.path(name), &self.place.path("cpu"), &MADE);
        outcome
    }
}

#[track_caller]
pub fn says(outcome: &Outcome, words: &[&str]) {
    for word in words {
        assert!(outcome.stderr.contains(word), "no {word:?} in:\n{}", outcome.stderr);
    }
}

fn keyed() -> Bench {
    Bench::new(&data(), &format!("{FLAGS} --task-column task --key-column key0"))
}

#[test]
fn the_gpu_search_writes_the_same_files() {
    let bench = keyed();
    let outcome = bench.same("f16", "--backend faiss-gpu", &[]);
    says(&outcome, &["fake device 0 (64.0 of 80.0 GiB free) with a fake plugin", "in f16", "recall@45 1.0000"]);
    says(&bench.same("f32", "--backend faiss-gpu --precision f32", &[]), &["in f32"]);
    says(&bench.same("auto", "", &[]), &["GPU search"]);
    verify(&bench.place.path("f16")).ok();
    assert!(!bench.place.path("f16").join("neighbors/base.gpu").exists(), "the base is for the search only");
}

#[test]
fn the_gpu_search_of_plain_products_and_of_one_column_writes_the_same_files() {
    let mut long = Dataset::planted(900, 40, 5);
    // Norms over many orders of magnitude: halves hold few of them well.
    for (row, vector) in long.positives.iter_mut().enumerate() {
        vector.iter_mut().for_each(|value| *value *= f64::from(row as i32 % 40 - row as i32 % 13).exp2());
    }
    Bench::new(&long, &format!("{FLAGS} --metric dot")).same("gpu", "--backend faiss-gpu", &[]);
    let one = Dataset { one_column: true, ..Dataset::integers(900, 6, 8) }.in_halves();
    Bench::new(&one, &format!("{FLAGS} --embedding-column embedding")).same("gpu", "--backend faiss-gpu", &[]);
    // Fewer rows than the search would like to have.
    let few = Dataset::planted(60, 8, 9);
    Bench::new(&few, "--skip 2 --window 10 --cluster-size 4 --batch-size 16").same("gpu", "--backend faiss-gpu", &[]);
}

#[test]
fn two_devices_share_the_tiles() {
    let bench = keyed();
    let log = bench.place.path("log");
    bench.same("gpu", "--backend faiss-gpu", &[("DEVICES", "2"), ("LOG", log.to_str().unwrap())]);
    let lines = std::fs::read_to_string(log).unwrap();
    let of = |device: &str| lines.lines().filter(|line| line.starts_with(device)).count();
    assert!(of("0 ") > 0 && of("1 ") > 0, "{lines}");
}

#[test]
fn devices_that_do_not_answer_or_have_no_room_are_left_out() {
    let bench = Bench::new(&Dataset::planted(900, 8, 3), FLAGS);
    let outcome = bench.same("some", "--backend faiss-gpu", &[("DEVICES", "3"), ("SILENT", "0"), ("FULL", "2")]);
    says(
        &outcome,
        &[
            "(see nvidia-smi): GPU 0: it is somebody else's",
            "CUDA_VISIBLE_DEVICES): fake device 2 (6.4 of",
            "left 0 queries",
        ],
    );
    let search = outcome.stderr.lines().find(|line| line.contains("GPU search")).unwrap();
    assert!(search.contains("fake device 1") && !search.contains("fake device 2"), "{search}");
    says(&bench.same("none", "", &[("SILENT", "0")]), &["the CPU searches", "GPU 0: it is somebody else's"]);
    // Room for no tile at all.
    let small = [("FREE", "100000")];
    let refused = Outcome::from(bench.command("small", "--backend faiss-gpu", &small).output().unwrap());
    refused.fails(1, &["too little memory for a search on GPUs", "fake device 0", "remedy:"]);
    says(&bench.same("small", "", &small), &["the CPU searches", "its tiles are too small"]);
}

#[test]
fn what_is_on_the_device_is_not_copied_again() {
    let bench = Bench::new(&Dataset::planted(9000, 8, 3), FLAGS);
    let copied = |name: &str, free: &str| {
        let log = bench.place.path(name).with_extension("log");
        bench.same(name, "--backend faiss-gpu", &[("FREE", free), ("LOG", log.to_str().unwrap())]);
        let lines = std::fs::read_to_string(log).unwrap();
        let rows = lines.lines().map(|line| line.split(' ').nth(1).unwrap().parse::<u64>().unwrap()).max().unwrap();
        (rows, lines.lines().map(|line| line.split(' ').nth(3).unwrap().parse::<u64>().unwrap()).sum::<u64>())
    };
    // Base and queries once each, in values.
    assert_eq!(copied("large", "80000000000"), (9000, 2 * 9000 * 8));
    // There is room for half the base: it comes once for each of two blocks. (For each tile of queries it would be
    // 63,000 rows.)
    let (rows, values) = copied("small", "7400000");
    assert!(rows < 9000 && values < 6 * 9000 * 8, "{rows} {values}");
}

#[test]
fn a_worker_that_crashes_once_costs_a_tile() {
    let bench = keyed();
    for fault in ["crash", "exit", "error", "twice", "place", "score", "nan"] {
        let once = bench.place.path(&format!("{fault}-once"));
        let fakes = [("FAULT", fault), ("FROM", "1"), ("ONCE", once.to_str().unwrap())];
        let outcome = bench.same(fault, "--backend faiss-gpu", &fakes);
        assert!(once.exists(), "{fault} did not happen");
        says(&outcome, &["a new worker takes over", "they are tried in"]);
        assert!(!outcome.stderr.contains("the CPU takes"), "{}", outcome.stderr);
        if fault == "crash" {
            says(&outcome, &["SIGABRT", "the fake device is lost"]);
        }
    }
}

#[test]
fn a_device_that_always_fails_is_given_up() {
    let bench = keyed();
    for fault in ["crash", "score"] {
        let outcome = bench.same(&format!("always-{fault}"), "--backend faiss-gpu", &[("FAULT", fault)]);
        says(&outcome, &["given up", "the CPU takes these queries"]);
    }
    // Each worker dies at its second tile.
    let outcome = bench.same("later", "", &[("FAULT", "crash"), ("FROM", "1"), ("DEVICES", "2")]);
    says(&outcome, &["a new worker takes over"]);
}

#[test]
fn too_little_device_memory_makes_tiles_smaller() {
    let bench = Bench::new(&Dataset::planted(9000, 8, 3), FLAGS);
    let outcome = bench.same("oom", "--backend faiss-gpu", &[("FAULT", "oom"), ("ABOVE", "4600")]);
    says(&outcome, &["out of device memory (the fake device is full)", "they are tried in 4 parts"]);
    assert!(!outcome.stderr.contains("the CPU takes"), "{}", outcome.stderr);
    let outcome = bench.same("never", "--backend faiss-gpu", &[("FAULT", "oom")]);
    says(&outcome, &["the CPU takes these queries"]);
}

#[test]
fn a_device_that_hangs_is_left() {
    let bench = Bench::new(&Dataset::planted(600, 8, 4), FLAGS);
    let once = bench.place.path("once");
    let begin = Instant::now();
    let fakes = [("FAULT", "hang"), ("ONCE", once.to_str().unwrap())];
    let outcome = bench.same("hang", "--backend faiss-gpu --gpu-timeout 1", &fakes);
    says(&outcome, &["did not answer for 1 s", "a new worker takes over"]);
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
}

#[test]
fn without_a_device_auto_takes_the_cpu_and_faiss_gpu_refuses() {
    let bench = Bench::new(&Dataset::planted(300, 8, 4), FLAGS);
    let none = [("DEVICES", "0")];
    says(&bench.same("none", "", &none), &["the CPU searches, though there is a GPU plugin: there is no device"]);
    let refused = |fakes: &[(&str, &str)]| {
        Outcome::from(bench.command("refused", "--backend faiss-gpu", fakes).output().unwrap())
    };
    refused(&none).fails(1, &["no GPU answers", "there is no device", "remedy:"]);
    let other = [("VERSION", "2")];
    refused(&other).fails(1, &["has version 2 of the interface", "build the plugin anew"]);
    says(&bench.same("other", "", &other), &["has version 2"]);

    let text = bench.place.path("text.so");
    std::fs::write(&text, "no shared object").unwrap();
    let flags = |backend: &str| format!("{FLAGS} --backend {backend} --gpu-plugin {}", text.display());
    mine(&bench.place.input(), &bench.place.path("text"), &flags("faiss-gpu"))
        .fails(1, &["no GPU answers", "cannot be loaded", "file too short"]);
    says(&mine(&bench.place.input(), &bench.place.path("text"), &flags("auto")).ok(), &["cannot be loaded"]);
    assert_same(&bench.place.path("text"), &bench.place.path("cpu"), &MADE);

    let flags = format!("{FLAGS} --backend faiss-gpu --gpu-plugin /nowhere.so");
    mine(&bench.place.input(), &bench.place.path("no"), &flags).refuses(&["no GPU plugin", "/nowhere.so"]);
    let flags = format!("{FLAGS} --backend faiss-gpu");
    mine(&bench.place.input(), &bench.place.path("no"), &flags).refuses(&["no GPU plugin", "docs/gpu.md"]);
}

#[test]
fn where_gpus_cannot_search_the_cpu_does() {
    let bench = Bench::new(&Dataset::planted(2200, 8, 4), "--skip 30 --window 1960 --batch-size 64");
    says(&bench.same("wide", "--backend faiss-gpu", &[]), &["GPUs search up to 1984"]);
    let bench = Bench::new(&Dataset::planted(300, 8, 4), &format!("{FLAGS} --search ivf:2"));
    let outcome = bench.same("ivf", "", &[]);
    says(&outcome, &["approximate search is the CPU's"]);
    assert!(!outcome.stderr.contains("fake device"), "nobody looks for a device:\n{}", outcome.stderr);
}

#[test]
fn the_least_budget_that_is_named_holds_a_gpu_search() {
    let bench = Bench::new(&Dataset::planted(2000, 24, 6), FLAGS);
    let mine = |name: &str, flags: &str| Outcome::from(bench.command(name, flags, &[]).output().unwrap());
    let refused = mine("gpu", "--backend faiss-gpu --memory 1MiB").fails(4, &["remedy:", "raise --memory to"]);
    let named = refused.stderr.split("raise --memory to ").nth(1).unwrap().split(',').next().unwrap();
    let outcome = bench.same("gpu", &format!("--backend faiss-gpu --memory {named}"), &[]);
    says(&outcome, &["GPU search"]);
    // With auto a GPU is no reason to refuse a budget.
    let refused = mine("auto", "--memory 1MiB").fails(4, &["raise --memory to"]);
    let least = refused.stderr.split("raise --memory to ").nth(1).unwrap().split(',').next().unwrap();
    let size = |text: &str| text.trim_end_matches("MiB").parse::<u32>().unwrap();
    assert!(size(least) <= size(named), "{least} {named}");
    bench.same("auto", &format!("--memory {least}"), &[]);
}

#[test]
fn the_plan_says_what_stays_on_the_device() {
    let bench = Bench::new(&Dataset::planted(9000, 8, 3), FLAGS);
    let plan = |flags: &str, free: &str| {
        let mut command = super::command::batchmine();
        command.arg("plan").arg(bench.place.input()).args(flags.split(' ')).arg("--gpu-plugin").arg(plugin());
        Outcome::from(command.env("FAKE_GPU_FREE", free).output().unwrap()).ok().stdout
    };
    let large = plan(FLAGS, "80000000000");
    assert!(large.contains("base tiles stay on the device") && large.contains("base of 1 x 9,000 rows"), "{large}");
    let small = plan(FLAGS, "7400000");
    assert!(small.contains("the other way round"), "{small}");
    let cpu = plan(&format!("{FLAGS} --backend cpu"), "80000000000");
    assert!(!cpu.contains("gpu"), "{cpu}");
}

#[test]
fn killed_or_interrupted_a_gpu_search_goes_on_and_leaves_no_worker() {
    let bench = Bench::new(&Dataset::planted(9000, 8, 3), FLAGS);
    for signal in ["-INT", "-TERM", "-KILL"] {
        let run = bench.place.path(signal);
        // It hangs in its second block, when the first one is done.
        let mut command = bench.command(signal, "--backend faiss-gpu", &[("FAULT", "hang"), ("FROM", "4")]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begin = Instant::now();
        while !run.join("neighbors/block-000000.nbr").exists() {
            assert!(begin.elapsed() < Duration::from_secs(100), "no block is made");
            std::thread::sleep(Duration::from_millis(20));
        }
        let workers = children(child.id());
        assert!(!workers.is_empty(), "no worker");
        let (status, time) = super::signals::end(&mut child, signal);
        assert_eq!(status.code(), (signal != "-KILL").then_some(130));
        assert!(time < super::signals::SOON, "{signal} took {time:?}");
        let gone = |id: &u32| !Path::new(&format!("/proc/{id}/fd/0")).exists();
        let end = Instant::now() + Duration::from_secs(20);
        while !workers.iter().all(gone) {
            assert!(Instant::now() < end, "a worker outlives its job");
            std::thread::sleep(Duration::from_millis(20));
        }
        bench.same(signal, "--backend faiss-gpu", &[]);
    }
}

#[test]
fn a_new_worker_starts_when_the_executable_was_replaced() {
    let bench = Bench::new(&Dataset::planted(9000, 8, 3), FLAGS);
    let (run, once) = (bench.place.path("gpu"), bench.place.path("once"));
    // The worker fails in the second block; before, the file that it is started from goes away.
    let fakes = [("FAULT", "crash"), ("FROM", "4"), ("ONCE", once.to_str().unwrap())];
    let command = bench.command("gpu", "--backend faiss-gpu", &fakes);
    let executable = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("replaced-{}", std::process::id()));
    std::fs::hard_link(command.get_program(), &executable).unwrap();
    let mut replaced = Command::new(&executable);
    replaced.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => replaced.env(name, value),
            None => replaced.env_remove(name),
        };
    }
    let child = replaced.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begin = Instant::now();
    while !run.join("neighbors").exists() {
        assert!(begin.elapsed() < Duration::from_secs(100), "no search begins");
        std::thread::sleep(Duration::from_millis(1));
    }
    std::fs::remove_file(&executable).unwrap();
    let outcome = Outcome::from(child.wait_with_output().unwrap()).ok();
    says(&outcome, &["a new worker takes over"]);
    assert!(once.exists() && !outcome.stderr.contains("the CPU takes"), "{}", outcome.stderr);
    assert_same(&run, &bench.place.path("cpu"), &MADE);
}

/// The processes that a process has started.
fn children(parent: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |id: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let fields = status.rsplit(')').next().unwrap_or_default().to_owned();
        fields.split_whitespace().nth(1).is_some_and(|field| field == parent.to_string())
    };
    ids.filter(is_child).collect()
}

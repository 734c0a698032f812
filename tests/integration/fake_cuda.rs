//! The plugin over FAISS, without a GPU: built by its own script against a CUDA runtime without devices (`fake_cuda/`),
//! which runs work on streams as late as it may and protects device memory from the host. All of the plugin and
//! FAISS's streams and memory are the real ones; kernels and cuBLAS compute on the CPU. The files must be those of the
//! CPU's search.
//!
//! Where there is an nvcc, the kernels are FAISS's own too: their PTX is interpreted.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::command::{Outcome, skipped};
use super::dataset::Dataset;
use super::fake_gpu::{Bench, FLAGS, data, says};
use super::readers::python;

/// The plugin with FAISS compiled into it, and the same linked against a libfaiss.so.
struct Plugins {
    built: PathBuf,
    linked: PathBuf,
}

/// Builds both, once for each target folder and state of the sources. `None`: tools are missing.
fn plugins() -> Option<Plugins> {
    for tool in ["bash", "g++", "ar", "python3", "rustc"] {
        let found = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            skipped(&format!("there is no {tool}: the plugin over FAISS is not tested"));
            return None;
        }
    }
    let toolkit = Toolkit::new("fake-cuda", None);
    let plugins = Plugins { built: toolkit.path("built.so"), linked: toolkit.path("linked.so") };
    if !plugins.linked.exists() {
        toolkit.make(&["runtime", "blas"]);
        toolkit.build(&plugins.built, &["--objects", "objects"]);
        // What a libfaiss.so has in it; its runtime is one of its own libraries.
        let ours = ["plugin.o", "products.o"];
        let of_faiss = fs::read_dir(toolkit.path("objects")).unwrap().map(|entry| entry.unwrap().path());
        let of_faiss = of_faiss.filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.ends_with(".o") && !ours.contains(&name)
        });
        let library = ["-shared", "-fopenmp", "-Wl,-rpath,$ORIGIN/lib64", "-o", "libfaiss.so"];
        run(toolkit.call("g++", &library).args(of_faiss).args(["-Llib64", "-l:libcudart.so.13"]));
        toolkit.build(&plugins.linked, &["--objects", "linked", "--faiss", "libfaiss.so"]);
    }
    Some(plugins)
}

/// The plugin as the real nvcc builds it, whose kernels are interpreted. `None`: no nvcc is named.
fn plugin_of_nvcc() -> Option<PathBuf> {
    let Some(real) = std::env::var_os("BATCHMINE_CUDA").map(PathBuf::from) else {
        skipped("BATCHMINE_CUDA names no CUDA toolkit: FAISS's own kernels are not tried");
        return None;
    };
    let toolkit = Toolkit::new("nvcc", Some(fs::canonicalize(real).unwrap()));
    let plugin = toolkit.path("built.so");
    if !plugin.exists() {
        toolkit.make(&["runtime", "kernels", "ptx_parse", "ptx_run", "blas"]);
        toolkit.build(&plugin, &["--objects", "objects", "--arch", "sm_80"]);
    }
    Some(plugin)
}

/// A folder like that of a CUDA toolkit, with our libraries; headers and nvcc are the real ones, or ours.
struct Toolkit {
    folder: PathBuf,
    real: Option<PathBuf>,
    _lock: fs::File,
}

impl Toolkit {
    /// The folder for this state of the sources. Several tests may need it at the same time.
    fn new(name: &str, real: Option<PathBuf>) -> Toolkit {
        let mut state = DefaultHasher::new();
        include_str!("fake_cuda.rs").hash(&mut state);
        real.hash(&mut state);
        for folder in [fakes(), fakes().join("include"), own()] {
            let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
            files.sort();
            files.iter().filter(|path| path.is_file()).for_each(|path| fs::read(path).unwrap().hash(&mut state));
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{:016x}", state.finish()));
        fs::create_dir_all(&folder).unwrap();
        let lock = fs::File::create(folder.join("lock")).unwrap();
        lock.lock().unwrap();
        Toolkit { folder, real, _lock: lock }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn call(&self, program: &str, words: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.folder).args(words);
        command
    }

    /// Of `parts`, the last is cuBLAS, the others are the runtime.
    fn make(&self, parts: &[&str]) {
        for folder in ["bin", "lib64"] {
            fs::create_dir_all(self.path(folder)).unwrap();
        }
        let copy = |from: &Path, to: &str| {
            let files = fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
            for path in files {
                fs::copy(&path, self.path(to).join(path.file_name().unwrap())).unwrap();
            }
        };
        copy(&fakes(), "bin");
        if let Some(real) = &self.real {
            run(self.call("ln", &["-sfn"]).arg(real.join("include")).arg("include"));
            fs::write(self.path("bin/real"), real.to_str().unwrap()).unwrap();
            fs::rename(self.path("bin/nvcc-ptx"), self.path("bin/nvcc")).unwrap();
        } else {
            fs::create_dir_all(self.path("include")).unwrap();
            copy(&fakes().join("include"), "include");
        }
        let flags = ["-std=c++17", "-O3", "-Wall", "-Wextra", "-Werror", "-fPIC", "-Ibin", "-Iinclude", "-c"];
        let objects: Vec<String> = parts.iter().map(|part| format!("lib64/{part}.o")).collect();
        for (part, object) in parts.iter().zip(&objects) {
            run(self.call("g++", &flags).args([&format!("bin/{part}.cpp"), "-o", object]));
        }
        let (blas, runtime) = objects.split_last().unwrap();
        run(&mut self.call("ar", &["rcs", "lib64/libcublas.a", blas]));
        run(self.call("ar", &["rcs", "lib64/libcudart_static.a"]).args(runtime));
        let shared = ["-shared", "-Wl,-soname,libcudart.so.13", "-o", "lib64/libcudart.so.13"];
        run(self.call("g++", &shared).args(&objects));
    }

    /// Builds by the script that users build with.
    fn build(&self, out: &Path, words: &[&str]) {
        let mut command = self.call("bash", &[]);
        command.arg(own().join("build.sh")).arg("--out").arg(out);
        run(command.args(["--cuda", ".", "--jobs", "2"]).args(words));
    }
}

fn fakes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/fake_cuda")
}

fn own() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/neighbors/gpu/plugin")
}

#[track_caller]
fn run(command: &mut Command) {
    let outcome = Outcome::from(command.output().unwrap());
    assert_eq!(outcome.code, Some(0), "{command:?}:\n{}", outcome.said());
}

fn keyed(plugin: PathBuf) -> Bench {
    Bench::with(plugin, "FAKE_CUDA", &data(), &format!("{FLAGS} --task-column task --key-column key0"))
}

/// The calls on the devices: a line each, split into words.
fn calls(path: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

fn well(outcome: &Outcome) {
    for word in ["takes over", "given up", "the CPU takes"] {
        assert!(!outcome.stderr.contains(word), "{}", outcome.stderr);
    }
}

#[test]
fn the_plugin_waits_for_all_that_it_reads() {
    let Some(plugins) = plugins() else { return };
    // The plugin's stream of copies is made first, FAISS's own follow, the two that search last.
    let (none, copies, all) = (0, 1, 0b11111);
    let eager = [none, copies, all - copies, all, all - 0b1000, 0b1000];
    let bench = keyed(plugins.built.clone());
    let flags = |precision: &str| format!("--backend faiss-gpu --precision {precision}");
    for streams in eager {
        for precision in ["int8", "f32"] {
            let fakes = [("EAGER", &*streams.to_string())];
            let outcome = bench.same(&format!("{streams:b}-{precision}"), &flags(precision), &fakes);
            says(&outcome, &["fake CUDA device 0", "FAISS 1.12.0, CUDA runtime 13000", "recall@45 1.0000"]);
            well(&outcome);
        }
    }
    // More than the plugin's two stages of pinned memory hold.
    let bench = Bench::with(plugins.built, "FAKE_CUDA", &Dataset::planted(2100, 3000, 4), FLAGS);
    for streams in [none, all - copies] {
        let fakes = [("EAGER", &*streams.to_string())];
        well(&bench.same(&format!("{streams:b}"), &flags("f32"), &fakes));
    }
}

#[test]
fn the_plugin_copies_once_takes_memory_once_and_asks_for_fast_products() {
    let Some(plugins) = plugins() else { return };
    // More than one row of FAISS's tiles, chunks of the plugin, and tiles of ours.
    let (rows, dim) = (9000, 40);
    let bench = Bench::with(plugins.built, "FAKE_CUDA", &Dataset::planted(rows, dim, 3), FLAGS);
    let log = bench.place.path("log");
    well(&bench.same("gpu", "--backend faiss-gpu", &[("LOG", log.to_str().unwrap())]));
    let lines = calls(&log);
    let bytes = |call: &str| -> usize {
        lines.iter().filter(|line| line[0] == call).map(|line| line[2].parse::<usize>().unwrap()).sum()
    };
    assert_eq!(bytes("down"), 2 * rows * dim * 2, "base and queries, in halves, once each");
    assert_eq!(bytes("up"), rows * (45 + 64) * 12, "109 places and scores a query");
    let products: Vec<_> = lines.iter().filter(|line| line[0] == "product").collect();
    assert!(products.iter().all(|line| line[1..3] == ["f16", "fast"]), "{products:?}");
    // Memory is allocated for the first tile, of two chunks, and not later: an allocation waits for the device.
    let searches: Vec<usize> = (0..lines.len()).filter(|at| lines[*at][0] == "search").collect();
    let late: Vec<_> = lines[searches[2]..*searches.last().unwrap()]
        .iter()
        .filter(|line| ["malloc", "free"].contains(&&*line[0]))
        .collect();
    assert!(late.is_empty(), "{late:?}");

    let log = bench.place.path("slow-log");
    well(&bench.same("slow", "--backend faiss-gpu", &[("LOG", log.to_str().unwrap()), ("FAST", "no")]));
    let lines = calls(&log);
    let products: Vec<_> = lines.iter().filter(|line| line[0] == "product").collect();
    assert!(!products.is_empty() && products.iter().all(|line| line[2] == "pedantic"), "{products:?}");
}

#[test]
fn the_plugin_says_when_a_device_is_full_and_goes_on() {
    let Some(plugins) = plugins() else { return };
    let large = Bench::with(plugins.built.clone(), "FAKE_CUDA", &Dataset::planted(9000, 40, 3), FLAGS);
    let small = Bench::with(plugins.built.clone(), "FAKE_CUDA", &Dataset::planted(2500, 8, 3), FLAGS);
    let mine = |bench: &Bench, name: &str, fakes: &[(&str, &str)]| {
        let outcome = bench.same(name, "--backend faiss-gpu", fakes);
        assert!(!outcome.stderr.contains("takes over"), "{}", outcome.stderr);
        outcome
    };
    // Scores of 512 queries and all rows, twice, are 37 MB.
    let outcome = mine(&large, "less", &[("MEMORY", "30000000")]);
    says(&outcome, &["out of device memory", "they are tried in 4 parts"]);
    well(&outcome);
    // The base takes a third of the device: smaller tiles find it given back.
    let wide = Bench::with(plugins.built, "FAKE_CUDA", &Dataset::planted(9000, 500, 3), FLAGS);
    let outcome = mine(&wide, "wide", &[("MEMORY", "31000000")]);
    says(&outcome, &["out of device memory", "they are tried in 4 parts"]);
    well(&outcome);
    says(&mine(&large, "least", &[("MEMORY", "12000000")]), &["out of device memory", "the CPU takes these queries"]);
    // Each place where memory is taken.
    for number in 1..8 {
        let once = small.place.path(&format!("once-{number}"));
        let fault = format!("cudaMalloc:{number}");
        let fakes = [("FAULT", fault.as_str()), ("ONCE", once.to_str().unwrap())];
        let outcome = mine(&small, &format!("full-{number}"), &fakes);
        well(&outcome);
        assert!(once.exists() == outcome.stderr.contains("out of device memory"), "{}", outcome.stderr);
        assert!(number > 5 || once.exists(), "memory is taken {number} times");
    }
    let once = small.place.path("once-host");
    let outcome = mine(&small, "host", &[("FAULT", "cudaMallocHost:2"), ("ONCE", once.to_str().unwrap())]);
    says(&outcome, &["out of device memory (pinned memory"]);
}

#[test]
fn a_device_that_breaks_in_the_plugin_costs_a_worker() {
    let Some(plugins) = plugins() else { return };
    let bench = keyed(plugins.built);
    let faults = [
        // The plugin's own call: the message says what failed.
        ("cudaMemcpyAsync:5", "an illegal memory access"),
        // FAISS's own call: FAISS ends the process.
        ("cublasGemmEx:2", "SIGABRT"),
    ];
    for (fault, word) in faults {
        let once = bench.place.path(&fault.replace(':', "-"));
        let outcome = bench.same(fault, "--backend faiss-gpu", &[("FAULT", fault), ("ONCE", once.to_str().unwrap())]);
        says(&outcome, &[word, "a new worker takes over", "they are tried in"]);
        assert!(once.exists() && !outcome.stderr.contains("the CPU takes"), "{}", outcome.stderr);
    }
}

#[test]
fn each_device_has_a_plugin_of_its_own() {
    let Some(plugins) = plugins() else { return };
    let bench = keyed(plugins.built);
    let log = bench.place.path("log");
    let fakes = [("DEVICES", "2"), ("LOG", log.to_str().unwrap())];
    well(&bench.same("two", "--backend faiss-gpu", &fakes));
    let lines = calls(&log);
    let of = |device: &str| lines.iter().filter(|line| line[0] == "search" && line[1] == device).count();
    assert!(of("0") > 0 && of("1") > 0, "{lines:?}");
    let outcome = bench.same("none", "", &[("DEVICES", "0")]);
    says(&outcome, &["the CPU searches", "no CUDA-capable device is detected"]);
}

#[test]
fn a_plugin_that_is_linked_against_an_existing_faiss_writes_the_same_files() {
    let Some(plugins) = plugins() else { return };
    let bench = keyed(plugins.linked);
    let log = bench.place.path("log");
    well(&bench.same("linked", "--backend faiss-gpu", &[("LOG", log.to_str().unwrap())]));
    let lines = calls(&log);
    // A linked library asks for products in its own mode.
    assert!(lines.iter().any(|line| line[..3] == ["product", "f16", "pedantic"]), "{lines:?}");
}

#[test]
fn the_kernels_of_faiss_write_the_same_files() {
    let Some(plugin) = plugin_of_nvcc() else { return };
    // Windows up to the widest: each has kernels of its own for as many answers, in both precisions.
    let windows =
        [(45, 1200, "int8"), (150, 1200, "f32"), (400, 900, "int8"), (900, 1300, "f32"), (1900, 2100, "int8")];
    for (window, rows, precision) in windows {
        let data = Dataset::planted(rows, 24, 8);
        let flags = format!("--skip 5 --window {window} --cluster-size 16 --batch-size 64 --precision {precision}");
        let bench = Bench::with(plugin.clone(), "FAKE_CUDA", &data, &flags);
        let log = bench.place.path("log");
        well(&bench.same("gpu", "--backend faiss-gpu", &[("LOG", log.to_str().unwrap())]));
        let lines = calls(&log);
        assert!(lines.iter().any(|line| line[0] == "kernel" && line[1].contains("blockSelect")), "{window}");
        // While one chunk is searched, the next is sent.
        assert!(lines.iter().all(|line| line[0] != "wait"), "FAISS waits for the device: {lines:?}");
    }
}

/// The script that a machine with a GPU runs: all of it but torch, which needs a real one.
#[test]
fn the_script_that_checks_and_times_a_gpu_runs() {
    let Some(plugins) = plugins() else { return };
    if !python().args(["-c", "import numpy"]).output().is_ok_and(|output| output.status.success()) {
        skipped("no numpy for the Python in BATCHMINE_PYTHON (else python3): benches/compare/gpu.py is not tried");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("figures.json");
    let mut command = python();
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/compare/gpu.py"));
    command.args(["--batchmine", env!("CARGO_BIN_EXE_batchmine"), "--plugin"]).arg(&plugins.built);
    command.args(["--rows", "3000", "--dims", "24", "--check-rows", "2000", "--runs", "1", "--json"]).arg(&json);
    let outcome = Outcome::from(command.env("TMPDIR", folder.path()).output().unwrap()).ok();
    says(&Outcome { stderr: outcome.said(), ..outcome }, &["the files of f16 and f32 are the CPU's, byte for byte"]);
    let figures: serde_json::Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    assert_eq!(figures["tiles"].as_array().unwrap().len(), 2, "{figures}");
    assert_eq!(figures["stages"][0]["recall"], 1.0, "{figures}");
}

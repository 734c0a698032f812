//! Peaks of anonymous memory and of disk, measured from outside, against the budget and the plan.
//!
//! The process is asked every few milliseconds for its RssAnon, which is what `--memory` bounds. A small matrix runs
//! always, a large one where `BATCHMINE_BUDGETS` has the number of rows, or one row of it: `10000000 4` is the fifth.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::command::{Outcome, Place, batchmine, call, mine_command, skipped};

const MIB: u64 = 1 << 20;

/// What a process came to, and the most that it took.
pub struct Measured {
    pub outcome: Outcome,
    /// Most anonymous memory.
    pub peak: u64,
    /// Most bytes of the files in the watched folder.
    pub disk: u64,
}

/// Runs a command, and watches its memory and a folder.
pub fn measured(mut command: Command, folder: &Path) -> Measured {
    let said = tempfile::tempdir().unwrap();
    let file = |name: &str| fs::File::create(said.path().join(name)).unwrap();
    let mut child = command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err")).spawn().unwrap();
    let (mut peak, mut disk, mut turn) = (0, 0, 0u32);
    let code = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        peak = peak.max(anonymous(child.id()));
        if turn.is_multiple_of(8) {
            disk = disk.max(bytes_of(folder));
        }
        turn += 1;
        std::thread::sleep(Duration::from_millis(3));
    };
    let read = |name: &str| fs::read_to_string(said.path().join(name)).unwrap();
    let outcome = Outcome { code, stdout: read("out"), stderr: read("err") };
    Measured { outcome, peak, disk: disk.max(bytes_of(folder)) }
}

/// Anonymous memory of a process now; 0 once it is gone.
fn anonymous(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).map_or(0, |kib| kib << 10)
}

/// Bytes of all files in a folder, which may change meanwhile.
fn bytes_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => bytes_of(&entry.path()),
        _ => entry.metadata().map_or(0, |meta| meta.len()),
    });
    bytes.sum()
}

/// The least budget in MiB that a refusal names; none where the command does not refuse 1 MiB.
pub fn least_mib(mut command: Command) -> u64 {
    let outcome: Outcome = command.args(["--memory", "1MiB"]).output().unwrap().into();
    let outcome = outcome.fails(4, &["--memory", "MiB or more"]);
    let least = outcome.stderr.split("raise --memory to ").nth(1).unwrap();
    least.split("MiB").next().unwrap().parse().unwrap()
}

fn generated(place: &Place, rows: u64, tasks: u64) -> PathBuf {
    let input = place.path(&format!("gen-{rows}-{tasks}"));
    let (rows, tasks) = (rows.to_string(), tasks.to_string());
    let folder = input.to_str().unwrap();
    call(["gen", "--rows", &rows, "--dim", "16", "--tasks", &tasks, "--out", folder, "--progress", "none"]).ok();
    input
}

/// One cell: rows, tasks, flags.
type Cell = (u64, u64, &'static str);

const SMALL: &[Cell] = &[
    (20_000, 1, "--threads 2 --cluster-size 8 --batch-size 64"),
    (20_000, 50, "--threads 64 --cluster-size 32 --batch-size 1024 --task-column task --hard-negatives 5"),
];

/// Exact search goes up with the square of a task's rows: the last cell is for as many as it takes minutes for.
const LARGE: &[&str] = &[
    "--threads 1 --cluster-size 8 --batch-size 64 --task-column task",
    "--threads 2 --cluster-size 32 --batch-size 1024 --hard-negatives 50 --task-column task",
    "--threads 64 --cluster-size 16 --batch-size 256 --task-column task",
    "--threads 2 --cluster-size 256 --batch-size 65536 --search ivf:2",
    "--threads 8 --cluster-size 16 --batch-size 256 --search ivf:2",
    "--threads 2 --cluster-size 32 --batch-size 1024 --hard-negatives 50",
];
const WINDOW: &str = "--skip 10 --window 40";
const EXACT_ROWS_MAX: u64 = 200_000;

/// Mines one cell under a budget and prints what it took; `plan` said how much disk it may take.
fn check(place: &Place, input: &Path, flags: &str, mib: Option<u64>, wrapped: Option<&Cgroup>) -> (u64, u64) {
    let flags = format!("{flags} {WINDOW}");
    let run = place.path("run");
    let mib = mib.unwrap_or_else(|| least_mib(mine_command(input, &run, &flags)));
    let flags = format!("{flags} --memory {mib}MiB");
    let mut plan = batchmine();
    plan.args(["plan", "--json"]).arg(input).args(flags.split_whitespace());
    let plan: Value = serde_json::from_str(&Outcome::from(plan.output().unwrap()).ok().stdout).unwrap();
    let stages: u64 = plan["disk_bytes"].as_object().unwrap().values().map(|bytes| bytes.as_u64().unwrap()).sum();
    let said = stages + plan["spill_bytes"].as_u64().unwrap();
    let command = mine_command(input, &run, &flags);
    let command = wrapped.map_or_else(|| command, |cgroup| cgroup.wrap(&mine_command(input, &run, &flags)));
    let Measured { outcome, peak, disk } = measured(command, &run);
    outcome.ok();
    fs::remove_dir_all(&run).unwrap();
    eprintln!(
        "budget: {mib} MiB, peak {:.1} MiB ({:.2}); disk {:.1} of {:.1} MiB ({:.2}): {flags}",
        peak as f64 / MIB as f64,
        peak as f64 / (mib * MIB) as f64,
        disk as f64 / MIB as f64,
        said as f64 / MIB as f64,
        disk as f64 / said as f64,
    );
    assert!(peak <= mib * MIB, "over budget: {peak} bytes, {flags}");
    assert!(disk as f64 <= said as f64 * 1.1 + 65_536.0, "more disk than planned: {disk} of {said}, {flags}");
    (peak, disk)
}

#[test]
fn a_job_stays_within_the_least_budget_and_the_planned_disk() {
    let place = Place::empty();
    for (rows, tasks, flags) in SMALL {
        check(&place, &generated(&place, *rows, *tasks), flags, None, None);
    }
}

#[test]
fn every_cell_of_the_large_matrix_stays_within_its_budget() {
    let Ok(asked) = std::env::var("BATCHMINE_BUDGETS") else {
        return skipped("set BATCHMINE_BUDGETS to a number of rows, such as 1000000, for the matrix of budgets");
    };
    let mut asked = asked.split_whitespace().map(|number| number.parse::<u64>().unwrap());
    let rows = asked.next().unwrap();
    let only = asked.next().map(|cell| LARGE[cell as usize]);
    let budgets = asked.next().map_or_else(|| vec![None, Some(256), Some(1024), Some(4096)], |mib| vec![Some(mib)]);
    let place = Place::empty();
    let input = generated(&place, rows, 5000.min(rows / 200));
    let mut cells = 0;
    for flags in LARGE.iter().filter(|flags| only.is_none_or(|only| only == **flags)) {
        if rows > EXACT_ROWS_MAX && !["task", "ivf"].iter().any(|cheap| flags.contains(cheap)) {
            eprintln!("SKIPPED: exact search of {rows} rows in one task: {flags}");
            continue;
        }
        for &mib in &budgets {
            // What is below the least budget is refused, as the first cell of the row shows.
            if mib.is_some_and(|mib| {
                mib < least_mib(mine_command(&input, &place.path("run"), &format!("{flags} {WINDOW}")))
            }) {
                continue;
            }
            check(&place, &input, flags, mib, None);
            cells += 1;
        }
    }
    eprintln!("budgets: {cells} cells of {rows} rows, none over its budget");
}

/// Most bytes that a stage begins with: code, stacks, and what arenas keep.
const BEGIN_MAX: u64 = 16 * MIB;

#[test]
fn each_stage_begins_without_what_the_one_before_has_freed() {
    let place = Place::empty();
    let input = generated(&place, 20_000, 1);
    let flags = "--threads 2 --cluster-size 8 --batch-size 64 --skip 10 --window 100 --json";
    let mut command = mine_command(&input, &place.path("run"), flags);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (mut begins, mut peak) = (Vec::new(), 0);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        peak = peak.max(event["peak_bytes"].as_u64().unwrap_or(0));
        if event["event"] == "stage" {
            begins.push((event["stage"].as_str().unwrap().to_owned(), anonymous(child.id())));
        }
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(begins.len(), 5);
    for (stage, bytes) in &begins {
        eprintln!(
            "begins: {stage} with {:.1} MiB, of a peak of {:.1}",
            *bytes as f64 / MIB as f64,
            peak as f64 / MIB as f64
        );
        assert!(*bytes < BEGIN_MAX, "{stage} begins with {bytes} bytes");
    }
    assert!(peak > BEGIN_MAX, "a stage takes more than one may begin with: {peak}");
}

/// A control group with a limit of memory; removed when dropped.
struct Cgroup(PathBuf);

impl Cgroup {
    fn of(limit: u64) -> Option<Cgroup> {
        let roots = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        roots.into_iter().find_map(|(root, file)| {
            let folder = Path::new(root).join(format!("batchmine-test-{}", std::process::id()));
            fs::create_dir(&folder).ok()?;
            let group = Cgroup(folder);
            fs::write(group.0.join(file), limit.to_string()).ok().map(|()| group)
        })
    }

    /// The same command, inside the group.
    fn wrap(&self, command: &Command) -> Command {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg("echo $$ > \"$0\"/cgroup.procs && exec \"$@\"").arg(&self.0);
        shell.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_job_fits_into_a_cgroup_a_little_above_its_budget() {
    let place = Place::empty();
    let input = generated(&place, 20_000, 1);
    let flags = "--threads 2 --cluster-size 8 --batch-size 64";
    let least = least_mib(mine_command(&input, &place.path("run"), &format!("{flags} {WINDOW}")));
    let Some(cgroup) = Cgroup::of(least * MIB * 115 / 100) else {
        return skipped("no cgroup with a limit of memory can be made here");
    };
    check(&place, &input, flags, Some(least), Some(&cgroup));
    eprintln!("cgroup: a limit of 1.15 times the least budget of {least} MiB was enough");
}

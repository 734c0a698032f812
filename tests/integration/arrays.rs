//! Workers as arrays: printed scripts, run by stand-ins for what schedules them, give the bytes of one process.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::command::{MADE, Outcome, Place, assert_same, call, mine, mine_command, skipped, verify};
use super::readers::python;

const FLAGS: &str = "--task-column task --skip 5 --window 30 --cluster-size 8 --batch-size 64 --hard-negatives 2 \
    --max-query-score 0.99";

/// Rows of two tasks, which make several blocks.
fn generated(place: &Place) -> PathBuf {
    let input = place.path("gen");
    let folder = input.to_str().unwrap();
    call(["gen", "--rows", "40000", "--dim", "24", "--tasks", "2", "--out", folder, "--progress", "none"]).ok();
    input
}

/// The job that waits, with its messages thrown away.
fn waiting(input: &Path, run: &Path) -> Child {
    let mut command = mine_command(input, run, &format!("{FLAGS} --threads 1 --pieces external"));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// What `pieces` prints for a scheduler.
fn printed(run: &Path, flags: &str) -> Outcome {
    let mut arguments = vec!["pieces", run.to_str().unwrap()];
    arguments.extend(flags.split_whitespace());
    call(arguments)
}

fn executable(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A stand-in for SLURM: `sbatch` runs each task of an array, again where `scontrol requeue` names it. In its `bin`
/// `batchmine` is what `wrapper` makes of `REAL`.
struct Slurm {
    bin: PathBuf,
    queue: PathBuf,
}

impl Slurm {
    fn new(place: &Place, wrapper: &str) -> Slurm {
        let (bin, queue) = (place.path("bin"), place.path("queue"));
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::create_dir_all(&queue).unwrap();
        executable(&bin.join("scontrol"), "#!/bin/bash\n[ \"$1\" = requeue ] && touch \"$QUEUE/$2\"\n");
        executable(
            &bin.join("sbatch"),
            r#"#!/bin/bash
for argument in "$@"; do
    case $argument in
        --export=ALL,*) export "${argument#--export=ALL,}" ;;
        *) script=$argument ;;
    esac
done
export SLURM_ARRAY_JOB_ID=$((100 + ${FIRST_WORKER:-0}))
for id in $(seq 0 "$(sed -n 's/^#SBATCH --array=0-//p' "$script")"); do
    (
        export SLURM_ARRAY_TASK_ID=$id SLURM_RESTART_COUNT=0
        while bash "$script"; code=$?; [ -e "$QUEUE/${SLURM_ARRAY_JOB_ID}_$id" ]; do
            rm "$QUEUE/${SLURM_ARRAY_JOB_ID}_$id"
            SLURM_RESTART_COUNT=$((SLURM_RESTART_COUNT + 1))
        done
        echo "$SLURM_RESTART_COUNT $code" >"$QUEUE/ended-$((${FIRST_WORKER:-0} + id))"
    ) &
done
wait
"#,
        );
        let real = env!("CARGO_BIN_EXE_batchmine");
        executable(&bin.join("batchmine"), &format!("#!/bin/bash\nREAL={real}\n{wrapper}\nexec $REAL \"$@\"\n"));
        Slurm { bin, queue }
    }

    /// Submits a script by the line that it has for this.
    fn submit(&self, script: &Path) -> Child {
        let text = std::fs::read_to_string(script).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("# Submit: ")).unwrap();
        let line = line.replace("SCRIPT", script.to_str().unwrap()).replace("; done", " & done; wait");
        let path = format!("{}:{}", self.bin.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command.args(["-c", &line]).env("PATH", path).env("QUEUE", &self.queue);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// How often a worker was started again, and its last exit code.
    fn ended(&self, worker: usize) -> (u32, i32) {
        let text = std::fs::read_to_string(self.queue.join(format!("ended-{worker}"))).unwrap();
        let (restarts, code) = text.trim().split_once(' ').unwrap();
        (restarts.parse().unwrap(), code.parse().unwrap())
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn an_array_of_slurm_that_is_killed_and_stopped_makes_the_bytes_of_one_process() {
    let place = Place::empty();
    let (input, whole, run, script) = (generated(&place), place.path("whole"), place.path("run"), place.path("script"));
    mine(&input, &whole, FLAGS).ok();
    // Worker 1 is killed twice, and worker 4 is told that its time is up.
    let slurm = Slurm::new(
        &place,
        r#"case $4.$SLURM_RESTART_COUNT in
    1.0 | 1.1) exec timeout -s KILL 0.2 $REAL "$@" ;;
    4.0) (sleep 0.2; kill -USR1 $PPID) & ;;
esac"#,
    );
    // More workers than the longest array has; they come before the job.
    let flags = "--slurm --workers 5 --max-array-size 4 --threads 1 --memory 256MiB --wait 60 --time-limit 600";
    std::fs::write(&script, printed(&run, flags).ok().stdout).unwrap();
    let array = slurm.submit(&script);
    std::thread::sleep(Duration::from_millis(300));
    let job = waiting(&input, &run);
    let output = array.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(job.wait_with_output().unwrap().status.success());
    assert_same(&run, &whole, &MADE);
    verify(&run).ok();
    let ended: Vec<(u32, i32)> = (0..5).map(|worker| slurm.ended(worker)).collect();
    assert_eq!(ended, [(0, 0), (2, 0), (0, 0), (0, 0), (1, 0)], "{}", said(&output));
    assert!(said(&output).contains("parts were made"), "{}", said(&output));
}

#[test]
fn what_no_worker_can_do_better_is_not_tried_again() {
    let place = Place::empty();
    let (input, run, script) = (generated(&place), place.path("run"), place.path("script"));
    let slurm = Slurm::new(&place, "");
    let mut job = waiting(&input, &run);
    let start = Instant::now();
    let memory = loop {
        assert!(start.elapsed() < Duration::from_secs(120), "the job does not come to wait");
        // Without --memory it is twice what the job's parts need at least: known when it waits.
        let found = printed(&run, "--slurm --workers 2 --threads 1");
        match found.code {
            Some(0) => break found.stdout,
            _ => found.fails(2, &["nothing is known of the memory"]),
        };
        std::thread::sleep(Duration::from_millis(50));
    };
    let open: Value = serde_json::from_str(&printed(&run, "--threads 1 --json").ok().stdout).unwrap();
    let mib = (2 * open["least_memory"].as_u64().unwrap()).div_ceil(1 << 20);
    assert!(memory.contains(&format!("--memory {mib}MiB")) && mib > 10, "{open} {memory}");
    std::fs::write(&script, printed(&run, "--slurm --workers 2 --threads 1 --memory 1MiB").ok().stdout).unwrap();
    let output = slurm.submit(&script).wait_with_output().unwrap();
    assert_eq!([slurm.ended(0), slurm.ended(1)], [(0, 4), (0, 4)], "{}", said(&output));
    // A job that does not come: after ten times it is given up.
    std::fs::write(&script, printed(&place.path("none"), "--slurm --workers 1 --memory 1GiB --wait 0").ok().stdout)
        .unwrap();
    let output = slurm.submit(&script).wait_with_output().unwrap();
    assert_eq!(slurm.ended(0), (10, 1), "{}", said(&output));
    assert!(said(&output).contains("worker 0: tried 10 times"), "{}", said(&output));
    job.kill().unwrap();
    job.wait().unwrap();
    printed(&run, "--slurm --workers 0 --memory 1GiB").fails(2, &["no workers"]);
}

/// What a manifest says, once it is held against the published schema.
const VALIDATED: &str = r#"
import json, sys, yaml, kubernetes_validate
manifest = yaml.safe_load(sys.stdin)
for version in ("1.31", "1.34"):
    kubernetes_validate.validate(manifest, version, strict=True)
print(json.dumps(manifest))
"#;

#[test]
fn an_indexed_job_of_kubernetes_is_sound_and_makes_the_bytes_of_one_process() {
    let has = python().args(["-c", "import kubernetes_validate, yaml"]).output();
    if !has.is_ok_and(|output| output.status.success()) {
        return skipped("no kubernetes_validate for the Python in BATCHMINE_PYTHON (else python3)");
    }
    let place = Place::empty();
    let (input, whole, run) = (generated(&place), place.path("whole"), place.path("run"));
    mine(&input, &whole, FLAGS).ok();
    let mount = run.parent().unwrap().to_str().unwrap().to_owned();
    let flags = format!(
        "--kubernetes --image registry/batchmine:1 --claim runs --mount {mount} --workers 3 --threads 1 \
         --memory 256MiB --wait 60"
    );
    let text = printed(&run, &flags).ok().stdout;
    let mut child = python().args(["-c", VALIDATED]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{text}");
    let spec = &serde_json::from_slice::<Value>(&output.stdout).unwrap()["spec"];
    assert_eq!(spec["completionMode"], "Indexed");
    assert_eq!(spec["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"], serde_json::json!([2, 4]));
    let container = &spec["template"]["spec"]["containers"][0];
    let words =
        |name: &str| container[name].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(words("command")[..2], ["batchmine", "work"]);
    let worker = |index: u64| {
        let arguments = words("command").into_iter().skip(1).chain(words("args"));
        let arguments = arguments.map(|word| word.replace("$(JOB_COMPLETION_INDEX)", &index.to_string()));
        let mut command = Command::new(env!("CARGO_BIN_EXE_batchmine"));
        command.args(arguments).stderr(Stdio::piped()).spawn().unwrap()
    };
    let workers: Vec<Child> = (0..spec["completions"].as_u64().unwrap()).map(worker).collect();
    assert_eq!(workers.len(), 3);
    let job = waiting(&input, &run);
    for worker in workers {
        let output = worker.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }
    assert!(job.wait_with_output().unwrap().status.success());
    assert_same(&run, &whole, &MADE);
    let outside = "--kubernetes --image i --claim c --mount /elsewhere --memory 1GiB";
    printed(&run, outside).fails(2, &["the run folder lies outside the volume"]);
}

/// Three workers that take what there is, on real pairs with tasks, keys and hard negatives.
#[test]
fn real_pairs_in_pieces_are_those_of_one_process() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = root.join("../shared/data/debian");
    let flags = "--task-column dataset --key-column positive --hard-negatives 5 --batch-size 256 --threads 1";
    for data in [root.join("fixtures/debian"), shared] {
        if !data.exists() {
            skipped(&format!("there is no {}", data.display()));
            continue;
        }
        let place = Place::empty();
        let (whole, run) = (place.path("whole"), place.path("run"));
        mine(&data, &whole, flags).ok();
        let workers = ["0", "1", "2"].map(|index| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_batchmine"));
            command.arg("work").arg(&run).args(["--index", index, "--of", "3", "--wait", "120", "--threads", "1"]);
            command.stderr(Stdio::piped()).spawn().unwrap()
        });
        mine(&data, &run, &format!("{flags} --pieces external")).ok();
        for worker in workers {
            let output = worker.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", said(&output));
        }
        assert_same(&run, &whole, &MADE);
    }
}

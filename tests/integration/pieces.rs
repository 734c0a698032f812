//! Parts of the search that other processes make: the bytes of one process, whoever makes them, in any order.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::command::{MADE, Outcome, Place, assert_same, batchmine, call, mine, mine_command, verify};

const FLAGS: &str = "--task-column task --skip 5 --window 30 --cluster-size 8 --batch-size 64 --hard-negatives 2";

/// Rows of three tasks, which make several blocks.
fn generated(place: &Place) -> PathBuf {
    let input = place.path("gen");
    let folder = input.to_str().unwrap();
    call(["gen", "--rows", "40000", "--dim", "24", "--tasks", "3", "--out", folder, "--progress", "none"]).ok();
    input
}

/// The job that waits, with its messages thrown away.
fn waiting(input: &Path, run: &Path, flags: &str) -> Child {
    let mut command = mine_command(input, run, &format!("{FLAGS} --threads 1 --pieces external {flags}"));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn work_command(run: &Path, flags: &str) -> Command {
    let mut command = batchmine();
    command.arg("work").arg(run).args(["--threads", "1"]).args(flags.split_whitespace());
    command
}

fn work(run: &Path, flags: &str) -> Outcome {
    work_command(run, flags).output().unwrap().into()
}

/// What can be made now, once the job waits for the search.
fn open_parts(run: &Path) -> Vec<String> {
    let parts = parts_of(run, "neighbors");
    assert!(parts.len() > 3, "{parts:?}");
    parts
}

/// What can be made now, once the job waits for a stage.
fn parts_of(run: &Path, stage: &str) -> Vec<String> {
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < Duration::from_secs(120), "the job does not come to wait");
        if run.join("manifest.json").exists() {
            let said = call(["pieces", run.to_str().unwrap(), "--json"]);
            let said: Value = serde_json::from_str(&said.ok().stdout).unwrap();
            if said["stage"] == stage {
                let parts = said["parts"].as_array().unwrap();
                return parts.iter().map(|part| part.as_str().unwrap().to_owned()).collect();
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The file of a piece that can be made now.
fn piece(run: &Path, part: &str) -> PathBuf {
    let said: Value = serde_json::from_str(&call(["pieces", run.to_str().unwrap(), "--json"]).ok().stdout).unwrap();
    pieces(run).join(format!("{part}.{}", said["tag"].as_str().unwrap()))
}

fn pieces(run: &Path) -> PathBuf {
    let mut folders = std::fs::read_dir(run.join("pieces")).unwrap().map(|entry| entry.unwrap().path());
    let folder = folders.next().unwrap();
    assert!(folders.next().is_none());
    folder
}

#[test]
fn workers_make_the_bytes_of_one_process_in_any_order_killed_and_twice() {
    let place = Place::empty();
    let (input, whole, run) = (generated(&place), place.path("whole"), place.path("run"));
    mine(&input, &whole, FLAGS).ok();
    let mut job = waiting(&input, &run, "");
    let parts = open_parts(&run);
    // What is no piece is thrown away: garbage, and the lists of others.
    std::fs::write(piece(&run, &parts[1]), b"no block").unwrap();
    std::fs::copy(whole.join("neighbors").join(&parts[0]), piece(&run, &parts[2])).unwrap();
    // A piece of another run has another name, and is none.
    let strange = pieces(&run).join(format!("{}.0123456789abcdef", parts[0]));
    std::fs::copy(whole.join("neighbors").join(&parts[1]), strange).unwrap();
    // Flipped in the midst.
    let mut bytes = std::fs::read(whole.join("neighbors").join(&parts[3])).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(piece(&run, &parts[3]), bytes).unwrap();
    // Killed at any moment, twice at once, in any order.
    let kills: u64 = std::env::var("BATCHMINE_PIECE_KILLS").map_or(6, |kills| kills.parse().unwrap());
    for milliseconds in (0..kills).map(|kill| 5 + kill * 61 % 320) {
        let mut worker = work_command(&run, "--index 0 --of 2").stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        let _ = worker.kill();
        worker.wait().unwrap();
    }
    let start = Instant::now();
    while job.try_wait().unwrap().is_none() {
        let workers: Vec<Child> = ["--index 2 --of 3", "--index 0 --of 3", "--index 1 --of 3", "--index 1 --of 3"]
            .map(|share| work_command(&run, share).stderr(Stdio::null()).spawn().unwrap())
            .into();
        for worker in workers {
            // 0, or 1 where the job waits for no parts any more.
            let code = worker.wait_with_output().unwrap().status.code();
            assert!(matches!(code, Some(0 | 1)), "{code:?}");
        }
        assert!(start.elapsed() < Duration::from_secs(240), "the job does not end");
    }
    assert!(job.wait().unwrap().success());
    assert_same(&run, &whole, &MADE);
    verify(&run).ok();
    assert!(!run.join("pieces").exists(), "pieces that nobody needs are there");
    let said = call(["pieces", run.to_str().unwrap()]).ok().stdout;
    assert!(said.contains("needs no parts any more"), "{said}");
    work(&run, "--index 0 --of 1").fails(1, &["waits for no parts"]);
}

#[test]
fn pieces_outlive_the_job_that_waits_for_them() {
    let place = Place::empty();
    let (input, whole, run) = (generated(&place), place.path("whole"), place.path("run"));
    mine(&input, &whole, FLAGS).ok();
    let mut job = waiting(&input, &run, "");
    let parts = open_parts(&run);
    job.kill().unwrap();
    job.wait().unwrap();
    // Nobody waits, and parts are made all the same: by name, each once.
    let made = |flags: &str| -> Value { serde_json::from_str(&work(&run, flags).ok().stdout).unwrap() };
    let named = made(&format!("--part {} --part {} --json", parts[3], parts[1]));
    assert_eq!(named, serde_json::json!({"asked": 2, "made": 2}));
    assert_eq!(made(&format!("--part {} --json", parts[1]))["made"], 0);
    // The next call takes them, whether it waits or searches by itself.
    let said = mine(&input, &run, FLAGS).ok().stderr;
    assert!(!said.contains("waiting for"), "{said}");
    assert_same(&run, &whole, &MADE);
    assert!(!run.join("pieces").exists());
    verify(&run).ok();
}

#[test]
fn approximate_search_ranks_of_positives_and_other_precisions_work_in_pieces() {
    let place = Place::empty();
    let input = generated(&place);
    // The last one has no packed base.
    for flags in ["--search ivf", "--rank-by positive --search ivf:2", "--precision f32"] {
        let (whole, run) = (place.path("whole"), place.path("run"));
        mine(&input, &whole, &format!("{FLAGS} {flags}")).ok();
        let mut job = waiting(&input, &run, flags);
        open_parts(&run);
        work(&run, "--index 0 --of 2 --precision f32").ok();
        work(&run, "--index 1 --of 2 --precision int8").ok();
        work(&run, "--index 0 --of 1 --wait 60").ok();
        assert!(job.wait().unwrap().success());
        assert_same(&run, &whole, &MADE);
        std::fs::remove_dir_all(&whole).unwrap();
        std::fs::remove_dir_all(&run).unwrap();
    }
}

/// Steps of the graph: marks, several runs, several parts of merged ranges.
#[test]
fn the_graph_in_pieces_is_that_of_one_process() {
    let place = Place::empty();
    let (input, whole, run) = (place.path("gen"), place.path("whole"), place.path("run"));
    let folder = input.to_str().unwrap();
    call(["gen", "--rows", "60000", "--dim", "16", "--out", folder, "--progress", "none"]).ok();
    let flags = "--skip 5 --window 155 --cluster-size 8 --batch-size 64 --max-positive-score 0.99 --threads 1";
    let least = mine(&input, &whole, &format!("{flags} --memory 1MiB")).fails(4, &["--memory"]).stderr;
    let least = least.split("--memory ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    mine(&input, &whole, &format!("{flags} --memory {least}")).ok();
    let begin = || {
        let mut command = mine_command(&input, &run, &format!("{flags} --memory {least} --pieces external"));
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut job = begin();
    open_parts(&run);
    work(&run, "--index 0 --of 1 --stage edges").fails(1, &["no parts of the edges stage"]);
    work(&run, "--index 0 --of 1 --stage neighbors").ok();
    let scratch = place.path("scratch");
    let mut steps: Vec<String> = Vec::new();
    while job.try_wait().unwrap().is_none() {
        let said = call(["pieces", run.to_str().unwrap(), "--json"]).ok().stdout;
        let said: Value = serde_json::from_str(&said).unwrap();
        let parts: Vec<&str> = said["parts"].as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect();
        if said["stage"] != "edges" || parts.is_empty() {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        }
        let step = parts[0].split('-').next().unwrap().to_owned();
        if steps.last() != Some(&step) {
            assert!(parts.len() > 1, "{step} is one part: {parts:?}");
            work(&run, "--index 0 --of 1 --memory 1MiB").fails(4, &["raise --memory to"]);
            // What is no piece: garbage, another's part, a flipped bit; a task that is not this run's.
            std::fs::write(piece(&run, parts[0]), b"no part").unwrap();
            hostile_tasks(&run, &job, &step);
            steps.push(step);
            if parts[0].starts_with("run-") {
                job = die_with_runs(&run, job, &parts, &begin);
                continue;
            }
        }
        // In any order, twice at once, with copies on a local disk. By name: the job may want the next step by now.
        let named = |parts: &[&str]| parts.iter().map(|part| format!("--part {part} ")).collect::<String>();
        let others = if parts.len() > 1 { &parts[1..] } else { &parts[..] };
        let last = format!("{} --stage edges --scratch {}", named(&parts[parts.len() - 1..]), scratch.display());
        let workers = [&last, &named(others), &named(others)]
            .map(|flags| work_command(&run, flags).stderr(Stdio::piped()).spawn().unwrap());
        for worker in workers {
            let output = worker.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        work(&run, &format!("{} --stage edges", named(&parts))).ok();
    }
    assert_eq!(steps, ["marks", "run", "range"]);
    assert!(job.wait().unwrap().success());
    assert_same(&run, &whole, &MADE);
    verify(&run).ok();
    assert!(!run.join("pieces").exists(), "pieces that nobody needs are there");
    let made = work(&run, "--part range-000000.edg --stage edges --json").ok().stdout;
    assert_eq!(made.trim(), r#"{"asked":1,"made":0}"#);
}

/// The job takes one run and dies; another run, made when nobody waits, is not made again for the next job.
fn die_with_runs(run: &Path, mut job: Child, parts: &[&str], begin: &impl Fn() -> Child) -> Child {
    let made = |part: &str| work(run, &format!("--part {part} --stage edges --json")).ok().stdout;
    assert_eq!(made(parts[0]).trim(), r#"{"asked":1,"made":1}"#);
    wait_for(|| run.join("edges").join(parts[0]).exists());
    job.kill().unwrap();
    job.wait().unwrap();
    assert_eq!(made(parts[1]).trim(), r#"{"asked":1,"made":1}"#);
    let job = begin();
    wait_for(|| run.join("edges").join(parts[1]).exists());
    assert_eq!(made(parts[1]).trim(), r#"{"asked":1,"made":0}"#);
    job
}

fn signal(job: &Child, name: &str) {
    let pid = job.id().to_string();
    assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
}

/// Descriptions of the graph's pieces that are not of this run are refused: no panic, nothing made. The job, which
/// would write them anew, is held meanwhile.
fn hostile_tasks(run: &Path, job: &Child, step: &str) {
    signal(job, "-STOP");
    let task = &pieces(run).join("task.json");
    let sound = std::fs::read_to_string(task).unwrap();
    let parts = sound.find(r#""parts":[[["#).unwrap() + r#""parts":[[["#.len();
    let others = [
        sound.replacen(r#""format":1"#, r#""format":7"#, 1),
        format!("{}4000000000,4000000001],[{}", &sound[..parts], &sound[parts..]),
        format!("{}9,9],[{}", &sound[..parts], &sound[parts..]),
        sound.replacen(r#""step":""#, r#""step":"no"#, 1),
        sound.replacen(r#""parts":[["#, r#""parts":[[],["#, 1),
        "[".to_owned(),
    ];
    for other in others {
        assert_ne!(other, sound);
        std::fs::write(task, other).unwrap();
        let said = work(run, "--index 0 --of 1").fails(1, &["the description of a run's pieces"]);
        assert!(!said.stderr.contains("panic"), "{step}: {}", said.stderr);
    }
    signal(job, "-CONT");
    wait_for(|| std::fs::read_to_string(task).is_ok_and(|found| found == sound));
}

/// Waits until it is so.
fn wait_for(is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "it does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What the job says of its pieces decides what a worker makes: pieces by another description are none.
#[test]
fn a_description_that_was_changed_or_deleted_is_written_again() {
    let place = Place::empty();
    let (input, whole, run) = (generated(&place), place.path("whole"), place.path("run"));
    mine(&input, &whole, &format!("{FLAGS} --search ivf:3")).ok();
    let mut job = waiting(&input, &run, "--search ivf:3");
    let parts = open_parts(&run);
    let task = pieces(&run).join("task.json");
    let sound = std::fs::read_to_string(&task).unwrap();
    signal(&job, "-STOP");
    for (from, to) in [(r#""probes":3"#, r#""probes":1"#), (r#""ranks":[35"#, r#""ranks":[34"#)] {
        assert!(sound.contains(from), "{sound}");
        std::fs::write(&task, sound.replacen(from, to, 1)).unwrap();
        work(&run, &format!("--part {}", parts[0])).ok();
    }
    signal(&job, "-CONT");
    wait_for(|| std::fs::read_to_string(&task).is_ok_and(|found| found == sound));
    std::fs::remove_dir_all(run.join("pieces")).unwrap();
    wait_for(|| task.exists());
    assert_eq!(open_parts(&run), parts, "what was made by another description is not taken");
    work(&run, "--index 0 --of 1 --wait 60").ok();
    assert!(job.wait().unwrap().success());
    assert_same(&run, &whole, &MADE);
    assert!(!run.join("pieces").exists());
}

/// A worker may come before a job that makes a finished run anew.
#[test]
fn a_worker_that_finds_a_finished_run_waits_a_while_for_its_job() {
    let place = Place::empty();
    let (input, run) = (generated(&place), place.path("run"));
    mine(&input, &run, FLAGS).ok();
    let early = work_command(&run, "--index 0 --of 1 --wait 60 --json").stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let other = FLAGS.replace("--window 30", "--window 40");
    mine(&input, &run, &format!("{other} --pieces external --replace")).ok();
    let made: Value = serde_json::from_str(&Outcome::from(early.wait_with_output().unwrap()).ok().stdout).unwrap();
    assert!(made["made"].as_u64().unwrap() > 3, "{made}");
    verify(&run).ok();
    // Nobody makes it anew.
    assert_eq!(work(&run, "--index 0 --of 1 --wait 1 --json").ok().stdout.trim(), r#"{"asked":0,"made":0}"#);
    call(["mine", input.to_str().unwrap(), "--batch-size", "64", "--out", "s3://bucket/run"]).fails(2, &["a URL"]);
}

#[test]
fn a_worker_checks_what_it_reads_and_nothing_else() {
    let place = Place::empty();
    let (input, whole, run) = (generated(&place), place.path("whole"), place.path("run"));
    mine(&input, &whole, FLAGS).ok();
    let mut job = waiting(&input, &run, "");
    let parts = open_parts(&run);
    let last = &parts[parts.len() - 1];
    // Parts of other tasks than the last one: they read nothing of its vectors.
    let others = [("vectors/queries.vec", Some(&parts[0])), ("vectors/positives.vec", Some(&parts[1]))];
    for (name, other) in others.into_iter().chain([("neighbors/base.pak", None)]) {
        let path = run.join(name);
        let sound = std::fs::read(&path).unwrap();
        let mut bytes = sound.clone();
        // Of a row of the last task, or of one of its panels.
        let at = bytes.len() - bytes.len() / 16;
        bytes[at] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let file = name.rsplit('/').next().unwrap();
        work(&run, &format!("--part {last}")).fails(1, &[file, "not what was written", "delete it"]);
        assert!(!piece(&run, last).exists(), "{name}: a part of damaged vectors is kept");
        if let Some(other) = other {
            work(&run, &format!("--part {other}")).ok();
        }
        std::fs::write(&path, &sound).unwrap();
    }
    while job.try_wait().unwrap().is_none() {
        work(&run, "--index 0 --of 1 --wait 60").ok();
    }
    assert_same(&run, &whole, &MADE);
}

#[test]
fn copies_on_a_local_disk_are_made_once_and_checked() {
    let place = Place::empty();
    let (input, whole, run) = (generated(&place), place.path("whole"), place.path("run"));
    mine(&input, &whole, FLAGS).ok();
    let mut job = waiting(&input, &run, "");
    open_parts(&run);
    let scratch = place.path("scratch");
    let copies = || {
        let entries = std::fs::read_dir(&scratch).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().unwrap() != "lock").collect();
        files.sort();
        files
    };
    let flags = |index: usize| format!("--index {index} --of 4 --scratch {}", scratch.display());
    let both = [0, 1].map(|index| work_command(&run, &flags(index)).stderr(Stdio::null()).spawn().unwrap());
    both.into_iter().for_each(|worker| assert!(worker.wait_with_output().unwrap().status.success()));
    let made = copies();
    let names: Vec<_> = made.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
    assert!(names.len() == 2 && names.iter().any(|name| name.ends_with("base.pak")), "{names:?}");
    // A damaged copy is no wrong answer.
    let base = made.iter().find(|path| path.to_string_lossy().ends_with("base.pak")).unwrap();
    let sound = std::fs::read(base).unwrap();
    let mut bytes = sound.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(base, bytes).unwrap();
    let said = work(&run, &flags(2)).ok().stderr;
    assert!(said.contains("a copy in the scratch folder is damaged"), "{said}");
    assert_eq!(std::fs::read(base).unwrap(), sound);
    work(&run, &format!("--index 3 --of 4 --scratch {}", input.join("part-00000.parquet").display()))
        .fails(1, &["scratch folder"]);
    while job.try_wait().unwrap().is_none() {
        work(&run, "--index 0 --of 1 --wait 60").ok();
    }
    assert_same(&run, &whole, &MADE);
}

#[test]
fn processes_verify_a_run_together() {
    let place = Place::empty();
    let (input, run) = (generated(&place), place.path("run"));
    mine(&input, &run, FLAGS).ok();
    let share = |index: usize| call(["verify", run.to_str().unwrap(), "--index", &index.to_string(), "--of", "3"]);
    for index in 0..3 {
        let said = share(index).ok().stdout;
        assert_eq!(said.contains("clusters of 8"), index == 0, "{said}");
        assert!(said.contains("neighbor lists equal brute force") && said.contains("2 other shares"), "{said}");
    }
    // Each file is one share's.
    let parts = std::fs::read_dir(run.join("neighbors")).unwrap().map(|entry| entry.unwrap().path());
    for part in parts.filter(|path| path.to_string_lossy().contains("block-")) {
        let sound = std::fs::read(&part).unwrap();
        let mut bytes = sound.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        std::fs::write(&part, bytes).unwrap();
        let faults = (0..3).filter(|index| share(*index).code == Some(3)).count();
        assert!(faults >= 1, "{}", part.display());
        std::fs::write(&part, sound).unwrap();
    }
    call(["verify", run.to_str().unwrap(), "--index", "3", "--of", "3"]).fails(2, &["no share of this number"]);
}

#[test]
fn what_cannot_be_in_pieces_is_refused() {
    let place = Place::empty();
    let (input, run) = (generated(&place), place.path("run"));
    let work_folder = format!("--work {}", place.path("work").display());
    mine(&input, &run, &format!("{FLAGS} --pieces external {work_folder}")).fails(2, &["--work"]);
    let manifest: Value = serde_json::from_slice(&std::fs::read(run.join("manifest.json")).unwrap()).unwrap();
    assert_ne!(manifest["stages"]["vectors"]["complete"], true, "it is refused before any work");
    let run = place.path("other");
    let mut job = waiting(&input, &run, "");
    open_parts(&run);
    work(&run, "--part block-000099.nbr").fails(2, &["block-000099.nbr", "batchmine pieces"]);
    // A description that is not of this run: no panic, no endless file.
    let task = pieces(&run).join("task.json");
    let sound = std::fs::read_to_string(&task).unwrap();
    signal(&job, "-STOP");
    for (from, to) in [
        (r#""format":1"#, r#""format":2"#),
        (r#""block_rows":"#, r#""block_rows":0,"_":"#),
        (r#""blocks":"#, r#""blocks":1"#),
        (r#""ranks":["#, r#""ranks":[99999999999,"#),
        ("{", "["),
    ] {
        assert!(sound.contains(from), "{sound}");
        std::fs::write(&task, sound.replacen(from, to, 1)).unwrap();
        work(&run, "--index 0 --of 1").fails(1, &["the description of a run's pieces"]);
    }
    std::fs::write(&task, &sound).unwrap();
    work(&run, "--index 3 --of 3").fails(2, &["--index from 0, below --of"]);
    work(&run, "--index 0 --of 1 --memory 1MiB").fails(4, &["raise --memory to"]);
    work(&place.path("gen"), "--index 0 --of 1").fails(2, &["not a run folder"]);
    job.kill().unwrap();
    job.wait().unwrap();
}

/// What another worker made, and the job has taken, is not made again by one that began before.
#[test]
fn a_part_that_the_job_has_taken_is_made_once() {
    let place = Place::empty();
    let (input, run) = (generated(&place), place.path("run"));
    let mut job = waiting(&input, &run, "");
    let parts = open_parts(&run);
    let flags = |index: usize| format!("--index {index} --of 2 --wait 60 --json");
    let workers = [0, 1].map(|index| work_command(&run, &flags(index)).stdout(Stdio::piped()).spawn().unwrap());
    let made = workers.map(|worker| {
        let output = Outcome::from(worker.wait_with_output().unwrap()).ok();
        serde_json::from_str::<Value>(&output.stdout).unwrap()["made"].as_u64().unwrap()
    });
    assert!(job.wait().unwrap().success());
    // Blocks, a run and a merged range; of each step both may have one part in hand at its end.
    let all = parts.len() as u64 + 2;
    assert!((all..=all + 3).contains(&made.iter().sum()), "{made:?} of {all}");
}

//! The real executable on a disk that fails: `fault_disk.c`, preloaded, lets the n-th call fail, once or for good.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::command::skipped;
use super::undisturbed::{Bench, Made, Verb, count_of, figures};

/// Errors of calls that cannot be done without: the verb must fail.
const FATAL: [(&str, &str); 3] =
    [("ENOSPC", "write,create,truncate,rename,sync"), ("EIO", "write,sync,rename"), ("EDQUOT", "write,create")];
/// Errors of calls of which some only try whether something is there: the verb fails, or makes the right bytes.
const OTHERS: [(&str, &str); 4] = [
    ("EIO", "read,open,mmap,unlink"),
    ("EMFILE", "create,open"),
    ("EROFS", "create,rename,unlink,mkdir"),
    ("EDQUOT", "mkdir"),
];
/// What every program has to bear.
const BORNE: [(&str, &str); 2] = [("EINTR", "write,read,open,create,sync,truncate"), ("short", "write,read")];

/// What happens to the calls of a process.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// Names of calls, with commas between them.
    pub calls: &'static str,
    pub does: &'static str,
    /// Which of the calls, from 0.
    pub at: u64,
    /// All later calls too.
    pub forever: bool,
}

/// Compiles the library, once for a target folder and version of its source.
fn library() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/fault_disk.c");
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libfault_disk.so");
    let time = |path: &Path| std::fs::metadata(path).and_then(|data| data.modified()).ok();
    if time(&built) > time(&source) {
        return built;
    }
    // Several tests may do this at a time: each makes a file of its own and puts it in place whole.
    let thread = format!("{:?}", std::thread::current().id()).replace(['(', ')'], "-");
    let own = built.with_extension(format!("{}{thread}.so", std::process::id()));
    let mut command = Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".into()));
    command.args(["-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]);
    assert!(command.arg(source).arg("-o").arg(&own).status().unwrap().success(), "the library does not compile");
    std::fs::rename(own, &built).unwrap();
    built
}

/// A verb's command on a disk with a fault.
pub fn disturbed(bench: &Bench, verb: Verb, name: &str, fault: Fault) -> Command {
    let mut command = bench.command(verb, name);
    command.env("LD_PRELOAD", library()).env("FAULT_UNDER", bench.folder(name));
    command.env("FAULT_CALLS", fault.calls).env("FAULT_DOES", fault.does).env("FAULT_AT", fault.at.to_string());
    if fault.forever {
        command.env("FAULT_FOREVER", "1");
    }
    command
}

/// How many such calls the verb makes where nothing fails.
pub fn calls_of(bench: &Bench, verb: Verb, calls: &str) -> u64 {
    let (name, log) = ("counted", bench.folder("log"));
    bench.remove(name);
    bench.prepare(verb, name);
    let _ = std::fs::remove_file(&log);
    let mut command = bench.command(verb, name);
    command.env("LD_PRELOAD", library()).env("FAULT_UNDER", bench.folder(name)).env("FAULT_CALLS", calls);
    assert!(command.env("FAULT_LOG", &log).output().unwrap().status.success(), "{verb:?}");
    bench.remove(name);
    std::fs::read_to_string(log).map_or(0, |text| text.lines().count() as u64)
}

/// How many verbs failed, bore their fault, or did not meet it.
#[derive(Debug, Default)]
struct Tally {
    failed: u64,
    borne: u64,
}

/// A verb on a disk that fails: a message that names the file, or the right bytes; afterwards the right bytes.
fn strike(bench: &Bench, verb: Verb, undisturbed: &Made, fault: Fault, is_fatal: Option<bool>, tally: &mut Tally) {
    let (name, what) = ("struck", format!("{verb:?} {fault:?}"));
    bench.remove(name);
    bench.prepare(verb, name);
    let Output { status, stderr, .. } = disturbed(bench, verb, name, fault).output().unwrap();
    let said = String::from_utf8_lossy(&stderr);
    assert!(!said.contains("panicked"), "{what}: {said}");
    match status.code() {
        Some(0) => {
            // Threads may order calls differently: a call may be one less than before.
            assert_ne!(is_fatal, Some(true), "{what} is passed over: {said}");
            assert!(bench.made(verb, name) == *undisturbed, "{what}: code 0 and wrong bytes");
            tally.borne += 1;
        }
        Some(1 | 2) => {
            assert_ne!(is_fatal, Some(false), "{what} is not borne: {said}");
            let names_file = said.lines().any(|line| line.contains("where:") && line.contains("/struck"));
            assert!(names_file && said.contains("remedy:"), "{what} names no file: {said}");
            assert!(verb == Verb::Clean || !bench.folder(name).join("_SUCCESS").exists(), "{what}: failed, and marked");
            tally.failed += 1;
        }
        code => panic!("{what} ended with {code:?}: {said}"),
    }
    bench.finish(verb, name, undisturbed, &what);
}

fn strike_all(verbs: &[Verb]) {
    let bench = Bench::new();
    let (mut faults, mut line) = (Tally::default(), String::new());
    for verb in verbs {
        let undisturbed = bench.undisturbed(*verb);
        let before = faults.failed + faults.borne;
        let kinds = FATAL.map(|kind| (kind, Some(true))).into_iter();
        let kinds = kinds.chain(OTHERS.map(|kind| (kind, None))).chain(BORNE.map(|kind| (kind, Some(false))));
        for (turn, ((does, calls), is_fatal)) in kinds.enumerate() {
            let is_fatal = if verb.asks_again() && is_fatal == Some(true) { None } else { is_fatal };
            let count = calls_of(&bench, *verb, calls);
            let wanted = count_of("BATCHMINE_FAULTS", 2).min(count);
            for number in 0..wanted {
                // Spread over all calls, elsewhere for each kind, and not at the last one, which is not always reached.
                let at = (number * count + (turn as u64 * 37 % 100) * count / 100) / wanted % count;
                let at = at.min(count.saturating_sub(2));
                // The first time once, then for good, and so on. A disk that is for ever interrupted is none.
                let forever = number % 2 == 1 && does != "EINTR";
                let fault = Fault { calls, does, at, forever };
                strike(&bench, *verb, &undisturbed, fault, is_fatal, &mut faults);
            }
        }
        line += &format!(
            "{}{} in {verb:?}",
            if line.is_empty() { "" } else { ", " },
            faults.failed + faults.borne - before
        );
    }
    figures(&format!("faults: {line}; {} ended with an error, {} were borne", faults.failed, faults.borne));
}

#[test]
fn a_disk_that_fails_under_mine_loses_nothing() {
    strike_all(&[Verb::Mine]);
}

#[test]
fn a_disk_that_fails_under_the_other_verbs_loses_nothing() {
    let others: Vec<Verb> = Verb::ALL.iter().copied().filter(|verb| *verb != Verb::Mine).collect();
    strike_all(&others);
}

/// Unmounts when dropped.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_file_system_that_is_full_is_named_and_room_is_all_it_takes() {
    let bench = Bench::new();
    let folder = bench.folder("small");
    std::fs::create_dir(&folder).unwrap();
    let mount = |words: &str| {
        let mut command = Command::new("mount");
        command.args(words.split(' ')).arg(&folder).output().is_ok_and(|output| output.status.success())
    };
    if !mount("-t tmpfs -o size=64k batchmine-test") {
        skipped("no file system can be mounted here (not root): nothing is written onto a full one");
        return;
    }
    let _mounted = Mounted(folder.clone());
    let mut full = 0;
    for verb in Verb::ALL.iter().copied().filter(|verb| *verb != Verb::Clean) {
        let (undisturbed, name) = (bench.undisturbed(verb), format!("small/{verb:?}"));
        for pages in [1, 2, 4, 8, 16] {
            assert!(mount(&format!("-o remount,size={}k", 4 * pages)));
            let outcome = bench.call(verb, &name);
            if outcome.code == Some(0) {
                break;
            }
            full += 1;
            let outcome = outcome.fails(1, &["No space left on device", "/small", "remedy:"]);
            assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
            assert!(!bench.folder(&name).join("_SUCCESS").exists(), "{verb:?} is marked");
        }
        assert!(mount("-o remount,size=64m"));
        bench.finish(verb, &name, &undisturbed, "a full file system");
        bench.remove(&name);
    }
    assert!(full >= 6, "only {full} calls found it full");
    figures(&format!("full file systems: {full} calls"));
}

//! SIGINT and SIGTERM end a job soon, whatever it does, and what is done is kept.

#[cfg(feature = "lake")]
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::command::{MADE, Place, assert_same, mine};
use super::resume::{LARGE, STAGES, large, start_until};
use super::undisturbed::{Bench, Verb, figures};

/// Time in which a job has to end.
pub const SOON: Duration = Duration::from_secs(5);
const SIGNALS: [(&str, i32); 2] = [("-INT", 2), ("-TERM", 15)];

/// Sends a signal; how the process ended, and how long it took.
pub fn end(child: &mut Child, signal: &str) -> (ExitStatus, Duration) {
    let begin = Instant::now();
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    while begin.elapsed() < Duration::from_secs(60) {
        if let Some(status) = child.try_wait().unwrap() {
            return (status, begin.elapsed());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    panic!("{signal} does not end it");
}

#[test]
fn a_signal_ends_each_stage_soon() {
    let place = Place::with(&large());
    let (reference, run) = (place.path("reference"), place.path("run"));
    mine(&place.input(), &reference, LARGE).ok();
    let (mut longest, mut ended) = (Duration::ZERO, 0);
    for (signal, _) in SIGNALS {
        for stage in STAGES {
            // A stage that was nearly done may end before the signal comes.
            for attempt in 0..4 {
                if run.exists() && attempt == 0 && stage == "vectors" || attempt > 0 {
                    std::fs::remove_dir_all(&run).unwrap();
                }
                let (mut child, begun) = start_until(stage, &place.input(), &run);
                if !begun {
                    child.wait().unwrap();
                    continue;
                }
                let (status, time) = end(&mut child, signal);
                if status.success() {
                    continue;
                }
                assert_eq!(status.code(), Some(130), "{signal} in {stage}");
                longest = longest.max(time);
                ended += 1;
                break;
            }
        }
    }
    mine(&place.input(), &run, LARGE).ok();
    assert_same(&run, &reference, &MADE);
    assert!(ended >= 8, "only {ended} jobs were still there when the signal came");
    assert!(longest < SOON, "{longest:?}");
    figures(&format!("signals: {ended} jobs in all stages, the last ended after {:.2} s", longest.as_secs_f64()));
}

#[test]
fn a_signal_ends_the_verbs_that_need_no_farewell_at_once() {
    let bench = Bench::new();
    let mut longest = Duration::ZERO;
    for verb in [
        Verb::Report,
        Verb::Gen,
        #[cfg(feature = "export")]
        Verb::Export,
    ] {
        let undisturbed = bench.undisturbed(verb);
        for (signal, number) in SIGNALS {
            let mut child = bench.command(verb, "ended").stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(10));
            let (status, time) = end(&mut child, signal);
            assert!(status.signal() == Some(number) || status.success(), "{verb:?} {signal}: {status}");
            longest = longest.max(time);
            bench.finish(verb, "ended", &undisturbed, signal);
            bench.remove("ended");
        }
    }
    assert!(longest < SOON, "{longest:?}");
}

#[cfg(feature = "lake")]
#[test]
fn a_signal_ends_a_job_whose_store_does_not_answer() {
    let bench = Bench::new();
    // The system takes connections for it, and nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let mut longest = Duration::ZERO;
    for (format, (signal, _)) in ["parquet", "delta"].into_iter().zip(SIGNALS) {
        let mut command = bench.command(Verb::Mine, "run");
        command.args(["--table", format, "--table-out", "s3://lake/table"]).env("AWS_ENDPOINT", &endpoint);
        command.env("AWS_ALLOW_HTTP", "true").env("AWS_REGION", "us-east-1");
        command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret");
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // The job connects before it does anything else.
        let (held, _) = silent.accept().unwrap();
        held.peek(&mut [0]).unwrap();
        let (status, time) = end(&mut child, signal);
        assert_eq!(status.code(), Some(130), "{signal}, {format}");
        longest = longest.max(time);
    }
    assert!(longest < SOON, "{longest:?}");
    figures(&format!("signals: 2 jobs whose store does not answer, ended after {:.2} s", longest.as_secs_f64()));
}

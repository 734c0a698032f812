//! One worker process, as its parent sees it.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};

use super::protocol::{Failure, Reply, Request};
use crate::error::Result;
use crate::watch::Watch;

/// The hidden subcommand that makes this executable a worker.
pub(crate) const VERB: &str = "gpu-worker";
/// How often a waiting call asks whether the job is to stop.
const POLL: Duration = Duration::from_millis(100);
/// Polls of half that time until an idle worker has to have ended, or a killed one to be gone: 5 s.
const EXIT_POLLS: u32 = 100;
/// Characters of a worker's line that a message shows.
const LINE_CHARACTERS: usize = 400;

/// The command that is this program, where that is not the executable of the process: of a Python module, `python -m
/// batchmine`.
static PROGRAM: OnceLock<Vec<OsString>> = OnceLock::new();

/// Says by which command workers are started; the first call counts.
pub(crate) fn started_by(command: Vec<OsString>) {
    let _ = PROGRAM.set(command);
}

/// The command that starts this program.
fn program() -> std::io::Result<Command> {
    if let Some([program, arguments @ ..]) = PROGRAM.get().map(Vec::as_slice) {
        let mut command = Command::new(program);
        command.args(arguments);
        return Ok(command);
    }
    let name = std::env::current_exe()?;
    // This path names the running executable even when its file was replaced.
    let program = if cfg!(target_os = "linux") { Path::new("/proc/self/exe") } else { &name };
    let mut command = Command::new(program);
    command.arg0(&name);
    Ok(command)
}

/// What went wrong with a worker.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The device has too little memory; the worker can go on.
    OutOfMemory(String),
    /// The worker failed, died, did not answer in time, or gave impossible answers. It has to be replaced.
    Broken(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::OutOfMemory(text) => write!(f, "out of device memory ({text})"),
            Fault::Broken(text) => f.write_str(text),
        }
    }
}

/// A running worker. Dropped, it ends, or is killed.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    /// `None` once the worker is told to end.
    requests: Option<ChildStdin>,
    replies: Receiver<String>,
    last_stderr: Arc<Mutex<String>>,
}

impl Worker {
    /// Starts this executable once more, as a worker.
    ///
    /// # Errors
    /// The process cannot be started.
    pub(crate) fn start(plugin: &Path) -> Result<Worker, Fault> {
        let failed = |e: std::io::Error| Fault::Broken(format!("a GPU worker cannot be started: {e}"));
        let mut child = program()
            .map_err(failed)?
            .arg(VERB)
            .arg(plugin)
            // Products of f32 must not be rounded to TF32 or emulated.
            .env("NVIDIA_TF32_OVERRIDE", "0")
            .env_remove("CUBLAS_EMULATE_SINGLE_PRECISION")
            .env_remove("CUBLAS_EMULATION_STRATEGY")
            // A process group of its own: Ctrl-C reaches the job only, which lets the current tile finish.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(requests), Some(output), Some(errors)) = pipes else {
            return Err(Fault::Broken("a GPU worker has no pipes".into()));
        };
        let (replies, last_stderr) = (read_replies(output), read_stderr(errors));
        Ok(Worker { child, requests: Some(requests), replies, last_stderr })
    }

    /// Sends a request and waits for the reply. The outer error is the watch's, which is asked while the call waits.
    pub(crate) fn call(
        &mut self,
        request: &Request,
        patience: Duration,
        watch: Watch<'_>,
    ) -> Result<Result<Reply, Fault>> {
        let mut line = match serde_json::to_string(request) {
            Ok(line) => line,
            Err(e) => return Ok(Err(Fault::Broken(format!("a request to a GPU worker cannot be written: {e}")))),
        };
        line.push('\n');
        let sent = self.requests.as_mut().map(|to| to.write_all(line.as_bytes()).and_then(|()| to.flush()));
        if sent.is_none_or(|sent| sent.is_err()) {
            return Ok(Err(self.exit_fault()));
        }
        let start = Instant::now();
        loop {
            match self.replies.recv_timeout(POLL) {
                Ok(line) => return Ok(parsed(&line)),
                Err(RecvTimeoutError::Disconnected) => return Ok(Err(self.exit_fault())),
                Err(RecvTimeoutError::Timeout) if start.elapsed() > patience => {
                    let text = format!("the GPU worker did not answer for {} s (--gpu-timeout)", patience.as_secs());
                    return Ok(Err(Fault::Broken(text)));
                }
                Err(RecvTimeoutError::Timeout) => watch.add(0)?,
            }
        }
    }

    /// Waits up to 5 s until the process has ended.
    fn wait_for_exit(&mut self) -> Option<ExitStatus> {
        for _ in 0..EXIT_POLLS {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(POLL / 2);
        }
        None
    }

    /// Kills the process. `None`: it hangs in the driver, where no signal reaches it, and is left there. It runs no
    /// more code of its own: when the driver returns, the signal is delivered first.
    fn kill(&mut self) -> Option<ExitStatus> {
        let _ = self.child.kill();
        self.wait_for_exit()
    }

    /// How the process ended, and the last line that it wrote to stderr.
    fn exit_fault(&mut self) -> Fault {
        // Its output is closed, so it has ended or is of no use any more.
        let status = self.kill().map_or_else(|| "it cannot be killed".into(), |status| status.to_string());
        // The last line may still be in the pipe.
        std::thread::sleep(POLL / 2);
        let line = self.last_stderr.lock().expect("no thread panics while it holds the line");
        let last = if line.is_empty() { String::new() } else { format!("; its last line on stderr: {line}") };
        Fault::Broken(format!("the GPU worker ended ({status}){last}"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A worker ends when its standard input ends, also while its device hangs.
        self.requests = None;
        if self.wait_for_exit().is_none() {
            self.kill();
        }
    }
}

/// Reads a worker's standard output on a thread of its own and passes replies on.
fn read_replies(output: ChildStdout) -> Receiver<String> {
    let (send, replies) = bounded(1);
    std::thread::spawn(move || {
        let lines = BufReader::new(output).lines().map_while(|line| line.ok());
        // Other lines come from the plugin, or from a tool that the worker runs under.
        let replies = lines.filter(|line| {
            let is_reply = line.starts_with(['{', '"']);
            if !is_reply {
                tracing::debug!("GPU worker: {line}");
            }
            is_reply
        });
        replies.map(|line| send.send(line)).take_while(|sent| sent.is_ok()).for_each(drop);
    });
    replies
}

/// Logs a worker's standard error on a thread of its own and keeps the last line.
fn read_stderr(errors: ChildStderr) -> Arc<Mutex<String>> {
    let last = Arc::new(Mutex::new(String::new()));
    let kept = last.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(errors).lines().map_while(|line| line.ok()).filter(|line| !line.is_empty()) {
            tracing::debug!("GPU worker: {line}");
            *kept.lock().expect("no thread panics while it holds the line") =
                line.chars().take(LINE_CHARACTERS).collect();
        }
    });
    last
}

fn parsed(line: &str) -> Result<Reply, Fault> {
    match serde_json::from_str(line) {
        Ok(Reply::Failed(Failure { out_of_memory: true, text })) => Err(Fault::OutOfMemory(text)),
        Ok(Reply::Failed(Failure { text, .. })) => Err(Fault::Broken(text)),
        Ok(reply) => Ok(reply),
        Err(_) => {
            let line: String = line.chars().take(LINE_CHARACTERS).collect();
            Err(Fault::Broken(format!("the GPU worker wrote a line that is no reply: {line:?}")))
        }
    }
}

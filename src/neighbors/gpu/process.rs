//! One worker process, as its parent sees it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};

use super::protocol::{Failure, Reply, Request};
use crate::error::Result;

/// The hidden verb of the executable that makes it a worker.
pub(crate) const VERB: &str = "gpu-worker";
/// Between two looks at whether the user wants to stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Looks that an idle worker has to end by itself, and a killed one to be gone.
const LAST_LOOKS: u32 = 100;
/// Characters of what a worker said last that are told.
const STDERR_CHARACTERS: usize = 400;

/// What went wrong with a worker.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The device has too little memory; the worker is well.
    OutOfMemory(String),
    /// The worker said no, died, was silent for too long, or gave answers that cannot be. It has to be replaced.
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
    /// `None` at the end.
    commands: Option<ChildStdin>,
    replies: Receiver<String>,
    last_stderr: Arc<Mutex<String>>,
}

impl Worker {
    /// Starts this executable once more, as a worker.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(plugin: &Path) -> Result<Worker, Fault> {
        let failed = |e: std::io::Error| Fault::Broken(format!("a GPU worker cannot be started: {e}"));
        let name = std::env::current_exe().map_err(failed)?;
        // Where its file was replaced by a newer one since, it is still this one.
        let program = if cfg!(target_os = "linux") { Path::new("/proc/self/exe") } else { &name };
        let mut child = Command::new(program)
            .arg0(&name)
            .arg(VERB)
            .arg(plugin)
            // Singles are to be multiplied as singles.
            .env("NVIDIA_TF32_OVERRIDE", "0")
            .env_remove("CUBLAS_EMULATE_SINGLE_PRECISION")
            .env_remove("CUBLAS_EMULATION_STRATEGY")
            // A group of its own: Ctrl-C is for the job, which lets the tile in hand finish.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(commands), Some(output), Some(errors)) = pipes else {
            return Err(Fault::Broken("a GPU worker has no pipes".into()));
        };
        let (send, replies) = bounded(1);
        std::thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(|line| line.ok());
            // What else is said there is the plugin's, or a tool's that it runs under.
            let replies = lines.filter(|line| {
                let is_reply = line.starts_with(['{', '"']);
                if !is_reply {
                    tracing::debug!("GPU worker: {line}");
                }
                is_reply
            });
            replies.map(|line| send.send(line)).take_while(|sent| sent.is_ok()).for_each(drop);
        });
        let last_stderr = Arc::new(Mutex::new(String::new()));
        let words = last_stderr.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(|line| line.ok()).filter(|line| !line.is_empty()) {
                tracing::debug!("GPU worker: {line}");
                *words.lock().expect("no thread panics while it holds the words") =
                    line.chars().take(STDERR_CHARACTERS).collect();
            }
        });
        Ok(Worker { child, commands: Some(commands), replies, last_stderr })
    }

    /// Sends a command and waits for what comes of it. The outer error is `look`'s, which is asked now and then.
    pub(crate) fn call(
        &mut self,
        request: &Request,
        patience: Duration,
        look: &dyn Fn() -> Result<()>,
    ) -> Result<Result<Reply, Fault>> {
        let mut line = match serde_json::to_string(request) {
            Ok(line) => line,
            Err(e) => return Ok(Err(Fault::Broken(format!("a command has no form: {e}")))),
        };
        line.push('\n');
        let sent = self.commands.as_mut().map(|to| to.write_all(line.as_bytes()).and_then(|()| to.flush()));
        if sent.is_none_or(|sent| sent.is_err()) {
            return Ok(Err(self.exit_fault()));
        }
        let start = Instant::now();
        loop {
            match self.replies.recv_timeout(LOOK_EVERY) {
                Ok(line) => return Ok(understood(&line)),
                Err(RecvTimeoutError::Disconnected) => return Ok(Err(self.exit_fault())),
                Err(RecvTimeoutError::Timeout) if start.elapsed() > patience => {
                    let text = format!("the GPU worker did not answer for {} s (--gpu-timeout)", patience.as_secs());
                    return Ok(Err(Fault::Broken(text)));
                }
                Err(RecvTimeoutError::Timeout) => look()?,
            }
        }
    }

    /// Waits a while for its end.
    fn end(&mut self) -> Option<ExitStatus> {
        for _ in 0..LAST_LOOKS {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(LOOK_EVERY / 2);
        }
        None
    }

    /// Kills it. `None`: it hangs in the driver, where no signal reaches it; it is left there. It will do nothing of its
    /// own any more: when the driver lets it go, the signal comes first.
    fn kill(&mut self) -> Option<ExitStatus> {
        let _ = self.child.kill();
        self.end()
    }

    /// How it ended.
    fn exit_fault(&mut self) -> Fault {
        // Its output is closed: it is dead, or as good as dead.
        let status = self.kill().map_or_else(|| "it cannot be killed".into(), |status| status.to_string());
        // What it said last may still be on its way.
        std::thread::sleep(LOOK_EVERY / 2);
        let words = self.last_stderr.lock().expect("no thread panics while it holds the words");
        let said = if words.is_empty() { String::new() } else { format!("; its last words: {words}") };
        Fault::Broken(format!("the GPU worker ended ({status}){said}"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It ends when there are no commands any more, also while its device hangs.
        self.commands = None;
        if self.end().is_none() {
            self.kill();
        }
    }
}

fn understood(line: &str) -> Result<Reply, Fault> {
    match serde_json::from_str(line) {
        Ok(Reply::Failed(Failure { out_of_memory: true, text })) => Err(Fault::OutOfMemory(text)),
        Ok(Reply::Failed(Failure { text, .. })) => Err(Fault::Broken(text)),
        Ok(reply) => Ok(reply),
        Err(_) => Err(Fault::Broken(format!(
            "the GPU worker said {:?}",
            line.chars().take(STDERR_CHARACTERS).collect::<String>()
        ))),
    }
}

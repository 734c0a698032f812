//! Work on a thread of its own, while Python's thread listens.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, LazyLock, Mutex, Once, PoisonError};
use std::time::Duration;

use batchmine::error::Result;
use batchmine::guard;
use batchmine::run::Progress;
use pyo3::prelude::*;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::errors::raised;

/// How often Python is asked whether it was interrupted.
const POLL: Duration = Duration::from_millis(100);
/// Events and lines that wait at most; more are left out.
const WAITING: usize = 1024;

/// Lines of the log of all work in this process: Python's level, and the text.
type Line = (u8, String);
static LINES: LazyLock<(SyncSender<Line>, Mutex<Receiver<Line>>)> = LazyLock::new(|| {
    let (sender, receiver) = sync_channel(WAITING);
    (sender, Mutex::new(receiver))
});

/// Hands lines of the log on.
struct Lines;

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        // Python's numbers: DEBUG 10, INFO 20, WARNING 30, ERROR 40.
        let level = match *metadata.level() {
            Level::ERROR => 40,
            Level::WARN => 30,
            Level::INFO => 20,
            Level::DEBUG => 10,
            Level::TRACE => return,
        };
        if !metadata.target().starts_with("batchmine") {
            return;
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        let _ = LINES.0.try_send((level, text.0));
    }
}

/// The message of an event.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

/// What work is given: where its progress goes, and the flag that stops it.
pub(crate) struct Control {
    pub(crate) progress: Progress,
    pub(crate) interrupted: Arc<AtomicBool>,
}

impl Control {
    /// Progress whose meters fail once Python was interrupted, for work on a run that is finished.
    pub(crate) fn stopping(self, folder: &Path) -> Progress {
        self.progress.stopped_by(self.interrupted, folder)
    }
}

/// Calls `work` on a thread of its own. Meanwhile `on_event` is called with each event as JSON, and `on_line` with each
/// line of the log and its level, both on the calling thread; where `on_event` has a method `idle`, that is called ten
/// times a second.
///
/// # Errors
/// The work's own; an exception in a callback, or of Python's interrupt, once the work has stopped.
pub(crate) fn watched<T: Send>(
    py: Python<'_>,
    on_event: &Bound<'_, PyAny>,
    on_line: &Bound<'_, PyAny>,
    work: impl FnOnce(Control) -> Result<T> + Send,
) -> PyResult<T> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Where the process has a log already, that one stays.
        let _ = tracing_subscriber::registry().with(Lines).try_init();
    });
    batchmine::cli::prepare();
    let (sender, events) = sync_channel::<String>(WAITING);
    let events = Mutex::new(events);
    let send = move |event: &serde_json::Value| drop(sender.try_send(event.to_string()));
    let idle = on_event.getattr("idle").ok().filter(|idle| !idle.is_none());
    let interrupted = Arc::new(AtomicBool::new(false));
    let control = Control { progress: Progress::listened_to(send), interrupted: interrupted.clone() };
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| guard::caught(|| work(control)));
        let mut raised_here = None;
        loop {
            let ended = worker.is_finished();
            let first = py.detach(|| next(&events, if ended { Duration::ZERO } else { POLL }));
            if raised_here.is_none() {
                let asked = idle.as_ref().map_or(Ok(()), |idle| idle.call0().map(drop));
                raised_here = asked.and_then(|()| told(py, first, &events, on_event, on_line)).err();
                if raised_here.is_some() {
                    interrupted.store(true, Ordering::Relaxed);
                }
            }
            if ended {
                break;
            }
        }
        let done = py.detach(|| worker.join());
        match (raised_here, done) {
            (Some(raised_here), _) => Err(raised_here),
            (None, Ok(done)) => done.map_err(|error| raised(py, &error)),
            (None, Err(panic)) => std::panic::resume_unwind(panic),
        }
    })
}

/// Hands on all that waits.
fn told(
    py: Python<'_>,
    first: Option<String>,
    events: &Mutex<Receiver<String>>,
    on_event: &Bound<'_, PyAny>,
    on_line: &Bound<'_, PyAny>,
) -> PyResult<()> {
    py.check_signals()?;
    while let Some((level, text)) = next(&LINES.1, Duration::ZERO) {
        on_line.call1((level, text))?;
    }
    let mut event = first;
    while let Some(text) = event {
        on_event.call1((text,))?;
        event = next(events, Duration::ZERO);
    }
    Ok(())
}

fn next<T>(receiver: &Mutex<Receiver<T>>, wait: Duration) -> Option<T> {
    let receiver = receiver.lock().unwrap_or_else(PoisonError::into_inner);
    if wait.is_zero() { receiver.try_recv().ok() } else { receiver.recv_timeout(wait).ok() }
}

//! Progress of a job: bars on a terminal, plain lines elsewhere, JSON events on request.
//!
//! Bars and lines go to stderr; JSON events, one object a line, go to stdout. A program that calls the library hears of
//! the same events by itself.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use indicatif::{HumanCount, HumanDuration, MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::{Value, json};

use super::interrupt::Interrupt;
use super::json;
use crate::error::Result;
use crate::stdio::{print_line, tell_line};

const PLAIN_EVERY: Duration = Duration::from_secs(5);
const EVENTS_EVERY: Duration = Duration::from_secs(1);

/// How progress is shown: the values of `--progress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Style {
    /// Bars on a terminal, else plain lines.
    Auto,
    /// A line every few seconds.
    Plain,
    /// Nothing.
    None,
}

/// Hears of events.
type Listener = Arc<dyn Fn(&Value) + Send + Sync>;

/// Where progress and events go.
#[derive(Clone)]
pub struct Progress {
    bars: Option<MultiProgress>,
    plain: bool,
    json: bool,
    listener: Option<Listener>,
    /// What stops all its meters.
    interrupt: Option<Interrupt>,
    /// Why the first event that was lost could not be written.
    lost: Arc<OnceLock<String>>,
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Progress")
    }
}

impl Progress {
    /// Progress in a style, and with `json` events on stdout.
    pub fn new(style: Style, json: bool) -> Progress {
        let terminal = std::io::stderr().is_terminal();
        Progress {
            bars: (style == Style::Auto && terminal).then(MultiProgress::new),
            plain: style == Style::Plain || (style == Style::Auto && !terminal),
            json,
            listener: None,
            interrupt: None,
            lost: Arc::default(),
        }
    }

    pub fn silent() -> Progress {
        Progress { bars: None, plain: false, json: false, listener: None, interrupt: None, lost: Arc::default() }
    }

    /// Its meters fail once the flag is set; `folder`: what the error names.
    pub fn stopped_by(self, flag: Arc<AtomicBool>, folder: &Path) -> Progress {
        Progress { interrupt: Some(Interrupt::new(flag, folder.to_owned())), ..self }
    }

    /// Nothing is printed: `listener` is called with each event, from any thread, about once a second. It must return
    /// at once.
    pub fn listened_to(listener: impl Fn(&Value) + Send + Sync + 'static) -> Progress {
        Progress { listener: Some(Arc::new(listener)), ..Progress::silent() }
    }

    /// Whether anybody wants events.
    fn has_events(&self) -> bool {
        self.json || self.listener.is_some()
    }

    /// Starts a meter that counts to `total` of `unit`.
    pub fn meter(&self, stage: &'static str, total: u64, unit: &'static str) -> Meter {
        let bar = self.bars.as_ref().map(|bars| {
            let template =
                "{prefix:>10} {bar:32} {percent:>3}%  {human_pos} of {human_len} {msg}  {per_sec}  {eta} left";
            let style = ProgressStyle::with_template(template).expect("the template is a constant");
            let bar = bars.add(ProgressBar::new(total).with_style(style).with_prefix(stage).with_message(unit));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        self.event(&json!({"event": "start", "stage": stage, "total": total, "unit": unit}));
        let now = Instant::now();
        Meter {
            progress: self.clone(),
            bar,
            stage,
            unit,
            total,
            done: AtomicU64::new(0),
            before: AtomicU64::new(0),
            started: now,
            printed: Mutex::new(now),
            rates: None,
            interrupt: self.interrupt.clone(),
        }
    }

    /// Prints one JSON event on stdout, where events were asked for.
    pub fn event(&self, event: &impl Serialize) {
        if !self.has_events() {
            return;
        }
        let event = json::to_value(event);
        if let Some(listener) = &self.listener {
            listener(&event);
        }
        if self.json {
            // Neither a reader that went away nor a full disk ends the job.
            if let Err(e) = print_line(&event.to_string()) {
                self.lost.get_or_init(|| e.to_string());
            }
        }
    }

    /// Why an event could not be written, if one could not.
    pub(crate) fn lost_event(&self) -> Option<String> {
        self.lost.get().cloned()
    }

    /// Runs `print` while no bar is on the screen.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bars {
            Some(bars) => bars.suspend(print),
            None => print(),
        }
    }
}

/// Counts one stage's work. Shared between threads; dropped when the stage ends.
#[derive(Debug)]
pub struct Meter {
    progress: Progress,
    bar: Option<ProgressBar>,
    stage: &'static str,
    unit: &'static str,
    total: u64,
    done: AtomicU64,
    /// Units that an earlier call did.
    before: AtomicU64,
    started: Instant,
    /// When progress was last printed.
    printed: Mutex<Instant>,
    rates: Option<Rates>,
    interrupt: Option<Interrupt>,
}

/// What a unit of work stands for.
#[derive(Debug, Clone, Copy)]
struct Rates {
    rows: f64,
    operations: f64,
}

impl Meter {
    /// Shows rows and operations a second as well, where a unit stands for so many.
    pub fn with_rates(mut self, rows: f64, operations: f64) -> Meter {
        self.rates = Some(Rates { rows, operations });
        self
    }

    /// The meter of a job that the user may stop.
    pub(super) fn stopped_by(mut self, interrupt: Interrupt) -> Meter {
        self.interrupt = Some(interrupt);
        self
    }

    /// Rows and operations a second as text, for a rate in units.
    fn rates_text(&self, per_second: f64) -> String {
        let text = |rates: Rates| {
            let rows = format!("{:.0} rows/s", rates.rows * per_second);
            match rates.operations * per_second / 1e9 {
                0.0 => rows,
                gop => format!("{rows}, {gop:.0} GOP/s"),
            }
        };
        self.rates.map(text).unwrap_or_default()
    }

    /// Counts work that an earlier call did: shown as done, left out of the rate.
    pub fn skip(&self, n: u64) {
        self.before.fetch_add(n, Ordering::Relaxed);
        self.done.fetch_add(n, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.inc(n);
            bar.reset_eta();
        }
    }

    /// Counts work just done; 0 only asks whether to go on.
    ///
    /// # Errors
    /// The user has asked to stop.
    pub fn add(&self, n: u64) -> Result<()> {
        let done = self.done.fetch_add(n, Ordering::Relaxed) + n;
        if let Some(bar) = &self.bar {
            bar.inc(n);
        }
        if self.progress.plain || self.progress.has_events() || self.rates.is_some() {
            self.print_now_and_then(done);
        }
        self.interrupt.as_ref().map_or(Ok(()), Interrupt::check)
    }

    /// Prints the progress if the last print is long enough ago.
    fn print_now_and_then(&self, done: u64) {
        let every = if self.progress.has_events() { EVENTS_EVERY } else { PLAIN_EVERY };
        // A thread that finds another one printing has nothing to add.
        let Ok(mut printed) = self.printed.try_lock() else { return };
        if printed.elapsed() < every {
            return;
        }
        *printed = Instant::now();
        let seconds = self.started.elapsed().as_secs_f64();
        let rate = (done - self.before.load(Ordering::Relaxed)) as f64 / seconds;
        let left = self.total.saturating_sub(done) as f64 / rate.max(1e-9);
        let rates = self.rates_text(rate);
        if let Some(bar) = self.bar.as_ref().filter(|_| self.rates.is_some()) {
            bar.set_message(format!("{}  {rates}", self.unit));
        }
        if self.progress.plain {
            tell_line(&format!(
                "{:>10} {:>3}%  {} of {} {}  {}/s  {rates}{} left",
                self.stage,
                100 * done / self.total.max(1),
                HumanCount(done),
                HumanCount(self.total),
                self.unit,
                HumanCount(rate as u64),
                HumanDuration(Duration::from_secs_f64(left.min(1e9))),
                rates = if rates.is_empty() { String::new() } else { format!("{rates}  ") },
            ));
        }
        self.progress.event(&json!({
            "event": "progress", "stage": self.stage, "done": done, "total": self.total,
            "unit": self.unit, "per_second": rate, "seconds_left": left,
            "rows_per_second": self.rates.map(|rates| rates.rows * rate),
            "gop_per_second": self.rates.map(|rates| rates.operations * rate / 1e9),
        }));
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let (Some(bar), Some(bars)) = (&self.bar, &self.progress.bars) {
            bar.finish_and_clear();
            bars.remove(bar);
        }
    }
}

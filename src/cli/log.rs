//! Output of the command line: progress and logs on stderr, data and events on stdout.

use std::io::{self, IsTerminal, Write};

use clap::{Args, ValueEnum};
use serde::Serialize;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::error::{Error, Result};
use crate::run::progress::{Progress, Style};
use crate::stdio::{print_line, tell, tell_line};

/// Flags that every verb takes.
#[derive(Debug, Args)]
pub struct OutputArgs {
    /// How progress is shown
    #[arg(long, value_enum, default_value = "auto", global = true, help_heading = "Output")]
    progress: Style,
    /// Events (mine) or data (plan, inspect, verify, bench) as JSON lines on stdout
    #[arg(long, global = true, help_heading = "Output")]
    json: bool,
    /// Colours on stderr
    #[arg(long, value_enum, default_value = "auto", global = true, help_heading = "Output")]
    color: Color,
    /// Say nothing but errors
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Output")]
    quiet: bool,
    /// Say more
    #[arg(short, long, action = clap::ArgAction::Count, global = true, help_heading = "Output")]
    verbose: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Serialize)]
struct ErrorEvent {
    event: &'static str,
    exit_code: u8,
    message: String,
}

/// Where a verb's output goes.
#[derive(Debug)]
pub struct Output {
    pub progress: Progress,
    /// Whether data go out as JSON.
    pub json: bool,
}

impl OutputArgs {
    /// Starts logging and progress.
    pub fn start(&self) -> Output {
        let style = if self.quiet { Style::None } else { self.progress };
        let progress = Progress::new(style, self.json);
        let level = match (self.quiet, self.verbose) {
            (true, _) => LevelFilter::ERROR,
            (_, 0) => LevelFilter::INFO,
            (_, 1) => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        };
        // Failures that libraries log are in the error that follows from them.
        let libraries = if self.verbose > 1 { LevelFilter::DEBUG } else { LevelFilter::OFF };
        let filter = Targets::new().with_target(env!("CARGO_CRATE_NAME"), level).with_default(libraries);
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let color = match self.color {
            Color::Auto => io::stderr().is_terminal() && !plain,
            Color::Always => true,
            Color::Never => false,
        };
        let writer = AboveBars(progress.clone());
        let lines =
            tracing_subscriber::fmt::layer().with_target(false).without_time().with_ansi(color).with_writer(writer);
        // A second start in one process (tests) keeps the first one's log.
        let _ = tracing_subscriber::registry().with(lines.with_filter(filter)).try_init();
        Output { progress, json: self.json }
    }
}

impl Output {
    /// Prints an error: on stderr, and as an event where events were asked for.
    pub fn fail(&self, error: &Error) {
        self.progress.suspend(|| tell_line(&format!("error: {error}")));
        let (exit_code, message) = (error.exit_code(), error.to_string());
        self.progress.event(&ErrorEvent { event: "error", exit_code, message });
    }

    /// Fails if an event was lost: the work goes on without its events, but does not end as if they had been written.
    ///
    /// # Errors
    /// An event could not be written to stdout.
    pub fn all_written(&self) -> Result<()> {
        match self.progress.lost_event() {
            Some(found) => Err(unwritten(found).expected("all events of --json on stdout; the work itself is done")),
            None => Ok(()),
        }
    }
}

/// Prints data on stdout. `false`: the reader went away (`| head`). That is no error: the verb ends as if all had been
/// read, and may leave out what nobody reads.
///
/// # Errors
/// Stdout cannot be written.
pub fn print(text: &str) -> Result<bool> {
    print_line(text).map_err(|e| unwritten(e.to_string()))
}

/// The error of a stdout that cannot be written.
pub(super) fn unwritten(found: String) -> Error {
    Error::runtime("stdout cannot be written")
        .found(found)
        .remedy("free the disk that stdout is redirected to, or redirect it elsewhere; then run the same command again")
}

/// Writes log lines above the bars.
#[derive(Debug, Clone)]
struct AboveBars(Progress);

struct LogLine<'a> {
    progress: &'a Progress,
    bytes: Vec<u8>,
}

impl<'a> MakeWriter<'a> for AboveBars {
    type Writer = LogLine<'a>;

    fn make_writer(&'a self) -> LogLine<'a> {
        LogLine { progress: &self.0, bytes: Vec::new() }
    }
}

impl Write for LogLine<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogLine<'_> {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.progress.suspend(|| tell(&bytes));
    }
}

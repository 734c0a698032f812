//! Samples the process's resident anonymous memory, the figure that the budget bounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{Sender, bounded, select, tick};

const SAMPLE_EVERY: Duration = Duration::from_millis(20);

/// Samples resident anonymous memory in a thread of its own until dropped.
#[derive(Debug)]
pub(crate) struct MemoryWatch {
    peak: Arc<AtomicU64>,
    /// Dropped with the watch: the channel closes, and the thread ends at once.
    _stop: Sender<()>,
}

impl MemoryWatch {
    /// Starts the thread.
    pub(crate) fn start() -> MemoryWatch {
        let (stop, stopped) = bounded(0);
        let watch = MemoryWatch { peak: Arc::default(), _stop: stop };
        let (peak, clock) = (watch.peak.clone(), tick(SAMPLE_EVERY));
        std::thread::spawn(move || {
            loop {
                select! {
                    recv(clock) -> _ => peak.fetch_max(anonymous_bytes(), Ordering::Relaxed),
                    recv(stopped) -> _ => return,
                };
            }
        });
        watch
    }

    /// The highest figure since the last call, in bytes.
    pub(crate) fn take_peak(&self) -> u64 {
        self.peak.swap(0, Ordering::Relaxed).max(anonymous_bytes())
    }
}

/// Resident anonymous memory now, in bytes; 0 where the system does not tell.
pub(crate) fn anonymous_bytes() -> u64 {
    let Ok(text) = std::fs::read_to_string("/proc/self/status") else { return 0 };
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).map_or(0, |kib| kib << 10)
}

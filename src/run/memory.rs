//! Watches the process's resident anonymous memory, the figure that the budget bounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const SAMPLE_EVERY: Duration = Duration::from_millis(20);

/// Samples resident anonymous memory in a thread of its own until dropped.
#[derive(Debug)]
pub struct MemoryWatch {
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl MemoryWatch {
    /// Starts watching.
    pub fn start() -> MemoryWatch {
        let watch = MemoryWatch { peak: Arc::default(), stop: Arc::default() };
        let (peak, stop) = (watch.peak.clone(), watch.stop.clone());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                peak.fetch_max(anonymous_bytes(), Ordering::Relaxed);
                std::thread::sleep(SAMPLE_EVERY);
            }
        });
        watch
    }

    /// The highest figure since the last call, in bytes.
    pub fn take_peak(&self) -> u64 {
        self.peak.swap(0, Ordering::Relaxed).max(anonymous_bytes())
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Resident anonymous memory now, in bytes; 0 where the system does not tell.
pub fn anonymous_bytes() -> u64 {
    // statm: total, resident, shared (file-backed and shared-memory) pages.
    let Ok(text) = std::fs::read_to_string("/proc/self/statm") else { return 0 };
    let mut pages = text.split_ascii_whitespace().skip(1).map_while(|field| field.parse::<u64>().ok());
    let (Some(resident), Some(shared)) = (pages.next(), pages.next()) else { return 0 };
    resident.saturating_sub(shared) * 4096
}

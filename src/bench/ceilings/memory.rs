//! Bandwidth of memory: reading, and copying, by all threads at once.
//!
//! Memory: one buffer, cut in equal parts for the threads.

use std::hint::black_box;
use std::time::Instant;

use rayon::prelude::*;

use super::repeat::{REPEATS, repeated};
use crate::bench::record::{Ceiling, CeilingUnit};
use crate::error::Result;
use crate::watch::Watch;

/// Least and most bytes of the buffer. More would take longer to fill than it takes to measure.
const BUFFER: std::ops::RangeInclusive<u64> = 32 << 20..=1 << 30;

/// Bytes of the buffer: four times the largest cache, but at most a quarter of the memory budget.
pub(in crate::bench) fn buffer_bytes(cache_bytes: u64, budget_bytes: u64) -> u64 {
    let wanted = cache_bytes.saturating_mul(4).clamp(*BUFFER.start(), *BUFFER.end());
    wanted.min(budget_bytes / 4).max(1 << 20)
}

/// Bytes read, and bytes read and written by a copy, a second.
///
/// # Errors
/// The work is to stop.
pub(super) fn measure(buffer_bytes: u64, watch: Watch<'_>) -> Result<Vec<Ceiling>> {
    let threads = rayon::current_num_threads();
    let mut buffer = vec![0u64; buffer_bytes as usize / 8];
    let part = buffer.len().div_ceil(2 * threads);
    // Each page is written once, so that it is there.
    buffer.par_chunks_mut(2 * part).enumerate().for_each(|(at, part)| part.fill(at as u64 + 1));
    let whole = (buffer.len() * 8) as f64;
    let mut gigabytes = |work: &mut dyn FnMut(&mut [u64])| {
        repeated(REPEATS, watch, || {
            let start = Instant::now();
            work(&mut buffer);
            Ok(whole / start.elapsed().as_secs_f64() / 1e9)
        })
    };
    let read = gigabytes(&mut |buffer| {
        let sum = |part: &mut [u64]| part.iter().fold(0u64, |sum, word| sum.wrapping_add(*word));
        black_box(buffer.par_chunks_mut(2 * part).map(sum).sum::<u64>());
    })?;
    let copy = gigabytes(&mut |buffer| {
        buffer.par_chunks_mut(2 * part).for_each(|part| {
            let (from, to) = part.split_at_mut(part.len() / 2);
            let shared = from.len().min(to.len());
            to[..shared].copy_from_slice(&from[..shared]);
        });
        black_box(buffer);
    })?;
    let ceiling = |name: &str, rate| Ceiling { name: name.into(), unit: CeilingUnit::Bytes, rate };
    Ok(vec![ceiling("memory read", read), ceiling("memory copy", copy)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_is_larger_than_the_cache_and_within_the_budget() {
        assert_eq!(buffer_bytes(32 << 20, 8 << 30), 128 << 20);
        assert_eq!(buffer_bytes(0, 8 << 30), 32 << 20);
        assert_eq!(buffer_bytes(300 << 20, 64 << 30), 1 << 30);
        assert_eq!(buffer_bytes(300 << 20, 400 << 20), 100 << 20);
        assert_eq!(buffer_bytes(0, 0), 1 << 20);
    }

    #[test]
    fn memory_is_read_and_copied() {
        let found = measure(1 << 20, Watch::silent()).unwrap();
        assert_eq!(
            found.iter().map(|ceiling| ceiling.name.as_str()).collect::<Vec<_>>(),
            ["memory read", "memory copy"]
        );
        assert!(found.iter().all(|ceiling| ceiling.rate.values.len() == REPEATS && ceiling.rate.median > 0.01));
    }
}

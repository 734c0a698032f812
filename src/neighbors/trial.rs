//! Which precision is the fastest here: by a trial on the job's own vectors.
//!
//! What a filter is worth depends on the machine (which products it has instructions for) and on the vectors (how many
//! pairs bytes rule out). So half a tile of queries out of the middle of the largest task is searched among some of its
//! rows in each precision, and the fastest is taken. A precision is left as soon as it took longer than bytes did. The
//! result of a search does not depend on it.
//!
//! Memory: one tile of queries. O(queries of a tile · rows of the trial · dim), a fraction of a second.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::tiles::{STRETCH_COLUMNS, TILE_QUERIES, Tiles};
use crate::config::KernelPrecision;
use crate::error::{Error, Result};
use crate::vectors::RowId;
use crate::watch::Watch;

/// Searches of less work (pairs times dimensions) have no trial: it would take a share of their time.
const WORK_MIN: f64 = 1e11;
/// A trial's work for each precision, at most, beyond the least rows.
const TRIAL_WORK: usize = 1 << 32;
/// Stretches of rows. In the first, lists fill; a tile may leave its precision after the second.
const STRETCHES: std::ops::RangeInclusive<usize> = 3..=6;
const REPEATS: usize = 3;
/// Bytes stay where nothing takes less than this share of their time: a short trial counts more of a search's beginning
/// than there is of it, and that is where they rule out least.
const FASTER: f64 = 0.85;

/// The fastest precision for a search of so many ranks in each task.
///
/// # Errors
/// The watch stops the job.
pub(crate) fn fastest(tiles: &Tiles<'_>, ranks: &[usize], watch: Watch<'_>) -> Result<KernelPrecision> {
    let (tasks, dim) = (&tiles.vectors.tasks, tiles.vectors.shape().dim);
    let columns = |task: usize| tiles.columns.of_task(task);
    let pairs = |task: usize| tasks.range(task).len() as f64 * columns(task).len() as f64;
    let work: f64 = (0..tasks.len()).map(pairs).sum::<f64>() * dim as f64;
    match (0..tasks.len()).map(columns).max_by_key(Range::len) {
        Some(task) if work >= WORK_MIN => tried(tiles, task, ranks, watch),
        _ => Ok(KernelPrecision::Int8),
    }
}

/// The same by a trial on a task.
///
/// # Errors
/// The watch stops the job.
pub(super) fn tried(
    tiles: &Tiles<'_>,
    task: Range<usize>,
    ranks: &[usize],
    watch: Watch<'_>,
) -> Result<KernelPrecision> {
    let (tasks, dim) = (&tiles.vectors.tasks, tiles.vectors.shape().dim);
    let stretches = (TRIAL_WORK / (TILE_QUERIES * STRETCH_COLUMNS * dim)).clamp(*STRETCHES.start(), *STRETCHES.end());
    let columns = task.start..task.end.min(task.start + stretches * STRETCH_COLUMNS);
    let is_row = |row: &RowId| *row < tiles.vectors.row_count();
    let rows = |columns: Range<usize>| tiles.columns.rows()[columns].iter().copied().filter(is_row);
    // Documents of a corpus have no query.
    let Some(own) = rows(columns.clone()).next() else { return Ok(KernelPrecision::Int8) };
    // So many ranks that thresholds are as high as in the whole task.
    let ranks = (ranks[tasks.of(own)] * columns.len()).div_ceil(task.len()).min(columns.len() - 1).max(1);
    let middle = columns.start + columns.len() / 2;
    // None: it took longer than `limit` for a query, and was left.
    let seconds_a_query = |precision: KernelPrecision, limit: Duration| -> Result<Option<Duration>> {
        let tiles = Tiles { precision, ..*tiles };
        let queries = (tiles.most_queries() / 2).max(1);
        let first = middle - (queries / 2).min(columns.len() / 2);
        let places = first..(first + queries).min(columns.end);
        let in_turn = rows(places.start..columns.end).chain(rows(columns.start..places.start));
        let chosen: Vec<RowId> = in_turn.take(places.len()).collect();
        let (begin, most, left) = (Clock::now(), limit.saturating_mul(chosen.len() as u32), AtomicBool::new(false));
        let listen = |_| {
            watch.add(0)?;
            if begin.elapsed() <= most {
                return Ok(());
            }
            left.store(true, Ordering::Relaxed);
            Err(Error::runtime("a trial that was left"))
        };
        let found = tiles.exact_tile(columns.clone(), &chosen, ranks, Watch::new(&listen));
        match found {
            Err(_) if left.load(Ordering::Relaxed) => Ok(None),
            found => found.map(|_| Some(begin.elapsed() / chosen.len() as u32)),
        }
    };
    let mut precisions = vec![KernelPrecision::Int8, KernelPrecision::F32];
    if tiles.simd.multiplies_bf16() {
        precisions.insert(1, KernelPrecision::Bf16);
    }
    let mut best = vec![Duration::MAX; precisions.len()];
    // Who takes longer than bytes did is not tried again; where all do, there is nothing to repeat.
    let mut running: Vec<usize> = (0..precisions.len()).collect();
    for _ in 0..REPEATS {
        for index in std::mem::take(&mut running) {
            let limit = if index == 0 { Duration::MAX } else { best[0] };
            if let Some(seconds) = seconds_a_query(precisions[index], limit)? {
                best[index] = best[index].min(seconds);
                running.push(index);
            }
        }
        if running == [0] {
            break;
        }
    }
    let chosen = choice(&best);
    let times: Vec<String> =
        best.iter().map(|time| if *time == Duration::MAX { "longer".into() } else { format!("{time:?}") }).collect();
    tracing::debug!(
        "a trial of {} rows took {} for a query in {precisions:?}: {:?} searches on {:?}",
        columns.len(),
        times.join(", "),
        precisions[chosen],
        tiles.simd
    );
    Ok(precisions[chosen])
}

/// Which of the times counts: the first, unless another one is much less. Pure.
fn choice(times: &[Duration]) -> usize {
    let fastest = (0..times.len()).min_by_key(|index| times[*index]).unwrap_or(0);
    if times[fastest] < times[0].mul_f64(FASTER) { fastest } else { 0 }
}

/// Time that this thread was busy, where the system tells it: others' work then counts little. Else time that passed.
struct Clock {
    begin: Instant,
    busy: Option<Duration>,
}

impl Clock {
    fn now() -> Clock {
        Clock { begin: Instant::now(), busy: busy() }
    }

    fn elapsed(&self) -> Duration {
        let busy = busy().zip(self.busy).map(|(end, begin)| end.saturating_sub(begin));
        busy.filter(|busy| !busy.is_zero()).unwrap_or_else(|| self.begin.elapsed())
    }
}

/// How long this thread has run, where the system counts it.
fn busy() -> Option<Duration> {
    #[cfg(target_os = "linux")]
    {
        use rustix::time::{ClockId, clock_gettime};
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
    }
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stay_unless_another_precision_takes_much_less() {
        let choose = |times: &[u64]| choice(&times.iter().map(|time| Duration::from_micros(*time)).collect::<Vec<_>>());
        assert_eq!(choose(&[100, 90, 300]), 0);
        assert_eq!(choose(&[100, 84, 90]), 1);
        assert_eq!(choose(&[100, 300, 20]), 2);
        assert_eq!(choose(&[100, 200]), 0);
    }

    #[test]
    fn a_busy_thread_is_seen_to_be_busy() {
        let (begin, clock) = (Instant::now(), Clock::now());
        let mut sum = 0u64;
        while begin.elapsed() < Duration::from_millis(30) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(clock.elapsed() > Duration::ZERO && clock.elapsed() <= begin.elapsed());
    }
}

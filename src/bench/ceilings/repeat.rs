//! How often ceilings are measured.

use crate::bench::measured::Repeated;
use crate::error::Result;
use crate::watch::Watch;

/// How often each ceiling of memory and arithmetic is measured.
pub(super) const REPEATS: usize = 5;
/// How often the kernels and the disk are measured.
pub(super) const LONG_REPEATS: usize = 3;

/// A figure, measured so often.
///
/// # Errors
/// The measuring fails, or the work is to stop.
pub(super) fn repeated(times: usize, watch: Watch<'_>, mut once: impl FnMut() -> Result<f64>) -> Result<Repeated> {
    let mut values = Vec::with_capacity(times);
    for _ in 0..times {
        watch.add(0)?;
        values.push(once()?);
    }
    Ok(Repeated::new(values))
}

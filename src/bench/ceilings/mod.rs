//! The most that this machine does: multiply-adds by instruction set, memory and disk.
//!
//! Each is measured some times, on all threads of the pool. Memory: the buffers of `memory`, which take at most a
//! quarter of the job's budget; a chunk of the file for the disk.

mod arithmetic;
mod disk;
mod memory;
mod repeat;
mod simd;

use std::path::Path;
use std::time::Duration;

use super::record::{Ceiling, CeilingUnit};
use crate::config::KernelPrecision;
use crate::error::Result;
use crate::neighbors::calibrate::operations_per_second;
use crate::watch::Watch;

use repeat::{LONG_REPEATS, repeated};

pub(super) use arithmetic::peak_of;
pub(super) use disk::DISK_WRITE;
pub(super) use memory::buffer_bytes;

/// Time for a kernel.
const KERNEL_TIME: Duration = Duration::from_millis(150);

/// All ceilings. `dim`: dimensions that kernels are measured with; `folder`: where files are written and removed.
///
/// # Errors
/// The disk fails, or the work is to stop.
pub(super) fn measure(dim: usize, buffer_bytes: u64, folder: &Path, watch: Watch<'_>) -> Result<Vec<Ceiling>> {
    let mut found = arithmetic::measure(watch)?;
    for (name, precision) in [
        ("search int8", KernelPrecision::Int8),
        ("search bf16", KernelPrecision::Bf16),
        ("search f32", KernelPrecision::F32),
    ] {
        let rate = repeated(LONG_REPEATS, watch, || Ok(operations_per_second(precision, dim, KERNEL_TIME) / 1e9))?;
        found.push(Ceiling { name: name.into(), unit: CeilingUnit::Operations, rate });
    }
    found.extend(memory::measure(buffer_bytes, watch)?);
    found.extend(disk::measure(folder, watch)?);
    Ok(found)
}

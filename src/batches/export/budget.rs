//! How much of the budget is left for the texts of one chunk. Pure.

use crate::error::{Error, Kind, Result};

const MIB: u64 = 1 << 20;
/// What the process needs before it holds any data: code, the engine's threads and tables.
const BASE_BYTES: u64 = 96 * MIB;
/// Texts of one row group of a table that is written.
pub(crate) const GROUP_TEXT_BYTES: u64 = 8 * MIB;
/// Row groups' worth of texts that a table holds while it is written: encoded rows, and rows that wait.
const WRITER_GROUPS: u64 = 3;
/// Lengths of both texts of a source row.
const LENGTHS_BYTES: u64 = 8;
/// Fewest bytes of texts that are worth a scan of the sources.
const CHUNK_LEAST: u64 = 4 * MIB;
/// A chunk's texts are held as they were joined; what sorts and regroups them holds half as much again.
const CHUNK_SHARE: u64 = 2;

/// Bytes of a row of a chunk beside its texts: the batch table's columns, keys of the join, views.
pub(crate) const ROW_BYTES: u64 = 256;
/// The same of a row's negative.
pub(crate) const NEGATIVE_BYTES: u64 = 96;

/// What the sources and the machine need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Rows of the sources.
    pub rows: u64,
    /// Decoded texts of the largest row group of the sources.
    pub group_bytes: u64,
    /// Threads of the engine.
    pub threads: u64,
}

/// Bytes that one chunk may take.
///
/// # Errors
/// The budget cannot hold the least chunk; the message names what would do.
pub(crate) fn chunk_bytes(memory_bytes: u64, needs: Needs) -> Result<u64> {
    // Row groups are decoded whole: two for each thread, and some on their way.
    let in_flight = needs.threads.saturating_mul(2).saturating_add(4).saturating_mul(needs.group_bytes);
    let lengths = LENGTHS_BYTES.saturating_mul(needs.rows);
    let fixed = (BASE_BYTES + WRITER_GROUPS * GROUP_TEXT_BYTES).saturating_add(in_flight).saturating_add(lengths);
    let least = fixed.saturating_add(CHUNK_SHARE * CHUNK_LEAST).div_ceil(MIB).saturating_mul(MIB);
    if memory_bytes >= least {
        return Ok((memory_bytes - fixed) / CHUNK_SHARE);
    }
    Err(Error::new(Kind::OverBudget, "the memory budget is too small for this export")
        .expected(format!(
            "--memory {}MiB or more ({} threads read row groups of {} KiB of text)",
            least / MIB,
            needs.threads,
            needs.group_bytes >> 10
        ))
        .found(format!("--memory {}MiB", memory_bytes / MIB))
        .remedy(format!(
            "raise --memory to {}MiB, set POLARS_MAX_THREADS to fewer threads, or write the sources with smaller row \
             groups",
            least / MIB
        )))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDS: Needs = Needs { rows: 1_000_000, group_bytes: 10 * MIB, threads: 2 };

    #[test]
    fn the_least_budget_that_is_named_suffices() {
        let error = chunk_bytes(64 * MIB, NEEDS).unwrap_err();
        assert_eq!(error.exit_code(), 4);
        let text = error.to_string();
        let least: u64 = text.split("--memory ").nth(1).unwrap().split("MiB").next().unwrap().parse().unwrap();
        assert!(chunk_bytes(least * MIB, NEEDS).unwrap() >= CHUNK_LEAST);
        assert!(chunk_bytes((least - 1) * MIB, NEEDS).is_err());
    }

    #[test]
    fn impossible_footers_need_more_than_any_budget() {
        let needs = Needs { rows: u64::MAX, group_bytes: u64::MAX, threads: u64::MAX };
        assert_eq!(chunk_bytes(1 << 50, needs).unwrap_err().exit_code(), 4);
    }

    #[test]
    fn more_memory_makes_larger_chunks() {
        let chunk = |gib: u64| chunk_bytes(gib << 30, NEEDS).unwrap();
        assert_eq!(chunk(3) - chunk(2), (1 << 30) / CHUNK_SHARE);
    }
}

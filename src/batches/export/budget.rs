//! How much of the budget is left for the texts of one chunk. Pure.

use crate::error::{Error, Kind, Result};

const MIB: u64 = 1 << 20;
/// What the process needs before it holds any data: code, the engine's threads and tables.
const BASE_BYTES: u64 = 96 * MIB;
/// Texts of one row group of a table that is written.
pub(crate) const GROUP_TEXT_BYTES: u64 = 8 * MIB;
/// Row groups' worth of texts that a table holds while it is written: encoded rows, and rows that wait.
const WRITER_GROUPS: u64 = 3;
/// How often the texts of the longest row are there while it is written: as columns, as they are encoded, as pages.
const WRITER_ROWS: u64 = 4;
/// What a row is taken for until texts were measured, and where all are shorter.
const ROW_LEAST: u64 = MIB;
/// Lengths of the texts of a source row, and while they are measured those of a column once more.
const LENGTHS_BYTES: u64 = 16;
/// What a thread holds beside pages while it reads the sources.
const READER_BYTES: u64 = 8 * MIB;
/// Fewest bytes of texts that are worth reading row groups for.
const CHUNK_LEAST: u64 = 4 * MIB;
/// A chunk's texts are held as they were read; the other half is for what decodes them.
const CHUNK_SHARE: u64 = 2;
/// The share of what is left that more threads than one may take.
const READERS_SHARE: u64 = 4;

/// Bytes of a row of a chunk beside its texts: the batch table's columns, keys of the join, views.
pub(crate) const ROW_BYTES: u64 = 256;
/// The same of a row's negative.
pub(crate) const NEGATIVE_BYTES: u64 = 96;

/// What the sources and the machine need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Rows of the sources.
    pub rows: u64,
    /// Bytes of the pages that a thread holds while it reads.
    pub held_bytes: u64,
    /// Most bytes of a row's texts, with those of its negatives; 0 while nothing was read.
    pub longest: u64,
    /// Threads of the machine.
    pub threads: u64,
}

/// What the budget is divided into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Division {
    /// Bytes that one chunk may take.
    pub chunk_bytes: u64,
    /// Threads that read the sources.
    pub readers: usize,
}

/// Divides the budget.
///
/// # Errors
/// The budget cannot hold the least chunk; the message names what would do.
pub(crate) fn divide(memory_bytes: u64, needs: Needs) -> Result<Division> {
    let longest = needs.longest.max(ROW_LEAST);
    let reader = needs.held_bytes.saturating_add(READER_BYTES);
    let fixed = (BASE_BYTES + WRITER_GROUPS * GROUP_TEXT_BYTES)
        .saturating_add(WRITER_ROWS.saturating_mul(longest))
        .saturating_add(reader)
        .saturating_add(LENGTHS_BYTES.saturating_mul(needs.rows));
    let chunk_least = CHUNK_LEAST.max(longest);
    let least = fixed.saturating_add(CHUNK_SHARE.saturating_mul(chunk_least)).div_ceil(MIB).saturating_mul(MIB);
    if memory_bytes >= least {
        let more = (memory_bytes - least) / READERS_SHARE / reader;
        let more = more.min(needs.threads.saturating_sub(1));
        return Ok(Division {
            chunk_bytes: (memory_bytes - fixed - more * reader) / CHUNK_SHARE,
            readers: more as usize + 1,
        });
    }
    Err(Error::new(Kind::OverBudget, "the memory budget is too small for this export")
        .expected(format!(
            "--memory {}MiB or more (pages of {} KiB{})",
            least / MIB,
            needs.held_bytes >> 10,
            if needs.longest > 0 {
                format!(", rows of up to {} KiB of text", needs.longest >> 10)
            } else {
                String::new()
            }
        ))
        .found(format!("--memory {}MiB", memory_bytes / MIB))
        .remedy(format!(
            "raise --memory to {}MiB, export fewer --negatives, or write the sources with smaller pages",
            least / MIB
        )))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDS: Needs = Needs { rows: 1_000_000, held_bytes: 10 * MIB, longest: 9 * MIB, threads: 2 };

    #[test]
    fn the_least_budget_that_is_named_suffices() {
        let error = divide(64 * MIB, NEEDS).unwrap_err();
        assert_eq!(error.exit_code(), 4);
        let text = error.to_string();
        let least: u64 = text.split("--memory ").nth(1).unwrap().split("MiB").next().unwrap().parse().unwrap();
        let division = divide(least * MIB, NEEDS).unwrap();
        assert!(division.chunk_bytes >= NEEDS.longest && division.readers == 1);
        assert!(divide((least - 1) * MIB, NEEDS).is_err());
    }

    #[test]
    fn impossible_footers_need_more_than_any_budget() {
        let needs = Needs { rows: u64::MAX, held_bytes: u64::MAX, longest: u64::MAX, threads: u64::MAX };
        assert_eq!(divide(1 << 50, needs).unwrap_err().exit_code(), 4);
    }

    #[test]
    fn more_memory_makes_larger_chunks_and_more_readers() {
        let of = |gib: u64| divide(gib << 30, NEEDS).unwrap();
        assert_eq!(of(3).chunk_bytes - of(2).chunk_bytes, (1 << 30) / CHUNK_SHARE);
        assert_eq!(of(2).readers, 2, "as many as there are");
    }
}

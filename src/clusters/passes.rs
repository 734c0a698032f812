//! What a pass leaves behind, so that a job that is killed goes on with the next one.
//!
//! `pass-NNNN.cls`: arrays of one u32 or i32 for each row, one after the other: labels while clusters grow; each
//! row's slot once sizes are exact; with swaps then, by slot, own connections, best other clusters and their sums. Header fields:
//! rows, K (the largest, where tasks differ), passes done, arrays. Everything else that a pass works with follows from these.

use std::io::Write;
use std::path::Path;

use super::TaskPlaces;
use super::exact::{NOBODY, Slots};
use super::propagate::{Communities, PASSES};
use super::refine::{Swaps, UNKNOWN};
use crate::error::{Error, Result};
use crate::run::sealed::{FileFormat, PartWriter, Sealed};

/// Format of what a pass leaves.
pub(crate) const PASS: FileFormat = FileFormat { magic: *b"BMCLPASS", version: 1, name: "clustering pass" };
/// What the names of these parts begin with.
pub(crate) const PREFIX: &str = "pass-";

/// How far clustering has come.
#[derive(Debug)]
pub(crate) enum PassState {
    /// Labels grow.
    Growing(Communities),
    /// Sizes are exact.
    Exact(Slots),
    /// Rows change places.
    Swapping(Swaps),
}

/// Name of the part that is left when so many passes are done.
pub(crate) fn pass_name(passes: u32) -> String {
    format!("{PREFIX}{passes:04}.cls")
}

impl PassState {
    /// Writes the state after so many passes.
    ///
    /// # Errors
    /// The write fails.
    pub(crate) fn write(&self, out: &mut PartWriter, passes: u32, tasks: &[TaskPlaces]) -> std::io::Result<()> {
        let arrays: Vec<&[u8]> = match self {
            PassState::Growing(communities) => vec![bytemuck::cast_slice(communities.labels())],
            PassState::Exact(slots) => vec![bytemuck::cast_slice(&slots.slot_of)],
            PassState::Swapping(swaps) => swaps.arrays().to_vec(),
        };
        let (rows, count) = (arrays[0].len() as u64 / 4, arrays.len() as u64);
        let grows = u64::from(matches!(self, PassState::Growing(_)));
        out.write_all(&PASS.header([rows, largest(tasks), u64::from(passes), count, grows, 0]))?;
        arrays.iter().try_for_each(|array| out.write_all(array))?;
        out.seal()
    }

    /// Reads the state, and how many passes were done.
    ///
    /// # Errors
    /// The file is damaged, or of other rows or clusters.
    pub(crate) fn read(path: &Path, tasks: &[TaskPlaces], excluded: &[bool]) -> Result<(u32, PassState)> {
        let sealed = Sealed::open(path, &PASS)?;
        sealed.check()?;
        let rows = u64::from(tasks.last().map_or(0, |task| task.rows.end));
        let [count, of, passes, arrays, grows, _] = sealed.fields;
        let least = u64::from(PASSES);
        let due = match (arrays, grows) {
            (1, 1) => (1..least).contains(&passes),
            (1, 0) => passes == least,
            (4, 0) => passes > least && passes < u64::from(u32::MAX),
            _ => false,
        };
        let sound = due && [count, of] == [rows, largest(tasks)];
        sealed.expect_payload(sound.then(|| 4 * rows * arrays))?;
        let words: &[u32] = bytemuck::cast_slice(sealed.payload());
        let array = |number: usize| words[number * rows as usize..][..rows as usize].to_vec();
        let inconsistent = || {
            Error::runtime("the state of a clustering pass is inconsistent")
                .path(path)
                .expected("labels or slots that exist, each slot for one row")
                .found("something else")
                .remedy("delete the file and run `mine` again")
        };
        let progress = if grows == 1 {
            PassState::Growing(Communities::from_labels(tasks, excluded, array(0)).ok_or_else(inconsistent)?)
        } else {
            let slots = Slots::from_slots(tasks, excluded, array(0)).ok_or_else(inconsistent)?;
            if arrays == 1 {
                PassState::Exact(slots)
            } else {
                let signed = |array: Vec<u32>| -> Vec<i32> { array.into_iter().map(u32::cast_signed).collect() };
                let (own, best_other, best_other_sum) = (signed(array(1)), array(2), signed(array(3)));
                let known = |best_other: &u32| *best_other == NOBODY || *best_other < slots.clusters();
                let summed = |sum: &i32| sum.unsigned_abs() <= UNKNOWN.unsigned_abs();
                if !best_other.iter().all(known) || !own.iter().chain(&best_other_sum).all(summed) {
                    return Err(inconsistent());
                }
                PassState::Swapping(Swaps::from_arrays(slots, own, best_other, best_other_sum))
            }
        };
        Ok((passes as u32, progress))
    }
}

/// The largest K.
fn largest(tasks: &[TaskPlaces]) -> u64 {
    tasks.iter().map(|task| u64::from(task.size)).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_that_two_rows_claim_are_refused() {
        let tasks = [0..4, 4..7].map(|rows| TaskPlaces { rows, size: 2 });
        let excluded = [false, false, false, false, false, false, true];
        let slots = |slots: [u32; 7]| Slots::from_slots(&tasks, &excluded, slots.to_vec());
        assert_eq!(slots([1, 0, 2, 3, 5, 4, NOBODY]).unwrap().labels(), [0, 0, 1, 1, 2, 2, NOBODY]);
        for wrong in [
            [1, 1, 2, 3, 5, 4, NOBODY],
            [1, 4, 2, 3, 5, 0, NOBODY],
            [1, 9, 2, 3, 5, 4, NOBODY],
            [1, 0, 2, 3, 5, 6, NOBODY],
        ] {
            assert!(slots(wrong).is_none(), "{wrong:?}");
        }
    }
}

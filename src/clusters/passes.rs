//! The state after a pass, on disk, so that a job that is killed goes on with the next pass.
//!
//! `pass-NNNN.cls`: arrays of one u32 or i32 for each row, one after the other: labels by place while clusters grow;
//! each row's slot by place once sizes are exact; from the first swap on also, by slot, own connections, best other
//! clusters and their sums. Header fields: rows, K (the largest, where tasks differ), passes done, arrays, 1 while
//! clusters grow. Everything else that a pass works with follows from these.

use std::io::Write;
use std::path::Path;

use super::exact::Slots;
use super::labels::NO_CLUSTER;
use super::propagate::{Communities, PASSES};
use super::refine::{Swaps, UNKNOWN};
use super::rules::TaskPlaces;
use crate::error::{Error, Result};
use crate::run::sealed::{FileFormat, PartWriter, Sealed};

/// Format of these parts.
pub(crate) const PASS: FileFormat = FileFormat { magic: *b"BMCLPASS", version: 2, name: "clustering pass" };
/// What the names of these parts begin with.
pub(crate) const PREFIX: &str = "pass-";

/// How far clustering has come.
#[derive(Debug)]
pub(crate) enum PassState {
    /// Labels grow.
    Growing(Communities),
    /// Sizes are exact.
    Exact(Slots),
    /// Rows are swapped.
    Swapping(Swaps),
}

/// Name of the part after so many passes.
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
            PassState::Exact(slots) => vec![bytemuck::cast_slice(slots.as_slots())],
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
        let rows = tasks.last().map_or(0, |task| task.places.end.index());
        let [count, of, passes, arrays, grows, _] = sealed.fields;
        let least = u64::from(PASSES);
        let due = match (arrays, grows) {
            (1, 1) => (1..least).contains(&passes),
            (1, 0) => passes == least,
            (4, 0) => passes > least && passes < u64::from(u32::MAX),
            _ => false,
        };
        let sound = due && [count, of] == [rows as u64, largest(tasks)];
        let bytes = (rows as u64).checked_mul(4).and_then(|bytes| bytes.checked_mul(arrays));
        sealed.expect_payload(bytes.filter(|_| sound))?;
        let words: &[u32] = bytemuck::cast_slice(sealed.payload());
        let state = match words.chunks_exact(rows.max(1)).collect::<Vec<_>>()[..] {
            [labels] if grows == 1 => {
                Communities::from_labels(tasks, excluded, labels.to_vec()).map(PassState::Growing)
            }
            [slots] => Slots::from_slots(tasks, excluded, slots.to_vec()).map(PassState::Exact),
            [slots, own, best_other, best_other_sum] => Slots::from_slots(tasks, excluded, slots.to_vec())
                .and_then(|slots| swaps(slots, signed(own), best_other.to_vec(), signed(best_other_sum)))
                .map(PassState::Swapping),
            _ => None,
        };
        let state = state.ok_or_else(|| {
            Error::runtime("the state of a clustering pass is inconsistent")
                .path(path)
                .expected("labels or slots that exist, each slot for one row")
                .found("something else")
                .remedy("delete the file and run `mine` again")
        })?;
        Ok((passes as u32, state))
    }
}

fn signed(words: &[u32]) -> Vec<i32> {
    words.iter().copied().map(u32::cast_signed).collect()
}

/// `None` where a cluster does not exist or a sum is larger than any can be.
fn swaps(slots: Slots, own: Vec<i32>, best_other: Vec<u32>, best_other_sum: Vec<i32>) -> Option<Swaps> {
    let known = |cluster: &u32| *cluster == NO_CLUSTER || *cluster < slots.clusters();
    let possible = |sum: &i32| sum.unsigned_abs() <= UNKNOWN.unsigned_abs();
    let sound = best_other.iter().all(known) && own.iter().chain(&best_other_sum).all(possible);
    sound.then(|| Swaps::from_arrays(slots, own, best_other, best_other_sum))
}

fn largest(tasks: &[TaskPlaces]) -> u64 {
    tasks.iter().map(|task| u64::from(task.size)).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::exact::NO_SLOT;
    use super::*;
    use crate::vectors::PlaceRange;
    use crate::vectors::testing::{refused, write_sealed};

    #[test]
    fn damaged_states_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(pass_name(1));
        let tasks = [TaskPlaces { places: PlaceRange::new(0, 3), size: 2, per_key: 1 }];
        let read = |fields, words: &[u32]| {
            write_sealed(&path, &PASS, fields, bytemuck::cast_slice(words));
            PassState::read(&path, &tasks, &[false; 3])
        };
        let grown = u64::from(PASSES);
        let swapped = [0, 1, 2, 5, 5, 5, 1, NO_CLUSTER, 0, 1, 0, 2];
        assert!(matches!(read([3, 2, 1, 1, 1, 0], &[0, 0, 2]), Ok((1, PassState::Growing(_)))));
        assert!(matches!(read([3, 2, grown, 1, 0, 0], &[0, 1, 2]), Ok((3, PassState::Exact(_)))));
        assert!(matches!(read([3, 2, grown + 1, 4, 0, 0], &swapped), Ok((4, PassState::Swapping(_)))));
        let most = u64::MAX;
        for fields in [
            [most, 2, 1, 1, 1],
            [3, most, 1, 1, 1],
            [3, 2, most, 1, 1],
            [3, 2, 0, 1, 1],
            [3, 2, 1, most, 1],
            [3, 2, 1, 1 << 62, 1],
            [3, 2, 1, 4, 1],
            [3, 2, 1, 1, most],
            [3, 2, 1, 1, 0],
            [3, 2, most, 4, 0],
        ] {
            let [rows, size, passes, arrays, grows] = fields;
            refused(&path, read([rows, size, passes, arrays, grows, 0], &[0, 0, 2]));
        }
        refused(&path, read([3, 2, 1, 1, 1, 0], &[0, 0, 3]));
        refused(&path, read([3, 2, 1, 1, 1, 0], &[0, 0, 0]));
        // A cluster that does not exist, and a sum beyond any.
        for (word, number) in [(6, 2), (3, i32::MAX as u32), (11, i32::MIN as u32)] {
            let mut words = swapped;
            words[word] = number;
            refused(&path, read([3, 2, grown + 1, 4, 0, 0], &words));
        }
    }

    #[test]
    fn slots_that_two_rows_claim_are_refused() {
        let tasks = [(0, 4), (4, 7)].map(|(start, end)| TaskPlaces {
            places: PlaceRange::new(start, end),
            size: 2,
            per_key: 1,
        });
        let excluded = [false, false, false, false, false, false, true];
        let slots = |slots: [u32; 7]| Slots::from_slots(&tasks, &excluded, slots.to_vec());
        assert_eq!(slots([1, 0, 2, 3, 5, 4, NO_SLOT]).unwrap().labels(), [0, 0, 1, 1, 2, 2, NO_CLUSTER]);
        for wrong in [
            [1, 1, 2, 3, 5, 4, NO_SLOT],
            [1, 4, 2, 3, 5, 0, NO_SLOT],
            [1, 9, 2, 3, 5, 4, NO_SLOT],
            [1, 0, 2, 3, 5, 6, NO_SLOT],
        ] {
            assert!(slots(wrong).is_none(), "{wrong:?}");
        }
    }
}

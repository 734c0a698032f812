//! `verdicts.col`: pairs that were judged: of each query which candidates are right answers, and which not. Mapped.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 64 | 8 · (rows + 1) | where the verdicts of the row at each place begin, with their number at the end, u64 |
//! | … | 4 · verdicts | place of the candidate, bit 31 set where it is a right answer, u32; by row, places rise |
//!
//! Header fields: rows, rows and documents, verdicts. Memory: none but the map.

use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};
use crate::run::sealed::{FileFormat, PartWriter, Sealed};
use crate::vectors::{Place, ROWS_MAX};

/// Format of the file.
pub(crate) const VERDICTS: FileFormat = FileFormat { magic: *b"BMVERDCT", version: 1, name: "verdict" };
const POSITIVE: u32 = 1 << 31;

/// The verdict on a query and a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PairVerdict {
    /// Whose query.
    pub query: Place,
    /// Whose positive, or which document.
    pub candidate: Place,
    /// It is a right answer.
    pub positive: bool,
}

/// Writes the file. Verdicts are sorted, each pair once, of queries below `rows` and candidates below `candidates`.
///
/// # Errors
/// The disk fails.
pub(crate) fn write(out: &mut PartWriter, rows: u32, candidates: u32, verdicts: &[PairVerdict]) -> std::io::Result<()> {
    debug_assert!(verdicts.is_sorted_by(|a, b| (a.query, a.candidate) < (b.query, b.candidate)), "sorted, each once");
    out.write_all(&VERDICTS.header([rows.into(), candidates.into(), verdicts.len() as u64, 0, 0, 0]))?;
    let mut begin = 0;
    for row in 0..=rows {
        begin += verdicts[begin..].iter().take_while(|verdict| verdict.query.number() < row).count();
        out.write_all(&(begin as u64).to_le_bytes())?;
    }
    for verdict in verdicts {
        let bit = if verdict.positive { POSITIVE } else { 0 };
        out.write_all(&(verdict.candidate.number() | bit).to_le_bytes())?;
    }
    out.seal()
}

/// The verdicts of all rows.
#[derive(Debug, Clone)]
pub(crate) struct Verdicts {
    sealed: Sealed,
    rows: usize,
}

impl Verdicts {
    /// Maps a file, and checks every value; `rows` and `candidates`, where they are known. O(rows + verdicts).
    ///
    /// # Errors
    /// The file is not complete or of other rows, or a value is out of range.
    pub(crate) fn open(path: &Path, known: Option<[u32; 2]>) -> Result<Verdicts> {
        let sealed = Sealed::open(path, &VERDICTS)?;
        sealed.check()?;
        let [rows, candidates, count, ..] = sealed.fields;
        let is_right = known.is_none_or(|known| known.map(u64::from) == [rows, candidates]);
        let bytes = rows.checked_add(1).and_then(|words| words.checked_mul(8));
        let bytes = bytes.and_then(|bytes| bytes.checked_add(count.checked_mul(4)?));
        sealed.expect_payload(bytes.filter(|_| is_right && rows <= candidates && candidates <= ROWS_MAX))?;
        let found = Verdicts { rows: rows as usize, sealed };
        if found.is_sound(count, candidates as u32) {
            return Ok(found);
        }
        Err(Error::runtime("a file of verdicts is inconsistent")
            .path(path)
            .expected("offsets that rise from 0 to the number of verdicts, and rising places in each row")
            .found("others")
            .remedy("the file is damaged: delete it and run `mine` again"))
    }

    fn is_sound(&self, count: u64, candidates: u32) -> bool {
        let (offsets, all) = self.parts();
        let place = |verdict: &u32| verdict & !POSITIVE;
        offsets.first() == Some(&0)
            && offsets.last() == Some(&count)
            && offsets.is_sorted()
            && all.iter().all(|verdict| place(verdict) < candidates)
            && offsets
                .windows(2)
                .all(|row| all[row[0] as usize..row[1] as usize].is_sorted_by(|a, b| place(a) < place(b)))
    }

    fn parts(&self) -> (&[u64], &[u32]) {
        let (offsets, verdicts) = self.sealed.payload().split_at(8 * (self.rows + 1));
        (bytemuck::cast_slice(offsets), bytemuck::cast_slice(verdicts))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.sealed.fields[2]
    }

    /// What was judged of the row at a place.
    #[inline]
    pub(crate) fn of(&self, place: Place) -> RowVerdicts<'_> {
        let (offsets, verdicts) = self.parts();
        let row = place.index();
        RowVerdicts(&verdicts[offsets[row] as usize..offsets[row + 1] as usize])
    }

    /// All verdicts, sorted.
    pub(crate) fn all(&self) -> impl Iterator<Item = PairVerdict> + '_ {
        (0..self.rows as u32).map(Place::new).flat_map(|query| {
            self.of(query).all().map(move |(candidate, positive)| PairVerdict { query, candidate, positive })
        })
    }
}

/// What was judged of one query: candidates' places, ascending, with a bit for right answers.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RowVerdicts<'a>(&'a [u32]);

impl<'a> RowVerdicts<'a> {
    /// Whether nothing was judged.
    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Whether a candidate was judged a right answer; `None`: it was not judged. O(log verdicts).
    #[inline]
    pub(crate) fn on(self, candidate: Place) -> Option<bool> {
        let at = self.0.binary_search_by_key(&candidate.number(), |verdict| verdict & !POSITIVE).ok()?;
        Some(self.0[at] & POSITIVE != 0)
    }

    /// Candidates that were judged, each with whether it is a right answer.
    pub(crate) fn all(self) -> impl Iterator<Item = (Place, bool)> + use<'a> {
        self.0.iter().map(|verdict| (Place::new(verdict & !POSITIVE), verdict & POSITIVE != 0))
    }

    /// Candidates that were judged right answers.
    pub(crate) fn positives(self) -> impl Iterator<Item = Place> + use<'a> {
        self.all().filter(|(_, positive)| *positive).map(|(candidate, _)| candidate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::testing::{refused, write_sealed};

    #[test]
    fn verdicts_are_found_by_query_and_candidate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("verdicts.col");
        let open = |fields: [u64; 3], offsets: &[u64], verdicts: &[u32]| {
            let payload = [bytemuck::cast_slice::<u64, u8>(offsets), bytemuck::cast_slice(verdicts)].concat();
            write_sealed(&path, &VERDICTS, [fields[0], fields[1], fields[2], 0, 0, 0], &payload);
            Verdicts::open(&path, Some([3, 5]))
        };
        let (offsets, judged) = ([0, 2, 2, 3], [1, 4 | POSITIVE, 0]);
        let sound = open([3, 5, 3], &offsets, &judged).unwrap();
        let on = |query, candidate| sound.of(Place::new(query)).on(Place::new(candidate));
        assert_eq!(
            [on(0, 1), on(0, 4), on(0, 2), on(1, 1), on(2, 0)],
            [Some(false), Some(true), None, None, Some(false)]
        );
        assert_eq!(sound.of(Place::new(0)).positives().collect::<Vec<_>>(), [Place::new(4)]);
        assert_eq!((sound.count(), sound.all().count(), sound.of(Place::new(1)).is_empty()), (3, 3, true));
        refused(&path, open([2, 5, 3], &offsets, &judged));
        refused(&path, open([3, 6, 3], &offsets, &judged));
        refused(&path, open([3, 5, u64::MAX], &offsets, &judged));
        for offsets in [[0, 2, 1, 3], [1, 2, 2, 3], [0, 2, 2, 2], [0, u64::MAX, 2, 3]] {
            refused(&path, open([3, 5, 3], &offsets, &judged));
        }
        for judged in [[1, 5, 0], [1, 1 | POSITIVE, 0], [4, 1, 0], [1, u32::MAX, 0]] {
            refused(&path, open([3, 5, 3], &offsets, &judged));
        }
    }
}

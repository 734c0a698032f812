//! `marks-*.bit`: which candidates of each list are too close on the other side: their queries, or their positives,
//! score above a limit (`--max-query-score`, `--max-positive-score`). Only runs with such a limit have them.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 64 | 8 · rows · words | for each place the marks of its list, u64: rank r is bit r mod 64 of word ⌊r / 64⌋ |
//!
//! Header fields: first place, rows, words of a row. Memory: none but the maps.

use std::io::Write;
use std::path::Path;

use rayon::prelude::*;

use super::file::{Block, Neighbors};
use crate::config::ScoreLimits;
use crate::error::{Error, Result};
use crate::run::sealed::{FileFormat, PartWriter, Sealed};
use crate::vectors::{Place, PlaceRange, ROWS_MAX, SideScorer, Vectors};

/// Format of the marks of a block of lists.
pub(crate) const MARKS: FileFormat = FileFormat { magic: *b"BMCMARKS", version: 1, name: "mark" };
const DAMAGED: &str = "the file is damaged: delete it and run `mine` again";
const WORD: usize = u64::BITS as usize;

/// Words that the marks of so many ranks take.
pub(crate) fn words_of(ranks: usize) -> usize {
    ranks.div_ceil(WORD)
}

/// Whether a rank is marked.
#[inline]
pub(crate) fn is_marked(words: &[u64], rank: usize) -> bool {
    words.get(rank / WORD).is_some_and(|word| word >> (rank % WORD) & 1 == 1)
}

/// Marks the candidates of a list whose queries or positives score above a limit with the row's own; `words` are zero.
/// O(candidates · dim).
pub(crate) fn mark(
    limits: &ScoreLimits,
    place: Place,
    neighbors: &Neighbors,
    scorer: &mut SideScorer<'_>,
    words: &mut [u64],
) {
    let row = neighbors.row_at(place);
    for (rank, other) in neighbors.of(place).iter().enumerate() {
        // Of a positive that many rows have, the one that the edge leads to.
        let other = &neighbors.candidates().map_or(*other, |candidates| candidates.carrier(place, *other));
        if limits.are_sides_too_close(scorer.pair(row, neighbors.row_at(*other))) {
            words[rank / WORD] |= 1 << (rank % WORD);
        }
    }
}

/// The marks of a block's lists, `words` for each. O(candidates · dim).
pub(crate) fn of_block<'l>(
    vectors: &Vectors,
    neighbors: &Neighbors,
    block: &Block,
    words: usize,
    limits: impl Fn(Place) -> &'l ScoreLimits + Sync,
) -> Vec<u64> {
    let mut marks = vec![0; block.range().len() * words];
    let first = block.range().start.number();
    marks.par_chunks_mut(words).enumerate().for_each_init(
        || SideScorer::new(vectors),
        |scorer, (index, words)| {
            let place = Place::new(first + index as u32);
            if limits(place).of_sides() {
                mark(limits(place), place, neighbors, scorer, words);
            }
        },
    );
    marks
}

/// Writes the marks of consecutive places.
pub(crate) fn write(out: &mut PartWriter, places: PlaceRange, words: usize, marks: &[u64]) -> std::io::Result<()> {
    out.write_all(&MARKS.header([places.start.number().into(), places.len() as u64, words as u64, 0, 0, 0]))?;
    marks.iter().try_for_each(|word| out.write_all(&word.to_le_bytes()))?;
    out.seal()
}

/// The places of a file of marks, and words of each.
///
/// # Errors
/// It is not what was written.
pub(crate) fn shape_of(path: &Path) -> Result<(PlaceRange, usize)> {
    MarkBlock::open(path).map(|block| (block.places, block.words))
}

/// The marks of consecutive places.
#[derive(Debug, Clone)]
pub(crate) struct MarkBlock {
    sealed: Sealed,
    places: PlaceRange,
    words: usize,
}

impl MarkBlock {
    /// Maps a file, and reads all of it.
    ///
    /// # Errors
    /// It is not what was written.
    pub(crate) fn open(path: &Path) -> Result<MarkBlock> {
        let sealed = Sealed::open(path, &MARKS)?;
        let [first, rows, words, ..] = sealed.fields;
        // A list has a word at least: else rows would take no bytes.
        let end = first.checked_add(rows).filter(|end| *end <= ROWS_MAX && words > 0);
        let bytes = rows.checked_mul(words).and_then(|n| n.checked_mul(8));
        sealed.expect_payload(bytes.filter(|_| end.is_some()))?;
        sealed.check()?;
        let places = PlaceRange::new(first as u32, end.unwrap_or(0) as u32);
        Ok(MarkBlock { places, words: usize::try_from(words).unwrap_or(0), sealed })
    }

    /// The places of the rows whose marks it has.
    pub(crate) fn places(&self) -> PlaceRange {
        self.places
    }

    /// The marks of the list of the row at a place; none where the place is another block's.
    pub(crate) fn of(&self, place: Place) -> &[u64] {
        let words: &[u64] = bytemuck::cast_slice(self.sealed.payload());
        match self.places.contains(place) {
            true => &words[(place.index() - self.places.start.index()) * self.words..][..self.words],
            false => &[],
        }
    }
}

/// The marks of all lists.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    blocks: Vec<MarkBlock>,
    block_rows: usize,
}

impl Marks {
    /// Maps the marks of all blocks of lists, whose files are in their order.
    ///
    /// # Errors
    /// A file is not what was written, or of other lists.
    pub(crate) fn open<P: AsRef<Path>>(paths: &[P], neighbors: &Neighbors, words: usize) -> Result<Marks> {
        let mut blocks = Vec::with_capacity(paths.len());
        for (path, lists) in paths.iter().zip(neighbors.blocks()) {
            let block = MarkBlock::open(path.as_ref())?;
            if (block.places, block.words) != (lists.range(), words) {
                return Err(Error::runtime("a file of marks is not that of its lists")
                    .path(path.as_ref())
                    .expected(format!("places {:?}, {words} words each", lists.range()))
                    .found(format!("places {:?}, {} words each", block.places, block.words))
                    .remedy(DAMAGED));
            }
            blocks.push(block);
        }
        let block_rows = blocks.first().map_or(1, |block| block.places.len().max(1));
        Ok(Marks { blocks, block_rows })
    }

    /// The marks of the list of the row at a place.
    #[inline]
    pub(crate) fn of(&self, place: Place) -> &[u64] {
        self.blocks.get(place.index() / self.block_rows).map_or(&[], |block| block.of(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_bits_by_rank() {
        let words = [1 << 63 | 1, 2];
        let marked: Vec<usize> = (0..200).filter(|rank| is_marked(&words, *rank)).collect();
        assert_eq!(marked, [0, 63, 65]);
        assert_eq!([0, 1, 64, 65, 128].map(words_of), [0, 1, 1, 2, 2]);
    }
}

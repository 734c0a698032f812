//! `block-*.nbr`: the lists of a block of consecutive places, and all blocks together.
//!
//! From here on through edges and clusters a row is known by its [`Place`], its position in the
//! [IVF order](super::ivf), so that rows with many common neighbors lie close to each other in files and tables.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 64 | 4 · rows | length of each row's list, u32 |
//! | | 4 · rows · stride | places of base rows in rank order, u32, `0xFFFFFFFF` beyond a list's length |
//! | | 4 · rows · stride | their scores, f32, 0 beyond a list's length |
//!
//! Header fields: first place, rows, stride. Memory: none but the maps.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rayon::prelude::*;

use super::candidates::Candidates;
use super::ivf::{IVF_FILE, IvfIndex};
use super::topk::Candidate;
use crate::error::{Error, Result};
use crate::run::sealed::{FileFormat, PartWriter, Sealed};
use crate::vectors::{Place, PlaceRange, ROWS_MAX, RowId, Vectors};

/// Format of a block.
pub(crate) const NEIGHBORS: FileFormat = FileFormat { magic: *b"BMNEIGHB", version: 3, name: "neighbor" };
const DAMAGED: &str = "the file is damaged: delete it and run `mine` again";

/// Name of the `index`-th block in the order of places.
pub(crate) fn block_name(index: usize) -> String {
    format!("block-{index:06}.nbr")
}

/// Writes the lists of consecutive places, each (place, score) in rank order; `stride` is the longest list possible.
pub(crate) fn write_block(
    out: &mut PartWriter,
    first_place: Place,
    stride: usize,
    lists: &[Vec<(Place, f32)>],
) -> std::io::Result<()> {
    out.write_all(&NEIGHBORS.header([u64::from(first_place.number()), lists.len() as u64, stride as u64, 0, 0, 0]))?;
    for list in lists {
        out.write_all(&(list.len() as u32).to_le_bytes())?;
    }
    let padded = |list: &[(Place, f32)]| std::iter::repeat_n((Place::NONE, 0.0), stride - list.len());
    for list in lists {
        for (place, _) in list.iter().copied().chain(padded(list)) {
            out.write_all(&place.number().to_le_bytes())?;
        }
    }
    for list in lists {
        for (_, score) in list.iter().copied().chain(padded(list)) {
            out.write_all(&score.to_le_bytes())?;
        }
    }
    out.seal()
}

#[derive(Debug, Clone)]
pub(crate) struct Block {
    sealed: Sealed,
    places: PlaceRange,
    stride: usize,
}

impl Block {
    /// Maps a block. What its lists hold is checked by [`Neighbors::check_lists`] only.
    ///
    /// # Errors
    /// The file is not a complete block.
    pub(crate) fn open(path: &Path) -> Result<Block> {
        let sealed = Sealed::open(path, &NEIGHBORS)?;
        let [first, rows, stride, ..] = sealed.fields;
        sealed.check_range(0..usize::try_from(rows).unwrap_or(usize::MAX).saturating_mul(4))?;
        let words = stride.checked_mul(2).and_then(|n| n.checked_add(1)).and_then(|n| n.checked_mul(rows));
        let end = first.checked_add(rows).filter(|end| *end <= ROWS_MAX);
        sealed.expect_payload(words.and_then(|n| n.checked_mul(4)).filter(|_| end.is_some()))?;
        let places = PlaceRange::new(first as u32, end.unwrap_or(0) as u32);
        let block = Block { places, stride: stride as usize, sealed };
        if block.words()[..places.len()].iter().any(|length| u64::from(*length) > stride) {
            return Err(Error::runtime("a neighbor file holds an impossible list length")
                .path(path)
                .expected(format!("at most {stride}"))
                .found("more")
                .remedy(DAMAGED));
        }
        Ok(block)
    }

    fn words(&self) -> &[u32] {
        bytemuck::cast_slice(self.sealed.payload())
    }

    /// Ranks that each list has room for.
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// Places of the rows whose lists it has.
    pub(crate) fn range(&self) -> PlaceRange {
        self.places
    }

    /// The places of the neighbors of the row at a place, in rank order.
    ///
    /// # Panics
    /// The place is not in [`Block::range`].
    pub(crate) fn neighbors(&self, place: Place) -> &[Place] {
        let index = place.index() - self.places.start.index();
        let words = self.words();
        bytemuck::cast_slice(&words[self.places.len() + index * self.stride..][..words[index] as usize])
    }

    /// Their scores.
    ///
    /// # Panics
    /// The place is not in [`Block::range`].
    pub(crate) fn scores(&self, place: Place) -> &[f32] {
        let (index, rows) = (place.index() - self.places.start.index(), self.places.len());
        let words = self.words();
        bytemuck::cast_slice(&words[rows + (rows + index) * self.stride..][..words[index] as usize])
    }

    /// Fails where a list is not what was written.
    fn check_bytes(&self, place: Place) -> Result<()> {
        let (index, rows) = (place.index() - self.places.start.index(), self.places.len());
        let list = |column: usize| {
            let start = 4 * (rows + (column * rows + index) * self.stride);
            self.sealed.check_range(start..start + 4 * self.stride)
        };
        list(0)?;
        list(1)
    }

    /// Fails where a list holds a place that is none of `rows`.
    fn check_list(&self, place: Place, rows: RowId) -> Result<()> {
        // The largest of all, so that the loop has no branch.
        let largest = self.neighbors(place).iter().fold(0, |largest, other| other.number().max(largest));
        if largest < rows || rows == 0 {
            return Ok(());
        }
        Err(Error::runtime("a neighbor list names a place that does not exist")
            .path(self.sealed.path())
            .expected(format!("places below {rows}"))
            .found(format!("{largest}, in the list of place {}", place.number()))
            .remedy(DAMAGED))
    }
}

/// The lists of all rows, and the IVF order that places count in.
#[derive(Debug, Clone)]
pub struct Neighbors {
    blocks: Vec<Block>,
    block_rows: usize,
    ivf: IvfIndex,
    /// Which rows share a positive, where ranks are those of distinct positives.
    candidates: Option<Candidates>,
    /// Set once every list is known to hold places of rows only.
    checked: OnceLock<()>,
}

impl Neighbors {
    /// Maps all blocks; `part` gives the path of the part of a name. The lists are not read: see
    /// [`Neighbors::check_lists`].
    ///
    /// # Errors
    /// A block is damaged, missing or out of place.
    pub(crate) fn open(
        part: &dyn Fn(&str) -> Result<PathBuf>,
        vectors: &Vectors,
        block_rows: usize,
        candidates: Option<Candidates>,
    ) -> Result<Neighbors> {
        let (rows, block_rows) = (vectors.row_count() as usize, block_rows.max(1));
        let count = rows.div_ceil(block_rows);
        let mut blocks = Vec::with_capacity(count);
        for index in 0..count {
            let path = part(&block_name(index))?;
            let block = Block::open(&path)?;
            let start = index * block_rows;
            let wanted = PlaceRange::new(start as u32, (start + block_rows.min(rows - start)) as u32);
            if block.range() != wanted {
                return Err(Error::runtime("a neighbor file covers other places than its name says")
                    .path(&path)
                    .expected(format!("places {wanted:?}"))
                    .found(format!("places {:?}", block.range()))
                    .remedy(DAMAGED));
            }
            blocks.push(block);
        }
        let ivf = IvfIndex::open(&part(IVF_FILE)?, vectors)?;
        Ok(Neighbors { blocks, block_rows, ivf, candidates, checked: OnceLock::new() })
    }

    /// Fails where a list holds a place that no row has. To be called before [`Neighbors::of`] gives indices of tables.
    ///
    /// The first call reads all lists, 8 · rows · stride bytes, in parallel: as much as one pass over the lists and
    /// their scores reads, at the speed of memory where they are cached. Further calls cost nothing.
    ///
    /// # Errors
    /// A block is damaged.
    pub(crate) fn check_lists(&self) -> Result<()> {
        if self.checked.get().is_none() {
            let rows = self.order().len() as RowId;
            // Who reads a place beyond the rows is shown where, before who reads what was not written.
            self.blocks.par_iter().try_for_each(|block| block.sealed.check())?;
            let check = |block: &Block| block.range().iter().try_for_each(|place| block.check_list(place, rows));
            self.blocks.par_iter().try_for_each(check)?;
            self.checked.get_or_init(|| ());
        }
        Ok(())
    }

    /// Does the same for the lists of some places, whose blocks are read whole.
    ///
    /// # Errors
    /// A block is damaged.
    pub(crate) fn check_lists_of(&self, places: PlaceRange) -> Result<()> {
        let rows = self.order().len() as RowId;
        let touched = |block: &&Block| block.range().start < places.end && places.start < block.range().end;
        self.blocks.iter().filter(touched).try_for_each(|block| {
            block.sealed.check()?;
            block.range().iter().try_for_each(|place| block.check_list(place, rows))
        })
    }

    /// Which rows share a positive, where ranks are those of distinct positives.
    #[inline]
    pub(crate) fn candidates(&self) -> Option<&Candidates> {
        self.candidates.as_ref()
    }

    /// The candidate whose positive a row has: itself, or who stands for its positive. A document stands for itself.
    #[inline]
    pub(crate) fn stands_for(&self, place: Place) -> Place {
        let known = self.candidates.as_ref().filter(|_| place.number() < self.row_count());
        known.map_or(place, |known| known.representative(place))
    }

    /// The rows that have a candidate's positive, which is no document.
    pub(crate) fn rows_behind(&self, candidate: Place) -> impl Iterator<Item = RowId> + '_ {
        let members = self.candidates.as_ref().map(|known| known.members(candidate));
        let single = members.is_none().then(|| self.row_at(candidate));
        members.into_iter().flatten().map(|place| self.row_at(*place)).chain(single)
    }

    /// The candidates whose positives some rows have, sorted.
    pub(crate) fn standing_for(&self, places: &[Place]) -> Vec<Place> {
        let mut standing: Vec<Place> = places.iter().map(|place| self.stands_for(*place)).collect();
        standing.sort_unstable();
        standing
    }

    /// How many rows there are: places from here on are documents'.
    pub(crate) fn row_count(&self) -> RowId {
        self.ivf.row_count()
    }

    /// The row or document at each place.
    pub(crate) fn order(&self) -> &[RowId] {
        self.ivf.order()
    }

    /// The row at each place of rows.
    pub(crate) fn row_order(&self) -> &[RowId] {
        &self.order()[..self.row_count() as usize]
    }

    /// The place of each row and document.
    pub(crate) fn places(&self) -> &[Place] {
        self.ivf.places()
    }

    #[inline]
    pub(crate) fn row_at(&self, place: Place) -> RowId {
        self.order()[place.index()]
    }

    #[inline]
    pub(crate) fn place_of(&self, row: RowId) -> Place {
        self.places()[row as usize]
    }

    /// A row's candidates, as rows, in rank order.
    ///
    /// # Errors
    /// The list holds a place that no row has.
    pub(crate) fn of_row(&self, row: RowId) -> Result<Vec<Candidate>> {
        let (place, order) = (self.place_of(row), self.order());
        let block = self.block_of(place);
        block.check_bytes(place)?;
        block.check_list(place, order.len() as RowId)?;
        let list = block.neighbors(place).iter().zip(block.scores(place));
        Ok(list.map(|(other, score)| Candidate { row: order[other.index()], score: *score }).collect())
    }

    /// The blocks, in the order of places.
    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    fn block_of(&self, place: Place) -> &Block {
        &self.blocks[place.index() / self.block_rows]
    }

    /// The places of the neighbors of the row at a place, in rank order.
    pub(crate) fn of(&self, place: Place) -> &[Place] {
        self.block_of(place).neighbors(place)
    }

    /// Their scores.
    pub(crate) fn scores(&self, place: Place) -> &[f32] {
        self.block_of(place).scores(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::testing::{refused, write_sealed};

    /// Payload of lists by place: their lengths, places and scores.
    fn payload(lists: &[&[u32]], stride: usize) -> Vec<u8> {
        let padded = |list: &[u32]| list.iter().copied().chain(std::iter::repeat(u32::MAX)).take(stride).collect();
        let places: Vec<Vec<u32>> = lists.iter().map(|list| padded(list)).collect();
        let lengths = lists.iter().map(|list| list.len() as u32);
        let words = lengths.chain(places.concat()).chain(vec![0; lists.len() * stride]);
        words.flat_map(u32::to_le_bytes).collect()
    }

    #[test]
    fn damaged_headers_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(block_name(0));
        let payload = payload(&[&[1, 2], &[0]], 2);
        let open = |fields| {
            write_sealed(&path, &NEIGHBORS, fields, &payload);
            Block::open(&path)
        };
        let block = open([7, 2, 2, 0, 0, 0]).unwrap();
        assert_eq!(block.range(), PlaceRange::new(7, 9));
        assert_eq!(block.neighbors(Place::new(8)), [Place::new(0)]);
        assert_eq!(block.scores(Place::new(7)), [0.0, 0.0]);
        let most = u64::MAX;
        for fields in [
            [most, 2, 2],
            [most - 1, 2, 2],
            [ROWS_MAX - 1, 2, 2],
            [7, most, 2],
            [7, 0, 2],
            [7, 2, most],
            [7, 2, most / 2],
            [7, 1 << 62, 0],
            [7, 10, 0],
            [7, 1, 0],
            [7, 2, 1],
        ] {
            refused(&path, open([fields[0], fields[1], fields[2], 0, 0, 0]));
        }
    }

    #[test]
    fn places_that_no_row_has_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(block_name(0));
        for (lists, sound) in [([&[1, 2][..], &[0]], true), ([&[1, 3], &[0]], false), ([&[1, u32::MAX], &[0]], false)] {
            write_sealed(&path, &NEIGHBORS, [0, 2, 2, 0, 0, 0], &payload(&lists, 2));
            let checked = Block::open(&path).unwrap().check_list(Place::new(0), 3);
            match sound {
                true => checked.unwrap(),
                false => refused(&path, checked),
            }
        }
    }

    #[test]
    fn a_list_longer_than_the_stride_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(block_name(0));
        let mut payload = payload(&[&[1, 2], &[0]], 2);
        payload[0] = 3;
        write_sealed(&path, &NEIGHBORS, [0, 2, 2, 0, 0, 0], &payload);
        refused(&path, Block::open(&path));
    }
}

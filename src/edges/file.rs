//! `*.edg`: edges of consecutive places in compressed blocks; runs and the final graph alike.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 64 | | blocks, each one zstd frame of [`super::codec`]'s bytes |
//! | | 40 · blocks | index, an entry a block |
//!
//! An entry: offset u64, bytes u32, decoded bytes u32, first place u32, rows u32, arcs u64, xxh3-64 of the frame u64.
//! Header fields: first place, rows, arcs (the number of edges), blocks, rows of the whole graph. A block ends with the
//! row that fills it. Memory: the index; decoded blocks are the reader's.

use std::cell::RefCell;
use std::io::Write;
use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64;
use zstd::bulk::{Compressor, Decompressor};

use super::codec;
use super::rows::{Adjacency, Edge, EdgeRows};
use crate::error::{Error, Result};
use crate::run::sealed::{FileFormat, PartWriter, Sealed, u32_at, u64_at};
use crate::vectors::{Place, PlaceRange, ROWS_MAX};

/// Format of runs and ranges.
pub(crate) const EDGES: FileFormat = FileFormat { magic: *b"BMEDGES\0", version: 3, name: "edge" };
/// A block ends with the row that brings it to this many edges ...
pub(crate) const BLOCK_EDGES: usize = 8192;
/// ... or to this many rows.
const BLOCK_ROWS: usize = 4096;
const ENTRY_BYTES: usize = 40;
const ZSTD_LEVEL: i32 = 1;

/// One block of a file, as its index has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct BlockEntry {
    offset: u64,
    bytes: u32,
    decoded_bytes: u32,
    first_place: Place,
    rows: u32,
    edges: u64,
    /// Of the frame.
    checksum: u64,
}

impl BlockEntry {
    fn read(payload: &[u8], at: usize) -> BlockEntry {
        BlockEntry {
            offset: u64_at(payload, at),
            bytes: u32_at(payload, at + 8),
            decoded_bytes: u32_at(payload, at + 12),
            first_place: Place::new(u32_at(payload, at + 16)),
            rows: u32_at(payload, at + 20),
            edges: u64_at(payload, at + 24),
            checksum: u64_at(payload, at + 32),
        }
    }

    fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        out.write_all(&self.offset.to_le_bytes())?;
        for word in [self.bytes, self.decoded_bytes, self.first_place.number(), self.rows] {
            out.write_all(&word.to_le_bytes())?;
        }
        out.write_all(&self.edges.to_le_bytes())?;
        out.write_all(&self.checksum.to_le_bytes())
    }

    /// Whether the writer can have made such a block of a graph of so many rows: without this a damaged file could ask
    /// for 4 GiB a block. The last row of a block may have an edge to every row.
    fn is_possible(&self, graph_rows: u64) -> bool {
        let most = codec::most_bytes(u64::from(self.rows), self.edges);
        (1..=BLOCK_ROWS as u32).contains(&self.rows)
            && self.edges <= BLOCK_EDGES as u64 + graph_rows
            && most.is_some_and(|most| u64::from(self.decoded_bytes) <= most)
    }
}

/// Encoded blocks of consecutive places, in memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct EncodedRange {
    /// Frames, one after the other, in as many pieces as were appended: they are never copied together.
    pieces: Vec<Vec<u8>>,
    bytes: u64,
    index: Vec<BlockEntry>,
}

impl EncodedRange {
    /// Appends rows whose edges end at `ends`, as one block. O(edges).
    ///
    /// # Errors
    /// zstd fails.
    fn push(&mut self, first_place: Place, ends: &[u32], edges: &[Edge]) -> std::io::Result<()> {
        let mut raw = Vec::new();
        codec::encode(ends, edges, &mut raw);
        let frame = compress(&raw)?;
        let too_long = |_| std::io::Error::other("the edges of one row exceed a block");
        self.index.push(BlockEntry {
            offset: self.bytes,
            bytes: u32::try_from(frame.len()).map_err(too_long)?,
            decoded_bytes: u32::try_from(raw.len()).map_err(too_long)?,
            first_place,
            rows: ends.len() as u32,
            edges: edges.len() as u64,
            checksum: xxh3_64(&frame),
        });
        self.bytes += frame.len() as u64;
        match self.pieces.last_mut() {
            Some(piece) => piece.extend(frame),
            None => self.pieces.push(frame),
        }
        Ok(())
    }

    /// Appends the blocks of the places that follow.
    pub(crate) fn append(&mut self, other: EncodedRange) {
        let base = self.bytes;
        self.bytes += other.bytes;
        self.pieces.extend(other.pieces);
        self.index.extend(other.index.into_iter().map(|entry| BlockEntry { offset: base + entry.offset, ..entry }));
    }

    /// Blocks of places that follow each other, as one.
    pub(crate) fn joined(ranges: Vec<EncodedRange>) -> EncodedRange {
        let mut whole = EncodedRange::default();
        ranges.into_iter().for_each(|range| whole.append(range));
        whole
    }

    /// Gives back what was reserved for more.
    #[must_use]
    fn trimmed(mut self) -> EncodedRange {
        self.pieces.iter_mut().for_each(Vec::shrink_to_fit);
        self
    }

    /// Writes the file for some places of a graph of `graph_rows` rows.
    ///
    /// # Errors
    /// The write fails.
    pub(crate) fn write(&self, out: &mut PartWriter, places: PlaceRange, graph_rows: usize) -> std::io::Result<()> {
        let (first, edges) = (u64::from(places.start.number()), self.index.iter().map(|entry| entry.edges).sum());
        let fields = [first, places.len() as u64, edges, self.index.len() as u64, graph_rows as u64, 0];
        out.write_all(&EDGES.header(fields))?;
        self.pieces.iter().try_for_each(|piece| out.write_all(piece))?;
        self.index.iter().try_for_each(|entry| entry.write(out))?;
        out.seal()
    }
}

/// Cuts consecutive rows into blocks, as ranges of indices. Pure.
fn cut_blocks(ends: &[u32]) -> Vec<Range<usize>> {
    let mut blocks = Vec::new();
    let (mut row, mut edges) = (0, 0);
    for (index, end) in ends.iter().enumerate() {
        if (end - edges) as usize >= BLOCK_EDGES || index + 1 - row >= BLOCK_ROWS {
            blocks.push(row..index + 1);
            (row, edges) = (index + 1, *end);
        }
    }
    if row < ends.len() {
        blocks.push(row..ends.len());
    }
    blocks
}

/// Encodes consecutive rows block by block. O(edges).
///
/// # Errors
/// zstd fails.
pub(crate) fn encode_rows(first_place: Place, ends: &[u32], edges: &[Edge]) -> Result<EncodedRange> {
    let mut range = EncodedRange::default();
    for block in cut_blocks(ends) {
        let start = if block.start == 0 { 0 } else { ends[block.start - 1] };
        let local: Vec<u32> = ends[block.clone()].iter().map(|end| end - start).collect();
        let edges = &edges[start as usize..ends[block.end - 1] as usize];
        let place = Place::new(first_place.number() + block.start as u32);
        range.push(place, &local, edges).map_err(|e| {
            Error::runtime("edges cannot be compressed").found(e.to_string()).remedy("run the same command again")
        })?;
    }
    Ok(range.trimmed())
}

#[derive(Debug, Clone)]
pub(crate) struct EdgePart {
    sealed: Sealed,
    index: Vec<BlockEntry>,
    places: PlaceRange,
    graph_rows: u32,
}

impl EdgePart {
    /// Maps a file and checks its index.
    ///
    /// # Errors
    /// The file is not complete or its index is not sound.
    pub(crate) fn open(path: &Path) -> Result<EdgePart> {
        let sealed = Sealed::open(path, &EDGES)?;
        let [first, rows, .., graph_rows, _] = sealed.fields;
        let end = first.checked_add(rows).filter(|end| *end <= graph_rows && graph_rows <= ROWS_MAX);
        let index = usize::try_from(sealed.fields[3]).unwrap_or(usize::MAX).saturating_mul(ENTRY_BYTES);
        let payload = sealed.payload().len();
        sealed.check_range(payload.saturating_sub(index)..payload)?;
        let sound = end.and_then(|end| Some((end, read_index(&sealed, end)?)));
        let Some((end, index)) = sound else {
            return Err(Error::runtime("an edge file's index is damaged")
                .path(path)
                .expected("blocks that follow each other and cover all rows")
                .found("something else")
                .remedy("delete the file and run `mine` again"));
        };
        let places = PlaceRange::new(first as u32, end as u32);
        Ok(EdgePart { sealed, index, places, graph_rows: graph_rows as u32 })
    }

    /// The places that a file of a graph of so many rows has; none where the graph has another number.
    pub(crate) fn places_of(&self, graph_rows: u32) -> PlaceRange {
        if self.graph_rows == graph_rows { self.places } else { PlaceRange::default() }
    }

    /// Edges of all blocks.
    pub(crate) fn edges(&self) -> u64 {
        self.index.iter().map(|entry| entry.edges).sum()
    }

    /// Blocks that hold any of some places.
    pub(crate) fn blocks_of(&self, places: PlaceRange) -> Range<usize> {
        let (first, end) = (places.start.number(), places.end.number());
        let start = self.index.partition_point(|entry| entry.first_place.number() + entry.rows <= first);
        let end = self.index.partition_point(|entry| entry.first_place.number() < end);
        start..end.max(start)
    }

    /// Decodes a block.
    ///
    /// # Errors
    /// Its checksum is wrong, or it is no block.
    pub(crate) fn read(&self, block: usize, into: &mut Adjacency) -> Result<()> {
        let entry = &self.index[block];
        let frame = &self.sealed.payload()[entry.offset as usize..][..entry.bytes as usize];
        let damaged = |found: String| {
            Error::runtime("a block of an edge file is damaged")
                .path(self.sealed.path())
                .row(u64::from(entry.first_place.number()))
                .expected(format!("{} rows with {} edges", entry.rows, entry.edges))
                .found(found)
                .remedy("delete the file and run `mine` again")
        };
        if xxh3_64(frame) != entry.checksum {
            return Err(damaged("another checksum".into()));
        }
        into.scratch.resize(entry.decoded_bytes as usize, 0);
        let length = decompress(frame, &mut into.scratch).map_err(|e| damaged(e.to_string()))?;
        let scratch = std::mem::take(&mut into.scratch);
        let decoded = codec::decode(&scratch[..length], entry.rows as usize, self.graph_rows, into);
        into.scratch = scratch;
        into.first_place = entry.first_place;
        match decoded {
            Some(()) if into.edges.len() as u64 == entry.edges => Ok(()),
            _ => Err(damaged("bytes that are no block".into())),
        }
    }

    pub(crate) fn sealed(&self) -> &Sealed {
        &self.sealed
    }
}

/// The index of a file whose rows end before `end`; `None` where it is not sound. What is returned fits the payload: no
/// block reaches beyond it, and no sum over the blocks overflows.
fn read_index(sealed: &Sealed, end: u64) -> Option<Vec<BlockEntry>> {
    let [first, _, edges, blocks, graph_rows, _] = sealed.fields;
    let payload = sealed.payload();
    let index_bytes = usize::try_from(blocks).ok()?.checked_mul(ENTRY_BYTES)?;
    let index_at = payload.len().checked_sub(index_bytes)?;
    let mut index = Vec::with_capacity(blocks as usize);
    let (mut offset, mut place, mut total) = (0u64, first, 0u64);
    for at in (index_at..payload.len()).step_by(ENTRY_BYTES) {
        let entry = BlockEntry::read(payload, at);
        let follows = entry.offset == offset && u64::from(entry.first_place.number()) == place;
        if !follows || !entry.is_possible(graph_rows) {
            return None;
        }
        offset = offset.checked_add(u64::from(entry.bytes)).filter(|offset| *offset <= index_at as u64)?;
        place = place.checked_add(u64::from(entry.rows)).filter(|place| *place <= end)?;
        total = total.checked_add(entry.edges)?;
        index.push(entry);
    }
    (offset == index_at as u64 && place == end && total == edges).then_some(index)
}

/// The whole graph: all its files, as one list of blocks.
#[derive(Debug, Clone)]
pub struct EdgeFile {
    parts: Vec<EdgePart>,
    first_block: Vec<usize>,
    rows: u32,
}

impl EdgeFile {
    /// Maps the files, which must cover places 0..`rows` in order.
    ///
    /// # Errors
    /// A file is damaged or out of place.
    pub(crate) fn open(paths: &[std::path::PathBuf], rows: u32) -> Result<EdgeFile> {
        let parts = paths.par_iter().map(|path| EdgePart::open(path)).collect::<Result<Vec<_>>>()?;
        let (mut next, mut blocks, mut first_block) = (Place::new(0), 0, Vec::with_capacity(parts.len()));
        for part in &parts {
            if part.places.start != next || part.graph_rows != rows {
                return Err(Error::runtime("an edge file is missing or out of place")
                    .path(part.sealed.path())
                    .expected(format!("rows from {} on, of {rows}", next.number()))
                    .found(format!("rows {:?}, of {}", part.places, part.graph_rows))
                    .remedy("run `mine` again"));
            }
            next = part.places.end;
            first_block.push(blocks);
            blocks += part.index.len();
        }
        if next.number() != rows {
            return Err(Error::runtime("the graph's last edge file is missing")
                .expected(format!("rows up to {rows}"))
                .found(format!("rows up to {}", next.number()))
                .remedy("run `mine` again"));
        }
        first_block.push(blocks);
        Ok(EdgeFile { parts, first_block, rows })
    }

    /// Edges in all, each counted from both ends.
    pub fn edges(&self) -> u64 {
        self.parts.iter().map(EdgePart::edges).sum()
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.sealed.payload().len() as u64).sum()
    }

    fn locate(&self, block: usize) -> (&EdgePart, usize) {
        let part = self.first_block.partition_point(|first| *first <= block) - 1;
        (&self.parts[part], block - self.first_block[part])
    }

    /// The block that has the row at a place. O(log blocks).
    pub(crate) fn block_of(&self, place: Place) -> usize {
        let part = self.parts.partition_point(|part| part.places.end <= place);
        let places = PlaceRange { start: place, end: Place::new(place.number() + 1) };
        self.first_block[part] + self.parts[part].blocks_of(places).start
    }
}

impl EdgeRows for EdgeFile {
    fn rows(&self) -> u32 {
        self.rows
    }

    fn blocks(&self) -> usize {
        self.first_block.last().copied().unwrap_or(0)
    }

    fn read(&self, block: usize, into: &mut Adjacency) -> Result<()> {
        let (part, block) = self.locate(block);
        part.read(block, into)
    }
}

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

/// Frees what the threads of this pool compress with, some MiB each: later stages only read the graph.
pub(super) fn release_compressors() {
    rayon::broadcast(|_| COMPRESSOR.take());
}

/// Compresses a frame with a context that each thread makes once.
fn compress(raw: &[u8]) -> std::io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|context| match context {
        Some(context) => context.compress(raw),
        None => context.insert(Compressor::new(ZSTD_LEVEL)?).compress(raw),
    })
}

/// Decompresses a frame with a context that each thread makes once: making one takes as long as a small frame.
fn decompress(frame: &[u8], out: &mut [u8]) -> std::io::Result<usize> {
    thread_local! {
        static CONTEXT: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
    }
    CONTEXT.with_borrow_mut(|context| match context {
        Some(context) => context.decompress_to_buffer(frame, out),
        None => context.insert(Decompressor::new()?).decompress_to_buffer(frame, out),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::edges::Relation;
    use crate::vectors::testing::{refused, write_sealed};

    const ROWS: u32 = 5000;

    /// Header fields and payload of a graph in two blocks: each row has an edge to the next.
    fn graph() -> ([u64; 6], Vec<u8>) {
        let edges: Vec<Edge> =
            (1..ROWS).map(|other| Edge { other: Place::new(other), relation: Relation::WINDOW }).collect();
        let ends: Vec<u32> = (1..ROWS).chain([ROWS - 1]).collect();
        let range = encode_rows(Place::new(0), &ends, &edges).unwrap();
        let mut payload = range.pieces.concat();
        range.index.iter().for_each(|entry| entry.write(&mut payload).unwrap());
        ([0, u64::from(ROWS), edges.len() as u64, range.index.len() as u64, u64::from(ROWS), 0], payload)
    }

    /// Opens the file and decodes every block.
    fn read_all(path: &Path) -> Result<Vec<Adjacency>> {
        let part = EdgePart::open(path)?;
        let read = |block| {
            let mut into = Adjacency::default();
            part.read(block, &mut into).map(|()| into)
        };
        part.blocks_of(part.places).map(read).collect()
    }

    #[test]
    fn a_graph_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("graph.edg");
        let (fields, payload) = graph();
        write_sealed(&path, &EDGES, fields, &payload);
        let blocks = read_all(&path).unwrap();
        assert_eq!(blocks.len(), 2);
        assert_eq!(blocks[1].places(), PlaceRange::new(BLOCK_ROWS as u32, ROWS));
        assert_eq!(blocks[1].at(Place::new(4999)), Some(&[][..]));
        assert_eq!(blocks[0].at(Place::new(7)).unwrap()[0].other, Place::new(8));
        assert_eq!(blocks[0].at(Place::new(4999)), None);
    }

    #[test]
    fn a_block_cannot_ask_for_more_memory_than_its_rows_and_edges_need() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("graph.edg");
        let (fields, mut payload) = graph();
        let decoded_bytes = payload.len() - 2 * ENTRY_BYTES + 12;
        payload[decoded_bytes..][..4].copy_from_slice(&u32::MAX.to_le_bytes());
        write_sealed(&path, &EDGES, fields, &payload);
        refused(&path, EdgePart::open(&path));
    }

    proptest! {
        #[test]
        fn damaged_headers_and_indexes_never_panic(
            word in 0usize..16,
            number in prop_oneof![
                any::<u64>(), 0u64..10_000, Just(u64::MAX), Just(u64::MAX - 4999), Just(1 << 31), Just(1 << 32),
                Just(5000 << 32), Just(u64::MAX << 32),
            ],
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("graph.edg");
            let (mut fields, mut payload) = graph();
            match fields.get_mut(word) {
                Some(field) => *field = number,
                None => {
                    let at = payload.len() - 2 * ENTRY_BYTES + 8 * (word - 6);
                    payload[at..at + 8].copy_from_slice(&number.to_le_bytes());
                }
            }
            write_sealed(&path, &EDGES, fields, &payload);
            let _ = read_all(&path);
        }
    }
}

//! `*.edg`: arcs of consecutive rows in compressed blocks; runs and the final graph alike.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 64 | | blocks, each one zstd frame of [`super::codec`]'s bytes |
//! | | 40 · blocks | index: offset u64, bytes u32, decoded bytes u32, first row u32, rows u32, arcs u64, xxh3-64 of the frame u64 |
//!
//! Header fields: first row, rows, arcs, blocks, rows of the whole graph. A block ends with the row that
//! fills it. Memory: the index; decoded blocks are the reader's.

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
use crate::vectors::RowId;

/// Format of runs and ranges.
pub(crate) const EDGES: FileFormat = FileFormat { magic: *b"BMEDGES\0", version: 2, name: "edge" };
/// A block ends with the row that brings it to this many arcs ...
pub(crate) const BLOCK_ARCS: usize = 8192;
/// ... or to this many rows.
pub(crate) const BLOCK_ROWS: usize = 4096;
const ENTRY_BYTES: usize = 40;
const ZSTD_LEVEL: i32 = 1;

/// One block of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockEntry {
    offset: u64,
    bytes: u32,
    decoded_bytes: u32,
    /// First row.
    pub first_row: RowId,
    /// Rows.
    pub rows: u32,
    /// Arcs.
    pub arcs: u64,
    checksum: u64,
}

/// Encoded blocks of consecutive rows, in memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct EncodedRange {
    /// Frames, one after the other, in as many pieces as were appended: they are never copied together.
    pieces: Vec<Vec<u8>>,
    bytes: u64,
    index: Vec<BlockEntry>,
}

impl EncodedRange {
    /// Appends rows whose arcs end at `ends`, as one block. O(arcs).
    ///
    /// # Errors
    /// zstd fails.
    pub(crate) fn push(&mut self, first_row: RowId, ends: &[u32], arcs: &[Edge]) -> std::io::Result<()> {
        let mut raw = Vec::new();
        codec::encode(ends, arcs, &mut raw);
        let frame = compress(&raw)?;
        let too_long = |_| std::io::Error::other("the arcs of one row exceed a block");
        self.index.push(BlockEntry {
            offset: self.bytes,
            bytes: u32::try_from(frame.len()).map_err(too_long)?,
            decoded_bytes: u32::try_from(raw.len()).map_err(too_long)?,
            first_row,
            rows: ends.len() as u32,
            arcs: arcs.len() as u64,
            checksum: xxh3_64(&frame),
        });
        self.bytes += frame.len() as u64;
        match self.pieces.last_mut() {
            Some(piece) => piece.extend(frame),
            None => self.pieces.push(frame),
        }
        Ok(())
    }

    /// Appends what comes after.
    pub(crate) fn append(&mut self, other: EncodedRange) {
        let base = self.bytes;
        self.bytes += other.bytes;
        self.pieces.extend(other.pieces);
        self.index.extend(other.index.into_iter().map(|entry| BlockEntry { offset: base + entry.offset, ..entry }));
    }

    /// Gives back what was set aside for more.
    #[must_use]
    pub(crate) fn trimmed(mut self) -> EncodedRange {
        self.pieces.iter_mut().for_each(Vec::shrink_to_fit);
        self
    }

    /// Arcs so far.
    pub(crate) fn arcs(&self) -> u64 {
        self.index.iter().map(|entry| entry.arcs).sum()
    }

    /// Writes the file for `rows` of a graph of `graph_rows` rows.
    ///
    /// # Errors
    /// The write fails.
    pub(crate) fn write(&self, out: &mut PartWriter, rows: Range<RowId>, graph_rows: RowId) -> std::io::Result<()> {
        let fields =
            [u64::from(rows.start), rows.len() as u64, self.arcs(), self.index.len() as u64, u64::from(graph_rows), 0];
        out.write_all(&EDGES.header(fields))?;
        self.pieces.iter().try_for_each(|piece| out.write_all(piece))?;
        for entry in &self.index {
            out.write_all(&entry.offset.to_le_bytes())?;
            for word in [entry.bytes, entry.decoded_bytes, entry.first_row, entry.rows] {
                out.write_all(&word.to_le_bytes())?;
            }
            out.write_all(&entry.arcs.to_le_bytes())?;
            out.write_all(&entry.checksum.to_le_bytes())?;
        }
        out.seal()
    }
}

/// Cuts consecutive rows into blocks: (rows, arcs) of each, as ranges of indices. Pure.
pub(crate) fn cut_blocks(ends: &[u32]) -> Vec<Range<usize>> {
    let mut blocks = Vec::new();
    let (mut row, mut arcs) = (0, 0);
    for (index, end) in ends.iter().enumerate() {
        if (end - arcs) as usize >= BLOCK_ARCS || index + 1 - row >= BLOCK_ROWS {
            blocks.push(row..index + 1);
            (row, arcs) = (index + 1, *end);
        }
    }
    if row < ends.len() {
        blocks.push(row..ends.len());
    }
    blocks
}

/// Encodes consecutive rows block by block. O(arcs).
///
/// # Errors
/// zstd fails.
pub(crate) fn encode_rows(first_row: RowId, ends: &[u32], arcs: &[Edge]) -> std::io::Result<EncodedRange> {
    let mut range = EncodedRange::default();
    for block in cut_blocks(ends) {
        let start = if block.start == 0 { 0 } else { ends[block.start - 1] };
        let local: Vec<u32> = ends[block.clone()].iter().map(|end| end - start).collect();
        let arcs = &arcs[start as usize..ends[block.end - 1] as usize];
        range.push(first_row + block.start as RowId, &local, arcs)?;
    }
    Ok(range.trimmed())
}

/// One mapped file.
#[derive(Debug, Clone)]
pub struct EdgePart {
    sealed: Sealed,
    index: Vec<BlockEntry>,
    rows: Range<RowId>,
    graph_rows: RowId,
}

impl EdgePart {
    /// Maps a file and checks its index.
    ///
    /// # Errors
    /// The file is not complete or its index is not sound.
    pub fn open(path: &Path) -> Result<EdgePart> {
        let sealed = Sealed::open(path, &EDGES)?;
        let [first, rows, arcs, blocks, graph_rows, _] = sealed.fields;
        let damaged = || {
            Error::runtime("an edge file's index is damaged")
                .path(path)
                .expected("blocks that follow each other and cover all rows")
                .found("something else")
                .remedy("delete the file and run `mine` again")
        };
        let payload = sealed.payload();
        let index_bytes = usize::try_from(blocks).ok().and_then(|n| n.checked_mul(ENTRY_BYTES)).ok_or_else(damaged)?;
        let index_at = payload.len().checked_sub(index_bytes).ok_or_else(damaged)?;
        let sound = graph_rows < 1 << 31 && first < 1 << 31 && rows < 1 << 31 && first + rows <= graph_rows;
        let mut index = Vec::with_capacity(blocks as usize);
        let (mut offset, mut row, mut total) = (0, first, 0u64);
        for at in (index_at..payload.len()).step_by(ENTRY_BYTES) {
            let entry = BlockEntry {
                offset: u64_at(payload, at),
                bytes: u32_at(payload, at + 8),
                decoded_bytes: u32_at(payload, at + 12),
                first_row: u32_at(payload, at + 16),
                rows: u32_at(payload, at + 20),
                arcs: u64_at(payload, at + 24),
                checksum: u64_at(payload, at + 32),
            };
            if entry.offset != offset || u64::from(entry.first_row) != row {
                return Err(damaged());
            }
            offset += u64::from(entry.bytes);
            row += u64::from(entry.rows);
            total = total.saturating_add(entry.arcs);
            index.push(entry);
        }
        if !sound || offset != index_at as u64 || row != first + rows || total != arcs {
            return Err(damaged());
        }
        let rows = first as RowId..(first + rows) as RowId;
        Ok(EdgePart { sealed, index, rows, graph_rows: graph_rows as RowId })
    }

    /// Its rows.
    pub fn rows(&self) -> Range<RowId> {
        self.rows.clone()
    }

    /// Its blocks.
    pub fn index(&self) -> &[BlockEntry] {
        &self.index
    }

    /// Blocks that hold any of `rows`.
    pub fn blocks_of(&self, rows: Range<RowId>) -> Range<usize> {
        let start = self.index.partition_point(|entry| entry.first_row + entry.rows <= rows.start);
        let end = self.index.partition_point(|entry| entry.first_row < rows.end);
        start..end.max(start)
    }

    /// Decodes a block.
    ///
    /// # Errors
    /// Its checksum is wrong, or it is no block.
    pub fn read(&self, block: usize, into: &mut Adjacency) -> Result<()> {
        let entry = &self.index[block];
        let frame = &self.sealed.payload()[entry.offset as usize..][..entry.bytes as usize];
        let damaged = |found: String| {
            Error::runtime("a block of an edge file is damaged")
                .path(self.sealed.path())
                .row(u64::from(entry.first_row))
                .expected(format!("{} rows with {} arcs", entry.rows, entry.arcs))
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
        into.first_row = entry.first_row;
        match decoded {
            Some(()) if into.arcs.len() as u64 == entry.arcs => Ok(()),
            _ => Err(damaged("bytes that are no block".into())),
        }
    }

    /// The mapped file.
    pub fn sealed(&self) -> &Sealed {
        &self.sealed
    }
}

/// The whole graph: all its files, as one list of blocks.
#[derive(Debug, Clone)]
pub struct EdgeFile {
    parts: Vec<EdgePart>,
    first_block: Vec<usize>,
    rows: RowId,
}

impl EdgeFile {
    /// Maps the files, which must cover rows 0..`rows` in order.
    ///
    /// # Errors
    /// A file is damaged or out of place.
    pub fn open(paths: &[std::path::PathBuf], rows: RowId) -> Result<EdgeFile> {
        let parts = paths.par_iter().map(|path| EdgePart::open(path)).collect::<Result<Vec<_>>>()?;
        let (mut next, mut blocks, mut first_block) = (0, 0, Vec::with_capacity(parts.len()));
        for part in &parts {
            if part.rows.start != next || part.graph_rows != rows {
                return Err(Error::runtime("an edge file is missing or out of place")
                    .path(part.sealed.path())
                    .expected(format!("rows from {next} on, of {rows}"))
                    .found(format!("rows {:?}, of {}", part.rows, part.graph_rows))
                    .remedy("run `mine` again"));
            }
            next = part.rows.end;
            first_block.push(blocks);
            blocks += part.index.len();
        }
        if next != rows {
            return Err(Error::runtime("the graph's last edge file is missing")
                .expected(format!("rows up to {rows}"))
                .found(format!("rows up to {next}"))
                .remedy("run `mine` again"));
        }
        first_block.push(blocks);
        Ok(EdgeFile { parts, first_block, rows })
    }

    /// The files.
    pub fn parts(&self) -> &[EdgePart] {
        &self.parts
    }

    /// Arcs in all, each edge counted from both ends.
    pub fn arcs(&self) -> u64 {
        self.parts.iter().flat_map(|part| &part.index).map(|entry| entry.arcs).sum()
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.sealed.payload().len() as u64).sum()
    }

    fn locate(&self, block: usize) -> (&EdgePart, usize) {
        let part = self.first_block.partition_point(|first| *first <= block) - 1;
        (&self.parts[part], block - self.first_block[part])
    }

    /// The block that holds a row. O(log blocks).
    pub fn block_of(&self, row: RowId) -> usize {
        let part = self.parts.partition_point(|part| part.rows.end <= row);
        self.first_block[part] + self.parts[part].blocks_of(row..row + 1).start
    }
}

impl EdgeRows for EdgeFile {
    fn rows(&self) -> RowId {
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

/// Compresses a frame with a context that each thread makes once.
fn compress(raw: &[u8]) -> std::io::Result<Vec<u8>> {
    thread_local! {
        static CONTEXT: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    }
    CONTEXT.with_borrow_mut(|context| match context {
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

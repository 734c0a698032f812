//! `base.gpu`: all base rows in the numbers of the devices, mapped. Workers copy their tiles from it.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 64 | width · dim · rows | values, f16 or f32, row after row |
//! | | | zeros up to a multiple of 64 |
//! | | 8 · ⌈rows / 1024⌉ | of each 1,024 rows the largest norm and the largest residual, f32 |
//!
//! Header fields: rows, dimensions, bytes of a value, exponent (i64). Values, norms and residuals ([`super::rounding`])
//! are multiplied by two to the exponent. For cosine, rows are scaled to unit length first. In f16 the largest norm
//! lies in [2¹⁴, 2¹⁵): no value is too large for f16, and as few as possible are subnormal.
//!
//! The file is deleted when the search ends. Memory: 1,024 rows a thread while it is written.

use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;

use super::rounding::{Bounds, exponent, round};
use crate::config::Metric;
use crate::error::Result;
use crate::run::ScatteredPart;
use crate::run::sealed::{FileFormat, HEADER_BYTES, Sealed};
use crate::vectors::dot::dot;
use crate::vectors::{DIM_MAX, ROWS_MAX, RowId, Shape, StoreType, VectorStore};
use crate::watch::Watch;

/// Format of `base.gpu`.
pub(crate) const GPU_BASE: FileFormat = FileFormat { magic: *b"BMGPUBAS", version: 2, name: "GPU base" };
/// Rows whose bounds are kept together.
const CHUNK_ROWS: usize = 1024;
const BOUNDS_BYTES: usize = 8;

#[derive(Debug, Clone, Copy)]
pub(crate) struct DeviceBaseWriter<'a> {
    pub store: &'a VectorStore,
    /// Reciprocal norms of the rows.
    pub scales: &'a [f64],
    pub metric: Metric,
    /// The numbers of the devices: f16 or f32.
    pub precision: StoreType,
}

impl DeviceBaseWriter<'_> {
    /// Bytes of header and payload.
    pub(crate) fn file_bytes(&self) -> u64 {
        let Shape { rows, dim } = self.store.shape();
        (bounds_at(rows as usize, dim * self.precision.bytes()) + chunks(rows as usize) * BOUNDS_BYTES) as u64
    }

    /// Writes all rows into a part, in parallel. `watch` counts rows.
    ///
    /// # Errors
    /// The write fails, or the watch stops the job.
    pub(crate) fn write(&self, part: &ScatteredPart, watch: Watch<'_>) -> Result<()> {
        let Shape { rows, dim } = self.store.shape();
        let (rows, width) = (rows as usize, self.precision.bytes());
        let exponent = exponent(width, self.largest_norm());
        part.write_at(&GPU_BASE.header([rows as u64, dim as u64, width as u64, i64::from(exponent) as u64, 0, 0]), 0)?;
        part.extend()?;
        let factor = f64::from(exponent).exp2();
        (0..chunks(rows)).into_par_iter().try_for_each(|chunk| {
            let first = chunk * CHUNK_ROWS;
            let chunk_rows = first..rows.min(first + CHUNK_ROWS);
            let (mut values, mut bytes) = (vec![0.0; dim], vec![0; chunk_rows.len() * dim * width]);
            let mut bounds = Bounds::NONE;
            for (row, out) in chunk_rows.clone().zip(bytes.chunks_exact_mut(dim * width)) {
                self.store.load(row as RowId, &mut values);
                let scale = if self.metric == Metric::Cosine { self.scales[row] } else { 1.0 };
                bounds = bounds.max(round(&mut values, scale * factor, out));
            }
            part.write_at(&bytes, (HEADER_BYTES + first * dim * width) as u64)?;
            let mut pair = [0; BOUNDS_BYTES];
            pair[..4].copy_from_slice(&(bounds.norm as f32).next_up().to_le_bytes());
            pair[4..].copy_from_slice(&(bounds.residual as f32).next_up().to_le_bytes());
            part.write_at(&pair, (bounds_at(rows, dim * width) + chunk * BOUNDS_BYTES) as u64)?;
            watch.add(chunk_rows.len() as u64)
        })
    }

    /// Where the exponent depends on it; else 1.
    fn largest_norm(&self) -> f64 {
        if self.metric == Metric::Cosine || self.precision == StoreType::F32 {
            return 1.0;
        }
        let Shape { rows, dim } = self.store.shape();
        let norm = |values: &mut Vec<f32>, row| {
            self.store.load(row, values);
            dot(values, values).sqrt()
        };
        (0..rows as RowId).into_par_iter().map_init(|| vec![0.0; dim], norm).reduce(|| 0.0, f64::max)
    }
}

fn chunks(rows: usize) -> usize {
    rows.div_ceil(CHUNK_ROWS)
}

/// Where the bounds begin in the file.
fn bounds_at(rows: usize, row_bytes: usize) -> usize {
    HEADER_BYTES + (rows * row_bytes).next_multiple_of(64)
}

#[derive(Debug, Clone)]
pub(crate) struct DeviceBase {
    sealed: Sealed,
    rows: usize,
    dim: usize,
    width: usize,
    exponent: i32,
}

impl DeviceBase {
    /// Maps the file.
    ///
    /// # Errors
    /// It is not complete, or its counts are out of range.
    pub(crate) fn open(path: &Path) -> Result<DeviceBase> {
        let sealed = Sealed::open(path, &GPU_BASE)?;
        sealed.check()?;
        let [rows, dim, width, exponent, ..] = sealed.fields;
        let exponent = exponent as i64;
        let in_range = (1..=ROWS_MAX).contains(&rows)
            && (1..=DIM_MAX as u64).contains(&dim)
            && (width == 2 || width == 4)
            && (-4096..=4096).contains(&exponent);
        let (rows, dim, width) = (rows as usize, dim as usize, width as usize);
        // Within these ranges nothing overflows.
        let payload = || bounds_at(rows, dim * width) + chunks(rows) * BOUNDS_BYTES - HEADER_BYTES;
        sealed.expect_payload(in_range.then(|| payload() as u64))?;
        Ok(DeviceBase { sealed, rows, dim, width, exponent: exponent as i32 })
    }

    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    /// Bytes of a value.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Values were multiplied by two to this power.
    pub(crate) fn exponent(&self) -> i32 {
        self.exponent
    }

    /// The values of some rows; `None`: the base has no such rows.
    pub(crate) fn rows(&self, rows: Range<usize>) -> Option<&[u8]> {
        let row_bytes = self.dim * self.width;
        let inside = rows.start <= rows.end && rows.end <= self.rows;
        inside.then(|| &self.sealed.payload()[rows.start * row_bytes..rows.end * row_bytes])
    }

    /// Bounds that hold for all of some rows.
    pub(crate) fn bounds(&self, rows: Range<usize>) -> Bounds {
        let start = bounds_at(self.rows, self.dim * self.width) - HEADER_BYTES;
        let number = |at: usize| {
            let (bytes, _) = self.sealed.payload()[start + at..].as_chunks::<4>();
            f64::from(f32::from_le_bytes(bytes[0]))
        };
        let chunks = rows.start / CHUNK_ROWS..rows.end.div_ceil(CHUNK_ROWS);
        let bounds = |chunk| Bounds { norm: number(chunk * BOUNDS_BYTES), residual: number(chunk * BOUNDS_BYTES + 4) };
        chunks.map(bounds).fold(Bounds::NONE, Bounds::max)
    }
}

//! `base.gpu`: all base rows as a device takes them, mapped. Workers copy their tiles from it.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 64 | width · dim · rows | values, f16 or f32, row after row |
//! | | | zeros up to a multiple of 64 |
//! | | 8 · ⌈rows / 1024⌉ | of each 1,024 rows the largest norm and the largest residual, f32 |
//!
//! Header fields: rows, dimensions, bytes of a value, exponent (i64). Values are multiplied by two to the exponent;
//! so are norms and residuals. For cosine, rows are of unit length before. In halves the largest norm lies in
//! [2¹⁴, 2¹⁵): no value is too large for a half, and as few as can be are subnormal. The residual of a row is the
//! norm of what rounding took from it.
//!
//! Of two rounded rows q̃, b̃ the product differs from that of the true ones by at most ‖q‖·e_b + e_q·‖b̃‖.
//!
//! The file lives as long as the search. Memory: 1,024 rows a thread while it is made.

use std::ops::Range;
use std::path::Path;

use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use crate::error::Result;
use crate::run::ScatteredPart;
use crate::run::sealed::{FileFormat, HEADER_BYTES, Sealed};
use crate::vectors::dot::dot;
use crate::vectors::{DIM_MAX, ROWS_MAX, RowId, Shape, StoreType, VectorStore};

/// Format of the device's base.
pub(crate) const BASE: FileFormat = FileFormat { magic: *b"BMGPUBAS", version: 1, name: "GPU base" };
/// Rows whose bounds are kept together.
const CHUNK_ROWS: usize = 1024;
/// Largest exponent of a norm in halves, whose values go up to 65,504.
const HALF_EXPONENT: i32 = 14;
const BOUNDS_BYTES: usize = 8;

/// Largest norm and largest residual of some rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bounds {
    /// Of the rounded row plus the residual: not less than the true norm either.
    pub norm: f64,
    /// Norm of what rounding took.
    pub residual: f64,
}

impl Bounds {
    const NONE: Bounds = Bounds { norm: 0.0, residual: 0.0 };

    fn max(self, other: Bounds) -> Bounds {
        Bounds { norm: self.norm.max(other.norm), residual: self.residual.max(other.residual) }
    }
}

/// Writes a row as a device takes it: multiplied by `factor`, rounded to the width of `out`.
fn round(row: &mut [f32], factor: f64, out: &mut [u8]) -> Bounds {
    let (mut norm, mut lost) = (0.0, 0.0);
    let mut add = |true_value: f64, rounded: f32| {
        norm += f64::from(rounded).powi(2);
        lost += (true_value - f64::from(rounded)).powi(2);
    };
    if out.len() == row.len() * 4 {
        for (value, out) in row.iter().zip(out.as_chunks_mut::<4>().0) {
            let scaled = f64::from(*value) * factor;
            *out = (scaled as f32).to_le_bytes();
            add(scaled, scaled as f32);
        }
    } else {
        let mut halves = [f16::ZERO; 256];
        let mut back = [0f32; 256];
        for (values, out) in row.chunks_mut(256).zip(out.chunks_mut(512)) {
            let (halves, back) = (&mut halves[..values.len()], &mut back[..values.len()]);
            let scaled: [f64; 256] = std::array::from_fn(|at| values.get(at).map_or(0.0, |v| f64::from(*v) * factor));
            values.iter_mut().zip(scaled).for_each(|(value, scaled)| *value = scaled as f32);
            halves.convert_from_f32_slice(values);
            halves.convert_to_f32_slice(back);
            scaled.iter().zip(&*back).for_each(|(scaled, back)| add(*scaled, *back));
            halves.iter().zip(out.as_chunks_mut::<2>().0).for_each(|(half, out)| *out = half.to_le_bytes());
        }
    }
    // Sums of squares err by a few units in the last place; a millionth covers that.
    let residual = lost.sqrt() * (1.0 + 1e-6);
    Bounds { norm: norm.sqrt() * (1.0 + 1e-6) + residual, residual }
}

/// The exponent that brings a norm into the range of halves.
fn exponent(width: usize, norm: f64) -> i32 {
    // A norm of zero or infinity has none; such rows are not certain to be found, and end on the CPU.
    if width == 2 && norm.is_normal() { HALF_EXPONENT - norm.log2().floor() as i32 } else { 0 }
}

/// How a query was rounded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query {
    /// Its bounds.
    pub bounds: Bounds,
    /// It was multiplied by two to this.
    pub exponent: i32,
}

/// Rounds a query, by itself, into the bytes of a row.
pub(crate) fn round_query(store: &VectorStore, scales: &[f64], unit: bool, row: RowId, out: &mut [u8]) -> Query {
    let dim = store.shape().dim;
    let mut values = vec![0.0; dim];
    store.load(row, &mut values);
    let (length, norm) = if unit { (scales[row as usize], 1.0) } else { (1.0, dot(&values, &values).sqrt()) };
    let exponent = exponent(out.len() / dim, norm);
    Query { bounds: round(&mut values, length * f64::from(exponent).exp2(), out), exponent }
}

/// What a base is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeviceBaseWriter<'a> {
    /// The rows.
    pub store: &'a VectorStore,
    /// Their reciprocal norms.
    pub scales: &'a [f64],
    /// The metric ignores norms (cosine).
    pub unit: bool,
    /// Numbers of the device.
    pub precision: StoreType,
}

impl DeviceBaseWriter<'_> {
    /// Bytes of header and payload.
    pub(crate) fn file_bytes(&self) -> u64 {
        let Shape { rows, dim } = self.store.shape();
        (bounds_at(rows as usize, dim * self.precision.bytes()) + chunks(rows as usize) * BOUNDS_BYTES) as u64
    }

    /// Writes all rows into a part, in parallel. `watch` is told the rows done.
    ///
    /// # Errors
    /// The write fails, or the watch stops the job.
    pub(crate) fn write(&self, part: &ScatteredPart, watch: &(dyn Fn(u64) -> Result<()> + Sync)) -> Result<()> {
        let Shape { rows, dim } = self.store.shape();
        let (rows, width) = (rows as usize, self.precision.bytes());
        let exponent = exponent(width, self.largest_norm());
        part.write_at(&BASE.header([rows as u64, dim as u64, width as u64, i64::from(exponent) as u64, 0, 0]), 0)?;
        part.extend()?;
        let factor = f64::from(exponent).exp2();
        (0..chunks(rows)).into_par_iter().try_for_each(|chunk| {
            let first = chunk * CHUNK_ROWS;
            let chunk_rows = first..rows.min(first + CHUNK_ROWS);
            let (mut values, mut bytes) = (vec![0.0; dim], vec![0; chunk_rows.len() * dim * width]);
            let mut bounds = Bounds::NONE;
            for (row, out) in chunk_rows.clone().zip(bytes.chunks_exact_mut(dim * width)) {
                self.store.load(row as RowId, &mut values);
                let length = if self.unit { self.scales[row] } else { 1.0 };
                bounds = bounds.max(round(&mut values, length * factor, out));
            }
            part.write_at(&bytes, (HEADER_BYTES + first * dim * width) as u64)?;
            let mut pair = [0; BOUNDS_BYTES];
            pair[..4].copy_from_slice(&(bounds.norm as f32).next_up().to_le_bytes());
            pair[4..].copy_from_slice(&(bounds.residual as f32).next_up().to_le_bytes());
            part.write_at(&pair, (bounds_at(rows, dim * width) + chunk * BOUNDS_BYTES) as u64)?;
            watch(chunk_rows.len() as u64)
        })
    }

    fn largest_norm(&self) -> f64 {
        if self.unit || self.precision == StoreType::F32 {
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

/// Where the bounds begin.
fn bounds_at(rows: usize, row_bytes: usize) -> usize {
    HEADER_BYTES + (rows * row_bytes).next_multiple_of(64)
}

/// The base.
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
        let sealed = Sealed::open(path, &BASE)?;
        let [rows, dim, width, exponent, ..] = sealed.fields;
        let exponent = exponent as i64;
        let sound = (1..=ROWS_MAX).contains(&rows)
            && (1..=DIM_MAX as u64).contains(&dim)
            && (width == 2 || width == 4)
            && (-4096..=4096).contains(&exponent);
        let end = |(rows, row_bytes)| bounds_at(rows, row_bytes) + chunks(rows) * BOUNDS_BYTES - HEADER_BYTES;
        let (rows, dim, width) = (rows as usize, dim as usize, width as usize);
        sealed.expect_payload(sound.then(|| end((rows, dim * width)) as u64))?;
        Ok(DeviceBase { sealed, rows, dim, width, exponent: exponent as i32 })
    }

    /// Dimensions.
    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    /// Bytes of a value.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Values were multiplied by two to this.
    pub(crate) fn exponent(&self) -> i32 {
        self.exponent
    }

    /// The values of some rows, if there are such rows.
    pub(crate) fn rows(&self, rows: Range<usize>) -> Option<&[u8]> {
        let row_bytes = self.dim * self.width;
        let sound = rows.start <= rows.end && rows.end <= self.rows;
        sound.then(|| &self.sealed.payload()[rows.start * row_bytes..rows.end * row_bytes])
    }

    /// Bounds of some rows, from above.
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bounds_hold_whatever_the_values(
            values in proptest::collection::vec(-1000.0f32..1000.0, 1..600),
            (shift, width) in (-40i32..40, prop_oneof![Just(2usize), Just(4usize)]),
        ) {
            let row: Vec<f32> = values.iter().map(|value| value * (shift as f32).exp2()).collect();
            let exponent = exponent(width, dot(&row, &row).sqrt());
            let factor = f64::from(exponent).exp2();
            let mut bytes = vec![0; row.len() * width];
            let bounds = round(&mut row.clone(), factor, &mut bytes);
            let rounded: Vec<f64> = match width {
                2 => bytes.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f64()).collect(),
                _ => bytes.as_chunks().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect(),
            };
            prop_assert!(rounded.iter().all(|value| value.is_finite()));
            let lost = row.iter().zip(&rounded).map(|(x, y)| (f64::from(*x) * factor - y).powi(2)).sum::<f64>().sqrt();
            prop_assert!(lost <= bounds.residual, "{} {}", lost, bounds.residual);
            prop_assert!(dot(&row, &row).sqrt() * factor <= bounds.norm);
            // Eleven bits of a half, twenty-four of a single.
            let relative = if width == 2 { 2f64.powi(-11) } else { 2f64.powi(-24) };
            prop_assert!(bounds.residual <= 1.001 * relative * bounds.norm + 1e-6);
        }
    }
}

//! A rotation to the principal axes of a sample, which gathers most of the vectors' length in the first dimensions.
//!
//! Embeddings fill their space unevenly: of 384 dimensions of a sentence model, half of the principal axes
//! hold 93 % of the squared length. A search that knows only those first coordinates (the *head*) and the
//! length of the rest (the *tail*) can rule out nearly every pair ([`super::int8`]). Inside head and
//! tail the axes are mixed, so that no single coordinate makes a byte's scale coarse for all others.
//!
//! A rotation changes inner products by at most a *slack*, which every bound includes: the axes are not quite
//! orthogonal (measured), and f32 rounds (bounded; docs/algorithms.md).
//!
//! Memory: dim² values in f32 twice (as they are, and packed); six times in f64 while they are found. Algorithm:
//! orthogonal iteration (Golub, Van Loan, *Matrix Computations*, section 8.2) on the fourth power of the sample's
//! second moments, then a cosine transform with random signs in each part. O(dim³).

use std::f64::consts::PI;

use rand::RngExt;
use rayon::prelude::*;

use super::float::{Float, FloatBase, FloatQueries};
use super::matrix::{Matrix, UnitRows};
use super::scan::{Cutoffs, GROUP, PANEL, PLACES, TileKernel};
use super::simd::Simd;
use crate::config::Metric;
use crate::random::{Purpose, stream};
use crate::vectors::RowId;
use crate::vectors::dot::dot;

/// Dimensions that are summed in f32 before the sums are added up.
const CHUNK: usize = 64;
/// Rounds of orthogonal iteration. Each applies the fourth power of the moments, so one separates head and tail.
const ROUNDS: usize = 1;

/// Orthogonal axes, and how many of them make the head.
#[derive(Debug, Clone)]
pub struct Rotation {
    simd: Simd,
    /// Axis after axis, unit length.
    axes: Matrix,
    /// The axes' dimensions [64 i, 64 (i + 1)), packed.
    chunks: Vec<FloatBase>,
    head: usize,
    slack: f64,
}

impl Rotation {
    /// Principal axes of some rows, with a head of `head` ≥ 1 axes. O(rows · dim² + dim³).
    pub fn new(simd: Simd, source: &impl UnitRows, rows: &[RowId], head: usize) -> Rotation {
        principal_axes(source, rows).cut(simd, head)
    }

    /// From axes that were found before.
    pub fn from_axes(simd: Simd, axes: Matrix, head: usize) -> Rotation {
        let dim = axes.dim;
        let starts: Vec<usize> = (0..dim).step_by(CHUNK).collect();
        let all: Vec<RowId> = (0..dim as RowId).collect();
        let chunks = starts.iter().map(|start| {
            let part = DimensionSlice { rows: &axes, start: *start, width: CHUNK.min(dim - start) };
            FloatBase::pack(&part, &all, Metric::Cosine)
        });
        let chunks = chunks.collect();
        let slack = slack(dim, defect(&axes));
        Rotation { simd, axes, chunks, head, slack }
    }

    /// Axes of the head.
    pub fn head(&self) -> usize {
        self.head
    }

    /// What |x·y| of unit vectors x, y and of their rotated forms differ by at most.
    pub fn slack(&self) -> f64 {
        self.slack
    }

    /// The axes, one after the other.
    pub fn axes(&self) -> &Matrix {
        &self.axes
    }

    /// Rotates rows (of `dim` values each, of length about 1) in place. O(rows · dim²).
    pub fn apply(&self, values: &mut [f32]) {
        let dim = self.axes.dim;
        let rows = Matrix { values: values.to_vec(), dim };
        let count = values.len() / dim;
        values.fill(0.0);
        let all: Vec<RowId> = (0..count as RowId).collect();
        let mut sums = [[0f32; PANEL]; GROUP];
        for (chunk, base) in self.chunks.iter().enumerate() {
            let start = chunk * CHUNK;
            let part = DimensionSlice { rows: &rows, start, width: CHUNK.min(dim - start) };
            let queries = FloatQueries::pack(&part, &all, Metric::Cosine);
            for group in 0..count.div_ceil(GROUP) {
                for panel in 0..dim.div_ceil(PANEL) {
                    let everything = Cutoffs::equal([f32::NEG_INFINITY; PLACES]);
                    Float(self.simd).score(&queries, group, (base, panel), &everything, &mut sums);
                    let axes = panel * PANEL..dim.min((panel + 1) * PANEL);
                    for (row, sums) in values[group * GROUP * dim..].chunks_exact_mut(dim).zip(&sums) {
                        row[axes.clone()].iter_mut().zip(sums).for_each(|(value, sum)| *value += sum);
                    }
                }
            }
        }
    }
}

/// Some dimensions of rows, as they are.
struct DimensionSlice<'a> {
    rows: &'a Matrix,
    start: usize,
    width: usize,
}

impl UnitRows for DimensionSlice<'_> {
    fn dim(&self) -> usize {
        self.width
    }

    fn load_unit(&self, row: RowId, out: &mut [f32]) -> f64 {
        out.copy_from_slice(&self.rows.row(row as usize)[self.start..][..self.width]);
        1.0
    }
}

/// ‖R Rᵀ − 1‖ (Frobenius) of axes R, in f64. O(dim³).
fn defect(axes: &Matrix) -> f64 {
    let of_row = |i: usize| -> f64 {
        let square = |j: usize| (dot(axes.row(i), axes.row(j)) - f64::from(u8::from(i == j))).powi(2);
        square(i) + 2.0 * (0..i).map(square).sum::<f64>()
    };
    (0..axes.dim).into_par_iter().map(of_row).collect::<Vec<f64>>().iter().sum::<f64>().sqrt()
}

/// What rotating two unit vectors can change of their inner product: the axes' defect, and for each side the
/// rounding of sums of `CHUNK` products and of the chunks' sums: γ(terms) a coordinate, √dim of them.
fn slack(dim: usize, defect: f64) -> f64 {
    let terms = (CHUNK.min(dim) + dim.div_ceil(CHUNK) + 2) as f64 * f64::from(f32::EPSILON) / 2.0;
    let rounded = terms / (1.0 - terms) * (dim as f64).sqrt() * (1.0 + defect);
    (defect + 2.0 * rounded * (1.0 + defect) + rounded * rounded) * 1.001
}

/// Principal axes of a sample, the strongest first, and what they are worth.
#[derive(Debug, Clone)]
pub(crate) struct PrincipalAxes {
    /// Row after row one axis, f64.
    axes: Vec<f64>,
    dim: usize,
}

/// Finds the axes. Deterministic: every sum runs in one order. O(rows · dim² + dim³).
pub(crate) fn principal_axes(source: &impl UnitRows, rows: &[RowId]) -> PrincipalAxes {
    let dim = source.dim();
    let mut values = vec![0f32; rows.len() * dim];
    for (row, out) in rows.iter().zip(values.chunks_exact_mut(dim)) {
        source.load_unit(*row, out);
    }
    let mut moments = vec![0f64; dim * dim];
    moments.par_chunks_exact_mut(dim).enumerate().for_each(|(i, out)| {
        let mut sums = vec![0f32; dim];
        for row in values.chunks_exact(dim) {
            let factor = row[i];
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += factor * value);
        }
        out.iter_mut().zip(sums).for_each(|(to, sum)| *to = f64::from(sum) / rows.len() as f64);
    });
    // The fourth power parts strong axes from weak ones as four rounds would.
    let power = square(&square(&moments, dim), dim);
    let mut random = stream(Purpose::RotationStart { dim: dim as u64 });
    let mut axes: Vec<f64> = (0..dim * dim).map(|_| random.random::<f64>() - 0.5).collect();
    for _ in 0..ROUNDS {
        axes = multiply(&axes, &power, dim);
        orthonormalise(&mut axes, dim);
    }
    orthonormalise(&mut axes, dim);
    PrincipalAxes { axes, dim }
}

impl PrincipalAxes {
    /// The axes as they are, the strongest first. O(dim³).
    pub(crate) fn unmixed(&self, simd: Simd) -> Rotation {
        let values = self.axes.iter().map(|value| *value as f32).collect();
        Rotation::from_axes(simd, Matrix { values, dim: self.dim }, self.dim)
    }

    /// Mixes the first `head` axes with each other, and the rest. O(dim³).
    pub(crate) fn cut(&self, simd: Simd, head: usize) -> Rotation {
        let dim = self.dim;
        let head = head.clamp(1, dim);
        let mut random = stream(Purpose::RotationSigns { dim: dim as u64 });
        let signs: Vec<f64> = (0..dim).map(|_| if random.random::<bool>() { 1.0 } else { -1.0 }).collect();
        let mut mixed = vec![0f64; dim * dim];
        mixed.par_chunks_exact_mut(dim).enumerate().for_each(|(index, out)| {
            let (k, part) = if index < head { (index, 0..head) } else { (index - head, head..dim) };
            let width = part.len() as f64;
            for (j, from) in part.enumerate() {
                // Row k of the orthonormal cosine transform.
                let scale = if k == 0 { (1.0 / width).sqrt() } else { (2.0 / width).sqrt() };
                let factor = signs[from] * scale * (PI * (2 * j + 1) as f64 * k as f64 / (2.0 * width)).cos();
                let axis = &self.axes[from * dim..][..dim];
                out.iter_mut().zip(axis).for_each(|(to, value)| *to += factor * value);
            }
        });
        let values = mixed.into_iter().map(|value| value as f32).collect();
        Rotation::from_axes(simd, Matrix { values, dim }, head)
    }
}

/// The product a·b of square matrices, row by row.
fn multiply(a: &[f64], b: &[f64], dim: usize) -> Vec<f64> {
    let mut product = vec![0f64; dim * dim];
    product.par_chunks_exact_mut(dim).zip(a.par_chunks_exact(dim)).for_each(|(out, row)| {
        for (factor, other) in row.iter().zip(b.chunks_exact(dim)) {
            out.iter_mut().zip(other).for_each(|(sum, value)| *sum += factor * value);
        }
    });
    product
}

/// a·a, scaled to entries of at most 1: powers of powers would leave the range of f64.
fn square(a: &[f64], dim: usize) -> Vec<f64> {
    let mut product = multiply(a, a, dim);
    let largest = product.iter().fold(0f64, |most, value| most.max(value.abs()));
    if largest.is_normal() {
        product.iter_mut().for_each(|value| *value /= largest);
    }
    product
}

/// Makes rows orthonormal, by modified Gram and Schmidt. Rows that others already span are replaced.
fn orthonormalise(rows: &mut [f64], dim: usize) {
    for index in 0..dim {
        let (done, rest) = rows.split_at_mut(index * dim);
        let (row, rest) = rest.split_at_mut(dim);
        let mut coordinate = index;
        while !scale_to_unit(row) {
            row.fill(0.0);
            row[coordinate % dim] = 1.0;
            for _ in 0..2 {
                done.chunks_exact(dim).for_each(|other| subtract(row, other));
            }
            coordinate += 1;
        }
        let row = &*row;
        rest.par_chunks_exact_mut(dim).with_min_len(16).for_each(|other| subtract(other, row));
    }
}

/// Takes from a row what it has of a unit vector.
fn subtract(row: &mut [f64], unit: &[f64]) {
    let mut lanes = [0f64; 8];
    for (x, y) in row.chunks(8).zip(unit.chunks(8)) {
        lanes.iter_mut().zip(x.iter().zip(y)).for_each(|(sum, (x, y))| *sum += x * y);
    }
    let part: f64 = lanes.iter().sum();
    row.iter_mut().zip(unit).for_each(|(value, other)| *value -= part * other);
}

/// False where next to nothing is left to scale.
fn scale_to_unit(row: &mut [f64]) -> bool {
    let norm = row.iter().map(|value| value * value).sum::<f64>().sqrt();
    let sound = norm > 1e-12;
    if sound {
        row.iter_mut().for_each(|value| *value /= norm);
    }
    sound
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::neighbors::calibrate::random_rows;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn inner_products_survive_within_the_slack(dim in 1usize..180, flat in 0usize..180, cut in 0f64..1.0) {
            let mut source = random_rows(40, dim);
            // Dimensions that no row uses, and rows that are all the same.
            for row in source.values.chunks_exact_mut(dim) {
                row[dim - flat % dim..].fill(0.0);
            }
            let first = source.row(0).to_vec();
            source.values[dim..4 * dim].chunks_exact_mut(dim).for_each(|row| row.copy_from_slice(&first));
            let rows: Vec<RowId> = (0..40).collect();
            let head = 1 + (cut * (dim - 1) as f64) as usize;
            let rotation = Rotation::new(Simd::detect(), &source, &rows, head);
            prop_assert!(rotation.slack() < 1e-3, "{}", rotation.slack());
            let mut units = source.clone();
            rows.iter().zip(units.values.chunks_exact_mut(dim)).for_each(|(row, out)| { source.load_unit(*row, out); });
            let mut rotated = units.clone();
            rotation.apply(&mut rotated.values);
            for x in 0..40 {
                for y in 0..40 {
                    let change = dot(units.row(x), units.row(y)) - dot(rotated.row(x), rotated.row(y));
                    prop_assert!(change.abs() <= rotation.slack(), "{change} {}", rotation.slack());
                }
            }
        }
    }

    #[test]
    fn the_head_holds_what_there_is() {
        let dim = 96;
        let mut source = random_rows(500, dim);
        // Weight falls off by the dimension, backwards.
        for row in source.values.chunks_exact_mut(dim) {
            row.iter_mut().enumerate().for_each(|(index, value)| *value *= 0.9f32.powi((dim - index) as i32));
        }
        let rows: Vec<RowId> = (0..500).collect();
        let rotation = Rotation::new(Simd::detect(), &source, &rows, 24);
        let mut values = source.values.clone();
        values.chunks_exact_mut(dim).zip(&rows).for_each(|(out, row)| {
            source.load_unit(*row, out);
        });
        rotation.apply(&mut values);
        let head: f64 = values.chunks_exact(dim).map(|row| dot(&row[..24], &row[..24])).sum::<f64>() / 500.0;
        // The best 24 of 96 such axes hold 1 − 0.9⁴⁸ of the weight.
        assert!(head > 0.99, "{head}");
    }
}

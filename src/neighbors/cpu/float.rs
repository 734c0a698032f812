//! Single precision: unit vectors in f32, interleaved by dimension.
//!
//! Memory: 4 bytes a value, rows rounded up to whole groups (6) or panels (64).

use super::{GROUP, LANES, Left, PANEL, Scores, Simd, TileKernel, UnitRows, simd_float, thresholds, underflow};
use crate::vectors::RowId;

/// A cache line of floats: panels must not straddle lines.
#[derive(Debug, Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
pub struct Line(pub [f32; LANES]);

/// The kernel: a fused multiply-add for each value.
#[derive(Debug, Clone, Copy)]
pub struct Float(pub Simd);

/// Some queries, packed in groups: `[group][dimension][GROUP]`.
#[derive(Debug, Clone)]
pub struct FloatQueries {
    values: Vec<f32>,
    norms: Vec<f64>,
    dim: usize,
}

/// A tile of base rows, packed in panels: `[panel][dimension][PANEL]`.
#[derive(Debug, Clone)]
pub struct FloatBase {
    lines: Vec<Line>,
    norms: Vec<[f32; PANEL]>,
    largest: Vec<f64>,
    dim: usize,
}

impl FloatQueries {
    /// Packs rows. `unit`: the metric ignores norms (cosine).
    pub fn pack(source: &impl UnitRows, rows: &[RowId], unit: bool) -> FloatQueries {
        let dim = source.dim();
        let mut queries =
            FloatQueries { values: vec![0.0; rows.len().div_ceil(GROUP) * GROUP * dim], norms: Vec::new(), dim };
        let mut row_values = vec![0f32; dim];
        for (index, row) in rows.iter().enumerate() {
            let norm = source.load_unit(*row, &mut row_values);
            queries.norms.push(if unit { 1.0 } else { norm });
            let group = &mut queries.values[index / GROUP * GROUP * dim..][..GROUP * dim];
            for (slots, value) in group.chunks_exact_mut(GROUP).zip(&row_values) {
                slots[index % GROUP] = *value;
            }
        }
        queries
    }
}

impl FloatBase {
    /// Packs rows. `unit`: the metric ignores norms (cosine). Memory: 4 bytes a value.
    pub fn pack(source: &impl UnitRows, rows: &[RowId], unit: bool) -> FloatBase {
        let dim = source.dim();
        let panels = rows.len().div_ceil(PANEL);
        let panel_lines = dim * (PANEL / LANES);
        let mut base = FloatBase {
            lines: vec![bytemuck::Zeroable::zeroed(); panels * panel_lines],
            norms: vec![[0.0; PANEL]; panels],
            largest: vec![0.0; panels],
            dim,
        };
        // On this thread alone: one that waits for others would begin another tile meanwhile, and hold both.
        let panels = base.lines.chunks_exact_mut(panel_lines).zip(base.norms.iter_mut().zip(&mut base.largest));
        for ((lines, (norms, largest)), rows) in panels.zip(rows.chunks(PANEL)) {
            *largest = pack_panel(source, rows, unit, lines, norms);
        }
        base
    }
}

impl TileKernel for Float {
    type Queries = FloatQueries;
    type Base = FloatBase;
    type Panel<'a> = (&'a FloatBase, usize);

    fn panel(base: &FloatBase, panel: usize) -> (&FloatBase, usize) {
        (base, panel)
    }

    fn unit(queries: &FloatQueries, query: usize) -> f64 {
        queries.norms[query]
    }

    fn error(queries: &FloatQueries, query: usize, (base, panel): (&FloatBase, usize)) -> f64 {
        let (x, y) = (queries.norms[query], base.largest[panel]);
        relative_error(base.dim) * x * y + underflow(x, y)
    }

    #[inline]
    fn score(
        self,
        queries: &FloatQueries,
        group: usize,
        (base, panel): (&FloatBase, usize),
        floors: &[f32; GROUP],
        scores: &mut Scores,
    ) -> Left {
        let thresholds = thresholds::<Float>(queries, queries.norms.len(), group, (base, panel), floors);
        let values = queries.values[group * GROUP * queries.dim..][..GROUP * queries.dim].as_chunks().0;
        let lines = base.dim * (PANEL / LANES);
        let lines = base.lines[panel * lines..][..lines].as_chunks().0;
        let hits = simd_float::score(self.0, values, lines, &base.norms[panel], &thresholds, scores);
        Left { hits, singled: 0 }
    }
}

/// Largest error of a score between unit vectors: γ(d + 8), two roundings when packed, one a fused step,
/// four of norms, one of the reference, and one to spare (Higham, *Accuracy and Stability of Numerical
/// Algorithms*, section 3.1).
pub(super) fn relative_error(dim: usize) -> f64 {
    let terms = (dim + 8) as f64 * f64::from(f32::EPSILON) / 2.0;
    terms / (1.0 - terms) * 1.001
}

fn pack_panel(source: &impl UnitRows, rows: &[RowId], unit: bool, lines: &mut [Line], norms: &mut [f32; PANEL]) -> f64 {
    let values: &mut [f32] = bytemuck::cast_slice_mut(lines);
    let mut row_values = vec![0f32; source.dim()];
    let mut largest = 0f64;
    for (column, row) in rows.iter().enumerate() {
        let norm = source.load_unit(*row, &mut row_values);
        let norm = if unit { 1.0 } else { norm };
        norms[column] = norm as f32;
        largest = largest.max(norm);
        for (slots, value) in values.chunks_exact_mut(PANEL).zip(&row_values) {
            slots[column] = *value;
        }
    }
    largest
}

/// The reference: one fused step a dimension, in order, as the SIMD kernels do.
pub fn score_scalar(
    queries: &[[f32; GROUP]],
    panel: &[[Line; PANEL / LANES]],
    norms: &[f32; PANEL],
    thresholds: &[f32; GROUP],
    scores: &mut Scores,
) -> [u64; GROUP] {
    let mut hits = [0u64; GROUP];
    for i in 0..GROUP {
        let mut sums = [0f32; PANEL];
        for (query, lines) in queries.iter().zip(panel) {
            for (lane, sum) in sums.iter_mut().enumerate() {
                *sum = query[i].mul_add(lines[lane / LANES].0[lane % LANES], *sum);
            }
        }
        for (column, sum) in sums.iter_mut().enumerate() {
            *sum *= norms[column];
            hits[i] |= u64::from(*sum >= thresholds[i]) << column;
        }
        if hits[i] != 0 {
            scores[i] = sums;
        }
    }
    hits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn simd_kernels_equal_the_reference(dim in 1usize..200, seed in any::<u64>(), spread in 0f32..30.0) {
            use rand::{RngExt, SeedableRng};
            let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            let mut value = || (random.random::<f32>() - 0.5) * (random.random::<f32>() * spread).exp2();
            let queries: Vec<[f32; GROUP]> = (0..dim).map(|_| std::array::from_fn(|_| value())).collect();
            let line = |_| std::array::from_fn(|_| Line(std::array::from_fn(|_| value())));
            let panel: Vec<[Line; PANEL / LANES]> = (0..dim).map(line).collect();
            let norms = std::array::from_fn(|_| value().abs());
            let thresholds = std::array::from_fn(|_| value());
            let mut wanted = [[0f32; PANEL]; GROUP];
            let hits = score_scalar(&queries, &panel, &norms, &thresholds, &mut wanted);
            for simd in Simd::all() {
                let mut found = [[0f32; PANEL]; GROUP];
                prop_assert_eq!(simd_float::score(simd, &queries, &panel, &norms, &thresholds, &mut found), hits);
                prop_assert_eq!(found, wanted);
            }
        }
    }
}

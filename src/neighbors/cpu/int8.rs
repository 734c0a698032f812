//! Eight bits a value, with a certificate: who is ruled out cannot be among the best.
//!
//! A unit vector x̂ is quantised as s·q + r with whole numbers q in ±127; the scale s is its own, and the
//! residual's norm e = ‖r‖ is kept. Then |x̂·ŷ − s_x s_y q_x·q_y| ≤ e_x (‖ŷ‖ + e_y) + ‖x̂‖ e_y. Sums of
//! bytes are exact; the byte instruction takes one side unsigned, so base rows are stored as q + 128 and
//! the sums begin at −128 Σ q_x.
//!
//! Memory: 1 byte a value, rows rounded up to whole groups (6) or panels (64).

use super::packed::Packed;
use super::{GROUP, PANEL, Scores, Simd, TileKernel, UnitRows, simd_int8, thresholds, underflow};
use crate::vectors::RowId;
use crate::vectors::dot::dot;

/// Values of a step: bytes of a 32-bit lane.
pub const STEP: usize = 4;

/// Four values of each of a panel's rows: four cache lines.
#[derive(Debug, Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
pub struct Quad(pub [[u8; STEP]; PANEL]);

/// The kernel: byte dot products.
#[derive(Debug, Clone, Copy)]
pub struct Int8(pub Simd);

/// What is known of a query.
#[derive(Debug, Clone, Copy, Default)]
struct QueryFacts {
    /// Norm (1 for cosine).
    norm: f64,
    /// Norm · scale.
    unit: f64,
    /// Norm of the residual.
    residual: f64,
}

/// Quantised queries, one after the other.
#[derive(Debug, Clone)]
pub struct Quantised {
    values: Vec<[i8; STEP]>,
    /// −128 Σ q of each.
    starts: Vec<i32>,
    facts: Vec<QueryFacts>,
    steps: usize,
}

impl Quantised {
    /// Quantises rows, on this thread. `unit`: the metric ignores norms (cosine).
    pub fn new(source: &impl UnitRows, rows: &[RowId], unit: bool) -> Quantised {
        let dim = source.dim();
        let steps = dim.div_ceil(STEP);
        let mut values = vec![[0i8; STEP]; rows.len() * steps];
        let mut row_values = vec![0f32; dim];
        let (mut starts, mut facts) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        for (out, row) in values.chunks_exact_mut(steps).zip(rows) {
            let norm = source.load_unit(*row, &mut row_values);
            let norm = if unit { 1.0 } else { norm };
            let bytes: &mut [i8] = bytemuck::cast_slice_mut(out);
            let (scale, residual) = quantise(&mut row_values, &mut bytes[..dim]);
            starts.push(-128 * bytes.iter().map(|byte| i32::from(*byte)).sum::<i32>());
            facts.push(QueryFacts { norm, unit: norm * f64::from(scale), residual });
        }
        Quantised { values, starts, facts, steps }
    }

    /// Packs some of them in groups. O(count · dim) bytes are moved.
    pub fn gather(&self, slots: &[u32]) -> Queries {
        let groups = slots.len().div_ceil(GROUP);
        let mut queries = Queries {
            values: vec![[[0; STEP]; GROUP]; groups * self.steps],
            starts: vec![[0; GROUP]; groups],
            facts: Vec::with_capacity(slots.len()),
            steps: self.steps,
        };
        for (index, slot) in slots.iter().map(|slot| *slot as usize).enumerate() {
            let (group, place) = (index / GROUP, index % GROUP);
            queries.starts[group][place] = self.starts[slot];
            queries.facts.push(self.facts[slot]);
            let to = &mut queries.values[group * self.steps..][..self.steps];
            for (group, step) in to.iter_mut().zip(&self.values[slot * self.steps..][..self.steps]) {
                group[place] = *step;
            }
        }
        queries
    }
}

/// Some queries, packed in groups: `[group][step][GROUP]` of four bytes each.
#[derive(Debug, Clone)]
pub struct Queries {
    values: Vec<[[i8; STEP]; GROUP]>,
    starts: Vec<[i32; GROUP]>,
    facts: Vec<QueryFacts>,
    steps: usize,
}

/// What is known of a panel: its largest norm and residual.
#[derive(Debug, Clone, Copy, Default, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C)]
pub struct PanelFacts {
    norm: f64,
    residual: f64,
}

impl TileKernel for Int8 {
    type Queries = Queries;
    type Base = Packed;

    fn unit(queries: &Queries, query: usize) -> f64 {
        queries.facts[query].unit
    }

    #[inline]
    fn error(queries: &Queries, query: usize, base: &Packed, panel: usize) -> f64 {
        let (x, y) = (&queries.facts[query], base.facts(panel));
        // Norms of unit vectors in f32 are within LENGTH of 1; five roundings end the score.
        let relative = (x.residual * (LENGTH + y.residual) + LENGTH * y.residual) * 1.000_001 + ROUNDINGS;
        relative * x.norm * y.norm + underflow(x.norm, y.norm)
    }

    #[inline]
    fn score(
        self,
        queries: &Queries,
        group: usize,
        base: &Packed,
        panel: usize,
        floors: &[f32; GROUP],
        scores: &mut Scores,
    ) -> [u64; GROUP] {
        let thresholds = thresholds::<Int8>(queries, queries.facts.len(), group, base, panel, floors);
        let values = &queries.values[group * queries.steps..][..queries.steps];
        simd_int8::score(
            self.0,
            values,
            &queries.starts[group],
            base.quads(panel),
            base.factors(panel),
            &thresholds,
            scores,
        )
    }
}

/// Norm of a vector that was scaled to unit length and rounded to f32, at most.
pub(super) const LENGTH: f64 = 1.0 + 1e-7;
/// Relative error of what is rounded besides: the unit vectors, the sum as f32, two products, the result.
const ROUNDINGS: f64 = 8.0 * f32::EPSILON as f64;

/// Quantises a vector: (scale, norm of the residual, rounded up). `values` become the residual.
/// Pure. O(dim).
pub fn quantise(values: &mut [f32], out: &mut [i8]) -> (f32, f64) {
    // Eight maxima side by side: one would wait for itself.
    let mut largest = [0f32; 8];
    for chunk in values.chunks(8) {
        largest.iter_mut().zip(chunk).for_each(|(most, value)| *most = most.max(value.abs()));
    }
    let largest = largest.into_iter().fold(0f32, f32::max);
    // Of a unit vector the largest value is at least 1/√dim: the scale is a normal number.
    let scale = (largest / 127.0).max(f32::MIN_POSITIVE);
    let inverse = scale.recip();
    for (byte, value) in out.iter_mut().zip(&mut *values) {
        // Adding and taking away 1.5 · 2²³ rounds to whole numbers, ties to even.
        let whole = ((*value * inverse).clamp(-127.0, 127.0) + ROUND) - ROUND;
        *byte = whole as i32 as i8;
        // Exact but for the rounding to f32, which the last factor covers.
        *value = (f64::from(*value) - f64::from(scale) * f64::from(whole)) as f32;
    }
    (scale, dot(values, values).sqrt() * (1.0 + 1e-6))
}

const ROUND: f32 = 12_582_912.0;

/// Packs one panel. O(rows · dim).
pub fn pack_panel(
    source: &impl UnitRows,
    rows: &[RowId],
    unit: bool,
    quads: &mut [Quad],
    factors: &mut [f32; PANEL],
) -> PanelFacts {
    let dim = source.dim();
    let (mut row_values, mut bytes) = (vec![0f32; dim], vec![0i8; dim.next_multiple_of(STEP)]);
    let mut facts = PanelFacts::default();
    for (column, row) in rows.iter().enumerate() {
        let norm = source.load_unit(*row, &mut row_values);
        let norm = if unit { 1.0 } else { norm };
        let (scale, residual) = quantise(&mut row_values, &mut bytes[..dim]);
        factors[column] = (f64::from(scale) * norm) as f32;
        facts.norm = facts.norm.max(norm);
        facts.residual = facts.residual.max(residual);
        for (quad, step) in quads.iter_mut().zip(bytes.as_chunks::<STEP>().0) {
            quad.0[column] = step.map(|byte| (byte as u8) ^ 0x80);
        }
    }
    facts
}

/// The reference.
pub fn score_scalar(
    queries: &[[[i8; STEP]; GROUP]],
    starts: &[i32; GROUP],
    panel: &[Quad],
    factors: &[f32; PANEL],
    thresholds: &[f32; GROUP],
    scores: &mut Scores,
) -> [u64; GROUP] {
    let mut hits = [0u64; GROUP];
    for i in 0..GROUP {
        let mut sums = [starts[i]; PANEL];
        for (query, quad) in queries.iter().zip(panel) {
            for (sum, bytes) in sums.iter_mut().zip(&quad.0) {
                *sum += query[i].iter().zip(bytes).map(|(x, y)| i32::from(*x) * i32::from(*y)).sum::<i32>();
            }
        }
        let row: [f32; PANEL] = std::array::from_fn(|column| sums[column] as f32 * factors[column]);
        for (column, score) in row.iter().enumerate() {
            hits[i] |= u64::from(*score >= thresholds[i]) << column;
        }
        if hits[i] != 0 {
            scores[i] = row;
        }
    }
    hits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};

    fn unit(values: &mut [f32]) {
        let norm = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        values.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn simd_kernels_equal_the_reference(steps in 1usize..120, seed in any::<u64>()) {
            let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            let queries: Vec<[[i8; STEP]; GROUP]> =
                (0..steps).map(|_| std::array::from_fn(|_| std::array::from_fn(|_| random.random_range(-127..=127)))).collect();
            let panel: Vec<Quad> =
                (0..steps).map(|_| Quad(std::array::from_fn(|_| std::array::from_fn(|_| random.random_range(1..=255))))).collect();
            let starts = std::array::from_fn(|_| random.random_range(-1_000_000..1_000_000));
            let factors = std::array::from_fn(|_| random.random::<f32>());
            let thresholds = std::array::from_fn(|_| random.random_range(-1e5f32..1e5));
            let mut wanted = [[0f32; PANEL]; GROUP];
            let hits = score_scalar(&queries, &starts, &panel, &factors, &thresholds, &mut wanted);
            for simd in Simd::all() {
                let mut found = [[0f32; PANEL]; GROUP];
                let mask = simd_int8::score(simd, &queries, &starts, &panel, &factors, &thresholds, &mut found);
                prop_assert_eq!(mask, hits);
                prop_assert_eq!(found, wanted);
            }
        }

        #[test]
        fn the_bound_holds_whatever_the_vectors(
            dim in 1usize..300, seed in any::<u64>(), spread in prop_oneof![Just(0f32), 0f32..120.0], dominant in any::<bool>(),
        ) {
            let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            let mut vector = || {
                let mut values: Vec<f32> =
                    (0..dim).map(|_| (random.random::<f32>() - 0.5) * (random.random::<f32>() * spread - spread / 2.0).exp2()).collect();
                if dominant {
                    values[0] = 1e4 * values.iter().fold(0f32, |m, v| m.max(v.abs())).max(1e-30);
                }
                values[dim - 1] += 1e-30;
                unit(&mut values);
                values
            };
            let (x, y) = (vector(), vector());
            let (mut qx, mut qy) = (vec![0i8; dim], vec![0i8; dim]);
            let ((sx, ex), (sy, ey)) = (quantise(&mut x.clone(), &mut qx), quantise(&mut y.clone(), &mut qy));
            let sum: i32 = qx.iter().zip(&qy).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum();
            let approximate = f64::from(sum as f32 * sy) * f64::from(sx);
            let truth: f64 = x.iter().zip(&y).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let bound = (ex * (LENGTH + ey) + LENGTH * ey) * 1.000_001 + ROUNDINGS;
            prop_assert!((approximate - truth).abs() <= bound, "{approximate} {truth} {bound}");
        }
    }
}

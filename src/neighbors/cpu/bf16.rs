//! Sixteen bits a value: unit vectors in bf16, multiplied in pairs, with int8's certificate.
//!
//! A unit vector x̂ is rounded to x̃, and e = ‖x̂ − x̃‖ is kept: |x̂·ŷ − x̃·ỹ| ≤ e_x (‖ŷ‖ + e_y) + ‖x̂‖ e_y. Sums
//! of products run in f32, and their roundings are added to that bound.
//!
//! The reference gives the bits that the instruction is documented to give, and did give wherever it was tried:
//! of each pair the second product is added first, each by one fused step that rounds to nearest even, takes
//! subnormal numbers for zero, and leaves zero for them. The bound holds for any order of steps, and the search
//! rests on the bound alone.
//!
//! Memory: 2 bytes a value, rows rounded up to whole groups (6) or panels (64), dimensions to pairs.

use half::bf16;

use super::float::relative_error;
use super::int8::LENGTH;
use super::{GROUP, Left, PANEL, Scores, Simd, TileKernel, UnitRows, simd_bf16, thresholds, underflow};
use crate::vectors::RowId;
use crate::vectors::dot::dot;

/// Values of a step: what fits a 32-bit lane.
pub const STEP: usize = 2;

/// Two values of each of a panel's rows: four cache lines.
#[derive(Debug, Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
pub struct Pairs(pub [[bf16; STEP]; PANEL]);

/// The kernel: dot products of pairs.
#[derive(Debug, Clone, Copy)]
pub struct Bf16(pub Simd);

/// What is known of a query, or at most of a panel's rows.
#[derive(Debug, Clone, Copy, Default)]
struct Facts {
    /// Norm (1 for cosine).
    norm: f64,
    /// Norm of the residual.
    residual: f64,
}

/// Some queries, packed in groups: `[group][step][GROUP]` of two values each.
#[derive(Debug, Clone)]
pub struct Bf16Queries {
    values: Vec<[[bf16; STEP]; GROUP]>,
    facts: Vec<Facts>,
    steps: usize,
}

/// A tile of base rows, packed in panels: `[panel][step][PANEL]` of two values each.
#[derive(Debug, Clone)]
pub struct Bf16Base {
    pairs: Vec<Pairs>,
    norms: Vec<[f32; PANEL]>,
    facts: Vec<Facts>,
    dim: usize,
}

impl Bf16Queries {
    /// Packs rows. `unit`: the metric ignores norms (cosine). Memory: 2 bytes a value.
    pub fn pack(source: &impl UnitRows, rows: &[RowId], unit: bool) -> Bf16Queries {
        let steps = source.dim().div_ceil(STEP);
        let mut queries = Bf16Queries {
            values: vec![[[bf16::ZERO; STEP]; GROUP]; rows.len().div_ceil(GROUP) * steps],
            facts: Vec::with_capacity(rows.len()),
            steps,
        };
        let mut rounder = Rounder::new(source.dim());
        for (index, row) in rows.iter().enumerate() {
            queries.facts.push(rounder.load(source, *row, unit));
            let group = &mut queries.values[index / GROUP * steps..][..steps];
            for (slots, step) in group.iter_mut().zip(rounder.steps()) {
                slots[index % GROUP] = *step;
            }
        }
        queries
    }
}

impl Bf16Base {
    /// Packs rows. `unit`: the metric ignores norms (cosine). Memory: 2 bytes a value.
    pub fn pack(source: &impl UnitRows, rows: &[RowId], unit: bool) -> Bf16Base {
        let dim = source.dim();
        let (panels, steps) = (rows.len().div_ceil(PANEL), dim.div_ceil(STEP));
        let mut base = Bf16Base {
            pairs: vec![bytemuck::Zeroable::zeroed(); panels * steps],
            norms: vec![[0.0; PANEL]; panels],
            facts: vec![Facts::default(); panels],
            dim,
        };
        let mut rounder = Rounder::new(dim);
        // On this thread alone: one that waits for others would begin another tile meanwhile, and hold both.
        let panels = base.pairs.chunks_exact_mut(steps).zip(base.norms.iter_mut().zip(&mut base.facts));
        for ((pairs, (norms, largest)), rows) in panels.zip(rows.chunks(PANEL)) {
            for (column, row) in rows.iter().enumerate() {
                let facts = rounder.load(source, *row, unit);
                norms[column] = facts.norm as f32;
                largest.norm = largest.norm.max(facts.norm);
                largest.residual = largest.residual.max(facts.residual);
                for (pair, step) in pairs.iter_mut().zip(rounder.steps()) {
                    pair.0[column] = *step;
                }
            }
        }
        base
    }
}

impl TileKernel for Bf16 {
    type Queries = Bf16Queries;
    type Base = Bf16Base;
    type Panel<'a> = (&'a Bf16Base, usize);

    fn panel(base: &Bf16Base, panel: usize) -> (&Bf16Base, usize) {
        (base, panel)
    }

    fn unit(queries: &Bf16Queries, query: usize) -> f64 {
        queries.facts[query].norm
    }

    #[inline]
    fn error(queries: &Bf16Queries, query: usize, (base, panel): (&Bf16Base, usize)) -> f64 {
        let (x, y) = (&queries.facts[query], &base.facts[panel]);
        relative_bound(base.dim, x.residual, y.residual) * x.norm * y.norm + underflow(x.norm, y.norm)
    }

    #[inline]
    fn score(
        self,
        queries: &Bf16Queries,
        group: usize,
        (base, panel): (&Bf16Base, usize),
        floors: &[f32; GROUP],
        scores: &mut Scores,
    ) -> Left {
        let thresholds = thresholds::<Bf16>(queries, queries.facts.len(), group, (base, panel), floors);
        let values = &queries.values[group * queries.steps..][..queries.steps];
        let pairs = &base.pairs[panel * queries.steps..][..queries.steps];
        let hits = simd_bf16::score(self.0, values, pairs, &base.norms[panel], &thresholds, scores);
        Left { hits, singled: 0 }
    }
}

/// Largest error of a score between unit vectors with such residuals: what rounding to bf16 does, and f32's
/// roundings of numbers up to the lengths of the rounded vectors. These are as many as f32's kernel has: a fused
/// step a dimension (the added one of an odd number is exact), four of norms, two packings, one of the reference,
/// and one to spare, which also takes up the subnormal sums that are left as zero: 2⁻¹²⁶ a step.
fn relative_bound(dim: usize, x: f64, y: f64) -> f64 {
    let rounding = x * (LENGTH + y) + LENGTH * y;
    rounding * 1.000_001 + relative_error(dim) * (LENGTH + x) * (LENGTH + y)
}

/// Loads rows and rounds them.
struct Rounder {
    row: Vec<f32>,
    rounded: Vec<bf16>,
}

impl Rounder {
    fn new(dim: usize) -> Rounder {
        Rounder { row: vec![0.0; dim], rounded: vec![bf16::ZERO; dim.next_multiple_of(STEP)] }
    }

    fn load(&mut self, source: &impl UnitRows, row: RowId, unit: bool) -> Facts {
        let norm = source.load_unit(row, &mut self.row);
        let residual = round(&mut self.row, &mut self.rounded[..source.dim()]);
        Facts { norm: if unit { 1.0 } else { norm }, residual }
    }

    fn steps(&self) -> &[[bf16; STEP]] {
        self.rounded.as_chunks().0
    }
}

/// Rounds a vector of finite numbers to the nearest ones of bf16, ties to even: the norm of the residual, rounded
/// up. Subnormal numbers become zero, as which the instruction would take them. `values` become the residual.
/// Pure. O(dim).
pub fn round(values: &mut [f32], out: &mut [bf16]) -> f64 {
    for (rounded, value) in out.iter_mut().zip(&mut *values) {
        // What carries out of the digits belongs to the exponent. (`half` asks for NaN first: seven times as slow.)
        let bits = value.to_bits();
        let kept = flush(f32::from_bits(bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000));
        *rounded = bf16::from_bits((kept.to_bits() >> 16) as u16);
        // Exact: what was cut off has the lower digits of the value.
        *value -= kept;
    }
    dot(values, values).sqrt() * (1.0 + 1e-6)
}

/// Zero of the same sign for subnormal numbers.
#[inline]
fn flush(value: f32) -> f32 {
    if value.abs() < f32::MIN_POSITIVE { 0f32.copysign(value) } else { value }
}

/// The reference: what the instruction does, step by step.
pub fn score_scalar(
    queries: &[[[bf16; STEP]; GROUP]],
    panel: &[Pairs],
    norms: &[f32; PANEL],
    thresholds: &[f32; GROUP],
    scores: &mut Scores,
) -> [u64; GROUP] {
    let mut hits = [0u64; GROUP];
    for i in 0..GROUP {
        let mut sums = [0f32; PANEL];
        for (query, pairs) in queries.iter().zip(panel) {
            let [first, second] = query[i].map(|value| flush(value.to_f32()));
            for (sum, pair) in sums.iter_mut().zip(&pairs.0) {
                let [a, b] = pair.map(|value| flush(value.to_f32()));
                *sum = flush(first.mul_add(a, flush(second.mul_add(b, *sum))));
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
    use crate::neighbors::cpu::{Matrix, to_unit};
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn simd_kernels_equal_the_reference(steps in 1usize..120, seed in any::<u64>(), spread in 0f32..250.0) {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            // Down to subnormal numbers; sums stay finite.
            let mut number = || {
                let size = (random.random::<f32>() * spread - spread).clamp(-130.0, 0.0).exp2();
                (random.random::<f32>() - 0.5) * size
            };
            let mut value = || bf16::from_f32(number());
            let queries: Vec<[[bf16; STEP]; GROUP]> =
                (0..steps).map(|_| std::array::from_fn(|_| std::array::from_fn(|_| value()))).collect();
            let panel: Vec<Pairs> =
                (0..steps).map(|_| Pairs(std::array::from_fn(|_| std::array::from_fn(|_| value())))).collect();
            let norms = std::array::from_fn(|_| number().abs());
            let thresholds = std::array::from_fn(|_| number());
            let mut wanted = [[0f32; PANEL]; GROUP];
            let hits = score_scalar(&queries, &panel, &norms, &thresholds, &mut wanted);
            for simd in Simd::all() {
                let mut found = [[0f32; PANEL]; GROUP];
                prop_assert_eq!(simd_bf16::score(simd, &queries, &panel, &norms, &thresholds, &mut found), hits);
                prop_assert_eq!(found.map(|row| row.map(f32::to_bits)), wanted.map(|row| row.map(f32::to_bits)));
            }
        }

        #[test]
        fn the_bound_holds_whatever_the_vectors(
            dim in 1usize..300, seed in any::<u64>(), spread in prop_oneof![Just(0f32), 0f32..200.0],
            (dominant, alike, unit) in any::<(bool, bool, bool)>(), size in -40f32..40.0,
        ) {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let mut matrix = Matrix { values: Vec::new(), dim };
            for _ in 0..PANEL + GROUP {
                let mut values: Vec<f32> = (0..dim)
                    .map(|_| (random.random::<f32>() - 0.5) * (random.random::<f32>() * spread - spread / 2.0).exp2())
                    .collect();
                if alike {
                    // All are rounded the same way: residuals are parallel to the vectors, and the bound is tight.
                    values.iter_mut().for_each(|value| *value = 1.0 + *value * 1e-4);
                }
                if dominant {
                    values[0] = 1e4 * values.iter().fold(0f32, |m, v| m.max(v.abs())).max(1e-30);
                }
                values[dim - 1] += 1e-30;
                to_unit(&mut values);
                let scale = (size + random.random::<f32>() * 4.0).exp2();
                matrix.values.extend(values.iter().map(|value| value * scale));
            }
            let base_rows: Vec<RowId> = (0..PANEL as RowId).collect();
            let query_rows: Vec<RowId> = (PANEL as RowId..(PANEL + GROUP) as RowId).collect();
            let base = Bf16Base::pack(&matrix, &base_rows, unit);
            let queries = Bf16Queries::pack(&matrix, &query_rows, unit);
            let row = |row: usize| &matrix.values[row * dim..][..dim];
            let norm = |row: &[f32]| if unit { dot(row, row).sqrt() } else { 1.0 };
            for simd in Simd::all() {
                let mut scores = [[0f32; PANEL]; GROUP];
                let hits = Bf16(simd).score(&queries, 0, (&base, 0), &[f32::NEG_INFINITY; GROUP], &mut scores).hits;
                prop_assert_eq!(hits, [u64::MAX; GROUP]);
                for (query, scores) in scores.iter().enumerate() {
                    let (bound, scale) = (Bf16::error(&queries, query, (&base, 0)), Bf16::unit(&queries, query));
                    for (column, score) in scores.iter().enumerate() {
                        let (x, y) = (row(PANEL + query), row(column));
                        let truth = dot(x, y) / (norm(x) * norm(y));
                        let given = f64::from(*score) * scale;
                        prop_assert!((given - truth).abs() <= bound, "{given} {truth} {bound}");
                    }
                }
            }
        }

        #[test]
        fn rounding_is_to_the_nearest_and_its_residual_is_not_too_small(seed in any::<u64>(), dim in 1usize..300) {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let values: Vec<f32> =
                (0..dim).map(|_| f32::from_bits(random.random())).filter(|v| v.abs() < 1e30).collect();
            let mut rounded = vec![bf16::ZERO; values.len()];
            let residual = round(&mut values.clone(), &mut rounded);
            let mut squares = 0f64;
            for (value, rounded) in values.iter().zip(&rounded) {
                prop_assert_eq!(rounded.to_f32().to_bits(), flush(bf16::from_f32(*value).to_f32()).to_bits());
                let error = (f64::from(*value) - rounded.to_f64()).abs();
                squares += error * error;
                let most = if rounded.to_f32() == 0.0 { f32::MIN_POSITIVE } else { value.abs() / 256.0 };
                prop_assert!(error <= f64::from(most));
            }
            prop_assert!(squares.sqrt() <= residual);
        }
    }
}

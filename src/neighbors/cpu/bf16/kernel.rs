//! The bf16 kernel: what it errs by, and how it is called.

use super::packed::{Bf16Base, Bf16Queries};
use super::simd;
use crate::neighbors::cpu::bounds::{LENGTH, relative_error, underflow};
use crate::neighbors::cpu::scan::{Cutoffs, PanelHits, Scores, Thresholds, TileKernel, cutoffs_one_by_one};
use crate::neighbors::cpu::simd::Simd;

/// The kernel: dot products of pairs.
#[derive(Debug, Clone, Copy)]
pub struct Bf16(pub Simd);

impl TileKernel for Bf16 {
    type Queries = Bf16Queries;
    type Base = Bf16Base;
    type Panel<'a> = (&'a Bf16Base, usize);

    fn count(queries: &Bf16Queries) -> usize {
        queries.facts.len()
    }

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
    fn cutoffs(self, queries: &Bf16Queries, panel: (&Bf16Base, usize), thresholds: &[Thresholds], to: &mut [Cutoffs]) {
        cutoffs_one_by_one::<Bf16>(queries, panel, thresholds, to);
    }

    #[inline]
    fn score(
        self,
        queries: &Bf16Queries,
        group: usize,
        (base, panel): (&Bf16Base, usize),
        cutoffs: &Cutoffs,
        scores: &mut Scores,
    ) -> PanelHits {
        let values = &queries.values[group * queries.steps..][..queries.steps];
        let pairs = &base.pairs[panel * queries.steps..][..queries.steps];
        let hits = simd::score(self.0, values, pairs, &base.norms[panel], &cutoffs.first, scores);
        PanelHits { hits, singled: 0 }
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

#[cfg(test)]
mod tests {
    use half::bf16;
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::layout::{Bf16Step, Pairs};
    use super::super::packed::round;
    use super::super::reference::{flush, score_scalar};
    use super::*;
    use crate::config::Metric;
    use crate::neighbors::cpu::matrix::{Matrix, to_unit};
    use crate::neighbors::cpu::scan::{GROUP, PANEL, PLACES};
    use crate::vectors::RowId;
    use crate::vectors::dot::dot;

    /// So many, but few in an interpreter, which takes minutes for what a machine does in none.
    const fn most(number: usize) -> usize {
        if cfg!(miri) { 6 } else { number }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(most(64) as u32))]
        #[test]
        fn simd_kernels_equal_the_reference(steps in 1..most(120), seed in any::<u64>(), spread in 0f32..250.0) {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            // Down to subnormal numbers; sums stay finite.
            let mut number = || {
                let size = (random.random::<f32>() * spread - spread).clamp(-130.0, 0.0).exp2();
                (random.random::<f32>() - 0.5) * size
            };
            let mut value = || bf16::from_f32(number());
            let queries: Vec<Bf16Step> =
                (0..steps).map(|_| std::array::from_fn(|_| std::array::from_fn(|_| value()))).collect();
            let panel: Vec<Pairs> =
                (0..steps).map(|_| Pairs(std::array::from_fn(|_| std::array::from_fn(|_| value())))).collect();
            let norms = std::array::from_fn(|_| number().abs());
            let cutoffs = std::array::from_fn(|_| number());
            let mut wanted = [[0f32; PANEL]; GROUP];
            let hits = score_scalar(&queries, &panel, &norms, &cutoffs, &mut wanted);
            for simd in Simd::all() {
                let mut found = [[0f32; PANEL]; GROUP];
                prop_assert_eq!(simd::score(simd, &queries, &panel, &norms, &cutoffs, &mut found), hits);
                for i in 0..GROUP {
                    let [row, same] = [found[i], wanted[i]].map(|row| row.map(f32::to_bits));
                    // Without a hit, a row may be left as it was.
                    prop_assert!(row == same || hits[i] == 0 && row == [0; PANEL]);
                }
            }
        }

        #[test]
        fn the_bound_holds_whatever_the_vectors(
            dim in 1..most(300), seed in any::<u64>(), spread in prop_oneof![Just(0f32), 0f32..200.0],
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
            let metric = if unit { Metric::Cosine } else { Metric::Dot };
            let base = Bf16Base::pack(&matrix, &base_rows, metric);
            let queries = Bf16Queries::pack(&matrix, &query_rows, metric);
            let row = |row: usize| &matrix.values[row * dim..][..dim];
            let norm = |row: &[f32]| if unit { dot(row, row).sqrt() } else { 1.0 };
            for simd in Simd::all() {
                let mut scores = [[0f32; PANEL]; GROUP];
                let everything = Cutoffs::equal([f32::NEG_INFINITY; PLACES]);
                let hits = Bf16(simd).score(&queries, 0, (&base, 0), &everything, &mut scores).hits;
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
        fn rounding_is_to_the_nearest_and_its_residual_is_not_too_small(seed in any::<u64>(), dim in 1..most(300)) {
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

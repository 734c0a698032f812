//! The float kernel: what it errs by, and how it is called.

use super::packed::{FloatBase, FloatQueries};
use super::simd;
use crate::neighbors::cpu::bounds::{relative_error, underflow};
use crate::neighbors::cpu::scan::{
    Cutoffs, GROUP, LANES, PANEL, PanelHits, Scores, Thresholds, TileKernel, cutoffs_one_by_one,
};
use crate::neighbors::cpu::simd::Simd;

/// The kernel: a fused multiply-add for each value.
#[derive(Debug, Clone, Copy)]
pub struct Float(pub Simd);

impl TileKernel for Float {
    type Queries = FloatQueries;
    type Base = FloatBase;
    type Panel<'a> = (&'a FloatBase, usize);

    fn count(queries: &FloatQueries) -> usize {
        queries.norms.len()
    }

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
    fn cutoffs(
        self,
        queries: &FloatQueries,
        panel: (&FloatBase, usize),
        thresholds: &[Thresholds],
        to: &mut [Cutoffs],
    ) {
        cutoffs_one_by_one::<Float>(queries, panel, thresholds, to);
    }

    #[inline]
    fn score(
        self,
        queries: &FloatQueries,
        group: usize,
        (base, panel): (&FloatBase, usize),
        cutoffs: &Cutoffs,
        scores: &mut Scores,
    ) -> PanelHits {
        let values = queries.values[group * GROUP * queries.dim..][..GROUP * queries.dim].as_chunks().0;
        let lines = base.dim * (PANEL / LANES);
        let lines = base.lines[panel * lines..][..lines].as_chunks().0;
        let hits = simd::score(self.0, values, lines, &base.norms[panel], &cutoffs.first, scores);
        PanelHits { hits, singled: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::{FloatLines, FloatStep, Line};
    use super::super::reference::score_scalar;
    use super::*;
    use proptest::prelude::*;

    /// So many, but few in an interpreter, which takes minutes for what a machine does in none.
    const fn most(number: usize) -> usize {
        if cfg!(miri) { 6 } else { number }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(most(64) as u32))]
        #[test]
        fn simd_kernels_equal_the_reference(dim in 1..most(200), seed in any::<u64>(), spread in 0f32..30.0) {
            use rand::{RngExt, SeedableRng};
            let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            let mut value = || (random.random::<f32>() - 0.5) * (random.random::<f32>() * spread).exp2();
            let queries: Vec<FloatStep> = (0..dim).map(|_| std::array::from_fn(|_| value())).collect();
            let line = |_| std::array::from_fn(|_| Line(std::array::from_fn(|_| value())));
            let panel: Vec<FloatLines> = (0..dim).map(line).collect();
            let norms = std::array::from_fn(|_| value().abs());
            let cutoffs = std::array::from_fn(|_| value());
            let mut wanted = [[0f32; PANEL]; GROUP];
            let hits = score_scalar(&queries, &panel, &norms, &cutoffs, &mut wanted);
            for simd in Simd::all() {
                let mut found = [[0f32; PANEL]; GROUP];
                prop_assert_eq!(simd::score(simd, &queries, &panel, &norms, &cutoffs, &mut found), hits);
                for i in 0..GROUP {
                    // Without a hit, a row may be left as it was.
                    prop_assert!(found[i] == wanted[i] || hits[i] == 0 && found[i] == [0.0; PANEL]);
                }
            }
        }
    }
}

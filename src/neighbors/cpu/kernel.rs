//! The micro-kernel: 6 queries against a panel of 64 base rows, thresholds applied in registers.

use super::pack::{GROUP, LANES, Line, PANEL};
use super::simd;

/// A kernel that this machine can run; chosen once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// 512-bit registers.
    Avx512,
    /// 256-bit registers with fused multiply-add.
    Avx2,
    /// Portable reference.
    Scalar,
}

impl Kernel {
    /// The fastest kernel of this machine.
    pub fn detect() -> Kernel {
        if simd::has_avx512() {
            Kernel::Avx512
        } else if simd::has_avx2() {
            Kernel::Avx2
        } else {
            Kernel::Scalar
        }
    }

    /// Scores a group against a panel. Row i of `scores` is written only where a score reaches
    /// `thresholds[i]`; the result has one bit for each column that does.
    ///
    /// Shapes: `queries` [dim][GROUP], `panel` [dim][PANEL], both of unit vectors; a score is their inner
    /// product times the base row's norm.
    ///
    /// # Panics
    /// The two lengths disagree.
    #[inline]
    pub fn score(
        self,
        queries: &[f32],
        panel: &[Line],
        norms: &[f32; PANEL],
        thresholds: &[f32; GROUP],
        scores: &mut [[f32; PANEL]; GROUP],
    ) -> [u64; GROUP] {
        let (queries, rest) = queries.as_chunks::<GROUP>();
        let (panel, rest_of_panel) = panel.as_chunks::<{ PANEL / LANES }>();
        assert!(rest.is_empty() && rest_of_panel.is_empty() && queries.len() == panel.len());
        match self {
            Kernel::Avx512 => simd::score_avx512(queries, panel, norms, thresholds, scores),
            Kernel::Avx2 => simd::score_avx2(queries, panel, norms, thresholds, scores),
            Kernel::Scalar => score_scalar(queries, panel, norms, thresholds, scores),
        }
    }
}

/// The reference: one fused step a dimension, in order, as the SIMD kernels do.
pub fn score_scalar(
    queries: &[[f32; GROUP]],
    panel: &[[Line; PANEL / LANES]],
    norms: &[f32; PANEL],
    thresholds: &[f32; GROUP],
    scores: &mut [[f32; PANEL]; GROUP],
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
            let queries: Vec<f32> = (0..dim * GROUP).map(|_| value()).collect();
            let panel: Vec<Line> = (0..dim * PANEL / LANES).map(|_| Line(std::array::from_fn(|_| value()))).collect();
            let norms = std::array::from_fn(|_| value().abs());
            let thresholds = std::array::from_fn(|_| value());
            let mut wanted = [[0f32; PANEL]; GROUP];
            let hits = Kernel::Scalar.score(&queries, &panel, &norms, &thresholds, &mut wanted);
            let machine = [(simd::has_avx512(), Kernel::Avx512), (simd::has_avx2(), Kernel::Avx2)];
            for (_, kernel) in machine.into_iter().filter(|(there, _)| *there) {
                let mut found = [[0f32; PANEL]; GROUP];
                prop_assert_eq!(kernel.score(&queries, &panel, &norms, &thresholds, &mut found), hits);
                prop_assert_eq!(found, wanted);
            }
        }
    }
}

//! The float kernel in portable code.

use super::layout::{FloatLines, FloatStep};
use crate::neighbors::cpu::bounds::fused;
use crate::neighbors::cpu::scan::{GROUP, LANES, PANEL, Scores, Thresholds};

/// The reference: one fused step a dimension, in order, as the SIMD kernels do.
pub(super) fn score_scalar(
    queries: &[FloatStep],
    panel: &[FloatLines],
    norms: &[f32; PANEL],
    cutoffs: &Thresholds,
    scores: &mut Scores,
) -> [u64; GROUP] {
    let mut hits = [0u64; GROUP];
    for i in 0..GROUP {
        let mut sums = [0f32; PANEL];
        for (query, lines) in queries.iter().zip(panel) {
            for (lane, sum) in sums.iter_mut().enumerate() {
                *sum = fused(query[i], lines[lane / LANES].0[lane % LANES], *sum);
            }
        }
        for (column, sum) in sums.iter_mut().enumerate() {
            *sum *= norms[column];
            hits[i] |= u64::from(*sum >= cutoffs[i]) << column;
        }
        scores[i] = sums;
    }
    hits
}

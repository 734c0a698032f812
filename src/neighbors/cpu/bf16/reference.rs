//! The bf16 kernel in portable code: what the instruction does, step by step.

use super::layout::{Bf16Step, Pairs};
use crate::neighbors::cpu::bounds::fused;
use crate::neighbors::cpu::scan::{GROUP, PANEL, Scores, Thresholds};

pub(super) fn score_scalar(
    queries: &[Bf16Step],
    panel: &[Pairs],
    norms: &[f32; PANEL],
    cutoffs: &Thresholds,
    scores: &mut Scores,
) -> [u64; GROUP] {
    let mut hits = [0u64; GROUP];
    for i in 0..GROUP {
        let mut sums = [0f32; PANEL];
        for (query, pairs) in queries.iter().zip(panel) {
            let [first, second] = query[i].map(|value| flush(value.to_f32()));
            for (sum, pair) in sums.iter_mut().zip(&pairs.0) {
                let [a, b] = pair.map(|value| flush(value.to_f32()));
                *sum = flush(fused(first, a, flush(fused(second, b, *sum))));
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

/// Zero of the same sign for subnormal numbers.
#[inline]
pub(super) fn flush(value: f32) -> f32 {
    if value.abs() < f32::MIN_POSITIVE { 0f32.copysign(value) } else { value }
}

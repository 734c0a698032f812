//! The byte kernels in portable code, their cutoffs, and what SIMD shares with them.

use super::layout::{GroupFacts, Heads, Int8Panel, PanelFacts, QueryLine, TailLine, Tails};
use crate::neighbors::cpu::bounds::{fused, underflow};
use crate::neighbors::cpu::scan::{Cutoffs, GROUP, PANEL, Scores, Thresholds};

/// Relative error of what is rounded besides, in scores that are at most about 2 before they are scaled: the
/// unit vectors, what is left of them without the lead, the sums as f32, the products, their sum, the result.
const ROUNDINGS: f64 = 32.0 * f32::EPSILON as f64;

/// What a relative bound is worth in similarities.
#[inline(always)]
pub(super) fn whole_error(relative: f64, query_norm: f64, base_norm: f64) -> f64 {
    (relative * 1.000_001 + ROUNDINGS) * query_norm * base_norm + underflow(query_norm, base_norm)
}

/// What heads' scores of each group, with the most that the tails can add, must reach so that similarities can reach
/// the thresholds; and what whole scores must reach. Pure; compiled for each kernel. O(groups).
#[inline(always)]
pub(super) fn cutoffs_each(
    x: &[GroupFacts],
    y: &PanelFacts,
    slack: f64,
    thresholds: &[Thresholds],
    cutoffs: &mut [Cutoffs],
) {
    for ((x, thresholds), cutoffs) in x.iter().zip(thresholds).zip(cutoffs) {
        for (i, threshold) in thresholds.iter().map(|threshold| f64::from(*threshold)).enumerate() {
            // What a rotation changes is a share of the lengths that it turned.
            let turned = slack * (x.lengths[0][i] + x.lengths[1][i]) * (y.head[0] + y.tail[0]);
            let head = turned + x.residuals[0][i] * y.head[0] + x.lengths[0][i] * y.head[1];
            let both = head + x.residuals[1][i] * y.tail[0] + x.lengths[1][i] * y.tail[1];
            let head_least = (threshold - whole_error(head, x.norms[i], y.norm)) * x.inverses[1][i];
            let least = (threshold - whole_error(both, x.norms[i], y.norm)) * x.inverses[0][i];
            // Below what the conversion to f32 can round up. Without a query this is NaN, which nothing reaches.
            cutoffs.first[i] = (head_least - head_least.abs() * 1e-6 - f64::from(f32::MIN_POSITIVE)) as f32;
            cutoffs.whole[i] = (least - least.abs() * 1e-6 - f64::from(f32::MIN_POSITIVE)) as f32;
        }
    }
}

/// The reference.
pub(super) fn score_scalar(q: Heads<'_>, p: Int8Panel<'_>, cutoffs: &Thresholds, scores: &mut Scores) -> [u64; GROUP] {
    let mut hits = [0u64; GROUP];
    for i in 0..GROUP {
        let mut sums = [q.starts[i]; PANEL];
        for (query, quad) in q.values.iter().zip(p.quads) {
            for (sum, bytes) in sums.iter_mut().zip(&quad.0) {
                *sum += query[i].iter().zip(bytes).map(|(x, y)| i32::from(*x) * i32::from(*y)).sum::<i32>();
            }
        }
        let row: [f32; PANEL] = std::array::from_fn(|column| {
            let (sum, factor) = (sums[column] as f32, p.factors[column]);
            if q.is_led { fused(sum, factor, q.leads[i] * p.leads[column]) } else { sum * factor }
        });
        for (column, score) in row.iter().enumerate() {
            let most = fused(q.reaches[i], p.bounds[column], *score);
            hits[i] |= u64::from(most >= cutoffs[i]) << column;
        }
        scores[i] = row;
    }
    hits
}

/// The reference.
pub(super) fn finish_scalar(tails: Tails<'_>, masks: [u64; GROUP], scores: &mut Scores) -> ([u64; GROUP], u32) {
    finish_each(tails, masks, scores, |x, y| {
        let products = |(x, y): (&QueryLine, &TailLine)| -> i32 {
            x.0.iter().zip(&y.0).map(|(x, y)| i32::from(*x) * i32::from(*y)).sum()
        };
        x.iter().zip(y).map(products).sum()
    })
}

/// Puts heads and tails together, given how tails are multiplied; compiled into each kernel. Returns who is left, and
/// how many pairs there were.
///
/// One query after the other. (One loop for the pairs of all queries was tried twice: no loop ends at a place that the
/// machine cannot foresee then, but what is carried from pair to pair takes a third more time.)
#[inline(always)]
pub(super) fn finish_each(
    tails: Tails<'_>,
    masks: [u64; GROUP],
    scores: &mut Scores,
    multiply: impl Fn(&[QueryLine], &[TailLine]) -> i32,
) -> ([u64; GROUP], u32) {
    let lines = tails.queries.len() / GROUP;
    let (mut left, mut pairs) = ([0; GROUP], 0);
    for i in 0..GROUP {
        let (mut rest, mut reach) = (masks[i], 0);
        let query = &tails.queries[i * lines..][..lines];
        let ([head_scale, tail_scale], scores) = (tails.scales[i], &mut scores[i]);
        while rest != 0 {
            let column = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            let sum = (tails.starts[i] + multiply(query, &tails.rows[column * lines..][..lines])) as f32;
            let score = scores[column] * head_scale + sum * tails.factors[column] * tail_scale;
            scores[column] = score;
            reach |= u64::from(score >= tails.cutoffs[i]) << column;
            pairs += 1;
        }
        left[i] = reach;
    }
    (left, pairs)
}

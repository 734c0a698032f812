//! Unit vectors as bytes: in a frame, cut into head and tail, each part with a scale of its own. See [`super`].
//!
//! Memory: 1 byte a value; while a panel is packed, its rows in f32.

use super::layout::{LANE_SQUARES_MAX, LANE_STEPS, PanelFacts, Part, Quad, STEP, TailLine};
use crate::config::Metric;
use crate::neighbors::cpu::frame::{Frame, FramedRows};
use crate::neighbors::cpu::matrix::{UnitRows, norm_in};
use crate::neighbors::cpu::scan::PANEL;
use crate::neighbors::cpu::simd::Simd;
use crate::vectors::RowId;
use crate::vectors::dot::dot;

/// How a vector is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// All values.
    pub dim: usize,
    /// Those of the head.
    pub head: usize,
}

impl Cut {
    /// Where a frame cuts.
    pub(crate) fn new(dim: usize, frame: &Frame) -> Cut {
        Cut { dim, head: frame.head(dim) }
    }

    /// Steps of a head.
    pub(crate) fn steps(self) -> usize {
        self.head.div_ceil(STEP)
    }

    /// Lines of a tail.
    pub(crate) fn lines(self) -> usize {
        (self.dim - self.head).div_ceil(64)
    }
}

/// Sum of bytes.
pub(crate) fn sum_of(bytes: &[i8]) -> i32 {
    bytes.iter().map(|byte| i32::from(*byte)).sum()
}

/// What whole numbers may be, besides at most 127 in size.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    /// The sizes of two whose products an instruction sums in 16 bits are together at most 128: 128 · 255 < 2¹⁵.
    pub in_pairs: bool,
    /// The most that the squares of one lane's numbers are together.
    pub lane_squares: Option<f32>,
}

impl Limits {
    /// Of heads and of tails of base rows.
    pub(crate) fn of_base(simd: Simd) -> [Limits; 2] {
        [
            Limits { in_pairs: false, lane_squares: simd.sums_in_16_bits().then_some(BASE_LANE_SQUARES) },
            Limits::default(),
        ]
    }

    /// The same of queries.
    pub(crate) fn of_query(simd: Simd) -> [Limits; 2] {
        let in_pairs = simd.sums_in_16_bits();
        let tail = Limits { in_pairs, lane_squares: None };
        [Limits { lane_squares: in_pairs.then_some(QUERY_LANE_SQUARES), ..tail }, tail]
    }
}

/// Quantises a part of a unit vector to whole numbers of at most 127, within limits.
/// `values` become the residual. Pure. O(dim).
pub(crate) fn quantise(values: &mut [f32], out: &mut [i8], limits: Limits) -> Part {
    // Eight maxima side by side: one would wait for itself.
    let mut largest = [0f32; 8];
    if limits.in_pairs {
        for pairs in values.chunks(16) {
            let sums = pairs.chunks(2).map(|pair| pair.iter().map(|value| value.abs()).sum());
            largest.iter_mut().zip(sums).for_each(|(most, sum)| *most = most.max(sum));
        }
    } else {
        for chunk in values.chunks(8) {
            largest.iter_mut().zip(chunk).for_each(|(most, value)| *most = most.max(value.abs()));
        }
    }
    let largest = largest.into_iter().fold(0f32, f32::max);
    let length = dot(values, values).sqrt() * (1.0 + 1e-6);
    let lanes = limits.lane_squares.map_or(0.0, |most| longest_lane(values) / (most.sqrt() - ROUNDED_LANE));
    let scale = (largest / LEVELS).max(lanes).max(SCALE_MIN);
    let inverse = scale.recip();
    for (byte, value) in out.iter_mut().zip(&mut *values) {
        // Adding and taking away 1.5 · 2²³ rounds to whole numbers, ties to even.
        let whole = ((*value * inverse).clamp(-LEVELS, LEVELS) + ROUND) - ROUND;
        *byte = whole as i32 as i8;
        // Exact but for the rounding to f32, which the last factor covers.
        *value = (f64::from(*value) - f64::from(scale) * f64::from(whole)) as f32;
    }
    Part { scale, residual: dot(values, values).sqrt() * (1.0 + 1e-6), length }
}

const ROUND: f32 = 12_582_912.0;
/// Least scale: other parts of a score are divided by it, and must stay within f32's range. Half of it, times the root
/// of the dimensions, is what a part may lose at least, times the other side's length: next to nothing.
const SCALE_MIN: f32 = 1.0 / (1 << 20) as f32;
/// Largest whole number. The sizes of two that are at most as much together are at most one more when rounded.
const LEVELS: f32 = 127.0;
/// The most that rounding adds to the length of a lane's numbers, √16 / 2 and a little for the division.
const ROUNDED_LANE: f32 = 2.01;
/// Their product is within [`LANE_SQUARES_MAX`]. A query's numbers are the smaller ones, by [`Limits::in_pairs`].
const QUERY_LANE_SQUARES: f32 = 25_600.0;
const BASE_LANE_SQUARES: f32 = 41_940.0;
const _: () = assert!(QUERY_LANE_SQUARES as f64 * BASE_LANE_SQUARES as f64 <= LANE_SQUARES_MAX);

/// Sums over the two lanes of a block of steps.
fn lane_sums<T: Copy, S: std::ops::AddAssign + Default>(block: &[T], size: impl Fn(T) -> S) -> [S; 2] {
    let mut sums: [S; 2] = Default::default();
    for step in block.chunks(STEP) {
        step.chunks(2).zip(&mut sums).for_each(|(pair, sum)| pair.iter().for_each(|value| *sum += size(*value)));
    }
    sums
}

fn longest_lane(values: &[f32]) -> f32 {
    let squares = values.chunks(STEP * LANE_STEPS).flat_map(|block| lane_sums(block, |value| value * value));
    squares.fold(0f32, f32::max).sqrt()
}

/// The largest sum of squares of the numbers of one lane.
pub(crate) fn lane_squares(bytes: &[i8]) -> u32 {
    let square = |byte: i8| u32::from(byte.unsigned_abs()).pow(2);
    bytes.chunks(STEP * LANE_STEPS).flat_map(|block| lane_sums(block, square)).max().unwrap_or(0)
}

/// −128 Σ q over each lane, modulo 2¹⁶, two lanes side by side.
pub(crate) fn lane_starts(bytes: &[i8]) -> impl Iterator<Item = i32> {
    bytes.chunks(STEP * LANE_STEPS).map(|block| {
        let [low, high] = lane_sums(block, i32::from).map(|sum| (-128 * sum) as u16);
        (u32::from(high) << 16 | u32::from(low)) as i32
    })
}

/// A panel while it is packed.
pub(crate) struct PanelParts<'a> {
    /// Heads.
    pub quads: &'a mut [Quad],
    /// Tails, row by row.
    pub tails: &'a mut [TailLine],
    /// Scale · norm of heads, of tails, the tails' length · norm, rounded up, and the coordinate along the lead · norm.
    pub factors: [&'a mut [f32; PANEL]; 4],
}

/// Packs one panel. O(rows · dim), and O(rows · dim²) with a rotation.
pub(crate) fn pack_panel(
    source: &impl UnitRows,
    rows: &[RowId],
    frame: &Frame,
    metric: Metric,
    simd: Simd,
    parts: PanelParts<'_>,
) -> PanelFacts {
    let [head_limits, tail_limits] = Limits::of_base(simd);
    let cut = Cut::new(source.dim(), frame);
    let FramedRows { mut values, norms, leads: row_leads } = frame.load(source, rows);
    let mut head_bytes = vec![0i8; cut.steps() * STEP];
    let mut tail_bytes = vec![0i8; cut.lines() * 64];
    let [factors, tail_factors, bounds, leads] = parts.factors;
    let mut facts = PanelFacts::default();
    for (column, (values, (norm, lead))) in
        values.chunks_exact_mut(cut.dim).zip(norms.into_iter().zip(row_leads)).enumerate()
    {
        let norm = norm_in(metric, norm);
        let (head_values, tail_values) = values.split_at_mut(cut.head);
        let head = quantise(head_values, &mut head_bytes[..cut.head], head_limits);
        let tail = quantise(tail_values, &mut tail_bytes[..cut.dim - cut.head], tail_limits);
        factors[column] = (f64::from(head.scale) * norm) as f32;
        tail_factors[column] = (f64::from(tail.scale) * norm) as f32;
        bounds[column] = ((tail.length * norm) as f32).next_up();
        leads[column] = (lead * norm) as f32;
        facts.norm = facts.norm.max(norm);
        facts.lane_squares = facts.lane_squares.max(f64::from(lane_squares(&head_bytes)));
        for (most, part) in [(&mut facts.head, head), (&mut facts.tail, tail)] {
            *most = [most[0].max(part.length + part.residual), most[1].max(part.residual)];
        }
        for (quad, step) in parts.quads.iter_mut().zip(head_bytes.as_chunks::<STEP>().0) {
            quad.0[column] = step.map(|byte| (byte as u8) ^ 0x80);
        }
        let lines = &mut parts.tails[column * cut.lines()..][..cut.lines()];
        for (line, bytes) in lines.iter_mut().zip(tail_bytes.as_chunks::<64>().0) {
            line.0 = bytes.map(|byte| (byte as u8) ^ 0x80);
        }
    }
    facts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whole_numbers_stay_within_their_bounds(
            values in proptest::collection::vec(-1f32..1.0, 1..200),
            (in_pairs, in_lanes, spike) in any::<(bool, bool, bool)>(),
        ) {
            let mut values = values;
            values[0] = if spike { 50.0 } else { values[0] };
            let mut bytes = vec![0i8; values.len()];
            let before = values.clone();
            let limits = Limits { in_pairs, lane_squares: in_lanes.then_some(QUERY_LANE_SQUARES) };
            let part = quantise(&mut values, &mut bytes, limits);
            for (byte, (before, left)) in bytes.iter().zip(before.iter().zip(&values)) {
                prop_assert!((f32::from(*byte) * part.scale + left - before).abs() <= 1e-5 * before.abs() + 1e-9);
            }
            let size = |byte: &i8| i32::from(byte.unsigned_abs());
            let most = bytes.chunks(2).map(|pair| pair.iter().map(size).sum::<i32>()).max().unwrap();
            prop_assert!(most * 255 < 1 << 15 || !in_pairs, "{most}");
            prop_assert!(lane_squares(&bytes) <= QUERY_LANE_SQUARES as u32 || !in_lanes, "{}", lane_squares(&bytes));
            prop_assert!(bytes.iter().all(|byte| size(byte) <= 127));
        }
    }
}

//! Unit vectors as bytes: rotated, cut into head and tail, each part with a scale of its own. See [`super`].
//!
//! Memory: 1 byte a value; while a panel is packed, its rows in f32.

use super::layout::{PanelFacts, Part, Quad, STEP, TailLine};
use crate::config::Metric;
use crate::neighbors::cpu::matrix::{UnitRows, norm_in};
use crate::neighbors::cpu::rotation::Rotation;
use crate::neighbors::cpu::scan::PANEL;
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
    /// Where a rotation cuts; without one, all is head.
    pub(crate) fn new(dim: usize, rotation: Option<&Rotation>) -> Cut {
        Cut { dim, head: rotation.map_or(dim, Rotation::head) }
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

/// Unit rows, rotated if there is a rotation, and their norms.
pub(crate) fn load(source: &impl UnitRows, rows: &[RowId], rotation: Option<&Rotation>) -> (Vec<f32>, Vec<f64>) {
    let dim = source.dim();
    let mut values = vec![0f32; rows.len() * dim];
    let norms = rows.iter().zip(values.chunks_exact_mut(dim)).map(|(row, out)| source.load_unit(*row, out)).collect();
    if let Some(rotation) = rotation {
        rotation.apply(&mut values);
    }
    (values, norms)
}

/// Sum of bytes.
pub(crate) fn sum_of(bytes: &[i8]) -> i32 {
    bytes.iter().map(|byte| i32::from(*byte)).sum()
}

/// Quantises a part of a unit vector. `values` become the residual. Pure. O(dim).
pub(crate) fn quantise(values: &mut [f32], out: &mut [i8]) -> Part {
    // Eight maxima side by side: one would wait for itself.
    let mut largest = [0f32; 8];
    for chunk in values.chunks(8) {
        largest.iter_mut().zip(chunk).for_each(|(most, value)| *most = most.max(value.abs()));
    }
    let largest = largest.into_iter().fold(0f32, f32::max);
    let length = dot(values, values).sqrt() * (1.0 + 1e-6);
    // Of a tail that is nothing the scale is still a normal number, whose inverse is one too.
    let scale = (largest / 127.0).max(4.0 * f32::MIN_POSITIVE);
    let inverse = scale.recip();
    for (byte, value) in out.iter_mut().zip(&mut *values) {
        // Adding and taking away 1.5 · 2²³ rounds to whole numbers, ties to even.
        let whole = ((*value * inverse).clamp(-127.0, 127.0) + ROUND) - ROUND;
        *byte = whole as i32 as i8;
        // Exact but for the rounding to f32, which the last factor covers.
        *value = (f64::from(*value) - f64::from(scale) * f64::from(whole)) as f32;
    }
    Part { scale, residual: dot(values, values).sqrt() * (1.0 + 1e-6), length }
}

const ROUND: f32 = 12_582_912.0;

/// A panel while it is packed.
pub(crate) struct PanelParts<'a> {
    /// Heads.
    pub quads: &'a mut [Quad],
    /// Tails, row by row.
    pub tails: &'a mut [TailLine],
    /// Scale · norm of heads, of tails, and the tails' length · norm, rounded up.
    pub factors: [&'a mut [f32; PANEL]; 3],
}

/// Packs one panel. O(rows · dim), and O(rows · dim²) with a rotation.
pub(crate) fn pack_panel(
    source: &impl UnitRows,
    rows: &[RowId],
    rotation: Option<&Rotation>,
    metric: Metric,
    parts: PanelParts<'_>,
) -> PanelFacts {
    let cut = Cut::new(source.dim(), rotation);
    let (mut values, norms) = load(source, rows, rotation);
    let mut head_bytes = vec![0i8; cut.steps() * STEP];
    let mut tail_bytes = vec![0i8; cut.lines() * 64];
    let [factors, tail_factors, bounds] = parts.factors;
    let mut facts = PanelFacts::default();
    for (column, (values, norm)) in values.chunks_exact_mut(cut.dim).zip(norms).enumerate() {
        let norm = norm_in(metric, norm);
        let (head_values, tail_values) = values.split_at_mut(cut.head);
        let head = quantise(head_values, &mut head_bytes[..cut.head]);
        let tail = quantise(tail_values, &mut tail_bytes[..cut.dim - cut.head]);
        factors[column] = (f64::from(head.scale) * norm) as f32;
        tail_factors[column] = (f64::from(tail.scale) * norm) as f32;
        bounds[column] = ((tail.length * norm) as f32).next_up();
        facts.norm = facts.norm.max(norm);
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

//! Rounding of rows to the numbers of a device, and bounds of what rounding takes from them.
//!
//! Of two rounded rows q̃, b̃ the product differs from that of the true rows by at most ‖q‖·e_b + e_q·‖b̃‖, where e is
//! the norm of a row's residual: the true row minus the rounded one.

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::config::Metric;
use crate::vectors::RowId;
use crate::vectors::VectorStore;
use crate::vectors::dot::dot;

/// Largest exponent of a norm in f16, whose values go up to 65,504.
const HALF_EXPONENT: i32 = 14;

/// Largest norm and largest residual of some rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bounds {
    /// Norm of the rounded row plus that of the residual: at least the true norm, too.
    pub norm: f64,
    /// Norm of the residual.
    pub residual: f64,
}

impl Bounds {
    pub(super) const NONE: Bounds = Bounds { norm: 0.0, residual: 0.0 };

    pub(super) fn max(self, other: Bounds) -> Bounds {
        Bounds { norm: self.norm.max(other.norm), residual: self.residual.max(other.residual) }
    }
}

/// Multiplies a row by `factor` and rounds it to the width of `out`: f16 or f32. Overwrites `row`.
pub(super) fn round(row: &mut [f32], factor: f64, out: &mut [u8]) -> Bounds {
    let (mut norm, mut lost) = (0.0, 0.0);
    let mut add = |true_value: f64, rounded: f32| {
        norm += f64::from(rounded).powi(2);
        lost += (true_value - f64::from(rounded)).powi(2);
    };
    if out.len() == row.len() * 4 {
        for (value, out) in row.iter().zip(out.as_chunks_mut::<4>().0) {
            let scaled = f64::from(*value) * factor;
            *out = (scaled as f32).to_le_bytes();
            add(scaled, scaled as f32);
        }
    } else {
        let mut halves = [f16::ZERO; 256];
        let mut back = [0f32; 256];
        for (values, out) in row.chunks_mut(256).zip(out.chunks_mut(512)) {
            let (halves, back) = (&mut halves[..values.len()], &mut back[..values.len()]);
            let scaled: [f64; 256] = std::array::from_fn(|at| values.get(at).map_or(0.0, |v| f64::from(*v) * factor));
            values.iter_mut().zip(scaled).for_each(|(value, scaled)| *value = scaled as f32);
            halves.convert_from_f32_slice(values);
            halves.convert_to_f32_slice(back);
            scaled.iter().zip(&*back).for_each(|(scaled, back)| add(*scaled, *back));
            halves.iter().zip(out.as_chunks_mut::<2>().0).for_each(|(half, out)| *out = half.to_le_bytes());
        }
    }
    // Sums of squares err by a few units in the last place; a millionth covers that.
    let residual = lost.sqrt() * (1.0 + 1e-6);
    Bounds { norm: norm.sqrt() * (1.0 + 1e-6) + residual, residual }
}

/// The exponent of two that brings a norm into [2¹⁴, 2¹⁵), the largest that f16 holds; 0 for f32.
pub(super) fn exponent(width: usize, norm: f64) -> i32 {
    // A norm of zero or infinity has no such exponent: answers for such rows are uncertain, and the CPU searches them.
    if width == 2 && norm.is_normal() { HALF_EXPONENT - norm.log2().floor() as i32 } else { 0 }
}

/// How a query was rounded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RoundedQuery {
    pub bounds: Bounds,
    /// The query was multiplied by two to this power.
    pub exponent: i32,
}

/// Rounds a query into the bytes of a row, by an exponent of its own.
pub(crate) fn round_query(
    store: &VectorStore,
    scales: &[f64],
    metric: Metric,
    row: RowId,
    out: &mut [u8],
) -> RoundedQuery {
    let dim = store.shape().dim;
    let mut values = vec![0.0; dim];
    store.load(row, &mut values);
    let (scale, norm) = match metric {
        Metric::Cosine => (scales[row as usize], 1.0),
        Metric::Dot => (1.0, dot(&values, &values).sqrt()),
    };
    let exponent = exponent(out.len() / dim, norm);
    RoundedQuery { bounds: round(&mut values, scale * f64::from(exponent).exp2(), out), exponent }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bounds_hold_whatever_the_values(
            values in proptest::collection::vec(-1000.0f32..1000.0, 1..600),
            (shift, width) in (-40i32..40, prop_oneof![Just(2usize), Just(4usize)]),
        ) {
            let row: Vec<f32> = values.iter().map(|value| value * (shift as f32).exp2()).collect();
            let exponent = exponent(width, dot(&row, &row).sqrt());
            let factor = f64::from(exponent).exp2();
            let mut bytes = vec![0; row.len() * width];
            let bounds = round(&mut row.clone(), factor, &mut bytes);
            let rounded: Vec<f64> = match width {
                2 => bytes.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f64()).collect(),
                _ => bytes.as_chunks().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect(),
            };
            prop_assert!(rounded.iter().all(|value| value.is_finite()));
            let lost = row.iter().zip(&rounded).map(|(x, y)| (f64::from(*x) * factor - y).powi(2)).sum::<f64>().sqrt();
            prop_assert!(lost <= bounds.residual, "{} {}", lost, bounds.residual);
            prop_assert!(dot(&row, &row).sqrt() * factor <= bounds.norm);
            // Eleven bits of a half, twenty-four of a single.
            let relative = if width == 2 { 2f64.powi(-11) } else { 2f64.powi(-24) };
            prop_assert!(bounds.residual <= 1.001 * relative * bounds.norm + 1e-6);
        }
    }
}

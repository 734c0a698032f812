//! What kernels err by, and the cutoffs that follow from it; the fused step of portable kernels. Pure.

/// Norm of a vector that was scaled to unit length and rounded to f32, at most.
pub(super) const LENGTH: f64 = 1.0 + 1e-7;

/// Largest error of a score in f32 between unit vectors: γ(d + 8), two roundings when packed, one a fused step, four
/// of norms, one of the reference, and one to spare (Higham, *Accuracy and Stability of Numerical Algorithms*,
/// section 3.1).
pub(super) fn relative_error(dim: usize) -> f64 {
    let terms = (dim + 8) as f64 * f64::from(f32::EPSILON) / 2.0;
    terms / (1.0 - terms) * 1.001
}

/// What underflow can take from a similarity: next to nothing, but not nothing.
pub(super) fn underflow(query_norm: f64, base_norm: f64) -> f64 {
    (1.0 + query_norm + base_norm) * f64::from(f32::from_bits(1 << 15))
}

/// What a score must reach so that the similarity, `score · unit` within `error`, can reach `threshold`.
#[inline]
pub(super) fn cutoff(threshold: f32, error: f64, unit: f64) -> f32 {
    (((f64::from(threshold) - error) / unit) as f32).next_down()
}

/// x · y + z, rounded once, as an instruction for it does. Without one the standard library's takes a hundred times as
/// long, and no compiler vectorises it.
#[inline(always)]
pub(super) fn fused(x: f32, y: f32, z: f32) -> f32 {
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) { x.mul_add(y, z) } else { fused_in_f64(x, y, z) }
}

/// The same by f64, without branches. The product is exact there. The sum is rounded to odd: where bits are lost, its
/// last bit is set, so that the second rounding, to f32, sees that they were there (Boldo and Melquiond, *Emulation of
/// FMA and correctly rounded sums: proved algorithms using rounding to odd*, IEEE Transactions on Computers 57, 2008).
#[inline(always)]
fn fused_in_f64(x: f32, y: f32, z: f32) -> f32 {
    let (product, z) = (f64::from(x) * f64::from(y), f64::from(z));
    let sum = product + z;
    // What the addition lost, exactly (Knuth's TwoSum).
    let part = sum - product;
    let lost = (product - (sum - part)) + (z - part);
    let bits = sum.to_bits();
    // Towards what was lost by one step, where that makes the last bit odd. An even sum with a loss lies beside an odd
    // number on either side: above in size where both signs are the same, else below.
    let is_inexact = u64::from(lost != 0.0 && lost.is_finite());
    let is_outwards = u64::from((lost.to_bits() ^ bits) >> 63 == 0);
    let even = is_inexact & !bits & 1;
    f64::from_bits(bits.wrapping_add(even & is_outwards).wrapping_sub(even & (1 - is_outwards))) as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 20 } else { 20_000 }))]
        #[test]
        fn a_fused_step_is_rounded_once(bits in any::<[u32; 3]>(), near in any::<bool>()) {
            let [x, y, z] = bits.map(f32::from_bits);
            // A sum that nearly cancels, or that ends close to the middle between two numbers, is rare by chance.
            let z = if near { -(x * y).next_up() } else { z };
            let (found, wanted) = (fused_in_f64(x, y, z), x.mul_add(y, z));
            prop_assert!(found.to_bits() == wanted.to_bits() || found.is_nan() && wanted.is_nan(), "{x} {y} {z}");
        }

        #[test]
        fn middles_are_rounded_once(x in 0.5f32..2.0, y in 0.5f32..2.0, low in -60i32..1, up in any::<bool>()) {
            // The product and a number far below it, so that the product decides the middle and the rest its side.
            let z = 2f32.powi(low) * if up { 1.0 } else { -1.0 };
            prop_assert_eq!(fused_in_f64(x, y, z).to_bits(), x.mul_add(y, z).to_bits());
        }
    }
}

//! What kernels err by, and the cutoffs that follow from it. Pure.

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

//! The score of a pair: an inner product accumulated in f64, whatever the machine.
//!
//! This is the reference that every search path ends in. Products of two f32 are exact in f64, sums
//! run in 16 lanes (lane l adds the dimensions ≡ l mod 16) that are then added pairwise: one fixed
//! order, so that every machine gives the same bits, with or without FMA.

/// Lanes of the accumulator.
const LANES: usize = 16;

/// Inner product of two rows of equal length; exact products, f64 sums.
pub fn dot(x: &[f32], y: &[f32]) -> f64 {
    debug_assert_eq!(x.len(), y.len());
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: `dot_avx512` is safe code compiled for AVX-512F, which this CPU has.
            return unsafe { dot_avx512(x, y) };
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: `dot_avx2` is safe code compiled for AVX2, which this CPU has.
            return unsafe { dot_avx2(x, y) };
        }
    }
    dot_scalar(x, y)
}

/// The reference; the other paths are this same code, compiled for wider registers.
#[inline(always)]
pub fn dot_scalar(x: &[f32], y: &[f32]) -> f64 {
    let mut lanes = [0f64; LANES];
    let (x_chunks, x_rest) = x.as_chunks::<LANES>();
    let (y_chunks, y_rest) = y.as_chunks::<LANES>();
    for (a, b) in x_chunks.iter().zip(y_chunks) {
        for lane in 0..LANES {
            lanes[lane] += f64::from(a[lane]) * f64::from(b[lane]);
        }
    }
    for (lane, (a, b)) in x_rest.iter().zip(y_rest).enumerate() {
        lanes[lane] += f64::from(*a) * f64::from(*b);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn dot_avx512(x: &[f32], y: &[f32]) -> f64 {
    dot_scalar(x, y)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn dot_avx2(x: &[f32], y: &[f32]) -> f64 {
    dot_scalar(x, y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_path_gives_the_reference_bits(
            pairs in proptest::collection::vec((-1e30f32..1e30, -1e3f32..1e3), 0..300)
        ) {
            let (x, y): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            prop_assert_eq!(dot(&x, &y).to_bits(), dot_scalar(&x, &y).to_bits());
            let plain: f64 = x.iter().zip(&y).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let size: f64 = x.iter().zip(&y).map(|(a, b)| (f64::from(*a) * f64::from(*b)).abs()).sum();
            prop_assert!((dot(&x, &y) - plain).abs() <= 1e-13 * size);
        }
    }
}

//! The score of a pair: an inner product accumulated in f64, whatever the machine.
//!
//! This is the reference that every search path ends in. Products of two f32 are exact in f64, sums
//! run in 16 lanes (lane l adds the dimensions ≡ l mod 16) that are then added pairwise: one fixed
//! order, so that every machine gives the same bits, with or without FMA.

use std::sync::OnceLock;

use half::f16;

/// Lanes of the accumulator.
const LANES: usize = 16;

/// Environment variable that names other instructions than the machine's best, for tests and comparisons.
pub(crate) const FORCED: &str = "BATCHMINE_SIMD";

/// The registers that this machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Registers {
    /// 512 bits: AVX-512F.
    Bits512,
    /// 256 bits: AVX2, with fused steps and conversions from half precision.
    Bits256,
    /// Whatever code is compiled for.
    Portable,
}

/// Asked of the machine once.
#[inline]
fn registers() -> Registers {
    static FOUND: OnceLock<Registers> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let forced = std::env::var(FORCED).unwrap_or_default().to_lowercase();
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let may_be_wide = forced.is_empty() || forced.starts_with("avx512");
            if may_be_wide && has!("avx512f") {
                return Registers::Bits512;
            }
            if forced != "scalar" && has_256() {
                return Registers::Bits256;
            }
        }
        let _ = forced;
        Registers::Portable
    })
}

/// Whether the machine has what the functions for registers of 256 bits need.
#[cfg(target_arch = "x86_64")]
fn has_256() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("avx2") && has!("fma") && has!("f16c")
}

/// Inner product of two rows of equal length; exact products, f64 sums.
pub(crate) fn dot(x: &[f32], y: &[f32]) -> f64 {
    debug_assert_eq!(x.len(), y.len());
    match registers() {
        // SAFETY: `dot_avx512` is safe code compiled for AVX-512F, which this CPU has.
        #[cfg(target_arch = "x86_64")]
        Registers::Bits512 => unsafe { dot_avx512(x, y) },
        // SAFETY: `dot_avx2` is safe code compiled for AVX2, which this CPU has.
        #[cfg(target_arch = "x86_64")]
        Registers::Bits256 => unsafe { dot_avx2(x, y) },
        _ => dot_scalar(x, y),
    }
}

/// The reference; the other paths are this same code, compiled for wider registers.
#[inline(always)]
pub(crate) fn dot_scalar(x: &[f32], y: &[f32]) -> f64 {
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
    add_up(lanes)
}

/// Adds the lanes pairwise, in one fixed order.
#[inline(always)]
fn add_up(mut lanes: [f64; LANES]) -> f64 {
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

/// [`dot`], to the bit, where the second row was brought to f64 for many.
pub(crate) fn dot_wide(x: &[f32], y: &[f64]) -> f64 {
    debug_assert_eq!(x.len(), y.len());
    match registers() {
        // SAFETY: this CPU has AVX-512F, all that `dot_wide_avx512` needs.
        #[cfg(target_arch = "x86_64")]
        Registers::Bits512 => unsafe { dot_wide_avx512([x], y)[0] },
        // SAFETY: this CPU has AVX2 and fused steps, all that `dot_wide_avx2` needs.
        #[cfg(target_arch = "x86_64")]
        Registers::Bits256 => unsafe { dot_wide_avx2([x], y)[0] },
        _ => dot_wide_scalar(x, y),
    }
}

/// The same of two rows with one.
pub(crate) fn dot_wide_two(x: [&[f32]; 2], y: &[f64]) -> [f64; 2] {
    debug_assert!(x[0].len() == y.len() && x[1].len() == y.len());
    match registers() {
        // SAFETY: this CPU has AVX-512F, all that `dot_wide_avx512` needs.
        #[cfg(target_arch = "x86_64")]
        Registers::Bits512 => unsafe { dot_wide_avx512(x, y) },
        // SAFETY: this CPU has AVX2 and fused steps, all that `dot_wide_avx2` needs.
        #[cfg(target_arch = "x86_64")]
        Registers::Bits256 => unsafe { dot_wide_avx2(x, y) },
        _ => x.map(|x| dot_wide_scalar(x, y)),
    }
}

fn dot_wide_scalar(x: &[f32], y: &[f64]) -> f64 {
    let mut lanes = [0f64; LANES];
    for (a, b) in x.chunks(LANES).zip(y.chunks(LANES)) {
        lanes.iter_mut().zip(a.iter().zip(b)).for_each(|(lane, (a, b))| *lane += f64::from(*a) * b);
    }
    add_up(lanes)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn dot_wide_avx512<const COUNT: usize>(x: [&[f32]; COUNT], y: &[f64]) -> [f64; COUNT] {
    use std::arch::x86_64::*;
    let (y_chunks, y_rest) = y.as_chunks::<LANES>();
    // SAFETY: a chunk holds 16 values, two registers of 8; unaligned loads are allowed.
    let load =
        |chunk: &[f64; LANES]| unsafe { [_mm512_loadu_pd(chunk.as_ptr()), _mm512_loadu_pd(chunk[8..].as_ptr())] };
    let widen = |chunk: &[f32; LANES]| {
        // SAFETY: a chunk holds 16 values, two halves of 8; unaligned loads are allowed.
        let halves = unsafe { [_mm256_loadu_ps(chunk.as_ptr()), _mm256_loadu_ps(chunk[8..].as_ptr())] };
        [_mm512_cvtps_pd(halves[0]), _mm512_cvtps_pd(halves[1])]
    };
    let mut sums = [[_mm512_setzero_pd(); 2]; COUNT];
    let chunks = x.map(|x| x.as_chunks::<LANES>().0);
    for (index, y) in y_chunks.iter().enumerate() {
        let y = load(y);
        for i in 0..COUNT {
            let x = widen(&chunks[i][index]);
            // Products of two f32 are exact in f64, so that fusing changes nothing.
            sums[i] = [_mm512_fmadd_pd(x[0], y[0], sums[i][0]), _mm512_fmadd_pd(x[1], y[1], sums[i][1])];
        }
    }
    let mut results = [0f64; COUNT];
    for i in 0..COUNT {
        let mut lanes = [0f64; LANES];
        // SAFETY: there are 16 lanes, two registers of 8; unaligned stores are allowed.
        unsafe {
            _mm512_storeu_pd(lanes.as_mut_ptr(), sums[i][0]);
            _mm512_storeu_pd(lanes[8..].as_mut_ptr(), sums[i][1]);
        }
        let rest = x[i].as_chunks::<LANES>().1.iter().zip(y_rest);
        lanes.iter_mut().zip(rest).for_each(|(lane, (a, b))| *lane += f64::from(*a) * b);
        results[i] = add_up(lanes);
    }
    results
}

/// Lanes of registers of four, in memory.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn lanes_of(sums: [std::arch::x86_64::__m256d; 4]) -> [f64; LANES] {
    let mut lanes = [0f64; LANES];
    for (to, sum) in lanes.as_chunks_mut::<4>().0.iter_mut().zip(sums) {
        // SAFETY: `to` is 4 values of 8 bytes; unaligned stores are allowed.
        unsafe { std::arch::x86_64::_mm256_storeu_pd(to.as_mut_ptr(), sum) };
    }
    lanes
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn dot_wide_avx2<const COUNT: usize>(x: [&[f32]; COUNT], y: &[f64]) -> [f64; COUNT] {
    use std::arch::x86_64::*;
    let (y_chunks, y_rest) = y.as_chunks::<LANES>();
    let mut sums = [[_mm256_setzero_pd(); 4]; COUNT];
    let chunks = x.map(|x| x.as_chunks::<LANES>().0);
    for (index, y) in y_chunks.iter().enumerate() {
        for (part, y) in y.as_chunks::<4>().0.iter().enumerate() {
            // SAFETY: `y` is 4 values; unaligned loads are allowed.
            let y = unsafe { _mm256_loadu_pd(y.as_ptr()) };
            for i in 0..COUNT {
                // SAFETY: a chunk holds 16 values, four parts of 4; unaligned loads are allowed.
                let x = unsafe { _mm_loadu_ps(chunks[i][index][4 * part..][..4].as_ptr()) };
                // Products of two f32 are exact in f64, so that fusing changes nothing.
                sums[i][part] = _mm256_fmadd_pd(_mm256_cvtps_pd(x), y, sums[i][part]);
            }
        }
    }
    let mut results = [0f64; COUNT];
    for i in 0..COUNT {
        let mut lanes = lanes_of(sums[i]);
        let rest = x[i].as_chunks::<LANES>().1.iter().zip(y_rest);
        lanes.iter_mut().zip(rest).for_each(|(lane, (a, b))| *lane += f64::from(*a) * b);
        results[i] = add_up(lanes);
    }
    results
}

/// Inner product of a row in f32 with one in half precision: [`dot`] of its exact values, without a copy.
pub(crate) fn dot_half(x: &[f32], y: &[f16]) -> f64 {
    debug_assert_eq!(x.len(), y.len());
    match registers() {
        // SAFETY: this CPU has AVX-512F, all that `dot_half_avx512` needs.
        #[cfg(target_arch = "x86_64")]
        Registers::Bits512 => unsafe { dot_half_avx512(x, y) },
        // SAFETY: this CPU has AVX2, fused steps and F16C, all that `dot_half_avx2` needs.
        #[cfg(target_arch = "x86_64")]
        Registers::Bits256 => unsafe { dot_half_avx2(x, y) },
        _ => dot_half_scalar(x, y),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_half_avx2(x: &[f32], y: &[f16]) -> f64 {
    use std::arch::x86_64::*;
    let mut sums = [_mm256_setzero_pd(); 4];
    let (x_chunks, x_rest) = x.as_chunks::<LANES>();
    let (y_chunks, y_rest) = y.as_chunks::<LANES>();
    for (a, b) in x_chunks.iter().zip(y_chunks) {
        for half in 0..2 {
            // SAFETY: a chunk holds 16 values of 2 bytes, two halves of 8; unaligned loads are allowed.
            let b = _mm256_cvtph_ps(unsafe { _mm_loadu_si128(b[8 * half..][..8].as_ptr().cast()) });
            for (quarter, b) in [_mm256_castps256_ps128(b), _mm256_extractf128_ps::<1>(b)].into_iter().enumerate() {
                let part = 2 * half + quarter;
                // SAFETY: a chunk holds 16 values, four parts of 4; unaligned loads are allowed.
                let a = unsafe { _mm_loadu_ps(a[4 * part..][..4].as_ptr()) };
                // Products of two f32 are exact in f64, so that fusing changes nothing.
                sums[part] = _mm256_fmadd_pd(_mm256_cvtps_pd(a), _mm256_cvtps_pd(b), sums[part]);
            }
        }
    }
    let mut lanes = lanes_of(sums);
    for (lane, (a, b)) in x_rest.iter().zip(y_rest).enumerate() {
        lanes[lane] += f64::from(*a) * f64::from(b.to_f32());
    }
    add_up(lanes)
}

fn dot_half_scalar(x: &[f32], y: &[f16]) -> f64 {
    let mut wide = vec![0f32; y.len()];
    widen_scalar(y, &mut wide);
    dot_scalar(x, &wide)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn dot_half_avx512(x: &[f32], y: &[f16]) -> f64 {
    use std::arch::x86_64::*;
    let mut sums = [_mm512_setzero_pd(); 2];
    let (x_chunks, x_rest) = x.as_chunks::<LANES>();
    let (y_chunks, y_rest) = y.as_chunks::<LANES>();
    for (a, b) in x_chunks.iter().zip(y_chunks) {
        // SAFETY: both chunks hold 16 values; unaligned loads are allowed.
        let (a, b) = unsafe { (_mm512_loadu_ps(a.as_ptr()), _mm256_loadu_si256(b.as_ptr().cast())) };
        let b = _mm512_cvtph_ps(b);
        let halves = |v: __m512| {
            let bits = _mm512_castps_pd(v);
            (_mm256_castpd_ps(_mm512_castpd512_pd256(bits)), _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(bits)))
        };
        let ((a0, a1), (b0, b1)) = (halves(a), halves(b));
        // Products of two f32 are exact in f64, so that fusing changes nothing.
        sums[0] = _mm512_fmadd_pd(_mm512_cvtps_pd(a0), _mm512_cvtps_pd(b0), sums[0]);
        sums[1] = _mm512_fmadd_pd(_mm512_cvtps_pd(a1), _mm512_cvtps_pd(b1), sums[1]);
    }
    let mut lanes = [0f64; LANES];
    // SAFETY: there are 16 lanes, two registers of 8; unaligned stores are allowed.
    unsafe {
        _mm512_storeu_pd(lanes.as_mut_ptr(), sums[0]);
        _mm512_storeu_pd(lanes[8..].as_mut_ptr(), sums[1]);
    }
    for (lane, (a, b)) in x_rest.iter().zip(y_rest).enumerate() {
        lanes[lane] += f64::from(*a) * f64::from(b.to_f32());
    }
    add_up(lanes)
}

/// Asks for a row's cache lines ahead of time.
#[inline]
pub(crate) fn prefetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing and cannot fault; the address lies in a slice besides.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    let _ = bytes;
}

/// f32 as f64, exactly.
pub(crate) fn widen_to_f64(values: &[f32], out: &mut [f64]) {
    debug_assert_eq!(values.len(), out.len());
    match registers() {
        // SAFETY: `to_f64_avx512` is safe code compiled for AVX-512F, which this CPU has.
        #[cfg(target_arch = "x86_64")]
        Registers::Bits512 => unsafe { to_f64_avx512(values, out) },
        // SAFETY: `to_f64_avx2` is safe code compiled for AVX2, which this CPU has.
        #[cfg(target_arch = "x86_64")]
        Registers::Bits256 => unsafe { to_f64_avx2(values, out) },
        _ => to_f64(values, out),
    }
}

#[inline(always)]
fn to_f64(values: &[f32], out: &mut [f64]) {
    for (to, value) in out.iter_mut().zip(values) {
        *to = f64::from(*value);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn to_f64_avx512(values: &[f32], out: &mut [f64]) {
    to_f64(values, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn to_f64_avx2(values: &[f32], out: &mut [f64]) {
    to_f64(values, out);
}

/// Half precision as f64, exactly.
pub(crate) fn half_to_f64(halves: &[f16], out: &mut [f64]) {
    debug_assert_eq!(halves.len(), out.len());
    match registers() {
        // SAFETY: this CPU has AVX-512F, all that `half_to_f64_avx512` needs.
        #[cfg(target_arch = "x86_64")]
        Registers::Bits512 => unsafe { half_to_f64_avx512(halves, out) },
        // SAFETY: this CPU has AVX2 and F16C, all that `half_to_f64_avx2` needs.
        #[cfg(target_arch = "x86_64")]
        Registers::Bits256 => unsafe { half_to_f64_avx2(halves, out) },
        _ => half_to_f64_scalar(halves, out),
    }
}

fn half_to_f64_scalar(halves: &[f16], out: &mut [f64]) {
    out.iter_mut().zip(halves).for_each(|(to, half)| *to = half.to_f64());
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn half_to_f64_avx512(halves: &[f16], out: &mut [f64]) {
    use std::arch::x86_64::*;
    let (chunks, rest) = halves.as_chunks::<8>();
    let (out_chunks, out_rest) = out.as_chunks_mut::<8>();
    for (from, to) in chunks.iter().zip(out_chunks) {
        // SAFETY: `from` is 8 values of 2 bytes; unaligned loads are allowed.
        let halves = unsafe { _mm_loadu_si128(from.as_ptr().cast()) };
        let floats = _mm512_castps512_ps256(_mm512_cvtph_ps(_mm256_castsi128_si256(halves)));
        // SAFETY: `to` is 8 values of 8 bytes; unaligned stores are allowed.
        unsafe { _mm512_storeu_pd(to.as_mut_ptr(), _mm512_cvtps_pd(floats)) };
    }
    half_to_f64_scalar(rest, out_rest);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
fn half_to_f64_avx2(halves: &[f16], out: &mut [f64]) {
    use std::arch::x86_64::*;
    let (chunks, rest) = halves.as_chunks::<8>();
    let (out_chunks, out_rest) = out.as_chunks_mut::<8>();
    for (from, to) in chunks.iter().zip(out_chunks) {
        // SAFETY: `from` is 8 values of 2 bytes; unaligned loads are allowed.
        let floats = _mm256_cvtph_ps(unsafe { _mm_loadu_si128(from.as_ptr().cast()) });
        let halves = [_mm256_castps256_ps128(floats), _mm256_extractf128_ps::<1>(floats)];
        for (to, half) in to.as_chunks_mut::<4>().0.iter_mut().zip(halves) {
            // SAFETY: `to` is 4 values of 8 bytes; unaligned stores are allowed.
            unsafe { _mm256_storeu_pd(to.as_mut_ptr(), _mm256_cvtps_pd(half)) };
        }
    }
    half_to_f64_scalar(rest, out_rest);
}

/// Half precision as f32, exactly.
pub(crate) fn widen(halves: &[f16], out: &mut [f32]) {
    debug_assert_eq!(halves.len(), out.len());
    match registers() {
        // SAFETY: this CPU has AVX-512F, all that `widen_avx512` needs.
        #[cfg(target_arch = "x86_64")]
        Registers::Bits512 => unsafe { widen_avx512(halves, out) },
        // SAFETY: this CPU has AVX2 and F16C, all that `widen_avx2` needs.
        #[cfg(target_arch = "x86_64")]
        Registers::Bits256 => unsafe { widen_avx2(halves, out) },
        _ => widen_scalar(halves, out),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
fn widen_avx2(halves: &[f16], out: &mut [f32]) {
    use std::arch::x86_64::*;
    let (chunks, rest) = halves.as_chunks::<8>();
    let (out_chunks, out_rest) = out.as_chunks_mut::<8>();
    for (from, to) in chunks.iter().zip(out_chunks) {
        // SAFETY: both chunks hold 8 values; unaligned access is allowed.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast()))) };
    }
    widen_scalar(rest, out_rest);
}

fn widen_scalar(halves: &[f16], out: &mut [f32]) {
    use half::slice::HalfFloatSliceExt;
    halves.convert_to_f32_slice(out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn widen_avx512(halves: &[f16], out: &mut [f32]) {
    use std::arch::x86_64::*;
    let (chunks, rest) = halves.as_chunks::<LANES>();
    let (out_chunks, out_rest) = out.as_chunks_mut::<LANES>();
    for (from, to) in chunks.iter().zip(out_chunks) {
        // SAFETY: both chunks hold 16 values; unaligned access is allowed.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), _mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast()))) };
    }
    widen_scalar(rest, out_rest);
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
            let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|value| f64::from(*value)).collect() };
            let y_wide = wide(&y);
            let both = dot_wide_two([&x, &y], &y_wide).map(f64::to_bits);
            prop_assert_eq!(both, [dot_scalar(&x, &y).to_bits(), dot_scalar(&y, &y).to_bits()]);
            prop_assert_eq!(dot_wide(&x, &y_wide).to_bits(), dot_scalar(&x, &y).to_bits());
            prop_assert_eq!(dot_wide_scalar(&x, &y_wide).to_bits(), dot_scalar(&x, &y).to_bits());
            let halves: Vec<f16> = y.iter().map(|value| f16::from_f32(*value)).collect();
            let mut wide = vec![0f32; halves.len()];
            widen(&halves, &mut wide);
            prop_assert!(wide.iter().zip(&halves).all(|(wide, half)| *wide == half.to_f32()));
            prop_assert_eq!(dot_half(&x, &halves).to_bits(), dot_scalar(&x, &wide).to_bits());
            let wider = |convert: &dyn Fn(&[f16], &mut [f64])| {
                let mut wider = vec![0f64; halves.len()];
                convert(&halves, &mut wider);
                wider.iter().zip(&wide).all(|(wider, wide)| wider.to_bits() == f64::from(*wide).to_bits())
            };
            prop_assert!(wider(&half_to_f64) && wider(&half_to_f64_scalar));
            #[cfg(target_arch = "x86_64")]
            if has_256() {
                // SAFETY: the machine has AVX2, fused steps and F16C, as just asked.
                let (dots, pair, half) = unsafe {
                    (dot_avx2(&x, &y), dot_wide_avx2([&x[..], &y[..]], &y_wide), dot_half_avx2(&x, &halves))
                };
                prop_assert_eq!(dots.to_bits(), dot_scalar(&x, &y).to_bits());
                prop_assert_eq!(pair.map(f64::to_bits), both);
                prop_assert_eq!(half.to_bits(), dot_scalar(&x, &wide).to_bits());
                // SAFETY: as above.
                let is_same = wider(&|halves, out| unsafe { half_to_f64_avx2(halves, out) });
                prop_assert!(is_same);
                let mut again = vec![0f32; halves.len()];
                // SAFETY: as above.
                unsafe { widen_avx2(&halves, &mut again) };
                prop_assert!(again.iter().zip(&wide).all(|(x, y)| x.to_bits() == y.to_bits() || x.is_nan()));
            }
            let plain: f64 = x.iter().zip(&y).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let size: f64 = x.iter().zip(&y).map(|(a, b)| (f64::from(*a) * f64::from(*b)).abs()).sum();
            prop_assert!((dot(&x, &y) - plain).abs() <= 1e-13 * size);
        }
    }
}

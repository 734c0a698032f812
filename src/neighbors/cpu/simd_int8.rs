//! Byte kernels in SIMD; each does exactly what [`super::int8::score_scalar`] does.

use super::int8::{Quad, STEP, score_scalar};
use super::{GROUP, PANEL, Scores, Simd};

type Group = [[i8; STEP]; GROUP];

/// Runs the kernel; `simd` must be one of [`Simd::all`], the reference stands in where it is not.
#[inline]
pub fn score(
    simd: Simd,
    q: &[Group],
    starts: &[i32; GROUP],
    p: &[Quad],
    factors: &[f32; PANEL],
    t: &[f32; GROUP],
    out: &mut Scores,
) -> [u64; GROUP] {
    assert_eq!(q.len(), p.len());
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        match simd {
            // SAFETY: the machine has AVX-512F and VNNI, as just checked: all that `avx512` needs.
            Simd::Avx512Bf16 | Simd::Avx512Vnni if has!("avx512f") && has!("avx512vnni") => {
                return unsafe { x86::avx512(q, starts, p, factors, t, out) };
            }
            // SAFETY: the machine has AVX2, as just checked, and that is all that `avx2` needs.
            Simd::Avx512 | Simd::Avx2 if has!("avx2") => return unsafe { x86::avx2(q, starts, p, factors, t, out) },
            _ => {}
        }
    }
    let _ = simd;
    score_scalar(q, starts, p, factors, t, out)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{GROUP, Group, PANEL, Quad, Scores};

    const WIDE: usize = PANEL / 16;

    /// 24 accumulators of 16 sums: 6 queries by 4 lines, four values a step.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub fn avx512(
        q: &[Group],
        starts: &[i32; GROUP],
        p: &[Quad],
        factors: &[f32; PANEL],
        t: &[f32; GROUP],
        out: &mut Scores,
    ) -> [u64; GROUP] {
        // A loop, not `map`: an array this large would be moved through memory.
        let mut sums = [[_mm512_setzero_si512(); WIDE]; GROUP];
        for (sums, start) in sums.iter_mut().zip(starts) {
            sums.fill(_mm512_set1_epi32(*start));
        }
        for (query, quad) in q.iter().zip(p) {
            let lines: [__m512i; WIDE] = std::array::from_fn(|j| {
                // SAFETY: a quad is 256 bytes, aligned to 64 by its type: line j < 4 is whole and aligned.
                unsafe { _mm512_load_si512(quad.0[16 * j..].as_ptr().cast()) }
            });
            for i in 0..GROUP {
                let broadcast = _mm512_set1_epi32(i32::from_le_bytes(query[i].map(|byte| byte as u8)));
                for j in 0..WIDE {
                    sums[i][j] = _mm512_dpbusd_epi32(sums[i][j], lines[j], broadcast);
                }
            }
        }
        let factors: [__m512; WIDE] = std::array::from_fn(|j| {
            // SAFETY: there are 64 factors, j < 4; unaligned loads are allowed.
            unsafe { _mm512_loadu_ps(factors[16 * j..].as_ptr()) }
        });
        let mut hits = [0; GROUP];
        for i in 0..GROUP {
            let bound = _mm512_set1_ps(t[i]);
            let scores: [__m512; WIDE] =
                std::array::from_fn(|j| _mm512_mul_ps(_mm512_cvtepi32_ps(sums[i][j]), factors[j]));
            for (j, scores) in scores.iter().enumerate() {
                hits[i] |= u64::from(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(*scores, bound)) << (16 * j);
            }
            if hits[i] != 0 {
                for (to, scores) in out[i].as_chunks_mut::<16>().0.iter_mut().zip(scores) {
                    // SAFETY: `to` is 16 floats; unaligned stores are allowed.
                    unsafe { _mm512_storeu_ps(to.as_mut_ptr(), scores) };
                }
            }
        }
        hits
    }

    /// 12 accumulators of 8 sums, four times. Bytes are widened: the 8-bit product of AVX2 saturates.
    #[target_feature(enable = "avx2")]
    pub fn avx2(
        q: &[Group],
        starts: &[i32; GROUP],
        p: &[Quad],
        factors: &[f32; PANEL],
        t: &[f32; GROUP],
        out: &mut Scores,
    ) -> [u64; GROUP] {
        let mut all = [[0f32; PANEL]; GROUP];
        let even = _mm256_set1_epi16(0xFF);
        for at in (0..PANEL).step_by(8) {
            let mut sums = starts.map(|start| _mm256_set1_epi32(start));
            for (query, quad) in q.iter().zip(p) {
                // SAFETY: a quad is 256 bytes and `at` ≤ 56: 32 bytes from 4·at on; unaligned loads are allowed.
                let bytes = unsafe { _mm256_loadu_si256(quad.0[at..].as_ptr().cast()) };
                // Values 0 and 2 of each lane, and 1 and 3, as 16-bit numbers.
                let (low, high) = (_mm256_and_si256(bytes, even), _mm256_srli_epi16::<8>(bytes));
                for i in 0..GROUP {
                    let [a, b, c, d] = query[i].map(i16::from);
                    let pair = |x: i16, y: i16| _mm256_set1_epi32(i32::from(x as u16) | i32::from(y) << 16);
                    let sum = _mm256_add_epi32(_mm256_madd_epi16(low, pair(a, c)), _mm256_madd_epi16(high, pair(b, d)));
                    sums[i] = _mm256_add_epi32(sums[i], sum);
                }
            }
            // SAFETY: there are 64 factors and `at` ≤ 56; unaligned loads are allowed.
            let factors = unsafe { _mm256_loadu_ps(factors[at..].as_ptr()) };
            for i in 0..GROUP {
                let scores = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[i]), factors);
                // SAFETY: a row of `all` has 64 floats and `at` ≤ 56; unaligned stores are allowed.
                unsafe { _mm256_storeu_ps(all[i][at..].as_mut_ptr(), scores) };
            }
        }
        let mut hits = [0; GROUP];
        for i in 0..GROUP {
            for (column, score) in all[i].iter().enumerate() {
                hits[i] |= u64::from(*score >= t[i]) << column;
            }
            if hits[i] != 0 {
                out[i] = all[i];
            }
        }
        hits
    }
}

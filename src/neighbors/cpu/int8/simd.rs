//! Byte kernels in SIMD; each does exactly what its reference in [`super::reference`] does.

use super::layout::{HeadHits, Heads, Int8Panel, Tails};
use super::reference::{finish_scalar, score_scalar};
use crate::neighbors::cpu::scan::{GROUP, PANEL, Scores};
use crate::neighbors::cpu::simd::Simd;

/// Scores heads. The result has one bit for each pair that, with the most that the tails can add, can reach the
/// query's threshold; row i of `out` is written only where there is one. `simd` must be one of [`Simd::all`], the
/// reference stands in where it is not.
#[inline]
pub(crate) fn score(
    simd: Simd,
    q: Heads<'_>,
    p: Int8Panel<'_>,
    thresholds: &[f32; GROUP],
    out: &mut Scores,
) -> HeadHits {
    assert_eq!(q.values.len(), p.quads.len());
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        match simd {
            // SAFETY: the machine has AVX-512F and VNNI, as just checked: all that `avx512` needs.
            Simd::Avx512Bf16 | Simd::Avx512Vnni if has!("avx512f") && has!("avx512vnni") => {
                return unsafe { x86::avx512(q, p, thresholds, out) };
            }
            // SAFETY: the machine has AVX2 and FMA, as just checked, and that is all that `avx2` needs.
            Simd::Avx512 | Simd::Avx2 if has!("avx2") && has!("fma") => {
                return unsafe { x86::avx2(q, p, thresholds, out) };
            }
            _ => {}
        }
    }
    let _ = simd;
    score_scalar(q, p, thresholds, out)
}

/// Scores the tails of the rows in `mask` and adds them to the heads' scores; the result has one bit for each of
/// them that reaches the cutoff. Other scores stay as they are.
#[inline]
pub(crate) fn finish(simd: Simd, tails: Tails<'_>, mask: u64, scores: &mut [f32; PANEL]) -> u64 {
    assert_eq!(tails.rows.len(), tails.query.len() * PANEL);
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        match simd {
            Simd::Avx512Bf16 | Simd::Avx512Vnni if has!("avx512f") && has!("avx512vnni") => {
                // SAFETY: the machine has AVX-512F and VNNI, as just checked: all that `finish_avx512` needs.
                return unsafe { x86::finish_avx512(tails, mask, scores) };
            }
            Simd::Avx512 | Simd::Avx2 if has!("avx2") => {
                // SAFETY: the machine has AVX2, as just checked, and that is all that `finish_avx2` needs.
                return unsafe { x86::finish_avx2(tails, mask, scores) };
            }
            _ => {}
        }
    }
    let _ = simd;
    finish_scalar(tails, mask, scores)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::super::reference::{cutoffs, finish_each};
    use super::{GROUP, HeadHits, Heads, Int8Panel, PANEL, Scores, Tails};

    const WIDE: usize = PANEL / 16;

    /// 24 accumulators of 16 sums: 6 queries by 4 lines, four values a step.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(crate) fn avx512(q: Heads<'_>, p: Int8Panel<'_>, thresholds: &[f32; GROUP], out: &mut Scores) -> HeadHits {
        let [t, whole] = cutoffs(q.facts, p.facts, q.slack, thresholds);
        // A loop, not `map`: an array this large would be moved through memory.
        let mut sums = [[_mm512_setzero_si512(); WIDE]; GROUP];
        for (sums, start) in sums.iter_mut().zip(q.starts) {
            sums.fill(_mm512_set1_epi32(*start));
        }
        for (query, quad) in q.values.iter().zip(p.quads) {
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
        let load = |floats: &[f32; PANEL]| -> [__m512; WIDE] {
            std::array::from_fn(|j| {
                // SAFETY: there are 64 floats, j < 4; unaligned loads are allowed.
                unsafe { _mm512_loadu_ps(floats[16 * j..].as_ptr()) }
            })
        };
        let (factors, bounds) = (load(p.factors), load(p.bounds));
        let mut hits = [0; GROUP];
        for i in 0..GROUP {
            let (bound, reach) = (_mm512_set1_ps(t[i]), _mm512_set1_ps(q.reaches[i]));
            let scores: [__m512; WIDE] =
                std::array::from_fn(|j| _mm512_mul_ps(_mm512_cvtepi32_ps(sums[i][j]), factors[j]));
            for (j, scores) in scores.iter().enumerate() {
                let most = _mm512_fmadd_ps(reach, bounds[j], *scores);
                hits[i] |= u64::from(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(most, bound)) << (16 * j);
            }
            if hits[i] != 0 {
                for (to, scores) in out[i].as_chunks_mut::<16>().0.iter_mut().zip(scores) {
                    // SAFETY: `to` is 16 floats; unaligned stores are allowed.
                    unsafe { _mm512_storeu_ps(to.as_mut_ptr(), scores) };
                }
            }
        }
        (hits, whole)
    }

    /// One row after the other, 64 values a step.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(crate) fn finish_avx512(tails: Tails<'_>, mask: u64, scores: &mut [f32; PANEL]) -> u64 {
        finish_each(tails, mask, scores, |x, y| {
            let mut sum = _mm512_setzero_si512();
            for (x, y) in x.iter().zip(y) {
                // SAFETY: both lines are 64 bytes, aligned to 64 by their types.
                let (x, y) =
                    unsafe { (_mm512_load_si512(x.0.as_ptr().cast()), _mm512_load_si512(y.0.as_ptr().cast())) };
                sum = _mm512_dpbusd_epi32(sum, y, x);
            }
            _mm512_reduce_add_epi32(sum)
        })
    }

    /// One row after the other, 16 values a step, widened.
    #[target_feature(enable = "avx2")]
    pub(crate) fn finish_avx2(tails: Tails<'_>, mask: u64, scores: &mut [f32; PANEL]) -> u64 {
        finish_each(tails, mask, scores, |x, y| {
            let mut sum = _mm256_setzero_si256();
            for (x, y) in x.iter().zip(y) {
                for (x, y) in x.0.as_chunks::<16>().0.iter().zip(y.0.as_chunks::<16>().0) {
                    // SAFETY: both chunks are 16 bytes; unaligned loads are allowed.
                    let (x, y) = unsafe { (_mm_loadu_si128(x.as_ptr().cast()), _mm_loadu_si128(y.as_ptr().cast())) };
                    let products = _mm256_madd_epi16(_mm256_cvtepi8_epi16(x), _mm256_cvtepu8_epi16(y));
                    sum = _mm256_add_epi32(sum, products);
                }
            }
            let mut lanes = [0i32; 8];
            // SAFETY: there are 8 lanes of 4 bytes; unaligned stores are allowed.
            unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sum) };
            lanes.iter().sum()
        })
    }

    /// 12 accumulators of 8 sums, four times. Bytes are widened: the 8-bit product of AVX2 saturates.
    #[target_feature(enable = "avx2,fma")]
    pub(crate) fn avx2(q: Heads<'_>, p: Int8Panel<'_>, thresholds: &[f32; GROUP], out: &mut Scores) -> HeadHits {
        let [t, whole] = cutoffs(q.facts, p.facts, q.slack, thresholds);
        let mut all = [[0f32; PANEL]; GROUP];
        let mut hits = [0; GROUP];
        let even = _mm256_set1_epi16(0xFF);
        for at in (0..PANEL).step_by(8) {
            let mut sums = q.starts.map(|start| _mm256_set1_epi32(start));
            for (query, quad) in q.values.iter().zip(p.quads) {
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
            // SAFETY: there are 64 of each and `at` ≤ 56; unaligned loads are allowed.
            let (factors, bounds) =
                unsafe { (_mm256_loadu_ps(p.factors[at..].as_ptr()), _mm256_loadu_ps(p.bounds[at..].as_ptr())) };
            for i in 0..GROUP {
                let scores = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[i]), factors);
                let most = _mm256_fmadd_ps(_mm256_set1_ps(q.reaches[i]), bounds, scores);
                let mask = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(most, _mm256_set1_ps(t[i]))) as u8;
                hits[i] |= u64::from(mask) << at;
                // SAFETY: a row of `all` has 64 floats and `at` ≤ 56; unaligned stores are allowed.
                unsafe { _mm256_storeu_ps(all[i][at..].as_mut_ptr(), scores) };
            }
        }
        for i in 0..GROUP {
            if hits[i] != 0 {
                out[i] = all[i];
            }
        }
        (hits, whole)
    }
}

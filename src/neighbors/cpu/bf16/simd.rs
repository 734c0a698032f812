//! The bf16 kernel in SIMD; it does exactly what [`super::reference::score_scalar`] does.

use super::layout::{Bf16Step, Pairs};
use super::reference::score_scalar;
use crate::neighbors::cpu::scan::{GROUP, PANEL, Scores, Thresholds};
use crate::neighbors::cpu::simd::Simd;

/// Runs the kernel; `simd` must be one of [`Simd::all`], the reference stands in where there is no instruction.
#[inline]
pub(crate) fn score(
    simd: Simd,
    q: &[Bf16Step],
    p: &[Pairs],
    norms: &[f32; PANEL],
    t: &Thresholds,
    out: &mut Scores,
) -> [u64; GROUP] {
    assert_eq!(q.len(), p.len());
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if simd == Simd::Avx512Bf16 && has!("avx512f") && has!("avx512bf16") {
            // SAFETY: the machine has AVX-512F and BF16, as just checked: all that `avx512` needs.
            return unsafe { x86::avx512(q, p, norms, t, out) };
        }
    }
    let _ = simd;
    score_scalar(q, p, norms, t, out)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Bf16Step, GROUP, PANEL, Pairs, Scores, Thresholds};

    const WIDE: usize = PANEL / 16;

    /// 24 accumulators of 16 lanes: 6 queries by 4 lines, two values a step.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(crate) fn avx512(
        q: &[Bf16Step],
        p: &[Pairs],
        norms: &[f32; PANEL],
        t: &Thresholds,
        out: &mut Scores,
    ) -> [u64; GROUP] {
        let mut sums = [[_mm512_setzero_ps(); WIDE]; GROUP];
        for (query, pairs) in q.iter().zip(p) {
            let lines: [__m512bh; WIDE] = std::array::from_fn(|j| {
                // SAFETY: pairs are 256 bytes, aligned to 64 by their type: line j < 4 is whole and aligned.
                // Both register types are 512 bits, any of which are valid.
                unsafe { std::mem::transmute(_mm512_load_si512(pairs.0[16 * j..].as_ptr().cast())) }
            });
            for i in 0..GROUP {
                let [low, high] = query[i].map(|value| u32::from(value.to_bits()));
                let both = _mm512_set1_epi32((low | high << 16) as i32);
                // SAFETY: both register types are 512 bits, any of which are valid.
                let broadcast: __m512bh = unsafe { std::mem::transmute(both) };
                for j in 0..WIDE {
                    sums[i][j] = _mm512_dpbf16_ps(sums[i][j], lines[j], broadcast);
                }
            }
        }
        let mut hits = [0; GROUP];
        for i in 0..GROUP {
            let bound = _mm512_set1_ps(t[i]);
            for j in 0..WIDE {
                // SAFETY: `norms` has 64 floats, j < 4; unaligned loads are allowed.
                let norms = unsafe { _mm512_loadu_ps(norms[16 * j..].as_ptr()) };
                sums[i][j] = _mm512_mul_ps(sums[i][j], norms);
                hits[i] |= u64::from(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(sums[i][j], bound)) << (16 * j);
            }
            if hits[i] != 0 {
                for j in 0..WIDE {
                    // SAFETY: a row of `out` has 64 floats, j < 4; unaligned stores are allowed.
                    unsafe { _mm512_storeu_ps(out[i][16 * j..].as_mut_ptr(), sums[i][j]) };
                }
            }
        }
        hits
    }
}

//! Float kernels in SIMD; each does exactly what [`super::reference::score_scalar`] does.

use super::layout::{FloatLines, FloatStep};
use super::reference::score_scalar;
use crate::neighbors::cpu::scan::{GROUP, PANEL, Scores, Thresholds};
use crate::neighbors::cpu::simd::Simd;

/// Runs the kernel; `simd` must be one of [`Simd::all`], the reference stands in where it is not.
#[inline]
pub(crate) fn score(
    simd: Simd,
    q: &[FloatStep],
    p: &[FloatLines],
    norms: &[f32; PANEL],
    t: &Thresholds,
    out: &mut Scores,
) -> [u64; GROUP] {
    assert_eq!(q.len(), p.len());
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        match simd {
            // SAFETY: the machine has AVX-512F, as just checked, and that is all that `avx512` needs.
            Simd::Avx512Bf16 | Simd::Avx512Vnni | Simd::Avx512 if has!("avx512f") => {
                return unsafe { x86::avx512(q, p, norms, t, out) };
            }
            // SAFETY: the machine has AVX2 and FMA, as just checked, and that is all that `avx2` needs.
            Simd::AvxVnni | Simd::Avx2 if has!("avx2") && has!("fma") => {
                return unsafe { x86::avx2(q, p, norms, t, out) };
            }
            _ => {}
        }
    }
    let _ = simd;
    score_scalar(q, p, norms, t, out)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{FloatLines, FloatStep, GROUP, PANEL, Scores, Thresholds};
    use crate::neighbors::cpu::scan::LANES;

    const WIDE: usize = PANEL / LANES;

    /// 24 accumulators of 16 lanes: 6 queries by 4 lines.
    #[target_feature(enable = "avx512f")]
    pub(crate) fn avx512(
        q: &[FloatStep],
        p: &[FloatLines],
        norms: &[f32; PANEL],
        t: &Thresholds,
        out: &mut Scores,
    ) -> [u64; GROUP] {
        let mut sums = [[_mm512_setzero_ps(); WIDE]; GROUP];
        for (query, lines) in q.iter().zip(p) {
            // SAFETY: each line is 16 floats, aligned to 64 bytes by its type.
            let lines = lines.each_ref().map(|line| unsafe { _mm512_load_ps(line.0.as_ptr()) });
            for i in 0..GROUP {
                let broadcast = _mm512_set1_ps(query[i]);
                for j in 0..WIDE {
                    sums[i][j] = _mm512_fmadd_ps(broadcast, lines[j], sums[i][j]);
                }
            }
        }
        let mut hits = [0; GROUP];
        for i in 0..GROUP {
            let bound = _mm512_set1_ps(t[i]);
            for j in 0..WIDE {
                // SAFETY: `norms` has 64 floats, j < 4; unaligned loads are allowed.
                let norms = unsafe { _mm512_loadu_ps(norms[LANES * j..].as_ptr()) };
                sums[i][j] = _mm512_mul_ps(sums[i][j], norms);
                hits[i] |= u64::from(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(sums[i][j], bound)) << (LANES * j);
            }
            if hits[i] != 0 {
                for j in 0..WIDE {
                    // SAFETY: a row of `out` has 64 floats, j < 4; unaligned stores are allowed.
                    unsafe { _mm512_storeu_ps(out[i][LANES * j..].as_mut_ptr(), sums[i][j]) };
                }
            }
        }
        hits
    }

    /// 12 accumulators of 8 lanes, four times: 6 queries by one line at a time.
    #[target_feature(enable = "avx2,fma")]
    pub(crate) fn avx2(
        q: &[FloatStep],
        p: &[FloatLines],
        norms: &[f32; PANEL],
        t: &Thresholds,
        out: &mut Scores,
    ) -> [u64; GROUP] {
        let mut hits = [0; GROUP];
        for j in 0..WIDE {
            let mut sums = [[_mm256_setzero_ps(); 2]; GROUP];
            for (query, lines) in q.iter().zip(p) {
                let line = &lines[j].0;
                // SAFETY: a line is 16 floats, aligned to 64 bytes by its type: both halves are aligned.
                let halves = unsafe { [_mm256_load_ps(line.as_ptr()), _mm256_load_ps(line[8..].as_ptr())] };
                for i in 0..GROUP {
                    let broadcast = _mm256_set1_ps(query[i]);
                    for half in 0..2 {
                        sums[i][half] = _mm256_fmadd_ps(broadcast, halves[half], sums[i][half]);
                    }
                }
            }
            for i in 0..GROUP {
                let bound = _mm256_set1_ps(t[i]);
                for (half, sum) in sums[i].into_iter().enumerate() {
                    let at = LANES * j + 8 * half;
                    // SAFETY: `norms` has 64 floats and at ≤ 56; unaligned loads are allowed.
                    let norms = unsafe { _mm256_loadu_ps(norms[at..].as_ptr()) };
                    let scores = _mm256_mul_ps(sum, norms);
                    let mask = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(scores, bound)) as u8;
                    hits[i] |= u64::from(mask) << at;
                    // SAFETY: a row of `out` has 64 floats and at ≤ 56; unaligned stores are allowed.
                    unsafe { _mm256_storeu_ps(out[i][at..].as_mut_ptr(), scores) };
                }
            }
        }
        hits
    }
}

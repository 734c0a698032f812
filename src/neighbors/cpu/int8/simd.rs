//! Byte kernels in SIMD; each does exactly what its reference in [`super::reference`] does.

use super::layout::{GroupFacts, Heads, Int8Panel, LANE_STEPS, PanelFacts, Tails};
use super::reference::{cutoffs_each, finish_scalar, score_scalar};
use crate::neighbors::cpu::scan::{Cutoffs, GROUP, PANEL, Scores, Thresholds};
use crate::neighbors::cpu::simd::Simd;

/// Scores heads. The result has one bit for each pair that, with the most that the tails can add, can reach the
/// query's cutoff; row i of `out` has the scores where there is one. `simd` must be one of [`Simd::all`], the
/// reference stands in where it is not.
#[inline]
pub(crate) fn score(simd: Simd, q: Heads<'_>, p: Int8Panel<'_>, t: &Thresholds, out: &mut Scores) -> [u64; GROUP] {
    assert_eq!(q.values.len(), p.quads.len());
    assert!(!simd.sums_in_16_bits() || q.lane_starts.len() == q.values.len().div_ceil(LANE_STEPS));
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        match simd {
            // SAFETY: the machine has AVX-512F and VNNI, as just checked: all that `avx512` needs.
            Simd::Avx512Bf16 | Simd::Avx512Vnni if has!("avx512f") && has!("avx512vnni") => {
                return unsafe { x86::avx512(q, p, t, out) };
            }
            // SAFETY: the machine has AVX2, FMA and AVX-VNNI, as just checked: all that `avx_vnni` needs.
            Simd::AvxVnni if has!("avx2") && has!("fma") && has!("avxvnni") => {
                return unsafe { x86::avx_vnni(q, p, t, out) };
            }
            // SAFETY: the machine has AVX2 and FMA, as just checked, and that is all that `avx2` needs.
            Simd::Avx512 | Simd::Avx2 if has!("avx2") && has!("fma") => {
                return unsafe { x86::avx2(q, p, t, out) };
            }
            _ => {}
        }
    }
    let _ = simd;
    score_scalar(q, p, t, out)
}

/// What scores with a panel must reach, for each group of queries.
#[inline]
pub(crate) fn cutoffs(simd: Simd, x: &[GroupFacts], y: &PanelFacts, slack: f64, t: &[Thresholds], to: &mut [Cutoffs]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        match simd {
            // SAFETY: `cutoffs_avx512` is safe code compiled for AVX-512F, which the machine has, as just checked.
            Simd::Avx512Bf16 | Simd::Avx512Vnni | Simd::Avx512 if has!("avx512f") => {
                return unsafe { x86::cutoffs_avx512(x, y, slack, t, to) };
            }
            // SAFETY: `cutoffs_avx2` is safe code compiled for AVX2, which the machine has, as just checked.
            Simd::AvxVnni | Simd::Avx2 if has!("avx2") => return unsafe { x86::cutoffs_avx2(x, y, slack, t, to) },
            _ => {}
        }
    }
    let _ = simd;
    cutoffs_each(x, y, slack, t, to);
}

/// Scores the tails of the pairs in `masks` and adds them to the heads' scores; the result has one bit for each of
/// them that reaches its cutoff, and how many they are. Other scores stay as they are.
#[inline]
pub(crate) fn finish(simd: Simd, tails: Tails<'_>, masks: [u64; GROUP], scores: &mut Scores) -> ([u64; GROUP], u32) {
    assert_eq!(tails.rows.len() * GROUP, tails.queries.len() * PANEL);
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        match simd {
            Simd::Avx512Bf16 | Simd::Avx512Vnni if has!("avx512f") && has!("avx512vnni") => {
                // SAFETY: the machine has AVX-512F and VNNI, as just checked: all that `finish_avx512` needs.
                return unsafe { x86::finish_avx512(tails, masks, scores) };
            }
            Simd::AvxVnni if has!("avx2") && has!("avxvnni") => {
                // SAFETY: the machine has AVX2 and AVX-VNNI, as just checked: all that `finish_avx_vnni` needs.
                return unsafe { x86::finish_avx_vnni(tails, masks, scores) };
            }
            Simd::Avx512 | Simd::Avx2 if has!("avx2") => {
                // SAFETY: the machine has AVX2, as just checked, and that is all that `finish_avx2` needs.
                return unsafe { x86::finish_avx2(tails, masks, scores) };
            }
            _ => {}
        }
    }
    let _ = simd;
    finish_scalar(tails, masks, scores)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::super::layout::{LANE_SQUARES_MAX, Quad, QueryLine, STEP, TailLine};
    use super::super::reference::{cutoffs_each, finish_each};

    use super::{
        Cutoffs, GROUP, GroupFacts, Heads, Int8Panel, LANE_STEPS, PANEL, PanelFacts, Scores, Tails, Thresholds,
    };

    const WIDE: usize = PANEL / 16;
    const LINES_256: usize = PANEL / 8;

    /// 24 accumulators of 16 sums: 6 queries by 4 lines, four values a step.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(crate) fn avx512(q: Heads<'_>, p: Int8Panel<'_>, t: &Thresholds, out: &mut Scores) -> [u64; GROUP] {
        // Each by its name: accumulators that a loop gives out would lie in memory.
        let start = |i: usize| [_mm512_set1_epi32(q.starts[i]); WIDE];
        let mut sums = [start(0), start(1), start(2), start(3), start(4), start(5)];
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
        let (factors, bounds, leads) = (load(p.factors), load(p.bounds), load(p.leads));
        let mut finish = |i: usize, sums: [__m512i; WIDE]| {
            let (bound, reach) = (_mm512_set1_ps(t[i]), _mm512_set1_ps(q.reaches[i]));
            let (lead, sums) = (_mm512_set1_ps(q.leads[i]), sums.map(|sums| _mm512_cvtepi32_ps(sums)));
            let scores: [__m512; WIDE] = std::array::from_fn(|j| {
                if q.is_led {
                    _mm512_fmadd_ps(sums[j], factors[j], _mm512_mul_ps(lead, leads[j]))
                } else {
                    _mm512_mul_ps(sums[j], factors[j])
                }
            });
            let mut hits = 0;
            for (j, scores) in scores.iter().enumerate() {
                let most = _mm512_fmadd_ps(reach, bounds[j], *scores);
                hits |= u64::from(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(most, bound)) << (16 * j);
            }
            if hits != 0 {
                for (to, scores) in out[i].as_chunks_mut::<16>().0.iter_mut().zip(scores) {
                    // SAFETY: `to` is 16 floats; unaligned stores are allowed.
                    unsafe { _mm512_storeu_ps(to.as_mut_ptr(), scores) };
                }
            }
            hits
        };
        let [a, b, c, d, e, f] = sums;
        [finish(0, a), finish(1, b), finish(2, c), finish(3, d), finish(4, e), finish(5, f)]
    }

    #[target_feature(enable = "avx512f")]
    pub(crate) fn cutoffs_avx512(x: &[GroupFacts], y: &PanelFacts, slack: f64, t: &[Thresholds], to: &mut [Cutoffs]) {
        cutoffs_each(x, y, slack, t, to);
    }

    #[target_feature(enable = "avx2")]
    pub(crate) fn cutoffs_avx2(x: &[GroupFacts], y: &PanelFacts, slack: f64, t: &[Thresholds], to: &mut [Cutoffs]) {
        cutoffs_each(x, y, slack, t, to);
    }

    /// One row after the other, 64 values a step.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(crate) fn finish_avx512(tails: Tails<'_>, masks: [u64; GROUP], scores: &mut Scores) -> ([u64; GROUP], u32) {
        finish_each(tails, masks, scores, |x, y| {
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

    /// Sums of products of bytes, four to a lane of 32 bits. The bytes of the query whose products an instruction sums
    /// in 16 bits are together at most 128 in size, so that the sums fit: 128 · 255 < 2¹⁵.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn dot_bytes(sums: __m256i, base: __m256i, query: __m256i) -> __m256i {
        let pairs = _mm256_maddubs_epi16(base, query);
        _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }

    /// One row after the other, 32 values a step.
    #[target_feature(enable = "avx2")]
    pub(crate) fn finish_avx2(tails: Tails<'_>, masks: [u64; GROUP], scores: &mut Scores) -> ([u64; GROUP], u32) {
        finish_each(tails, masks, scores, |x, y| {
            let mut sum = _mm256_setzero_si256();
            for (x, y) in x.iter().zip(y) {
                for (x, y) in halves(x, y) {
                    sum = dot_bytes(sum, y, x);
                }
            }
            sum_of_lanes(sum)
        })
    }

    /// The same with an instruction for it.
    #[target_feature(enable = "avx2,avxvnni")]
    pub(crate) fn finish_avx_vnni(tails: Tails<'_>, masks: [u64; GROUP], scores: &mut Scores) -> ([u64; GROUP], u32) {
        finish_each(tails, masks, scores, |x, y| {
            let mut sum = _mm256_setzero_si256();
            for (x, y) in x.iter().zip(y) {
                for (x, y) in halves(x, y) {
                    sum = _mm256_dpbusd_avx_epi32(sum, y, x);
                }
            }
            sum_of_lanes(sum)
        })
    }

    /// Both halves of two lines.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn halves(x: &QueryLine, y: &TailLine) -> [(__m256i, __m256i); 2] {
        [0, 32].map(|at| {
            // SAFETY: both lines are 64 bytes, aligned to 64 by their types, and `at` is 0 or 32.
            unsafe { (_mm256_load_si256(x.0[at..].as_ptr().cast()), _mm256_load_si256(y.0[at..].as_ptr().cast())) }
        })
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn sum_of_lanes(sums: __m256i) -> i32 {
        let four = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
        let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b_11_10_11_10>(four));
        _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b_01_01_01_01>(two)))
    }

    /// All queries with 16 rows at a time: 12 accumulators.
    #[target_feature(enable = "avx2,fma")]
    pub(crate) fn avx2(q: Heads<'_>, p: Int8Panel<'_>, t: &Thresholds, out: &mut Scores) -> [u64; GROUP] {
        let fits = q.lane_squares * p.facts.lane_squares <= LANE_SQUARES_MAX;
        let mut hits = [0; GROUP];
        for pair in 0..LINES_256 / 2 {
            let mut sums = [[_mm256_setzero_si256(); 2]; GROUP];
            if fits {
                sum_lanes(q, p, pair, &mut sums)
            } else {
                sum_steps(q, p, pair, &mut sums)
            };
            put_256(q, p, t, 0, 2 * pair, &sums, out, &mut hits);
        }
        hits
    }

    /// Sums of all queries with a pair of lines, where those of a lane fit 16 bits.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn sum_lanes(q: Heads<'_>, p: Int8Panel<'_>, pair: usize, sums: &mut [[__m256i; 2]; GROUP]) {
        let (queries, last_queries) = q.values.as_chunks::<LANE_STEPS>();
        let (quads, last_quads) = p.quads.as_chunks::<LANE_STEPS>();
        for ((queries, quads), starts) in queries.iter().zip(quads).zip(q.lane_starts) {
            add_lanes(sums, queries, quads, starts, pair);
        }
        if let (1.., Some(starts)) = (last_queries.len(), q.lane_starts.last()) {
            add_lanes(sums, last_queries, last_quads, starts, pair);
        }
    }

    /// Adds some steps of all queries with a pair of lines: at most [`LANE_STEPS`], summed in 16 bits. On the way these
    /// sums may pass what 16 bits hold, since they count modulo 2¹⁶; in the end they are those of numbers with a sign.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn add_lanes(
        sums: &mut [[__m256i; 2]; GROUP],
        queries: &[[[i8; STEP]; GROUP]],
        quads: &[Quad],
        starts: &[i32; GROUP],
        pair: usize,
    ) {
        let mut lanes = [[_mm256_setzero_si256(); 2]; GROUP];
        for (lanes, start) in lanes.iter_mut().zip(starts) {
            *lanes = [_mm256_set1_epi32(*start); 2];
        }
        for (query, quad) in queries.iter().zip(quads) {
            let lines = lines_256::<2>(quad, 2 * pair);
            for i in 0..GROUP {
                let broadcast = _mm256_set1_epi32(i32::from_le_bytes(query[i].map(|byte| byte as u8)));
                for j in 0..2 {
                    lanes[i][j] = _mm256_add_epi16(lanes[i][j], _mm256_maddubs_epi16(lines[j], broadcast));
                }
            }
        }
        for i in 0..GROUP {
            for j in 0..2 {
                sums[i][j] = _mm256_add_epi32(sums[i][j], _mm256_madd_epi16(lanes[i][j], _mm256_set1_epi16(1)));
            }
        }
    }

    /// The same, step by step in 32 bits.
    #[target_feature(enable = "avx2")]
    fn sum_steps(q: Heads<'_>, p: Int8Panel<'_>, pair: usize, sums: &mut [[__m256i; 2]; GROUP]) {
        for (sums, start) in sums.iter_mut().zip(q.starts) {
            *sums = [_mm256_set1_epi32(*start); 2];
        }
        for (query, quad) in q.values.iter().zip(p.quads) {
            let lines = lines_256::<2>(quad, 2 * pair);
            for i in 0..GROUP {
                let broadcast = _mm256_set1_epi32(i32::from_le_bytes(query[i].map(|byte| byte as u8)));
                for j in 0..2 {
                    sums[i][j] = dot_bytes(sums[i][j], lines[j], broadcast);
                }
            }
        }
    }

    /// All queries with 16 rows at a time: 12 accumulators.
    #[target_feature(enable = "avx2,fma,avxvnni")]
    pub(crate) fn avx_vnni(q: Heads<'_>, p: Int8Panel<'_>, t: &Thresholds, out: &mut Scores) -> [u64; GROUP] {
        let mut hits = [0; GROUP];
        for pair in 0..LINES_256 / 2 {
            let mut sums = q.starts.map(|start| [_mm256_set1_epi32(start); 2]);
            for (query, quad) in q.values.iter().zip(p.quads) {
                let lines = lines_256::<2>(quad, 2 * pair);
                for i in 0..GROUP {
                    let broadcast = _mm256_set1_epi32(i32::from_le_bytes(query[i].map(|byte| byte as u8)));
                    for j in 0..2 {
                        sums[i][j] = _mm256_dpbusd_avx_epi32(sums[i][j], lines[j], broadcast);
                    }
                }
            }
            put_256(q, p, t, 0, 2 * pair, &sums, out, &mut hits);
        }
        hits
    }

    /// Some lines of eight rows, from line `first` on.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn lines_256<const COUNT: usize>(quad: &Quad, first: usize) -> [__m256i; COUNT] {
        std::array::from_fn(|j| {
            // SAFETY: a quad is 256 bytes, aligned to 64 by its type: eight rows take 32 bytes, and the slice is
            // checked to begin inside; the callers' lines are below `LINES_256`.
            unsafe { _mm256_load_si256(quad.0[8 * (first + j)..][..8].as_ptr().cast()) }
        })
    }

    /// Scores from the sums of some queries with two lines, and who can reach the cutoffs.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "compiled into its callers, whose registers these are")]
    fn put_256<const QUERIES: usize>(
        q: Heads<'_>,
        p: Int8Panel<'_>,
        t: &Thresholds,
        first: usize,
        line: usize,
        sums: &[[__m256i; 2]; QUERIES],
        out: &mut Scores,
        hits: &mut [u64; GROUP],
    ) {
        for j in 0..2 {
            let at = 8 * (line + j);
            let load = |floats: &[f32; PANEL]| {
                // SAFETY: there are 64 floats, eight from `at` on, as the slice checks; unaligned loads are allowed.
                unsafe { _mm256_loadu_ps(floats[at..][..8].as_ptr()) }
            };
            let (factors, bounds) = (load(p.factors), load(p.bounds));
            for (sums, i) in sums.iter().zip(first..) {
                let sums = _mm256_cvtepi32_ps(sums[j]);
                let scores = if q.is_led {
                    let lead = _mm256_mul_ps(_mm256_set1_ps(q.leads[i]), load(p.leads));
                    _mm256_fmadd_ps(sums, factors, lead)
                } else {
                    _mm256_mul_ps(sums, factors)
                };
                let most = _mm256_fmadd_ps(_mm256_set1_ps(q.reaches[i]), bounds, scores);
                let mask = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(most, _mm256_set1_ps(t[i]))) as u8;
                hits[i] |= u64::from(mask) << at;
                // SAFETY: eight floats from `at` on, as the slice checks; unaligned stores are allowed.
                unsafe { _mm256_storeu_ps(out[i][at..][..8].as_mut_ptr(), scores) };
            }
        }
    }
}

//! Loops of multiply-adds whose operands stay in registers, for each instruction set.
//!
//! An operation's result is an operand of the next one, so that nothing can be computed once and for all; there are as
//! many chains as hide an instruction's latency.

use std::hint::black_box;

/// Rounds of a block: some microseconds.
const ROUNDS: u64 = 2048;
/// Chains of 256-bit registers, of which there are 16.
const CHAINS: usize = 12;
/// Numbers of the portable loops.
const PORTABLE: usize = 64;

/// A block of multiply-adds that this machine can run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peak {
    /// Number type and instruction set.
    pub(super) name: &'static str,
    /// Multiplications and additions of a block.
    pub(super) operations: u64,
    /// # Safety
    /// The machine has its instructions.
    block: unsafe fn(),
}

impl Peak {
    /// # Safety
    /// The machine has the instructions of the block.
    fn new(name: &'static str, sums: usize, products: usize, block: unsafe fn()) -> Peak {
        Peak { name, operations: ROUNDS * (sums * products * 2) as u64, block }
    }

    /// Runs one block.
    pub(super) fn run(&self) {
        // SAFETY: `peaks`, which alone makes a peak, found the instructions that the block needs on this machine.
        unsafe { (self.block)() }
    }
}

/// Those of this machine; the portable ones where there are no others.
pub(super) fn peaks() -> Vec<Peak> {
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx512f") {
            found.push(Peak::new("f32 avx512f", x86::WIDE_CHAINS, 16, x86::f32_avx512));
        }
        if has!("avx2") && has!("fma") {
            found.push(Peak::new("f32 avx2", CHAINS, 8, x86::f32_avx2));
        }
        if has!("avx512f") && has!("avx512bf16") {
            found.push(Peak::new("bf16 avx512_bf16", x86::WIDE_CHAINS, 32, x86::bf16_avx512));
        }
        if has!("avx512f") && has!("avx512vnni") {
            found.push(Peak::new("int8 avx512_vnni", x86::WIDE_CHAINS, 64, x86::int8_avx512));
        }
        if has!("avx2") && has!("avxvnni") {
            found.push(Peak::new("int8 avx_vnni", CHAINS, 32, x86::int8_avx_vnni));
        }
        if has!("avx2") {
            found.push(Peak::new("int8 avx2", CHAINS, 32, x86::int8_avx2));
        }
    }
    if !found.iter().any(|peak| peak.name.starts_with("f32")) {
        found.push(Peak::new("f32 portable", PORTABLE, 1, f32_portable));
    }
    if !found.iter().any(|peak| peak.name.starts_with("int8")) {
        found.push(Peak::new("int8 portable", PORTABLE, 1, int8_portable));
    }
    found
}

fn f32_portable() {
    let (x, y) = (black_box(0.5f32), black_box(0.25f32));
    let mut sums: [f32; PORTABLE] = black_box(std::array::from_fn(|at| at as f32));
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            // Where a fused instruction is part of every machine, as on aarch64, it is the fastest one.
            *sum = if cfg!(target_arch = "aarch64") { sum.mul_add(x, y) } else { *sum * x + y };
        }
    }
    black_box(sums);
}

fn int8_portable() {
    let x = black_box(3i8);
    let mut sums: [i32; PORTABLE] = black_box(std::array::from_fn(|at| at as i32));
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            *sum = sum.wrapping_add(i32::from(*sum as i8) * i32::from(x));
        }
    }
    black_box(sums);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    use crate::bench::ceilings::simd::{CHAINS, ROUNDS};

    /// Chains of 512-bit registers, of which there are 32.
    pub(super) const WIDE_CHAINS: usize = 24;

    #[target_feature(enable = "avx512f")]
    pub(super) fn f32_avx512() {
        let (x, y) = (black_box(_mm512_set1_ps(0.5)), black_box(_mm512_set1_ps(0.25)));
        let mut sums: [__m512; WIDE_CHAINS] = black_box([_mm512_setzero_ps(); WIDE_CHAINS]);
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, x, y);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn f32_avx2() {
        let (x, y) = (black_box(_mm256_set1_ps(0.5)), black_box(_mm256_set1_ps(0.25)));
        let mut sums: [__m256; CHAINS] = black_box([_mm256_setzero_ps(); CHAINS]);
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, x, y);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn bf16_avx512() {
        let ones = _mm512_set1_ps(1.0);
        let (x, y) = (black_box(_mm512_cvtne2ps_pbh(ones, ones)), black_box(_mm512_cvtne2ps_pbh(ones, ones)));
        let mut sums: [__m512; WIDE_CHAINS] = black_box([_mm512_setzero_ps(); WIDE_CHAINS]);
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, x, y);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) fn int8_avx512() {
        let (x, y) = (black_box(_mm512_set1_epi8(3)), black_box(_mm512_set1_epi8(5)));
        let mut sums: [__m512i; WIDE_CHAINS] = black_box([_mm512_setzero_si512(); WIDE_CHAINS]);
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, x, y);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx2,avxvnni")]
    pub(super) fn int8_avx_vnni() {
        let (x, y) = (black_box(_mm256_set1_epi8(3)), black_box(_mm256_set1_epi8(5)));
        let mut sums: [__m256i; CHAINS] = black_box([_mm256_setzero_si256(); CHAINS]);
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm256_dpbusd_avx_epi32(*sum, x, y);
            }
        }
        black_box(sums);
    }

    /// Eight times pairs of bytes to 16 bits, summed there, then once to 32 bits: what the search does.
    #[target_feature(enable = "avx2")]
    pub(super) fn int8_avx2() {
        const STEPS: u64 = 8;
        let (x, ones) = (black_box(_mm256_set1_epi8(3)), black_box(_mm256_set1_epi16(1)));
        let mut sums: [__m256i; CHAINS] = black_box([_mm256_setzero_si256(); CHAINS]);
        let mut lanes = sums;
        for _ in 0..ROUNDS / STEPS {
            for _ in 0..STEPS {
                for lane in &mut lanes {
                    // With a factor that never changes the products would be computed once.
                    *lane = _mm256_add_epi16(*lane, _mm256_maddubs_epi16(*lane, x));
                }
            }
            for (sum, lane) in sums.iter_mut().zip(&lanes) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(*lane, ones));
            }
        }
        black_box(sums);
    }
}

//! What the machine can do.

use crate::vectors::dot::FORCED;

/// The instructions that kernels are written for; chosen once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Simd {
    /// 512-bit registers, with byte and bf16 dot products.
    Avx512Bf16,
    /// 512-bit registers, with byte dot products.
    Avx512Vnni,
    /// 512-bit registers.
    Avx512,
    /// 256-bit registers, with byte dot products.
    AvxVnni,
    /// 256-bit registers with fused multiply-add.
    Avx2,
    /// Portable reference.
    Scalar,
}

impl Simd {
    /// The fastest of this machine; for tests and comparisons the one that [`FORCED`] names, where there is one.
    pub fn detect() -> Simd {
        let all = Simd::all();
        let forced = std::env::var(FORCED).ok();
        let named = |name: String| all.iter().copied().find(|simd| format!("{simd:?}").eq_ignore_ascii_case(&name));
        forced.and_then(named).unwrap_or(all[0])
    }

    /// Whether a name is one of instructions, which this machine may lack. Upper and lower case are the same.
    pub(crate) fn is_name(name: &str) -> bool {
        let all = [Simd::Avx512Bf16, Simd::Avx512Vnni, Simd::Avx512, Simd::AvxVnni, Simd::Avx2, Simd::Scalar];
        all.iter().any(|simd| format!("{simd:?}").eq_ignore_ascii_case(name))
    }

    /// All that this machine can run, the fastest first.
    pub fn all() -> Vec<Simd> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx512f") && has!("avx512vnni") && has!("avx512bf16") {
                found.push(Simd::Avx512Bf16);
            }
            if has!("avx512f") && has!("avx512vnni") {
                found.push(Simd::Avx512Vnni);
            }
            if has!("avx512f") {
                found.push(Simd::Avx512);
            }
            if has!("avx2") && has!("fma") && has!("avxvnni") {
                found.push(Simd::AvxVnni);
            }
            if has!("avx2") && has!("fma") {
                found.push(Simd::Avx2);
            }
        }
        found.push(Simd::Scalar);
        found
    }

    /// Whether products of bytes are summed in 16 bits first, since there is no instruction for byte dot products.
    pub(crate) fn sums_in_16_bits(self) -> bool {
        matches!(self, Simd::Avx512 | Simd::Avx2)
    }

    /// Whether there is an instruction for bf16; without it, bf16 is slower than f32.
    pub fn multiplies_bf16(self) -> bool {
        self == Simd::Avx512Bf16
    }
}

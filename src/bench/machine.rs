//! What the machine is.

use super::record::BenchMachine;

/// This machine.
pub(super) fn machine() -> BenchMachine {
    let mut system = sysinfo::System::new().ok();
    let memory_bytes = system.as_mut().map_or(0, |system| {
        system.refresh_memory();
        system.total_memory()
    });
    BenchMachine {
        cpu: cpu_name(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
        cores: std::thread::available_parallelism().map_or(1, |cores| cores.get()),
        memory_bytes,
        instructions: instructions().into_iter().map(str::to_owned).collect(),
        system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
    }
}

/// The CPU's name in the text of `/proc/cpuinfo`.
fn cpu_name(text: &str) -> String {
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'))?;
        Some(line.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    // Arm machines have numbers in the place of a name.
    let arm = || Some(format!("CPU implementer {} part {}", value("CPU implementer")?, value("CPU part")?));
    let name = value("model name").filter(|name| !name.is_empty()).or_else(arm);
    name.unwrap_or_else(|| format!("unknown {} CPU", std::env::consts::ARCH))
}

/// Instruction sets that kernels use, of those that this machine has.
fn instructions() -> Vec<&'static str> {
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        for (name, is_there) in [
            ("avx2", has!("avx2")),
            ("fma", has!("fma")),
            ("f16c", has!("f16c")),
            ("avx_vnni", has!("avxvnni")),
            ("avx512f", has!("avx512f")),
            ("avx512bw", has!("avx512bw")),
            ("avx512_vnni", has!("avx512vnni")),
            ("avx512_bf16", has!("avx512bf16")),
        ] {
            if is_there {
                found.push(name);
            }
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        use std::arch::is_aarch64_feature_detected as has;
        for (name, is_there) in [("neon", has!("neon")), ("dotprod", has!("dotprod")), ("i8mm", has!("i8mm"))] {
            if is_there {
                found.push(name);
            }
        }
    }
    found
}

/// Bytes of the largest cache; 0 where the system does not tell.
pub(super) fn cache_bytes() -> u64 {
    let index = |index: u32| {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size");
        std::fs::read_to_string(path).ok().and_then(|text| cache_size(&text))
    };
    (0..8).filter_map(index).max().unwrap_or(0)
}

/// A size such as `32K`.
fn cache_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let (number, factor) = match text.strip_suffix('K') {
        Some(number) => (number, 1 << 10),
        None => text.strip_suffix('M').map_or((text, 1), |number| (number, 1 << 20)),
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_has_a_name_or_numbers() {
        let intel = "processor\t: 0\nmodel\t\t: 143\nmodel name\t: Intel(R) Xeon(R)   Processor\n";
        assert_eq!(cpu_name(intel), "Intel(R) Xeon(R) Processor");
        let arm = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n";
        assert_eq!(cpu_name(arm), "CPU implementer 0x41 part 0xd40");
        assert!(cpu_name("").starts_with("unknown"));
    }

    #[test]
    fn caches_have_sizes() {
        assert_eq!(cache_size("48K\n"), Some(48 << 10));
        assert_eq!(cache_size("2M"), Some(2 << 20));
        assert_eq!(cache_size("512"), Some(512));
        assert_eq!(cache_size("many"), None);
        assert_eq!(cache_size("99999999999999999999K"), None);
        assert_eq!(cache_size("18446744073709551615K"), None);
    }
}

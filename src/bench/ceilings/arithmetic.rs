//! Peak multiply-adds on registers, by number type and instruction set.

use std::time::{Duration, Instant};

use super::repeat::{REPEATS, repeated};
use super::simd::peaks;
use crate::bench::record::{Ceiling, CeilingUnit};
use crate::config::KernelPrecision;
use crate::error::Result;
use crate::watch::Watch;

/// Time for one value.
const TIME: Duration = Duration::from_millis(40);

/// The ceilings of all instruction sets that this machine has.
///
/// # Errors
/// The work is to stop.
pub(super) fn measure(watch: Watch<'_>) -> Result<Vec<Ceiling>> {
    let mut found = Vec::new();
    for peak in peaks() {
        let rate = repeated(REPEATS, watch, || {
            let start = Instant::now();
            let blocks: u64 = rayon::broadcast(|_| {
                let mut blocks = 0;
                while start.elapsed() < TIME {
                    peak.run();
                    blocks += 1;
                }
                blocks
            })
            .into_iter()
            .sum();
            Ok((blocks * peak.operations) as f64 / start.elapsed().as_secs_f64() / 1e9)
        })?;
        found.push(Ceiling { name: peak.name.to_owned(), unit: CeilingUnit::Operations, rate });
    }
    Ok(found)
}

/// The fastest ceiling of a precision's number type; bf16 is computed as f32 where there is no instruction for it.
pub(in crate::bench) fn peak_of(precision: KernelPrecision, ceilings: &[Ceiling]) -> Option<&Ceiling> {
    let fastest = |kind: &str| {
        let of_kind = ceilings.iter().filter(|ceiling| ceiling.name.split(' ').next() == Some(kind));
        of_kind.max_by(|a, b| a.rate.median.total_cmp(&b.rate.median))
    };
    match precision {
        KernelPrecision::Auto | KernelPrecision::Int8 => fastest("int8"),
        KernelPrecision::Bf16 => fastest("bf16").or_else(|| fastest("f32")),
        KernelPrecision::F32 => fastest("f32"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::measured::Repeated;

    fn ceiling(name: &str, rate: f64) -> Ceiling {
        Ceiling { name: name.into(), unit: CeilingUnit::Operations, rate: Repeated::new(vec![rate]) }
    }

    #[test]
    fn a_precision_has_the_fastest_ceiling_of_its_type() {
        let all = [
            ceiling("f32 avx512f", 2.0),
            ceiling("f32 avx2", 1.0),
            ceiling("int8 avx2", 3.0),
            ceiling("int8 avx512_vnni", 9.0),
            ceiling("search int8", 99.0),
        ];
        let name = |precision, all| peak_of(precision, all).map(|ceiling: &Ceiling| ceiling.name.as_str());
        assert_eq!(name(KernelPrecision::Int8, &all), Some("int8 avx512_vnni"));
        assert_eq!(name(KernelPrecision::Bf16, &all), Some("f32 avx512f"));
        assert_eq!(name(KernelPrecision::F32, &all[1..]), Some("f32 avx2"));
        assert_eq!(name(KernelPrecision::Int8, &all[4..]), None);
    }

    #[test]
    fn every_number_type_has_a_peak_on_any_machine() {
        let found = measure(Watch::silent()).unwrap();
        for kind in ["f32", "int8"] {
            assert!(found.iter().any(|ceiling| ceiling.name.starts_with(kind)), "{kind} in {found:?}");
        }
        // Any machine multiplies a hundred million times a second.
        assert!(found.iter().all(|ceiling| ceiling.rate.median > 0.1), "{found:?}");
    }
}

#!/usr/bin/env bash
# Unit tests of `unsafe` code in Miri: SIMD kernels, sums of scores, the plugin's protocol, casts of stored numbers.
# Needs a nightly toolchain with the components miri and rust-src (BATCHMINE_NIGHTLY names it). docs/unsafe.md says what
# it finds and what it cannot.
#
#   bash tests/miri.sh [FILTER...]       other tests than those named below
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

toolchain=${BATCHMINE_NIGHTLY:-nightly}
filters=("$@")
[ ${#filters[@]} -gt 0 ] || filters=(
    vectors::dot neighbors::cpu::bf16::kernel neighbors::cpu::float::kernel neighbors::cpu::int8::kernel
    neighbors::cpu::int8::quantise neighbors::gpu::protocol neighbors::gpu::rounding vectors::row edges::codec
)

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target/miri}
export PROPTEST_CASES=${PROPTEST_CASES:-6} # interpreted, a case takes a second
# Threads without work spin, and each turn is interpreted.
export RAYON_NUM_THREADS=${RAYON_NUM_THREADS:-1}
# proptest looks for its folder of regressions. crossbeam-epoch, which rayon uses, breaks the rules of stacked borrows,
# and keeps those of tree borrows.
export MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-tree-borrows -Zmiri-permissive-provenance ${MIRIFLAGS:-}"

# Miri has no instructions of f16c: without them the crate half converts by itself.
for features in "+avx2,+fma" "+avx512f,+avx512bw,+avx512vl,+avx512vnni,+avx2,+fma"; do
    printf '\n== Miri, %s\n' "$features"
    start=$SECONDS
    RUSTFLAGS="-C target-feature=$features" \
        cargo "+$toolchain" miri test --locked --no-default-features --lib -- "${filters[@]}"
    printf '== Miri, %s: %d s\n' "$features" $((SECONDS - start))
done

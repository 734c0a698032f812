#!/usr/bin/env bash
# Stands in for rustc: crates whose code decodes get coverage's counters, the others do not. libFuzzer looks at all
# counters after each execution, and most of a million would be of code that no decoder calls.
set -euo pipefail
rustc=$1
shift
crate=
for ((at = 1; at < $#; at++)); do
    if [ "${!at}" = --crate-name ]; then
        next=$((at + 1))
        crate=${!next}
    fi
done
flags=()
case $crate in
    batchmine | parquet | arrow | npy | settings | manifest | table | vectors | rows | tasks | ids | neighbors) ;&
    edges | labels | key_lists | pass | order | packed | gpu_base) ;&
    arrow_array | arrow_buffer | arrow_data | arrow_ipc | arrow_schema | flatbuffers | half) ;&
    lz4_flex | miniz_oxide | snap | serde_json | toml | toml_parser | winnow)
        flags=(-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4)
        for kind in inline-8bit-counters pc-table trace-compares; do
            flags+=("-Cllvm-args=-sanitizer-coverage-$kind")
        done
        ;;
esac
exec "$rustc" "$@" "${flags[@]}"

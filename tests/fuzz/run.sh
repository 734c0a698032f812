#!/usr/bin/env bash
# Fuzzes the decoders of src/fuzzing.rs, guided by coverage, with libFuzzer and AddressSanitizer.
# Needs a nightly toolchain (BATCHMINE_NIGHTLY names it) and a C++ compiler. docs/testing.md says what it found.
#
#   bash tests/fuzz/run.sh [DECODER...]      all decoders unless named
#   RUNS=1000000 bash tests/fuzz/run.sh npy  executions of each; by default 100,000
#   SANITIZER=none bash tests/fuzz/run.sh    without AddressSanitizer, several times as fast
#
# Inputs that reach new code are kept in FOUND (target/fuzz/found), and are where the next call begins. What fails is
# written to FOUND/../failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

toolchain=${BATCHMINE_NIGHTLY:-nightly}
target=$(rustc "+$toolchain" -vV | sed -n 's/^host: //p')
runs=${RUNS:-100000}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target/fuzz}
found=${FOUND:-$CARGO_TARGET_DIR/found}
failed=$(dirname "$found")/failed
decoders=("$@")
if [ ${#decoders[@]} -eq 0 ]; then
    mapfile -t decoders < <(sed -n '/^\[\[bin\]\]/,/^path/s/^name = "\(.*\)"/\1/p' tests/fuzz/Cargo.toml)
fi

# What cargo-fuzz passes; rustc.sh adds what it passes for coverage, for crates that decode.
sanitizer=${SANITIZER:-address}
flags="--cfg fuzzing"
[ "$sanitizer" = none ] || flags+=" -Zsanitizer=$sanitizer"
RUSTFLAGS=$flags RUSTC_WRAPPER=$PWD/tests/fuzz/rustc.sh \
    cargo "+$toolchain" build --manifest-path tests/fuzz/Cargo.toml --release --locked --target "$target" --bins

# Decoders read files: these lie in memory, where the machine has such a folder.
memory=/dev/shm
[ -d "$memory" ] || memory=${TMPDIR:-/tmp}
TMPDIR=$(mktemp -d "$memory/batchmine-fuzz.XXXXXX")
export TMPDIR RAYON_NUM_THREADS=1
trap 'rm -rf "$TMPDIR"' EXIT
# Panics that are caught may leave memory behind: what libraries leak then is no fault of a decoder.
limits=(-rss_limit_mb=2048 -timeout=10 -max_len=65536 -detect_leaks=0)
# What takes more time than it finds: names of functions, records of stacks, weights of rare branches.
limits+=(-print_funcs=0 -entropic=0)
export ASAN_OPTIONS=detect_stack_use_after_return=0:malloc_context_size=2:quarantine_size_mb=32

status=0
mkdir -p "$failed"
for decoder in "${decoders[@]}"; do
    mkdir -p "$found/$decoder"
    log=$failed/$decoder.log
    ended="0 failures"
    nice -n 19 "$CARGO_TARGET_DIR/$target/release/$decoder" "${limits[@]}" -runs="$runs" -print_final_stats=1 \
        -artifact_prefix="$failed/$decoder-" "$found/$decoder" "tests/fuzz/corpus/$decoder" >"$log" 2>&1 ||
        { ended="FAILED, see $log"; status=1; }
    stat() { sed -n "s/^stat::$1: *//p" "$log"; }
    printf 'coverage-guided: %s: %s executions, %s a second, slowest input %s s, peak %s MB, %s inputs kept, %s\n' \
        "$decoder" "$(stat number_of_executed_units)" "$(stat average_exec_per_sec)" \
        "$(stat slowest_unit_time_sec)" "$(stat peak_rss_mb)" "$(find "$found/$decoder" -type f | wc -l)" "$ended"
done
exit $status

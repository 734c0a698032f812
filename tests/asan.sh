#!/usr/bin/env bash
# Unit tests, and integration tests of mapped files and of the GPU plugin's process, with AddressSanitizer.
# Needs a nightly toolchain (BATCHMINE_NIGHTLY names it). docs/unsafe.md says what it found.
#
#   bash tests/asan.sh                  the tests named below
#   bash tests/asan.sh MODULE...        these modules of the integration tests
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

toolchain=${BATCHMINE_NIGHTLY:-nightly}
target=$(rustc "+$toolchain" -vV | sed -n 's/^host: //p')
modules=("$@")
[ ${#modules[@]} -gt 0 ] || modules=(fake_gpu:: fake_cuda:: truncated:: signals:: rank_by:: side_limits:: own_ranks::)
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target/asan}
export RUSTFLAGS="-Zsanitizer=address ${RUSTFLAGS:-}" CARGO_PROFILE_DEV_DEBUG=line-tables-only CARGO_INCREMENTAL=0
# What is kept until the process ends (thread pools, tables made once) is no leak.
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=0:handle_segv=0:handle_sigbus=0:allow_user_segv_handler=1}
cargo() { command cargo "+$toolchain" "$@"; }

cargo test --locked --no-default-features --target "$target" --lib
# The sanitizer keeps what was freed: what is bounded of memory is measured without it.
cargo test --locked --no-default-features --target "$target" --test integration -- "${modules[@]}" \
    --skip least_budget

#!/usr/bin/env bash
# Every check of the project, from a fresh Debian machine with rustup's cargo on. Runs from any folder.
# What it brings (a Python environment, cargo-deny) goes to target/; only missing system packages are
# installed outside it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

CARGO_DENY=0.20.2

current=start
finish() {
    local code=$?
    [ "$code" -eq 0 ] || printf '\n!! tests/run.sh failed at: %s (exit %d)\n' "$current" "$code" >&2
}
trap finish EXIT

step() { # NAME COMMAND...: the command, and how long it took
    current=$1
    shift
    printf '\n== %s\n' "$current"
    local start=$SECONDS
    "$@"
    printf '== %s: %d s\n' "$current" $((SECONDS - start))
}

loud() { printf '\n!! %s\n\n' "$*" >&2; }

die() {
    loud "$*"
    exit 1
}

# --- what the machine must have -----------------------------------------------------------------

has_cc() { command -v cc >/dev/null && printf 'int main(void){return 0;}' | cc -x c -o /dev/null - 2>/dev/null; }
# FAISS is built by cmake from C++ with OpenMP, and calls a BLAS that must be OpenBLAS.
has_faiss_tools() {
    command -v cmake >/dev/null && command -v make >/dev/null && command -v c++ >/dev/null &&
        printf 'extern "C" { void openblas_set_num_threads(int); void sgemm_(); }
            int main() { openblas_set_num_threads(1); return sgemm_ == nullptr; }' |
        c++ -x c++ -fopenmp -o /dev/null - -lblas -llapack -lopenblas 2>/dev/null
}
has_venv() { python3 -c 'import ensurepip, venv' 2>/dev/null; }

system_packages() {
    local missing=()
    has_cc || missing+=(gcc libc6-dev) # zstd is C, and rustc links with cc
    has_faiss_tools || missing+=(cmake make g++ libopenblas-dev)
    has_venv || missing+=(python3 python3-venv)
    command -v git >/dev/null || missing+=(git ca-certificates) # cargo-deny clones the advisories with it
    if [ ${#missing[@]} -gt 0 ]; then
        local apt=(env DEBIAN_FRONTEND=noninteractive apt-get)
        command -v apt-get >/dev/null || die "missing: ${missing[*]}, and there is no apt-get: install them by hand"
        if [ "$(id -u)" -ne 0 ]; then
            command -v sudo >/dev/null || die "missing: ${missing[*]}: run 'apt-get install ${missing[*]}' as root"
            apt=(sudo "${apt[@]}")
        fi
        echo "installing ${missing[*]}"
        # An update that fails is no news yet: the lists that are there may do.
        { "${apt[@]}" -q update || true
          "${apt[@]}" -q install -y --no-install-recommends "${missing[@]}"
        } || die "apt-get could not install ${missing[*]}: is there a network? Install them by hand, then run this" \
            "again"
        has_cc || die "cc is installed, but compiles nothing"
        has_faiss_tools || die "cmake, c++ and OpenBLAS are installed, but cannot link: is libblas.so another BLAS?"
        # A python3 earlier on PATH than Debian's can still lack venv: python_environment says so.
    fi

    if ! command -v cargo >/dev/null && [ -f "$HOME/.cargo/env" ]; then
        # shellcheck source=/dev/null
        . "$HOME/.cargo/env"
    fi
    command -v cargo >/dev/null || die "there is no cargo: install Rust 1.95 or later with rustup"
    cargo --version
    if ! { cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1; then
        rustup component add rustfmt clippy || die "rustfmt and clippy are missing, and rustup could not add them"
    fi
}

# --- the Python readers -------------------------------------------------------------------------

python_environment() {
    local python=$PWD/target/python/bin/python log=target/python.log
    # The pins that were installed are kept beside them, so that the next run asks no network.
    if ! { cmp -s tests/requirements.txt target/python/requirements.txt && "$python" -c '' 2>/dev/null; }; then
        rm -rf target/python
        mkdir -p target
        local python3=python3
        has_venv || python3=/usr/bin/python3
        "$python3" -m venv target/python || die "python3 makes no virtual environment: install python3-venv"
        if ! "$python" -m pip install --disable-pip-version-check --retries 2 --only-binary :all: \
            -r tests/requirements.txt >"$log" 2>&1; then
            tail -n 20 "$log" >&2
            # Pins that do not resolve are a fault of ours; a machine without a network is not.
            grep -qE 'Retrying|ConnectionError|ConnectTimeout|ReadTimeout|SSLError|ProxyError' "$log" ||
                die "pip cannot install tests/requirements.txt: see $log"
            loud "PyPI cannot be reached: the tests that read tables and exports with DuckDB, Polars, PyArrow," \
                "deltalake and datasets, and those with S3 servers, are SKIPPED"
            rm -rf target/python
            unset BATCHMINE_PYTHON
            return
        fi
        cp tests/requirements.txt target/python/requirements.txt
    fi
    export BATCHMINE_PYTHON=$python
    "$python" -m pip list --disable-pip-version-check --format freeze
}

# --- the Python package -------------------------------------------------------------------------

# With FAISS the wheel's library is the one that the tests are built with, and is not built again. Wheels for others are
# built without.
wheel() {
    if [ -z "${BATCHMINE_PYTHON:-}" ]; then
        loud "no Python environment: the Python package is NOT built or tested"
        return
    fi
    # Its library's rlib, as the tests have it.
    cargo test --locked --all-features --no-run
    rm -rf target/wheels
    "$BATCHMINE_PYTHON" -m maturin build --quiet --locked --profile dev --features faiss --compatibility linux \
        --manifest-path python/Cargo.toml --out target/wheels
    # For what the tests of exports and of the documentation import.
    "$BATCHMINE_PYTHON" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --force-reinstall \
        target/wheels/*.whl
}

# The wheel in an environment of its own, without cargo on its PATH. Readers of tables are borrowed.
python_tests() {
    [ -n "${BATCHMINE_PYTHON:-}" ] || return 0
    local fresh=$PWD/target/wheel-python
    rm -rf "$fresh"
    "$BATCHMINE_PYTHON" -m venv --without-pip "$fresh"
    local site borrowed
    site=$("$fresh/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    borrowed=$("$BATCHMINE_PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    "$BATCHMINE_PYTHON" -m pip --python "$fresh/bin/python" install --quiet --disable-pip-version-check --no-index \
        --no-deps target/wheels/*.whl
    echo "$borrowed" >"$site/readers.pth"
    env -i PATH=/usr/bin:/bin HOME="$HOME" "$fresh/bin/python" -m pytest -q -rs -p no:cacheprovider python/tests
    (cd python && "$BATCHMINE_PYTHON" -m mypy --cache-dir "$PWD/../target/mypy" batchmine)
}

# --- the tests ----------------------------------------------------------------------------------

# One set of features for lints, documentation and tests: what they share is built once. FAISS's C++ is most of it.
tests() {
    if command -v cargo-nextest >/dev/null; then
        # Nextest runs no doc tests. They go first: the summary that counts then stands last.
        cargo test --locked --all-features --doc
        cargo nextest run --locked --all-features --no-fail-fast
    else
        cargo test --locked --all-features
    fi
}

# --- the dependencies ---------------------------------------------------------------------------

install_deny() {
    export PATH=$PWD/target/tools/bin:$PATH
    if ! command -v cargo-deny >/dev/null; then
        # It runs for half a second: optimised, it would take longer to build for nothing.
        cargo install --quiet --locked --debug --root target/tools "cargo-deny@$CARGO_DENY" ||
            die "cargo-deny $CARGO_DENY could not be installed: the dependencies' licences and sources are NOT checked"
    fi
    cargo deny --version
}

deny() {
    cargo deny --locked check --hide-inclusion-graph bans licenses sources
    local why
    if why=$(timeout 120 cargo deny --locked fetch db 2>&1); then
        cargo deny --locked check --hide-inclusion-graph advisories
    else
        loud "advisories not checked: the advisory database cannot be fetched"
        printf '%s\n' "$why" >&2
    fi
}

step "system packages" system_packages
step "python environment" python_environment
step "format" cargo fmt --all --check
step "clippy without features" cargo clippy --locked --no-default-features --all-targets -- -D warnings
step "clippy" cargo clippy --locked --workspace --all-features --all-targets -- -D warnings
step "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --locked --all-features --no-deps
step "wheel" wheel
step "tests" tests
step "Python tests" python_tests
step "cargo-deny" install_deny
step "dependencies" deny

printf '\nall checks passed in %d s\n' "$SECONDS"

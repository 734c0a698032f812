"""Counts the lines of `unsafe` code in the dependencies that read what a stranger may have written.

    python3 tests/unsafe_census.py            the table of docs/unsafe.md
    python3 tests/unsafe_census.py --check    fails if docs/unsafe.md has another one

The crates and their versions are those of Cargo.lock; their source is cargo's own copy of it. A line counts if it has
`unsafe` outside comments and strings. Tests, benches and examples are left out.
"""

import pathlib
import re
import subprocess
import sys
import json

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "unsafe.md"
# The crates that bytes of an input, of a run folder, or of a store pass through, by what they do there.
CRATES = [
    "parquet", "arrow-array", "arrow-buffer", "arrow-cast", "arrow-data", "arrow-ipc", "arrow-select", "flatbuffers",
    "memmap2", "zstd", "zstd-safe", "zstd-sys", "snap", "lz4_flex", "brotli", "brotli-decompressor", "flate2",
    "miniz_oxide", "crc32fast", "simdutf8", "npyz", "half", "bytemuck", "bytes", "xxhash-rust", "serde_json", "memchr",
    "hashbrown", "toml", "rustix", "polars-core", "polars-arrow", "polars-parquet", "polars-buffer",
    "polars-compute", "polars-stream", "polars-io", "object_store", "deltalake-core", "rustls", "ring",
]
BEGIN, END = "<!-- census: python3 tests/unsafe_census.py -->", "<!-- end of census -->"


def packages():
    """(name, version, folder) of the crates, as they are resolved with all features."""
    command = ["cargo", "metadata", "--format-version", "1", "--all-features", "--locked", "--offline"]
    found = json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)
    all_packages = [(p["name"], p["version"], pathlib.Path(p["manifest_path"]).parent) for p in found["packages"]]
    missing = set(CRATES) - {name for name, *_ in all_packages}
    if missing:
        raise SystemExit(f"no dependencies: {', '.join(sorted(missing))}")
    return sorted((p for p in all_packages if p[0] in CRATES), key=lambda p: (CRATES.index(p[0]), p[1]))


def code(text):
    """Rust without its comments and the content of its strings. Raw strings and nested comments are no concern here."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    return "\n".join(re.sub(r'"(?:[^"\\]|\\.)*"', '""', line).split("//")[0] for line in text.splitlines())


def count(folder):
    """Lines of Rust, and of these lines with `unsafe`; lines of C."""
    lines = marked = c = 0
    for path in sorted(folder.rglob("*")):
        parts = set(path.relative_to(folder).parts[:-1])
        if not path.is_file() or parts & {"tests", "benches", "examples", "fuzz"}:
            continue
        if path.suffix == ".rs" and path.stem not in {"tests", "test"}:
            text = code(path.read_text(errors="replace")).splitlines()
            lines += sum(1 for line in text if line.strip())
            marked += sum(1 for line in text if re.search(r"\bunsafe\b", line))
        elif path.suffix in {".c", ".h", ".S"} and not parts & {"legacy", "doc", "contrib"}:
            c += sum(1 for line in path.read_text(errors="replace").splitlines() if line.strip())
    return lines, marked, c


def table():
    rows = ["| crate | version | lines | with `unsafe` | lines of C or assembler |", "|---|---|---:|---:|---:|"]
    total = 0
    for name, version, folder in packages():
        lines, marked, c = count(folder)
        total += marked
        rows.append(f"| {name} | {version} | {lines:,} | {marked:,} | {c:,} |")
    return "\n".join(rows), total


def main():
    text, total = table()
    print(text)
    print(f"unsafe: {total:,} lines in {text.count(chr(10)) - 1} crates")
    if sys.argv[1:] == ["--check"]:
        page = PAGE.read_text()
        if page.partition(BEGIN)[2].partition(END)[0].strip() != text:
            raise SystemExit(f"{PAGE}: the table is another one: copy it from above")


main()

"""What safety costs a job: syncs, commits and checksums, as shares of its wall and CPU time.

    python3 benches/compare/cost.py DATA... [--batchmine PATH] [--runs 3] [--flags "..."]

Syncs and commits are counted and timed by a library that is loaded before libc (sync_time.c; needs cc), in runs that
take turns with runs whose syncs do nothing. Checksums are the samples of perf that lie in xxh3, of all samples; without
perf they are not measured. The binary needs its symbols: a release build is stripped, so build one by
`CARGO_PROFILE_RELEASE_STRIP=none cargo build --release`.
"""

import argparse
import os
import pathlib
import re
import resource
import shutil
import statistics
import subprocess
import tempfile
import time

from process import ROOT, processor


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+")
    parser.add_argument("--batchmine", default=ROOT / "target/release/batchmine")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--flags", default="--batch-size 1024 --threads 2")
    parser.add_argument("--work", help="folder for the runs, on the disk that is measured")
    return parser.parse_args()


def run(command, environment):
    """Wall and CPU seconds of a command."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([str(word) for word in command], check=True, env=environment, stderr=subprocess.DEVNULL)
    wall, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def synced(options, folder, library, skip):
    """Wall and CPU seconds of a job; its syncs, their seconds, its renames, and the bytes that it wrote."""
    told, out = folder / "told", folder / "run"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BATCHMINE_")}
    environment |= {"LD_PRELOAD": str(library), "SYNC_TIME": str(told)} | ({"SYNC_SKIP": "1"} if skip else {})
    command = [options.batchmine, "mine", *options.data, "--out", out, *options.flags.split(), "--progress", "none"]
    wall, cpu = run(command, environment)
    shutil.rmtree(out)
    calls, nanoseconds, renames, written = map(int, told.read_text().split())
    counted = {"calls": calls, "seconds": nanoseconds / 1e9, "renames": renames, "bytes": written}
    return {"wall": wall, "cpu": cpu} | counted


def hashed(options, folder):
    """Share of a job's samples that lie in xxh3; None without perf."""
    if shutil.which("perf") is None:
        return None
    data, out = folder / "perf.data", folder / "run"
    command = [options.batchmine, "mine", *options.data, "--out", out, *options.flags.split(), "--progress", "none"]
    perf = ["perf", "record", "-q", "-F", "499", "-o", data, "--", *command]
    done = subprocess.run([str(word) for word in perf], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if done.returncode != 0 or not data.exists():
        return None
    shutil.rmtree(out)
    shown = ["perf", "report", "-i", str(data), "--stdio", "--sort", "symbol", "--percent-limit", "0"]
    lines = subprocess.run(shown, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.splitlines()
    shares = [(float(found[1]), line) for line in lines if (found := re.match(r"\s*([\d.]+)%", line))]
    if not any("batchmine::" in line for _, line in shares):
        raise SystemExit(f"{options.batchmine}: no symbols: build it with CARGO_PROFILE_RELEASE_STRIP=none")
    return sum(share for share, line in shares if "xxh" in line) / 100


def main():
    options = arguments()
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        folder = pathlib.Path(folder)
        library = folder / "sync_time.so"
        source = pathlib.Path(__file__).with_name("sync_time.c")
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        synced(options, folder, library, False)  # the input comes into the page cache
        turns = [[synced(options, folder, library, skip) for skip in (False, True)] for _ in range(options.runs)]
        share = hashed(options, folder)
    real, free = [{name: statistics.median(turn[at][name] for turn in turns) for name in turns[0][at]} for at in (0, 1)]
    pairs = [f"{a['wall'] / b['wall']:.3f}" for a, b in turns]
    print(f"cost: {processor()}, {options.runs} runs each, medians")
    print(
        f"cost: syncs: {real['calls']:.0f} calls, {real['renames']:.0f} renames, "
        f"{real['bytes'] / 2**20:.0f} MiB written; {real['seconds']:.3f} s of {real['wall']:.2f} s wall: "
        f"{100 * real['seconds'] / real['wall']:.2f} %"
    )
    print(
        f"cost: with syncs / without: wall {real['wall'] / free['wall']:.3f}, CPU {real['cpu'] / free['cpu']:.3f} "
        f"(wall of each pair: {', '.join(pairs)})"
    )
    print("cost: checksums: not measured, no perf" if share is None else f"cost: checksums: {100 * share:.2f} % of CPU")


main()

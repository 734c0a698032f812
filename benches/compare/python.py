"""`batchmine.mine` beside the command: CPU time and peak memory of the same job, in turn.

    python benches/compare/python.py DATA... [--batchmine PATH] [--runs 3] [--flags "..."]

The Python that runs this has the wheel installed. Both should be built alike: PATH is the executable that was built
with the wheel's profile; by default the command of the same wheel is taken. DATA have the columns `query_embedding` and
`positive_embedding`. "arrays" are the same rows as numpy arrays in memory; what loads them is not counted. The
remaining CPU times are of whole processes.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

from process import processor

MINE = """
import json, sys, batchmine
call = json.loads(sys.argv[1])
batchmine.mine(call["data"], call["out"], progress=False, **call["settings"])
"""
# CPU seconds of `mine` alone: of arrays, and of files.
ALONE = """
import glob, json, os, pathlib, sys, batchmine, numpy, pyarrow.dataset
call = json.loads(sys.argv[1])
pairs, labels = call["data"], {}
if call["arrays"]:
    files = sorted(file for data in pairs for file in glob.glob(data + "/*.parquet"))
    table = pyarrow.dataset.dataset(files).to_table()
    side = lambda name: numpy.concatenate([c.flatten().to_numpy() for c in table[name].chunks]).reshape(len(table), -1)
    pairs, labels = (side("query_embedding"), side("positive_embedding")), {"ids": table["id"].to_pylist()}
    del table
before = os.times()
batchmine.mine(pairs, call["out"], progress=False, **labels, **call["settings"])
after = os.times()
print(after.user + after.system - before.user - before.system)
"""
SETTINGS = {"batch_size": 1024, "threads": 2, "memory": "4GiB"}


def measured(command):
    """CPU seconds and peak resident MiB of a process, of which Linux keeps the most of all children: one each."""
    script = (
        "import json, resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, stderr=subprocess.DEVNULL)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, *map(str, command)], check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+")
    parser.add_argument("--batchmine")
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    own = [given.batchmine] if given.batchmine else [sys.executable, "-m", "batchmine"]
    flags = [word for name, value in SETTINGS.items() for word in (f"--{name.replace('_', '-')}", value)]
    found = {"command": [], "Python": []}
    tables = set()
    for _ in range(given.runs):
        for kind in found:
            with tempfile.TemporaryDirectory() as folder:
                out = pathlib.Path(folder) / "run"
                call = json.dumps({"data": given.data, "out": str(out), "settings": SETTINGS})
                command = [*own, "mine", *given.data, "--out", out, *flags, "--progress", "none"]
                found[kind].append(measured([sys.executable, "-c", MINE, call] if kind == "Python" else command))
                tables.add(tuple(path.read_bytes() for path in sorted((out / "batches").glob("*.parquet"))))
    assert len(tables) == 1, "both write the same batches"
    print(processor())
    middle = {kind: [statistics.median(column) for column in zip(*runs)] for kind, runs in found.items()}
    for kind, (seconds, mib) in middle.items():
        print(f"{kind:>8}: {seconds:7.2f} CPU s, peak {mib:6.1f} MiB resident (median of {given.runs})")
    (own_seconds, own_mib), (seconds, mib) = middle["command"], middle["Python"]
    print(f"   Python: {seconds / own_seconds:.3f} x the CPU time, {mib - own_mib:+.1f} MiB")
    alone = {"files": [], "arrays": []}
    for _ in range(given.runs):
        for kind in alone:
            with tempfile.TemporaryDirectory() as folder:
                call = {"data": given.data, "out": folder + "/run", "settings": SETTINGS, "arrays": kind == "arrays"}
                command = [sys.executable, "-c", ALONE, json.dumps(call)]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
                alone[kind].append(float(done.stdout))
    files, arrays = (statistics.median(alone[kind]) for kind in ("files", "arrays"))
    print(f"   arrays: {arrays:.2f} CPU s, {arrays / files:.3f} x files' {files:.2f}, both without what loads them")


if __name__ == "__main__":
    main()

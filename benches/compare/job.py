#!/usr/bin/env python3
"""The whole job: batchmine beside the script that one would otherwise write. Same data, same settings, in turn.

    pip install -r benches/compare/requirements.txt
    cargo build --release
    python benches/compare/job.py DATA... [--cluster-size 8] [--batch-size 1024] [--runs 3]

DATA are Parquet files, or folders of them, with `query_embedding` and `positive_embedding`. README.md beside this file
says what is counted on either side.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from clusters import Judge
from pairs import CHUNK, files, jittered, read, write
from process import ROOT, TICK, compared, median, parser_of, positive, processor, version_line
from run_files import clusters, edges, order, without_suspects

SCRIPT = pathlib.Path(__file__).with_name("job_script.py")
LOOK = 0.02  # seconds between looks at a process: what it does after the last look is not seen


# ---- a process, watched


def field(file, name):
    """A number of a file in /proc; None once the process is gone."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    found = [line.split(":", 1)[1].split()[0] for line in lines if line.startswith(name + ":")]
    return int(found[0]) if found else None


def watched(command, environment, log):
    """Wall and CPU seconds of a process, its highest resident memory and what it wrote to the disk."""
    before = os.times()
    begin = time.perf_counter()
    with log.open("w") as out:
        process = subprocess.Popen([str(word) for word in command], stdout=out, stderr=out, env=environment)
    proc, seen = pathlib.Path(f"/proc/{process.pid}"), {"peak": 0, "written": 0}
    try:
        while process.poll() is None:
            for name, file, line, scale in (
                ("peak", proc / "status", "VmHWM", 1024),
                ("written", proc / "io", "write_bytes", 1 << 20),
            ):
                number = field(file, line)
                seen[name] = max(seen[name], (number or 0) / scale)
            time.sleep(LOOK)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    wall, after = time.perf_counter() - begin, os.times()
    if process.returncode:
        raise SystemExit(f"{command[0]} failed (exit {process.returncode}):\n{log.read_text()}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"wall": wall, "cpu": max(cpu, TICK), **seen}


def size_of(path):
    """MiB of a file, or of all files of a folder."""
    inside = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in inside) / (1 << 20)


# ---- both sides


def job_flags(args):
    names = ["skip", "window", "edges", "cluster_size", "batch_size", "threads"]
    return [word for name in names for word in (f"--{name.replace('_', '-')}", getattr(args, name))]


def batchmine(args, data, out, log):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BATCHMINE_")}
    command = [args.batchmine, "mine", *data, "--out", out, "--progress", "none", *job_flags(args)]
    cost = watched(command, environment, log)
    return cost | {"left": size_of(out), "table": size_of(out / "batches")}


def script(args, data, out, log):
    environment = os.environ | {
        "OMP_WAIT_POLICY": "PASSIVE",  # else idle OpenMP threads burn CPU time waiting
        "OMP_NUM_THREADS": str(args.threads),
        "OPENBLAS_NUM_THREADS": str(args.threads),
    }
    labels = out.with_suffix(".npy")
    command = [sys.executable, SCRIPT, *data, "--out", out, "--labels", labels, *job_flags(args)]
    cost = watched(command, environment, log)
    return cost | {"left": size_of(out), "table": size_of(out)}


# ---- what came out


def batches_of(run, rows):
    """The batch of each row of batchmine's table, -1 where it is in none."""
    table = pq.read_table(run / "batches", columns=["row", "batch_id"])
    found = np.full(rows, -1)
    found[table["row"].to_numpy()] = table["batch_id"].to_numpy()
    return found


def worth(judge, labels):
    """Figures of one cut of the rows, clusters or batches: labels by row."""
    figures = judge.figures(labels[judge.order])
    names = ("weight_inside", "suspects_share", "without", "copies", "left_out")
    return {name: figures[name] for name in names}


COSTS = [("wall s", "wall", ".2f"), ("CPU s", "cpu", ".2f"), ("peak MiB", "peak", ".0f"),
         ("written MiB", "written", ".1f"), ("left MiB", "left", ".1f"), ("table MiB", "table", ".1f")]  # fmt: skip
WORTH = [("weight inside", "weight_inside"), ("suspects inside", "suspects_share"), ("without preferred", "without"),
         ("copies", "copies")]  # fmt: skip


def cost_table(sides):
    lines = ["| | " + " | ".join(sides) + " | script / batchmine |", "|---|" + "--:|" * (len(sides) + 1)]
    ours, theirs = sides["batchmine"], sides["script"]
    for head, name, form in COSTS:
        ratio = f"{theirs[name] / ours[name]:.2f}" if ours[name] else ""
        lines.append(f"| {head} | {ours[name]:{form}} | {theirs[name]:{form}} | {ratio} |")
    return "\n".join(lines)


def worth_table(found):
    lines = ["| of | " + " | ".join(f"{head} %" for head, _ in WORTH) + " | left out |", "|---|" + "--:|" * 5]
    for name, figures in found.items():
        cells = [f"{100 * figures[key]:.2f}" for _, key in WORTH]
        lines.append(f"| {name} | {' | '.join(cells)} | {figures['left_out']:,} |")
    return "\n".join(lines)


# ---- comparison


def made(args, folder):
    """The data to compare on: DATA, or what --limit-rows and --jitter-rows make of them."""
    if args.jitter_rows is None and args.limit_rows is None:
        return list(files(args.data))
    sides, data = read(args.data, args.limit_rows), folder / "data"
    if args.jitter_rows is not None:
        write(data, jittered(sides, args.jitter_rows))
    else:
        write(data, [[side[a : a + CHUNK] for side in sides] for a in range(0, len(sides[0]), CHUNK)])
    return [data]


def trained(args, run, list_of_script, folder):
    """The test MRR of students of both lists, by student.py."""
    ours = folder / "batchmine-list.parquet"
    pq.write_table(pq.read_table(run / "batches", columns=["batch_id", "id"]), ours)
    command = [sys.executable, SCRIPT.with_name("student.py"), *args.data, "--batchmine", args.batchmine, "--settings"]
    command += ["--add", f"list {ours}", f"list {list_of_script}", "--batch-size", args.batch_size]
    command += ["--work", folder / "student", "--results", folder / "student.jsonl"]
    subprocess.run([str(word) for word in command], check=True)


def compare(args, folder):
    if args.student and (args.limit_rows is not None or args.jitter_rows is not None):
        raise SystemExit("--student needs the texts of DATA: leave --limit-rows and --jitter-rows out")
    data = made(args, folder)
    run, written, log = folder / "run", folder / "script.parquet", folder / "log"
    ours, theirs = [], []
    for number in range(args.runs):
        shutil.rmtree(run, ignore_errors=True)
        ours.append(batchmine(args, data, run, log))
        theirs.append(script(args, data, written, log))
        walls = f"batchmine {ours[-1]['wall']:.2f} s, script {theirs[-1]['wall']:.2f} s"
        print(f"run {number + 1} of {args.runs}: {walls}", file=sys.stderr, flush=True)

    ranks = order(run)
    graph = without_suspects(*edges(run))
    judge = Judge(run, args.skip, args.cluster_size, graph)
    labels, batches = np.load(written.with_suffix(".npy"))
    found = {
        "clusters, batchmine": worth(judge, clusters(run)),
        "clusters, script": worth(judge, labels),
        "batches, batchmine": worth(judge, batches_of(run, len(ranks))),
        "batches, script": worth(judge, batches),
    }
    sizes = np.bincount(labels, minlength=1)
    sides = {"batchmine": median(ours), "script": median(theirs)}
    dim = judge.queries.shape[1]
    print(
        f"{len(ranks):,} rows x {dim}, p = {args.skip}, m = {args.window}, `{args.edges}`, K = {args.cluster_size}, "
        f"|B| = {args.batch_size:,}; {args.threads} threads of {processor()}; medians of {args.runs} runs"
    )
    print(f"{version_line(args.batchmine)}; pyarrow {pa.__version__}; the script's clusters have "
          f"{sizes.min()} to {sizes.max()} rows\n")  # fmt: skip
    print(cost_table(sides), worth_table(found), sep="\n\n", flush=True)
    about = {"rows": len(ranks), "dim": dim, "processor": processor(), "costs": sides, "runs": [ours, theirs]}
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(about | {"worth": found}, indent=1) + "\n")
    if args.student:
        print()
        trained(args, run, written, folder)
    return 0


def main():
    parser = parser_of(__doc__.splitlines()[0], "DATA", "Parquet files or folders of them")
    parser.add_argument("--skip", type=int, default=10, help="p (default 10)")
    parser.add_argument("--window", type=positive, default=100, help="m (default 100)")
    parser.add_argument("--edges", choices=["any", "mutual"], default="any", help="rule of the graph (default any)")
    parser.add_argument("--cluster-size", metavar="K", type=positive, default=8, help="rows a cluster (default 8)")
    parser.add_argument("--batch-size", type=positive, default=1024, help="default 1024")
    parser.add_argument("--threads", type=positive, default=2, help="threads of either side (default 2)")
    parser.add_argument("--runs", type=positive, default=3, help="runs of either side (default 3)")
    parser.add_argument("--limit-rows", metavar="N", type=positive, help="use only the first N rows")
    parser.add_argument("--jitter-rows", metavar="N", type=positive, help="make N rows out of DATA's, see README.md")
    parser.add_argument("--student", action="store_true", help="also train students on both lists (|B| 64 or 256)")
    result = ROOT / "target/compare/job.json"
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path, default=result, help="all figures")
    return compared(parser, compare)


if __name__ == "__main__":
    sys.exit(main())

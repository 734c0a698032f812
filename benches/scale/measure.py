"""The model held against measured runs on this machine, stage by stage.

    python benches/scale/measure.py --batchmine BIN --work DIR [--rows 100000 300000 1000000] [--dim 768] [--threads 2]

Makes planted rows with `batchmine gen`, runs `batchmine mine` on them and prints the medians of each stage's seconds
beside the model's. Then one factor for each stage is fitted on the smallest size alone, and the others are predicted
with it. Nothing else is fitted.

What was measured stays in --work until the end, so that a call that was stopped goes on; at the end all of it is
removed, but with --keep. Only folders that this script marked are removed. Let nothing else run beside it.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys

import model
from constants import GB, BenchRecord, Constants, from_bench, read_bench
from model import Fleet, Job, Machine
from tables import markdown

STAGES = ("vectors", "neighbors", "edges", "clusters", "batches")
MARK = "scale-measure.json"
DISK_BYTES_S = 1.0 * GB
"""What a disk is taken to read and write where no record of `bench` says."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """One job: seconds and most anonymous bytes by stage, and what the stages said."""

    seconds: dict[str, float]
    peak_bytes: dict[str, float]
    arcs: int
    probes: int | None
    recall: float


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The cost model beside measured runs.")
    parser.add_argument("--batchmine", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True, help="an empty folder, or one of this script")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--search", default="exact", help="exact, ivf or ivf:PROBES, as `mine` takes it")
    parser.add_argument("--cluster-size", type=int, default=8)
    parser.add_argument("--bench", type=pathlib.Path, help="a record of `batchmine bench --json` of this machine")
    parser.add_argument("--keep", action="store_true", help="leave --work as it is")
    return parser.parse_args()


def environment() -> dict[str, str]:
    """Without the user's settings of batchmine, which would change the job."""
    return {name: value for name, value in os.environ.items() if not name.startswith("BATCHMINE_")}


def call(command: list[str]) -> str:
    """Standard output of a command, or the end."""
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr}")
    return done.stdout


def open_work(options: argparse.Namespace) -> None:
    """Marks the folder, or goes on in one that was marked with the same settings."""
    work, mark = options.work, options.work / MARK
    version = call([str(options.batchmine), "--version"]).strip()
    settings = {name: getattr(options, name) for name in ("dim", "threads", "search", "cluster_size")}
    wanted = {**settings, "version": version}
    if mark.exists():
        if json.loads(mark.read_text()) != wanted:
            raise SystemExit(f"{mark} is of other settings: remove {work}, or give another --work")
        return
    if work.exists() and any(work.iterdir()):
        raise SystemExit(f"{work} is not empty, and not of this script")
    work.mkdir(parents=True, exist_ok=True)
    mark.write_text(json.dumps(wanted) + "\n")


def make_data(options: argparse.Namespace, rows: int) -> pathlib.Path:
    """Planted rows; `gen` goes on with a folder that it began."""
    data: pathlib.Path = options.work / f"rows-{rows}" / "data"
    command = [str(options.batchmine), "gen", "--rows", str(rows), "--dim", str(options.dim), "--out", str(data)]
    if "--spectrum" in call([str(options.batchmine), "gen", "--help"]):
        command += ["--spectrum", "falling"]
    call([*command, "--quiet"])
    return data


def run_once(options: argparse.Namespace, data: pathlib.Path, run: pathlib.Path) -> Measured:
    """A job from its beginning: what an earlier call left of it would not be timed."""
    shutil.rmtree(run, ignore_errors=True)
    command = [str(options.batchmine), "mine", str(data), "--out", str(run), "--search", options.search]
    command += ["--threads", str(options.threads), "--cluster-size", str(options.cluster_size)]
    lines = call([*command, "--json", "--progress", "none"]).splitlines()
    done = {event["stage"]: event for event in map(json.loads, lines) if event["event"] == "done"}
    facts = done["neighbors"]["facts"]
    shutil.rmtree(run)
    return Measured(
        {stage: float(done[stage]["seconds"]) for stage in STAGES},
        {stage: float(done[stage]["peak_bytes"]) for stage in STAGES},
        int(done["edges"]["facts"]["arcs"]),
        facts["probes"],
        float(facts["recall"]),
    )


def measure(options: argparse.Namespace, rows: int) -> list[Measured]:
    """All repeats of a size; those that an earlier call finished are read."""
    folder = options.work / f"rows-{rows}"
    found = []
    for index in range(options.repeats):
        kept = folder / f"run-{index}.json"
        if not kept.exists():
            data = make_data(options, rows)
            print(f"{rows:,} rows, run {index + 1} of {options.repeats}", file=sys.stderr)
            measured = run_once(options, data, folder / f"run-{index}")
            kept.with_suffix(".tmp").write_text(json.dumps(dataclasses.asdict(measured)))
            kept.with_suffix(".tmp").rename(kept)
        found.append(Measured(**json.loads(kept.read_text())))
    shutil.rmtree(folder / "data", ignore_errors=True)
    return found


def medians(runs: list[Measured]) -> dict[str, float]:
    return {stage: statistics.median(run.seconds[stage] for run in runs) for stage in STAGES}


def this_machine(options: argparse.Namespace, bench: BenchRecord | None) -> Machine:
    """The cores are the measured ones, and as many as measured: none is taken for slower."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    disk = bench.disk_bytes_s if bench else DISK_BYTES_S
    return Machine("this machine", options.threads, float(memory), disk, 1.0)


def modelled(job: Job, machine: Machine, table: Constants) -> dict[str, float]:
    """Seconds of each stage in one process. Its blocks are recorded one after the other."""
    fleet = Fleet(machine, 1, machine.io_bytes_s, machine.cores)
    costs = {cost.stage: cost.seconds for cost in model.job_costs(job, fleet, table, edges_in_pieces=False)}
    search = sum(costs[step] for step in ("IVF lists", "packed base", "recall sample", "search"))
    return {
        "vectors": costs["import"],
        "neighbors": search + model.record_seconds(model.search_parts(job), table),
        "edges": costs["edges"] + costs["edges: lists checked"],
        "clusters": costs["clusters"],
        "batches": costs["batches"],
    }


def comparison(found: dict[int, dict[str, float]], model_s: dict[int, dict[str, float]], head: str) -> str:
    """Measured beside modelled seconds, by stage and in all."""
    lines = []
    for rows, measured in found.items():
        for stage in (*STAGES, "all"):
            seconds, expected = (
                sum(by_stage.values()) if stage == "all" else by_stage[stage] for by_stage in (measured, model_s[rows])
            )
            lines.append([f"{rows:,}, {stage}", f"{seconds:.3f}", f"{expected:.3f}", f"{expected / seconds:.2f}"])
    return markdown(["rows, stage", "measured s", head, "ratio"], lines)


def report(options: argparse.Namespace, runs: dict[int, list[Measured]]) -> None:
    bench = read_bench(options.bench) if options.bench else None
    table = from_bench(Constants(), bench) if bench else Constants()
    machine = this_machine(options, bench)
    found, model_s = {}, {}
    for rows, repeats in runs.items():
        job = Job(rows, options.dim, cluster_size=options.cluster_size)
        if repeats[0].probes is not None:
            job = dataclasses.replace(job, search="ivf", probes=repeats[0].probes)
        found[rows], model_s[rows] = medians(repeats), modelled(job, machine, table)
    smallest = min(found)
    factors = {stage: found[smallest][stage] / model_s[smallest][stage] for stage in STAGES}
    fitted = {rows: {stage: model_s[rows][stage] * factors[stage] for stage in STAGES} for rows in found}
    shape = f"{options.dim} dimensions, {options.threads} threads, {options.search}, medians of {options.repeats}"
    source = f"`bench` of {options.bench}" if bench else "docs/performance.md"
    print(f"{shape}\n\n### the model as it is, rates from {source}\n")
    print(comparison(found, model_s, "model s"))
    print(f"### fitted on {smallest:,} rows (one factor a stage), the others predicted\n")
    print(", ".join(f"{stage} {factor:.2f}" for stage, factor in factors.items()) + "\n")
    print(comparison({rows: found[rows] for rows in found if rows > smallest}, fitted, "predicted s"))
    print("### counts\n")
    lines = []
    for rows, repeats in runs.items():
        peaks = [max(run.peak_bytes.values()) / 2**20 for run in repeats]
        arcs = repeats[0].arcs / rows / Job(rows).ranks
        lines.append([f"{rows:,}", f"{arcs:.2f}", f"{repeats[0].recall:.4f}", f"{statistics.median(peaks):.1f}"])
    print(markdown(["rows", "arcs a rank", "recall", "most anonymous MiB"], lines))


def main() -> None:
    options = arguments()
    options.rows = sorted(set(options.rows))
    open_work(options)
    runs = {rows: measure(options, rows) for rows in options.rows}
    report(options, runs)
    if not options.keep:
        shutil.rmtree(options.work)


if __name__ == "__main__":
    main()

"""What the comparisons share: batchmine watched, peers in processes of their own, costs, arguments."""

import argparse
import json
import math
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TICK = 1 / os.sysconf("SC_CLK_TCK")  # resolution of CPU times, and the least that is reported


# ---- costs


def status(pid, *names):
    """Fields of /proc/PID/status in MiB; not a number where the process has just ended."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return [int(fields[name].split()[0]) / 1024 if name in fields else float("nan") for name in names]


def cpu_seconds(pid):
    """User and system time of a process so far, all its threads."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK


def median(costs):
    return {name: statistics.median(cost[name] for cost in costs) for name in costs[0]}


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


# ---- batchmine


def version_line(binary):
    return subprocess.run([str(binary), "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def mine(binary, flags, stage, may_skip=False):
    """Cost and facts of one stage of `batchmine mine`. With `may_skip` they are None if it was there."""
    command = [binary, "mine", *flags, "--json", "--progress", "none"]
    # Settings of the user would change the job; the instructions that a comparison is held to do not.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BATCHMINE_")}
    environment = kept | {name: os.environ[name] for name in ("BATCHMINE_SIMD",) if name in os.environ}
    cost = facts = begin = None
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [str(word) for word in command], stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )
        try:
            for line in process.stdout:
                event = json.loads(line)
                if event.get("stage") != stage:
                    continue
                if event["event"] == "stage":
                    begin = cpu_seconds(process.pid), *status(process.pid, "VmRSS")
                elif event["event"] == "done":
                    cpu, (peak,) = cpu_seconds(process.pid), status(process.pid, "VmHWM")
                    facts = event["facts"]
                    cost = {
                        "wall": event["seconds"],
                        "cpu": max(cpu - begin[0], TICK),
                        "peak": peak,
                        "added": peak - begin[1],
                    }
            process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode or not (cost or may_skip):
            log.seek(0)
            raise SystemExit(f"batchmine failed (exit {process.returncode}):\n{log.read()}")
    return cost, facts


# ---- peers


def ask(flag, name, folder, threads, **task):
    """What `answered` prints in a process of its own, of the same script. The environment must be right
    before the peer's libraries are loaded."""
    environment = os.environ | {
        "OMP_WAIT_POLICY": "PASSIVE",  # else idle OpenMP threads burn CPU time waiting
        "OMP_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
    }
    task |= {"folder": str(folder), "threads": threads}
    command = [sys.executable, sys.argv[0], flag, json.dumps(task)]
    child = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if child.returncode:
        raise SystemExit(f"{name} failed (exit {child.returncode}): {task}")
    return json.loads(child.stdout.splitlines()[-1])


def answered(flag, work):
    """Whether this process is one that `ask` began. Then the work is done and its result printed."""
    if sys.argv[1:2] != [flag]:
        return False
    print(json.dumps(work(**json.loads(sys.argv[2]))))
    return True


# ---- arguments


def positive(text):
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def not_negative(text):
    number = float(text)
    if not 0 <= number < math.inf:
        raise ValueError
    return number


def parser_of(description, metavar, help):
    """A parser with what every comparison takes: data and batchmine."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("data", metavar=metavar, nargs="+", type=pathlib.Path, help=help)
    release = ROOT / "target/release/batchmine"
    parser.add_argument("--batchmine", metavar="PATH", type=pathlib.Path, default=release, help="release binary")
    return parser


def compared(parser, compare):
    """The exit code of `compare`, given the arguments and a temporary folder."""
    args = parser.parse_args()
    if not args.batchmine.exists():
        parser.error(f"{args.batchmine} is not there: cargo build --release, or --batchmine PATH")
    with tempfile.TemporaryDirectory(prefix="batchmine-compare-") as folder:
        return compare(args, pathlib.Path(folder))

"""Jobs whose parts are made on a Ray cluster: three nodes on this machine, which die."""

import contextlib
import faulthandler
import json
import logging
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import PAIRS, ROOT, SETTINGS, command, stage_files, tables

import batchmine

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
ray = pytest.importorskip("ray", reason="Ray is not installed: jobs on a cluster are NOT tested")
on_ray = pytest.importorskip("batchmine.ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")
parquet = pytest.importorskip("pyarrow.parquet")

# Variables of tests: a job refuses those that it does not know.
KILLS = int(os.environ.pop("BATCHMINE_RAY_KILLS", "10"))
IS_REAL = os.environ.pop("BATCHMINE_REAL", "") == "1"
STAGES = ("vectors", "neighbors", "edges", "clusters", "batches")
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}
PLANTED = {
    "task_column": "task", "key_column": ["page"], "skip": 5, "window": 30, "cluster_size": 8, "batch_size": 64,
    "hard_negatives": 2, "threads": 1,
}  # fmt: skip
#: The real pairs, and how they are mined.
REAL = ROOT.parent / "shared" / "data" / "debian"
REAL_SETTINGS = {"task_column": "dataset", "key_column": ["positive"], "batch_size": 64, "hard_negatives": 2}


@pytest.fixture(autouse=True)
def ends():
    """What hangs ends with a trace of all threads."""
    faulthandler.dump_traceback_later(400, exit=True, file=sys.__stderr__)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="module")
def cluster():
    """Three nodes of one CPU each; this process is their driver."""
    nodes = cluster_utils.Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    for _ in range(2):
        nodes.add_node(wait=False, **NODE)
    nodes.wait_for_nodes()
    ray.init(address=nodes.address, log_to_driver=False, logging_level=logging.WARNING)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """40,000 rows of three tasks, in five blocks; pages have three rows."""
    folder = tmp_path_factory.mktemp("pairs")
    made = command("gen", "--rows", 40000, "--dim", 24, "--tasks", 3, "--out", folder / "gen", "--progress", "none")
    assert made.returncode == 0, made.stderr
    table = parquet.read_table(folder / "gen" / "part-00000.parquet")
    import pyarrow

    page = pyarrow.array([row // 3 for row in range(table.num_rows)])
    parquet.write_table(table.append_column("page", page), folder / "pairs.parquet")
    return folder / "pairs.parquet"


@pytest.fixture(scope="module")
def whole(pairs, tmp_path_factory):
    """What one process makes."""
    return batchmine.mine(pairs, tmp_path_factory.mktemp("whole") / "run", progress=False, **PLANTED).path


def assert_same(run, whole):
    for stage in STAGES:
        assert stage_files(run, stage) == stage_files(whole, stage), stage
    assert not (run / "pieces").exists()


def processes():
    """Of each process of this machine its parent and its command line."""
    found = {}
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            found[int(path.name)] = (parent, (path / "cmdline").read_bytes())
    return found


def busy(node=None):
    """The workers of this process's clusters that make parts, or those of a node."""
    now, pids = processes(), []
    for pid, (parent, line) in now.items():
        # A worker's parent is its node's daemon, which this process has started.
        is_ours = now.get(parent, (0, b""))[0] == os.getpid()
        of_node = node is None or parent == node.all_processes["raylet"][0].process.pid
        if line.startswith(b"ray::batchmine ") and is_ours and of_node:
            pids.append(pid)
    return pids


def wait_for(what, seconds=60):
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.02)
    return found


@contextlib.contextmanager
def beside(work):
    """Another thread works beside this one; what it raises is raised here, once it has ended."""
    raised = []

    def run():
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join()
    assert not raised, raised


def kill(pid, number=signal.SIGKILL):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def test_killed_workers_leave_the_bytes_of_one_process(cluster, pairs, whole, tmp_path):
    left, chance = KILLS, random.Random(5)
    for turn in range(left):
        if left <= 0:
            break
        over, killed = threading.Event(), []

        def killer(most=min(left, 10), over=over, killed=killed):
            while len(killed) < most and not over.is_set():
                if workers := busy():
                    time.sleep(chance.uniform(0, 0.5))
                    killed.append(chance.choice(workers))
                    kill(killed[-1])
                time.sleep(0.05)

        with beside(killer):
            try:
                run = on_ray.mine(pairs, tmp_path / str(turn), progress=False, retries=100, **PLANTED)
            finally:
                over.set()
        assert killed
        left -= len(killed)
        assert_same(run.path, whole)
    assert left <= 0


def test_a_lost_node_a_hung_worker_and_a_damaged_part_are_made_up_for(
    cluster, pairs, whole, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(on_ray, "SLOW_SECONDS", 1.0)
    done, hung = [], []

    def disturb():
        task = wait_for(lambda: list((tmp_path / "run" / "pieces").glob("*/task.json")))[0]
        tag = json.loads(command("pieces", tmp_path / "run", "--json").stdout)["tag"]
        task.with_name(f"block-000004.nbr.{tag}").write_bytes(b"no block")
        node = wait_for(lambda: [node for node in cluster.worker_nodes if busy(node)])[0]
        cluster.remove_node(node, allow_graceful=False)
        done.append("node")
        # What a part usually takes must be known.
        wait_for(lambda: list((tmp_path / "run" / "neighbors").glob("block-*")))
        hung.append(wait_for(busy)[0])
        kill(hung[0], signal.SIGSTOP)

    with beside(disturb), caplog.at_level(logging.INFO, logger="batchmine"):
        run = on_ray.mine(pairs, tmp_path / "run", progress=False, **PLANTED)
    # It hears of nothing.
    kill(hung[0])
    cluster.add_node(**NODE)
    assert done == ["node"]
    assert_same(run.path, whole)
    assert "a piece is not what was written" in caplog.text and "is given out again" in caplog.text


DRIVER = """
import json, os, sys, ray, batchmine.ray
ray.init(address=sys.argv[1], log_to_driver=False)
try:
    tell = lambda event: print(json.dumps(event), flush=True)
    batchmine.ray.mine(sys.argv[2], sys.argv[3], progress=tell, **json.loads(sys.argv[4]))
except KeyboardInterrupt:
    # Ray's own end takes a second.
    print("interrupted", flush=True)
    os._exit(33)
"""


@contextlib.contextmanager
def driver(cluster, pairs, out, is_at_work):
    """A driver in a process of its own, whose job has come so far. It listens to SIGINT, whoever started this one. It
    is killed in the end.
    """
    arguments = [cluster.address, str(pairs), str(out), json.dumps(PLANTED)]
    child = subprocess.Popen(
        [sys.executable, "-c", DRIVER, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        events = (json.loads(line) for line in child.stdout)
        assert any(event["stage"] == "neighbors" and is_at_work(event) for event in events), "the driver ends"
        yield child
    finally:
        child.kill()
        child.wait()


def test_drivers_are_interrupted_killed_refused_and_go_on(cluster, pairs, whole, tmp_path):
    run = tmp_path / "run"
    with driver(cluster, pairs, run, lambda event: event["event"] == "start" and wait_for(busy)) as child:
        # A second driver is refused, and its tasks do no harm: it gives none out.
        with pytest.raises(batchmine.BatchmineError, match=str(child.pid)):
            on_ray.mine(pairs, run, progress=False, **PLANTED)
        assert child.poll() is None
        begin = time.monotonic()
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=20) == 33 and time.monotonic() - begin < 5
        wait_for(lambda: not busy(), 5)
    with driver(cluster, pairs, run, lambda event: event["event"] == "progress"):
        pass
    assert list((run / "neighbors").glob("block-*")), "what was made is kept"
    again = on_ray.mine(pairs, run, progress=False, **PLANTED)
    assert_same(again.path, whole)


def test_errors_end_the_job_at_once(cluster, pairs, tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(batchmine.BudgetError, match="of a task is too small") as raised:
        on_ray.mine(PAIRS, tmp_path / "run", progress=False, task_memory="1MiB", **SETTINGS)
    assert "MiB" in raised.value.remedy
    monkeypatch.setattr(on_ray, "NODE_WITHIN", 0.5)
    with pytest.raises(batchmine.BudgetError, match="no node of the cluster"):
        on_ray.mine(PAIRS, tmp_path / "run", progress=False, task_threads=64, **SETTINGS)
    with pytest.raises(batchmine.InputError, match="task_memory"):
        on_ray.mine(PAIRS, tmp_path / "run", task_memory="much", **SETTINGS)
    for wrong in ({"pieces": "own"}, {"work": tmp_path}, {"batchsize": 3}):
        with pytest.raises(TypeError):
            on_ray.mine(PAIRS, tmp_path / "run", progress=False, **wrong)
    for wrong in ({"retries": -1}, {"in_flight": 0}, {"threads": 0}, {"task_threads": 1.5}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            on_ray.mine(PAIRS, tmp_path / "run", **wrong)
    # This process has a file open that the nodes have not.
    monkeypatch.setattr(on_ray, "SEEN_WITHIN", 0.5)
    opened = os.open(tmp_path, os.O_RDONLY)
    os.dup2(opened, 210)
    try:
        with pytest.raises(batchmine.InputError, match="does not see the run folder") as raised:
            on_ray.mine(PAIRS, "/proc/self/fd/210/run", progress=False, replace=True, **SETTINGS)
    finally:
        os.close(opened), os.close(210)
    assert raised.value.path.startswith("/proc/self") and "mount" in raised.value.remedy
    # Retries that are used up: the job does not wait for ever.
    with beside(lambda: kill(wait_for(busy)[0])), pytest.raises(batchmine.RunError, match="a task fails on Ray"):
        on_ray.mine(pairs, tmp_path / "killed", progress=False, retries=0, **PLANTED)
    wait_for(lambda: not busy(), 5)
    assert signal.getsignal(signal.SIGINT) is before


def test_it_is_called_from_a_thread_and_a_finished_run_is_returned(cluster, run, tmp_path):
    runs, events = [], []
    with beside(lambda: runs.append(on_ray.mine(PAIRS, tmp_path / "run", progress=events.append, **SETTINGS))):
        pass
    assert tables(runs[0].path) == tables(run.path) and {event["stage"] for event in events} >= set(STAGES)
    before = threading.active_count()
    assert tables(on_ray.mine(PAIRS, tmp_path / "run", progress=False, **SETTINGS).path) == tables(run.path)
    assert threading.active_count() <= before


def test_tasks_of_short_parts_make_several_and_fewer_towards_the_end(tmp_path):
    scheduler = on_ray._Scheduler(str(tmp_path), on_ray._TaskLimits(1, None, None, None, 3))
    given = []

    def submit(stage, parts, memory):
        given.append(len(parts))
        scheduler.tasks[len(given)] = on_ray._Task("", stage, tuple(parts), 0.0)

    scheduler._submit = submit
    parts = [f"range-{number:06}.edg" for number in range(100)]
    scheduler._give_out({"stage": "edges", "parts": parts}, 1 << 20, 4)
    assert given == [1] * 8, "nobody knows how long a part takes"
    scheduler.pace["edges", "range"] = 2.0
    while sum(given) < 100:
        scheduler.tasks.clear()
        scheduler._give_out({"stage": "edges", "parts": parts[sum(given) :]}, 1 << 20, 4)
    assert given[8:] == sorted(given[8:], reverse=True) and given[8] == 10 and given[-1] == 1 and sum(given) == 100


@pytest.mark.parametrize(
    ("text", "size"), [("4GiB", 4 << 30), ("1.5 MB", 1_500_000), (4096, 4096), ("4k", 4000), ("2Ki", 2048), ("7B", 7)]
)
def test_sizes_are_read_as_the_command_reads_them(text, size):
    assert on_ray._bytes("memory", text) == size


@pytest.mark.parametrize("text", ["", "GiB", "4 XB", "-1", True, "4i"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(batchmine.InputError, match="memory"):
        on_ray._bytes("memory", text)


def test_real_pairs(cluster, tmp_path):
    if not IS_REAL:
        pytest.skip(f"set BATCHMINE_REAL=1 to mine the whole set in {REAL} on Ray")
    if not REAL.exists():
        pytest.skip(f"there is no {REAL}")
    whole = batchmine.mine(REAL, tmp_path / "whole", progress=False, **REAL_SETTINGS)
    run = on_ray.mine(REAL, tmp_path / "run", progress=False, task_threads=1, **REAL_SETTINGS)
    assert_same(run.path, whole.path)
    assert run.verify(sample=50) == []

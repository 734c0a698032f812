"""A job whose parts are made on a Ray cluster: `batchmine.ray.mine`. See docs/ray.md.

The job itself, `batchmine.mine` with `pieces="external"`, runs in the calling thread, and a thread beside it gives its
parts out as Ray tasks. A task is given names and numbers, makes files in the run folder, and returns two numbers.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import logging
import os
import pathlib
import platform
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from batchmine import _batchmine, job
from batchmine.errors import BatchmineError, BudgetError, InputError, Interrupted, RunError
from batchmine.run import Run

try:
    import ray
    from ray.exceptions import RayError, RayTaskError, TaskCancelledError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise ImportError("batchmine.ray needs Ray: pip install 'batchmine[ray]'") from error

__all__ = ["mine"]

logger = logging.getLogger("batchmine")
MIB = 1 << 20
#: Threads of a task at most, where nobody says how many.
TASK_THREADS = 8
#: Tasks in flight at most, where nobody says how many.
IN_FLIGHT = 1000
#: Seconds that a task of several parts should take.
TASK_SECONDS = 20.0
#: A task is slow after so many seconds, and so many times what its parts usually take.
SLOW_SECONDS, SLOW_TIMES = 10.0, 3.0
#: Seconds between two looks at the run folder, and at the cluster's nodes.
LOOK_EVERY, NODES_EVERY = 0.2, 2.0
#: Seconds that a node has to see the run folder: file systems of networks may be late.
SEEN_WITHIN = 10.0
#: Seconds after which a part that was made, and that the job has not got, is given out again. It doubles.
MADE_AGAIN = 5.0
#: How often that is done.
MOST_MADE = 5
#: Seconds in which a node with room for a task must come, and in which the run folder must be readable again.
NODE_WITHIN, READ_WITHIN = 300.0, 30.0
#: Seconds that tasks have to end by themselves.
CANCEL_SECONDS = 2.0


def mine(
    pairs: Any = (),
    out: str | os.PathLike = "RUN",
    *,
    threads: int | None = None,
    memory: int | str | None = None,
    task_threads: int | None = None,
    task_memory: int | str | None = None,
    scratch: str | os.PathLike | None = None,
    in_flight: int | None = None,
    retries: int = 3,
    progress: bool | Callable[[dict], None] | None = None,
    **settings: Any,
) -> Run:
    """Mines batches as `batchmine.mine` does, byte for byte; the tasks of a Ray cluster make the parts of the search
    and of the graph. Returns the finished run.

    Ray is the caller's; where it is not initialised, `ray.init()` is called: it finds a running cluster, or starts one
    on this machine. The run folder `out` must lie on a file system that this process and all nodes see under one path,
    and batchmine must be installed on all of them, in one version. Input files need not be seen by nodes.

    threads, memory: limits of this process, as of `batchmine.mine`, and of each task.
    task_threads, task_memory: limits of a task, where they are others. By default a task has as many threads as the
        smallest node has CPUs, 8 at most, and twice the memory that its parts need at least. Ray counts them as
        `num_cpus` and `memory`.
    scratch: a folder on a disk of each node, for copies of what tasks read often.
    in_flight: tasks given to Ray at once; by default twice as many as the cluster has room for, 1,000 at most.
    retries: how often a task is tried again whose worker or node was lost, or whose disk failed.
    progress, settings: all that `batchmine.mine` takes, but `work` and `pieces`.

    Call it in the main thread: then Ctrl-C cancels the tasks and raises KeyboardInterrupt. The same call goes on.

    Raises what `batchmine.mine` raises; RunError also where Ray, or a task for good, fails.
    """
    for name in ("work", "pieces"):
        if settings.get(name) not in (None, "external" if name == "pieces" else None):
            raise TypeError(f"{name} cannot be given: parts are made by tasks, in the run folder")
    for name, number, least in (
        ("threads", threads, 1), ("task_threads", task_threads, 1), ("in_flight", in_flight, 1), ("retries", retries, 0)
    ):
        if number is not None and (not isinstance(number, int) or number < least):
            raise ValueError(f"{name} is a whole number from {least}, not {number!r}")
    limit = task_memory if task_memory is not None else memory
    memory_bytes = None if limit is None else _bytes("task_memory" if limit is task_memory else "memory", limit)
    if not ray.is_initialized():
        ray.init()
    copies = None if scratch is None else os.fsdecode(scratch)
    task = _TaskLimits(task_threads or threads or _threads_of_a_node(), memory_bytes, copies, in_flight, retries)
    # Workers have another current folder. Links are left as they are: they lead elsewhere on other nodes, perhaps.
    scheduler = _Scheduler(os.path.abspath(os.fsdecode(out)), task)
    own = {"threads": threads, "memory": memory} | settings | {"pieces": "external"}
    with job.listening(progress) as on_event, scheduler.at_work():
        return job.mine(pairs, out, progress=scheduler.heard_by(on_event), **own)


def _bytes(name: str, size: int | str) -> int:
    """A size as the command line reads it: bytes, or a number with a unit."""
    parts = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([kmgtp]?)(i?)b?\s*", str(size).lower())
    if isinstance(size, bool) or parts is None or (parts[3] and not parts[2]):
        raise _error(InputError, f"{name} cannot be read", "a size such as 4GiB", repr(size), "give bytes, or a unit")
    return int(float(parts[1]) * (1024 if parts[3] else 1000) ** " kmgtp".index(parts[2] or " "))


def _error(kind: type[BatchmineError], what: str, expected: str, found: str, remedy: str, path: str | None = None):
    """An error with its parts."""
    text = f"{what}: expected {expected}; found {found}; {remedy}"
    return kind(text, path=path, expected=expected, found=found, remedy=remedy)


def _nodes() -> list[dict]:
    """The nodes of the cluster that have CPUs."""
    return [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]


def _threads_of_a_node() -> int:
    return min([TASK_THREADS, *(int(node["Resources"]["CPU"]) for node in _nodes())])


# --- on the nodes -------------------------------------------------------------------------------


def _refuse_another_place(folder: str, run_id: str | None, version: str, within: float) -> None:
    """Fails where this node does not see the run, or has another version of batchmine."""
    if version != _batchmine.__version__:
        what, remedy = f"the node {platform.node()} has another batchmine", "install one version everywhere"
        raise _error(InputError, what, f"{version}, as the driver has", _batchmine.__version__, remedy)
    end = time.monotonic() + within
    while True:
        try:
            found = _run_id(folder)
            if run_id in (None, found):
                return
            said = "another run in its place"
        except OSError as error:
            said = f"none ({error.strerror})"
        if time.monotonic() > end:
            what = f"the node {platform.node()} does not see the run folder: {folder}"
            remedy = "put `out` on a file system that all nodes mount at one path"
            raise _error(InputError, what, "the driver's run", said, remedy, folder)
        time.sleep(LOOK_EVERY)


def _run_id(folder: str) -> str:
    return json.loads(pathlib.Path(folder, "manifest.json").read_bytes())["id"]


def _make(call: _batchmine._WorkCall, run_id: str, version: str, within: float) -> tuple[int, float]:
    """A task: makes parts. How many, and in how many seconds."""
    _refuse_another_place(call["run"], run_id, version, within)
    begin = time.monotonic()
    done = json.loads(_batchmine.work(call, lambda event: None, job.log))
    return done["made"], time.monotonic() - begin


# --- in the driver ------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _TaskLimits:
    """What a task may use, and how tasks are given out."""

    threads: int
    memory: int | None
    scratch: str | None
    in_flight: int | None
    retries: int

    def bytes_of(self, least: int, nodes: Sequence[dict]) -> int:
        """Bytes of a task whose parts need `least`."""
        if self.memory is not None and self.memory < least:
            what, needed = "the memory budget of a task is too small for these parts", f"{-(-least // MIB)}MiB"
            remedy = f"raise task_memory to {needed}, or lower task_threads"
            raise _error(BudgetError, what, f"{needed} or more", f"{self.memory // MIB}MiB", remedy)
        # Pages of mapped files are not counted, and should stay: twice, where a node has so much.
        most = max((int(node["Resources"].get("memory", 0)) for node in nodes), default=2 * least)
        wanted = self.memory if self.memory is not None else max(least, min(2 * least, most // MIB * MIB))
        return -(-wanted // MIB) * MIB

    def slots(self, memory: int, nodes: Sequence[dict]) -> int:
        """Tasks that the nodes have room for, if nothing else runs."""
        has = [node["Resources"] for node in nodes]
        return sum(int(min(one["CPU"] // self.threads, one.get("memory", 0) // memory)) for one in has)


@dataclasses.dataclass
class _Task:
    """A task in flight."""

    run_id: str
    stage: str
    parts: tuple[str, ...]
    since: float
    #: It is a second one, or has one.
    is_twice: bool = False
    is_cancelled: bool = False

    @property
    def kind(self) -> tuple[str, str]:
        """Parts of one kind take about the same time: names are those of a step with a number."""
        return self.stage, self.parts[0].split("-")[0]

    def is_wanted(self, run_id: str, look: dict | None) -> bool:
        """Whether the job waits for any of its parts."""
        is_now = look is not None and (self.run_id, self.stage) == (run_id, look["stage"])
        return is_now and look is not None and not set(self.parts).isdisjoint(look["parts"])


class _Failed(BaseException):
    """Raised in a thread whose job must stop; `_Scheduler.failure` says why."""


class _Heard:
    """Hears the job's events, and stops it where its parts cannot be made."""

    def __init__(self, scheduler: _Scheduler, on_event: Callable[[str], Any]):
        self.scheduler, self.on_event = scheduler, on_event

    def __call__(self, event: dict) -> None:
        self.scheduler.begun.set()
        self.on_event(json.dumps(event))

    def idle(self) -> None:
        if self.scheduler.failure is not None:
            raise _Failed
        idle = getattr(self.on_event, "idle", None)
        if idle is not None:
            idle()


class _Scheduler:
    """Gives out the parts that a job waits for, in a thread of its own."""

    def __init__(self, folder: str, limits: _TaskLimits):
        self.folder, self.limits = folder, limits
        self.make = ray.remote(_make)
        self.see = ray.remote(num_cpus=0)(_refuse_another_place)
        #: The job has begun, so it holds the folder's lock; and it is over.
        self.begun, self.ended = threading.Event(), threading.Event()
        self.failure: BaseException | None = None
        self.tasks: dict[ray.ObjectRef, _Task] = {}
        #: Nodes that were asked whether they see the run, and what they are asked.
        self.asked: set[str] = set()
        self.questions: dict[ray.ObjectRef, str] = {}
        self.nodes: list[dict] = []
        self.looked_at_nodes = float("-inf")
        #: Since when no node has had room for a task, and the run could not be read.
        self.no_room: float | None = None
        self.unread: float | None = None
        self.run_id = ""
        #: Seconds that a part takes, by kind.
        self.pace: dict[tuple[str, str], float] = {}
        #: Of parts that were given out and are still wanted, how often and from when on they are given out again.
        self.again: collections.Counter[tuple[str, str]] = collections.Counter()
        self.not_before: dict[tuple[str, str], float] = {}

    # --- the calling thread ---

    def heard_by(self, on_event: Callable[[str], Any]) -> _Heard:
        """What hears the job's events."""
        return _Heard(self, on_event)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """While the job runs parts are given out. Raises why that failed, if it did."""
        thread = threading.Thread(target=self._run, name="batchmine.ray", daemon=True)
        thread.start()
        try:
            yield
        except _Failed:
            assert self.failure is not None
            raise self.failure from None
        finally:
            self.ended.set()
            thread.join(CANCEL_SECONDS + 2)

    # --- the scheduler's thread ---

    def _run(self) -> None:
        try:
            while not self.ended.is_set():
                begin = time.monotonic()
                if self.begun.is_set():
                    self._step()
                # A long folder is not looked at all the time.
                self._pause(max(LOOK_EVERY, 3 * (time.monotonic() - begin)))
        except BaseException as error:
            self.failure = error if isinstance(error, BatchmineError) else _as_ours(error)
        self._cancel_all()

    def _pause(self, seconds: float) -> None:
        """Waits, or until a task ends."""
        refs = [*self.tasks, *self.questions]
        if refs:
            ray.wait(refs, num_returns=1, timeout=seconds, fetch_local=False)
            seconds = min(seconds, LOOK_EVERY / 4)
        self.ended.wait(seconds)

    def _step(self) -> None:
        now = time.monotonic()
        self._look_at_nodes(now)
        self._collect()
        look = self._look()
        if look is None or look["stage"] is None:
            return
        self._cancel_needless(look)
        memory = self.limits.bytes_of(look["least_memory"], self.nodes)
        slots = self.limits.slots(memory, self.nodes)
        self._refuse_no_room(now, slots, memory)
        self._give_out(look, memory, slots)

    def _look(self) -> dict | None:
        """What the job waits for; None where it has not come so far."""
        try:
            # `replace` makes another run in the folder of an old one.
            self.run_id = _run_id(self.folder)
            found = json.loads(_batchmine.pieces(self.folder, self.limits.threads))
            self.unread = None
            return found
        except (InputError, FileNotFoundError):
            return None
        except (RunError, OSError):
            # The job may be about to remove what is read.
            self.unread = self.unread or time.monotonic()
            if time.monotonic() > self.unread + READ_WITHIN:
                raise
            return None

    # --- nodes ---

    def _look_at_nodes(self, now: float) -> None:
        """Learns which nodes there are, and asks new ones whether they see the run."""
        if now >= self.looked_at_nodes + NODES_EVERY:
            self.nodes, self.looked_at_nodes = _nodes(), now
        new = [node for node in self.nodes if node["NodeID"] not in self.asked]
        if new and os.path.exists(os.path.join(self.folder, "manifest.json")):
            for node in new:
                at = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                see = self.see.options(scheduling_strategy=at, max_retries=0)
                ref = see.remote(self.folder, None, _batchmine.__version__, SEEN_WITHIN)
                self.questions[ref] = node["NodeManagerHostname"]
                self.asked.add(node["NodeID"])
        for ref in _done(self.questions):
            name = self.questions.pop(ref)
            try:
                ray.get(ref)
            except RayTaskError as error:
                raise _as_ours(error, f"the node {name} fails") from error
            except RayError as error:
                # It went as it had come.
                logger.warning("the node %s was lost: %s", name, _first_line(error))

    def _refuse_no_room(self, now: float, slots: int, memory: int) -> None:
        """Nodes may come: a cluster may grow by the tasks that wait."""
        if slots > 0:
            self.no_room = None
            return
        wanted = f"a node with {self.limits.threads} CPUs and {memory // MIB} MiB of memory for a task"
        if self.no_room is None:
            self.no_room = now
            logger.warning("the cluster has no such node yet: %s", wanted)
        if now > self.no_room + NODE_WITHIN:
            has = sorted(((node["Resources"]["CPU"], node["Resources"].get("memory", 0)) for node in self.nodes))
            found = f"{has[-1][0]:g} CPUs and {has[-1][1] // MIB:g} MiB at most" if has else "no node"
            remedy = "lower task_threads, or start larger nodes"
            raise _error(BudgetError, "no node of the cluster can run a task", wanted, found, remedy)

    # --- tasks ---

    def _give_out(self, look: dict, memory: int, slots: int) -> None:
        now, stage = time.monotonic(), look["stage"]
        flying = {part for task in self.tasks.values() if task.stage == stage for part in task.parts}
        wanted = [
            part for part in look["parts"] if part not in flying and self.not_before.get((stage, part), 0.0) <= now
        ]
        most = self.limits.in_flight or max(1, min(2 * slots, IN_FLIGHT))
        while wanted and len(self.tasks) < most:
            # Shares become smaller towards the end, so that all end at about the same time.
            seconds = self.pace.get((stage, wanted[0].split("-")[0]))
            several = 1 if not seconds else int(TASK_SECONDS / seconds)
            share = max(1, min(several, len(wanted) // (2 * max(1, slots))))
            self._submit(stage, wanted[:share], memory)
            del wanted[:share]
        if not wanted and len(self.tasks) < slots:
            self._give_again(now, memory)

    def _submit(self, stage: str, parts: Sequence[str], memory: int, is_twice: bool = False) -> None:
        for part in parts:
            if self.again[stage, part] > self.limits.retries + MOST_MADE:
                raise RunError(
                    f"a part was made {self.again[stage, part]} times, and the job has not got it: {part}",
                    path=self.folder,
                    remedy="look whether the driver sees what nodes write; the same call goes on",
                )
        make = self.make.options(
            name=f"batchmine {stage} {parts[0]}",
            num_cpus=self.limits.threads,
            memory=memory,
            scheduling_strategy="SPREAD",
            max_retries=self.limits.retries,
            # Of batchmine's errors the others are final.
            retry_exceptions=[RunError, Interrupted],
        )
        call: _batchmine._WorkCall = {
            "run": self.folder,
            "stage": stage,
            "parts": list(parts),
            "memory": memory,
            "threads": self.limits.threads,
            "scratch": self.limits.scratch,
        }
        ref = make.remote(call, self.run_id, _batchmine.__version__, SEEN_WITHIN)
        logger.debug("task %s of %s parts is given out", parts[0], len(parts))
        self.tasks[ref] = _Task(self.run_id, stage, tuple(parts), time.monotonic(), is_twice)

    def _give_again(self, now: float, memory: int) -> None:
        """Gives out the slowest task once more: its node may be about to die."""
        slow = [task for task in self.tasks.values() if self._is_slow(task, now)]
        if slow:
            oldest = min(slow, key=lambda task: task.since)
            oldest.is_twice = True
            logger.info("%s is slow, and is given out again", oldest.parts[0])
            self._submit(oldest.stage, oldest.parts, memory, is_twice=True)

    def _is_slow(self, task: _Task, now: float) -> bool:
        usual = self.pace.get(task.kind)
        if usual is None or task.is_twice or task.is_cancelled:
            return False
        return now - task.since > max(SLOW_SECONDS, SLOW_TIMES * usual * len(task.parts))

    def _collect(self) -> None:
        """Takes what tasks returned. An error counts where its parts are still wanted: a task may come late."""
        failed: list[tuple[_Task, RayError]] = []
        for ref in _done(self.tasks):
            task = self.tasks.pop(ref)
            wait = 0.0
            try:
                made, seconds = ray.get(ref)
                logger.debug("task %s made %s of %s parts in %.1f s", task.parts[0], made, len(task.parts), seconds)
                if made == len(task.parts):
                    self.pace[task.kind] = (seconds / made + self.pace.get(task.kind, seconds / made)) / 2
                wait = MADE_AGAIN
            except TaskCancelledError as error:
                # Another one may have stopped it.
                if not task.is_cancelled and any(self.again[task.stage, part] for part in task.parts):
                    failed.append((task, error))
            except RayError as error:
                failed.append((task, error))
            for key in ((task.stage, part) for part in task.parts):
                self.not_before[key] = time.monotonic() + wait * 2 ** min(self.again[key], 10)
                self.again[key] += 1
        look = self._look() if failed else None
        for task, why in failed:
            if task.is_wanted(self.run_id, look):
                raise _as_ours(why) from why

    def _cancel_needless(self, look: dict) -> None:
        """Cancels tasks none of whose parts is wanted any more: others made them."""
        for ref, task in self.tasks.items():
            is_old = task.is_twice or task.run_id != self.run_id
            if is_old and not task.is_cancelled and not task.is_wanted(self.run_id, look):
                task.is_cancelled = True
                ray.cancel(ref)

    def _cancel_all(self) -> None:
        """Cancels what is in flight: a task ends with the work in hand. Those that do not are killed."""
        with contextlib.suppress(Exception):
            refs = [*self.tasks, *self.questions]
            for ref in refs:
                ray.cancel(ref)
            left = ray.wait(refs, num_returns=len(refs), timeout=CANCEL_SECONDS, fetch_local=False)[1] if refs else []
            for ref in left:
                ray.cancel(ref, force=True)


def _done(refs: dict) -> list:
    return ray.wait(list(refs), num_returns=len(refs), timeout=0, fetch_local=False)[0] if refs else []


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _as_ours(error: BaseException, what: str = "a task fails on Ray") -> BatchmineError:
    """An error of a task, or of Ray, as one of batchmine's."""
    cause = getattr(error, "cause", None) if isinstance(error, RayTaskError) else None
    if isinstance(cause, BatchmineError):
        return cause
    remedy = "look into Ray's logs, and whether batchmine is installed on its nodes; the same call goes on"
    found = cause if isinstance(cause, BaseException) else error
    return RunError(f"{what}: {type(found).__name__}: {str(found).strip()}; {remedy}", remedy=remedy)

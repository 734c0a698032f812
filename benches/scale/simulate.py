"""A discrete-event simulation of a search in pieces: how much of the workers' time a job uses.

    python benches/scale/simulate.py [--svg FILE] [--seed N]

Workers are processes of a few threads, several a node. A node reads the run's files once, over a file system that all
nodes share, before its workers search. A piece takes a time with a lognormal factor of its own and one of its worker.
A node fails at random: its workers lose the pieces in hand and come back after a delay, and the node reads the files
again. The job looks for pieces every 100 ms, and reads and records those that are there.

Three ways of giving out work. `array`: worker I of N makes every N-th piece (`batchmine work --index I --of N`).
`wait`: then it makes what others have not made yet, in an order of its own, also what these have in hand (the same with
`--wait`). `window`: whoever is free gets the next piece; when none is left, a piece that takes long is given out once
more, and the first copy counts (a scheduler such as Ray).

Efficiency is the time of workers that do nothing but search, each at its own pace and all until the same moment, over
the time until the last piece is recorded. The same seed gives the same table. Files that do not stay in a node's memory
are not simulated: see `rescan_bytes` of model.py.
"""

import argparse
import collections
import dataclasses
import heapq
import math
import pathlib
import random
from collections.abc import Generator, Iterable, Iterator
from typing import Any, Literal

import simpy

import model
from constants import Constants
from model import Job
from tables import markdown, number, rows_word, span

STROKES = {"array": ":", "wait": "--", "window": "-"}
WORKERS = (16, 64, 256, 1024)
FAILURES = (0.0, 1.6e-4, 0.01, 0.1)
Scheme = Literal["array", "wait", "window"]
SCHEMES: tuple[Scheme, ...] = ("array", "wait", "window")
Steps = Generator[simpy.Event, Any, None]


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One search in pieces. Times in seconds, sizes in bytes."""

    pieces: int
    piece_s: float
    """Mean time of a piece on one worker."""
    workers: int
    scheme: Scheme
    first_bytes: float
    """What a node reads for the first time, while it makes its first pieces."""
    piece_bytes: float
    node_io: float
    shared_io: float
    look_s: float
    commit_s: float
    record_part_s: float
    """For each part that the manifest has already."""
    failures_a_node_hour: float
    workers_a_node: int = 16
    piece_sigma: float = 0.1
    worker_sigma: float = 0.1
    start_s: float = 1.0
    restart_s: float = 120.0
    twice_after: float = 1.5
    """A piece is given out again after so many mean times."""
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Outcome:
    seconds: float
    efficiency: float
    lost: int
    """Pieces in hand of nodes that failed."""
    twice: int
    """Pieces that were given out once more."""


def factor(sigma: float, *key: object) -> float:
    """A lognormal factor of mean 1, a function of its key."""
    return random.Random("/".join(map(str, key))).lognormvariate(-sigma * sigma / 2, sigma)


class SharedLink:
    """A link that its transfers share evenly, none faster than a node is."""

    def __init__(self, env: simpy.Environment, total: float, each: float) -> None:
        self.env, self.total, self.each = env, total, each
        self.active: list[tuple[float, int, simpy.Event]] = []
        self.moved = 0.0
        """Bytes that a transfer from the beginning on would have moved."""
        self.seen, self.count, self.round = 0.0, 0, 0

    def rate(self) -> float:
        return min(self.each, self.total / max(1, len(self.active)))

    def transfer(self, size: float) -> simpy.Event:
        """An event that comes when so many bytes have moved."""
        self.advance()
        done = self.env.event()
        self.count += 1
        heapq.heappush(self.active, (self.moved + size, self.count, done))
        self.plan()
        return done

    def advance(self) -> None:
        self.moved += (self.env.now - self.seen) * self.rate()
        self.seen = self.env.now

    def plan(self) -> None:
        """Wakes at the end of the shortest transfer, unless the plan has changed by then."""
        self.round += 1
        if self.active:
            plan, left = self.round, max(0.0, self.active[0][0] - self.moved)
            wake = self.env.timeout(left / self.rate())
            assert wake.callbacks is not None
            wake.callbacks.append(lambda _: self.end(plan))

    def end(self, plan: int) -> None:
        if plan == self.round:
            self.advance()
            first = self.active[0][0]
            while self.active and self.active[0][0] <= max(first, self.moved):
                heapq.heappop(self.active)[2].succeed()
            self.plan()


class Search:
    """The state of one simulated search."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.env = simpy.Environment()
        self.link = SharedLink(self.env, scenario.shared_io, scenario.node_io)
        self.todo = collections.deque(range(scenario.pieces))
        """Of a window: what nobody has in hand."""
        of = scenario.workers
        self.left = [len(range(first, scenario.pieces, of)) for first in range(of)]
        """Of the pieces of each worker of an array those that nobody has made."""
        self.attempts: collections.Counter[int] = collections.Counter()
        self.done: set[int] = set()
        self.arrived: list[int] = []
        self.arrival = self.env.event()
        self.copies: dict[int, set[int]] = {}
        """Workers that make a piece now."""
        self.single: dict[int, float] = {}
        """When a piece was begun that only one worker makes, the earliest first."""
        self.idle: collections.deque[tuple[int, simpy.Event]] = collections.deque()
        self.poke = self.env.event()
        self.up = [False] * scenario.workers
        self.lost = self.twice = 0
        self.nodes = -(-scenario.workers // scenario.workers_a_node)
        self.started = [self.env.process(self.start(0.0)) for _ in range(self.nodes)]
        self.files: list[simpy.Event] = [self.env.process(self.read_files(node)) for node in range(self.nodes)]
        """Done when a node has read what it reads for the first time."""
        self.processes = [self.env.process(self.work(index)) for index in range(scenario.workers)]
        self.env.process(self.give_twice())
        for node in range(self.nodes if scenario.failures_a_node_hour > 0 else 0):
            self.env.process(self.fail(node))

    def run(self) -> Outcome:
        self.env.run(until=self.env.process(self.record()))
        scenario = self.scenario
        ideal = scenario.pieces * scenario.piece_s / sum(1 / self.pace(index) for index in range(scenario.workers))
        return Outcome(self.env.now, ideal / self.env.now, self.lost, self.twice)

    def start(self, delay: float) -> Steps:
        yield self.env.timeout(delay + self.scenario.start_s)

    def read_files(self, node: int) -> Steps:
        yield self.started[node]
        yield self.link.transfer(self.scenario.first_bytes)

    def pace(self, index: int) -> float:
        """What a worker's times are multiplied by."""
        return factor(self.scenario.worker_sigma, self.scenario.seed, "worker", index)

    def node_of(self, index: int) -> int:
        return index // self.scenario.workers_a_node

    def work(self, index: int) -> Steps:
        """A worker, through all its failures."""
        pace = self.pace(index)
        while True:
            try:
                yield self.started[self.node_of(index)]
                self.up[index] = True
                yield from self.make_pieces(index, pace)
                return
            except simpy.Interrupt:
                self.up[index] = False

    def make_pieces(self, index: int, pace: float) -> Steps:
        if self.scenario.scheme != "window":
            for piece in self.pieces_of(index):
                if piece not in self.done:
                    yield from self.make(piece, index, pace)
        while self.scenario.scheme == "window" and len(self.done) < self.scenario.pieces:
            piece = self.todo.popleft() if self.todo else (yield from self.wait_for_piece(index))
            try:
                yield from self.make(piece, index, pace)
            except simpy.Interrupt as reason:
                if reason.cause == "failed":
                    raise
        self.up[index] = False

    def pieces_of(self, index: int) -> Iterator[int]:
        """What a worker of an array makes, if it is not there when its turn comes."""
        of, pieces = self.scenario.workers, self.scenario.pieces
        yield from range(index, pieces, of)
        if self.scenario.scheme == "wait":
            # A step that shares no divisor with their number leads to all pieces.
            chance = random.Random(f"{self.scenario.seed}/order/{index}")
            first, step = chance.randrange(pieces), chance.randrange(1, pieces + 1)
            while math.gcd(step, pieces) > 1:
                step += 1
            yield from ((first + number * step) % pieces for number in range(pieces))

    def wait_for_piece(self, index: int) -> Generator[simpy.Event, Any, int]:
        """Waits until a piece is given to an idle worker; gives it back where the worker fails at that moment."""
        wanted = self.env.event()
        self.idle.append((index, wanted))
        self.poked()
        try:
            piece: int = yield wanted
        except simpy.Interrupt:
            if (index, wanted) in self.idle:
                self.idle.remove((index, wanted))
                raise
            given: Any = wanted.value
            if given not in self.done and not self.copies.get(given):
                self.todo.appendleft(given)
                self.hand_back()
            raise
        return piece

    def make(self, piece: int, index: int, pace: float) -> Steps:
        scenario = self.scenario
        self.attempts[piece] += 1
        makers = self.copies.setdefault(piece, set())
        makers.add(index)
        if len(makers) == 1:
            self.single[piece] = self.env.now
        elif scenario.scheme != "window":
            self.twice += 1
        key = (scenario.seed, "piece", piece, self.attempts[piece])
        try:
            yield self.env.timeout(scenario.piece_s * pace * factor(scenario.piece_sigma, *key))
            yield self.files[self.node_of(index)]
            yield self.link.transfer(scenario.piece_bytes)
        except simpy.Interrupt as reason:
            makers.discard(index)
            if reason.cause == "failed":
                self.lost += 1
                if not makers and scenario.scheme == "window":
                    self.single.pop(piece, None)
                    self.todo.appendleft(piece)
                    self.hand_back()
            raise
        makers.discard(index)
        if piece not in self.done:
            self.finish(piece)

    def finish(self, piece: int) -> None:
        self.done.add(piece)
        self.left[piece % self.scenario.workers] -= 1
        self.single.pop(piece, None)
        for other in self.copies.pop(piece, set()) if self.scenario.scheme == "window" else ():
            self.processes[other].interrupt("other was first")
        self.arrived.append(piece)
        if not self.arrival.triggered:
            self.arrival.succeed()
        self.poked()

    def hand_back(self) -> None:
        """A lost piece goes to who waits for one."""
        while self.todo and self.idle:
            self.idle.popleft()[1].succeed(self.todo.popleft())

    def poked(self) -> None:
        if not self.poke.triggered:
            self.poke.succeed()

    def give_twice(self) -> Steps:
        """Gives slow pieces to idle workers. None is idle while pieces are left."""
        patience = self.scenario.twice_after * self.scenario.piece_s
        while len(self.done) < self.scenario.pieces:
            if not self.idle or not self.single:
                self.poke = self.env.event()
                yield self.poke
                continue
            piece, begun = next(iter(self.single.items()))
            if self.env.now < begun + patience:
                yield self.env.timeout(begun + patience - self.env.now)
                continue
            del self.single[piece]
            self.twice += 1
            self.idle.popleft()[1].succeed(piece)

    def fail(self, node: int) -> Steps:
        scenario = self.scenario
        chance = random.Random(f"{scenario.seed}/node/{node}")
        while len(self.done) < scenario.pieces:
            yield self.env.timeout(chance.expovariate(scenario.failures_a_node_hour / 3600))
            self.started[node] = self.env.process(self.start(scenario.restart_s))
            self.files[node] = self.env.process(self.read_files(node))
            first = node * scenario.workers_a_node
            for index in range(first, min(first + scenario.workers_a_node, scenario.workers)):
                if self.up[index] and self.processes[index].is_alive:
                    self.up[index] = False
                    self.processes[index].interrupt("failed")

    def record(self) -> Steps:
        """The job: looks, takes what is there, looks again."""
        scenario, recorded, looked = self.scenario, 0, 0.0
        while recorded < scenario.pieces:
            if not self.arrived:
                self.arrival = self.env.event()
                yield self.arrival
                since = (self.env.now - looked) % scenario.look_s
                yield self.env.timeout(scenario.look_s - since)
            there, self.arrived = len(self.arrived), []
            recorded += there
            read = there * scenario.piece_bytes / scenario.node_io
            yield self.env.timeout(read + scenario.commit_s + recorded * scenario.record_part_s)
            looked = self.env.now


def scenario_of(job: Job, workers: int, scheme: Scheme, failures: float, table: Constants, seed: int) -> Scenario:
    """A search of the cost model, by workers of four threads, 16 a node of 64 cores."""
    fleet = model.cpu_fleet(table, 1)
    threads = fleet.worker_threads
    nodes = -(-workers // (fleet.machine.cores // threads))
    pieces = model.search_parts(job)
    rate = threads * table.all_cores.value * model.tile_share(threads, model.block_tiles(job))
    return Scenario(
        pieces=pieces,
        piece_s=model.query_core_s(job, table) / pieces / rate,
        workers=workers,
        scheme=scheme,
        first_bytes=model.first_bytes(job, dataclasses.replace(fleet, nodes=nodes), table),
        piece_bytes=model.lists_bytes(job) / pieces,
        node_io=table.node_io.value,
        shared_io=table.shared_io.value,
        look_s=table.look_ms.value * 1e-3,
        commit_s=table.commit_ms.value * 1e-3,
        record_part_s=table.record_part_us.value * 1e-6,
        failures_a_node_hour=failures,
        workers_a_node=fleet.machine.cores // threads,
        seed=seed,
    )


def by_workers(table: Constants, seed: int, jobs: Iterable[Job]) -> tuple[str, dict[str, list[float]]]:
    """Efficiency against workers, both schemes, at the published rate of failures."""
    lines, curves = [], {}
    for job in jobs:
        for scheme in SCHEMES:
            name = f"{rows_word(job.rows)}, {job.search}, {scheme}"
            curve = []
            for workers in WORKERS:
                scenario = scenario_of(job, workers, scheme, table.failures.value, table, seed)
                curve.append(Search(scenario).run().efficiency)
            curves[name] = curve
            cells = [f"{value:.2f}" for value in curve]
            lines.append([name, f"{scenario.pieces:,}", span(scenario.piece_s), *cells])
    return markdown(["rows, search, scheme", "pieces", "a piece", *map(str, WORKERS)], lines), curves


def by_failures(table: Constants, seed: int, workers: int, job: Job) -> str:
    """Efficiency against failures of a node in an hour."""
    lines = []
    for scheme in SCHEMES:
        line = [f"{rows_word(job.rows)}, {job.search}, {scheme}"]
        for failures in FAILURES:
            outcome = Search(scenario_of(job, workers, scheme, failures, table, seed)).run()
            line.append(f"{outcome.efficiency:.2f} ({outcome.lost:,} lost)")
        lines.append(line)
    return markdown([f"{workers} workers; failures a node and hour", *(f"{rate:g}" for rate in FAILURES)], lines)


def by_spread(table: Constants, seed: int, workers: int, job: Job) -> str:
    """Efficiency against the spread of the workers' pace."""
    spreads = (0.0, 0.1, 0.3, 0.5)
    lines = []
    for scheme in SCHEMES:
        line = [f"{rows_word(job.rows)}, {job.search}, {scheme}"]
        for sigma in spreads:
            scenario = scenario_of(job, workers, scheme, 0.0, table, seed)
            scenario = dataclasses.replace(scenario, worker_sigma=sigma, piece_sigma=sigma)
            outcome = Search(scenario).run()
            line.append(f"{outcome.efficiency:.2f} ({outcome.twice:,} twice)")
        lines.append(line)
    return markdown([f"{workers} workers, sigma of both factors", *(number(sigma) for sigma in spreads)], lines)


def draw(curves: dict[str, list[float]], path: pathlib.Path) -> None:
    """The curves as SVG; needs matplotlib."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "batchmine"  # else two drawings of the same curves differ
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5))
    for name, curve in curves.items():
        axes.plot(WORKERS, curve, label=name, linestyle=STROKES[name.rsplit(", ", 1)[1]])
    axes.set(xscale="log", xlabel="workers of 4 threads, 16 a node", ylabel="efficiency", ylim=(0, 1.05))
    axes.legend(fontsize="small")
    figure.savefig(path, format="svg", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description="Efficiency of a search in pieces, simulated.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--svg", type=pathlib.Path, help="draw the curves, too")
    parser.add_argument("--quick", action="store_true", help="10 M rows alone")
    options = parser.parse_args()
    table, seed = Constants(), options.seed
    jobs = [Job(10**7)]
    if not options.quick:
        jobs += [Job(10**8), Job(10**8, search="ivf"), Job(10**9, search="ivf")]
    exact = [job for job in jobs if job.search == "exact"][-1]
    print(f"### efficiency by failures a node and hour\n\n{by_failures(table, seed, 256, exact)}", flush=True)
    print(f"### efficiency by spread\n\n{by_spread(table, seed, 256, exact)}", flush=True)
    text, curves = by_workers(table, seed, jobs)
    print(f"### efficiency by workers\n\n{text}")
    if options.svg:
        draw(curves, options.svg)


if __name__ == "__main__":
    main()

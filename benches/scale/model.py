"""What a job costs on machines of many kinds: seconds, bytes, memory of each stage. Pure functions.

    python benches/scale/model.py --tables [--bench RECORD.json]

A stage's time is the longer one of its arithmetic and its reading and writing; `constants.py` says where each number
comes from. Sizes of files and of memory follow batchmine's own `budget.rs`.
"""

import dataclasses
import math
from typing import Literal

from constants import GIB, MIB, Constants

ROWS_MAX = 2**31 - 1
"""ROWS_MAX of vectors/row.rs."""
LIST_ROWS, CENTRE_VALUES_MAX = 400, 4 << 20
SAMPLE_ROWS, ROUNDS = 32, 4
BLOCK_BYTES, BLOCK_ROWS = 48 * MIB, (96, 8192)
TILE_QUERIES, LIST_TILE_QUERIES, RECALL_QUERIES = 192, 768, 1000
PASSES = 9
"""3 of growth, one that fixes sizes, 5 of swaps."""
RUNS_MAX, RUN_EDGES_MAX, MERGE_EDGES = 256, 64 << 20, 16 << 20

Where = Literal["job", "nodes", "records"]


@dataclasses.dataclass(frozen=True)
class Job:
    """What is mined: one task, both sides in f16."""

    rows: int
    dim: int = 768
    ranks: int = 110
    cluster_size: int = 8
    search: Literal["exact", "ivf"] = "exact"
    value_bytes: int = 2
    probes: int | None = None
    """IVF lists that a query looks into; None: a share of all, as `constants.py` has it."""


@dataclasses.dataclass(frozen=True)
class Machine:
    """One node."""

    name: str
    cores: int
    memory_bytes: float
    io_bytes_s: float
    """What it reads or writes of the run folder a second."""
    core_share: float
    """Of a core's measured rate, when all of them work."""
    gpus: int = 0


@dataclasses.dataclass(frozen=True)
class Fleet:
    """Nodes that search, one of which runs the job."""

    machine: Machine
    nodes: int
    shared_bytes_s: float
    """What all nodes together read of the run folder a second."""
    worker_threads: int
    """Threads of each worker process; as many processes as there are cores for."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one stage, or one step of a stage, takes."""

    stage: str
    where: Where
    compute_s: float
    io_s: float
    read_bytes: float = 0.0
    """Of each node that takes part."""
    written_bytes: float = 0.0
    memory_bytes: float = 0.0
    """Anonymous memory; files are mapped."""

    @property
    def seconds(self) -> float:
        return max(self.compute_s, self.io_s)

    @property
    def bound(self) -> str:
        return "compute" if self.compute_s >= self.io_s else "I/O"


# ---- counts and sizes, as the code has them


def lists_of(rows: int, dim: int) -> int:
    """IVF lists of a task (neighbors/ivf.rs)."""
    return 1 if rows < 4 * LIST_ROWS else max(1, min(rows // LIST_ROWS, CENTRE_VALUES_MAX // dim))


def probes_of(job: Job, table: Constants) -> int:
    """Lists that a query looks into; all of them in an exact search."""
    lists = lists_of(job.rows, job.dim)
    if job.search == "exact":
        return lists
    return job.probes or max(1, round(table.probe_share.value * lists))


def block_rows(job: Job) -> int:
    """Queries of a part of the search (neighbors/budget.rs)."""
    least, most = BLOCK_ROWS
    return int(min(max(BLOCK_BYTES // (2 * (8 * job.ranks + 24) + 16), least), most))


def search_parts(job: Job) -> int:
    return math.ceil(job.rows / block_rows(job))


def store_bytes(job: Job) -> float:
    """The vectors of one side."""
    return float(job.rows) * job.dim * job.value_bytes


def packed_bytes(job: Job) -> float:
    """base.pak, with the sample behind it."""
    return float(job.rows) * (job.dim + 84) * 17 / 16


def lists_bytes(job: Job) -> float:
    """Candidates: place and score."""
    return float(job.rows) * (8 * job.ranks + 4)


def arcs_of(job: Job, table: Constants) -> float:
    return float(job.rows) * job.ranks * table.list_arcs_a_rank.value


def run_count(job: Job) -> int:
    """Spilled runs of the edges stage where memory allows the longest ones (edges/budget.rs)."""
    edges = float(job.rows) * job.ranks
    longest = min(max(edges / RUNS_MAX, RUN_EDGES_MAX), 2.0**32 - 1)
    return math.ceil(edges / longest)


def edge_parts(job: Job) -> int:
    return math.ceil(2.0 * job.rows * job.ranks / MERGE_EDGES)


def disk_bytes(job: Job, table: Constants) -> dict[str, float]:
    """Bytes left by each stage, and the most that stand there for a time."""
    entries = float(job.rows) * job.ranks
    return {
        "vectors": 2 * store_bytes(job) + 52.0 * job.rows,
        "neighbors": lists_bytes(job) + 8.0 * job.rows + 4.0 * lists_of(job.rows, job.dim) * job.dim,
        "edges": arcs_of(job, table) * table.arc_bytes.value,
        "clusters": 4.0 * job.rows,
        "batches": 24.0 * job.rows,
        "for a time": max(packed_bytes(job), 2.5 * entries),
    }


def cluster_memory(job: Job, threads: int) -> float:
    """20 bytes a row, and for each thread 9 bytes a cluster (clusters/budget.rs)."""
    return 20.0 * job.rows + 8 * MIB + (threads + 1) * (2 * MIB + 9.0 * job.rows / job.cluster_size)


def memory_bytes(job: Job, threads: int) -> dict[str, float]:
    """The least that each stage needs beside 24 MiB and 2 MiB a thread; the terms that grow with the rows."""
    run = min(max(float(job.rows) * job.ranks / RUNS_MAX, block_rows(job) * job.ranks), 2.0**32 - 1)
    tile = TILE_QUERIES if job.search == "exact" else LIST_TILE_QUERIES
    search = threads * (tile * (8 * (6 * job.ranks + 64) + 16 * job.dim + 64) + 1024 * (4 * job.dim + 8) + MIB / 2)
    lists = block_rows(job) * (2 * (8 * job.ranks + 24) + 16)
    both = 2.0 * job.rows * job.ranks
    merging = min(threads * 2.0**20, both) * 20 + min(16 * 2.0**20, both) * 2
    return {
        "vectors": 20.25 * job.rows + threads * 8 * MIB,
        "neighbors": max(20.0 * job.rows, 0.25 * job.rows + lists + search + 1000 * (8 * job.ranks + 24)),
        "edges": 8.0 * job.rows + max(8 * run, merging),
        "clusters": cluster_memory(job, threads),
        "batches": 26.0 * job.rows + 16.0 * job.rows / job.cluster_size + min(job.rows, 122_880) * 160,
    }


# ---- time


def tile_share(threads: int, tiles: int) -> float:
    """Share of the threads of a process that tiles of one block keep busy."""
    return tiles / (math.ceil(tiles / threads) * threads)


def block_tiles(job: Job) -> int:
    """Tiles of queries in a block: what threads share."""
    return math.ceil(block_rows(job) / (TILE_QUERIES if job.search == "exact" else LIST_TILE_QUERIES))


def cores(machine: Machine) -> float:
    """Cores' worth of measured rate."""
    return machine.cores * machine.core_share


def import_cost(job: Job, machine: Machine, table: Constants) -> Cost:
    values = 2.0 * job.rows * job.dim
    stores, left = 2 * store_bytes(job), disk_bytes(job, table)["vectors"]
    compute = values * table.import_value_ns.value * 1e-9 / cores(machine)
    return Cost("import", "job", compute, max(stores, left) / machine.io_bytes_s, stores, left)


def rereading(needed: float, machine: Machine) -> float:
    """Share of files that do not stay in memory, and are read again."""
    return max(0.0, 1 - 0.85 * machine.memory_bytes / needed)


def lists_cost(job: Job, machine: Machine, table: Constants) -> Cost:
    """k-means on a sample, then the nearest centre of each row; in f32."""
    lists, rate = lists_of(job.rows, job.dim), table.f32_gops.value * 1e9
    sample = min(job.rows, SAMPLE_ROWS * lists)
    operations = 2.0 * job.dim * lists * (ROUNDS * sample + job.rows) if lists > 1 else 0.0
    read = store_bytes(job) * rereading(2 * store_bytes(job), machine)
    return Cost("IVF lists", "job", operations / rate / cores(machine), read / machine.io_bytes_s, read)


def packing_cost(job: Job, machine: Machine, table: Constants) -> Cost:
    """Rotation and rounding to bytes; for a GPU a second base, in f16."""
    turned = table.rotated_ns.value * job.dim * job.dim if 64 <= job.dim <= 1536 else 0.0
    compute = job.rows * (turned + job.dim * table.pack_value_ns.value) * 1e-9 / cores(machine)
    written = packed_bytes(job) + (store_bytes(job) if machine.gpus else 0.0)
    read = store_bytes(job) * rereading(2 * store_bytes(job), machine)
    return Cost("packed base", "job", compute, max(read, written) / machine.io_bytes_s, read, written)


def recall_cost(job: Job, machine: Machine, table: Constants) -> Cost:
    """Brute force of 1,000 queries in bf16, each tile on one thread; then trials of probes."""
    queries = min(RECALL_QUERIES, job.rows)
    tile = min(max(math.ceil(queries / machine.cores), TILE_QUERIES), LIST_TILE_QUERIES)
    rounds = math.ceil(math.ceil(queries / tile) / machine.cores)
    pair_s = 2.0 * job.dim / (table.bf16_gops.value * 1e9)
    compute = rounds * job.rows * (min(tile, queries) * pair_s + job.dim * table.pack_value_ns.value * 1e-9)
    if job.search == "ivf":
        lists = lists_of(job.rows, job.dim)
        pairs = queries * table.probe_trials.value * probes_of(job, table) * job.rows / lists
        threads = min(machine.cores, math.ceil(queries / LIST_TILE_QUERIES))
        compute += pairs * 2 * job.dim / (table.exact_gops.value * table.list_scan.value * 1e9) / threads
    read = store_bytes(job) * rereading(store_bytes(job) + packed_bytes(job), machine)
    return Cost("recall sample", "job", compute, read / machine.io_bytes_s, read)


def query_core_s(job: Job, table: Constants) -> float:
    """CPU seconds of all queries on cores of full rate."""
    linear = job.rows * (table.query_us.value * 1e-6 + job.dim * table.query_value_ns.value * 1e-9)
    rate = table.exact_gops.value * 1e9
    if job.search == "exact":
        return linear + 2.0 * job.rows * job.rows * job.dim / rate
    lists = lists_of(job.rows, job.dim)
    centres = 2.0 * job.rows * lists * job.dim / (table.f32_gops.value * 1e9)
    pairs = float(job.rows) * probes_of(job, table) * job.rows / lists
    return linear + centres + 2 * job.dim * pairs / (rate * table.list_scan.value)


def rescan_bytes(job: Job, fleet: Fleet, table: Constants) -> float:
    """What each node reads again because packed base and vectors do not stay in its memory.

    Exact: the tiles that a node searches at a time go through the base together, in step. IVF: what the queries of one
    list look into is read once for that list. True scores read pages of 4 KiB. GPUs: what is copied to them and is not
    in the node's memory.
    """
    if fleet.machine.gpus:
        copied = gpu_copies(job, fleet.machine, table) / fleet.nodes * store_bytes(job)
        return rereading(store_bytes(job), fleet.machine) * copied
    base, rows = packed_bytes(job), job.rows / fleet.nodes
    absent = rereading(base + store_bytes(job), fleet.machine)
    row_pages = max(4096, job.dim * job.value_bytes)
    true_rows = rows * table.survivors.value / table.shared_rows.value * row_pages
    if job.search == "exact":
        scans = rows / (TILE_QUERIES * fleet.machine.cores)
        return absent * (scans * base + true_rows)
    lists = lists_of(job.rows, job.dim)
    blocks = search_parts(job) / fleet.nodes
    return absent * (min(lists, blocks) * near_share(job, table) * base + true_rows)


def near_share(job: Job, table: Constants) -> float:
    """Share of the lists that the queries of a block look into."""
    return min(1.0, table.near_lists.value * probes_of(job, table) / lists_of(job.rows, job.dim))


def first_bytes(job: Job, fleet: Fleet, table: Constants) -> float:
    """What each node reads for the first time while it searches: the queries of its parts, and what these look into of
    positives and packed base (of lists, those of each part are taken to be different ones). A job without workers has
    all of it open."""
    if fleet.nodes == 1 and fleet.machine.cores // fleet.worker_threads == 1:
        return 0.0
    base = store_bytes(job) + (0.0 if fleet.machine.gpus else packed_bytes(job))
    share = 1.0
    if job.search == "ivf":
        share = min(1.0, search_parts(job) / fleet.nodes * near_share(job, table))
    return store_bytes(job) / fleet.nodes + share * base


def node_bandwidth(fleet: Fleet) -> float:
    """What each node reads a second while all of them do."""
    return min(fleet.machine.io_bytes_s, fleet.shared_bytes_s / fleet.nodes)


def search_cost(job: Job, fleet: Fleet, table: Constants) -> Cost:
    """The search on all nodes. What a worker reads for the first time it hashes: each of a node's workers does."""
    machine = fleet.machine
    first, written = first_bytes(job, fleet, table), lists_bytes(job) / fleet.nodes
    read = first + rescan_bytes(job, fleet, table)
    if machine.gpus:
        compute = gpu_seconds(job, fleet, table)
    else:
        busy = tile_share(fleet.worker_threads, block_tiles(job))
        compute = query_core_s(job, table) / (fleet.nodes * cores(machine) * busy)
    hashing = machine.cores // fleet.worker_threads * first / (table.hash_gbs.value * 1e9) / cores(machine)
    return Cost("search", "nodes", compute + hashing, max(read, written) / node_bandwidth(fleet), read, written)


def gpu_copies(job: Job, machine: Machine, table: Constants) -> float:
    """How often all base rows are copied to the devices of a node that makes all parts."""
    room = (table.gpu_memory.value - table.gpu_reserved.value) * machine.gpus
    return 1.0 if store_bytes(job) <= room else float(search_parts(job))


def gpu_seconds(job: Job, fleet: Fleet, table: Constants) -> float:
    """A projection: nothing of it was ever run. Base tiles stay on the devices where they fit, else they are copied
    once for each block of queries, and nothing is searched meanwhile."""
    machine = fleet.machine
    rate = table.gpu_tflops.value * 1e12 * table.gpu_share.value * machine.gpus
    products = 2.0 * job.rows * job.rows * job.dim / rate
    copying = gpu_copies(job, machine, table) * store_bytes(job) / (machine.gpus * table.gpu_copy.value)
    answers = float(job.rows) * (job.ranks + 64) * job.dim * table.score_value_ns.value * 1e-9 / cores(machine)
    return max(products + copying, answers) / fleet.nodes


def record_seconds(parts: float, table: Constants) -> float:
    """Commits of so many parts, each by itself: each writes the whole manifest."""
    return parts * table.commit_ms.value * 1e-3 + parts * parts / 2 * table.record_part_us.value * 1e-6


def records_cost(job: Job, machine: Machine, table: Constants) -> Cost:
    """The job takes the parts of the search: reads and hashes them, and writes the manifest once for all that are there
    at a look. Each look takes the longer the more there are, so that only reading and the last look delay the job."""
    parts, read = search_parts(job), lists_bytes(job)
    last = table.look_ms.value * 1e-3 + table.commit_ms.value * 1e-3 + parts * table.record_part_us.value * 1e-6
    return Cost("taking parts", "records", last, read / machine.io_bytes_s, read, parts * table.part_bytes.value)


def edges_costs(job: Job, fleet: Fleet, table: Constants, in_pieces: bool) -> list[Cost]:
    """Check of all lists and in-degrees, by the job; spill and merge. Each thread of a spill or of the in-degrees reads
    all lists that there are, whatever its share of the rows."""
    machine, nodes = fleet.machine, fleet.nodes if in_pieces else 1
    entries, runs = float(job.rows) * job.ranks, run_count(job)
    scan_s = entries * table.edge_scan_ns.value * 1e-9
    divided = arcs_of(job, table) * table.edge_arc_ns.value + runs * job.rows * table.run_row_ns.value
    left, spilled, lists = disk_bytes(job, table)["edges"], 2.5 * entries, lists_bytes(job)
    again = rereading(lists + spilled + left, machine)
    # In pieces the job counts in-degrees by itself, and reads what others have made; alone, a spill does as it goes.
    own_read = lists * (1 + again) + spilled + left if in_pieces else lists
    own = Cost("edges: lists checked", "job", 2 * scan_s, own_read / machine.io_bytes_s, own_read)
    compute = (2 * scan_s + divided * 1e-9 / cores(machine)) / nodes
    read = lists * (2 if in_pieces else 2 * again) + spilled
    bandwidth = min(machine.io_bytes_s, fleet.shared_bytes_s / nodes)
    io = max(read, left + spilled) / nodes / bandwidth
    where: Where = "nodes" if in_pieces else "job"
    return [own, Cost("edges", where, compute, io, read / nodes, (left + spilled) / nodes)]


def cluster_speedup(threads: int, table: Constants) -> float:
    """How many cores' worth a pass uses: proposals in parallel, at most so many at a time, applied by one thread."""
    serial = table.cluster_serial.value
    return 1 / (serial + (1 - serial) / min(threads, table.cluster_threads.value)) if threads > 1 else 1.0


def clusters_cost(job: Job, machine: Machine, table: Constants) -> Cost:
    visits = arcs_of(job, table) * PASSES
    visit = table.visit_cached_ns if 20 * job.rows <= table.cache_bytes.value else table.visit_ns
    compute = visits * visit.value * 1e-9 / (cluster_speedup(machine.cores, table) * machine.core_share)
    graph = disk_bytes(job, table)["edges"]
    read = graph * (1 + (PASSES - 1) * rereading(graph + cluster_memory(job, machine.cores), machine))
    memory = cluster_memory(job, machine.cores)
    return Cost("clusters", "job", compute, read / machine.io_bytes_s, read, 16.0 * job.rows * PASSES, memory)


def batches_cost(job: Job, machine: Machine, table: Constants) -> Cost:
    compute = job.rows * 1e-6 * (table.pack_row_us.value + table.write_row_us.value / cores(machine))
    written = disk_bytes(job, table)["batches"]
    return Cost("batches", "job", compute, written / machine.io_bytes_s, 0.0, written)


def job_costs(job: Job, fleet: Fleet, table: Constants, edges_in_pieces: bool = True) -> list[Cost]:
    """All stages, in order. `records` goes on beside the search."""
    machine = fleet.machine
    costs = [
        import_cost(job, machine, table),
        lists_cost(job, machine, table),
        packing_cost(job, machine, table),
        recall_cost(job, machine, table),
        search_cost(job, fleet, table),
        records_cost(job, machine, table),
        *edges_costs(job, fleet, table, edges_in_pieces),
        clusters_cost(job, machine, table),
        batches_cost(job, machine, table),
    ]
    memory = memory_bytes(job, machine.cores)
    stages = {"import": "vectors", "search": "neighbors"}
    return [
        dataclasses.replace(cost, memory_bytes=memory.get(stages.get(cost.stage, cost.stage), 0.0)) for cost in costs
    ]


def total_seconds(costs: list[Cost]) -> float:
    """The search and the taking of its parts go on at the same time; all else is one after the other."""
    beside = max((cost.seconds for cost in costs if cost.stage in ("search", "taking parts")), default=0.0)
    return beside + sum(cost.seconds for cost in costs if cost.stage not in ("search", "taking parts"))


def one_machine_seconds(costs: list[Cost]) -> float:
    return sum(cost.seconds for cost in costs if cost.where == "job")


def crossing_rows(fleet: Fleet, table: Constants, job: Job, stage: str, edges_in_pieces: bool = True) -> float:
    """The rows from which on the search takes longer than one stage of the job's machine, or all of them (`all`): 0
    where it always does, infinity where it never does, between 10^5 and 10^11 rows."""

    def excess(log_rows: float) -> float:
        costs = job_costs(dataclasses.replace(job, rows=round(10**log_rows)), fleet, table, edges_in_pieces)
        search = next(cost.seconds for cost in costs if cost.stage == "search")
        other = one_machine_seconds(costs) if stage == "all" else sum(c.seconds for c in costs if c.stage == stage)
        return search - other

    # Few rows of many nodes are read longer than all else takes: the last crossing counts.
    steps = [5.0 + step / 10 for step in range(61)]
    shorter = [step for step in steps if excess(step) <= 0]
    if not shorter:
        return 0.0
    if shorter[-1] == steps[-1]:
        return math.inf
    low, high = shorter[-1], shorter[-1] + 0.1
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if excess(middle) > 0 else (middle, high)
    return float(10**high)


# ---- machines


def cpu_node(table: Constants) -> Machine:
    values = table.node_cores.value, table.node_memory.value, table.node_io.value, table.all_cores.value
    return Machine("CPU node", int(values[0]), *values[1:])


def gpu_node(table: Constants) -> Machine:
    """A node of 8 GPUs, or a share of one; its cores are taken for cores of the measured kind, which they are not."""
    return Machine("8 GPUs", 112, 2000 * GIB, table.gpu_node_io.value, table.all_cores.value, gpus=8)


def cpu_fleet(table: Constants, nodes: int, worker_threads: int = 4) -> Fleet:
    return Fleet(cpu_node(table), nodes, table.shared_io.value, worker_threads)


def gpu_fleet(table: Constants, gpus: int) -> Fleet:
    machine = gpu_node(table)
    return Fleet(machine, gpus // 8, table.shared_io.value, machine.cores)


def main() -> None:
    import tables

    tables.main()


if __name__ == "__main__":
    main()

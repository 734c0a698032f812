"""The tables of docs/scale.md, as markdown, from the model."""

import argparse
import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterable

import model
from constants import GIB, Constant, Constants, from_bench, read_bench
from model import Cost, Fleet, Job

SIZES = (10**7, 10**8, 10**9, 10**10)
SEARCHES = ("exact", "ivf")
PROBE_SHARES = {"1 list": 0.0, "1/64 of the lists": 1 / 64, "28 % of the lists": 0.28}


def span(seconds: float) -> str:
    """A time with two digits."""
    for unit, size in (("years", 3.156e7), ("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size or (unit == "min" and seconds >= size):
            return f"{number(seconds / size)} {unit}"
    return f"{number(seconds)} s"


def number(value: float) -> str:
    """Two digits, without an exponent."""
    if value == 0 or not math.isfinite(value):
        return str(value)
    digits = max(0, 1 - math.floor(math.log10(abs(value))))
    rounded = round(value, digits if abs(value) < 10 else -(math.floor(math.log10(abs(value))) - 1))
    return f"{rounded:,.{digits}f}"


def size(value: float) -> str:
    """Bytes in decimal units."""
    for unit, factor in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if value >= factor:
            return f"{number(value / factor)} {unit}"
    return f"{number(value / 1e3)} KB"


def rows_word(rows: float) -> str:
    """Rows in millions or billions."""
    if rows >= 1e9:
        return f"{number(rows / 1e9)} B" if rows % 1e9 else f"{rows / 1e9:.0f} B"
    return f"{number(rows / 1e6)} M" if rows % 1e6 else f"{rows / 1e6:.0f} M"


def markdown(head: list[str], lines: Iterable[list[str]]) -> str:
    """A table; the first column is text, the others are numbers."""
    marks = ["---"] + ["--:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, marks, *lines]) + "\n"


def fleets(table: Constants) -> dict[str, Fleet]:
    node = model.cpu_node(table)
    return {
        "1 node, one process": model.cpu_fleet(table, 1, node.cores),
        "1 node": model.cpu_fleet(table, 1),
        "8 nodes": model.cpu_fleet(table, 8),
        "64 nodes": model.cpu_fleet(table, 64),
        "8 GPUs": model.gpu_fleet(table, 8),
        "64 GPUs": model.gpu_fleet(table, 64),
    }


def job_of(rows: int, search: str) -> Job:
    return Job(rows, search="ivf" if search == "ivf" else "exact")


def times(table: Constants) -> str:
    """The whole job; search and edges in pieces, but for one process."""
    all_fleets = fleets(table)

    def cell(job: Job, fleet: Fleet) -> str:
        if fleet.machine.gpus and job.search == "ivf":
            return "–"
        alone = fleet.nodes == 1 and fleet.worker_threads == fleet.machine.cores
        return span(model.total_seconds(model.job_costs(job, fleet, table, not alone)))

    lines = [
        [f"{rows_word(rows)}, {search}", *(cell(job_of(rows, search), fleet) for fleet in all_fleets.values())]
        for search in SEARCHES
        for rows in SIZES
    ]
    return markdown(["rows, search", *all_fleets], lines)


def edges_too(table: Constants) -> str:
    """The edges stage by one machine, and in pieces."""
    lines = []
    for rows in SIZES:
        line = [rows_word(rows)]
        for nodes in (8, 64):
            fleet = model.cpu_fleet(table, nodes)
            for both in (False, True):
                costs = model.job_costs(job_of(rows, "ivf"), fleet, table, both)
                if nodes == 8 or both:
                    line += [span(sum(cost.seconds for cost in costs if cost.stage.startswith("edges")))]
        lines.append(line)
    return markdown(["rows", "one machine", "in pieces, 8 nodes", "64 nodes"], lines)


def stages(table: Constants) -> str:
    """Each step with ivf, the search on 64 nodes."""
    fleet = model.cpu_fleet(table, 64)
    by_rows = [model.job_costs(job_of(rows, "ivf"), fleet, table) for rows in SIZES]
    lines = []
    for index, first in enumerate(by_rows[0]):
        cells = [f"{span(costs[index].seconds)}{'' if costs[index].bound == 'compute' else ' *'}" for costs in by_rows]
        lines.append([first.stage, first.where.replace("records", "job, beside the search"), *cells])
    lines.append(["all", "", *(span(model.total_seconds(costs)) for costs in by_rows)])
    return markdown(["step", "on", *map(rows_word, SIZES)], lines).replace("| --- | --:", "| --- | ---", 1)


def bytes_table(table: Constants) -> str:
    """Disk, what a node reads, memory."""
    lines = []
    node = model.cpu_node(table)
    for rows in SIZES:
        job = job_of(rows, "exact")
        left = model.disk_bytes(job, table)
        temporary = left.pop("for a time")
        memory = model.memory_bytes(job, node.cores)
        few = model.cluster_memory(job, 8)
        fleet = model.cpu_fleet(table, 64)
        first = [size(model.first_bytes(job_of(rows, search), fleet, table)) for search in SEARCHES]
        rereads = [model.rescan_bytes(job_of(rows, search), fleet, table) for search in SEARCHES]
        again = [size(value) if value else "0" for value in rereads]
        resident = model.store_bytes(job) + model.packed_bytes(job)
        lines.append(
            [rows_word(rows)]
            + [size(value) for value in (left["vectors"], left["neighbors"], left["edges"], temporary)]
            + [*first, *again, size(resident)]
            + [size(max(value for name, value in memory.items() if name != "clusters"))]
            + [size(memory["clusters"]), size(few)]
        )
    head = ["rows", "vectors", "lists", "graph", "for a time", "a node reads, exact", "ivf"]
    head += ["reads again, exact", "ivf", "should stay in its memory"]
    return markdown([*head, "memory, most of other stages", "clusters, 64 threads", "8 threads"], lines)


def limits(table: Constants) -> str:
    """The longest step by size, with its share; and from how many rows on the search is longer than all steps of the
    job's machine."""
    choices: dict[str, tuple[Fleet, str]] = {
        "1 node, exact": (model.cpu_fleet(table, 1), "exact"),
        "8 nodes, exact": (model.cpu_fleet(table, 8), "exact"),
        "64 nodes, exact": (model.cpu_fleet(table, 64), "exact"),
        "8 GPUs, exact": (model.gpu_fleet(table, 8), "exact"),
        "64 GPUs, exact": (model.gpu_fleet(table, 64), "exact"),
        "1 node, ivf": (model.cpu_fleet(table, 1), "ivf"),
        "8 nodes, ivf": (model.cpu_fleet(table, 8), "ivf"),
        "64 nodes, ivf": (model.cpu_fleet(table, 64), "ivf"),
    }
    lines = []
    for name, (fleet, search) in choices.items():
        line = [name]
        for rows in SIZES:
            costs = model.job_costs(job_of(rows, search), fleet, table)
            longest = max(costs, key=lambda cost: cost.seconds)
            mark = " *" if longest.bound == "I/O" else ""
            line.append(f"{longest.stage}{mark} {longest.seconds / model.total_seconds(costs):.0%}")
        crossing = model.crossing_rows(fleet, table, job_of(10**7, search), "all")
        word = "never" if math.isinf(crossing) else "any size" if crossing == 0 else rows_word(crossing)
        lines.append([*line, word])
    return markdown(["", *map(rows_word, SIZES), "search the longer from"], lines)


def most_nodes(table: Constants) -> str:
    """Nodes at which search and one-machine stages take as long, were the shared folder no limit."""
    lines = []
    for rows in SIZES:
        line = [rows_word(rows)]
        for search in SEARCHES:
            fleet = model.cpu_fleet(table, 1)
            costs = model.job_costs(job_of(rows, search), fleet, table)
            cpu = next(cost.compute_s for cost in costs if cost.stage == "search")
            line.append(number(cpu / model.one_machine_seconds(costs)))
        lines.append(line)
    return markdown(["rows", "nodes, exact", "nodes, ivf"], lines)


def first_rows(excess: Callable[[int], float]) -> float:
    """The least rows at which a growing quantity is above zero."""
    low, high = 4.0, 12.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if excess(round(10**middle)) > 0 else (middle, high)
    return float(10**high)


def breaks(table: Constants) -> str:
    """What ends a job, or its gain, by the rows at which it does."""
    node = model.cpu_node(table)
    half = node.memory_bytes / 2

    def maps(rows: int) -> float:
        job = Job(rows)
        return model.search_parts(job) + model.edge_parts(job) + model.run_count(job) - table.map_areas.value

    def kept(rows: int) -> float:
        return model.store_bytes(Job(rows)) + model.packed_bytes(Job(rows)) - 0.85 * node.memory_bytes

    found = {
        "more IVF lists would be made, but for 4 Mi values of centres": model.CENTRE_VALUES_MAX // 768 * 400,
        "packed base and positives leave the page cache of a node of 512 GiB": first_rows(kept),
        "files mapped at a time: 65,530 maps a process": first_rows(maps),
        "manifest: one commit takes 100 ms": first_rows(
            lambda rows: model.search_parts(Job(rows)) * table.record_part_us.value - 1e5
        ),
        "row numbers: 2^31 - 1": model.ROWS_MAX,
        "clusters, K 8, 64 threads: half of 512 GiB": first_rows(
            lambda rows: model.cluster_memory(Job(rows), node.cores) - half
        ),
        "clusters, K 8, 8 threads: half of 512 GiB": first_rows(lambda rows: model.cluster_memory(Job(rows), 8) - half),
        "batches: half of 512 GiB": first_rows(lambda rows: model.memory_bytes(Job(rows), 64)["batches"] - half),
        "edges: places within a run, 32 bits (more than 256 runs)": first_rows(
            lambda rows: rows * 110.0 / model.RUNS_MAX - 2**32
        ),
    }
    ordered = sorted(found.items(), key=lambda item: item[1])
    return markdown(["what", "rows x 768, k 110"], [[what, rows_word(rows)] for what, rows in ordered])


def records(table: Constants) -> str:
    """The manifest by size."""
    lines = []
    for rows in SIZES:
        parts = model.search_parts(Job(rows))
        each = table.commit_ms.value * 1e-3 + parts * table.record_part_us.value * 1e-6
        written = parts * parts / 2 * table.part_bytes.value
        lines.append(
            [rows_word(rows), f"{parts:,}", size(parts * table.part_bytes.value), span(each)]
            + [span(model.record_seconds(parts, table)), size(written)]
        )
    head = ["rows", "parts of the search", "manifest", "the last commit", "one commit a part", "written then"]
    return markdown(head, lines)


def sensitivity(table: Constants) -> str:
    """What the largest guesses do: probes of ivf, the memory of 64 nodes, the share of a GPU's peak."""
    fleet = model.cpu_fleet(table, 64)
    lines = []
    for name, share in PROBE_SHARES.items():
        line = [f"ivf, {name}, 64 nodes"]
        for rows in SIZES:
            probes = max(1, round(share * model.lists_of(rows, 768)))
            costs = model.job_costs(Job(rows, search="ivf", probes=probes), fleet, table)
            line.append(span(model.total_seconds(costs)))
        lines.append(line)
    roomy = dataclasses.replace(fleet, machine=dataclasses.replace(fleet.machine, memory_bytes=32e12))
    for search in SEARCHES:
        by_rows = [model.job_costs(job_of(rows, search), roomy, table) for rows in SIZES]
        name = f"{search}{', 1/64 of the lists' if search == 'ivf' else ''}, 64 nodes, all files in memory"
        lines.append([name, *(span(model.total_seconds(each)) for each in by_rows)])
    for share in (0.1, 0.2, 0.4):
        other = dataclasses.replace(table, gpu_share=dataclasses.replace(table.gpu_share, value=share))
        line = [f"exact, 64 GPUs at {share:.0%} of their peak"]
        for rows in SIZES:
            line.append(span(model.total_seconds(model.job_costs(Job(rows), model.gpu_fleet(other, 64), other))))
        lines.append(line)
    return markdown(["", *map(rows_word, SIZES)], lines)


def earlier_runs(table: Constants) -> str:
    """The model beside runs of docs/performance.md: CPU seconds of the neighbors stage, two cores."""
    machine = model.Machine("two cores", 2, 24 * GIB, 1e9, 1.0)
    runs = [
        ("60,940 x 384, real (fitted)", Job(60_940, 384, 130, 32), 11.80),
        ("300,000 x 384, jittered (fitted)", Job(300_000, 384, 130, 32), 192.04),
        ("100,000 x 1,024, falling spectrum", Job(100_000, 1024, 130, 32), 75.4),
        ("100,000 x 1,024, flat spectrum", Job(100_000, 1024, 130, 32), 99.3),
        ("1,000,000 x 384, exact (2 x 874 s)", Job(1_000_000, 384, 130, 32), 1748),
        ("1,000,000 x 384, ivf, 1 list (2 x 58 s)", Job(1_000_000, 384, 130, 32, "ivf", probes=1), 116),
    ]
    lines = []
    for name, job, found in runs:
        beside: list[Cost] = [
            model.lists_cost(job, machine, table),
            model.packing_cost(job, machine, table),
            model.recall_cost(job, machine, table),
        ]
        seconds = model.query_core_s(job, table) + machine.cores * sum(cost.compute_s for cost in beside)
        lines.append([name, f"{found:,.4g}", f"{seconds:,.4g}", f"{seconds / found:.2f}"])
    return markdown(["run", "measured", "model", "model / measured"], lines)


def with_unit(item: Constant) -> str:
    """A constant's value with its unit."""
    if item.unit.startswith("bytes") and item.value >= 1e6:
        return f"{item.value / 1e9:,.4g} GB{item.unit.removeprefix('bytes')}"
    return f"{item.value:,.4g} {item.unit}" if item.value < 1e4 else f"{item.value:,.0f} {item.unit}"


def constants(table: Constants) -> str:
    """Every constant."""
    lines = []
    for name, item in table.items():
        bench = f" (`bench`: {item.bench})" if item.bench else ""
        lines.append([f"`{name}`", with_unit(item), item.origin, item.source + bench])
    return markdown(["constant", "value", "origin", "from"], lines).replace("--: | --: | --:", "--: | --- | ---", 1)


def not_measured(table: Constants) -> str:
    """The constants that nobody measured here."""
    lines = [
        [f"`{name}`", with_unit(item), item.origin, item.source]
        for name, item in table.items()
        if item.origin in ("assumed", "published")
    ]
    return markdown(["constant", "value", "origin", "from"], lines).replace("--: | --: | --:", "--: | --- | ---", 1)


TABLES: dict[str, Callable[[Constants], str]] = {
    "times": times,
    "stages": stages,
    "edges": edges_too,
    "bytes": bytes_table,
    "limits": limits,
    "nodes": most_nodes,
    "breaks": breaks,
    "records": records,
    "sensitivity": sensitivity,
    "earlier": earlier_runs,
    "constants": constants,
    "not-measured": not_measured,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="The cost model's tables, as markdown.")
    parser.add_argument("--tables", nargs="*", choices=sorted(TABLES), help="which tables; all, if none is named")
    parser.add_argument("--bench", type=pathlib.Path, help="a record of `batchmine bench --json`: kernels' rates")
    options = parser.parse_args()
    table = Constants()
    if options.bench:
        table = from_bench(table, read_bench(options.bench))
    for name in options.tables or TABLES:
        print(f"### {name}\n\n{TABLES[name](table)}")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Clusters: batchmine beside METIS, KaMinPar, balanced k-means and chance. Same graph, same exact sizes.

    pip install -r benches/compare/requirements.txt
    cargo build --release
    python benches/compare/clusters.py DATA... [--cluster-size 32] [--suspect-weight 0 0.5 1]

DATA are Parquet files, or folders of them; or one run folder of `batchmine mine`, which is copied and left as
it is. README.md beside this file says what is counted. Exits with 1 if a file of the run is not what
docs/formats.md says, or if batchmine counted otherwise.
"""

import argparse
import json
import math
import os
import pathlib
import platform
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version

import numpy as np
import xxhash
import zstandard

ROOT = pathlib.Path(__file__).resolve().parents[2]
NONE = 0xFFFFFFFF
SAMPLE = 200_000  # pairs of one cluster whose similarity is averaged
ROUNDS, NEAREST = 10, 32  # of k-means: iterations, and centres that a row may go to
TICK = 1 / os.sysconf("SC_CLK_TCK")  # resolution of CPU times, and the least that is reported

PEERS = {
    "METIS recursive": {"program": "metis", "recursive": True},
    "METIS k-way": {"program": "metis", "recursive": False},
    "METIS k-way, ufactor 100": {"program": "metis", "recursive": False, "ufactor": 100},
    "KaMinPar large-k": {"program": "kaminpar", "context": "largek", "eps": 0.03},
    "KaMinPar large-k, eps 0.1": {"program": "kaminpar", "context": "largek", "eps": 0.1},
    "KaMinPar large-k eco": {"program": "kaminpar", "context": "largek-eco", "eps": 0.03},
    "KaMinPar large-k strong": {"program": "kaminpar", "context": "largek-strong", "eps": 0.03},
    "balanced k-means": {"program": "kmeans"},
    "random": {"program": "random"},
}
SLOW = ["KaMinPar large-k eco", "KaMinPar large-k strong"]  # only if asked for


# ---- files of a run: docs/formats.md


def fail(file, reason):
    raise SystemExit(f"{file}: {reason}")


def sealed(file, magic):
    """(header fields, payload) of a binary file, its frame checked."""
    data = np.memmap(file, np.uint8, "r")
    length = len(data) - 88
    if length < 0 or data[:8].tobytes() != magic or data[-8:].tobytes() != b"BMSEALED":
        fail(file, "frame")
    if struct.unpack("<II", data[8:16]) != (1, 0):
        fail(file, "version")
    total, checksum = struct.unpack("<QQ", data[-24:-8])
    if total != len(data) or checksum != xxhash.xxh3_64_intdigest(data[:-24]):
        fail(file, "length or checksum")
    return struct.unpack("<6Q", data[16:64]), data[64:-24]


def vectors(run, side):
    file = run / "vectors" / f"{side}.vec"
    (rows, dim, width, *_), payload = sealed(file, b"BMVECTOR")
    return payload.view({2: "<f2", 4: "<f4"}[width]).reshape(rows, dim)


def rows_columns(run):
    """(query scales, positive scales, codes of the positives) of all rows."""
    file = run / "vectors" / "rows.col"
    (rows, keys, *_), payload = sealed(file, b"BMROWCOL")
    sections, at = [], 0
    for kind in ["<u4", "<f8", "<f8", "<f4"] + ["<u4"] * keys:
        end = at + rows * np.dtype(kind).itemsize
        sections.append(payload[at:end].view(kind))
        at = end + -end % 64
    if at != len(payload):
        fail(file, "length of the payload")
    return sections[1], sections[2], sections[4]


def lists(run):
    """(first row, ranked rows) of each block of neighbour lists; NONE beyond a list's end."""
    for file in sorted((run / "neighbors").glob("block-*.nbr")):
        (first, rows, stride, *_), payload = sealed(file, b"BMNEIGHB")
        words = payload.view("<u4")
        if len(words) != rows * (1 + 2 * stride):
            fail(file, "length of the payload")
        ids = words[rows : rows * (1 + stride)].reshape(rows, stride)
        if ((ids != NONE).sum(1) != words[:rows]).any():
            fail(file, "lengths of the lists")
        yield first, ids


def clusters(run):
    """The cluster of each row, -1 where it is in none."""
    _, payload = sealed(run / "clusters" / "labels.lbl", b"BMLABELS")
    labels = payload.view("<u4").astype(np.int64)
    labels[labels == NONE] = -1
    return labels


def block(data, rows, arcs):
    """(degrees, other rows, kinds) of a decompressed block of edges."""
    data = np.frombuffer(data, np.uint8)
    kinds_at = 4 * rows
    lengths_at = kinds_at + (arcs + 1) // 2
    gaps_at = lengths_at + (arcs + 3) // 4
    degrees = data[:kinds_at].view("<u4").astype(np.int64)
    nibbles = data[kinds_at:lengths_at, None] >> np.array([0, 4], np.uint8) & 15
    kinds = nibbles.ravel()[:arcs]
    pairs = data[lengths_at:gaps_at, None] >> np.array([0, 2, 4, 6], np.uint8) & 3
    lengths = pairs.ravel()[:arcs].astype(np.int64) + 1

    ends = gaps_at + np.cumsum(lengths)
    if degrees.sum() != arcs or len(data) != (ends[-1] if arcs else gaps_at) + 3 or data[-3:].any():
        raise ValueError("lengths inside a block")
    at = ends - lengths
    gaps = sum(np.where(lengths > i, data[at + i], 0).astype(np.int64) << 8 * i for i in range(4))
    # The first gap of a row is a row, each later one the difference to the one before, less 1.
    sums = np.concatenate([[0], np.cumsum(gaps + 1)])
    before = np.repeat(sums[np.cumsum(degrees) - degrees], degrees)
    return degrees, sums[1:] - before - 1, kinds


def edges(run):
    """(starts, other rows, kinds): the whole graph, each arc from both ends."""
    parts, next_row, rows_of_all = [], 0, 0
    for file in sorted((run / "edges").glob("range-*.edg")):
        (first, rows, arcs, blocks, rows_of_all, _), payload = sealed(file, b"BMEDGES\0")
        if first != next_row:
            fail(file, "first row")
        seen = end = 0
        for entry in struct.iter_unpack("<QIIIIQQ", payload[len(payload) - 40 * blocks :]):
            offset, size, full, block_row, block_rows, block_arcs, checksum = entry
            frame = payload[offset : offset + size].tobytes()
            if (offset, block_row) != (end, next_row) or checksum != xxhash.xxh3_64_intdigest(frame):
                fail(file, f"entry of the block at row {block_row}")
            data = zstandard.ZstdDecompressor().decompress(frame, max_output_size=full)
            if len(data) != full:
                fail(file, f"bytes of the block at row {block_row}")
            parts.append(block(data, block_rows, block_arcs))
            end, next_row, seen = end + size, next_row + block_rows, seen + block_arcs
        if (next_row - first, seen, end + 40 * blocks) != (rows, arcs, len(payload)):
            fail(file, "rows, arcs or length of the payload")
    if not parts or next_row != rows_of_all:
        fail(run / "edges", "rows of the ranges")
    degrees, others, kinds = (np.concatenate(part) for part in zip(*parts))
    return np.concatenate([[0], np.cumsum(degrees)]), others, kinds


def implied(run, rows, skip, rule):
    """The graph that the lists imply, as codes (row · rows + other) and kinds."""
    codes, kinds = [], []
    for first, ids in lists(run):
        row, rank = np.nonzero(ids != NONE)
        other = ids[row, rank].astype(np.int64)
        row = row + first
        kind = np.where(rank < skip, 1, 3).astype(np.uint8)
        codes += [row * rows + other, other * rows + row]
        kinds += [kind, kind]
    codes, kinds = np.concatenate(codes), np.concatenate(kinds)
    order = np.argsort(codes, kind="stable")
    codes, kinds = codes[order], kinds[order]
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    codes, kinds = codes[starts], np.add.reduceat(kinds, starts)
    if rule == "mutual":
        one = kinds // 3 == 1
        kinds[one] -= 3
        codes, kinds = codes[kinds > 0], kinds[kinds > 0]
    return codes, kinds


# ---- batchmine


def status(pid, *names):
    """Fields of /proc/PID/status in MiB."""
    fields = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status"))
    return [int(fields[name].split()[0]) / 1024 for name in names]


def cpu_seconds(pid):
    """User and system time of a process so far, all its threads."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK


def mine(args, flags, out, weight, passes):
    """Cost and facts of the clusters stage, None if it was there; stages before it are made if they must."""
    command = [args.batchmine, "mine", *flags, "--out", out, "--replace", "--json", "--progress", "none"]
    command += ["--threads", args.threads, "--cluster-size", args.cluster_size, "--batch-size", args.batch_size]
    command += ["--suspect-weight", weight, "--cluster-passes", passes]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BATCHMINE_")}
    cost = facts = begin = None
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [str(word) for word in command], stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )
        try:
            for line in process.stdout:
                event = json.loads(line)
                if event.get("stage") != "clusters":
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
        if process.returncode:
            log.seek(0)
            raise SystemExit(f"batchmine failed (exit {process.returncode}):\n{log.read()}")
    return cost, facts


def flags_of(run):
    """The flags that made the lists and edges of a run, its inputs first."""
    manifest = json.loads((run / "manifest.json").read_text())
    stages = manifest["stages"]
    if manifest["work"]:
        raise SystemExit(f"{run}: made with --work, so the folder has no edges")
    if not stages.get("edges", {}).get("complete"):
        raise SystemExit(f"{run}: has no complete edges")
    settings = stages["vectors"]["settings"] | stages["neighbors"]["settings"] | stages["edges"]["settings"]
    columns = settings["columns"]
    flags = [file["path"] for file in settings["inputs"]]
    if columns["shared"]:
        flags += ["--embedding-column", columns["query"]]
    else:
        flags += ["--query-column", columns["query"], "--positive-column", columns["positive"]]
    for flag, name in (
        ("--id-column", columns["id"]),
        ("--task-column", columns["task"]),
        ("--dtype", settings["dtype"]),
    ):
        flags += [flag, name] if name else []
    for name in columns["keys"]:
        flags += ["--key-column", name]
    search, _, recall = settings["search"].partition(", recall ")
    flags += ["--metric", settings["metric"], "--search", search] + (["--recall", recall] if recall else [])
    return flags + ["--skip", settings["skip"], "--window", settings["window"], "--edges", settings["edges"]]


# ---- the peers, each in a process of its own


def peer_process(folder, threads, **task):
    """(cost, labels) of one peer. The environment must be right before its libraries are loaded."""
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": str(threads)}
    task |= {"folder": str(folder), "threads": threads}
    command = [sys.executable, __file__, "--peer-child", json.dumps(task)]
    child = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if child.returncode:
        raise SystemExit(f"the peer's process failed (exit {child.returncode}): {task}")
    return json.loads(child.stdout.splitlines()[-1]), np.load(folder / "labels.npy")


def peer_child(folder, threads, program, parts, size, **options):
    folder = pathlib.Path(folder)
    prepare = {"metis": metis, "kaminpar": kaminpar, "kmeans": kmeans}[program]
    work = prepare(folder, threads, parts, size, **options)

    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak so far is not counted
    (loaded,) = status("self", "VmRSS")
    begin = time.process_time(), time.perf_counter()
    labels = work()
    end = time.process_time(), time.perf_counter()
    (peak,) = status("self", "VmHWM")
    np.save(folder / "labels.npy", np.asarray(labels, np.int64))
    return {
        "wall": end[1] - begin[1],
        "cpu": max(end[0] - begin[0], TICK),
        "peak": peak,
        "added": peak - loaded,
    }


def metis(folder, threads, parts, size, recursive, **options):
    import pymetis

    starts, others, weights = (
        np.load(folder / f"{name}.npy").astype(pymetis.zero_copy_dtype()) for name in ("starts", "others", "weights")
    )
    graph = pymetis.CSRAdjacency(starts, others)
    options = pymetis.Options(**options)
    return lambda: (
        pymetis.part_graph(
            parts, graph, eweights=weights, recursive=recursive, options=options, warn_on_copies=True
        ).vertex_part
    )


def kaminpar(folder, threads, parts, size, context, eps):
    import kaminpar

    kaminpar.reseed(0)
    solver = kaminpar.KaMinPar(threads, kaminpar.context_by_name(context))
    graph = kaminpar.load_graph(str(folder / "graph.parhip"), kaminpar.GraphFileFormat.PARHIP)
    return lambda: solver.compute_partition(graph, parts, eps)


def kmeans(folder, threads, parts, size):
    """Spherical k-means of the positives by FAISS. Then every row asks the nearest centre that has not yet
    turned it away; a full centre keeps those nearest to it that asked first."""
    import faiss

    faiss.omp_set_num_threads(threads)
    base = np.load(folder / "positives.npy")

    def work():
        model = faiss.Kmeans(
            base.shape[1], parts, niter=ROUNDS, spherical=True, seed=1, min_points_per_centroid=1,
            max_points_per_centroid=1 << 30,
        )  # fmt: skip
        model.train(base)
        scores, near = model.index.search(base, min(NEAREST, parts))
        labels, room = np.full(len(base), -1), np.full(parts, size)
        for rank in range(near.shape[1]):
            rows = np.flatnonzero(labels < 0)
            centres = near[rows, rank]
            order = np.lexsort((-scores[rows, rank], centres))
            rows, centres = rows[order], centres[order]
            taken = place(centres) < room[centres]
            labels[rows[taken]] = centres[taken]
            room -= np.bincount(centres[taken], minlength=parts)
        return labels

    return work


def write_parhip(file, starts, others, weights):
    """KaMinPar's Python API takes files only. Its binary format: ids and weights of 32 bits, offsets of 64."""
    with open(file, "wb") as out:
        rows, arcs = len(starts) - 1, len(others)
        np.array([32 | 8 | 2, rows, arcs], np.uint64).tofile(out)
        (24 + 8 * (rows + 1) + 4 * starts).astype(np.uint64).tofile(out)
        others.astype(np.uint32).tofile(out)
        weights.astype(np.uint32).tofile(out)


# ---- exact sizes


def place(labels):
    """The number of each element among those of its label; labels are sorted."""
    starts = np.flatnonzero(np.diff(labels, prepend=-1))
    return np.arange(len(labels)) - np.repeat(starts, np.diff(np.append(starts, len(labels))))


def fixed_up(labels, size, graph, codes=None):
    """Clusters of exactly `size`, but one for the rest, by one rule for all. The largest clusters stay. Of one
    that is too large the rows with the least connection to it leave. Then all rows without a cluster, in
    order, go to the cluster with room that they are most connected to; at last, anywhere. With codes, of rows
    with one code all but the best connected leave their cluster too, and none goes to one that has its code,
    unless all with room have."""
    starts, others, weights = graph
    rows = len(labels)
    parts = -(-rows // size)
    counts = np.bincount(labels[labels >= 0], minlength=parts)
    names = np.full(len(counts) + 1, -1)  # the last one is for rows without a cluster
    names[np.argsort(-counts, kind="stable")[:parts]] = np.arange(parts)
    labels = names[labels]
    room = np.full(parts, size)
    room[-1] = rows - size * (parts - 1)

    sources = np.repeat(np.arange(rows), np.diff(starts))
    inside = labels[sources] == labels[others]
    own = np.bincount(sources[inside], weights[inside], rows)
    held = [set() for _ in range(parts)]  # codes in each cluster
    if codes is None:
        codes = np.full(rows, NONE)
    else:
        order = np.flatnonzero((codes != NONE) & (labels >= 0))
        pairs = labels[order] * rows + codes[order]
        order = order[np.lexsort((-own[order], pairs))]
        labels[order[place(labels[order] * rows + codes[order]) > 0]] = -1
    order = np.lexsort((-own, labels))
    order = order[labels[order] >= 0]
    labels[order[place(labels[order]) >= room[labels[order]]]] = -1
    room -= np.bincount(labels[labels >= 0], minlength=parts)
    for row in np.flatnonzero((codes != NONE) & (labels >= 0)):
        held[labels[row]].add(codes[row])

    def put(row, label):
        labels[row] = label
        room[label] -= 1
        if codes[row] != NONE:
            held[label].add(codes[row])

    for row in np.flatnonzero(labels < 0):
        near = slice(starts[row], starts[row + 1])
        where = labels[others[near]]
        free = (where >= 0) & (room[where] > 0)
        if free.any():
            names, which = np.unique(where[free], return_inverse=True)
            for best in names[np.argsort(-np.bincount(which, weights[near][free]), kind="stable")]:
                if codes[row] not in held[best]:
                    put(row, best)
                    break
    for row in np.flatnonzero(labels < 0):
        free = np.flatnonzero(room)
        put(row, next((label for label in free if codes[row] not in held[label]), free[0]))
    return labels


# ---- figures


class Judge:
    """What clusters of one run's rows are worth."""

    def __init__(self, run, skip, size, graph):
        self.lists = list(lists(run))
        self.queries, self.positives = vectors(run, "queries"), vectors(run, "positives")
        self.query_scale, self.positive_scale, self.codes = rows_columns(run)
        self.skip, self.size = skip, size
        self.starts, self.others, self.weights = graph
        self.sources = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    def count(self, labels):
        """As batchmine counts it: directed pairs of all lists."""
        counts = dict.fromkeys(("window", "window_inside", "suspects", "suspects_inside", "queries_without"), 0)
        for first, ids in self.lists:
            own = labels[first : first + len(ids), None]
            there = ids != NONE
            inside = there & (own >= 0) & (labels[np.where(there, ids, 0)] == own)
            counts["suspects"] += int(there[:, : self.skip].sum())
            counts["suspects_inside"] += int(inside[:, : self.skip].sum())
            counts["window"] += int(there[:, self.skip :].sum())
            counts["window_inside"] += int(inside[:, self.skip :].sum())
            counts["queries_without"] += int((~inside[:, self.skip :].any(1)).sum())
        return counts

    def figures(self, labels):
        rows = len(labels)
        own = labels[self.sources]
        inside = (own >= 0) & (own == labels[self.others])
        counts = self.count(labels)
        sizes = np.bincount(labels[labels >= 0])
        return counts | {
            "weight_inside": float(self.weights[inside].sum() / self.weights.sum()),
            "hits_a_query": counts["window_inside"] / rows,
            "without": counts["queries_without"] / rows,
            "suspects_share": counts["suspects_inside"] / max(counts["suspects"], 1),
            "similarity": self.similarity(labels),
            "copies": self.copies(labels),
            "not_full": int((sizes != self.size).sum()),
            "left_out": int((labels < 0).sum()),
        }

    def similarity(self, labels):
        """Mean of x_i·y_j over random pairs of one cluster."""
        random = np.random.default_rng(0)
        order = np.argsort(labels, kind="stable")
        order = order[labels[order] >= 0]
        sizes = np.bincount(labels[order])
        starts = np.cumsum(sizes) - sizes
        rows = random.choice(order[sizes[labels[order]] > 1], SAMPLE)
        label, at = labels[rows], np.empty(len(labels), np.int64)
        at[order] = place(labels[order])
        step = random.integers(1, sizes[label])  # to another row of the cluster
        others = order[starts[label] + (at[rows] + step) % sizes[label]]
        total = 0.0
        for part in range(0, SAMPLE, 10_000):
            i, j = rows[part : part + 10_000], others[part : part + 10_000]
            products = np.einsum("nd,nd->n", self.queries[i].astype(np.float32), self.positives[j].astype(np.float32))
            total += float((products * self.query_scale[i] * self.positive_scale[j]).sum())
        return total / SAMPLE

    def copies(self, labels):
        """Share of rows that have a copy of their positive in their cluster."""
        rows = np.flatnonzero((labels >= 0) & (self.codes != NONE))
        pairs = labels[rows] * len(labels) + self.codes[rows]
        _, which, counts = np.unique(pairs, return_inverse=True, return_counts=True)
        return float((counts[which] > 1).sum() / len(labels))


def sizes_found(labels, size):
    """How far from exact a peer's own sizes are."""
    counts = np.bincount(labels[labels >= 0])
    counts = counts[counts > 0]
    return {"least": int(counts.min()), "most": int(counts.max()), "exact": float((counts == size).mean())}


COLUMNS = [
    ("clusters", "<", lambda r: r["name"]),
    ("weight inside %", ">", lambda r: f"{100 * r['weight_inside']:.2f}"),
    ("hits a query", ">", lambda r: f"{r['hits_a_query']:.2f}"),
    ("without %", ">", lambda r: f"{100 * r['without']:.2f}"),
    ("suspects inside %", ">", lambda r: f"{100 * r['suspects_share']:.2f}"),
    ("similarity", ">", lambda r: f"{r['similarity']:.3f}"),
    ("copies %", ">", lambda r: f"{100 * r['copies']:.2f}"),
    ("own sizes", ">", lambda r: f"{r['own_sizes']['least']}–{r['own_sizes']['most']}"),
    ("moved %", ">", lambda r: f"{100 * r['moved']:.2f}"),
    ("left out", ">", lambda r: f"{r['left_out']:,}"),
    ("wall s", ">", lambda r: f"{r['wall']:.2f}" if "wall" in r else ""),
    ("CPU s", ">", lambda r: f"{r['cpu']:.2f}" if "cpu" in r else ""),
    ("peak MiB", ">", lambda r: f"{r['peak']:.0f}" if "peak" in r else ""),
    ("added MiB", ">", lambda r: f"{r['added']:.1f}" if "added" in r else ""),
]


def table(results):
    cells = [[head for head, _, _ in COLUMNS]] + [[cell(result) for _, _, cell in COLUMNS] for result in results]
    widths = [max(len(row[column]) for row in cells) for column in range(len(COLUMNS))]

    def line(row):
        return (
            "| " + " | ".join(f"{word:{how}{width}}" for word, (_, how, _), width in zip(row, COLUMNS, widths)) + " |"
        )

    rule = "|".join(
        "-" * (width + 2) if how == "<" else "-" * (width + 1) + ":" for (_, how, _), width in zip(COLUMNS, widths)
    )
    return "\n".join([line(cells[0]), f"|{rule}|"] + [line(row) for row in cells[1:]])


def plot(file, results, title):
    """Weight inside against suspects inside: further up and further left is better."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "batchmine"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    points = {result["name"]: (100 * result["suspects_share"], 100 * result["weight_inside"]) for result in results}
    ours = sorted((result["weight"], points[result["name"]]) for result in results if "weight" in result)
    axes.plot(*zip(*(point for _, point in ours)), "o-", color="C0", label="batchmine, by λ", zorder=3)
    for weight, point in ours:
        axes.annotate(f"{weight:g}", point, (4, -11), textcoords="offset points", color="C0", fontsize=8)
    theirs = [result["name"] for result in results if "weight" not in result]
    for number, name in enumerate(theirs):
        axes.plot(*points[name], "sD^vPXd"[number % 7], color=f"C{number + 1}", label=name)
    axes.set(xlabel="suspects inside, %", ylabel="weight inside, %", title=title)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(file, metadata={"Date": None})


def processor():
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


# ---- comparison


def log(text):
    print(text, file=sys.stderr, flush=True)


def median(costs):
    return {name: statistics.median(cost[name] for cost in costs) for name in costs[0]}


def compare(args, folder):
    run, size = folder / "run", args.cluster_size
    if (args.data[0] / "manifest.json").exists():
        flags = flags_of(args.data[0])
        shutil.copytree(args.data[0], run)
    else:
        flags = [*args.data, "--skip", args.skip, "--window", args.window, "--edges", "any"]
    log("mining")
    # Without passes, so that every measured call below has its clusters still to make.
    mine(args, flags, run, args.suspect_weight[0], 0)

    stages = json.loads((run / "manifest.json").read_text())["stages"]
    facts, settings = stages["vectors"]["facts"], stages["edges"]["settings"]
    rows, skip = facts["rows"], settings["skip"]
    if facts["tasks"] > 1 or facts["shared"]:
        raise SystemExit("the peers know no tasks, and need two sides: mine one task of pairs")
    starts, others, kinds = edges(run)
    sources = np.repeat(np.arange(rows), np.diff(starts))
    codes, due = implied(run, rows, skip, settings["edges"])
    if not (np.array_equal(codes, sources * rows + others) and np.array_equal(due, kinds)):
        raise SystemExit("the edges are not those that the lists imply")
    del codes, due

    # The peers get the edges with their weights, and no suspects: they cannot take negative weights.
    weights = kinds // 3
    keep = weights > 0
    degrees = np.bincount(sources[keep], minlength=rows)
    graph = np.concatenate([[0], np.cumsum(degrees)]), others[keep], weights[keep].astype(np.int64)
    for name, part in zip(("starts", "others", "weights"), graph):
        np.save(folder / f"{name}.npy", part)
    write_parhip(folder / "graph.parhip", *graph)
    judge = Judge(run, skip, size, graph)
    unit = judge.positives.astype(np.float32) * judge.positive_scale[:, None].astype(np.float32)
    np.save(folder / "positives.npy", unit)
    del sources, kinds, weights, keep, unit

    parts = -(-rows // size)
    tool = subprocess.run([str(args.batchmine), "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
    about = {
        "rows": rows,
        "skip": skip,
        "window": settings["window"],
        "edges": settings["edges"],
        "cluster_size": size,
        "cluster_passes": args.cluster_passes,
        "batch_size": args.batch_size,
        "threads": args.threads,
        "runs": args.runs,
        "keys": args.keys,
        "arcs": len(others),
        "edges_of_peers": len(graph[1]) // 2,
        "processor": processor(),
        "versions": {"batchmine": tool.split()[-1]}
        | {name: version(name) for name in ("pymetis", "kaminpar", "faiss-cpu", "numpy")},
    }

    def result(name, labels, costs, found, moved, **more):
        figures = judge.figures(labels)
        cost = median(costs) if costs else {}
        log(f"{name}: {100 * figures['weight_inside']:.2f} % inside, {cost.get('wall', 0):.2f} s")
        return {"name": name, **more, **figures, **cost, "own_sizes": sizes_found(found, size), "moved": moved}

    results = []
    for name in args.peers:
        task = PEERS[name]
        if task["program"] == "random":
            costs, found = [], np.empty(rows, np.int64)
            found[np.random.default_rng(0).permutation(rows)] = np.arange(rows) // size
        else:
            costs = []
            for _ in range(args.runs):
                cost, found = peer_process(folder, args.threads, parts=parts, size=size, **task)
                costs.append(cost)
        labels = fixed_up(found, size, graph, judge.codes.astype(np.int64) if args.keys else None)
        if not np.array_equal(np.sort(np.bincount(labels))[1:], np.full(parts - 1, size)):
            raise SystemExit(f"{name}: sizes are not exact after the fix-up")
        results.append(result(name, labels, costs, found, moved_rows(found, labels)))
    for weight in args.suspect_weight:
        costs = []
        for _ in range(args.runs):
            mine(args, flags, run, weight, 0)
            cost, counted = mine(args, flags, run, weight, args.cluster_passes)
            costs.append(cost)
        labels = clusters(run)
        counts = judge.count(labels)
        if counts != {name: counted["metrics"][name] for name in counts}:
            raise SystemExit(f"batchmine counted {counted['metrics']}, this script {counts}")
        results.append(result(f"batchmine, λ {weight:g}", labels, costs, labels, 0.0, weight=weight))

    print(
        f"{rows:,} rows, p = {skip}, m = {settings['window']}, `{settings['edges']}`: {about['edges_of_peers']:,} edges; "
        f"K = {size}, {args.threads} threads of {about['processor']}"
    )
    print(", ".join(f"{name} {number}" for name, number in about["versions"].items()) + "\n")
    print(table(results))
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(about | {"results": results}, indent=1) + "\n")
    if args.plot:
        plot(args.plot, results, f"{rows:,} rows, clusters of {size}")
    return 0


def moved_rows(before, after):
    """Share of rows that are not where their cluster's most rows are, or had none."""
    placed = np.flatnonzero(before >= 0)
    pairs, counts = np.unique(before[placed] * len(before) + after[placed], return_counts=True)
    most = np.zeros(int(before.max()) + 1, np.int64)
    np.maximum.at(most, pairs // len(before), counts)
    return 1 - float(most.sum()) / len(before)


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


def main():
    if sys.argv[1:2] == ["--peer-child"]:
        print(json.dumps(peer_child(**json.loads(sys.argv[2]))))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", metavar="RUN_OR_DATA", nargs="+", type=pathlib.Path, help="a run folder, or Parquet")
    release = ROOT / "target/release/batchmine"
    parser.add_argument("--batchmine", metavar="PATH", type=pathlib.Path, default=release, help="release binary")
    parser.add_argument("--skip", type=int, default=30, help="p (default 30; a run folder has its own)")
    parser.add_argument("--window", type=positive, default=100, help="m (default 100; a run folder has its own)")
    parser.add_argument("--cluster-size", metavar="K", type=positive, default=32, help="rows a cluster (default 32)")
    parser.add_argument("--cluster-passes", metavar="N", type=positive, default=8, help="batchmine's (default 8)")
    parser.add_argument("--batch-size", type=positive, default=1024, help="batchmine's (default 1024)")
    weights = [0, 0.25, 0.5, 1, 2]
    parser.add_argument(
        "--suspect-weight", metavar="λ", type=not_negative, nargs="+", default=weights, help="default 0 .25 .5 1 2"
    )
    fast = [name for name in PEERS if name not in SLOW]
    help = f"default all but {', '.join(SLOW)}"
    parser.add_argument("--peers", metavar="NAME", nargs="*", default=fast, choices=PEERS, help=help)
    parser.add_argument("--keys", action="store_true", help="the fix-up keeps copies apart, as batchmine does")
    parser.add_argument("--threads", type=positive, default=2, help="threads of all but METIS (default 2)")
    parser.add_argument("--runs", type=positive, default=1, help="runs of each; costs are medians (default 1)")
    result = ROOT / "target/compare/clusters.json"
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path, default=result, help="all figures")
    parser.add_argument("--plot", metavar="FILE", type=pathlib.Path, help="an SVG of the frontier")
    args = parser.parse_args()
    if not args.batchmine.exists():
        parser.error(f"{args.batchmine} is not there: cargo build --release, or --batchmine PATH")
    with tempfile.TemporaryDirectory(prefix="batchmine-compare-") as folder:
        return compare(args, pathlib.Path(folder))


if __name__ == "__main__":
    sys.exit(main())

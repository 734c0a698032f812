"""METIS, KaMinPar and balanced k-means, each in a process of its own; and one rule to make sizes exact."""

import pathlib
import time

import numpy as np
from process import TICK, ask, status
from run_files import NONE

ROUNDS, NEAREST = 10, 32  # of k-means: iterations, and centres that a row may go to

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


# ---- the peers


def save_graph(folder, graph):
    """The graph as `peer_process` finds it: (starts, others, weights), each edge from both ends."""
    for name, part in zip(("starts", "others", "weights"), graph):
        np.save(folder / f"{name}.npy", part)


def peer_process(folder, threads, **task):
    """(cost, labels) of one peer, by `peer_child` in a process of its own."""
    cost = ask("--peer-child", "the peer's process", folder, threads, **task)
    return cost, np.load(folder / "labels.npy")


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


def sizes_found(labels, size):
    """How far from exact a peer's own sizes are."""
    counts = np.bincount(labels[labels >= 0])
    counts = counts[counts > 0]
    return {"least": int(counts.min()), "most": int(counts.max()), "exact": float((counts == size).mean())}


def moved_rows(before, after):
    """Share of rows that are not where their cluster's most rows are, or had none."""
    placed = np.flatnonzero(before >= 0)
    pairs, counts = np.unique(before[placed] * len(before) + after[placed], return_counts=True)
    most = np.zeros(int(before.max()) + 1, np.int64)
    np.maximum.at(most, pairs // len(before), counts)
    return 1 - float(most.sum()) / len(before)

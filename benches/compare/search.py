#!/usr/bin/env python3
"""Exact search: batchmine beside faiss-cpu's IndexFlatIP. Same vectors, same k, same threads, in turn.

    pip install -r benches/compare/requirements.txt
    cargo build --release
    python benches/compare/search.py DATA...

DATA are Parquet files, or folders of them, with `query_embedding` and `positive_embedding`. README.md
beside this file says what is counted on either side. Exits with 1 if any checked list differs.
"""

import ctypes
import os
import pathlib
import shutil
import sys
import time

import numpy as np
from pairs import CHUNK, jittered, read, unit, write
from process import TICK, answered, ask, compared, median, mine, parser_of, positive, processor, version_line
from run_files import NONE, lists, order

SAMPLE = 2_000  # rows whose lists are compared
TOLERANCE = 2e-6  # scores this close are a tie: what f32 sums of one product in two orders differ by
BATCHES = [512, 1024, 2048, 4096, 8192]  # queries a call that FAISS is tried with; it blocks by 4,096 itself
TRIAL_BASE = 65_536  # rows in the index of those trials


# ---- data


def save_unit(file, vectors):
    """The unit vectors for FAISS, so that each of its processes only has to load them."""
    out = np.lib.format.open_memmap(file, "w+", np.float32, vectors.shape)
    for start in range(0, len(vectors), CHUNK):
        out[start : start + CHUNK] = unit(vectors[start : start + CHUNK])
    out.flush()


def copies(positives, sample):
    """For each sampled row, all rows with its positive, bit by bit: itself and its copies."""
    rows = np.ascontiguousarray(positives)
    codes = np.fromiter((hash(row.tobytes()) for row in rows), np.int64, len(rows))
    order = np.argsort(codes, kind="stable")
    low, high = (np.searchsorted(codes[order], codes[sample], side) for side in ("left", "right"))
    return [order[a:b] for a, b in zip(low, high)]


# ---- batchmine


def batchmine(data, out, args):
    """The cost of the neighbors stage of one whole job in a fresh run folder."""
    flags = [*data, "--out", out, "--threads", args.threads, "--skip", args.skip, "--window", args.window]
    # Lists leave out the copies of a positive alone, as FAISS's lists do once `agree` is done with them.
    return mine(args.batchmine, [*flags, "--cluster-passes", 1, "--same-query", "allow"], "neighbors")[0]


def neighbour_lists(run, sample):
    """(ids, scores) of the sampled rows."""
    rows = order(run)
    places = np.argsort(rows)[sample]
    found = {}
    for first, ids, scores in lists(run):
        for at in places[(places >= first) & (places < first + len(ids))].tolist():
            there = ids[at - first] != NONE
            found[at] = rows[ids[at - first, there]], scores[at - first, there]
    return [found[at] for at in places.tolist()]


# ---- FAISS


def faiss_process(folder, threads, **task):
    """What `faiss_child` returns, in a process of its own."""
    return ask("--faiss-child", "the FAISS process", folder, threads, **task)


def faiss_child(folder, threads, k, batch=None):
    import faiss

    folder = pathlib.Path(folder)
    faiss.omp_set_num_threads(threads)
    queries, base = np.load(folder / "queries.npy"), np.load(folder / "positives.npy")
    if batch is None:
        return {"about": about_faiss(faiss), "batch": best_batch(faiss, queries, base, k)}

    sample, deep = np.load(folder / "sample.npy"), np.load(folder / "deep.npy")
    ids = np.full((len(sample), int(deep.max())), -1)
    scores = np.zeros(ids.shape, np.float32)

    begin = os.times(), time.perf_counter()
    index = faiss.IndexFlatIP(base.shape[1])
    index.add(base)
    for start in range(0, len(queries), batch):
        found, which = index.search(queries[start : start + batch], k)
        low, high = np.searchsorted(sample, [start, start + len(found)])
        scores[low:high, :k], ids[low:high, :k] = found[sample[low:high] - start], which[sample[low:high] - start]
    end = os.times(), time.perf_counter()

    # Rows with copies need more than k for k to be left. That part is not timed.
    more = np.flatnonzero(deep > k)
    if len(more):
        scores[more], ids[more] = index.search(queries[sample[more]], ids.shape[1])
    np.save(folder / "faiss-ids.npy", ids)
    np.save(folder / "faiss-scores.npy", scores)
    return {
        "wall": end[1] - begin[1],
        "cpu": max(end[0].user + end[0].system - begin[0].user - begin[0].system, TICK),
    }


def best_batch(faiss, queries, base, k):
    """The number of queries a call that takes FAISS the least CPU time, tried on part of the rows."""
    index = faiss.IndexFlatIP(base.shape[1])
    index.add(base[:TRIAL_BASE])
    queries = queries[: max(BATCHES)]

    def seconds(batch):
        begin = time.process_time()
        for start in range(0, len(queries), batch):
            index.search(queries[start : start + batch], k)
        return time.process_time() - begin

    seconds(max(BATCHES))  # warm
    # Sizes above the rows there are would all be the same one call.
    sizes = [batch for batch in BATCHES if batch < len(queries)] + [len(queries)]
    return min(sizes, key=lambda batch: min(seconds(batch) for _ in range(2)))


def about_faiss(faiss):
    """Version, instruction set, and the BLAS that the process has loaded beside numpy's own."""
    words = [f"faiss {faiss.__version__} ({faiss.get_compile_options().strip()})"]
    lines = pathlib.Path("/proc/self/maps").read_text().splitlines()
    mapped = {line.split()[-1] for line in lines if "blas" in line and "numpy" not in line}
    for library in sorted(mapped):
        words.append(pathlib.Path(library).name)
        try:
            core = ctypes.CDLL(library).openblas_get_corename
        except AttributeError:
            continue
        core.restype = ctypes.c_char_p
        words.append(f"core {core().decode()}")
    return ", ".join(words)


# ---- comparison


def agree(folder, run, sample, same, k):
    """How many of the sampled rows have the same list but for ties, the same list, and the same ids in
    whatever order. Prints the first that differs."""
    queries, positives = (np.load(folder / name, mmap_mode="r") for name in ("queries.npy", "positives.npy"))
    all_ids, all_scores = np.load(folder / "faiss-ids.npy"), np.load(folder / "faiss-scores.npy")
    agreeing = equal = together = 0
    differs = None
    own = neighbour_lists(run, sample)
    for row, (ids, scores), mates, other, others in zip(sample, own, same, all_ids, all_scores):
        keep = np.flatnonzero((other >= 0) & ~np.isin(other, mates))[:k]
        other, others = other[keep], others[keep]
        # A list of distinct valid rows, with their true scores, in order, whose score at each rank is
        # FAISS's: then it can differ from FAISS's list in rows of equal score only.
        fault = (
            "lengths" if len(ids) != len(other)
            else "a row twice" if len(np.unique(ids)) != len(ids)
            else "itself or a copy" if np.isin(ids, mates).any()
            else "order" if (np.diff(scores) > 0).any()
            else "scores at some rank" if (np.abs(scores - others) > TOLERANCE).any()
            else "a score is not that row's" if (np.abs(positives[ids] @ queries[row] - scores) > TOLERANCE).any()
            else None
        )  # fmt: skip
        agreeing += fault is None
        equal += np.array_equal(ids, other)
        together += set(ids.tolist()) == set(other.tolist())
        if fault and not differs:
            differs = f"row {row} differs ({fault}):\n  batchmine {ids.tolist()}\n  faiss     {other.tolist()}"
    if differs:
        print(differs)
    return agreeing, equal, together


def compare(args, folder):
    data = args.data
    sides = read(data, args.limit_rows)
    if args.jitter_rows is not None:
        data = [folder / "jittered"]
        write(data[0], jittered(sides, args.jitter_rows))
        sides = read(data, None)
    elif args.limit_rows is not None:
        data = [folder / "limited"]
        write(data[0], [[side[a : a + CHUNK] for side in sides] for a in range(0, len(sides[0]), CHUNK)])
    rows, dim = sides[0].shape

    # FAISS gives the row itself back too, so it is asked for one more.
    k = args.skip + args.window
    faiss_k = min(k + 1, rows)
    sample = np.sort(np.random.default_rng(0).choice(rows, min(SAMPLE, rows), replace=False))
    same = copies(sides[1], sample)
    np.save(folder / "sample.npy", sample)
    np.save(folder / "deep.npy", [min(k + len(mates), rows) for mates in same])
    for name, side in zip(("queries", "positives"), sides):
        save_unit(folder / f"{name}.npy", side)
    del sides

    version = version_line(args.batchmine)
    trial = faiss_process(folder, args.threads, k=faiss_k)
    print(f"{rows:,} rows x {dim}, k = {k}, {args.threads} threads of {processor()}")
    print(f"{version}; {trial['about']}; {trial['batch']:,} queries a call\n")

    print("        batchmine            faiss                faiss / batchmine")
    print("run     wall s     CPU s     wall s     CPU s       wall       CPU")

    def line(name, ours, theirs):
        numbers = "".join(f"{number:10.2f} " for cost in (ours, theirs) for number in (cost["wall"], cost["cpu"]))
        print(f"{name:6}{numbers} {theirs['wall'] / ours['wall']:9.2f} {theirs['cpu'] / ours['cpu']:9.2f}", flush=True)

    ours, theirs = [], []
    out = folder / "run"
    for number in range(1, args.runs + 1):
        shutil.rmtree(out, ignore_errors=True)
        ours.append(batchmine(data, out, args))
        theirs.append(faiss_process(folder, args.threads, k=faiss_k, batch=trial["batch"]))
        line(str(number), ours[-1], theirs[-1])
    ours, theirs = median(ours), median(theirs)
    line("median", ours, theirs)

    work = 2 * rows * rows * dim / 1e9
    print(f"\nGOP/s per CPU second: batchmine {work / ours['cpu']:.1f}, faiss {work / theirs['cpu']:.1f}")
    agreeing, equal, together = agree(folder, out, sample, same, k)
    print(
        f"ids: {agreeing:,} of {len(sample):,} sampled rows agree ({100 * agreeing / len(sample):.2f} %) but for "
        f"ties (scores within {TOLERANCE:g}): {together:,} have the same ids, {equal:,} in the same order"
    )
    return 0 if agreeing == len(sample) else 1


def main():
    if answered("--faiss-child", faiss_child):
        return 0
    parser = parser_of(__doc__.splitlines()[0], "DATA", "Parquet files or folders of them")
    parser.add_argument("--skip", type=int, default=30, help="p (default 30)")
    parser.add_argument("--window", type=positive, default=100, help="m (default 100); k = p + m")
    parser.add_argument("--threads", type=positive, default=2, help="threads of either side (default 2)")
    parser.add_argument("--runs", type=positive, default=3, help="runs of either side (default 3)")
    parser.add_argument("--limit-rows", metavar="N", type=positive, help="use only the first N rows")
    parser.add_argument("--jitter-rows", metavar="N", type=positive, help="make N rows out of DATA's, see README.md")
    return compared(parser, compare)


if __name__ == "__main__":
    sys.exit(main())

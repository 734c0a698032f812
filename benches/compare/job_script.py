#!/usr/bin/env python3
"""The script that one would otherwise write: FAISS, METIS, and a Parquet file of batches.

    python job_script.py DATA... --out FILE [--skip 10] [--window 100] [--edges any] [--cluster-size 8] [--batch-size N]

The method is that of B3: the best p + m candidates of each query by exact search; a graph of ranks p to p + m; METIS's
clusters of about K rows; batches of random clusters. DATA have the columns query_embedding, positive_embedding and,
maybe, id. Everything is in memory. It is short on purpose: no resume, no keys, no check of what it reads.
"""

import argparse
import pathlib

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pymetis

SEARCHED = 4096  # queries a call; FAISS blocks by as many itself


def inputs(paths):
    for path in map(pathlib.Path, paths):
        yield from sorted(path.glob("*.parquet")) if path.is_dir() else [path]


def unit(column):
    """A column of vectors as float32 of length 1."""
    chunks = [chunk.flatten().to_numpy().reshape(len(chunk), -1).astype(np.float32) for chunk in column.chunks]
    vectors = np.concatenate(chunks)
    faiss.normalize_L2(vectors)
    return vectors


def read(paths):
    names = ["query_embedding", "positive_embedding"]
    files = list(inputs(paths))
    ids = ["id"] if all("id" in pq.read_schema(file).names for file in files) else []
    table = pa.concat_tables([pq.read_table(file, columns=names + ids) for file in files])
    rows = pa.array(np.arange(len(table))) if not ids else table["id"]
    return unit(table[names[0]]), unit(table[names[1]]), rows


def candidates(queries, base, ranks):
    """The best other rows of each query. -1 beyond the end of a list."""
    index = faiss.IndexFlatIP(base.shape[1])
    index.add(base)
    found = np.empty((len(queries), ranks), np.int32)
    for start in range(0, len(queries), SEARCHED):
        _, ids = index.search(queries[start : start + SEARCHED], min(ranks + 1, len(base)))
        rows = np.arange(start, start + len(ids))[:, None]
        # The row itself goes; if it is not among its own best, the last one goes.
        own = ids == rows
        own[~own.any(1), -1] = True
        kept = ids[~own].reshape(len(ids), -1)
        found[start : start + len(ids), : kept.shape[1]] = kept
        found[start : start + len(ids), kept.shape[1] :] = -1
    return found


def graph(window, rule):
    """(starts, others, weights): an edge's weight is in how many directions it was found, 1 or 2."""
    rows, width = window.shape
    sources = np.repeat(np.arange(rows, dtype=np.int64), width)
    others = window.ravel().astype(np.int64)
    sources, others = sources[others >= 0], others[others >= 0]
    codes = np.concatenate([sources * rows + others, others * rows + sources])
    del sources, others
    codes, weights = np.unique(codes, return_counts=True)
    if rule == "mutual":
        codes, weights = codes[weights == 2], weights[weights == 2]
    starts = np.searchsorted(codes, np.arange(rows + 1) * rows)
    return starts, codes % rows, weights


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+")
    parser.add_argument("--out", required=True)
    parser.add_argument("--labels", help="also write the clusters, .npy")
    parser.add_argument("--skip", type=int, default=10)
    parser.add_argument("--window", type=int, default=100)
    parser.add_argument("--edges", choices=["any", "mutual"], default="any")
    parser.add_argument("--cluster-size", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    faiss.omp_set_num_threads(args.threads)
    queries, base, ids = read(args.data)
    found = candidates(queries, base, args.skip + args.window)
    rows = len(queries)
    del queries, base
    starts, others, weights = graph(found[:, args.skip :], args.edges)
    del found
    kind = pymetis.zero_copy_dtype()
    adjacency = pymetis.CSRAdjacency(starts.astype(kind), others.astype(kind))
    parts = -(-rows // args.cluster_size)
    labels = pymetis.part_graph(parts, adjacency, eweights=weights.astype(kind), recursive=False).vertex_part
    labels = np.asarray(labels, np.int64)

    # Clusters in random order, one after the other, cut into batches.
    place = np.random.default_rng(0).permutation(parts)[labels]
    order = np.argsort(place, kind="stable")
    batches = np.arange(rows) // args.batch_size
    table = pa.table({"batch_id": batches, "id": ids.take(pa.array(order)), "cluster_id": labels[order]})
    pq.write_table(table, args.out)
    if args.labels:
        np.save(args.labels, np.stack([labels, batches[np.argsort(order)]]))


if __name__ == "__main__":
    main()

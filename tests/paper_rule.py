"""The paper's rule for retrieval, by numpy: `python paper_rule.py DATA P M` reads what `batchmine inspect RUN --json`
prints of all rows of a run with mutual edges from stdin, and compares rank windows and edges, pair by pair.

Every query ranks the positives of its task. Left out are its own and those of rows that have a vector in common with
it. Ranks P to P + M are its window; two rows that have each other in their windows share an edge (B3, arXiv
2505.11293, section 3).
"""

import json
import pathlib
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def vectors(table, name):
    """A column of half-precision lists as doubles of unit length, and a name for each distinct vector."""
    lists = table[name].combine_chunks()
    values = lists.flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1)
    names = np.unique(values.view(np.uint16) if values.dtype == np.float16 else values, axis=0, return_inverse=True)[1]
    values = values.astype(np.float64)
    return values / np.linalg.norm(values, axis=1, keepdims=True), names.ravel()


def main():
    folder, skip, window = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    table = pa.concat_tables([pq.read_table(file) for file in sorted(folder.glob("*.parquet"))])
    (queries, same_query), (positives, same_positive) = (
        vectors(table, f"{side}_embedding") for side in ("query", "positive")
    )
    tasks = np.array(table["dataset"].to_pylist())
    scores = (queries @ positives.T).astype(np.float32)
    may = tasks[:, None] == tasks
    may &= (same_query[:, None] != same_query) & (same_positive[:, None] != same_positive)
    # By score, and by row where scores are equal; doubles are summed in another order, so near ties may swap.
    order = np.lexsort((np.broadcast_to(np.arange(len(table)), scores.shape), -np.where(may, scores, -np.inf)))
    in_window = np.zeros(scores.shape, bool)
    for row, ranked in enumerate(order):
        in_window[row, ranked[: may[row].sum()][skip : skip + window]] = True
    edges = in_window & in_window.T
    found_window, found_edges = np.zeros_like(in_window), np.zeros_like(edges)
    for line in map(json.loads, sys.stdin):
        start, end = line["window"]
        found_window[line["row"], [other["row"] for other in line["neighbors"][start:end]]] = True
        found_edges[line["row"], [other["row"] for other in line["arcs"]]] = True
    print(
        f"{in_window.sum()} pairs in windows, {(in_window != found_window).sum()} differ; "
        f"{edges.sum()} mutual edges, {(edges != found_edges).sum()} differ"
    )


main()

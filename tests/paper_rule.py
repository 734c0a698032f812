"""The paper's rule, by numpy: `python paper_rule.py DATA P M` reads what `batchmine inspect RUN --json` prints of all
rows of a run with mutual edges from stdin, and compares rank windows and edges, pair by pair.

For retrieval every query ranks the positives of its task. Left out are its own and those of rows that have a vector
in common with it. Ranks P to P + M are its window; two rows that have each other in their windows share an edge (B3,
arXiv 2505.11293, section 3).

`python paper_rule.py --classes DATA OUT` writes a labelled set: the section of a row is its class, and the mean of the
section's positives the positive of all its rows. Of this, with M such as 30%, a query ranks the classes but its own;
the first 30 % of these others are its window, which leads to the rows that have them. A row of batchmine's has an edge
to one of these rows, its carrier: so its edges are some of the paper's, and all whose carriers follow from numbers.
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


def read(folder):
    return pa.concat_tables([pq.read_table(file) for file in sorted(pathlib.Path(folder).glob("*.parquet"))])


def write_classes(folder, out):
    """A set in which rows of one section have one positive."""
    table = read(folder)
    sections = table["dataset"].to_numpy(zero_copy_only=False)
    positives = vectors(table, "positive_embedding")[0]
    for section in set(sections):
        positives[sections == section] = positives[sections == section].mean(axis=0)
    flat = pa.array(positives.astype(np.float32).ravel())
    lists = pa.FixedSizeListArray.from_arrays(flat, positives.shape[1])
    columns = {"id": table["id"], "dataset": table["dataset"], "query_embedding": table["query_embedding"]}
    pathlib.Path(out).mkdir()
    pq.write_table(pa.table(columns | {"positive_embedding": lists}), pathlib.Path(out) / "classes.parquet")


def main():
    if sys.argv[1] == "--classes":
        return write_classes(*sys.argv[2:])
    table, skip, window = read(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    if window.endswith("%"):
        return of_classes(table, skip, float(window[:-1]) / 100)
    return of_rows(table, skip, int(window))


def of_classes(table, skip, share):
    queries, positives = (vectors(table, f"{side}_embedding")[0] for side in ("query", "positive"))
    names, first, of_row, sizes = np.unique(
        table["dataset"].to_numpy(zero_copy_only=False), return_index=True, return_inverse=True, return_counts=True
    )
    scores = (queries @ positives[first].T).astype(np.float32)
    scores[np.arange(len(table)), of_row] = -np.inf
    # Classes by score; where scores are equal, by their first rows.
    order = np.lexsort((np.broadcast_to(first, scores.shape), -scores))[:, : len(names) - 1]
    width = int(np.ceil(share * (len(names) - 1)))
    wanted = np.zeros(scores.shape, bool)
    np.put_along_axis(wanted, order[:, skip : skip + width], True, axis=1)
    number = np.zeros(len(table), int)
    for name in range(len(names)):
        number[of_row == name] = np.arange(sizes[name])
    pairs = wanted[:, of_row]  # (query, row with a class of its window)
    mutual = pairs & pairs.T
    # The row of this number: it goes round where the other class has fewer rows. Of larger classes it is not known.
    size = sizes[of_row]
    known = (size[None, :] <= size[:, None]) & (number[:, None] % size[None, :] == number[None, :])
    found, edges = np.zeros_like(wanted), np.zeros_like(pairs)
    for line in map(json.loads, sys.stdin):
        start, end = line["window"]
        found[line["row"], of_row[[other["row"] for other in line["neighbors"][start:end]]]] = True
        edges[line["row"], [other["row"] for other in line["arcs"]]] = True
    missing = mutual & known & known.T & ~edges
    print(
        f"{wanted.sum()} classes in windows, {(wanted != found).sum()} differ; {edges.sum()} of {mutual.sum()} mutual "
        f"pairs are edges, {(edges & ~mutual).sum()} others are, {missing.sum()} are missing"
    )


def of_rows(table, skip, window):
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

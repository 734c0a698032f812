#!/usr/bin/env python3
"""Clusters: batchmine beside METIS, KaMinPar, balanced k-means and chance. Same graph, same exact sizes.

    pip install -r benches/compare/requirements.txt
    cargo build --release
    python benches/compare/clusters.py DATA... [--cluster-size 32] [--suspect-weight 0 0.5 1]

DATA are Parquet files, or folders of them; or one run folder of `batchmine mine`, which is copied and left as
it is. README.md beside this file says what is counted. Exits with 1 if a file of the run is not what
docs/formats.md says, or if batchmine counted otherwise.
"""

import json
import pathlib
import shutil
import sys
from importlib.metadata import version

import numpy as np
from pairs import jittered, read, write
from partitioners import (
    PEERS, SLOW, fixed_up, moved_rows, peer_child, peer_process, place, save_graph, sizes_found, write_parhip
)  # fmt: skip
from process import ROOT, answered, compared, median, mine, not_negative, parser_of, positive, processor, version_line
from run_files import NONE, clusters, edges, implied, lists, order, rows_columns, vectors, without_suspects

SAMPLE = 200_000  # pairs of one cluster whose similarity is averaged


# ---- batchmine


def redo(args, flags, out, weight, passes):
    """Cost and facts of the clusters stage, None if it was there; stages before it are made if they must."""
    flags = [*flags, "--out", out, "--replace", "--threads", args.threads, "--cluster-size", args.cluster_size]
    flags += ["--batch-size", args.batch_size, "--suspect-weight", weight, "--cluster-passes", passes]
    return mine(args.batchmine, flags, "clusters", may_skip=True)


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
    flags = [file["path"] for file in manifest["inputs"]]
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


# ---- figures


class Judge:
    """What clusters of one run's rows are worth. Rows are known by their places, as in lists and edges."""

    def __init__(self, run, skip, size, graph):
        self.lists = [(first, ids) for first, ids, _ in lists(run)]
        self.order = order(run)
        self.queries, self.positives = vectors(run, "queries")[self.order], vectors(run, "positives")[self.order]
        self.query_scale, self.positive_scale, self.codes = (column[self.order] for column in rows_columns(run))
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


# ---- comparison


def log(text):
    print(text, file=sys.stderr, flush=True)


def compare(args, folder):
    run, size = folder / "run", args.cluster_size
    if (args.data[0] / "manifest.json").exists():
        flags = flags_of(args.data[0])
        shutil.copytree(args.data[0], run)
    else:
        data = args.data
        if args.jitter_rows is not None:
            data = [folder / "jittered"]
            write(data[0], jittered(read(args.data, None), args.jitter_rows))
        flags = [*data, "--skip", args.skip, "--window", args.window, "--edges", "any"]
    log("mining")
    # Without passes, so that every measured call below has its clusters still to make.
    redo(args, flags, run, args.suspect_weight[0], 0)

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
    graph = without_suspects(starts, others, kinds)
    save_graph(folder, graph)
    write_parhip(folder / "graph.parhip", *graph)
    judge = Judge(run, skip, size, graph)
    unit = judge.positives.astype(np.float32) * judge.positive_scale[:, None].astype(np.float32)
    np.save(folder / "positives.npy", unit)
    del sources, kinds, unit

    parts = -(-rows // size)
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
        "versions": {"batchmine": version_line(args.batchmine).split()[-1]}
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
            redo(args, flags, run, weight, 0)
            cost, counted = redo(args, flags, run, weight, args.cluster_passes)
            costs.append(cost)
        labels = clusters(run)[judge.order]
        counts = judge.count(labels)
        if counts != {name: counted["metrics"][name] for name in counts}:
            raise SystemExit(f"batchmine counted {counted['metrics']}, this script {counts}")
        results.append(result(f"batchmine, λ {weight:g}", labels, costs, labels, 0.0, weight=weight))

    print(
        f"{rows:,} rows, p = {skip}, m = {settings['window']}, `{settings['edges']}`: "
        f"{about['edges_of_peers']:,} edges; "
        f"K = {size}, {args.threads} threads of {about['processor']}"
    )
    print(", ".join(f"{name} {number}" for name, number in about["versions"].items()) + "\n")
    print(table(results))
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(about | {"results": results}, indent=1) + "\n")
    if args.plot:
        plot(args.plot, results, f"{rows:,} rows, clusters of {size}")
    return 0


def main():
    if answered("--peer-child", peer_child):
        return 0
    parser = parser_of(__doc__.splitlines()[0], "RUN_OR_DATA", "a run folder, or Parquet")
    parser.add_argument("--jitter-rows", metavar="N", type=positive, help="make N rows out of DATA's, see README.md")
    parser.add_argument("--skip", type=int, default=30, help="p (default 30; a run folder has its own)")
    parser.add_argument("--window", type=positive, default=100, help="m (default 100; a run folder has its own)")
    parser.add_argument("--cluster-size", metavar="K", type=positive, default=32, help="rows a cluster (default 32)")
    parser.add_argument("--cluster-passes", metavar="N", type=positive, default=5, help="batchmine's (default 5)")
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
    return compared(parser, compare)


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""What batches are worth: a small student trained on random ones, on METIS's and on batchmine's.

    pip install -r benches/compare/requirements.txt -r benches/compare/student-requirements.txt
    cargo build --release
    python benches/compare/student.py DATA... [--split FILE] [--settings GROUP...] [--add SETTING...]

DATA are Parquet files, or folders of them, with id, query, positive and both embeddings. README.md beside this
file says what is done. Results are kept by the batches themselves: run again, and only what is new is trained.
"""

import functools
import hashlib
import json
import pathlib
import re
import shlex
import statistics
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pairs import files
from partitioners import PEERS, fixed_up, peer_child, peer_process, save_graph
from process import ROOT, answered, compared, mine, parser_of, positive, version_line
from run_files import edges, order, rows_columns, without_suspects

RATES = {64: 3e-3, 256: 1e-2}  # learning rate by batch size
TEMPERATURE = 0.1
WAIT = 5  # seconds between looks at the file of --wait-while

# A setting is how batches are made, in words that `Maker.epochs` takes.
GRAPH = {"--skip": "30", "--window": "100", "--edges": "any"}  # of METIS, where a setting does not say otherwise
METIS = {"kway": "METIS k-way", "kway-100": "METIS k-way, ufactor 100", "recursive": "METIS recursive"}
BASE = {"cluster-size": 8, "skip": 10, "edges": "any"}  # of the groups below, whatever the defaults are


NEGATIVES_OF = ("batch", "cluster", "row", "row-top")
USES = ("shared", "own")  # of hard negatives: all of a batch's are every row's, or each row has its own


def batchmine(**flags):
    flags = BASE | {name.replace("_", "-"): value for name, value in flags.items()}
    return " ".join(["batchmine", *(f"--{name} {value}" for name, value in flags.items())])


SETTINGS = {
    "peers": ["random", *(f"metis {method} {size}" for size in (32, 8) for method in METIS)],
    "literature": [*(f"spectral {size}" for size in (8, 64)), "curated"],
    "default": ["batchmine"],
    "K": [batchmine(cluster_size=size, skip=skip) for skip in (30, 10) for size in (4, 8, 16, 32)],
    "p": [batchmine(skip=skip) for skip in (0, 5, 10, 20, 30, 70)],
    "margin": [batchmine(skip=skip, relative_margin=margin) for skip in (0, 10, 30) for margin in (0.05, 0.1, 0.2)],
    "lambda": [batchmine(skip=skip, suspect_weight=weight) for skip in (30, 10) for weight in (0, 0.5, 2)],
    "m": [batchmine(window=window) for window in (50, 100, 200)],
    "edges": [batchmine(edges=rule, cluster_size=size) for size in (8, 16, 32, 64) for rule in ("any", "mutual")],
    "passes": [batchmine(cluster_size=32, skip=30, cluster_passes=passes) for passes in (0, 5)],
    "keys": [batchmine(key_column="positive")],
    "negatives": [
        f"{kind} {use} --hard-negatives {count} --negatives-of {of}"
        for count in (1, 5)
        for use in ("shared", "own")
        for kind, of in [*((batchmine(), of) for of in NEGATIVES_OF), ("metis recursive 8 keys --skip 10", "row-top")]
    ],
    "mask": [
        f"{batchmine(cluster_size=size, skip=skip)}{mask}"
        for size in (8, 16, 32)
        for skip in (0, 5, 10)
        for mask in ("", " --mask suspects")
        if skip or not mask
    ],
    "verdicts": [
        batchmine(),
        *(f"judged {budget} {batchmine()}" for budget in (1, 4, 16)),
        f"judged top-50 {batchmine()}",
        *(f"judged {budget} {batchmine(skip=0)}" for budget in (4, 16)),
        batchmine(skip=0),
        f"judged top-50 {batchmine(skip=0)}",
    ],
    # Of a set that classes.py has made: with --batch-size 16 --rate 1e-3.
    "classes": [
        f"{use}{batches} {negatives}".strip()
        for use, negatives in (("", ""), ("own ", "--hard-negatives 5 --negatives-of row"))
        for batches in (
            batchmine(cluster_size=4, skip=0, rank_by="row"),
            *(batchmine(cluster_size=4, skip=0, rank_by="positive", window=share) for share in ("30%", "100%")),
            "metis recursive 4 keys --skip 0 --rank-by positive --window 30%",
        )
    ],
}


# ---- data


def digest(*parts):
    """A short name for bytes and for whatever JSON takes."""
    state = hashlib.sha256()
    for part in parts:
        part = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode()
        state.update(len(part).to_bytes(8, "little") + part)
    return state.hexdigest()[:16]


def split(args, ids):
    """Ids held out, by name: as the file says, or drawn at random."""
    if args.split:
        return json.loads(args.split.read_text())
    held = args.test_rows + args.dev_rows
    if held >= len(ids):
        raise SystemExit(f"{len(ids):,} rows are too few to hold out {held:,}: --test-rows, --dev-rows")
    drawn = np.random.default_rng(args.split_seed).permutation(len(ids))[:held].tolist()
    names = [ids[row] for row in drawn]
    return {"test": names[: args.test_rows], "dev": names[args.test_rows :]}


class Pairs:
    """All rows of DATA, and which of them are held out."""

    def __init__(self, args):
        self.table = pa.concat_tables([pq.read_table(file) for file in files(args.data)]).combine_chunks()
        self.ids = self.table["id"].to_pylist()
        self.row_of = {name: row for row, name in enumerate(self.ids)}
        held = split(args, self.ids)
        self.held_out = {part: np.array([self.row_of[name] for name in names]) for part, names in held.items()}
        is_train = np.ones(len(self.ids), bool)
        is_train[np.concatenate(list(self.held_out.values()))] = False
        self.is_train, self.train = is_train, np.flatnonzero(is_train)
        self.name = digest(self.ids, self.train.tolist())


# ---- batches


class Maker:
    """Makes batches of training rows, numbered as in the whole table. What it mined is kept in a folder."""

    def __init__(self, args, pairs):
        self.args, self.pairs = args, pairs
        self.folder = args.work / pairs.name
        self.run, self.input = self.folder / "run", self.folder / "train.parquet"
        self.binary = digest(args.batchmine.read_bytes())
        self.epoch_count = args.seeds * args.passes
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.input.exists():
            save(pairs.table.filter(pa.array(pairs.is_train)), self.input)

    def epochs(self, setting, size):
        """For each epoch a list of batches. Settings are `random`; `metis METHOD K [keys] [FLAGS]`: METIS's
        clusters of the graph that batchmine makes with these flags; `batchmine [FLAGS]`; and `list FILE`, a
        Parquet file of batch_id and id. With --hard-negatives among the flags a batch has a line for each row: the
        row and its negatives; METIS's rows have those that they have in batchmine's batches."""
        kind, *words = (word for word in shlex.split(setting) if word not in USES)
        epochs = range(self.epoch_count)
        if kind == "random":
            return [united(self.pairs.train[:, None], size, epoch) for epoch in epochs]
        if kind == "metis":
            clusters = self.metis(words)
            of_row = self.negatives_of_rows(words)
            return [with_negatives(united(clusters, size, epoch), of_row) for epoch in epochs]
        if kind == "judged":
            budget, _, *flags = words
            table = pq.read_table(self.mined([*flags, "--verdicts", str(self.judged(budget, flags, size))], size))
            return [self.batches(table.filter(pc.field("epoch") == epoch)) for epoch in epochs]
        if kind == "spectral":
            clusters = [self.spectral(int(words[0]), epoch) for epoch in epochs]
            return [united(made, size, epoch) for epoch, made in zip(epochs, clusters, strict=True)]
        if kind == "curated":
            return [self.curated(size, epoch) for epoch in epochs]
        if kind == "batchmine":
            table = pq.read_table(self.mined(words, size))
            return [self.batches(table.filter(pc.field("epoch") == epoch)) for epoch in epochs]
        if kind == "list":
            return [self.batches(pq.read_table(words[0], columns=["batch_id", "id"]))] * len(epochs)
        raise SystemExit(f"{setting}: it begins with none of random, metis, batchmine, list")

    def batches(self, table):
        """A batch table's batches, without rows that are held out."""
        table = table.sort_by("batch_id")
        rows = np.array([self.pairs.row_of[name] for name in table["id"].to_pylist()])
        starts = np.flatnonzero(np.diff(table["batch_id"].to_numpy())) + 1
        batches = usable([batch[self.pairs.is_train[batch]] for batch in np.split(rows, starts)])
        return with_negatives(batches, self.lines_of(table))

    def spectral(self, size, epoch):
        """Even clusters of an epoch, a line each."""
        kept = self.folder / f"spectral-{size}-{epoch}.npy"
        if not kept.exists():
            from spectral import even_clusters

            clusters = even_clusters(*self.sides(), size, np.random.default_rng(epoch))
            np.save(kept, np.where(clusters < 0, -1, self.pairs.train[clusters]))
        return np.load(kept)

    def curated(self, size, epoch):
        """Curated batches of an epoch."""
        kept = self.folder / f"curated-{size}-{epoch}.npy"
        if not kept.exists():
            from curation import curated

            np.save(kept, self.pairs.train[np.array(curated(*self.sides(), size, np.random.default_rng(epoch)))])
        return list(np.load(kept))

    def sides(self):
        """The teacher's embeddings of the training rows: queries, positives."""
        return [
            np.stack(self.pairs.table[name].filter(pa.array(self.pairs.is_train)).to_numpy()).astype(np.float32)
            for name in ("query_embedding", "positive_embedding")
        ]

    def judged(self, budget, flags, size):
        """A file of judged pairs: so many a row of those that `candidates` names, in two rounds, or the top of each
        row's list. The judge reads texts: see `is_right`."""
        kept = self.folder / f"judged-{digest(self.binary, budget, flags, size)}.parquet"
        if not kept.exists():
            base = [*flags, "--batch-size", size, "--epochs", self.epoch_count]
            self.mine(base)
            if budget.startswith("top-"):
                judged = self.tops(int(budget.removeprefix("top-")))
            else:
                rows, out = int(float(budget) * len(self.pairs.train)), self.folder / "pairs.parquet"
                rounds = []
                for _ in range(2):
                    command = [self.args.batchmine, "candidates", self.run, "--budget", rows // 2, "--out", out]
                    subprocess.run(list(map(str, command)), check=True, capture_output=True)
                    rounds.append(self.with_labels(pq.read_table(out, columns=["id", "other_id"])))
                    save(pa.concat_tables(rounds), kept)
                    self.mine([*base, "--verdicts", str(kept)])
                judged = pa.concat_tables(rounds)
            right = pc.sum(judged["label"]).as_py()
            print(f"{budget} {' '.join(flags)}: {len(judged):,} pairs judged, {right:,} right", file=sys.stderr)
            save(judged, kept)
        return kept

    def tops(self, ranks):
        """The first so many candidates of every row's list, judged."""
        command = [self.args.batchmine, "inspect", self.run, "--rows", f"0..{len(self.pairs.train)}", "--json"]
        own, others = [], []
        with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE) as lines:
            for row, line in enumerate(lines.stdout):
                top = [other["row"] for other in json.loads(line)["neighbors"][:ranks]]
                own += [row] * len(top)
                others += top
        ids = np.array(self.pairs.ids)[self.pairs.train]
        return self.with_labels(pa.table({"id": ids[own], "other_id": ids[others]}))

    def with_labels(self, pairs):
        texts = self.pairs.table["positive"].to_pylist()
        labels = [
            is_right(texts[self.pairs.row_of[own]], texts[self.pairs.row_of[other]])
            for own, other in zip(pairs["id"].to_pylist(), pairs["other_id"].to_pylist(), strict=True)
        ]
        return pairs.append_column("label", pa.array(labels))

    def masked(self, setting, size):
        """The pairs of rows that the setting's mask names, as sorted codes; None without a mask."""
        from bag_of_pieces import pair_codes

        kind, *words = (word for word in shlex.split(setting) if word not in USES)
        if kind != "batchmine" or "--mask" not in words:
            return None
        table = pq.read_table(self.mined(words, size), columns=["batch_id", "id", "masked"]).sort_by("batch_id")
        rows = np.array([self.pairs.row_of[name] for name in table["id"].to_pylist()])
        batches, lists = table["batch_id"].to_numpy(), table["masked"].combine_chunks()
        lengths = pc.list_value_length(lists).to_numpy()
        begins = np.searchsorted(batches, batches)
        others = rows[np.repeat(begins, lengths) + pc.list_flatten(lists).to_numpy()]
        return np.unique(pair_codes(np.repeat(rows, lengths), others))

    def lines_of(self, table):
        """By row its hard negatives in a batch table, a line each, filled up with -1; None where there are none."""
        if "negatives" not in table.column_names:
            return None
        lists = table["negatives"].combine_chunks()
        lines = np.full((len(self.pairs.ids), max(pc.list_value_length(lists).to_numpy(), default=0)), -1)
        for name, negatives in zip(table["id"].to_pylist(), lists.to_pylist(), strict=True):
            lines[self.pairs.row_of[name], : len(negatives)] = [self.pairs.row_of[other] for other in negatives]
        return lines

    def negatives_of_rows(self, words):
        """By row the hard negatives that batchmine draws with the flags among these words; None without any."""
        if "--hard-negatives" not in words:
            return None
        flags = words[next(at for at, word in enumerate(words) if word.startswith("--")) :]
        table = pq.read_table(self.mined(["--cluster-size", "8", *flags], 64))
        return self.lines_of(table.filter(pc.field("epoch") == 0))

    def mine(self, flags):
        """Makes the run folder, or changes it, to be of these flags."""
        flags = [self.input, "--out", self.run, "--replace", "--threads", self.args.threads, *flags]
        mine(self.args.batchmine, flags, "batches", may_skip=True)

    def mined(self, flags, size):
        """The file of the batch table that these flags give."""
        kept = self.folder / f"batches-{digest(self.binary, flags, size, self.epoch_count)}.parquet"
        if not kept.exists():
            self.mine([*flags, "--batch-size", size, "--epochs", self.epoch_count])
            save(pq.read_table(self.run / "batches"), kept)
        return kept

    def metis(self, words):
        """METIS's clusters, brought to exact sizes, a line each; -1 beyond the end of the last."""
        words = [*without(words, "--hard-negatives", "--negatives-of")]
        flags = words[next((at for at, word in enumerate(words) if word.startswith("--")), len(words)) :]
        method, size, *keys = words[: len(words) - len(flags)]
        if method not in METIS or keys not in ([], ["keys"]):
            raise SystemExit(f"metis {' '.join(words)}: not metis {'|'.join(METIS)} K [keys] [FLAGS]")
        kept = self.folder / f"metis-{digest(self.binary, words)}.npy"
        if not kept.exists():
            flags += [word for name, value in GRAPH.items() if name not in flags for word in (name, value)]
            self.mine(["--cluster-size", 32, "--batch-size", 1024, *flags])
            graph, place = without_suspects(*edges(self.run)), order(self.run)
            codes = rows_columns(self.run)[2][place].astype(np.int64) if keys else None
            save_graph(self.folder, graph)
            size, parts = int(size), -(-len(place) // int(size))
            _, labels = peer_process(self.folder, 1, parts=parts, size=size, **PEERS[METIS[method]])
            labels = fixed_up(labels, size, graph, codes)
            rows = self.pairs.train[place[np.argsort(labels, kind="stable")]]
            np.save(kept, in_lines(rows, np.bincount(labels, minlength=parts), size))
        return np.load(kept)


@functools.lru_cache(maxsize=None)
def words_of(text):
    return frozenset(re.findall("[a-z]+", text.lower()))


def is_right(own, other):
    """What stands for a judge: a positive of mostly the same words as the own one is a right answer, too."""
    own, other = words_of(own), words_of(other)
    return len(own & other) >= 0.6 * len(own | other)


def save(table, file):
    """A Parquet file that is whole or not there."""
    part = file.with_suffix(".part")
    pq.write_table(table, part)
    part.rename(file)


def in_lines(rows, counts, size):
    """Rows, cluster after cluster, as an array with a line for each cluster, filled up with -1."""
    lines = np.full((len(counts), size), -1)
    lines[np.arange(size) < counts[:, None]] = rows
    return lines


def united(clusters, size, epoch):
    """Clusters in random order, one after the other, cut into batches."""
    rows = np.random.default_rng(epoch).permutation(clusters).ravel()
    rows = rows[rows >= 0]
    return usable(np.split(rows, range(size, len(rows), size)))


def usable(batches):
    """Without those in which a row has no negative."""
    return [batch for batch in batches if len(batch) > 1]


def with_negatives(batches, of_row):
    """Batches with a line for each row: the row and its negatives. As they are where there are none."""
    return batches if of_row is None else [np.column_stack([batch, of_row[batch]]) for batch in batches]


def without(words, *names):
    """Flags and their values, without those of these names."""
    return (
        word for before, word in zip([None, *words], words, strict=False) if word not in names and before not in names
    )


def played(epochs, seed, passes):
    """A student's batches in its order: epochs of its own, each shuffled."""
    random = np.random.default_rng(seed)
    own = epochs[seed * passes : (seed + 1) * passes]
    return [epoch[number] for epoch in own for number in random.permutation(len(epoch))]


# ---- students


class Students:
    """Trains a student on given batches, or knows what came out before."""

    def __init__(self, args, pairs):
        self.args, self.pairs, self.task = args, pairs, None
        lines = args.results.read_text().splitlines() if args.results.exists() else []
        self.known = {result["key"]: result for result in map(json.loads, lines)}

    def result(self, setting, size, seed, batches, masked=None):
        """What a student of these batches finds, and the batches' facts. `masked`: see `train`."""
        rate = self.args.rate or RATES[size]
        rows = (batch.astype(np.int64).tobytes() for batch in batches)
        shared = "own" not in setting.split()
        kind = [] if batches[0].ndim == 1 else [["negatives", batches[0].shape[1] - 1, shared]]
        kind += [] if masked is None else [["masked", digest(masked.tobytes())]]
        key = digest(self.pairs.name, rate, TEMPERATURE, *kind, *rows)
        if key not in self.known:
            facts = {"key": key, "setting": setting, "size": size, "seed": seed, "rate": rate}
            self.known[key] = facts | self.trained(batches, rate, shared, masked)
            with self.args.results.open("a") as out:
                out.write(json.dumps(self.known[key]) + "\n")
        return self.known[key]

    def trained(self, batches, rate, shared, masked):
        from bag_of_pieces import found, retrieval, train

        while self.args.wait_while and self.args.wait_while.exists():
            time.sleep(WAIT)
        if self.task is None:
            texts = (self.pairs.table[name].to_pylist() for name in ("query", "positive"))
            self.task = retrieval(*texts, self.pairs.held_out)
        begin = time.perf_counter()
        student = train(self.task, batches, rate, TEMPERATURE, shared, masked)
        seconds = time.perf_counter() - begin
        return {
            "steps": len(batches),
            "rows": sum(map(len, batches)),
            "copies": copies([self.task.document_of[batch if batch.ndim == 1 else batch[:, 0]] for batch in batches]),
            "seconds": seconds,
            **found(student, self.task),
        }


def copies(batches):
    """Share of rows whose document another row of the batch has too."""
    twice = 0
    for documents in batches:
        _, which, counts = np.unique(documents, return_inverse=True, return_counts=True)
        twice += int((counts[which] > 1).sum())
    return twice / sum(map(len, batches))


# ---- the table


HEAD = "| batches | size | test MRR | test first % | dev MRR | copies % | rows | steps | s |\n" + "|---|" + "--:|" * 8


def line(setting, size, results):
    def mean(*path):
        return statistics.fmean(value(result, path) for result in results)

    def spread(*path):
        values = [value(result, path) for result in results]
        return f"{statistics.fmean(values):.2f} ± {statistics.stdev(values) if len(values) > 1 else 0:.2f}"

    cells = [spread("test", "mrr"), f"{mean('test', 'first'):.2f}", spread("dev", "mrr")]
    cells += [f"{100 * mean('copies'):.2f}", f"{mean('rows'):,.0f}", f"{mean('steps'):,.0f}", f"{mean('seconds'):.0f}"]
    return f"| {setting} | {size} | {' | '.join(cells)} |"


def value(result, path):
    for name in path:
        result = result[name]
    return result


# ---- comparison


def compare(args, _):
    unknown = [size for size in args.batch_size if size not in RATES]
    if unknown and not args.rate:
        raise SystemExit(f"no learning rate is known for batches of {unknown[0]}: --rate")
    args.results.parent.mkdir(parents=True, exist_ok=True)
    pairs = Pairs(args)
    maker, students = Maker(args, pairs), Students(args, pairs)
    held = ", ".join(f"{len(rows):,} {part}" for part, rows in pairs.held_out.items())
    print(f"{len(pairs.train):,} training rows, {held}; {version_line(args.batchmine)}; {args.seeds} seeds\n\n{HEAD}")
    settings = [setting for group in args.settings for setting in SETTINGS[group]] + args.add
    for setting in dict.fromkeys(settings):
        for size in args.batch_size:
            epochs, masked = maker.epochs(setting, size), maker.masked(setting, size)
            results = [
                students.result(setting, size, seed, played(epochs, seed, args.passes), masked)
                for seed in range(args.seeds)
            ]
            print(line(setting, size, results), flush=True)
    return 0


def main():
    if answered("--peer-child", peer_child):
        return 0
    parser = parser_of(__doc__.splitlines()[0], "DATA", "Parquet files or folders of them")
    folder = ROOT / "target/compare/student"
    parser.add_argument("--settings", metavar="GROUP", nargs="*", default=["peers", "default"], choices=SETTINGS,
                        help=f"of {', '.join(SETTINGS)} (default peers default)")  # fmt: skip
    parser.add_argument("--add", metavar="SETTING", nargs="*", default=[], help="more, such as 'batchmine --skip 10'")
    parser.add_argument("--batch-size", type=positive, nargs="+", default=[64, 256], help="default 64 256")
    parser.add_argument("--rate", type=float, help="learning rate (default by batch size)")
    parser.add_argument("--seeds", type=positive, default=3, help="students of each setting (default 3)")
    parser.add_argument("--passes", type=positive, default=1, help="epochs that a student trains (default 1)")
    parser.add_argument("--split", metavar="FILE", type=pathlib.Path, help="JSON: ids of test and of dev")
    parser.add_argument("--split-seed", type=int, default=0, help="if no file says what is held out (default 0)")
    parser.add_argument("--test-rows", type=positive, default=5_000, help="of a split by seed (default 5,000)")
    parser.add_argument("--dev-rows", type=positive, default=1_000, help="of a split by seed (default 1,000)")
    parser.add_argument("--threads", type=positive, default=2, help="of batchmine (default 2); a student has one")
    parser.add_argument("--work", metavar="DIR", type=pathlib.Path, default=folder, help="what was mined is kept here")
    parser.add_argument("--results", metavar="FILE", type=pathlib.Path, default=folder / "results.jsonl")
    parser.add_argument("--wait-while", metavar="FILE", type=pathlib.Path, help="train nothing while it exists")
    return compared(parser, compare)


if __name__ == "__main__":
    sys.exit(main())

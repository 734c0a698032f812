"""Writes tests/fuzz/corpus/: small inputs for the decoders of src/fuzzing.rs, one folder for each.

`python tests/fuzz/make_corpus.py target/debug/batchmine` mines fixtures/corrupt/texts.parquet for the files of a run.
What was found by fuzzing is added by hand, with a name that says what it is, and is kept.
"""

import json
import pathlib
import struct
import subprocess
import sys
import tempfile

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = pathlib.Path(__file__).parents[2]
CORPUS = ROOT / "tests/fuzz/corpus"
CORRUPT = ROOT / "fixtures/corrupt"
FILES = ROOT / "fixtures/files"
BLOCK_BYTES = 1 << 16
# Those whose numbers ask for terabytes end the process: they are not here.
# Beginnings of the names of damaged files that say something to a decoder; the rest of them differ less.
DAMAGED = {
    "parquet": ["page-v2", "values-dictionary", "values-levels", "page-dictionary", "schema-", "rows-null"],
    "arrow": ["arrow-"],
    "npy": ["array-"],
    "settings": ["settings-"],
}


def put(decoder, name, data):
    (CORPUS / decoder).mkdir(parents=True, exist_ok=True)
    (CORPUS / decoder / name).write_bytes(data)


def framed(path):
    """Fields and payload of a run's file, without its frame: the hashes of its blocks are a part of that."""
    data = path.read_bytes()[:-24]
    blocks = -(-len(data) // (BLOCK_BYTES + 8))
    return data[16 : len(data) - 8 * blocks]


def words(*numbers):
    return struct.pack(f"<{len(numbers)}I", *numbers)


def made():
    """Files that a finished run does not have: fields, and the payload."""

    def put_made(decoder, name, fields, payload):
        fields = [*fields, 0, 0, 0, 0, 0, 0][:6]
        put(decoder, name, struct.pack("<6Q", *fields) + payload)

    texts = [b"a", b"", "ä火".encode()]
    offsets = [sum(map(len, texts[:count])) for count in range(len(texts) + 1)]
    put_made("ids", "text.col", [len(texts), offsets[-1]], struct.pack("<4Q", *offsets) + b"".join(texts))
    put_made("key-lists", "three-rows", [3, 4], struct.pack("<4Q", 0, 2, 2, 4) + words(0, 3, 1, 2))
    none, whole = 0xFFFFFFFF, words(0, 1, 2)
    put_made("pass", "growing", [3, 2, 1, 1, 1], words(0, 0, 2))
    put_made("pass", "growing-two-tasks", [7, 2, 2, 1, 1, 4 << 8], words(0, 0, 2, 3, 4, 4, 6))
    put_made("pass", "exact", [3, 2, 3, 1, 0], whole)
    put_made("pass", "exact-excluded", [3, 2, 3, 1, 0, 3], words(0, 1, none))
    put_made("pass", "swapping", [3, 2, 4, 4, 0], whole + words(5, 5, 5, 1, none, 0, 1, 0, 2))
    put_made("order", "one-list", [3, 1, 1, 2], words(1, 0, 2, 1, 0, 2, 0, 3, 0, 1) + struct.pack("<2f", 1, 0))
    put_made("order", "two-tasks", [4, 3, 2, 1], words(1, 0, 3, 2, 1, 0, 3, 2, 0, 1, 2, 4, 0, 2, 3) + bytes(12))
    put_made("order", "with-documents", [2, 1, 1, 1, 2], words(1, 0, 2, 3, 1, 0, 2, 3, 0, 2, 2, 4, 0, 1) + bytes(4))
    put_made("documents", "two-tasks", [5, 2], struct.pack("<3Q", 0, 2, 5))
    alone = words(0, 1, 0, 0, 1, 1, 0, 1, 0, 1)
    put_made("candidates", "with-documents", [2, 1, 4, 2], alone + words(0) + 2 * words(0, 1, 2, 3))
    panels = {"all-is-head": (1, 8, 8, 0, 0), "head-and-tail": (70, 8, 4, 3, 0), "with-a-lead": (70, 8, 4, 3, 1)}
    for name, (rows, dim, head, sampled, led) in panels.items():
        count = -(-rows // 64) + -(-sampled // 64)
        facts = -(-48 * count // 64) * 64
        steps, lines = -(-head // 4), -(-(dim - head) // 64)
        axes = struct.pack(f"<{dim * dim}f", *[float(a == b) for a in range(dim) for b in range(dim)])
        payload = bytes(facts + count * (1024 + 256 * steps + 4096 * lines)) + (axes if head < dim else b"")
        lead = struct.pack(f"<{dim}f", *[1.0] * dim) if led else b""
        put_made("packed", name, [rows, dim, head, sampled, led], payload + lead)
    put_made("gpu-base", "half", [3, 4, 2, 5], bytes(64) + struct.pack("<2f", 1, 0.5))
    put_made("gpu-base", "single", [2, 4, 4, 0xFFFFFFFFFFFFFFFF], bytes(64) + struct.pack("<2f", 1, 0.5))
    search = {"format": 1, "block_rows": 600, "blocks": 1, "probes": None, "candidates": False, "packed": True}
    search |= {"ranks": [5, 6, 7], "instructions": "Avx2", "precision": "int8"}
    put("search-pieces", "exact", json.dumps(search).encode())
    put("search-pieces", "lists", json.dumps(search | {"probes": 3, "precision": "auto"}).encode())
    merged = [[[0, 300], [300, 500]], [[500, 600]]]
    for step, parts in {"mark": [[[0, 1]]], "spill": [[[0, 1]]], "merge": merged}.items():
        graph = {"format": 1, "step": step, "parts": parts, "run_edges": 9000}
        put("graph-pieces", step, json.dumps(graph).encode())


def main():
    for path in sorted(CORRUPT.iterdir()):
        for decoder, beginnings in DAMAGED.items():
            if any(path.name.startswith(beginning) for beginning in beginnings):
                # A file of settings without its ending: it is no TOML of the repository.
                put(decoder, path.name.removesuffix(".toml"), path.read_bytes())
    put("parquet", "texts.parquet", (CORRUPT / "texts.parquet").read_bytes())
    put("parquet", "pairs.parquet", (FILES / "pairs.parquet").read_bytes())
    for path in sorted((FILES / "arrow").iterdir()):
        if path.suffix == ".arrow" and path.stat().st_size < 9000:
            put("arrow", path.name, path.read_bytes())
    for path in sorted((FILES / "arrays").glob("*.npy")):
        put("npy", path.name, path.read_bytes())
    settings = 'query-column = "a"\nskip = 3\nwindow = 12\nmax-score = "none"\ntask-column = "t"\nmemory = "4GiB"\n'
    settings += 'key-column = ["a", "b"]\nhard-negatives = 3\nremainder = "fill"\n[task."code search"]\nskip = 0\n'
    put("settings", "sound", settings.encode())
    with tempfile.TemporaryDirectory() as folder:
        run = pathlib.Path(folder) / "run"
        flags = "--skip 1 --window 4 --cluster-size 2 --batch-size 4 --hard-negatives 2"
        flags += " --max-query-score 0.5 --max-own-rank 5 --rank-by positive"
        flags += " --task-column task --key-column id"
        command = [sys.argv[1], "mine", CORRUPT / "texts.parquet", "--out", run, "--quiet", *flags.split()]
        subprocess.run(command, check=True)
        pairs, judged = (pathlib.Path(folder) / name for name in ("pairs.parquet", "judged.parquet"))
        subprocess.run([sys.argv[1], "candidates", run, "--budget", "4", "--out", pairs, "--quiet"], check=True)
        found = pq.read_table(pairs, columns=["id", "other_id"])
        pq.write_table(found.append_column("label", pa.array([row % 2 == 0 for row in range(len(found))])), judged)
        put("judged", "judged.parquet", judged.read_bytes())
        subprocess.run([*command, "--verdicts", judged, "--replace"], check=True)
        manifest = (run / "manifest.json").read_bytes()
        put("manifest", "manifest.json", manifest.replace(str(ROOT).encode(), b"/data"))
        put("table", "part.parquet", (run / "batches/part-00000-00000.parquet").read_bytes())
        for decoder, pattern in [
            ("vectors", "vectors/*.vec"),
            ("rows", "vectors/rows.col"),
            ("tasks", "vectors/tasks.col"),
            ("ids", "vectors/ids.col"),
            ("neighbors", "neighbors/*.nbr"),
            ("candidates", "neighbors/candidates.col"),
            ("marks", "edges/*.bit"),
            ("own-ranks", "edges/own_ranks.col"),
            ("verdicts", "edges/verdicts.col"),
            ("key-lists", "edges/verdict_keys.lst"),
            ("edges", "edges/*.edg"),
            ("labels", "clusters/labels.lbl"),
        ]:
            for path in sorted(run.glob(pattern)):
                put(decoder, path.name, framed(path))
    made()
    print(sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()), "bytes")


main()

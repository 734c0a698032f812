#!/usr/bin/env python3
"""Read exports with the libraries that their trainers load them with, and print what came out.

    python exports.py ROOT BATCH_SIZE CLUSTER_SIZE

ROOT holds a folder for each format, named after it. Prints one JSON object: by format, the batches (for b3 the
clusters)
of [query, positive, [negative, …]].
"""

import json
import pathlib
import sys
import tempfile

import datasets
import pyarrow.parquet as pq

import batchmine.export as batchmine_export

datasets.disable_progress_bars()


def load(kind, path):
    """As trainers do; the cache must not survive: it goes by path and time."""
    with tempfile.TemporaryDirectory() as cache:
        return datasets.load_dataset(kind, data_files=str(path), split="train", cache_dir=cache, keep_in_memory=True)


def cut(rows, size):
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def sentence_transformers(folder, size):
    pairs = load("parquet", folder / "pairs.parquet")
    names = pairs.column_names
    assert names[:2] == ["anchor", "positive"], names
    assert names[2:] == [f"negative_{number}" for number in range(1, len(names) - 1)], names
    # The trainer calls the sampler like this.
    make = batchmine_export.Batches(folder)
    sampler = make(pairs, size, False, valid_label_columns=["label"], generator=None, seed=0)
    told = lambda row: [row["anchor"], row["positive"], [row[name] for name in names[2:]]]
    batches = []
    for epoch in range(sampler.epochs):
        sampler.set_epoch(epoch)
        played = list(sampler)
        assert len(played) == len(sampler), "the sampler's length"
        # Epochs are played as far as the shortest goes.
        starts, rows = batchmine_export.ExportBatches(folder).read(epoch)
        whole = [rows[start:end].tolist() for start, end in zip(starts, starts[1:])]
        assert played == whole[: len(played)], "the sampler's batches"
        batches += [[told(pairs[row]) for row in rows] for rows in whole]
    # Two devices: each mined batch in two steps, smaller ones left out.
    halves = batchmine_export.Batches(folder, size // 2)
    steps = list(halves)
    assert len(steps) == len(halves) and all(len(step) == size // 2 for step in steps)
    assert all(first[-1] + 1 == second[0] for first, second in zip(steps[::2], steps[1::2]))
    return batches


def b3(folder, size):
    batches = []
    tasks = sorted(path for path in folder.iterdir() if path.is_dir())
    tables = [load("parquet", task / "train-00000-of-00001.parquet") for task in tasks]
    for table in tables:
        assert len(table) % size == 0, "n % K"
        rows = [[row["qry"], row["pos_text"], row.get("neg_text", [])] for row in table]
        assert all(row["qry_image_path"] == row["pos_image_path"] == "" for row in table)
        batches += cut(rows, size)
    assert len(datasets.concatenate_datasets(tables)) == sum(map(len, tables))
    return batches


def flagembedding(folder, size):
    files = [load("json", path) for path in sorted((folder / "data").iterdir())]
    assert len(datasets.concatenate_datasets(files)) == sum(map(len, files))
    return [[[row["query"], row["pos"][0], row["neg"]] for row in file] for file in files]


def tevatron(folder, size):
    texts = lambda passages: [passage["text"] for passage in passages]
    rows = load("json", folder / "train.jsonl")
    return cut([[r["query"], texts(r["positive_passages"])[0], texts(r["negative_passages"])] for r in rows], size)


def swift(folder, size):
    texts = lambda conversations: [messages[0]["content"] for messages in conversations or []]
    rows = load("json", folder / "train.jsonl")
    content = lambda row: row["messages"][0]["content"]
    told = lambda row: [content(row), texts(row["positive_messages"])[0], texts(row.get("negative_messages"))]
    return cut([told(row) for row in rows], size)


def arctic(folder, size):
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    # Characters are its tokens, so that texts can be read back from them.
    letters = set()
    for path in (folder / "data").glob("*/*.parquet"):
        for column in pq.read_table(path).columns:
            letters.update("".join(map(str, column.to_pylist())))
    vocabulary = {letter: number for number, letter in enumerate(sorted(letters | {" "}))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")
    count = batchmine_export.tokenize(folder, tokenizer, max_length=100_000)
    spelled = {number: letter for letter, number in vocabulary.items()}
    text = lambda tokens: "".join(spelled[token] for token in tokens)
    batches = []
    for path in sorted((folder / "data").iterdir()):
        read = lambda name: pq.read_table(path / f"{name}.parquet")
        queries, documents, relations = read("queries"), read("documents"), read("relations")
        column = lambda table, name: table[name].to_pylist()
        ids = column(documents, "BATCH_DOCUMENT_ID")
        assert len(set(ids)) == len(ids), "documents are unique"
        texts = dict(zip(ids, map(text, column(documents, "DOCUMENT_TOKEN_ID_LIST"))))
        assert list(texts.values()) == column(documents, "DOCUMENT_TEXT"), "tokens are the texts'"
        related = {}
        for relation in relations.to_pylist():
            key = relation["BATCH_QUERY_ID"], relation["RELEVANCE"]
            related.setdefault(key, []).append(texts[relation["BATCH_DOCUMENT_ID"]])
        numbered = zip(column(queries, "BATCH_QUERY_ID"), map(text, column(queries, "QUERY_TOKEN_ID_LIST")))
        batches.append([[query, related[number, 1][0], related.get((number, -1), [])] for number, query in numbered])
    assert count == len(batches)
    return batches


def main():
    root, batch_size, cluster_size = sys.argv[1:]
    told = {}
    for folder in sorted(pathlib.Path(root).iterdir()):
        read = globals()[folder.name.replace("-", "_")]
        told[folder.name] = read(folder, int(cluster_size if folder.name == "b3" else batch_size))
    print(json.dumps(told))


if __name__ == "__main__":
    main()

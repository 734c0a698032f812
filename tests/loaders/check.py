#!/usr/bin/env python3
"""Load exports with the real trainers' own loaders, and train a step or more where that is cheap.

    python check.py EXPORTS [FORMAT ...]

EXPORTS holds a folder for each format, named after it, as `batchmine export` filled it from one run, the formats
of one epoch. Without formats, those that can be imported here are checked. Prints `ok FORMAT …`, or fails.

    for format in sentence-transformers flagembedding tevatron swift; do
        batchmine export RUN --format $format --out EXPORTS/$format
    done
"""

import importlib.util
import json
import pathlib
import sys
import tempfile
import types

MODULES = {
    "sentence-transformers": "sentence_transformers",
    "flagembedding": "FlagEmbedding",
    "tevatron": "tevatron",
    "swift": "swift",
}
sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "python"))


def lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def sentence_transformers(folder):
    """The real trainer with its real data loader and loss; the model is a table of letters."""
    import batchmine_export
    import datasets
    import pyarrow.parquet as pq
    import sentence_transformers as st
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    pairs = datasets.load_dataset("parquet", data_files=str(folder / "pairs.parquet"), split="train")
    letters = {chr(code): code - 32 for code in range(32, 127)} | {"?unknown": 95}
    tokenizer = Tokenizer(models.WordLevel(letters, unk_token="?unknown"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")
    static = st.sentence_transformer.modules.StaticEmbedding(tokenizer, embedding_dim=16)
    model = st.SentenceTransformer(modules=[static], device="cpu")
    batches = batchmine_export.Batches(folder)
    seen = []

    class Loss(MultipleNegativesRankingLoss):
        def forward(self, features, labels):
            seen.append((len(features), len(features[0]["offsets"])))
            return super().forward(features, labels)

    with tempfile.TemporaryDirectory() as out:
        arguments = st.SentenceTransformerTrainingArguments(
            output_dir=out,
            num_train_epochs=2,
            per_device_train_batch_size=batches.largest,
            batch_sampler=batches,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
        )
        trainer = st.SentenceTransformerTrainer(model=model, args=arguments, train_dataset=pairs, loss=Loss(model))
        sampler = trainer.get_train_dataloader().batch_sampler
        index = pq.read_table(folder / "batches.parquet")
        wanted = [list(range(row["start"], row["start"] + row["rows"])) for row in index.to_pylist()]
        assert list(sampler) == wanted, "the trainer's sampler plays the batches"
        trainer.train()
    sizes = [len(batch) for batch in wanted]
    assert [rows for _, rows in seen] == sizes * 2, "the loss saw the batches, twice over"
    assert {columns for columns, _ in seen} == {len(pairs.column_names)}, "and every column"
    return f"{len(sizes)} batches, {len(pairs.column_names) - 2} negatives, 2 epochs trained"


def flagembedding(folder):
    # The package's own __init__ imports rerankers, which need another transformers than the loader does.
    package = types.ModuleType("FlagEmbedding")
    package.__path__ = importlib.util.find_spec("FlagEmbedding").submodule_search_locations
    sys.modules["FlagEmbedding"] = package
    from FlagEmbedding.abc.finetune.embedder.AbsArguments import AbsEmbedderDataArguments
    from FlagEmbedding.abc.finetune.embedder.AbsDataset import AbsEmbedderSameDatasetTrainDataset

    files = {path.name: lines(path) for path in (folder / "data").iterdir()}
    size = max(map(len, files.values()))
    negatives = len(next(iter(files.values()))[0]["neg"])
    with tempfile.TemporaryDirectory() as cache:
        arguments = AbsEmbedderDataArguments(
            train_data=[str(folder / "data")],
            cache_path=cache,
            train_group_size=1 + negatives,
            query_instruction_for_retrieval="",
            same_dataset_within_batch=True,
            knowledge_distillation=negatives > 0,
        )
        dataset = AbsEmbedderSameDatasetTrainDataset(
            args=arguments, default_batch_size=size, seed=0, tokenizer=None
        )
    key = lambda queries: tuple(sorted(queries))
    full = {key(row["query"] for row in rows): rows for rows in files.values() if len(rows) == size}
    assert len(dataset) == len(full), (len(dataset), len(full))
    for step in range(len(dataset)):
        queries, passages, scores, _ = dataset[step]
        rows = full.pop(key(queries))  # each mined batch once, and no other
        assert len(passages) == len(rows) * (1 + negatives)
        pairs = sorted(zip(queries, passages[:: 1 + negatives]))
        assert pairs == sorted((row["query"], row["pos"][0]) for row in rows)
        assert scores is None or len(scores) == len(passages)
    return f"{len(dataset)} batches of {size}, {negatives} negatives"


class Letters:
    """A tokenizer whose tokens are letters, with the two calls that Tevatron makes."""

    eos_token = ""

    def encode(self, text, max_length, **_):
        return [ord(letter) for letter in text][:max_length]

    def encode_plus(self, tokens, max_length, **_):  # transformers 5 has it no more
        return {"input_ids": tokens[:max_length]}


def tevatron(folder):
    from tevatron.arguments import DataArguments
    from tevatron.data import TrainDataset
    from tevatron.datasets import HFTrainDataset

    wanted = lines(folder / "train.jsonl")
    negatives = min(len(line["negative_passages"]) for line in wanted)
    arguments = DataArguments(
        dataset_name=str(folder),
        train_n_passages=1 + negatives,
        q_max_len=1 << 20,
        p_max_len=1 << 20,
        negative_passage_no_shuffle=True,
    )
    with tempfile.TemporaryDirectory() as cache:
        tokens = HFTrainDataset(Letters(), arguments, cache).process()
        state = types.SimpleNamespace(state=types.SimpleNamespace(epoch=0), args=types.SimpleNamespace(seed=0))
        train = TrainDataset(arguments, tokens, Letters(), state)
        assert len(train) == len(wanted), (len(train), len(wanted))
        text = lambda item: "".join(map(chr, item["input_ids"]))
        for index, line in enumerate(wanted):
            query, passages = train[index]
            assert text(query) == line["query"], "rows in the order of the file"
            expected = line["positive_passages"] + line["negative_passages"][:negatives]
            assert list(map(text, passages)) == [passage["text"] for passage in expected]
    return f"{len(train)} rows in order, {negatives} negatives"


def swift(folder):
    from swift.dataset import load_dataset

    train, _ = load_dataset([str(folder / "train.jsonl")], shuffle=False)
    wanted = lines(folder / "train.jsonl")
    assert len(train) == len(wanted), (len(train), len(wanted))
    content = lambda messages: [message["content"] for message in messages]
    for row, line in zip(train, wanted):
        assert content(row["messages"]) == content(line["messages"])
        for name in ["positive_messages", "negative_messages"]:
            assert list(map(content, row.get(name) or [])) == list(map(content, line.get(name, []))), name
    return f"{len(train)} rows in order"


def main():
    folder = pathlib.Path(sys.argv[1])
    here = [name for name, module in MODULES.items() if importlib.util.find_spec(module)]
    for name in sys.argv[2:] or here:
        print("ok", name, globals()[name.replace("-", "_")](folder / name))


if __name__ == "__main__":
    main()

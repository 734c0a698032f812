"""Plays what `batchmine export` writes.

`Batches` is the batch sampler for sentence-transformers' trainer. `python -m batchmine.export tokenize` adds to an
arctic export the tokens that Snowflake's arctic-embed trainer reads. Needs pyarrow; tokenizing needs `tokenizers`.
"""

import argparse
import array
import hashlib
import json
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

from batchmine.sampler import SentenceTransformersSampler, rows_digest, sampled_rows


class ExportBatches:
    """The batches of a sentence-transformers export, by epoch: rows of `pairs.parquet`, one after the other."""

    def __init__(self, export):
        table = pq.read_table(pathlib.Path(export) / "batches.parquet")
        columns = [table[name].to_pylist() for name in ("epoch", "start", "rows")]
        starts = {}
        for epoch, start, rows in zip(*columns):
            starts.setdefault(epoch, [start])
            starts[epoch].append(start + rows)
        self.starts = [starts[epoch] for epoch in sorted(starts)]
        self.epochs = len(self.starts)
        self.fingerprint = hashlib.sha256(repr(columns).encode()).hexdigest()[:32]
        self.total = sum(columns[2])

    def read(self, epoch):
        return self.starts[epoch], memoryview(array.array("Q", range(self.total)))


class Batches(SentenceTransformersSampler):
    """Batches of a sentence-transformers export, in order, as lists of rows of `pairs.parquet`.

    Give an instance as `batch_sampler` to SentenceTransformerTrainingArguments, or to a torch DataLoader. The trainer's
    dataset is `pairs.parquet`, in its order; any other, of an evaluation, is played in its own.

    An export of all epochs plays epoch e in the trainer's epoch e, and begins again after the last.
    """

    def __init__(self, export, batch_size=None, *, shuffle=False, seed=0):
        self._begin(ExportBatches(export), shuffle, seed)
        self._known = _pairs_digest(pathlib.Path(export) / "pairs.parquet")
        self.set_batch_size(batch_size or self.largest)


def _pairs_digest(path):
    """The digest of the rows of a file, read a row group at a time."""
    file, found, first = pq.ParquetFile(path), {}, 0
    wanted = sampled_rows(file.metadata.num_rows)
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        inside = [row - first for row in wanted if first <= row < first + rows]
        if inside:
            taken = file.read_row_group(group).take(inside).to_pylist()
            found.update(zip((first + row for row in inside), taken))
        first += rows
    return rows_digest(first, found.__getitem__)


TOKENS = {"queries": ("QUERY", "QUERY_TOKEN_ID_LIST"), "documents": ("DOCUMENT", "DOCUMENT_TOKEN_ID_LIST")}


def tokenize(export, tokenizer, max_length=512, query_prefix="", document_prefix=""):
    """Adds the column of tokens to each batch of an arctic export. `tokenizer`: a `tokenizers.Tokenizer`."""
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=max_length)
    export, prefixes = pathlib.Path(export), {"queries": query_prefix, "documents": document_prefix}
    kind = pa.uint16() if tokenizer.get_vocab_size() <= 1 << 16 else pa.uint32()
    batches = sorted((export / "data").iterdir())
    for batch in batches:
        for name, (side, column) in TOKENS.items():
            path = batch / f"{name}.parquet"
            table = pq.read_table(path)
            texts = [prefixes[name] + text for text in table[f"{side}_TEXT"].to_pylist()]
            tokens = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
            kept = [other for other in table.column_names if other != column]
            table = table.select(kept).append_column(column, pa.array(tokens, pa.large_list(kind)))
            temporary = path.with_name(f".{path.name}.tmp")
            pq.write_table(table, temporary, compression="zstd")
            temporary.replace(path)
    settings = {"max_seq_length": max_length, "query_prefix": query_prefix, "document_prefix": document_prefix}
    (export / "metadata.json").write_text(json.dumps(settings, indent=2) + "\n")
    return len(batches)


def main():
    parser = argparse.ArgumentParser(description="Work on what `batchmine export` writes.")
    command = parser.add_subparsers(dest="command", required=True).add_parser(
        "tokenize", help="add tokens to an arctic export"
    )
    command.add_argument("export", help="the folder that batchmine export filled")
    command.add_argument("tokenizer", help="a tokenizer.json, or a name on the Hugging Face hub")
    command.add_argument("--max-length", type=int, default=512, help="tokens of a text at most")
    command.add_argument("--query-prefix", default="")
    command.add_argument("--document-prefix", default="")
    given = parser.parse_args()
    from tokenizers import Tokenizer

    local = pathlib.Path(given.tokenizer).is_file()
    tokenizer = Tokenizer.from_file(given.tokenizer) if local else Tokenizer.from_pretrained(given.tokenizer)
    count = tokenize(given.export, tokenizer, given.max_length, given.query_prefix, given.document_prefix)
    print(f"{count} batches tokenized")


if __name__ == "__main__":
    main()

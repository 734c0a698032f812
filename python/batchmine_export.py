"""Plays what `batchmine export` writes.

`Batches` is the batch sampler for sentence-transformers' trainer. `python -m batchmine_export tokenize` adds to an
arctic export the tokens that Snowflake's arctic-embed trainer reads. Needs pyarrow; tokenizing needs `tokenizers`.
"""

import argparse
import json
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq


class Batches:
    """Batches of a sentence-transformers export, in order, as lists of rows of `pairs.parquet`.

    Give an instance as `batch_sampler` to SentenceTransformerTrainingArguments (it takes any callable, and this
    one answers with the sampler), or as `batch_sampler` to a torch DataLoader.

    The trainer's batch size divides the mined one: each mined batch is then played in so many steps, one after the
    other. That is for several devices: with W of them and |B| / W rows on each, a step is one mined batch.
    Batches smaller than the largest are played where a batch is one step, and left out where it is several, or
    where the trainer drops the last batch.

    An export of all epochs plays epoch e in the trainer's epoch e, and begins again after the last.
    """

    def __init__(self, export, batch_size=None, drop_last=False):
        table = pq.read_table(pathlib.Path(export) / "batches.parquet")
        columns = (table[name].to_pylist() for name in ("epoch", "start", "rows"))
        self.epochs = {}
        for epoch, start, rows in zip(*columns):
            self.epochs.setdefault(epoch, []).append((start, rows))
        self.total = sum(table["rows"].to_pylist())
        self.largest = max(table["rows"].to_pylist())
        self.epoch = 0
        self.set_batch_size(batch_size or self.largest, drop_last)

    def set_batch_size(self, batch_size, drop_last=False):
        if self.largest % batch_size:
            raise ValueError(f"a batch size of {batch_size} does not divide the mined batches of {self.largest} rows")
        self.batch_size, self.drop_last = batch_size, drop_last

    def __call__(self, dataset, batch_size, drop_last, **_):
        """What the trainer calls: holds the dataset against the export."""
        if len(dataset) != self.total:
            raise ValueError(f"the dataset has {len(dataset)} rows, the export {self.total}: load its pairs.parquet")
        self.set_batch_size(batch_size, drop_last)
        return self

    def set_epoch(self, epoch):
        self.epoch = epoch

    def played(self):
        order = sorted(self.epochs)
        batches = self.epochs[order[self.epoch % len(order)]]
        whole = self.drop_last or self.batch_size < self.largest
        return [(start, rows) for start, rows in batches if rows == self.largest or not whole]

    def __iter__(self):
        for start, rows in self.played():
            for step in range(start, start + rows, self.batch_size):
                yield list(range(step, min(step + self.batch_size, start + rows)))

    def __len__(self):
        return sum(-(-rows // self.batch_size) for _, rows in self.played())


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

"""Pairs of embeddings: read from Parquet, made into more rows by jitter, and written."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

QUERY, POSITIVE = "query_embedding", "positive_embedding"
CHUNK = 65_536  # rows converted, written or jittered at a time
JITTER = 0.3  # norm of what `jittered` adds to a unit vector


def files(data):
    """The Parquet files of DATA as batchmine takes them: those of a folder by name, hidden ones skipped."""
    for path in data:
        if path.is_dir():
            inside = [file for file in sorted(path.iterdir()) if file.suffix in (".parquet", ".pq")]
            yield from (file for file in inside if not file.name.startswith((".", "_")))
        elif path.exists():
            yield path
        else:
            raise SystemExit(f"{path}: not there")


def read(data, limit):
    """Both sides as stored, one row a vector."""
    sides, rows = {QUERY: [], POSITIVE: []}, 0
    for file in files(data):
        if limit is not None and rows >= limit:
            break
        parquet = pq.ParquetFile(file)
        missing = sides.keys() - set(parquet.schema_arrow.names)
        if missing:
            raise SystemExit(f"{file}: no column {', '.join(sorted(missing))}")
        for batch in parquet.iter_batches(CHUNK, columns=list(sides)):
            for name, parts in sides.items():
                parts.append(batch[name].flatten().to_numpy().reshape(len(batch), -1))
            rows += len(batch)
            if limit is not None and rows >= limit:
                break
    if not rows:
        raise SystemExit("no rows in DATA")
    return [np.concatenate(parts)[:limit] for parts in sides.values()]


def write(folder, chunks):
    """A Parquet folder of (queries, positives) chunks."""

    def column(vectors):
        return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])

    folder.mkdir()
    writer = None
    for sides in chunks:
        table = pa.table([column(side) for side in sides], names=[QUERY, POSITIVE])
        writer = writer or pq.ParquetWriter(
            folder / "part-00000.parquet", table.schema, compression="none", use_dictionary=False
        )
        writer.write_table(table)
    writer.close()


def unit(vectors):
    """As float32 of length 1. The lengths are float64's."""
    wide = vectors.astype(np.float64)
    return (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)


def jittered(sides, rows):
    """`rows` rows out of the given ones, taken round and round: all turned by one random rotation, each
    with Gaussian noise of its own. As close to each other as real rows are, none of them twice."""
    random = np.random.default_rng(0)
    have, dim = sides[0].shape
    q, r = np.linalg.qr(random.standard_normal((dim, dim)))
    rotation = (q * np.sign(np.diag(r))).astype(np.float32)
    for start in range(0, rows, CHUNK):
        source = np.arange(start, min(start + CHUNK, rows)) % have
        turned = [unit(side[source]) @ rotation for side in sides]
        scale = np.float32(JITTER / dim**0.5)
        yield [unit(t + scale * random.standard_normal(t.shape, np.float32)).astype(np.float16) for t in turned]

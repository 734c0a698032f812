"""Texts into embeddings: files that `mine` takes, made chunk by chunk, so that what was encoded stays encoded."""

from __future__ import annotations

import hashlib
import logging
import os
import pathlib
from collections.abc import Iterator
from typing import Any, Literal

from batchmine import rows
from batchmine.errors import InputError

logger = logging.getLogger("batchmine")
#: What a model is known by: its embedding of this text.
PROBE = "batchmine"
#: Marks a folder as one of `encode`. Readers of Parquet skip it.
MARK = "_encoded_by_batchmine"
QUERY, POSITIVE = rows.QUERY, rows.POSITIVE


def encode(
    pairs: Any,
    model: Any,
    out: str | os.PathLike,
    *,
    query: str = "query",
    positive: str = "positive",
    query_prompt: str | None = None,
    positive_prompt: str | None = None,
    batch_size: int = 64,
    chunk_rows: int = 8192,
    replace: bool = False,
) -> pathlib.Path:
    """Encodes the texts of pairs into the folder `out`, which `mine` takes: Parquet files with all columns of `pairs`,
    but with `query_embedding` and `positive_embedding` as the model makes them, in float32.

    pairs: paths of Parquet files, or what gives an Arrow stream, as `mine` takes it. model: a SentenceTransformer, or
    any object with `encode(texts, batch_size=…)`, which returns an array of (texts, dimensions). query, positive: the
    columns of the texts; the same twice encodes it once for both sides. Prompts stand before the texts; where none is
    given, a SentenceTransformer takes its own, of queries and of documents.

    A file has `chunk_rows` rows. Files that are there from an earlier call, of the same texts and model, stay: a call
    that was stopped goes on behind the last whole one. Files of other texts, or of another model, are refused, and made
    again with `replace`. Memory: the texts and embeddings of a chunk. Needs pyarrow.

    Raises InputError for a folder that has other files, or embeddings of something else; ValueError for a column that
    is not there, a text that is missing, or embeddings that are none.
    """
    from pyarrow import parquet

    folder = _own_folder(out)
    sides = {QUERY: (query, query_prompt), POSITIVE: (positive, positive_prompt)}
    encoders = {name: _encoder(model, name, prompt, batch_size) for name, (_, prompt) in sides.items()}
    model_name = _digest(encoders)
    made, count = 0, -1
    for count, chunk in enumerate(_chunks(pairs, chunk_rows)):
        chunk = chunk.drop_columns([name for name in sides if name in chunk.column_names])
        path = folder / f"part-{count:05}.parquet"
        if _is_made(path, chunk, model_name):
            continue
        if path.exists() and not replace:
            raise _other_texts(path)
        table = chunk
        for name, (column, _) in sides.items():
            texts = _texts(chunk, column, count * chunk_rows)
            table = table.append_column(name, _vectors(encoders[name](texts), len(texts), column))
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"batchmine.model": model_name})
        temporary = folder / f".part-{count:05}.tmp"
        parquet.write_table(table, temporary, compression="zstd", row_group_size=chunk_rows)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        made += 1
        logger.info("%s: %d rows encoded", path, len(chunk))
    for path in sorted(folder.glob("part-*.parquet")):
        if int(path.stem.partition("-")[2]) > count:
            if not replace:
                raise _other_texts(path)
            path.unlink()
    if count >= made:
        logger.info("%d of %d files in %s were there already", count + 1 - made, count + 1, folder)
    if count < 0:
        raise ValueError("there are no pairs to encode")
    return folder


def _own_folder(out) -> pathlib.Path:
    """The folder, which is new or was made by `encode`: nothing of anybody else is replaced."""
    folder = pathlib.Path(os.fsdecode(out))
    if folder.exists() and not (folder / MARK).exists():
        found = next(iter(sorted(folder.iterdir())), None) if folder.is_dir() else folder
        if found is not None:
            raise _refused(
                "the folder of embeddings has files of somebody else",
                folder,
                expected="a folder that is new, empty, or made by batchmine.encode",
                found=found.name,
                remedy="give another folder",
            )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).write_text("Made by batchmine.encode, which may replace the files beside this one.\n")
    return folder


def _other_texts(path) -> InputError:
    return _refused(
        "the folder holds the embeddings of other texts, or of another model",
        path,
        expected="the texts and the model of the earlier call",
        found="others",
        remedy="give another folder (embeddings=), or replace=True to encode anew what is another",
    )


def _refused(what, path, **parts) -> InputError:
    """An error whose text has its parts, as the extension's have."""
    lines = [f"\n  {name + ':':<9} {value}" for name, value in {"where": path, **parts}.items()]
    return InputError(what + "".join(lines), path=path, **parts)


def metric_of(model: Any) -> Literal["cosine", "dot"] | None:
    """The metric that a SentenceTransformer is compared with: "cosine", "dot", or None where it is another."""
    name = getattr(model, "similarity_fn_name", None)
    name = name if isinstance(name, str) else getattr(name, "value", None)
    if name == "cosine":
        return "cosine"
    return "dot" if name == "dot" else None


def _chunks(pairs, chunk_rows) -> Iterator[Any]:
    """Tables of so many rows, and a last one of fewer."""
    import pyarrow

    if rows.is_arrays(pairs):
        raise TypeError("arrays have no texts: give paths, or a table with columns of texts")
    if rows.is_files(pairs):
        import pyarrow.dataset

        paths = rows.paths(pairs)
        if not paths:
            raise ValueError("there are no pairs to encode")
        one = os.fsdecode(paths[0])
        source = one if len(paths) == 1 and os.path.isdir(one) else [os.fsdecode(path) for path in paths]
        reader = pyarrow.dataset.dataset(source, format="parquet").scanner(batch_readahead=1).to_reader()
    else:
        reader = pyarrow.RecordBatchReader.from_stream(rows.stream(pairs))
    waiting, count = [], 0
    for batch in reader:
        while batch.num_rows:
            piece = batch.slice(0, chunk_rows - count)
            batch = batch.slice(piece.num_rows)
            waiting.append(piece)
            count += piece.num_rows
            if count == chunk_rows:
                yield pyarrow.Table.from_batches(waiting, reader.schema)
                waiting, count = [], 0
    if count:
        yield pyarrow.Table.from_batches(waiting, reader.schema)


def _encoder(model, name, prompt, batch_size):
    """What encodes the texts of a side."""
    own = getattr(model, "encode_query" if name == QUERY else "encode_document", None)
    call = own if own is not None and prompt is None else model.encode
    options = {"batch_size": batch_size} | ({} if prompt is None else {"prompt": prompt})
    return lambda texts: call(texts, **options)


def _digest(encoders) -> bytes:
    """What tells a model with its prompts from others: what it makes of the same text."""
    state = hashlib.sha256()
    for encoder in encoders.values():
        state.update(_array(encoder([PROBE])).round(4).astype("<f4").tobytes())
    return state.hexdigest().encode()


def _is_made(path, chunk, model_name) -> bool:
    """Whether a file holds the embeddings of these rows, made by this model."""
    import pyarrow
    from pyarrow import parquet

    if not path.exists():
        return False
    try:
        file = parquet.ParquetFile(path)
        if (file.schema_arrow.metadata or {}).get(b"batchmine.model") != model_name:
            return False
        if not {QUERY, POSITIVE} <= set(file.schema_arrow.names):
            return False
        return file.read(columns=chunk.column_names).equals(chunk)
    except (OSError, pyarrow.ArrowException):
        return False


def _texts(chunk, column, first) -> list[str]:
    if column not in chunk.column_names:
        raise ValueError(f"no column {column!r} of texts; there are {', '.join(chunk.column_names)}")
    texts = chunk[column].to_pylist()
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"row {first + row} has no text in {column!r}, but {text!r}")
    return texts


def _array(found):
    """What a model made, in singles."""
    import numpy

    if hasattr(found, "detach"):
        # A tensor of torch, of whatever number type, on whatever device.
        found = found.detach().float().cpu().numpy()
    return numpy.ascontiguousarray(numpy.asarray(found), dtype=numpy.float32)


def _vectors(found, count, column):
    """An array of embeddings as a column."""
    import pyarrow

    array = _array(found)
    if array.ndim != 2 or len(array) != count:
        raise ValueError(f"the model made an array of {array.shape} of {count} texts of {column!r}")
    return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(array.reshape(-1)), array.shape[1])

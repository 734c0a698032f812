"""Hard negatives as columns of texts, joined by row, without an export."""

from __future__ import annotations

import os
from typing import Any

from batchmine.run import Run, counted
from batchmine.run import open as open_run


def with_negatives(
    run: Run | str | os.PathLike,
    dataset: Any,
    *,
    positive: str = "positive",
    epoch: int = 0,
    count: int | None = None,
    corpus: Any = None,
    document: str = "text",
) -> Any:
    """A data set of Hugging Face with more columns, `negative_1`, `negative_2` …: of each row, the positives of its
    hard negatives in an epoch of a run, in the order drawn.

    dataset: a row for each row of the mined input, in its order, with the texts in the column `positive`. count: so
    many columns; by default as many as were mined. A row with fewer negatives has them again. One without any has the
    positive of another row of its batch, half a batch away, which is its negative in training anyway. Rows that are in
    no batch have empty texts: no sampler plays them.

    corpus: of a run that was mined with one, a data set with a row for each document, in its order, with the texts in
    the column `document`.

    Memory: the texts, and 8 bytes for each of `count` numbers a row. Needs datasets. Raises ValueError where the run
    was mined without hard negatives, the rows are not as many, or there is a corpus in one of run and call alone.
    """
    import datasets
    import numpy
    import pyarrow
    import pyarrow.compute

    run = run if isinstance(run, Run) else open_run(run)
    table = pyarrow.table(run.batches.epoch(epoch))
    mined = run.settings["batches"]["hard_negatives"]
    count = mined if count is None else counted("count", count)
    if not 0 < count <= mined:
        raise ValueError(f"the run has {mined} hard negatives a row, not {count}: mine with hard_negatives")
    facts = run.manifest["stages"]["vectors"]["facts"]
    # Rows that were left out are rows of the input all the same.
    rows = facts["rows"] + facts.get("bad_rows_dropped", 0)
    if len(dataset) < rows or positive not in dataset.column_names:
        raise ValueError(f"the run has {rows} rows, and the data set {len(dataset)}, with {dataset.column_names}")
    documents = _documents(facts.get("corpus"), corpus, document)
    table = table.combine_chunks()
    own = numpy.asarray(table["row"])
    lists = table["negative_rows"].combine_chunks()
    offsets, values = numpy.asarray(lists.offsets), numpy.asarray(lists.values)
    lengths = numpy.diff(offsets)
    others = _half_a_batch_away(own, numpy.asarray(table["batch_id"]))
    texts = dataset.select_columns([positive]).with_format("arrow")[:][positive]
    if documents is not None:
        # Documents are counted behind the last row of the input.
        texts = pyarrow.chunked_array([*texts.slice(0, rows).chunks, *documents.cast(texts.type).chunks], texts.type)
    columns = {}
    for number in range(count):
        at = offsets[:-1] + number % numpy.maximum(lengths, 1)
        drawn = values[numpy.minimum(at, len(values) - 1)] if len(values) else others
        chosen = numpy.where(lengths > 0, drawn, others)
        wanted = numpy.full(len(dataset), -1, dtype=numpy.int64)
        wanted[own] = chosen
        found = texts.take(pyarrow.array(wanted, mask=wanted < 0))
        columns[f"negative_{number + 1}"] = pyarrow.compute.fill_null(found, "")
    return datasets.concatenate_datasets([dataset, datasets.Dataset(pyarrow.table(columns))], axis=1)


def _documents(mined: dict[str, int] | None, corpus: Any, column: str) -> Any:
    """The documents' texts; None of a run without a corpus."""
    if mined is None and corpus is None:
        return None
    if mined is None or corpus is None:
        raise ValueError(f"the run was mined {'without a corpus' if mined is None else 'with a corpus: give it, too'}")
    count = sum(mined.values())
    if len(corpus) != count or column not in corpus.column_names:
        given = f"{len(corpus)}, with {corpus.column_names}"
        raise ValueError(f"the run's corpus has {count} documents, and this one {given}")
    return corpus.select_columns([column]).with_format("arrow")[:][column]


def _half_a_batch_away(rows, batches):
    """For each row the row half a batch behind it, in the same batch; batches lie one after the other."""
    import numpy

    starts = numpy.flatnonzero(numpy.diff(batches, prepend=batches[:1] - 1))
    sizes = numpy.diff(starts, append=len(rows))
    begin, size = numpy.repeat(starts, sizes), numpy.repeat(sizes, sizes)
    return rows[begin + (numpy.arange(len(rows)) - begin + (size + 1) // 2) % size]

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
) -> Any:
    """A data set of Hugging Face with more columns, `negative_1`, `negative_2` …: of each row, the positives of its
    hard negatives in an epoch of a run, in the order drawn.

    dataset: a row for each row of the mined input, in its order, with the texts in the column `positive`. count: so
    many columns; by default as many as were mined. A row with fewer negatives has them again. One without any has the
    positive of another row of its batch, half a batch away, which is its negative in training anyway. Rows that are in
    no batch have empty texts: no sampler plays them.

    Memory: the texts, and 8 bytes for each of `count` numbers a row. Needs datasets. Raises ValueError where the run
    was mined without hard negatives, or the rows are not as many.
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
    rows = run.manifest["stages"]["vectors"]["facts"]["rows"]
    if len(dataset) < rows or positive not in dataset.column_names:
        raise ValueError(f"the run has {rows} rows, and the data set {len(dataset)}, with {dataset.column_names}")
    table = table.combine_chunks()
    own = numpy.asarray(table["row"])
    lists = table["negative_rows"].combine_chunks()
    offsets, values = numpy.asarray(lists.offsets), numpy.asarray(lists.values)
    lengths = numpy.diff(offsets)
    others = _half_a_batch_away(own, numpy.asarray(table["batch_id"]))
    texts = dataset.select_columns([positive]).with_format("arrow")[:][positive]
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


def _half_a_batch_away(rows, batches):
    """For each row the row half a batch behind it, in the same batch; batches lie one after the other."""
    import numpy

    starts = numpy.flatnonzero(numpy.diff(batches, prepend=batches[:1] - 1))
    sizes = numpy.diff(starts, append=len(rows))
    begin, size = numpy.repeat(starts, sizes), numpy.repeat(sizes, sizes)
    return rows[begin + (numpy.arange(len(rows)) - begin + (size + 1) // 2) % size]

"""Which rows of a batch are no negatives of each other, for losses."""

from __future__ import annotations

import os
from typing import Any

from batchmine.run import Run
from batchmine.run import open as open_run


class Mask:
    """Pairs of rows of the mined input, of which the second one's positive is no negative of the first one's query: the
    column `masked` of all epochs.

    `mask.of(rows)` says it of a batch. A pair is masked wherever its rows meet: batches may be divided among processes
    and united again.

    Memory: 8 bytes for each row of the input and each pair. Needs numpy and pyarrow. Raises ValueError where the run
    was mined without mask="suspects".
    """

    def __init__(self, run: Run | str | os.PathLike):
        import numpy
        import pyarrow

        run = run if isinstance(run, Run) else open_run(run)
        if run.settings["batches"].get("mask") != "suspects":
            raise ValueError('the run has no mask: mine with mask="suspects"')
        codes = [numpy.empty(0, numpy.int64)]
        for epoch in range(run.epochs):
            table = pyarrow.table(run.batches.epoch(epoch)).select(["batch_id", "row", "masked"]).combine_chunks()
            own, batches = numpy.asarray(table["row"]), numpy.asarray(table["batch_id"])
            lists = table["masked"].combine_chunks()
            lengths = numpy.diff(numpy.asarray(lists.offsets))
            begins = numpy.searchsorted(batches, batches)
            others = own[numpy.repeat(begins, lengths) + numpy.asarray(lists.flatten())]
            # Rows are below 2³¹: a pair is one number.
            codes.append(numpy.unique((numpy.repeat(own, lengths) << 32) + others))
        pairs = numpy.unique(numpy.concatenate(codes))
        facts = run.manifest["stages"]["vectors"]["facts"]
        #: Rows of the input.
        self.rows: int = facts["rows"] + facts.get("bad_rows_dropped", 0)
        self._others = (pairs & 0xFFFFFFFF).astype(numpy.int64)
        self._starts = numpy.searchsorted(pairs, numpy.arange(self.rows + 1, dtype=numpy.int64) << 32)

    def __len__(self) -> int:
        return len(self._others)

    def of(self, rows: Any, others: Any = None) -> Any:
        """An array of truth values, a row for each of `rows` and a column for each of `others`, by default the same:
        whether the positive of the second is no negative of the query of the first. Rows are numbers of the mined
        input; none is masked for itself."""
        import numpy

        rows = numpy.asarray(rows, dtype=numpy.int64)
        others = rows if others is None else numpy.asarray(others, dtype=numpy.int64)
        if len(rows) and not 0 <= rows.min() <= rows.max() < self.rows:
            raise ValueError(f"rows {rows.min()} to {rows.max()}: the mined input has {self.rows}")
        starts, ends = self._starts[rows], self._starts[rows + 1]
        lengths = ends - starts
        # The masked rows of all rows, one after the other.
        at = numpy.arange(lengths.sum()) + numpy.repeat(starts - numpy.cumsum(lengths) + lengths, lengths)
        masked, anchors = self._others[at], numpy.repeat(numpy.arange(len(rows)), lengths)
        order = numpy.argsort(others, kind="stable")
        ordered = others[order]
        first, last = (numpy.searchsorted(ordered, masked, side) for side in ("left", "right"))
        found = numpy.zeros((len(rows), len(others)), dtype=bool)
        while (meet := first < last).any():
            found[anchors[meet], order[first[meet]]] = True
            first = first + meet
        return found

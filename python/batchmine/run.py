"""A finished run."""

from __future__ import annotations

import json
import operator
import os
import pathlib
from collections.abc import Sequence

from batchmine import _batchmine


def counted(name: str, value: int) -> int:
    """A number that is counted from 0."""
    number = operator.index(value)
    if not 0 <= number < 1 << 32:
        raise ValueError(f"{name} is {number}: give a number from 0 to {(1 << 32) - 1}")
    return number


def _paths(source) -> list[str]:
    paths = [source] if isinstance(source, (str, bytes, os.PathLike)) else source
    return [os.fsdecode(path) for path in paths]


class Batches:
    """The batch table: an Arrow table that pyarrow, Polars, DuckDB and pandas take, by `__arrow_c_stream__`.

    `pyarrow.table(run.batches)`, `polars.DataFrame(run.batches)`. It is read anew each time, a few thousand rows at a
    time, sorted by epoch, batch_id and position. docs/table.md names the columns.
    """

    def __init__(self, folder: str, epoch: int | None = None):
        self._folder, self._epoch = folder, epoch

    def epoch(self, epoch: int) -> Batches:
        """The batches of one epoch, from 0."""
        return Batches(self._folder, counted("epoch", epoch))

    def __arrow_c_stream__(self, requested_schema=None):
        return _batchmine.BatchStream(self._folder, self._epoch).__arrow_c_stream__(requested_schema)


class Report:
    """What a run's batches are worth. `figures`: the dict that report.json has; in notebooks it shows the page."""

    def __init__(self, figures: dict, page: str):
        self.figures, self.page = figures, page

    def _repr_html_(self) -> str:
        # The page has styles of its own, which must not reach the notebook.
        import html

        return f'<iframe srcdoc="{html.escape(self.page)}" width="100%" height="640" style="border:0"></iframe>'

    def __repr__(self) -> str:
        return f"Report(epoch={self.figures['terms']['epoch']}, rows={self.figures['terms']['rows']})"


class Run:
    """A finished run. `batchmine.open(folder)` opens one, and `batchmine.mine` returns one.

    path: its folder. manifest: all that is recorded of it, a dict.
    """

    def __init__(self, folder: str | os.PathLike):
        # The current folder may be another one when it is read.
        self.path = pathlib.Path(os.fsdecode(folder)).absolute()
        self.manifest = json.loads(_batchmine.manifest(os.fspath(self.path)))

    def _stage(self, stage: str) -> dict:
        return self.manifest["stages"].get(stage, {})

    @property
    def settings(self) -> dict:
        """The settings that decided its batches, by stage and keyword."""
        stages = self.manifest["stages"].items()
        return {
            stage: {name.replace("-", "_"): value for name, value in record["settings"].items()}
            for stage, record in stages
        }

    @property
    def summary(self) -> dict:
        """What came out: numbers of batches, full and smaller ones, of divided clusters, of rows left out."""
        return dict(self._stage("batches").get("facts") or {})

    @property
    def epochs(self) -> int:
        """Epochs that were mined."""
        return self._stage("batches")["settings"]["epochs"]

    @property
    def batches(self) -> Batches:
        """The batch table of all epochs."""
        return Batches(os.fspath(self.path))

    @property
    def clusters(self) -> memoryview:
        """The cluster of each row of the input, in its order; -1: in none. 32-bit numbers, which numpy takes."""
        return memoryview(_batchmine.clusters(os.fspath(self.path))).cast("i")

    def neighbors(self, rows: int | Sequence[int]) -> list[dict]:
        """What the run knows of a row of the input, or of several: a dict each, in their order. Ranges are read faster.

        `neighbors` are its candidates, best first, with scores; those of the ranks `window` are preferred negatives,
        those before it suspects. `arcs` and `suspects` are its edges in the graph, `score` is that of its own pair.
        """
        if isinstance(rows, range) and rows.step == 1 and len(rows) > 0:
            ranges = [rows]
        else:
            numbers = [rows] if isinstance(rows, int) else list(rows)
            ranges = [range(counted("rows", row), counted("rows", row) + 1) for row in numbers]
        found = []
        for some in ranges:
            start, stop = counted("rows", some.start), counted("rows", some.stop)
            found += _batchmine.known(os.fspath(self.path), start, stop)
        return [json.loads(row) for row in found]

    def export(
        self,
        format: str,
        out: str | os.PathLike,
        *,
        epoch: int | str = 0,
        query_text: str | None = None,
        positive_text: str | None = None,
        document_text: str | None = None,
        source: str | os.PathLike | Sequence[str | os.PathLike] = (),
        corpus_source: str | os.PathLike | Sequence[str | os.PathLike] = (),
        negatives: int | None = None,
        memory: int | str | None = None,
        replace: bool = False,
        progress=None,
    ) -> pathlib.Path:
        """Writes the batches as a trainer's own files, joined to the texts of the mined rows, into the folder `out`.

        format: "sentence-transformers", "flagembedding", "tevatron", "swift", "arctic", "b3" or
        "neighbors". epoch: a number, or
        "all". source: Parquet files with the texts, in the order of the mined rows; by default the mined files. The
        other arguments are the flags of `batchmine export`. An export that is there already stays, unless `replace`.

        Raises InputError, BudgetError or RunError.
        """
        from batchmine.job import listening, log

        call: _batchmine._ExportCall = {
            "run": os.fspath(self.path),
            "out": os.fsdecode(out),
            "format": format,
            "epoch": str(epoch),
            "query_text": query_text,
            "positive_text": positive_text,
            "document_text": document_text,
            "source": _paths(source),
            "corpus_source": _paths(corpus_source),
            "negatives": None if negatives is None else counted("negatives", negatives),
            "memory": None if memory is None else str(memory),
            "replace": bool(replace),
        }
        with listening(progress) as on_event:
            _batchmine.export(call, on_event, log)
        return pathlib.Path(os.fsdecode(out))

    def verify(self, sample: int = 1000) -> list[str]:
        """Reads all files again, and checks what the run promises; `sample` lists are compared with brute force.

        Returns what is wrong with it: an empty list where it is sound. O(bytes + sample · rows · dimensions).
        """
        from batchmine.job import listening, log

        with listening(False) as on_event:
            faults, _ = _batchmine.verify(os.fspath(self.path), counted("sample", sample), on_event, log)
        return faults

    def report(
        self,
        epoch: int = 0,
        sample: int = 5000,
        progress=None,
        *,
        against: str | os.PathLike | None = None,
        query_text: str | None = None,
        positive_text: str | None = None,
        document_text: str | None = None,
        source: str | os.PathLike | Sequence[str | os.PathLike] = (),
        corpus_source: str | os.PathLike | Sequence[str | os.PathLike] = (),
    ) -> Report:
        """Measures the batches of an epoch beside random ones; `sample` queries are scored against their batches.

        against: another list of batches to measure beside them, a Parquet file of `batch_id` and `id`. The other
        arguments are those of `export`: texts make examples.
        """
        from batchmine.job import listening, log

        call: _batchmine._ReportCall = {
            "run": os.fspath(self.path),
            "epoch": counted("epoch", epoch),
            "sample": counted("sample", sample),
            "against": None if against is None else os.fsdecode(against),
            "query_text": query_text,
            "positive_text": positive_text,
            "document_text": document_text,
            "source": _paths(source),
            "corpus_source": _paths(corpus_source),
        }
        with listening(progress) as on_event:
            figures, page = _batchmine.report(call, on_event, log)
        return Report(json.loads(figures), page)

    def candidates(
        self,
        out: str | os.PathLike,
        budget: int,
        *,
        sample: float = 0.1,
        seed: int = 0,
        replace: bool = False,
        query_text: str | None = None,
        positive_text: str | None = None,
        document_text: str | None = None,
        source: str | os.PathLike | Sequence[str | os.PathLike] = (),
        corpus_source: str | os.PathLike | Sequence[str | os.PathLike] = (),
    ) -> int:
        """Writes the pairs whose judgement matters most into a Parquet file, `budget` at most; returns how many.

        They are queries with positives that are their negatives in training, and that were not judged: closest first,
        and a share of `sample` drawn evenly from the rest. A file that is there is kept, but with `replace`. With a
        column `label` or `relevance` the file is one of `verdicts`: `mine(..., verdicts=[...], replace=True)`. The
        other arguments are those of `export`.
        """
        from batchmine.job import listening, log

        call: _batchmine._PairsCall = {
            "run": os.fspath(self.path),
            "out": os.fsdecode(out),
            "budget": counted("budget", budget),
            "sample": float(sample),
            "seed": counted("seed", seed),
            "replace": bool(replace),
            "query_text": query_text,
            "positive_text": positive_text,
            "document_text": document_text,
            "source": _paths(source),
            "corpus_source": _paths(corpus_source),
        }
        with listening(False) as on_event:
            return _batchmine.candidates(call, on_event, log)

    def sentence_transformers(self, dataset, **options):
        """What SentenceTransformerTrainingArguments takes as `batch_sampler`: see SentenceTransformersSampler."""
        from batchmine.sampler import SentenceTransformersSampler

        return SentenceTransformersSampler(self, dataset, **options)

    def __repr__(self) -> str:
        return f"Run({os.fspath(self.path)!r})"


def open(folder: str | os.PathLike) -> Run:
    """Opens a run folder. Raises InputError where it is none."""
    return Run(folder)

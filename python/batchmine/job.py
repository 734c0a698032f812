"""The whole job."""

from __future__ import annotations

import contextlib
import difflib
import json
import logging
import operator
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from batchmine import _batchmine, rows
from batchmine.encode import encode, metric_of
from batchmine.run import Run

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from batchmine.settings import Settings

logger = logging.getLogger("batchmine")
# The executable of this process is Python: GPU workers are started by the installed command.
_batchmine.started_by([sys.executable, "-m", "batchmine"])
#: Other keywords of `mine`.
OWN = ("out", "ids", "tasks", "keys", "task_settings", "model", "work", "replace", "config", "progress")
#: Of each setting, whether it is a list, by keyword.
SETTINGS = {name.replace("-", "_"): is_list for name, _, is_list, _ in _batchmine.flags()}


def mine(
    pairs: Any = (),
    out: str | os.PathLike = "RUN",
    *,
    ids: Any = None,
    tasks: Any = None,
    keys: Any = None,
    task_settings: Mapping[str, Mapping] | None = None,
    model: Any = None,
    query: str = "query",
    positive: str = "positive",
    embeddings: str | os.PathLike | None = None,
    work: str | os.PathLike | None = None,
    replace: bool = False,
    config: str | os.PathLike | None = None,
    progress: bool | Callable[[dict], None] | None = None,
    **settings: Unpack[Settings],
) -> Run:
    """Mines batches, and returns the finished run.

    A run that was interrupted goes on where it was; a finished one is returned at once. Other data or settings than
    those of the folder's run are refused, unless `replace`.

    pairs: a path, a folder, a glob, or several: embeddings of queries and positives in Parquet, Arrow or `.npy`. Or
        `(queries, positives)`, arrays of (rows, dimensions) of numpy, torch or whatever knows DLPack, in float16,
        float32, float64, bfloat16, int8 or uint8; one array serves both sides. They are read where they lie, and may be
        memory-mapped; nobody must write to them meanwhile. Or what gives an Arrow stream: PyArrow, Polars, DuckDB,
        pandas, Lance, Hugging Face's data sets. What is needed of a stream is on disk, in `out`, while the job runs.
    ids, tasks, keys: with arrays, a value for each row, texts or whole numbers: ids, tasks, and keys, of which a row
        may have a list; a mapping has several kinds of keys by name.
    task_settings: settings of single tasks by name, as in `task_settings={"fonts": {"skip": 70}}`; `tasks` takes them,
        too, where rows have their tasks in a column.
    model: a SentenceTransformer, or any object with `encode`: the texts in the columns `query` and `positive` of
        `pairs` are encoded first, to files in the folder `embeddings`, by default `out` with ".embeddings": see
        `encode`.
    out: the run folder, by default RUN in the current folder. work: a folder for the files of the first four stages.
    config: a TOML file of settings; keywords are stronger, and so are variables `BATCHMINE_*`.
    progress: True: a bar (with tqdm), False: nothing, a function: it is called with each event, a dict as
        `batchmine mine --json` prints, and where it has a method `idle`, that is called ten times a second: what they
        raise stops the job; None: a bar on a terminal or in a notebook.
    settings: each flag of `batchmine mine` as a keyword, as `batchmine.settings.Settings` lists them:
        `batch_size=1024, memory="4GiB", key_column=["doc"]`. Sizes are bytes or texts with a unit; `docs/reference.md`
        says what they mean.

    Messages go to the logger "batchmine". Ctrl-C raises KeyboardInterrupt, as soon as the work in hand is done.

    Raises InputError, BudgetError or RunError; TypeError for a keyword that is no setting.
    """
    if model is not None:
        folder = f"{os.fsdecode(out)}.embeddings" if embeddings is None else embeddings
        pairs = encode(pairs, model, folder, query=query, positive=positive, replace=replace)
        if settings.get("metric") is None:
            settings["metric"] = metric_of(model)
    elif embeddings is not None or (query, positive) != ("query", "positive"):
        raise TypeError("query, positive and embeddings are for a model; columns of embeddings: query_column=")
    call, source = _call(pairs, {"ids": ids, "tasks": tasks, "keys": keys}, task_settings, config, settings)
    call |= {"out": os.fsdecode(out), "work": None if work is None else os.fsdecode(work), "replace": bool(replace)}
    with listening(progress) as on_event:
        _batchmine.mine(call, source, on_event, log)
    return Run(out)


def plan(
    pairs: Any = (),
    *,
    ids: Any = None,
    tasks: Any = None,
    keys: Any = None,
    task_settings: Mapping[str, Mapping] | None = None,
    config: str | os.PathLike | None = None,
    **settings: Unpack[Settings],
) -> dict[str, Any]:
    """What `mine` would cost with the same arguments: memory and disk by stage, seconds of the search, full batches.

    The dict that `batchmine plan --json` prints. It measures a kernel for a second, reads labels, and writes nothing.
    Streams cannot be planned. Raises what `mine` raises.
    """
    call, source = _call(pairs, {"ids": ids, "tasks": tasks, "keys": keys}, task_settings, config, settings)
    with listening(False) as on_event:
        return json.loads(_batchmine.plan(call, source, on_event, log))


def _call(pairs, labels, task_settings, config, settings) -> tuple[_batchmine._Call, Any]:
    """What the extension is called with, and what there is to mine apart from paths."""
    unknown = [name for name in settings if name not in SETTINGS]
    if unknown:
        near = difflib.get_close_matches(unknown[0], [*SETTINGS, *OWN], n=1)
        known = f"did you mean {near[0]}?" if near else f"settings are {', '.join(SETTINGS)}"
        raise TypeError(f"mine() got an unexpected keyword argument {unknown[0]!r}; {known}")
    given = {
        name.replace("_", "-"): _plain(name, value, SETTINGS[name])
        for name, value in settings.items()
        if value is not None
    }
    if isinstance(labels["tasks"], Mapping):
        if task_settings is not None:
            raise TypeError("tasks and task_settings are both settings: give one of them")
        labels, task_settings = labels | {"tasks": None}, labels["tasks"]
    given |= _of_tasks(task_settings or {})
    paths, source, found = _source(pairs, labels)
    for name, value in found.items():
        if given.setdefault(name, value) != value:
            raise TypeError(f"{name.replace('-', '_')} has no effect on arrays, whose columns have names of their own")
    call: _batchmine._Call = {
        "pairs": [os.fsdecode(path) for path in paths],
        "out": "",
        "work": None,
        "replace": False,
        "config": None if config is None else os.fsdecode(config),
        "settings": json.dumps(given),
    }
    return call, source


def _of_tasks(task_settings):
    """Settings of single tasks, as the call has them."""
    given: dict[str, Any] = {}
    for task, own in task_settings.items():
        if not isinstance(own, Mapping):
            raise TypeError(f"tasks[{task!r}] is a mapping of settings, such as {{'skip': 70}}, not {own!r}")
        plain = {name.replace("_", "-"): _plain(name, value) for name, value in own.items() if value is not None}
        given.setdefault("task", {})[task] = plain
    return given


def _source(pairs, labels):
    """Paths, or what else there is to mine, and the settings that follow from it."""
    if rows.is_arrays(pairs):
        columns, found = rows.columns(pairs, **labels)
        return [], columns, {name.replace("_", "-"): value for name, value in found.items()}
    for name, value in labels.items():
        if value is not None:
            column = {"ids": "id_column", "tasks": "task_column", "keys": "key_column"}[name]
            raise TypeError(f"{name} are for arrays: name a column by {column}")
    if not rows.is_files(pairs):
        return [], rows.stream(pairs), {}
    return rows.paths(pairs), None, {}


def _plain(name, value, is_list=False):
    """A value as JSON has it: paths are texts, numbers of other libraries are Python's."""
    if is_list:
        one = isinstance(value, (str, bytes, os.PathLike))
        return [os.fsdecode(item) for item in ([value] if one else value)]
    if isinstance(value, (bool, str)):
        return value
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    try:
        return operator.index(value)
    except TypeError:
        pass
    try:
        if not isinstance(value, (bytes, bytearray)):
            return float(value)
    except (TypeError, ValueError):
        pass
    raise TypeError(f"{name} is a text or a number, not {value!r}")


def log(level: int, text: str) -> None:
    logger.log(level, "%s", text)


@contextlib.contextmanager
def listening(progress):
    """What hears of events: a bar, the caller's function, or nothing."""
    if not callable(progress) and progress not in (None, True, False):
        raise TypeError(f"progress is True, False, None or a function, not {progress!r}")
    if callable(progress):
        yield _Told(progress)
        return
    bar = None if progress is False else _bar(asked=progress is True)
    if bar is None:
        yield lambda text: None
        return
    try:
        yield bar.hear
    finally:
        bar.close()


class _Told:
    """The caller's function."""

    def __init__(self, progress):
        self.progress = progress
        #: Called ten times a second, where the caller has one.
        self.idle = getattr(progress, "idle", None)

    def __call__(self, text):
        self.progress(json.loads(text))


def _bar(asked):
    try:
        from tqdm.auto import tqdm
    except ImportError:
        if asked:
            raise ImportError("progress=True needs tqdm: pip install tqdm") from None
        return None
    return _Bar(tqdm, None if asked else _is_quiet())


def _is_quiet():
    """None: tqdm shows a bar on terminals only. In a notebook it is shown as well."""
    try:
        from IPython import get_ipython

        return False if get_ipython() is not None else None
    except ImportError:
        return None


class _Bar:
    """A bar for each stage, one after the other."""

    def __init__(self, tqdm, disable):
        self.tqdm, self.disable, self.shown = tqdm, disable, None

    def hear(self, text):
        event = json.loads(text)
        if event["event"] == "start":
            self.close()
            self.shown = self.tqdm(
                total=event["total"], desc=event["stage"], unit=f" {event['unit']}", disable=self.disable, leave=False
            )
        elif event["event"] == "progress" and self.shown is not None:
            self.shown.update(event["done"] - self.shown.n)

    def close(self):
        if self.shown is not None:
            self.shown.close()
            self.shown = None

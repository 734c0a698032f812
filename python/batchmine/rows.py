"""What `mine` takes beside files: arrays, and whatever gives an Arrow stream."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from batchmine import _batchmine

logger = logging.getLogger("batchmine")
#: Number types of embeddings, as numpy writes them.
NUMBERS = {"<f2", "<f4", "<f8", "|i1", "|u1"}
#: Names of the columns that are made of arrays.
QUERY, POSITIVE, SHARED = "query_embedding", "positive_embedding", "embedding"
ID, TASK, KEY = "id", "task", "key"


def is_files(pairs) -> bool:
    """Whether `pairs` are paths: one, or a list or another iterable of them."""
    if isinstance(pairs, (str, bytes, os.PathLike)):
        return True
    return not (is_arrays(pairs) or _is_table(pairs))


def paths(pairs) -> list[str | bytes | os.PathLike]:
    """Paths, one or several.

    Raises TypeError, with what helps, for whatever else it is.
    """
    if isinstance(pairs, (str, bytes, os.PathLike)):
        return [pairs]
    known = "pairs are paths, (queries, positives) as arrays, or what gives an Arrow stream"
    if type(pairs).__name__ in ("LazyFrame", "DatasetDict", "IterableDataset", "IterableDatasetDict") or isinstance(
        pairs, Mapping
    ):
        name = type(pairs).__name__
        remedies = {"LazyFrame": "give .collect()", "IterableDataset": "write it to files, or give a Dataset"}
        raise TypeError(f"{known}, not {name}: {remedies.get(name, 'give one of its values')}")
    try:
        found = list(pairs)
    except TypeError:
        raise TypeError(f"{known}, not {type(pairs).__name__}") from None
    for one in found:
        if not isinstance(one, (str, bytes, os.PathLike)):
            batches = hasattr(one, "__arrow_c_array__") or _is_table(one)
            remedy = "pyarrow.RecordBatchReader.from_batches(schema, batches)" if batches else "numpy.asarray(rows)"
            raise TypeError(f"{known}, not a {type(pairs).__name__} of {type(one).__name__}: give {remedy}")
    return found


def is_arrays(pairs) -> bool:
    """Whether `pairs` are an array, or two of them in a tuple or list."""
    if isinstance(pairs, (tuple, list)):
        return len(pairs) == 2 and all(_is_array(side) for side in pairs)
    return _is_array(pairs)


def _is_array(value) -> bool:
    known = hasattr(value, "__array_interface__") or hasattr(value, "__dlpack__") or isinstance(value, memoryview)
    return known and not hasattr(value, "__arrow_c_stream__")


def _is_table(value) -> bool:
    return any(hasattr(value, name) for name in ("__arrow_c_stream__", "to_reader", "scanner")) or _is_dataset(value)


def _is_dataset(value) -> bool:
    datasets = sys.modules.get("datasets")
    return datasets is not None and isinstance(value, datasets.Dataset)


def stream(pairs) -> Any:
    """What has `__arrow_c_stream__`, for a table, a reader, a scanner or a data set.

    Hugging Face's data sets are read in the order of their indices.
    """
    if _is_dataset(pairs):
        import pyarrow

        plain = pairs.with_format("arrow")
        tables = (table for table in plain.iter(batch_size=1000))
        batches = (batch for table in tables for batch in table.to_batches())
        return pyarrow.RecordBatchReader.from_batches(pairs.features.arrow_schema, batches)
    if hasattr(pairs, "__arrow_c_stream__"):
        return pairs
    return pairs.to_reader() if hasattr(pairs, "to_reader") else pairs.scanner().to_reader()


def columns(pairs, ids=None, tasks=None, keys=None) -> tuple[_batchmine.Rows, dict[str, Any]]:
    """Arrays and labels as columns, and the settings that name them.

    pairs: an array of [rows, dim], which serves both sides, or two, of queries and of their positives.
    ids, tasks: a value for each row. keys: the same, or a mapping of several by name; a row may have a list of keys.
    """
    sides = (pairs,) if _is_array(pairs) else tuple(pairs)
    names = (SHARED,) if len(sides) == 1 else (QUERY, POSITIVE)
    arrays = [_array(side, name) for side, name in zip(sides, names)]
    rows = {name: array.shape for name, (array, _) in zip(names, arrays)}
    if len(set(rows.values())) > 1:
        raise ValueError(f"queries are an array of {rows[QUERY]}, and positives one of {rows[POSITIVE]}")
    columns = _batchmine.Rows()
    settings: dict[str, Any] = {}
    for name, (array, bfloat16) in zip(names, arrays):
        columns.add_embeddings(name, array, bfloat16)
        settings["dtype"] = "bf16" if bfloat16 else settings.get("dtype")
        settings["embedding_column" if name == SHARED else name.replace("embedding", "column")] = name
    all_keys = keys if isinstance(keys, Mapping) else {} if keys is None else {KEY: keys}
    labels = {name: values for name, values in ((ID, ids), (TASK, tasks)) if values is not None}
    for name, values in (*labels.items(), *all_keys.items()):
        if name in rows or (name in labels and values is not labels[name]):
            raise ValueError(f"a key is called {name!r}, as another column is: give it another name")
        _add_labels(columns, name, values, arrays[0][0].shape[0], lists=name in all_keys)
    # A key may be called as ids usually are.
    settings["id_column"] = ID if ids is not None else "none"
    settings["task_column"] = TASK if tasks is not None else None
    if all_keys:
        settings["key_column"] = list(all_keys)
    return columns, {name: value for name, value in settings.items() if value is not None}


def _array(value, name) -> tuple[Any, bool]:
    """A C-contiguous array that numpy's interface describes, and whether its numbers are bfloat16."""
    import numpy

    bfloat16 = False
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        if value.device.type != "cpu":
            raise ValueError(f"{name} is on {value.device}: give .cpu()")
        value, bfloat16 = value.detach(), value.dtype == torch.bfloat16
        value = (value.contiguous().view(torch.int16) if bfloat16 else value).numpy()
    elif not hasattr(value, "__array_interface__"):
        value = numpy.asarray(value) if isinstance(value, memoryview) else numpy.from_dlpack(value)
    array = value if isinstance(value, numpy.ndarray) else numpy.asarray(value)
    if array.ndim != 2:
        raise ValueError(f"{name} is an array of {array.shape}: give one of (rows, dimensions)")
    bfloat16 |= array.dtype.name == "bfloat16"
    if not bfloat16 and array.dtype.newbyteorder("<").str not in NUMBERS:
        known = "float16, float32, float64, bfloat16, int8 or uint8"
        raise ValueError(f"{name} is an array of {array.dtype}: give {known}")
    wanted = array if bfloat16 else array.astype(array.dtype.newbyteorder("<"), copy=False)
    whole = numpy.require(wanted, requirements=["C", "A"])
    if not numpy.may_share_memory(whole, array):
        logger.info("%s is copied: its rows do not lie one after the other", name)
    return whole, bfloat16


def _add_labels(columns, name, values, rows, lists) -> None:
    for method in ("to_pylist", "to_list", "tolist"):
        if hasattr(values, method):
            values = getattr(values, method)()
            break
    else:
        values = values if isinstance(values, (list, tuple)) else list(values)
    if len(values) != rows:
        raise ValueError(f"{name} has {len(values)} values for {rows} rows")
    values = [None if _is_missing(value) else value for value in values]
    columns.add_labels(name, values, _kind(name, values, lists))


def _is_missing(value) -> bool:
    """Whether a value is what pandas puts where there is none."""
    return (type(value) is float and value != value) or type(value).__name__ in ("NAType", "NaTType")


def _kind(name, values: Iterable, lists) -> str:
    """What the values are, as `Rows.add_labels` names it."""
    kinds = {type(value) for value in values if value is not None}
    if lists and kinds and kinds <= {list, tuple}:
        inside = _kind(name, [item for value in values for item in value or ()], False)
        return {"integer": "integers", "text": "texts"}.get(inside) or _refuse(name, {float})
    whole = {kind for kind in kinds if hasattr(kind, "__index__") and kind is not bool}
    if whole == kinds:
        return "integer"
    if all(kind in whole or issubclass(kind, float) for kind in kinds):
        return "number"
    if all(issubclass(kind, str) for kind in kinds):
        return "text"
    return _refuse(name, kinds)


def _refuse(name, kinds):
    found = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise TypeError(f"{name} are texts or whole numbers, all of one kind, not {found}")

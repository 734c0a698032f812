"""Arrays and Arrow streams as input: the batches are those of the files."""

import logging
import signal
import subprocess
import sys

import pytest
from conftest import PAIRS, SETTINGS, stage_files

import batchmine

numpy = pytest.importorskip("numpy")
pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

COLUMNS = ["id", "dataset", "query_embedding", "positive_embedding"]
ARRAYS = {name: value for name, value in SETTINGS.items() if name != "task_column"}


@pytest.fixture(scope="module")
def table():
    files = sorted(PAIRS.glob("*.parquet"))
    return pyarrow.concat_tables(parquet.read_table(path, columns=[*COLUMNS, "query"]) for path in files)


@pytest.fixture(scope="module")
def arrays(table):
    """Queries and positives as arrays, and the labels of rows."""
    def side(name):
        chunks = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in table[name].chunks]
        return numpy.concatenate(chunks).reshape(len(table), -1)

    return tuple(map(side, COLUMNS[2:])), {"ids": table["id"], "tasks": table["dataset"].to_pylist()}


def same(run, other):
    """The same work, apart from what the manifest says of the input."""
    for stage in ("vectors", "neighbors", "edges", "clusters"):
        assert stage_files(run.path, stage) == stage_files(other.path, stage), stage
    assert pyarrow.table(run.batches).equals(pyarrow.table(other.batches))


def test_arrays_give_what_files_give(run, arrays, tmp_path):
    pairs, labels = arrays
    assert pairs[0].dtype == numpy.float16
    again = batchmine.mine(pairs, tmp_path / "run", progress=False, **labels, **ARRAYS)
    same(again, run)
    assert again.verify(sample=20) == []


def test_number_types_and_layouts_of_arrays_give_the_same_lists(run, arrays, tmp_path):
    (queries, positives), labels = arrays
    wide = numpy.repeat(queries, 2, axis=1)[:, ::2]
    wider = {
        "singles": (queries.astype("f4"), positives.astype("f4")),
        "doubles and fortran": (queries.astype("f8"), numpy.asfortranarray(positives.astype("f4"))),
        "big-endian and strided": (wide, positives.astype(">f4")),
        "list": [queries, memoryview(positives)],
    }
    for name, pairs in wider.items():
        again = batchmine.mine(pairs, tmp_path / name, progress=False, **labels, **ARRAYS)
        for stage in ("neighbors", "edges", "clusters"):
            assert stage_files(again.path, stage) == stage_files(run.path, stage), name


def test_mapped_arrays_are_read_where_they_lie(run, arrays, tmp_path, caplog):
    pairs, labels = arrays
    for name, side in zip("qp", pairs):
        numpy.save(tmp_path / f"{name}.npy", side)
    mapped = tuple(numpy.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "qp")
    with caplog.at_level(logging.INFO, logger="batchmine"):
        again = batchmine.mine(mapped, tmp_path / "run", progress=False, **labels, **ARRAYS)
    same(again, run)
    assert not any("copied" in record.message for record in caplog.records)
    assert not list((again.path / "tmp").iterdir())


def test_tensors_are_arrays_and_bfloat16_is_one_of_their_types(arrays, tmp_path):
    torch = pytest.importorskip("torch")
    (queries, positives), labels = arrays
    tensors = tuple(torch.from_numpy(side) for side in (queries, positives))
    plain = batchmine.mine(tensors, tmp_path / "plain", progress=False, **labels, **ARRAYS)
    again = batchmine.mine((queries, positives), tmp_path / "again", progress=False, **labels, **ARRAYS)
    same(plain, again)
    brain = tuple(side.to(torch.bfloat16).requires_grad_() for side in tensors)
    rounded = tuple(side.to(torch.bfloat16).to(torch.float32).numpy() for side in tensors)
    first = batchmine.mine(brain, tmp_path / "bf16", progress=False, **labels, **ARRAYS)
    second = batchmine.mine(rounded, tmp_path / "f32", progress=False, **labels, **ARRAYS)
    same(first, second)


def test_one_array_serves_both_sides_and_keys_have_names_and_lists(tmp_path):
    array = numpy.random.default_rng(1).normal(size=(96, 8)).astype("f4")
    tags = [[f"a{row % 48}"] if row % 5 else None for row in range(96)]
    keys = {"page": [row // 2 for row in range(96)], "tags": tags}
    settings = {"batch_size": 8, "cluster_size": 2, "skip": 1, "window": 20, "progress": False}
    run = batchmine.mine(array, tmp_path / "run", keys=keys, **settings)
    for batch in batchmine.BatchSampler(run):
        assert len({row // 2 for row in batch}) == len(batch)
        tags = [row % 48 for row in batch if row % 5]
        assert len(set(tags)) == len(tags)
    assert run.settings["vectors"]["columns"]["shared"] is True
    assert run.verify(sample=20) == []


def test_the_same_arrays_are_the_same_input_and_others_are_refused(arrays, tmp_path):
    (queries, positives), labels = arrays
    first = batchmine.mine((queries, positives), tmp_path / "run", progress=False, **labels, **ARRAYS)
    before = stage_files(first.path, "batches")
    again = batchmine.mine((queries.copy(), positives), tmp_path / "run", progress=False, **labels, **ARRAYS)
    assert stage_files(again.path, "batches") == before
    other = positives.copy()
    other[1999, 383] += 1
    tasks = [*labels["tasks"][:-1], "another"]
    for pairs, changed in (((queries, other), labels), ((queries, positives), {**labels, "tasks": tasks})):
        with pytest.raises(batchmine.InputError, match="other settings"):
            batchmine.mine(pairs, tmp_path / "run", progress=False, **changed, **ARRAYS)


@pytest.mark.parametrize("wrong", [
    lambda q, p: dict(pairs=(q, p[:-1])),
    lambda q, p: dict(pairs=(q[0], p[0])),
    lambda q, p: dict(pairs=(q.astype("i8"), p)),
    lambda q, p: dict(pairs=(q, p), ids=["a"]),
    lambda q, p: dict(pairs=(q, p), tasks=[True] * len(q)),
    lambda q, p: dict(pairs=(q, p), keys=[b"x"] * len(q)),
    lambda q, p: dict(pairs=(q, p), keys={"id": [0] * len(q)}, ids=list(range(len(q)))),
    lambda q, p: dict(pairs=(q, p), task_column="dataset", tasks=["a"] * len(q)),
    lambda q, p: dict(pairs=str(PAIRS), ids=[1, 2]),
    lambda q, p: dict(pairs=(q, p), query_file=["a.npy"]),
])
def test_arrays_that_do_not_fit_are_refused(arrays, tmp_path, wrong):
    with pytest.raises((ValueError, TypeError)):
        batchmine.mine(**wrong(*arrays[0]), out=tmp_path / "run", progress=False)


def test_a_bad_row_of_an_array_is_named(arrays, tmp_path):
    (queries, positives), _ = arrays
    broken = positives.copy()
    broken[7, 3] = numpy.nan
    with pytest.raises(batchmine.InputError) as raised:
        batchmine.mine((queries, broken), tmp_path / "run", progress=False)
    assert str(raised.value.path) == "memory" and "row 7" in str(raised.value), str(raised.value)


def streams(pairs):
    """The same rows from everything that gives an Arrow stream."""
    yield "table", pairs
    yield "reader", pyarrow.RecordBatchReader.from_batches(pairs.schema, pairs.to_batches(max_chunksize=77))
    yield "dictionary", pairs.set_column(1, "dataset", pairs["dataset"].dictionary_encode())
    polars = pytest.importorskip("polars")
    yield "polars", polars.from_arrow(pairs)
    duckdb = pytest.importorskip("duckdb")
    # DuckDB has no half precision, and reads singles.
    yield "duckdb", duckdb.connect().sql(f"select {', '.join(COLUMNS)} from read_parquet('{PAIRS}/*.parquet')")
    pandas = pytest.importorskip("pandas")
    yield "pandas", pandas.DataFrame({name: list(pairs[name].to_numpy(zero_copy_only=False)) for name in COLUMNS})
    datasets = pytest.importorskip("datasets")
    turned = datasets.Dataset(pairs).select(range(len(pairs) - 1, -1, -1))
    yield "datasets", turned.select(range(len(pairs) - 1, -1, -1))


def test_streams_give_what_files_give(run, table, tmp_path):
    names = []
    for name, stream in streams(table.select(COLUMNS)):
        # Letters that mean something in a glob mean nothing here.
        again = batchmine.mine(stream, tmp_path / "_a[b]*?" / name, progress=False, **SETTINGS)
        for stage in ("neighbors", "edges", "clusters"):
            assert stage_files(again.path, stage) == stage_files(run.path, stage), name
        assert pyarrow.table(again.batches).equals(pyarrow.table(run.batches)), name
        assert not list((again.path / "tmp").iterdir()) and again.verify(sample=10) == []
        names.append(name)
    assert len(names) == 7, names


def test_however_a_stream_is_cut_it_is_the_same_input_and_texts_are_no_part_of_it(table, tmp_path):
    first = batchmine.mine(table, tmp_path / "run", progress=False, **SETTINGS)
    before = stage_files(first.path, "batches")
    pieces = pyarrow.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=123))
    assert stage_files(batchmine.mine(pieces, tmp_path / "run", progress=False, **SETTINGS).path, "batches") == before
    other = table.set_column(table.schema.get_field_index("query"), "query", pyarrow.array([""] * len(table)))
    assert stage_files(batchmine.mine(other, tmp_path / "run", progress=False, **SETTINGS).path, "batches") == before
    with pytest.raises(batchmine.InputError, match="other settings"):
        batchmine.mine(table.slice(0, 1999), tmp_path / "run", progress=False, **SETTINGS)


def test_a_stream_that_fails_is_an_error_and_the_next_call_goes_on(run, table, tmp_path):
    def batches():
        yield from table.to_batches()[:1]
        raise LookupError("the source is gone")

    broken = pyarrow.RecordBatchReader.from_batches(table.schema, batches())
    with pytest.raises(batchmine.InputError, match="the source is gone"):
        batchmine.mine(broken, tmp_path / "run", progress=False, **SETTINGS)
    with pytest.raises(batchmine.InputError) as raised:
        batchmine.mine(table, tmp_path / "run", progress=False, **{**SETTINGS, "task_column": "no such"})
    assert raised.value.column == "no such" and "dataset" in raised.value.expected
    again = batchmine.mine(table, tmp_path / "run", progress=False, **SETTINGS)
    assert stage_files(again.path, "clusters") == stage_files(run.path, "clusters")


KILLED = """
import os, signal, sys, batchmine, pyarrow.parquet as parquet, pyarrow
table = parquet.read_table(sys.argv[1])
def batches():
    yield from table.to_batches(max_chunksize=100)[:3]
    os.kill(os.getpid(), signal.SIGKILL)
reader = pyarrow.RecordBatchReader.from_batches(table.schema, batches())
batchmine.mine(reader, sys.argv[2], progress=False, task_column="dataset")
"""


def test_a_kill_while_a_stream_is_read_leaves_a_folder_that_goes_on(run, table, tmp_path):
    pairs = str(sorted(PAIRS.glob("*.parquet"))[0])
    done = subprocess.run([sys.executable, "-c", KILLED, pairs, str(tmp_path / "run")])
    assert done.returncode == -signal.SIGKILL and (tmp_path / "run" / "tmp" / "input.arrow").exists()
    again = batchmine.mine(table, tmp_path / "run", progress=False, **SETTINGS)
    assert stage_files(again.path, "clusters") == stage_files(run.path, "clusters")
    assert not list((again.path / "tmp").iterdir())


def test_a_stream_is_taken_once(table, tmp_path):
    reader = table.to_reader()
    batchmine.mine(reader, tmp_path / "run", progress=False, **SETTINGS)
    with pytest.raises((ValueError, OSError)):
        batchmine.mine(reader, tmp_path / "other", progress=False, **SETTINGS)


def test_what_is_no_input_is_told_what_to_give(table, tmp_path):
    polars = pytest.importorskip("polars")
    for wrong, told in (
        (table.to_batches(), "from_batches"),
        ((batch for batch in table.to_batches()), "from_batches"),
        (polars.from_arrow(table).lazy(), "collect"),
        ({"train": table}, "one of its values"),
        ([[1.0, 2.0]], "asarray"),
        (42, "not int"),
    ):
        with pytest.raises(TypeError, match=told):
            batchmine.mine(wrong, tmp_path / "run", progress=False)
    with pytest.raises(TypeError, match="did you mean batch_size"):
        batchmine.mine(table, tmp_path / "run", batchsize=3)

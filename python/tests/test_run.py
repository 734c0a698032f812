import pytest
from conftest import PAIRS, SETTINGS, command, flags, tables

import batchmine


def test_the_table_is_an_arrow_stream(run):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    whole = arrow.table(run.batches)
    files = sorted((run.path / "batches").glob("*.parquet"))
    wanted = arrow.concat_tables([parquet.read_table(path) for path in files])
    assert whole.equals(wanted.cast(whole.schema)) and whole.column_names == wanted.column_names
    second = arrow.table(run.batches.epoch(1))
    assert set(second["epoch"].to_pylist()) == {1}
    with pytest.raises(batchmine.InputError, match="no such epoch"):
        arrow.table(run.batches.epoch(3))


def test_polars_pandas_and_duckdb_take_it(run):
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(run.batches)
    rows = frame.height
    assert frame["batch_id"].n_unique() == run.summary["batches"]
    duckdb = pytest.importorskip("duckdb")
    arrow = pytest.importorskip("pyarrow")
    stream = arrow.RecordBatchReader.from_stream(run.batches)
    assert duckdb.sql("SELECT count(*) FROM stream").fetchone() == (rows,)
    pandas = pytest.importorskip("pandas")
    assert len(pandas.DataFrame.from_arrow(run.batches)) == rows


def test_a_damaged_table_is_refused(run, tmp_path):
    import shutil

    arrow = pytest.importorskip("pyarrow")
    shutil.copytree(run.path, tmp_path / "run")
    path = sorted((tmp_path / "run" / "batches").glob("*.parquet"))[1]
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 1
    path.write_bytes(damaged)
    broken = batchmine.open(tmp_path / "run")
    with pytest.raises(batchmine.BatchmineError, match=path.name):
        arrow.table(broken.batches)
    assert any(path.name in fault for fault in broken.verify())


def test_a_run_says_what_it_is(run):
    opened = batchmine.open(run.path)
    assert opened.epochs == 3 and opened.summary["full_batches"] > 0
    assert opened.settings["batches"]["seed"] == 5
    assert opened.verify(sample=50) == []
    assert len(tables(opened.path)) == 3


def test_a_report_is_figures_and_a_page(run, tmp_path):
    report = run.report(epoch=1, sample=100, progress=False)
    assert report.figures["terms"]["epoch"] == 1
    assert report._repr_html_().startswith("<iframe") and "</html>" in report.page
    assert not (run.path / "report.json").exists()


def test_neighbors_and_clusters_are_those_of_the_command(run):
    import json

    shown = command("inspect", run.path, "--rows", "3..6", "--json")
    wanted = [json.loads(line) for line in shown.stdout.splitlines()]
    found = run.neighbors(range(3, 6))
    for row in wanted:
        row.pop("query_text", None), row.pop("positive_text", None)
        for neighbor in row["neighbors"]:
            neighbor.pop("text", None)
    assert found == wanted and run.neighbors(4) == wanted[1:2]
    clusters = run.clusters
    assert len(clusters) == 2000 and all(row["cluster_id"] == clusters[row["row"]] for row in found)
    for wrong in (range(0), range(0, 4, 2), 2000, -1):
        with pytest.raises(ValueError):
            run.neighbors(wrong)


def test_an_export_is_that_of_the_command(run, tmp_path):
    out = run.export("tevatron", tmp_path / "here", epoch=1, negatives=1, progress=False)
    flags = ["--format", "tevatron", "--out", tmp_path / "there", "--epoch", 1, "--negatives", 1]
    done = command("export", run.path, *flags)
    assert done.returncode == 0, done.stderr
    files = sorted(path.name for path in out.iterdir() if not path.name.startswith("_"))
    assert files and all((out / name).read_bytes() == (tmp_path / "there" / name).read_bytes() for name in files)
    assert run.export("tevatron", out, epoch=1, negatives=1, progress=False) == out
    with pytest.raises(batchmine.InputError, match="no such format"):
        run.export("csv", tmp_path / "other")


def test_a_plan_is_that_of_the_command():
    import json

    planned = batchmine.plan(PAIRS, **SETTINGS)
    shown = command("plan", PAIRS, *flags(SETTINGS), "--json")
    wanted = json.loads(shown.stdout)
    assert {**planned, "search_seconds": 0} == {**wanted, "search_seconds": 0}
    with pytest.raises(batchmine.InputError):
        batchmine.plan(PAIRS, task_column="no such")

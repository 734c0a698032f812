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
    assert run.neighbors([5, 3]) == [wanted[2], wanted[0]] == run.neighbors(range(5, 2, -2)) and run.neighbors([]) == []
    for wrong in (2000, -1, [3, 2000]):
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
    with pytest.raises(batchmine.InputError, match="cannot be planned"):
        batchmine.plan(pytest.importorskip("pyarrow").table({"embedding": [[1.0, 2.0]]}))


def test_texts_of_rows_that_are_in_no_file_are_asked_for_and_must_be_theirs(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    table = arrow.concat_tables(parquet.read_table(path) for path in sorted(PAIRS.glob("*.parquet")))
    run = batchmine.mine(table, tmp_path / "run", progress=False, **SETTINGS)
    with pytest.raises(batchmine.InputError, match="no texts") as raised:
        run.export("tevatron", tmp_path / "export", progress=False)
    assert "--source" in raised.value.remedy
    parquet.write_table(table, tmp_path / "same.parquet")
    run.export("tevatron", tmp_path / "export", source=tmp_path / "same.parquet", progress=False)
    report = run.report(sample=10, source=[tmp_path / "same.parquet"], progress=False)
    assert report.figures["examples"]["text_columns"] == ["query", "positive"]
    turned = table.take(arrow.array(range(len(table) - 1, -1, -1)))
    parquet.write_table(turned, tmp_path / "turned.parquet")
    with pytest.raises(batchmine.InputError, match="another order") as raised:
        run.export("tevatron", tmp_path / "other", source=tmp_path / "turned.parquet", progress=False)
    assert raised.value.column == "id"


def test_an_export_of_hive_folders_has_their_texts(tmp_path):
    dataset = pytest.importorskip("pyarrow.dataset")
    table = dataset.dataset(PAIRS).to_table()
    layout = {"format": "parquet", "partitioning": ["dataset"], "partitioning_flavor": "hive"}
    dataset.write_dataset(table, tmp_path / "hive", **layout)
    run = batchmine.mine(tmp_path / "hive", tmp_path / "run", task_column="dataset", batch_size=64, progress=False)
    out = run.export("tevatron", tmp_path / "export", progress=False)
    assert any(path.suffix == ".jsonl" and path.stat().st_size > 0 for path in out.rglob("*"))
    assert run.neighbors(0) and run.report(sample=10, progress=False).figures["examples"]["no_texts"] is None

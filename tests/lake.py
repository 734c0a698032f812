#!/usr/bin/env python3
"""Read a published batch table in other programs, and hold each to the run that it was published from.

    python lake.py delta PLACE RUN [VERSION]    the Delta package, DuckDB's Delta extension, Polars
    python lake.py parquet PLACE RUN [task]     DuckDB, Polars, PyArrow; task: the files lie in Hive folders
    python lake.py iceberg PLACE RUN            pyiceberg's add_files; then pyiceberg, Polars, DuckDB's Iceberg
                                              extension
    python lake.py versions PLACE RUN...        each version of a Delta table holds the batches of one of the runs
    python lake.py configure PLACE NAME=VALUE   sets a property of a Delta table
    python lake.py bucket NAME                  makes a bucket in the store that AWS_ENDPOINT_URL names

PLACE is a folder or an s3:// URL. Prints one line a reader, `ok NAME ROWS`; exits 1 with a message on a mismatch.
"""

import importlib
import os
import pathlib
import sys
import tempfile

import pyarrow as pa
import pyarrow.parquet as pq

ORDER = ["epoch", "batch_id", "position"]


def options():
    """How the Delta package and Polars reach the store."""
    return {name.lower(): value for name, value in os.environ.items() if name.startswith("AWS_")}


def s3():
    import pyarrow.fs as fs

    endpoint = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
    keys = {"access_key": os.environ["AWS_ACCESS_KEY_ID"], "secret_key": os.environ["AWS_SECRET_ACCESS_KEY"]}
    return fs.S3FileSystem(endpoint_override=endpoint, scheme="http", region="us-east-1", **keys)


def rows(table):
    """A table's rows in order of the batch table, each as a dictionary."""
    return sorted(table.to_pylist(), key=lambda row: [row[name] for name in ORDER])


def batches(run):
    files = sorted(pathlib.Path(run, "batches").glob("part-*.parquet"))
    return rows(pa.concat_tables(pq.read_table(file, partitioning=None) for file in files))


def same(name, found, expected):
    if [sorted(row) for row in found[:1]] != [sorted(row) for row in expected[:1]]:
        sys.exit(f"{name}: columns {sorted(found[0])}, expected {sorted(expected[0])}")
    if found != expected:
        differing = [pair for pair in zip(found, expected) if pair[0] != pair[1]][:2]
        sys.exit(f"{name}: {len(found)} rows, expected {len(expected)}; {differing}")
    print(f"ok {name} {len(found)}")


def delta(place, run, version=None):
    import deltalake
    import polars as pl

    expected = batches(run)
    table = deltalake.DeltaTable(place, version=version, storage_options=options())
    same("deltalake", rows(table.to_pyarrow_table()), expected)
    polars = pl.read_delta(place, version=version, storage_options=options())
    same("polars", rows(polars.to_arrow()), expected)
    last = expected[-1]["batch_id"]
    filtered = pl.scan_delta(place, version=version, storage_options=options()).filter(pl.col("batch_id") == last)
    same("polars, by batch", rows(filtered.collect().to_arrow()), [r for r in expected if r["batch_id"] == last])
    statistics(table)
    if version is None:
        db = duckdb_with("httpfs", "delta")
        scan = f"select * from delta_scan('{place}')"
        same("duckdb", rows(db.execute(scan).to_arrow_table()), expected)
        some = db.execute(f"{scan} where batch_id = {last}").to_arrow_table()
        same("duckdb, by batch", rows(some), [r for r in expected if r["batch_id"] == last])


def duckdb_with(*extensions):
    """DuckDB with extensions out of their wheels: it would fetch them from a server."""
    import duckdb

    db = duckdb.connect()
    with tempfile.TemporaryDirectory() as home:
        db.execute(f"set extension_directory = '{home}'")
        for name in extensions:
            folder = pathlib.Path(importlib.import_module(f"duckdb_extension_{name}").__file__).parent
            (extension,) = folder.rglob(f"{name}.duckdb_extension")
            db.execute(f"install '{extension}'")
            db.execute(f"load {name}")
    if "AWS_ENDPOINT_URL" in os.environ:
        key, secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
        endpoint = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
        db.execute(
            f"create secret (type s3, key_id '{key}', secret '{secret}', endpoint '{endpoint}', use_ssl false, "
            "url_style 'path', region 'us-east-1')"
        )
    return db


def statistics(table):
    """What the log says of each file is what the file holds."""
    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    whole = table.to_pyarrow_dataset()
    if len(actions) != len(sorted_fragments(whole)):
        sys.exit(f"{len(actions)} files in the log, {len(sorted_fragments(whole))} in the table")
    for fragment, found in zip(sorted_fragments(whole), sorted(actions, key=lambda action: action["path"])):
        data = fragment.to_table(schema=fragment.physical_schema)
        if found["num_records"] != data.num_rows:
            sys.exit(f"{found['path']}: {found['num_records']} rows in the log, {data.num_rows} in the file")
        for name in data.schema.names:
            column = data[name]
            if pa.types.is_list(column.type):
                continue
            values = [value for value in column.to_pylist() if value is not None]
            if found[f"null_count.{name}"] != column.null_count:
                sys.exit(f"{found['path']}: {name} has {column.null_count} nulls, the log says otherwise")
            if values and not (found[f"min.{name}"] <= min(values) and max(values) <= found[f"max.{name}"]):
                sys.exit(f"{found['path']}: {name} is out of the log's bounds")
            if values and not pa.types.is_string(column.type) and found[f"max.{name}"] != max(values):
                sys.exit(f"{found['path']}: {name} ends at {max(values)}, in the log at {found[f'max.{name}']}")
    print(f"ok statistics {len(actions)}")


def sorted_fragments(dataset):
    return sorted(dataset.get_fragments(), key=lambda fragment: fragment.path)


def versions(place, *runs):
    import deltalake

    known = [batches(run) for run in runs]
    newest = deltalake.DeltaTable(place, storage_options=options()).version()
    seen = []
    for version in range(newest + 1):
        table = deltalake.DeltaTable(place, version=version, storage_options=options())
        found = rows(table.to_pyarrow_table())
        if found not in known:
            sys.exit(f"version {version} holds {len(found)} rows that are no run's batches")
        seen.append(known.index(found))
    if len(set(seen)) != len(seen):
        sys.exit(f"a run was published twice: {seen}")
    print(f"ok versions {newest + 1}")


def parquet(place, run, task=None):
    import polars as pl
    import pyarrow.dataset as ds

    expected = batches(run)
    pattern = "task=*/part-*.parquet" if task else "part-*.parquet"
    store, path = (s3(), place.removeprefix("s3://")) if place.startswith("s3://") else (None, place)
    hive = ds.partitioning(pa.schema([("task", pa.string())]), flavor="hive") if task else None
    dataset = ds.dataset(path, format="parquet", partitioning=hive, filesystem=store)
    same("pyarrow", rows(dataset.to_table()), expected)
    polars = pl.read_parquet(
        f"{place}/{pattern}",
        hive_partitioning=bool(task),
        storage_options=options(),
        hive_schema={"task": pl.String} if task else None,
    )
    same("polars", rows(polars.to_arrow()), expected)
    hive = ", hive_partitioning = true, hive_types = {'task': varchar}" if task else ", hive_partitioning = false"
    found = duckdb_with("httpfs").execute(f"select * from read_parquet('{place}/{pattern}'{hive})").to_arrow_table()
    same("duckdb", rows(found), expected)


def iceberg(place, run):
    import polars as pl
    from pyiceberg.catalog.sql import SqlCatalog

    expected = batches(run)
    last = expected[-1]["batch_id"]
    some = [row for row in expected if row["batch_id"] == last]
    files = sorted(str(file) for file in pathlib.Path(place).rglob("part-*.parquet"))
    with tempfile.TemporaryDirectory() as home:
        catalog = SqlCatalog("lake", uri=f"sqlite:///{home}/catalog.db", warehouse=f"file://{home}")
        catalog.create_namespace("batches")
        table = catalog.create_table("batches.mined", schema=pq.read_schema(files[0]))
        table.add_files(files)
        same("pyiceberg", rows(table.scan().to_arrow()), expected)
        same("pyiceberg, by batch", rows(table.scan(row_filter=f"batch_id = {last}").to_arrow()), some)
        same("polars", rows(pl.scan_iceberg(table).collect().to_arrow()), expected)
        of_last = pl.scan_iceberg(table).filter(pl.col("batch_id") == last).collect()
        same("polars, by batch", rows(of_last.to_arrow()), some)
        db = duckdb_with("avro", "iceberg")
        scan = f"select * from iceberg_scan('{table.metadata_location}')"
        same("duckdb", rows(db.execute(scan).to_arrow_table()), expected)
        same("duckdb, by batch", rows(db.execute(f"{scan} where batch_id = {last}").to_arrow_table()), some)


def configure(place, setting):
    import deltalake

    name, value = setting.split("=")
    deltalake.DeltaTable(place, storage_options=options()).alter.set_table_properties({name: value})


def bucket(name):
    import boto3

    boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"]).create_bucket(Bucket=name)


def main():
    verbs = {"delta": delta, "parquet": parquet, "iceberg": iceberg, "versions": versions}
    verbs |= {"configure": configure, "bucket": bucket}
    verb, *words = sys.argv[1:] or [""]
    if verb not in verbs:
        sys.exit(__doc__)
    if verb == "delta" and len(words) == 3:
        words[2] = int(words[2])
    verbs[verb](*words)
    # The readers' threads may still be waiting on the store, and abort the process while it takes itself apart.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()

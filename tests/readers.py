#!/usr/bin/env python3
"""Read a run's batch tables with DuckDB, Polars and PyArrow, and hold each to what the format promises.

    python readers.py RUN/batches int64|string [negatives]

The second argument is the type of `id`; `negatives` says that the run drew hard negatives. Prints one
line a reader, `ok NAME ROWS` or `skipped NAME: not installed`; exits 1 with a message on a mismatch.
"""

import pathlib
import sys

ORDER = ["epoch", "batch_id", "position"]
ALWAYS = ["epoch", "batch_id", "position", "id", "row", "score"]  # without a null
NEGATIVES = ["negatives", "negative_rows", "negative_scores"]  # lists of one length

# One name for a type, and what each reader calls it.
DUCKDB = {"int32": "INTEGER", "int64": "BIGINT", "string": "VARCHAR", "float32": "FLOAT"}
POLARS = {"int32": "Int32", "int64": "Int64", "string": "String", "float32": "Float32"}
ARROW = {"int32": "int32", "int64": "int64", "string": "string", "float32": "float"}


class Mismatch(Exception):
    pass


def need(holds, message):
    if not holds:
        raise Mismatch(message)


def columns(id_type, negatives):
    """(name, type) of each column; a list type is written [element]."""
    table = [
        ("epoch", "int32"),
        ("batch_id", "int64"),
        ("position", "int32"),
        ("cluster_id", "int64"),
        ("task", "string"),
        ("id", id_type),
        ("row", "int64"),
        ("score", "float32"),
    ]
    if negatives:
        table += [("negatives", f"[{id_type}]"), ("negative_rows", "[int64]"), ("negative_scores", "[float32]")]
    return table


def same_columns(found, expected, names, listed):
    """`found` are (name, the reader's type); `listed` is how the reader writes a list of a type."""
    wanted = [(n, listed(names[t[1:-1]]) if t.startswith("[") else names[t]) for n, t in expected]
    need(found == wanted, f"columns are {found}, expected {wanted}")


# Each reader returns rows, sum(row), and the same two of the last batch alone. That batch is asked for
# by a filter, which the reader answers out of statistics and page index where it can: wrong ones lose rows.
# Of hard negatives it adds how many there are, the sum of their rows, and how many score above their row's own.


def with_duckdb(files, expected):
    import duckdb

    db = duckdb.connect()
    paths = [str(file) for file in files]
    db.execute(f"create view t as select * from read_parquet({paths!r})")
    found = [(name, kind) for name, kind, *_ in db.execute("describe t").fetchall()]
    same_columns(found, expected, DUCKDB, lambda element: f"{element}[]")
    nulls = db.execute(f"select count(*) from t where {' or '.join(f'{c} is null' for c in ALWAYS)}").fetchone()[0]
    need(nulls == 0, f"{nulls} rows hold a null in {ALWAYS}")
    key = f"row({', '.join(ORDER)})"
    unsorted = db.execute(
        f"""select count(*) from (
            select {key} as k, lag({key}) over (order by filename, file_row_number) as before
            from read_parquet({paths!r}, filename = true, file_row_number = true)
        ) where before >= k"""
    ).fetchone()[0]
    need(unsorted == 0, f"{unsorted} rows are not after the row before them by {ORDER}")
    totals = "select count(*), sum(row)::bigint from t"
    epoch, batch = db.execute("select epoch, batch_id from t order by 1 desc, 2 desc limit 1").fetchone()
    last = db.execute(f"{totals} where epoch = {epoch} and batch_id = {batch}").fetchone()
    drawn = ()
    if len(expected) > 8:
        lists = [f"len({name})" for name in NEGATIVES]
        differ = f"{lists[0]} <> {lists[1]} or {lists[0]} <> {lists[2]}"
        uneven = db.execute(f"select count(*) from t where {differ}").fetchone()[0]
        need(uneven == 0, f"{uneven} rows have lists of several lengths in {NEGATIVES}")
        drawn = db.execute(
            """select count(*), sum(r)::bigint, count(*) filter (where s > score)
            from (select unnest(negative_rows) as r, unnest(negative_scores) as s, score from t)"""
        ).fetchone()
    return db.execute(totals).fetchone() + last + drawn


def with_polars(files, expected):
    import polars as pl

    table = pl.read_parquet(files)
    found = [(name, str(kind)) for name, kind in table.schema.items()]
    same_columns(found, expected, POLARS, lambda element: f"List({element})")
    nulls = [c for c in ALWAYS if table[c].null_count()]
    need(not nulls, f"nulls in {nulls}")
    after = pl.lit(False)
    for c in reversed(ORDER):
        after = (pl.col(c) > pl.col(c).shift(1)) | ((pl.col(c) == pl.col(c).shift(1)) & after)
    unsorted = table.select((~after).sum()).item()
    need(unsorted == 0, f"{unsorted} rows are not after the row before them by {ORDER}")
    epoch, batch = table["epoch"][-1], table["batch_id"][-1]
    last = pl.scan_parquet(files).filter((pl.col("epoch") == epoch) & (pl.col("batch_id") == batch)).collect()
    drawn = ()
    if len(expected) > 8:
        lengths = [table[name].list.len() for name in NEGATIVES]
        even = lengths[0].equals(lengths[1]) and lengths[0].equals(lengths[2])
        need(even, f"lists of several lengths in {NEGATIVES}")
        flat = table.select("score", *NEGATIVES).explode(NEGATIVES).drop_nulls()
        above = (flat["negative_scores"] > flat["score"]).sum()
        drawn = flat.height, flat["negative_rows"].sum(), above
    return table.height, table["row"].sum(), last.height, last["row"].sum(), *drawn


def with_pyarrow(files, expected):
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    for file in files:
        footer(file, pq.ParquetFile(file).metadata)
    table = pa.concat_tables(pq.read_table(file) for file in files)
    found = [(f.name, f"[{f.type.value_type}]" if pa.types.is_list(f.type) else str(f.type)) for f in table.schema]
    same_columns(found, expected, ARROW, lambda element: f"[{element}]")
    nulls = [c for c in ALWAYS if table[c].null_count]
    need(not nulls, f"nulls in {nulls}")
    after = pa.scalar(False)
    for c in reversed(ORDER):
        before, this = table[c].slice(0, table.num_rows - 1), table[c].slice(1)
        after = pc.or_(pc.greater(this, before), pc.and_(pc.equal(this, before), after))
    unsorted = 0 if table.num_rows < 2 else pc.sum(pc.invert(after)).as_py()
    need(not unsorted, f"{unsorted} rows are not after the row before them by {ORDER}")
    epoch, batch = table["epoch"][-1].as_py(), table["batch_id"][-1].as_py()
    last = pq.read_table(files, filters=[("epoch", "=", epoch), ("batch_id", "=", batch)])
    drawn = ()
    if len(expected) > 8:
        flat = [pc.list_flatten(table[name]) for name in NEGATIVES]
        parents = [pc.list_parent_indices(table[name]) for name in NEGATIVES]
        need(parents[0] == parents[1] == parents[2], f"lists of several lengths in {NEGATIVES}")
        above = pc.sum(pc.greater(flat[2], pc.take(table["score"], parents[0]))).as_py()
        drawn = len(flat[0]), pc.sum(flat[1]).as_py(), above
    return table.num_rows, pc.sum(table["row"]).as_py(), last.num_rows, pc.sum(last["row"]).as_py(), *drawn


def footer(file, meta):
    """What only the file's metadata shows: key-values, sorting columns, page index."""
    keys = [key.decode() for key in meta.metadata or {}]
    need(any(k.startswith("batchmine.") for k in keys), f"{file.name}: no footer key starts with 'batchmine.': {keys}")
    names = [meta.schema.column(c).path for c in range(meta.num_columns)]
    for g in range(meta.num_row_groups):
        group, where = meta.row_group(g), f"{file.name}: row group {g}"
        sorting = [(names[s.column_index], s.descending) for s in group.sorting_columns]
        ascending = sorting == [(c, False) for c in ORDER]
        need(ascending, f"{where}: sorting columns are {sorting}, expected {ORDER} ascending")
        for c, name in enumerate(names):
            column = group.column(c)
            need(column.has_offset_index, f"{where}: {name} has no offset index")
            need(column.has_column_index, f"{where}: {name} has no column index")
            need(column.compression == "ZSTD", f"{where}: {name} is {column.compression}, expected ZSTD")


def main():
    arguments = sys.argv[1:]
    kinds = arguments[1:2]
    if kinds not in (["int64"], ["string"]) or arguments[2:] not in ([], ["negatives"]):
        sys.exit("usage: readers.py BATCHES int64|string [negatives]")
    folder = pathlib.Path(arguments[0])
    files = sorted(folder.glob("part-*.parquet"))
    if not files:
        sys.exit(f"no part-*.parquet in {folder}")
    others = sorted(set(folder.iterdir()) - set(files))
    if others:  # a reader pointed at the folder would read them too
        sys.exit(f"{folder} holds more than part-*.parquet: {[other.name for other in others]}")
    expected = columns(kinds[0], bool(arguments[2:]))

    results = {}
    for name, read in [("duckdb", with_duckdb), ("polars", with_polars), ("pyarrow", with_pyarrow)]:
        try:
            __import__(name)
        except ImportError:
            print(f"skipped {name}: not installed")
            continue
        try:
            results[name] = read(files, expected)
        except Exception as fault:  # a reader that cannot read the table at all is a mismatch too
            sys.exit(f"{name}: {folder}: {fault if isinstance(fault, Mismatch) else repr(fault)}")
        print(f"ok {name} {results[name][0]}")
    if len(set(results.values())) > 1:
        figures = "(rows, sum of row, the last batch's rows and sum of row, and those of hard negatives)"
        sys.exit(f"the readers disagree on {figures}: {results}")


if __name__ == "__main__":
    main()

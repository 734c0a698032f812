"""Hard negatives as columns are those of the batch table."""

import pytest
from conftest import PAIRS

import batchmine

datasets = pytest.importorskip("datasets")
pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def pairs():
    tables = [parquet.read_table(path, columns=["id", "query", "positive"]) for path in sorted(PAIRS.glob("*.parquet"))]
    return datasets.Dataset(pyarrow.concat_tables(tables))


def test_negatives_are_texts_of_the_rows_that_were_drawn(run, pairs):
    more = batchmine.with_negatives(run, pairs, epoch=1)
    assert more.column_names == [*pairs.column_names, "negative_1", "negative_2"]
    positives, batches, short = pairs["positive"], {}, 0
    table = pyarrow.table(run.batches.epoch(1)).to_pylist()
    for row in table:
        batches.setdefault(row["batch_id"], []).append(row["row"])
    for row in table:
        drawn = [positives[other] for other in row["negative_rows"]]
        found = [more[row["row"]][f"negative_{number}"] for number in (1, 2)]
        short += len(drawn) < 2
        if drawn:
            assert found == (drawn * 2)[:2]
        else:
            others = [positives[other] for other in batches[row["batch_id"]] if other != row["row"]]
            assert found[0] == found[1] and found[0] in others
    assert short > 0
    missing = set(range(len(pairs))) - {row["row"] for row in table}
    assert missing and all(more[row]["negative_1"] == "" for row in missing)


def test_negatives_that_are_not_there_are_refused(run, pairs, tmp_path):
    with pytest.raises(ValueError, match="hard_negatives"):
        batchmine.with_negatives(run, pairs, count=3)
    with pytest.raises(ValueError, match="2000 rows"):
        batchmine.with_negatives(run, pairs.select(range(10)))
    plain = batchmine.mine(PAIRS, tmp_path / "run", batch_size=64, progress=False)
    with pytest.raises(ValueError, match="hard_negatives"):
        batchmine.with_negatives(plain, pairs)


def test_documents_of_a_corpus_have_their_texts(pairs, tmp_path):
    table = pyarrow.concat_tables([parquet.read_table(path) for path in sorted(PAIRS.glob("*.parquet"))])
    rows, others = table.slice(0, 1200), table.slice(1200)
    parquet.write_table(rows, tmp_path / "rows.parquet")
    texts = {"id": others["id"], "title": others["positive"]}
    documents = pyarrow.table({"embedding": others["positive_embedding"], **texts})
    parquet.write_table(documents, tmp_path / "documents.parquet")
    settings = dict(batch_size=64, hard_negatives=3, negatives_of="row", progress=False)
    run = batchmine.mine(tmp_path / "rows.parquet", tmp_path / "run", corpus=tmp_path / "documents.parquet", **settings)
    run.verify()
    assert len(run.clusters) == 1200
    own, corpus = pairs.select(range(1200)), datasets.Dataset(pyarrow.table(texts))
    more = batchmine.with_negatives(run, own, corpus=corpus, document="title")
    texts, of_corpus = rows["positive"].to_pylist() + others["positive"].to_pylist(), 0
    for row in pyarrow.table(run.batches.epoch(0)).to_pylist():
        drawn = row["negative_rows"]
        found = [more[row["row"]][f"negative_{number}"] for number in (1, 2, 3)]
        assert not drawn or found == [texts[drawn[number % len(drawn)]] for number in range(3)]
        of_corpus += sum(other >= 1200 for other in drawn)
    assert of_corpus > 300
    with pytest.raises(ValueError, match="with a corpus"):
        batchmine.with_negatives(run, own)
    with pytest.raises(ValueError, match="800 documents"):
        batchmine.with_negatives(run, own, corpus=corpus)
    out = run.export("tevatron", tmp_path / "out", document_text="title", corpus_source=tmp_path / "documents.parquet")
    assert (out / "_SUCCESS").exists()

"""Texts that are encoded on the way: what was encoded stays."""

import hashlib

import pytest
from conftest import PAIRS, stage_files

import batchmine

numpy = pytest.importorskip("numpy")
pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

SETTINGS = {"task_column": "dataset", "batch_size": 16, "cluster_size": 4, "progress": False}


class Model:
    """Vectors of a text's words. It counts what it encodes, and may stop."""

    similarity_fn_name = "cosine"

    def __init__(self, seed="", stop_after=None):
        self.seed, self.stop_after, self.encoded = seed, stop_after, 0

    def encode(self, texts, batch_size, prompt=""):
        if self.stop_after is not None and self.encoded >= self.stop_after:
            raise KeyboardInterrupt
        self.encoded += len(texts)
        vectors = numpy.zeros((len(texts), 32), "f4")
        for vector, text in zip(vectors, texts):
            for word in (self.seed + prompt + text).split():
                vector[hashlib.md5(word.encode()).digest()[0] % 32] += 1
        return vectors


@pytest.fixture(scope="module")
def pairs():
    table = parquet.read_table(sorted(PAIRS.glob("*.parquet"))[0], columns=["id", "dataset", "query", "positive"])
    return table.slice(0, 600)


def test_texts_are_encoded_and_mined_and_an_export_has_them(pairs, tmp_path):
    run = batchmine.mine(pairs, tmp_path / "run", model=Model(), **SETTINGS)
    made = parquet.read_table(tmp_path / "run.embeddings")
    assert made.num_rows == 600 and made.column_names == [*pairs.column_names, "query_embedding", "positive_embedding"]
    vectors = made["query_embedding"].combine_chunks().flatten().to_numpy().reshape(600, 32)
    assert (vectors == Model().encode(pairs["query"].to_pylist(), 1)).all()
    assert run.verify(sample=20) == []
    out = run.export("sentence-transformers", tmp_path / "export", progress=False)
    texts = set(parquet.read_table(out / "pairs.parquet")["anchor"].to_pylist())
    assert texts and texts <= set(pairs["query"].to_pylist())


def test_an_encoding_that_was_stopped_goes_on_behind_its_last_whole_file(pairs, tmp_path):
    whole = batchmine.encode(pairs, Model(), tmp_path / "whole", chunk_rows=100)
    with pytest.raises(KeyboardInterrupt):
        batchmine.encode(pairs, Model(stop_after=500), tmp_path / "stopped", chunk_rows=100)
    assert len(list((tmp_path / "stopped").glob("part-*"))) == 2
    rest = Model()
    batchmine.encode(pairs, rest, tmp_path / "stopped", chunk_rows=100)
    assert rest.encoded == 2 + 2 * 400
    assert stage_files(tmp_path, "stopped") == stage_files(tmp_path, "whole")
    none = Model()
    batchmine.encode(pairs, none, whole, chunk_rows=100)
    assert none.encoded == 2


def test_other_texts_and_another_model_are_encoded_anew(pairs, tmp_path):
    batchmine.encode(pairs, Model(), tmp_path, chunk_rows=100)
    changed = pairs.to_pylist()
    changed[250]["query"] = "other words"
    changed = pyarrow.Table.from_pylist(changed)
    before = stage_files(tmp_path, "")
    for rows, model in ((changed, Model()), (pairs, Model(seed="another ")), (pairs.slice(0, 200), Model())):
        with pytest.raises(batchmine.InputError, match="(?s)other texts.*replace=True"):
            batchmine.encode(rows, model, tmp_path, chunk_rows=100)
        assert stage_files(tmp_path, "") == before
    one = Model()
    batchmine.encode(changed, one, tmp_path, chunk_rows=100, replace=True)
    assert one.encoded == 2 + 200
    other = Model(seed="another ")
    batchmine.encode(pairs, other, tmp_path, chunk_rows=100, replace=True)
    assert other.encoded == 2 + 1200
    fewer = Model(seed="another ")
    batchmine.encode(pairs.slice(0, 150), fewer, tmp_path, chunk_rows=100, replace=True)
    assert fewer.encoded == 2 + 100 and parquet.read_table(tmp_path).num_rows == 150


def test_folders_of_others_are_left_alone(pairs, tmp_path):
    parquet.write_table(pairs, tmp_path / "part-00000.parquet")
    before = stage_files(tmp_path, "")
    for source in (pairs, tmp_path):
        with pytest.raises(batchmine.InputError, match="(?s)somebody else.*another folder"):
            batchmine.encode(source, Model(), tmp_path, replace=True)
    assert stage_files(tmp_path, "") == before


def test_a_refused_job_leaves_the_embeddings_of_the_run(pairs, tmp_path):
    run = batchmine.mine(pairs, tmp_path / "run", model=Model(), **SETTINGS)
    before = stage_files(tmp_path, "run.embeddings")
    with pytest.raises(batchmine.InputError):
        batchmine.mine(pairs.slice(0, 500), tmp_path / "run", model=Model(), **SETTINGS)
    assert stage_files(tmp_path, "run.embeddings") == before
    run.export("tevatron", tmp_path / "export", progress=False)


def test_prompts_and_paths(pairs, tmp_path):
    parquet.write_table(pairs, tmp_path / "pairs.parquet")
    out = batchmine.encode(tmp_path / "pairs.parquet", Model(), tmp_path / "out", query_prompt="query: ")
    table = parquet.read_table(out)
    vectors = table["query_embedding"].combine_chunks().flatten().to_numpy().reshape(600, 32)
    assert (vectors == Model().encode(pairs["query"].to_pylist(), 1, prompt="query: ")).all()


def test_what_cannot_be_encoded_is_refused(pairs, tmp_path):
    with pytest.raises(ValueError, match="no column 'question'"):
        batchmine.encode(pairs, Model(), tmp_path / "a", query="question")
    holes = pairs.to_pylist()
    holes[7]["positive"] = None
    with pytest.raises(ValueError, match="row 7"):
        batchmine.encode(pyarrow.Table.from_pylist(holes), Model(), tmp_path / "b")
    with pytest.raises(TypeError, match="no texts"):
        batchmine.encode(numpy.zeros((3, 4), "f4"), Model(), tmp_path / "c")
    with pytest.raises(TypeError, match="for a model"):
        batchmine.mine(pairs, tmp_path / "d", query="question")

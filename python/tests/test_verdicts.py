"""The loop: candidates, judge, mine again."""

import pytest
from conftest import PAIRS

import batchmine

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


class Judge:
    """Has the shape of sentence-transformers' CrossEncoder, and knows texts by their words."""

    def predict(self, pairs):
        words = [[set(text.lower().split()) for text in pair] for pair in pairs]
        return [len(own & other) / len(own | other) for own, other in words]


def test_candidates_are_judged_and_mined_again_twice(tmp_path):
    settings = dict(out=tmp_path / "run", task_column="dataset", batch_size=64, progress=False)
    run = batchmine.mine(PAIRS, **settings)
    files, right, seen = [], set(), set()
    for turn in range(2):
        out = tmp_path / f"pairs-{turn}.parquet"
        assert run.candidates(out, 1000) == 1000
        pairs = parquet.read_table(out)
        names = list(zip(pairs["row"].to_pylist(), pairs["other_row"].to_pylist(), strict=True))
        assert not seen & set(names)
        seen |= set(names)
        texts = zip(pairs["positive"].to_pylist(), pairs["candidate"].to_pylist(), strict=True)
        relevance = Judge().predict(list(texts))
        right |= {name for name, score in zip(names, relevance, strict=True) if score >= 0.6}
        parquet.write_table(pairs.append_column("relevance", pyarrow.array(relevance)), out)
        files.append(out)
        run = batchmine.mine(PAIRS, verdicts=files, verdict_threshold=0.6, replace=True, **settings)
        assert run.verify() == []
        batch = {row["row"]: row["batch_id"] for row in pyarrow.table(run.batches).to_pylist()}
        assert len(right) > 50 and not any(a in batch and batch[a] == batch.get(b) for a, b in right)
    figures = run.report(sample=50, progress=False).figures["verdicts"]
    # Rows of one positive are one pair.
    assert 0 < figures["pairs"]["right"] <= len(right)
    assert figures["left"]["low"] <= figures["left"]["wrong"] <= figures["left"]["high"]


def test_what_cannot_be_asked_for_is_an_error(run, tmp_path):
    with pytest.raises(batchmine.InputError, match="--budget from 1"):
        run.candidates(tmp_path / "x.parquet", 0)
    with pytest.raises(batchmine.InputError, match="--sample from 0 to 1"):
        run.candidates(tmp_path / "x.parquet", 5, sample=2)
    run.candidates(tmp_path / "there.parquet", 5)
    with pytest.raises(batchmine.InputError, match="--replace"):
        run.candidates(tmp_path / "there.parquet", 5)
    assert run.candidates(tmp_path / "there.parquet", 7, replace=True) == 7
    with pytest.raises(batchmine.InputError, match="no such file"):
        batchmine.mine(PAIRS, out=tmp_path / "run", verdicts=[tmp_path / "none.parquet"], progress=False)

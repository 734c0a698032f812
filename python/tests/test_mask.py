"""The mask for losses is that of the batch table, and losses are those without the masked pairs."""

import itertools

import pytest
from conftest import PAIRS

import batchmine

numpy = pytest.importorskip("numpy")
pyarrow = pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    settings = dict(batch_size=32, skip=20, window=40, suspect_weight=0, epochs=2, mask="suspects", progress=False)
    return batchmine.mine(PAIRS, tmp_path_factory.mktemp("masked") / "run", **settings)


@pytest.fixture(scope="module")
def batches(masked):
    rows = pyarrow.table(masked.batches).to_pylist()
    return [list(group) for _, group in itertools.groupby(rows, key=lambda row: row["batch_id"])]


def expected(batch):
    found = numpy.zeros((len(batch), len(batch)), dtype=bool)
    for row in batch:
        found[row["position"], row["masked"]] = True
    return found


def test_a_batch_is_masked_as_the_table_says(masked, batches):
    mask, met = batchmine.Mask(masked), 0
    assert len(batches) > 100
    for batch in batches:
        found = mask.of([row["row"] for row in batch])
        assert (found == expected(batch)).all()
        met += found.sum()
    assert met > 1000


def test_parts_of_batches_in_any_order_are_masked_alike(masked, batches):
    mask = batchmine.Mask(masked.path)
    draw = numpy.random.default_rng(0)
    for batch in batches[:40]:
        rows, order = numpy.array([row["row"] for row in batch]), draw.permutation(len(batch))
        assert (mask.of(rows[order], rows) == expected(batch)[order]).all()
        twice = numpy.concatenate([rows, rows])
        assert (mask.of(rows[:3], twice) == numpy.tile(expected(batch)[:3], 2)).all()
    assert mask.of([]).shape == (0, 0)
    with pytest.raises(ValueError, match="the mined input has 2000"):
        mask.of([0, 2000])


def test_a_run_without_a_mask_is_refused(run):
    with pytest.raises(ValueError, match="mask="):
        batchmine.Mask(run)


def test_the_loss_is_that_of_the_pairs_that_are_left(masked, batches):
    torch = pytest.importorskip("torch")
    from batchmine.losses import MaskedLoss, masked_info_nce

    torch.manual_seed(0)
    batch = max(batches, key=lambda batch: expected(batch).sum())
    rows, kept = [row["row"] for row in batch], ~expected(batch)
    sides = [torch.nn.functional.normalize(torch.randn(len(batch), 8, dtype=torch.float64)) for _ in range(3)]

    def by_hand(queries, documents, scale):
        total = 0.0
        for own in range(len(batch)):
            others = [at for at in range(len(documents)) if at >= len(batch) or kept[own, at]]
            scores = scale * documents[others] @ queries[own]
            total += torch.logsumexp(scores, 0) - scale * documents[own] @ queries[own]
        return float(total / len(batch))

    mask = torch.from_numpy(batchmine.Mask(masked).of(rows))
    queries, documents = sides[0], torch.cat(sides[1:])
    wanted = by_hand(queries, documents, 20.0)
    assert float(masked_info_nce(queries, documents, mask)) == pytest.approx(wanted)
    assert float(masked_info_nce(queries, documents, mask & False)) > wanted

    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")

    class Encoder(torch.nn.Module):
        """Gives back the vectors that it is given, turned by a matrix that learns."""

        def __init__(self):
            super().__init__()
            self.turn = torch.nn.Parameter(torch.eye(8, dtype=torch.float64))

        def __getitem__(self, number):
            return self

        def forward(self, features, **_):
            return {"sentence_embedding": features["vectors"] @ self.turn}

    labels, gradients = torch.tensor(rows), []
    features = [{"vectors": side, "input_ids": torch.zeros(len(side), 1)} for side in sides]
    for kind, more in [
        (losses.MultipleNegativesRankingLoss, {}),
        (losses.CachedMultipleNegativesRankingLoss, {"mini_batch_size": 5}),
    ]:
        model = Encoder()
        loss = MaskedLoss(kind(model, **more), masked)
        for _ in range(2):
            model.zero_grad()
            found = loss([dict(side) for side in features], labels)
            assert float(found.detach()) == pytest.approx(wanted)
            found.backward()
        gradients.append(model.turn.grad.clone())
        with pytest.raises(ValueError, match="label"):
            loss([dict(side) for side in features], None)
        with torch.no_grad():
            assert float(loss([dict(side) for side in features], None)) > wanted
        assert loss.get_config_dict()["masked_pairs"] > 0
    assert torch.allclose(*gradients)
    with pytest.raises(ValueError, match="more than queries"):
        MaskedLoss(losses.MultipleNegativesSymmetricRankingLoss(Encoder()), masked)

import collections
import itertools
import json
import pickle
import random

import pytest
from conftest import PAIRS, SETTINGS

import batchmine


def mined(run, epoch):
    """The batches of an epoch, as the table has them."""
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table(run.batches.epoch(epoch))
    pairs = zip(table["batch_id"].to_pylist(), table["row"].to_pylist())
    return [[row for _, row in rows] for _, rows in itertools.groupby(pairs, key=lambda pair: pair[0])]


def play(sampler, epoch):
    sampler.set_epoch(epoch)
    return list(sampler)


def test_it_plays_the_mined_batches_of_each_epoch(run):
    sampler = batchmine.BatchSampler(run)
    shortest = min(len(mined(run, epoch)) for epoch in range(3))
    assert len(sampler) == shortest
    for epoch in range(7):
        assert play(sampler, epoch) == mined(run, epoch % 3)[:shortest]


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_state_goes_on_with_the_very_next_batch_at_every_step(run, shuffle):
    make = lambda: batchmine.BatchSampler(run, shuffle=shuffle, seed=4)
    sampler, epoch = make(), 2
    whole = play(sampler, epoch)
    sampler.set_epoch(epoch)
    for step, _ in enumerate(sampler, 1):
        other = make()
        other.load_state_dict(pickle.loads(pickle.dumps(sampler.state_dict())))
        other.set_epoch(epoch)
        assert list(other) == whole[step:]
        # And the epoch behind it is whole.
        assert play(other, epoch + 1) == play(make(), epoch + 1)
    assert sampler.state_dict()["batches"] == len(whole)


def test_a_state_of_another_run_is_refused(run, tmp_path):
    other = batchmine.mine(PAIRS, tmp_path / "other", progress=False, **{**SETTINGS, "seed": 6})
    with pytest.raises(ValueError, match="another run"):
        batchmine.BatchSampler(other).load_state_dict(batchmine.BatchSampler(run).state_dict())


def test_states_that_are_none_are_refused_and_change_nothing(run):
    sampler = batchmine.BatchSampler(run)
    sampler.set_epoch(1)
    steps = iter(sampler)
    whole = [next(steps) for _ in range(4)]
    state = json.loads(json.dumps(sampler.state_dict()))
    wrong = [None, {}, "state", [], *({**state, "batches": value} for value in (-1, 10**9, 5.5, True, "5", None))]
    wrong += [{**state, "epoch": value} for value in (-1, "1", None)]
    wrong += [{name: value for name, value in state.items() if name != left_out} for left_out in state]
    for damaged in wrong:
        with pytest.raises(ValueError):
            sampler.load_state_dict(damaged)
    assert sampler.state_dict() == state and len(whole) == 4
    for other in (
        batchmine.BatchSampler(run, shuffle=True),
        batchmine.BatchSampler(run, world_size=2, rank=0),
    ):
        with pytest.raises(ValueError, match="shuffle|world_size|steps"):
            other.load_state_dict(state)
    # The epoch that is set is the next one's: what is played is still the one before.
    sampler.set_epoch(2)
    next(steps)
    assert sampler.state_dict() == {**state, "batches": 5}
    for epoch in (-1, None, "1", 1.0):
        with pytest.raises((TypeError, ValueError)):
            sampler.set_epoch(epoch)


def test_a_run_that_was_replaced_or_moved_from_is_not_played(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    batchmine.mine(PAIRS, "run", progress=False, **SETTINGS)
    sampler = batchmine.BatchSampler(batchmine.open("run"))
    before = play(sampler, 0)
    monkeypatch.chdir("/")
    assert len(play(sampler, 1)) == len(before)
    batchmine.mine(PAIRS, tmp_path / "run", progress=False, replace=True, **{**SETTINGS, "seed": 6})
    with pytest.raises(ValueError, match="other batches"):
        play(sampler, 2)


@pytest.mark.parametrize("world", [1, 2, 4, 7])
def test_ranks_share_each_batch_and_have_as_many_steps_and_rows(run, world):
    ranks = [batchmine.BatchSampler(run, rank=rank, world_size=world) for rank in range(world)]
    assert len({len(rank) for rank in ranks}) == 1
    for epoch in range(3):
        played = [play(rank, epoch) for rank in ranks]
        whole = [batch for batch in mined(run, epoch) if len(batch) >= world]
        for step, parts in enumerate(zip(*played)):
            assert len({len(part) for part in parts}) == 1, "no rank waits for rows that do not come"
            own = whole[step]
            assert sum(parts, []) == own[: len(own) - len(own) % world]
    with pytest.raises(ValueError, match="counted from 0"):
        batchmine.BatchSampler(run, rank=world, world_size=world)


def test_strided_ranks_read_as_they_were_mined(tmp_path):
    settings = {**SETTINGS, "world_size": 4, "rank_layout": "strided", "remainder": "drop"}
    run = batchmine.mine(PAIRS, tmp_path / "run", progress=False, **settings)
    table = mined(run, 0)
    for rank in range(4):
        sampler = batchmine.BatchSampler(run, rank=rank, world_size=4)
        assert play(sampler, 0) == [batch[rank::4] for batch in table[: len(sampler)]]


def test_shuffled_epochs_are_permutations_and_repeat(run):
    sampler = batchmine.BatchSampler(run, shuffle=True, seed=1)
    plain = [sorted(map(tuple, mined(run, epoch))) for epoch in range(3)]
    first = play(sampler, 0)
    assert first != mined(run, 0)[: len(first)] and set(map(tuple, first)) <= set(plain[0])
    assert first == play(batchmine.BatchSampler(run, shuffle=True, seed=1), 0)
    assert first != play(sampler, 3), "another epoch of the training, another order"


class Rows:
    """A dataset as Hugging Face has it, as far as a sampler looks."""

    def __init__(self, rows):
        self.rows, self.column_names = rows, list(rows[0])

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, row):
        return self.rows[row]


@pytest.fixture(scope="module")
def texts():
    parquet = pytest.importorskip("pyarrow.parquet")
    files = sorted(PAIRS.glob("*.parquet"))
    tables = [parquet.read_table(path, columns=["id", "query", "positive"]).to_pylist() for path in files]
    return sum(tables, [])


def test_the_trainers_dataset_is_held_against_the_mined_one(run, texts):
    sampler = run.sentence_transformers(Rows(texts))
    assert sampler(Rows(texts), 64, False, seed=0) is sampler
    shuffled = random.Random(0).sample(texts, len(texts))
    with pytest.raises(ValueError, match="not the same in the same order"):
        sampler(Rows(shuffled), 64, False)
    # Shuffled before anybody saw it: its ids are not those of the mined rows.
    with pytest.raises(ValueError, match="in the order in which they were mined"):
        run.sentence_transformers(Rows(shuffled))
    with pytest.raises(ValueError, match="rows were|were mined"):
        run.sentence_transformers(Rows(texts[:-1]))
    evaluation = sampler(Rows(texts[:100]), 30, False)
    assert evaluation == [list(range(at, min(at + 30, 100))) for at in range(0, 100, 30)]
    assert len(sampler(Rows(texts[:100]), 30, True)) == 3


def test_several_devices_play_a_batch_in_as_many_steps(run, texts):
    dataset = Rows(texts)
    sampler = run.sentence_transformers(dataset)(dataset, 16, False)
    full = [[batch for batch in mined(run, epoch) if len(batch) == 64] for epoch in range(3)]
    shortest = min(map(len, full))
    assert len(sampler) == 4 * shortest
    for epoch in range(3):
        dataset.set_epoch(epoch)
        steps = list(sampler)
        assert [sum(steps[at : at + 4], []) for at in range(0, len(steps), 4)] == full[epoch][:shortest]
    with pytest.raises(ValueError, match="divide"):
        sampler(dataset, 24, False)


def test_torch_loaders_go_on(run):
    torch = pytest.importorskip("torch")
    data = list(range(100_000))
    loader = lambda sampler, kind=torch.utils.data.DataLoader, workers=0: kind(
        data, batch_sampler=sampler, num_workers=workers, collate_fn=list
    )
    whole = play(batchmine.BatchSampler(run), 1)
    sampler = batchmine.BatchSampler(run)
    sampler.set_epoch(1)
    assert list(loader(sampler, workers=2)) == whole
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    for workers in (0, 2):
        first = batchmine.BatchSampler(run)
        first.set_epoch(1)
        begun = loader(first, stateful, workers)
        steps = iter(begun)
        assert [next(steps) for _ in range(5)] == whole[:5]
        state = begun.state_dict()
        second = batchmine.BatchSampler(run)
        second.set_epoch(1)
        resumed = loader(second, stateful, workers)
        resumed.load_state_dict(state)
        assert list(resumed) == whole[5:]


def test_accelerate_skips_to_the_right_batch(run):
    torch = pytest.importorskip("torch")
    accelerate = pytest.importorskip("accelerate")
    sampler = batchmine.BatchSampler(run)
    loader = accelerate.Accelerator(cpu=True).prepare(
        torch.utils.data.DataLoader(list(range(100_000)), batch_sampler=sampler, collate_fn=list)
    )
    skipped = accelerate.skip_first_batches(loader, 3)
    skipped.set_epoch(2)
    sampler.set_epoch(2)
    assert list(skipped) == play(batchmine.BatchSampler(run), 2)[3:]


RANK = """
import json, sys, torch.distributed as dist, batchmine
run, store, rank = sys.argv[1], sys.argv[2], int(sys.argv[3])
dist.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=2)
sampler = batchmine.BatchSampler(run)
sampler.set_epoch(1)
own = list(sampler)
everyone = [None, None]
dist.all_gather_object(everyone, len(own))
dist.destroy_process_group()
print(json.dumps({"rows": own, "steps": everyone}))
"""


def test_two_processes_of_torch_share_each_batch(run, tmp_path):
    pytest.importorskip("torch")
    import json
    import subprocess
    import sys

    command = [sys.executable, "-c", RANK, str(run.path), str(tmp_path / "store")]
    ranks = [subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True) for rank in (0, 1)]
    found = [json.loads(process.communicate(timeout=120)[0].splitlines()[-1]) for process in ranks]
    assert found[0]["steps"] == found[1]["steps"] == [len(found[0]["rows"])] * 2
    for rank in (0, 1):
        alone = batchmine.BatchSampler(run, rank=rank, world_size=2)
        alone.set_epoch(1)
        assert found[rank]["rows"] == list(alone)


def test_tasks_by_weight_are_played_as_often_as_they_say(tmp_path):
    settings = dict(task_column="dataset", batch_size=32, remainder="drop", progress=False)
    plain = batchmine.mine(PAIRS, out=tmp_path / "plain", **settings)
    run = batchmine.mine(
        PAIRS, out=tmp_path / "run", tasks={"fonts": {"weight": 3}, "libs": {"max_batches": 1}}, **settings
    )
    assert run.verify() == []

    arrow = pytest.importorskip("pyarrow")

    def counts(of):
        rows = arrow.table(of.batches).select(["batch_id", "task", "row"]).to_pylist()
        tasks = {row["batch_id"]: row["task"] for row in rows}
        task_of = {row["row"]: row["task"] for row in rows}
        played = [task_of[batch[0]] for batch in batchmine.BatchSampler(of)]
        assert played == [tasks[number] for number in sorted(tasks)]
        return collections.Counter(played)

    once, found = counts(plain), counts(run)
    assert once["libs"] > 1 and once["fonts"] > 0
    assert found == dict(once) | {"fonts": 3 * once["fonts"], "libs": 1}
    with pytest.raises(batchmine.InputError, match="weight from 0"):
        batchmine.mine(PAIRS, out=tmp_path / "no", tasks={"fonts": {"weight": -1}}, **settings)

"""Batches as a trainer takes them: lists of row numbers, in order, from any point on."""

from __future__ import annotations

import hashlib
import logging
import operator
import os
import random
import sys
from collections.abc import Iterator

from batchmine import _batchmine
from batchmine.run import Run

logger = logging.getLogger("batchmine")

#: Rows of a dataset that are compared with those that were mined.
SAMPLE = 1024


def _numbers(data: bytes) -> memoryview:
    """Little-endian numbers of 8 bytes."""
    if sys.byteorder == "big":
        import array

        swapped = array.array("Q", data)
        swapped.byteswap()
        return memoryview(swapped)
    return memoryview(data).cast("Q")


class RunBatches:
    """The batches of a run, by epoch, as rows of its input."""

    def __init__(self, run: Run | str | os.PathLike):
        self.run = run if isinstance(run, Run) else Run(run)
        self.epochs = self.run.epochs
        self.fingerprint = self._fingerprint(self.run)
        own = self.run.settings["batches"]
        self.strided, self.world_size = own["rank_layout"] == "strided", own["world_size"]

    @staticmethod
    def _fingerprint(run: Run) -> str:
        """Of the files with the batches."""
        parts = run.manifest["stages"]["batches"]["parts"]
        hashes = sorted((name, part["xxh3"]) for name, part in parts.items())
        return hashlib.sha256(repr(hashes).encode()).hexdigest()[:32]

    def read(self, epoch: int) -> tuple[memoryview, memoryview]:
        """Where each batch begins and the last one ends, and the rows of all."""
        if self._fingerprint(Run(self.run.path)) != self.fingerprint:
            raise ValueError(f"{self.run.path} holds other batches than when the sampler was made: make it anew")
        starts, rows = _batchmine.batch_rows(os.fspath(self.run.path), epoch)
        return _numbers(starts), _numbers(rows)


def _process() -> tuple[int, int]:
    """Rank and number of processes, where torch has been told of several."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


class BatchSampler:
    """The batches of a run: give it to torch's DataLoader as `batch_sampler`. It needs no torch.

        sampler = batchmine.BatchSampler(run)
        loader = DataLoader(pairs, batch_sampler=sampler)
        for epoch in range(10):
            sampler.set_epoch(epoch)
            for batch in loader: ...

    It yields lists of row numbers of the mined input, from 0, files in order. Epoch e plays the run's epoch e modulo
    its epochs.

    rank, world_size: each batch is shared among `world_size` processes, and this one gets part `rank` of it: as torch's
        distributed processes say, where those were initialised, else all of it. The number of steps is the same for
        each rank, and so is the size of their parts: what does not divide by `world_size` is left out at the end of
        smaller batches.
    shuffle: batches come in another order in each epoch, drawn from `seed` and the epoch.

    All epochs have the same number of steps: that of the shortest. `len` is exact. What is left out is said once in
    the log.

    `state_dict` says which batches of the epoch were handed out; after `load_state_dict` the next iteration begins
    with the batch behind them. `len` stays that of a whole epoch. Memory: 8 bytes for each row of an epoch.
    """

    def __init__(
        self,
        run: Run | str | os.PathLike,
        *,
        rank: int | None = None,
        world_size: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
    ):
        self._begin(RunBatches(run), shuffle, seed)
        here, processes = _process()
        self.rank = here if rank is None else operator.index(rank)
        self.world_size = processes if world_size is None else operator.index(world_size)
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank {self.rank} of {self.world_size} ranks: ranks are counted from 0")
        self._plan()

    def _begin(self, source, shuffle, seed):
        self._source, self.shuffle, self.seed = source, bool(shuffle), operator.index(seed)
        self.epoch, self._resume, self._loaded = 0, 0, None
        #: The epoch that was played last, and how many of its batches were handed out.
        self._position = (0, 0)
        self.rank, self.world_size, self.drop_last = 0, 1, False
        self._sizes = []
        for epoch in range(source.epochs):
            starts, _ = source.read(epoch)
            self._sizes.append([end - start for start, end in zip(starts, starts[1:])])
        self.largest = max(max(sizes) for sizes in self._sizes)

    def _plan(self):
        counts = [sum(size >= self.world_size for size in sizes) for sizes in self._sizes]
        self.batch_size = self.largest // self.world_size
        self._steps = self._say(counts)

    def _say(self, counts):
        """The number of steps of each epoch, given what each could have."""
        steps = min(counts)
        if steps == 0:
            raise ValueError(f"no batch has a row for each of {self.world_size} ranks")
        if max(counts) > steps:
            logger.info("epochs have %d to %d steps: %d are played of each", steps, max(counts), steps)
        return steps

    def _pieces(self, starts) -> list[tuple[int, int]]:
        """First row and number of rows of each step, in the table's order."""
        world = self.world_size
        sized = ((start, end - start) for start, end in zip(starts, starts[1:]))
        return [(start, size - size % world) for start, size in sized if size >= world]

    def _rows(self, rows, start, size) -> list[int]:
        """The rows of this rank."""
        if self._strided():
            return rows[start + self.rank : start + size : self.world_size].tolist()
        own = size // self.world_size
        return rows[start + self.rank * own : start + (self.rank + 1) * own].tolist()

    def _strided(self):
        return self._source.strided and self._source.world_size == self.world_size

    def _order(self, pieces, epoch):
        if self.shuffle:
            random.Random(f"{self.seed} {epoch}").shuffle(pieces)
        return pieces[: self._steps]

    @property
    def epochs(self) -> int:
        """Epochs that were mined."""
        return self._source.epochs

    def set_epoch(self, epoch: int) -> None:
        """The epoch that the next iteration plays. It begins at its first batch, unless a state of it was loaded."""
        epoch = operator.index(epoch)
        if epoch < 0:
            raise ValueError(f"epoch {epoch}: epochs are counted from 0")
        if epoch != self.epoch:
            self._resume, self._position = 0, (epoch, 0)
        self.epoch = epoch

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[list[int]]:
        epoch, begin = self.epoch, self._resume
        self._resume, self._position = 0, (epoch, begin)
        own = epoch % self._source.epochs
        if self._loaded is None or self._loaded[0] != own:
            self._loaded = (own, self._source.read(own))
        starts, rows = self._loaded[1]
        for step, (start, size) in enumerate(self._order(self._pieces(starts), epoch)):
            if step >= begin:
                self._position = (epoch, step + 1)
                yield self._rows(rows, start, size)

    def state_dict(self) -> dict:
        """Epoch, batches handed out in it, and what decides their order: numbers and texts, as JSON has them."""
        epoch, batches = self._position
        return {"epoch": epoch, "batches": batches, **self._same()}

    def _same(self) -> dict:
        """What a state and its sampler must agree on."""
        return {
            "run": self._source.fingerprint,
            "steps": self._steps,
            "world_size": self.world_size,
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "seed": self.seed if self.shuffle else 0,
        }

    def load_state_dict(self, state: dict) -> None:
        """Goes on behind the state's batches. Raises ValueError where it is none, of another run, or of other ranks."""
        whole = isinstance(state, dict) and all(type(state.get(name)) is int for name in ("epoch", "batches"))
        if not whole or state["epoch"] < 0 or not 0 <= state["batches"] <= self._steps:
            raise ValueError(f"not a state of this sampler: {state!r}")
        for name, own in self._same().items():
            if state.get(name) != own:
                what = f"a sampler of {name} {state.get(name)!r}, and this has {own!r}"
                what = "another run" if name == "run" else what
                raise ValueError(f"the state is of {what}: its batches are not those of this one")
        self.epoch, self._resume = state["epoch"], state["batches"]
        self._position = (self.epoch, self._resume)

    def __getstate__(self):
        # Workers that are started anew get a copy, and read what they need by themselves.
        return {**self.__dict__, "_loaded": None}


class SentenceTransformersSampler(BatchSampler):
    """The batches for SentenceTransformerTrainer: give it to its training arguments as `batch_sampler`.

        arguments = SentenceTransformerTrainingArguments(
            ..., per_device_train_batch_size=64, batch_sampler=run.sentence_transformers(dataset)
        )
        trainer = SentenceTransformerTrainer(..., train_dataset=dataset)

    dataset: the training dataset, with a row for each row of the mined input, in its order. The trainer's must have the
        same rows in the same order, which a sample of them shows; where it has the mined ids as a column, those are
        compared with the run's too. Any other dataset, of an evaluation, is played in its own order.

    The trainer's batch size divides the mined one: each mined batch is then played in so many steps, one after the
    other. That is for several devices: with W of them and |B| / W rows on each, a step is one mined batch. Smaller
    batches are then left out, and played where a batch is one step.
    """

    def __init__(self, run: Run | str | os.PathLike, dataset, *, shuffle: bool = False, seed: int = 0):
        self._begin(RunBatches(run), shuffle, seed)
        self._check_rows(dataset)
        self._known = rows_digest(len(dataset), dataset.__getitem__)
        self.set_batch_size(self.largest)

    def _check_rows(self, dataset):
        """Holds the dataset against what the run knows of its input: the number of rows, and ids."""
        stage = self._source.run.manifest["stages"]["vectors"]
        mined = stage["facts"]["rows"] + stage["facts"].get("bad_rows_dropped", 0)
        if len(dataset) != mined:
            raise ValueError(f"the dataset has {len(dataset)} rows, and {mined} were mined")
        name = stage["settings"]["columns"].get("id")
        if name is None or name not in getattr(dataset, "column_names", ()):
            return
        for row, own in _batchmine.some_ids(os.fspath(self._source.run.path), SAMPLE):
            found = dataset[row][name]
            if str(found) != own:
                raise ValueError(
                    f"row {row} of the dataset has the {name} {found!r}, that of the mined input {own!r}: "
                    "give the dataset with its rows in the order in which they were mined"
                )

    def set_batch_size(self, batch_size: int) -> None:
        """Rows of a step on one device."""
        if batch_size < 1 or self.largest % batch_size:
            raise ValueError(f"a batch size of {batch_size} does not divide the mined batches of {self.largest} rows")
        self.batch_size = batch_size
        whole = batch_size < self.largest or self.drop_last
        counts = [
            sum(-(-size // batch_size) for size in sizes if size == self.largest or not whole) for sizes in self._sizes
        ]
        self._steps = self._say(counts)

    def _pieces(self, starts):
        whole = self.batch_size < self.largest or self.drop_last
        return [
            (step, min(self.batch_size, end - step))
            for start, end in zip(starts, starts[1:])
            if end - start == self.largest or not whole
            for step in range(start, end, self.batch_size)
        ]

    def _rows(self, rows, start, size):
        return rows[start : start + size].tolist()

    def _order(self, pieces, epoch):
        # The steps of a batch stay together.
        each = self.largest // self.batch_size
        if self.shuffle:
            batches = [pieces[at : at + each] for at in range(0, len(pieces), each)]
            random.Random(f"{self.seed} {epoch}").shuffle(batches)
            pieces = [piece for batch in batches for piece in batch]
        return pieces[: self._steps]

    def __call__(self, dataset, batch_size: int, drop_last: bool = False, **_):
        """What the trainer calls, for training and for evaluation."""
        if rows_digest(len(dataset), dataset.__getitem__) != self._known:
            if len(dataset) == self._known[0]:
                raise ValueError(
                    "the dataset has as many rows as the mined one, but not the same in the same order: "
                    "train on the dataset that was given to the sampler, without shuffling it"
                )
            logger.info("a dataset of %d rows, which is not the mined one, is played in its order", len(dataset))
            stop = len(dataset) - (len(dataset) % batch_size if drop_last else 0)
            return [list(range(at, min(at + batch_size, stop))) for at in range(0, stop, batch_size)]
        self.drop_last = drop_last
        self.set_batch_size(batch_size)
        # With several processes, in an epoch that is resumed, accelerate tells the dataset alone of the epoch.
        try:
            dataset.set_epoch = self.set_epoch
        except AttributeError:
            logger.warning("the dataset cannot be told of epochs: resumed on several processes, epochs may be mistaken")
        return self


def sampled_rows(rows: int) -> list[int]:
    """Rows of a dataset that are looked at: the first, the last, some between at random; all of a small one."""
    if rows <= SAMPLE:
        return list(range(rows))
    return sorted({0, rows - 1, *random.Random(rows).sample(range(rows), SAMPLE)})


def rows_digest(rows: int, row) -> tuple[int, str]:
    """The number of rows, and a hash of a sample of them; `row(number)` is one."""
    digest = hashlib.sha256()
    for number in sampled_rows(rows):
        digest.update(repr(row(number)).encode())
        digest.update(b"\0")
    return rows, digest.hexdigest()

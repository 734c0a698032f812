"""Mines training batches for contrastive learning.

    run = batchmine.mine("pairs/", out="RUN", task_column="dataset", batch_size=1024)
    loader = torch.utils.data.DataLoader(pairs, batch_sampler=batchmine.BatchSampler(run))

`mine` is the whole job and goes on where it was interrupted; `open` opens a finished run. `BatchSampler` gives a
trainer the batches as lists of row numbers, and goes on in the midst of an epoch. See docs/python.md.
"""

from batchmine._batchmine import __version__
from batchmine.encode import encode
from batchmine.errors import BatchmineError, BudgetError, FaultError, InputError, Interrupted, RunError
from batchmine.job import mine, plan
from batchmine.mask import Mask
from batchmine.negatives import with_negatives
from batchmine.run import Batches, Report, Run, open
from batchmine.sampler import BatchSampler, SentenceTransformersSampler

__all__ = [
    "BatchSampler",
    "Batches",
    "BatchmineError",
    "BudgetError",
    "FaultError",
    "InputError",
    "Interrupted",
    "Mask",
    "Report",
    "Run",
    "RunError",
    "SentenceTransformersSampler",
    "__version__",
    "encode",
    "mine",
    "open",
    "plan",
    "with_negatives",
]

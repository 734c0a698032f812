"""Losses that know which rows of a batch are no negatives of each other. Needs torch."""

from __future__ import annotations

import functools
import os
from typing import Any

import torch

from batchmine.mask import Mask
from batchmine.run import Run


def masked_info_nce(
    queries: torch.Tensor, documents: torch.Tensor, mask: torch.Tensor, temperature: float = 0.05
) -> torch.Tensor:
    """InfoNCE of queries with their documents, row by row, where `mask` has who is no negative: `Mask.of` of the rows.

    queries: n × dim; documents: the n positives, and any hard negatives behind them; both of unit length. mask: n × n.
    """
    scores = queries @ documents.T / temperature
    masked = torch.nn.functional.pad(mask.to(scores.device), (0, len(documents) - mask.shape[1]))
    scores = scores.masked_fill(masked, float("-inf"))
    return torch.nn.functional.cross_entropy(scores, torch.arange(len(queries), device=scores.device))


class MaskedLoss(torch.nn.Module):
    """A loss of sentence-transformers, without the negatives that a run's mask names.

        dataset = dataset.add_column("label", range(len(dataset)))
        loss = MaskedLoss(MultipleNegativesRankingLoss(model), run)

    loss: MultipleNegativesRankingLoss or CachedMultipleNegativesRankingLoss, with any scale, similarity and hard
        negatives. It is changed: its similarity gives −∞ for who is masked.
    run: mined with mask="suspects".

    The column `label` of the data set has each row's number in the mined input: it is what trainers hand on to a loss.
    Hard negatives of other rows are not masked. Where the loss gathers across devices, rows of other devices are.
    Raises ValueError for a loss that compares other sides than queries with documents.
    """

    def __init__(self, loss: torch.nn.Module, run: Run | Mask | str | os.PathLike):
        super().__init__()
        self.loss = loss
        self.mask = run if isinstance(run, Mask) else Mask(run)
        similarity: Any = getattr(loss, "similarity_fct", None)
        if similarity is None:
            raise ValueError(f"{type(loss).__name__} has no similarity of queries and documents")
        directions = tuple(getattr(loss, "directions", ("query_to_doc",)))
        if directions != ("query_to_doc",) or "Symmetric" in type(loss).__name__:
            raise ValueError(f"{type(loss).__name__} compares more than queries with documents: it has no mask")
        #: Who is masked in the batch at hand, and how many of its rows were compared so far.
        self._masked, self._done = None, 0

        @functools.wraps(similarity)
        def masked(queries: torch.Tensor, documents: torch.Tensor) -> torch.Tensor:
            return self._without_masked(similarity(queries, documents))

        loss.similarity_fct = masked

    def _without_masked(self, scores: torch.Tensor) -> torch.Tensor:
        """The scores of the next rows of the batch: losses that keep gradients compare a few at a time."""
        if self._masked is None:
            return scores
        begin, self._done = self._done, self._done + len(scores)
        own = self._masked[begin : self._done]
        if own.shape[0] != scores.shape[0] or scores.shape[1] % own.shape[1]:
            raise ValueError(f"the loss compares {tuple(scores.shape)}, and the batch has {tuple(self._masked.shape)}")
        if self._done == len(self._masked):
            self._done = 0
        own = torch.nn.functional.pad(own, (0, scores.shape[1] - own.shape[1]))
        return scores.masked_fill(own.to(scores.device), float("-inf"))

    def forward(self, sentence_features: Any, labels: torch.Tensor | None = None) -> torch.Tensor:
        """The loss of a batch; labels: the rows' numbers in the mined input."""
        if labels is None:
            if torch.is_grad_enabled():
                raise ValueError('the data set has no column "label" with the numbers of the mined rows')
            self._masked = None  # an evaluation on other rows
        else:
            rows = labels.flatten()
            others = _gathered(rows) if getattr(self.loss, "gather_across_devices", False) else rows
            self._masked = torch.from_numpy(self.mask.of(rows.cpu().numpy(), others.cpu().numpy()))
        self._done = 0
        return self.loss(sentence_features, labels)

    def get_config_dict(self) -> dict[str, Any]:
        """What model cards say of it."""
        return {"loss": type(self.loss).__name__, "masked_pairs": len(self.mask)}


def _gathered(rows: torch.Tensor) -> torch.Tensor:
    """The rows of all processes, in the order of their ranks."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return rows
    all_rows = [torch.empty_like(rows) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(all_rows, rows.contiguous())
    return torch.cat(all_rows)

"""Curated batches, after Welle, Poklukar and Kragic, "Batch Curation for Unsupervised Contrastive Representation
Learning" (2021, arXiv 2108.08643): of random batches those are taken that are in line with the contrastive objective.

Written from the paper's abstract: it asks for batches whose similar pairs are closer than their dissimilar ones, as the
model sees them. Here the teacher does. A batch is the one of TRIES random draws in which the fewest queries score
another row's positive as high as their own; what is not taken goes back.
"""

import numpy as np

TRIES = 16


def curated(queries, positives, size, random):
    """Batches of `size` rows, each row in one at most, in order of drawing."""
    left, batches = np.arange(len(queries)), []
    while len(left) >= size:
        draws = [random.choice(len(left), size, replace=False) for _ in range(min(TRIES, len(left) // size))]
        best = min(draws, key=lambda draw: _violations(queries[left[draw]], positives[left[draw]]))
        batches.append(left[best])
        left = np.delete(left, best)
    return batches


def _violations(queries, positives):
    """How many queries score another positive as high as their own."""
    scores = queries @ positives.T
    own = np.diag(scores).copy()
    np.fill_diagonal(scores, -np.inf)
    return int((scores.max(1) >= own).sum())

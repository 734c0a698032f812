"""High-loss mini-batches by spectral clustering, after Cho, Choi, Lee et al., "Mini-Batch Optimization of Contrastive
Loss" (2023, arXiv 2307.05906), section 5 and appendix: pairs of examples are weighted by the contrastive loss that the
two have as a batch of their own, and examples are divided into even clusters that keep heavy pairs inside.

The paper divides all examples at once or blocks of them; a block here has BLOCK random ones. Even sizes: k-means in the
space of the Laplacian's first eigenvectors, whose clusters take their examples in the order of distances until full.
"""

import numpy as np

BLOCK = 2048
ROUNDS = 10  # of k-means
TEMPERATURE = 0.05  # of the teacher's loss: its cosines lie close together


def even_clusters(queries, positives, size, random):
    """Rows of clusters of `size`, a line each, of blocks of random rows; -1 beyond the end of the last."""
    order = random.permutation(len(queries))
    lines = []
    for start in range(0, len(order), BLOCK):
        rows = order[start : start + BLOCK]
        labels = _even(_weights(queries[rows], positives[rows]), size, random)
        for label in range(labels.max() + 1):
            own = rows[labels == label]
            lines.append(np.pad(own, (0, size - len(own)), constant_values=-1))
    return np.array(lines)


def _weights(queries, positives):
    """The loss of each two examples as a batch of two, both ways."""
    scores = queries @ positives.T / TEMPERATURE
    one_way = np.logaddexp(0, scores - np.diag(scores)[:, None])
    weights = one_way + one_way.T
    np.fill_diagonal(weights, 0)
    return weights


def _even(weights, size, random):
    """The label of each example."""
    count = -(-len(weights) // size)
    scale = 1 / np.sqrt(weights.sum(1) + 1e-12)
    _, vectors = np.linalg.eigh(weights * scale[:, None] * scale)
    points = vectors[:, -min(count, 64) :]
    points /= np.linalg.norm(points, axis=1, keepdims=True) + 1e-12
    centres = points[random.choice(len(points), count, replace=False)]
    for _ in range(ROUNDS):
        labels = _filled(points @ centres.T, size)
        sums = np.zeros_like(centres)
        np.add.at(sums, labels, points)
        centres = sums / (np.linalg.norm(sums, axis=1, keepdims=True) + 1e-12)
    return labels


def _filled(similar, size):
    """Each example's cluster: the closest pairs first, until a cluster is full."""
    labels, room = np.full(len(similar), -1), np.full(similar.shape[1], size)
    for pair in np.argsort(-similar, axis=None):
        example, cluster = divmod(pair, similar.shape[1])
        if labels[example] < 0 and room[cluster] > 0:
            labels[example] = cluster
            room[cluster] -= 1
    return labels

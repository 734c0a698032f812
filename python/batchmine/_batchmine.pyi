"""The extension module; `batchmine` is its interface."""

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, TypedDict

__version__: str

class _Call(TypedDict):
    pairs: list[str]
    out: str | PathLike[str]
    work: str | PathLike[str] | None
    replace: bool
    config: str | PathLike[str] | None
    settings: str

class _ReportCall(TypedDict):
    run: str
    epoch: int
    sample: int
    against: str | None
    query_text: str | None
    positive_text: str | None
    document_text: str | None
    source: list[str]
    corpus_source: list[str]

class _PairsCall(TypedDict):
    run: str
    out: str
    budget: int
    sample: float
    seed: int
    replace: bool
    query_text: str | None
    positive_text: str | None
    document_text: str | None
    source: list[str]
    corpus_source: list[str]

class _ExportCall(TypedDict):
    run: str
    out: str
    format: str
    epoch: str
    query_text: str | None
    positive_text: str | None
    document_text: str | None
    source: list[str]
    corpus_source: list[str]
    negatives: int | None
    memory: str | None
    replace: bool

class _WorkCall(TypedDict):
    run: str
    stage: str | None
    parts: list[str]
    memory: int | None
    threads: int | None
    scratch: str | None

class Rows:
    def __init__(self) -> None: ...
    def add_embeddings(self, name: str, array: Any, bfloat16: bool) -> None: ...
    def add_labels(self, name: str, values: Sequence[Any], kind: str) -> None: ...

class BatchStream:
    def __init__(self, folder: str, epoch: int | None = None) -> None: ...
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...

def main(arguments: Sequence[str]) -> int: ...
def flags() -> list[tuple[str, str, bool, list[str]]]: ...
def started_by(command: Sequence[str]) -> None: ...
def mine(
    call: _Call, rows: Any, on_event: Callable[[str], Any], on_line: Callable[[int, str], Any]
) -> None: ...
def plan(
    call: _Call, rows: Any, on_event: Callable[[str], Any], on_line: Callable[[int, str], Any]
) -> str: ...
def export(
    call: _ExportCall, on_event: Callable[[str], Any], on_line: Callable[[int, str], Any]
) -> dict[str, int] | None: ...
def manifest(folder: str) -> str: ...
def verify(
    folder: str, sample: int, on_event: Callable[[str], Any], on_line: Callable[[int, str], Any]
) -> tuple[list[str], list[str]]: ...
def report(
    call: _ReportCall, on_event: Callable[[str], Any], on_line: Callable[[int, str], Any]
) -> tuple[str, str]: ...
def candidates(
    call: _PairsCall, on_event: Callable[[str], Any], on_line: Callable[[int, str], Any]
) -> int: ...
def pieces(folder: str, threads: int | None) -> str: ...
def work(
    call: _WorkCall, on_event: Callable[[str], Any], on_line: Callable[[int, str], Any]
) -> str: ...
def known(folder: str, start: int, end: int) -> list[str]: ...
def clusters(folder: str) -> bytes: ...
def batch_rows(folder: str, epoch: int) -> tuple[bytes, bytes]: ...
def some_ids(folder: str, most: int) -> list[tuple[int, str]]: ...

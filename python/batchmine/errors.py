"""What can go wrong, as exceptions."""

from __future__ import annotations


class BatchmineError(Exception):
    """What went wrong, where, what was expected, what was found, and what to do: the parts that are known, else None.

    path: the file or folder. column, task: their names. row_group: from 0. row: from 0 within the file.
    """

    def __init__(self, message: str, **parts):
        super().__init__(message)
        names = ("path", "column", "task", "row_group", "row", "expected", "found", "remedy")
        self.path, self.column, self.task, self.row_group, self.row, self.expected, self.found, self.remedy = (
            parts.get(name) for name in names
        )

    def __reduce__(self):
        return _rebuilt, (type(self), self.args[0], self.__dict__)


def _rebuilt(kind, message, parts):
    return kind(message, **parts)


class InputError(BatchmineError, ValueError):
    """A setting, or input, that cannot be used (the command's exit code 2)."""


class RunError(BatchmineError, RuntimeError):
    """A failure while it ran, such as a full disk or a damaged file (exit code 1)."""


class FaultError(BatchmineError):
    """A run does not keep its promises (exit code 3)."""


class BudgetError(BatchmineError, MemoryError):
    """The memory budget cannot hold the job; `remedy` names the least that can (exit code 4)."""


class Interrupted(BatchmineError):
    """The job was stopped; it goes on when it is called again (exit code 130)."""

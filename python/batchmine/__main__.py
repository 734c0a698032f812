"""The command line: `batchmine`, or `python -m batchmine`."""

import signal
import sys

from batchmine import _batchmine


def main() -> int:
    """Runs the command line; returns its exit code."""
    # The command line has handlers of its own; Python's would only be called when it has ended.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _batchmine.main(["batchmine", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())

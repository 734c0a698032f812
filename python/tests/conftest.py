"""What the tests of the installed wheel share. They import `batchmine` from where it is installed, never from here."""

import pathlib
import subprocess
import sys

import pytest

import batchmine

ROOT = pathlib.Path(__file__).parents[2]
PAIRS = ROOT / "fixtures" / "debian"
SETTINGS = {"task_column": "dataset", "batch_size": 64, "cluster_size": 8, "epochs": 3, "hard_negatives": 2, "seed": 5}

assert ROOT / "python" not in pathlib.Path(batchmine.__file__).parents, "the wheel is tested, not the sources"


def command(*arguments):
    """The installed command line."""
    return subprocess.run([sys.executable, "-m", "batchmine", *map(str, arguments)], capture_output=True, text=True)


def flags(settings):
    return [text for name, value in settings.items() for text in (f"--{name.replace('_', '-')}", str(value))]


def tables(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "batches").glob("*.parquet"))}


def stage_files(folder, stage):
    return {path.name: path.read_bytes() for path in sorted((folder / stage).iterdir())}


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A run of three epochs of real pairs."""
    return batchmine.mine(PAIRS, tmp_path_factory.mktemp("mined") / "run", progress=False, **SETTINGS)

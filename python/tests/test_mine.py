import logging
import os
import pathlib
import pickle
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from conftest import PAIRS, ROOT, SETTINGS, command, flags, tables

import batchmine


def test_the_batches_are_those_of_the_command_byte_for_byte(run, tmp_path):
    done = command("mine", PAIRS, "--out", tmp_path / "run", *flags(SETTINGS), "--progress", "none")
    assert done.returncode == 0, done.stderr
    assert tables(run.path) == tables(tmp_path / "run")
    assert len(tables(run.path)) == 3


def test_paths_are_one_or_several(run, tmp_path):
    files = sorted(PAIRS.glob("*.parquet"))
    for number, pairs in enumerate([files, str(PAIRS / "*.parquet")]):
        again = batchmine.mine(pairs, tmp_path / str(number), progress=False, **SETTINGS)
        assert tables(again.path) == tables(run.path)


def test_keywords_are_the_flags_of_the_reference():
    reference = (ROOT / "docs" / "reference.md").read_text()
    mine = reference.split("## batchmine mine")[1].split("\n## ")[0]
    documented = set(re.findall(r"`(?:-\w`, `)?--([a-z0-9-]+)", mine))
    known = {name.replace("_", "-") for name in batchmine.job.SETTINGS}
    own = {"config", "out", "work", "replace", "dry-run"}
    general = {"progress", "json", "color", "quiet", "verbose", "help", "version"}
    assert known == documented - own - general
    with pytest.raises(TypeError, match="batch_size"):
        batchmine.mine(PAIRS, "nowhere", batchsize=3)


def settings_module():
    """The text of `batchmine/settings.py`, which gives type checkers and editors the keywords of `mine`."""
    lines = [
        '"""The settings of `mine`, for type checkers and editors: made from the flags of the command line."""',
        "",
        "from __future__ import annotations",
        "",
        "import os",
        "from collections.abc import Sequence",
        "from typing import Literal, TypedDict",
        "",
        "",
        "class Settings(TypedDict, total=False):",
        '    """Keywords of `mine`, each a flag of `batchmine mine`. docs/reference.md has their defaults."""',
    ]
    for name, about, is_list, values in batchmine._batchmine.flags():
        kind = {"int": "int", "float": "float", "str": "str | int | float | os.PathLike[str]"}.get(values[0])
        kind = kind or f"Literal[{', '.join(map(repr, values))}]".replace("'", '"')
        kind = "str | os.PathLike[str] | Sequence[str | os.PathLike[str]]" if is_list else kind
        lines += ["", f"    {name.replace('-', '_')}: {kind} | None"]
        lines += [f"    #: {line}" for line in textwrap.wrap(" ".join(about.split()), 110)]
    return "\n".join(lines) + "\n"


def test_types_of_keywords_are_those_of_the_flags():
    path = ROOT / "python" / "batchmine" / "settings.py"
    if os.environ.get("BATCHMINE_REWRITE_SETTINGS"):
        path.write_text(settings_module())
    assert path.read_text() == settings_module(), "BATCHMINE_REWRITE_SETTINGS=1 writes it anew"


def test_settings_take_lists_numbers_of_other_libraries_paths_and_tasks(tmp_path):
    numpy = pytest.importorskip("numpy")
    settings = {"task_column": "dataset", "batch_size": numpy.int64(16), "suspect_weight": numpy.float32(0.25)}
    task = next(names())
    run = batchmine.mine(
        PAIRS, tmp_path / "run", progress=False, key_column="id", tasks={task: {"skip": 3}}, memory=1 << 30, **settings
    )
    assert run.settings["clusters"]["suspect_weight"] == 0.25
    assert run.settings["edges"]["tasks"][task]["skip"] == 3


def names():
    parquet = pytest.importorskip("pyarrow.parquet")
    for path in sorted(PAIRS.glob("*.parquet")):
        yield from parquet.read_table(path, columns=["dataset"])["dataset"].unique().to_pylist()


def test_the_environment_and_a_file_are_weaker_than_keywords(run, tmp_path, monkeypatch):
    (tmp_path / "settings.toml").write_text("epochs = 3\nhard-negatives = 7\n")
    monkeypatch.setenv("BATCHMINE_HARD_NEGATIVES", "2")
    monkeypatch.setenv("BATCHMINE_SEED", "77")
    given = {name: value for name, value in SETTINGS.items() if name not in ("epochs", "hard_negatives")}
    again = batchmine.mine(PAIRS, tmp_path / "run", config=tmp_path / "settings.toml", progress=False, **given)
    assert tables(again.path) == tables(run.path)
    monkeypatch.setenv("BATCHMINE_BATCHSIZE", "2")
    with pytest.raises(batchmine.InputError, match="BATCHMINE_BATCH_SIZE"):
        batchmine.mine(PAIRS, tmp_path / "run", progress=False, **SETTINGS)


def test_errors_have_their_parts(tmp_path):
    with pytest.raises(batchmine.InputError) as raised:
        batchmine.mine(tmp_path / "nothing.parquet", tmp_path / "run", progress=False)
    assert isinstance(raised.value, ValueError) and "nothing.parquet" in str(raised.value)
    assert raised.value.remedy and pickle.loads(pickle.dumps(raised.value)).remedy == raised.value.remedy
    with pytest.raises(batchmine.InputError) as raised:
        batchmine.mine(PAIRS, tmp_path / "run", task_column="no such", progress=False)
    assert raised.value.column == "no such" and pathlib.Path(raised.value.path).parent == PAIRS
    for wrong in ({"remainder": "burn"}, {"seed": -1}, {"batch_size": "many"}, {"tasks": {"fonts": {"skip": "a"}}}):
        name = "skip" if "tasks" in wrong else next(iter(wrong))
        with pytest.raises(batchmine.InputError, match=f"^{name} cannot be"):
            batchmine.mine(PAIRS, tmp_path / "run", progress=False, **wrong)
    for wrong in ({"task_column": b"dataset"}, {"batch_size": [64]}, {"tasks": {"fonts": 3}}, {"out": 3}):
        with pytest.raises(TypeError):
            batchmine.mine(PAIRS, **{"out": tmp_path / "run", "progress": False, **wrong})
    (tmp_path / "file").write_text("")
    with pytest.raises(batchmine.InputError) as raised:
        batchmine.mine(PAIRS, tmp_path / "file", progress=False)
    assert raised.value.found == "a file" and "--out" in raised.value.remedy
    with pytest.raises(batchmine.InputError, match="not UTF-8"):
        batchmine.mine(PAIRS, os.fsencode(tmp_path) + b"/\xff", progress=False)
    with pytest.raises(batchmine.BudgetError) as raised:
        batchmine.mine(PAIRS, tmp_path / "run", memory="1MiB", progress=False)
    assert isinstance(raised.value, MemoryError) and "--memory" in raised.value.remedy
    with pytest.raises(batchmine.InputError):
        batchmine.open(tmp_path)
    assert not (tmp_path / "run" / "batches").exists()


def test_a_finished_run_is_returned_and_other_settings_are_refused(run):
    before = tables(run.path)
    again = batchmine.mine(PAIRS, run.path, progress=False, **SETTINGS)
    assert again.summary == run.summary and tables(run.path) == before
    with pytest.raises(batchmine.InputError) as raised:
        batchmine.mine(PAIRS, run.path, progress=False, **{**SETTINGS, "seed": 6})
    assert "--replace" in str(raised.value)


def test_progress_and_messages_are_pythons_and_nothing_is_printed(tmp_path, capfd, caplog):
    events = []
    with caplog.at_level(logging.DEBUG, logger="batchmine"):
        batchmine.mine(PAIRS, tmp_path / "run", progress=events.append, **SETTINGS)
    stages = [event["stage"] for event in events if event["event"] == "start"]
    assert set(stages) >= {"vectors", "neighbors", "edges", "clusters", "batches"}
    assert any(record.name == "batchmine" and record.levelno == logging.INFO for record in caplog.records)
    assert capfd.readouterr() == ("", "")


def test_an_exception_in_a_callback_stops_the_job_and_it_goes_on(run, tmp_path):
    def stop(event):
        if event["event"] == "start" and event["stage"] == "edges":
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        batchmine.mine(PAIRS, tmp_path / "run", progress=stop, **SETTINGS)
    again = batchmine.mine(PAIRS, tmp_path / "run", progress=False, **SETTINGS)
    assert tables(again.path) == tables(run.path)


INTERRUPTED = """
import sys, batchmine
try:
    batchmine.mine(sys.argv[1], sys.argv[2], threads=1, progress=lambda event: print(event, flush=True), **{settings!r})
except KeyboardInterrupt:
    sys.exit(33)
"""


VERIFY = """
import sys, batchmine
run = batchmine.open(sys.argv[1])
print("open", flush=True)
try:
    run.verify(sample=40000)
except KeyboardInterrupt:
    sys.exit(33)
"""


def started(script, *arguments):
    """A process of Python that listens to SIGINT: what a script starts in the background is deaf to it, and so are its
    children."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_ctrl_c_is_a_keyboard_interrupt_and_leaves_a_run_that_goes_on(tmp_path):
    # Enough rows that the search takes seconds on any machine.
    pairs, settings = tmp_path / "pairs", {"batch_size": 64, "window": 20}
    made = command("gen", "--out", pairs, "--rows", 40000, "--dim", 64, "--clusters", 400)
    assert made.returncode == 0, made.stderr
    script = INTERRUPTED.format(settings=settings)
    child = started(script, pairs, tmp_path / "run")
    for line in child.stdout:
        if "neighbors" in line:
            break
    begin = time.monotonic()
    child.send_signal(signal.SIGINT)
    child.stdout.read()
    assert child.wait(timeout=20) == 33 and time.monotonic() - begin < 5
    with pytest.raises(batchmine.InputError, match="not finished"):
        batchmine.open(tmp_path / "run").batches.epoch(0).__arrow_c_stream__()
    again = batchmine.mine(pairs, tmp_path / "run", progress=False, **settings)
    whole = batchmine.mine(pairs, tmp_path / "whole", progress=False, **settings)
    assert tables(again.path) == tables(whole.path)
    child = started(VERIFY, whole.path)
    child.stdout.readline()
    time.sleep(0.3)
    begin = time.monotonic()
    child.send_signal(signal.SIGINT)
    assert child.wait(timeout=20) == 33 and time.monotonic() - begin < 5


def threads():
    """Threads of this process, once those that are about to end have."""
    counts = []
    for _ in range(20):
        counts.append(len(os.listdir("/proc/self/task")))
        time.sleep(0.02)
    return min(counts)


def test_no_thread_is_left_and_two_jobs_run_in_one_process(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    batchmine.mine(PAIRS, tmp_path / "first", progress=False, **SETTINGS)
    before = threads()
    again = batchmine.mine(PAIRS, tmp_path / "second", progress=False, **SETTINGS)
    again.report(sample=10, progress=False), again.verify(sample=10), batchmine.BatchSampler(again)
    assert threads() <= before
    both = [tmp_path / "left", tmp_path / "right"]
    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(lambda out: batchmine.mine(PAIRS, out, progress=False, **SETTINGS), both))
    assert tables(runs[0].path) == tables(runs[1].path)


def test_a_forked_process_mines(tmp_path):
    script = (
        "import os, sys, batchmine; settings = dict(progress=False, batch_size=64)\n"
        "batchmine.mine(sys.argv[1], sys.argv[2] + '/parent', **settings)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    batchmine.mine(sys.argv[1], sys.argv[2] + '/child', **settings); os._exit(7)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script, str(PAIRS), str(tmp_path)], timeout=120)
    assert done.returncode == 7
    assert tables(tmp_path / "child") == tables(tmp_path / "parent")


def test_gpu_workers_are_the_installed_command(run, tmp_path, monkeypatch):
    """With a plugin that computes on the CPU: tests/integration/fake_plugin.c."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no cc for a plugin without a GPU")
    plugin, log = tmp_path / "libfake.so", tmp_path / "searches"
    include, source = ROOT / "src/neighbors/gpu/plugin", ROOT / "tests/integration/fake_plugin.c"
    flags = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-shared", "-fPIC", "-I", include, source, "-o", plugin, "-lm"]
    subprocess.run([compiler, *flags], check=True)
    monkeypatch.setenv("FAKE_GPU_LOG", str(log))
    again = batchmine.mine(PAIRS, tmp_path / "run", progress=False, backend="faiss-gpu", gpu_plugin=plugin, **SETTINGS)
    assert log.read_text().strip(), "the plugin searched"
    assert tables(again.path) == tables(run.path)


def test_the_command_line_is_there():
    assert command("--version").stdout.split() == ["batchmine", batchmine.__version__]
    assert command("mine", "nowhere", "--out", "x").returncode == 2
    script = pathlib.Path(sys.executable).with_name("batchmine")
    assert subprocess.run([script, "help"], capture_output=True, text=True).stdout.startswith("Mine hard")
    assert "--format" in command("export", "--help").stdout
    assert "delta" in command("mine", "--help").stdout

"""docs/notebook.ipynb runs, prints what it shows, and has bars while it mines."""

import os

import pytest
from conftest import ROOT

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("matplotlib")
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


def printed(notebook):
    """What cells print and return, without messages, pictures and bars."""
    cells = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and output.name == "stdout":
                cells.append((cell.id, output.text))
            elif output.output_type == "execute_result":
                cells.append((cell.id, output.data["text/plain"]))
    return cells


def test_the_notebook_runs_and_prints_what_it_shows(tmp_path):
    shown = nbformat.read(NOTEBOOK, as_version=4)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    messages = "".join(o.text for cell in notebook.cells for o in cell.get("outputs", []) if o.get("name") == "stderr")
    if os.environ.get("BATCHMINE_REWRITE_DOCS"):
        for cell in notebook.cells:
            kept = [output for output in cell.get("outputs", []) if output.get("name") != "stderr"]
            cell.update({"outputs": kept} if cell.cell_type == "code" else {})
            cell.metadata.pop("execution", None)
        nbformat.write(notebook, NOTEBOOK)
        shown = notebook
    assert printed(notebook) == printed(shown), "BATCHMINE_REWRITE_DOCS=1 writes what it prints"
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1 and len(printed(notebook)) >= 6
    assert "vectors" in messages or "neighbors" in messages, messages

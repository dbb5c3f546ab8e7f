"""Every notebook asks its question again: it runs from start to end, and is stored without output."""

import re
import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))


class OurKernel(AsyncKernelManager):
    """Starts the interpreter of the tests, whatever kernels are installed under the name python3."""

    kernel_spec = KernelSpec(
        argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], display_name="tests", language="python"
    )


def read(path):
    return nbformat.read(path, as_version=4)


def test_notebooks_are_numbered():
    assert NOTEBOOKS
    assert all(re.fullmatch(r"\d\d_[a-z0-9_]+", path.stem) for path in NOTEBOOKS)
    assert [int(path.stem[:2]) for path in NOTEBOOKS] == list(range(1, len(NOTEBOOKS) + 1))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_without_output(path):
    notebook = read(path)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells and all(not cell.outputs and cell.execution_count is None for cell in cells)
    assert notebook.cells[0].cell_type == "markdown" and "?" in notebook.cells[0].source.splitlines()[0]  # its question
    assert "assert " in cells[-1].source  # its answer


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, tmp_path, monkeypatch):
    for name, value in {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "IPYTHONDIR": tmp_path, "TMPDIR": tmp_path}.items():
        monkeypatch.setenv(name, str(value))
    notebook = read(path)
    NotebookClient(notebook, timeout=300, kernel_manager_class=OurKernel, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("text/html" in output.get("data", {}) for output in shown)  # pictures
    assert not [output.text for output in shown if output.output_type == "stream" and output.name == "stderr"]

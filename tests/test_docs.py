"""Every example in the documentation runs; no text names a place on somebody's machine."""

import doctest
import importlib
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"neuro": "neuro", "models": "neuro.models", "datasets": "neuro.datasets", "deploy": "neuro.deploy"}
ELSEWHERE = {  # modules that run in an interpreter other than ours
    "neuro.deploy.lava_building": "lava-nc",
    "neuro.deploy.lava_cells": "lava-nc",
    "neuro.deploy.lava_live": "lava-nc",
    "neuro.deploy.lava_runner": "lava-nc",
    "neuro.deploy.lava_processes": "lava-nc",
    "neuro.deploy.lava_workers": "lava-nc",
}
TEXT = {".py", ".md", ".toml", ".txt", ".cff", ".yml", ".yaml", ".sh", ".ipynb", ""}


def modules():
    """All modules of the four folders, under the names that they have when installed."""
    names = []
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            names.append(".".join([package, *(parts[:-1] if parts[-1] == "__init__" else parts)]))
    return names


@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings(name, tmp_path, monkeypatch):
    if name in ELSEWHERE:
        pytest.skip(f"needs {ELSEWHERE[name]} and runs in its interpreter")
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def blocks(text):
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", ["README.md", "docs/kernels.md"])
def test_code_on_pages_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space = {"__name__": "page"}
    found = blocks((ROOT / page).read_text())
    assert found
    for n, block in enumerate(found):
        exec(compile(block, f"{page}, block {n + 1}", "exec"), space)  # the blocks follow on each other


def test_blocks_are_found():
    assert blocks("x\n```python\na = 1\n```\n```\nno\n```\n```python\nb\n```\n") == ["a = 1\n", "b\n"]


def tracked():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a checkout of git")
    return [ROOT / line for line in listed.stdout.splitlines() if Path(line).suffix in TEXT and (ROOT / line).is_file()]


def test_no_text_names_a_place_on_somebodys_machine():
    here = re.compile(r"(?<![\w.])/(?:home|Users|root|work)/[A-Za-z0-9_.-]+" + f"|{re.escape(os.path.expanduser('~'))}/")
    found = []
    for path in tracked():
        if path != Path(__file__).resolve():
            for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
                if here.search(line):
                    found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert not found

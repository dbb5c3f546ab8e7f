"""Machine code that Numba keeps is made anew when what loops share changes: every file that uses it names its hash, and so changes too."""

import ast
import hashlib
import importlib
from pathlib import Path

import numba
import numpy as np
import pytest

from neuro.kernels import shared_loops

FOLDER = Path(shared_loops.__file__).parent
SHARED = {"shared_loops", "active_loops", "map_loops", "table"}  # what loops in other files are made with


def parts_of(path):
    """Which of them a file takes functions or numbers from, in order of names."""
    taken = {n.module for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom)}
    return sorted(n for n in SHARED if f"neuro.kernels.{n}" in taken)


FILES = {path.stem: parts_of(path) for path in sorted(FOLDER.glob("*_loops.py"))}


@pytest.mark.parametrize("name", [name for name, parts in FILES.items() if parts])
def test_every_file_names_the_text_it_was_made_with(name):
    text = b"".join((FOLDER / f"{part}.py").read_bytes() for part in FILES[name])
    assert importlib.import_module(f"neuro.kernels.{name}").PARTS == hashlib.sha256(text).hexdigest()[:12]


def test_there_are_such_files_and_no_other_takes_from_loops():
    """Each part, too, names those that it is made with: a change goes on to every file that uses it."""
    assert {"spike_loops", "map_loops", "inference_loops"} <= {name for name, parts in FILES.items() if parts}
    assert {part for parts in FILES.values() for part in parts} == SHARED
    assert FILES["map_loops"] and set(FILES["map_loops"]) < set(FILES["inference_loops"])
    for name in FILES:
        taken = {n.module for n in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text())) if isinstance(n, ast.ImportFrom) and n.module.endswith("_loops")}
        assert taken <= {f"neuro.kernels.{part}" for part in SHARED}, name


@shared_loops.machine
def _scaled(x, k):
    return x * k


@shared_loops.machine
def _both(x):
    return _scaled(x, 2) + _scaled(x, 3) + _scaled(3, x)


def test_numbers_written_out_do_not_compile_a_function_again():
    assert _both(4) == 4 * 2 + 4 * 3 + 3 * 4
    assert len(_scaled.nopython_signatures) <= 1  # none where the caller came from disk


def test_copied_is_what_was_asked_for():
    @shared_loops.machine
    def moved(a, b):
        shared_loops.copy(a, 2, b, 1, 3)

    b = np.full(6, -1.0, np.float32)
    moved(np.arange(8, dtype=np.float32), b)
    assert b.tolist() == [-1, 2, 3, 4, -1, -1]
    with pytest.raises(numba.core.errors.TypingError):
        moved(np.arange(8, dtype=np.float64), b)

"""What loops share, and what becomes of machine code that is kept of them: when a file of loops changes, all is made anew, for loops call each other from file to file."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from neuro.kernels import active_loops, shared_loops
from neuro.kernels.cache import machine

FOLDER = Path(shared_loops.__file__).parent
LOOPS = {path.stem for path in FOLDER.glob("*_loops.py")}

TURNED = """
import numpy as np
from neuro.kernels.spike_loops import transpose as called
a, b = np.arange(6.0, dtype=np.float32), np.zeros(6, np.float32)
called(a, 2, 3, b, 0, 3)
print(*b, sum(called.stats.cache_hits.values()), sum(called.stats.cache_misses.values()))
"""

OUTER = """
from neuro.kernels import active_loops, shared_loops
from neuro.kernels.outer_loops import outer
print(outer(1), sum(outer.stats.cache_hits.values()), sum(outer.stats.cache_misses.values()))
"""

FILES = {
    "inner_loops.py": "from neuro.kernels.cache import machine\n\n@machine\ndef inner(x):\n    return x + 10\n",
    "middle_loops.py": "from neuro.kernels.cache import machine\nfrom neuro.kernels.inner_loops import inner\nfrom neuro.kernels.table import NEURON\n\n@machine\ndef middle(x):\n    return inner(x) + NEURON\n",
    "outer_loops.py": "from neuro.kernels.cache import machine\nfrom neuro.kernels.middle_loops import middle\n\n@machine\ndef outer(x):\n    return 100 * middle(x)\n",
}


class Copy:
    """The package's files in a folder of their own, to be changed; processes that start in it share a cache."""

    def __init__(self, folder):
        self.kernels, self.kept = folder / "neuro" / "kernels", folder / "cache" / "kernels"
        shutil.copytree(FOLDER.parent, folder / "neuro", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "neuro" / "__init__.py").write_text("")  # loops need no torch
        for name, text in FILES.items():
            (self.kernels / name).write_text(text)

    def change(self, name, old, new):
        path = self.kernels / name
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))

    def run(self, script):
        env = os.environ | {"NEURO_CACHE": str(self.kept.parent), "PYTHONPATH": str(self.kernels.parent.parent), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run([sys.executable, "-c", script], env=env, cwd=self.kernels.parent.parent, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return [float(word) for word in done.stdout.split()]


@pytest.fixture
def copy(tmp_path):
    return Copy(tmp_path)


def test_what_a_changed_file_gives_is_never_the_old(copy):
    """Results, how many functions came from disk and how many were compiled: a callee's callee, a number, a callee and the function itself change."""
    assert copy.run(OUTER) == [100 * (1 + 10 + 16), 0, 1]
    files = sorted(copy.kept.iterdir())
    assert copy.run(OUTER) == [100 * (1 + 10 + 16), 1, 0]
    copy.change("inner_loops.py", "x + 10", "x + 20")
    assert copy.run(OUTER) == [100 * (1 + 20 + 16), 0, 1]
    copy.change("table.py", "NEURON = 16", "NEURON = 17")
    assert copy.run(OUTER) == [100 * (1 + 20 + 17), 0, 1]
    copy.change("middle_loops.py", "inner(x)", "3 * inner(x)")
    assert copy.run(OUTER) == [100 * (3 * (1 + 20) + 17), 0, 1]
    copy.change("outer_loops.py", "100", "200")
    assert copy.run(OUTER) == [200 * (3 * (1 + 20) + 17), 0, 1]
    assert copy.run(OUTER) == [200 * (3 * (1 + 20) + 17), 1, 0]
    copy.change("inner_loops.py", "x + 20", "x + 10")
    assert copy.run(OUTER) == [200 * (3 * (1 + 10) + 17), 0, 1]
    assert sorted(copy.kept.iterdir()) == files, "the new takes the place of the old"


def test_so_it_is_with_the_loops_that_there_are(copy):
    assert copy.run(TURNED) == [0, 3, 1, 4, 2, 5, 0, 1]
    assert copy.run(TURNED) == [0, 3, 1, 4, 2, 5, 1, 0]
    copy.change("shared_loops.py", "        b[bt + c * b_stride + r] = a[", "        b[bt + c * b_stride + r] = 2 * a[")
    assert copy.run(TURNED) == [0, 6, 2, 8, 4, 10, 0, 1]


def test_a_file_that_changes_while_a_process_loads_the_others_leaves_nothing_wrong_behind(copy):
    path = copy.kernels / "inner_loops.py"
    before, after = path.read_text(), path.read_text().replace("x + 10", "x + 20")
    between = f"import pathlib\npath = pathlib.Path({str(path)!r})\nfrom neuro.kernels import shared_loops\npath.write_text({after!r})\n"
    assert copy.run(between + OUTER) == [3700, 0, 1]
    assert copy.run(OUTER) == [3700, 0, 1]
    path.write_text(before)
    assert copy.run(between + OUTER + f"path.write_text({before!r})\n") == [3700, 0, 1]
    assert copy.run(OUTER) == [2700, 0, 1]


def taken(name):
    """Modules of ours that a file takes something from."""
    found = [n for n in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text())) if isinstance(n, (ast.Import, ast.ImportFrom))]
    modules = {f"{n.module}.{alias.name}" if isinstance(n, ast.ImportFrom) else alias.name for n in found for alias in n.names}
    return {m.removeprefix("neuro.kernels.").split(".")[0] for m in modules if m.split(".")[0] == "neuro"}


def test_machine_code_is_made_of_what_it_is_kept_by_alone():
    """Loops take nothing from files that the stamp leaves out, and all of them take the same door; generated kernels are written in two files' words."""
    assert {"shared_loops", "norm_loops", "max_pooling_loops", "inference_loops"} <= LOOPS
    assert taken("map_loops") == {"active_loops", "cache", "shared_loops", "table"}
    for name in LOOPS:
        assert taken(name) <= {*LOOPS, "cache", "table"}, name
        assert not {"njit", "jit", "cfunc", "vectorize", "guvectorize", "stencil"} & {
            getattr(n, "attr", getattr(n, "id", getattr(n, "name", ""))) for n in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text()))
        }, name
    assert taken("table") == taken("words") == set() and taken("translating") <= {"words"}


@machine
def _scaled(x, k):
    return x * k


@machine
def _both(x):
    return _scaled(x, 2) + _scaled(x, 3) + _scaled(3, x)


def test_numbers_written_out_do_not_compile_a_function_again():
    assert _both(4) == 4 * 2 + 4 * 3 + 3 * 4
    assert len(_scaled.nopython_signatures) == 1


def test_a_function_of_another_file_is_not_kept():
    assert _both.stats.cache_path is None and shared_loops.turn.stats.cache_path is not None


def test_copied_is_what_was_asked_for():
    @machine
    def moved(a, b):
        shared_loops.copy(a, 2, b, 1, 3)

    b = np.full(6, -1.0, np.float32)
    moved(np.arange(8, dtype=np.float32), b)
    assert b.tolist() == [-1, 2, 3, 4, -1, -1]
    with pytest.raises(numba.core.errors.TypingError):
        moved(np.arange(8, dtype=np.float64), b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [0, 1, 2, 3, 5, 8, 15, 16, 17, 63, 100, 127, 128, 129, 255, 300])
def test_rows_are_summed_in_every_width_and_nothing_beside_it_is_written(width, dtype):
    rng = np.random.default_rng(width)
    rows, source, index = rng.integers(-8, 8, (9, width + 2)).astype(dtype), rng.integers(-8, 8, width + 3).astype(dtype), np.array([7, 1, 1, 4, 0], np.uint32)
    factors = rng.integers(-8, 8, 5).astype(dtype)
    for first, last in [(0, 5), (1, 4), (2, 2)]:  # sums of whole numbers are exact
        named = rows[index[first:last], 1 : 1 + width]
        target = np.full(width + 4, 99, dtype)
        shared_loops.sum_rows(source, 3, target, 2, width, rows.ravel(), 1, width + 2, index, first, last)
        assert target.tolist() == [99, 99, *(source[3:] + named.sum(0)), 99, 99]
        active_loops.add_rows(target, 1, rows.ravel(), 0, width + 2, 1, 1 + width, index, factors, first, last)
        assert target.tolist() == [99, 99, *(source[3:] + named.sum(0) + factors[first:last] @ named), 99, 99]

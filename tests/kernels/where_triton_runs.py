"""Where tests of GPU kernels run: on a GPU, or without one in Triton's interpreter.

The interpreter must be chosen before Triton is imported, so it gets a process of its own, which a test of the same file starts.
`NEURO_TRITON` names a folder with Triton where it is not installed.
"""

import os
import re
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
FOUND = find_spec("triton") is not None
needs_triton = pytest.mark.skipif(not (FOUND and (INTERPRETED or DEVICE == "cuda")), reason="runs on a GPU or, from the first test, in Triton's interpreter")
first_test = pytest.mark.skipif(INTERPRETED or DEVICE == "cuda", reason="the kernels run in this process")

needs_compiler = pytest.mark.skipif(not FOUND or INTERPRETED, reason="Triton is not installed here: see the first test")


def run_with_triton(file, at_least, interpreted=True, **variables):
    """Run the tests of this file in a process that finds Triton; `at_least` so many must pass."""
    folder = os.environ.get("NEURO_TRITON", "")
    if not FOUND and not folder:
        pytest.skip("Triton is not installed (285.8 MB) and NEURO_TRITON names no folder with it")
    path = os.pathsep.join(p for p in (os.getcwd(), folder, os.environ.get("PYTHONPATH", "")) if p)
    command = [sys.executable, "-m", "pytest", file, "-q", "-p", "no:cacheprovider"]
    ran = subprocess.run(command, env={**os.environ, **variables, "TRITON_INTERPRET": str(int(interpreted)), "PYTHONPATH": path}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed and int(passed[1]) >= at_least, ran.stdout[-2000:]

"""Memory that is kept: page faults of a step fall, and come back when it is not kept."""

import resource
import statistics
import subprocess
import sys

import pytest

import neuro

STEPS = """
import resource, sys, torch
import neuro
if sys.argv[1] == "kept":
    assert neuro.keep_memory()
def step():
    a = torch.ones(12_000_000)  # 48 MB
    return float((a + 1)[-1])
for _ in range(12):  # until the blocks lie where they fit
    step()
found = []
for _ in range(9):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step()
    found.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(*found)
"""


def faults(how):
    """Of a step: the middle one of nine, since a block may once find another place."""
    return statistics.median(int(n) for n in subprocess.run([sys.executable, "-c", STEPS, how], capture_output=True, text=True, check=True, timeout=120).stdout.split())


def test_kept_memory_is_not_touched_anew():
    if not neuro.keep_memory(False):
        pytest.skip("the C library here is not glibc")
    usual, kept = faults("usual"), faults("kept")
    pages = 2 * 48e6 / resource.getpagesize()
    assert usual > 0.5 * pages, "the system gives large blocks page by page; where it does not, there is nothing to keep"
    assert kept < 0.02 * pages


def test_another_system_says_that_it_cannot(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert neuro.keep_memory() is False

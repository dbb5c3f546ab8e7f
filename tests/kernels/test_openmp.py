"""Torch's own threads, lent: found where they are, and done without where they are not."""

import ctypes
import os
import subprocess
import sys

import pytest
import torch
from waiting import wait_as

from neuro.kernels import openmp
from neuro.kernels.pool import spread


@pytest.fixture(autouse=True)
def found_anew():
    yield
    openmp._found.cache_clear()


def times_done(items):
    done = [0] * items

    def work(low, high):
        for i in range(low, high):
            done[i] += 1

    spread(work, items, cost=1.0)
    return done


def test_ranges_run_on_the_threads_of_torch(monkeypatch):
    """The library found is the very one that torch's operations use: torch's number of threads is its own."""
    if not sys.platform.startswith("linux") or not torch.backends.openmp.is_available():
        pytest.skip("torch is built without OpenMP here")
    wait_as(None, monkeypatch)
    assert openmp.team() is not None
    found = openmp._entry()
    library = ctypes.CDLL(None, mode=os.RTLD_NOW | os.RTLD_NOLOAD)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(7)
        assert library.omp_get_max_threads() == 7
    finally:
        torch.set_num_threads(before)
    address = ctypes.cast(found, ctypes.c_void_p).value
    assert address == ctypes.cast(library.GOMP_parallel, ctypes.c_void_p).value


@pytest.mark.parametrize("missing", ["openmp", "symbol", "system", "closures", "spinning"])
def test_without_such_a_library_a_pool_does_the_work(monkeypatch, missing):
    def refuses(*args):
        raise MemoryError

    wait_as("passive" if missing == "spinning" else None, monkeypatch)
    if missing == "openmp":
        monkeypatch.setattr(torch.backends.openmp, "is_available", lambda: False)
    elif missing == "symbol":
        monkeypatch.setattr(openmp.ctypes, "CDLL", lambda *args, **how: object())
    elif missing == "system":
        monkeypatch.setattr(sys, "platform", "darwin")
    elif missing == "closures":
        monkeypatch.setattr(openmp, "_CALLED", refuses)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert openmp.team() is None
        assert times_done(100) == [1] * 100
    finally:
        torch.set_num_threads(before)


FEWER = """
import threading, torch
from neuro.kernels.pool import spread
torch.set_num_threads(2)
done, seen = [0] * 64, set()
def work(low, high):
    seen.add(threading.get_ident())
    for i in range(low, high):
        done[i] += 1
spread(work, 64, cost=1.0)
assert done == [1] * 64, done
print(len(seen))
"""


def test_fewer_threads_than_asked_for_do_all_the_work():
    env = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"} | {"OMP_THREAD_LIMIT": "1"}
    told = subprocess.run([sys.executable, "-c", FEWER], env=env, capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr
    assert told.stdout.strip() == "1" or openmp._entry() is None

"""Compiled kernels: kept on disk for later processes, safe against each other, against damage, forks and threads."""

import hashlib
import os
import subprocess
import sys
import threading

import pytest
import torch

import neuro
from neuro.kernels import cache
from neuro.neurons import LIF

SOURCE = """import numpy as np
from neuro.kernels.words import *

def forward(x, y):
    for i in range(len(x)):
        y[i] = x[i] * x[i] + {number}
"""

SCRIPT = """
import sys, time, torch
torch.set_num_threads(1)
import numba
import neuro
start = time.perf_counter()
x = torch.linspace(-1, 3, 5 * 2 * 300).view(5, 2, 300).requires_grad_()
y = neuro.neurons.LIF(tau=3.0, spike=neuro.surrogate.Gaussian(0.37))(x)
y.sum().backward()
seconds = time.perf_counter() - start
loaded = sorted({"sympy", "torch.fx.experimental.symbolic_shapes"} & set(sys.modules))
from neuro.kernels import cache
hits = sum(sum(f.stats.cache_hits.values()) for f in cache._loaded.values())
misses = sum(sum(f.stats.cache_misses.values()) for f in cache._loaded.values())
print(hits, misses, y.sum().item(), x.grad.double().sum().item(), seconds, *loaded)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NEURO_CACHE", str(tmp_path))
    return tmp_path / "kernels"


def start(folder):
    env = os.environ | {"NEURO_CACHE": str(folder.parent), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.Popen([sys.executable, "-c", SCRIPT], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    hits, misses, *rest = out.split()
    assert not rest[3:], "torch's symbolic shapes take half a second to load"
    return int(hits), int(misses), tuple(rest[:2])


def test_a_later_process_compiles_nothing(folder):
    hits, misses, first = result(start(folder))
    assert (hits, misses) == (0, 2)  # forward and backward
    assert len(list(folder.iterdir())) == 2
    assert result(start(folder)) == (2, 0, first)


def test_two_processes_at_once(folder):
    processes = [start(folder), start(folder)]
    (_, a, first), (_, b, second) = map(result, processes)
    assert first == second and a <= 2 and b <= 2
    assert result(start(folder))[:2] == (2, 0)
    assert all(path.suffix == ".kernel" for path in folder.iterdir())


def compiled(number):
    """x * x + number by a dispatcher of its own, as in a new process."""
    import numpy as np

    source = SOURCE.format(number=number)
    dispatcher = cache._dispatcher(source, "forward", hashlib.sha256(source.encode()).hexdigest())
    x, y = np.arange(4.0), np.zeros(4)
    dispatcher(x, y)
    return y.tolist(), sum(dispatcher.stats.cache_hits.values())


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other format"])
def test_a_damaged_file_is_made_again(folder, damage):
    assert compiled(0.5) == ([0.5, 1.5, 4.5, 9.5], 0)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    path.write_bytes({"cut": whole[:-100], "flip": bytes(flipped), "empty": b"", "other format": b"neuro kernel 9\n" + whole[15:]}[damage])
    assert compiled(0.5) == ([0.5, 1.5, 4.5, 9.5], 0)
    assert path.stat().st_size > len(whole) // 2
    assert compiled(0.5) == ([0.5, 1.5, 4.5, 9.5], 1)


def test_kernels_of_one_name_do_not_meet(folder):
    """Machine code of several processes is loaded into one: each must stay itself."""
    assert [compiled(n)[0][0] for n in (1.5, 2.5)] == [1.5, 2.5]
    assert [compiled(n) for n in (1.5, 2.5)] == [([1.5, 2.5, 5.5, 10.5], 1), ([2.5, 3.5, 6.5, 11.5], 1)]


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("NEURO_CACHE", str(tmp_path / "file"))
    with pytest.warns(RuntimeWarning, match="not kept"):
        assert compiled(3.25)[0][0] == 3.25


class Spikes(torch.utils.data.Dataset):
    """Items that are computed by a neuron, in the worker."""

    def __len__(self):
        return 4

    def __getitem__(self, k):
        return LIF()(torch.full((6, 1, 700), 0.4 + 0.2 * k))[:, 0]


@pytest.mark.parametrize(("said", "raised"), [("no compiled object yet for <Library>", KeyboardInterrupt), ("something else", RuntimeError)])
def test_an_interrupt_that_ctypes_lost_while_compiling_is_raised_all_the_same(tmp_path, said, raised):
    class Result:
        def _reduce(self):
            raise RuntimeError(said)

    with pytest.raises(raised):
        cache._OneFile(tmp_path / "k.kernel").save_overload("void(int64)", Result())
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_workers_forked_after_use_in_the_parent():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        expected = [Spikes()[k] for k in range(4)]
        LIF()(torch.randn(40, 8, 20000))  # the pool of the parent has worked
        loader = torch.utils.data.DataLoader(Spikes(), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60)
        for got, wanted in zip(loader, expected, strict=True):
            assert torch.equal(got, wanted)
    finally:
        torch.set_num_threads(before)


def test_three_threads_at_once():
    x = torch.randn(12, 4, 9000)
    neuron = neuro.neurons.PLIF()

    def gradient():
        leaf = x.clone().requires_grad_()
        neuron_copy = neuro.neurons.PLIF()
        neuron_copy(leaf).sum().backward()
        return leaf.grad, neuron_copy.w.grad

    expected, found = gradient(), {}
    threads = [threading.Thread(target=lambda k=k: found.update({k: [gradient() for _ in range(5)]})) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(found) == [0, 1, 2] and neuron.w.grad is None
    for several in found.values():
        for grad_x, grad_w in several:
            assert torch.equal(grad_x, expected[0]) and torch.equal(grad_w, expected[1])

"""Memory of large results: never shared by two tensors that live, used again when they are gone, bounded."""

import gc
import os
import threading

import pytest
import torch

from neuro.kernels import memory
from neuro.kernels.memory import fresh

SHAPE = (2, 1 << 18)  # 2 MB of float32


@pytest.fixture(autouse=True)
def nothing_waits():
    gc.collect()
    memory.release()
    yield
    memory.release()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("shape", [(), (3,), (0, 5), SHAPE, (1 << 20,)])
def test_shape_and_type(shape, dtype):
    t = fresh(shape, dtype)
    assert t.shape == shape and t.dtype == dtype and t.is_contiguous()
    assert (t.fill_(3) == 3).all()


@pytest.mark.parametrize("shape", [(1,), (1 << 18,), (777, 999), SHAPE])
def test_memory_starts_on_a_cache_line(shape):
    held = [fresh(shape, torch.float32) for _ in range(3)]
    assert not any(t.data_ptr() % 64 for t in held)
    del held
    gc.collect()
    assert not fresh(shape, torch.float32).data_ptr() % 64


def test_memory_is_used_again_once_the_tensor_is_gone():
    a = fresh(SHAPE, torch.float32)
    place = a.data_ptr()
    assert fresh(SHAPE, torch.float32).data_ptr() != place
    view = a[1, 5:]
    del a
    assert all(fresh(SHAPE, torch.float32).data_ptr() != place for _ in range(3))  # a view still needs it
    del view
    gc.collect()
    assert place in [fresh(SHAPE, torch.float32).data_ptr() for _ in range(1)] or place in _waiting_places()


def _waiting_places():
    return [m.ctypes.data for m in memory._waiting]


def test_living_tensors_never_share():
    held = [fresh(SHAPE, torch.float32) for _ in range(8)]
    for k, t in enumerate(held):
        t.fill_(k)
    del held[::2]
    held += [fresh(SHAPE, torch.float32).fill_(9) for _ in range(4)]
    assert [t[0, 0].item() for t in held] == [1, 3, 5, 7, 9, 9, 9, 9]
    assert all((t == t[0, 0]).all() for t in held)
    assert len({t.data_ptr() for t in held}) == 8


def test_what_waits_is_bounded(monkeypatch):
    monkeypatch.setattr(memory, "LIMIT", 5 << 20)
    held = [fresh(SHAPE, torch.float32) for _ in range(6)]
    del held
    gc.collect()
    assert 0 < memory.waiting() <= 5 << 20
    memory.release()
    assert memory.waiting() == 0


def test_many_threads():
    wrong = []

    def work(k):
        for i in range(100):
            a, b = fresh(SHAPE, torch.float32), fresh(SHAPE, torch.float32)
            a[0, :9], b[0, :9] = k, k + 100
            if a[0, 0] != k or b[0, 0] != k + 100:
                wrong.append((k, i))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(30)
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_forked_while_the_lock_is_held_can_allocate():
    with memory._lock:
        child = os.fork()
        if child == 0:
            done = threading.Thread(target=lambda: fresh(SHAPE, torch.float32))
            done.start()
            done.join(10)
            os._exit(0 if not done.is_alive() else 1)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_what_waits_gives_way_to_another_size():
    a, b = fresh(SHAPE, torch.float32), fresh(SHAPE, torch.float32)
    del a, b
    gc.collect()
    assert memory.waiting() == 4 << 20
    c = fresh((3, 1 << 18), torch.float32)  # 3 MB, which nobody left behind: both of 2 MB go
    assert memory.waiting() == 0 and c.numel() == 3 << 18

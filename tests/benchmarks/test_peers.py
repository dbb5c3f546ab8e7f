"""What the benchmarks share: turns and medians, bytes kept for backward, tables, targets."""

from __future__ import annotations

import importlib.util
import mmap
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def peers() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_peers", FOLDER / "peers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sides_take_turns_in_an_order_that_moves_on(peers):
    calls: list[str] = []
    peers.alternating({n: (lambda n=n: calls.append(n)) for n in "abc"}, rounds=2)
    assert "".join(calls) == "abc" + "bca" + "cab"


def test_the_median_leaves_out_the_first_round_and_what_runs_before(peers, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(peers, "clock", lambda: now[0])
    durations = iter([100.0, 1.0, 9.0, 2.0])

    def call() -> None:
        now[0] += next(durations)

    def before(name: str) -> None:
        now[0] += 1000.0

    assert peers.alternating({"a": call}, rounds=3, before=before) == {"a": 2.0}
    durations = iter([100.0, 1.0, 9.0, 2.0])
    assert peers.alternating({"a": call}, rounds=3, timer=lambda: 2 * now[0]) == {"a": 4.0}


def test_one_thread_is_timed_by_the_processor_and_several_by_the_wall(peers, monkeypatch):
    monkeypatch.setattr(peers.time, "process_time", lambda: 1.0)
    monkeypatch.setattr(peers.time, "perf_counter", lambda: 2.0)
    for threads, expected in ((1, 1.0), (2, 2.0)):
        monkeypatch.setattr(peers.torch, "get_num_threads", lambda n=threads: n)
        assert peers.clock() == expected


def test_bytes_kept_counts_a_storage_once_and_names_the_known(peers):
    x = torch.randn(10, 100, requires_grad=True)
    assert peers.kept(lambda: x * x, [x]) == (4000, 0)  # x twice
    assert peers.kept(lambda: x.exp(), [x]) == (0, 4000)  # its own result
    assert peers.kept(lambda: torch.stack([row.sin() for row in x]), [x]) == (4000, 0)  # views of one storage
    assert peers.kept(lambda: x + 1, [x]) == (0, 0)
    assert peers.kept(lambda: x.exp().exp(), [x]) == (0, 8000)
    assert peers.kept(lambda: (x.exp().sin(), x.exp())[1], [x]) == (0, 4000)  # a part of the graph that nothing leads to is gone


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells and resets a process's peak memory")
def test_memory_sees_what_is_held_and_what_was(peers):
    memory, size = peers.Memory(), 64 << 20
    memory.start()
    held = mmap.mmap(-1, size)  # of the system itself: the C library may have as much from before, and keep it afterwards
    for page in range(0, size, mmap.PAGESIZE):
        held[page] = 1
    assert 0.9 * size < memory.now() < 1.5 * size
    held.close()
    assert memory.now() < 0.5 * size < 0.9 * size < memory.peak()
    memory.start()
    assert memory.peak() < 0.5 * size


def test_a_target_says_met_or_not(peers):
    assert peers.target("t", 5.1, at_least=5).endswith(": met")
    assert peers.target("t", 4.9, at_least=5).endswith(": NOT met")
    assert peers.target("t", 0.5, at_most=0.5).endswith(": met")
    assert peers.target("t", 0.6, at_most=0.5).endswith(": NOT met")
    assert peers.target("t", float("nan"), at_least=1).endswith(": NOT met")


def test_columns_stand_under_their_heads(peers):
    assert peers.table(["a", "bc"], [["long", 1]]) == "a     bc\nlong   1"


def test_another_process_answers_or_its_end_is_told(peers, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import sys, os\nprint('noise')\nprint([int(sys.argv[1]), int(os.environ['N'])])\n")
    assert peers.in_process(str(script), "3", N="4") == [3, 4]
    script.write_text("raise ValueError('because')")
    with pytest.raises(RuntimeError, match="because"):
        peers.in_process(str(script))


def test_a_missing_peer_is_told_in_one_line(peers, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "norse.torch", None)
    assert peers.load("norse", "norse.torch") is None
    assert capsys.readouterr().out.count("\n") == 1

"""What the benchmarks share: libraries to compare with, turns, medians, bytes kept for backward, memory, tables.

    python benchmarks/peers.py      what is at hand on this machine

Importing this module makes waiting threads of OpenMP sleep, so that those of the two sides do not take each other's cores; import it
before torch.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

PEERS = {"spikingjelly": "2.0.0", "snntorch": "1.0.0", "norse": "1.1.0", "neurobench": "2.3.0"}  # the releases that the figures speak of


def load(name: str, module: str | None = None) -> ModuleType | None:
    """A peer's module, or None after one line that says why it is not compared with."""
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)  # "Triton not available", at each neuron of SpikingJelly
    try:
        found = importlib.import_module(module or name)
        version = importlib.metadata.version(name)
    except ImportError as error:
        print(f"{name}: not compared, it cannot be imported ({error}); `make bench` installs it")
        return None
    if version != PEERS[name]:
        print(f"{name}: this is {version}, the targets speak of {PEERS[name]}")
    return found


def machine() -> str:
    """The line that stands over every table."""
    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), processor)
    return f"{processor}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"


def clock() -> float:
    """Seconds: with one thread those of the processor, which other programs disturb less, with more threads those of the wall."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def alternating(
    calls: Mapping[str, Callable[[], object]],
    rounds: int = 5,
    before: Callable[[str], object] | None = None,
    timer: Callable[[], float] | None = None,
) -> dict[str, float]:
    """Median seconds of each call. All take turns, in an order that moves on each round; a first round is not counted.

    `before(name)` runs ahead of each call and is not timed. timer: in place of `clock`, which with one thread counts this process alone.
    """
    now = timer or clock
    names, spent = list(calls), {name: [] for name in calls}
    for again in range(rounds + 1):
        at = again % len(names)
        for name in names[at:] + names[:at]:
            if before is not None:
                before(name)
            start = now()
            result = calls[name]()
            seconds = now() - start
            del result  # freed outside the time, on every side
            if again:
                spent[name].append(seconds)
    return {name: statistics.median(values) for name, values in spent.items()}


class _Held:
    """A tensor as autograd keeps it: gone with the node that kept it."""

    def __init__(self, t: Tensor):
        self.t = t


def kept(forward: Callable[[], Any], known: Iterable[Tensor] = ()) -> tuple[int, int]:
    """Bytes that the result of `forward()` keeps for backward: (those of `known` tensors, all others). A storage counts once."""
    held: weakref.WeakSet[_Held] = weakref.WeakSet()

    def pack(t: Tensor) -> _Held:
        box = _Held(t.detach())  # with its node, a kept result would hold itself
        held.add(box)
        return box

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda box: box.t):
        result = forward()
    sizes = {box.t.untyped_storage().data_ptr(): box.t.untyped_storage().nbytes() for box in held}
    del result
    of_known = sum(sizes.get(at, 0) for at in {t.untyped_storage().data_ptr() for t in known})
    return of_known, sum(sizes.values()) - of_known


class Memory:
    """Resident memory of this process, on Linux: `start()`, work, `peak()` and `now()` in bytes beyond the start."""

    def start(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        self.base = _status("VmRSS")

    def peak(self) -> int:
        return _status("VmHWM") - self.base

    def now(self) -> int:
        return _status("VmRSS") - self.base


def _status(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])


def can_measure_memory() -> bool:
    """Whether the system tells and resets the peak; one line where it does not."""
    if os.access("/proc/self/clear_refs", os.W_OK):
        return True
    print("memory: not measured, /proc/self/clear_refs is not writable here (it is Linux's)")
    return False


def in_process(script: str, *arguments: str, **environment: str) -> Any:
    """Run `script` with arguments in a process of its own; the JSON on its last line.

    Raises:
        RuntimeError: the process failed; with the end of what it said.
    """
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, env={**os.environ, **environment})
    if done.returncode:
        raise RuntimeError(f"{Path(script).name} {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as their widest cell, the first to the left."""
    cells = [[str(c) for c in row] for row in [head, *rows]]
    widths = [max(len(row[k]) for row in cells) for k in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) if k == 0 else c.rjust(w) for k, (c, w) in enumerate(zip(row, widths, strict=True))) for row in cells)


def target(name: str, value: float, at_least: float | None = None, at_most: float | None = None) -> str:
    """One line: what was reached, what was asked, met or not."""
    met = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
    asked = f"at least {at_least:g}" if at_least is not None else f"at most {at_most:g}"
    return f"target: {name}: {value:.2f}, asked {asked}: {'met' if met else 'NOT met'}"


def main() -> None:
    print(machine())
    for name in PEERS:
        if load(name) is not None:
            print(f"{name} {importlib.metadata.version(name)}")


if __name__ == "__main__":
    main()

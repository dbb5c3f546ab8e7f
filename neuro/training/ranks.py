"""Processes that train together on one machine: started, stopped after one and the same batch, and ended together.

Ctrl-C may reach all processes of a group or only the one that started them, while they import, in the middle of a batch
or while they wait for each other. So no process stops by itself: the signal raises a flag, and after each batch they ask
whether any flag is up. It is blocked until a process can raise its flag, so that none is lost and none interrupts an
import.
"""

from __future__ import annotations

import gc
import os
import pickle
import re
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import multiprocessing
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from neuro.errors import NeuroError
from neuro.training.starting import blocked, packed, unblock

POLL_S = 0.2  # how often the process that started the others looks after them


class _Asked:
    """Whether this process was asked to stop."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, number: int, frame: Any) -> None:
        self.times += 1


asked = _Asked()


def launch(count: int, task: Callable[[], None]) -> bool:
    """Run `task()` in `count` new processes, ranks 0 .. count-1 of a process group to be; True if they were asked to stop.

    Ctrl-C is handed on to them; a second one ends them at once.

    Raises:
        ParameterError: the task cannot be sent to another process.
        NeuroError: what a process ended with, if it was an error of ours.
        ProcessRaisedException, ProcessExitedException: of torch, a process failed otherwise; the others were ended.
    """
    image = packed(task)
    with tempfile.TemporaryDirectory() as folder:  # a pipe would hold up the start until each process has read its own
        file = Path(folder) / "task.pickle"
        file.write_bytes(image)
        return _ran(count, file)


def _ran(count: int, file: Path) -> bool:
    how = (count, _free_port(), file, torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    asked.times = told = 0
    with _listening():
        with blocked():
            processes = multiprocessing.start_processes(_rank, how, nprocs=count, join=False, start_method="spawn")
        try:
            while not processes.join(timeout=POLL_S):
                if asked.times > told:
                    told = asked.times
                    _tell([p for p in processes.processes if p.is_alive()], kill=told > 1)
        except ProcessRaisedException as failure:  # all that comes out of a process is its traceback, as text
            raise _told(failure) from failure
        except ProcessExitedException:
            if told < 2:  # else it was us
                raise
        return asked.times > 0


@contextmanager
def stopping() -> Iterator[None]:
    """Within, Ctrl-C raises the flag of this process, which `stop_wanted` asks for."""
    with _listening():
        unblock()
        yield


def stop_wanted() -> bool:
    """Whether any process of the group was asked to stop: one answer for all, to be asked by all at the same point.

    A single process is interrupted where it is, and never asks.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return False
    flag = torch.tensor(asked.times, device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag)


def _rank(index: int, count: int, port: int, file: Path, threads: int, deterministic: bool) -> None:
    """What a new process does. By pickle, as torch's own way of sending would share the weights between the processes."""
    with stopping():
        os.environ.update(LOCAL_RANK=str(index), RANK=str(index), WORLD_SIZE=str(count))
        os.environ.update(NODE_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        multiprocessing.set_start_method(
            None, force=True
        )  # for loaders: as in one process
        try:
            pickle.loads(file.read_bytes())()
        except KeyboardInterrupt:
            pass  # who started us was asked, too, or sees that training has not ended
        if dist.is_available() and dist.is_initialized():
            dist.barrier()  # none leaves while another still needs it
            gc.collect()  # a wrapped model is a cycle that holds the group, whose threads must have ended before the process does
            dist.destroy_process_group()


def _told(failure: ProcessRaisedException) -> Exception:
    """The error of ours that a process ended with, or the failure itself."""
    said = re.search(r"^neuro\.[\w.]+: (.*)", str(failure), re.MULTILINE | re.DOTALL)
    return NeuroError(said[1].strip()) if said else failure


def _tell(processes: list[Any], kill: bool) -> None:
    for process in processes:
        os.kill(process.pid, signal.SIGKILL if kill else signal.SIGINT)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def _listening() -> Iterator[None]:
    """Ctrl-C raises the flag instead of an exception; only a main thread may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, asked)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

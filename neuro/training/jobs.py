"""Independent pieces of work in several processes side by side, their results as they come."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from neuro.errors import NeuroError, ParameterError, explain
from neuro.training.starting import blocked, packed, unblock

Task = tuple[Callable[..., Any], tuple[Any, ...]]


def side_by_side(tasks: Sequence[Task], jobs: int) -> Iterator[tuple[int, Any]]:
    """(number, result) of each task `function(*arguments)`, in the order in which they end.

    Args:
        tasks: functions at the top of a module, with arguments that can be sent to another process.
        jobs: processes; 1 does the tasks here, in their order.

    Raises:
        ParameterError: jobs below 1.
        NeuroError: the first error of a task; the other processes are ended.

    >>> dict(side_by_side([(pow, (2, 3)), (pow, (3, 2))], jobs=1))
    {0: 8, 1: 9}
    """
    if jobs < 1:
        raise ParameterError(explain(f"jobs={jobs} is not a number of processes.", cure="Give at least 1."))
    if jobs == 1:
        yield from ((i, function(*arguments)) for i, (function, arguments) in enumerate(tasks))
        return
    context = multiprocessing.get_context("spawn")
    workers: dict[Connection, Any] = {}
    try:
        with blocked():
            for _ in range(min(jobs, len(tasks))):
                ours, theirs = context.Pipe()
                process = context.Process(target=_work, args=(theirs,))
                process.start()
                workers[ours] = process
                theirs.close()
        yield from _shared_out(tasks, list(workers))
    except BaseException:
        for process in workers.values():
            process.kill()  # whatever they write is written whole or not at all
        raise
    finally:
        for pipe, process in workers.items():
            pipe.close()  # which ends those that are idle
            process.join()


def _shared_out(tasks: Sequence[Task], free: list[Connection]) -> Iterator[tuple[int, Any]]:
    waiting, busy = list(enumerate(tasks))[::-1], {}
    while waiting or busy:
        while waiting and free:
            number, task = waiting.pop()
            free[-1].send_bytes(packed(task))
            busy[free.pop()] = number
        for worker in wait(list(busy)):
            number = busy.pop(worker)  # type: ignore[arg-type]
            try:
                good, result = worker.recv()  # type: ignore[union-attr]
            except EOFError:
                raise NeuroError(
                    explain(
                        f"the process of task {number} ended without a result.", cure="It may have been out of memory."
                    )
                ) from None
            if not good:
                raise result
            free.append(worker)  # type: ignore[arg-type]
            yield number, result


def _work(tasks: Connection) -> None:
    """What a process does: one task after another, until there are no more."""
    multiprocessing.set_start_method(
        None, force=True
    )  # loaders start their workers as anywhere, not as we were started
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started us is asked, and ends us
    unblock()
    try:
        while True:
            image = tasks.recv_bytes()
            try:
                function, arguments = pickle.loads(image)
                tasks.send((True, function(*arguments)))
            except Exception as error:
                if not isinstance(error, NeuroError):
                    traceback.print_exc()
                    error = NeuroError(f"{type(error).__name__}: {error}")
                tasks.send((False, error))
    except (EOFError, OSError):  # the other end was closed: no more tasks
        return

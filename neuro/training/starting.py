"""What starting a process takes: work that can be sent, and a Ctrl-C that waits until the imports are done."""

from __future__ import annotations

import pickle
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

from neuro.errors import ParameterError, explain


@contextmanager
def blocked() -> Iterator[None]:
    """Ctrl-C waits, also in the processes that are started within: they inherit this, and `unblock` when ready."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # now, as its start would unblock what we block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock() -> None:
    """Answer to Ctrl-C, and to one that has waited."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def packed(work: Any) -> bytes:
    """As plain pickle: torch's own way of sending would share the memory of tensors between the processes.

    Raises:
        ParameterError: it holds something that cannot be sent.
    """
    try:
        return pickle.dumps(work)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        cure = "Give functions and classes that are defined at the top of a module, or work in one process."
        raise ParameterError(explain("this work cannot be sent to other processes.", str(error), cure=cure)) from error

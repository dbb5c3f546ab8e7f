"""How many threads a process computes with."""

from __future__ import annotations

import os

import torch

from neuro.errors import ParameterError, explain

CORES = os.cpu_count() or 1
MOST = max(64, CORES)  # threads, or processes; up to 64 may be asked for on a machine with fewer cores: slow, and the same result as where they are


def use_threads(threads: int) -> None:
    """Let this process compute with so many threads.

    Args:
        threads: 1 .. 64, or up to the cores of this machine where it has more.

    Raises:
        ParameterError: another number.

    >>> before = torch.get_num_threads()
    >>> use_threads(2)
    >>> torch.get_num_threads()
    2
    >>> use_threads(before)
    """
    if not 1 <= threads <= MOST:
        raise ParameterError(explain(f"threads={threads} is not a number of threads.", f"this machine has {CORES} cores", cure=f"Give 1 .. {MOST}; more than there are free cores is far slower."))
    torch.set_num_threads(threads)

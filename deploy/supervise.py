"""Another process under watch: it ends in time or is ended, with everything that it started, and what it printed comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from neuro.errors import LavaError, explain


def end_group(process: subprocess.Popen, grace: float = 3.0) -> None:
    """End a process and everything it started, and wait until they are gone.

    First politely: Python's resource tracker survives SIGTERM and, once the others are gone, frees their shared memory. One that
    is stopped takes SIGTERM only when it goes on; SIGKILL would take the tracker with it.
    """
    if os.name != "posix":
        process.kill()
        process.wait()
        return
    for number, wait in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
            os.killpg(process.pid, signal.SIGCONT)
        limit = time.monotonic() + wait
        while time.monotonic() < limit:
            process.poll()      # reaps the leader; its orphans are reaped by the system
            try:
                os.killpg(process.pid, 0)
            except (ProcessLookupError, PermissionError):
                process.wait()
                return
            time.sleep(0.02)
    process.wait()


def started(command: Sequence[str], **how: Any) -> subprocess.Popen:
    """A process in a group of its own; raises LavaError if there is no such program."""
    try:
        return subprocess.Popen(command, start_new_session=True, **how)
    except OSError as error:
        raise LavaError(explain(f"{command[0]} could not be started.", str(error), cure="`neuro lava doctor` says which interpreter runs Lava.")) from error


def start(command: Sequence[str], seconds: float, folder: Path) -> None:
    """Run a command in a process group of its own; raises LavaError if it fails or is not done within the time."""
    log = folder / "log.txt"
    with log.open("w+b") as output:
        process = started(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=folder)
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            end_group(process)
            raise late("Lava was not done", seconds, log, "Give fewer recordings or a longer time_limit.") from None
        except BaseException:
            end_group(process)
            raise
        if status:
            end_group(process)
            raise failed(status, log)


def late(what: str, seconds: float, log: Path, cure: str) -> LavaError:
    """The error for a process that was ended at its limit."""
    return LavaError(explain(f"{what} after {seconds:g} s and was ended.", tail(log), cure=cure))


def failed(status: int | None, log: Path) -> LavaError:
    """The error for a process that ended by itself, with its workers' traceback."""
    return LavaError(explain(f"Lava failed with exit status {status}.", tail(log, 6000)))


def tail(log: Path, characters: int = 2000) -> str:
    """The end of what it printed, indented."""
    text = log.read_text(errors="replace")[-characters:].strip()
    return text.replace("\n", "\n  ")

"""Temporary folders that go with their process; where it was killed, the next one that makes such a folder removes them.

Of the standard library alone, so that it can be used before anything else is loaded.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: folders of killed processes stay
    fcntl = None  # type: ignore[assignment]


class Scratch:
    """A new folder in the system's temporary one, named by its process: PREFIX-PID-xxxxxxxx. Gone with `close`, or when the process ends.

    Folders of the same prefix whose processes are dead are removed first.

    Attributes:
        path: of the folder.

    >>> folder = Scratch("neuro-doctest")
    >>> folder.path.is_dir(), folder.path.name.startswith(f"neuro-doctest-{os.getpid()}-")
    (True, True)
    >>> folder.close()
    >>> folder.path.exists()
    False
    """

    def __init__(self, prefix: str) -> None:
        remove_leftovers(prefix)
        self._folder = tempfile.TemporaryDirectory(prefix=f"{prefix}-{os.getpid()}-")
        self.path = Path(self._folder.name)
        self._lock = None if fcntl is None else _locked(self.path)

    def close(self) -> None:
        """Remove the folder. May be called again."""
        self._folder.cleanup()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def remove_leftovers(prefix: str) -> list[Path]:
    """Remove this user's folders PREFIX-PID-xxxxxxxx whose process is dead, and say which.

    Dead: no process has this number, and nobody holds the folder's lock. The number alone would not do where containers share
    the temporary folder and number their processes each for itself.
    """
    if fcntl is None:
        return []
    removed = []
    for folder in sorted(Path(tempfile.gettempdir()).glob(f"{prefix}-*")):
        named = re.fullmatch(re.escape(prefix) + r"-(\d+)-\w+", folder.name)
        if named is None or _runs(int(named[1])) or (lock := _locked(folder)) is None:
            continue
        try:
            shutil.rmtree(folder, ignore_errors=True)  # what cannot be removed stays, and stops nobody
        finally:
            os.close(lock)
        removed.append(folder)
    return removed


def _runs(pid: int) -> bool:
    """Whether there is a process of this number, whoever owns it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _locked(folder: Path) -> int | None:
    """A handle that holds the lock of a folder of this user; None where another process holds it, or there is no such folder."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if os.fstat(handle).st_uid == os.getuid():
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return handle
        except OSError:
            pass  # held, or a file system without locks: not ours to remove
        os.close(handle)
    return None

"""Files that are either the old one or the new one, never half of it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from neuro.errors import FormatError, NeuroError, explain

NPY = b"\x93NUMPY"  # the first bytes of an .npy file


class WriteError(NeuroError, OSError):
    """A file could not be written; what stood there before still stands."""


@contextmanager
def replacing(path: str | Path) -> Iterator[IO[bytes]]:
    """A binary file to write that takes the place of `path` once it is complete and on the disk.

    It is written under a temporary name in the same folder, flushed to the disk, and renamed. Whatever goes wrong
    before that, the temporary file is removed and `path` stays as it was.

    Raises:
        WriteError: no space, no permission, no folder.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        temporary = None
        _sync_folder(path.parent)
    except OSError as error:
        raise refused(path, error) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)


def clear_leftovers(path: str | Path) -> None:
    """Remove what processes that were killed while they wrote `path` have left beside it."""
    path = Path(path)
    for left in path.parent.glob(f".{path.name}.*.part"):
        with suppress(OSError):
            left.unlink()


def refused(path: Path, error: OSError) -> WriteError:
    """The error for a file that the system did not let us write."""
    facts = [error.strerror or str(error)]
    if error.errno in (errno.EEXIST, errno.ENOTDIR):  # of one of its folders
        facts = [f"{folder} is a file, no folder" for folder in path.parents if folder.is_file()] or facts
    room = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if room:
        with suppress(OSError):
            facts.append(f"{shutil.disk_usage(path.parent).free / 1e6:.1f} MB are free in its folder")
    cure = f"What stood there before is untouched. {'Make room or choose' if room else 'Choose'} another {'name' if path.is_dir() else 'folder'}, then try again."
    return WriteError(explain(f"could not write {path}.", *facts, cure=cure))


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as JSON, whole or not at all."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as file:
        file.write(text.encode())


def read_json(path: str | Path, format: str, version: int) -> dict[str, Any]:
    """Read a JSON object of ours and check its format and version.

    Raises:
        FormatError: missing, damaged, of another format, or of a newer version.
    """
    path = Path(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FormatError(explain(f"there is no {path}.")) from error
    except (ValueError, OSError) as error:
        raise FormatError(explain(f"{path} cannot be read.", str(error), cure="It is damaged or not JSON.")) from error
    check_format(path, value, format, version)
    return value


def read_npy(path: str | Path, expected: str, **how: Any) -> Any:
    """The array of an .npy file; nothing is unpickled.

    Args:
        expected: what it should hold, for the error.
        how: for numpy.load, such as mmap_mode.

    Raises:
        FormatError: not an .npy file, or a damaged one. OSError: it cannot be opened.
    """
    import numpy as np

    path = Path(path)
    with path.open("rb") as file:
        begins = file.read(len(NPY))
    if begins != NPY:  # numpy.load would take it for a zip or a pickle
        raise FormatError(explain(f"{path} is not an .npy file.", f"it begins with {begins!r}", f"expected {expected}"))
    try:
        return np.load(path, allow_pickle=False, **how)
    except (ValueError, EOFError, OSError) as error:
        raise FormatError(explain(f"{path} cannot be read.", str(error), f"expected {expected}")) from error


def check_format(path: str | Path, value: Any, format: str, version: int) -> None:
    """Refuse what is not an object of this format, or is newer than this package."""
    found = value.get("format") if isinstance(value, dict) else None
    if found != format:
        raise FormatError(explain(f"{path} is not a {format} file.", f"its format is {found!r}"))
    theirs = value.get("version")
    if not isinstance(theirs, int) or isinstance(theirs, bool) or theirs < 1:
        raise FormatError(explain(f"{path} does not say its version.", f"version {theirs!r}"))
    if theirs > version:
        cure = "It was written by a newer neuro. Upgrade this one to read it: pip install --upgrade neuro-snn"
        raise FormatError(explain(f"{path} has {format} version {theirs}; this neuro reads up to {version}.", cure=cure))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system allows it."""
    with suppress(OSError, AttributeError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

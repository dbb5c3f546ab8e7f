"""Named arrays of an npz file, without unpickling."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from neuro.errors import FormatError, explain, nothing_there


def read_arrays(path: Path, names: tuple[str, ...]) -> tuple[np.ndarray, ...]:
    """Named arrays of an npz file; nothing is unpickled.

    Raises:
        FileNotFoundError: no such file. FormatError: not a readable npz, or an array is missing.
    """
    if not path.is_file():
        raise FileNotFoundError(nothing_there("file", path, f"Put the npz with {', '.join(names)} there."))
    if not zipfile.is_zipfile(path):  # numpy.load would take it for a pickle
        raise FormatError(explain(f"{path} is not an npz file.", f"expected one with the arrays {', '.join(names)}"))
    try:
        with np.load(path, allow_pickle=False) as file:
            return tuple(file[name] for name in names)
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise FormatError(explain(f"{path} does not hold the arrays {', '.join(names)}.", str(error))) from error


def the_file(path: Path, pattern: str) -> Path:
    """The path itself where it is a file, else the one file of a pattern in that folder.

    Raises:
        FileNotFoundError: no such file. FormatError: several.
    """
    if path.is_file():
        return path
    found = sorted(path.glob(pattern)) if path.is_dir() else []
    if not found:
        what = f"{path} holds no {pattern}." if path.is_dir() else f"There is no {path}."
        raise FileNotFoundError(explain(what, cure=f"Name a file, or a folder with one {pattern}."))
    if len(found) > 1:
        raise FormatError(explain(f"{path} holds several {pattern}.", *(p.name for p in found), cure="Name one of them."))
    return found[0]

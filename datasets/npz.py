"""Named arrays of an npz file, without unpickling."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from neuro.errors import FormatError, explain


def read_arrays(path: Path, names: tuple[str, ...]) -> tuple[np.ndarray, ...]:
    """Named arrays of an npz file; nothing is unpickled.

    Raises:
        FileNotFoundError: no such file. FormatError: not a readable npz, or an array is missing.
    """
    if not path.is_file():
        raise FileNotFoundError(explain(f"There is no file {path}.", cure=f"Put the npz with {', '.join(names)} there."))
    try:
        with np.load(path, allow_pickle=False) as file:
            return tuple(file[name] for name in names)
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise FormatError(explain(f"{path} does not hold the arrays {', '.join(names)}.", str(error))) from error

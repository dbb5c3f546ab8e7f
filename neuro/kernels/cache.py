"""Machine code of generated kernels, compiled once per machine and kept on disk.

A file is named by the digest of the kernel's source, of the words it is written in, and of the versions and the processor that
its machine code depends on. It holds a checksum and the compiled function. It is written under another name and renamed
when complete, so two processes never see half of one; what does not match its checksum is compiled again. The folder
belongs to the user who runs the kernels: nobody else may write there.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from neuro.files import WriteError, replacing
from neuro.kernels.writing import MARK

_FORMAT = b"neuro kernel 1\n"
_loaded: dict[str, Callable[..., Any]] = {}
_lock = threading.RLock()


def folder() -> Path:
    """Where machine code is kept: `kernels` in `NEURO_CACHE`, or in `neuro` in the user's cache folder."""
    root = os.environ.get("NEURO_CACHE")
    base = Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "neuro"
    return base / "kernels"


def function(source: str, name: str, by_address: bool = False) -> Callable[..., Any]:
    """The function `name` of `source` as a Numba dispatcher that releases the GIL; compiled, or read from disk, at its first call.

    One kernel is called with one combination of types; `by_address`, also from other machine code. What is marked `@translated` takes the short way of `translating.py`.
    """
    key = hashlib.sha256("\0".join((name, source, str(by_address), *_surroundings())).encode()).hexdigest()
    with _lock:
        if key not in _loaded:
            _loaded[key] = _dispatcher(source, name, key, by_address)
        return _loaded[key]


def _dispatcher(source: str, name: str, key: str, by_address: bool = False) -> Callable[..., Any]:
    import numba

    from neuro.kernels import translating, words

    unique = f"{name}_{key[:16]}"  # machine code of several processes meets in one: its symbols bear the function's name
    space: dict[str, Any] = {"__name__": words.__name__}  # and name a module that a later process can import
    head, marked, body = source.partition(f"{MARK}\n")
    exec(compile(head if marked else head.replace(f"def {name}(", f"def {unique}("), f"<neuro kernel {key[:12]}>", "exec"), space)
    made = translating.function(body, unique, space) if marked else space[unique]
    dispatcher = numba.njit(nogil=True, error_model="numpy", boundscheck=False, no_cfunc_wrapper=not by_address)(made)
    dispatcher._cache = _OneFile(folder() / f"{key}.kernel")
    return dispatcher


@functools.cache
def _surroundings() -> tuple[str, ...]:
    """What else machine code depends on."""
    import llvmlite
    import llvmlite.binding
    import numba

    from neuro.kernels import translating, words

    processor = (llvmlite.binding.get_host_cpu_name(), llvmlite.binding.get_host_cpu_features().flatten())
    texts = [Path(module.__file__).read_text() for module in (words, translating)]
    return (*texts, numba.__version__, llvmlite.__version__, sys.version, *processor)


class _OneFile:
    """What Numba's dispatcher asks a cache for, kept in one file with a checksum."""

    def __init__(self, path: Path):
        self.path = path
        self.cache_path = str(path.parent)

    def load_overload(self, signature: Any, target: Any) -> Any:
        from numba.core.compiler import CompileResult

        target.refresh()
        try:
            data = self.path.read_bytes()
        except OSError:
            return None
        head, body = data[: len(_FORMAT) + 32], data[len(_FORMAT) + 32 :]
        if head != _FORMAT + hashlib.sha256(body).digest():
            return None  # damaged or of another format: compiled and written again
        kept, payload = pickle.loads(body)
        return CompileResult._rebuild(target, *payload) if kept == str(signature) else None

    def save_overload(self, signature: Any, result: Any) -> None:
        from numba.core.serialize import dumps

        try:
            body = dumps((str(signature), result._reduce()))
        except RuntimeError as lost:
            if "no compiled object" not in str(lost):
                raise
            raise KeyboardInterrupt from lost  # it came while LLVM handed its work over, and ctypes printed and lost it
        try:
            with replacing(self.path) as file:
                os.chmod(self.path.parent, 0o700)
                file.write(_FORMAT + hashlib.sha256(body).digest() + body)
        except WriteError as refused:
            warnings.warn(f"Compiled kernels are not kept, so every process compiles them anew. {refused}", RuntimeWarning, stacklevel=2)

    def flush(self) -> None:
        self.path.unlink(missing_ok=True)

    def enable(self) -> None:
        """Numba's name for switching a cache on; this one always is."""

    disable = enable

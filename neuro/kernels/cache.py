"""Machine code of kernels, compiled once per machine and kept on disk.

A file of a generated kernel is named by the digest of the kernel's source, of the words it is written in, and of the versions and the processor
that its machine code depends on. Loops written by hand call each other from file to file, so what is kept of one bears a stamp, the digest of
all files of loops (`machine`): when any of them changes, all are compiled again. A file holds a checksum and the compiled function. It is
written under another name and renamed when complete, so two processes never see half of one; what does not match its checksum is
compiled again. The folder belongs to the user who runs the kernels: nobody else may write there.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
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
_FOLDER = Path(__file__).parent
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
    key = _digest(name, source, str(by_address), *_words(), *_surroundings())
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


def machine(function: Any = None, **flags: Any) -> Any:
    """A function in a file of loops as a Numba dispatcher that releases the GIL; compiled, or read from disk, at its first call with each combination of types.

    It is compiled once for all numbers, where Numba would do so for each one written out in a call. flags: further ones of `numba.njit`.
    A function of any other file is not kept on disk, because the stamp would not see that file change.
    """
    if function is None:
        return functools.partial(machine, **flags)
    import numba

    function = inspect.unwrap(function)  # types that are checked at every call are not for Numba
    made = numba.njit(nogil=True, error_model="numpy", **flags)(function)
    called = made.get_call_template
    made.get_call_template = lambda args, kws: called([numba.types.unliteral(a) for a in args], {name: numba.types.unliteral(a) for name, a in kws.items()})
    home = Path(function.__code__.co_filename)
    if home.parent == _FOLDER and home.stem.endswith("_loops"):
        made._cache = _Loop(f"{home}\0{function.__qualname__}", _stamp())
    return made


def _stamp_of_files() -> str:
    """Of all that loops are made from: their files, the numbers they share with others, and this file."""
    files = sorted(_FOLDER.glob("*_loops.py"))
    return _digest(*(file.read_text("utf-8") for file in (*files, _FOLDER / "table.py", Path(__file__))))


_stamp = functools.cache(_stamp_of_files)  # as the files were when this process began to load loops


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@functools.cache
def _words() -> tuple[str, ...]:
    """The texts that turn a generated source into machine code."""
    from neuro.kernels import translating, words

    return tuple(Path(module.__file__).read_text("utf-8") for module in (words, translating))


@functools.cache
def _surroundings() -> tuple[str, ...]:
    """What else machine code depends on: versions, and the processor that Numba makes it for."""
    import llvmlite
    import numba
    from numba.core.registry import cpu_target

    return numba.__version__, llvmlite.__version__, sys.version, *cpu_target.target_context.codegen().magic_tuple()


class _Loop:
    """What Numba's dispatcher asks a cache for: a file for each combination of types that a function is called with."""

    def __init__(self, name: str, stamp: str):
        self.name, self.stamp = name, stamp
        self.cache_path = str(folder())

    def _file(self, signature: Any) -> _OneFile:
        return _OneFile(folder() / f"{_digest(self.name, str(signature), *_surroundings())}.kernel", self.stamp)

    def load_overload(self, signature: Any, target: Any) -> Any:
        return self._file(signature).load_overload(signature, target)

    def save_overload(self, signature: Any, result: Any) -> None:
        if _stamp_of_files() == self.stamp:  # else a file was changed meanwhile, and this may have been made from it before or after
            self._file(signature).save_overload(signature, result)


class _OneFile:
    """What Numba's dispatcher asks a cache for, kept in one file with a checksum; of a loop with its stamp."""

    def __init__(self, path: Path, stamp: str = ""):
        self.path = path
        self.stamp = stamp
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
        return CompileResult._rebuild(target, *payload) if kept == self.stamp + str(signature) else None

    def save_overload(self, signature: Any, result: Any) -> None:
        from numba.core.serialize import dumps

        try:
            body = dumps((self.stamp + str(signature), result._reduce()))
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

"""Files inside a folder and inside the zips of that folder, under stable names, read one at a time.

Nothing is ever extracted. A zip is opened once per process, on first use, so that an archive travels to the workers of a
DataLoader, and a member is refused before it is read if it declares more bytes than the limit.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from neuro.errors import FormatError, explain, nothing_there

LIMIT = 64 * 2**20  # bytes of one file
SHOWN = 8  # files that an error lists


class Archive:
    """The files of a folder, loose or zipped, whose path `address` turns into a name (None: not ours).

    folder: searched with all its subfolders. The path given to `address` is that inside the zip, or for a loose file
        the path from the folder, beginning with the folder's own name.
    names: sorted.

    Raises:
        FileNotFoundError: no such folder. PermissionError: it may not be read.
        FormatError: a zip that cannot be read, two files of one name, or no file that fits (with a list of what is there).
    """

    def __init__(
        self, folder: str | os.PathLike, address: Callable[[tuple[str, ...]], str | None], expected: str
    ) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(nothing_there("folder", self.folder, f"Expected: {expected}."))
        os.scandir(self.folder).close()  # raises where it may not be read: a search would find nothing
        self.places: dict[str, tuple[Path, str | None]] = {}
        self.open: dict[tuple[int, Path], zipfile.ZipFile] = {}
        found = []
        for file, member in contents(self.folder):
            parts = (self.folder.resolve().name, *file.relative_to(self.folder).parts)
            found.append(f"{file.name}:{member}" if member else "/".join(parts[1:]))
            name = address(tuple(member.split("/")) if member else parts)
            if name in self.places:
                first, second = (f"{p}:{m}" if m else str(p) for p, m in (self.places[name], (file, member)))
                raise FormatError(
                    explain(f"Two files have the name {name}.", first, second, cure="Remove one of them.")
                )
            if name is not None:
                self.places[name] = (file, member)
        if not self.places:
            listed = ", ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
            raise FormatError(
                explain(
                    f"{self.folder} holds no file that fits.",
                    f"found: {listed or 'nothing'}",
                    cure=f"Expected: {expected}.",
                )
            )
        self.names = sorted(self.places)

    def read(self, name: str) -> bytes:
        """The bytes of one file."""
        path, member = self.places[name]
        if member is None:
            refuse_large(name, path.stat().st_size)
            return path.read_bytes()
        key = (os.getpid(), path)
        if key not in self.open:
            self.open[key] = zipfile.ZipFile(path)
        refuse_large(name, self.open[key].getinfo(member).file_size)
        try:
            return self.open[key].read(member)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
            raise FormatError(
                explain(f"{path} is damaged at {member}.", str(error), cure="Get the file again.")
            ) from error

    def stamp(self, names: Iterable[str]) -> str:
        """A digest that changes when one of these files, or the zip that it is in, is replaced or written to: 32 hex digits."""
        digest, known = hashlib.sha256(), {}
        for name in names:
            path, member = self.places[name]
            if path not in known:
                about = path.stat()
                known[path] = f"{about.st_size} {about.st_mtime_ns}"
            digest.update(f"{name}\0{member}\0{known[path]}\0".encode())
        return digest.hexdigest()[:32]

    def __getstate__(self) -> dict:
        return {**self.__dict__, "open": {}}  # open files stay in their process


def contents(folder: Path):
    """All files under a folder as (path, None), and for a zip its members as (path, member); sorted.

    Hidden files are left out: macOS puts a `._NAME` beside every NAME that it zips or copies.
    """
    for file in sorted(f for f in folder.rglob("*") if f.is_file() and not f.name.startswith(".")):
        if file.suffix.lower() != ".zip":
            yield file, None
            continue
        try:
            with zipfile.ZipFile(file) as opened:
                members = sorted(m for m in opened.namelist() if not m.endswith("/") and not m.split("/")[-1].startswith("."))
        except zipfile.BadZipFile as error:
            raise FormatError(
                explain(f"{file} is not a readable zip.", str(error), cure="Get the file again.")
            ) from error
        yield from ((file, member) for member in members)


def refuse_large(name: str, size: int) -> None:
    """Raise where a file declares more bytes than any recording has."""
    if size > LIMIT:
        raise FormatError(explain(f"{name} declares {size} bytes, more than the limit of {LIMIT}.", cure="Not read."))

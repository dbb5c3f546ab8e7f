"""Archives unpacked into a folder that appears whole or not at all."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from neuro.errors import FormatError, explain

LIMIT = 256 * 2**30  # bytes that an archive may unfold to
BROKEN = (gzip.BadGzipFile, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError)


def unpack(path: str | os.PathLike, folder: str | os.PathLike, limit: int = LIMIT) -> Path:
    """The files of a zip or tar (also compressed) in `folder`, which must not exist yet.

    Zips inside stay packed. Links, devices, absolute names and names that leave the folder are refused.

    Raises:
        FormatError: not such an archive, damage, a name that is refused, or more than `limit` bytes.
        FileExistsError: the folder is there.
    """
    path, folder = Path(path), Path(folder)
    if folder.exists():
        raise FileExistsError(explain(f"{folder} is there already.", cure="Remove it to unpack anew."))
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as opened:
                rows = [(m.filename, m.file_size, m.is_dir(), m) for m in opened.infolist()]
                write(path, rows, opened.open, temporary, limit)
        else:
            with tarfile.open(path) as opened:
                members = opened.getmembers()
                odd = next((m.name for m in members if not (m.isreg() or m.isdir())), None)
                if odd is not None:
                    raise FormatError(explain(f"{path}: {odd!r} is a link or a device.", cure="Not unpacked."))
                write(path, [(m.name, m.size, m.isdir(), m) for m in members], opened.extractfile, temporary, limit)
        os.chmod(temporary, 0o755)
        os.rename(temporary, folder)
    except BROKEN as error:
        raise FormatError(explain(f"{path} is no archive, or is damaged.", f"{type(error).__name__}: {error}", cure="Get it again.")) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def write(path: Path, rows: list[tuple], read, folder: Path, limit: int) -> None:
    """Write members (name, bytes, whether a folder, member) below `folder`."""
    total = sum(size for _, size, _, _ in rows)
    if total > limit:
        raise FormatError(explain(f"{path} unfolds to {total} bytes, more than {limit}.", cure="Not unpacked."))
    for name, size, is_folder, member in rows:
        plain = PurePosixPath(name)
        if plain.is_absolute() or ".." in plain.parts or "\\" in name or "\0" in name:
            raise FormatError(explain(f"{path}: the name {name!r} leaves the folder.", cure="Not unpacked."))
        target = folder.joinpath(*plain.parts)
        taken = target.is_file() or (target.exists() and not is_folder) or any(p.is_file() for p in target.parents)
        if taken:
            raise FormatError(explain(f"{path} holds {name!r} twice, or as a file and a folder.", cure="Not unpacked."))
        if is_folder:
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with read(member) as source, target.open("xb") as file:
            shutil.copyfileobj(source, file)
        if target.stat().st_size != size:
            raise FormatError(explain(f"{path}: {name!r} has another length than stated.", f"{target.stat().st_size} of {size} bytes"))

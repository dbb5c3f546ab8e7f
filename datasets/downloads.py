"""Files from the network: resumed where they stopped, checked, and in place only when they are whole."""

from __future__ import annotations

import hashlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from neuro.errors import FormatError, NeuroError, ParameterError, explain

PIECE = 1 << 20
FREE = 64 * 2**30  # bytes of a file whose size neither we nor the server know


class DownloadError(NeuroError, OSError):
    """A file could not be got; what has come of it is kept for the next attempt."""


@dataclass(frozen=True)
class Remote:
    """Where a file lies, what it is called here, and how it is known to be right.

    md5, sha256: in hex, None where not known to us. size: in bytes, or None.
    url: None where the file cannot be got without a person, for example behind a form.

    Raises:
        ParameterError: a name with a folder in it, or a URL that is not http or https.
    """

    file: str
    url: str | None
    md5: str | None = None
    sha256: str | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        if not self.file or self.file in (".", "..") or "/" in self.file or "\\" in self.file:
            raise ParameterError(explain("Remote: the file must be a plain name.", f"file={self.file!r}"))
        if self.url is not None and not self.url.startswith(("https://", "http://")):
            raise ParameterError(explain("Remote: the URL must be http or https.", f"url={self.url!r}"))


def download(files: Iterable[Remote], folder: str | os.PathLike, *, timeout_s: float = 30.0) -> list[Path]:
    """The files, in `folder`; those that are there and right are not got again. One process at a time.

    What has come of a file stands in `FILE.part`, with the server's mark of its version in `FILE.part.json`; the next
    attempt goes on from there if the server still has that version, and else starts again. A file takes its name when
    its length and its known checksum are right.

    Raises:
        DownloadError: no network, no such address, or an end before the end: with the file to get and where to put it.
        FormatError: the file has another checksum or length; the wrong bytes are removed.
    """
    folder = Path(folder)
    paths = []
    for remote in files:
        path = folder / remote.file
        if path.exists():
            check(path, remote)
        elif remote.url is None:
            raise failed(remote, folder, "It cannot be got without a person.")
        else:
            folder.mkdir(parents=True, exist_ok=True)
            get(remote, path, timeout_s)
        paths.append(path)
    return paths


def get(remote: Remote, path: Path, timeout_s: float) -> None:
    """Get one file, or the rest of it."""
    part, mark = path.with_name(path.name + ".part"), path.with_name(path.name + ".part.json")
    have, version = part.stat().st_size if part.exists() else 0, read_mark(mark, remote)
    headers = {"User-Agent": "neuro-snn", "Accept-Encoding": "identity"}
    if have and version:
        headers |= {"Range": f"bytes={have}-", "If-Range": version}
    try:
        with urllib.request.urlopen(urllib.request.Request(remote.url, headers=headers), timeout=timeout_s) as answer:
            goes_on = answer.status == 206 and "Range" in headers
            if goes_on and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                raise failed(remote, path.parent, f"The server sent another part: {answer.headers.get('Content-Range')!r}.")
            start = have if goes_on else 0
            length = answer.headers.get("Content-Length", "")
            whole = start + int(length) if length.isdigit() else remote.size
            if not goes_on:
                part.unlink(missing_ok=True)  # before the mark: old bytes must never stand beside a new version
                write_mark(mark, remote, answer.headers)
            receive(answer, part, start, whole, remote)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing comes after what we have: it is whole, or not this file
            mark.unlink(missing_ok=True)
            if error.headers.get("Content-Range") == f"bytes */{have}":
                return finish(part, path, remote)
            part.unlink(missing_ok=True)
        raise failed(remote, path.parent, f"The server answered {error.code} {error.reason}.") from error
    except (OSError, HTTPException) as error:
        if isinstance(error, DownloadError):
            raise
        raise failed(remote, path.parent, f"{type(error).__name__}: {error}") from error
    mark.unlink(missing_ok=True)
    finish(part, path, remote)


def receive(answer, part: Path, start: int, whole: int | None, remote: Remote) -> None:
    """Write what comes behind byte `start` of `part`; an end before `whole` bytes is an error that keeps them."""
    most = whole if whole is not None else FREE
    with part.open("r+b" if start else "wb") as file:
        file.seek(start)
        file.truncate()
        while data := answer.read(PIECE):
            if file.tell() + len(data) > most:
                raise failed(remote, part.parent, f"More than {most} bytes came.")
            file.write(data)
        end = file.tell()
        file.flush()
        os.fsync(file.fileno())
    if whole is not None and end < whole:
        raise failed(remote, part.parent, f"{end} of {whole} bytes came. What came is kept; try again to go on.")


def finish(part: Path, path: Path, remote: Remote) -> None:
    """Check the bytes and give them their name; wrong ones are removed."""
    try:
        check(part, remote)
    except FormatError:
        part.unlink()
        raise
    os.replace(part, path)


def check(path: Path, remote: Remote) -> None:
    """Refuse a file whose length or checksum is not the known one."""
    size = path.stat().st_size
    if remote.size is not None and size != remote.size:
        raise FormatError(explain(f"{path} is not {remote.file}.", f"{size} bytes, expected {remote.size}", cure="Remove it and get it again."))
    for kind in ("sha256", "md5"):
        known = getattr(remote, kind)
        if known is None:
            continue
        digest = hashlib.new(kind, usedforsecurity=False)
        with path.open("rb") as file:
            while data := file.read(PIECE):
                digest.update(data)
        if digest.hexdigest() != known:
            fact = f"{kind} {digest.hexdigest()}, expected {known}"
            raise FormatError(explain(f"{path} is not {remote.file}.", fact, cure="Remove it and get it again."))


def read_mark(mark: Path, remote: Remote) -> str:
    """The server's name for the version that was begun; nothing if it is not known or of another address."""
    try:
        value = json.loads(mark.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""  # without it the file is got from the start
    fits = isinstance(value, dict) and value.get("url") == remote.url and isinstance(value.get("version"), str)
    return value["version"] if fits else ""


def write_mark(mark: Path, remote: Remote, headers) -> None:
    """Keep the version that is about to come; a weak ETag does not promise equal bytes."""
    etag = headers.get("ETag", "")
    version = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")
    mark.write_text(json.dumps({"url": remote.url, "version": version}), encoding="utf-8")


def failed(remote: Remote, folder: Path, why: str) -> DownloadError:
    """The error that says what to get by hand and where to put it."""
    known = ", ".join(f"{kind} {value}" for kind in ("sha256", "md5") if (value := getattr(remote, kind))) or "no checksum is known"
    where = f"Get {remote.url or remote.file} by other means and put it at {folder / remote.file} ({known})."
    return DownloadError(explain(f"{remote.file} could not be downloaded.", why, cure=where))

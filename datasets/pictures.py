"""Frames from picture files, one at a time: animated GIF, PNG, WebP or TIFF, a folder of pictures, or an array on disk.

Films of other kinds (.mp4, .avi) become a folder first: `ffmpeg -i film.mp4 folder/%06d.png`.
"""

from __future__ import annotations

import math
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from neuro.datasets.panning import grey
from neuro.errors import FormatError, ParameterError, explain
from neuro.files import read_npy

MOST = 1 << 23  # pixels of a frame; a film of 4096 x 2048 fits, and a damaged head that claims more is found out
DAMAGE = (OSError, EOFError, SyntaxError, LookupError, TypeError, ValueError, struct.error)  # what Pillow raises on bad bytes
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")


def read_frames(path: str | os.PathLike, fps: float | None = None) -> Iterator[tuple[float, np.ndarray]]:
    """Time (us, from 0) and intensity [H, W] float64 (black 0, white 1) of each frame; only one is in memory.

    path: an animated picture; a folder, whose pictures come in the order of the numbers in their names; or an .npy file
        [F, H, W] or [F, H, W, 3].
    fps: frames per second. Animated pictures state how long each frame is shown; fps overrides it.

    The values of a picture are taken as intensity as they are: screens' gamma is not undone.

    Raises:
        ParameterError: fps that is not positive, or missing where the file states no duration.
        FormatError: no pictures, or a file that is none.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/film.npy", np.zeros((3, 4, 5), np.uint8))
    ...     [(time, frame.shape) for time, frame in read_frames(f"{folder}/film.npy", fps=100)]
    [(0.0, (4, 5)), (10000.0, (4, 5)), (20000.0, (4, 5))]
    """
    path = Path(path)
    if fps is not None and not 0 < fps < math.inf:
        raise ParameterError(explain("read_frames: fps must be above 0.", f"fps={fps}"))
    if path.is_dir():
        return timed(fps, path, of_folder(path))
    if path.suffix.lower() == ".npy":
        return timed(fps, path, of_array(path))
    return animated(path, fps)


def timed(fps: float | None, path: Path, frames: Iterator[np.ndarray]) -> Iterator[tuple[float, np.ndarray]]:
    """Frames at a rate that must be given."""
    if fps is None:
        raise ParameterError(explain(f"read_frames: {path} does not state its times.", cure="Give fps, frames per second."))
    return ((k * 1e6 / fps, frame) for k, frame in enumerate(frames))


def of_array(path: Path) -> Iterator[np.ndarray]:
    """Frames of an .npy file, through the memory map."""
    held = read_npy(path, "frames [F, H, W] or [F, H, W, 3]", mmap_mode="r")
    if held.ndim not in (3, 4):
        raise FormatError(explain(f"read_frames: {path} holds no frames.", f"shape {list(held.shape)}", cure="It must be [F, H, W] or [F, H, W, 3]."))
    return (grey(held[k]) for k in range(len(held)))


def of_folder(path: Path) -> Iterator[np.ndarray]:
    """Frames of a folder: frame2.png comes before frame10.png."""
    files = [p for p in path.iterdir() if p.suffix.lower() in PICTURES]
    if not files:
        raise FormatError(explain(f"read_frames: {path} holds no pictures.", cure=f"Known: {', '.join(PICTURES)}."))
    files.sort(key=lambda p: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", p.name)])
    return (frame for file in files for frame, _ in shown(file, most=1))


def animated(path: Path, fps: float | None) -> Iterator[tuple[float, np.ndarray]]:
    """Frames of one file, each at the end of what the frames before it last."""
    time = 0.0
    for frame, lasts_us in shown(path):
        yield time, frame
        if fps is None and not lasts_us > 0:
            raise ParameterError(explain(f"read_frames: {path} does not state how long a frame lasts.", cure="Give fps."))
        time += 1e6 / fps if fps else lasts_us


def shown(path: Path, most: int | None = None) -> Iterator[tuple[np.ndarray, float]]:
    """Frames of a picture file, and for how many microseconds each is shown (0: not stated)."""
    from PIL import Image

    damage = (*DAMAGE, Image.DecompressionBombError)
    with path.open("rb") as file:  # what the system refuses is its own error
        try:
            picture = Image.open(file)
            count = getattr(picture, "n_frames", 1)
        except damage as error:
            raise refused(path, error) from error
        for k in range(count if most is None else min(count, most)):
            try:
                picture.seek(k)
                if math.prod(picture.size) > MOST:
                    raise ValueError(f"a frame of {picture.size[0]} x {picture.size[1]} pixels, more than {MOST}")
                pixels = np.asarray(picture if picture.mode in ("L", "I;16", "1") else picture.convert("RGB"))
            except damage as error:
                raise refused(path, error) from error
            yield grey(pixels), float(picture.info.get("duration", 0)) * 1e3


def refused(path: Path, error: Exception) -> FormatError:
    """The error for a file that is damaged or no picture."""
    return FormatError(explain(f"read_frames: {path} is no picture, or is cut off.", f"{type(error).__name__}: {error}"))

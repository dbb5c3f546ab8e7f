"""Free Spoken Digit Dataset: English digits by six speakers, 8 kHz mono."""

from __future__ import annotations

import io
import os
import re
import wave
from collections.abc import Sequence

import numpy as np

from neuro.datasets.archive import Archive
from neuro.datasets.examples import Examples
from neuro.errors import FormatError, explain, unknown

NAME = re.compile(r"(\d)_([a-z]+)_(\d+)\.wav")
RATE_HZ = 8000


def read_wave(data: bytes, name: str = "", rate_hz: int = RATE_HZ) -> np.ndarray:
    """x [S] float32 in [-1, 1) of a mono 16-bit WAV file.

    Raises:
        FormatError: not such a file.
    """
    try:
        with wave.open(io.BytesIO(data)) as file:
            kind = (file.getnchannels(), file.getsampwidth(), file.getframerate())
            count, frames = file.getnframes(), file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise FormatError(explain(f"{name} is not a readable WAV file.", str(error), cure="Get it again.")) from error
    if kind != (1, 2, rate_hz) or len(frames) != 2 * count:
        fact = f"channels, bytes, Hz: {kind}   {len(frames)} bytes for {count} samples"
        raise FormatError(explain(f"{name} is not a whole mono file of 16 bits at {rate_hz} Hz.", fact))
    return np.frombuffer(frames, "<i2").astype(np.float32) / 32768


class Waves(Sequence):
    """Waves of an archive, read when asked for."""

    def __init__(self, archive: Archive, names: Sequence[str], rate_hz: int = RATE_HZ) -> None:
        self.archive, self.names, self.rate_hz = archive, names, rate_hz

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> np.ndarray:
        return read_wave(self.archive.read(self.names[index]), self.names[index], self.rate_hz)


class FSDD(Examples):
    """Waves x [S] float32 in [-1, 1) at 8 kHz, of any length. Nothing is downloaded or extracted.

    folder: holds `DIGIT_SPEAKER_INDEX.wav`, loose or in zips.
    split: "train" is index 5 and above, "test" index 0 to 4: the official split, by recording and not by speaker; None
        for both. For unseen speakers take `speakers` with `neuro.datasets.splits.by_group`.

    Raises:
        FormatError: nothing fits; on access, a damaged file.
        UnknownName: no such split.
    """

    classes = tuple("0123456789")
    rate_hz = RATE_HZ
    licence = "CC BY-SA 4.0"
    source = "Z. Jackson and others, Free Spoken Digit Dataset"

    def __init__(self, folder: str | os.PathLike, split: str | None = None) -> None:
        if split not in ("train", "test", None):
            raise unknown("FSDD split", str(split), ("train", "test"))
        archive = Archive(folder, lambda parts: parts[-1] if NAME.fullmatch(parts[-1]) else None, "DIGIT_SPEAKER_INDEX.wav")
        parsed = [(name, *NAME.fullmatch(name).groups()) for name in archive.names]
        kept = [row for row in parsed if split is None or (int(row[3]) < 5) == (split == "test")]
        if not kept:
            raise FormatError(explain(f"FSDD: {folder} holds no recording of split {split!r}.", f"found: {len(parsed)}"))
        names = [row[0] for row in kept]
        self.speakers = tuple(row[2] for row in kept)
        super().__init__(Waves(archive, names), [int(row[1]) for row in kept], names)

    @classmethod
    def simulated(cls, count: int, seed: int = 0):
        """Noisy tones of 0.2 to 0.6 s whose frequency tells the digit; six speakers in turn."""
        rng = np.random.default_rng(seed)
        labels, waves = rng.integers(0, 10, count), []
        for label in labels:
            t = np.arange(rng.integers(1600, 4800)) / RATE_HZ
            waves.append((0.4 * np.sin(2 * np.pi * (300 + 200 * label) * t) + rng.normal(0, 0.02, len(t))).astype(np.float32))
        made = cls.made(waves, labels, [f"simulated/{seed}/{i}" for i in range(count)])
        made.speakers = tuple(f"speaker{i % 6}" for i in range(count))
        return made

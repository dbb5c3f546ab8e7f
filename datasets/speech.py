"""Google Speech Commands: 35 words of one second by thousands of people, 16 kHz mono."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from neuro.datasets.archive import Archive
from neuro.datasets.downloads import Remote, download
from neuro.datasets.examples import Examples
from neuro.datasets.fsdd import Waves
from neuro.datasets.shd import SSC
from neuro.datasets.unpacking import unpack
from neuro.errors import FormatError, explain, unknown

NAME = re.compile(r"([0-9a-f]+)_nohash_\d+\.wav")
LISTS = {"valid": "validation_list.txt", "test": "testing_list.txt"}


class SpeechCommands(Examples):
    """Waves x [S] float32 in [-1, 1) at 16 kHz, S at most 16 000; version 2. Background noise is left out.

    folder: holds `WORD/SPEAKER_nohash_K.wav`, loose or in zips, and `validation_list.txt` and `testing_list.txt`, which
        are the official split: a speaker is in one part only. split: "train", "valid", "test", or None for all.
    speakers: of each recording.

    Raises:
        FileNotFoundError: no folder, or no lists. FormatError: nothing fits; on access, a damaged file. UnknownName: no such split.
    """

    classes = SSC.classes
    rate_hz = 16_000
    remotes = (Remote("speech_commands_v0.02.tar.gz", "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz"),)
    licence = "CC BY 4.0"
    source = "P. Warden, Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition, arXiv:1804.03209, 2018"

    def __init__(self, folder: str | os.PathLike, split: str | None = None) -> None:
        if split not in ("train", *LISTS, None):
            raise unknown("SpeechCommands split", str(split), ("train", *LISTS))
        archive = Archive(folder, self.address, "WORD/SPEAKER_nohash_K.wav with validation_list.txt and testing_list.txt")
        listed = {part: lines(Path(folder), name) for part, name in LISTS.items()} if split is not None else {}
        both = listed.get("valid", set()) & listed.get("test", set())
        if both:
            raise FormatError(explain(f"SpeechCommands: {folder} lists recordings in both parts.", f"{len(both)}, one is {min(both)}"))
        held = set().union(*listed.values())
        names = [n for n in archive.names if split is None or (n in listed[split] if split in LISTS else n not in held)]
        if not names:
            raise FormatError(explain(f"SpeechCommands: {folder} holds no recording of split {split!r}.", f"found: {len(archive.names)}"))
        self.speakers = tuple(NAME.fullmatch(n.split("/")[1])[1] for n in names)
        super().__init__(Waves(archive, names, self.rate_hz), [self.classes.index(n.split("/")[0]) for n in names], names)

    @classmethod
    def address(cls, path: tuple[str, ...]) -> str | None:
        """`WORD/FILE`."""
        return "/".join(path[-2:]) if len(path) > 1 and path[-2] in cls.classes and NAME.fullmatch(path[-1]) else None

    @classmethod
    def download(cls, folder: str | os.PathLike) -> list[Path]:
        """Get the archive and unpack it into `folder/speech_commands`."""
        (path,) = download(cls.remotes, folder)
        if not (target := path.with_name("speech_commands")).exists():
            unpack(path, target)
        return [path]

    @classmethod
    def simulated(cls, count: int, seed: int = 0):
        """Noisy tones of one second whose frequency tells the word; six speakers in turn."""
        rng = np.random.default_rng(seed)
        labels, t = rng.integers(0, len(cls.classes), count), np.arange(cls.rate_hz) / cls.rate_hz
        tone = 0.4 * np.sin(2 * np.pi * (300 + 150 * labels[:, None]) * t)
        made = cls.made((tone + rng.normal(0, 0.02, tone.shape)).astype(np.float32), labels, [f"simulated/{seed}/{i}" for i in range(count)])
        made.speakers = tuple(f"{i % 6:08x}" for i in range(count))
        return made


def lines(folder: Path, name: str) -> set[str]:
    """The lines of a list that lies below the folder."""
    found = sorted(folder.rglob(name))
    if len(found) != 1:
        cure = f"Put {name} of the published archive into {folder}, once."
        raise FileNotFoundError(explain(f"SpeechCommands: there is no one {name}.", f"found: {len(found)}", cure=cure))
    return set(found[0].read_text(encoding="utf-8").split())

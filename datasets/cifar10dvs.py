"""CIFAR10-DVS: 10 000 pictures of CIFAR-10 moved on a monitor before a DVS128; there is no official split."""

from __future__ import annotations

import re

from neuro.datasets.cifar10 import CIFAR10
from neuro.datasets.downloads import Remote
from neuro.datasets.events import Sensor
from neuro.datasets.recordings import EventFiles
from neuro.datasets.splits import Split, by_draw, by_group
from neuro.errors import ParameterError, explain

FILE = re.compile(r"cifar10_([a-z]+)_(\d+)\.aedat4?")


class CIFAR10DVS(EventFiles):
    """`CLASS/cifar10_CLASS_NUMBER.aedat` (AEDAT 2) or `.aedat4` of the later release, 1000 a class, loose or in zips.

    Two splits are in use, and scores depend on which: `first_900` and `drawn`. The run folder should keep `facts()` of the
    one that was taken. Coordinates are as stored; the two releases may be mirrored to one another.
    """

    sensor = Sensor(128, 128)
    classes = CIFAR10.classes
    recordings = 10_000
    duration_us = 1_300_000  # about; recordings differ
    expected = "CLASS/cifar10_CLASS_NUMBER.aedat or .aedat4, loose or in zips"
    remotes = (Remote("CIFAR10DVS.zip", "https://figshare.com/ndownloader/files/38023437", md5="ce3a4a0682dc0943703bd8f749a7701c"),)
    nested = True
    licence = "CC BY 4.0"
    source = "H. Li, H. Liu, X. Ji, G. Li, L. Shi, CIFAR10-DVS: An Event-Stream Dataset for Object Classification, Frontiers in Neuroscience 11:309, 2017"

    @classmethod
    def address(cls, path: tuple[str, ...]) -> str | None:
        """`CLASS/FILE`, by the name of the file."""
        found = FILE.fullmatch(path[-1])
        return f"{found[1]}/{path[-1]}" if found and found[1] in cls.classes else None

    @classmethod
    def twin_name(cls, index: int, label: int) -> str:
        """As the release calls them; every tenth of a class is of the last hundred."""
        number = index // 10 + 900 * (index // 10 % 10 == 9)
        return f"{cls.classes[label]}/cifar10_{cls.classes[label]}_{number}.aedat4"

    def numbers(self) -> list[int]:
        """The number in the name of each recording, 0 to 999."""
        return [int(FILE.fullmatch(name.split("/")[-1])[2]) for name in self.names]

    def first_900(self) -> Split:
        """Numbers 0 to 899 of every class train, 900 to 999 test: what most papers take."""
        numbers = self.numbers()
        if max(numbers) < 900:
            fact = f"{len(self)} recordings   largest number {max(numbers)}"
            raise ParameterError(explain("CIFAR10DVS: the folder holds no recording with a number from 900 on.", fact))
        return by_group("first 900 of every class", ["train" if n < 900 else "test" for n in numbers], ["test"])

    def drawn(self, seed: int, test_share: float = 0.1) -> Split:
        """A share of every class, drawn from the seed, tests."""
        return by_draw("drawn", self.labels, test_share, seed)

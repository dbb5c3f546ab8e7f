"""N-TIDIGITS: spoken digits through a silicon cochlea of 64 channels."""

from __future__ import annotations

from neuro.datasets.downloads import Remote
from neuro.datasets.events import Sensor
from neuro.datasets.spikes import MOST_SPIKES, SpikeFile
from neuro.errors import FormatError, explain


class NTIDIGITS(SpikeFile):
    """The single digits in `n-tidigits.hdf5`, classes o, 1 to 9 and z; sequences of digits are left out.

    In the file: `PART_labels` (names that end in `-DIGITS`), `PART_addresses/NAME` and `PART_timestamps/NAME` (seconds).
    """

    sensor = Sensor(1, 64)
    classes = ("o", "1", "2", "3", "4", "5", "6", "7", "8", "9", "z")
    parts = ("train", "test")
    remotes = (
        Remote(
            "n-tidigits.hdf5",
            "https://www.dropbox.com/scl/fi/1x4lxt9yyw25sc3tez8oi/n-tidigits.hdf5?e=2&rlkey=w8gi5udvib2zqzosusa5tr3wq&dl=1",
            md5="360a2d11e5429555c9197381cf6b58e0",
        ),
    )
    licence = None  # not known to us; the speech is under the LDC's terms
    source = "J. Anumula, D. Neil, T. Delbruck, S.-C. Liu, Feature Representations for Neuromorphic Audio Spike Streams, Frontiers in Neuroscience 12:23, 2018"

    @classmethod
    def file_of(cls, split: str) -> str:
        """Both parts are in one file."""
        return "n-tidigits.hdf5"

    def read_index(self) -> None:
        """Names that end in one digit."""
        names = [n.decode("utf-8", "replace") if isinstance(n, bytes) else str(n) for n in self.small(f"{self.split}_labels").tolist()]
        self.names = tuple(n for n in names if n.split("-")[-1] in self.classes)
        if not self.names:
            raise FormatError(explain(f"{self.path}: no recording of one digit in part {self.split!r}.", f"{len(names)} recordings"))
        self.labels = tuple(self.classes.index(n.split("-")[-1]) for n in self.names)

    def columns(self, index: int) -> tuple:
        """Two arrays under the recording's name."""
        found = [self.opened()[f"{self.split}_{kind}"][self.names[index]] for kind in ("timestamps", "addresses")]
        if any(array.ndim != 1 or len(array) > MOST_SPIKES or array.dtype.itemsize > 8 for array in found):
            raise FormatError(explain(f"{self.path}: {self.names[index]} is no list of spikes.", f"{[a.shape for a in found]}"))
        return found[0][()], found[1][()]

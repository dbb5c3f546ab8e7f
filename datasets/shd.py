"""Spiking Heidelberg Digits and Spiking Speech Commands: speech through a model of the inner ear, 700 channels."""

from __future__ import annotations

from neuro.datasets.downloads import Remote
from neuro.datasets.events import Sensor
from neuro.datasets.spikes import SpikeFile
from neuro.errors import FormatError, explain

URL = "https://zenkelab.org/datasets/"
SOURCE = (
    "B. Cramer, Y. Stradmann, J. Schemmel, F. Zenke, The Heidelberg Spiking Data Sets for the Systematic Evaluation of "
    "Spiking Neural Networks, IEEE Transactions on Neural Networks and Learning Systems 33(7), 2022"
)


class SHD(SpikeFile):
    """`shd_train.h5` and `shd_test.h5`: 20 spoken digits, English and German. speakers: of each recording.

    The official split: of 12 speakers, two are in the test part only. There is no validation part; papers that choose
    the epoch by the test part report its best value. `neuro.datasets.splits.by_group` over `speakers` holds some out.
    """

    sensor = Sensor(1, 700)
    classes = tuple(
        "zero one two three four five six seven eight nine null eins zwei drei vier fuenf sechs sieben acht neun".split()
    )  # fmt: skip
    parts = ("train", "test")
    recordings = {"train": 8156, "test": 2264}
    remotes = (
        Remote("shd_train.h5.zip", URL + "shd_train.h5.zip", md5="f3252aeb598ac776c1b526422d90eecb"),
        Remote("shd_test.h5.zip", URL + "shd_test.h5.zip", md5="1503a5064faa34311c398fb0a1ed0a6f"),
    )
    licence = "CC BY 4.0"
    source = SOURCE

    @classmethod
    def file_of(cls, split: str) -> str:
        """As published."""
        return f"{cls.__name__.lower()}_{split}.h5"

    def read_index(self) -> None:
        """Labels, and speakers where the file states them."""
        labels = self.small("labels")
        if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= len(self.classes):
            fact = f"{labels.dtype}   {labels.min()} to {labels.max()}" if labels.dtype.kind in "iu" else str(labels.dtype)
            raise FormatError(explain(f"{self.path}: labels are 0 to {len(self.classes) - 1}.", fact))
        for name in ("spikes/times", "spikes/units"):
            if self.opened()[name].shape != labels.shape:
                raise FormatError(explain(f"{self.path}: {name} and labels differ in number.", f"{self.opened()[name].shape}   {labels.shape}"))
        self.labels = tuple(labels.tolist())
        has = "extra/speaker" in self.opened()
        self.speakers = tuple(self.small("extra/speaker", len(labels)).tolist()) if has else None
        self.names = tuple(f"{self.split}/{i}" for i in range(len(labels)))

    def columns(self, index: int) -> tuple:
        """Arrays of unequal length, one for each recording."""
        return self.opened()["spikes/times"][index], self.opened()["spikes/units"][index]


class SSC(SHD):
    """`ssc_train.h5`, `ssc_valid.h5` and `ssc_test.h5`: 35 English words of Speech Commands; its parts are the official split."""

    classes = tuple(
        "yes no up down left right on off stop go backward bed bird cat dog eight five follow forward four happy house learn "
        "marvin nine one seven sheila six three tree two visual wow zero".split()
    )
    parts = ("train", "valid", "test")
    recordings = {"train": 75_466, "valid": 9_981, "test": 20_382}
    remotes = (
        Remote("ssc_train.h5.zip", URL + "ssc_train.h5.zip", md5="d102be95e7144fcc0553d1f45ba94170"),
        Remote("ssc_valid.h5.zip", URL + "ssc_valid.h5.zip", md5="b4eee3516a4a90dd0c71a6ac23a8ae43"),
        Remote("ssc_test.h5.zip", URL + "ssc_test.h5.zip", md5="a35ff1e9cffdd02a20eb850c17c37748"),
    )

    def read_index(self) -> None:
        """As `SHD`; the words in the order of the file, which states them."""
        if "extra/keys" in self.opened():
            words = tuple(w.decode() if isinstance(w, bytes) else str(w) for w in self.small("extra/keys"))
            if sorted(words) != sorted(type(self).classes):
                raise FormatError(explain(f"{self.path}: extra/keys are not the 35 words.", ", ".join(words)[:300]))
            self.classes = words
        super().read_index()

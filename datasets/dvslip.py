"""DVS-Lip: 100 words spoken before an event camera, by 40 people; the test part has other people than the training part."""

from __future__ import annotations

from neuro.datasets.downloads import Remote
from neuro.datasets.events import Sensor
from neuro.datasets.recordings import EventFiles

CLASSES = tuple(
    "accused action allow allowed america american another around attacks banks become being benefit "
    "benefits between billion called capital challenge change chief couple court death described "
    "difference different during economic education election england evening everything exactly general "
    "germany giving ground happen happened having heavy house hundreds immigration judge labour leaders "
    "legal little london majority meeting military million minutes missing needs number numbers paying "
    "perhaps point potential press price question really right russia russian saying security several "
    "should significant spend spent started still support syria syrian taken taking terms these thing "
    "think times tomorrow under warning water welcome words worst years young".split()
)


class DVSLip(EventFiles):
    """`train/WORD/NUMBER.npy` and `test/WORD/NUMBER.npy`, structured arrays of t, x, y, p."""

    sensor = Sensor(128, 128)
    classes = CLASSES
    parts = ("train", "test")
    duration_us = 2_000_000  # at most, about
    expected = "train/WORD/NUMBER.npy and test/WORD/NUMBER.npy, loose or in zips"
    remotes = (Remote("DVS-Lip.zip", None, md5="2dcb959255122d4cdeb6094ca282494b"),)  # a page that asks before it gives
    licence = None  # not known to us
    source = "G. Tan et al., Multi-Grained Spatio-Temporal Features Perceived Network for Event-Based Lip-Reading, CVPR 2022"

    @classmethod
    def address(cls, path: tuple[str, ...]) -> str | None:
        """`train/WORD/FILE`."""
        fits = len(path) > 2 and path[-3] in cls.parts and path[-2] in cls.classes and path[-1].endswith(".npy")
        return "/".join(path[-3:]) if fits else None

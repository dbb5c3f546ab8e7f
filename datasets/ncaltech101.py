"""N-Caltech101: the pictures of Caltech101 on a monitor before an event camera that makes three saccades."""

from __future__ import annotations

import numpy as np

from neuro.datasets.downloads import Remote
from neuro.datasets.events import Sensor, check_events, make_events
from neuro.datasets.recordings import EventFiles
from neuro.datasets.splits import Split, by_draw
from neuro.errors import FormatError, explain

CLASSES = tuple(
    "BACKGROUND_Google Faces_easy Leopards Motorbikes accordion airplanes anchor ant barrel bass beaver binocular bonsai brain "
    "brontosaurus buddha butterfly camera cannon car_side ceiling_fan cellphone chair chandelier cougar_body cougar_face crab "
    "crayfish crocodile crocodile_head cup dalmatian dollar_bill dolphin dragonfly electric_guitar elephant emu euphonium ewer "
    "ferry flamingo flamingo_head garfield gerenuk gramophone grand_piano hawksbill headphone hedgehog helicopter ibis "
    "inline_skate joshua_tree kangaroo ketch lamp laptop llama lobster lotus mandolin mayfly menorah metronome minaret nautilus "
    "octopus okapi pagoda panda pigeon pizza platypus pyramid revolver rhino rooster saxophone schooner scissors scorpion "
    "sea_horse snoopy soccer_ball stapler starfish stegosaurus stop_sign strawberry sunflower tick trilobite umbrella watch "
    "water_lilly wheelchair wild_cat windsor_chair wrench yin_yang".split()
)
OVERFLOW_Y, OVERFLOW_US = 240, 2**13  # a word with this y is no event: all later times are so much higher


class NCaltech101(EventFiles):
    """`CLASS/image_NUMBER.bin`, 5 bytes an event as in N-MNIST; 100 classes and the background. No official split.

    Pictures differ in size; each recording fills its part of the sensor, from the upper left.
    """

    sensor = Sensor(180, 240)
    classes = CLASSES
    recordings = 8709
    duration_us = 300_000
    expected = "CLASS/image_NUMBER.bin, loose or in zips, where CLASS is a folder of Caltech101"
    remotes = (
        Remote(
            "N-Caltech101-archive.zip",
            "https://data.mendeley.com/public-files/datasets/cy6cvx3ryv/files/36b5c52a-b49d-4853-addb-a836a8883e49/file_downloaded",
            md5="66201824eabb0239c7ab992480b50ba3",
        ),
    )
    nested = True
    licence = "CC BY 4.0"
    source = (
        "G. Orchard, A. Jayawant, G. Cohen, N. Thakor, Converting Static Image Datasets to Spiking Neuromorphic "
        "Datasets Using Saccades, Frontiers in Neuroscience 9:437, 2015"
    )

    @classmethod
    def address(cls, path: tuple[str, ...]) -> str | None:
        """`CLASS/FILE` for an event file below `Caltech101`; the annotations beside it have the same folders."""
        fits = len(path) > 1 and path[-2] in cls.classes and path[-1].endswith(".bin") and path[-1].startswith("image_")
        return f"{path[-2]}/{path[-1]}" if fits else None

    @classmethod
    def decode(cls, data: bytes, name: str) -> np.ndarray:
        """x 8 bits, y 8, p 1, t 23; words that say that the time overflowed are no events."""
        if len(data) % 5:
            raise FormatError(explain("The length is no multiple of 5.", f"{len(data)} bytes"))
        words = np.frombuffer(data, np.uint8).reshape(-1, 5).astype(np.int64)
        marks = words[:, 1] == OVERFLOW_Y
        t = ((words[:, 2] & 127) << 16 | words[:, 3] << 8 | words[:, 4]) + np.cumsum(marks) * OVERFLOW_US
        kept = words[~marks]
        return check_events(make_events(kept[:, 0], kept[:, 1], t[~marks], kept[:, 2] > 127), cls.sensor)

    def drawn(self, seed: int, test_share: float = 0.1) -> Split:
        """A share of every class, drawn from the seed, tests."""
        return by_draw("drawn", self.labels, test_share, seed)

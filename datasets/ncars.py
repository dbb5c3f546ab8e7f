"""N-Cars: crops of 100 ms with a car or background, from an ATIS behind a windscreen."""

from __future__ import annotations

from neuro.datasets.downloads import Remote
from neuro.datasets.events import Sensor
from neuro.datasets.recordings import EventFiles


class NCars(EventFiles):
    """`n-cars_train/CLASS/NAME_td.dat` and `n-cars_test/...` (Prophesee DAT); the official split is by recording session."""

    sensor = Sensor(100, 120)
    classes = ("background", "cars")
    parts = ("train", "test")
    recordings = {"train": 15_422, "test": 8_607}
    duration_us = 100_000
    expected = "n-cars_train/CLASS/NAME.dat and n-cars_test/CLASS/NAME.dat (or train, test), CLASS cars or background"
    remotes = (Remote("Prophesee_Dataset_n_cars.zip", None),)  # behind a form of the publisher
    licence = None  # terms of the publisher
    source = "A. Sironi, M. Brambilla, N. Bourdis, X. Lagorce, R. Benosman, HATS: Histograms of Averaged Time Surfaces, CVPR 2018"

    @classmethod
    def address(cls, path: tuple[str, ...]) -> str | None:
        """`train/cars/FILE`."""
        if len(path) < 3 or not path[-1].endswith(".dat") or path[-2] not in cls.classes:
            return None
        part = path[-3].lower().removeprefix("n-cars_")
        return f"{part}/{path[-2]}/{path[-1]}" if part in cls.parts else None

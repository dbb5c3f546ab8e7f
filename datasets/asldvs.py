"""ASL-DVS: 24 letters of American Sign Language by five people before a DAVIS240, 100 800 recordings of 100 ms."""

from __future__ import annotations

import numpy as np

from neuro.datasets.downloads import Remote
from neuro.datasets.events import Sensor, check_events, make_events
from neuro.datasets.formats import mat5
from neuro.datasets.formats.block import most_bytes
from neuro.datasets.recordings import EventFiles
from neuro.datasets.splits import Split, by_draw
from neuro.errors import FormatError, explain


class ASLDVS(EventFiles):
    """`LETTER/NAME.mat` with `ts`, `x`, `y`, `pol`; y is turned, so that it runs downward as everywhere here.

    Letters without j and z, which are movements. No official split: the paper draws 80 % for training.
    """

    sensor = Sensor(180, 240)
    classes = tuple("abcdefghiklmnopqrstuvwxy")
    recordings = 100_800
    duration_us = 100_000
    expected = "LETTER/NAME.mat, loose or in zips, where LETTER is a to y without j"
    remotes = (
        Remote("ASLDVS.zip", "https://www.dropbox.com/sh/ibq0jsicatn7l6r/AACNrNELV56rs1YInMWUs9CAa?dl=1", md5="33f8b87bf45edc0bfed0de41822279b9"),
    )
    nested = True
    licence = None  # not known to us
    source = "Y. Bi, A. Chadha, A. Abbas, E. Bourtsoulatze, Y. Andreopoulos, Graph-Based Object Classification for Neuromorphic Vision Sensing, ICCV 2019"

    @classmethod
    def address(cls, path: tuple[str, ...]) -> str | None:
        """`FOLDER/LETTER/FILE`; the letter ends the name of its folder."""
        fits = len(path) > 1 and path[-1].endswith(".mat") and path[-2][-1:].lower() in cls.classes
        return "/".join((*path[-3:-2], path[-2][-1].lower(), path[-1])) if fits else None

    @classmethod
    def decode(cls, data: bytes, name: str) -> np.ndarray:
        """The four columns of a MATLAB file."""
        raw = np.frombuffer(data, np.uint8)
        if not mat5.recognise(raw):
            raise FormatError(explain("It is no MATLAB file of version 5.", f"it begins with {data[:16]!r}"))
        held = mat5.variables(raw, most_bytes(raw))
        missing = [key for key in ("ts", "x", "y", "pol") if key not in held]
        if missing:
            raise FormatError(explain(f"It is no MATLAB file with ts, x, y and pol: {', '.join(missing)} is missing.", f"it holds {', '.join(held)}"))
        t, x, y, p = (held[key].ravel() for key in ("ts", "x", "y", "pol"))
        turned = cls.sensor.height - 1 - y.astype(np.float64)
        return check_events(make_events(x, turned, t, p.astype(np.float64) > 0), cls.sensor)

    def drawn(self, seed: int, test_share: float = 0.2) -> Split:
        """A share of every letter, drawn from the seed, tests; all people are in both parts."""
        return by_draw("drawn", self.labels, test_share, seed)

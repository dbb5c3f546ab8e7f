"""Events to time surfaces: how long ago each pixel last saw an event, or all of them with a leak.

Sources: Lagorce et al. 2017, "HOTS" (surface over the whole sensor); a leaky frame is the membrane of a leaky neuron
that is driven by the events of one pixel and never fires.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from neuro.datasets.events import Sensor
from neuro.datasets.windows import Windowed
from neuro.errors import ParameterError, explain


@dataclass(frozen=True)
class TimeSurface(Windowed):
    """exp(-(end of the window - time of the pixel's last event) / tau), float32 [T, 2, H, W], at each window's end.

    tau_us: decay in microseconds, above 0. Windows as in `Frames`; the memory of a pixel goes on from window to window.
    A pixel without an event so far is 0, all others are in (0, 1].

    Raises:
        ParameterError: tau not above 0, or windows that make no sense.
        FormatError (on call): events off the sensor, out of order or outside the windows.

    >>> from neuro.datasets.events import make_events
    >>> x = TimeSurface(window_us=10, tau_us=10.0)(make_events([0], [0], [0], [1]), Sensor(1, 1))
    >>> x.astype(float).round(3).ravel().tolist()
    [0.0, 0.368]
    """

    tau_us: float = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_tau(self)

    def __call__(self, events: np.ndarray, sensor: Sensor) -> np.ndarray:
        """The surfaces [T, 2, H, W]."""
        from neuro.datasets.accumulating import latest

        placed = self.placed(events, sensor)
        x = np.zeros((placed.cut.length, 2, sensor.height, sensor.width), np.float32)
        columns = events["x"], events["y"], events["t"], events["p"].view(np.uint8)
        latest(*columns, placed.cut.origin, placed.window, placed.cut.ends(), float(self.tau_us), x)
        return x


@dataclass(frozen=True)
class LeakyFrames(Windowed):
    """Sum over all events so far of exp(-(end of the window - t) / tau), float32 [T, 2, H, W].

    With tau much longer than the recording this is the running count, with tau much shorter than a window nearly
    nothing. Arguments, windows and errors as for `TimeSurface`; sums are made in float64 and rounded once.

    >>> from neuro.datasets.events import make_events
    >>> two = make_events([0, 0], [0, 0], [0, 10], [1, 1])
    >>> LeakyFrames(window_us=10, tau_us=10.0)(two, Sensor(1, 1))[:, 1].astype(float).round(3).ravel().tolist()
    [0.368, 0.503]
    """

    tau_us: float = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_tau(self)

    def __call__(self, events: np.ndarray, sensor: Sensor) -> np.ndarray:
        """The sums [T, 2, H, W]."""
        from neuro.datasets.accumulating import decayed

        placed = self.placed(events, sensor)
        ends = placed.cut.ends()
        x = np.zeros((placed.cut.length, 2, sensor.height, sensor.width))
        columns = events["x"], events["y"], events["t"], events["p"].view(np.uint8)
        decayed(*columns, placed.cut.origin, placed.window, ends, float(self.tau_us), x)
        for k in range(1, len(x)):
            x[k] += np.exp(-(ends[k] - ends[k - 1]) / self.tau_us) * x[k - 1]
        return x.astype(np.float32)


def check_tau(surface: object) -> None:
    """Refuse a decay that is not a positive number."""
    if not 0 < surface.tau_us < np.inf:
        raise ParameterError(explain(f"{type(surface).__name__}: tau_us must be above 0.", repr(surface)))

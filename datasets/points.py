"""Events as points in space and time, in groups of neighbours.

Source: Ren et al. 2024, "SpikePoint" (arXiv:2310.07189), section 3: sampling, grouping and the offsets of a group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from neuro.datasets.events import Sensor, check_events
from neuro.errors import FormatError, ParameterError, ShapeError, explain


@dataclass(frozen=True)
class SamplePoints:
    """Exactly n events at random, in order of time: without replacement, or with where the recording has fewer than n.

    least: recordings with fewer events are refused; at least 1.

    Raises:
        ParameterError: n or least below 1.
        FormatError (on call): fewer than `least` events, or events that break the promises of a recording.
    """

    n: int
    least: int = 1

    def __post_init__(self) -> None:
        if min(self.n, self.least) < 1:
            raise ParameterError(explain("SamplePoints: n and least must be at least 1.", repr(self)))

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> np.ndarray:
        check_events(events, sensor)
        if len(events) < self.least:
            act = f"SamplePoints: {len(events)} events are fewer than {self.least}."
            raise FormatError(explain(act, cure="Leave this recording out, or choose longer windows."))
        chosen = rng.choice(len(events), self.n, replace=len(events) < self.n)
        return events[np.sort(chosen)]


@dataclass(frozen=True)
class Points:
    """Events to points (x / width, y / height, (t - first) / (last - first)), float32 [N, 3], all in 0 to 1.

    polarity: adds a fourth column, 0 for OFF and 1 for ON. Where all times are equal the third is 0.

    >>> from neuro.datasets.events import make_events
    >>> Points()(make_events([0, 2], [1, 0], [5, 9], [0, 1]), Sensor(2, 4)).tolist()
    [[0.0, 0.5, 0.0], [0.5, 0.0, 1.0]]
    """

    polarity: bool = False

    def __call__(self, events: np.ndarray, sensor: Sensor) -> np.ndarray:
        """The points [N, 3], or [N, 4] with polarity."""
        check_events(events, sensor)
        since = events["t"] - events["t"][:1]
        z = since / max(int(since[-1]), 1) if len(since) else since
        columns = [events["x"] / sensor.width, events["y"] / sensor.height, z]
        return np.stack(columns + [events["p"]] * self.polarity, axis=-1).astype(np.float32)


class Groups(NamedTuple):
    """Neighbourhoods of points. SpikePoint codes `local` and `centre` by rate; values of `local` above 1 are common."""

    local: (
        np.ndarray
    )  # [S, K, 6] float32: |offset| / SD on each axis, and the least coordinate of the group on each axis
    centre: np.ndarray  # [S, 3] float32
    index: np.ndarray  # [S, K] which point; [:, 0] is the centre itself


def group(points_N3: np.ndarray, groups: int, neighbours: int, start: int = 0) -> Groups:
    """Groups around centres that lie far apart, with offsets from the centre in units of their standard deviation.

    |offset| / SD with one SD for all offsets of all groups, taken about the centres and not about the mean offset, so
    that a mirrored group has the same values; 0 where the SD is 0 (all points equal).

    Args:
        points_N3: finite, [N, 3].
        groups: S, 1 to N. neighbours: K, 1 to N, the centre among them; ties go to the lower index.
        start: the point that is the first centre.

    Raises:
        ShapeError: not [N, 3].
        ParameterError: a number out of range.
    """
    points = np.asarray(points_N3, np.float64)
    if points.ndim != 2 or points.shape[1] != 3:
        raise ShapeError(explain("group: needs points [N, 3].", f"got {list(points.shape)}"))
    n = len(points)
    if not (1 <= groups <= n and 1 <= neighbours <= n and 0 <= start < n):
        facts = f"groups={groups}   neighbours={neighbours}   start={start}   points={n}"
        raise ParameterError(explain("group: needs 1 <= groups, neighbours <= points.", facts))
    chosen = farthest_points(points, groups, start)
    centre = points[chosen]
    distance = ((centre[:, None] - points) ** 2).sum(-1)  # [S, N]
    distance[np.arange(groups), chosen] = -1  # a centre comes before its doubles
    index = np.argsort(distance, axis=1, kind="stable")[:, :neighbours]
    members = points[index]
    offset = members - centre[:, None]
    spread = np.sqrt((offset**2).mean())
    scaled = np.abs(offset) / spread if spread > 0 else np.zeros_like(offset)
    least = np.broadcast_to(members.min(1, keepdims=True), members.shape)
    return Groups(np.concatenate([scaled, least], -1).astype(np.float32), centre.astype(np.float32), index)


def farthest_points(points_ND: np.ndarray, n: int, start: int = 0) -> np.ndarray:
    """Indices [n], from `start` on each the point farthest from all before it; all different while points differ."""
    from neuro.datasets.accumulating import farthest

    chosen = np.empty(n, np.int64)
    farthest(np.ascontiguousarray(points_ND, np.float64), start, chosen)
    return chosen

"""Frames and voxel grids of a whole batch of recordings in torch, on any device.

The NumPy forms in `neuro.datasets.transforms` and `neuro.datasets.voxels` are the definition. A batch is one list of
events, those of recording 0 first: x, y, t, p, and which recording each belongs to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from neuro.datasets.events import Sensor, check_events
from neuro.errors import FormatError, ParameterError, explain


class Events(NamedTuple):
    """The events of several recordings, one after another, each [n]; sample: which recording, 0 to batch - 1."""

    x: Tensor  # int64
    y: Tensor  # int64
    t: Tensor  # int64
    p: Tensor  # int64, 0 or 1
    sample: Tensor  # int64
    batch: int

    def to(self, device: torch.device | str) -> Events:
        """The same on another device."""
        return Events(*(column.to(device) for column in self[:5]), self.batch)


def join(recordings: Sequence[np.ndarray], sensor: Sensor) -> Events:
    """Event arrays as one batch, each checked.

    Raises:
        FormatError: events off the sensor or out of order.

    >>> from neuro.datasets.events import make_events
    >>> one = make_events([0], [0], [7], [1])
    >>> join([one, one[:0], one], Sensor(1, 1)).sample.tolist()
    [0, 2]
    """
    for events in recordings:
        check_events(events, sensor)
    columns = [
        torch.from_numpy(
            np.concatenate([np.empty(0, np.int64), *(events[name].astype(np.int64) for events in recordings)])
        )
        for name in "xytp"
    ]
    lengths = torch.tensor([len(events) for events in recordings], dtype=torch.int64)
    return Events(*columns, torch.repeat_interleave(torch.arange(len(recordings)), lengths), len(recordings))


def frames(
    events: Events, sensor: Sensor, bins: int, duration_us: int | None = None, origin_us: int | None = None
) -> Tensor:
    """Counts [bins, B, 2, H, W], float32, equal to `Frames(bins, duration_us=..., origin_us=...)` of each recording.

    Counts are made in int64, so they do not depend on the order of the events, and are exact in float32 up to 2^24.

    Raises:
        ParameterError: bins or duration below 1, or an origin without a duration.
        FormatError: events off the sensor or outside the windows, or a count above 2^24.
    """
    since, span = timed(events, sensor, bins, duration_us, origin_us)
    window = (since * bins // span[events.sample]).clamp(max=bins - 1)
    shape = (bins, events.batch, 2, sensor.height, sensor.width)
    cell = ((window * events.batch + events.sample) * 2 + events.p) * sensor.height + events.y
    flat = torch.zeros(int(np.prod(shape)), dtype=torch.int64, device=events.x.device)
    flat.index_add_(0, cell * sensor.width + events.x, torch.ones_like(cell))
    if len(flat) and int(flat.max()) > 2**24:
        raise FormatError(explain(f"frames: a pixel counts {int(flat.max())} events, more than float32 holds exactly."))
    return flat.view(shape).float()


def voxel_grid(
    events: Events,
    sensor: Sensor,
    bins: int,
    duration_us: int | None = None,
    origin_us: int | None = None,
    split: bool = False,
) -> Tensor:
    """Grids [bins, B, 1 or 2, H, W], float32, equal to `VoxelGrid` of each recording but for the order of float64 sums.

    On a GPU that order changes from call to call, in the last bit of float64 sums that are then rounded to float32.

    Raises: as `frames`.
    """
    since, span = timed(events, sensor, bins, duration_us, origin_us)
    place = since * ((bins - 1) / span.double())[events.sample]
    lower = place.long().clamp(max=max(bins - 2, 0))
    upper_share = place - lower
    sign = torch.ones_like(place) if split else 2 * events.p.double() - 1
    channels = 2 if split else 1
    shape = (bins, events.batch, channels, sensor.height, sensor.width)
    row = events.sample * channels + (events.p if split else 0)
    cell = ((lower * events.batch * channels + row) * sensor.height + events.y) * sensor.width + events.x
    flat = torch.zeros(int(np.prod(shape)), dtype=torch.float64, device=events.x.device)
    flat.index_add_(0, cell, sign * (1 - upper_share))
    if bins > 1:
        flat.index_add_(0, cell + events.batch * channels * sensor.height * sensor.width, sign * upper_share)
    return flat.view(shape).float()


def timed(
    events: Events, sensor: Sensor, bins: int, duration_us: int | None, origin_us: int | None
) -> tuple[Tensor, Tensor]:
    """Microseconds since each recording's origin, int64 [n], and the span of each recording, int64 [B]; all checked."""
    if bins < 1 or (duration_us is not None and duration_us < 1) or (origin_us is not None and duration_us is None):
        raise ParameterError(
            explain(
                "Batched windows: needs bins >= 1, duration_us >= 1, and origin_us only with duration_us.",
                f"bins={bins}   duration_us={duration_us}   origin_us={origin_us}",
            )
        )
    x, y, t, p, sample, batch = events
    good = (x >= 0) & (x < sensor.width) & (y >= 0) & (y < sensor.height) & (p >= 0) & (p <= 1)
    good &= (sample >= 0) & (sample < batch)
    if not bool(good.all()):
        i = int(good.logical_not().nonzero()[0])
        facts = (
            f"event {i}: x={int(x[i])} y={int(y[i])} p={int(p[i])} sample={int(sample[i])}   {sensor}   batch={batch}"
        )
        raise FormatError(explain("Batched events: an event lies outside the sensor or the batch.", facts))
    extreme = torch.full((batch,), 0, dtype=torch.int64, device=t.device)
    first = extreme.scatter_reduce(0, sample, t, "amin", include_self=False)
    last = extreme.scatter_reduce(0, sample, t, "amax", include_self=False)
    origin = first if origin_us is None else torch.full_like(first, origin_us)
    span = (last - first).clamp(min=1) if duration_us is None else torch.full_like(first, duration_us)
    since = t - origin[sample]
    outside = (since < 0) | (since > span[sample])
    if bool(outside.any()):
        i = int(outside.nonzero()[0])
        act = f"Batched windows: {int(outside.sum())} of {len(t)} events lie outside the time windows."
        raise FormatError(
            explain(
                act,
                f"event {i}: t={int(t[i])} us, recording {int(sample[i])}",
                cure="Cut them off, or give a longer duration_us.",
            )
        )
    return since, span

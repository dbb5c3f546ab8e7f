"""A batch in torch gives what each recording gives alone in NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro.datasets.batched import Events, frames, join, voxel_grid
from neuro.datasets.events import Sensor, make_events
from neuro.datasets.transforms import Frames
from neuro.datasets.voxels import VoxelGrid
from neuro.errors import FormatError, ParameterError

SENSOR = Sensor(height=4, width=7)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def some_events(n, seed=0, last=1000):
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, last, n))
    return make_events(rng.integers(7, size=n), rng.integers(4, size=n), t, rng.integers(2, size=n))


@pytest.mark.parametrize("device", DEVICES)
@given(st.lists(st.integers(0, 60), max_size=4), st.integers(1, 9), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=60)
def test_a_batch_is_its_recordings(device, sizes, bins, fixed, split):
    recordings = [some_events(n, seed) for seed, n in enumerate(sizes)]
    batch = join(recordings, SENSOR).to(device)
    span = {"duration_us": 1000, "origin_us": 0} if fixed else {}
    x = frames(batch, SENSOR, bins, **span).cpu().numpy()
    y = voxel_grid(batch, SENSOR, bins, **span, split=split).cpu().numpy()
    assert x.shape == (bins, len(sizes), 2, 4, 7) and y.shape == (bins, len(sizes), 1 + split, 4, 7)
    for b, events in enumerate(recordings):
        assert np.array_equal(x[:, b], Frames(bins=bins, **span)(events, SENSOR))
        assert np.allclose(y[:, b], VoxelGrid(bins, **span, split=split)(events, SENSOR), atol=1e-6)


@given(st.integers(0, 60), st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_the_order_of_events_is_irrelevant(n, seed):
    batch = join([some_events(n, seed), some_events(20, seed + 1)], SENSOR)
    order = torch.randperm(n + 20, generator=torch.Generator().manual_seed(seed))
    mixed = Events(*(column[order] for column in batch[:5]), 2)
    assert torch.equal(frames(mixed, SENSOR, 5), frames(batch, SENSOR, 5))
    assert torch.allclose(voxel_grid(mixed, SENSOR, 5), voxel_grid(batch, SENSOR, 5), atol=1e-6)


def test_d38_d41_events_off_the_sensor_or_the_windows_raise():
    good = join([some_events(5), some_events(6)], SENSOR)
    for wrong in (
        good._replace(x=good.x + 7), good._replace(y=good.y - 4), good._replace(p=good.p * 2 - 1), good._replace(batch=1),
    ):  # fmt: skip
        for kind in (frames, voxel_grid):
            with pytest.raises(FormatError, match="outside the sensor or the batch"):
                kind(wrong, SENSOR, 3)
    with pytest.raises(FormatError, match="11 of 11 events lie outside"):
        frames(good, SENSOR, 3, duration_us=10, origin_us=5000)
    with pytest.raises(FormatError, match="backwards"):
        join([make_events([0, 0], [0, 0], [2, 1], [0, 0])], SENSOR)


def test_choices_that_make_no_sense_are_refused():
    batch = join([some_events(5)], SENSOR)
    for wrong in ({"bins": 0}, {"bins": 1, "duration_us": 0}, {"bins": 1, "origin_us": 3}):
        with pytest.raises(ParameterError):
            frames(batch, SENSOR, **wrong)

"""Transforms on real recordings of N-MNIST: nothing is lost, and a sensor's noise looks as noise does."""

import numpy as np
import pytest

from neuro.datasets.denoise import Denoise
from neuro.datasets.formats.nmnist import SENSOR
from neuro.datasets.nmnist import NMNIST
from neuro.datasets.slices import CountFrames
from neuro.datasets.stacking import StackedHistogram
from neuro.datasets.surfaces import LeakyFrames
from neuro.datasets.thinning import Refractory
from neuro.datasets.transforms import Frames
from neuro.datasets.voxels import VoxelGrid


@pytest.fixture
def recordings(real_data):
    data = NMNIST(real_data / "nmnist", "test")
    return [data[i].events for i in range(0, len(data), max(len(data) // 20, 1))][:20]


def test_d41_no_event_of_a_real_recording_is_lost(recordings):
    for events in recordings:
        n, signed = len(events), 2 * int(events["p"].sum()) - len(events)
        assert n > 500
        for how in (Frames(bins=16), Frames(window_us=1000), CountFrames(bins=7), CountFrames(events=300)):
            assert how(events, SENSOR).sum() == n
        assert StackedHistogram(bins=2, stack=5)(events, SENSOR).sum(dtype=int) == n
        assert np.isclose(VoxelGrid(10)(events, SENSOR).sum(dtype=float), signed, atol=1e-2)
        assert np.isclose(VoxelGrid(10, split=True)(events, SENSOR).sum(dtype=float), n, atol=1e-2)
        assert np.isclose(LeakyFrames(bins=3, tau_us=1e12)(events, SENSOR)[-1].sum(dtype=float), n, rtol=1e-4)


def test_a_recording_has_more_company_than_the_same_events_scattered(recordings):
    rng = np.random.default_rng(0)
    for events in recordings:
        scattered = events.copy()
        scattered["x"], scattered["y"] = rng.integers(34, size=(2, len(events)))
        assert len(Denoise(2000)(events, SENSOR)) > len(Denoise(2000)(scattered, SENSOR))
        assert 0 < len(Refractory(20_000)(events, SENSOR)) < len(events)

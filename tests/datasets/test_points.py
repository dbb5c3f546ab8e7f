"""Events as points: sampling, scaling, far-apart centres and their neighbours."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro.datasets.events import EVENT, Sensor, check_events, make_events
from neuro.datasets.points import Points, SamplePoints, farthest_points, group
from neuro.errors import FormatError, ParameterError, ShapeError

SENSOR = Sensor(height=12, width=17)


def some_events(n, seed=0):
    rng = np.random.default_rng(seed)
    t = np.arange(n) * 7 + 1000  # all different, so that events can be told apart
    return make_events(rng.integers(17, size=n), rng.integers(12, size=n), t, rng.integers(2, size=n))


def cloud(n, seed=0):
    return np.random.default_rng(seed).random((n, 3))


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_a_sample_has_its_size_in_order_of_time(n, size, seed):
    events = some_events(n, seed)
    sampled = SamplePoints(size)(events, SENSOR, np.random.default_rng(seed))
    check_events(sampled, SENSOR)
    assert len(sampled) == size and set(sampled["t"].tolist()) <= set(events["t"].tolist())
    if size <= n:
        assert len(set(sampled["t"].tolist())) == size, "without replacement"


def test_too_few_events_are_refused():
    with pytest.raises(FormatError, match="5 events are fewer than 6"):
        SamplePoints(3, least=6)(some_events(5), SENSOR, np.random.default_rng(0))
    with pytest.raises(FormatError, match="0 events are fewer than 1"):
        SamplePoints(3)(some_events(0), SENSOR, np.random.default_rng(0))


def test_time_spans_zero_to_one_exactly_and_coordinates_lie_within():
    x = Points(polarity=True)(some_events(50), SENSOR)
    assert x.shape == (50, 4) and x.dtype == np.float32 and x.min() >= 0 and x.max() <= 1
    assert x[0, 2] == 0 and x[-1, 2] == 1 and set(x[:, 3]) == {0, 1}
    assert Points()(np.empty(0, EVENT), SENSOR).shape == (0, 3)
    assert Points()(make_events([1, 2], [1, 2], [5, 5], [0, 0]), SENSOR)[:, 2].tolist() == [0, 0]
    with pytest.raises(FormatError, match="outside the sensor"):
        Points()(make_events([17], [0], [0], [0]), SENSOR)


@given(st.integers(1, 40), st.integers(0, 99), st.data())
@settings(deadline=None, max_examples=40)
def test_each_centre_is_farthest_from_those_before(n, seed, data):
    points, count = cloud(n, seed), data.draw(st.integers(1, n))
    chosen = farthest_points(points, count, start=n - 1)
    assert chosen[0] == n - 1 and len(set(chosen.tolist())) == count
    for k in range(1, count):
        nearest = ((points[:, None] - points[chosen[:k]]) ** 2).sum(-1).min(1)
        assert np.isclose(nearest[chosen[k]], nearest.max())


def test_neighbours_are_the_nearest_and_the_centre_is_the_first():
    points = cloud(50)
    local, centre, index = group(points, 8, 5)
    distance = ((points[index[:, 0], None] - points) ** 2).sum(-1)
    for s in range(8):
        assert np.allclose(np.sort(distance[s])[:5], distance[s, index[s]])
    assert np.allclose(centre, points[index[:, 0]]) and np.allclose(local[:, :, 3:], points[index].min(1)[:, None])
    doubled = group(np.repeat(points, 2, axis=0), 8, 3)
    assert np.array_equal(doubled.index[:, 0], farthest_points(np.repeat(points, 2, axis=0), 8))


def test_offsets_do_not_know_place_size_or_side():
    points = cloud(60)
    local = group(points, 6, 7).local
    assert np.allclose(group(points + [3, -2, 5], 6, 7).local[..., :3], local[..., :3], atol=1e-5)
    assert np.allclose(group(points * 4, 6, 7).local[..., :3], local[..., :3], atol=1e-5)
    mirrored = group(points * [-1, 1, 1], 6, 7).local
    assert np.allclose(mirrored[..., :3], local[..., :3], atol=1e-5)
    assert not np.allclose(mirrored[..., 3], local[..., 3])


def test_equal_points_give_zero_offsets_and_not_nan():
    assert not group(np.ones((5, 3)), 2, 3).local[..., :3].any()


def test_numbers_out_of_range_are_refused():
    for wrong in ((0, 1), (1, 0), (6, 1), (1, 6), (1, 1, 5)):
        with pytest.raises(ParameterError):
            group(cloud(5), *wrong)
    with pytest.raises(ShapeError):
        group(np.ones((5, 2)), 1, 1)
    with pytest.raises(ParameterError):
        SamplePoints(0)

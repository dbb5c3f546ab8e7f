"""Images moved before a camera, against the bilinear formula written out pixel by pixel."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro.datasets.events import Sensor
from neuro.datasets.panning import pan
from neuro.errors import ParameterError, ShapeError


def plain(image, dx, dy, sensor, beyond):
    """Each sensor pixel alone."""
    h, w = image.shape
    top, left = (sensor.height - h) // 2, (sensor.width - w) // 2

    def value(y, x):
        return image[y, x] if 0 <= y < h and 0 <= x < w else beyond

    frame = np.empty((sensor.height, sensor.width))
    for y, x in np.ndindex(frame.shape):
        v, u = y - top - dy, x - left - dx
        i, j = math.floor(v), math.floor(u)
        a, b = v - i, u - j
        frame[y, x] = (1 - a) * ((1 - b) * value(i, j) + b * value(i, j + 1)) + a * (
            (1 - b) * value(i + 1, j) + b * value(i + 1, j + 1)
        )
    return frame


SIDE = st.integers(1, 7)
PLACE = st.floats(-12, 12).map(lambda v: round(v * 8) / 8)


@given(SIDE, SIDE, SIDE, SIDE, PLACE, PLACE, st.sampled_from([0.0, 0.5]))
@settings(deadline=None, max_examples=150)
def test_every_place_is_the_bilinear_formula(h, w, height, width, dx, dy, beyond):
    image, sensor = np.random.default_rng(h * 8 + w).random((h, w)), Sensor(height, width)
    (frame,) = pan(image, [[dx, dy]], sensor, beyond)
    assert frame.shape == (height, width)
    assert np.allclose(frame, plain(image, dx, dy, sensor, beyond), atol=1e-12)


def test_whole_steps_move_the_image_as_it_is():
    image = np.arange(1, 10).reshape(3, 3) / 9
    frames = list(pan(image, [[0, 0], [2, -1]], Sensor(7, 7)))
    assert np.array_equal(frames[0][2:5, 2:5], image) and frames[0].sum() == image.sum()
    assert np.array_equal(frames[1][1:4, 4:7], image)


def test_colours_and_units_are_one_intensity():
    grey = np.random.default_rng(0).integers(0, 256, (4, 5)).astype(np.uint8)
    (expected,) = pan(grey, [[0.5, 0.25]], Sensor(6, 6))
    for same in (grey / 255, np.repeat(grey[..., None], 3, axis=2), grey.astype(np.uint16) * 257):
        assert np.allclose(next(pan(same, [[0.5, 0.25]], Sensor(6, 6))), expected, atol=1e-12)


def test_what_is_no_image_or_no_path_is_refused():
    good, sensor = np.zeros((3, 4)), Sensor(5, 5)
    for image, path, beyond, error, words in (
        (np.zeros((3, 28, 28)), [[0, 0]], 0, ShapeError, r"\[3, 28, 28\]"),
        (np.zeros((0, 4)), [[0, 0]], 0, ShapeError, r"\[0, 4\]"),
        (good.astype(int), [[0, 0]], 0, ParameterError, "int64"),
        (good - 1, [[0, 0]], 0, ParameterError, "negative"),
        (good, [0, 0], 0, ShapeError, "path"),
        (good, [[0, math.nan]], 0, ParameterError, "not a number"),
        (good, [[0, 1e9]], 0, ParameterError, "too far"),
        (good, np.empty((0, 2)), math.inf, ParameterError, "beyond=inf"),
        (good, [[0, 0]], -1, ParameterError, "beyond=-1"),
    ):
        with pytest.raises(error, match=words):
            pan(image, path, sensor, beyond)
    assert list(pan(good, np.empty((0, 2)), sensor)) == []

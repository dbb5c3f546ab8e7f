"""An image that moves before a camera: frames of intensity along a path, one at a time.

Sensor pixel (x, y) sees the image at (x - left - dx, y - top - dy), where (dx, dy) is the path's place and the image lies in
the middle of the sensor at (0, 0). Between the image's pixels intensity is bilinear; beyond its border it is `beyond`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from neuro.datasets.events import Sensor
from neuro.errors import ParameterError, ShapeError, explain

LUMA = np.array([0.2126, 0.7152, 0.0722])  # of red, green, blue: ITU-R BT.709
FARTHEST = 32767  # pixels: no sensor is larger


def pan(image: np.ndarray, path: np.ndarray, sensor: Sensor, beyond: float = 0.0) -> Iterator[np.ndarray]:
    """Frames [H, W] float64 of `image` at each place of `path`.

    image: [h, w] or [h, w, 3], of any size; floats, 1 being white, or unsigned integers, whose largest value is white.
    path: [F, 2], (dx, dy) in pixels; x to the right, y downward.

    Raises:
        ShapeError: the image or the path has another shape.
        ParameterError: values that are not finite, negative intensity, or an image of another type.

    >>> [frame.tolist() for frame in pan(np.ones((1, 1)), np.array([[0, 0], [0.25, 0]]), Sensor(1, 3))]
    [[[0.0, 1.0, 0.0]], [[0.0, 0.75, 0.25]]]
    """
    image, path = grey(image), np.asarray(path, np.float64)
    if path.ndim != 2 or path.shape[1] != 2:
        raise ShapeError(explain("pan: the path must be [F, 2].", f"path {list(path.shape)}"))
    farthest = np.abs(path).max(initial=0.0)
    if not farthest <= FARTHEST or not 0 <= beyond < math.inf:
        fact = f"beyond={beyond}   farthest place {farthest}"
        raise ParameterError(explain("pan: a place is too far away or not a number, or `beyond` is no intensity.", fact))
    return (placed(image, dx, dy, sensor, beyond) for dx, dy in path)


def placed(image_hw: np.ndarray, dx: float, dy: float, sensor: Sensor, beyond: float) -> np.ndarray:
    """One frame [H, W]: four copies of the image at the whole places around (dx, dy), mixed."""
    (h, w), right, down = image_hw.shape, math.floor(dx), math.floor(dy)
    window = np.full((sensor.height + 1, sensor.width + 1), beyond)  # sensor pixel (x, y) lies at [y + 1, x + 1]
    top, left = (sensor.height - h) // 2 + down + 1, (sensor.width - w) // 2 + right + 1
    rows, columns = slice(max(top, 0), max(top + h, 0)), slice(max(left, 0), max(left + w, 0))
    part = image_hw[max(-top, 0) :, max(-left, 0) :]
    target = window[rows, columns]
    target[...] = part[: target.shape[0], : target.shape[1]]
    fx, fy = dx - right, dy - down
    across = (1 - fx) * window[:, 1:] + fx * window[:, :-1]
    return (1 - fy) * across[1:] + fy * across[:-1]


def grey(image: np.ndarray) -> np.ndarray:
    """Intensity [h, w] float64 of a grey or colour image; unsigned integers are divided by their largest value.

    >>> grey(np.array([[[255, 255, 255], [0, 255, 0]]], np.uint8)).round(4).tolist()
    [[1.0, 0.7152]]
    """
    image = np.asarray(image)
    if not (image.ndim == 2 or image.ndim == 3 and image.shape[2] == 3) or 0 in image.shape:
        cure = "Give one image: [h, w], or [h, w, 3] of red, green, blue. Channels first: image.transpose(1, 2, 0)."
        raise ShapeError(explain("pan: this is not an image.", f"shape {list(image.shape)}", cure=cure))
    if image.dtype.kind not in "fub":
        cure = "Give floats, 1 being white, or unsigned integers."
        raise ParameterError(explain("pan: the unit of these intensities is not clear.", f"dtype {image.dtype}", cure=cure))
    intensity = image.astype(np.float64) / (np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1)
    intensity = intensity @ LUMA if image.ndim == 3 else intensity
    if not (np.isfinite(intensity).all() and intensity.min() >= 0):
        fact = f"lowest {intensity.min()}, highest {intensity.max()}"
        raise ParameterError(explain("pan: intensities must be finite and not negative.", fact))
    return intensity

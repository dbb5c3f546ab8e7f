"""Static images before an event camera that makes three saccades along a triangle, as N-MNIST was recorded.

The path, its speed, the screen's contrast and the sensor's threshold are such that MNIST's images give, with
`path=AS_NMNIST`, recordings like N-MNIST's of the same images (tests/datasets/test_saccades.py says how alike). The place on a leg of the triangle follows a movement of least jerk,

    s(u) = 10 u^3 - 15 u^4 + 6 u^5,   u from 0 to 1 in 100 ms,

whose speed is a bell, as the event rate of N-MNIST is within each saccade.

Sources: Orchard, Jayawant, Cohen, Thakor, "Converting Static Image Datasets to Spiking Neuromorphic Datasets Using Saccades",
Frontiers in Neuroscience 9:437, 2015 (three saccades of 100 ms along a triangle); Flash, Hogan, "The coordination of arm
movements", J. Neuroscience 5:1688, 1985 (least jerk). Corners, contrast and threshold: chosen on 100 training recordings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neuro.datasets.events import Recording, Sensor
from neuro.datasets.panning import grey, pan
from neuro.datasets.video import VideoCamera
from neuro.errors import ParameterError, ShapeError, explain

CAMERA = VideoCamera(threshold=0.25, mismatch=0.03, noise_hz=1.0)


@dataclass(frozen=True)
class Triangle:
    """A closed path through corners, and what is seen on it.

    corners: (x, y) in pixels of the sensor, x to the right, y downward; the image goes from each to the next and back to the
        first. Their mean is moved to (0, 0), so that the image stays in the middle.
    leg_us: duration of each saccade.
    step_us: time between frames; within a frame's time the image should move by less than about a quarter of a pixel.
    margin: pixels of the sensor on each side of the image.
    black: intensity of a black screen, where a white one has 1.
    negative: show dark what is bright in the image. N-MNIST's events are those of dark digits on a bright screen: a stroke
        that moves to the right fires OFF at its right edge.
    """

    corners: tuple[tuple[float, float], ...] = ((0.0, 0.0), (2.6, 5.0), (5.2, 0.0))
    leg_us: int = 100_000
    step_us: int = 2_000
    margin: int = 3
    black: float = 0.2
    negative: bool = False

    def __post_init__(self) -> None:
        right = len(self.corners) >= 2 and self.leg_us >= self.step_us >= 1 and self.margin >= 0 and 0 <= self.black <= 1
        if not right or np.shape(self.corners) != (len(self.corners), 2) or not np.isfinite(self.corners).all():
            cure = "At least two corners (x, y); leg_us >= step_us >= 1; margin >= 0; black from 0 to 1."
            raise ParameterError(explain("Triangle: these values make no path.", repr(self), cure=cure))

    @property
    def duration_us(self) -> int:
        return self.leg_us * len(self.corners)

    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Times [F] in microseconds, from 0 to the end of the last saccade, and places [F, 2] in pixels."""
        corners = np.asarray(self.corners, float) - np.mean(self.corners, axis=0)
        times = np.unique(np.append(np.arange(0, self.duration_us, self.step_us), self.duration_us))
        leg = np.minimum(times // self.leg_us, len(corners) - 1)
        u = ((times - leg * self.leg_us) / self.leg_us)[:, None]
        part = u**3 * (10 - 15 * u + 6 * u**2)
        return times, corners[leg] * (1 - part) + np.roll(corners, -1, axis=0)[leg] * part


AS_NMNIST = Triangle(negative=True)


def saccades(image: np.ndarray, seed, camera: VideoCamera = CAMERA, path: Triangle = Triangle()) -> Recording:
    """The recording of one image: three saccades in 300 ms, on a sensor larger than the image by `path.margin` all round.

    image: [h, w] or [h, w, 3]; floats from 0 up, 1 being white, or unsigned integers, whose largest value is white.
    seed: whatever `numpy.random.default_rng` takes; it draws the sensor's thresholds and the noise.

    Raises:
        ShapeError: not an image.
        ParameterError: intensities that are not finite or negative, or of another type; above 1 where a negative is shown.

    >>> recording = saccades(np.eye(28), seed=0)
    >>> recording.sensor, bool(recording.events["t"].max() <= 300_000)
    (Sensor(height=34, width=34), True)
    """
    image = grey(image)
    if path.negative and image.max() > 1:
        raise ParameterError(explain("saccades: a negative needs intensities of at most 1.", f"highest {image.max()}"))
    ground = 1.0 if path.negative else path.black
    shown = ground + (path.black - 1 if path.negative else 1 - path.black) * image
    sensor = Sensor(shown.shape[0] + 2 * path.margin, shown.shape[1] + 2 * path.margin)
    times, places = path.places()
    return Recording(camera.record(pan(shown, places, sensor, ground), times, seed), sensor)


class SaccadeRecordings(Sequence):
    """Images with labels as a data set of recordings, each made when asked for; recording i depends on (seed, i) alone.

    images: [N, h, w] or [N, h, w, 3], or any sequence of such images, as `saccades` takes them.
    labels: N integers.
    Every recording comes from another sensor of one kind: the thresholds are drawn anew. `cache_recordings` keeps them.

    Raises:
        ShapeError: images and labels differ in number.
        ParameterError: a negative seed.

    >>> from neuro.datasets.mnist import MNIST
    >>> digits = MNIST.simulated(3)
    >>> made = SaccadeRecordings(digits.x, digits.labels)
    >>> len(made), made[2].label == digits.labels[2], made[2].name
    (3, True, 'saccades/0/2')
    """

    def __init__(
        self, images: Sequence, labels: Sequence[int], seed: int = 0, camera: VideoCamera = CAMERA, path: Triangle = Triangle()
    ) -> None:
        if len(images) != len(labels):
            raise ShapeError(explain("SaccadeRecordings: images and labels differ in number.", f"{len(images)} and {len(labels)}"))
        if seed < 0:
            raise ParameterError(explain("SaccadeRecordings: the seed must not be negative.", f"seed={seed}"))
        self.images, self.labels, self.seed, self.camera, self.path = images, tuple(map(int, labels)), seed, camera, path
        self.duration_us = path.duration_us

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Recording:
        if not 0 <= index < len(self):
            raise IndexError(f"SaccadeRecordings: no recording {index} among {len(self)}")
        made = saccades(self.images[index], [self.seed, index], self.camera, self.path)
        return Recording(made.events, made.sensor, self.labels[index], f"saccades/{self.seed}/{index}")

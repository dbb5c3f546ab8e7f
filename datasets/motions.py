"""Eight motions that differ only in their timing: a data set that a summed picture cannot solve.

An object (disc, ring, square, triangle, bar or cross; random place, size, angle, speed; brighter or darker than its
background) moves before a simulated event camera. The classes are four pairs of time-reversed motions. An ideal event
camera answers to a reversed scene with inverted contrast by the same events in reversed order; we use that to make the
pairs exact: of the recordings of each class half are filmed as they are, and half are the opposite motion played
backwards. So the distribution of anything that forgets the order of events, such as a frame summed over time in both
polarities, is the same for both classes of a pair by construction, and no classifier of it can exceed 50 % on average.

Recording i of seed s depends on (s, i) alone, so a longer set begins with the shorter one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from neuro.datasets.events import Recording
from neuro.datasets.simulate import Camera
from neuro.errors import ParameterError, explain

CLASSES = ("right", "left", "down", "up", "clockwise", "anticlockwise", "approach", "recede")
DURATION_US = 100_000
CAMERA = Camera(height=32, width=32, threshold=0.2, mismatch=0.03, refractory_us=200, noise_hz=1.0)
FRAMES = 33  # rendered per recording; the fastest edge moves 0.6 pixels between two
EDGE = 1.5  # pixels over which an edge goes from object to background

HEADINGS = {"right": 0.0, "down": np.pi / 2, "left": np.pi, "up": -np.pi / 2}  # y points downward


def slab(u, v, length=1.0, width=0.35):
    """A rectangle of half sides `length` and `width`."""
    return np.maximum(np.abs(u) - length, np.abs(v) - width)


SHAPES = {  # distance to the nearest edge, negative inside, of an object whose radius is about 1
    "disc": lambda u, v: np.hypot(u, v) - 0.9,
    "ring": lambda u, v: np.abs(np.hypot(u, v) - 0.75) - 0.25,
    "square": partial(slab, length=0.8, width=0.8),
    "triangle": lambda u, v: np.maximum(v, np.abs(u) * np.sin(np.pi / 3) - v / 2) - 0.5,
    "bar": slab,
    "cross": lambda u, v: np.minimum(slab(u, v), slab(v, u)),
}
TURNING = ("bar", "cross", "triangle", "square")  # discs and rings look the same at every angle


@dataclass(frozen=True)
class Scene:
    """One object and its path. At phase s, from -1 at the start to 1 at the end, the pose is linear in s.

    size: radius, pixels. x, y: centre at s=0, pixels from the centre of the sensor. angle: rad, clockwise on the screen.
    dx, dy (pixels), turn (rad), growth (log of size): what phase adds, per unit of s.
    contrast: log intensity of the object minus that of the background.
    """

    shape: str
    size: float
    x: float
    y: float
    angle: float
    contrast: float
    dx: float = 0.0
    dy: float = 0.0
    turn: float = 0.0
    growth: float = 0.0


def draw_scene(motion: str, rng: np.random.Generator, width: int = 32) -> Scene:
    """A random scene of one class; lengths are in proportion to the `width` of the sensor."""
    u, unit = rng.uniform, width / 32
    contrast = u(0.5, 0.9) * rng.choice([-1, 1])
    x, y = u(-4, 4, 2) * unit
    rest = Scene(str(rng.choice(list(SHAPES))), u(4, 7) * unit, x, y, u(0, 2 * np.pi), contrast)
    if motion in HEADINGS:
        way, heading = u(5, 9) * unit, HEADINGS[motion] + u(-0.25, 0.25)
        return replace(rest, dx=way * np.cos(heading), dy=way * np.sin(heading))
    if motion in ("clockwise", "anticlockwise"):
        turn = u(0.5, 0.8) * (1 if motion == "clockwise" else -1)
        return replace(rest, shape=str(rng.choice(TURNING)), size=u(8, 12) * unit, turn=turn)
    return replace(rest, size=u(5, 7) * unit, growth=u(0.4, 0.6) * (1 if motion == "approach" else -1))


def render(scene: Scene, phase, height: int, width: int) -> np.ndarray:
    """Log intensity [F, H, W] at the phases [F]; 0 is the background. Edges are smooth over EDGE pixels."""
    s = np.asarray(phase, np.float32)[:, None, None]
    size, angle = scene.size * np.exp(scene.growth * s), scene.angle + scene.turn * s
    x = np.arange(width, dtype=np.float32) - (width - 1) / 2 - (scene.x + scene.dx * s)
    y = np.arange(height, dtype=np.float32)[:, None] - (height - 1) / 2 - (scene.y + scene.dy * s)
    c, d = np.cos(angle) / size, np.sin(angle) / size
    distance = SHAPES[scene.shape](c * x + d * y, c * y - d * x) * size
    inside = np.clip(0.5 - distance / EDGE, 0, 1)
    return np.float32(scene.contrast) * inside * inside * (3 - 2 * inside)


def opposite(label: int) -> int:
    """The class of the time-reversed motion."""
    return label ^ 1


def backwards(events: np.ndarray, duration_us: int) -> np.ndarray:
    """The recording played backwards: t -> duration - 1 - t, in the order of the new time; polarities stay."""
    events = events[::-1].copy()
    events["t"] = duration_us - 1 - events["t"]
    return events


def film(motion: str, key, camera: Camera = CAMERA, duration_us: int = DURATION_US) -> np.ndarray:
    """The events of one random scene of a class; `key` seeds scene and camera."""
    rng = np.random.default_rng(key)
    scene = draw_scene(motion, rng, camera.width)
    video = render(scene, np.linspace(-1, 1, FRAMES), camera.height, camera.width)
    events = camera.record(video, np.linspace(0, duration_us, FRAMES), rng)
    return events[events["t"] < duration_us]  # a crossing at the very end would come before the start in reverse


def make_motion(index: int, seed: int = 0, camera: Camera = CAMERA, duration_us: int = DURATION_US) -> Recording:
    """Recording `index` of the set `seed`. Its class is index modulo 8."""
    label = index % len(CLASSES)
    if np.random.default_rng([seed, index, 1]).random() < 0.5:
        events = film(CLASSES[label], [seed, index], camera, duration_us)
    else:
        events = backwards(film(CLASSES[opposite(label)], [seed, index], camera, duration_us), duration_us)
    return Recording(events, camera.sensor, label, f"motions/{seed}/{index:06d}")


def make_motions(n: int, seed: int = 0, camera: Camera = CAMERA, duration_us: int = DURATION_US) -> list[Recording]:
    """`n` recordings, the classes in turn, so that any multiple of 8 is balanced.

    Use one seed for training and another for testing. All times lie in [0, duration_us).

    >>> [CLASSES[r.label] for r in make_motions(3)]
    ['right', 'left', 'down']
    """
    if n < 0 or seed < 0 or duration_us < FRAMES:
        raise ParameterError(
            explain(
                f"make_motions: n and seed must not be negative, duration_us at least {FRAMES}.",
                f"n={n}   seed={seed}   duration_us={duration_us}",
            )
        )
    return [make_motion(i, seed, camera, duration_us) for i in range(n)]

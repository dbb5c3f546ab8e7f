"""Changes of labelled arrays for training: `(x, rng) -> x`; the input is never changed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from neuro.errors import ParameterError, explain


@dataclass(frozen=True)
class Several:
    """Changes one after another, fed by one generator."""

    steps: tuple

    def __call__(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        for step in self.steps:
            x = step(x, rng)
        return x


@dataclass(frozen=True)
class ShiftPicture:
    """A picture [..., H, W] moved by up to `pixels` each way; zeros come in at the edge.

    >>> int(ShiftPicture(1)(np.ones((2, 2), np.uint8), np.random.default_rng(0)).sum())
    2
    """

    pixels: int

    def __post_init__(self) -> None:
        _from_zero(self, "pixels", whole=True)

    def __call__(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        n = self.pixels
        padded = np.pad(x, [(0, 0)] * (x.ndim - 2) + [(n, n), (n, n)])
        top, left = rng.integers(0, 2 * n + 1, 2)
        return padded[..., top : top + x.shape[-2], left : left + x.shape[-1]].copy()


@dataclass(frozen=True)
class FlipPicture:
    """A picture mirrored left to right, with probability `p`."""

    p: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ParameterError(explain("FlipPicture: p must lie in 0 .. 1.", repr(self)))

    def __call__(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return x[..., ::-1].copy() if rng.random() < self.p else x


@dataclass(frozen=True)
class ShiftInTime:
    """A series [S, ...] moved by up to `steps` either way; what leaves at one end is lost, zeros come in at the other."""

    steps: int

    def __post_init__(self) -> None:
        _from_zero(self, "steps", whole=True)

    def __call__(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        by = int(rng.integers(-self.steps, self.steps + 1))
        by = max(-len(x), min(len(x), by))
        moved = np.zeros_like(x)
        moved[max(by, 0) : len(x) + min(by, 0)] = x[max(-by, 0) : len(x) - max(by, 0)]
        return moved


@dataclass(frozen=True)
class DropSpikes:
    """Each value of an array set to zero with probability `p`."""

    p: float

    def __post_init__(self) -> None:
        if not 0 <= self.p < 1:
            raise ParameterError(explain("DropSpikes: p must lie in 0 .. 1, and below 1.", repr(self)))

    def __call__(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.where(rng.random(x.shape) < self.p, np.zeros((), x.dtype), x)


@dataclass(frozen=True)
class Louder:
    """All values times one factor from 1 / (1 + most) to 1 + most, drawn evenly on a logarithmic scale."""

    most: float

    def __post_init__(self) -> None:
        _from_zero(self, "most")

    def __call__(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return (x * np.exp(rng.uniform(-1, 1) * np.log1p(self.most))).astype(x.dtype)


@dataclass(frozen=True)
class AddNoise:
    """Gaussian noise of a standard deviation drawn from 0 to `std`, in the unit of the array."""

    std: float

    def __post_init__(self) -> None:
        _from_zero(self, "std")

    def __call__(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return (x + rng.normal(0, rng.uniform(0, self.std), x.shape)).astype(x.dtype)


@dataclass(frozen=True)
class Turned:
    """Vectors [S, 3] turned in space, all by one rotation about a random axis by up to `degrees`: a sensor that sits otherwise.

    >>> x = np.eye(3)
    >>> bool(np.allclose(np.linalg.norm(Turned(30)(x, np.random.default_rng(0)), axis=1), 1))
    True
    """

    degrees: float

    def __post_init__(self) -> None:
        _from_zero(self, "degrees")

    def __call__(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        a, b, c = rng.normal(size=3)
        k = np.array([[0, -c, b], [c, 0, -a], [-b, a, 0]]) / np.sqrt(a * a + b * b + c * c)
        angle = np.radians(rng.uniform(-self.degrees, self.degrees))
        turn = np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k  # Rodrigues
        return (x @ turn.T).astype(x.dtype)


def _from_zero(change: object, name: str, whole: bool = False) -> None:
    """Refuse a field below 0 or not finite, or not an integer."""
    value = getattr(change, name)
    if not 0 <= value < math.inf or (whole and not isinstance(value, (int, np.integer))):
        raise ParameterError(explain(f"{type(change).__name__}: {name} must be {'a whole number' if whole else 'finite and'} from 0.", repr(change)))

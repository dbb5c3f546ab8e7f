"""From one labelled array to input over time [T, ...] float32: pictures, spikes, series, waves, symbols.

Frozen, so that a model is saved with its own; each takes the array and, for those that draw, a generator. Those for
batches of tensors are in `neuro.encode`.

All raise ShapeError for an array of another kind, and FormatError for values that are not finite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from neuro.errors import FormatError, ParameterError, ShapeError, explain

Generator = np.random.Generator | None


@dataclass(frozen=True)
class Direct:
    """The picture itself as a current, the same at every step: [H, W] or [C, H, W] uint8 -> [T, C, H, W] in 0 .. 1.

    >>> Direct(steps=4)(np.full((28, 28), 255, np.uint8)).shape
    (4, 1, 28, 28)
    """

    steps: int

    def __post_init__(self) -> None:
        _positive(self, "steps")

    def __call__(self, x: np.ndarray, rng: Generator = None) -> np.ndarray:
        if x.dtype != np.uint8 or x.ndim not in (2, 3):
            raise ShapeError(explain("Direct: a picture is [H, W] or [C, H, W] of bytes.", f"x {x.dtype} {list(x.shape)}"))
        one = x.reshape(-1, *x.shape[-2:]).astype(np.float32) / 255
        return np.broadcast_to(one, (self.steps, *one.shape))


@dataclass(frozen=True)
class Binned:
    """Spikes counted in bins of `steps` steps: [S, C] -> [ceil(S / steps), C]; a last bin may be shorter. No spike is lost.

    >>> Binned(2)(np.ones((5, 1), np.uint8)).ravel().tolist()
    [2.0, 2.0, 1.0]
    """

    steps: int

    def __post_init__(self) -> None:
        _positive(self, "steps")

    def __call__(self, x: np.ndarray, rng: Generator = None) -> np.ndarray:
        _series("Binned", x)
        return np.add.reduceat(x.astype(np.float32), np.arange(0, len(x), self.steps), axis=0)


@dataclass(frozen=True)
class Standardised:
    """Each channel of a series [S, C] less its `mean`, by its `std`: as currents [S, C]. Constants, as a stream has no statistics yet.

    >>> Standardised((9.0,), (2.0,))(np.array([[13.0]])).item()
    2.0
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not all(s > 0 for s in self.std):
            raise ParameterError(explain("Standardised: one mean and one positive std for each channel.", repr(self)))

    @classmethod
    def of(cls, series: np.ndarray) -> Standardised:
        """Mean and standard deviation of the channels of series [..., C], rounded to four digits."""
        flat = np.asarray(series, np.float64).reshape(-1, series.shape[-1])
        return cls(*(tuple(float(f"{v:.4g}") for v in f(axis=0)) for f in (flat.mean, flat.std)))

    def __call__(self, x: np.ndarray, rng: Generator = None) -> np.ndarray:
        _series("Standardised", x)
        if x.shape[1] != len(self.mean):
            raise ShapeError(explain(f"Standardised: {len(self.mean)} channels were told.", f"x {list(x.shape)}"))
        return ((x - np.array(self.mean)) / np.array(self.std)).astype(np.float32)


@dataclass(frozen=True)
class Accelerations:
    """Accelerations [S, 3] in m/s^2 -> currents [S, 10]: the three, their changes from step to step, the sizes of these, and the length.

    `x / 5, dx / 2, |dx| / 2, (|x| - 9.81) / 4`; the first change is 0. Constants of gravity and of human movement, so that a
    stream is coded as a recording is.

    >>> Accelerations()(np.array([[0.0, 0.0, 9.81], [2.5, 0.0, 9.81]])).shape
    (2, 10)
    """

    def __call__(self, x: np.ndarray, rng: Generator = None) -> np.ndarray:
        _series("Accelerations", x)
        if x.shape[1] != 3:
            raise ShapeError(explain("Accelerations: a sensor has three axes.", f"x {list(x.shape)}"))
        change = np.diff(x, axis=0, prepend=x[:1]) / 2
        length = (np.linalg.norm(x, axis=1, keepdims=True) - 9.81) / 4
        return np.concatenate([x / 5, change, np.abs(change), length], axis=1).astype(np.float32)


@dataclass(frozen=True)
class OneHot:
    """Symbols [S] as single spikes [S, symbols].

    >>> OneHot(3)(np.array([2])).tolist()
    [[0.0, 0.0, 1.0]]
    """

    symbols: int

    def __post_init__(self) -> None:
        _positive(self, "symbols")

    def __call__(self, x: np.ndarray, rng: Generator = None) -> np.ndarray:
        if x.ndim != 1 or x.dtype.kind not in "iu" or (len(x) and not 0 <= x.min() <= x.max() < self.symbols):
            raise ShapeError(explain(f"OneHot: numbers [S] in 0 .. {self.symbols - 1}.", f"x {x.dtype} {list(x.shape)}"))
        y = np.zeros((len(x), self.symbols), np.float32)
        y[np.arange(len(x)), x] = 1
        return y


@dataclass(frozen=True)
class MelBands:
    """Energies of a wave [S] in bands spaced as the ear spaces them, in decibels: currents [T, bands].

    Windows of `window` samples (Hann, from 2), one every `hop`, zeros at the end; T = max(1, ceil(S / hop)). A band is a triangle of the
    power spectrum between three of `bands + 2` frequencies, equally far apart on the mel scale m = 2595 log10(1 + f / 700),
    from `low_hz` to half the sampling rate. The output is `(10 log10(energy + 1e-10) + 100) / 100 - 0.5`, so silence is
    -0.5 and a full-scale tone about 0.45.

    Source: S. S. Stevens et al. 1937, with the constants of O'Shaughnessy 1987.

    >>> MelBands(rate_hz=8000)(np.zeros(1600, np.float32)).shape
    (13, 40)
    """

    rate_hz: int
    bands: int = 40
    window: int = 256
    hop: int = 128
    low_hz: float = 20.0

    def __post_init__(self) -> None:
        _positive(self, "rate_hz", "bands", "window", "hop")
        if self.window < 2:
            raise ParameterError(explain("MelBands: a Hann window of one sample weighs nothing.", repr(self), cure="Give at least 2."))
        if not 0 <= self.low_hz < self.rate_hz / 2:
            raise ParameterError(explain("MelBands: low_hz must lie below half the sampling rate.", repr(self)))

    def filters(self) -> np.ndarray:
        """Weights [bands, window // 2 + 1] of the power spectrum's lines."""
        low, high = (2595 * math.log10(1 + f / 700) for f in (self.low_hz, self.rate_hz / 2))
        edges = 700 * (10 ** (np.linspace(low, high, self.bands + 2) / 2595) - 1)
        lines = np.arange(self.window // 2 + 1) * self.rate_hz / self.window
        # a band narrower than the distance of two lines still sees the nearest ones
        below, above = (np.maximum(np.diff(edges)[k : k + self.bands], self.rate_hz / self.window) for k in (0, 1))
        centre = edges[1:-1, None]
        return np.clip(np.minimum(1 + (lines - centre) / below[:, None], 1 - (lines - centre) / above[:, None]), 0, None)

    def __call__(self, x: np.ndarray, rng: Generator = None) -> np.ndarray:
        if x.ndim != 1 or not len(x) or x.dtype.kind != "f":
            raise ShapeError(explain("MelBands: a wave is [S] of floats, S from 1.", f"x {x.dtype} {list(x.shape)}"))
        _finite("MelBands", x)
        steps = -(-len(x) // self.hop)
        whole = np.zeros((steps - 1) * self.hop + self.window)
        whole[: min(len(x), len(whole))] = x[: len(whole)]
        cut = np.lib.stride_tricks.sliding_window_view(whole, self.window)[:: self.hop]
        hann = np.hanning(self.window + 1)[:-1]
        power = np.abs(np.fft.rfft(cut * hann, axis=1)) ** 2 / hann.sum() ** 2
        return ((10 * np.log10(power @ self.filters().T + 1e-10) + 100) / 100 - 0.5).astype(np.float32)


def _positive(encoder: object, *names: str) -> None:
    wrong = {n: getattr(encoder, n) for n in names if not isinstance(getattr(encoder, n), int) or getattr(encoder, n) < 1}
    if wrong:
        raise ParameterError(explain(f"{type(encoder).__name__}: whole numbers from 1.", *(f"{k}={v!r}" for k, v in wrong.items())))


def _series(name: str, x: np.ndarray) -> None:
    if x.ndim != 2 or not len(x) or x.dtype.kind not in "biuf":
        raise ShapeError(explain(f"{name}: a series is [S, C] of real numbers, S from 1.", f"x {x.dtype} {list(x.shape)}"))
    _finite(name, x)


def _finite(name: str, x: np.ndarray) -> None:
    """A neuron whose membrane is nan stays silent, and the answer looks like any other."""
    wrong = np.argwhere(~np.isfinite(x))
    if len(wrong):
        facts = f"{len(wrong)} of {x.size} values; the first is {x[tuple(wrong[0])]} at {wrong[0].tolist()}"
        raise FormatError(explain(f"{name}: values that are not finite.", facts, cure="Leave the recording out, or fill its gaps."))

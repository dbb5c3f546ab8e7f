"""Twin against Lava: every spike and every membrane, layer by layer, and where they first part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neuro.errors import ShapeError, explain

if TYPE_CHECKING:
    from neuro.deploy.lava import LavaResult
    from neuro.deploy.twin import TwinResult


@dataclass(frozen=True)
class LayerAgreement:
    """One layer. `first`: (recording, step, index) of the first difference in spike or membrane; None: equal."""

    name: str
    compared: int
    fired: int
    mismatches: int
    membranes: int
    membrane_mismatches: int
    first: tuple[int, int, tuple[int, ...]] | None

    @property
    def exact(self) -> bool:
        return self.mismatches == 0 and self.membrane_mismatches == 0


@dataclass(frozen=True)
class Agreement:
    """All layers in order, the readout last. `str` prints the table."""

    layers: tuple[LayerAgreement, ...]

    @property
    def exact(self) -> bool:
        return all(layer.exact for layer in self.layers)

    @property
    def first_layer(self) -> str | None:
        """The first layer that differs; None if all agree."""
        return next((layer.name for layer in self.layers if not layer.exact), None)

    @property
    def compared(self) -> int:
        """Spike decisions compared."""
        return sum(layer.compared for layer in self.layers)

    @property
    def mismatches(self) -> int:
        return sum(layer.mismatches for layer in self.layers)

    def __str__(self) -> str:
        width = max(len(layer.name) for layer in self.layers)
        lines = [f"{'layer':{width}}  {'compared':>10} {'fired':>10} {'differ':>8} {'membranes':>10} {'differ':>8}  first"]
        for a in self.layers:
            where = "" if a.first is None else "recording {}, step {}, index {}".format(*a.first)
            lines.append(f"{a.name:{width}}  {a.compared:>10} {a.fired:>10} {a.mismatches:>8} {a.membranes:>10} "
                         f"{a.membrane_mismatches:>8}  {where}".rstrip())
        verdict = "equal in every spike and membrane" if self.exact else f"they first part in {self.first_layer}"
        return "\n".join([*lines, f"{self.mismatches} of {self.compared} spikes differ: {verdict}"])


def compare(twin: TwinResult, lava: LavaResult, readout: str = "readout") -> Agreement:
    """Compare two results on the same inputs. The twin must have been run with `record=True`.

    Steps beyond a recording's length are not compared. Layers and steps that Lava was not asked for are left out.

    Raises:
        ShapeError: nothing recorded in common, or the results are of different batches.
    """
    names = [name for name in twin.spikes if name in lava.spikes]
    if not names:
        raise ShapeError(explain("compare: no layer was recorded in both.", f"twin: {len(twin.spikes)} layers",
                                 f"Lava: {len(lava.spikes)} layers", cure="Run the twin with record=True."))
    layers = [compare_layer(name, twin, lava) for name in names]
    steps = len(next(iter(twin.spikes.values())))
    layers.append(compare_scores(readout, twin, lava, steps))
    return Agreement(tuple(layers))


def compare_scores(readout: str, twin: TwinResult, lava: LavaResult, T: int) -> LayerAgreement:
    """The sums at the end of whole recordings, or the answers of every step."""
    if twin.acc.shape != lava.acc.shape:
        raise ShapeError(explain(f"compare: {readout} has two shapes.", f"twin {list(twin.acc.shape)}   Lava {list(lava.acc.shape)}"))
    each = twin.acc.ndim == 3
    ours, theirs = (r.acc if each else r.acc[None] for r in (twin, lava))
    valid = np.arange(T)[:, None] < twin.steps if each else (twin.steps == T)[None]
    differ = ((ours != theirs) & valid[..., None]).swapaxes(0, 1)       # recording, step, class
    where = np.argwhere(differ)
    first = None if not len(where) else (int(where[0][0]), int(where[0][1]) if each else T - 1, (int(where[0][2]),))
    return LayerAgreement(readout, 0, 0, 0, int(valid.sum()) * ours.shape[2], int(differ.sum()), first)


def compare_layer(name: str, twin: TwinResult, lava: LavaResult) -> LayerAgreement:
    """One LIF layer, [T, B, ...]."""
    a, b, va, vb = twin.spikes[name], lava.spikes[name], twin.membranes[name], lava.membranes[name]
    steps = np.arange(len(a)) if lava.at is None else np.array(lava.at)
    if lava.at is not None:
        a, va = a[steps], va[steps]
    if a.shape != b.shape:
        raise ShapeError(explain(f"compare: {name} has two shapes.", f"twin {list(a.shape)}   Lava {list(b.shape)}"))
    valid = (steps[:, None] < twin.steps).reshape(*a.shape[:2], *[1] * (a.ndim - 2))
    spikes, membranes = (a != b) & valid, (va != vb) & valid
    size = int(valid.sum()) * int(np.prod(a.shape[2:]))
    where = np.argwhere((spikes | membranes).swapaxes(0, 1))        # recording, step, index, in that order
    first = None if not len(where) else (int(where[0][0]), int(steps[where[0][1]]), tuple(int(i) for i in where[0][2:]))
    return LayerAgreement(name, size, int(a.sum()), int(spikes.sum()), size, int(membranes.sum()), first)

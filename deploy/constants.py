"""What a float neuron is in the chip's integers: decays as 4096ths, reset rule, adaptation; and what no integer neuron is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from neuro.deploy.cells import LEVELS
from neuro.deploy.grid import Demand
from neuro.graph import Neuron, Shape
from neuro.neurons import alif_step, cuba_step, lif_step
from neuro.reset import name_of
from neuro.surrogate import Levels


@dataclass(frozen=True, eq=False)
class Constants:
    """Of one neuron layer; each array float64 or int64, [] or one per channel [C].

    decay, current (decay of the current), gain, threshold: as the float neuron has them.  dv, du: 4096ths that are lost per step, du as Lava counts, 4095 for no
    memory.  reset: "zero", "subtract", "none" or "late".  adapt: (4096ths lost, step in units of v), None without.  levels: the most that it sends.
    offset: added to v in every step, in units of v: what makes the steps between levels as wide as the threshold is high.
    """

    decay: np.ndarray
    current: np.ndarray
    gain: np.ndarray
    threshold: np.ndarray
    dv: np.ndarray
    du: np.ndarray
    reset: str
    adapt: tuple[int, float] | None
    levels: int = 1
    offset: np.ndarray = field(default_factory=lambda: np.array(0.0))

    def plain(self, bias: bool) -> bool:
        """Whether Lava's LIF is this neuron, given whether the layer before has a bias."""
        memory = bool((self.du != 4095).any())
        even = not any(x.ndim for x in (self.gain, self.threshold, self.dv, self.du))
        return even and self.levels == 1 and self.reset == "zero" and self.adapt is None and not (memory and bias)

    def demand(self, cell: bool) -> Demand:
        return Demand(self.threshold, self.gain, self.du, through=cell)


def constants(node: Neuron, shape: Shape) -> Constants:
    """Of a neuron whose step has this shape. Raises GraphError for what no integer neuron is."""
    if node.step not in (lif_step, cuba_step, alif_step):
        raise node.refuse(f"the chip has no {node.model}.", cure="Use LIF, IF, PLIF, CUBALIF or ALIF.")
    p = node.params
    decay, gain, threshold = (per_channel(node, name, shape) for name in ("decay", "gain", "threshold"))
    if (gain <= 0).any():
        raise node.refuse(f"its gain {gain.min():.4g} is not positive.")
    du, current = np.array(4095), np.array(0.0)
    if node.step is cuba_step:
        current = per_channel(node, "current_decay", shape)
        du = np.round(4096 * (1 - current)).astype(np.int64) - 1
        if (du < 0).any():
            raise node.refuse("its current never decays, so its input has no bound.", f"current_decay {current.max():.6g}", cure="Take a current_decay below 1.")
    adapt = None
    if node.step is alif_step:
        if float(p.adapt_step) < 0:
            raise node.refuse("its threshold falls with spikes.", f"adapt_step {float(p.adapt_step):.4g}", cure="Take an adapt_step of 0 or more.")
        adapt = round(4096 * (1 - float(p.adapt_decay))), float(p.adapt_step)
    reset, levels, offset = reset_rule(node, decay), levels_of(node), np.array(0.0)
    if levels > 1:
        offset = level_offset(node, threshold, decay, current, adapt is not None)
        threshold = threshold + offset
    return Constants(decay, current, gain, threshold, np.round(4096 * (1 - decay)).astype(np.int64), du, reset, adapt, levels, offset)


def levels_of(node: Neuron) -> int:
    """The most that a spike object gives: 1, or the levels of `neuro.surrogate.Levels`."""
    spike = node.choices["spike"]
    levels = spike.levels if isinstance(spike, Levels) else 1
    if levels > LEVELS:
        raise node.refuse(f"its spikes reach {levels}; the integer network holds up to {LEVELS} levels.", cure=f"Train with Levels({LEVELS}) or fewer.")
    return levels


def level_offset(node: Neuron, threshold: np.ndarray, decay: np.ndarray, current: np.ndarray, adapts: bool) -> np.ndarray:
    """unit - threshold of a neuron of many levels, which the integers count in thresholds: `v + offset > k (threshold + offset)`.

    Without memory the offset is a bias, and exact. With memory the two must be equal.
    """
    unit = node.choices["spike"].unit
    facts = f"unit {unit:.6g}, threshold {_shown(threshold)}"
    if adapts:
        raise node.refuse("its levels are steps of one width, and its threshold adapts.", facts, cure="Train it with one level, or take a LIF.")
    offset = np.where(np.abs(unit - threshold) <= 1e-6 * unit, 0.0, unit - threshold)  # a float32 threshold is no other one
    if offset.any() and ((decay != 0).any() or (current != 0).any()):
        raise node.refuse("its levels are multiples of the threshold on the chip.", facts, cure="Train with Levels(unit=threshold); without memory (decay=0) any unit will do.")
    return offset


def per_channel(node: Neuron, field: str, shape: Shape) -> np.ndarray:
    """A parameter as one number [], or one per channel [C] where it differs between channels; float64."""
    value = torch.as_tensor(getattr(node.params, field)).detach().cpu().double()
    if value.numel() == 1 or value.min() == value.max():
        return np.array(float(value.flatten()[0]))
    axis = 0 if len(shape) == 3 else len(shape) - 1
    rows = value.expand(shape).movedim(axis, 0).reshape(shape[axis], -1).numpy()
    if (rows != rows[:, :1]).any():
        low, high = value.min(), value.max()
        raise node.refuse(f"its {field} differs between neurons of one channel.", f"{low:.4g} .. {high:.4g}", cure="Use one per channel, or one per layer: PLIF(shape=()).")
    return np.ascontiguousarray(rows[:, 0])


def reset_rule(node: Neuron, decay: np.ndarray) -> str:
    """A name of `neuro.reset.RULES`. A spike object of any class is judged by what it does, as the rule is, not by what it says."""
    v, s = torch.tensor([-9.0, -0.5, 0.5, 9.0]), torch.tensor([0.0, 0.0, 1.0, 1.0])
    rule, spike = node.reset, node.choices["spike"]
    if isinstance(spike, Levels):
        s = torch.tensor([0.0, 0.0, 1.0, float(spike.levels)])
        v = torch.tensor([-9.0, -0.5, 0.5, 9.0]) * spike.unit + torch.tensor([0.0, 0.0, 0.0, spike.levels * spike.unit])
    if not torch.equal(spike(v), s):
        raise node.refuse("the chip's spikes are 0 or 1, from the threshold on.", f"spike {spike}", cure="Train with a surrogate of neuro.surrogate.")
    found = name_of(rule, decay, levels_of(node))
    if found is None:
        raise node.refuse("the chip resets to zero, or subtracts the threshold.", f"reset {rule}", cure="Train with reset=neuro.reset.to_zero or subtract.")
    return found


def notes(node: Neuron, found: Constants, cell: Any) -> list[str]:
    """What the integers change, for the report. cell: the Cell it became, None for Lava's LIF."""
    said = []
    if (found.dv != 4096 * (1 - found.decay)).any():
        said.append(f"{node.name}: decay {_shown(found.decay)} becomes {_shown(1 - found.dv / 4096)}, the nearest 1/4096.")
    if (found.du + 1 != 4096 * (1 - found.current)).any():
        said.append(f"{node.name}: current_decay {_shown(found.current)} becomes {_shown(1 - (found.du + 1) / 4096)}, the nearest 1/4096.")
    if found.adapt and found.adapt[0] != 4096 * (1 - float(node.params.adapt_decay)):
        said.append(f"{node.name}: adapt_decay {float(node.params.adapt_decay):.6g} becomes {1 - found.adapt[0] / 4096:.6g}, the nearest 1/4096.")
    if node.comparison == ">=":
        said.append(f"{node.name}: fires at v >= threshold, the chip at v > threshold; see the column 'at threshold'.")
    if cell is not None:
        said.append(f"{node.name}: a {type(cell).__name__}, which is not among Lava's own processes.")
    return said


def _shown(value: np.ndarray) -> str:
    return f"{value.min():.6g}" if value.size == 1 or value.min() == value.max() else f"{value.min():.6g} .. {value.max():.6g}"

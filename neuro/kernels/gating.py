"""Where a neuron passes gradients on: at the places where its surrogate's derivative is not 0.

Elsewhere whatever arrives at its spikes is multiplied by 0, so a product behind it need not form it there (`spike_linear`). Forward pays
nothing for that: in backward the neuron's own steps run forward once more, with [derivative is not 0] in place of the spikes, just
as its gradient runs them forward again. Whose spikes anybody else can see, a hook or a second layer, must have the whole gradient; so a gate
is made only where spikes go from a neuron to a product inside our own code (`neuro.layers.fire`).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from neuro.kernels import cpu, programs
from neuro.kernels.bits import Packed, pack
from neuro.kernels.costs import EVERY
from neuro.kernels.expression import Symbol
from neuro.kernels.program import Program, needed
from neuro.kernels.programs import Found

_CUTS = ("gt", "ge", "lt", "le", "eq", "ne", "at_least", "at_most", "maximum", "minimum")  # a derivative without any of these is 0 nowhere


@dataclass(frozen=True, eq=False)
class Gate:
    """What a neuron was given, to find where it passes gradients on.

    `program` gives 1 there and 0 elsewhere; x [T, B, ...], state [B, ...], params, numbers and lengths are those of `cpu.forward`.
    """

    program: str
    x: Tensor | None
    state: tuple[Tensor | None, ...]
    params: tuple[Tensor | None, ...]
    numbers: tuple[float, ...]
    lengths: Tensor | None

    def tensors(self) -> tuple[Tensor | None, ...]:
        """For `save_for_backward`."""
        return (self.x, self.lengths, *self.state, *self.params)

    def emptied(self) -> Gate:
        """All but the tensors, which autograd keeps."""
        return replace(self, x=None, lengths=None, state=(None,) * len(self.state), params=())

    def holding(self, tensors: Sequence[Tensor | None]) -> Gate:
        """This gate with tensors as `tensors` gave them."""
        x, lengths, *rest = tensors
        states = len(self.state)
        return replace(self, x=x, lengths=lengths, state=tuple(rest[:states]), params=tuple(rest[states:]))

    def open(self) -> Tensor:
        """1 where gradients pass, else 0, [T, B, ...]."""
        return cpu.forward(self.program, (self.x,), self.state, self.params, self.numbers, self.lengths, False, after=False)[0]

    def sample(self) -> Tensor:
        """The same of every sixteenth sample."""
        x, each = self.x[:, ::EVERY], self.x.dim() - 1
        params = [p[::EVERY] if p.dim() == each and p.shape[0] == self.x.shape[1] else p for p in self.params]
        lengths = None if self.lengths is None else self.lengths[::EVERY]
        return cpu.forward(self.program, (x,), [s[::EVERY] for s in self.state], params, self.numbers, lengths, False, after=False)[0]

    def places(self, most: float) -> Packed | None:
        """The open places as bits, or None where they are a larger share than `most`; told from a sample where that is plain."""
        if most < 1 and self.sample().mean().item() > most:
            return None
        found = pack(self.open())
        return found if found.events <= most * self.x.numel() else None


def is_gated(found: Found) -> bool:
    """Whether a neuron whose steps are this program passes gradients on only here and there. Every call of a neuron asks this, so it is quick."""
    return found.program is not None and opening(found.program) is not None


def gate(found: Found, x: Tensor, state: Any, params: Any, lengths: Tensor | None = None) -> Gate | None:
    """The gate of a neuron whose steps are the program `found`, or None where it is open everywhere or not for these tensors.

    Of state and parameters as of `neuro.scan`; only for one float32 input on the CPU.
    """
    if found.program is None or not found.single or not isinstance(x, Tensor) or x.dtype != torch.float32:
        return None
    program = opening(found.program)
    states, given = programs.tensors(state), programs.tensors(params)
    if program is None or not cpu.supports((x,), states, given, lengths):
        return None
    return Gate(program, x, tuple(states), tuple(given), () if found.baked else tuple(programs.numbers(params)), lengths)


@functools.lru_cache(maxsize=512)
def opening(text: str) -> str | None:
    """The program that gives 1 where the gradient of the output of `text` goes on, and 0 where every surrogate's derivative is 0.

    None where that is not known to happen: the output is no spike (nor a sum of spikes: levels), or a derivative has no comparison or bound in it.
    """
    program = Program.from_json(text)
    spikes = _spikes(program, program.outputs[0])
    if len(program.outputs) != 1 or not spikes or not all(_is_cut_off(program, i) for i in spikes):
        return None
    graph, found = program.graph(), None
    for slope in {program.nodes[i].args[1] for i in spikes}:
        passes = Symbol(graph, slope) != 0.0
        found = passes if found is None else found | passes
    output = found.as_real().index  # type: ignore[union-attr]
    return replace(program, nodes=tuple(graph.nodes), outputs=(output,)).to_json()


def _spikes(program: Program, index: int) -> list[int]:
    """The spikes that this node is, or is a sum of; none where it is anything else."""
    node = program.nodes[index]
    if node.op.startswith("fire"):
        return [index]
    parts = [_spikes(program, a) for a in node.args] if node.op == "add" else []
    return sum(parts, []) if all(parts) else []


def _is_cut_off(program: Program, spike: int) -> bool:
    """Whether a comparison or a bound stands between a spike's membrane and its derivative."""
    u, slope = program.nodes[spike].args
    return any(program.nodes[i].op in _CUTS for i in needed(program.nodes, [slope], given=[u]))

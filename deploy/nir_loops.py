"""Loops in a NIR net: which parts form one, which of them is the neuron, and the native recurrent layer that they make.

A loop holds one neuron, whose spikes come back one step later through one Linear or Affine: `neuro.neurons.Recurrent`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from neuro.deploy.nir_file import Net, Part
from neuro.deploy.nir_shapes import Room, Shape, shape_of
from neuro.errors import FormatError, explain
from neuro.neurons import Recurrent

NEURONS = ("I", "IF", "LI", "LIF", "CubaLI", "CubaLIF", "Threshold")
MOST_LOOPED = 1 << 13  # neurons of a loop, whose matrix has the square of that


def order(net: Net) -> list[list[str]]:
    """Parts in groups, sources first; a group of several is a loop. Tarjan 1972, without recursion."""
    readers: dict[str, list[str]] = {n: [] for n in net.parts}
    for a, b in net.edges:
        readers[a].append(b)
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on: set[str] = set()
    groups: list[list[str]] = []
    for root in net.parts:
        work = [] if root in index else [(root, iter(readers[root]))]
        if work:
            index[root] = low[root] = len(index)
            stack.append(root)
            on.add(root)
        while work:
            here, rest = work[-1]
            for to in rest:
                if to not in index:
                    index[to] = low[to] = len(index)
                    stack.append(to)
                    on.add(to)
                    work.append((to, iter(readers[to])))
                    break
                if to in on:
                    low[here] = min(low[here], index[to])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[here])
                if low[here] == index[here]:
                    cut = stack.index(here)
                    groups.append(stack[cut:])
                    on.difference_update(stack[cut:])
                    del stack[cut:]
    return groups[::-1]


def head(net: Net, group: list[str]) -> str:
    """The neuron of a loop, or the only part of a group.

    Raises:
        FormatError: a loop without a neuron, or with two.
    """
    if len(group) == 1 and group[0] not in net.readers(group[0]):
        return group[0]
    found = [n for n in group if net.parts[n].kind in NEURONS and net.parts[n].kind != "Threshold"]
    if len(found) != 1:
        what = "has no neuron" if not found else f"runs through {len(found)} neurons"
        why = "Without a neuron nothing delays it." if not found else "NIR does not say which edge of it holds the step of delay."
        raise FormatError(explain(f"NIR: a loop {what}.", f"{' -> '.join(group[:8])}", why, cure="A loop of one neuron and one Linear or Affine is read."))
    return found[0]


def looped(net: Net, group: list[str], part: Part, module: Any, shape: Shape, room: Room) -> nn.Module:
    """The neuron of a loop with its way back; `room` is what its matrix may still take.

    Raises:
        FormatError: a loop that is not over a vector, or whose way back is not one matrix.
    """
    back = [n for n in group if n != part.name]
    if part.kind in ("I", "LI", "CubaLI"):
        raise part.refuse("it stands in a loop without spikes.", f"{' -> '.join(group[:8])}", cure="A loop holds a neuron that fires.")
    if len(shape) != 1:
        raise part.refuse("its loop is not over a vector.", f"shape {list(shape)}", cure="Flatten before it.")
    if shape[0] > MOST_LOOPED:
        raise part.refuse("its loop is too large.", f"{shape[0]} neurons   limit {MOST_LOOPED}")
    if not back or net.parts[back[0]].kind == "Scale":  # a matrix that the file does not hold
        room.take(part, shape[0] ** 2, "the matrix of its loop")
    made = Recurrent(module, 1)  # its matrix is put in its place below
    if not back:  # its spikes enter it as they are
        made.weight = nn.Parameter(torch.eye(shape[0]))
        return made
    way = net.parts[back[0]]
    if len(back) > 1 or way.kind not in ("Linear", "Affine", "Scale") or net.sources(way.name) != [part.name]:
        raise part.refuse("its loop is not one Linear or Affine.", f"{' -> '.join(group[:8])}", cure="Give the way back as one matrix.")
    if shape_of(way, [shape]) != shape:
        raise way.refuse("the way back does not fit its neuron.", f"neuron {list(shape)}")
    if any(b != part.name for b in net.readers(way.name)):
        raise way.refuse("the way back has a second reader.", cure="Give that reader a matrix of its own.")
    if part.name in net.readers(part.name):
        raise part.refuse("it enters itself twice.", cure="Add the identity to the matrix of its way back.")
    w = np.asarray(way.values["weight"]) if way.kind != "Scale" else np.diag(np.broadcast_to(np.asarray(way.values["scale"], np.float32), shape))
    made.weight = nn.Parameter(torch.tensor(w, dtype=torch.float32))
    if way.kind == "Affine":
        made.bias = nn.Parameter(torch.tensor(np.asarray(way.values["bias"]), dtype=torch.float32))
    return made

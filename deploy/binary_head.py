"""A last layer of binary weights under an integer network, as one network file: what `neuro.deploy.learning` has learned, where it runs.

The binary layer reads 0 and 1: whether an input of the trained head had given at least `least` by the end of a recording. In the network
two nodes say so, of which the second fires once, at the step in which the sum is reached:

    HEAD.twice   2 x_t                                   thresholds are 1 or more, and something must lie between 0 and them
    HEAD.latch   v <- v + 2 x_t,  fires where v > 2 least - 1;  its threshold then jumps beyond all that a membrane holds
    HEAD         the binary weights, one row per neuron: first those of class 0, then those of class 1, ...

so that the readout's acc are the overlaps, and the class is that of the neuron with the largest one: `acc.argmax() // neurons`. A network of
one step that sends spikes into its head needs no latch, `least` being 1; such a head is what AKD1000 may learn on the chip.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from neuro.deploy.added_classes import head_of
from neuro.deploy.competition import Competition
from neuro.deploy.learning import FewShot
from neuro.deploy.network import Add, Cell, Dense, IntegerNetwork, Readout
from neuro.errors import FormatError, GraphError, ParameterError, explain

TWICE, LATCH = "twice", "latch"
MOST = 65_535  # of `least`: twice it is the largest threshold that the chip holds
NEVER = 2**23 - 1  # a membrane is no larger
DENSE = 0.25  # of the inputs that may be active in the median recording; "well below half" is the vendor's word


def attached(network: IntegerNetwork, layer: FewShot, least: int = 1, *, latch: bool = True) -> IntegerNetwork:
    """The network with this layer in place of its head. A latch of an earlier `attached` is replaced too.

    Args:
        network: one whose last layer is dense, on a vector of values that are not negative.
        layer: as many inputs as that head.
        least: what an input must give over a recording, 1 .. 65535.
        latch: False: none, for recordings of one step into a head that reads spikes; `least` is 1 then.

    Raises:
        GraphError: another head, or one that reads what this layer cannot. ParameterError: least out of its range.
    """
    head = head_of(network)
    source = source_of(network)
    _checked(network, source, layer, least, latch)
    nodes = [n for n in network.nodes if n.name not in (head.name, network.readout.name, *_names(head))]
    twice, once = _names(head)
    if latch:
        nodes += [Add(twice, (source, source)), Cell(once, twice, dv=0, vth=2 * least - 1, dh=0, jump=NEVER)]
    rows = layer.weights.reshape(-1, layer.weights.shape[2]).astype(np.int32)
    ends = [Dense(head.name, once if latch else source, rows), Readout(network.readout.name, head.name, np.zeros(len(rows), np.int64))]
    return IntegerNetwork([*nodes, *ends], network.name)


def least_for(counts: Any) -> int:
    """The smallest sum over a recording that at most a quarter of the inputs reach, in the median of these recordings, ints [B, inputs].

    1 where inputs are that sparse already. Where not even the largest sum is so rare, the largest that any recording has. Of N-MNIST through one
    small network a third of the inputs gave 1 or more and a fifth 2 or more; with 20 shots of two new classes, 10 neurons of each, the old
    and the new were right in 0.86 and 0.77 of other recordings from 2 on, and in 0.83 and 0.59 from 1 on (means of six draws).

    >>> least_for(np.array([[3, 1, 1, 0], [1, 5, 1, 1]])), least_for(np.array([[1, 0, 0, 0]]))
    (2, 1)
    """
    counts = np.asarray(counts)
    low, high = 1, max(1, int(min(counts.max(initial=1), MOST)))
    while low < high:  # fewer inputs reach a larger sum
        middle = (low + high) // 2
        if np.median((counts >= middle).mean(1)) <= DENSE:
            high = middle
        else:
            low = middle + 1
    return low


def described(layer: FewShot, least: int, latch: bool) -> dict[str, Any]:
    """What a file must hold beside the weights so that the layer may learn further: plain values for JSON."""
    return {"classes": layer.classes, "neurons": layer.weights.shape[1], "weights": layer.ones, "least": least, "latch": latch, "seed": layer.seed, "seen": layer.seen,
            "competition": vars(layer.how), "times": layer.times.tolist()}  # fmt: skip


def restored(network: IntegerNetwork, about: Mapping[str, Any]) -> FewShot:
    """The layer as it was when `described`, its weights from the network.

    Raises:
        FormatError: the description is not one, or not of this network.
    """
    weights = head_of(network).weight
    try:
        numbers = {name: _whole(about, name) for name in ("classes", "neurons", "weights", "seed", "seen")}
        times = np.asarray(about["times"])
        how = Competition(**about["competition"])
        said = about["least"], about["latch"]
    except (KeyError, TypeError, ValueError, ParameterError) as error:
        raise FormatError(explain("the binary layer is not described as it must be.", f"{type(error).__name__}: {error}", cure="Learn it anew from the run's network.")) from error
    shape = numbers["classes"], numbers["neurons"]
    whole = times.shape == shape and times.dtype.kind in "iu" and times.min(initial=0) >= 0
    if said != (found := reading(network)):
        raise FormatError(explain("the binary layer is not the one that is described.", f"described: least {said[0]!r}, latch {said[1]!r}   in the network: {found[0]}, {found[1]}"))
    if not whole or weights.shape[0] != shape[0] * shape[1] or not np.isin(weights, (0, 1)).all() or (weights.sum(1) != numbers["weights"]).any():
        facts = f"described: {shape[0]} classes of {shape[1]} neurons of {numbers['weights']} ones", f"in the network: weights {list(weights.shape)}, {weights.min()}..{weights.max()}"
        raise FormatError(explain("the binary layer is not the one that is described.", *facts, cure="Give the file and the .json that were written together."))
    frozen, times = weights.astype(np.uint8).reshape(*shape, -1), times.astype(np.int64)
    for array in (frozen, times):
        array.setflags(write=False)
    return FewShot(frozen, times, numbers["seed"], how, numbers["seen"])


def reading(network: IntegerNetwork) -> tuple[int, bool]:
    """`least` and `latch` of what the head of this network reads; (1, False) where it has no latch."""
    latch = network[head_of(network).input]
    made = isinstance(latch, Cell) and latch.name == _names(head_of(network))[1]
    return ((int(latch.vth) + 1) // 2, True) if made else (1, False)


def _whole(about: Mapping[str, Any], name: str) -> int:
    value = about[name]
    if isinstance(value, bool) or not isinstance(value, int) or value < (0 if name in ("seed", "seen") else 1):
        raise ValueError(f"{name} is {value!r}")
    return value


def _names(head: Dense) -> tuple[str, str]:
    return f"{head.name}.{TWICE}", f"{head.name}.{LATCH}"


def source_of(network: IntegerNetwork) -> str:
    """The node that the head reads, or that its latch does."""
    head = head_of(network)
    twice, once = _names(head)
    return network[twice].inputs[0] if head.input == once and twice in network.shapes else head.input


def _checked(network: IntegerNetwork, source: str, layer: FewShot, least: int, latch: bool) -> None:
    if isinstance(least, bool) or not isinstance(least, (int, np.integer)) or not 1 <= least <= MOST or (least > 1 and not latch):
        raise ParameterError(explain("attached: least is out of its range.", f"least {least!r}   latch {latch}", cure=f"Give 1 .. {MOST}, or 1 without a latch."))
    shape, (low, high) = network.shapes[source], network.ranges[source]
    if shape != layer.weights.shape[2:]:
        raise GraphError(explain(f"{network.name!r}: a binary layer does not fit its head.", f"the head reads {list(shape)}   the layer {list(layer.weights.shape[2:])}"))
    if low < 0 or (high > 1 and not latch):
        cure = "Only sums of values that are not negative are spikes or no spikes." if low < 0 else "Give it a latch."
        raise GraphError(explain(f"{network.name!r}: a binary layer cannot read what its head does.", f"{source!r} gives {low}..{high}", cure=cure))

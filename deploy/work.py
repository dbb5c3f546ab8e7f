"""What a network did, per layer and mean per recording: the counts that `neuro.deploy.energy` prices, wherever they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from neuro import graph as g
from neuro.deploy import network as ints
from neuro.deploy.network import IntegerNetwork
from neuro.deploy.twin import TwinResult
from neuro.errors import GraphError, explain
from neuro.graph import Graph, fold_norms
from neuro.measuring import Activity


@dataclass(frozen=True)
class SecondState:
    """What the second state word of a CUBALIF (its current) or ALIF (its adaptation) adds, besides being read and written.

    leaky: a leak MAC per update. adds: additions per update; spike_adds: per spike.
    """

    leaky: bool
    adds: int = 0
    spike_adds: int = 0


@dataclass(frozen=True)
class Work:
    """A synapse layer and the neurons that it drives (or, in an ANN, its activations), mean per recording.

    adds: operations on inputs of +-1; multiplies: operations on other values. events: nonzero inputs. weights: held, 0 for an
    attention product. neurons: of the layer that follows; updates: neurons x steps; spikes: of them (in an ANN: nonzero
    activations). leaky: whether an update multiplies. from_input: whether the inputs are the recording itself.
    inputs: elements per step. outputs: elements in all steps. fires: whether neurons follow; a head has none.
    second: of neurons with two state words. A recurrent layer's loop is a row of its own, onto the neurons of the row before it.
    """

    name: str
    adds: float
    multiplies: float
    events: float
    weights: int
    neurons: float
    updates: float
    spikes: float
    leaky: bool
    from_input: bool
    inputs: float
    outputs: float
    fires: bool = True
    second: SecondState | None = None

    @property
    def operations(self) -> float:
        return self.adds + self.multiplies

    @property
    def words(self) -> int:
        """State words of a neuron."""
        return 1 if self.second is None else 2


_WEIGHTED = (g.Conv1d, g.Conv2d, g.Linear)
SYNAPSES = (*_WEIGHTED, g.AttentionProduct)
_NEURONS = (g.Neuron, g.Recurrent)


def from_activity(activity: Activity, graph: Graph) -> list[Work]:
    """Work of a spiking network as `neuro.activity` counted it; `graph` says which neurons follow which layer.

    Attention is counted in the order in which the model multiplies (`AttentionProduct.order`); the chip takes q k^T first.
    """
    graph = fold_norms(graph)
    found, counted = [], {layer.path for layer in activity}
    for node in graph:
        if isinstance(node, (*SYNAPSES, *_NEURONS)) and node.name not in counted:
            raise node.refuse("its operations were not counted by this name.", "A layer that is used twice is counted as one.", cure="Give each use its own layer.")
        if isinstance(node, SYNAPSES):
            layer, neuron = activity[node.name], _neuron(graph, node)
            if layer.weights != weights_held(node):
                facts = f"{layer.weights} counted, {weights_held(node)} in the graph"
                raise node.refuse("its weights are not those whose operations were counted.", facts, cure="Count and trace the same model.")
            ops = float(layer.ac.mean()), float((layer.graded + layer.mac).mean()), _events(activity, node), weights_held(node)
            ends = float(np.prod(graph.shapes[node.name])), float(layer.outputs.mean())
            driven = _driven(activity, graph, neuron) if neuron else (*ends, 0.0, False)
            second = _second(neuron) if neuron else None
            found.append(Work(node.name, *ops, *driven, reads_input(graph, node), inputs_per_step(graph, node), driven[1], neuron is not None, second))
        elif driven_by_none(graph, node):
            driven = _driven(activity, graph, node)
            found.append(Work(node.name, 0.0, 0.0, 0.0, 0, *driven, reads_input(graph, node), inputs_per_step(graph, node), driven[1], True, _second(node)))
        if isinstance(node, g.Recurrent):
            found.append(_loop(activity, graph, node))
    return found


def _loop(activity: Activity, graph: Graph, node: g.Recurrent) -> Work:
    """The product of the last step's spikes with the matrix of a recurrent layer; its neurons' updates are priced where they are driven."""
    layer, n = activity[node.name], float(np.prod(graph.shapes[node.name]))
    ops = float(layer.ac.mean()), float((layer.graded + layer.mac).mean()), float(layer.events.mean()), node.weight.numel()
    return Work(f"{node.name} (loop)", *ops, n, 0.0, 0.0, False, False, n, 0.0, False, _second(node))


def _driven(activity: Activity, graph: Graph, neuron: g.Node) -> tuple[float, float, float, bool]:
    """Neurons, updates, spikes, and whether they leak."""
    layer = activity[neuron.name]
    return float(np.prod(graph.shapes[neuron.name])), float(layer.updates.mean()), float(layer.spikes.mean()), _leaks(neuron)


def _neuron(graph: Graph, node: g.Node) -> g.Node | None:
    """The neuron that a layer drives directly."""
    return next((n for n in graph.readers(node.name) if isinstance(n, _NEURONS)), None)


def driven_by_none(graph: Graph, node: g.Node) -> bool:
    """A neuron that no layer drives directly: it reads events, or a sum. Its updates are a row of their own."""
    return isinstance(node, _NEURONS) and not (isinstance(graph[node.inputs[0]], SYNAPSES) and _neuron(graph, graph[node.inputs[0]]) is node)


def from_twin(result: TwinResult, network: IntegerNetwork) -> list[Work]:
    """Work of an integer network as its twin counted it.

    The operations are exact. Which of them multiply is exact for Dense and Attention; a Conv of graded inputs is split in
    proportion to its graded events.
    """
    found, driven_by = [], {}
    for n in network.nodes:  # the neuron of each synapse; any other is a row of its own
        if isinstance(n, _CELLS) and network[n.input].synapse:
            driven_by.setdefault(n.input, n)
    for node in network.nodes:
        lif = driven_by.get(node.name) if node.synapse else node
        if isinstance(node, ints.RecurrentCell):
            found.append(_twin_loop(result, network, node))
        if not node.synapse and (not isinstance(node, _CELLS) or driven_by.get(node.input) is node):
            continue
        neurons = float(np.prod(network.shapes[node.name]))
        updates, spikes = (float(getattr(result.counts[lif.name], n).mean()) for n in ("updates", "spikes")) if lif else (neurons * float(result.steps.mean()), 0.0)
        operations = multiplies = events = 0.0
        if node.synapse:
            count = result.counts[node.name]
            operations, events, graded = (float(c.mean()) for c in (count.operations, count.events, count.graded))
            multiplies = operations * graded / events if events else 0.0
        found.append(
            Work(
                node.name, operations - multiplies, multiplies, events, node.weight.size if isinstance(node, (ints.Conv, ints.Dense)) else 0, neurons,
                updates, spikes, lif is not None and bool(np.any(lif.dv)), node.inputs[0] == network.input.name,
                float(sum(np.prod(network.shapes[s]) for s in node.inputs)), updates, lif is not None,
                None if lif is None else _second_of_cell(lif),
            )
        )  # fmt: skip
    return found


_CELLS = (ints.LIF, ints.Cell)


def _twin_loop(result: TwinResult, network: IntegerNetwork, node: ints.RecurrentCell) -> Work:
    """As `_loop`."""
    count, n = result.counts[node.name], float(np.prod(network.shapes[node.name]))
    operations, events, graded = (float(c.mean()) for c in (count.operations, count.events, count.graded))
    multiplies = operations * graded / events if events else 0.0
    return Work(f"{node.name} (loop)", operations - multiplies, multiplies, events, node.weight.size, n, 0.0, 0.0, False, False, n, 0.0, False, _second_of_cell(node))


def _second_of_cell(node: ints.LIF | ints.Cell) -> SecondState | None:
    """As `_second`: of a neuron whose current, or whose threshold, has a memory."""
    current, adapts = bool(np.any(np.asarray(node.du) < 4095)), isinstance(node, ints.Cell) and bool(np.any(node.jump))
    if current and adapts:
        raise GraphError(explain(f"Neuron {node.name!r}: it keeps a current and an adaptation.", "Two state words of a neuron are priced, not three.", cure="Give it one of them."))
    if adapts:
        return SecondState(bool(np.any(node.dh < 4096)), adds=1, spike_adds=1)  # type: ignore[union-attr]
    return SecondState(True, adds=0 if np.any(node.dv) else 1) if current else None


def _events(activity: Activity, node: g.Node) -> float:
    """Nonzero inputs; of an attention product q, k and v, without the scores between its two products."""
    if isinstance(node, g.AttentionProduct) and all(s in {layer.path for layer in activity} for s in node.inputs):
        return float(sum(activity[s].spikes.mean() for s in node.inputs))
    return float(activity[node.name].events.mean())


def weights_held(node: g.Node) -> int:
    """0 for an attention product."""
    return node.weight.numel() if isinstance(node, _WEIGHTED) else 0


def _leaks(node: g.Node) -> bool:
    decay = getattr(_params(node), "decay", None)
    if decay is None:
        raise GraphError(explain(f"Neuron {node.name!r}: a {_model(node)} has no decay to price.", cure="LIF, IF, PLIF, CUBALIF and ALIF are understood."))
    return _some(decay, 1)


def _second(node: g.Node) -> SecondState | None:
    """The second state word of a CUBALIF that keeps current, or of an ALIF that adapts.

    A CUBALIF adds its current to the membrane, within the membrane's leak MAC if it leaks. An ALIF adds its adaptation to
    the threshold at each update, and to the adaptation at each spike.
    """
    p, model = _params(node), _model(node)
    if model == "CUBALIF":
        return SecondState(_some(p.current_decay, 1), adds=0 if _leaks(node) else 1) if _some(p.current_decay, 0) else None
    if model == "ALIF":
        return SecondState(_some(p.adapt_decay, 1), adds=1, spike_adds=1) if _some(p.adapt_step, 0) else None
    if len(node.state._fields if isinstance(node, g.Neuron) else node.neuron.state._fields) > 1:  # type: ignore[attr-defined]
        raise GraphError(explain(f"Neuron {node.name!r}: a {model} keeps a state that is not priced.", cure="LIF, IF, PLIF, CUBALIF and ALIF are understood."))
    return None


def _params(node: g.Node) -> Any:
    return node.neuron.params if isinstance(node, g.Recurrent) else node.params  # type: ignore[attr-defined]


def _model(node: g.Node) -> str:
    return node.neuron.model if isinstance(node, g.Recurrent) else node.model  # type: ignore[attr-defined]


def _some(values: Any, other_than: float) -> bool:
    return bool((torch.as_tensor(values) != other_than).any())


def reads_input(graph: Graph, node: g.Node) -> bool:
    """Whether what enters is the recording itself."""
    return node.inputs[0] == graph.input.name


def inputs_per_step(graph: Graph, node: g.Node) -> float:
    """Elements, of all inputs together."""
    return float(sum(np.prod(graph.shapes[s]) for s in node.inputs))


def firing_rate(work: Sequence[Work]) -> float:
    """Spikes per neuron and step over all layers with neurons."""
    updates = sum(w.updates for w in work if w.fires)
    return sum(w.spikes for w in work if w.fires) / updates if updates else 0.0

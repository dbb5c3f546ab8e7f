"""From the typed graph to an integer network by the chip's rules; what cannot be held is refused by name."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neuro.deploy.agreement import QuantizationReport, compare
from neuro.deploy.calibrate import calibrated
from neuro.deploy.emitting import Emitter
from neuro.deploy.grid import Grid
from neuro.deploy.network import IntegerNetwork
from neuro.errors import ParameterError, explain
from neuro.graph import Graph, fold_norms
from neuro.tracing import trace


def quantize(
    model: Graph | nn.Module,
    x: Tensor,
    *,
    lengths: Tensor | None = None,
    message_bits: int | None = 8,
    weight_bits: int | None = None,
    clip: bool = False,
    per_channel: bool = False,
    calibrate: bool = False,
    name: str = "network",
) -> tuple[IntegerNetwork, QuantizationReport]:
    """The integer network of a spiking network, and what changed; of a `neuro.deploy.qat.QuantizationAware`, the one it trained as.

    Weights are rounded to 8 bits per layer with norms folded in, by `neuro.deploy.grid`. Neurons follow the chip: strict
    threshold, truncated leak. A mean over tokens or windows becomes a sum, its 1/N part of the next weights.

    Args:
        model: a model or its graph: Conv2d, Linear, norms after them, LIF/IF/PLIF/CUBALIF/ALIF, Recurrent, SumPool2d,
            MaxPool2d, AvgPool2d and sums, of spikes or of the currents of layers, AttentionProduct, Tokens, Flatten, Delay,
            MeanOverTokens, and at the end MeanOverTime or SumOverTime, or anything that gives a vector at every step, which is then the answer.
            A neuron becomes Lava's LIF where it is one (hard reset, one decay per layer), and a `neuro.deploy.cells.Cell`
            otherwise, which is not among Lava's own processes; the report's notes say which.
            `Levels` of up to 15 are held where they are as wide as the threshold is high, or the neuron has no memory.
        x: recordings [T, B, ...], event counts, on which float and integer spikes are compared; lengths: steps of each [B].
        message_bits: of the input's counts, 1 .. 16; None: the fewest that hold x. Fewer bits leave more for the weights.
            A QuantizationAware keeps its own message_bits, clip and per_channel.
        weight_bits: 2 .. 8, None: 8; fewer are a coarser grid within the chip's 8 bits. clip: cut off outliers where that lowers the
            mean square error of the weights. per_channel: a scale for each output channel; neurons become Cells.
        calibrate: move biases so that rounding leaves the mean current of each channel on x alone, by `neuro.deploy.calibrate`.
        name: of the network.

    Raises:
        GraphError: a node that the chip cannot hold, by its name, with a way out; inputs that are not counts.
        ParameterError: recordings that are no tensor or of another type than the weights; weight_bits out of range, or others than a QuantizationAware was trained for.
    """
    from neuro.deploy.qat import QuantizationAware  # it quantises in every forward, so it stands above this file

    if not isinstance(x, Tensor):
        raise ParameterError(explain("quantize: the recordings must be one tensor [T, B, ...].", f"got {type(x).__name__}", cure="Give torch.as_tensor(x).float()."))
    lengths = None if lengths is None else torch.as_tensor(lengths)
    if isinstance(model, nn.Module) and x.is_floating_point() and (dtypes := {p.dtype for p in model.parameters()}) and x.dtype not in dtypes:
        raise ParameterError(explain("quantize: the recordings have another type than the model's weights.", f"x {x.dtype}   weights {', '.join(map(str, dtypes))}", cure="Give x.float(), or what the weights are."))
    if isinstance(model, QuantizationAware):
        if weight_bits not in (None, model.weight_bits):
            raise ParameterError(explain(f"quantize: weight_bits is {weight_bits}, but the model was trained for {model.weight_bits}.", cure="Leave it out."))
        if clip or per_channel or calibrate:
            raise ParameterError(explain("quantize: a QuantizationAware is rounded as it was trained.", cure="Leave out clip, per_channel and calibrate."))
        input_bits(model.graph(), x, model.message_bits)
        emitter = model.emitter()
        network = emitter.network(name)
        network.check()
        return network, compare(model, network, x, lengths, emitter.layers, emitter.notes)
    grid = Grid(8 if weight_bits is None else weight_bits, clip, per_channel)
    graph = model if isinstance(model, Graph) else trace(model, x[:, :1])
    _finite(graph)
    bits = input_bits(graph, x, message_bits)
    emitter = Emitter(fold_norms(graph), bits, grid)
    if calibrate:
        emitter = Emitter(calibrated(fold_norms(graph), emitter, x, lengths), bits, grid)
    network = emitter.network(name)
    network.check()
    return network, compare(graph, network, x, lengths, emitter.layers, emitter.notes)


def _finite(graph: Graph) -> None:
    """Refuse numbers that are none: an unstable training leaves them, and rounding would hide them."""
    for node in graph:
        for field, value in node.facts().items():
            if isinstance(value, Tensor) and not bool(value.isfinite().all() if field in ("weight", "bias") else not value.isnan().any()):
                raise node.refuse(f"its {field} holds NaN or infinity, which no integer is.", cure="Train anew, or restore an earlier checkpoint.")


def input_bits(graph: Graph, x: Tensor, message_bits: int | None) -> int:
    if x.numel() == 0:
        raise graph.input.refuse("there is nothing in the recordings.", f"x {list(x.shape)}", cure="Give at least one recording of one step.")
    low, high = float(x.min()), float(x.max())
    facts = f"values {low:g} .. {high:g}"
    if low < 0 or not torch.equal(x, x.round()):
        cure = "Give event counts, integers from 0, as neuro.datasets.transforms makes them; or leave the first layers to the host: neuro.deploy.front.split_front."
        raise graph.input.refuse("the chip takes event counts, and these are not.", facts, cure=cure)
    if message_bits is None:
        return max(1, int(high).bit_length())
    if not 1 <= message_bits <= 16:
        raise ParameterError(explain(f"message_bits is {message_bits}.", cure="Give a whole number, 1 to 16, or None for the fewest that hold the input."))
    if high >= 2**message_bits:
        raise graph.input.refuse(f"the counts pass {message_bits} bits.", facts, cure="Raise message_bits, or clip the counts.")
    return message_bits

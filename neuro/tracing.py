"""`trace`: from a model to its typed graph. What it does not understand is an error that names it, never a gap."""

from __future__ import annotations

import importlib
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from neuro import layers, neurons
from neuro import nodes as g
from neuro.builders import builder, cure
from neuro.errors import GraphError, ParameterError, explain
from neuro.graph import Graph
from neuro.misreaders import refuse_misreaders
from neuro.module_paths import module_paths, unwrapped

_ADDS = (operator.add, operator.iadd, torch.add)
_FOREIGN = {"snntorch": "from_snntorch", "spikingjelly": "from_spikingjelly", "norse": "from_norse"}  # package -> function of neuro.interop, which stands above this file
_IDENTITIES = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, layers.ExpectFrames)


def trace(model: nn.Module, example: Tensor) -> Graph:
    """The graph of a model in eval mode.

    Args:
        model: any module made of the layers below; wrappers of torch.compile and data-parallel training are looked through.
            Its mode and parameters are left as they are.
        example: an input [T, B, ...]; fixes the shapes, and the graph is compared with the model on it.

    Understood: Conv1d, Conv2d, Linear, batch norms, every `neuro.neurons` that draws no chance, MaxPool2d, AvgPool2d, sums of two,
    AttentionProduct, Tokens, Delay, Flatten or `x.flatten(2)`, MeanOverTokens, MeanOverTime, SumOverTime, each also inside `Fold`.
    Identity and Dropout are left out and listed in `graph.removed`. A network with neurons of snnTorch, SpikingJelly or Norse is made
    native by `neuro.interop` first.

    Raises:
        GraphError: anything else, with the path of the module, the operation and a way out.
        ShapeError: a plain torch layer that would misread the time axis.

    >>> import neuro
    >>> neuro.trace(nn.Sequential(layers.Linear(3, 2), nn.ReLU()), torch.zeros(4, 1, 3))
    Traceback (most recent call last):
    neuro.errors.GraphError: trace: '1' is a ReLU, which the graph does not hold.
      A target could not be given it.
      Put a neuron in its place (neuro.neurons), or rewrite it from layers that `neuro.trace` lists.
    """
    if not isinstance(example, Tensor) or example.dim() < 3 or 0 in example.shape:
        raise ParameterError(explain("trace: the example must be one tensor [T, B, ...].", f"got {getattr(example, 'shape', type(example).__name__)}"))
    if not isinstance(model, nn.Module):
        raise ParameterError(explain("trace: the model must be a torch.nn.Module.", f"got {type(model).__name__}"))
    if not example.is_floating_point():
        raise ParameterError(explain("trace: the example must hold floating-point numbers.", f"got {example.dtype}", cure="Give counts and spikes as x.float()."))
    bare = unwrapped(_native(unwrapped(model), example))
    refuse_misreaders(module_paths(bare), act="trace")
    root = _Root(bare) if _is_leaf(bare) else bare
    modes = {m: m.training for m in root.modules()}
    root.eval()
    try:
        traced = _traced(root)
        graph = _Builder(root, example).build(traced)
        with torch.no_grad():
            expected, got = root(example), graph.run(example)
    finally:
        for module, mode in modes.items():
            module.training = mode
    if expected.shape != got.shape or not torch.allclose(expected, got, rtol=1e-5, atol=1e-6, equal_nan=True):
        off = (expected - got).abs().max().item() if expected.shape == got.shape else float("nan")
        raise GraphError(
            explain(
                "trace: the graph and the model differ on the example.",
                f"model {list(expected.shape)}   graph {list(got.shape)}   largest difference {off:.3g}",
                cure="A layer does more than its class says (a hook, a patched forward). Remove that.",
            )
        )
    return graph


class _Root(nn.Module):
    """Gives a single layer a name."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class _Tracer(fx.Tracer):
    """Leaves are the layers that the graph knows, and foreign torch layers, so that those are named in the error."""

    def __init__(self) -> None:
        super().__init__()
        self.here: list[str] = [""]
        self.failed: str | None = None

    def is_leaf_module(self, m: nn.Module, path: str) -> bool:
        return _is_leaf(m)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        inner = unwrapped(m)
        if inner is not m:
            m, forward = inner, inner.forward
        self.here.append(_clean(self.path_of_module(m)))
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            if self.failed is None:
                self.failed = self.here[-1]
            raise
        finally:
            self.here.pop()

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        node.meta["owner"] = self.here[-1]
        return node


def _traced(root: nn.Module) -> fx.Graph:
    tracer = _Tracer()
    try:
        return tracer.trace(root)
    except GraphError:
        raise
    except Exception as error:
        where = tracer.failed or "the model's forward"
        raise GraphError(
            explain(
                f"trace: {where!r} cannot be followed.",
                f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
                cure="Its forward decides by values or shapes. Move that out of forward, or build it from neuro.layers.",
            )
        ) from error


def _clean(path: str) -> str:
    return ".".join(p for p in path.split(".") if p != "_orig_mod")


def _is_leaf(module: nn.Module) -> bool:
    if isinstance(module, (neurons.Neuron, neurons.Recurrent, layers.Fold)) or builder(module) or isinstance(module, _IDENTITIES):
        return True
    if isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict)):
        return False
    home = type(module).__module__
    return home.startswith("torch.nn.") or (home.startswith("neuro.layers.") and not any(True for _ in module.children()))


class _Builder:
    """Turns one fx graph into nodes."""

    def __init__(self, root: nn.Module, example: Tensor):
        self.root, self.example = root, example
        self.nodes: list[g.Node] = []
        self.removed: list[tuple[str, str]] = []
        self.names: dict[fx.Node, str] = {}
        self.taken: set[str] = set()

    def build(self, traced: fx.Graph) -> Graph:
        for node in traced.nodes:
            if node.op == "placeholder":
                self._input(node)
            elif node.op == "call_module":
                self._module(node)
            elif node.op == "output":
                self._output(node)
            else:
                self._function(node)
        return Graph(self.nodes, self.removed)

    def _input(self, node: fx.Node) -> None:
        if self.nodes:
            if not node.users:
                return
            raise GraphError(explain("trace: the model takes more than one input.", f"{node.target!r} is the second", cure="Give it one tensor [T, B, ...]."))
        self.names[node] = self._name("input")
        self.nodes.append(g.Input(self.names[node], (), tuple(self.example.shape[2:])))

    def _output(self, node: fx.Node) -> None:
        value = node.args[0]
        if not isinstance(value, fx.Node) or self.names[value] != self.nodes[-1].name:
            last = f"it returns {value}"
            raise GraphError(explain("trace: the model must return one tensor, its last.", last, cure="Return only what the network answers."))

    def _module(self, node: fx.Node) -> None:
        path = _clean(str(node.target))
        inputs = self._inputs(node, path)
        module = self.root.get_submodule(str(node.target))
        for name, layer in _unfolded(path, unwrapped(module)):
            if isinstance(layer, _IDENTITIES):
                self.removed.append((name, type(layer).__name__))
                continue
            make = builder(layer)
            if make is None:
                raise GraphError(
                    explain(
                        f"trace: {name!r} is a {type(layer).__name__}, which the graph does not hold.",
                        "A target could not be given it.",
                        cure=cure(layer),
                    )
                )
            inputs = (self._append(make(layer, self._name(name), inputs)),)
        self.names[node] = inputs[0]

    def _function(self, node: fx.Node) -> None:
        owner = node.meta.get("owner", "")
        what = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        add = node.op == "call_function" and node.target in _ADDS or node.op == "call_method" and node.target in ("add", "add_")
        if add and len(node.args) == 2 and not node.kwargs and all(isinstance(a, fx.Node) for a in node.args):
            name = self._name(f"{owner}.add" if owner else "add")
            self.names[node] = self._append(g.Add(name, self._inputs(node, owner)))
            return
        if _flattens(node):
            name = self._name(f"{owner}.flatten" if owner else "flatten")
            self.names[node] = self._append(g.Flatten(name, (self.names[node.args[0]],)))  # type: ignore[index]
            return
        raise GraphError(
            explain(
                f"trace: {owner or 'the model'!s} uses {what!r} ({node.op}), which the graph does not hold.",
                f"arguments {', '.join(map(str, node.args))}",
                cure="Write it with a layer of neuro.layers (Tokens, Flatten, MeanOverTokens, MeanOverTime, AttentionProduct), as x.flatten(2), or as a sum of two tensors.",
            )
        )

    def _inputs(self, node: fx.Node, path: str) -> tuple[str, ...]:
        if node.kwargs or not all(isinstance(a, fx.Node) for a in node.args):
            raise GraphError(explain(f"trace: {path!r} is called with more than tensors.", f"{node.args} {dict(node.kwargs)}", cure="Give tensors by position."))
        return tuple(self.names[a] for a in node.args)

    def _append(self, node: g.Node) -> str:
        self.nodes.append(node)
        return node.name

    def _name(self, wanted: str) -> str:
        name, k = wanted, 1
        while name in self.taken:
            k += 1
            name = f"{wanted}_{k}"
        self.taken.add(name)
        return name


def _flattens(node: fx.Node) -> bool:
    """Whether a call is `x.flatten(2)`: each step of [T, B, ...] as one vector."""
    if node.target not in (("flatten",) if node.op == "call_method" else (torch.flatten,) if node.op == "call_function" else ()):
        return False
    if not node.args or not isinstance(node.args[0], fx.Node):
        return False
    given = dict(zip(("start_dim", "end_dim"), node.args[1:], strict=False)) | dict(node.kwargs)
    return given in ({"start_dim": 2}, {"start_dim": 2, "end_dim": -1})


def _native(model: nn.Module, example: Tensor) -> nn.Module:
    """The model, or one of another library made native: its neurons keep their memory to themselves, where nothing follows it."""
    for module in model.modules():
        library = type(module).__module__.split(".")[0]
        if library in _FOREIGN:
            convert = getattr(importlib.import_module("neuro.interop"), _FOREIGN[library])
            return convert(model, example)
    return model


def _unfolded(path: str, module: nn.Module) -> list[tuple[str, nn.Module]]:
    """The layers inside a Fold, in order, with their paths; otherwise the layer itself."""
    if isinstance(module, layers.Fold):
        return _unfolded(f"{path}.layer", unwrapped(module.layer))
    if isinstance(module, nn.Sequential):
        return [pair for name, child in module.named_children() for pair in _unfolded(f"{path}.{name}", unwrapped(child))]
    return [(path, module)]

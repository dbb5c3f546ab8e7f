"""The common part of every conversion: layers are taken over, neurons are translated, and both networks run on an example.

The other library is not imported: its modules are known by the name of their class and the package it comes from. A network is
a row of modules (`torch.nn.Sequential` or a library's own kind of it), or a module whose forward of one step can be traced.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from neuro import layers
from neuro.errors import GraphError, ShapeError, explain
from neuro.interop.functions import layer_of, measures

Make = Callable[[Any, str], nn.Module]

KEPT = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.MaxPool2d, nn.AvgPool2d,
    nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Flatten, nn.Dropout, nn.Dropout2d, nn.Identity, nn.ReLU, nn.LayerNorm, nn.GroupNorm,
)  # fmt: skip
_ADDS = ("add", "iadd", "add_", "__add__")


class Library:
    """What a library's neurons become: name of the class -> how it is made, and the package the class must come from."""

    def __init__(self, name: str, package: str, neurons: Mapping[str, Make]):
        self.name, self.package, self.neurons = name, package, neurons

    def maker(self, module: nn.Module) -> Make | None:
        """How to translate a neuron of this library; a class derived from one of its own is not one of its own."""
        ours = type(module).__module__.split(".")[0] == self.package
        return self.neurons.get(type(module).__name__) if ours else None

    def converted(self, net: nn.Module) -> nn.Module:
        """The native network, not yet compared."""
        net = _rows(net)
        _refuse_shared(self, net)
        if isinstance(net, nn.Sequential):
            return self._row(net, "")
        if self.maker(net) is not None:
            return self.layer(net, "the network")
        return self._traced(net)

    def layer(self, module: nn.Module, path: str) -> nn.Module:
        """One layer or neuron."""
        make = self.maker(module)
        if make is not None:
            return make(module, path)
        for cls in type(module).__mro__:
            if cls in KEPT:
                return _native(module, cls)
        known = ", ".join(sorted(self.neurons))
        raise GraphError(
            explain(
                f"from {self.name}: {path!r} is a {type(module).__name__} that has no equal here.",
                f"it comes from {type(module).__module__}",
                cure=f"Neurons understood: {known}. Layers: those of torch.nn without a memory. Put one of them in its place.",
            )
        )

    def _row(self, net: nn.Sequential, path: str) -> nn.Module:
        made = layers.Sequential()
        for name, child in net._modules.items():
            inner = f"{path}{name}"
            part = self._row(child, inner + ".") if isinstance(child, nn.Sequential) else self.layer(child, inner)
            made.add_module(name, part)
        return made

    def _traced(self, net: nn.Module) -> nn.Module:
        """A module with a forward of its own, followed once; its calls of layers, of functions that are layers, and its sums are kept."""
        library = self

        class Tracer(fx.Tracer):
            def is_leaf_module(self, m: nn.Module, path: str) -> bool:
                return library.maker(m) is not None or any(c in KEPT for c in type(m).__mro__)

        try:
            graph = Tracer().trace(net)
        except Exception as error:
            what = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            cure = "Give a Sequential, or a forward of one step that keeps no state in its hands (snnTorch: init_hidden=True)."
            raise GraphError(explain(f"from {self.name}: the forward of {type(net).__name__} cannot be followed.", what, cure=cure)) from error
        modules = self._calls(net, graph)
        for node in graph.nodes:
            if node.op == "call_module":
                if len(node.args) != 1 or node.kwargs:
                    cure = "Let the neuron keep its own state (snnTorch: init_hidden=True)."
                    raise GraphError(explain(f"from {self.name}: {node.target!r} is called with more than its input.", str(node.args), cure=cure))
                if str(node.target) not in modules:
                    modules[str(node.target)] = self.layer(net.get_submodule(str(node.target)), str(node.target))
            elif node.op not in ("placeholder", "output") and getattr(node.target, "__name__", node.target) not in _ADDS:
                what = getattr(node.target, "__name__", node.target)
                cure = "Write it with layers of torch.nn, torch.flatten(x, 1), pools of torch.nn.functional and sums; neurons keep their own state (snnTorch: init_hidden=True)."
                raise GraphError(explain(f"from {self.name}: the forward uses {what!r}, which has no equal over time.", cure=cure))
        return fx.GraphModule(_tree(modules), graph)

    def _calls(self, net: nn.Module, graph: fx.Graph) -> dict[str, nn.Module]:
        """Put a layer in the place of every call that is one; the layers by their names in the graph."""
        made: dict[str, nn.Module] = {}
        for node in list(graph.nodes):
            layer = layer_of(node)
            if layer is None:
                continue
            name = node.name
            while hasattr(net, name) or name in made:
                name += "_"
            made[name] = self.layer(layer, name)
            with graph.inserting_before(node):
                node.replace_all_uses_with(graph.call_module(name, (node.args[0],)))
            graph.erase_node(node)
        for node in reversed(list(graph.nodes)):
            if measures(node) and not node.users:
                graph.erase_node(node)
        return made


def _tree(modules: dict[str, nn.Module]) -> nn.Module:
    """A module that holds others under their dotted paths."""
    root = nn.Module()
    for path, module in modules.items():
        *parents, last = path.split(".")
        here = root
        for name in parents:
            if not hasattr(here, name):
                here.add_module(name, nn.Module())
            here = getattr(here, name)
        here.add_module(last, module)
    return root


def _rows(net: nn.Module) -> nn.Module:
    """Every kind of Sequential as a plain one."""
    if isinstance(net, nn.Sequential):
        return nn.Sequential(OrderedDict((name, _rows(child)) for name, child in net._modules.items() if child is not None))
    return net


def _refuse_shared(library: Library, net: nn.Module) -> None:
    seen: dict[int, str] = {}
    for path, module in net.named_modules(remove_duplicate=False):
        if library.maker(module) is None:
            continue
        if id(module) in seen:
            cure = "Give each place a neuron of its own."
            raise GraphError(explain(f"from {library.name}: {seen[id(module)]!r} and {path!r} are one neuron, whose memory both would use.", cure=cure))
        seen[id(module)] = path


def _native(module: nn.Module, cls: type[nn.Module]) -> nn.Module:
    """A torch layer with its own weights, without what a library's subclass added to its forward, made to know time."""
    plain = cls.__new__(cls)
    plain.__dict__ = copy.deepcopy({k: v for k, v in vars(module).items() if k not in ("forward", "step_mode")})
    if isinstance(plain, nn.Flatten):
        return layers.Fold(plain) if (plain.start_dim, plain.end_dim) != (1, -1) else layers.Flatten()
    return layers.Sequential(plain)[0]


def compared(library: Library, ours: nn.Module, theirs: Callable[[Tensor], Tensor], example: Tensor) -> nn.Module:
    """`ours` in eval mode, if it gives on the example what `theirs` gives; spikes must be equal."""
    if example.dim() < 3 or 0 in example.shape:
        raise ShapeError(explain(f"from {library.name}: the example is not a sequence.", f"example {list(example.shape)}", cure="[T, B, ...]."))
    ours.eval()
    with torch.no_grad():
        want, got = theirs(example), ours(example)
    same = want.shape == got.shape and (torch.equal(want, got) if _spikes(want) else torch.allclose(want, got, rtol=1e-4, atol=1e-5))
    if not same:
        if want.shape != got.shape:
            where = f"theirs {list(want.shape)}   ours {list(got.shape)}"
        else:
            off = (want != got).nonzero()
            where = f"{len(off)} of {want.numel()} values differ, the first at [T, B, ...] = {off[0].tolist()}"
        cure = "A layer does more than its class says, or sums round across the threshold. Do not use the converted network."
        raise GraphError(explain(f"from {library.name}: on the example the converted network gives something else.", where, cure=cure))
    return ours


def _spikes(x: Tensor) -> bool:
    return bool(((x == 0) | (x == 1)).all())


def first(y: Any) -> Tensor:
    """The output of a call that may also give states."""
    return y[0] if isinstance(y, tuple) else y

"""`compile_inference`: a trained network made ready for answering, step by step or in batches, without gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from neuro import nodes as g
from neuro.errors import ParameterError, ShapeError, StateError, explain
from neuro.graph import Graph, fold_norms
from neuro.kernels.inference_source import addresses
from neuro.kernels.pool import spread
from neuro.latency import Latency, Row, median_seconds
from neuro.lowering import Lowered, Segment, lower
from neuro.module_paths import module_paths, unwrapped
from neuro.neurons.recurrent import RecurrentParams, recurrent_scan, recurrent_state
from neuro.scanning import scan
from neuro.state import lengths, recall, remember, run
from neuro.tracing import trace

_ROOM = 1 << 18  # elements of the buffers of a thread: as many steps at a time as fit
_NUMBERS: Any = {"dtype": torch.float32, "device": "cpu"}  # whatever torch's defaults are
_SECONDS = 2e-9  # of an element of a layer's output; only decides how many threads are worth waking


def compile_inference(model: nn.Module, example: Tensor) -> Compiled:
    """A module that answers as the model does in eval mode, faster, on the CPU, in float32, without gradients.

    The model is traced, its norms are folded into the weights before them, and its steps become one table that one loop of machine
    code works through: products touch only inputs that are not zero, and neurons are the programs of their own steps. Called with
    one sample and one step, nothing else is between two layers. The model itself is left as it is, and later changes of its weights
    do not reach the compiled one. Machine code is made at the first call, in 11 to 13 seconds (two cores of an EPYC), and kept on disk.

    Args:
        model: what `neuro.trace` understands.
        example: an input [T, B, ...]; fixes the shape of a step. Steps and samples may be any number later.

    Returns:
        `fast`, with `y = fast(x)`, `y, state = neuro.run(fast, x, state, lengths=...)`, `fast.latency(x)` and, to go on in the one from a
        state of the other, `fast.state_from(state_of_model)` and `fast.state_to(state_of_fast)`.

    Raises:
        GraphError: the model cannot be traced. ParameterError: it is not a float32 model on the CPU, or a weight is not finite.

    >>> import neuro
    >>> model = neuro.layers.Sequential(neuro.layers.Linear(3, 2), neuro.neurons.LIF())
    >>> fast = compile_inference(model, torch.zeros(4, 1, 3))
    >>> x = torch.ones(6, 5, 3)
    >>> torch.equal(fast(x), model(x))
    True
    """
    _refuse_infinite(model)
    graph = fold_norms(trace(model, example))
    for node in graph:
        _refuse_other_numbers(node)
    return Compiled(graph, _keys(model, graph))


class _Flat(NamedTuple):
    flat: Tensor  # [B, S]


class Compiled(nn.Module):
    """See `compile_inference`. `graph` is the folded graph, `left_to_torch` the nodes that have no form in the table and why."""

    def __init__(self, graph: Graph, keys: dict[str, str], torch_nodes: frozenset[str] = frozenset(), shown: frozenset[str] = frozenset()):
        super().__init__()
        self.graph, self.keys = graph, keys
        self.lowered: Lowered = lower(graph, torch_nodes, shown)
        self._zero = torch.zeros((), **_NUMBERS)
        self._arenas: list[Any] = []
        self._functions: np.ndarray | None = None  # addresses in this process
        self.eval()

    @property
    def left_to_torch(self) -> dict[str, str]:
        return dict(self.lowered.reasons)

    def forward(self, x: Tensor) -> Tensor:
        """x [T, B, ...] -> what the model gives."""
        x = _checked(x, self.graph)
        nothing = self._zero.expand(x.shape[1], self.lowered.state)
        slot, given = recall(self, _Flat(nothing))
        steps = lengths()
        with torch.no_grad():
            flat = torch.zeros(nothing.shape, **_NUMBERS) if given.flat is nothing else given.flat.clone(memory_format=torch.contiguous_format)
            y = _by_nodes(self, x, flat, steps) if torch._C._len_torch_dispatch_stack() else self._run(x, flat, steps)
        remember(slot, _Flat(flat))
        return y

    def _run(self, x: Tensor, flat: Tensor, steps: Tensor | None) -> Tensor:
        """All segments in order; `flat` [B, S] is the state before and becomes the one after."""
        parts = self.lowered.steps
        if len(parts) == 1 and isinstance(parts[0], Segment):
            return self._segment(parts[0], [x], flat, steps)[-1]
        return self._values(x, flat, steps)[self.graph.output.name]

    def _values(self, x: Tensor, flat: Tensor, steps: Tensor | None) -> dict[str, Tensor]:
        """What goes out of every segment, and what torch made between them."""
        found = {self.graph.input.name: x}
        for part in self.lowered.steps:
            if isinstance(part, Segment):
                found.update(zip(part.writes, self._segment(part, [found[n] for n in part.reads], flat, steps), strict=True))
            else:
                node = self.graph[part]
                found[part] = _by_torch(node, [found[s] for s in node.inputs], self.lowered, flat, steps)
        return found

    def _segment(self, part: Segment, xs: list[Tensor], flat: Tensor, steps: Tensor | None) -> list[Tensor]:
        T, B = xs[0].shape[:2]
        ins = xs[0].reshape(-1) if len(xs) == 1 else torch.cat([v.reshape(-1) for v in xs])
        sizes = [(T if timed else 1) * B * n for timed, n, _ in part.shapes]
        outs = torch.empty(sum(sizes), **_NUMBERS)
        self._drive(part, ins, outs, flat, steps, T, B)
        parts = (outs,) if len(sizes) == 1 else outs.split(sizes)
        return [v.view((T, B, *shape) if timed else (B, *shape)) for v, (timed, _, shape) in zip(parts, part.shapes, strict=True)]

    def _drive(self, part: Segment, ins: Tensor, outs: Tensor, flat: Tensor, steps: Tensor | None, T: int, B: int, rows: Any = None, repeat: int = 1) -> None:
        """Run rows of a segment's table, all of them unless told otherwise."""
        from neuro.kernels.inference_loops import drive

        low = self.lowered
        if self._functions is None:
            self._functions = addresses(low.kinds)
        first, stop = rows or (0, len(part.table))
        room = max(1, min(T, _ROOM // max(1, part.room)))
        ends = np.full(B, T, np.int64) if steps is None else steps.numpy()
        state, x, y = flat.view(-1).numpy(), ins.numpy(), outs.numpy()

        def work(begin: int, end: int) -> None:
            space = self._space(part, room)
            drive(part.table, first, stop, repeat, self._functions, low.weights, low.numbers, *space, state, x, y, ends, T, B, room, begin, end)
            self._arenas.append(space)

        if B == 1:
            work(0, 1)
        else:
            spread(work, B, cost=T * part.room * _SECONDS)

    def _space(self, part: Segment, room: int) -> Any:
        """Memory for one thread: buffers, lists and sums; taken again where it is large enough."""
        wanted = (max(1, part.room * room), part.listed, part.starts, part.work)
        try:
            space = self._arenas.pop()  # a list's pop and append are whole under any thread
            if all([a.size >= n for a, n in zip((space[0], space[1], space[3], space[4]), wanted, strict=True)]):
                return space
        except IndexError:
            pass
        floats, listed, starts, work = wanted
        return (np.zeros(floats, np.float32), np.empty(listed, np.uint32), np.empty(listed, np.float32), np.empty(starts, np.int64), np.empty(work, np.float32))

    def values(self, x: Tensor) -> dict[str, Tensor]:
        """Every node's output for x [T, B, ...] from a fresh state, by name: to compare with `graph.values(x)`."""
        every = frozenset(node.name for node in self.graph)
        shown = Compiled(self.graph, self.keys, frozenset(self.lowered.reasons), every)
        x = _checked(x, self.graph)
        with torch.no_grad():
            return shown._values(x, torch.zeros(x.shape[1], self.lowered.state, **_NUMBERS), None)

    def latency(self, x: Tensor) -> Latency:
        """Measure time per step on x [T, B, ...]: of a call that carries its state, and of every operation. Print the answer.

        The operations run on the first sample, one after the other, each so often that a clock sees it.
        """
        x = _checked(x, self.graph)
        _, state = run(self, x)
        step = median_seconds(lambda: run(self, x, state)) / x.shape[0]
        rows: list[Row] = []
        one, flat = x[:1, :1].contiguous(), next(iter(state.values()))[:1].clone()
        found = {self.graph.input.name: one}
        for part in self.lowered.steps:
            if isinstance(part, Segment):
                rows += self._operations(part, found, flat)
            else:
                node = self.graph[part]
                xs = [found[s] for s in node.inputs]
                seconds = median_seconds(lambda node=node, xs=xs: _by_torch(node, xs, self.lowered, flat, None), seconds=0.02)  # type: ignore[misc]
                rows.append(Row(part, f"{node.kind} (torch)", 1e6 * seconds))
                found[part] = _by_torch(node, xs, self.lowered, flat, None)
        return Latency(x.shape[0], x.shape[1], 1e6 * step, tuple(rows))

    def _operations(self, part: Segment, found: dict[str, Tensor], flat: Tensor) -> list[Row]:
        """The rows of a segment, each run again and again before the next; its results go into `found`."""
        ins = torch.cat([found[n].reshape(-1) for n in part.reads])
        outs = torch.zeros(sum(n for _, n, _ in part.shapes), **_NUMBERS)
        with torch.no_grad():
            rows = []
            for i, (name, kind) in enumerate(part.labels):

                def again(often: int, i: int = i) -> float:
                    return median_seconds(lambda: self._drive(part, ins, outs, flat, None, 1, 1, rows=(i, i + 1), repeat=often), seconds=0.0)

                often = 1
                while again(often) < 2e-4 and often < 1 << 14:
                    often *= 4
                rows.append(Row(name, kind, 1e6 * again(often) / often))
        for name, value, (timed, _, shape) in zip(part.writes, outs.split([n for _, n, _ in part.shapes]), part.shapes, strict=True):
            found[name] = value.view((1, 1, *shape) if timed else (1, *shape))
        return rows

    def state_to(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The model's own state [B, ...] by its keys, from a state of this module."""
        (flat,) = state.values()
        return {
            name: value for node, slot in self.lowered.slots.items() for name, value in zip(_names(self.keys[node], slot.fields), slot.read(flat), strict=True)
        }

    def state_from(self, state: dict[str, Tensor], path: str = "") -> dict[str, Tensor]:
        """A state of this module, from one of the model; `path`: of this module in the model given to `neuro.run`."""
        names = {node: _names(self.keys[node], slot.fields) for node, slot in self.lowered.slots.items()}
        wanted = {n for group in names.values() for n in group}
        if wanted != set(state):
            facts = [f"missing {sorted(wanted - set(state))[:4]}   unknown {sorted(set(state) - wanted)[:4]}"]
            raise StateError(explain("state_from: this is not a state of the compiled model.", *facts))
        batch = next(iter(state.values())).shape[0] if state else 1
        flat = torch.zeros(batch, self.lowered.state, **_NUMBERS)
        for node, slot in self.lowered.slots.items():
            slot.write(flat, [state[n] for n in names[node]])
        return {f"{path}#0": flat}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_arenas": [], "_functions": None}

    def extra_repr(self) -> str:
        parts = self.lowered.steps
        rows = sum(len(p.table) for p in parts if isinstance(p, Segment))
        lines = [f"{rows} operations in {sum(isinstance(p, Segment) for p in parts)} tables, {self.lowered.weights.nbytes / 1024:.0f} KiB of weights"]
        lines += [f"{self.lowered.state} elements of state per sample"]
        lines += [f"left to torch: {name} ({self.graph[name].kind}), because {why}" for name, why in self.lowered.reasons.items()]
        return "\n".join(lines)


def _checked(x: Any, graph: Graph) -> Tensor:
    """The input as float32 [T, B, *shape] on the CPU, contiguous."""
    if not isinstance(x, Tensor) or x.dim() < 3 or tuple(x.shape[2:]) != graph.input.shape or 0 in x.shape:
        got = list(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise ShapeError(explain("Compiled: the input does not fit.", f"x {got}", f"compiled for [T, B, {str(list(graph.input.shape))[1:-1]}], T and B at least 1"))
    if x.device.type != "cpu" or x.dtype == torch.float64 or x.is_complex():
        raise ShapeError(explain("Compiled: it runs on the CPU, in float32.", f"x {x.dtype} on {x.device}", cure="Give x.cpu().float(), or run the model itself."))
    if x.requires_grad and torch.is_grad_enabled():
        raise ParameterError(explain("Compiled: x asks for a gradient, and inference has none.", cure="Run the model itself, or give x.detach()."))
    return x.detach().contiguous() if x.dtype == torch.float32 else x.detach().float().contiguous()


def _refuse_other_numbers(node: g.Node) -> None:
    values = [*vars(node).values(), *(node.params if isinstance(node, g.Neuron) else ())]
    for value in values:
        if isinstance(value, Tensor) and (value.dtype != torch.float32 or value.device.type != "cpu"):
            raise ParameterError(
                explain(
                    f"compile_inference: {node.name!r} holds {value.dtype} on {value.device}.",
                    "Compiled networks run on the CPU, in float32.",
                    cure="Give model.float().cpu(), or a copy of it.",
                )
            )


def _refuse_infinite(model: nn.Module) -> None:
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if not value.isfinite().all():
            facts = "Inputs of zero are left out of products, where torch would make 0 * inf a NaN."
            raise ParameterError(explain(f"compile_inference: {name!r} holds infinite numbers or NaN.", facts, cure="Train it again, or mend them."))


def _keys(model: nn.Module, graph: Graph) -> dict[str, str]:
    """How the state of each node is called in the model: `path#k`. The name of a node is its module's path, and `_2` for its second call."""
    bare = unwrapped(model)
    paths = set(module_paths(bare).values())
    single = not any(True for _ in bare.children()) or isinstance(bare, g.Neuron)
    found = {}
    for node in graph:
        path, _, times = node.name.rpartition("_")
        if node.name in paths:
            found[node.name] = f"{node.name}#0"
        elif path in paths and times.isdigit():
            found[node.name] = f"{path}#{int(times) - 1}"
        elif single or node.name == "layer":
            found[node.name] = "#0"
    return found


def _names(key: str, fields: tuple[str, ...]) -> list[str]:
    return [key] if len(fields) == 1 else [f"{key}.{f}" for f in fields]


def _by_nodes(fast: Compiled, x: Tensor, flat: Tensor, steps: Tensor | None) -> Tensor:
    """The folded graph node by node in torch, with the same state: where something watches torch's operators, such as a counter."""
    found = {fast.graph.input.name: x}
    for node in fast.graph.nodes[1:]:
        found[node.name] = _by_torch(node, [found[s] for s in node.inputs], fast.lowered, flat, steps)
    return found[fast.graph.output.name]


def _by_torch(node: g.Node, xs: list[Tensor], low: Lowered, flat: Tensor, steps: Tensor | None) -> Tensor:
    """One node by torch's operators, from and to its part of the flat state."""
    slot = low.slots.get(node.name)
    if slot is None:
        return node.compute(*xs, lengths=steps)
    (x,), before = xs, slot.read(flat)
    if isinstance(node, g.Neuron):
        y, after = scan(node.step, x, node.state(*before), node.params, lengths=steps, **node.choices)
    elif isinstance(node, g.Recurrent):
        params = RecurrentParams(node.weight, node.bias, node.neuron.params)
        how = {"inner_step": node.neuron.step, **node.neuron.choices}
        y, after = recurrent_scan(x, recurrent_state(node.neuron.state)(*before), params, lengths=steps, **how)
    else:
        count = torch.full_like(before[1], x.shape[0]) if steps is None else steps.to(x.dtype).view(before[1].shape)
        after = (before[0] + g.SumOverTime("", ("",)).compute(x, lengths=steps), before[1] + count)
        y = after[0] / after[1].clamp(min=1) if isinstance(node, g.MeanOverTime) else after[0]
    slot.write(flat, after)
    return y

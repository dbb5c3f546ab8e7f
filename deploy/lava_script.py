"""An integer network as a folder that a Lava user can read and run: Python 3.10, lava-nc and NumPy, nothing of ours to install.

    network.py          one paragraph per node: its Lava process and its connections
    arrays.npz          weights and biases, in the order in which Lava takes them
    example.npz         inputs, and every spike, membrane and score that the twin computed for them
    lava_processes.py   what Lava has no process for: products of tokens, pools, sums
    lava_cells.py       neurons that Lava lacks, delays
    lava_workers.py     ends the run when one of Lava's workers fails

`python network.py` runs the example and compares; `python network.py inputs.npy out.npz` runs recordings.
"""

from __future__ import annotations

import builtins
import keyword
import re
import shutil
import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from neuro.deploy.joins import KIND_OF, Readout, StepReadout, SumReadout
from neuro.deploy.lava_script_text import HEAD, SPARSE, TAIL
from neuro.deploy.network import IntegerNetwork
from neuro.deploy.nodes import LIF, Attention, Conv, Dense, MaxPool, Node
from neuro.deploy.twin import run_twin
from neuro.errors import GraphError, explain
from neuro.files import replacing

BESIDE = ("lava_processes.py", "lava_cells.py", "lava_workers.py")
STEPS, RECORDINGS = 8, 2    # of the example
WIDTH = 120 - 4     # of a line in a function
SPARSE_FROM, SPARSE_SHARE = 2**18, 0.1      # as in lava_building.py
RESERVED = {*dir(builtins), *keyword.kwlist, *re.findall(r"\w+", HEAD), "log"}


def write_script(network: IntegerNetwork, folder: str | Path) -> Path:
    """Write the folder; it may exist, other files in it are left alone. Returns the path of network.py.

    Raises:
        GraphError: the network breaks a rule of the chip, or holds a node that has no Lava process.
        WriteError: a file could not be written.
    """
    network.check()
    writer = _Writer(network)
    text, folder = writer.text(), Path(folder)
    x, result = example(network)
    with replacing(folder / "arrays.npz") as file:
        np.savez_compressed(file, **writer.arrays)
    with replacing(folder / "example.npz") as file:
        np.savez_compressed(file, inputs=x, **result)
    for name in BESIDE:
        with replacing(folder / name) as file, Path(__file__).with_name(name).open("rb") as source:
            shutil.copyfileobj(source, file)
    with replacing(folder / "network.py") as file:
        file.write(text.encode())
    return folder / "network.py"


def example(network: IntegerNetwork) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Random events [R, T, ...] of which a fifth are not zero, and what the twin makes of them."""
    rng = np.random.default_rng(0)
    shape = (STEPS, RECORDINGS, *network.input.shape)
    x = ((rng.random(shape) < 0.2) * rng.integers(1, 2**network.input.message_bits, shape)).astype(np.int32)
    twin = run_twin(network, x, record=True)
    found = {f"{what}/{name}": a.swapaxes(0, 1) for what in ("spikes", "membranes") for name, a in getattr(twin, what).items()}
    return x.swapaxes(0, 1), {"acc": twin.acc.swapaxes(0, 1) if isinstance(network.readout, StepReadout) else twin.acc, **found}


def answers_of(node: Readout) -> dict[str, str]:
    """What the script says of its answers, and how it takes them from the readout's log."""
    if isinstance(node, StepReadout):
        return {"answers": "[R, T, classes], an answer at every step", "scores": f"acc * {node.scale!r}", "end": ""}
    return {"answers": "[R, classes]", "scores": f"acc * {node.scale!r}{'' if isinstance(node, SumReadout) else ' / T'}", "end": "[:, -1]"}


def is_thin(node: Dense) -> bool:
    """Whether Lava runs a matrix as its Sparse: large, and of few weights."""
    return node.weight.size >= SPARSE_FROM and int(np.count_nonzero(node.weight)) <= SPARSE_SHARE * node.weight.size


def to_lava(shape: tuple[int, ...]) -> tuple[int, ...]:
    """[C, H, W] -> (W, H, C); other shapes as they are."""
    return tuple(shape[::-1]) if len(shape) == 3 else tuple(shape)


class _Writer:
    """One paragraph of Python per node. Names of nodes are letters, digits, underscores and dots: they cannot carry code."""

    def __init__(self, network: IntegerNetwork) -> None:
        self.network, self.arrays = network, {}  # type: ignore[var-annotated]
        self.ports: dict[str, str] = {}     # by node: the expression of its output port
        self.variables: dict[str, str] = {}
        self.lines: list[str] = []

    def text(self) -> str:
        net = self.network
        for node in net.nodes:
            kind = KIND_OF[type(node)]
            if not hasattr(self, kind):
                raise GraphError(explain(f"{type(node).__name__} {node.name!r} has no Lava process.", cure="Leave it out, or run the network in the twin."))
            view = " (no process: a view of the port)" if kind in ("tokens", "flatten") else ""
            source = " + ".join(str(list(net.shapes[s])) for s in node.inputs)
            self.lines += ["", f"    # {node.name}: {type(node).__name__} {source + ' -> ' if source else ''}{list(net.shapes[node.name])}, latency {net.latency[node.name]}{view}"]
            getattr(self, kind)(node)
        shape = ", ".join(map(str, net.input.shape))
        title = re.sub(r"[^A-Za-z0-9_. -]", "?", net.name)[:60]
        facts = {"title": title, "nodes": len(net.nodes), "weights": net.synapses, "neurons": net.neurons, "shape": shape, "most": 2**net.input.message_bits - 1,
                 "latency": net.latency[net.readout.name], "shape_tuple": repr(tuple(net.input.shape)),
                 "layout": "(W, H, C)" if len(net.input.shape) == 3 else f"[{shape}]", "readout": net.readout.name, "layers": textwrap.fill(f"LAYERS = {[n.name for n in net.lifs]}", WIDTH, subsequent_indent=" " * 10, break_on_hyphens=False),
                 **answers_of(net.readout), "reorder": ".transpose(2, 1, 0, 3)" if len(net.input.shape) == 3 else ""}
        thin = any(isinstance(n, Dense) and is_thin(n) for n in net.nodes)
        facts |= {"sparse": SPARSE if thin else "", "sparse_model": "Sparse: PySparseModelBitAcc, " if thin else ""}
        return HEAD.format(**facts) + "\n".join(self.lines) + "\n" + TAIL.format(**facts)

    def say(self, *lines: str) -> None:
        self.lines += [f"    {line}" for line in lines]

    def place(self, variable: str, node: str, process: str, arguments: list[str], model: str = "") -> None:
        """`variable = place(node, process(arguments), model)`, broken into lines of a readable length."""
        end = f"){model and ', ' + model})"
        line, rest = f"{variable} = place({node!r}, {process}(", [f"{a}, " for a in arguments[:-1]] + [arguments[-1] + end]
        if len(line) + sum(map(len, rest)) <= WIDTH:
            self.say(line + "".join(rest))
            return
        self.say(line)
        line = "    "
        for part in rest:
            if len(line) + len(part) > WIDTH and line.strip():
                self.say(line.rstrip())
                line = "    "
            line += part
        self.say(line)

    def variable(self, node: Node, ending: str = "") -> str:
        """A Python name that nothing else in the script has."""
        name = re.sub(r"\W", "_", node.name) + ending
        while not name.isidentifier() or name in RESERVED or name in self.variables.values():
            name = f"n_{name}"
        self.variables[node.name + ending.replace("_", " ")] = name
        return name

    def keep(self, node: Node, field: str, value: np.ndarray) -> str:
        """Put an array into arrays.npz; the expression that gives it."""
        self.arrays[f"{node.name}.{field}"] = np.ascontiguousarray(value)
        return f'W["{node.name}.{field}"]'

    def source(self, node: Node, i: int = 0) -> str:
        """The port that a Lava process of its own reads, held back where branches must be aligned."""
        name, delay = node.inputs[i], self.network.delays[node.name][i]
        if not delay:
            return self.ports[name]
        shape = to_lava(self.network.shapes[name])
        held = self.variable(node, "_held")
        self.place(held, f"{node.name} held", "ours.Delay", [f"shapes=[{shape}]", f"out_shape={shape}", f"delays=[{delay}]"])
        self.say(f"{self.ports[name]}.connect({held}.a0)")
        return f"{held}.out"

    def own(self, node: Node, process: str, *last: str, model: str = "", **constants: str) -> None:
        """A process of ours; its ports hold early branches back. last: arguments that stand after the constants."""
        shapes, delays = [to_lava(self.network.shapes[s]) for s in node.inputs], list(self.network.delays[node.name])
        name = self.variable(node)
        given = [f"shapes={shapes}", f"out_shape={to_lava(self.network.shapes[node.name])}", *([f"delays={delays}"] if any(delays) else [])]
        self.place(name, node.name, process, [*given, *(f"{k}={v}" for k, v in constants.items()), *last], model)
        self.say(*(f"{self.ports[s]}.connect({name}.a{i})" for i, s in enumerate(node.inputs)))
        self.ports[node.name] = f"{name}.out"

    def bits(self, name: str) -> int:
        """0: Lava takes spikes; 31: it multiplies by the value."""
        return 0 if self.network.binary(name) else 31

    def input(self, node: Node) -> None:
        name = self.variable(node)
        self.place(name, node.name, "RingBuffer", ["data=stream"])
        self.ports[node.name] = f"{name}.s_out"

    def conv(self, node: Conv) -> None:
        kernel = self.keep(node, "weight", node.weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1))
        pairs = [f"{k}={getattr(node, k)[::-1]}" for k in ("stride", "padding", "dilation")]
        source, name = self.source(node), self.variable(node)
        self.place(name, node.name, "Conv", [f"weight={kernel}", f"input_shape={to_lava(self.network.shapes[node.input])}", *pairs,
                                             f"groups={node.groups}", f"num_message_bits={self.bits(node.input)}"])
        self.say(f"{source}.connect({name}.s_in)")
        self.ports[node.name] = f"{name}.a_out"

    def dense(self, node: Dense) -> None:
        weight = self.keep(node, "weight", node.weight)
        if len(self.network.shapes[node.name]) == 2:
            self.own(node, "ours.TokenDense", weights=weight)
            return
        source, name = self.source(node), self.variable(node)
        self.place(name, node.name, "Sparse" if is_thin(node) else "Dense", [f"weights={weight}", f"num_message_bits={self.bits(node.input)}"])
        self.say(f"{source}.connect({name}.s_in)")
        self.ports[node.name] = f"{name}.a_out"

    def lif(self, node: LIF) -> None:
        shape = to_lava(self.network.shapes[node.name])
        bias = self.keep(node, "bias_mant", np.broadcast_to(node.bias_mant, shape))
        source, name = self.source(node), self.variable(node)
        self.place(name, node.name, "ours.RecordedLIF", [
            f"shape={shape}", f"du={node.du}", f"dv={node.dv}", f"vth={node.vth}", f"bias_mant={bias}", f"bias_exp=np.full({shape}, {node.bias_exp})",
            "reset_interval=T", f"reset_offset={1 + self.network.latency[node.name]}", self.window(node)])
        self.say(f"{source}.connect({name}.a_in)")
        self.ports[node.name] = f"{name}.s_out"

    def cell(self, node: Any) -> None:
        constants = {"dv": node.dv, "vth": node.vth, "du": node.du, "bias": node.bias_mant.astype(np.int64) << node.bias_exp, "dh": node.dh, "jump": node.jump}
        given = {k: self.keep(node, k, v) if np.ndim(v) else str(int(v)) for k, v in constants.items()}
        loop = {"weight": self.keep(node, "weight", node.weight)} if hasattr(node, "weight") else {}
        self.own(node, "cells.Cell", self.window(node), **given, **loop, reset=repr(node.reset), levels=str(node.levels), interval="T")

    def window(self, node: Node) -> str:
        """The arguments that say when recordings pass a node."""
        return f"**window({self.network.latency[node.name]}, {node.name!r})"

    recurrentcell = cell

    def delay(self, node: Any) -> None:
        self.own(node, "cells.Shift", steps=str(node.steps), interval="T", first=str(1 + self.network.latency[node.name]))

    def sumpool(self, node: Any) -> None:
        self.own(node, "cells.SumPool", **{k: str(getattr(node, k)[::-1]) for k in ("kernel", "stride", "padding")})

    def attention(self, node: Attention) -> None:
        self.own(node, "ours.Attention", heads=str(node.heads), weight=str(node.weight))

    def maxpool(self, node: MaxPool) -> None:
        self.own(node, "ours.Pool", **{k: str(getattr(node, k)[::-1]) for k in ("kernel", "stride", "padding")})

    def add(self, node: Node) -> None:
        self.own(node, "ours.Add", model=f"ours.add_model({len(node.inputs)})")

    def tokens(self, node: Node) -> None:
        self.ports[node.name] = f"{self.source(node)}.transpose((1, 0, 2)).reshape({self.network.shapes[node.name]})"

    def flatten(self, node: Node) -> None:
        maps = len(self.network.shapes[node.inputs[0]]) == 3
        self.ports[node.name] = f"{self.source(node)}{'.transpose((2, 1, 0))' if maps else ''}.reshape({self.network.shapes[node.name]})"

    def tokensum(self, node: Node) -> None:
        self.own(node, "ours.TokenSum")

    def readout(self, node: Readout) -> None:
        bias, interval = self.keep(node, "bias", node.bias), "1" if isinstance(node, StepReadout) else "T"
        self.own(node, "ours.Readout", self.window(node), bias=bias, interval=interval, offset=str(1 + self.network.latency[node.name]))

    stepreadout = sumreadout = readout

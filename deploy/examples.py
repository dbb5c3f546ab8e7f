"""Random integer networks that fit the chip: for tests, recorded traces and benchmarks. Their weights mean nothing."""

from __future__ import annotations

import numpy as np

from neuro.deploy.network import (
    LIF,
    Add,
    Attention,
    Cell,
    Conv,
    Delay,
    Dense,
    Flatten,
    Input,
    IntegerNetwork,
    MaxPool,
    Node,
    Readout,
    RecurrentCell,
    SumPool,
    Tokens,
    TokenSum,
)

Random = np.random.Generator


def even(rng: Random, shape: tuple[int, ...], most: int = 80) -> np.ndarray:
    """Even integers in -most..most."""
    return 2 * rng.integers(-(most // 2), most // 2 + 1, shape)


def neuron(rng: Random, name: str, source: str, channels: int, vth: int, memory: bool = False) -> LIF:
    """A LIF with random leak and a bias per channel. `memory`: it also keeps some current."""
    bias = rng.integers(-1000, 1000, channels) if rng.random() < 0.7 else rng.integers(-300, 300)
    du = int(rng.integers(3000, 4095)) if memory else 4095
    return LIF(name, source, int(rng.choice([0, 1024, 2048, 3000, 4096])), vth, bias, int(rng.integers(0, 3)), du)


def transformer(rng: Random, size: int = 32, stem: tuple[int, ...] = (8, 16, 32, 64), heads: int = 4, expansion: int = 4,
                blocks: int = 2, classes: int = 8, bits: int = 4, vth: int = 300) -> IntegerNetwork:
    """A Spikformer: stem of Conv-LIF with a pool after all but the last, conditional position, blocks, mean, head."""
    nodes: list[Node] = [Input("input", (2, size, size), bits)]
    x, c = "input", 2
    for i, width in enumerate(stem):
        nodes += [Conv(f"stem.{i}.conv", x, even(rng, (width, c, 3, 3)), padding=1),
                  LIF(f"stem.{i}.lif", f"stem.{i}.conv", 2048, vth, rng.integers(-4000, 4000, width), 2)]
        x, c = f"stem.{i}.lif", width
        if i + 1 < len(stem):
            nodes.append(MaxPool(f"stem.{i}.pool", x, 3, 2, 1))
            x = f"stem.{i}.pool"
    nodes += [Conv("position.conv", x, even(rng, (c, c, 3, 3)), padding=1),
              LIF("position.lif", "position.conv", 2048, vth, rng.integers(-4000, 4000, c), 2),
              Add("position.add", (x, "position.lif")), Tokens("tokens", "position.add")]
    x = "tokens"
    for b in range(blocks):
        x = block(rng, nodes, f"blocks.{b}", x, c, heads, expansion, vth)
    nodes += [TokenSum("sum", x), Dense("head", "sum", even(rng, (classes, c))),
              Readout("readout", "head", rng.integers(-50, 50, classes), 1 / 64)]
    return IntegerNetwork(nodes, "transformer")


def linear(rng: Random, nodes: list[Node], name: str, x: str, outputs: int, inputs: int, vth: int) -> str:
    """Token-wise product and LIF."""
    nodes += [Dense(f"{name}.linear", x, even(rng, (outputs, inputs))),
              LIF(f"{name}.lif", f"{name}.linear", 2048, vth, rng.integers(-4000, 4000, outputs), 2)]
    return f"{name}.lif"


def block(rng: Random, nodes: list[Node], name: str, x: str, width: int, heads: int, expansion: int, vth: int) -> str:
    """Attention and MLP, each added to the stream. Returns the name of the new stream."""
    q, k, v = (linear(rng, nodes, f"{name}.{n}", x, width, width, vth) for n in "qkv")
    nodes += [Attention(f"{name}.attention", q, k, v, heads, 2), LIF(f"{name}.attention_lif", f"{name}.attention", 2048, 3)]
    y = linear(rng, nodes, f"{name}.project", f"{name}.attention_lif", width, width, vth)
    nodes.append(Add(f"{name}.add1", (x, y)))
    y = linear(rng, nodes, f"{name}.mlp1", f"{name}.add1", expansion * width, width, vth)
    y = linear(rng, nodes, f"{name}.mlp2", y, width, expansion * width, vth)
    nodes.append(Add(f"{name}.add2", (f"{name}.add1", y)))
    return f"{name}.add2"


def random_network(rng: Random) -> IntegerNetwork:
    """A small network of random shapes that has every kind of node: odd sizes, strides, dilation, groups, memory."""
    groups, size = int(rng.choice([1, 2])), (int(rng.integers(5, 10)), int(rng.integers(5, 10)))
    c, vth = 2 * int(rng.integers(1, 4)), int(rng.integers(20, 120))
    stride, dilation = (int(n) for n in rng.integers(1, 3, 2))
    nodes: list[Node] = [
        Input("input", (2, *size), int(rng.integers(1, 4))),
        Conv("a.conv", "input", even(rng, (c, 2 // groups, 3, 3)), (1, stride), (1, 2), dilation, groups),
        neuron(rng, "a.lif", "a.conv", c, vth, memory=True),
        MaxPool("a.pool", "a.lif", (3, 2), (int(rng.integers(1, 3)), 1), (1, 0)),
        Conv("b.conv", "a.pool", even(rng, (c, c // groups, 1, 3)), padding=(0, 1), groups=groups),
        neuron(rng, "b.lif", "b.conv", c, vth),
        Add("b.add", ("a.pool", "b.lif", "a.pool")),
        Tokens("tokens", "b.add"),
    ]
    x = block(rng, nodes, "block", "tokens", c, 2, int(rng.integers(1, 3)), vth)
    nodes += [Flatten("flat", x), TokenSum("sum", x), Dense("short", "sum", even(rng, (5, c))),
              neuron(rng, "short_lif", "short", 5, vth)]
    width = IntegerNetwork([*nodes, Readout("end", "short", np.zeros(5, int))]).shapes["flat"][0]
    nodes += [Dense("long", "flat", even(rng, (5, width))), neuron(rng, "long_lif", "long", 5, vth),
              Add("join", ("short_lif", "long_lif")), Dense("head", "join", even(rng, (3, 5))),
              Readout("readout", "head", rng.integers(-50, 50, 3), 0.25)]
    return IntegerNetwork(nodes, "random")


def cell(rng: Random, name: str, source: str, channels: int, feedback: bool = False, vth: int = 60) -> Cell:
    """A Cell of random constants, each one number or one per channel."""
    def some(low: int, high: int, size: int = channels) -> np.ndarray:
        return rng.integers(low, high, size if rng.random() < 0.5 else ())

    du = some(2000, 4096) if rng.random() < 0.5 else np.array(4095)
    how = {"reset": str(rng.choice(["zero", "subtract", "none", "late"])), "levels": int(rng.choice([1, 1, 3, 15])), "dh": some(1, 4097), "jump": some(0, 4000)}
    values = (name, source, some(1, 4097), some(1, vth), some(-1000, 1000), int(rng.integers(0, 3)), du)
    return RecurrentCell(*values, **how, weight=even(rng, (channels, channels), 30)) if feedback else Cell(*values, **how)


def random_cells(rng: Random) -> IntegerNetwork:
    """A small network of the nodes that are not among Lava's own processes: cells of all kinds, feedback, sums of windows and currents, delays."""
    size, c, n = (int(rng.integers(5, 9)), int(rng.integers(5, 9))), int(rng.integers(1, 5)), int(rng.integers(2, 8))
    nodes: list[Node] = [
        Input("input", (2, *size), int(rng.integers(1, 4))),
        Conv("a.conv", "input", even(rng, (c, 2, 3, 3)), padding=1), cell(rng, "a.cell", "a.conv", c),
        SumPool("a.pool", "a.cell", (2, 3), (2, 1), (1, int(rng.integers(0, 2)))),
        Conv("b.conv", "a.pool", even(rng, (c, c, 3, 3), 16), padding=1), Conv("b.short", "a.pool", even(rng, (c, c, 1, 1), 16)),
        Add("b.add", ("b.conv", "b.short")), cell(rng, "b.cell", "b.add", c, vth=150),
        Delay("b.delay", "b.cell", int(rng.integers(1, 9))), Tokens("b.tokens", "b.delay"),
        Dense("q", "b.tokens", even(rng, (n, c))), cell(rng, "q.cell", "q", n), TokenSum("sum", "q.cell"),
        Dense("c", "sum", even(rng, (n, n), 8)), cell(rng, "c.cell", "c", n, feedback=True, vth=200),
        Dense("head", "c.cell", even(rng, (3, n))), Readout("readout", "head", rng.integers(-50, 50, 3), 0.25),
    ]  # fmt: skip
    return IntegerNetwork(nodes, "cells")


def events(rng: Random, network: IntegerNetwork, steps: int, recordings: int, density: float = 0.15) -> np.ndarray:
    """Random graded events [T, B, ...], nonzero with probability `density`."""
    shape = (steps, recordings, *network.input.shape)
    return ((rng.random(shape) < density) * rng.integers(1, 2**network.input.message_bits, shape)).astype(np.int32)

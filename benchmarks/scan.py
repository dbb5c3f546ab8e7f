"""Neurons over time, forward and backward: ours against SpikingJelly, snnTorch, Norse and memory bandwidth, in one run.

    python benchmarks/scan.py [--rounds 5]

Each call makes the outputs of a whole sequence and the input's gradient from a given gradient of the outputs; nothing else is timed.
Peers run their own fastest way on a CPU without minutes of compilation: SpikingJelly multi-step with its torch backend, snnTorch in a
loop over time, Norse by its module over sequences. Where a peer has no such neuron, the nearest one that it has takes part, named below
the table. `floor` is one product forward (read x, write y) and one backward (read x, read the gradient, write the input's), new
results each time, as torch does it; `floor, again` the same into memory that is already there. Ratios above 1: ours is faster. Exit
status 1 where LIF's spikes or gradients are not SpikingJelly's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import peers
import torch
from torch import Tensor

import neuro
from neuro import neurons, surrogate
from neuro.reset import subtract, to_zero
from neuro.scanning import plain_loop

Forward = Callable[[Tensor], Tensor]
SIZES = {4: (32, 8192), 16: (32, 8192), 100: (8, 8192)}  # T -> batch, neurons: large
LARGE = (128, 8192)  # with T = 4 as many bytes as 16 steps of 32 x 8192, which no cache holds; 4 steps of those lie in the last one
SMALL = (8, 512)


class ThreeState(NamedTuple):
    v: Tensor
    u: Tensor  # current
    a: Tensor  # adaptation


class ThreeParams(NamedTuple):
    decay: float
    current_decay: float
    adapt_decay: float
    adapt_step: float


def three_step(x: Tensor, state: ThreeState, p: ThreeParams, *, spike: Any) -> tuple[Tensor, ThreeState]:
    """A neuron that a user might write: current, membrane, adaptation, soft reset; nobody has it ready."""
    u = p.current_decay * state.u + x
    v = p.decay * state.v + (1 - p.decay) * u - p.adapt_step * state.a
    s = spike(v - 1.0)
    return s, ThreeState(v - s, u, p.adapt_decay * state.a + s)


def three(x: Tensor) -> Tensor:
    zero = torch.zeros_like(x[0], dtype=torch.float32)
    return neuro.scan(three_step, x, ThreeState(zero, zero, zero), ThreeParams(0.8, 0.5, 0.95, 0.05), spike=surrogate.ATan(2.0))[0]


OURS: dict[str, Forward] = {
    "LIF": neurons.LIF(tau=2.0, spike=surrogate.ATan(2.0), reset=to_zero),
    "ALIF": neurons.ALIF(decay=0.9, reset=subtract),
    "CUBA": neurons.CUBALIF(decay=0.75),
    "three states": three,
}
NAMES = {
    "LIF": "SpikingJelly LIFNode; snnTorch Leaky; Norse LIFBoxCell, lifted",
    "ALIF": "SpikingJelly has no adaptive threshold: IzhikevichNode, also of two states; snnTorch has none; Norse LSNN (one state more)",
    "CUBA": "SpikingJelly CUBALIFNode; snnTorch Synaptic; Norse LIF",
    "three states": "nobody has it: our plain loop in torch",
}


def spikingjelly(detach: bool = True) -> dict[str, Forward]:
    if peers.load("spikingjelly", "spikingjelly.activation_based.neuron") is None:
        return {}
    from spikingjelly.activation_based import functional, neuron
    from spikingjelly.activation_based import surrogate as theirs

    atan = theirs.ATan(alpha=2.0)

    def of(node: Any) -> Forward:
        node.step_mode, node.backend = "m", "torch"

        def forward(x: Tensor) -> Tensor:
            functional.reset_net(node)
            return node(x)

        return forward

    cuba = neuron.CUBALIFNode(c_decay=0.5, v_decay=0.75, v_threshold=1.0, surrogate_function=atan)
    cuba.detach_reset = detach
    return {
        "LIF": of(neuron.LIFNode(tau=2.0, surrogate_function=atan, detach_reset=detach)),
        "ALIF": of(neuron.IzhikevichNode(surrogate_function=atan, detach_reset=detach)),
        "CUBA": of(cuba),
    }


def snntorch() -> dict[str, Forward]:
    module = peers.load("snntorch")
    if module is None:
        return {}
    from snntorch import surrogate as theirs

    atan = theirs.atan(alpha=2.0)
    leaky = module.Leaky(beta=0.5, spike_grad=atan, reset_mechanism="zero")
    synaptic = module.Synaptic(alpha=0.5, beta=0.75, spike_grad=atan, reset_mechanism="zero")

    def by_leaky(x: Tensor) -> Tensor:
        mem, out = torch.zeros_like(x[0]), []
        for x_t in x:
            spikes, mem = leaky(x_t, mem)
            out.append(spikes)
        return torch.stack(out)

    def by_synaptic(x: Tensor) -> Tensor:
        syn, mem, out = torch.zeros_like(x[0]), torch.zeros_like(x[0]), []
        for x_t in x:
            spikes, syn, mem = synaptic(x_t, syn, mem)
            out.append(spikes)
        return torch.stack(out)

    return {"LIF": by_leaky, "CUBA": by_synaptic}


def norse() -> dict[str, Forward]:
    module = peers.load("norse", "norse.torch")
    if module is None:
        return {}
    from norse.torch.module.lift import Lift

    made = {"LIF": Lift(module.LIFBoxCell()), "ALIF": module.LSNN(), "CUBA": module.LIF()}
    return {name: (lambda x, m=m: m(x)[0]) for name, m in made.items()}


def both(forward: Forward, x: Tensor, g: Tensor) -> Callable[[], Any]:
    """Forward and backward of one call."""

    def call() -> Any:
        y = forward(x)
        return y, torch.autograd.grad(y, x, g)

    return call


def floors(x: Tensor, g: Tensor) -> dict[str, Callable[[], Any]]:
    y, d, bare = torch.empty_like(g), torch.empty_like(g), x.detach()
    return {
        "floor": lambda: (bare * 0.5, bare * g),
        "floor, again": lambda: (torch.mul(bare, 0.5, out=y), torch.mul(bare, g, out=d)),
    }


def sequence(steps: int, rest: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, g = (torch.randn(steps, *rest, generator=generator).to(dtype) for _ in range(2))
    return (x + 0.5).requires_grad_(), g


def plain(forward: Forward) -> Forward:
    def call(x: Tensor) -> Tensor:
        with plain_loop():
            return forward(x)

    return call


def measure(neuron: str, steps: int, rest: tuple[int, ...], dtype: torch.dtype, others: dict[str, dict[str, Forward]], rounds: int) -> dict[str, float]:
    """Median seconds of every side."""
    x, g = sequence(steps, rest, dtype)
    sides = {"ours": OURS[neuron]} | {name: made[neuron] for name, made in others.items() if neuron in made}
    if neuron == "three states":
        sides["plain loop"] = plain(three)
    return peers.alternating({name: both(side, x, g) for name, side in sides.items()} | floors(x, g), rounds)


COLUMNS = ("spikingjelly", "snntorch", "norse", "plain loop")


def row(neuron: str, steps: int, rest: tuple[int, ...], dtype: torch.dtype, threads: int, t: dict[str, float]) -> list[str]:
    ratios = [f"{t[name] / t['ours']:.2f}" if name in t else "-" for name in COLUMNS]
    small = {torch.float32: "f32", torch.bfloat16: "bf16"}[dtype]
    at_floor = [f"{t['ours'] / t[name]:.2f}" for name in ("floor", "floor, again")]
    return [neuron, f"{steps}", "x".join(map(str, rest)), small, str(threads), f"{1e3 * t['ours']:.2f}", *ratios, *at_floor]


def times(rounds: int) -> None:
    others = {"spikingjelly": spikingjelly(), "snntorch": snntorch(), "norse": norse()}
    every = torch.get_num_threads()
    cells = [(n, t, SIZES[t], d, every) for n in OURS for t in SIZES for d in (torch.float32, torch.bfloat16)]
    cells += [(n, t, SMALL, torch.float32, every) for n in OURS for t in SIZES]
    cells += [("LIF", 4, LARGE, torch.float32, every)]
    if every > 1:
        cells += [("LIF", t, rest, torch.float32, 1) for t, rest in [*SIZES.items(), (4, LARGE)]]
    head = ["neuron", "T", "size", "type", "threads", "ours ms", *(f"{c}/ours" for c in COLUMNS), "ours/floor", "ours/floor, again"]
    rows, lif = [], {}
    for neuron, steps, rest, dtype, threads in cells:
        torch.set_num_threads(threads)
        found = measure(neuron, steps, rest, dtype, others, rounds)
        rows.append(row(neuron, steps, rest, dtype, threads, found))
        if neuron == "LIF" and dtype == torch.float32 and rest != SMALL:
            lif[steps, rest, threads] = found
    torch.set_num_threads(every)
    print(peers.table(head, rows))
    for neuron, said in NAMES.items():
        print(f"  {neuron}: {said}")
    say_targets(lif)


def say_targets(lif: dict[tuple[int, tuple[int, ...], int], dict[str, float]]) -> None:
    for (steps, rest, threads), t in lif.items():
        compared = [name for name in ("spikingjelly", "snntorch", "norse") if name in t]
        what = f"LIF f32 T={steps}, {'x'.join(map(str, rest))}, {threads} thread{'s' * (threads > 1)}"
        if compared and steps in (4, 16):
            best = min(compared, key=lambda name: t[name])
            print(peers.target(f"{what}, against {best}, the best peer", t[best] / t["ours"], at_least={4: 3, 16: 5}[steps]))
        print(peers.target(f"{what}, of the floor", t["ours"] / t["floor"], at_most=2))


def equal_to_spikingjelly() -> bool:
    """Spikes may differ where the last bit decides: the two sum in another order."""
    theirs = spikingjelly().get("LIF")
    if theirs is None:
        return True
    x, g = sequence(16, (32, 512), torch.float32)
    (y, (d,)), (y2, (d2,)) = both(OURS["LIF"], x, g)(), both(theirs, x, g)()
    same = (y == y2).all(0)  # neurons that fired alike throughout
    apart = (d - d2)[:, same].abs().max().item()
    different = int((y != y2).sum())
    equal = different <= 1e-5 * y.numel() and apart <= 1e-5
    print(f"check: LIF against SpikingJelly's on {y.numel()} elements: {different} spikes differ, gradients by at most {apart:.1e}: {'equal' if equal else 'NOT equal'}")
    return equal


SIDES: dict[str, Callable[[], dict[str, Forward]]] = {
    "ours": lambda: OURS,
    "spikingjelly": spikingjelly,
    "spikingjelly, as it comes": lambda: spikingjelly(detach=False),  # the reset has a gradient
    "snntorch": snntorch,
    "norse": norse,
    "plain loop": lambda: {name: plain(forward) for name, forward in OURS.items()},
}


def bytes_kept() -> None:
    """What autograd keeps for every neuron; for LIF also what a process grew by."""
    x, _ = sequence(16, (32, 8192), torch.float32)
    rows, memory = [], peers.can_measure_memory()
    for side, make in SIDES.items():
        for neuron, forward in make().items():
            of_x, other = (b / x.numel() for b in peers.kept(lambda f=forward: f(x), [x]))
            # With this threshold the C library gives each freed tensor back at once; else its gaps are counted too.
            watched = memory and neuron == "LIF"
            grew = peers.in_process(__file__, "--grown", side, neuron, MALLOC_MMAP_THRESHOLD_="65536") / x.numel() if watched else None
            rows.append([neuron, side, f"{of_x + other:.2f}", f"{of_x:.2f}", f"{other:.2f}", "-" if grew is None else f"{grew:.2f}"])
    rows.sort(key=lambda r: list(OURS).index(r[0]))
    print("\nbytes per element and step kept for backward, [16, 32, 8192] float32. grown: what a process grew by in forward, without x and y")
    print(peers.table(["neuron", "side", "all", "of it x", "others", "grown"], rows))
    ours = next(float(r[2]) for r in rows if r[:2] == ["LIF", "ours"])
    print(peers.target("bytes kept for LIF", ours, at_most=4))


def grown(name: str, neuron: str) -> None:
    """In a process of its own: bytes that forward left behind, outputs taken off."""
    forward = SIDES[name]()[neuron]
    both(forward, *sequence(16, (2, 4096), torch.float32))()  # whatever is loaded or compiled at the first call
    x, _ = sequence(16, (32, 8192), torch.float32)
    memory = peers.Memory()
    memory.start()
    y = forward(x)
    print(json.dumps(memory.now() - y.untyped_storage().nbytes()))


def first_calls() -> None:
    rows = []
    for neuron in ("LIF", "three states"):
        with tempfile.TemporaryDirectory() as folder:
            (_, cold), *warm = (peers.in_process(__file__, "--first", neuron, NEURO_CACHE=folder) for _ in range(4))
            loading, later = (statistics.median(column) for column in zip(*warm, strict=True))
            rows.append([neuron, f"{loading:.2f}", f"{cold:.2f}", f"{later:.2f}"])
    print("\nseconds of the first forward and backward of a process, after Numba has loaded itself")
    print(peers.table(["neuron", "Numba loads", "empty cache", "later process"], rows))
    for neuron, _, cold, warm in rows:
        print(peers.target(f"first call of {neuron}, s", float(cold), at_most=3 if neuron == "LIF" else 6))
        print(peers.target(f"first call of {neuron} in a later process, s", float(warm), at_most=0.3))


def first(neuron: str) -> None:
    """In a process of its own: seconds in which Numba loads itself, and those of the first call."""
    x, g = sequence(16, (32, 512), torch.float32)
    both(lambda x: x * 2, x, g)()
    start = time.perf_counter()
    from numba.core.registry import cpu_target

    cpu_target.target_context.refresh()  # Numba imports its library of functions here, not at `import numba`
    cpu_target.typing_context.refresh()
    loaded = time.perf_counter()
    both(OURS[neuron], x, g)()
    print(json.dumps([loaded - start, time.perf_counter() - loaded]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--grown", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--first", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.grown:
        grown(*given.grown)
        return 0
    if given.first:
        first(given.first)
        return 0
    print(peers.machine())
    equal = equal_to_spikingjelly()
    times(given.rounds)
    bytes_kept()
    first_calls()
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())

"""The integer twin against Lava's CPU simulation, on the same recordings, equal in every spike and membrane.

    python benchmarks/lava.py [rounds]

Sides take turns; medians of milliseconds per time step. Left out on both sides, and printed, are the seconds that it takes to be ready:
Lava builds and starts its processes, the twin checks the network and lays out its weights (its functions were compiled before). The
twin runs on one thread, once without and once with keeping every membrane, as Lava's run does. Lava runs each Conv in the faster of its
own Conv and its Dense. The overhead of its processes is measured apart: a chain of as many Dense 4x4 and LIF of 4 neurons as the network has
processes computes next to nothing. The column "without overhead" takes the chain's time off Lava's side, "of rounds" are the ratios of single rounds.

*Checks* (status 1): twin and Lava are equal; the twin's time is a line over its events. Asked: at least 100 times.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import peers
from peers import machine, table, target

from neuro.deploy.examples import even, neuron
from neuro.deploy.lava import compare, find_interpreter, run_lava, why_none
from neuro.deploy.network import LIF, Conv, Dense, Flatten, Input, IntegerNetwork, Readout, Tokens, TokenSum
from neuro.deploy.twin import Runner, run_twin

DENSITY = 0.05
TURN = 1.0      # seconds of the twin's turn, about as long as Lava's
DEMO = Path(__file__).resolve().parents[1] / "tests/deploy/traces"


def dense(size: int = 2048) -> IntegerNetwork:
    rng = np.random.default_rng(0)
    return IntegerNetwork([Input("x", (size,)), Dense("a", "x", even(rng, (size, size), 200)), neuron(rng, "n", "a", size, 3000),
                           Readout("out", "n", np.zeros(size, int))], f"Dense {size}x{size}")


def conv(side: int = 32) -> IntegerNetwork:
    rng = np.random.default_rng(0)
    return IntegerNetwork([Input("x", (16, side, side)), Conv("a", "x", even(rng, (32, 16, 3, 3), 254), padding=1), neuron(rng, "n", "a", 32, 500),
                           Tokens("pixels", "n"), TokenSum("sum", "pixels"), Readout("out", "sum", np.zeros(32, int))], f"Conv 16->32, {side}x{side}")


def chain(layers: int) -> IntegerNetwork:
    """So many Dense 4x4 and LIF, one after the other: 2 * layers processes, source and readout."""
    rng, nodes = np.random.default_rng(0), [Input("x", (4,))]
    for i in range(layers):
        nodes += [Dense(f"a{i}", nodes[-1].name, even(rng, (4, 4), 254)), LIF(f"n{i}", f"a{i}", 1000, 40)]
    return IntegerNetwork([*nodes, Readout("out", nodes[-1].name, np.zeros(4, int))])


def processes(network: IntegerNetwork) -> int:
    """Processes that Lava starts for it: reshapes are none, an early branch that a Lava process of its own reads needs none here."""
    return sum(not isinstance(n, Flatten | Tokens) for n in network.nodes)


def spikes(network: IntegerNetwork, steps: int, density: float = DENSITY) -> np.ndarray:
    rng = np.random.default_rng(1)
    return (rng.random((steps, 1, *network.input.shape)) < density).astype(np.int32)


def ready(network: IntegerNetwork, x: np.ndarray, membranes: bool) -> tuple[Callable[[], object], float]:
    """A call that runs the recording x [T, 1, ...], and the seconds that it took to get there."""
    start = time.perf_counter()
    network.check()
    runner = Runner(network, len(x), membranes)
    buffers = runner.buffers()
    return lambda: runner.run(x[:, 0], buffers), time.perf_counter() - start


def overhead(rounds: int, sizes: set[int], steps: int = 60) -> dict[int, float]:
    """Milliseconds per step of chains of so many processes, by their number; prints them."""
    spent: dict[int, list[float]] = {n: [] for n in sorted(sizes)}
    for _ in range(rounds):
        for n, times in spent.items():
            network = chain((n - 2 + n % 2) // 2)
            result = run_lava(network, spikes(network, steps, 0.5))
            times.append(1e3 * result.seconds[1] / result.steps * n / processes(network))
    found = {n: statistics.median(times) for n, times in spent.items()}
    print("Lava's overhead, by chains of processes that compute next to nothing:")
    print(table(["processes", "ms a step", "ms per process and step"], [[f"{n}", f"{ms:.2f}", f"{ms / n:.3f}"] for n, ms in found.items()]), "\n")
    return found


def race(network: IntegerNetwork, x: np.ndarray, rounds: int, idle: dict[int, float], unrolls: tuple[int, ...]) -> tuple[list[str], float, bool]:
    """One row of the table, the ratio, and whether both sides are equal."""
    twin = run_twin(network, x, record=True, threads=1)
    plain, prepared = ready(network, x, False)
    calls = {"twin": plain, "membranes": ready(network, x, True)[0]}
    times: dict[str, list[float]] = {**{name: [] for name in calls}, **{f"lava {u}": [] for u in unrolls}}
    exact, started = True, []
    for again in range(rounds):
        for name in [*times][again % 2::2] + [*times][1 - again % 2::2]:
            if name in calls:
                start, runs = time.perf_counter(), 0
                while (spent := time.perf_counter() - start) < TURN or not runs:
                    calls[name]()
                    runs += 1
                times[name].append(1e3 * spent / runs / len(x))
                continue
            lava = run_lava(network, x, unroll=int(name.split()[1]))
            times[name].append(1e3 * lava.seconds[1] / lava.steps)
            started.append(lava.seconds[0])
            agreement = compare(twin, lava)
            exact &= agreement.exact
            print("" if agreement.exact else f"{network.name}\n{agreement}\n", end="")
    ms = {name: statistics.median(spent) for name, spent in times.items()}
    pairs = [min(times[f"lava {u}"][k] for u in unrolls) / times["twin"][k] for k in range(rounds)]
    slow, n = min(v for name, v in ms.items() if name.startswith("lava")), processes(network)
    row = [network.name, f"{n}", f"{twin.total('events') / len(x):.0f}", f"{twin.total('spikes') / len(x):.0f}", f"{prepared:.2f}", f"{statistics.median(started):.2f}", f"{ms['twin']:.3f}",
           f"{ms['membranes']:.3f}", f"{slow:.2f}", f"{idle[n]:.2f}", f"{slow / ms['twin']:.0f}", f"{slow / ms['membranes']:.0f}",
           f"{max(slow - idle[n], 0.0) / ms['twin']:.0f}", f"{min(pairs):.0f} .. {max(pairs):.0f}", "yes" if exact else "NO"]
    return row, slow / ms["twin"], exact


def linear(network: IntegerNetwork, steps: int = 200) -> tuple[list[str], bool]:
    """The twin's time over the share of active inputs: a line, its deviation, and whether doubled events cost no more than twice."""
    shares = (0.0, 0.05, 0.1, 0.2, 0.4)
    inputs = {s: spikes(network, steps, s) for s in shares}
    ms = {s: 1e3 * t / steps for s, t in peers.alternating({s: ready(network, x, False)[0] for s, x in inputs.items()}, 9).items()}
    events = [inputs[s].sum() / steps for s in shares]
    slope, start = np.polyfit(events, list(ms.values()), 1)
    off = max(abs(ms[s] - (start + slope * e)) for s, e in zip(shares, events, strict=True)) / ms[shares[-1]]
    growth = (ms[0.4] - ms[0.0]) / (ms[0.2] - ms[0.0])
    return [network.name, *(f"{ms[s]:.3f}" for s in shares), f"{1e6 * slope:.0f}", f"{start:.3f}", f"{off:.1%}", f"{growth:.2f}"], off < 0.25 and 1.4 < growth < 2.6


def main(rounds: int = 3) -> int:
    print(machine(), "\n")
    failed = []
    if find_interpreter() is None:
        print(f"Lava: not compared, {why_none()}\n")
    else:
        with np.load(DEMO / "demo.lava.npz") as recorded:
            motion = recorded["inputs"].astype(np.int32)
        demo = IntegerNetwork.load(DEMO / "demo.network.npz")
        demo.name = "the demo's network"
        races = [(dense(), spikes(dense(), 300), (256,)), (conv(), spikes(conv(), 60), (10**9,)), (demo, motion, (256, 10**9))]
        idle = overhead(rounds, {processes(network) for network, _, _ in races} | {10, 20})
        found = [race(network, x, rounds, idle, unrolls) for network, x, unrolls in races]
        print("seconds to be ready; events into synapses, spikes and milliseconds per time step; ratios: Lava's time by the twin's")
        print(table(["network", "processes", "events", "spikes", "twin ready", "Lava ready", "twin", "membranes", "Lava", "its overhead", "ratio", "membranes", "without overhead", "of rounds", "equal"], [row for row, _, _ in found]))
        print()
        for (network, _, _), (_, ratio, _) in zip(races, found, strict=True):
            print(target(f"{network.name}: times faster than Lava", ratio, at_least=100))
        failed += [f"{network.name}: twin and Lava differ" for (network, _, _), (_, _, exact) in zip(races, found, strict=True) if not exact]
    rows = [linear(dense()), linear(conv())]
    print("\nthe twin's milliseconds per step over the share of active inputs")
    print(table(["network", "0 %", "5 %", "10 %", "20 %", "40 %", "ns per event", "ms without", "off the line", "40 % by 20 %"], [row for row, _ in rows]))
    failed += [f"{row[0]}: no line over the events (off it by {row[-2]}, asked below 25%; 40 % by 20 % {row[-1]}, asked 1.4 to 2.6)" for row, straight in rows if not straight]
    print("\n".join(f"check FAILED: {what}" for what in failed) or "checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:2])))

"""Records Lava: runs small networks and saves every spike and membrane in traces/. Needs a Lava interpreter.

    python tests/deploy/make_traces.py                    the random networks
    python tests/deploy/make_traces.py --demo runs/demo   the network of a finished demo, on one motion

`<name>.network.npz` is the network file, `<name>.lava.npz` its inputs and what Lava made of them. The tests hold the twin
against these wherever they run. Convolutions run on Lava's own Conv (unroll=10**9).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from neuro.deploy.examples import even, events, random_network
from neuro.deploy.lava import run_lava
from neuro.deploy.network import LIF, Dense, Input, IntegerNetwork, Node, Readout

TRACES = Path(__file__).with_name("traces")


def neurons(rng: np.random.Generator) -> IntegerNetwork:
    """One product that feeds four LIF layers of random du, dv, bias and threshold; for one long recording."""
    nodes: list[Node] = [Input("input", (6,), 4), Dense("w", "input", even(rng, (8, 6), 120))]
    for i in range(4):
        du = 4095 if i == 0 else int(rng.integers(300, 4095))
        nodes.append(LIF(f"lif{i}", "w", int(rng.integers(0, 4096)), int(rng.integers(40, 900)),
                         rng.integers(-4095, 4096, 8), int(rng.integers(0, 4)), du))
    nodes += [Dense("head", "lif0", even(rng, (2, 8))), Readout("readout", "head", np.array([1, -1]))]
    return IntegerNetwork(nodes, "neurons")


def record(name: str, network: IntegerNetwork, inputs: np.ndarray) -> None:
    network.save(TRACES / f"{name}.network.npz")
    lava = run_lava(network, inputs, unroll=10**9)
    saved = {f"spikes/{key}": np.packbits(x, axis=None) for key, x in lava.spikes.items()}
    saved |= {f"membranes/{key}": x for key, x in lava.membranes.items()}
    np.savez_compressed(TRACES / f"{name}.lava.npz", inputs=inputs.astype(np.uint8), acc=lava.acc, **saved)
    print(name, network, f"{sum(int(x.sum()) for x in lava.spikes.values())} spikes")


def record_demo(folder: Path) -> None:
    """The demo's trained network on one recording that it has not seen."""
    from neuro.datasets.motions import make_motions
    from neuro.demo import chip, task

    inputs, _ = chip.integers(task.frames(make_motions(1, seed=2026)))
    record("demo", IntegerNetwork.load(folder / "network.npz"), inputs)


if __name__ == "__main__":
    TRACES.mkdir(exist_ok=True)
    if sys.argv[1:2] == ["--demo"]:
        record_demo(Path(sys.argv[2]))
        raise SystemExit
    rng = np.random.default_rng(20)
    network = neurons(rng)
    record("neurons", network, events(rng, network, 1000, 1, 0.5))
    for i in range(4):
        network = random_network(rng)
        record(f"random{i}", network, events(rng, network, 6, 2, 0.3))

"""Who reads our NIR files as they were meant, and do we read theirs? Writes docs/nir_conformance.md.

Each library runs in a process of its own, from folders named with --peers (each is put on its path); one that cannot be loaded
is written down as not at hand. Spikes are compared step for step on the same random input.

    python benchmarks/nir_conformance.py --peers FOLDER FOLDER ... --out docs/nir_conformance.md
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import traceback
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np

READERS = {"snnTorch": "snntorch", "Norse": "norse", "SpikingJelly": "spikingjelly", "sinabs": "sinabs", "Rockpool": "rockpool"}
STEPS, BATCH = 40, 4


def cases():
    """(name, network, shape of a step, options of export); dt is 1e-4 s, which is all that snnTorch's reader knows, but for one."""
    import torch
    from torch import nn

    from neuro import layers, neurons, reset
    from neuro.deploy.nir_layers import Delay, SumPool2d
    from neuro.surrogate import ATan

    torch.manual_seed(3)
    strict = {"spike": ATan(strict=True)}
    soft = {**strict, "reset": reset.subtract}

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = layers.Sequential(layers.Linear(6, 6), neurons.LIF(tau=4.0, **strict))

        def forward(self, x):
            return self.body(x) + x

    def row(*tail, into=8):
        return layers.Sequential(layers.Linear(6, into), *tail)

    def maps(conv, *tail, flat):
        return layers.Sequential(conv, neurons.LIF(tau=4.0, **strict), *tail, layers.Flatten(), layers.Linear(flat, 4), neurons.LIF(tau=4.0, **strict))

    small = {"dt": 1e-4}
    yield "LIF, hard reset", row(neurons.LIF(tau=4.0, **strict)), (6,), small
    yield "the same, dt = 1e-3 s", row(neurons.LIF(tau=4.0, **strict)), (6,), {"dt": 1e-3}
    yield "LIF, gain 1 (snnTorch's form)", row(neurons.LIF(decay=0.75, **strict)), (6,), small
    yield "LIF, every neuron another tau", row(neurons.PLIF(shape=(8,), **strict)), (6,), small
    equal = layers.Sequential(layers.Linear(6, 6, bias=False), neurons.LIF(decay=0.5))
    equal[0].weight = nn.Parameter(torch.eye(6))
    yield "LIF that meets its threshold exactly, fires at >=", equal, (6,), small
    yield "LIF, soft reset, written out", row(neurons.LIF(tau=4.0, **soft)), (6,), small
    yield "LIF, soft reset, stated in metadata", row(neurons.LIF(tau=4.0, **soft)), (6,), {**small, "soft_reset": "stated"}
    yield "IF, hard reset", row(neurons.IF(**strict)), (6,), small
    yield "CUBALIF", row(neurons.CUBALIF(0.5, decay=0.75, **strict)), (6,), small
    yield "recurrent LIF", row(neurons.Recurrent(neurons.LIF(tau=4.0, **strict), 8)), (6,), small
    yield "recurrent LIF, a bias on the way back", row(neurons.Recurrent(neurons.LIF(tau=4.0, **strict), 8, bias=True)), (6,), small
    yield "residual sum", layers.Sequential(Residual(), layers.Linear(6, 4), neurons.LIF(tau=4.0, **strict)), (6,), small
    yield "conv, flatten, linear", maps(layers.Conv2d(2, 4, 3, padding=1), flat=4 * 36), (2, 6, 6), small
    yield "depthwise conv, written out", maps(layers.Conv2d(2, 4, 3, padding=1, groups=2), flat=4 * 36), (2, 6, 6), small
    yield "conv, sum pooling", maps(layers.Conv2d(2, 4, 3, padding=1), SumPool2d((2, 2), (2, 2)), flat=4 * 9), (2, 6, 6), small
    maxed = layers.MaxPool2d(2)
    yield "conv, max pooling of spikes", maps(layers.Conv2d(2, 4, 3, padding=1), maxed, flat=4 * 9), (2, 6, 6), small
    yield "the same, as NIR's Threshold", maps(layers.Conv2d(2, 4, 3, padding=1), maxed, flat=4 * 9), (2, 6, 6), {**small, "max_pool": "Threshold"}
    yield "conv, max pooling of spikes, padded", maps(layers.Conv2d(2, 4, 3, padding=1), layers.MaxPool2d(3, 2, 1), flat=4 * 9), (2, 6, 6), small
    yield "a delay of 3 steps", row(neurons.LIF(tau=4.0, **strict), layers.Delay(3)), (6,), small
    yield "a delay of its own for every neuron", row(neurons.LIF(tau=4.0, **strict), Delay(torch.arange(8) % 4)), (6,), small
    yield "conv, average pooling", maps(layers.Conv2d(2, 4, 3, padding=1), layers.AvgPool2d(2), flat=4 * 9), (2, 6, 6), small


def single_nodes():
    """(kind, graph of that node alone, shape of a step), with the plainest numbers: alike for all neurons, gains of 1, dt 1e-4 s."""
    import nir

    n = np.ones(4)
    leak = {"tau": 4e-4 * n, "r": n, "v_leak": 0 * n}
    cuba = {"tau_syn": 2e-4 * n, "tau_mem": 4e-4 * n, "r": n, "v_leak": 0 * n, "w_in": n}
    fires = {"v_threshold": 0.5 * n, "v_reset": 0 * n}
    rng = np.random.default_rng(0)
    w, bias = rng.integers(-4, 5, (4, 4)) / 4, np.array([0.5, -0.25, 0.0, 1.0])
    two = [np.array([v, v]) for v in (2, 2, 0)]
    one = np.array([1, 1])
    k1, k2 = rng.integers(-4, 5, (4, 2, 3)) / 4, rng.integers(-4, 5, (4, 2, 3, 3)) / 4
    made = {
        "Linear": (nir.Linear(w), (4,), (4,)), "Affine": (nir.Affine(w, bias), (4,), (4,)), "Scale": (nir.Scale(bias + 1), (4,), (4,)),
        "Conv1d": (nir.Conv1d(6, k1, 1, 1, 1, 1, bias), (2, 6), (4, 6)), "Conv2d": (nir.Conv2d((6, 6), k2, one, one, one, 1, bias), (2, 6, 6), (4, 6, 6)),
        "SumPool2d": (nir.SumPool2d(*two), (2, 6, 6), (2, 3, 3)), "AvgPool2d": (nir.AvgPool2d(*two), (2, 6, 6), (2, 3, 3)),
        "Flatten": (nir.Flatten({"input": np.array([2, 6, 6])}, 0, -1), (2, 6, 6), (72,)), "Delay": (nir.Delay(2e-4 * n), (4,), (4,)),
        "Threshold": (nir.Threshold(0.5 * n), (4,), (4,)), "I": (nir.I(n), (4,), (4,)), "LI": (nir.LI(**leak), (4,), (4,)), "CubaLI": (nir.CubaLI(**cuba), (4,), (4,)),
        "IF": (nir.IF(r=n, **fires), (4,), (4,)), "LIF": (nir.LIF(**leak, **fires), (4,), (4,)), "CubaLIF": (nir.CubaLIF(**cuba, **fires), (4,), (4,)),
    }  # fmt: skip
    for kind, (node, shape, out) in made.items():
        nodes = {"input": nir.Input(np.array(shape)), "node": node, "output": nir.Output(np.array(out))}
        yield kind, nir.NIRGraph(nodes, [("input", "node"), ("node", "output")], type_check=False), shape


def read(reader: str, file: str, dt: float, x: np.ndarray) -> np.ndarray:
    """Spikes [T, B, ...] of a NIR file in a reader; runs in the reader's own process."""
    import nir
    import torch

    graph, xs = nir.read(file), torch.tensor(x)
    if reader in ("snnTorch", "Norse") and len(xs[0]) > 1 and any(isinstance(n, nir.Flatten) for n in graph.nodes.values()):
        # their Flatten takes the batch in as well: one sample at a time
        return np.concatenate([read(reader, file, dt, x[:, b : b + 1])[:, None] for b in range(x.shape[1])], axis=1).reshape(*x.shape[:2], -1)
    with torch.no_grad():
        if reader == "snnTorch":
            from snntorch.import_nir import import_from_nir

            return stepped(import_from_nir(graph), xs)
        if reader == "Norse":
            import norse.torch

            return stepped(norse.torch.from_nir(graph, dt=dt), xs)
        if reader == "SpikingJelly":
            from spikingjelly.activation_based.nir_exchange import import_from_nir

            return stepped(import_from_nir(graph, dt=dt).eval(), xs)
        if reader == "sinabs":
            from sinabs.nir import from_nir

            y = from_nir(graph, batch_size=x.shape[1])(xs.transpose(0, 1).flatten(0, 1))
            y = y[0] if isinstance(y, tuple) else y
            return y.unflatten(0, (x.shape[1], x.shape[0])).transpose(0, 1).numpy()
        from rockpool.nn.modules import from_nir

        y = from_nir(graph)(xs.transpose(0, 1))
        return (y[0] if isinstance(y, tuple) else y).transpose(0, 1).numpy()


def stepped(net, xs) -> np.ndarray:
    state, seen = None, []
    for x_t in xs:
        y = net(x_t, state) if state is not None else net(x_t)
        y, state = y if isinstance(y, tuple) else (y, None)
        seen.append((y[0] if isinstance(y, tuple) else y).detach().numpy())
    return np.stack(seen)


def write(writer: str, file: str, x: np.ndarray) -> np.ndarray:
    """A network of a library's own, two dense LIF layers, exported by it, and its spikes; runs in the library's own process."""
    import nir
    import torch
    from torch import nn

    torch.manual_seed(0)
    a, b, xs = nn.Linear(6, 12), nn.Linear(12, 4), torch.tensor(x)
    for layer in (a, b):
        layer.weight.data *= 8
        layer.bias.data += 0.5
    with torch.no_grad():
        if writer == "snnTorch":
            import snntorch
            from snntorch.export_nir import export_to_nir

            how = {"reset_mechanism": "zero", "init_hidden": True}
            net = nn.Sequential(a, snntorch.Leaky(0.75 * torch.ones(12), threshold=torch.ones(12), **how), b, snntorch.Leaky(0.75 * torch.ones(4), threshold=torch.ones(4), **how))
            nir.write(file, export_to_nir(net, xs[0, 0]))
            for m in net.modules():
                if hasattr(m, "reset_mem"):
                    m.reset_mem()
            return stepped(net, xs)
        if writer == "Norse":
            import norse.torch as norse
            from norse.torch.functional.lif_box import LIFBoxParameters
            from norse.torch.module.lif_box import LIFBoxCell

            def lif(n):
                zero, one = torch.zeros(n), torch.ones(n)
                return LIFBoxCell(LIFBoxParameters(tau_mem_inv=one * 1e4 / 4, v_leak=zero, v_th=one, v_reset=zero), dt=1e-4)

            net = norse.SequentialState(a, lif(12), b, lif(4))
            nir.write(file, norse.to_nir(net, xs[0, 0], dt=1e-4))
            return stepped(net, xs)
        if writer == "SpikingJelly":
            from spikingjelly.activation_based import functional, neuron
            from spikingjelly.activation_based.nir_exchange import export_to_nir

            net = nn.Sequential(a, neuron.LIFNode(tau=4.0), b, neuron.LIFNode(tau=4.0)).eval()
            nir.write(file, export_to_nir(net, xs[0], dt=1e-4))
            functional.reset_net(net)
            return stepped(net, xs)
        if writer == "sinabs":
            import sinabs.layers as sl
            from sinabs.activation import MembraneReset, SingleSpike
            from sinabs.nir import to_nir

            how = {"batch_size": x.shape[1], "spike_fn": SingleSpike, "reset_fn": MembraneReset(), "min_v_mem": None}
            net = nn.Sequential(a, sl.IAFSqueeze(**how), b, sl.IAFSqueeze(**how))
            flat = xs.transpose(0, 1).flatten(0, 1)
            nir.write(file, to_nir(net, flat))
            for m in net.modules():
                if hasattr(m, "reset_states"):
                    m.reset_states()
            return net(flat).unflatten(0, (x.shape[1], x.shape[0])).transpose(0, 1).numpy()
        from rockpool.nn.combinators import Sequential
        from rockpool.nn.modules import LIFTorch, LinearTorch, to_nir

        how = {"dt": 1e-4, "tau_mem": 4e-4, "tau_syn": 2e-4}
        net = Sequential(LinearTorch((6, 12)), LIFTorch(12, **how), LinearTorch((12, 4)), LIFTorch(4, **how))
        nir.write(file, to_nir(net))
        return net(xs.transpose(0, 1))[0].transpose(0, 1).detach().numpy()


def child(reader: str, folder: Path, peers: list[str]) -> str:
    """Let a library read every `N.nir` of the folder on `N.npy`, and write one of its own, in a process of its own; "" or why it ended."""
    command = [sys.executable, __file__, "--child", reader, str(folder)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(peers)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=1200)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no message"])[-1][:110]


def all_of(reader: str, folder: Path) -> None:
    """What `child` does there: `N.reader.npy` holds what came of a file, `N.reader.txt` the last line of an error."""
    for name, dt in json.loads((folder / "cases.json").read_text()):
        attempt(folder / f"{name}.{reader}", lambda name=name, dt=dt: read(reader, str(folder / f"{name}.nir"), dt, np.load(folder / f"{name}.npy")))
    attempt(folder / f"own.{reader}", lambda: write(reader, str(folder / f"own.{reader}.nir"), np.load(folder / "own.npy")))


def attempt(stem: Path, act) -> None:
    try:
        np.save(f"{stem}.npy", act())
    except Exception as error:  # of any library
        Path(f"{stem}.txt").write_text("".join(traceback.format_exception_only(error)).strip().splitlines()[-1][:110])


def came(stem: Path, ended: str) -> np.ndarray | str:
    """What `attempt` left."""
    if Path(f"{stem}.npy").is_file():
        return np.load(f"{stem}.npy")
    return Path(f"{stem}.txt").read_text() if Path(f"{stem}.txt").is_file() else ended


def verdict(want: np.ndarray, got: np.ndarray | str, whose: tuple[str, str] = ("ours", "theirs")) -> str:
    """One cell of the table; `whose` the wanted spikes are, and those that came."""
    if isinstance(got, str):
        return f"refuses: {got}".replace("|", "/")
    if got.shape != want.shape:
        return f"shape {list(got.shape)}, not {list(want.shape)}"
    off = np.argwhere(got != want)
    if not len(off):
        return "equal"
    t = off[:, 0].min()
    return f"**{len(off)} of {want.size} differ**, first at step {t} (spikes: {whose[0]} {int(want.sum())}, {whose[1]} {int(got.sum())})"


def short(want: np.ndarray, got: np.ndarray | str) -> str:
    """Equal to rounding, or how not."""
    if isinstance(got, str):
        return "refuses"
    if got.shape != want.shape:
        return f"**shape {list(got.shape[2:])}**"
    return "equal" if np.allclose(got, want, rtol=1e-5, atol=1e-5) else f"**{(~np.isclose(got, want, rtol=1e-5, atol=1e-5)).mean():.0%} differ**"


def versions(peers: list[str]) -> dict[str, str]:
    """Version of each library, or why it is not at hand."""
    found = {}
    for name, package in READERS.items():
        code = f"import {package}; from importlib.metadata import version; print(version('{package}'))"
        done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(peers)}, capture_output=True, text=True)
        found[name] = done.stdout.strip() if done.returncode == 0 else "not at hand: " + (done.stderr.strip().splitlines() or ["?"])[-1]
    return found


def export_all(folder: Path) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Every case as a file with its input, for `child`; (name, spikes of the network, spikes of the file read here)."""
    import nir
    import torch

    from neuro.deploy import nir as exchange

    found, listed = [], []
    for n, (name, net, shape, how) in enumerate(cases()):
        torch.manual_seed(3)
        for key, p in net.named_parameters():  # so that every layer fires
            if key.endswith(".w"):
                p.data = torch.randn(p.shape)
            elif not name.startswith("LIF that"):
                p.data = p.data * (4 if len(shape) == 1 else 10) if p.dim() > 1 else p.data + (0.5 if len(shape) == 1 else 2)
        x = torch.rand(STEPS, BATCH, *shape)
        x = (x * 4).round() / 4 if name.startswith("LIF that") else (x < 0.5).float()
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            exchange.export(net.eval(), x, path=folder / f"{n}.nir", **how)
            found.append((name, net(x).numpy(), exchange.load(folder / f"{n}.nir")(x).numpy()))
        np.save(folder / f"{n}.npy", x.numpy())
        listed.append((str(n), how["dt"]))
    for kind, graph, shape in single_nodes():
        nir.write(folder / f"{kind}.nir", graph)
        x = (torch.rand(STEPS, BATCH, *shape) * 8).round() / 8
        np.save(folder / f"{kind}.npy", x.numpy())
        with torch.no_grad():
            np.save(folder / f"{kind}.here.npy", exchange.load(graph, dt=1e-4)(x).numpy())
        listed.append((kind, 1e-4))
    np.save(folder / "own.npy", (torch.rand(STEPS, BATCH, 6) < 0.5).float().numpy())
    (folder / "cases.json").write_text(json.dumps(listed))
    return found


def report(peers: list[str]) -> str:
    import torch

    have = versions(peers)
    reads, writes = [], []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        run = export_all(folder)
        ended = {r: child(r, folder, peers) for r in READERS if not have[r].startswith("not")}
        for n, (name, want, here) in enumerate(run):
            cells = [verdict(want, came(folder / f"{n}.{r}", ended[r])) if r in ended else "not at hand" for r in READERS]
            reads.append([name, f"{want.mean():.2f}", verdict(want, here), *cells])
            print(reads[-1], flush=True)
        x = torch.tensor(np.load(folder / "own.npy"))
        for name in READERS:
            theirs = came(folder / f"own.{name}", ended[name]) if name in ended else "not at hand"
            ours = theirs if isinstance(theirs, str) else read_here(folder / f"own.{name}.nir", x)
            writes.append([name, "cannot write: " + theirs if isinstance(theirs, str) else verdict(theirs, ours, ("there", "here")) + f" (rate {theirs.mean():.2f})"])
            print(writes[-1], flush=True)
        alone = [[kind, *(short(np.load(folder / f"{kind}.here.npy"), came(folder / f"{kind}.{r}", ended[r])) if r in ended else "not at hand" for r in READERS)]
                 for kind, _, _ in single_nodes()]  # fmt: skip
    return page(have, reads, writes, alone)


def read_here(file: Path, x) -> np.ndarray | str:
    from neuro.deploy import nir as exchange
    from neuro.errors import NeuroError

    try:
        return exchange.load(file, dt=1e-4)(x).detach().numpy()
    except NeuroError as error:
        return "; ".join(str(error).splitlines()[:2])


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(r) + " |" for r in [head, ["---"] * len(head), *rows])


def page(have: dict[str, str], reads: list[list[str]], writes: list[list[str]], alone: list[list[str]]) -> str:
    import torch

    from neuro.deploy.nir_nodes import table as nodes

    shown = "\n".join(f"- {n}: {v}" for n, v in have.items())
    return f"""# NIR between libraries

Written by `benchmarks/nir_conformance.py`; nir {version("nir")}, torch {torch.__version__.split("+")[0]}, {STEPS} steps, {BATCH} samples, random input.

{shown}

## Our files, read by others

A max pool of spikes, for which NIR has no node, is written as the sum of each window and a LIF without memory, or, where asked, as NIR's
Threshold. Every network was exported by `neuro.deploy.nir.export` (checked by running it again) and read with the reader's defaults, with `dt` where it
takes one. "rate" is the share of output spikes. A reader that refuses says so; one that misreads does not.

{table(["network", "rate", "neuro", *READERS], reads)}

## Their files, read by us

Two dense layers of the library's own LIF (sinabs: its IAF with single spikes and hard reset), exported by the library and read with `dt=1e-4`.

{table(["written by", "spikes here against spikes there"], writes)}

## NIR's nodes, here

From `neuro.deploy.nir_nodes`. What is read is compared with NIR's equation, stepped by hand; what is written is read again.

{nodes()}

## One node alone, read by others

A graph of an Input, the node and an Output, with numbers alike for all neurons, gains of 1 and dt = 1e-4 s, on random real input; against what
we read, values to rounding. "refuses" is an error, mostly of a node that the reader does not know.

{table(["NIR node", *READERS], alone)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", nargs="*", default=[])
    parser.add_argument("--out", default="docs/nir_conformance.md")
    parser.add_argument("--child", nargs=2)
    given = parser.parse_args()
    if given.child:
        all_of(given.child[0], Path(given.child[1]))
    else:
        Path(given.out).write_text(report(given.peers))


if __name__ == "__main__":
    main()

"""Compiled networks against the models themselves in eval mode without gradients: times in one run, alternating, medians, as ratios.

    python benchmarks/inference.py [threads]

`step`: one sample, one time step, the state carried by `neuro.run`. `batch`: 32 samples, all steps in one call, time per sample and step.
The same inputs and weights on both sides; weights are random, norms are set so that layers fire. The last columns: density of spikes
over all neurons, and how many of them differ between the two.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads of OpenMP would hold the cores that ours need

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

import neuro  # noqa: E402
from neuro import layers, neurons  # noqa: E402
from neuro.inference import Compiled  # noqa: E402
from neuro.models import create  # noqa: E402

STEPS, BATCH, DENSITY = 10, 32, 0.1  # of the inputs


def main(threads: int = 1) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    print(f"{threads} threads, torch {torch.__version__}, inputs {DENSITY:.0%} active, T={STEPS}")
    print(f"{'network':20} {'first call s':>12} | {'step: eager us':>14} {'compiled':>9} {'ratio':>6} | {'batch: eager us':>15} {'compiled':>9} {'ratio':>6} | {'density':>7} {'differing spikes':>18}")
    tables = []
    for name, model, shape in networks():
        fast, first = compiled(model, shape)
        alone = spikes(1, 1, *shape)
        states = {m: neuro.run(m, alone)[1] for m in (model, fast)}
        step = alternating({m: partial(neuro.run, m, alone, state) for m, state in states.items()}, 40)
        many = spikes(STEPS, BATCH, *shape)
        batch = {m: t / (STEPS * BATCH) for m, t in alternating({m: partial(m, many) for m in (model, fast)}, 5).items()}
        density, differing, all_spikes = compared(fast, many[:, :4])
        times = [f"{1e6 * t[model]:{w}.1f} {1e6 * t[fast]:9.1f} {t[model] / t[fast]:6.1f}" for t, w in ((step, 14), (batch, 15))]
        print(f"{name:20} {first:12.2f} | {times[0]} | {times[1]} | {density:7.1%} {differing:8} of {all_spikes:8}", flush=True)
        tables.append((name, fast.latency(alone)))
    for name, table in tables:
        print(f"\n{name}\n{table}")


def networks() -> list[tuple[str, nn.Module, tuple[int, ...]]]:
    """(name, model, shape of one step)."""
    mlp = layers.Sequential(
        layers.Linear(784, 512), neurons.LIF(), layers.Linear(512, 512), neurons.LIF(), layers.Linear(512, 10), neurons.LIF(), layers.MeanOverTime()
    )  # fmt: skip
    conv = layers.Sequential(
        layers.Conv2d(2, 32, 3, padding=1), layers.BatchNorm(32), neurons.LIF(), layers.MaxPool2d(2),
        layers.Conv2d(32, 64, 3, padding=1), layers.BatchNorm(64), neurons.LIF(), layers.MaxPool2d(2),
        layers.Flatten(), layers.Linear(64 * 8 * 8, 128), neurons.LIF(), layers.Linear(128, 10), layers.MeanOverTime(),
    )  # fmt: skip
    found: list[tuple[str, nn.Module, tuple[int, ...]]] = [
        ("spikformer_motions", create("spikformer_motions"), (2, 32, 32)),
        ("spikformer_nmnist", create("spikformer_nmnist"), (2, 34, 34)),
        ("mlp 784-512-512-10", mlp, (784,)),
        ("conv 32-64, 32x32", conv, (2, 32, 32)),
    ]
    for _, model, shape in found:
        lively(model.eval(), shape)
    return found


def lively(model: nn.Module, shape: tuple[int, ...]) -> None:
    """Set norms from data and give them a gain, and dense layers larger weights, so that about a tenth of the neurons fires."""
    for module in model.modules():
        if isinstance(module, layers.BatchNorm):
            nn.init.constant_(module.weight, 1.0)
            nn.init.constant_(module.bias, 0.3)
            module.momentum = 1.0
        elif isinstance(module, nn.Linear) and not any(isinstance(m, layers.BatchNorm) for m in model.modules()):
            nn.init.normal_(module.weight, 0.0, 1.35 / (DENSITY * module.in_features) ** 0.5)
    with torch.no_grad():
        model.train()(spikes(STEPS, 8, *shape))
    model.eval()


def spikes(*shape: int) -> Tensor:
    return (torch.rand(*shape) < DENSITY).float()


def compiled(model: nn.Module, shape: tuple[int, ...]) -> tuple[Compiled, float]:
    """The compiled network, and the seconds of compiling and its first call."""
    start = time.perf_counter()
    fast = neuro.compile_inference(model, spikes(1, 1, *shape))
    fast(spikes(1, 1, *shape))
    return fast, time.perf_counter() - start


def alternating(calls: dict[nn.Module, Callable[[], object]], times: int) -> dict[nn.Module, float]:
    """Median seconds of each; every call is made three times in a row and the last one counts, so that each finds its own data in the cache."""
    taken: dict[nn.Module, list[float]] = {m: [] for m in calls}
    with torch.no_grad():
        for _ in range(times):
            for m, call in calls.items():
                call(), call()
                start = time.perf_counter()
                call()
                taken[m].append(time.perf_counter() - start)
    return {m: statistics.median(t) for m, t in taken.items()}


def compared(fast: Compiled, x: Tensor) -> tuple[float, int, int]:
    """Density of spikes over all neurons, how many differ from those of the folded graph, and how many there are."""
    expected = fast.graph.values(x)
    names = [n.name for n in fast.graph if n.kind == "Neuron"]
    found = fast.values(x)
    fired, all_neurons = (sum(f(expected[n]) for n in names) for f in (lambda v: int(v.sum()), Tensor.numel))
    return fired / all_neurons, sum(int((found[n] != expected[n]).sum()) for n in names), fired


if __name__ == "__main__":
    main(*(int(a) for a in sys.argv[1:]))

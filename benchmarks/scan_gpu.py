"""LIF on a GPU, forward and backward: our Triton kernels against SpikingJelly's backends and copy bandwidth, in one run.

    make gpu                                        the tests of GPU kernels, then this
    python benchmarks/scan_gpu.py [--rounds 20]     this alone

`floor` copies as many bytes as a perfect kernel moves: forward reads x and writes y, backward reads x and the gradient and
writes the input's. Each call is timed by the GPU's own clock, all take turns, and the figure is the median. Without a GPU the
script says so and ends. Exit status 1 where the spikes are not SpikingJelly's.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import warnings
from collections.abc import Callable

import peers
import torch
from torch import Tensor

from neuro.neurons import LIF

SIZES = {4: (64, 65536), 16: (64, 65536), 100: (16, 65536)}  # T -> batch, neurons


def ours(x: Tensor, grad: Tensor) -> tuple[Callable[[], Tensor], Tensor]:
    """A call that makes the input's gradient, and the spikes."""
    neuron, leaf = LIF(), x.clone().requires_grad_()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="The step")  # the plain loop would be measured
        torch.autograd.grad(neuron(leaf), leaf, grad)

    def call() -> Tensor:
        return torch.autograd.grad(neuron(leaf), leaf, grad)[0]

    with torch.no_grad():
        return call, neuron(x)


def theirs(backend: str, x: Tensor, grad: Tensor) -> tuple[Callable[[], Tensor], Tensor]:
    from spikingjelly.activation_based import functional, neuron

    node = neuron.LIFNode(tau=2.0, step_mode="m", backend=backend, detach_reset=True).cuda()
    leaf = x.clone().requires_grad_()

    def call() -> Tensor:
        functional.reset_net(node)
        return torch.autograd.grad(node(leaf), leaf, grad)[0]

    with torch.no_grad():
        return call, node(x)


def medians(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Milliseconds."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for again in range(rounds + 3):
        for name, call in calls.items():
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            call()
            end.record()
            end.synchronize()
            if again >= 3:
                spent[name].append(start.elapsed_time(end))
    return {name: statistics.median(values) for name, values in spent.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    if not torch.cuda.is_available():
        print("No GPU is at hand: nothing was measured.")
        return 0
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, median of {rounds}, milliseconds")
    has_peer, differs = peers.load("spikingjelly") is not None, False
    for T, (batch, neurons) in SIZES.items():
        x, grad = torch.rand(T, batch, neurons, device="cuda") * 2, torch.randn(T, batch, neurons, device="cuda")
        source = torch.empty(5 * x.numel() // 2, device="cuda")  # five passes: half read, half written
        target = torch.empty_like(source)
        call, spikes = ours(x, grad)
        calls: dict[str, Callable[[], object]] = {"floor": lambda a=source, b=target: b.copy_(a), "neuro": call}
        for backend in ("triton", "cupy", "torch") if has_peer else ():
            try:
                calls[backend], others = theirs(backend, x, grad)
            except (ImportError, NotImplementedError, ValueError) as reason:
                print(f"SpikingJelly's {backend} backend: not compared ({reason})")
                continue
            share = (spikes != others).double().mean().item()
            differs |= share > 0
            print(f"T={T}: share of spikes that differ from SpikingJelly's {backend} backend: {share:.2g}")
        spent = medians(calls, rounds)
        print(f"T={T} B={batch} N={neurons}  " + "  ".join(f"{name} {ms:.3f} ({ms / spent['neuro']:.2f}x ours)" for name, ms in spent.items()))
    return int(differs)


if __name__ == "__main__":
    sys.exit(main())

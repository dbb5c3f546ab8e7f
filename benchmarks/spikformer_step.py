"""One training step of Spikformer: ours against SpikingJelly's own model with the same weights, in one run.

    python benchmarks/spikformer_step.py [--rounds 3]

A step is forward, cross entropy, backward and AdamW. Sides take turns; times are medians. Everything is run twice: as the C library
gives and takes memory by itself, and with `neuro.keep_memory()`, which is for the whole process, so for both sides. Peak memory is that
of a process for each side, beyond what it holds before the step (weights, gradients and optimiser states included there).

SpikingJelly's model pools before the neuron, the paper after it, so both orders are run, and in each both sides compute the same
function: ours is asked for SpikingJelly's order by `cml`, and SpikingJelly's stages are put together for the paper's. Two sides
round differently, and a spike at the threshold may then differ; the losses are printed, and exit status 1 means that the first
ones differ by more than 2 %. Weights are random, biases zero, as at the start of a training.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import peers
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import neuro
from neuro.models.spikformer import Config, Spikformer


class Case(NamedTuple):
    config: Config
    patch: int
    steps: int
    batch: int
    density: float | None  # of the frames' events; None: pixels


CIFAR = Config(depth=4, dim=384, heads=12, classes=10, image=32, pools=(False, False, True, True), qkv_bias=False)
DVS = Config(depth=2, dim=256, heads=16, classes=10, channels=2, image=128)  # scale 0.125, as SpikingJelly has it fixed
CASES = {
    "Spikformer-4-384, CIFAR": Case(CIFAR, 4, 4, 8, None),
    "Spikformer-2-256, DVS": Case(DVS, 16, 16, 2, 0.1),
}
ORDERS = ("paper's order", "SpikingJelly's order")
MEMORY = ("usual", "kept")


class Ours:
    """Our model, its biases zero."""

    def __init__(self, case: Case, order: str):
        torch.manual_seed(0)
        self.model = Spikformer(replace(case.config, cml=order == "SpikingJelly's order"))
        for module in self.model.modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def logits(self, x: Tensor) -> Tensor:
        return self.model(x)


class Theirs:
    """SpikingJelly's model with the weights of ours."""

    def __init__(self, case: Case, order: str):
        from spikingjelly.activation_based import functional, layer
        from spikingjelly.activation_based.model import spikformer

        c = case.config
        self.reset = functional.reset_net
        sizes = {"in_channels": c.channels, "img_size_h": c.image, "img_size_w": c.image, "patch_size": case.patch, "num_classes": c.classes}
        self.model = spikformer.Spikformer(T=case.steps, embed_dims=c.dim, num_heads=c.heads, depths=c.depth, **sizes)
        copy_weights(Ours(case, ORDERS[0]).model, self.model)
        if order == "paper's order":
            for stage in self.model.patch_embed.stages:
                block = stage.conv_bn.block
                if len(block) == 3:
                    stage.conv_bn.block = layer.SeqToANNContainer(block[0], block[1])
                    stage.neuron = nn.Sequential(stage.neuron, layer.SeqToANNContainer(block[2]))

    def logits(self, x: Tensor) -> Tensor:
        self.reset(self.model)
        return self.model(x).mean(0)


@torch.no_grad()
def copy_weights(ours: nn.Module, theirs: nn.Module) -> None:
    """Convolutions and dense layers; norms begin alike."""
    stem, embed = ours.stem, theirs.patch_embed
    for mine, its in zip([*stem.stages, stem.position], [*embed.stages, embed.positional_encoding], strict=True):
        its.conv_bn.block[0].weight.copy_(mine.conv.weight)
    for mine, its in zip(ours.blocks, theirs.blocks, strict=True):
        a = mine.attention
        pairs = [(torch.cat([a.q.weight, a.k.weight, a.v.weight]), its.attn.qkv_conv_bn[0]), (a.out.weight, its.attn.proj_conv_bn[0])]
        pairs += [(mine.mlp.up.weight, its.mlp.fc1[0]), (mine.mlp.down.weight, its.mlp.fc2[0])]
        for weight, conv in pairs:
            conv.weight.copy_(weight[..., None])
    theirs.head.weight.copy_(ours.head.weight)
    theirs.head.bias.copy_(ours.head.bias)


SIDES: dict[str, Callable[[Case, str], Any]] = {"ours": Ours, "spikingjelly": Theirs}


def batch_of(case: Case, size: int) -> tuple[Tensor, Tensor]:
    """Random frames [T, B, C, H, W] and labels."""
    generator = torch.Generator().manual_seed(1)
    c = case.config
    shape = (case.steps, size, c.channels, c.image, c.image)
    if case.density is None:
        x = torch.randn(shape[1:], generator=generator).expand(shape).contiguous()  # an image, repeated
    else:
        x = (torch.rand(shape, generator=generator) < case.density).float()
    return x, torch.randint(c.classes, (size,), generator=generator)


def trainer(side: str, case: Case, order: str) -> Callable[[Tensor, Tensor], float]:
    """A function that makes one training step and returns its loss."""
    made = SIDES[side](case, order)
    optimizer = torch.optim.AdamW(made.model.parameters(), lr=1e-3)

    def step(x: Tensor, labels: Tensor) -> float:
        optimizer.zero_grad(set_to_none=False)
        loss = F.cross_entropy(made.logits(x), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def peak(side: str, name: str, order: str, memory_is: str) -> None:
    """In a process of its own: peak bytes of a step beyond what the process held before it."""
    neuro.keep_memory(memory_is == "kept")
    case = CASES[name]
    step = trainer(side, case, order)
    step(*batch_of(case, 1))  # gradients and optimiser states exist, kernels are loaded
    x, labels = batch_of(case, case.batch)
    memory = peers.Memory()
    memory.start()
    step(x, labels)
    print(json.dumps(memory.peak()))


def compare(name: str, order: str, memory_is: str, rounds: int, memory: bool) -> tuple[list[str], bool, float, float]:
    """A row of the table; whether the first losses are equal; ratios of time and memory."""
    neuro.keep_memory(memory_is == "kept")
    case = CASES[name]
    x, labels = batch_of(case, case.batch)
    steps = {side: trainer(side, case, order) for side in SIDES}
    losses: dict[str, list[float]] = {side: [] for side in SIDES}
    t = peers.alternating({side: (lambda s=side: losses[s].append(steps[s](x, labels))) for side in SIDES}, rounds)
    mine, its = losses["ours"][0], losses["spikingjelly"][0]
    apart = abs(mine - its) / its
    peaks = {side: peers.in_process(__file__, "--peak", side, name, order, memory_is) / 1e6 if memory else float("nan") for side in SIDES}
    speed, share = t["spikingjelly"] / t["ours"], peaks["ours"] / peaks["spikingjelly"]
    first = [name, order, memory_is, f"{case.steps}", f"{case.batch}", f"{mine:.5f}", f"{its:.5f}", f"{losses['ours'][1]:.4f}", f"{losses['spikingjelly'][1]:.4f}"]
    return [*first, f"{t['ours']:.2f}", f"{t['spikingjelly']:.2f}", f"{speed:.2f}", f"{peaks['ours']:.0f}", f"{peaks['spikingjelly']:.0f}", f"{share:.2f}"], apart <= 0.02, speed, share


KINDS = {  # what the profiler's names begin with; an operator belongs to the first kind that fits
    "convolutions": ("aten::convolution", "aten::mkldnn_convolution", "aten::_slow_conv", "_SpikeConv"),
    "linear products": ("aten::mm", "aten::addmm", "aten::bmm", "mkldnn::_linear", "_SpikeLinear"),
    "attention products": ("_SpikeAttention",),
    "batch norm": ("aten::native_batch_norm",),
    "norm and neurons in one": ("_Normed",),
    "neurons over time": ("_Scan",),
    "max pooling": ("_MaxPool", "aten::max_pool"),
}


def kind(operator: str) -> str:
    return next((k for k, starts in KINDS.items() if operator.startswith(starts)), "rest, AdamW among it")


def profile(name: str, side: str) -> None:
    """Where the time goes: self time by operator, and the share of each kind."""
    case = CASES[name]
    step, (x, labels) = trainer(side, case, ORDERS[0]), batch_of(case, case.batch)
    step(x, labels)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        step(x, labels)
    spent = sorted(((e.self_cpu_time_total, e.count, e.key) for e in seen.key_averages()), reverse=True)
    every = sum(us for us, _, _ in spent)
    kinds: dict[str, float] = {}
    for us, _, key in spent:
        kinds[kind(key)] = kinds.get(kind(key), 0.0) + us
    print(f"\n{name}, {side}, paper's order, memory kept: self time of one profiled step, {every / 1e6:.2f} s in all, by kind and by operator above 2 %")
    rows = [[k, "", f"{us / 1e3:.1f}", f"{us / every:.1%}"] for k, us in sorted(kinds.items(), key=lambda item: -item[1])]
    rows += [["  " + key[:50], f"{n}", f"{us / 1e3:.1f}", f"{us / every:.1%}"] for us, n, key in spent if us > 0.02 * every]
    print(peers.table(["", "calls", "ms", "share"], rows))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peak", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak:
        peak(*given.peak)
        return 0
    if peers.load("spikingjelly", "spikingjelly.activation_based.model.spikformer") is None:
        return 0
    print(f"{peers.machine()}, {torch.get_num_threads()} threads")
    memory = peers.can_measure_memory()
    found = [compare(name, order, memory_is, given.rounds, memory) for name in CASES for order in ORDERS for memory_is in MEMORY]
    head = ["model", "pooling", "memory", "T", "B", "loss: ours", "theirs", "2nd: ours", "theirs", "s: ours", "theirs", "ratio", "MB: ours", "theirs", "share"]
    print(peers.table(head, [row for row, *_ in found]))
    for row, _, speed, share in found:
        print(peers.target(f"{row[0]}, {row[1]}, memory {row[2]}, time", speed, at_least=2))
        if memory:
            print(peers.target(f"{row[0]}, {row[1]}, memory {row[2]}, share of its memory", share, at_most=0.5))
    for name in CASES:
        for side in SIDES:
            profile(name, side)
    equal = all(same for _, same, _, _ in found)
    print(f"check: first losses {'are equal within 2 %' if equal else 'are NOT equal'}")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())

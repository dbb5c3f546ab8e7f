"""Spikformer and Spikformer V2: transformers whose every activation is a spike or a small sum of spikes.

Zhou et al. 2023, "Spikformer: When Spiking Neural Network Meets Transformer", arXiv:2209.15425; Zhou et al. 2024,
"Spikformer V2", arXiv:2401.02020. A stem turns frames into tokens, blocks of spiking self-attention and MLP add to an
integer stream, a linear head reads the mean over tokens and time.

Ours differs from the released code in three ways that leave the function alone: LayerNorms that were declared and never
called are left out (so the counts are the papers' "live" ones), blocks work on tokens [T, B, N, D] instead of maps, and the
head is applied at every step before the mean over time instead of after it. The V2 stem was never released; see `ConvStem`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from neuro.errors import ParameterError, explain
from neuro.layers import (
    BatchNorm,
    ConvStem,
    ExpectFrames,
    Linear,
    MeanOverTime,
    MeanOverTokens,
    PatchSplitting,
    SpikingSelfAttention,
    Tokens,
    fire,
)
from neuro.models.registry import register
from neuro.neurons import LIF
from neuro.reset import Reset, to_zero
from neuro.surrogate import ATan, Sigmoid, Surrogate


@dataclass(frozen=True)
class Config:
    """Sizes and choices of a Spikformer."""

    depth: int  # blocks L
    dim: int  # width D
    heads: int
    classes: int
    channels: int = 3  # of the frames
    image: int = 224  # height and width of the frames
    pools: tuple[bool, bool, bool, bool] = (True, True, True, True)  # stages of the stem that halve the map
    cml: bool = False  # pool before the neuron (Conv-BN-MaxPool-LIF, arXiv:2305.05954; SpikingJelly's order), not after it
    v2_stem: bool = False
    scale: float = 0.125  # of the attention product
    qkv_bias: bool = False
    mlp_ratio: int = 4
    dropout: float = 0.0  # of the stream before the head
    tau: float = 2.0  # steps
    spike: Surrogate = Sigmoid(4.0)
    reset: Reset = to_zero
    init_std: float | None = 0.02  # of dense weights; None: torch's default, 1/sqrt(3 D), which learns faster at small widths

    def __post_init__(self) -> None:
        if self.dim % 8 or self.dim % self.heads:
            raise ParameterError(explain(f"Spikformer: dim={self.dim} must be a multiple of 8 and of heads={self.heads}."))
        if self.cml and self.v2_stem:
            raise ParameterError(explain("Spikformer: cml=True with v2_stem=True.", "The stem of V2 has no pooling.", cure="Give one of them."))

    def neuron(self, threshold: float) -> LIF:
        """The neuron of every layer: LIF of one time constant; 0.5 after the attention product, else 1."""
        return LIF(tau=self.tau, threshold=threshold, spike=self.spike, reset=self.reset)


class MLP(nn.Module):
    """LIF(BN(x W1)), D -> 4D, then LIF(BN(. W2)), 4D -> D."""

    def __init__(self, c: Config):
        super().__init__()
        hidden = c.mlp_ratio * c.dim
        self.up, self.up_norm, self.up_lif = Linear(c.dim, hidden), BatchNorm(hidden, axis=-1), c.neuron(1.0)
        self.down, self.down_norm, self.down_lif = Linear(hidden, c.dim), BatchNorm(c.dim, axis=-1), c.neuron(1.0)

    def forward(self, x: Tensor) -> Tensor:
        x = fire(self.up_lif, self.up_norm, self.up(x), into=self.down)  # [T, B, N, 4D], then D
        return fire(self.down_lif, self.down_norm, x)


class Block(nn.Module):
    """`x <- x + SSA(x); x <- x + MLP(x)`: spikes are added, so the stream counts them."""

    def __init__(self, c: Config):
        super().__init__()
        self.attention = SpikingSelfAttention(c.dim, c.heads, c.neuron, scale=c.scale, qkv_bias=c.qkv_bias)
        self.mlp = MLP(c)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        return x + self.mlp(x)


class Spikformer(nn.Module):
    """Frames [T, B, C, H, W] -> logits [B, classes], the mean over time of a linear readout."""

    def __init__(self, config: Config):
        super().__init__()
        c = self.config = config
        self.input = ExpectFrames(c.channels, c.image, c.image)
        self.stem = ConvStem(c.channels, c.dim, c.neuron) if c.v2_stem else PatchSplitting(c.channels, c.dim, c.neuron, c.pools, cml=c.cml)
        self.tokens = Tokens()
        self.blocks = nn.Sequential(*(Block(c) for _ in range(c.depth)))
        self.pool = MeanOverTokens()
        self.dropout = nn.Dropout(c.dropout)
        self.head = Linear(c.dim, c.classes)
        self.readout = MeanOverTime()
        for module in self.modules():
            if isinstance(module, nn.Linear) and c.init_std is not None:
                nn.init.trunc_normal_(module.weight, std=c.init_std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(self.input(x))  # [T, B, D, h, w], 0 .. 2
        x = self.blocks(self.tokens(x))  # [T, B, N, D], 0 .. 2 + 2L
        return self.readout(self.head(self.dropout(self.pool(x))))


_SMALL = {"dim": 32, "heads": 4, "depth": 2, "image": 32}


def _cifar(changes: dict[str, Any], **sizes: Any) -> Spikformer:
    base = Config(classes=10, image=32, pools=(False, False, True, True), qkv_bias=True, **sizes)
    return Spikformer(replace(base, **changes))


def _imagenet(changes: dict[str, Any], **sizes: Any) -> Spikformer:
    return Spikformer(replace(Config(classes=1000, **sizes), **changes))


@register(parameters=4_155_178, small=_SMALL)
def spikformer_4_256(**changes: Any) -> Spikformer:
    """CIFAR-10, 32x32, T=4: 93.94 %. arXiv:2209.15425, table 3."""
    return _cifar(changes, depth=4, dim=256, heads=8)


@register(parameters=5_765_050, small=_SMALL)
def spikformer_2_384(**changes: Any) -> Spikformer:
    """CIFAR-10, 32x32, T=4: 94.80 %. arXiv:2209.15425, table 3."""
    return _cifar(changes, depth=2, dim=384, heads=12)


@register(parameters=9_324_730, small=_SMALL)
def spikformer_4_384(**changes: Any) -> Spikformer:
    """CIFAR-10, 32x32, T=4: 95.19 %. arXiv:2209.15425, table 3."""
    return _cifar(changes, depth=4, dim=384, heads=12)


@register(parameters=16_816_024, small=_SMALL)
def spikformer_8_384(**changes: Any) -> Spikformer:
    """ImageNet, 224x224, T=4: 70.24 %. arXiv:2209.15425, table 2."""
    return _imagenet(changes, depth=8, dim=384, heads=8)


@register(parameters=23_373_352, small=_SMALL)
def spikformer_6_512(**changes: Any) -> Spikformer:
    """ImageNet, 224x224, T=4: 72.46 %. arXiv:2209.15425, table 2."""
    return _imagenet(changes, depth=6, dim=512, heads=8)


@register(parameters=29_689_384, small=_SMALL)
def spikformer_8_512(**changes: Any) -> Spikformer:
    """ImageNet, 224x224, T=4: 73.38 %. arXiv:2209.15425, table 2."""
    return _imagenet(changes, depth=8, dim=512, heads=8)


@register(parameters=36_005_416, small=_SMALL)
def spikformer_10_512(**changes: Any) -> Spikformer:
    """ImageNet, 224x224, T=4: 73.68 %. arXiv:2209.15425, table 2."""
    return _imagenet(changes, depth=10, dim=512, heads=8)


@register(parameters=66_338_632, small=_SMALL)
def spikformer_8_768(**changes: Any) -> Spikformer:
    """ImageNet, 224x224, T=4: 74.81 %. arXiv:2209.15425, table 2."""
    return _imagenet(changes, depth=8, dim=768, heads=12)


@register(parameters=2_566_666, small=_SMALL)
def spikformer_2_256(**changes: Any) -> Spikformer:
    """CIFAR10-DVS and DVS128 Gesture, 128x128, T=16: 80.9 % and 98.3 %. arXiv:2209.15425, table 5."""
    base = Config(depth=2, dim=256, heads=16, classes=10, channels=2, image=128, scale=0.25)
    return Spikformer(replace(base, **changes))


@register(parameters=163_594, small=_SMALL)
def spikformer_nmnist(**changes: Any) -> Spikformer:
    """N-MNIST, 34x34, 6 steps, 9 tokens; ours, for training on two CPU cores. See recipes/spikformer_nmnist.py."""
    base = Config(
        depth=2, dim=64, heads=4, classes=10, channels=2, image=34, scale=0.25, spike=ATan(2.0, strict=True), init_std=None
    )
    return Spikformer(replace(base, **changes))


@register(parameters=29_111_272, small=_SMALL)
def spikformer_v2_8_384(**changes: Any) -> Spikformer:
    """ImageNet, 224x224; size as reported, 29.11 M. arXiv:2401.02020."""
    return _imagenet(changes, depth=8, dim=384, heads=8, v2_stem=True)


@register(parameters=51_545_064, small=_SMALL)
def spikformer_v2_8_512(**changes: Any) -> Spikformer:
    """ImageNet, 224x224, T=4: 80.38 %; size as reported, 51.55 M. arXiv:2401.02020."""
    return _imagenet(changes, depth=8, dim=512, heads=8, v2_stem=True)


@register(parameters=172_278_760, small=_SMALL)
def spikformer_v2_16_768(**changes: Any) -> Spikformer:
    """ImageNet, 224x224, pre-trained, T=1: 81.10 %; size as reported, 172 M. arXiv:2401.02020."""
    return _imagenet(changes, depth=16, dim=768, heads=12, v2_stem=True)


@register(parameters=163_464, small={**_SMALL, "image": 16})
def spikformer_motions(**changes: Any) -> Spikformer:
    """The demo's network: 32x32 event frames, 16 tokens; fires at `v > threshold`, the rule of the chip it is made for."""
    base = Config(
        depth=2, dim=64, heads=4, classes=8, channels=2, image=32, pools=(True, True, True, False), spike=ATan(2.0, strict=True),
        init_std=None,
    )
    return Spikformer(replace(base, **changes))

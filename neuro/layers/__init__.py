"""Layers: modules that take [T, B, ...] and know that axis 0 is time."""

from neuro.layers.attention import AttentionProduct, SpikingSelfAttention
from neuro.layers.conv import Conv1d, Conv2d
from neuro.layers.delay import Delay
from neuro.layers.folding import Fold
from neuro.layers.fusing import fire
from neuro.layers.linear import Linear
from neuro.layers.norm import BatchNorm, ThresholdBN
from neuro.layers.pool import AvgPool2d, MaxPool2d
from neuro.layers.readout import LastStep, MeanOverTime, MeanOverTokens, SumOverTime
from neuro.layers.sequential import Sequential
from neuro.layers.stem import ConvNormLIF, ConvStage, ConvStem, PatchSplitting
from neuro.layers.tokens import ExpectFrames, Flatten, Tokens

__all__ = [
    "AttentionProduct", "AvgPool2d", "BatchNorm", "Conv1d", "Conv2d", "ConvNormLIF", "ConvStage", "ConvStem", "Delay", "ExpectFrames",
    "Flatten", "Fold", "LastStep", "Linear", "MaxPool2d", "MeanOverTime", "MeanOverTokens", "PatchSplitting", "Sequential",
    "SpikingSelfAttention", "SumOverTime", "ThresholdBN", "Tokens", "fire",
]  # fmt: skip

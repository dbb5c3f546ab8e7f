"""What is given to a neuron, a layer or a model instead of a tensor is named, with the way to a tensor."""

import numpy as np
import pytest
from torch import nn

import neuro
from neuro.errors import ShapeError
from neuro.layers import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Linear,
    MaxPool2d,
    MeanOverTime,
    MeanOverTokens,
    Sequential,
    Tokens,
)
from neuro.neurons import ALIF, CUBALIF, IF, LIF, PLIF, Recurrent

MODULES = [
    IF(), LIF(), PLIF(), CUBALIF(), ALIF(), Recurrent(LIF(), 3), Linear(3, 2), Conv2d(2, 3, 3), BatchNorm(3), MaxPool2d(2), AvgPool2d(2),
    Tokens(), MeanOverTokens(), MeanOverTime(), Sequential(nn.Flatten(), nn.Linear(3, 2)), neuro.models.small("spikformer_nmnist"),
]  # fmt: skip


@pytest.mark.parametrize("module", MODULES, ids=lambda m: type(m).__name__)
def test_other_things_than_tensors(module):
    for x, says in (
        (np.zeros((2, 1, 3), np.float32), "numpy.ndarray\n  Use torch.from_numpy"),
        (None, "x is None"),
        ([[[0.0]]], "list\n  Use torch.tensor"),
    ):
        with pytest.raises(ShapeError, match="is not a tensor") as error:
            module(x)
        assert says in str(error.value)
        with pytest.raises(ShapeError, match="is not a tensor"):
            neuro.run(module, x)

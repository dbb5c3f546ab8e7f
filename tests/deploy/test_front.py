"""The first layers on the host: the two parts are the whole, and the cut lies where it must."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import neuro
from neuro.deploy.front import split_front
from neuro.deploy.quantize import quantize
from neuro.deploy.twin import run_twin
from neuro.errors import GraphError
from neuro.layers import BatchNorm, Conv2d, Flatten, Linear, MaxPool2d, MeanOverTime, Sequential
from neuro.models import create
from neuro.neurons import LIF, PLIF


def net(depth=2):
    layers = [layer for k in range(depth) for layer in (Linear(5 if k == 0 else 8, 8), BatchNorm(8, axis=-1), PLIF(shape=(8,)))]
    return Sequential(*layers, Linear(8, 3), MeanOverTime()).eval()


@given(st.integers(2, 4), st.integers(1, 6), st.integers(0, 100))
@settings(max_examples=12, deadline=None)
def test_the_parts_one_after_the_other_are_the_whole(depth, steps, seed):
    torch.manual_seed(seed)
    model, x = net(depth), 2 * torch.randn(steps, 3, 5)
    front = split_front(model, x)
    spikes = front.spikes(x)
    assert torch.equal(front.chip.run(spikes), neuro.trace(model, x[:1, :1]).run(x)) and set(spikes.unique().tolist()) <= {0.0, 1.0}
    assert front.host.output.name == "2" and front.chip.input.shape == (8,) and len(front.host) + len(front.chip) == len(neuro.trace(model, x[:1])) + 1
    lengths = torch.tensor([1, steps, (steps + 1) // 2])
    assert torch.equal(front.chip.run(front.spikes(x, lengths), lengths), neuro.trace(model, x[:1, :1]).run(x, lengths))


def test_the_chips_part_of_a_network_of_pictures_is_quantised_and_runs():
    torch.manual_seed(0)
    model = create("conv_mnist", image=16, width=4)
    for module in model.modules():
        if isinstance(module, BatchNorm):
            torch.nn.init.constant_(module.weight, 2.0)
            torch.nn.init.constant_(module.bias, 0.5)
    x = torch.rand(1, 6, 1, 16, 16).expand(5, -1, -1, -1, -1)
    model.train()(x)
    model.eval()
    with pytest.raises(GraphError, match="split_front"):
        quantize(model, x)
    front = split_front(model, x)
    spikes = front.spikes(x)
    network, report = quantize(front.chip, spikes, message_bits=1)
    assert report.samples == 6 and spikes.mean() > 0.02
    found = run_twin(network, front.messages(x))
    assert np.array_equal(found.predictions, run_twin(network, spikes.int().numpy()).predictions)
    same = found.predictions == model(x).argmax(1).numpy()
    assert same.sum() == report.agree


def test_a_branch_before_the_neurons_moves_the_cut_behind_their_sum():
    class Branched(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.lif_a, self.lif_b = Conv2d(1, 2, 1), Conv2d(1, 2, 1), LIF(), LIF()
            self.after, self.lif, self.pool, self.flat, self.head, self.read = Conv2d(2, 2, 1), LIF(), MaxPool2d(2), Flatten(), Linear(8, 2), MeanOverTime()

        def forward(self, x):
            y = self.lif(self.after(self.lif_a(self.a(x)) + self.lif_b(self.b(x))))
            return self.read(self.head(self.flat(self.pool(y))))

    x = 3 * torch.rand(3, 2, 1, 4, 4)
    model = Branched().eval()
    front = split_front(model, x)
    assert front.host.output.name == "lif" and torch.equal(front.chip.run(front.spikes(x)), model(x))


def test_a_residual_around_every_neuron_is_refused():
    class Around(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.lif, self.read = Linear(4, 4), LIF(), MeanOverTime()

        def forward(self, x):
            return self.read(self.lif(self.a(x)) + x)

    with pytest.raises(GraphError, match="every way"):
        split_front(Around(), torch.zeros(2, 1, 4))
    with pytest.raises(GraphError, match="no neurons"):
        split_front(Sequential(Linear(4, 2), MeanOverTime()), torch.zeros(2, 1, 4))
    with pytest.raises(GraphError, match="its neurons: 1 \\(the output itself\\)"):
        split_front(Sequential(Linear(4, 2), LIF()), torch.zeros(2, 1, 4))  # nothing comes after them

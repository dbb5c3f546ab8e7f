"""Neurons of other packages, by stand-ins of their class names and shapes: updates, spikes and steps as loops count them."""

import pytest
import torch
from torch import nn

import neuro

T, N = 7, 5


def stand_in(package, *names):
    """A class of neurons in a package, after base classes of these names: fires above 0.5, keeps no state."""
    bases = (nn.Module,)
    for name in names:
        bases = (type(name, bases, {"__module__": f"{package}.layers"}),)
    return type("Mine", bases, {"__module__": "mine", "forward": lambda self, x: (x > 0.5).float()})


class Stepped(nn.Module):
    """[B, T, 6] -> two layers with a neuron each. How a neuron is called: with one step, or [T, B, N], [B, T, N], [B * T, N] at once."""

    def __init__(self, a, b, how):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.a, self.head, self.b, self.how = nn.Linear(6, N), a, nn.Linear(N, 3), b, how
        self.head.weight.data.abs_()

    def fire(self, neuron, x):
        if self.how == "one step":
            return torch.stack([neuron(x_t) for x_t in x.unbind(1)], 1)
        if self.how == "TBN":
            return neuron(x.transpose(0, 1)).transpose(0, 1)
        return neuron(x.flatten(0, 1)).view(x.shape) if self.how == "B*T" else neuron(x)

    def forward(self, x):
        return self.fire(self.b, self.head(self.fire(self.a, 3 * self.fc(x))))


def sample(batch=2):
    return (torch.rand(batch, T, 6, generator=torch.Generator().manual_seed(2)) < 0.6).float()


CASES = {
    "SpikingJelly, one step": ("spikingjelly", ("BaseNode",), "one step", {"step_mode": "s"}),
    "SpikingJelly, many steps": ("spikingjelly", ("BaseNode",), "TBN", {"step_mode": "m"}),
    "snnTorch": ("snntorch", ("SpikingNeuron",), "one step", {}),
    "Norse, cell": ("norse", ("SNNCell",), "one step", {}),
    "Norse, recurrent cell": ("norse", ("SNNRecurrentCell",), "one step", {}),
    "Norse, sequence": ("norse", ("SNN",), "TBN", {}),
    "Norse, recurrent sequence": ("norse", ("SNNRecurrent",), "TBN", {}),
    "sinabs": ("sinabs", ("StatefulLayer",), "BTN", {}),
    "sinabs, squeezed by batch": ("sinabs", ("SqueezeMixin", "StatefulLayer"), "B*T", {"batch_size": 1, "num_timesteps": -1}),
    "sinabs, squeezed by steps": ("sinabs", ("SqueezeMixin", "StatefulLayer"), "B*T", {"batch_size": -1, "num_timesteps": T}),
}


@pytest.mark.parametrize("name", CASES)
def test_both_layers_are_counted_with_all_their_steps(name):
    """A counter that sees only the first layer, no neurons of this package, or a whole sequence as one step, fails here."""
    package, names, how, attributes = CASES[name]
    cls = stand_in(package, *names)
    net, x = Stepped(cls(), cls(), how), sample()
    for neuron in (net.a, net.b):
        vars(neuron).update(attributes)
    found = neuro.activity(net, x, batch_axis=0)
    fired = [3 * net.fc(x_b) > 0.5 for x_b in x]
    last = [net.head(f.float()) > 0.5 for f in fired]
    for path, spikes, n in (("a", fired, N), ("b", last, 3)):
        layer = found[path]
        assert layer.spikes.tolist() == [sum(v for row in s.tolist() for v in row) for s in spikes] and layer.spikes.sum() > 0
        assert layer.updates.tolist() == [T * n] * 2 and layer.steps.tolist() == [T] * 2, path
    assert found["head"].ac.tolist() == [3 * int(f.sum()) for f in fired] and found["head"].dense.tolist() == [T * N * 3] * 2
    assert ("a", "gt") not in found.elementwise and ("", "mul") in found.elementwise  # what a neuron does is its update


def test_names_count_only_in_their_packages():
    """A user's own class of such a name is no neuron; said to be one, a call of it is one step."""
    cls = stand_in("mine", "BaseNode", "SNN", "StatefulLayer")
    net, x = Stepped(cls(), cls(), "BTN"), sample()
    assert {layer.path for layer in neuro.activity(net, x, batch_axis=0)} == {"fc", "head"}
    found = neuro.activity(net, x, batch_axis=0, neurons=(cls,))
    assert found["a"].steps.tolist() == [1, 1] and found["a"].updates.tolist() == [T * N] * 2


def test_a_graded_spike_is_one_spike():
    """What is sent once is counted once, whatever it carries, below zero too."""
    values = torch.tensor([[0.0, 2, 3, -1, 2.5]])
    graded = type("Graded", (stand_in("snntorch", "SpikingNeuron"),), {"forward": lambda self, x: x * values})
    found = neuro.activity(nn.Sequential(nn.Flatten(), graded()), torch.ones(1, N), batch_axis=0)["1"]
    assert (found.spikes.tolist(), found.updates.tolist(), found.rate) == ([4], [5], 0.8)


def test_a_neuron_inside_a_neuron_is_counted_once_each():
    """Its own updates and those of the one around it; what lies inside the outer one is no elementwise work."""

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = stand_in("snntorch", "SpikingNeuron")()

        def forward(self, x):
            return self.inner(x) + 0, x

    net = nn.Sequential(nn.Linear(6, N), Outer())
    found = neuro.activity(net, sample()[:, 0], batch_axis=0, neurons=(Outer,))
    assert found["1"].updates.tolist() == found["1.inner"].updates.tolist() == [N, N]
    assert found["1"].spikes.tolist() == found["1.inner"].spikes.tolist() and not found.elementwise

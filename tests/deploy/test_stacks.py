"""Random stacks of layers: traced, quantised, and the same integers in the definition, in the twin and in torch."""

import pytest
import torch
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from torch import nn

import neuro
from neuro.deploy.qat import QuantizationAware
from neuro.deploy.quantize import quantize
from neuro.deploy.reference import run_reference
from neuro.deploy.twin import run_twin
from neuro.errors import GraphError
from neuro.layers import AvgPool2d, BatchNorm, Conv2d, Delay, Flatten, Linear, MaxPool2d, MeanOverTime, Sequential
from neuro.neurons import ALIF, CUBALIF, IF, LIF, PLIF, Recurrent
from neuro.reset import none, subtract
from neuro.surrogate import ATan, Levels

BINARY = {
    "LIF": lambda: LIF(decay=0.6, threshold=0.7), "IF": lambda: IF(spike=ATan(strict=True)), "PLIF": lambda: PLIF(tau=3.0), "soft": lambda: LIF(tau=2.0, reset=subtract),
    "CUBALIF": lambda: CUBALIF(0.6, decay=0.5), "ALIF": lambda: ALIF(decay=0.8, adapt_step=0.3), "free": lambda: LIF(decay=0.5, reset=none),
}  # fmt: skip
GRADED = {"levels": lambda: LIF(decay=0.5, threshold=0.3, spike=Levels(4, unit=0.3), reset=subtract), "rounding": lambda: LIF(decay=0.0, threshold=0.5, spike=Levels(3), reset=subtract)}
CONVS = {
    "plain": {}, "grouped": {"groups": 2}, "depthwise": {"groups": 4}, "dilated": {"dilation": 2, "padding": 2}, "strided": {"stride": 2}, "wide": {"kernel_size": (1, 3), "padding": (0, 1)},
}  # fmt: skip
binary, graded, convs = st.sampled_from(sorted(BINARY)), st.sampled_from(sorted({**BINARY, **GRADED})), st.sampled_from(sorted(CONVS))


def neuron(name):
    return {**BINARY, **GRADED}[name]()


def conv(inputs, outputs, kind):
    how = {"kernel_size": 3, "padding": 1, "bias": kind != "strided", **CONVS[kind]}
    return Conv2d(inputs, outputs, **how)


class Unequal(nn.Module):
    """A short branch and a long one, summed: of spikes, or of the currents before a neuron."""

    def __init__(self, one, two, kind, of_currents):
        super().__init__()
        kind = "plain" if kind == "strided" else kind
        self.long = Sequential(conv(4, 4, kind), BatchNorm(4), neuron(one), conv(4, 4, "plain"))
        self.last = neuron(two)
        self.short = conv(4, 4, "plain") if of_currents else None

    def forward(self, x):
        if self.short is None:
            return self.last(self.long(x)) + x
        return self.last(self.long(x) + self.short(x))


def stack(names, first, second, pool, of_currents, delay):
    """Eleven kinds of layer in one network; frames of 2 channels, 8 x 8 -> 3 scores."""
    a, b, c, d = names
    net = Sequential(
        conv(2, 4, "plain"), BatchNorm(4), neuron(a), MaxPool2d(2) if pool == "max" else AvgPool2d(2),
        conv(4, 4, first), neuron(b), *([Delay(delay)] if delay else []), Unequal(c, d, second, of_currents), Flatten(),
        Linear(4 * (4 if first == "strided" else 16), 7), BatchNorm(7, axis=-1), Recurrent(LIF(decay=0.5), 7, bias=True), Linear(7, 3), MeanOverTime(),
    )  # fmt: skip
    for module in net.modules():
        if isinstance(module, BatchNorm):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.2, 0.5)
            module.weight.data.uniform_(0.8, 1.5)
            module.bias.data.uniform_(0.2, 0.6)
        if isinstance(module, Conv2d):
            module.weight.data *= 2
            if module.bias is not None:
                module.bias.data.uniform_(0.2, 0.6)
    return net.eval()


@settings(max_examples=6, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(
    seed=st.integers(0, 999), names=st.tuples(binary, binary, graded, binary), first=convs, second=convs, pool=st.sampled_from(["max", "avg"]),
    of_currents=st.booleans(), delay=st.integers(0, 3), per_channel=st.booleans(), bits=st.sampled_from([4, 8]),
)  # fmt: skip
def test_definition_twin_and_torch_give_the_same_integers(seed, names, first, second, pool, of_currents, delay, per_channel, bits):
    torch.manual_seed(seed)
    net = stack(names, first, second, pool, of_currents, delay)
    x, lengths = torch.poisson(torch.full((7, 2, 2, 8, 8), 0.6)), torch.tensor([7, 4])
    network, report = quantize(net, x, lengths=lengths, message_bits=None, weight_bits=bits, per_channel=per_channel)
    counts = x.numpy().astype(int)
    twin = run_twin(network, counts, lengths.numpy(), record=True)
    aware = QuantizationAware(net, x, message_bits=None, weight_bits=bits, per_channel=per_channel)
    with torch.no_grad():
        values = aware.values(x, lengths)
    for b, steps in enumerate(lengths.tolist()):
        trace = run_reference(network, counts[:steps, b])
        assert trace.acc.tolist() == twin.acc[b].tolist()
        for name, spikes in twin.spikes.items():
            assert (trace.values[name] == spikes[:steps, b]).all(), name
            assert (values[name][:steps, b].numpy() == spikes[:steps, b]).all(), name
    assert values["readout" if "readout" in values else network.readout.name].numpy() == pytest.approx(twin.logits, rel=1e-12, abs=1e-12)
    assume(sum(s.any() for s in twin.spikes.values()) >= len(twin.spikes) - 1)  # events reach the end of most stacks: else too many are left out
    assert sum(layer.changed for layer in report.layers) <= 0.25 * sum(layer.compared for layer in report.layers)


def test_a_delay_of_a_branch_is_a_delay_of_the_function():
    torch.manual_seed(0)

    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.neuron, self.delay, self.head, self.readout = IF(threshold=1.0), Delay(3), Linear(3, 3, bias=False), MeanOverTime()
            self.head.weight.data = torch.eye(3)

        def forward(self, x):
            s = self.neuron(x)
            return self.readout(self.head(s + self.delay(s)))

    x = torch.zeros(8, 1, 3)
    x[4, 0, 0] = x[6, 0, 1] = 2  # three steps after step 4 is the last one
    network, _ = quantize(Late(), x)
    twin = run_twin(network, x.numpy().astype(int))
    for scores in (twin.logits[0], neuro.trace(Late(), x).run(x)[0].numpy()):
        assert scores * 8 == pytest.approx([2, 1, 0], abs=0.02)
    with pytest.raises(GraphError, match="63 steps; 62 are possible"):
        quantize(Sequential(IF(), Delay(63), Linear(3, 3), MeanOverTime()), x)

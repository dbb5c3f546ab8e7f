"""Every neuron of `neuro.neurons` with every reset and threshold rule: what integer neuron it becomes, or the words it is refused with."""

import pytest
import torch

import neuro
from neuro import neurons
from neuro import reset as rules
from neuro.deploy.emitting import Emitter
from neuro.deploy.qat import QuantizationAware
from neuro.deploy.twin import run_twin
from neuro.errors import NeuroError
from neuro.layers import Linear, MeanOverTime, Sequential
from neuro.reset import Subtract, ToValue, ToZero
from neuro.scanning import plain_loop
from neuro.surrogate import ATan, Levels

RESETS = {
    "to zero": rules.to_zero, "subtract": rules.subtract, "none": rules.none,
    "to a value": ToValue(0.2), "late to zero": ToZero(delayed=True), "late subtract": Subtract(delayed=True),
}  # fmt: skip
KINDS = {
    "IF": lambda **how: neurons.IF(**how),
    "LIF": lambda **how: neurons.LIF(decay=0.75, **how),
    "PLIF": lambda **how: neurons.PLIF(tau=4.0, **how),
    "PLIF per channel": lambda **how: neurons.PLIF(tau=4.0, shape=(6,), **how),
    "CUBALIF": lambda **how: neurons.CUBALIF(0.5, decay=0.75, **how),
    "ALIF": lambda **how: neurons.ALIF(decay=0.75, adapt_decay=0.5, **how),
    "EscapeLIF": lambda spike, reset: neurons.EscapeLIF(reset=reset),
    "Recurrent": lambda **how: neurons.Recurrent(neurons.LIF(decay=0.75, **how), 6),
}
VALUE, MOVED, DRAW = "resets to zero, or subtracts", "threshold that it belongs to has moved", "draw the last spike again"
HARD, ADAPTS, CHANCE = "takes no account of levels", "its threshold adapts", "EscapeLIF, which the graph does not hold"

TABLE = {  # neuron: for each reset (one level, several levels): an integer neuron, or words
    "IF": (("LIF", HARD), ("Cell", "Cell"), ("Cell", "Cell"), (VALUE, HARD), ("LIF", HARD), ("Cell", "Cell")),
    "LIF": (("LIF", HARD), ("Cell", "Cell"), ("Cell", "Cell"), (VALUE, HARD), ("LIF", HARD), ("Cell", "Cell")),
    "PLIF": (("LIF", HARD), ("Cell", "Cell"), ("Cell", "Cell"), (VALUE, HARD), ("LIF", HARD), ("Cell", "Cell")),
    "PLIF per channel": (("Cell", HARD), ("Cell", "Cell"), ("Cell", "Cell"), (VALUE, HARD), ("Cell", HARD), ("Cell", "Cell")),
    "CUBALIF": (("Cell", HARD), ("Cell", "Cell"), ("Cell", "Cell"), (VALUE, HARD), ("Cell", HARD), ("Cell", "Cell")),
    "ALIF": (("Cell", HARD), ("Cell", ADAPTS), ("Cell", ADAPTS), (VALUE, HARD), (MOVED, HARD), (MOVED, MOVED)),
    "EscapeLIF": ((CHANCE, CHANCE), (CHANCE, CHANCE), (CHANCE, CHANCE), (CHANCE, CHANCE), (DRAW, DRAW), (DRAW, DRAW)),
    "Recurrent": (("RecurrentCell", HARD), ("RecurrentCell",) * 2, ("RecurrentCell",) * 2, (VALUE, HARD), ("RecurrentCell", HARD), ("RecurrentCell",) * 2),
}
CASES = [(kind, reset, levels) for kind in KINDS for reset in RESETS for levels in (1, 3)]
X = torch.poisson(torch.full((12, 3, 5), 0.8), generator=torch.Generator().manual_seed(0))


def built(kind, reset, levels, strict):
    torch.manual_seed(1)
    neuron = KINDS[kind](spike=ATan(strict=strict) if levels == 1 else Levels(levels, strict=strict), reset=RESETS[reset])
    if kind == "PLIF per channel":
        neuron.w.data = torch.linspace(-1, 1, 6)
    net = Sequential(Linear(5, 6), neuron, Linear(6, 3), MeanOverTime())
    net[0].weight.data *= 8
    return net


def test_the_table_holds_every_neuron():
    ours = {name for name in neurons.__all__ if isinstance(getattr(neurons, name), type) and issubclass(getattr(neurons, name), torch.nn.Module)}
    assert ours - {"Neuron"} == {kind.split(" ")[0] for kind in KINDS} and set(TABLE) == set(KINDS)


@pytest.mark.parametrize("kind, reset, levels", CASES, ids=str)
def test_what_becomes_of_it(kind, reset, levels):
    said = TABLE[kind][list(RESETS).index(reset)][levels > 1]
    for strict in (False, True):
        if said in ("LIF", "Cell", "RecurrentCell"):
            emitter = Emitter(neuro.trace(built(kind, reset, levels, strict), X[:1, :1]), 4)
            made = emitter.network("one")["1"]
            assert type(made).__name__ == said and getattr(made, "levels", 1) == levels
            assert any("fires at v >= threshold" in note for note in emitter.notes) == (not strict)
        else:
            with pytest.raises(NeuroError, match=said) as refused:
                Emitter(neuro.trace(built(kind, reset, levels, strict), X[:1, :1]), 4)
            assert len(str(refused.value).splitlines()) >= 2  # with facts or a way out


@pytest.mark.parametrize("kind, reset, levels", [c for c in CASES if TABLE[c[0]][list(RESETS).index(c[1])][c[2] > 1] in ("LIF", "Cell", "RecurrentCell")], ids=str)
def test_what_is_held_runs_as_the_torch_integers_do(kind, reset, levels):
    with plain_loop():  # a kernel for each of these neurons would run once, to look at the float network
        aware = QuantizationAware(built(kind, reset, levels, True), X, message_bits=None)
    network = aware.network()
    twin = run_twin(network, X.numpy().astype(int), record=True)
    with torch.no_grad():
        values = aware.values(X)
    assert torch.equal(values["1"].int(), torch.tensor(twin.spikes["1"].astype(int)).int()) and twin.spikes["1"].max() == levels
    torch.testing.assert_close(values["3"], torch.tensor(twin.logits), rtol=1e-12, atol=1e-12)


def test_levels_of_another_width_than_the_threshold():
    """Rounding instead of counting down, as QSD-Transformer's neuron: exact without memory, refused with it."""
    net = Sequential(Linear(5, 6), neurons.LIF(decay=0.0, threshold=0.5, spike=Levels(4), reset=rules.subtract), Linear(6, 3), MeanOverTime())
    torch.manual_seed(0)
    net[0].weight.data, net[0].bias.data = torch.randint(-8, 9, (6, 5)) / 8, torch.randint(-8, 9, (6,)) / 8
    graph, (network, report) = neuro.trace(net, X), neuro.deploy.quantize.quantize(net, X, message_bits=None)
    current = torch.nn.functional.linear(X, net[0].weight, net[0].bias)
    rounded = current.clamp(0, 4).add(0.5).floor()
    assert torch.equal(graph.values(X)["1"], rounded) and set(rounded.unique().tolist()) == {0, 1, 2, 3, 4}
    spikes, border = torch.tensor(run_twin(network, X.numpy().astype(int), record=True).spikes["1"].astype(int)), current.clamp(0, 4) + 0.5 == rounded
    assert torch.equal(spikes[~border].float(), rounded[~border]) and border.any()
    assert set((rounded[border] - spikes[border]).tolist()) == {0, 1}  # there the chip's `>` and the rounded weights decide
    assert report.layers[0].float_equal == int(border.sum())
    net[1].decay = 0.5
    with pytest.raises(neuro.errors.GraphError, match=r"multiples of the threshold(.|\n)*unit 1, threshold 0.5(.|\n)*Levels\(unit=threshold\)"):
        Emitter(neuro.trace(net, X), 4)
    with pytest.raises(neuro.errors.GraphError, match="up to 15 levels"):
        Emitter(neuro.trace(Sequential(Linear(5, 6), neurons.IF(spike=Levels(16), reset=rules.subtract), Linear(6, 3), MeanOverTime()), X), 4)
    with pytest.raises(neuro.errors.GraphError, match="no layer before it has a bias"):
        Emitter(neuro.trace(Sequential(neurons.LIF(decay=0.0, threshold=0.5, spike=Levels(4), reset=rules.subtract), Linear(5, 3), MeanOverTime()), X), 4)


def test_a_late_subtraction_is_that_of_the_float_neuron_step_by_step():
    """snnTorch's default: `v[t] = decay v[t-1] + x[t] - s[t-1] threshold`, by hand, where no rounding can differ."""
    net = Sequential(Linear(1, 1, bias=False), neurons.LIF(decay=0.5, threshold=1.0, spike=ATan(strict=True), reset=Subtract(delayed=True)), Linear(1, 1), MeanOverTime())
    net[0].weight.data[:] = 1.0  # v doubles as a float and as an integer: the decay is a half, the gain that of `decay=`
    net[1].gain = 1.0
    x = torch.tensor([3.0, 0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 5.0, 0.0, 1.0]).view(-1, 1, 1)
    v, s, spikes = 0.0, 0, []
    for now in x.flatten().tolist():
        v = 0.5 * v + now - s
        s = int(v > 1.0)
        spikes.append(s)
    assert net[1](net[0](x)).flatten().tolist() == spikes and 0 < sum(spikes) < 10
    network, report = neuro.deploy.quantize.quantize(net, x, message_bits=3)
    assert network["1"].reset == "late" and report.changed == 0
    assert run_twin(network, x.numpy().astype(int), record=True).spikes["1"].flatten().tolist() == spikes
    immediate = Sequential(net[0], neurons.LIF(decay=0.5, threshold=1.0, spike=ATan(strict=True), reset=rules.subtract))
    immediate[1].gain = 1.0
    assert immediate(x).flatten().tolist() != spikes  # the two rules differ on this input


def test_a_network_of_snntorch_as_it_comes_reaches_the_chip():
    snntorch, interop = pytest.importorskip("snntorch"), pytest.importorskip("neuro.interop")
    torch.manual_seed(0)
    theirs = torch.nn.Sequential(torch.nn.Linear(20, 32), snntorch.Leaky(beta=0.9, init_hidden=True), torch.nn.Linear(32, 16), snntorch.Leaky(beta=0.8, init_hidden=True))
    x = torch.poisson(torch.full((20, 6, 20), 1.0)).clamp(max=7)
    ours = Sequential(*interop.from_snntorch(theirs, x), Linear(16, 5), MeanOverTime())
    network, report = neuro.deploy.quantize.quantize(ours, x, message_bits=3)
    assert [network[name].reset for name in ("1", "3")] == ["late", "late"]
    assert report.changed < 0.03 and report.agree >= 5 and min(layer.spikes for layer in report.layers if layer.vth) > 20

"""Health finds the layer that is silent and the one that always fires, and leaves the model as it was."""

import copy

import pytest
import torch
from torch import nn

import neuro
from neuro.errors import ParameterError, ShapeError
from neuro.layers import BatchNorm
from neuro.neurons import ALIF, CUBALIF, LIF, Recurrent
from neuro.training.listening import listen


def network(**thresholds: float) -> nn.Sequential:
    """Three layers 6 -> 8 -> 8 -> 8 -> 3 of positive currents, with the thresholds given."""
    low = {"a": 0.6, "b": 0.6, "c": 0.6, **thresholds}
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Linear(6, 8), BatchNorm(8, axis=-1), LIF(decay=0.5, threshold=low["a"]),
        nn.Linear(8, 8), LIF(decay=0.5, threshold=low["b"]),
        nn.Linear(8, 8), nn.Dropout(0.2), LIF(decay=0.5, threshold=low["c"]),
        nn.Linear(8, 3), neuro.layers.MeanOverTime(),
    )  # fmt: skip
    with torch.no_grad():
        for k in (3, 5):
            model[k].weight.uniform_(0.0, 0.5)
            model[k].bias.fill_(0.1)
    return model


X = torch.rand(7, 4, 6, generator=torch.Generator().manual_seed(3))
LABEL = torch.tensor([0, 1, 2, 0])


def test_a_silent_layer_is_found():
    found = neuro.health(network(b=100.0), X, LABEL)
    silent = found.layers[1]
    assert silent.verdict == "silent" and silent.rate == 0 and silent.silent == 1 and "threshold" in silent.remedy
    assert silent.membrane[4] < 0.2 and not found.ok
    assert found.layers[0].verdict != "silent"
    assert "what to do" in repr(found).lower() and silent.remedy in repr(found)


def test_a_layer_that_always_fires_is_found():
    found = neuro.health(network(b=1e-3), X)
    full = found.layers[1]
    assert full.verdict == "saturated" and full.rate == 1 and full.always == 1 and full.silent == 0
    assert full.membrane[0] >= 1 and found.loss is None and full.gradient is None


def test_figures_are_those_of_the_spikes():
    model = network().eval()
    found = neuro.health(model, X)
    y = model[:3](X)
    first = found.layers[0]
    assert first.rate == pytest.approx(y.mean().item())
    assert first.silent == pytest.approx((y.sum((0, 1)) == 0).double().mean().item())
    assert (first.layer, first.kind, first.neurons) == ("2", "LIF", 8)
    v, above = torch.zeros(4, 8), []
    for current in model[:2](X):
        v = 0.5 * v + current
        above.append(v / 0.6)
        v = torch.where(v >= 0.6, 0.0, v)
    wanted = torch.quantile(torch.stack(above).double().flatten(), torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95]).double())
    assert first.membrane == pytest.approx(wanted.tolist(), abs=1e-5)


def test_gradients_belong_to_the_layer_that_the_parameters_feed():
    model = network().eval()
    found = neuro.health(model, X, LABEL)
    nn.functional.cross_entropy(model(X), LABEL).backward()

    def norm(*modules):
        return sum(p.grad.square().sum() for m in modules for p in m.parameters()).sqrt().item()

    wanted = [norm(*model[:3]), norm(*model[3:5]), norm(*model[5:8])]
    assert [layer.gradient for layer in found.layers] == pytest.approx(wanted, rel=1e-4)
    assert found.readout == pytest.approx(norm(model[8]), rel=1e-4)


def test_the_model_is_left_as_it_was():
    model = network().train()
    model[0].weight.grad = torch.full_like(model[0].weight, 2.0)
    model[3].eval()
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    random = torch.get_rng_state()
    for _ in range(2):
        neuro.health(model, X, LABEL)
    with pytest.raises(ShapeError):
        neuro.health(model, X, LABEL[:2])
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert modes == [m.training for m in model.modules()]
    assert torch.equal(model[0].weight.grad, torch.full_like(model[0].weight, 2.0))
    assert all(p.grad is None for k, p in model.named_parameters() if k != "0.weight")
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(m._forward_hooks for m in model.modules())


def test_hooks_go_when_the_forward_fails():
    model = network()
    with pytest.raises(RuntimeError), listen(model):
        raise RuntimeError
    assert not any(m._forward_hooks for m in model.modules())


def test_padding_counts_for_nothing():
    model = network().eval()
    alone = neuro.health(model, X[:3, :1])
    padded = torch.zeros(7, 1, 6)
    padded[:3] = X[:3, :1]
    found = neuro.health(model, padded, lengths=torch.tensor([3]))
    for a, b in zip(alone.layers, found.layers, strict=True):
        assert (a.rate, a.silent, a.always) == (b.rate, b.silent, b.always)
        assert a.membrane == pytest.approx(b.membrane)


def test_other_neurons_and_modules_used_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.lif, self.rec = LIF(decay=0.5), Recurrent(CUBALIF(), 6)
            self.alif = ALIF()

        def forward(self, x):
            return self.alif(self.rec(self.lif(self.lif(x * 4) * 4) * 4) * 4).mean(0)

    found = neuro.health(Twice(), X, loss=lambda y, _: y.sum())
    assert [layer.layer for layer in found.layers] == ["lif", "lif#1", "rec", "alif"]
    assert found.layers[2].kind == "CUBALIF recurrent" and found.layers[2].gradient is not None
    assert found.layers[0].gradient is None  # nothing to learn before it
    assert all(layer.membrane is not None for layer in found.layers)


def test_the_membrane_of_a_recurrent_neuron_holds_what_comes_back():
    rec = Recurrent(LIF(decay=0.5), 6, bias=True)
    v, s, above = torch.zeros(4, 6), torch.zeros(4, 6), []
    for current in X:
        v = 0.5 * v + current + s @ rec.weight.T + rec.bias
        above.append(v)
        s = (v >= 1).float()
        v = v * (1 - s)
    wanted = torch.quantile(torch.stack(above).double().flatten(), torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95]).double())
    assert neuro.health(rec, X).layers[0].membrane == pytest.approx(wanted.tolist(), abs=1e-5)


def test_a_layer_cut_off_is_named():
    model = network().eval()
    found = neuro.health(model, X, loss=lambda y, _: y.sum() * 0)
    assert all("gradient" in layer.verdict or layer.remedy for layer in found.layers)


def test_labels_at_every_step():
    model = network().eval()[:9]
    per_step = neuro.health(model, X, LABEL.expand(7, 4))
    mean = neuro.health(model, X, LABEL)
    assert per_step.loss == pytest.approx(nn.functional.cross_entropy(model(X).flatten(0, 1), LABEL.repeat(7)).item(), rel=1e-5)
    assert mean.loss == pytest.approx(nn.functional.cross_entropy(model(X).mean(0), LABEL).item(), rel=1e-5)


def test_it_draws_itself():
    found = neuro.health(network(b=100.0), X, LABEL)
    html = found._repr_html_()
    assert html.count("<tr") == 4 and ("<svg" in html or "<img" in html) and "http" not in html
    assert len(found.figure().axes) == 4 and len(found.figure().axes[0].patches) == 3
    assert len(neuro.health(network(), X).figure().axes) == 3
    assert [row["layer"] for row in found.table()] == ["2", "4", "7"]


def test_a_model_without_neurons_is_refused():
    with pytest.raises(ParameterError, match="no neuron"):
        neuro.health(nn.Linear(6, 3), X)

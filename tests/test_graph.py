"""neuro.trace and neuro.graph: the graph computes what the model computes, and refuses by name what it cannot hold."""

import operator

import pytest
import torch
from torch import nn

import neuro
from neuro.errors import GraphError, ParameterError, ShapeError
from neuro.graph import Affine, Graph, fold_norms
from neuro.layers import (
    AvgPool2d,
    BatchNorm,
    Conv1d,
    Conv2d,
    Flatten,
    Fold,
    LastStep,
    Linear,
    MaxPool2d,
    MeanOverTime,
    Sequential,
    SumOverTime,
)
from neuro.models import small
from neuro.neurons import ALIF, CUBALIF, IF, LIF, PLIF, EscapeLIF, Recurrent
from neuro.reset import subtract
from neuro.surrogate import ATan


def exact_weights(model):
    """Weights on a grid of 2^-6 and norms with power-of-two scales, so that float32 sums are exact."""
    g = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            for p in module.parameters():
                p.data = torch.randint(-48, 64, p.shape, generator=g) / 64
        if isinstance(module, (BatchNorm, nn.BatchNorm2d)):
            module.eps = 0.0
            module.running_mean.copy_(torch.randint(-8, 8, module.running_mean.shape, generator=g) / 16)
            module.running_var.copy_(4.0 ** torch.randint(-1, 2, module.running_var.shape, generator=g))
            module.weight.data = 2.0 ** torch.randint(-1, 2, module.weight.shape, generator=g)
            module.bias.data = torch.randint(-4, 8, module.bias.shape, generator=g) / 16
    return model.eval()


def frames(*shape, t=4, b=2):
    g = torch.Generator().manual_seed(1)
    return torch.randint(0, 3, (t, b, *shape), generator=g).float()


def assert_same_spikes(graph, other, x):
    seen = 0
    a, b = graph.values(x), other.values(x)
    for node in graph:
        if node.kind == "Neuron":
            torch.testing.assert_close(a[node.name], b[node.name], rtol=0, atol=0)
            seen += int(a[node.name].sum())
    assert seen > 0, "nothing fired: the comparison is empty"


@pytest.mark.parametrize("name", ["spikformer_motions", "spikformer_4_256", "spikformer_v2_8_384"])  # the others: test_all.py
def test_a_model_runs_as_its_graph(name):
    torch.manual_seed(0)
    model = exact_weights(small(name))
    c = model.config
    x = frames(c.channels, c.image, c.image)
    graph = neuro.trace(model, x[:2, :1])
    with torch.no_grad():
        torch.testing.assert_close(graph.run(x), model(x), rtol=1e-6, atol=1e-6)
    assert_same_spikes(graph, graph, x)


def test_the_graph_is_the_model_on_other_lengths_batches_and_paddings():
    model = exact_weights(small("spikformer_motions"))
    x = frames(2, 16, 16, t=6, b=3)
    graph = neuro.trace(model, x[:2])
    lengths = torch.tensor([6, 1, 3])
    with torch.no_grad():
        expected, _ = neuro.run(model, x, lengths=lengths)
    torch.testing.assert_close(graph.run(x, lengths), expected, rtol=1e-6, atol=1e-6)
    alone = graph.run(x[:3, 2:])
    torch.testing.assert_close(graph.run(x, lengths)[2:], alone, rtol=1e-6, atol=1e-6)


NEURONS = [IF(), LIF(), LIF(decay=0.75, threshold=0.5, reset=subtract), LIF(spike=ATan(strict=True)), PLIF(shape=(6,)), CUBALIF(), ALIF()]


@pytest.mark.parametrize("neuron", [*NEURONS, Recurrent(LIF(), 6, bias=True)], ids=lambda n: type(n).__name__)
def test_every_neuron_runs_as_its_node(neuron):
    net = Sequential(Linear(5, 6), neuron, SumOverTime())
    exact_weights(net)
    x = frames(5, t=12, b=3)
    graph = neuro.trace(net, x)
    assert torch.equal(graph.run(x), net(x).detach()) and graph.run(x).sum() > 0


def test_membrane_is_what_is_held_against_the_threshold():
    net = exact_weights(Sequential(Linear(5, 6), LIF(threshold=0.75)))
    graph = neuro.trace(net, frames(5))
    x = frames(5, t=12)
    v = graph["1"].membrane(graph.values(x)["0"])
    assert torch.equal((v >= 0.75).float(), graph.run(x)) and graph.run(x).any()


@pytest.mark.parametrize(
    "net",
    [
        Sequential(Conv2d(2, 4, 3, stride=2, padding=1, dilation=2, groups=2), BatchNorm(4), LIF(), AvgPool2d(2), Flatten()),
        Sequential(nn.Conv2d(2, 4, 3, padding="same"), nn.BatchNorm2d(4), LIF(), nn.MaxPool2d(3, 2, 1), nn.Flatten(), nn.Linear(64, 3)),
        Sequential(Fold(nn.Sequential(nn.Conv2d(2, 4, 2), nn.BatchNorm2d(4))), nn.Dropout(0.5), LIF(), nn.Identity(), MaxPool2d(2)),
    ],
    ids=["ours", "wrapped", "folded"],
)
def test_layers_and_norm_folding(net):
    exact_weights(net)
    x = frames(2, 8, 8)
    graph = neuro.trace(net, x)
    assert torch.equal(graph.run(x), net(x).detach())
    folded = fold_norms(graph)
    assert not any(n.kind in ("BatchNorm", "Affine") for n in folded)
    assert len(folded) == len(graph) - 1
    assert_same_spikes(graph, folded, x) if any(n.name == "2" and n.kind == "Neuron" for n in graph) else None
    torch.testing.assert_close(folded.run(x), graph.run(x), rtol=1e-6, atol=1e-6)


def test_removed_layers_are_listed_and_no_others():
    net = Sequential(nn.Identity(), Linear(3, 2), nn.Dropout(0.5), LIF())
    graph = neuro.trace(net, frames(3))
    assert graph.removed == (("0", "Identity"), ("2", "Dropout"))
    assert "left out" in repr(graph) and "2 (Dropout)" in repr(graph)


def test_a_norm_that_nothing_can_take_in_becomes_affine():
    net = exact_weights(Sequential(BatchNorm(3, axis=-1), Linear(3, 2), LIF()))
    x = frames(3)
    folded = fold_norms(neuro.trace(net, x))
    assert isinstance(folded["0"], Affine)
    torch.testing.assert_close(folded.run(x), net(x).detach())


def test_a_layer_read_twice_keeps_its_norm_apart():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.norm, self.lif = Linear(3, 3), BatchNorm(3, axis=-1), LIF()

        def forward(self, x):
            y = self.fc(x)
            return self.lif(self.norm(y) + y)

    net, x = exact_weights(Net()), frames(3)
    graph = neuro.trace(net, x)
    assert isinstance(fold_norms(graph)["norm"], Affine)
    torch.testing.assert_close(fold_norms(graph).run(x), net(x).detach())


def test_a_module_used_twice_has_two_nodes():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.lif = Linear(3, 3), LIF(spike=ATan(strict=True))

        def forward(self, x):
            x = self.lif(self.fc(x))
            return operator.add(x, self.lif(self.fc(x)))

    net, x = exact_weights(Net()), frames(3, t=8)
    graph = neuro.trace(net, x)
    assert [n.name for n in graph] == ["input", "fc", "lif", "fc_2", "lif_2", "add"]
    assert torch.equal(graph.run(x), net(x).detach()) and graph["lif"].comparison == ">"


def test_tracing_leaves_the_model_alone_and_keeps_its_own_weights():
    net = Sequential(Linear(3, 2), BatchNorm(2, axis=-1), LIF()).train()
    net[1].eval()
    graph = neuro.trace(net, frames(3))
    assert [m.training for m in net] == [True, False, True]
    before = graph.run(frames(3))
    net[0].weight.data.fill_(9.0)
    assert torch.equal(graph.run(frames(3)), before)


def test_wrappers_are_looked_through():
    net = exact_weights(Sequential(Linear(3, 2), LIF()))
    graph = neuro.trace(torch.compile(net), frames(3))
    assert [n.name for n in graph] == ["input", "0", "1"]
    inner = Sequential(Linear(3, 2), LIF())
    inner[0] = torch.compile(inner[0])
    assert [n.name for n in neuro.trace(inner, frames(3))] == ["input", "0", "1"]


def test_a_single_layer_is_a_graph():
    assert [n.kind for n in neuro.trace(LIF(), frames(3))] == ["Input", "Neuron"]


class _Functional(nn.Module):
    def forward(self, x):
        return torch.relu(x)


class _Branches(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else x + x


class _Unread(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = Linear(3, 2), Linear(3, 2)

    def forward(self, x):
        self.a(x)
        return self.b(x)


class _Patched(Linear):
    def forward(self, x):
        return super().forward(x) * 2


@pytest.mark.parametrize(
    ("net", "says"),
    [
        (nn.Sequential(Linear(3, 2), nn.ReLU()), ["'1'", "ReLU", "Put a neuron"]),
        (nn.Sequential(Linear(3, 2), nn.Sequential(LIF(), nn.LayerNorm(2))), ["'1.1'", "LayerNorm"]),
        (nn.Sequential(Linear(3, 2), _Functional()), ["1 uses 'relu'"]),
        (nn.Sequential(Linear(3, 2), _Branches()), ["'1' cannot be followed"]),
        (nn.Sequential(Linear(3, 2), LIF(), LastStep()), ["'2'", "LastStep", "MeanOverTime"]),
        (nn.Sequential(Linear(3, 2), EscapeLIF()), ["'1'", "EscapeLIF", "draws", "an LIF of the same decay"]),
        (nn.Sequential(Linear(3, 2), Fold(nn.AdaptiveAvgPool1d(1))), ["'1.layer'", "AvgPool2d"]),
        (nn.Sequential(_Patched(3, 2), LIF()), ["0"]),
        (_Unread(), ["'a'", "nothing reads"]),
        (Fold(nn.Sequential(nn.Linear(3, 2), nn.GELU())), ["layer.layer.1", "GELU"]),
    ],
    ids=lambda v: "" if isinstance(v, list) else type(v).__name__,
)
def test_what_is_not_understood_is_named(net, says):
    with pytest.raises(GraphError) as error:
        neuro.trace(net, frames(3))
    for words in says:
        assert words in str(error.value)


def test_an_altered_layer_is_noticed():
    net = Sequential(Linear(3, 2), LIF())
    net[0].register_forward_hook(lambda m, args, y: y + 1)
    with pytest.raises(GraphError, match="differ on the example"):
        neuro.trace(net, frames(3))


def test_wrong_inputs_are_refused():
    with pytest.raises(ParameterError, match="T, B"):
        neuro.trace(Linear(3, 2), torch.zeros(4, 3))
    for dtype in (torch.int64, torch.bool):
        with pytest.raises(ParameterError, match=r"floating(.|\n)*x\.float\(\)"):
            neuro.trace(Linear(3, 2), torch.ones(4, 1, 3, dtype=dtype))
    with pytest.raises(ParameterError, match="got NoneType"):
        neuro.trace(None, frames(3))
    with pytest.raises(ShapeError, match="time"):
        neuro.trace(nn.Sequential(nn.Conv2d(2, 2, 3)), frames(2, 8, 8))
    graph = neuro.trace(Linear(3, 2), frames(3))
    with pytest.raises(ShapeError, match=r"expected \[T, B, 3\]"):
        graph.run(frames(4))


def test_a_graph_checks_its_shapes_and_names():
    graph = neuro.trace(Sequential(Linear(3, 2), LIF(), MeanOverTime()), frames(3))
    with pytest.raises(GraphError, match="0"):
        Graph([graph["0"], *graph.nodes])
    with pytest.raises(GraphError, match="name is taken"):
        Graph([graph["input"], graph["0"], graph["0"]])
    with pytest.raises(GraphError, match="shapes do not fit"):
        Graph([type(graph["input"])("input", (), (5,)), graph["0"]])
    with pytest.raises(GraphError, match="stands before it"):
        Graph([graph["input"], graph["1"]])


def test_the_table_shows_every_node():
    graph = neuro.trace(Sequential(Conv2d(2, 4, 3), LIF(tau=4.0)), frames(2, 8, 8))
    for text in (repr(graph), graph._repr_html_()):
        for word in ("Conv2d", "4x6x6", "[4, 2, 3, 3]", "decay=0.75"):
            assert word in text


@pytest.mark.parametrize("how", [{"padding": 2, "dilation": 2}, {"padding": "same", "dilation": 3}, {"padding": "valid", "stride": 2, "groups": 2}], ids=str)
@pytest.mark.parametrize("cls", [nn.Conv1d, Conv1d])
def test_convolutions_over_one_axis(cls, how):
    net = exact_weights(Sequential(cls(4, 6, 3, **how), nn.BatchNorm1d(6), LIF(), Flatten()))
    for p in net[0].parameters():
        p.data = (p.data * 256).round() / 64  # four times as wide, and exact
    x = frames(4, 11)
    graph = neuro.trace(net, x)
    assert [n.kind for n in graph] == ["Input", "Conv1d", "BatchNorm", "Neuron", "Flatten"]
    assert torch.equal(graph.run(x), net(x).detach()) and graph.run(x).any()


@pytest.mark.parametrize("flat", [lambda y: y.flatten(2), lambda y: torch.flatten(y, 2), lambda y: y.flatten(start_dim=2, end_dim=-1)])
def test_a_flatten_in_a_forward_is_a_node(flat):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.lif, self.fc = Conv2d(2, 3, 3), LIF(), Linear(108, 4)

        def forward(self, x):
            return self.fc(flat(self.lif(self.conv(x))))

    net, x = exact_weights(Net()), frames(2, 8, 8)
    graph = neuro.trace(net, x)
    assert [n.name for n in graph] == ["input", "conv", "lif", "flatten", "fc"] and torch.equal(graph.run(x), net(x).detach())


@pytest.mark.parametrize("flat", [lambda y: y.flatten(0, 1), lambda y: y.flatten(1), lambda y: y.flatten(), lambda y: y.flatten(2, 3)])
def test_another_flatten_is_refused_with_the_one_that_is_held(flat):
    class Net(nn.Module):
        def forward(self, x):
            return flat(x)

    with pytest.raises(GraphError, match=r"uses 'flatten'(.|\n)*x\.flatten\(2\)"):
        neuro.trace(Net(), frames(2, 8, 8))


def test_a_network_of_snntorch_is_traced_as_it_stands():
    import snntorch
    from snntorch import utils

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, dilation=2), snntorch.Leaky(0.5, init_hidden=True), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(16, 8), snntorch.RLeaky(0.5, linear_features=8, init_hidden=True), nn.Linear(8, 3), snntorch.Leaky(0.75, init_hidden=True, output=True),
    )  # fmt: skip
    for p in net.parameters():
        p.data = (p.data * 256).round() / 64
    x = frames(2, 8, 8, t=12)
    graph = neuro.trace(net, x)
    assert [n.kind for n in graph] == "Input Conv2d Neuron MaxPool2d Flatten Linear Recurrent Linear Neuron".split() and graph["1"].comparison == ">"
    utils.reset(net)
    with torch.no_grad():
        want = torch.stack([net(x_t)[0] for x_t in x])
    assert 0 < want.mean() < 1 and torch.equal(graph.run(x), want)
    with pytest.raises(GraphError, match="'1' is a Lapicque"):
        neuro.trace(nn.Sequential(nn.Linear(3, 2), snntorch.Lapicque(0.5, init_hidden=True)), frames(3))


def test_a_layer_whose_forward_was_patched_is_refused_even_where_it_is_silent():
    """Its class no longer says what it computes, and a silent example would not show the difference."""
    net = Sequential(Conv2d(2, 2, 3), LIF(threshold=100.0))
    net[0].forward = lambda x: 0 * x[..., :6, :6]
    with pytest.raises(GraphError, match=r"'0' is a Conv2d(.|\n)*not that of its class"):
        neuro.trace(net, torch.zeros(2, 1, 2, 8, 8))


def test_lines_of_channels_and_layers_that_state_their_own_node():
    from neuro.deploy.nir_layers import Scale, SumPool2d

    line = Sequential(Fold(torch.nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2)), IF()).eval()
    x = torch.randn(3, 2, 4, 11)
    assert [n.kind for n in neuro.trace(line, x)] == ["Input", "Conv1d", "Neuron"]
    maps = Sequential(SumPool2d((2, 3), (1, 2), (0, 1)), Scale(torch.randn(2, 3, 3)), IF()).eval()
    x = torch.randn(3, 2, 2, 4, 6)
    graph = neuro.trace(maps, x)
    assert [n.kind for n in graph] == ["Input", "SumPool2d", "Scale", "Neuron"] and torch.equal(graph.run(x), maps(x))
    # by hand: windows of 2 x 3 with one column of zeros on either side
    want = torch.nn.functional.pad(x, (1, 1)).unfold(3, 2, 1).unfold(4, 3, 2).sum((-1, -2))
    torch.testing.assert_close(graph.values(x)["0"], want)

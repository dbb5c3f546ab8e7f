"""The table of NIR's nodes is what `load` and `export` do: every node computes what NIR's equation says, stepped by hand."""

import warnings
from pathlib import Path

import nir
import numpy as np
import pytest
import torch
from torch import nn

from neuro import layers, neurons, reset
from neuro.deploy import nir as exchange
from neuro.deploy import nir_layers
from neuro.deploy.nir_file import Part
from neuro.deploy.nir_neurons import neuron
from neuro.deploy.nir_nodes import ROWS, table
from neuro.scanning import plain_loop
from neuro.surrogate import ATan

DT, T, N = 1e-3, 12, 3
ONE = np.ones(N)
ROW = {r.kind: r for r in ROWS}


@pytest.fixture(autouse=True)
def _loop():
    with plain_loop():
        yield


def classes(base=nir.NIRNode):
    return {c.__name__: c for sub in base.__subclasses__() for c in [sub, *classes(sub).values()]}


def test_every_node_of_the_package_has_one_row():
    assert [r.kind for r in ROWS] == list(dict.fromkeys(r.kind for r in ROWS))
    assert set(ROW) == set(classes())


def test_the_page_holds_the_table():
    assert table() in (Path(__file__).parents[2] / "docs/nir_conformance.md").read_text()


def leaky(v, x, tau, r, leak=0.0):
    return v + DT / tau * (leak - v + r * x)


def stepped(step, x, states=1):
    """Outputs of `step(x_t, *state) -> (y_t, *state)` in float64, from zero states."""
    state, seen = [np.zeros(x.shape[1:])] * states, []
    for x_t in x:
        y, *state = step(x_t, *state)
        seen.append(y)
    return np.stack(seen)


def fire(v, threshold=1.0, back=0.0):
    s = (v > threshold).astype(float)
    return s, np.where(s > 0, back, v)


def cuba(x, u, v, spikes):
    u = leaky(u, x, 2e-3, 3.0)  # w_in
    v = leaky(v, u, 4e-3, 2.0, 0.25)
    return (*fire(v)[:1], u, fire(v)[1]) if spikes else (v, u, v)


TAU = {"tau": 4e-3 * ONE, "r": 2 * ONE, "v_leak": 0.25 * ONE}
CUBA = {"tau_syn": 2e-3 * ONE, "tau_mem": 4e-3 * ONE, "r": 2 * ONE, "v_leak": 0.25 * ONE, "w_in": 3 * ONE}
W = np.array([[1.0, -2.0, 0.5], [0.25, 1.0, 3.0]])
K1, K2 = np.arange(12.0).reshape(2, 3, 2) - 4, np.arange(24.0).reshape(2, 3, 2, 2) - 9
CONV = {"dilation": 1, "groups": 1}


def windows(x, how):
    """[T, C, 4, 4] -> [T, C, 2, 2]"""
    return how(how(x.reshape(*x.shape[:2], 2, 2, 2, 2), 3), 4)


def correlated(x, weight, bias):
    """[T, C, *S] with weight [O, C, *K], stride 1, no padding."""
    view = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], axis=tuple(range(2, x.ndim)))
    letters = "ij"[: weight.ndim - 2]
    return np.einsum(f"tc{letters.upper()}{letters},oc{letters}->to{letters.upper()}", view, weight) + bias.reshape(-1, *[1] * len(letters))


EQUATIONS = {  # kind: (node, shape of a step, what it computes on x [T, *shape])
    "Linear": (nir.Linear(W), (3,), lambda x: x @ W.T),
    "Affine": (nir.Affine(W, np.array([1.0, -1.0])), (3,), lambda x: x @ W.T + [1.0, -1.0]),
    "Scale": (nir.Scale(np.array([2.0, -1.0, 0.5])), (3,), lambda x: x * [2.0, -1.0, 0.5]),
    "Conv1d": (nir.Conv1d(5, K1, 1, 0, 1, 1, np.array([1.0, 2.0])), (3, 5), lambda x: correlated(x, K1, np.array([1.0, 2.0]))),
    "Conv2d": (nir.Conv2d((4, 5), K2, (1, 1), (0, 0), (1, 1), 1, np.array([1.0, 2.0])), (3, 4, 5), lambda x: correlated(x, K2, np.array([1.0, 2.0]))),
    "SumPool2d": (nir.SumPool2d(*(np.array(v) for v in ([2, 2], [2, 2], [0, 0]))), (2, 4, 4), lambda x: windows(x, np.sum)),
    "AvgPool2d": (nir.AvgPool2d(*(np.array(v) for v in ([2, 2], [2, 2], [0, 0]))), (2, 4, 4), lambda x: windows(x, np.mean)),
    "Flatten": (nir.Flatten({"input": np.array([2, 3])}, 0, -1), (2, 3), lambda x: x.reshape(len(x), -1)),
    "Delay": (nir.Delay(np.array([0.0, 1e-3, 3e-3])), (3,), lambda x: np.stack([np.concatenate([np.zeros(d), x[: T - d, n]]) for n, d in enumerate((0, 1, 3))], 1)),
    "Threshold": (nir.Threshold(0.5 * ONE), (3,), lambda x: (x > 0.5).astype(float)),
    "I": (nir.I(2 * ONE), (3,), lambda x: 2 * np.cumsum(x, 0)),
    "LI": (nir.LI(**TAU), (3,), lambda x: stepped(lambda i, v: 2 * (leaky(v, i, 4e-3, 2.0, 0.25),), x)),
    "CubaLI": (nir.CubaLI(**CUBA), (3,), lambda x: stepped(lambda i, u, v: cuba(i, u, v, False), x, 2)),
    "IF": (nir.IF(r=2 * ONE, v_threshold=ONE, v_reset=0.25 * ONE), (3,), lambda x: stepped(lambda i, v: fire(v + 2 * i, 1.0, 0.25), x)),
    "LIF": (nir.LIF(**TAU, v_threshold=0.5 * ONE, v_reset=-0.25 * ONE), (3,), lambda x: stepped(lambda i, v: fire(leaky(v, i, 4e-3, 2.0, 0.25), 0.5, -0.25), x)),
    "CubaLIF": (nir.CubaLIF(**CUBA, v_threshold=ONE), (3,), lambda x: stepped(lambda i, u, v: cuba(i, u, v, True), x, 2)),
}  # fmt: skip


def alone(node, shape, out):
    nodes = {"input": nir.Input(np.array(shape)), "node": node, "output": nir.Output(np.array(out))}
    return nir.NIRGraph(nodes, [("input", "node"), ("node", "output")], type_check=False)


@pytest.mark.parametrize("kind", EQUATIONS)
@pytest.mark.parametrize("how", ["graph", "file", "nested"])
def test_a_node_computes_what_nir_says(tmp_path, kind, how):
    node, shape, equation = EQUATIONS[kind]
    x = np.round(np.random.default_rng(1).random((T, *shape)) * 8) / 8  # sums and products stay exact
    want = equation(x)
    graph = alone(node, shape, want.shape[1:])
    if how == "nested":
        graph = alone(graph, shape, want.shape[1:])
    if how == "file":
        nir.write(tmp_path / "a.nir", graph)
        graph = tmp_path / "a.nir"
    with torch.no_grad():
        got = exchange.load(graph, dt=DT)(torch.tensor(x, dtype=torch.float32)[:, None])[:, 0].numpy()
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    assert ROW[kind].reads and np.ptp(want) > 0


def test_an_identity_is_left_out():
    types = {"input": np.array([3]), "output": np.array([3])}
    nodes = {"input": nir.Input(np.array([3])), "a": classes()["Identity"](types), "b": classes()["Identity"](types), "lin": nir.Linear(W), "output": nir.Output(np.array([2]))}
    graph = nir.NIRGraph(nodes, [("input", "a"), ("a", "b"), ("b", "lin"), ("lin", "output")], type_check=False)
    assert [s.name for s in exchange.load(graph).stages] == ["input", "lin", "output"]


def conv(*tail, flat):
    return layers.Sequential(layers.Conv2d(2, 2, 3, padding=1), neurons.LIF(), *tail, layers.Flatten(), layers.Linear(flat, 2), neurons.IF())


def li(kind, **values):
    return neuron(Part("x", kind, values), DT)


WRITES = {  # kind: (a network of ours, shape of a step)
    "Linear": (layers.Sequential(layers.Linear(3, 3, bias=False), neurons.LIF()), (3,)),
    "Affine": (layers.Sequential(layers.Linear(3, 3), layers.BatchNorm(3, axis=-1), neurons.LIF()), (3,)),
    "Scale": (layers.Sequential(nir_layers.Scale(torch.rand(3)), neurons.LIF()), (3,)),
    "Conv1d": (layers.Sequential(layers.Fold(nn.Conv1d(2, 2, 3)), neurons.LIF()), (2, 6)),
    "Conv2d": (conv(flat=32), (2, 4, 4)),
    "SumPool2d": (conv(layers.MaxPool2d(2), flat=8), (2, 4, 4)),
    "AvgPool2d": (conv(layers.AvgPool2d(2), flat=8), (2, 4, 4)),
    "Flatten": (conv(flat=32), (2, 4, 4)),
    "Delay": (layers.Sequential(neurons.LIF(), layers.Delay(2), neurons.IF()), (3,)),
    "Threshold": (layers.Sequential(neurons.LIF(decay=0.0, reset=reset.none), layers.Linear(3, 3)), (3,)),
    "I": (layers.Sequential(li("I", r=2 * ONE), layers.Linear(3, 3)), (3,)),
    "LI": (layers.Sequential(li("LI", **TAU), layers.Linear(3, 3)), (3,)),
    "CubaLI": (layers.Sequential(li("CubaLI", **CUBA), layers.Linear(3, 3)), (3,)),
    "IF": (layers.Sequential(neurons.IF()), (3,)),
    "LIF": (layers.Sequential(neurons.PLIF(shape=(3,), spike=ATan(strict=True))), (3,)),
    "CubaLIF": (layers.Sequential(neurons.CUBALIF(0.5, decay=0.75)), (3,)),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRITES)
def test_a_network_of_ours_is_written_as_it_and_comes_back(tmp_path, kind):
    model, shape = WRITES[kind]
    torch.manual_seed(3)
    x = torch.rand(T, 2, *shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = exchange.export(model.eval(), x, dt=DT, path=tmp_path / "a.nir")
    assert {"Input", "Output", kind} <= {type(n).__name__ for n in graph.nodes.values()} and ROW[kind].writes
    with torch.no_grad():
        torch.testing.assert_close(exchange.load(tmp_path / "a.nir")(x), model(x))
    assert type(nir.read(tmp_path / "a.nir")) is nir.NIRGraph


def test_what_the_table_says_of_writing_is_all_tested():
    assert {r.kind for r in ROWS if r.writes} == {*WRITES, "NIRGraph", "Input", "Output"}
    assert {r.kind for r in ROWS if r.reads} == {*EQUATIONS, "NIRGraph", "Input", "Output", "Identity"}


def test_an_identity_is_never_written():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = exchange.export(layers.Sequential(neurons.LIF(), nn.Identity(), neurons.IF()), torch.rand(T, 2, 3), dt=DT)
    assert [type(n).__name__ for n in graph.nodes.values()] == ["Input", "LIF", "IF", "Output"] and not ROW["Identity"].writes


def test_integrators_of_which_one_does_not_leak_are_two():
    model = layers.Sequential(li("CubaLI", **CUBA), layers.Linear(3, 3))
    model[0].decay.fill_(1.0)
    model[0].shift.fill_(0.0)
    x = torch.rand(T, 2, 3)
    graph = exchange.export(model.eval(), x, dt=DT)
    assert [type(n).__name__ for n in graph.nodes.values()][1:3] == ["LI", "I"]
    torch.testing.assert_close(exchange.load(graph)(x), model(x))

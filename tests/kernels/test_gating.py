"""Where a neuron passes gradients on: exactly where its output depends on its input; and a product's gradient formed only there."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import neuro
from neuro.kernels import gated_loops, gating, programs, spike_conv
from neuro.kernels.bits import pack
from neuro.kernels.costs import Costs, Work
from neuro.kernels.spike_linear import input_gradient_at
from neuro.neurons import ALIF, CUBALIF, IF, LIF, PLIF
from neuro.reset import subtract, to_zero
from neuro.surrogate import (
    ATan,
    FastSigmoid,
    Gaussian,
    Levels,
    Rectangle,
    Sigmoid,
    StraightThrough,
    SuperSpike,
    Surrogate,
    Triangle,
)


class Own(Surrogate):
    """Of somebody else: its derivative ends where a parabola meets 0."""

    strict = False

    def derivative(self, u):
        return (1 - u.square()).clamp(min=0)


def gate_of(neuron, x, state=None, lengths=None):
    state = neuron.initial(x[0]) if state is None else state
    found = programs.find(type(neuron).step, x, state, neuron.params(), neuron.choices(), x.dtype)
    return gating.gate(found, x, state, neuron.params(), lengths)


def passes(neuron, x, state, lengths):
    """Where y[t] depends on x[t], asked of the plain loop one step at a time."""
    x = x.clone().requires_grad_()
    with neuro.scanning.plain_loop():
        y, _ = neuro.scan(type(neuron).step, x, state, neuron.params(), lengths=lengths, **neuron.choices())
    return torch.stack([torch.autograd.grad(y[t].sum(), x, retain_graph=True)[0][t] != 0 for t in range(len(x))]).float()


NEURONS = [  # of N
    lambda N: LIF(tau=1.5, spike=Rectangle(1.0)), lambda N: LIF(tau=1.5, spike=Triangle(1.0), reset=replace(subtract, detach=False)),
    lambda N: PLIF(shape=(N,), spike=Triangle(0.5, 2.0), reset=subtract), lambda N: IF(spike=Levels(3), reset=subtract), lambda N: LIF(spike=Own()),
    lambda N: ALIF(spike=Rectangle(0.3, strict=True), reset=replace(to_zero, detach=False)), lambda N: CUBALIF(spike=Rectangle(1.0)),
]  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(T=st.integers(1, 19), B=st.integers(1, 20), N=st.integers(1, 40), kind=st.sampled_from(range(len(NEURONS))), padded=st.booleans(), seed=st.integers(0, 99))
def test_a_gate_is_open_where_the_output_depends_on_the_input(T, B, N, kind, padded, seed):
    torch.manual_seed(seed)
    neuron, padded = NEURONS[kind](N), padded and kind < 3  # each combination is a kernel to compile
    x = 2 * torch.randn(T, B, N)
    state = neuron.State(*(torch.randn(B, N) for _ in neuron.State._fields))
    lengths = torch.randint(1, T + 1, (B,)) if padded else None
    gate, expected = gate_of(neuron, x, state, lengths), passes(neuron, x, state, lengths)
    assert torch.equal(gate.open(), expected)
    assert torch.equal(gate.emptied().holding(gate.tensors()).sample(), expected[:, ::16])
    assert torch.equal(gate.places(1.0).unpack(), expected)


@pytest.mark.parametrize("spike", [ATan(2.0), Sigmoid(4.0), FastSigmoid(), Gaussian(), SuperSpike(), StraightThrough()])
def test_a_surrogate_that_is_0_nowhere_has_no_gate(spike):
    assert gate_of(LIF(spike=spike), torch.randn(3, 2, 5)) is None


class State(NamedTuple):
    v: torch.Tensor


@dataclass(frozen=True)
class Step:
    """A step that is called with a surrogate, and its output as a function of membrane and spikes."""

    output: object

    def __call__(self, x, state, p, *, spike):
        v = torch.where(x > 0, 0.5 * state.v + x, state.v)  # a comparison that is not the surrogate's
        s = spike(v - 1.0)
        return self.output(v, s), State(v - s)


@pytest.mark.parametrize(("output", "spike", "has"), [
    (lambda v, s: s, Rectangle(), True), (lambda v, s: s + s, Rectangle(), True), (lambda v, s: s, ATan(), False), (lambda v, s: v, Rectangle(), False),
    (lambda v, s: s * v, Rectangle(), False), (lambda v, s: s + v, Rectangle(), False), (lambda v, s: 1 - s, Rectangle(), False),
])  # fmt: skip
def test_only_spikes_and_sums_of_them_have_a_gate(output, spike, has):
    x, state = torch.randn(3, 2, 5), State(torch.zeros(2, 5))
    found = programs.find(Step(output), x, state, None, {"spike": spike}, x.dtype)
    assert (gating.gate(found, x, state, None) is not None) == has


def test_only_float32_on_the_cpu_has_a_gate():
    for x in (torch.randn(3, 2, 5, dtype=torch.float64), torch.randn(3, 2, 5, dtype=torch.bfloat16), torch.randn(3, 0, 5)):
        assert gate_of(LIF(spike=Rectangle()), x) is None


@pytest.mark.parametrize("B", [1, 16, 33])
def test_too_many_places_are_refused_by_the_sample_or_by_the_whole(B, monkeypatch):
    gate = gate_of(LIF(spike=Rectangle(1.0)), torch.randn(6, B, 300))
    share = gate.open().mean().item()
    whole, opened = gating.Gate.open, []
    monkeypatch.setattr(gating.Gate, "open", lambda self: opened.append(1) or whole(self))
    assert 0.05 < share < 0.6 and gate.places(0.8 * share) is None and not opened
    assert gate.places(1.3 * share).events == round(share * gate.x.numel()) and len(opened) == 1
    if B > 16:
        gate.x[:, ::16] = -99.0  # the sample's gates are shut; it misleads
        assert gate.places(0.8 * share) is None and len(opened) == 2


@settings(max_examples=50, deadline=None)
@given(
    rows=st.integers(1, 300), inner=st.integers(1, 290), outer=st.integers(1, 200), density=st.sampled_from([0.0, 0.03, 0.3, 1.0]), double=st.booleans(),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_a_gradient_at_named_places_is_the_dense_one_there_and_0_elsewhere(rows, inner, outer, density, double, seed):
    torch.manual_seed(seed)
    dtype = torch.float64 if double else torch.float32
    g, w, mask = torch.randn(rows, outer, dtype=dtype), torch.randn(outer, inner, dtype=dtype), (torch.rand(rows, inner) < density).to(dtype)
    found = input_gradient_at(pack(mask), g, w)
    bound = (1e-13 if double else 1e-5) * (g.abs() @ w.abs())
    assert found.dtype == dtype and ((found - (g @ w) * mask).abs() <= bound * mask).all()


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 3), c=st.integers(1, 140), o=st.integers(1, 40), h=st.integers(1, 12), w=st.integers(1, 12), kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)), padding=st.tuples(st.integers(0, 4), st.integers(0, 4)), dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)), density=st.sampled_from([0.0, 0.05, 0.4, 1.0]),
    double=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_a_convolutions_gradient_at_named_places_is_the_dense_one_there(n, c, o, h, w, kernel, stride, padding, dilation, density, double, seed):
    torch.manual_seed(seed)
    dtype = torch.float64 if double else torch.float32
    sizes = spike_conv.sizes_of(torch.Size((n, c, h, w)), torch.Size((o, c, *kernel)), stride, padding, dilation, 1)
    if min(sizes.H_out, sizes.W_out) < 1:
        return
    g, weight = torch.randn(n, o, sizes.H_out, sizes.W_out, dtype=dtype), torch.randn(o, c, *kernel, dtype=dtype)
    mask = (torch.rand(n, c, h, w) < density).to(dtype)
    found = spike_conv.input_gradient_at(pack(mask), g, weight, sizes)
    whole, size = (spike_conv.input_gradient(a, b, sizes, mask.shape) for a, b in ((g, weight), (g.abs(), weight.abs())))
    assert found.dtype == dtype and ((found - whole * mask).abs() <= (1e-13 if double else 1e-5) * size * mask).all()
    alone = (torch.rand(n, c, h, w) < 0.5).to(dtype)
    assert torch.equal(spike_conv.input_gradient_at(pack(mask * alone), g, weight, sizes), found * alone)  # whatever other places are named


def test_a_convolutions_gradient_longer_than_a_block():
    g, weight, mask = torch.randn(40, 32, 40, 40), torch.randn(32, 8, 3, 3), (torch.rand(40, 8, 40, 40) < 0.1).float()
    sizes = spike_conv.sizes_of(mask.shape, weight.shape, (1, 1), (1, 1), (1, 1), 1)
    found, whole = spike_conv.input_gradient_at(pack(mask), g, weight, sizes), spike_conv.input_gradient(g, weight, sizes, mask.shape) * mask
    assert (found - whole).abs().max() < 1e-4 and found.count_nonzero() > 0.09 * found.numel()


@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (2, 3)])
def test_an_image_has_the_same_gradient_as_alone(stride):
    """Images are what threads share; nothing is carried from one to the next."""
    g, weight, mask = torch.randn(5, 24, 12, 12), torch.randn(24, 70, 3, 3), (torch.rand(5, 70, 12, 12) < 0.3).float()
    sizes = spike_conv.sizes_of(mask.shape, weight.shape, stride, (1, 1), (1, 1), 1)
    g = g[:, :, : sizes.H_out, : sizes.W_out].contiguous()
    whole = spike_conv.input_gradient_at(pack(mask), g, weight, sizes)
    for n in range(5):
        assert torch.equal(spike_conv.input_gradient_at(pack(mask[n : n + 1]), g[n : n + 1], weight, sizes), whole[n : n + 1])


def test_a_place_has_the_same_sum_whatever_other_places_are_named():
    g, w = torch.randn(60, 205), torch.randn(205, 150)
    whole = input_gradient_at(pack(torch.ones(60, 150)), g, w)
    for density in (0.01, 0.1, 0.5):
        mask = (torch.rand(60, 150) < density).float()
        assert torch.equal(input_gradient_at(pack(mask), g, w), whole * mask)


def test_what_is_not_named_is_not_read_into_the_sums():
    g, w, mask = torch.randn(9, 37), torch.randn(37, 70), torch.zeros(9, 70)
    mask[4, 5], mask[7, 69] = 1, 1
    g[[0, 1, 2, 3, 5, 6, 8]], w[:, [0, 6, 68]] = float("nan"), float("inf")
    found = input_gradient_at(pack(mask), g, w)
    assert found.isfinite().all() and found.count_nonzero() == 2


def test_sums_do_not_depend_on_how_rows_are_split():
    g, w, bits = torch.randn(77, 130), torch.randn(130, 200), pack((torch.rand(77, 200) < 0.2).float())
    whole = input_gradient_at(bits, g, w)
    for cuts in ([0, 1, 77], [0, 30, 31, 77]):
        y = np.full(77 * 200, np.nan, np.float32)
        for low, high in zip(cuts, cuts[1:], strict=False):
            gated_loops.named_products(bits.planes[0], 200, g.view(-1).numpy(), w.view(-1).numpy(), 130, y, low, high)
        assert torch.equal(torch.from_numpy(y).view(77, 200), whole)


TABLE = Costs(
    dense_16=8e-11, dense_128=4e-11, dense_1024=2e-11, dense_conv=2e-11, linear_add=5e-11, linear_output=5e-10, conv_add=5e-11, conv_output=2e-9,
    linear_gradient_add=3e-11, linear_gradient_output=5e-10, conv_gradient_add=3e-11, conv_gradient_output=2e-9, weight=2e-10, pack=1e-10, unpack=1e-10, call=4e-5,
)  # fmt: skip
GATED = replace(TABLE, gate=4e-10, gate_call=6e-5, gate_look=3e-5, gated_linear_add=5e-11, gated_linear_output=2.5e-10)


def work(rows, inner, outer, kind="linear"):
    return Work(kind, rows * inner, inner * outer, rows * outer, rows, outer)


def test_the_share_of_places_up_to_which_they_are_formed_alone():
    share = GATED.most_places(work(1024, 512, 512))
    whole = GATED.dense(work(1024, 512, 512))
    assert 0.2 < share < 0.9 * 2e-11 / 5e-11  # forming the gate takes its part
    assert share == pytest.approx((0.9 * whole - 9e-5 - (9e-10 + 4e-10 / 16) * 1024 * 512 - 2e-10 * 512 * 512) / (5e-11 * 1024 * 512 * 512))
    assert GATED.most_places(work(8192, 2048, 2048)) > share
    assert GATED.most_places(work(1024, 64, 64)) == 0.0  # so small that to ask costs too much
    assert GATED.most_places(work(1024, 512, 512, "conv")) == 0.0
    by_conv, conv = replace(GATED, gated_conv_add=5e-11, gated_conv_output=1e-9, input_dense=2e-11), work(1024, 512, 512, "conv")
    by_tiles = replace(by_conv, input_winograd=1e-11)
    assert by_conv.most_places(conv) > 2 * by_tiles.most_places(conv._replace(tiles=True)) > 0
    assert by_conv.most_places(conv) == by_tiles.most_places(conv)  # for which there are no tiles
    moving = replace(by_conv, input_dense_output=1e-9)
    assert moving.most_places(conv) - by_conv.most_places(conv) == pytest.approx(0.9 * 1e-9 * 2 * 1024 * 512 / (5e-11 * 1024 * 512 * 512))
    assert TABLE.most_places(work(1024, 512, 512)) == 0.0  # a table of before it was measured
    assert replace(GATED, gated_linear_add=1e-13).most_places(work(1024, 512, 512)) == 1.0
    assert replace(GATED, gated_linear_output=1e-7).most_places(work(1024, 512, 512)) == 0.0
    assert GATED.on(2).gate_call == GATED.gate_call

"""LIF and IF, and what every neuron shares: the membrane equation, state, batch, dtype, errors, repr."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import neuro
from neuro.errors import ParameterError, ShapeError
from neuro.neurons import ALIF, CUBALIF, IF, LIF, PLIF, Recurrent
from neuro.reset import Subtract, none, subtract, to_zero
from neuro.surrogate import ATan

NEURONS = {
    "LIF": lambda: LIF(tau=2.0),
    "LIF soft": lambda: LIF(decay=0.5, reset=subtract),
    "LIF delayed": lambda: LIF(decay=0.5, reset=Subtract(delayed=True)),
    "LIF no reset": lambda: LIF(decay=0.5, reset=none),
    "IF": lambda: IF(),
    "PLIF": lambda: PLIF(tau=2.0),
    "CUBALIF": lambda: CUBALIF(current_decay=0.5, decay=0.5),
    "ALIF": lambda: ALIF(decay=0.5, adapt_decay=0.5, adapt_step=0.25),
    "Recurrent": lambda: halves(Recurrent(LIF(decay=0.5), 6, bias=True)),
}
EVERY = pytest.mark.parametrize("make", NEURONS.values(), ids=NEURONS)


def halves(recurrent: Recurrent) -> Recurrent:
    with torch.no_grad():
        recurrent.weight.copy_((recurrent.weight * 256).round() / 256)
        recurrent.bias.fill_(0.125)
    return recurrent


def eighths(*shape: int) -> torch.Tensor:
    """Input whose sums with decay 1/2 are exact in float32 for some ten steps."""
    return (torch.randn(*shape) * 8 + 4).round() / 8


@EVERY
@pytest.mark.parametrize("cut", [1, 4, 7])
def test_one_run_is_two_runs(make, cut):
    neuron, x = make(), eighths(8, 3, 6)
    y, after = neuro.run(neuron, x)
    first, between = neuro.run(neuron, x[:cut])
    second, last = neuro.run(neuron, x[cut:], between)
    assert 0 < y.mean() < 1
    assert torch.equal(torch.cat([first, second]), y) and torch.equal(neuron(x), y)
    assert after.keys() == last.keys() and all(torch.equal(after[k], last[k]) for k in after)


@EVERY
def test_gradients_cross_the_cut(make):
    def grads(cut):
        neuron, x = make(), eighths(8, 3, 6).requires_grad_()
        first, state = neuro.run(neuron, x[:cut])
        y = torch.cat([first, neuro.run(neuron, x[cut:], state)[0]]) if cut < 8 else first
        return torch.autograd.grad((y * torch.arange(8.0).view(8, 1, 1)).sum(), [x, *neuron.parameters()])

    torch.manual_seed(1)
    whole = grads(8)
    torch.manual_seed(1)
    for a, b in zip(whole, grads(3), strict=True):
        torch.testing.assert_close(a, b)
    assert whole[0].abs().sum() > 0


@EVERY
def test_batch_order_and_composition_are_irrelevant(make):
    neuron, x, order = make(), eighths(8, 5, 6), torch.tensor([3, 0, 4, 1, 2])
    y = neuron(x)
    assert torch.equal(neuron(x[:, order]), y[:, order])
    assert torch.equal(neuron(x[:, 2:3]), y[:, 2:3])


@EVERY
def test_outputs_are_exactly_0_or_1(make):
    y = make()(torch.randn(20, 2, 6) * 2)
    assert torch.equal(y, (y > 0).float()) and 0 < y.mean() < 1


@EVERY
def test_padded_sample_equals_the_sample_alone(make):
    neuron, x, lengths = make(), eighths(8, 3, 6), torch.tensor([8, 3, 1])
    y, after = neuro.run(neuron, x, lengths=lengths)
    for b, n in enumerate(lengths):
        alone, state = neuro.run(neuron, x[:n, b : b + 1])
        assert torch.equal(y[:n, b : b + 1], alone) and not y[n:, b].any()
        assert all(torch.equal(after[k][b : b + 1], state[k]) for k in after)


@EVERY
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_output_has_the_dtype_of_the_input_and_state_is_wide(make, dtype):
    neuron = make()
    y, state = neuro.run(neuron, eighths(5, 2, 6).to(dtype))
    assert y.dtype == dtype
    assert {v.dtype for v in state.values()} == {torch.float64 if dtype == torch.float64 else torch.float32}


@EVERY
def test_half_precision_input_spikes_like_float32(make):
    neuron, x = make(), eighths(8, 2, 6)  # eighths up to 16 are exact in both half types
    assert torch.equal(neuron(x.bfloat16()).float(), neuron(x)) and torch.equal(neuron(x.half()).float(), neuron(x))


@EVERY
def test_autocast_keeps_the_membrane_wide(make):
    neuron, x = make(), eighths(8, 2, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, state = neuro.run(neuron, x)
    assert all(v.dtype == torch.float32 for v in state.values())
    if not isinstance(neuron, Recurrent):  # whose product is autocast
        assert torch.equal(y, neuron(x))


@EVERY
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64])
def test_spikes_and_counts_are_accepted_as_input(make, dtype):
    neuron, x = make(), torch.randint(0, 2, (6, 2, 6)).to(dtype)
    y = neuron(x)
    assert y.dtype == torch.float32 and torch.equal(y, neuron(x.float()))


@EVERY
def test_calling_twice_gives_one_answer_and_copies_are_free(make):
    neuron, x = make(), eighths(8, 2, 6).requires_grad_()
    y = neuron(x)
    assert torch.equal(neuron(x), y)
    assert torch.equal(copy.deepcopy(neuron)(x), y) and torch.equal(pickle.loads(pickle.dumps(neuron))(x), y)
    assert set(neuron.state_dict()) == {name for name, _ in neuron.named_parameters()}


@EVERY
def test_it_says_what_it_is(make):
    shown = repr(make())
    for word in ("decay=", "gain=", "threshold=", ">= threshold", "ATan(alpha=2.0", "reset="):
        assert word in shown, shown


@EVERY
@pytest.mark.parametrize("shape", [(4, 6), (6,), (0, 2, 6)])
def test_an_input_without_time_and_batch_is_refused(make, shape):
    with pytest.raises(ShapeError, match=r"not a sequence(.|\n)*axis 0"):
        make()(torch.zeros(shape))


# ---- the membrane equation


@settings(max_examples=30, deadline=None)
@given(decay=st.floats(0, 1), gain_tau=st.sampled_from([None, 1.0, 2.0, 7.5, 100.0]), steps=st.integers(1, 30))
def test_below_threshold_it_is_the_closed_form(decay, gain_tau, steps):
    """v[t] = x gain (1 - decay^(t+1)) / (1 - decay) for constant x and no spike."""
    neuron = LIF(decay=decay, threshold=1e9) if gain_tau is None else LIF(tau=gain_tau, threshold=1e9)
    p = neuron.params()
    x = torch.full((steps, 1, 1), 0.3, dtype=torch.float64)
    y, state = neuro.run(neuron, x)
    expected = 0.3 * p.gain * sum(p.decay**k for k in range(steps))
    assert not y.any() and state["#0"].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("neuron", "decay", "gain"),
    [
        (LIF(), 0.5, 0.5),
        (LIF(tau=4), 0.75, 0.25),
        (LIF(tau=1), 0.0, 1.0),
        (LIF(tau=20e-3, dt=1e-3), 0.95, 0.05),
        (LIF(tau=20e-3, dt=1e-3, exact=True), math.exp(-0.05), 1 - math.exp(-0.05)),
        (LIF(tau=0.5, exact=True), math.exp(-2), 1 - math.exp(-2)),
        (LIF(decay=0.9), 0.9, 1.0),
        (IF(), 1.0, 1.0),
        (PLIF(tau=4.0), 0.75, 0.25),
    ],
    ids=repr,
)
def test_constants(neuron, decay, gain):
    p = neuron.params()
    assert tuple(float(torch.as_tensor(c).detach()) for c in (p.decay, p.gain)) == pytest.approx((decay, gain), rel=1e-6)


@pytest.mark.parametrize(
    "how",
    [
        {"tau": 2.0, "decay": 0.5}, {"tau": 0.5}, {"tau": 0}, {"tau": -1.0}, {"decay": 1.5}, {"decay": -0.1}, {"decay": math.nan},
        {"decay": 0.5, "dt": 1e-3}, {"decay": 0.5, "exact": True}, {"tau": -1.0, "exact": True}, {"threshold": 0},
        {"threshold": -1.0}, {"threshold": math.inf}, {"tau": math.nan},
    ],
    ids=str,
)  # fmt: skip
def test_constants_that_make_no_sense_are_refused_with_their_values(how):
    with pytest.raises(ParameterError) as caught:
        LIF(**how)
    assert "LIF" in str(caught.value) and len(str(caught.value)) > 20
    assert any(str(value) in str(caught.value) for value in how.values())


def test_if_does_not_leak():
    with pytest.raises(TypeError, match="does not leak"):
        IF(tau=2.0)
    x = eighths(9, 2, 3).abs() / 8
    _, state = neuro.run(IF(threshold=1000), x)
    assert torch.equal(state["#0"], x.sum(0))


def test_constant_input_of_tau_2():
    """x = 1 creeps up to 1 - 2^-t and never fires, x = 2 fires at every step, x = 1.5 at every second."""
    x = torch.tensor([1.0, 2.0, 1.5]).expand(20, 1, 3)
    y = LIF(tau=2.0)(x)[:, 0]
    assert not y[:, 0].any() and y[:, 1].all() and y[:, 2].tolist() == [0.0, 1.0] * 10
    _, state = neuro.run(LIF(tau=2.0), x[:10, :, :1])
    assert state["#0"].item() == 1 - 2**-10


def test_equality_fires_unless_strict():
    x = torch.tensor([0.5, 1.0, 1.5]).view(1, 1, 3)
    assert LIF(decay=0.5)(x).tolist() == [[[0, 1, 1]]]
    assert LIF(decay=0.5, spike=ATan(strict=True))(x).tolist() == [[[0, 0, 1]]]
    assert "fires at v > threshold" in repr(LIF(spike=ATan(strict=True)))


@pytest.mark.parametrize("reset", [to_zero, subtract, none], ids=str)
def test_spikes_are_those_of_the_equation_in_python(reset):
    x = eighths(8, 1, 50)
    y = LIF(decay=0.5, threshold=0.75, reset=reset)(x)[:, 0].T.tolist()
    for n, currents in enumerate(x[:, 0].T.tolist()):
        v = 0.0
        for t, current in enumerate(currents):
            v = 0.5 * v + current
            s = float(v >= 0.75)
            assert y[n][t] == s
            v = {to_zero: v * (1 - s), subtract: v - 0.75 * s, none: v}[reset]


def test_integers_are_welcome_as_constants():
    assert LIF(tau=2, threshold=1).params() == LIF(tau=2.0, threshold=1.0).params()
    assert IF(threshold=1).threshold == 1.0


def test_gradient_without_reset_is_the_convolution():
    """With `none`, dL/dx[t] = sum over later t' of weigh * derivative(u[t']) * decay^(t'-t)."""
    x = torch.randn(6, 1, 4, dtype=torch.float64, requires_grad=True)
    weigh, spike = torch.randn(6, 1, 4, dtype=torch.float64), ATan(2.0)
    (LIF(decay=0.5, reset=none, spike=spike)(x) * weigh).sum().backward()
    v, vs = torch.zeros(1, 4, dtype=torch.float64), []
    for x_t in x.detach():
        v = 0.5 * v + x_t
        vs.append(v)
    local = weigh * spike.derivative(torch.stack(vs) - 1)
    expected = [sum(local[s] * 0.5 ** (s - t) for s in range(t, 6)) for t in range(6)]
    torch.testing.assert_close(x.grad, torch.stack(expected))


@pytest.mark.parametrize("wrong", [{"reset": "zero"}, {"spike": "atan"}, {"reset": neuro.reset.ToZero}])
def test_names_and_classes_are_no_rules(wrong):
    with pytest.raises(ParameterError, match="Give an object"):
        neuro.neurons.LIF(**wrong)


@pytest.mark.parametrize("how", [{"threshold": torch.linspace(0.5, 1, 3)}, {"tau": torch.tensor([2.0, 3.0])}, {"decay": np.array([0.5, 0.9])}, {"threshold": "1"}, {"tau": True}])
def test_what_is_not_one_number_is_refused_by_name(how):
    (name,) = how
    with pytest.raises(ParameterError, match=f"LIF: {name} must be a number"):
        LIF(**how)


@pytest.mark.parametrize("how", [{"threshold": np.float32(0.5)}, {"tau": np.int64(3)}, {"decay": torch.tensor(0.5)}, {"threshold": 2}])
def test_numbers_of_other_libraries_are_numbers(how):
    assert LIF(**how)(torch.ones(3, 1, 2)).shape == (3, 1, 2)

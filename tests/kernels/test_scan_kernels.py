"""Generated kernels against the plain loop: outputs, final state and every gradient, on steps of all kinds."""

import copy
import functools
import types
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from three_states import Three, ThreeParams, normal, three_step

import neuro
from neuro import scanning
from neuro.kernels import cache, cpu, cpu_block, memory, programs
from neuro.kernels.cpu_source import SEGMENT
from neuro.neurons import ALIF, CUBALIF, IF, LIF, PLIF
from neuro.neurons.lif import lif_step
from neuro.reset import NoReset, Subtract, ToValue, ToZero
from neuro.scanning import plain_loop, scan
from neuro.surrogate import (
    ATan,
    FastSigmoid,
    Gaussian,
    Rectangle,
    Sigmoid,
    StraightThrough,
    SuperSpike,
    Surrogate,
    Triangle,
)


def runs_by_kernel(monkeypatch):
    """Count the calls of CPU kernels, so that a test on the loop alone cannot pass."""
    calls = []
    real = cpu.forward
    monkeypatch.setattr(cpu, "forward", lambda *a, **k: (calls.append(a[0]), real(*a, **k))[1])
    again = cpu.FromZero.forward
    monkeypatch.setattr(cpu.FromZero, "forward", lambda self, *a: (calls.append(self), again(self, *a))[1])
    return calls


@pytest.fixture
def kernel_calls(monkeypatch):
    calls = runs_by_kernel(monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # no step of these tests may fall back on the loop
        yield calls
    assert calls, "no kernel ran"


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Memory that is not written stays NaN."""
    fresh, empty = memory.fresh_with_array, torch.empty

    def poisoned(*a):
        tensor, array = fresh(*a)
        return tensor.fill_(torch.nan), array

    monkeypatch.setattr(memory, "fresh_with_array", poisoned)
    monkeypatch.setattr(cpu, "fresh_with_array", poisoned)
    monkeypatch.setattr(cpu.torch, "empty", lambda *a, **k: (lambda t: t.fill_(torch.nan) if t.is_floating_point() else t)(empty(*a, **k)))


def everything(step, x, state, params, lengths=None, by_loop=False, seed=0, **choices):
    """Outputs, states and all gradients of a random scalar of them."""
    leaves = []

    def leaf(t):
        if isinstance(t, torch.Tensor):
            leaves.append(t.detach().clone().requires_grad_(t.requires_grad))
            return leaves[-1]
        return t

    def tree(t):
        if isinstance(t, tuple):
            parts = [tree(v) for v in t]
            return type(t)(*parts) if hasattr(t, "_fields") else tuple(parts)
        return leaf(t)

    x, state, params = tree(x), tree(state), tree(params)
    if by_loop:
        with plain_loop():
            y, after = scan(step, x, state, params, lengths=lengths, **choices)
    else:
        y, after = scan(step, x, state, params, lengths=lengths, **choices)
    results = [*(y if isinstance(y, tuple) else (y,)), *after]
    dice = torch.Generator().manual_seed(seed)
    total = sum((r.double() * torch.randn(r.shape, generator=dice, dtype=torch.float64)).sum() for r in results)
    wanted = [t for t in leaves if t.requires_grad]
    grads = torch.autograd.grad(total, wanted, allow_unused=True) if wanted else []
    return [r.detach() for r in results], [torch.zeros_like(t) if g is None else g for t, g in zip(wanted, grads, strict=True)]


def assert_kernel_is_the_loop(step, x, state, params, lengths=None, rtol=1e-5, exact=False, **choices):
    got, grads = everything(step, x, state, params, lengths, **choices)
    expected, expected_grads = everything(step, x, state, params, lengths, by_loop=True, **choices)
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        assert torch.equal(a, b) if exact else torch.allclose(a, b, rtol=rtol, atol=rtol)
    for a, b in zip(grads, expected_grads, strict=True):
        scale = b.abs().max().clamp(min=1e-3)
        assert a.dtype == b.dtype and a.shape == b.shape
        torch.testing.assert_close(a / scale, b / scale, rtol=1e-4 if rtol > 1e-6 else 1e-9, atol=max(rtol, 1e-9))


def zeros(*shape, dtype=torch.float32):
    return torch.zeros(*shape, dtype=dtype, requires_grad=True)


# ---- our neurons

SURROGATES = [ATan(), ATan(3.0, strict=True), Sigmoid(), FastSigmoid(), SuperSpike(), Triangle(), Rectangle(), Gaussian(), StraightThrough()]
RESETS = [ToZero(), ToZero(detach=False), ToValue(-0.2), Subtract(), Subtract(detach=False, delayed=True), ToZero(delayed=True), NoReset()]


@pytest.mark.parametrize(("spike", "reset"), [(s, RESETS[i % len(RESETS)]) for i, s in enumerate(SURROGATES)], ids=str)
def test_lif_with_every_surrogate_and_reset(kernel_calls, spike, reset):
    step, state, p = LIF.step, LIF.State(zeros(3, 5)), (torch.tensor(0.5, requires_grad=True), torch.tensor(0.5, requires_grad=True), 1.0)
    assert_kernel_is_the_loop(step, normal(8, 3, 5), state, neuro.neurons.LIFParams(*p), exact=True, spike=spike, reset=reset)


@pytest.mark.parametrize("make", [IF, LIF, PLIF, CUBALIF, ALIF], ids=lambda m: m.__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_neurons_of_ours(kernel_calls, make, dtype):
    neuron = make()
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    neuron = neuron.to(wide)
    state = neuron.State(*(zeros(4, 6, dtype=wide) for _ in neuron.State._fields))
    x = normal(SEGMENT * 2 + {torch.float32: 8, torch.float64: 6, torch.bfloat16: 5}[dtype], 4, 6, dtype=dtype)  # four steps at a time, two, one
    rtol = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 1e-2}[dtype]
    assert_kernel_is_the_loop(neuron.step, x, state, neuron.params(), rtol=rtol, **neuron.choices())
    y = neuron(x)
    with plain_loop():
        assert torch.equal(y, neuron(x)) and y.dtype == dtype


@pytest.mark.parametrize("shape", [(), (1,), (6,), (5, 1), (5, 6), (1, 5, 6), (3, 1, 1), (3, 5, 6)], ids=str)
@pytest.mark.parametrize("with_lengths", [False, True])
def test_parameters_of_every_shape_get_their_gradient(kernel_calls, shape, with_lengths):
    decay = torch.rand(shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
    gain = (torch.rand(6, generator=torch.Generator().manual_seed(2)) + 0.5).requires_grad_()
    lengths = torch.tensor([9, 1, 4]) if with_lengths else None
    p = neuro.neurons.LIFParams(decay, gain, 1.0)
    assert_kernel_is_the_loop(LIF.step, normal(12, 3, 5, 6), LIF.State(zeros(3, 5, 6)), p, lengths, spike=ATan(), reset=Subtract(detach=False))


def test_many_neurons_over_several_blocks(kernel_calls):
    x = normal(3, 2, 5000)
    p = ThreeParams(torch.tensor(0.9, requires_grad=True), normal(5000) * 0.1, 0.7, 1.0)
    state = Three(*(zeros(2, 5000) for _ in range(3)))
    assert_kernel_is_the_loop(three_step, x, state, p, spike=Sigmoid(), reset=Subtract())


@pytest.mark.parametrize("steps", [1, 2, SEGMENT - 1, SEGMENT, SEGMENT + 1, 3 * SEGMENT + 7])
def test_a_users_neuron_of_three_states(kernel_calls, steps):
    params = ThreeParams(torch.tensor(0.9, requires_grad=True), torch.tensor(0.8, requires_grad=True), 0.7, 1.0)
    state = Three(*(normal(5000, 1, seed=k) * 0.1 for k in range(3)))
    assert_kernel_is_the_loop(three_step, normal(steps, 5000, 1), state, params, spike=ATan(), reset=ToZero(detach=False), rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 7])
def test_all_steps_in_one_loop_are_the_same_steps(kernel_calls, monkeypatch, steps, dtype):
    """Bit for bit, in every order of sums: states given and asked for, parameters of each kind."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    params = ThreeParams(torch.tensor(0.9, dtype=wide, requires_grad=True), normal(1800, dtype=wide) * 0.1, normal(3, 1800, dtype=wide) * 0.1, 1.0)
    state = Three(*(normal(3, 1800, seed=k, dtype=wide) * 0.1 for k in range(3)))
    x = normal(steps, 3, 1800, dtype=dtype)
    whole = []
    is_whole = cpu_block.Block.is_whole
    monkeypatch.setattr(cpu_block.Block, "is_whole", lambda self, order: whole.append(is_whole(self, order)) or whole[-1])
    found = {}
    for most in (10_000, 0):
        monkeypatch.setattr(cpu_block, "WHOLE_NODES", most)
        cpu.kernels.cache_clear()
        found[most] = everything(three_step, x, state, params, spike=ATan(), reset=Subtract(detach=False))
        assert set(whole) == {most > 0}
        whole.clear()
    cpu.kernels.cache_clear()
    for a, b in zip(*(outputs + gradients for outputs, gradients in found.values()), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("steps", "whole"), [(1, True), (4, True), (12, True), (13, False), (16, False), (35, False)])
def test_one_loop_holds_few_short_steps(monkeypatch, steps, whole):
    """And the check before the first use asks the very kernels that will run, so none is compiled for it alone."""
    made = []
    is_whole, function = cpu_block.Block.is_whole, cache.function
    monkeypatch.setattr(cpu_block.Block, "is_whole", lambda self, order: made.append(is_whole(self, order)) or made[-1])
    sources = []
    monkeypatch.setattr(cpu.cache, "function", lambda source, name: sources.append(source) or function(source, name))
    neuron = LIF(tau=3.0 + steps / 100, spike=Gaussian(0.4 + steps / 100))  # a program of its own
    neuron(normal(steps, 3, 1800)).sum().backward()
    assert made == [whole, whole] and len(sources) == 2, "forward and backward"


class TwoParams(NamedTuple):
    mix: torch.Tensor


def two_inputs(x, state, p):
    receptive, context = x
    v = 0.5 * state[0] + receptive * torch.relu(1 + p.mix * context)
    return (torch.where(v > 1, v, 0.0), v.clamp(-1, 1)), (v - v.detach().round() * 0.25,)


def test_several_inputs_and_outputs(kernel_calls):
    x = (normal(6, 3, 4), normal(6, 3, 4, seed=5))
    assert_kernel_is_the_loop(two_inputs, x, (zeros(3, 4),), TwoParams(normal(4, seed=6)), exact=True)


def leaky(x, state, p):
    v = p[0] * state[0] + x
    return v, (v,)


def test_one_number_of_many_axes(kernel_calls):
    """Its check before the first use, too: here nobody has used the step before."""
    decay = torch.full((1, 1, 1), 0.75, requires_grad=True)
    assert_kernel_is_the_loop(leaky, normal(5, 3, 4, 6), (zeros(3, 4, 6),), (decay,), exact=True)


def without_a_state(x, state, p):
    return p[0] * torch.relu(x), ()


def without_a_gradient(x, state, p):
    return torch.sign(x) * p[0], ()


@pytest.mark.parametrize("steps", [4, 13, 35])  # in one loop, in one segment, in several
@pytest.mark.parametrize("step", [without_a_state, without_a_gradient])
def test_steps_without_a_state(kernel_calls, step, steps):
    gain = torch.tensor(0.7, requires_grad=step is without_a_state)
    for lengths in (None, torch.tensor([2, 0, steps])):
        assert_kernel_is_the_loop(step, normal(steps, 3, 50), (), (gain,), lengths, exact=True)


def with_the_size_of_a_number(x, state, p):
    v = abs(p[0]) * state[0] + x / (1 + abs(p[1] - p[0]) ** 2)
    return v, (v,)


@pytest.mark.parametrize("steps", [4, 16])
def test_arithmetic_with_numbers(kernel_calls, steps):
    assert_kernel_is_the_loop(with_the_size_of_a_number, normal(steps, 3, 50), (normal(3, 50, seed=1),), (-0.7, 1.4), exact=True)


def test_lengths_beyond_the_input(kernel_calls):
    """As in the loop: fewer than no steps are none, more than there are all."""
    state, p = LIF.State(normal(3, 5)), neuro.neurons.LIFParams(torch.tensor(0.5, requires_grad=True), 0.5, 1.0)
    assert_kernel_is_the_loop(LIF.step, normal(7, 3, 5), state, p, torch.tensor([2**40, -3, 4]), spike=ATan(), reset=ToZero())


def test_lengths_of_another_shape_are_the_loops_to_refuse():
    x, state, how = normal(7, 3, 5), LIF.State(zeros(3, 5)), {"spike": ATan(), "reset": ToZero()}
    with pytest.raises(RuntimeError, match="size"):
        scan(LIF.step, x, state, LIF().params(), lengths=torch.tensor([7, 7, 7, 7]), **how)
    y, _ = scan(LIF.step, x, state, LIF().params(), lengths=torch.tensor([7]), **how)
    assert torch.equal(y, LIF()(x))


def test_an_input_that_lies_otherwise_in_memory(kernel_calls):
    x = normal(4, 5, 7).detach().transpose(0, 2).requires_grad_()  # [7, 5, 4]
    state = LIF.State(torch.zeros(4, 5).t())
    assert_kernel_is_the_loop(LIF.step, x, state, neuro.neurons.LIFParams(0.5, 0.5, 1.0), exact=True, spike=ATan(), reset=ToZero())


@pytest.mark.parametrize("wanted", ["x", "state", "params", "nothing"])
def test_only_what_is_wanted_is_differentiated(kernel_calls, wanted):
    x, state = normal(5, 2, 3, grad=wanted == "x"), LIF.State(normal(2, 3).detach().requires_grad_(wanted == "state"))
    p = neuro.neurons.LIFParams(torch.tensor(0.5, requires_grad=wanted == "params"), 0.5, 1.0)
    assert_kernel_is_the_loop(LIF.step, x, state, p, exact=True, spike=ATan(), reset=ToZero())


def test_an_output_without_a_gradient(kernel_calls):
    x = normal(4, 2, 3)
    for pick in (0, 1):
        grads = []
        for by_loop in (False, True):
            leaf = x.detach().clone().requires_grad_()
            inputs = (leaf, leaf.detach())
            if by_loop:
                with plain_loop():
                    y, _ = scan(two_inputs, inputs, (torch.zeros(2, 3),), TwoParams(torch.tensor(0.5)))
            else:
                y, _ = scan(two_inputs, inputs, (torch.zeros(2, 3),), TwoParams(torch.tensor(0.5)))
            grads.append(torch.autograd.grad(y[pick].sum(), leaf)[0])
        assert torch.equal(*grads)


# ---- random steps

UNARY = ("exp", "tanh", "sigmoid", "abs", "neg", "square", "sin", "cos", "atan", "round", "floor", "sign", "relu", "detach")
BINARY = ("add", "sub", "mul", "maximum", "minimum", "where", "div", "fire", "clamp")


@st.composite
def recipes(draw):
    """A list of operations on numbered values; value 0 is x, 1 and 2 the states, 3 a parameter, 4 a Python number."""
    count, lines = 5, []
    for _ in range(draw(st.integers(2, 9))):
        op = draw(st.sampled_from(UNARY + BINARY))
        lines.append((op, draw(st.integers(0, count - 1)), draw(st.integers(0, count - 1))))
        count += 1
    return tuple(lines)


@dataclass(frozen=True)
class Recipe:
    lines: tuple

    def run(self, x, state, p):
        values = [x, state[0], state[1], p[0], p[1] + 0.0 * x]
        for op, i, j in self.lines:
            a, b = values[i], values[j]
            if op == "where":
                values.append(torch.where(a > b, a, b * 0.5))
            elif op == "fire":
                values.append(ATan()(a - b))
            elif op == "clamp":
                values.append(torch.clamp(a, -0.7, 1.3))
            elif op == "div":
                values.append(a / (1.5 + b.square()))
            elif op in BINARY:
                values.append(getattr(torch, op)(a, b))
            elif op == "exp":
                values.append(torch.exp(-a.square()))
            else:
                values.append(getattr(torch, op)(a))
        return values[-1] * 1.0 + 0 * x, (0.5 * torch.tanh(values[-2]) + 0 * x, 0.5 * torch.tanh(values[len(values) // 2]) + 0 * x)


def recipe_step(x, state, p, *, recipe):
    return recipe.run(x, state, p)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(recipes(), st.sampled_from([(2, 3, 5), (SEGMENT + 3, 1, 7), (4, 2, 1)]), st.booleans())
def test_random_steps(recipe, shape, per_neuron):
    T, B, N = shape
    p = (normal(N, dtype=torch.float64) if per_neuron else torch.tensor(0.3, dtype=torch.float64, requires_grad=True), 0.7)
    state = (normal(B, N, dtype=torch.float64, seed=8), normal(B, N, dtype=torch.float64, seed=9))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        programs._said.clear()
        assert_kernel_is_the_loop(recipe_step, normal(*shape, dtype=torch.float64), state, p, rtol=1e-9, recipe=Recipe(recipe))


# ---- what a kernel must not hide

GAIN = 2.0


def by_global(x, state, p):
    v = state[0] + GAIN * x
    return v, (v,)


def test_a_changed_global_number_is_seen(monkeypatch):
    x = torch.ones(3, 1, 2)
    first, _ = scan(by_global, x, (torch.zeros(1, 2),), None)
    monkeypatch.setitem(globals(), "GAIN", 3.0)
    second, _ = scan(by_global, x, (torch.zeros(1, 2),), None)
    assert first[-1, 0, 0] == 6 and second[-1, 0, 0] == 9


def test_a_changed_captured_number_is_seen():
    def make(gain):
        return lambda x, state, p: (gain * x, (state[0] + gain * x,))

    for gain in (2.0, 5.0):
        y, _ = scan(make(gain), torch.ones(2, 1, 1), (torch.zeros(1, 1),), None)
        assert y[0].item() == gain


GAINS = [1.0]


@functools.wraps(lif_step)
def wrapped(x, state, p, **how):
    return lif_step(GAINS[0] * x, state, p, **how)


def holding(gains):
    @functools.wraps(lif_step)
    def step(x, state, p, **how):
        return lif_step(gains[0] * x, state, p, **how)

    return step


@pytest.mark.parametrize("step", [wrapped, holding(GAINS)], ids=["global", "captured"])
def test_a_wrapped_step_of_ours_is_not_taken_for_ours(step):
    """functools.wraps gives it our step's name and module, and a list may change."""
    neuron, x = type("Wrapped", (LIF,), {"step": staticmethod(step)})(), torch.ones(4, 2, 3)
    for gain in (1.0, 9.0):
        GAINS[0] = gain
        scanned, _ = scan(step, x, neuron.State(torch.zeros(2, 3)), neuron.params(), **neuron.choices())
        with plain_loop():
            expected = neuron(x)
        assert torch.equal(neuron(x), expected) and torch.equal(scanned, expected) and expected.any() == (gain > 2)


def test_steps_of_ours_are_taken_for_ours():
    assert all(programs.is_ours(neuron.step) for neuron in (LIF, PLIF, IF, ALIF, CUBALIF))


class Settings:
    gain = 2.0


@dataclass(frozen=True)
class UserSurrogate(Surrogate):
    strict: bool = False

    def derivative(self, u):
        return GAIN * torch.ones_like(u)


def by_inner_function(x, state, p):
    scaled = (lambda v: GAIN * v)(x)
    return scaled, (state[0] + scaled,)


def by_class_attribute(x, state, p):
    return Settings.gain * x, (state[0] + Settings.gain * x,)


def by_module_attribute(x, state, p):
    return a_module.gain * x, (state[0] + a_module.gain * x,)


a_module = types.ModuleType("a_module")
a_module.gain = 2.0


@pytest.mark.parametrize("step", [by_inner_function, by_class_attribute, by_module_attribute])
def test_numbers_named_in_other_ways_are_seen(monkeypatch, step):
    x, zero = torch.ones(2, 1, 2), (torch.zeros(1, 2),)
    assert scan(step, x, zero, None)[0][0, 0, 0] == 2
    monkeypatch.setitem(globals(), "GAIN", 7.0)
    monkeypatch.setattr(Settings, "gain", 7.0)
    monkeypatch.setattr(a_module, "gain", 7.0)
    assert scan(step, x, zero, None)[0][0, 0, 0] == 7


def test_a_global_number_of_a_surrogate_is_seen(monkeypatch):
    grads = []
    for gain in (2.0, 5.0):
        monkeypatch.setitem(globals(), "GAIN", gain)
        x = torch.zeros(2, 1, 3, requires_grad=True)
        scan(lambda x, s, p, *, spike: (spike(x), (s[0] + x,)), x, (torch.zeros(1, 3),), None, spike=UserSurrogate())[0].sum().backward()
        grads.append(x.grad[0, 0, 0].item())
    assert grads == [2.0, 5.0]


class Annealed(Surrogate):
    """A surrogate that changes while it trains."""

    strict = False

    def __init__(self, width):
        self.width = width

    def derivative(self, u):
        return torch.exp(-self.width * u.square())


def test_a_surrogate_that_changes_is_seen():
    spike, grads = Annealed(1.0), []
    for width in (1.0, 4.0):
        spike.width = width
        x = torch.full((2, 1, 1), 0.3, requires_grad=True)
        y, _ = scan(lambda x, s, p, *, spike: (spike(x - 1.0), (s[0] + x,)), x, (torch.zeros(1, 1),), None, spike=spike)
        y[0].sum().backward()
        grads.append(x.grad[0].item())
    assert grads == pytest.approx([np.exp(-0.49), np.exp(-4 * 0.49)], rel=1e-5)


def test_a_branch_on_a_parameter_that_is_a_number():
    def step(x, state, p):
        v = state[0] + (x if p > 0.5 else -x)
        return v, (v,)

    x = torch.ones(2, 1, 1)
    assert scan(step, x, (torch.zeros(1, 1),), 0.9)[0][-1].item() == 2
    assert scan(step, x, (torch.zeros(1, 1),), 0.1)[0][-1].item() == -2


def test_what_no_kernel_covers_runs_on_the_loop_and_says_so_once():
    def step(x, state, p):
        return x.cumsum(-1), (state[0] + x,)

    x, programs_said = torch.randn(3, 2, 4), programs._said.copy()
    with pytest.warns(RuntimeWarning, match="step' runs on the plain torch loop, because it uses Tensor.cumsum"):
        y, _ = scan(step, x, (torch.zeros(2, 4),), None)
    assert torch.equal(y, x.cumsum(-1)) and programs._said != programs_said
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scan(step, x, (torch.zeros(2, 4),), None)


OPERATORS = {
    "the operator %": lambda v: v % 1.0, "the operator //": lambda v: 3.0 // (v + 9.0), "the operator @": lambda v: v @ torch.eye(4),
    r"something that fails on a symbol in place of a tensor \(TypeError: .*len": lambda v: v + len(v),
}  # fmt: skip


@pytest.mark.parametrize("says", OPERATORS)
def test_an_operator_without_a_kernel_is_named(says):
    def step(x, state, p):
        v = OPERATORS[says](state[0] + x)
        return v, (v,)

    x = torch.rand(3, 2, 4)
    with pytest.warns(RuntimeWarning, match=f"because it uses {says}"):
        y, _ = scan(step, x, (torch.zeros(2, 4),), None)
    with plain_loop():
        assert torch.equal(y, scan(step, x, (torch.zeros(2, 4),), None)[0])


def test_an_operator_on_a_parameter_that_is_a_number():
    def step(x, state, p):
        v = state[0] + x * (p % 2.0) + p // 2.0
        return v, (v,)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert scan(step, torch.ones(2, 1, 1), (torch.zeros(1, 1),), 7.0)[0][-1].item() == 8.0


def test_a_step_that_treats_symbols_otherwise_is_found_out():
    def step(x, state, p):
        v = state[0] + x * (2.0 if isinstance(x, torch.Tensor) else 3.0)
        return v, (v,)

    with pytest.warns(RuntimeWarning, match="does not agree"):
        y, _ = scan(step, torch.ones(2, 1, 1), (torch.zeros(1, 1),), None)
    assert y[-1].item() == 4


def test_a_branch_on_a_membrane_runs_on_the_loop():
    def step(x, state, p):
        v = state[0] + x
        return (v if v.sum() > 0 else -v), (v,)

    with pytest.warns(RuntimeWarning, match="Tensor.sum"):
        assert scan(step, -torch.ones(2, 1, 1), (torch.zeros(1, 1),), None)[0][-1].item() == 2


def test_the_random_numbers_of_torch_are_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    scan(lambda x, s, p: (x * 1.25, (s[0] + x,)), torch.ones(2, 1, 1), (torch.zeros(1, 1),), None)  # checked against the loop here
    assert torch.equal(torch.rand(3), expected)


def test_a_gradient_can_be_differentiated(kernel_calls):
    """A penalty on the gradient: as from the loop, through the derivative of the surrogate."""
    found = []
    for by_loop in (False, True):
        x = normal(3, 2, 4)
        neuron = PLIF(spike=Sigmoid(), reset=ToZero(detach=False))
        if by_loop:
            with plain_loop():
                y = neuron(x)
        else:
            y = neuron(x)
        (grad,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        found.append(torch.autograd.grad(grad.square().sum(), (x, neuron.w)))
    for a, b in zip(*found, strict=True):
        assert b.abs().max() > 0
        torch.testing.assert_close(a, b)


# ---- torch around it


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(6, 6)
        self.plif, self.alif = PLIF(shape=(6,)), ALIF(spike=Triangle())

    def forward(self, x):
        return self.alif(self.plif(self.inner(x)))


def test_compiled_in_one_graph_with_gradients(kernel_calls):
    torch.manual_seed(0)
    net, x = Net(), normal(5, 3, 6)
    expected = net(x)
    expected.sum().backward()
    grads = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    y = torch.compile(net, fullgraph=True, backend="aot_eager")(x)
    y.sum().backward()
    assert torch.equal(y, expected)
    for p, g in zip(net.parameters(), grads, strict=True):
        torch.testing.assert_close(p.grad, g)


def test_compiled_for_any_number_of_steps(kernel_calls):
    net = torch.compile(LIF(), fullgraph=True, backend="aot_eager", dynamic=True)
    for T in (SEGMENT - 2, 2 * SEGMENT + 1, 5):
        x = normal(T, 2, 3)
        grads = []
        for model in (net, LIF()):
            x.grad = None
            model(x).square().sum().backward()
            grads.append(x.grad)
        assert torch.equal(*grads)


def test_gradients_of_what_was_exported_without_one(kernel_calls):
    neuron, x = LIF(), torch.randn(4, 3, 50)
    exported = torch.export.export(neuron, (x,)).module()
    x.requires_grad_()
    by_graph, by_module = (torch.autograd.grad(net(x).square().sum(), x)[0] for net in (exported, neuron))
    assert by_module.any() and torch.equal(by_graph, by_module)
    with pytest.raises(NotImplementedError, match="Differentiate the module"):
        torch.autograd.grad(exported(x).square().sum(), x, create_graph=True)


def test_exported(kernel_calls):
    torch.manual_seed(0)
    net, x = Net().eval(), normal(5, 3, 6, grad=False)
    exported = torch.export.export(net, (x,))
    assert any(node.target == torch.ops.neuro.scan.default for node in exported.graph.nodes)
    assert torch.equal(exported.module()(x), net(x))


def test_vmap_and_grad_of_torch_func():
    x = normal(4, 3, 2, 5, grad=False)  # an axis of its own first
    each = torch.stack([LIF()(v) for v in x.unbind(0)])
    assert torch.equal(torch.func.vmap(LIF())(x), each)
    grad = torch.func.grad(lambda v: LIF()(v).square().sum())(x[0])
    leaf = x[0].clone().requires_grad_()
    LIF()(leaf).square().sum().backward()
    torch.testing.assert_close(grad, leaf.grad)


def test_autocast_keeps_the_state_in_float32(kernel_calls):
    net = torch.nn.Sequential(torch.nn.Linear(4, 4), LIF())
    with torch.autocast("cpu", torch.bfloat16):
        y, state = neuro.run(net[1], net[0](normal(5, 2, 4)))
    assert y.dtype == torch.bfloat16 and all(v.dtype == torch.float32 for v in state.values())


def test_a_used_neuron_can_be_copied(kernel_calls):
    neuron = PLIF()
    x = normal(3, 2, 4)
    y = neuron(x)
    assert torch.equal(copy.deepcopy(neuron)(x), y)


def test_meta_and_fake_tensors_take_the_loop():
    assert LIF()(torch.zeros(3, 2, 4, device="meta")).shape == (3, 2, 4)
    with torch._subclasses.FakeTensorMode():
        assert LIF()(torch.zeros(3, 2, 4)).shape == (3, 2, 4)


def test_the_operators_keep_torchs_rules():
    neuron, x = PLIF(), normal(4, 2, 3)
    found = programs.find(neuron.step, x, neuron.initial(x[0]), neuron.params(), neuron.choices(), torch.float32)
    p = [v.detach().requires_grad_() for v in programs.tensors(neuron.params())]
    args = ([x], [zeros(2, 3)], p, None, programs.numbers(neuron.params()), found.program, True)
    torch.library.opcheck(torch.ops.neuro.scan.default, args, test_utils=("test_schema", "test_faketensor", "test_aot_dispatch_static"))


# ---- threads


def test_gradients_of_parameters_do_not_depend_on_the_threads(kernel_calls):
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            neuron = PLIF()
            neuron(normal(8, 16, 8192)).sum().backward()
            found.append(neuron.w.grad)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


# ---- from a state of zeros


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("steps", [1, SEGMENT, SEGMENT + 5, 2 * SEGMENT + 8])
def test_a_repeated_call_gives_the_same(kernel_calls, dtype, steps):
    """The first call finds out what all of them then remember."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    neuron, x = LIF(decay=0.8, spike=ATan(), reset=Subtract(detach=False)).to(wide), normal(steps, 3, 2000, dtype=dtype)
    found = []
    for _ in range(3):
        y = neuron(x)
        found.append((y, torch.autograd.grad(y.double().square().sum(), x)[0], neuron(x.detach())))
    assert sum(isinstance(c, cpu.FromZero) for c in kernel_calls) == 6
    with plain_loop():
        y = neuron(x)
        loop = (y, torch.autograd.grad(y.double().square().sum(), x)[0], y)
    for y, grad, bare in found:
        assert torch.equal(y, found[0][0]) and torch.equal(grad, found[0][1]) and torch.equal(bare, y)
        assert torch.equal(y, loop[0]) and y.dtype == dtype and grad.dtype == dtype
        torch.testing.assert_close(grad, loop[1])


def test_a_repeated_call_sees_what_was_changed(kernel_calls):
    neuron, x = LIF(decay=0.5), normal(8, 2, 300)
    neuron(x), neuron(x)
    for name, value in (("decay", 0.9), ("threshold", 0.3), ("spike", Triangle(2.0)), ("reset", Subtract())):
        setattr(neuron, name, value)
        y = neuron(x)
        grad = torch.autograd.grad(y.sum(), x)[0]
        with plain_loop():
            z = neuron(x)
            assert torch.equal(y, z), name
            torch.testing.assert_close(grad, torch.autograd.grad(z.sum(), x)[0])


class Swapped(NamedTuple):
    gain: float
    decay: float
    threshold: float


class Otherwise(LIF):
    def params(self):
        return Swapped(self.gain, self.decay, self.threshold)


class Primed(LIF):
    def initial(self, x_t):
        state = super().initial(x_t)
        state.v[:, 0] = 0.9
        return state


def test_a_neuron_with_other_parameters_or_another_beginning_is_told_apart(kernel_calls):
    a, b, x = LIF(tau=4.0), Otherwise(tau=4.0), normal(8, 2, 300)
    b.decay, b.gain = a.gain, a.decay  # the same three numbers in the same order
    primed, by_object = Primed(decay=1.0), LIF(decay=1.0)
    by_object.initial = lambda x_t: LIF.State(torch.full_like(x_t, 0.9))
    for neuron in (a, b, LIF(decay=1.0), primed, by_object):
        y = neuron(x)
        assert torch.equal(y, neuro.run(neuron, x)[0])
        with plain_loop():
            assert torch.equal(y, neuron(x))
    assert not torch.equal(a(x), b(x)) and not torch.equal(primed(x), by_object(x))


def test_a_default_device_is_nothing_to_a_kernel(kernel_calls, monkeypatch):
    monkeypatch.setattr(programs, "_checked", {})
    x, plif = normal(4, 2, 2500), PLIF()
    with torch.device("meta"):
        grads = torch.autograd.grad(LIF()(x).sum() + plif(x).sum(), (x, plif.w))
    assert all(g.device.type == "cpu" for g in grads)


def test_outputs_without_a_gradient_are_no_false_alarm(kernel_calls):
    p, x = torch.rand(3, generator=torch.Generator().manual_seed(1)).requires_grad_(), normal(5, 2, 3, grad=False)
    y, (v,) = scan(lambda x, s, p: (x * 2.0, (p[0] * s[0] + x,)), x, (zeros(2, 3),), (p,))
    assert not torch.autograd.grad(y.sum(), p, retain_graph=True)[0].any()
    torch.testing.assert_close(torch.autograd.grad(v.sum(), p)[0], sum(t * p.detach() ** (t - 1) * x[4 - t].sum(0) for t in range(1, 5)))


def test_a_repeated_call_takes_any_input(kernel_calls):
    neuron = LIF()
    for make in (lambda: normal(8, 5, 7), lambda: normal(8, 7, 5).transpose(1, 2), lambda: normal(8, 5, 14)[..., ::2], lambda: normal(1, 5, 7).expand(8, 5, 7)):
        x = make()
        y = neuron(x)
        with plain_loop():
            assert torch.equal(y, neuron(x))
    with torch.inference_mode():
        assert neuron(normal(8, 5, 7)).is_inference()
    assert neuron(normal(8, 5, 7)).grad_fn is not None


def test_a_repeated_call_can_be_differentiated_twice(kernel_calls):
    neuron, x = LIF(), normal(6, 2, 4)
    neuron(x).sum().backward()
    grads = []
    for by_loop in (False, True):
        with plain_loop() if by_loop else warnings.catch_warnings():
            first = torch.autograd.grad(neuron(x).square().sum(), x, create_graph=True)[0]
            grads.append(torch.autograd.grad(first.square().sum(), x)[0])
    torch.testing.assert_close(*grads)
    assert grads[0].abs().max() > 0


@pytest.mark.parametrize("make", [LIF, PLIF])
def test_the_first_call_may_be_inside_a_checkpoint(kernel_calls, monkeypatch, make):
    """What the first call finds out leaves nothing for the checkpoint to count."""
    x, found = normal(8, 3, 700), []
    for forget in (True, False):
        if forget:
            monkeypatch.setattr(programs, "_checked", {})
            monkeypatch.setattr(scanning, "_ready", {})
        neuron = make()
        y = torch.utils.checkpoint.checkpoint(neuron, x, use_reentrant=False)
        found.append(torch.autograd.grad(y.square().sum(), x)[0])
    assert torch.equal(*found) and torch.equal(found[0], torch.autograd.grad(make()(x).square().sum(), x)[0])


def test_a_repeated_call_keeps_no_state_and_a_run_does(kernel_calls):
    neuron, x = LIF(decay=0.9), normal(8, 2, 300)
    y = [neuron(x) for _ in range(2)][1]
    z, state = neuro.run(neuron, x)
    assert torch.equal(y, z) and list(state) == ["#0"] and state["#0"].is_contiguous()
    again, _ = neuro.run(neuron, x, state)
    assert not torch.equal(again, z)
    assert torch.equal(neuron(x), y)


# ---- what is kept


def test_what_is_kept_for_backward():
    """The input and one state in SEGMENT steps, the first of which is known: 4 bytes per element and step, and a little in long scans."""
    for steps, most in ((SEGMENT, 4), (4 * SEGMENT, 4 + 3 / SEGMENT)):
        x, lif = normal(steps, 8, 64), LIF()
        for _ in range(2):
            kept = []
            with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: (kept.append(t), t)[1], lambda t: t):
                y = lif(x)
            sizes = {t.data_ptr(): t.untyped_storage().nbytes() for t in kept}
            assert 4 <= sum(sizes.values()) / y.numel() <= most + 0.01

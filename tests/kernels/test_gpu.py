"""Generated Triton kernels against the plain loop: outputs, final state and every gradient.

With a GPU they run on it, without one in Triton's interpreter.
"""

import functools
import re
from typing import NamedTuple

import pytest
import three_states
import torch
from three_states import Three, ThreeParams, three_step
from where_triton_runs import DEVICE, first_test, needs_triton, run_with_triton
from words_of_steps import WORDS

from neuro.kernels import gpu, gpu_source, programs
from neuro.kernels.operations import OPERATIONS
from neuro.kernels.program import flat, trace
from neuro.kernels.reference import loop
from neuro.neurons import ALIF, CUBALIF, LIF, PLIF
from neuro.reset import Subtract, ToZero
from neuro.scratch import Scratch
from neuro.surrogate import ATan, Sigmoid, Triangle

normal = functools.partial(three_states.normal, device=DEVICE)


@first_test
def test_the_kernels_in_tritons_interpreter():
    run_with_triton(__file__, at_least=20)


@pytest.fixture(autouse=True)
def poisoned(monkeypatch, tmp_path):
    """Memory that is not written stays NaN (a spike of 99 where it is int8); sources go to a folder of the test."""
    fresh = gpu._fresh
    monkeypatch.setattr(gpu, "_fresh", lambda *a: (lambda t: t.fill_(torch.nan if t.is_floating_point() else 99))(fresh(*a)))
    monkeypatch.setenv("NEURO_CACHE", str(tmp_path))
    gpu._function.cache_clear()
    gpu.kernels.cache_clear()


class Two(NamedTuple):
    a: torch.Tensor
    b: torch.Tensor


def two_step(x, state, p, **choices):
    """Two inputs, two outputs, and functions that have a spelling of their own on a GPU."""
    excitation, inhibition = x
    a = p[0] * state.a + torch.expm1(-excitation.square()) - inhibition / (1 + inhibition.abs())
    b = torch.where(~(a > 0.2), state.b * p[1], torch.log1p(a.abs())) + torch.sqrt(state.b.square() + 1.0) * 0.1
    return (a.clamp(-1.0, 1.0) + torch.round(b.detach() * 4), torch.maximum(a, b)), Two(a, b)


def by_gpu(step, x, state, params, lengths, choices):
    """Results and gradients of a random scalar of them, with those of the loop."""
    inputs, states, given = flat(x), flat(state), programs.tensors(params)
    wide = torch.float64 if inputs[0].dtype == torch.float64 else torch.float32
    program = trace(step, x, state, params, choices, wide, bake=False)[0].to_json()
    numbers = programs.numbers(params)
    y, after = loop(step, x, state, params, lengths, choices)
    expected = [*flat(y), *flat(after)]
    dice = torch.Generator().manual_seed(0)
    seeds = [torch.randn(r.shape, generator=dice, dtype=torch.float64).to(r.dtype).to(DEVICE) for r in expected]
    leaves = [*inputs, *states, *given]
    used = [(r, s) for r, s in zip(expected, seeds, strict=True) if r.requires_grad]
    found = torch.autograd.grad([r for r, _ in used], leaves, [s for _, s in used], allow_unused=True)
    expected_grads = [torch.zeros_like(t) if g is None else g for t, g in zip(leaves, found, strict=True)]
    results = gpu.forward(program, inputs, states, given, numbers, lengths, True)
    kept, results = results[len(expected) :], results[: len(expected)]
    ends = len(expected) - len(states)
    wants = [True] * (len(inputs) + len(given))
    grads = gpu.backward(program, seeds[:ends], seeds[ends:], inputs, states, given, kept, numbers, lengths, wants)
    alone = gpu.forward(program, inputs, states, given, numbers, lengths, False)
    assert all(torch.equal(a, b) for a, b in zip(results, alone, strict=True))
    return results, [r.detach() for r in expected], grads, expected_grads


def assert_kernel_is_the_loop(step, x, state, params, lengths=None, exact=False, **choices):
    got, expected, grads, expected_grads = by_gpu(step, x, state, params, lengths, choices)
    double = got[0].dtype == torch.float64
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        assert torch.equal(a, b) if exact else torch.allclose(a, b, rtol=1e-6, atol=1e-12 if double else 1e-6)
    half = got[0].dtype in (torch.bfloat16, torch.float16)
    for a, b in zip(grads, expected_grads, strict=True):
        scale = b.abs().max().clamp(min=1e-3)
        assert a.dtype == b.dtype and a.shape == b.shape
        rounding = 1e-12 if double else 1e-2 if half and a.dtype == got[0].dtype else 1e-5
        torch.testing.assert_close(a / scale, b / scale, rtol=0, atol=rounding)


def with_the_size_of_a_number(x, state, p):
    v = abs(p[0]) * state[0] + x / (1 + abs(p[1] - p[0]) ** 2)
    return v, (v,)


@needs_triton
def test_arithmetic_with_numbers():
    state = torch.zeros(3, 5, device=DEVICE, requires_grad=True)
    assert_kernel_is_the_loop(with_the_size_of_a_number, normal(4, 3, 5), (state,), (-0.7, 1.4), exact=True)


@needs_triton
@pytest.mark.parametrize("make", [LIF, PLIF, CUBALIF, ALIF], ids=lambda m: m.__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_neurons_of_ours(make, dtype):
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    neuron = make().to(wide).to(DEVICE)
    state = neuron.State(*(normal(3, 37, dtype=wide, seed=k) for k in range(len(neuron.State._fields))))
    params = neuron.params()  # PLIF's decay depends on its gain: each is made a leaf of its own
    params = type(params)(*(v.detach().requires_grad_() if isinstance(v, torch.Tensor) else v for v in params))
    assert_kernel_is_the_loop(neuron.step, normal(7, 3, 37, dtype=dtype), state, params, exact=True, spike=neuron.spike, reset=neuron.reset)


@needs_triton
@pytest.mark.parametrize("shape", [(1,), (37,), (3, 1)], ids=str)
def test_lif_with_a_parameter_of_every_shape(shape):
    p = LIF().params()._replace(decay=(0.3 + 0.5 * torch.rand(shape, generator=torch.Generator().manual_seed(0))).to(DEVICE).requires_grad_())
    for reset in (ToZero(detach=False), Subtract(detach=False, delayed=True)):
        assert_kernel_is_the_loop(LIF.step, normal(7, 3, 37), LIF.State(normal(3, 37)), p, exact=True, spike=Triangle(), reset=reset)


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("lengths", [None, [7, 0, 4]], ids=["whole", "lengths"])
def test_three_states_of_a_user(dtype, lengths):
    column = normal(37, dtype=dtype, seed=9, grad=False).sigmoid().requires_grad_()
    p = ThreeParams(torch.tensor(0.7, dtype=dtype, device=DEVICE, requires_grad=True), column, 0.9, 1.1)
    lengths = None if lengths is None else torch.tensor(lengths, device=DEVICE)
    state = Three(*(normal(3, 37, dtype=dtype, seed=k) for k in range(3)))
    assert_kernel_is_the_loop(three_step, normal(7, 3, 37, dtype=dtype), state, p, lengths, spike=Sigmoid(), reset=Subtract(detach=False))


@needs_triton
@pytest.mark.parametrize(("T", "dtype"), [(1, torch.float32), (7, torch.float64)], ids=str)
def test_several_inputs_and_outputs(T, dtype):
    """Seven steps in double: in float32 terms of p[1]'s gradient cancel, and the loop itself is off by 1.7e-5 of it."""
    p = tuple(torch.tensor(v, dtype=dtype, device=DEVICE, requires_grad=True) for v in (0.5, 0.25))
    x = (normal(T, 3, 37, dtype=dtype, seed=1), normal(T, 3, 37, dtype=dtype, seed=2))
    for lengths in (None, torch.tensor([T, 0, 1], device=DEVICE)):
        assert_kernel_is_the_loop(two_step, x, Two(normal(3, 37, dtype=dtype), normal(3, 37, dtype=dtype, seed=5)), p, lengths)


@needs_triton
def test_more_neurons_than_a_block():
    p = LIF().params()._replace(decay=torch.tensor(0.4, device=DEVICE, requires_grad=True))
    assert_kernel_is_the_loop(LIF.step, normal(3, 5, 137), LIF.State(normal(5, 137)), p, exact=True, spike=ATan(), reset=ToZero())


@needs_triton
def test_only_the_gradients_that_are_wanted():
    program = trace(LIF.step, normal(7, 3, 5), LIF.State(normal(3, 5)), LIF().params(), {"spike": ATan(), "reset": ToZero()}, torch.float32, bake=False)[0]
    x, v = normal(7, 3, 5), normal(3, 5)
    y, after, *kept = gpu.forward(program.to_json(), [x], [v], [], [0.5, 0.5, 1.0], None, True)
    both = gpu.backward(program.to_json(), [y], [None], [x], [v], [], kept, [0.5, 0.5, 1.0], None, [True])
    alone = gpu.backward(program.to_json(), [y], [None], [x], [v], [], kept, [0.5, 0.5, 1.0], None, [True], False)
    assert len(both) == 2 and len(alone) == 1 and torch.equal(both[0], alone[0])
    end_only = gpu.backward(program.to_json(), [None], [after], [x], [v], [], kept, [0.5, 0.5, 1.0], None, [False])
    assert len(end_only) == 1 and torch.isfinite(end_only[0]).all()


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_every_word_is_torchs(dtype):
    """On numbers of every size, halves, zeros, infinities and NaN. A word that is used by others only is in those."""
    sizes = torch.logspace(-6, 6, 25, dtype=torch.float64)
    edges = torch.tensor([0.0, torch.inf, -torch.inf, torch.nan, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 3.0, -7.0], dtype=torch.float64)
    values = torch.cat([sizes, -sizes, edges]).to(DEVICE, dtype)
    x, y = values.repeat(len(values)).view(1, 1, -1), values.repeat_interleave(len(values)).view(1, 1, -1)
    met = set()
    for name, word in WORDS.items():
        program = trace(lambda x, s, p, word=word: (word(*x), (s[0] + x[0],)), (x, y), (x[0],), None, {}, dtype, bake=False)[0]
        met |= {node.op for node in program.nodes}
        got = gpu.forward(program.to_json(), [x, y], [x[0]], [], [], None, False)[0]
        tolerance = torch.finfo(dtype).eps * (4 if OPERATIONS[name].costly or name in ("sqrt", "rsqrt") else 0)  # of long tensors torch's own sqrt is off in the last place
        if name == "pow" and dtype == torch.float64:
            tolerance = 710 * 2e-16  # |b * log a| goes up to 710 before the result is infinite
        if DEVICE != "cpu" and OPERATIONS[name].costly and dtype == torch.float32:
            tolerance = 104 * 6e-8  # a GPU's exp is off by |x| * 6e-8, and ends where |x| is 104
        near_zero = tolerance if name in ("sin", "cos") else torch.finfo(dtype).smallest_normal * tolerance
        torch.testing.assert_close(got, word(x, y).to(dtype), rtol=tolerance, atol=near_zero, equal_nan=True, msg=lambda m, name=name: f"{name}: {m}")
    assert met >= set(OPERATIONS) - {"real"}, set(OPERATIONS) - met


@needs_triton
def test_a_damaged_source_is_written_again():
    program = trace(LIF.step, normal(2, 1, 3), LIF.State(normal(1, 3)), LIF().params(), {"spike": ATan(), "reset": ToZero()}, torch.float32, bake=False)[0]
    arguments = (program.to_json(), [normal(2, 1, 3)], [normal(1, 3)], [], [0.5, 0.5, 1.0], None, False)
    before = gpu.forward(*arguments)
    (path,) = gpu.cache.folder().glob("triton_*.py")
    path.write_text("raise SystemExit")
    gpu._function.cache_clear()
    gpu.kernels.cache_clear()
    assert all(torch.equal(a, b) for a, b in zip(before, gpu.forward(*arguments), strict=True))
    assert path.read_text() != "raise SystemExit"


def test_sources_that_cannot_be_kept_go_with_the_process(tmp_path, monkeypatch):
    """A folder where the cache should be is a file: the text lies in one folder, removed at the end."""
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(gpu, "_own_folder", functools.cache(lambda: Scratch("neuro-kernels-test")))
    with pytest.warns(RuntimeWarning, match="not kept"):
        first, again, other = (gpu._written(tmp_path / "file" / name, text) for name, text in (("a.py", "x = 1"), ("a.py", "x = 1"), ("b.py", "x = 2")))
    own = gpu._own_folder()
    assert first == again and first.parent == other.parent == own.path and (first.read_text(), other.read_text()) == ("x = 1", "x = 2")
    own.close()
    assert not first.exists()


def lif_program(reset):
    return trace(LIF.step, torch.zeros(2, 1, 3), LIF.State(torch.zeros(1, 3)), LIF().params(), {"spike": ATan(), "reset": reset}, torch.float32, bake=False)[0]


def test_lif_keeps_one_float_per_step():
    program = lif_program(ToZero())
    kept = gpu_source.kept_nodes(program)
    assert sum(1 if gpu_source.is_small(program.nodes[i]) else 4 for i in kept) == 4


def test_float32_divides_and_takes_roots_exactly():
    """Triton's own `/` and `sqrt` of float32 are approximations on a GPU, which no interpreter shows."""
    program = trace(lambda x, s, p: (1.5 / x + torch.sqrt(x) + torch.sigmoid(x), (s[0] / x,)), torch.zeros(2, 1, 3), (torch.zeros(1, 3),), None, {}, torch.float32, bake=False)[0]
    header, body = gpu_source.forward_source(program, gpu_source.Layout((), False), True).split("def forward(")
    assert "tl.div_rn(" in body and "tl.sqrt_rn(" in body
    assert header.count(" / ") == 1 and "return a / b" in header and "divide(" not in body  # of doubles only
    assert not re.search(r" / |tl\.sqrt\(", body) and "DIVIDE" not in body and "SQRT" not in body

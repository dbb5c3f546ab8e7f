"""`scan` by way of GPU kernels, from a module's call to the gradients of its parameters, against the plain loop.

With a GPU it runs there. Without one CPU tensors are sent to the GPU's kernels, in Triton's interpreter.
"""

import copy
import functools
import importlib.util
import os
import warnings
from pathlib import Path
from typing import NamedTuple

import pytest
import three_states
import torch
from three_states import Three, ThreeParams, three_step
from torch._subclasses import FakeTensorMode
from where_triton_runs import DEVICE, first_test, needs_triton, run_with_triton

import neuro
from neuro.kernels import backends, calls, cpu, gpu, operators, programs
from neuro.neurons import ALIF, CUBALIF, IF, LIF, PLIF
from neuro.reset import Subtract, ToZero
from neuro.scanning import plain_loop, scan
from neuro.surrogate import Sigmoid, Triangle

normal = functools.partial(three_states.normal, device=DEVICE)


@first_test
def test_scans_in_tritons_interpreter():
    run_with_triton(__file__, at_least=30)


@first_test
@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("NEURO_TEST_FULL"), reason="minutes; with NEURO_TEST_FULL=1")
def test_all_tests_of_scans_on_the_cpu_by_gpu_kernels():
    run_with_triton(str(Path(__file__).with_name("test_scan_kernels.py")), at_least=70, NEURO_SCANS_BY="gpu")


@pytest.fixture(autouse=True)
def on_gpu(monkeypatch, tmp_path):
    """GPU kernels for this process's tensors; memory that is not written stays NaN (a spike of 99 where it is int8)."""
    fresh = gpu._fresh
    monkeypatch.setattr(gpu, "_fresh", lambda *a: (lambda t: t.fill_(torch.nan if t.is_floating_point() else 99))(fresh(*a)))
    monkeypatch.setitem(backends.BY_DEVICE, DEVICE, gpu)
    monkeypatch.setattr(programs, "_said", set())
    monkeypatch.setattr(programs, "_checked", {})
    monkeypatch.setenv("NEURO_CACHE", str(tmp_path))
    gpu._function.cache_clear()
    gpu.kernels.cache_clear()


@pytest.fixture
def kernels_ran(monkeypatch):
    """Forward and backward of GPU kernels are called, those of the CPU are not, and no step falls back on the loop."""
    ran = []
    for name in ("forward", "backward"):
        real = getattr(gpu, name)
        monkeypatch.setattr(gpu, name, lambda *a, name=name, real=real, **k: (ran.append(name), real(*a, **k))[1])
        monkeypatch.setattr(cpu, name, None)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="The step")
        yield ran
    assert {"forward", "backward"} <= set(ran), ran


def by_both(call, *leaves):
    """Results of `call` and gradients in the leaves of a random scalar of them: by kernel, then by the loop."""
    found = []
    for by_loop in (False, True):
        if by_loop:
            with plain_loop():
                results = call()
        else:
            results = call()
        dice = torch.Generator().manual_seed(0)
        total = sum((r.double() * torch.randn(r.shape, generator=dice, dtype=torch.float64).to(DEVICE)).sum() for r in results)
        found.append(([r.detach() for r in results], torch.autograd.grad(total, leaves)))
    return found


def assert_kernel_is_the_loop(call, *leaves, exact=False):
    (got, grads), (expected, expected_grads) = by_both(call, *leaves)
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape and a.device == b.device
        assert torch.equal(a, b) if exact else torch.allclose(a, b, rtol=1e-5, atol=1e-5)
    for a, b in zip(grads, expected_grads, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape and b.abs().max() > 0
        half = {torch.bfloat16: 1e-2, torch.float16: 2e-3}
        scale = b.abs().max().clamp(min=1e-3)
        torch.testing.assert_close(a / scale, b / scale, rtol=0, atol=half.get(b.dtype, max(2e-5, half.get(leaves[0].dtype, 0) / 10)))


# ---- neurons


@needs_triton
@pytest.mark.parametrize("make", [IF, LIF, PLIF, CUBALIF, ALIF], ids=lambda m: m.__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_neurons_of_ours(kernels_ran, make, dtype):
    neuron = make().to(torch.float64 if dtype == torch.float64 else torch.float32).to(DEVICE)
    x = normal(7, 3, 37, dtype=dtype)

    def call():
        y, state = neuro.run(neuron, x)
        return [y, *(v for held in state.values() for v in (held if isinstance(held, tuple) else (held,)))]

    assert_kernel_is_the_loop(call, x, *neuron.parameters(), exact=True)


@needs_triton
@pytest.mark.parametrize("shape", [(), (6,), (5, 1), (1, 5, 6), (3, 1, 1)], ids=str)
@pytest.mark.parametrize("lengths", [None, [2**40, -3, 4]], ids=["whole", "lengths"])
def test_three_states_with_parameters_of_every_shape(kernels_ran, shape, lengths):
    b = (normal(*shape, grad=False, seed=9).sigmoid()).requires_grad_()
    p = ThreeParams(torch.tensor(0.7, device=DEVICE, requires_grad=True), b, 0.9, 1.1)
    lengths = None if lengths is None else torch.tensor(lengths, device=DEVICE)
    x, state = normal(7, 3, 5, 6), Three(*(normal(3, 5, 6, seed=k) for k in range(3)))

    def call():
        y, after = scan(three_step, x, state, p, lengths=lengths, spike=Sigmoid(), reset=Subtract(detach=False))
        return [y, *after]

    assert_kernel_is_the_loop(call, x, p.a, b, *state)


class Mix(NamedTuple):
    mix: torch.Tensor


def two_inputs(x, state, p):
    receptive, context = x
    v = 0.5 * state[0] + receptive * torch.relu(1 + p.mix * context) + torch.atan(context) + context.abs() ** 1.5
    return (torch.where(v > 1, v, 0.0), v.clamp(-1, 1)), (v - v.detach().round() * 0.25,)


@needs_triton
@pytest.mark.parametrize("used", [(0, 1, 2), (0,), (1,), (2,)], ids=str)
def test_several_inputs_and_outputs_of_which_some_are_used(kernels_ran, used):
    x, zero, p = (normal(6, 3, 4), normal(6, 3, 4, seed=5)), torch.zeros(3, 4, device=DEVICE), Mix(normal(4, seed=6))

    def call():
        y, after = scan(two_inputs, x, (zero,), p)
        return [(*y, *after)[k] for k in used]

    assert_kernel_is_the_loop(call, *x, p.mix)


@needs_triton
def test_inputs_that_lie_otherwise_in_memory(kernels_ran):
    x = normal(4, 5, 37, grad=False).transpose(0, 2).requires_grad_()  # [37, 5, 4]
    state, neuron = LIF.State(normal(4, 5, grad=False).t().requires_grad_()), PLIF(shape=(4,)).to(DEVICE)

    def call():
        y, after = scan(neuron.step, x, state, neuron.params(), **neuron.choices())
        return [y.transpose(0, 1), *after]

    assert_kernel_is_the_loop(call, x, state.v, *neuron.parameters(), exact=True)


@needs_triton
def test_one_step_of_many_neurons(kernels_ran):
    x, neuron = normal(1, 3, 1500), PLIF().to(DEVICE)
    assert_kernel_is_the_loop(lambda: [neuron(x)], x, *neuron.parameters(), exact=True)


@needs_triton
def test_calls_without_a_step_or_a_sample():
    neuron = PLIF().to(DEVICE)
    with pytest.raises(neuro.errors.ShapeError, match="T >= 1"):
        neuron(torch.zeros(0, 2, 3, device=DEVICE))
    for shape in ((4, 0, 3), (4, 2, 0)):
        x = torch.zeros(shape, device=DEVICE, requires_grad=True)
        y = neuron(x)
        y.sum().backward()
        assert y.shape == x.grad.shape == shape


# ---- torch around it


@needs_triton
def test_autocast_keeps_the_state_in_float32(kernels_ran):
    net = torch.nn.Sequential(torch.nn.Linear(4, 4), PLIF()).to(DEVICE)
    with torch.autocast(DEVICE, torch.bfloat16):
        y, state = neuro.run(net[1], net[0](normal(5, 2, 4)))
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16 and all(v.dtype == torch.float32 for v in state.values())
    assert all(torch.isfinite(p.grad).all() and p.grad.dtype == torch.float32 for p in net.parameters())


@needs_triton
def test_a_used_neuron_can_be_copied(kernels_ran):
    neuron, x = PLIF().to(DEVICE), normal(3, 2, 4)
    y = neuron(x)
    y.sum().backward()
    assert torch.equal(copy.deepcopy(neuron)(x), y)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(6, 6)
        self.plif, self.alif = PLIF(shape=(6,)), ALIF(spike=Triangle())

    def forward(self, x):
        return self.alif(self.plif(self.inner(x)))


@needs_triton
def test_compiled_in_one_graph_with_gradients(kernels_ran):
    net, x = Net().to(DEVICE), normal(5, 3, 6)
    expected = net(x)
    expected.sum().backward()
    grads = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    y = torch.compile(net, fullgraph=True, backend="aot_eager")(x)
    y.sum().backward()
    assert torch.equal(y, expected)
    for p, g in zip(net.parameters(), grads, strict=True):
        torch.testing.assert_close(p.grad, g)


@needs_triton
def test_compiled_for_any_number_of_steps(kernels_ran):
    net = torch.compile(LIF(), fullgraph=True, backend="aot_eager", dynamic=True)
    for T in (14, 5):
        x = normal(T, 2, 3)
        grads = [torch.autograd.grad(model(x).square().sum(), x)[0] for model in (net, LIF())]
        assert torch.equal(*grads)


@needs_triton
def test_exported():
    net, x = Net().to(DEVICE).eval(), normal(5, 3, 6, grad=False)
    exported = torch.export.export(net, (x,))
    assert any(node.target == torch.ops.neuro.scan.default for node in exported.graph.nodes)
    assert torch.equal(exported.module()(x), net(x))


@needs_triton
def test_torch_func_takes_the_loop():
    x = normal(4, 3, 2, 5, grad=False)
    each = torch.stack([LIF()(v) for v in x.unbind(0)])
    assert torch.equal(torch.func.vmap(LIF())(x), each)


@needs_triton
def test_a_gradient_that_can_be_differentiated_again(kernels_ran):
    """Where backward reads the input anyway; elsewhere it is not kept, and an error says what to do."""
    x, w = normal(3, 2, 4), torch.tensor(0.7, device=DEVICE, requires_grad=True)

    def call():
        y, _ = scan(lambda x, s, p: (torch.tanh(x * p) * s[0], (s[0] * 0.5 + x * x,)), x, (torch.zeros(2, 4, device=DEVICE),), w)
        (grad,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        return [grad]

    assert_kernel_is_the_loop(call, x, w)
    y = LIF(spike=Sigmoid(), reset=ToZero(detach=False)).to(DEVICE)(x)
    with pytest.raises(NotImplementedError, match=r"neuro\.scanning\.plain_loop"):
        torch.autograd.grad(y.sum(), x, create_graph=True)
    y.sum().backward()


@needs_triton
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize(("make", "bytes_each"), [(LIF, 4), (CUBALIF, 4)], ids=["LIF", "CUBALIF"])
def test_what_is_kept_for_backward(make, bytes_each, compiled):
    kept = {}
    x, neuron = normal(16, 4, 64), make().to(DEVICE)
    neuron = torch.compile(neuron, fullgraph=True, backend="aot_eager") if compiled else neuron
    neuron(x)  # the check on a small input
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.__setitem__(t.data_ptr(), t.nbytes), t)[1], lambda t: t):
        y = neuron(x)
    assert bytes_each <= sum(kept.values()) / y.numel() <= bytes_each + 4 * len(make.State._fields) / 16
    y.sum().backward()
    with plain_loop():
        assert torch.equal(torch.autograd.grad(make().to(DEVICE)(x).sum(), x)[0], x.grad)


# ---- what has no kernel


def scaled(x, state, p):
    return x * 1.25, (state[0] + x,)


def test_without_triton_the_loop_runs_and_says_why(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "triton" else real(name, *a))
    x, zero = normal(3, 2, 4), (torch.zeros(2, 4, device=DEVICE),)
    with pytest.warns(RuntimeWarning, match=r"'scaled' runs on the plain torch loop, because .*Triton is not installed \(pip install 'neuro-snn\[gpu\]'\)"):
        y, _ = scan(scaled, x, zero, None)
    assert torch.equal(y, x * 1.25)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scan(scaled, x, zero, None)


def test_a_kernel_that_cannot_be_made_is_named_with_its_reason(monkeypatch):
    """Of whatever kind the failure is: a missing C compiler, a type that the device lacks."""

    class Broken:
        def __getitem__(self, grid):
            raise RuntimeError("Failed to find C compiler.")

    loaded = gpu._Loaded(Broken())
    monkeypatch.setattr(gpu, "_function", lambda source, name: loaded)
    with pytest.warns(RuntimeWarning, match="because its kernel cannot be made here: .*RuntimeError: Failed to find C compiler"):
        y, _ = scan(scaled, x := normal(3, 2, 4), (torch.zeros(2, 4, device=DEVICE),), None)
    assert torch.equal(y, x * 1.25)


@needs_triton
def test_a_failure_of_a_kernel_that_ran_before_is_raised_as_it_is(monkeypatch):
    scan(scaled, normal(3, 2, 4), (torch.zeros(2, 4, device=DEVICE),), None)

    class Broken:
        def __getitem__(self, grid):
            raise RuntimeError("illegal memory access")

    kernels = [made[0] for made in gpu.kernels(programs.find(scaled, normal(3, 2, 4), (normal(2, 4),), None, {}, torch.float32).program)._made.values()]
    assert any(kernel.ran for kernel in kernels)
    for kernel in kernels:
        monkeypatch.setattr(kernel, "function", Broken())
    with pytest.raises(RuntimeError, match="illegal memory access"):
        scan(scaled, normal(3, 2, 4), (torch.zeros(2, 4, device=DEVICE),), None)


def test_other_devices_take_the_loop():
    assert backends.of("mps") is None and backends.of("meta") is None
    assert LIF()(torch.zeros(3, 2, 4, device="meta")).shape == (3, 2, 4)


# ---- shapes without values


@pytest.mark.parametrize("device", ["cpu", "cuda", "xpu", "meta"])
@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("make", [LIF, PLIF, ALIF], ids=lambda m: m.__name__)
def test_shapes_of_results_are_known_without_values(monkeypatch, device, lengths, make):
    """Those of the CPU for the CPU, those of a GPU for GPUs, on a machine that may have none."""
    monkeypatch.setitem(backends.BY_DEVICE, "cpu", cpu)
    neuron = make()
    x = torch.zeros(40, 3, 5, dtype=torch.bfloat16)
    found = programs.find(neuron.step, x, neuron.initial(x[0].float()), neuron.params(), neuron.choices(), torch.float32)
    numbers, count = programs.numbers(neuron.params()), len(programs.tensors(neuron.params()))
    made = (gpu if device in ("cuda", "xpu") else cpu).kernels(found.program)
    with FakeTensorMode():
        x = torch.empty(40, 3, 5, dtype=torch.bfloat16, device=device)
        state = [torch.empty(3, 5, device=device) for _ in neuron.State._fields]
        params = [torch.empty((), device=device) for _ in range(count)]
        steps = torch.empty(3, dtype=torch.int64, device=device) if lengths else None
        y, *rest = torch.ops.neuro.scan([x], state, params, steps, numbers, found.program, True)
        ends, kept = rest[: len(state)], rest[len(state) :]
        assert y.shape == x.shape and y.dtype == x.dtype and y.device == x.device
        assert all(e.shape == s.shape and e.dtype == s.dtype for e, s in zip(ends, state, strict=True))
        rows = (3, 5) if lengths else (1, 15)
        assert [(tuple(k.shape), k.dtype) for k in kept] == [((40, *rows) if made.__class__ is gpu.Kernels else (2, *rows), dtype) for dtype in made.kept]
        assert len(torch.ops.neuro.scan([x], state, params, steps, numbers, found.program, False)) == 1 + len(state)
        wants = [True] * (1 + count)
        grads = torch.ops.neuro.scan_backward([y], [None] * len(state), [x], state, params, kept, steps, numbers, found.program, wants)
        assert [(g.shape, g.dtype) for g in grads] == [(t.shape, t.dtype) for t in (x, *state, *params)]


@needs_triton
def test_the_operators_keep_torchs_rules():
    """Among them: the shapes named without values are those of the results."""
    neuron, x = PLIF().to(DEVICE), normal(4, 2, 3)
    found = programs.find(neuron.step, x, neuron.initial(x[0]), neuron.params(), neuron.choices(), torch.float32)
    p = [v.detach().requires_grad_() for v in programs.tensors(neuron.params())]
    args = ([x], [normal(2, 3)], p, None, programs.numbers(neuron.params()), found.program, True)
    torch.library.opcheck(torch.ops.neuro.scan.default, args, test_utils=("test_schema", "test_faketensor", "test_aot_dispatch_static"))


def test_a_call_of_more_neurons_than_32_bits_count_takes_the_loop():
    first = torch.empty(1, device=DEVICE).expand(2, 2**16, 2**15)
    state = torch.empty(1, device=DEVICE).expand(2**16, 2**15)
    assert calls.fits([first], [state], [], None, gpu.DTYPES) and not gpu.supports([first], [state], [], None)
    assert gpu.supports([first[:, 1:]], [state[1:]], [], None)


def test_an_exported_scan_on_a_device_without_kernels_is_refused(monkeypatch):
    monkeypatch.delitem(backends.BY_DEVICE, DEVICE)
    with pytest.raises(NotImplementedError, match="no kernels for device"):
        operators._scan([normal(2, 1, 3)], [normal(1, 3)], [], None, [], "{}", False)

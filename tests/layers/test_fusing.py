"""A neuron behind a normalisation, in one kernel: the same spikes, gradients, statistics and state as one after the other."""

import copy
import weakref

import pytest
import torch
from torch import nn

import neuro
from neuro.kernels import normed
from neuro.layers import BatchNorm, Conv2d, MaxPool2d, Sequential, ThresholdBN, fire
from neuro.layers.fusing import is_pair
from neuro.neurons import ALIF, CUBALIF, IF, LIF, PLIF
from neuro.reset import subtract
from neuro.surrogate import Sigmoid, Surrogate

SHAPES = {"maps": ((5, 3, 4, 33, 31), 2), "small maps": ((4, 9, 32, 4, 4), 2), "tokens": ((4, 3, 7, 200), -1), "one step": ((1, 4, 16, 16, 16), 2)}
EVERY = pytest.mark.parametrize(("shape", "axis"), SHAPES.values(), ids=SHAPES)


WEIGHTS = {"positive": lambda n: torch.rand(n) + 0.5, "mixed": lambda n: torch.tensor([1.0, -0.8, 0.0, 0.6]).repeat(n)[:n]}


def pair(shape, axis, neuron, norm=BatchNorm, **choices):
    channels = shape[axis]
    norm = norm(channels, axis=axis, **choices)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.uniform_(-0.3, 0.8)
    return neuron, norm


def both(neuron, norm, x, carried=None, pool=None):
    """(outputs, state, gradients by input, state and parameters, norm afterwards) one after the other and in one kernel."""
    found = []
    for fused in (False, True):
        a, b = copy.deepcopy(neuron), copy.deepcopy(norm)
        net = nn.ModuleList([a, b])
        net.forward = lambda x, a=a, b=b, fused=fused: fire(a, b, x, pool) if fused else a(b(x)) if pool is None else a(pool(b(x)))
        leaf = x.clone().requires_grad_()
        state = None if carried is None else {k: v.clone().requires_grad_() for k, v in carried.items()}
        y, after = neuro.run(net, leaf, state)
        wanted = [leaf, *(state or {}).values(), *(p for p in net.parameters() if p.requires_grad)]
        dice = torch.Generator().manual_seed(1)
        seeds = [torch.randn(v.shape, generator=dice).to(v.dtype) for v in (y, *after.values())]
        total = sum((v * s).sum() for v, s in zip((y, *after.values()), seeds, strict=True))
        grads = torch.autograd.grad(total, wanted)
        found.append((y, after, grads, dict(b.named_buffers())))
        assert ("Normed" in _history(y)) == fused
    return found


def _history(y):
    seen, todo, names = set(), [y.grad_fn], []
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            names.append(node.name())
            todo += [n for n, _ in node.next_functions]
    return " ".join(names)


def compare(found, tolerance=2e-5):
    (y, after, grads, buffers), (fused_y, fused_after, fused_grads, fused_buffers) = found
    assert y.sum() > 0
    torch.testing.assert_close(fused_y, y, rtol=0, atol=0)
    for a, b in zip((*after.values(), *grads, *buffers.values()), (*fused_after.values(), *fused_grads, *fused_buffers.values()), strict=True):
        torch.testing.assert_close(b, a, rtol=tolerance, atol=tolerance * (1 + a.detach().abs().max().item()))


@EVERY
@pytest.mark.parametrize("training", [True, False])
def test_equals_one_after_the_other(shape, axis, training):
    torch.manual_seed(0)
    neuron, norm = pair(shape, axis, LIF(), momentum=0.3)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    norm.train(training)
    compare(both(neuron, norm, torch.randn(shape) * 2 + 0.7))


@pytest.mark.parametrize(
    ("neuron", "kind"),
    [(LIF(tau=3.0, reset=subtract, spike=Sigmoid(4.0)), "maps"), (IF(threshold=2.0), "maps"), (PLIF(), "maps"), (CUBALIF(), "tokens"), (ALIF(), "small maps")],
    ids=["soft", "IF", "PLIF", "CUBA", "ALIF"],
)
def test_every_neuron(neuron, kind):
    shape, axis = SHAPES[kind]
    torch.manual_seed(1)
    compare(both(*pair(shape, axis, neuron), torch.randn(shape) + 0.5))


@EVERY
def test_state_goes_through(shape, axis):
    torch.manual_seed(2)
    neuron, norm = pair(shape, axis, LIF())
    compare(both(neuron, norm, torch.randn(shape) + 0.4, carried={"0#0": torch.rand(shape[1:])}))


@pytest.mark.parametrize("kind", ["maps", "small maps"])
def test_parameters_for_each_channel(kind):
    shape, axis = SHAPES[kind]
    torch.manual_seed(3)
    neuron = PLIF(shape=(shape[axis],) if axis == -1 else (shape[axis], 1, 1))
    with torch.no_grad():
        next(neuron.parameters()).add_(torch.randn(1) * 0.3)
    compare(both(*pair(shape, axis, neuron), torch.randn(shape) + 0.5))


def test_double_and_scaled():
    torch.manual_seed(4)
    shape, axis = SHAPES["maps"]
    neuron, norm = pair(shape, axis, LIF(), ThresholdBN, threshold=0.8, alpha=0.7)
    compare(both(neuron, norm.double(), torch.randn(shape, dtype=torch.float64)), tolerance=1e-10)


def test_inputs_far_from_zero_keep_their_gradient():
    torch.manual_seed(5)
    shape = (4, 4, 3, 40, 40)
    neuron, norm = pair(shape, 2, LIF())
    x = torch.randn(shape, dtype=torch.float64) * 0.1 + 30.0
    exact = both(neuron, copy.deepcopy(norm).double(), x)[0]
    single = both(neuron, norm, x.float())[1]
    for a, b in zip(exact[2], single[2], strict=True):
        assert (a - b).abs().max() < 5e-3 * a.abs().max()


def test_a_second_derivative_is_that_of_the_definition():
    torch.manual_seed(6)
    shape = (3, 4, 2, 28, 28)
    neuron, norm = pair(shape, 2, LIF(spike=Sigmoid(4.0)))
    neuron, norm, x = neuron, norm.double(), torch.randn(shape, dtype=torch.float64)
    found = []
    for fused in (False, True):
        leaf = x.clone().requires_grad_()
        y = fire(neuron, norm, leaf) if fused else neuron(norm(leaf))
        (first,) = torch.autograd.grad((y * x).sum(), leaf, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), leaf)[0])
    assert found[0].abs().max() > 0
    torch.testing.assert_close(*found, rtol=1e-7, atol=1e-9)


def test_who_looks_sees_both_calls():
    shape, axis = SHAPES["maps"]
    neuron, norm = pair(shape, axis, LIF())
    x, seen = torch.randn(shape), []
    assert is_pair(neuron, norm)
    handle = norm.register_forward_hook(lambda m, a, y: seen.append(y))
    y = fire(neuron, norm, x)
    handle.remove()
    assert len(seen) == 1 and torch.equal(neuron(seen[0]), y)
    neuron.forward = lambda x: x * 0  # somebody's patch
    assert fire(neuron, norm, x).sum() == 0


def test_padded_steps_are_left_out(monkeypatch):
    shape, axis = SHAPES["maps"]
    neuron, norm = pair(shape, axis, LIF())
    net, x = Sequential(norm, neuron), torch.randn(shape) + 0.5
    steps = torch.tensor([5, 2, 3])
    y, _ = neuro.run(net, x, lengths=steps)
    assert (y[2:, 1] == 0).all() and y[:2, 1].sum() > 0


def test_sequential_takes_one_kernel_and_plain_loop_does_not(monkeypatch):
    calls = []
    run = normed.run
    monkeypatch.setattr(normed, "run", lambda *a: calls.append(1) or run(*a))
    torch.manual_seed(7)
    net = Sequential(Conv2d(2, 8, 3, padding=1), BatchNorm(8), LIF(), nn.Identity(), BatchNorm(8), IF(), BatchNorm(8))
    x = torch.randn(4, 2, 2, 32, 32)
    y = net(x)
    assert len(calls) == 2
    twin = copy.deepcopy(net)
    with neuro.scanning.plain_loop():
        slow = twin(x)
    assert len(calls) == 2 and y.shape == slow.shape


@pytest.mark.parametrize("what", ["channels", "rank", "dtype"])
def test_what_does_not_fit_is_refused_as_before(what):
    neuron, norm = pair((4, 2, 8, 32, 32), 2, LIF())
    x = {"channels": torch.randn(4, 2, 6, 32, 32), "rank": torch.randn(8, 40000), "dtype": torch.randn(4, 2, 8, 32, 32, dtype=torch.float64)}[what]
    with pytest.raises(Exception) as plain:
        neuron(norm(x))
    with pytest.raises(type(plain.value)) as fused:
        fire(neuron, norm, x)
    assert str(plain.value) == str(fused.value)


def test_surrogate_of_a_user(monkeypatch):
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Box(Surrogate):
        strict: bool = False

        def derivative(self, u):
            return (u.abs() < 0.5).to(u.dtype)

    torch.manual_seed(8)
    shape, axis = SHAPES["maps"]
    compare(both(*pair(shape, axis, LIF(spike=Box())), torch.randn(shape) + 0.5))


@pytest.mark.parametrize("fused", [False, True])
def test_backward_lets_go_of_the_input_while_the_graph_lives(fused):
    lif, norm = LIF(), BatchNorm(8)
    z = torch.randn(4, 2, 8, 32, 32, requires_grad=True) * 1.0
    seen = weakref.ref(z)
    y = fire(lif, norm, z) if fused else lif(z)
    del z
    assert seen() is not None
    y.sum().backward()
    assert seen() is None and y.grad_fn is not None


POOLED = {"odd": ((3, 2, 6, 37, 35), MaxPool2d(3, 2, 1)), "small": ((4, 5, 12, 9, 10), MaxPool2d(2)), "one step": ((1, 4, 8, 32, 32), MaxPool2d((3, 2), (1, 2), (1, 0)))}


@pytest.mark.parametrize(("shape", "pool"), POOLED.values(), ids=POOLED)
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("training", [True, False])
def test_pooling_between_the_two(shape, pool, weights, training):
    torch.manual_seed(9)
    neuron, norm = pair(shape, 2, LIF(), momentum=0.3)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    norm.weight.data = WEIGHTS[weights](shape[2])
    norm.train(training)
    compare(both(neuron, norm.double(), torch.randn(shape, dtype=torch.float64) * 2 + 0.7, pool=pool), tolerance=1e-10)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_pooling_in_single_precision(weights):
    torch.manual_seed(10)
    shape, pool = POOLED["odd"]
    neuron, norm = pair(shape, 2, LIF(), ThresholdBN, threshold=0.8)
    norm.weight.data = WEIGHTS[weights](shape[2])
    compare(both(neuron, norm, torch.randn(shape) * 2 + 0.7, pool=pool), tolerance=5e-5)


def test_state_goes_through_pooling():
    torch.manual_seed(11)
    shape, pool = POOLED["odd"]
    neuron, norm = pair(shape, 2, LIF())
    state = {"0#0": torch.rand(2, 6, 19, 18, dtype=torch.float64)}
    compare(both(neuron, norm.double(), torch.randn(shape, dtype=torch.float64) + 0.4, carried=state, pool=pool), tolerance=1e-10)


def test_values_equal_after_rounding_share_one_gradient():
    """What is guaranteed of ties: the same output, and the same gradient in sum; it goes to the largest input, not to the first."""
    x = torch.zeros(1, 2, 4, 64, 64, dtype=torch.float64)
    x[..., 1, 1] = 1e-30  # the larger one in its window, lost beside the mean
    norm, neuron, pool = BatchNorm(4).double(), LIF(), MaxPool2d(2)
    norm.eval()
    norm.running_mean.fill_(-3.0)
    found = []
    for fused in (False, True):
        leaf = x.clone().requires_grad_()
        y = fire(neuron, norm, leaf, pool) if fused else neuron(pool(norm(leaf)))
        found.append((y, torch.autograd.grad(y.sum(), leaf)[0]))
    (slow, by_slow), (fast, by_fast) = found
    assert torch.equal(slow, fast) and slow.sum() > 0
    torch.testing.assert_close(pool(by_slow) * 4, pool(by_fast) * 4)
    assert (by_slow[..., 0, 0] != 0).all() and (by_fast[..., 0, 0] == 0).all() and (by_fast[..., 1, 1] != 0).all()


@pytest.mark.parametrize("pool", [None, MaxPool2d(2), MaxPool2d(3, 2, 1)], ids=["none", "2", "3, 2, 1"])
@pytest.mark.parametrize("values", [(torch.nan,), (torch.inf,), (-torch.inf,), (torch.inf, -torch.inf, torch.nan)], ids=["nan", "inf", "-inf", "all"])
def test_what_is_not_finite(values, pool):
    """A weight of 0 times it is NaN, and that is what torch's pooling takes; also where a weight is so small that its scale is rounded to 0."""
    torch.manual_seed(16)
    norm, neuron, x = BatchNorm(8).eval(), LIF(spike=Sigmoid(4.0)), torch.randn(4, 3, 8, 20, 20)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, -1.0, 0.0, 0.5, 1e-45, 1.0, -0.3, 0.0])), norm.bias.uniform_(-0.2, 2.0), norm.running_var.fill_(9.0)
    hit = torch.rand(x.shape) < 0.01
    x[hit] = torch.tensor(values)[torch.randint(len(values), x.shape)][hit]
    found = []
    for fused in (False, True):
        leaf = x.clone().requires_grad_()
        y = fire(neuron, norm, leaf, pool) if fused else neuron(norm(leaf) if pool is None else pool(norm(leaf)))
        seeds = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
        found.append((y, *torch.autograd.grad((y * seeds).sum(), [leaf, norm.weight, norm.bias])))
    slow, fast = found
    assert slow[1].isnan().any() and torch.equal(slow[0], fast[0])
    for k, (a, b) in enumerate(zip(slow[1:], fast[1:], strict=True)):
        known = ~a.isnan() if k == 1 and pool is not None else slice(None)  # what was pooled away, an infinite value too, is not multiplied by 0
        torch.testing.assert_close(b[known], a[known], rtol=1e-4, atol=1e-4, equal_nan=True)


def test_a_second_derivative_through_pooling():
    torch.manual_seed(12)
    shape, pool = POOLED["odd"]
    neuron, norm = pair(shape, 2, LIF(spike=Sigmoid(4.0)))
    neuron, norm, x = neuron, norm.double(), torch.randn(shape, dtype=torch.float64)
    found = []
    for fused in (False, True):
        leaf = x.clone().requires_grad_()
        y = fire(neuron, norm, leaf, pool) if fused else neuron(pool(norm(leaf)))
        (first,) = torch.autograd.grad((y * y.detach().cumsum(-1)).sum(), leaf, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), leaf)[0])
    assert found[0].abs().max() > 0
    torch.testing.assert_close(*found, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("pool", [MaxPool2d(3, 2, 1), MaxPool2d(3, 2, ceil_mode=True), nn.Identity(), None], ids=["pool", "ceil", "identity", "none"])
def test_sequential_and_fire_find_the_three(monkeypatch, pool):
    calls = []
    run = normed.run
    monkeypatch.setattr(normed, "run", lambda *a: calls.append(a[11]) or run(*a))
    torch.manual_seed(13)
    norm, neuron, x = BatchNorm(8), LIF(), torch.randn(4, 2, 8, 32, 32)
    y = fire(neuron, norm, x, pool)
    assert len(calls) == (0 if getattr(pool, "ceil_mode", False) else 1) and (not calls or (calls[0] is not None) == (type(pool) is MaxPool2d))
    assert torch.equal(y, neuron(norm(x) if pool is None else pool(norm(x))))
    if type(pool) is MaxPool2d:
        calls.clear()
        assert torch.equal(Sequential(norm, pool, neuron, nn.Identity())(x), y) and len(calls) == (0 if pool.ceil_mode else 1)
        seen = []
        handle = pool.register_forward_hook(lambda m, a, z: seen.append(z))
        calls.clear()
        assert torch.equal(fire(neuron, norm, x, pool), y) and len(seen) == 1 and not calls
        handle.remove()


@pytest.mark.parametrize(
    ("shape", "axis", "pool"),
    [((4, 4, 16, 32, 32), 2, None), ((4, 4, 16, 32, 32), 2, MaxPool2d(3, 2, 1)), ((4, 5, 31, 200), -1, None), ((4, 6, 60, 9, 9), 2, None)],
    ids=["maps", "pooled", "tokens", "small maps"],
)
def test_results_do_not_depend_on_the_number_of_threads(shape, axis, pool):
    torch.manual_seed(14)
    x, found, threads = torch.randn(shape), [], torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            neuron, norm = LIF(), BatchNorm(shape[axis], axis=axis)
            leaf = x.clone().requires_grad_()
            y = fire(neuron, norm, leaf, pool)
            found.append((y, *torch.autograd.grad((y * y.detach().cumsum(-1)).sum(), [leaf, *norm.parameters()]), norm.running_var))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(v, w) for v, w in zip(*found, strict=True))


@pytest.mark.parametrize("pool", [None, MaxPool2d(2)], ids=["two", "three"])
def test_what_is_kept_is_the_input_and_what_was_pooled(pool):
    """Neither the norm's output nor a state of zeros; of pooling a byte and a value for each output."""
    kept = {}
    x = torch.randn(4, 2, 16, 32, 32, requires_grad=True)
    norm, neuron = BatchNorm(16), LIF()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.update({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()}), t)[1], lambda t: t):
        y = fire(neuron, norm, x, pool)
    outputs = y.numel() if pool else 0
    assert x.nbytes + 5 * outputs <= sum(kept.values()) < x.nbytes + 5 * outputs + 2000


@pytest.mark.parametrize("pool", [None, MaxPool2d(3, 2, 1)], ids=["two", "three"])
def test_dirty_memory_shows_nowhere(monkeypatch, pool):
    from neuro.kernels import cpu, max_pooling

    torch.manual_seed(15)
    x = torch.randn(4, 2, 16, 32, 32)

    def once():
        leaf, norm = x.clone().requires_grad_(), BatchNorm(16)
        y = fire(LIF(), norm, leaf, pool)
        return y, *torch.autograd.grad((y * y.detach().cumsum(-1)).sum(), [leaf, *norm.parameters()])

    clean = once()
    for module in (cpu, max_pooling):
        monkeypatch.setattr(module, "fresh", lambda shape, dtype: torch.full(shape, torch.nan if dtype.is_floating_point else 99, dtype=dtype))
    monkeypatch.setattr(torch, "empty", lambda *a, **k: torch.full(a if isinstance(a[0], int) else a[0], torch.nan, **k))
    dirty = once()
    assert all(torch.equal(a, b) for a, b in zip(clean, dirty, strict=True))


@pytest.mark.parametrize("axis", [2, -1])
@pytest.mark.parametrize("mean", [0.0, 1e6, -1e8])
def test_the_variance_beside_a_large_mean(mean, axis):
    """Squares of the mean would leave it no digit: 1e16 in double, whose variance is 1."""
    torch.manual_seed(0)
    x = torch.randn((3, 2, 4, 20, 30) if axis == 2 else (3, 2, 600, 4), dtype=torch.float64) + mean
    at = normed.places(x.shape, axis == -1)
    others = [a for a in range(x.dim()) if a != axis % x.dim()]
    found, var = normed.moments(x, at)
    assert torch.allclose(found, x.mean(others), rtol=1e-12, atol=1e-12)
    exact = (x - mean).var(others, correction=0)  # x - mean is exact up to the rounding of x itself
    assert torch.allclose(var, exact, rtol=1e-9 if mean == 0 else 1e-6, atol=0)

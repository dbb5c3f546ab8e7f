"""Attention of spikes from bits: equal to torch's products in every bit, gradients within summation error."""

import json
from dataclasses import asdict, fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import neuro
from neuro.kernels import calibrating, choosing, spike_attention
from neuro.kernels.costs import Costs, Work
from neuro.layers import AttentionProduct


@pytest.fixture(autouse=True)
def by_bits():
    with choosing.deterministic("events"):
        yield


def three(*shape, density=0.2, dtype=torch.float32):
    return [(torch.rand(shape) < density).to(dtype).requires_grad_() for _ in range(3)]


def from_bits(y):
    return "SpikeAttention" in y.grad_fn.name()


def dense(product, *inputs):
    with choosing.deterministic("dense"):
        return product(*inputs)


@settings(max_examples=40, deadline=None)
@given(
    images=st.integers(1, 3), tokens=st.integers(1, 150), heads=st.integers(1, 4), d=st.integers(1, 70), density=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    double=st.booleans(), scale=st.sampled_from([0.125, 0.3, 1]), seed=st.integers(0, 99),
)  # fmt: skip
def test_product(images, tokens, heads, d, density, double, scale, seed):
    torch.manual_seed(seed)
    inputs = three(2, images, tokens, heads * d, density=density, dtype=torch.float64 if double else torch.float32)
    product = AttentionProduct(heads, scale, order="kv_first")
    y, z = product(*inputs), dense(product, *inputs)
    assert from_bits(y) and torch.equal(y, z) and y.dtype == z.dtype
    grad = torch.randn_like(z)
    absolute = [x.detach().requires_grad_() for x in inputs]
    bounds = torch.autograd.grad(dense(product, *absolute), absolute, grad.abs())
    for a, b, bound in zip(torch.autograd.grad(y, inputs, grad), torch.autograd.grad(z, inputs, grad), bounds, strict=True):
        assert ((a - b).abs() <= (1e-13 if double else 1e-5) * bound + 1e-30).all()


@pytest.mark.parametrize("which", ["q", "k", "v", "qv"])
def test_only_the_gradients_that_are_wanted(which):
    inputs = [x.detach().requires_grad_(name in which) for name, x in zip("qkv", three(2, 1, 9, 4), strict=True)]
    y = AttentionProduct(2)(*inputs)
    assert from_bits(y)
    y.sum().backward()
    assert [x.grad is not None for x in inputs] == [name in which for name in "qkv"]


def test_only_bits_are_kept():
    kept = {}

    def see(t):
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    inputs = three(2, 2, 16, 32)
    with torch.autograd.graph.saved_tensors_hooks(see, lambda t: t):
        y = AttentionProduct(8)(*inputs)
    assert from_bits(y) and sum(kept.values()) == 3 * inputs[0].numel() // 8


def test_any_layout():
    q, k, v = (x.detach() for x in three(3, 4, 20, 12))
    product = AttentionProduct(3)
    for turn in (lambda x: x.transpose(0, 1), lambda x: x[:, ::2], lambda x: x[:1].expand(4, -1, -1, -1)):
        given = [turn(x) for x in (q, k, v)]
        assert torch.equal(product(*given), dense(product, *given))


def test_the_number_of_threads_changes_no_bit():
    inputs, product = three(4, 50, 64, 32), AttentionProduct(2)
    torch.set_num_threads(1)
    alone = product(*inputs)
    for threads in (2, 3, 5):
        torch.set_num_threads(threads)
        assert torch.equal(product(*inputs), alone)


@pytest.mark.parametrize("change", [lambda x: 2 * x, lambda x: x + 0.25, lambda x: -x, lambda x: x.bfloat16(), lambda x: x * float("nan")])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_what_is_not_0_or_1_is_torchs_own(change, which):
    inputs, product = three(2, 2, 40, 8, density=0.5), AttentionProduct(2)
    changed = change(inputs[which].detach())
    inputs = [x.detach().to(changed.dtype) for x in inputs]
    inputs[which] = changed.requires_grad_()
    y = product(*inputs)
    assert not from_bits(y) and torch.equal(torch.nan_to_num(y), torch.nan_to_num(dense(product, *inputs)))


@pytest.mark.parametrize("shape", [(0, 2, 9, 4), (2, 0, 9, 4), (2, 2, 0, 4)])
def test_empty_inputs(shape):
    assert AttentionProduct(2, order="kv_first")(*three(*shape)).shape == shape


@pytest.mark.parametrize("shapes", [((2, 1, 9, 4), (2, 1, 8, 4), (2, 1, 9, 4)), ((2, 1, 9, 4), (2, 1, 9, 6), (2, 1, 9, 4)), ((2, 1, 9, 5),) * 3])
def test_what_does_not_fit_is_refused(shapes):
    with pytest.raises(RuntimeError):
        AttentionProduct(2, order="kv_first")(*(torch.ones(s) for s in shapes))


@pytest.mark.parametrize("heads", [0, -1, -2])
def test_heads_that_are_none_are_refused(heads):
    with pytest.raises(RuntimeError):
        AttentionProduct(heads, order="kv_first")(*three(2, 1, 9, 4))


def test_compilers_transforms_autocast_and_no_gradients():
    inputs, product = [x.detach() for x in three(2, 3, 30, 8)], AttentionProduct(2)
    expected = dense(product, *inputs)
    assert torch.equal(torch.compile(product, fullgraph=True, backend="aot_eager")(*inputs), expected)
    exported = torch.export.export(product, tuple(inputs)).module()
    assert torch.equal(exported(*inputs), expected)
    assert torch.equal(torch.func.vmap(product)(*(x[None] for x in inputs))[0], expected)
    _, tangent = torch.func.jvp(lambda q: product(q, *inputs[1:]), (inputs[0],), (inputs[0],))
    assert torch.allclose(tangent, expected)
    with torch.inference_mode():
        assert torch.equal(product(*inputs), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert product(*inputs).dtype == torch.bfloat16


def test_activity_and_trace_see_the_same():
    net, x = nn.Sequential(neuro.layers.SpikingSelfAttention(8, 2, lambda threshold: neuro.neurons.LIF(threshold=threshold))), three(3, 2, 12, 8)[0].detach()
    with choosing.deterministic("dense"):
        expected, graph = repr(neuro.activity(net, x)), repr(neuro.trace(net, x))
    assert repr(neuro.activity(net, x)) == expected and repr(neuro.trace(net, x)) == graph


def measured(**changes):
    return Costs(**{name: 1e-10 for name in asdict(calibrated())} | changes)


def calibrated():
    return Costs(*[1e-10] * len(fields(Costs)))


def test_the_table_chooses_by_tokens_channels_and_events():
    table = measured(call=0.0, attention_dense=1e-9, attention_pair=6.4e-9)
    work = Work("attention", 3 * 64 * 32, 0, 64 * 32, 64, 32)
    assert table.dense(work) == pytest.approx(1e-9 * 2 * 64 * 32 * 32)
    parts = 1e-10 * 3 * 64 * 32 + 1e-10 * 64 * 32 + 6.4e-9 * 32 * 32 + 1e-10 * 100 * 32  # pack, outputs, pairs, events
    assert table.events(work, 100) == pytest.approx(parts)
    assert table.events(work._replace(rows=65), 100) > parts  # a second word for the last token
    quick, slow = measured(attention_training_dense=1e-6), measured(attention_training_dense=1e-13, attention_dense=1e-6)
    inputs = three(5, 64, 64, 64)  # large enough to be asked about
    for table, form in ((quick, True), (slow, False)):
        with choosing.deterministic(table):
            assert from_bits(AttentionProduct(4)(*inputs)) == form


def test_a_table_of_before_leaves_attention_dense(tmp_path):
    path = tmp_path / "t.json"
    calibrated().save(path)
    whole = json.loads(path.read_text())
    whole["seconds"] = {name: s for name, s in whole["seconds"].items() if not name.startswith("attention")}
    path.write_text(json.dumps(whole | {"version": 2}))
    table = Costs.load(path)
    assert table.pack == 1e-10 and not table.prefers_events(Work("attention", 3 * 10**7, 0, 10**7, 64, 32), 0)


def test_costs_are_measured():
    found = calibrating._attention(torch.Generator().manual_seed(0))
    assert set(found) == {name for name in asdict(calibrated()) if name.startswith("attention")}
    assert found["attention_dense"] > 0 and found["attention_output"] > 0


def test_the_loop_is_what_ran(monkeypatch):
    ran = []
    real = spike_attention.forward
    monkeypatch.setattr(spike_attention, "forward", lambda *a: (ran.append(1), real(*a))[1])
    AttentionProduct(2)(*(x.detach() for x in three(2, 1, 9, 4)))
    assert ran

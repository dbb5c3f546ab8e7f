"""Spiking self-attention."""

import pytest
import torch

from neuro.errors import ParameterError, ShapeError
from neuro.layers import AttentionProduct, SpikingSelfAttention
from neuro.neurons import LIF

SHAPES = [(3, 2, 5, 32), (2, 2, 40, 16), (1, 1, 1, 8)]


def spikes(shape):
    return [torch.randint(0, 2, shape).float().requires_grad_() for _ in range(3)]


def loop(q, k, v, heads, scale):
    """Token by token, in Python."""
    out = torch.zeros(v.shape, dtype=torch.float64)
    d = q.shape[-1] // heads
    for h in range(heads):
        part = slice(h * d, (h + 1) * d)
        for n in range(q.shape[2]):
            for m in range(q.shape[2]):
                weight = (q[:, :, n, part] * k[:, :, m, part]).double().sum(-1, keepdim=True)
                out[:, :, n, part] += scale * weight * v[:, :, m, part]
    return out


@pytest.mark.parametrize("shape", SHAPES)
def test_both_orders_are_equal_on_spikes_in_forward_and_gradient(shape):
    weigh, answers = torch.randint(-3, 4, shape).float(), []
    qkv = spikes(shape)
    for order in ("qk_first", "kv_first", "cheapest"):
        y = AttentionProduct(4, 0.125, order)(*qkv)
        answers.append([y, *torch.autograd.grad((y * weigh).sum(), qkv)])
    for other in answers[1:]:
        assert all(torch.equal(a, b) for a, b in zip(answers[0], other, strict=True))
    with torch.no_grad():
        assert torch.equal(answers[0][0].double(), loop(*qkv, 4, 0.125))


def test_both_orders_agree_on_any_numbers():
    qkv = [torch.randn(2, 2, 10, 16) for _ in range(3)]
    a, b = (AttentionProduct(2, 0.3, order)(*qkv) for order in ("qk_first", "kv_first"))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_heads_do_not_mix():
    qkv = spikes((2, 2, 5, 16))
    y = AttentionProduct(4)(*qkv)
    grads = torch.autograd.grad(y[..., :4].sum(), qkv)
    assert all(g[..., :4].any() and not g[..., 4:].any() for g in grads)


def test_permuting_tokens_permutes_the_answer(make_exact):
    attention = make_exact(SpikingSelfAttention(16, 4, lambda threshold: LIF(threshold=threshold)))
    x, order = torch.randint(0, 4, (4, 2, 9, 16)).float(), torch.randperm(9)
    y = attention(x)
    assert 0 < y.mean() < 1 and torch.equal(attention(x[:, :, order]), y[:, :, order])


def test_every_part_learns_and_thresholds_are_the_papers():
    attention = SpikingSelfAttention(16, 4, lambda threshold: LIF(threshold=threshold), qkv_bias=True)
    y = attention(torch.randint(0, 4, (4, 3, 9, 16)).float())
    y.sum().backward()
    assert torch.equal(y, (y > 0).float())
    assert all(p.grad is not None for p in attention.parameters())
    assert attention.product_lif.threshold == 0.5 and attention.q_lif.threshold == 1 == attention.out_lif.threshold


def test_misfits_are_refused():
    with pytest.raises(ParameterError, match="dim=30 is not a multiple of heads=4"):
        SpikingSelfAttention(30, 4, LIF)
    with pytest.raises(ShapeError, match="AttentionProduct: k"):
        AttentionProduct(2)(torch.zeros(1, 1, 2, 4), torch.zeros(1, 2, 4), torch.zeros(1, 1, 2, 4))

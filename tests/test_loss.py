"""Losses over time."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import neuro
from neuro import loss
from neuro.errors import ParameterError, ShapeError
from neuro.neurons import LIF

T, B, K = 6, 4, 5
LENGTHS = torch.tensor([6, 1, 3, 4])


@pytest.fixture
def logits():
    return torch.randn(T, B, K, dtype=torch.float64, requires_grad=True)


@pytest.fixture
def labels():
    return torch.tensor([0, 4, 2, 2])


def by_sample(f, x, labels):
    """Mean over samples of f on the sample alone, without its padding."""
    return torch.stack([f(x[:n, b : b + 1], labels[b : b + 1]) for b, n in enumerate(LENGTHS)]).mean()


def assert_same(a, b, x):
    torch.testing.assert_close(a, b)
    torch.testing.assert_close(torch.autograd.grad(a, x)[0], torch.autograd.grad(b, x)[0])


def test_cross_entropy_is_that_of_the_mean(logits, labels):
    assert_same(loss.cross_entropy(logits, labels), F.cross_entropy(logits.mean(0), labels), logits)
    assert_same(loss.cross_entropy(logits.mean(0), labels), F.cross_entropy(logits.mean(0), labels), logits)
    smooth = F.cross_entropy(logits.mean(0), labels, label_smoothing=0.1)
    assert_same(loss.cross_entropy(logits, labels, smoothing=0.1), smooth, logits)


@pytest.mark.parametrize("f", [loss.cross_entropy, loss.tet, lambda o, y, **how: loss.tet(o, y, lamb=0.3, **how)])
def test_soft_labels_mix_the_losses_of_their_classes(f, logits, labels):
    share, other = torch.tensor([0.2, 1.0, 0.5, 0.7]), labels.flip(0)
    soft = share[:, None] * F.one_hot(labels, K) + (1 - share)[:, None] * F.one_hot(other, K)
    for lengths in (None, LENGTHS):
        alone = [[f(logits[:, b : b + 1], y[b : b + 1], lengths=None if lengths is None else lengths[b : b + 1]) for b in range(B)] for y in (labels, other)]
        expected = (share * torch.stack(alone[0]) + (1 - share) * torch.stack(alone[1])).mean()
        assert_same(f(logits, soft, lengths=lengths), expected, logits)
        assert_same(f(logits, F.one_hot(labels, K).float(), lengths=lengths), f(logits, labels, lengths=lengths), logits)
    for wrong in (soft[:2], soft[:, :2], soft[0], F.one_hot(labels, K)):
        with pytest.raises(ShapeError, match=r"\[B, K\]"):
            f(logits, wrong)


def test_counts_need_one_class(logits, labels):
    for f in (loss.count_cross_entropy, loss.count_mse):
        with pytest.raises(ShapeError, match=r"labels \[B\]\."):
            f(logits, F.one_hot(labels, K).float())


@pytest.mark.parametrize("lamb", [0.0, 0.3, 1.0])
def test_tet_is_its_equation(logits, labels, lamb):
    expected = sum((1 - lamb) * F.cross_entropy(o, labels) + lamb * F.mse_loss(o, torch.ones_like(o)) for o in logits) / T
    assert_same(loss.tet(logits, labels, lamb=lamb), expected, logits)


def test_tet_of_equal_steps_is_cross_entropy_and_else_not_less(logits, labels):
    equal = logits[:1].expand(T, B, K)
    torch.testing.assert_close(loss.tet(equal, labels), F.cross_entropy(logits[0], labels))
    assert loss.cross_entropy(logits, labels) <= loss.tet(logits, labels)


@pytest.mark.parametrize("f", [loss.cross_entropy, loss.tet, lambda o, y, **how: loss.tet(o, y, lamb=0.3, **how)])
@pytest.mark.parametrize("padding", [0.0, 1e6, float("nan")])
def test_padding_counts_nothing(f, padding, logits, labels):
    valid = (torch.arange(T)[:, None] < LENGTHS)[..., None]
    padded = torch.where(valid, logits, padding)
    assert_same(f(padded, labels, lengths=LENGTHS), by_sample(f, logits, labels), logits)


def test_lengths_of_the_run_are_taken(labels):
    class Taught(nn.Module):
        def forward(self, x):
            return loss.tet(x, labels)

    x = torch.randn(T, B, K)
    assert torch.equal(neuro.run(Taught(), x, lengths=LENGTHS)[0], loss.tet(x, labels, lengths=LENGTHS))


def test_count_losses_are_their_formulas(labels):
    spikes = LIF(tau=2.0)(torch.randn(10, B, K) + 1).requires_grad_()
    counts = spikes.sum(0)
    assert_same(loss.count_cross_entropy(spikes, labels), F.cross_entropy(counts, labels), spikes)
    target = torch.full((B, K), 2.0)
    target[range(B), labels] = 8.0
    assert_same(loss.count_mse(spikes, labels), F.mse_loss(counts, target) / 10, spikes)


def test_firing_rate_penalty_is_its_formula():
    spikes = (torch.rand(T, B, 3) < torch.tensor([0.0, 0.5, 1.0])).float().requires_grad_()
    rate = spikes.mean((0, 1))
    expected = ((0.2 - rate).relu() + (rate - 0.6).relu()).square().mean()
    assert_same(loss.firing_rate_penalty(spikes, low=0.2, high=0.6), expected, spikes)
    assert loss.firing_rate_penalty(spikes) == 0
    both = loss.firing_rate_penalty([spikes, spikes[..., :1, None]], low=0.2)
    torch.testing.assert_close(both, (loss.firing_rate_penalty(spikes, low=0.2) + 0.04) / 2)


def test_firing_rate_penalty_leaves_padding_out():
    spikes = torch.ones(T, B, 3)
    spikes[(torch.arange(T)[:, None] >= LENGTHS)] = 0
    torch.testing.assert_close(loss.firing_rate_penalty(spikes, high=0.5, lengths=LENGTHS), torch.tensor(0.25))


@pytest.mark.parametrize(
    ("act", "error", "said"),
    [
        (lambda x, y: loss.tet(x[0], y), ShapeError, r"\[T, B, K\]"),
        (lambda x, y: loss.tet(x, y[:2]), ShapeError, r"labels \[2\]"),
        (lambda x, y: loss.tet(x.transpose(0, 1), y), ShapeError, "axis 0"),
        (lambda x, y: loss.tet(x, y, lamb=2), ParameterError, "lamb=2"),
        (lambda x, y: loss.cross_entropy(x[0, 0], y), ShapeError, r"\[B, K\]"),
        (lambda x, y: loss.cross_entropy(x[0], y, lengths=LENGTHS), ShapeError, "no time axis"),
        (lambda x, y: loss.cross_entropy(x, y, lengths=LENGTHS * 9), ShapeError, "T=6"),
        (lambda x, y: loss.count_mse(x, y, correct_rate=3), ParameterError, "correct_rate=3"),
        (lambda x, y: loss.firing_rate_penalty(x, low=0.9, high=0.1), ParameterError, "low=0.9"),
        (lambda x, y: loss.firing_rate_penalty([]), ShapeError, "no spikes"),
    ],
)
def test_misuse_is_said(act, error, said, logits, labels):
    with pytest.raises(error, match=said):
        act(logits, labels)

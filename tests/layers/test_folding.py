"""Time folded into the batch: Fold, Sequential and the checks of shape."""

import pytest
import torch
from torch import nn

import neuro
from neuro.errors import ShapeError
from neuro.layers import Conv1d, Conv2d, ExpectFrames, Flatten, Fold, Linear, Sequential, Tokens
from neuro.layers.folding import expect, fold, unfold
from neuro.neurons import LIF


def test_unfold_undoes_fold():
    x = torch.randn(3, 4, 2, 5)
    assert torch.equal(unfold(fold(x), x), x) and fold(x).shape == (12, 2, 5)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(2, 3, 3), (4, 3, 2, 6, 6)),
        (nn.BatchNorm2d(2).eval(), (4, 3, 2, 6, 6)),
        (nn.MaxPool2d(2), (4, 3, 2, 6, 6)),
        (nn.Flatten(), (4, 3, 2, 6, 6)),
        (nn.Conv1d(2, 3, 3), (4, 3, 2, 6)),
        (nn.GroupNorm(1, 2), (4, 3, 2, 6)),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "",
)
def test_fold_is_the_layer_at_every_step(layer, shape):
    x = torch.randn(shape)
    expected = torch.stack([layer(x_t) for x_t in x])
    torch.testing.assert_close(Fold(layer)(x), expected)
    sequential = Sequential(layer)
    assert isinstance(sequential[0], Fold)
    y, _ = neuro.run(sequential, x)
    torch.testing.assert_close(y, expected)


def test_sequential_wraps_only_what_misreads_time():
    net = Sequential(nn.Flatten(), nn.Linear(8, 4), nn.BatchNorm1d(4), nn.LayerNorm(4), LIF(), Conv1d(1, 1, 1), Flatten())
    assert [isinstance(layer, Fold) for layer in net] == [True, False, True, False, False, False, False]
    assert isinstance(Sequential(Fold(nn.Flatten()))[0].layer, nn.Flatten)


def test_samples_do_not_mix_when_channels_and_samples_are_equally_many():
    """torch's BatchNorm1d takes [T, N, C] with N == C for [N, C, L] and mixes samples."""
    x = torch.randn(5, 4, 4)
    net = Sequential(nn.BatchNorm1d(4)).eval()
    net[0].layer.running_mean.copy_(torch.arange(4.0))
    order = torch.tensor([2, 0, 3, 1])
    assert torch.equal(net(x[:, order]), net(x)[:, order])


def test_sequential_refuses_what_it_cannot_wrap():
    with pytest.raises(ShapeError, match="Sequential: 0.1 is a torch.nn.BatchNorm1d"):
        Sequential(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), LIF())
    Sequential(Sequential(nn.BatchNorm1d(4)), Fold(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))))


def test_fold_refuses_a_layer_that_changes_axis_0():
    with pytest.raises(ShapeError, match="changed axis 0"):
        Fold(nn.Flatten(0, 1))(torch.zeros(3, 4, 5))


def test_a_missing_time_axis_is_said_with_its_cure():
    with pytest.raises(ShapeError, match=r"\[T, B, C, H, W\](.|\n)*has 4 axes(.|\n)*encode.direct"):
        Conv2d(2, 3, 3)(torch.zeros(4, 2, 6, 6))
    with pytest.raises(ShapeError, match=r"C=5(.|\n)*expected C=2"):
        Conv2d(2, 3, 3)(torch.zeros(1, 4, 5, 6, 6))
    with pytest.raises(ShapeError, match=r"expected \[T, B, ..., 4\]"):
        Linear(4, 2)(torch.zeros(3, 4))
    with pytest.raises(ShapeError, match="expected H=8"):
        ExpectFrames(2, 8, 8)(torch.zeros(1, 1, 2, 6, 8))
    expect("x", torch.zeros(1, 2, 3), "TBN", N=3)


def test_tokens_go_row_by_row():
    x = torch.arange(12.0).view(1, 1, 2, 2, 3)
    assert Tokens()(x)[0, 0].tolist() == [[0, 6], [1, 7], [2, 8], [3, 9], [4, 10], [5, 11]]
    assert torch.equal(Flatten()(x), x.flatten(2))


def test_tokens_and_all_sums_with_them_lie_in_memory_as_products_take_them():
    x = torch.randn(3, 2, 4, 2, 5, requires_grad=True)
    y = Tokens()(x)
    assert y.is_contiguous() and (y + torch.zeros(3, 2, 10, 4)).is_contiguous()
    assert torch.equal(y[1, 0, 7], x[1, 0, :, 1, 2])
    (grad,) = torch.autograd.grad(y, x, Tokens()(x.detach()))
    assert torch.equal(grad, x), "the gradient is turned back"

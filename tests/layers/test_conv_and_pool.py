"""Convolution, pooling and dense layers act on every step as torch's do."""

import pytest
import torch
from torch import nn

from neuro import layers


@pytest.mark.parametrize(
    ("ours", "theirs", "shape"),
    [
        (layers.Conv2d(2, 4, 3, stride=2, padding=1), nn.Conv2d(2, 4, 3, stride=2, padding=1), (3, 2, 2, 7, 7)),
        (layers.Conv2d(4, 4, 3, groups=4, bias=False), nn.Conv2d(4, 4, 3, groups=4, bias=False), (3, 2, 4, 7, 7)),
        (layers.Conv1d(2, 4, 3, dilation=2), nn.Conv1d(2, 4, 3, dilation=2), (3, 2, 2, 9)),
        (layers.MaxPool2d(3, 2, 1), nn.MaxPool2d(3, 2, 1), (3, 2, 2, 7, 7)),
        (layers.AvgPool2d(2), nn.AvgPool2d(2), (3, 2, 2, 8, 6)),
        (layers.Linear(5, 3), nn.Linear(5, 3), (3, 2, 4, 5)),
    ],
    ids=lambda v: repr(v) if isinstance(v, nn.Module) else "",
)
def test_equals_the_torch_layer_at_every_step(ours, theirs, shape):
    theirs.load_state_dict(ours.state_dict())
    a, b = (torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    y, expected = ours(a), torch.stack([theirs(step) for step in b])
    torch.testing.assert_close(y, expected)
    y.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-5)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-4)


def test_pooled_spikes_say_whether_any_fired():
    x = torch.randint(0, 2, (4, 2, 3, 6, 6)).float()
    y = layers.MaxPool2d(2)(x)
    assert torch.equal(y, (layers.AvgPool2d(2)(x) > 0).float())

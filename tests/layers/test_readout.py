"""Readouts: one answer per sample, the same in chunks as in one run."""

import pytest
import torch

import neuro
from neuro.errors import ShapeError
from neuro.layers import LastStep, MeanOverTime, MeanOverTokens, SumOverTime

FORMULA = {MeanOverTime: lambda x: x.mean(0), SumOverTime: lambda x: x.sum(0), LastStep: lambda x: x[-1]}
EVERY = pytest.mark.parametrize("kind", FORMULA)


@EVERY
@pytest.mark.parametrize("shape", [(8, 3), (8, 3, 5), (8, 3, 2, 4)])
def test_is_its_formula(kind, shape):
    x = torch.randn(shape)
    torch.testing.assert_close(kind()(x), FORMULA[kind](x))


@EVERY
def test_chunks_end_with_the_answer_of_the_whole(kind):
    x, state = torch.randint(-8, 8, (8, 3, 5)).float(), None
    for chunk in x.split([1, 4, 3]):
        y, state = neuro.run(kind(), chunk, state)
    assert torch.equal(y, FORMULA[kind](x))
    assert all(value.shape[0] == 3 for value in state.values())


@EVERY
def test_only_steps_that_count(kind):
    x, lengths = torch.randint(-8, 8, (8, 3, 5)).float(), torch.tensor([8, 1, 4])
    padded = torch.where((torch.arange(8)[:, None] < lengths)[..., None], x, torch.nan).requires_grad_()
    y, _ = neuro.run(kind(), padded, lengths=lengths)
    assert torch.equal(y, torch.stack([FORMULA[kind](x[:n, b]) for b, n in enumerate(lengths)]))
    (gradient,) = torch.autograd.grad(y.sum(), padded)
    assert gradient.isfinite().all() and not gradient[1:, 1].any() and gradient[0, 1].all()


@EVERY
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_sums_are_kept_wide(kind, dtype):
    x = torch.ones(400, 1, 1, dtype=dtype)
    y, state = neuro.run(kind(), x)
    assert y.dtype == dtype and y.item() == FORMULA[kind](x.double()).item()


def test_mean_over_tokens():
    x = torch.randn(3, 2, 7, 4)
    assert torch.equal(MeanOverTokens()(x), x.mean(2))
    with pytest.raises(ShapeError, match=r"\[T, B, N, C\]"):
        MeanOverTokens()(x[0])


@EVERY
def test_no_sequence_is_refused(kind):
    with pytest.raises(ShapeError, match="not a sequence"):
        kind()(torch.zeros(0, 3))

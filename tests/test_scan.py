"""`neuro.scan`: the loop that defines every neuron."""

import functools
from typing import NamedTuple

import pytest
import torch

import neuro
from neuro.errors import ParameterError, ShapeError
from neuro.neurons import LIFParams, LIFState, lif_step
from neuro.reset import subtract
from neuro.surrogate import ATan

HOW = {"spike": ATan(), "reset": subtract}


class Sum(NamedTuple):
    total: torch.Tensor


def add(x, state, p):
    total = p * state.total + x
    return total, Sum(total)


def rows(t=7, b=3, n=5):
    return torch.randn(t, b, n, dtype=torch.float64), Sum(torch.randn(b, n, dtype=torch.float64))


def test_is_the_recurrence_written_out():
    x, state = rows()
    y, after = neuro.scan(add, x, state, 0.5)
    powers = 0.5 ** torch.arange(7, -1, -1, dtype=torch.float64)
    expected = (powers[:, None, None] * torch.cat([state.total[None], x])).sum(0)
    torch.testing.assert_close(after.total, expected)
    assert torch.equal(y[-1], after.total) and y.shape == x.shape


@pytest.mark.parametrize("cut", [1, 3, 6])
def test_scan_of_the_whole_is_scan_of_the_parts(cut):
    x, state = rows()
    y, after = neuro.scan(lif_step, x, LIFState(state.total), LIFParams(0.9, 1.0, 1.0), **HOW)
    first, between = neuro.scan(lif_step, x[:cut], LIFState(state.total), LIFParams(0.9, 1.0, 1.0), **HOW)
    second, last = neuro.scan(lif_step, x[cut:], between, LIFParams(0.9, 1.0, 1.0), **HOW)
    assert torch.equal(torch.cat([first, second]), y) and torch.equal(last.v, after.v)


def test_gradients_reach_input_state_and_params():
    x, state = rows(4, 2, 3)
    p = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, s, p: neuro.scan(add, x, Sum(s), p)[0], (x.requires_grad_(), state.total.requires_grad_(), p))


def test_a_finished_sample_holds_still():
    x, state = rows()
    lengths = torch.tensor([7, 2, 4])
    y, after = neuro.scan(add, x, state, 0.5, lengths=lengths)
    for b, n in enumerate(lengths):
        alone, end = neuro.scan(add, x[:n, b : b + 1], Sum(state.total[b : b + 1]), 0.5)
        assert torch.equal(y[:n, b : b + 1], alone) and torch.equal(after.total[b : b + 1], end.total)
        assert not y[n:, b].any()


def test_padding_may_hold_anything():
    x, state = rows()
    x[2:, 1] = torch.nan
    y, after = neuro.scan(add, x, state, 0.5, lengths=torch.tensor([7, 2, 7]))
    assert y.isfinite().all() and after.total.isfinite().all()


def test_a_plain_tuple_is_a_state_too():
    y, after = neuro.scan(lambda x, s, p: (s[0], (x,)), torch.eye(3)[:, None], (torch.zeros(1, 3),), None, lengths=torch.tensor([2]))
    assert isinstance(after, tuple) and after[0].tolist() == [[0, 1, 0]] and y.shape == (3, 1, 3)


def make_capturing(what):
    def step(x, state, p):
        return x * (what if isinstance(what, torch.Tensor) else 1), state

    return step


def with_default(x, state, p, w=torch.ones(2)):  # noqa: B008
    return x * w, state


@pytest.mark.parametrize(
    "step",
    [
        make_capturing(torch.ones(2, requires_grad=True)),
        make_capturing(torch.nn.Linear(2, 2)),
        functools.partial(lambda w, x, state, p: (x * w, state), torch.ones(2)),
        functools.partial(lambda x, state, p, w: (x * w, state), w=torch.ones(2)),
        with_default,
    ],
    ids=["closure", "module", "partial", "keyword", "default"],
)
def test_captured_tensors_are_refused(step):
    with pytest.raises(ParameterError, match="captured(.|\n)*params"):
        neuro.scan(step, torch.ones(3, 1, 2), (torch.zeros(1, 2),), None)


def test_no_time_step_is_refused():
    with pytest.raises(ShapeError, match="no time step"):
        neuro.scan(add, torch.ones(0, 1, 2), Sum(torch.zeros(1, 2)), 0.5)

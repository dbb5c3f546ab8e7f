"""keeper: whatever a module keeps in itself, the second call from the same state gives what the first gave."""

from typing import NamedTuple

import pytest
import torch
from torch import nn

from neuro.restoring import keeper


class Pair(NamedTuple):
    v: torch.Tensor
    u: torch.Tensor


class Running(nn.Module):
    """A running sum kept in one of many ways."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        if how.startswith("buffer"):
            self.register_buffer("kept", torch.ones(3))
        elif how == "dict":
            self.kept = {"v": 1.0}
        else:
            self.kept = {"tensor": torch.ones(3), "none": None, "list": [torch.ones(3)], "pair": Pair(torch.ones(3), torch.ones(3))}.get(how)

    def forward(self, x):
        before = {"dict": lambda: self.kept["v"], "list": lambda: self.kept[0], "pair": lambda: self.kept.v, "none": lambda: 1.0 if self.kept is None else self.kept,
                  "late": lambda: getattr(self, "later", 1.0)}.get(self.how, lambda: self.kept)()  # fmt: skip
        after = before + x
        if self.how == "buffer in place":
            self.kept.add_(x)
        elif self.how == "pair":
            self.kept.v.add_(x)
        elif self.how in ("dict", "list"):
            self.kept["v" if self.how == "dict" else 0] = after
        else:
            setattr(self, "later" if self.how == "late" else "kept", after)
        return after


HOW = ("buffer in place", "buffer replaced", "dict", "list", "tensor", "none", "pair", "late")


@pytest.mark.parametrize("how", HOW)
def test_a_module_starts_again_as_it_was(how):
    net, x = nn.Sequential(Running(how)), torch.ones(3)
    restore = keeper(net)
    results = []
    for _ in range(3):
        results.append(net(x).clone())
        changed = restore()
        assert [c is net[0]._buffers.get("kept") for c in changed] == ([True] if how.startswith("buffer") else [])
    assert [r.tolist() for r in results] == [[2.0] * 3] * 3
    assert not torch.equal(Running(how)(x), (lambda m: (m(x), m(x))[1])(Running(how)))  # without it, the second call differs


def test_a_buffer_written_with_its_own_value_is_named():
    net = nn.BatchNorm1d(3, affine=False)
    restore = keeper(net)
    net.running_mean.copy_(net.running_mean.clone())
    assert [c is net.running_mean for c in restore()] == [True] and restore() == []


def test_parameters_and_plain_values_stay_as_they_are_now():
    net = nn.Linear(2, 2)
    net.note = "before"
    restore = keeper(net)
    weight = net.weight
    with torch.no_grad():
        net.weight.add_(1)
    net.note, after = "after", net.weight.detach().clone()
    assert restore() == [] and net.note == "after" and net.weight is weight and torch.equal(net.weight, after)

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


def test_what_is_shared_stays_shared():
    """A tensor that two modules hold, and a view of a parameter, are the same objects afterwards."""
    a, b = nn.Linear(3, 3), nn.Linear(3, 3)
    a.kept = b.kept = torch.ones(3)
    a.view = a.weight.detach()
    a.list, shared = [a.kept], a.kept
    restore = keeper(nn.ModuleList([a, b]))
    a.kept.add_(1)
    b.kept = torch.zeros(3)
    a.list.append(torch.ones(1))
    restore()
    assert a.kept is shared and b.kept is shared and shared.tolist() == [1.0] * 3 and len(a.list) == 1 and a.list[0] is shared
    with torch.no_grad():
        a.weight.fill_(7.0)
    assert (a.view == 7).all()


def test_shapes_and_values_that_are_no_numbers_come_back():
    net = nn.Module()
    net.register_buffer("h", torch.tensor([float("nan"), 1.0]))
    net.register_buffer("none", None)
    restore = keeper(net)
    assert restore() == []  # nan is nan
    net.h.resize_(5).zero_()
    net.none, net.late = torch.ones(2), nn.Parameter(torch.ones(1))
    assert len(restore()) == 1 and net.h.shape == (2,) and net.h[1] == 1 and net.h[0].isnan() and net.none is None
    assert list(dict(net.named_parameters())) == ["late"]


def test_what_was_added_to_a_dict_or_list_is_gone():
    net = nn.Module()
    net.seen, net.all = {}, []
    mapping, restore = net.seen, keeper(net)
    net.seen["v"] = torch.ones(1)
    net.all.append(torch.ones(1))
    restore()
    assert net.seen == {} and net.seen is mapping and net.all == []

"""Batches: every sample once, the same on any number of ranks, from any position."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro.datasets.sampling import EpochBatches
from neuro.errors import ParameterError, StateError


@given(st.integers(1, 200), st.integers(1, 17), st.integers(1, 5), st.booleans(), st.integers(0, 3))
@settings(deadline=None, max_examples=200)
def test_every_sample_once_and_as_many_batches_on_each_rank(n, size, world, shuffle, epoch):
    n = max(n, world)
    ranks = [EpochBatches(n, size, shuffle=shuffle, rank=rank, world=world) for rank in range(world)]
    for sampler in ranks:
        sampler.set_epoch(epoch)
    batches = [list(sampler) for sampler in ranks]
    assert {len(b) for b in batches} == {len(s) for s in ranks} and len({len(b) for b in batches}) == 1
    assert all(batch for rank in batches for batch in rank)
    assert sorted(i for rank in batches for batch in rank for _, i in batch) == list(range(n))
    assert {e for rank in batches for batch in rank for e, _ in batch} == {epoch}
    assert all(len(batch) <= size + 1 for rank in batches for batch in rank)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 30))
@settings(deadline=None, max_examples=60)
def test_dropping_the_rest_leaves_whole_batches(size, world, extra):
    n = size * world + extra
    batches = [b for rank in range(world) for b in EpochBatches(n, size, drop_last=True, rank=rank, world=world)]
    indices = [i for batch in batches for _, i in batch]
    assert {len(b) for b in batches} == {size} and len(set(indices)) == len(indices) == n // (
        size * world
    ) * size * world


def test_a_global_batch_does_not_depend_on_the_number_of_ranks():
    one = [{i for _, i in batch} for batch in EpochBatches(50, 12)]
    three = zip(*(EpochBatches(50, 4, rank=rank, world=3) for rank in range(3)), strict=True)
    whole = [{i for batch in parts for _, i in batch} for parts in three]
    assert whole[:3] == one[:3] and whole[3] == one[3] | (one[4] if len(one) > len(whole) else set())


def test_epochs_and_seeds_differ_and_repeat():
    orders = {}
    for seed in (0, 1):
        for epoch in (0, 1):
            sampler = EpochBatches(40, 8, seed=seed)
            sampler.set_epoch(epoch)
            orders[seed, epoch] = sampler.order().tolist()
            assert sampler.order().tolist() == orders[seed, epoch]
    assert len({tuple(order) for order in orders.values()}) == 4
    assert EpochBatches(40, 8, shuffle=False).order().tolist() == list(range(40))


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 100), st.integers(0, 3))
@settings(deadline=None, max_examples=100)
def test_going_on_gives_what_was_left(n, size, done, epoch):
    first = EpochBatches(n, size, seed=3)
    first.set_epoch(epoch)
    whole = list(first)
    done = min(done, len(whole))
    again = EpochBatches(n, size, seed=3)
    again.load_state_dict(first.state_dict(next_batch=done))
    assert len(again) == len(whole)
    if done == len(whole):
        assert (again.epoch, again.start_batch) == (epoch + 1, 0)
    else:
        again.set_epoch(epoch)  # the same epoch: the position stays
        assert list(again) == whole[done:]
        again.set_epoch(epoch + 1)
        assert len(list(again)) == len(whole)


def test_a_foreign_state_is_refused():
    state = EpochBatches(40, 8).state_dict()
    for other in (EpochBatches(41, 8), EpochBatches(40, 7), EpochBatches(40, 8, seed=1), EpochBatches(40, 8, world=2)):
        with pytest.raises(StateError, match="saved .*, here"):
            other.load_state_dict(state)
    with pytest.raises(StateError, match="version"):
        EpochBatches(40, 8).load_state_dict({**state, "version": 2})
    with pytest.raises(StateError, match="no such position"):
        EpochBatches(40, 8).load_state_dict({**state, "next_batch": 6})


def test_sizes_that_cannot_work_are_refused():
    for n, size, how in (
        (0, 1, {}),
        (5, 0, {}),
        (2, 1, {"world": 3}),
        (5, 1, {"rank": 1}),
        (3, 4, {"drop_last": True}),
    ):
        with pytest.raises(ParameterError):
            EpochBatches(n, size, **how)
    assert np.concatenate([*EpochBatches(5, 3)]).shape == (5, 2)

"""The threads that kernels run on: every item once, whatever the split, also after a fork and from several threads."""

import os
import threading

import pytest
import torch

from neuro.kernels.pool import spread


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def times_done(items, cost=1.0):
    done = [0] * items

    def work(low, high):
        for i in range(low, high):
            done[i] += 1

    spread(work, items, cost=cost)
    return done


@pytest.mark.parametrize("items", [0, 1, 2, 3, 17, 1000])
def test_every_item_is_done_once(two_threads, items):
    assert times_done(items) == [1] * items


def test_work_is_shared_only_where_it_pays(two_threads):
    def names(cost):
        seen = set()
        spread(lambda low, high: seen.add(threading.current_thread().name), 100, cost=cost)
        return seen

    assert names(1e-8) == {threading.current_thread().name}
    assert len(names(1.0)) == 2


def test_a_failure_reaches_the_caller_after_all_ranges_ended(two_threads):
    ended = []

    def work(low, high):
        if low:
            raise ZeroDivisionError(f"range from {low}")
        ended.append(high)

    with pytest.raises(ZeroDivisionError, match="range from 5"):
        spread(work, 10, cost=1.0)
    assert ended == [5]


def test_three_threads_at_once(two_threads):
    results = {}
    threads = [threading.Thread(target=lambda k=k: results.update({k: [times_done(50) for _ in range(50)]})) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == {k: [[1] * 50] * 50 for k in range(3)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_makes_its_own_threads(two_threads):
    times_done(10)
    child = os.fork()
    if child == 0:
        os._exit(0 if times_done(10) == [1] * 10 else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0

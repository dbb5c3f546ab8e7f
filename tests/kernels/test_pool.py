"""The threads that kernels run on: every item once, whatever the split, also after a fork and from several threads."""

import gc
import os
import queue
import signal
import threading
import time
import weakref
from contextlib import nullcontext

import pytest
import torch
from waiting import wait_as

from neuro.kernels import openmp, pool, spike_conv
from neuro.kernels.choosing import deterministic
from neuro.kernels.pool import share, spread
from neuro.neurons import LIF


@pytest.fixture(autouse=True)
def found_anew(monkeypatch):
    """Whatever else runs on the machine."""
    monkeypatch.setattr(pool, "LATE", 1e9)
    monkeypatch.setattr(pool, "_spared_until", 0.0)
    yield
    openmp._found.cache_clear()


@pytest.fixture(params=["torch's threads", "threads of ours"])
def two_threads(request, monkeypatch):
    wait_as("PASSIVE" if request.param == "threads of ours" else None, monkeypatch)
    if request.param == "torch's threads" and openmp.team() is None:
        pytest.skip("torch has no OpenMP library with GNU's entry point here")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield request.param
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


def threads_used(items, cost):
    """Waits, where there is more than one range, until two threads are at work."""
    seen, both = set(), threading.Barrier(2)

    def work(low, high):
        if (low, high) != (0, items):
            both.wait(10)
        seen.add(threading.get_ident())

    spread(work, items, cost=cost)
    return seen


def test_work_is_shared_only_where_it_pays(two_threads):
    here = threading.get_ident()
    assert threads_used(100, 1e-8) == {here}
    assert threads_used(1, 1.0) == {here}
    enough = pool.WORTH_A_THREAD if two_threads == "torch's threads" else pool.WORTH_WAKING
    assert threads_used(2, 0.9 * enough) == {here}
    both = threads_used(2, enough)
    assert len(both) == 2 and here in both


def test_a_large_team_is_not_called_for_little(two_threads):
    torch.set_num_threads(40)
    little, enough = 39 * pool.A_CALL, 41 * pool.A_CALL
    seen = []
    spread(lambda low, high: seen.append((low, high)), 2, cost=little / 2)
    spread(lambda low, high: seen.append((low, high)), 2, cost=enough / 2)
    halves = [(0, 1), (1, 2)]
    assert sorted(seen) == sorted([(0, 2), *halves] if two_threads == "torch's threads" else halves * 2)


@pytest.mark.parametrize("late", [True, False])
def test_threads_that_come_late_are_spared_for_a_while(monkeypatch, two_threads, late):
    calls = []

    def team(task, threads):
        calls.append(threads)
        task()
        if late:
            time.sleep(0.02)

    monkeypatch.setattr(openmp, "team", lambda: team)
    monkeypatch.setattr(pool, "LATE", 0.01)
    assert times_done(8) == times_done(8) == [1] * 8
    assert len(calls) == (1 if late else 2)
    monkeypatch.setattr(time, "perf_counter", lambda now=time.perf_counter: now() + 1.1 * pool.SPARED)
    assert times_done(8) == [1] * 8
    assert len(calls) == (2 if late else 3), "tried again"


def test_work_that_is_long_is_waited_for_without_blame(monkeypatch, two_threads):
    calls = []

    def team(task, threads):
        calls.append(threads)
        task()
        time.sleep(0.02)

    monkeypatch.setattr(openmp, "team", lambda: team)
    monkeypatch.setattr(pool, "LATE", 0.001)
    for _ in range(2):
        spread(lambda low, high: time.sleep(0.01), 2, cost=1.0)
    assert len(calls) == 2


def test_a_thread_that_is_held_up_leaves_ranges_to_the_other(two_threads):
    many, free, seen = 2 * pool.MOST_RANGES, threading.Event(), []

    def work(low, high):
        seen.append((low, high))
        if low == 0:
            assert free.wait(10), "the other thread does the rest meanwhile"
        elif len(seen) == many:
            free.set()

    spread(work, many, cost=1.0)
    assert sorted(seen) == [(k, k + 1) for k in range(many)]


def test_a_thread_of_ours_that_comes_too_late_is_not_waited_for(monkeypatch):
    """All of them are held up in another call: this one is done without them, and what it used is let go."""
    wait_as("PASSIVE", monkeypatch)
    monkeypatch.setattr(pool, "_offers", queue.SimpleQueue())
    monkeypatch.setattr(pool, "_size", 0)
    torch.set_num_threads(2)
    free, held_up = threading.Event(), threading.Barrier(3)

    def waits(low, high):
        held_up.wait(10)
        assert free.wait(10)

    caller = threading.Thread(target=lambda: spread(waits, 2, cost=1.0))
    caller.start()
    held_up.wait(10)
    used = torch.zeros(1)
    gone = weakref.ref(used)
    spread(lambda low, high, used=used: None, 8, cost=1.0)
    assert times_done(8) == [1] * 8 and caller.is_alive()
    del used
    assert gone() is None
    free.set()
    caller.join(10)
    assert times_done(8) == [1] * 8


def test_ranges_are_few_where_they_are_short(two_threads):
    seen = []
    spread(lambda low, high: seen.append((low, high)), 1000, cost=2 * pool.WORTH_WAKING / 1000)
    assert sorted(seen) == [(0, 500), (500, 1000)]


@pytest.mark.parametrize("kind", [ZeroDivisionError, IndexError, KeyboardInterrupt, SystemExit])
def test_a_failure_reaches_the_caller_after_all_ranges_ended(two_threads, kind):
    began, ended, both = [], [], threading.Barrier(2)

    def work(low, high):
        began.append(low)
        if low < 2:
            both.wait(10)  # the two first ranges run side by side
        if low == 1:
            raise kind("range from 1")
        if low == 0:
            threading.Event().wait(0.05)
        ended.append(low)

    with pytest.raises(kind, match="range from 1"):
        spread(work, 8, cost=1.0)
    assert (sorted(began), ended) == ([0, 1], [0]), "what had begun ended, and nothing began after the failure"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_reaches_the_caller_and_the_next_call_works(two_threads):
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals go to the main thread")

    def work(low, high):
        if low == 0:
            os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(0.01)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores interrupts, and its children do
    try:
        with pytest.raises(KeyboardInterrupt):
            spread(work, 8, cost=1.0)
    finally:
        signal.signal(signal.SIGINT, before)
    assert times_done(8) == [1] * 8


def test_an_interrupt_that_ctypes_lost_is_raised_all_the_same(monkeypatch, two_threads):
    def loses(task, threads):  # as where the signal comes before the first line of the task in the caller's thread
        other = threading.Thread(target=task)
        other.start()
        other.join()

    monkeypatch.setattr(openmp, "team", lambda: loses)
    with pytest.raises(KeyboardInterrupt):
        times_done(10)


def test_a_call_within_a_call(two_threads):
    done = [[0] * 40 for _ in range(8)]

    def outer(low, high):
        for k in range(low, high):

            def inner(first, last, k=k):
                for i in range(first, last):
                    done[k][i] += 1

            spread(inner, 40, cost=1.0)

    spread(outer, 8, cost=1.0)
    assert done == [[1] * 40] * 8


def test_kernels_give_the_same_on_either_threads(two_threads, monkeypatch):
    """Of kernels that Numba compiled, entered by threads that Python did not make."""
    monkeypatch.setattr(pool, "WORTH_A_THREAD", 1e-9)
    monkeypatch.setattr(pool, "WORTH_WAKING", 1e-9)
    torch.manual_seed(0)
    x = torch.rand(16, 64, 500).requires_grad_()
    conv, image = torch.randn(32, 16, 3, 3), (torch.rand(64, 16, 16, 16) < 0.2).float()

    def found():
        x.grad = None
        y = LIF()(x)
        y.square().sum().backward()
        with deterministic("events"):
            return [y.detach(), x.grad, spike_conv.spike_conv2d(image, conv, padding=(1, 1))]

    several = found()
    torch.set_num_threads(1)
    for a, b in zip(several, found(), strict=True):
        assert torch.equal(a, b)


def test_the_number_of_threads_changes_between_calls(two_threads):
    for threads in (2, 5, 1, 3, 2):
        torch.set_num_threads(threads)
        assert times_done(60) == [1] * 60
        assert torch.ones(200_000).sum().item() == 200_000, "torch's own operations between ours"


def test_three_threads_at_once(two_threads):
    results = {}
    threads = [threading.Thread(target=lambda k=k: results.update({k: [times_done(50) for _ in range(50)]})) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == {k: [[1] * 50] * 50 for k in range(3)}


@pytest.mark.parametrize("fails", [False, True])
def test_what_the_work_used_is_let_go_at_once(two_threads, fails):
    held = torch.zeros(1)
    gone = weakref.ref(held)

    def work(low, high, held=held):
        if fails:
            raise ZeroDivisionError

    gc.disable()  # else a cycle would be found by chance
    try:
        with pytest.raises(ZeroDivisionError) if fails else nullcontext():
            spread(work, 8, cost=1.0)
        del work, held
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_makes_its_own_threads(two_threads):
    times_done(10)
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # a child that waits for threads it lacks ends by this
        os._exit(0 if openmp.team() is None and times_done(10) == [1] * 10 else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_task_that_shares_its_own_work_is_called_by_every_thread_that_pays(two_threads):
    here = threading.get_ident()

    def callers(items, cost):
        seen, both = [], threading.Barrier(2)

        def task():
            seen.append(threading.get_ident())
            if items > 1 and cost == 1.0:
                both.wait(10)

        share(task, items, cost=cost)
        return seen

    assert callers(100, 1e-8) == callers(1, 1.0) == callers(0, 1.0) == [here]
    both = callers(2, 1.0)
    assert len(both) == len(set(both)) == 2 and here in both


@pytest.mark.parametrize("in_caller", [True, False])
def test_a_task_that_fails_is_waited_for_and_raises(two_threads, in_caller):
    caller, both, ended = threading.get_ident(), threading.Barrier(2), []

    def task():
        both.wait(10)
        if (threading.get_ident() == caller) == in_caller:
            raise MemoryError("no scratch")
        threading.Event().wait(0.05)
        ended.append(True)

    with pytest.raises(MemoryError, match="no scratch"):
        share(task, 8, cost=1.0)
    assert ended, "the other thread did what was left"


@pytest.mark.parametrize(("items", "grain", "ranges"), [(1000, 1, 16), (1000, 100, 10), (1000, 500, 2), (1000, 10_000, 2), (3, 1, 2), (1, 5, 1)])
def test_a_range_is_not_much_smaller_than_its_grain(items, grain, ranges, monkeypatch):
    """What a range makes for all its items is made rarely; every thread still gets one."""
    torch.set_num_threads(2)
    seen = []
    spread(lambda low, high: seen.append((low, high)), items, cost=100 * pool.WORTH_A_RANGE / items, grain=grain)
    assert len(seen) == ranges and sorted(i for low, high in seen for i in range(low, high)) == list(range(items))

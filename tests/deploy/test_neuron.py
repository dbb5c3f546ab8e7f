"""The LIF of the chip: its definition, its kernel, and what Lava 0.10.0 recorded."""

import numpy as np
import pytest

from neuro.deploy import kernels
from neuro.deploy.reference import TOP, decay, lif_step


def run_kernel(a, du=4095, dv=0, vth=100, bias=0):
    """(spikes, membranes) of the kernel for input a [T, N]."""
    a = np.ascontiguousarray(a, np.int32)
    spikes, membranes = np.zeros_like(a), np.zeros_like(a)
    bias = np.ascontiguousarray(np.broadcast_to(bias, a.shape[1:]), np.int32)
    fired, equal = kernels.lif(a, spikes, membranes, bias, du, dv, vth, True)
    assert fired == spikes.sum()
    return spikes, membranes, equal


def run_definition(a, du=4095, dv=0, vth=100, bias=0):
    u = v = np.zeros(a.shape[1], np.int64)
    spikes, membranes, equal = [], [], 0
    for x in a.astype(np.int64):
        s, u, v, full = lif_step(u, v, x, du, dv, vth, bias)
        spikes.append(s), membranes.append(v)
        equal += int((full == vth << 6).sum())
    return np.array(spikes), np.array(membranes), equal


@pytest.mark.parametrize("seed", range(30))
def test_kernel_is_the_definition(seed):
    rng = np.random.default_rng(seed)
    du, dv = int(rng.choice([-1, 0, 4095, rng.integers(1, 4095)])), int(rng.integers(0, 4097))
    most = 131071 if du == 4095 else 131071 * (du + 1) // 4096 if du >= 0 else 131071 // 60
    a = rng.integers(-most, most + 1, (60, 37)) if most else np.zeros((60, 37), int)
    bias = rng.integers(-4095, 4096, 37) << rng.integers(0, 8)
    case = dict(du=du, dv=dv, vth=int(rng.integers(1, 131072)), bias=bias)
    for found, expected in zip(run_kernel(a, **case), run_definition(a, **case), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_decay_rounds_toward_zero():
    x = np.array([-3, -1, 0, 1, 3, 4095, -4095])
    np.testing.assert_array_equal(decay(x, 2048), [-1, 0, 0, 0, 1, 2047, -2047])
    np.testing.assert_array_equal(decay(x, 4096), 0 * x)
    np.testing.assert_array_equal(decay(x, 0), x)


def test_constant_input_follows_the_closed_form():
    n = np.arange(1, 41)
    ones = np.ones((40, 3), int)
    np.testing.assert_array_equal(run_kernel(ones, du=-1, vth=131071)[1][:, 0], 64 * n * (n + 1) // 2)
    np.testing.assert_array_equal(run_kernel(ones, du=4095, vth=131071)[1][:, 0], 64 * n)


def test_threshold_is_strict_and_equality_is_counted():
    spikes, membranes, equal = run_kernel(np.array([[100, 100, 101]]), vth=100, bias=np.array([0, 1, 0]))
    assert spikes.tolist() == [[0, 1, 1]] and membranes.tolist() == [[6400, 0, 0]] and equal == 1


def test_spike_resets_v_and_leaves_u():
    a, zero = np.array([200]), np.array([0])
    spikes, u, v, _ = lif_step(zero, zero, a, 2047, 0, 100, 0)
    assert spikes[0] and v[0] == 0 and u[0] == 200 << 6
    assert lif_step(u, v, zero, 2047, 0, 100, 0)[1][0] == 100 << 6


def test_bias_is_not_shifted_with_the_input():
    assert run_kernel(np.zeros((1, 2)), vth=1, bias=np.array([64, 65]))[0].tolist() == [[0, 1]]


def test_current_wraps_once_and_the_membrane_saturates():
    zero = np.array([0])
    assert lif_step(zero, zero, np.array([1040384]), 4095, 0, 131071, 0)[1][0] == (1040384 << 6) - 2 * TOP == 49807360
    assert run_kernel(np.full((2, 1), 100000), vth=131071)[1].max() <= TOP - 1
    assert run_kernel(np.full((3, 1), -131071), vth=131071)[1].min() == -(TOP - 1)


def test_kernel_wraps_where_the_definition_does():
    a = np.array([[131071, 131072, 131073, -131071, -131072, -131073]])
    for found, expected in zip(run_kernel(a, vth=131071), run_definition(a, vth=131071), strict=True):
        np.testing.assert_array_equal(found, expected)

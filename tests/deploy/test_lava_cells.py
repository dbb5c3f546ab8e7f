"""Neurons, pools and delays that Lava lacks, run by processes of ours in Lava: equal to the twin, and to Lava's own where it has them."""

import subprocess

import numpy as np
import pytest

from neuro.deploy.examples import even, events, random_cells
from neuro.deploy.lava import compare, run_lava
from neuro.deploy.lava_script import write_script
from neuro.deploy.network import (
    LIF,
    Cell,
    Conv,
    Delay,
    Dense,
    Flatten,
    Input,
    IntegerNetwork,
    Readout,
    RecurrentCell,
    SumPool,
)
from neuro.deploy.twin import run_twin


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_twin_equals_lava_on_random_cells(lava, seed):
    """All resets, levels, adaptation, constants per channel, feedback, sums of windows and currents, delays; three recordings in a row."""
    rng = np.random.default_rng(seed)
    network = random_cells(rng)
    inputs = events(rng, network, 12, 3, 0.3)
    twin = run_twin(network, inputs, record=True)
    agreement = compare(twin, run_lava(network, inputs, time_limit=60))
    assert agreement.exact, str(agreement)
    assert twin.spikes["a.cell"].any() and twin.spikes["b.cell"].any()


@pytest.fixture(scope="module")
def twofold(lava):
    """Everything twice in one run: by a process of ours, and by Lava's own."""
    rng = np.random.default_rng(5)
    w, w2 = even(rng, (6, 4)), even(rng, (5, 6))
    bias = rng.integers(-300, 300, 6)
    pool = np.full((2, 1, 2, 3), 2)
    nodes = [
        Input("map", (2, 5, 6), 3), Flatten("all", "map"), Dense("x", "all", even(rng, (4, 60), 20)), LIF("in", "x", 3000, 60),
        Dense("a", "in", w), LIF("plain.lava", "a", 1000, 90, bias, 2), Cell("plain.ours", "a", 1000, 90, bias, 2),
        LIF("current.lava", "a", 700, 150, du=3000), Cell("current.ours", "a", 700, 150, du=3000),
        Conv("p.conv", "map", pool, (2, 1), (1, 1), groups=2), LIF("pool.lava", "p.conv", 1000, 30),
        SumPool("p", "map", (2, 3), (2, 1), (1, 1)), Conv("p.two", "p", np.full((2, 1, 1, 1), 2), groups=2), LIF("pool.ours", "p.two", 1000, 30),
        Delay("d", "in", 1), Dense("d.a", "d", w), LIF("delay.ours", "d.a", 1000, 90), Dense("e.a", "in", w), LIF("e", "e.a", 1000, 90),
        Dense("head", "plain.ours", w2), Readout("out", "head", np.arange(5)),
    ]
    network = IntegerNetwork(nodes)
    x = events(rng, network, 15, 2, 0.3)
    return network, x, run_lava(network, x, unroll=10**9)


@pytest.mark.parametrize("what", ["plain", "current", "pool"])
def test_our_process_equals_that_of_lava(twofold, what):
    """A Cell that only does what Lava's LIF does, and a sum of windows against a convolution of Lava's, are equal to them."""
    _, _, found = twofold
    assert 0 < found.spikes[f"{what}.lava"].sum() < found.spikes[f"{what}.lava"].size
    np.testing.assert_array_equal(found.spikes[f"{what}.ours"], found.spikes[f"{what}.lava"])
    np.testing.assert_array_equal(found.membranes[f"{what}.ours"], found.membranes[f"{what}.lava"])


def test_a_delay_is_one_step_later_and_forgets_the_last_recording(twofold):
    """`e` is the same layer without the delay; without bias it stays at rest until its first spike arrives."""
    _, _, found = twofold
    assert found.spikes["e"].any()
    np.testing.assert_array_equal(found.membranes["delay.ours"][1:], found.membranes["e"][:-1])
    assert not found.membranes["delay.ours"][0].any()


def test_feedback_comes_one_step_later_and_soft_reset_keeps_the_rest(lava):
    """By hand: v = 64 * 10 a step, vth 3 (192); what is above it stays. With feedback -8 from the second step on."""
    nodes = [Input("x", (1,)), Dense("a", "x", np.array([[10]]))]
    network = IntegerNetwork([*nodes, Cell("soft", "a", 0, 3, reset="subtract"), RecurrentCell("loop", "a", 4096, 3, weight=np.array([[-8]])),
                              Dense("head", "loop", np.array([[2]])), Readout("out", "head", np.array([0]))])
    found = run_lava(network, np.array([1, 1, 1, 0, 0]).reshape(5, 1, 1))
    assert found.membranes["soft"].ravel().tolist() == [448, 896, 1344, 1152, 960]
    assert found.spikes["loop"].ravel().tolist() == [1, 0, 1, 0, 0]     # 640 > 192; 640 - 512 = 128 is not; 640 again; -512
    assert found.membranes["loop"].ravel().tolist() == [0, 128, 0, -512, 0]


def test_the_script_holds_them_too(lava, tmp_path):
    network = random_cells(np.random.default_rng(3))
    script = write_script(network, tmp_path / "lava")
    done = subprocess.run([str(lava), str(script)], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0 and "every membrane and score: equal" in done.stdout, done.stderr

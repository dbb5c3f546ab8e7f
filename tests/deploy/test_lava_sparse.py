"""Large matrices of few weights run as Lava's Sparse, in the runner and in the script: the integers of the twin."""

import re
import subprocess

import numpy as np
import pytest

from neuro.deploy import lava_script
from neuro.deploy.examples import even, events
from neuro.deploy.lava import compare, run_lava
from neuro.deploy.lava_script import write_script
from neuro.deploy.lava_stepping import RUNNER
from neuro.deploy.network import LIF, Dense, Input, IntegerNetwork, Readout
from neuro.deploy.twin import run_twin

SIZE = 520      # its square is above 2^18

TYPES = """
import sys, tempfile, importlib.util, numpy as np
spec = importlib.util.spec_from_file_location("lava_runner", sys.argv[1])
runner = importlib.util.module_from_spec(spec)
spec.loader.exec_module(runner)
document, arrays = runner.load(sys.argv[2])
with tempfile.TemporaryDirectory() as scratch:
    builder = runner.BUILDING.Builder(document, arrays, np.load(sys.argv[3]), scratch, 256)
print(*(type(p).__name__ for p in builder.models if type(p).__name__ in ("Dense", "Sparse")))
"""


def thin(rng, share, low, high):
    return 2 * rng.integers(low, high + 1, (SIZE, SIZE)) * (rng.random((SIZE, SIZE)) < share)


@pytest.fixture(scope="module")
def network(lava):
    """Graded counts into few weights of both signs, spikes into few of one sign and the other, then into many."""
    rng = np.random.default_rng(0)
    return IntegerNetwork([
        Input("x", (SIZE,), 3), Dense("mixed", "x", thin(rng, 0.05, -120, 120)), LIF("a", "mixed", 2048, 300),
        Dense("up", "a", thin(rng, 0.05, 0, 127)), LIF("b", "up", 1000, 900, 200, 2),
        Dense("down", "b", thin(rng, 0.05, -8, 0)), LIF("c", "down", 2048, 400, 4000, 3),
        Dense("many", "c", thin(rng, 0.5, -20, 20)), LIF("d", "many", 2048, 300), Dense("head", "d", even(rng, (3, SIZE))), Readout("out", "head", np.zeros(3, int)),
    ])


def test_they_are_the_twins_integers(network, tmp_path, lava):
    x = events(np.random.default_rng(1), network, 12, 2, 0.3)
    twin = run_twin(network, x, record=True)
    agreement = compare(twin, run_lava(network, x))
    assert agreement.exact, str(agreement)
    assert all(0 < s.mean() < 1 for s in twin.spikes.values())
    file, inputs = network.save(tmp_path / "n.npz"), tmp_path / "x.npy"
    np.save(inputs, np.moveaxis(x, 1, 0))
    done = subprocess.run([str(lava), "-c", TYPES, str(RUNNER), str(file), str(inputs)], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["Sparse", "Sparse", "Sparse", "Dense", "Dense"]


def test_the_script_has_them_too(network, tmp_path, lava):
    script = write_script(network, tmp_path / "lava")
    assert re.findall(r"place\('(\w+)', (Dense|Sparse)\(", script.read_text()) == [("mixed", "Sparse"), ("up", "Sparse"), ("down", "Sparse"), ("many", "Dense"), ("head", "Dense")]
    done = subprocess.run([str(lava), str(script)], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0 and "every membrane and score: equal" in done.stdout, done.stderr


def test_both_draw_the_same_line():
    assert f"SPARSE_FROM, SPARSE_SHARE = 2**18, {lava_script.SPARSE_SHARE}" in RUNNER.with_name("lava_building.py").read_text() and lava_script.SPARSE_FROM == 2**18

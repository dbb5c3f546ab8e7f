"""The folder for Lava's users: it needs nothing of ours, runs bit-equal to the twin, and names cannot break it."""

import ast
import re
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from neuro.cli import main
from neuro.deploy.examples import even, events, random_cells, random_network
from neuro.deploy.joins import KIND_OF, StepReadout, SumReadout
from neuro.deploy.lava_script import RESERVED, write_script
from neuro.deploy.network import LIF, Add, Dense, Input, IntegerNetwork, Readout
from neuro.deploy.twin import run_twin
from neuro.errors import GraphError

ALLOWED = {"lava", "lava_cells", "lava_processes", "lava_workers", "numpy", "os", "sys", "tempfile", "collections", "multiprocessing", "signal", "threading", "time", "traceback"}


def renamed(network, names):
    """The network with other names for its nodes."""
    def new(node):
        changes = {f: names.get(getattr(node, f), getattr(node, f)) for f in ("input", "q", "k", "v") if hasattr(node, f)}
        if isinstance(node, Add):
            changes["inputs"] = tuple(names.get(s, s) for s in node.inputs)
        return replace(node, name=names.get(node.name, node.name), **changes)
    return IntegerNetwork([new(n) for n in network.nodes], network.name)


def start(python, script, *arguments):
    """Outside the checkout, with nothing of ours on any path."""
    return subprocess.run([str(python), str(script), *map(str, arguments)], capture_output=True, text=True, timeout=120, cwd=script.parent.parent)


def test_it_imports_nothing_of_ours_and_is_short(network, tmp_path):
    script = write_script(network, tmp_path / "lava")
    assert sorted(p.name for p in script.parent.iterdir()) == ["arrays.npz", "example.npz", "lava_cells.py", "lava_processes.py", "lava_workers.py", "network.py"]
    for path in script.parent.glob("*.py"):
        tree = ast.parse(path.read_text())
        found = {n.module.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        found |= {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        assert found <= ALLOWED
    lines = script.read_text().splitlines()
    assert len(lines) < 300 and all(f"# {n.name}: {type(n).__name__}" in script.read_text() for n in network.nodes)


def test_its_arrays_are_those_of_the_network(network, tmp_path):
    write_script(network, tmp_path)
    with np.load(tmp_path / "arrays.npz", allow_pickle=False) as arrays:
        weight = arrays["a.conv.weight"]        # flipped, (C_out, kx, ky, C_in): turned back it is PyTorch's
        np.testing.assert_array_equal(weight.transpose(0, 3, 2, 1)[:, :, ::-1, ::-1], network["a.conv"].weight)
        assert set(re.findall(r'W\["([^"]+)"\]', (tmp_path / "network.py").read_text())) == set(arrays.files)


AWKWARD = ["class", "dict", "models", "W", "0.1", "T", "ours", "np", "print", "log", "a_b", "a.b", "a.b_held", "n_class", "range"]


def awkward():
    """A network whose nodes are named to collide with Python, the script and each other."""
    network = random_network(np.random.default_rng(4))
    return renamed(network, dict(zip([n.name for n in network.nodes], AWKWARD, strict=False)))


def test_names_become_different_variables(tmp_path):
    network = awkward()
    text = write_script(network, tmp_path).read_text()
    compile(text, "network.py", "exec")
    placed = re.findall(r"^    (\w+) = place\(", text, re.M)
    assert len(placed) == len(set(placed)) and not set(placed) & RESERVED
    assert "n_class" in text and "n_0_1" in text


@pytest.mark.parametrize("title", ['"""\nimport os\n"""', "{weights}", "a\\", "x" * 500])
def test_a_title_cannot_carry_code(network, tmp_path, title):
    plain, other = (ast.parse(write_script(IntegerNetwork(network.nodes, name), tmp_path).read_text()) for name in ("plain", title))
    assert len(ast.get_docstring(other).splitlines()[0]) < 200
    assert [ast.dump(n) for n in plain.body[1:]] == [ast.dump(n) for n in other.body[1:]]


def test_it_refuses_what_the_chip_refuses(tmp_path):
    network = IntegerNetwork([Input("x", (2,)), Dense("a", "x", np.array([[3, -2]])), LIF("n", "a", 0, 5), Readout("out", "n", np.array([0]))])
    with pytest.raises(GraphError, match="odd"):
        write_script(network, tmp_path / "lava")
    assert not (tmp_path / "lava").exists()


def test_the_example_runs_in_lava_and_is_equal(lava, tmp_path):
    script = write_script(awkward(), tmp_path / "lava")
    done = start(lava, script)
    assert done.returncode == 0 and re.search(r"[1-9]\d* spikes in \d+ neuron steps, every membrane and score: equal", done.stdout), done.stderr
    example = dict(np.load(script.parent / "example.npz"))
    name = next(k for k in example if k.startswith("membranes/"))
    example[name] = example[name] + 1
    np.savez(script.parent / "example.npz", **example)
    done = start(lava, script)
    assert done.returncode == 1 and f"DIFFERENT in ['{name}']" in done.stdout


STEPWISE = """
import sys, tempfile
import numpy as np
from lava.magma.core.run_conditions import RunSteps
import network

if __name__ == "__main__":
    example = np.load("example.npz")
    R, T = example["inputs"].shape[:2]
    layer, latency = sys.argv[1], int(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        processes, models = network.build(network.stream_of(example["inputs"]), T, R, folder)
        first = processes[layer]
        try:
            for time in range(1, 1 + R * T + latency):
                first.run(RunSteps(1), network.configuration(models))
                if time > latency:
                    v = first.v.get().reshape(processes[layer].v.shape)
                    expected = example["membranes/" + layer][divmod(time - 1 - latency, T)]
                    assert (v.transpose(2, 1, 0) if v.ndim == 3 else v).tolist() == expected.tolist(), time
        finally:
            first.stop()
    print("seen", (example["membranes/" + layer] != 0).sum())
"""


@pytest.mark.parametrize("make", [random_network, random_cells])
def test_every_kind_of_node_runs_and_a_lava_user_may_look_between_steps(lava, tmp_path, make):
    """As its docstring says, in a program that knows Lava and the folder alone."""
    network = make(np.random.default_rng(3))
    script = write_script(network, tmp_path / "lava")
    assert max(map(len, script.read_text().splitlines())) <= 120
    done = start(lava, script)
    assert done.returncode == 0 and "equal" in done.stdout, done.stderr
    (script.parent / "look.py").write_text(STEPWISE)
    layer = network.lifs[0].name
    done = subprocess.run([str(lava), "look.py", layer, str(network.latency[layer])], capture_output=True, text=True, timeout=120, cwd=script.parent)
    assert done.returncode == 0 and re.search(r"seen [1-9]", done.stdout), done.stderr


def test_both_together_hold_every_kind_of_node():
    rng = np.random.default_rng(3)
    assert {type(n) for make in (random_network, random_cells) for n in make(rng).nodes} | {StepReadout, SumReadout} == set(KIND_OF)  # these: test_every_step.py


def test_recordings_run_to_the_integers_of_the_twin(lava, tmp_path):
    """Graded vectors, another number of steps than the example's, three recordings; then wrong input."""
    rng = np.random.default_rng(7)
    network = IntegerNetwork([Input("x", (6,), 4), Dense("a", "x", even(rng, (5, 6))), LIF("n", "a", 1000, 90, rng.integers(-900, 900, 5), 1, 3000),
                              Dense("b", "n", even(rng, (5, 5))), LIF("m", "b", 2000, 40), Add("sum", ("n", "m")), Dense("head", "sum", even(rng, (3, 5))),
                              Readout("out", "head", np.array([5, -6, 7]), 0.5)])
    script = write_script(network, tmp_path / "lava")
    x = events(rng, network, 11, 3, 0.5)
    np.save(tmp_path / "x.npy", x.swapaxes(0, 1))
    done = start(lava, script, tmp_path / "x.npy", tmp_path / "out.npz")
    assert done.returncode == 0, done.stderr
    twin = run_twin(network, x, record=True)
    with np.load(tmp_path / "out.npz") as found:
        np.testing.assert_array_equal(found["acc"], twin.acc)
        for name, spikes in twin.spikes.items():
            assert spikes.any()
            np.testing.assert_array_equal(found[f"spikes/{name}"], spikes.swapaxes(0, 1))
            np.testing.assert_array_equal(found[f"membranes/{name}"], twin.membranes[name].swapaxes(0, 1))
    np.save(tmp_path / "x.npy", x.swapaxes(0, 1) * 100)
    done = start(lava, script, tmp_path / "x.npy", tmp_path / "out.npz")
    assert done.returncode and "expected [R, T, 6], integers 0 .. 15" in done.stderr


def test_the_command_writes_the_folder(network, tmp_path, capsys):
    file = network.save(tmp_path / "network.npz")
    main(["lava", "script", str(tmp_path)])
    assert (tmp_path / "lava/network.py").is_file() and "lava-nc 0.10.0" in capsys.readouterr().out
    main(["lava", "script", str(file), "--out", str(tmp_path / "other")])
    assert (tmp_path / "other/example.npz").is_file()


def test_the_command_runs_and_compares(lava, network, tmp_path, capsys):
    network.save(tmp_path / "network.npz")
    x = events(np.random.default_rng(0), network, 4, 1, 0.3)
    np.save(tmp_path / "x.npy", x)
    main(["lava", "run", str(tmp_path), "--inputs", str(tmp_path / "x.npy")])
    assert "equal in every spike and membrane" in capsys.readouterr().out
    (tmp_path / "x.npy").write_bytes(b"nothing")
    with pytest.raises(SystemExit):
        main(["lava", "run", str(tmp_path), "--inputs", str(tmp_path / "x.npy")])
    assert "not an .npy file" in capsys.readouterr().err

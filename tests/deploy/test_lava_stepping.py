"""Lava one step at a time: the same integers as in one run and in the twin, at every node; what goes wrong between steps comes back."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from neuro.cli import main
from neuro.deploy.examples import even, events, random_cells, random_network
from neuro.deploy.lava import PROBED, LavaSteps, compare, run_lava
from neuro.deploy.lava_probes import compare_probes, table_of, twin_probes
from neuro.deploy.network import LIF, Dense, Input, IntegerNetwork, Readout
from neuro.deploy.network_file import checksum, describe, write
from neuro.deploy.reference import run_reference
from neuro.deploy.twin import run_twin
from neuro.errors import FormatError, LavaError, ParameterError, ShapeError, UnknownName


@pytest.fixture(scope="module")
def small():
    """x -> a -> n -> head: dense 5 -> 4, a LIF that leaks and keeps current, readout. 3 steps, 2 recordings."""
    rng = np.random.default_rng(1)
    network = IntegerNetwork([Input("x", (5,)), Dense("a", "x", even(rng, (4, 5))), LIF("n", "a", 1000, 40, 30, du=3000),
                              Dense("head", "n", even(rng, (2, 4))), Readout("out", "head", np.array([1, -1]))])
    return network, events(rng, network, 3, 2, 0.6)


def assert_equal(one, other, steps):
    """Two results of the same probes; `other` holds only these steps."""
    np.testing.assert_array_equal(one.acc, other.acc)
    for what in PROBED:
        assert getattr(one, what).keys() == getattr(other, what).keys()
        for name, values in getattr(one, what).items():
            np.testing.assert_array_equal(values[steps], getattr(other, what)[name], err_msg=f"{what} of {name}")
            assert values.dtype == getattr(other, what)[name].dtype


@pytest.mark.parametrize("make", [random_network, random_cells])
@settings(max_examples=1, deadline=None, derandomize=True, phases=[Phase.generate])  # a failure is not made smaller: each try takes seconds
@given(seed=st.integers(0, 999))
def test_steps_whole_run_and_twin_agree(lava, make, seed):
    """Of the network of cells at every node; of the other, which is larger, at eight at most."""
    rng, cells = np.random.default_rng(seed), make is random_cells
    network = make(rng)
    x, names = events(rng, network, 3, 2, 0.5), [n.name for n in network.nodes]
    names = names if cells else sorted({network.lifs[0].name, network.readout.name, *rng.choice(names, 6, replace=False).tolist()})
    at = sorted(rng.choice(3, 2, replace=False).tolist())
    whole, steps = run_lava(network, x, probe=names), run_lava(network, x, probe=names, at=at, step_by_step=True)
    assert_equal(whole, steps, at)
    assert steps.at == tuple(at) and whole.at is None
    for probed, lavas in ((None, whole), (at, steps)):
        found = compare_probes(twin_probes(network, x, names, probed), lavas)
        assert {a.node for a in found} == set(names) and not [a for a in found if a.differ], table_of(found)
    hidden = ("currents", "adaptations") if cells else ("currents",)
    assert all(any(v.any() for v in getattr(steps, what).values()) for what in ("spikes", "membranes", "values", *hidden))
    assert compare(run_twin(network, x, record=True), steps).exact


@pytest.mark.parametrize("make", [random_network, random_cells])
def test_the_twins_probes_are_those_of_the_definition(make):
    rng = np.random.default_rng(2)
    network = make(rng)
    x, names = events(rng, network, 5, 2, 0.5), [n.name for n in network.nodes]
    found = twin_probes(network, x, names)
    for b in range(2):
        trace = run_reference(network, x[:, b])
        np.testing.assert_array_equal(found["values"][network.readout.name][-1, b], trace.acc)
        for name in names[:-1]:
            what = "spikes" if name in found["spikes"] else "values"
            np.testing.assert_array_equal(found[what][name][:, b], trace.values[name])
        for name, membranes in trace.membranes.items():
            np.testing.assert_array_equal(found["membranes"][name][:, b], membranes)


def test_a_user_sees_each_step_as_by_hand(lava, small):
    """u and v of the LIF by its equation in Python numbers, from what the Dense sent; nothing is seen before its time."""
    network, x = small
    with LavaSteps(network, x, probe=["a"]) as steps:
        assert (steps.time, steps.steps) == (0, 3 * 2 + 2) and steps.when("a") is None
        assert steps.step() == 1 and steps.when("x") == (0, 0) and steps.when("a") is None
        seen = []
        while steps.time < steps.steps:
            steps.step()
            if (where := steps.when("n")) is None:
                assert steps.time == steps.steps
                continue
            seen.append(where)
            if where[1] == 0:
                u, v = [0] * 4, [0] * 4
            sent = steps.look("a")
            np.testing.assert_array_equal(sent, network["a"].weight @ x[where[1], where[0]])
            for i in range(4):
                u[i] = int(u[i] * (4096 - 3001) / 4096) + 64 * int(sent[i])
                v[i] = int(v[i] * (4096 - 1000) / 4096) + u[i] + 30
                v[i] = 0 if v[i] > 64 * 40 else v[i]
            assert (steps.look("n", "currents").tolist(), steps.look("n").tolist()) == (u, v)
        assert seen == [(r, t) for r in range(2) for t in range(3)]
        assert steps.look("out").shape == (2,)
        with pytest.raises(ParameterError, match="no such steps are left"):
            steps.step()


def test_steps_without_probes_are_the_whole_run(lava, small):
    network, x = small
    steps = run_lava(network, x, step_by_step=True)
    assert_equal(run_lava(network, x), steps, slice(None))
    assert list(steps.spikes) == ["n"] and not steps.currents and steps.steps == 8 and compare(run_twin(network, x, record=True), steps).exact


@pytest.mark.parametrize("step_by_step", [False, True])
def test_wrong_probes_are_named_with_what_is_near(lava, small, step_by_step):
    network, x = small
    with pytest.raises(UnknownName, match=r"node 'haed' is not known.\n  Did you mean head\?"):
        run_lava(network, x, probe=["n", "haed"], step_by_step=step_by_step)
    with pytest.raises(ParameterError, match="probe is a list"):
        run_lava(network, x, probe="head", step_by_step=step_by_step)
    for probe in (None, [3], 3):
        with pytest.raises(ParameterError, match="probe is a list"):
            run_lava(network, x, probe=probe, step_by_step=step_by_step)
    for at in ([3], [-1], [], [0.5], [True], 2):
        with pytest.raises(ParameterError, match="no such steps"):
            run_lava(network, x, at=at, step_by_step=step_by_step)
    with pytest.raises(ShapeError):
        run_lava(network, x[0, 0], step_by_step=step_by_step)
    with pytest.raises(LavaError, match="could not be started(.|\n)*doctor"):
        run_lava(network, x, python="/nowhere/python", step_by_step=step_by_step)


def test_the_twin_refuses_the_same_probes(small):
    network, x = small
    for how in ({"probe": ["haed"]}, {"probe": "head"}, {"probe": ["n"], "at": [3]}):
        with pytest.raises((UnknownName, ParameterError)):
            twin_probes(network, x, **how)
    np.testing.assert_array_equal(twin_probes(network, x, ["n"], np.array([2, 0]))["spikes"]["n"], run_twin(network, x, record=True).spikes["n"][[0, 2]])


def test_a_file_that_is_none_is_refused(lava, small, tmp_path):
    (tmp_path / "n.npz").write_bytes(b"nothing")
    np.savez(tmp_path / "other.npz", document=np.frombuffer(b'{"nodes": []}', np.uint8))
    for name in ("n.npz", "other.npz"):
        with pytest.raises(FormatError, match="not a readable network file"):
            run_lava(tmp_path / name, small[1])
    with pytest.raises(ShapeError, match=r"not \[T, B"):
        LavaSteps(small[0].save(tmp_path / "good.npz"), np.zeros(5, int))


def test_wrong_looks_leave_the_session_as_it_was(lava, small):
    with LavaSteps(*small, probe=["a"]) as steps:
        steps.step(2)
        before = steps.look("n")
        for name, what, said in (("m", None, "node 'm' is not known"), ("n", "membrane", "Did you mean membranes"), ("a", "membranes", "Known: values"), ("n", "adaptations", "not known")):
            with pytest.raises(UnknownName, match=said):
                steps.look(name, what)
        with pytest.raises(ParameterError, match="is not watched"):
            steps.look("head")
        with pytest.raises(UnknownName):
            steps.when("m")
        np.testing.assert_array_equal(steps.look("n"), before)
    with pytest.raises(LavaError, match="has been ended"):
        steps.step()
    steps.close()


def shared_memory(pids):
    """The files of shared memory that these processes have mapped."""
    return {Path(name) for pid in pids for name in re.findall(r"/dev/shm/psm_\S+", Path(f"/proc/{pid}/maps").read_text())}


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_what_a_worker_raises_between_steps_comes_back(lava, small, tmp_path):
    document, arrays = describe(small[0])
    next(n for n in document["nodes"] if n["name"] == "n")["parameters"]["dv"] = "fast"
    document["checksum"] = checksum(document, arrays)
    with pytest.raises(LavaError, match=r"Traceback(.|\n)*(dv|Error)"):
        run_lava(write(tmp_path / "n.npz", document, arrays), small[1], step_by_step=True, time_limit=60)


def test_a_worker_that_dies_between_steps_ends_the_session(lava, small):
    with LavaSteps(*small) as steps:
        steps.step()
        found = [int(p) for p in subprocess.run(["pgrep", "-g", str(steps._process.pid)], capture_output=True, text=True).stdout.split()]
        assert len(found) > 5
        os.kill(found[-1], signal.SIGKILL)
        with pytest.raises(LavaError, match="ended by signal SIGKILL"):
            for _ in range(100):
                steps.look("n")
                time.sleep(0.05)
        assert all(gone(p) for p in found)


@pytest.mark.parametrize("limit", [0.01, 1.5])
def test_a_step_over_its_time_is_ended(lava, small, limit):
    """The worker that is stopped never answers."""
    if limit < 1:
        with pytest.raises(LavaError, match="Lava had not started after 0.01 s and was ended"):
            LavaSteps(*small, time_limit=limit)
        return
    with LavaSteps(*small) as steps:
        steps.step()
        group = [int(p) for p in subprocess.run(["pgrep", "-g", str(steps._process.pid)], capture_output=True, text=True).stdout.split()]
        mine = shared_memory(group)
        os.kill(group[-1], signal.SIGSTOP)
        steps.time_limit, begin = limit, time.monotonic()
        with pytest.raises(LavaError, match="did not answer 'step' after 1.5 s and was ended"):
            steps.step()
        assert time.monotonic() - begin < 20 and all(gone(p) for p in group)
    assert mine and not any(path.exists() for path in mine)


def test_the_command_probes_by_steps(lava, small, tmp_path, capsys):
    network, x = small
    network.save(tmp_path / "network.npz")
    np.save(tmp_path / "x.npy", x)
    how = ["lava", "run", str(tmp_path), "--inputs", str(tmp_path / "x.npy"), "--probe", "[a, n]"]
    main([*how, "--step-by-step", "true", "--at", "[0, 2]", "--out", str(tmp_path / "probes.npz")])
    said = capsys.readouterr().out
    assert "twin and Lava are equal in every value probed, read between steps" in said and "currents" in said
    with np.load(tmp_path / "probes.npz") as found:
        assert set(found) == {"acc", "at", "spikes/n", "membranes/n", "currents/n", "values/a"} and found["at"].tolist() == [0, 2]
        np.testing.assert_array_equal(found["values/a"], (x @ network["a"].weight.T)[[0, 2]])
    with pytest.raises(SystemExit):
        main([*how[:-1], "[heed]"])
    assert "Did you mean head?" in capsys.readouterr().err


def test_a_difference_is_found_and_shown(lava, small):
    network, x = small
    result = run_lava(network, x, probe=["a", "n"], at=[1, 2])
    twin = twin_probes(network, x, ["a", "n"], [1, 2])
    twin["currents"]["n"][1, 0, 3] += 1
    (wrong,) = (a for a in compare_probes(twin, result) if a.differ)
    assert (wrong.node, wrong.what, wrong.differ, wrong.first) == ("n", "currents", 1, (0, 2, (3,)))
    assert "recording 0, step 2, index (3,)" in table_of([wrong])
    del result.values["a"]
    assert {a.node for a in compare_probes(twin, result) if a.differ} == {"a", "n"}

"""`neuro energy`, `neuro export` and `neuro lava doctor` on a tiny saved model and a few recordings."""

import errno
import re

import numpy as np
import pytest
import torch

import neuro
from neuro import cli
from neuro.datasets import NMNIST, Frames, Sensor, make_events
from neuro.datasets.formats.nmnist import write_nmnist
from neuro.deploy.lava import find_interpreter
from neuro.deploy.lava_environment import VARIABLE
from neuro.deploy.network import Cell, IntegerNetwork
from neuro.deploy.profiles import PROFILES
from neuro.deploy.quantize import quantize
from neuro.deploy.twin import run_twin
from neuro.surrogate import ATan
from neuro.training import Preprocess, Run, save_model

BINS = 3


def run_cli(capsys, *argv):
    """Exit code, output and errors of one command in this process."""
    try:
        cli.main([str(a) for a in argv])
        code = 0
    except SystemExit as stop:
        code = stop.code
    shown = capsys.readouterr()
    return code, shown.out, shown.err


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six recordings of three classes."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for i in range(6):
        n = 1500
        events = make_events(rng.integers(0, 34, n), rng.integers(0, 34, n), np.sort(rng.integers(0, 300_000, n)), rng.integers(0, 2, n))
        (folder / f"test/{i % 3}").mkdir(parents=True, exist_ok=True)
        write_nmnist(events, folder / f"test/{i % 3}/{i:05d}.bin")
    return folder


@pytest.fixture(scope="module")
def model(make_exact):
    """A model in which spikes flow, firing at the chip's rule."""
    return make_exact(neuro.models.small("spikformer_nmnist", dim=16, heads=2, image=34, depth=1, spike=ATan(2.0, strict=True)))


def save(model, folder):
    Run.create(folder, recipe="spikformer_nmnist", options={"out": str(folder)}, seed=1)
    save_model(model, folder, classes=NMNIST.classes, preprocess=Preprocess(Frames(bins=BINS), Sensor(34, 34)))
    return folder


@pytest.fixture
def trained(tmp_path, model):
    return save(model, tmp_path / "run")


def layers(model):
    return [path for path, m in model.named_modules() if isinstance(m, (neuro.layers.Linear, neuro.layers.Conv2d, neuro.layers.AttentionProduct))]


def test_energy_prices_every_layer_in_every_profile(capsys, trained, data, model):
    code, out, err = run_cli(capsys, "energy", trained, "--data", data, "--samples", 4)
    assert (code, err) == (0, "") and "4 samples" in out and "NOT COUNTED" not in out
    assert len(layers(model)) > 8
    for path in layers(model):
        (row,) = [line.split() for line in out.splitlines() if line.split()[:1] == [path]]
        dense, effective, ac, graded, mac = (float(cell) for cell in row[4:9])
        assert 0 < effective == pytest.approx(ac + graded + mac, abs=0.2) and effective <= dense, row
    for profile in PROFILES:
        assert re.search(rf"^{profile.name}\s+\d", out, re.MULTILINE), profile.name
    assert "not a measurement" in out and "break-even" in out
    (line,) = (line for line in out.splitlines() if line.startswith("Elementwise, int8_45nm: "))
    assert re.search(r"snn \S+ \(arithmetic \S+, memory \S+\), dense ", line) and "; with it SNN/dense " in line and "SNN/once " in line


class Sine(torch.nn.Module):
    """A model whose network has no graph."""

    def __init__(self, model):
        super().__init__()
        self.model, self.classes, self.preprocess = model, model.classes, model.preprocess

    def forward(self, x):
        return self.model(torch.sin(x))


def test_energy_of_a_network_without_a_graph_is_counted_and_not_compared(capsys, trained, data, monkeypatch):
    whole = run_cli(capsys, "energy", trained, "--data", data, "--samples", 2)[1]
    monkeypatch.setattr("neuro.commands.energy.load", lambda run: Sine(neuro.load(run)))
    code, out, err = run_cli(capsys, "energy", trained, "--data", data, "--samples", 2)
    assert (code, err) == (0, "") and "\nOperations alone: " in out and "\nNot compared with ANNs of the same layers: " in out
    assert "sin" in out[out.index("\nNot compared") :] and "break-even" in whole and "break-even" not in out


def test_energy_of_a_file_and_of_a_folder_are_the_same(capsys, trained, data):
    whole = run_cli(capsys, "energy", trained, "--data", data, "--samples", 2)
    assert whole[0] == 0 and run_cli(capsys, "energy", trained / "model.safetensors", "--data", data, "--samples", 2) == whole


def test_export_writes_a_network_that_answers_like_the_model(capsys, trained, data):
    code, out, err = run_cli(capsys, "export", trained, "--data", data)
    assert (code, err) == (0, "") and f"written to {trained / 'network.npz'}" in out
    assert "6 recordings" in out and "changed" in out
    network = IntegerNetwork.load(trained / "network.npz")
    loaded = neuro.load(trained)
    frames = [loaded.preprocess(r.events) for r in NMNIST(data)]
    for x in frames:
        float_logits = loaded(x)[0].detach().numpy()
        twin = run_twin(network, x.numpy().astype(np.int32))
        assert np.abs(twin.logits[0] - float_logits).max() < 0.1 * np.abs(float_logits).max()


def test_export_where_and_how_it_is_asked_to(capsys, trained, data, tmp_path):
    file = tmp_path / "elsewhere" / "n.npz"
    code, _, _ = run_cli(capsys, "export", trained, "--data", data, "--out", file, "--message-bits", 7, "--samples", 2)
    assert code == 0 and IntegerNetwork.load(file).input.message_bits == 7 and not (trained / "network.npz").exists()


def test_export_with_few_bits(capsys, trained, data, tmp_path):
    file = tmp_path / "coarse.npz"
    code, _, _ = run_cli(capsys, "export", trained, "--data", data, "--out", file, "--samples", 2, "--weight-bits", 3, "--clip", "true", "--calibrate", "true")
    assert code == 0
    weights = [n.weight for n in IntegerNetwork.load(file).nodes if type(n).__name__ in ("Conv", "Dense")]
    assert weights and not any((w % 32).any() for w in weights)
    code, _, err = run_cli(capsys, "export", trained, "--data", data, "--weight-bits", 9)
    assert code and "weight_bits is 9" in err


def test_export_with_a_scale_for_each_channel(capsys, trained, data, tmp_path):
    for how, cells in (("true", True), ("false", False)):
        file = tmp_path / f"{how}.npz"
        code, _, _ = run_cli(capsys, "export", trained, "--data", data, "--out", file, "--samples", 2, "--per-channel", how)
        assert code == 0 and any(isinstance(n, Cell) for n in IntegerNetwork.load(file).nodes) == cells


def test_export_of_what_is_no_count_names_the_way_out(capsys, trained, data, monkeypatch):
    from neuro.commands import export

    given = export.samples_of
    monkeypatch.setattr(export, "samples_of", lambda *how: [s._replace(x=s.x / 2) for s in given(*how)])
    code, _, err = run_cli(capsys, "export", trained, "--data", data, "--samples", 2)
    assert code == 2 and "no count of events" in err and "values 0 .. " in err and "--host-front true" in err and "Traceback" not in err
    assert not (trained / "network.npz").exists()


def test_export_of_counts_that_do_not_fit_the_bits(capsys, trained, data):
    code, _, err = run_cli(capsys, "export", trained, "--data", data, "--message-bits", 1)
    assert code == 2 and "counts pass 1 bits" in err and "Raise message_bits" in err and "Traceback" not in err
    assert not list(trained.glob("network*"))


def test_export_to_a_full_disk_keeps_the_old_file(capsys, trained, data, monkeypatch):
    assert run_cli(capsys, "export", trained, "--data", data, "--samples", 1)[0] == 0
    before = {p.name: p.read_bytes() for p in trained.iterdir()}

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    code, _, err = run_cli(capsys, "export", trained, "--data", data, "--samples", 1, "--message-bits", 6)
    assert code == 2 and "No space left" in err and "Traceback" not in err
    assert {p.name: p.read_bytes() for p in trained.iterdir()} == before


@pytest.mark.parametrize("command", ["energy", "export"])
def test_recordings_of_unequal_length_and_the_name_of_one_that_does_not_fit(capsys, tmp_path, model, command):
    """Windows of fixed width give each recording its own number of steps; the network file takes each for its own."""
    for i, last in enumerate((60_000, 200_000)):
        t = np.sort(np.random.default_rng(i).integers(0, last, 800))
        events = make_events(np.arange(800) % 34, np.arange(800) % 31, t, np.arange(800) % 2)
        (tmp_path / f"data/{i}").mkdir(parents=True)
        write_nmnist(events, tmp_path / f"data/{i}/00000.bin")
    run = tmp_path / "run"
    Run.create(run, recipe="spikformer_nmnist", options={}, seed=1)
    save_model(model, run, classes=NMNIST.classes, preprocess=Preprocess(Frames(window_us=50_000), Sensor(34, 34)))
    code, out, err = run_cli(capsys, command, run, "--data", tmp_path / "data")
    assert (code, err) == (0, "") and ("2 samples" in out or "2 recordings" in out)
    write_nmnist(make_events([0], [0], [2_000_000], [0]), tmp_path / "data/0/00001.bin")
    save_model(model, run, classes=NMNIST.classes, preprocess=Preprocess(Frames(bins=2, duration_us=300_000, origin_us=0), Sensor(34, 34)))
    code, _, err = run_cli(capsys, command, run, "--data", tmp_path / "data")
    assert code == 2 and "0/00001.bin" in err and "Traceback" not in err


@pytest.mark.parametrize("command", ["energy", "export"])
def test_what_is_missing_or_damaged_is_named(capsys, trained, data, tmp_path, command):
    for argv, says in (
        ([tmp_path / "none", "--data", data], "none"), ([trained, "--data", tmp_path / "none"], "none"), ([trained], "data"),
    ):  # fmt: skip
        code, _, err = run_cli(capsys, command, *argv)
        assert code == 2 and says in err and "Traceback" not in err, argv
    (tmp_path / "cut/3").mkdir(parents=True)
    (tmp_path / "cut/3/00001.bin").write_bytes(next(data.rglob("*.bin")).read_bytes()[:-2])
    code, _, err = run_cli(capsys, command, trained, "--data", tmp_path / "cut")
    assert code == 2 and "3/00001.bin is damaged" in err and "3 bytes left" in err and "prefix" not in err and "Traceback" not in err


def test_doctor_names_the_interpreter_or_the_way_to_one(capsys):
    code, out, err = run_cli(capsys, "lava", "doctor")
    python = find_interpreter()
    if python:
        assert (code, err) == (0, "") and f"Lava runs with {python}" in out
    else:
        assert (code, out) == (2, "") and "not found" in err and "neuro lava install" in err


def test_doctor_says_why_an_interpreter_does_not_do(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "absent"))
    code, out, err = run_cli(capsys, "lava", "doctor")
    assert (code, out) == (2, "") and re.search(rf"{VARIABLE}.*{re.escape(str(tmp_path / 'absent'))} does not start", err)


@pytest.mark.parametrize("command", ["energy", "export"])
def test_no_recordings_are_no_sample(capsys, trained, data, command):
    code, _, err = run_cli(capsys, command, trained, "--data", data, "--samples", 0)
    assert code == 2 and "samples=0" in err


@pytest.mark.parametrize(("option", "value", "says"), [("--message-bits", 0, "message_bits is 0."), ("--message-bits", 17, "1 to 16"), ("--weight-bits", 9, "2 to 8"), ("--samples", -1, "at least 1")])
def test_export_refuses_numbers_that_are_out_of_range(capsys, trained, data, option, value, says):
    code, out, err = run_cli(capsys, "export", trained, "--data", data, option, value)
    assert (code, out) == (2, "") and says in err and not (trained / "network.npz").exists()


def test_lava_run_refuses_inputs_that_are_no_array(capsys, tmp_path):
    """And a limit that is no time, before anything is read."""
    (tmp_path / "text.npy").write_text("0 1 1 0\n")
    np.savez(tmp_path / "several.npz", x=np.zeros(3))
    quantize(neuro.layers.Sequential(neuro.layers.Linear(3, 2), neuro.neurons.LIF()), torch.ones(4, 1, 3))[0].save(tmp_path / "network.npz")
    for inputs, more, says in (("text.npy", (), "is not an .npy file.\n  it begins with b'0 1 1 '"), ("several.npz", (), "is not an .npy file."), ("text.npy", ("--time-limit", -1), "must be above 0")):
        code, out, err = run_cli(capsys, "lava", "run", tmp_path, "--inputs", tmp_path / inputs, *more)
        assert (code, out) == (2, "") and says in err and "pickle" not in err

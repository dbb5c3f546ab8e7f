"""`neuro learn` on a small run: what is written runs and keeps the old accs, learns further, and bad input is refused in a sentence."""

import json
import shutil

import numpy as np
import pytest
import torch

from neuro import cli, models
from neuro.commands.learn import draw, names_of
from neuro.datasets import Frames, Sensor, make_events
from neuro.datasets.formats.nmnist import write_nmnist
from neuro.deploy.added_classes import head_of
from neuro.deploy.network import IntegerNetwork
from neuro.deploy.quantize import quantize
from neuro.deploy.twin import run_twin
from neuro.errors import FormatError, ParameterError
from neuro.training import Preprocess, Run, save_model

OLD, NEW = ("a", "b"), ("c", "d")


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
    """Six recordings of each of four classes: events in a corner of their own."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for k, label in enumerate((*OLD, *NEW)):
        for i in range(6):
            n, place = 700, rng.integers(0, 34, (2, 700))
            x, y = np.where(rng.random(n) < 0.8, place // 2 + 17 * np.array([[k % 2], [k // 2]]), place)
            events = make_events(x, y, np.sort(rng.integers(0, 300_000, n)), rng.integers(0, 2, n))
            (folder / f"train/{label}").mkdir(parents=True, exist_ok=True)
            write_nmnist(events, folder / f"train/{label}/{i:05d}.bin")
    return folder


@pytest.fixture
def run(tmp_path):
    """An untrained run of two classes with its integer network."""
    torch.manual_seed(0)
    folder = tmp_path / "run"
    Run.create(folder, recipe="spikformer_nmnist", options={"out": str(folder)}, seed=1)
    model = models.small("spikformer_nmnist", dim=16, heads=2, image=34, depth=1, classes=2).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p) * 0.5 if p.ndim > 1 else p)
    save_model(model, folder, classes=OLD, preprocess=Preprocess(Frames(bins=3), Sensor(34, 34)))
    quantize(model, torch.randint(0, 4, (3, 8, 2, 34, 34)).float(), message_bits=6)[0].save(folder / "network.npz")
    return folder


def inputs(network, seed=0):
    return np.random.default_rng(seed).integers(0, 4, (3, 5, *network.shapes[network.input.name])).astype(np.int32)


def test_a_file_with_new_classes_is_written_and_keeps_the_old_accs(capsys, run, data):
    code, out, err = run_cli(capsys, "learn", run, "--data", data, "--shots", 3, "--replay", 2, "--split", "train")
    assert (code, err) == (0, "") and "learned c, d" in out and "of 8 others right before" in out and "of 6 others right" in out
    before, after = IntegerNetwork.load(run / "network.npz"), IntegerNetwork.load(run / "network_learned.npz")
    x = inputs(before)
    assert np.array_equal(run_twin(after, x).acc[:, :2], run_twin(before, x).acc) and head_of(after).weight[2:].any()
    about = json.loads((run / "network_learned.json").read_text())
    assert about["classes"] == ["a", "b", "c", "d"] and len(about["shown"]) == 2 * 3 + 2 * 2
    counted = about["judged"]
    assert counted["old"] == 8 and counted["new"] == 6 and counted["old_right_before"] - counted["old_right_after"] <= counted["old_to_new"]
    code, _, _ = run_cli(capsys, "learn", run, "--data", data, "--shots", 3, "--replay", 2, "--out", run / "again.npz")
    assert code == 0 and (run / "again.npz").read_bytes() and np.array_equal(head_of(IntegerNetwork.load(run / "again.npz")).weight, head_of(after).weight)


def test_a_learned_file_learns_further(capsys, run, data, tmp_path):
    for label in (*OLD, NEW[0]):
        shutil.copytree(data / "train" / label, tmp_path / "first/train" / label)
    assert run_cli(capsys, "learn", run, "--data", tmp_path / "first", "--shots", 2)[0] == 0
    code, out, err = run_cli(capsys, "learn", run, "--network", run / "network_learned.npz", "--data", data, "--shots", 6, "--out", run / "more.npz", "--passes", 3)
    assert (code, err) == (0, "") and "shown: 6 recordings of new classes, 15 of old ones" in out and "learned d" in out and "new classes: no other recordings" in out
    assert json.loads((run / "more.json").read_text())["classes"] == ["a", "b", "c", "d"]
    (run / "network_learned.json").unlink()
    code, _, err = run_cli(capsys, "learn", run, "--network", run / "network_learned.npz", "--data", data, "--shots", 1, "--out", run / "more.npz")
    assert code == 2 and "3 classes in the file, 2 names in the run" in err
    (run / "network_learned.json").write_text("{}")
    assert run_cli(capsys, "learn", run, "--network", run / "network_learned.npz", "--data", data, "--shots", 1, "--out", run / "more.npz")[0] == 2


def test_what_cannot_be_is_refused_in_a_sentence(capsys, run, data, tmp_path):
    shutil.copytree(data / "train/a", tmp_path / "known/train/a")
    shutil.copytree(data / "train/c", tmp_path / "new/train/c")
    (tmp_path / "empty").mkdir()
    for wanted, *argv in (("too few recordings of c", "--data", data, "--shots", 7), ("--shots is 0", "--data", data, "--shots", 0), ("--replay is -1", "--data", data, "--shots", 1, "--replay", -1),
                          ("no class that is not known", "--data", tmp_path / "known", "--shots", 1), ("holds no file", "--data", tmp_path / "empty", "--shots", 1),
                          ("no folder", "--data", tmp_path / "nowhere", "--shots", 1),
                          ("would replace", "--data", data, "--shots", 1, "--out", run / "network.npz"), ("none.npz", "--data", data, "--shots", 1, "--network", run / "none.npz"),
                          ("holds no file", "--data", data, "--shots", 1, "--split", "test")):  # fmt: skip
        code, out, err = run_cli(capsys, "learn", run, *argv)
        assert code == 2 and wanted in err and "Traceback" not in err, (argv, out, err)
    assert not (run / "network_learned.npz").exists()
    code, out, _ = run_cli(capsys, "learn", run, "--data", tmp_path / "new", "--shots", 1)
    assert code == 0 and "0 of old ones: none is there" in out and "old classes: no other recordings" in out


def test_counts_beyond_the_input_are_refused_and_nothing_is_written(capsys, run, data):
    """The twin takes 0 or 1 of this file; whether a shown or a judged recording has more, no half of the result stays behind."""
    torch.manual_seed(0)
    model = models.small("spikformer_nmnist", dim=16, heads=2, image=34, depth=1, classes=2).eval()
    quantize(model, torch.randint(0, 2, (3, 8, 2, 34, 34)).float(), message_bits=1)[0].save(run / "narrow.npz")
    code, _, err = run_cli(capsys, "learn", run, "--data", data, "--shots", 2, "--network", run / "narrow.npz")
    assert code == 2 and "takes 0..1" in err and not list(run.glob("network_learned.*"))
    code, out, _ = run_cli(capsys, "learn", run, "--data", data, "--shots", 2, "--samples", 0)
    assert code == 0 and "old classes: no other" in out and "new classes: no other" in out


def test_no_recording_is_both_shown_and_judged():
    truth, classes = np.arange(4).repeat(10), ["a", "b", "c", "d"]
    drawn = draw(truth, 2, classes, 4, 3, 500, seed=1)
    assert not set(drawn.shown) & set(drawn.judged) and len(drawn.shown) + len(drawn.judged) == 40
    assert np.bincount(truth[drawn.shown]).tolist() == [3, 3, 4, 4]
    assert len(draw(truth, 2, classes, 4, 3, 7, seed=1).judged) == 7 and len(draw(truth, 2, classes, 4, 3, 0, seed=1).judged) == 0
    assert not np.array_equal(drawn.shown, draw(truth, 2, classes, 4, 3, 500, seed=2).shown)
    with pytest.raises(ParameterError, match="too few"):
        draw(truth, 2, classes, 11, 0, 0, seed=0)


def test_names_come_from_the_run_or_from_beside_the_file(run):
    network = IntegerNetwork.load(run / "network.npz")
    assert names_of(network, run / "network.npz", OLD) == list(OLD)
    with pytest.raises(FormatError, match="3 names in the run"):
        names_of(network, run / "network.npz", ("a", "b", "c"))

"""`neuro learn` on a small run: what is written runs and keeps the old accs, learns further, and bad input is refused in a sentence."""

import json
import shutil

import numpy as np
import pytest
import torch

from neuro import cli, models
from neuro.commands.learn import draw, opened
from neuro.datasets import Frames, Sensor, make_events
from neuro.datasets.formats.nmnist import read_nmnist, write_nmnist
from neuro.datasets.reading import write_events
from neuro.deploy.added_classes import head_of
from neuro.deploy.network import IntegerNetwork
from neuro.deploy.quantize import quantize
from neuro.deploy.twin import run_twin
from neuro.errors import FormatError, ParameterError
from neuro.training import Preprocess, Run, save_model
from neuro.training.evaluate import read_events

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
    found = opened(run / "network.npz", OLD)
    assert found.classes == list(OLD) and found.binary is None
    with pytest.raises(FormatError, match="3 names in the run"):
        opened(run / "network.npz", ("a", "b", "c"))


def test_binary_learns_the_old_classes_then_the_new_and_keeps_every_old_bit(capsys, run, data):
    code, out, err = run_cli(capsys, "learn", run, "--data", data, "--shots", 3, "--rule", "binary", "--num-neurons", 2)
    assert (code, err) == (0, "") and "learned c, d, each recording shown once" in out
    assert "shown: 6 recordings of new classes, 6 of old ones" in out  # half of the old ones
    assert "of 6 others right with the trained head" in out and "right with a binary layer" in out and "of 6 others right" in out
    assert "2 neurons of each class" in out and "4 rows of old classes are the same, bit for bit" in out and "competition 0.1" in out
    about = json.loads((run / "network_learned.json").read_text())
    assert about["rule"] == "binary" and about["classes"] == ["a", "b", "c", "d"] and "old_right_relearned" in about["judged"]
    network = IntegerNetwork.load(run / "network_learned.npz")
    weight = head_of(network).weight
    assert weight.shape[0] == 4 * 2 and set(np.unique(weight)) == {0, 1} and set(weight.sum(1)) == {about["binary"]["weights"]}
    known = IntegerNetwork.load(run / "network.npz")
    for node in known.nodes:  # all before the head is what it was
        if node.name not in (head_of(known).name, known.readout.name):
            assert all(np.array_equal(getattr(node, f), getattr(network[node.name], f)) for f in node.array_fields)
    assert run_cli(capsys, "learn", run, "--data", data, "--shots", 3, "--rule", "binary", "--num-neurons", 2, "--out", run / "again.npz")[0] == 0
    assert np.array_equal(head_of(IntegerNetwork.load(run / "again.npz")).weight, weight)


def test_the_binary_file_answers_as_is_reported(capsys, run, data):
    assert run_cli(capsys, "learn", run, "--data", data, "--shots", 3, "--rule", "binary")[0] == 0
    about, network = json.loads((run / "network_learned.json").read_text()), IntegerNetwork.load(run / "network_learned.npz")
    files = [(label, path) for label in about["classes"] for path in sorted((data / f"train/{label}").iterdir()) if not any(name.endswith(f"{label}/{path.name}") for name in about["shown"])]
    frames = Preprocess(Frames(bins=3), Sensor(34, 34))
    x = np.concatenate([frames(read_nmnist(path, sensor=Sensor(34, 34))).numpy() for _, path in files], 1).astype(np.int32)
    given = run_twin(network, x).predictions // about["binary"]["neurons"]
    right = [about["classes"][g] == label for g, (label, _) in zip(given, files, strict=True)]
    assert len(files) == about["judged"]["old"] + about["judged"]["new"] == 12
    assert sum(right[:6]) == about["judged"]["old_right_after"] and sum(right[6:]) == about["judged"]["new_right_after"]


def test_a_binary_file_learns_further_without_old_recordings(capsys, run, data, tmp_path):
    for label in (*OLD, NEW[0]):
        shutil.copytree(data / "train" / label, tmp_path / "first/train" / label)
    assert run_cli(capsys, "learn", run, "--data", tmp_path / "first", "--shots", 2, "--rule", "binary", "--learning-competition", 0.3, "--num-weights", 5, "--least", 2)[0] == 0
    shutil.copytree(data / "train" / NEW[1], tmp_path / "second/train" / NEW[1])
    code, out, err = run_cli(capsys, "learn", run, "--network", run / "network_learned.npz", "--data", tmp_path / "second", "--shots", 2, "--out", run / "more.npz")
    assert (code, err) == (0, "") and "shown: 2 recordings of new classes, 0 of old ones\n" in out and "competition 0.3" in out
    before, after = (json.loads((run / name).read_text())["binary"] for name in ("network_learned.json", "more.json"))
    assert after["times"][:3] == before["times"] and after["classes"] == 4 and after["least"] == 2 and after["weights"] == 5
    first, second = (head_of(IntegerNetwork.load(run / name)).weight for name in ("network_learned.npz", "more.npz"))
    assert np.array_equal(second[: len(first)], first) and len(second) == len(first) + 10
    further = ("learn", run, "--network", run / "network_learned.npz", "--data", data, "--shots", 1, "--out", run / "x.npz")
    for more, wanted in ((("--rule", "rows"), "last layer of this file is binary"), (("--num-weights", 3), "cannot be changed"), (("--replay", 2), "cannot be changed")):
        code, _, err = run_cli(capsys, *further, *more)
        assert code == 2 and wanted in err and "Traceback" not in err and not (run / "x.npz").exists()


@pytest.mark.parametrize(
    ("change", "wanted"),
    [({"neurons": 3}, "neurons in the file"), ({"neurons": "ten"}, "how many neurons"), ({"weights": 7}, "not the one that is described"), ({"times": [[1]]}, "not the one"),
     ({"seed": None}, "not described as it must be"), ({"competition": {"initial": 2}}, "not described"), ({"latch": "no"}, "not the one"), ({"least": 60}, "not the one")],
)  # fmt: skip
def test_a_description_that_was_edited_is_refused(capsys, run, data, change, wanted, tmp_path):
    for label in (*OLD, NEW[0]):
        shutil.copytree(data / "train" / label, tmp_path / "first/train" / label)
    assert run_cli(capsys, "learn", run, "--data", tmp_path / "first", "--shots", 2, "--rule", "binary", "--num-weights", 5, "--samples", 0)[0] == 0
    path = run / "network_learned.json"
    about = json.loads(path.read_text())
    path.write_text(json.dumps({**about, "binary": {**about["binary"], **change}}))
    code, _, err = run_cli(capsys, "learn", run, "--network", run / "network_learned.npz", "--data", data, "--shots", 1, "--out", run / "x.npz")
    assert code == 2 and wanted in err and "Traceback" not in err and not (run / "x.npz").exists()


def test_no_file_is_lost_under_the_name_that_is_given(capsys, run, data):
    before = {p: p.read_bytes() for p in run.iterdir() if p.is_file()}
    assert (run / "model.json").exists() and (run / "recipe.json").exists()
    for out in ("model.npz", "recipe.npz", "network.other", "network.npz", "x.json"):
        code, _, err = run_cli(capsys, "learn", run, "--data", data, "--shots", 1, "--out", run / out)
        assert code == 2 and "would replace" in err and "Traceback" not in err, (out, err)
    assert {p: p.read_bytes() for p in run.iterdir() if p.is_file()} == before


@pytest.mark.parametrize("rule", ["rows", "binary"])
def test_a_file_that_is_no_network_is_refused_in_a_sentence(capsys, run, data, rule):
    whole = (run / "network.npz").read_bytes()
    for broken in (whole[: len(whole) // 2], whole[:-200], b"", b"not a network", whole[:300] + b"\xff" * 50 + whole[350:]):
        (run / "network.npz").write_bytes(broken)
        code, out, err = run_cli(capsys, "learn", run, "--data", data, "--shots", 1, "--rule", rule)
        assert code == 2 and "network.npz" in err and "Traceback" not in err + out and not list(run.glob("network_learned.*"))


def test_options_of_the_other_rule_and_numbers_out_of_range_are_refused(capsys, run, data, tmp_path):
    shutil.copytree(data / "train/c", tmp_path / "new/train/c")
    for wanted, *argv in (("--num-neurons belong to --rule binary", "--num-neurons", 4), ("--passes belongs to --rule rows", "--rule", "binary", "--passes", 3),
                          ("--num-neurons is 0", "--rule", "binary", "--num-neurons", 0), ("out of its range", "--rule", "binary", "--num-weights", 100_000),
                          ("--min-plasticity is 2", "--rule", "binary", "--min-plasticity", 2), ("--learning-competition is -0.1", "--rule", "binary", "--learning-competition", -0.1),
                          ("reaches --least", "--rule", "binary", "--least", 60_000), ("no recording of one", "--rule", "binary", "--replay", 0), ("--least", "--rule", "binary", "--least", 70_000),
                          ("rule", "--rule", "hebb")):  # fmt: skip
        code, _, err = run_cli(capsys, "learn", run, "--data", data, "--shots", 2, *argv)
        assert code == 2 and wanted in err and "Traceback" not in err, (argv, err)
    code, _, err = run_cli(capsys, "learn", run, "--data", tmp_path / "new", "--shots", 2, "--rule", "binary")
    assert code == 2 and "no recording of one" in err and "of a, b" in err and not list(run.glob("network_learned.*"))


def test_recordings_of_any_format_teach_the_same(capsys, run, data, tmp_path):
    """The same events in files of other formats: the same network, bit for bit."""
    suffixes = (".npz", ".csv", ".bin")
    for i, path in enumerate(sorted(data.rglob("*.bin"))):
        target = (tmp_path / "my files" / path.relative_to(data)).with_suffix(suffixes[i % len(suffixes)])
        target.parent.mkdir(parents=True, exist_ok=True)
        write_events(target, read_nmnist(path), Sensor(34, 34))
    given = ("--shots", 3, "--replay", 2, "--split", "train")
    for folder, name in ((data, "a.npz"), (tmp_path / "my files", "b.npz")):
        code, _, err = run_cli(capsys, "learn", run, "--data", folder, *given, "--out", tmp_path / name)
        assert (code, err) == (0, "")
    a, b = (head_of(IntegerNetwork.load(tmp_path / name)).weight for name in ("a.npz", "b.npz"))
    assert np.array_equal(a, b)
    for path, other in zip(sorted((data / "train/c").iterdir()), sorted((tmp_path / "my files/train/c").iterdir()), strict=True):
        assert np.array_equal(read_events(path, Sensor(34, 34)), read_events(other, Sensor(34, 34)))  # as predict reads them


def test_without_a_network_file_it_is_said_what_writes_one(capsys, run, data):
    (run / "network.npz").unlink()
    code, _, err = run_cli(capsys, "learn", run, "--data", data, "--shots", 2)
    assert code == 2 and "no network file" in err and "neuro export RUN" in err

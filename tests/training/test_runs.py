"""The run folder: written whole or not at all, read without unpickling, refused with a reason."""

import errno
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

import neuro
from neuro.datasets import Frames, Sensor, make_events
from neuro.datasets.splits import by_draw
from neuro.errors import FormatError, ParameterError
from neuro.files import WriteError, replacing, write_json
from neuro.surrogate import ATan
from neuro.training import Preprocess, Run, load_weights, save_model
from neuro.training.checkpoints import WholeCheckpoints
from neuro.training.described import build, describe
from neuro.training.folds import folds
from neuro.training.schedule import Plan, groups
from neuro.training.tables import Table


@pytest.fixture
def model():
    return neuro.models.create("spikformer_nmnist", dim=16, heads=2, depth=1, spike=ATan(3.0))


def test_saved_model_answers_the_same(tmp_path, model):
    preprocess = Preprocess(Frames(bins=4), Sensor(34, 34))
    save_model(model, tmp_path, classes="abcdefghij", preprocess=preprocess, metrics={"loss": float("nan"), "accuracy": 0.5})
    loaded = neuro.load(tmp_path)
    events = make_events([1, 5, 30], [0, 3, 33], [0, 50, 99], [0, 1, 1])
    x = preprocess(events)
    assert x.shape == (4, 1, 2, 34, 34) and float(x.sum()) == 3
    assert torch.equal(loaded(loaded.preprocess(events)), model.eval()(x))
    assert not loaded.training and loaded.classes == tuple("abcdefghij") and loaded.preprocess == preprocess
    assert loaded.metrics == {"loss": None, "accuracy": 0.5} and loaded.config == model.config
    (tmp_path / "model.json").unlink()
    assert neuro.load(tmp_path / "model.safetensors").config == model.config  # the file says it too


def test_a_run_keeps_its_split(tmp_path):
    made = by_draw("fifth", [0] * 10, 0.2, seed=1)
    run = Run.create(tmp_path, recipe="r")
    run.keep_split(made.facts())
    kept = json.loads((tmp_path / "split.json").read_text())
    assert kept["sha256"] == made.facts()["sha256"] and kept["rule"] == made.rule and not run.begun
    other = by_draw("fifth", [0] * 10, 0.2, seed=2)
    Run.create(tmp_path, recipe="r").keep_split(other.facts())  # nothing came of the first
    (tmp_path / "metrics.csv").write_text("")
    again = Run.create(tmp_path, recipe="r", resume=True)
    again.keep_split(other.facts())
    with pytest.raises(ParameterError, match="another split"):
        again.keep_split(made.facts())


def test_a_saved_model_stays_itself_when_the_registered_one_changes(tmp_path, model, monkeypatch):
    """As when a recipe's model was made narrower: old runs no longer loaded, and another tau would have gone unseen."""
    save_model(model, tmp_path)
    old = neuro.models.create("spikformer_nmnist")
    entry = neuro.models.registry.entry("spikformer_nmnist")

    def wider(**changes):
        made = type(old)(replace(old.config, **{"tau": 7.0, "channels": 3, **changes}))
        made.registered = neuro.models.registry.Registered("spikformer_nmnist", changes)
        return made

    monkeypatch.setitem(neuro.models.registry._entries, "spikformer_nmnist", replace(entry, make=wider))
    loaded = neuro.load(tmp_path)
    assert loaded.config == model.config
    save_model(loaded, tmp_path / "again")
    assert neuro.load(tmp_path / "again").config == model.config


def test_model_that_cannot_be_made_again_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="register"):
        save_model(torch.nn.Linear(2, 2), tmp_path)
    assert not list(tmp_path.iterdir())


def test_damaged_and_foreign_files(tmp_path, model):
    save_model(model, tmp_path)
    file = tmp_path / "model.safetensors"
    whole = file.read_bytes()
    for damaged in (b"", whole[:5], whole[: len(whole) // 2], pickle.dumps({"a": 1})):
        file.write_bytes(damaged)
        with pytest.raises(FormatError, match="cannot be read"):
            neuro.load(tmp_path)
    file.write_bytes(whole)
    about = json.loads((tmp_path / "model.json").read_text())
    for change in ({"format": "other"}, {"version": "1"}, {"preprocess": {"object": "os.system", "fields": {}}}, {"changes": 3}):
        (tmp_path / "model.json").write_text(json.dumps({**about, **change}))
        with pytest.raises(FormatError):
            neuro.load(tmp_path)
    with pytest.raises(FormatError, match="missing") as error:
        load_weights(neuro.models.create("spikformer_nmnist", dim=24, heads=2, depth=2), file)
    assert "of another shape" in str(error.value) and "more" in str(error.value)


def test_checkpoint_is_never_unpickled(tmp_path):
    path = tmp_path / "last.ckpt"

    class Evil:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({"a": Evil()}, path)
    with pytest.raises(FormatError, match="cannot be read"):
        WholeCheckpoints().load_checkpoint(path)
    WholeCheckpoints().save_checkpoint({"a": torch.ones(3), "step": 2}, path)
    assert WholeCheckpoints().load_checkpoint(path)["step"] == 2
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(FormatError, match="damaged"):
        WholeCheckpoints().load_checkpoint(path)


def test_what_stands_in_the_way_of_a_file_is_told_and_room_only_where_it_lacks(tmp_path):
    (tmp_path / "a file").write_text("x")
    (tmp_path / "a folder").mkdir()
    for path, says in ((tmp_path / "a file" / "b" / "c.json", "a file is a file, no folder"), (tmp_path / "a folder", "Choose another name")):
        with pytest.raises(WriteError, match=says) as error:
            write_json(path, {})
        assert "room" not in str(error.value) and "MB" not in str(error.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a file", "a folder"] and not list((tmp_path / "a folder").iterdir())


def test_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("neuro.files.os.fsync", full)
    with pytest.raises(WriteError, match="No space left"):
        write_json(path, {"new": 1})
    with pytest.raises(RuntimeError), replacing(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert json.loads(path.read_text()) == {"old": 1} and len(list(tmp_path.iterdir())) == 1


def test_table_is_cut_to_a_step(tmp_path):
    table = Table(tmp_path / "t.csv", ("step", "name", "value"))
    table.append({"step": 1, "name": "a,b", "value": 0.5}, {"step": 2})
    table.append({"step": 3, "value": 1})
    with open(table.path, "ab") as file:
        file.write(b"4,x")  # killed in the middle of a row
    assert [r["step"] for r in table.rows()] == ["1", "2", "3"]
    table.cut(2)
    assert table.path.read_text() == 'step,name,value\n1,"a,b",0.5\n2,,\n'


def test_described_values_come_back():
    value = {"a": (1, 2.5, None, "x"), "frames": Frames(bins=3, dtype=np.uint8), "sensor": Sensor(2, 3), "reset": neuro.reset.subtract}
    assert build(json.loads(json.dumps(describe(value)))) == value
    with pytest.raises(ParameterError):
        describe(object())


def test_run_is_created_once_and_reopened(tmp_path):
    made = Run.create(tmp_path / "r", recipe="x", options={"lr": 0.1, "data": tmp_path}, seed=4)
    assert Run.open(tmp_path / "r") == made and made.options["data"] == str(tmp_path)
    assert json.loads((tmp_path / "r/versions.json").read_text())["torch"]
    assert Run.create(tmp_path / "r", recipe="y") != made  # nothing came of it yet: its data may have been refused
    made = Run.create(tmp_path / "r", recipe="x", options={"lr": 0.1, "data": tmp_path}, seed=4)
    made.layers.append({"step": 1})
    with pytest.raises(ParameterError, match="already"):
        Run.create(tmp_path / "r", recipe="x")
    assert Run.create(tmp_path / "r", recipe="x", options={"lr": 0.1, "data": "moved"}, seed=4, resume=True) == made
    with pytest.raises(ParameterError, match="lr: 0.1 then, 0.2 now"):
        Run.create(tmp_path / "r", recipe="x", options={"lr": 0.2}, seed=4, resume=True)
    with pytest.raises(FormatError, match="--resume"):
        neuro.load(tmp_path / "r")


def test_decay_spares_biases_norms_and_neurons(model):
    decayed, spared = (g["params"] for g in groups(model, 0.1))
    assert all(p.dim() >= 2 for p in decayed) and all(p.dim() < 2 for p in spared)
    assert len(decayed) + len(spared) == len(list(model.parameters()))


def test_rate_warms_up_and_falls():
    rates = [Plan(1, lr=1.0, warmup=0.1).rate(s, 100) for s in range(100)]
    assert np.argmax(rates) == 9 and rates[9] == 1.0 and np.isclose(rates[-1], 0.01)
    assert all(np.diff(rates[:10]) > 0) and all(np.diff(rates[9:]) < 0)


def test_folds_share_every_class():
    labels = [0] * 11 + [1] * 7
    parts = folds(labels, 3, seed=1)
    assert sorted(np.concatenate(parts)) == list(range(18))
    for c in (0, 1):
        counts = [sum(labels[i] == c for i in part) for part in parts]
        assert max(counts) - min(counts) <= 1
    assert any((a != b).any() for a, b in zip(parts, folds(labels, 3, seed=2), strict=True) if len(a) == len(b))

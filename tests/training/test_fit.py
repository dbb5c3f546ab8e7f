"""What `fit` reports, keeps and warns of."""

import errno
import os
import re
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.multiprocessing import ProcessRaisedException
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from train_tiny import tiny_data, tiny_model

import neuro
from neuro.datasets import EpochBatches
from neuro.errors import FormatError, ParameterError
from neuro.files import WriteError
from neuro.training import Run
from neuro.training.fit import fit
from neuro.training.module import TrainingError, TrainingWarning
from neuro.training.position import _refuse_copies
from neuro.training.ranks import _told
from neuro.training.watch import Watch


def quick(folder, model=None, epochs=2, data=None, resume=False, **options):
    run = Run.create(folder, recipe="tiny", seed=3, resume=resume)
    data = data or tiny_data(shuffled=8)
    return fit(model or tiny_model(), data, run, epochs, resume=resume, progress=False, **{"report": False, "accelerator": "cpu", **options})


def test_figures_and_model_are_left_in_the_folder(tmp_path, capsys):
    rows = []
    result = quick(tmp_path / "run", on_epoch=rows.append, report=True)
    assert [r["epoch"] for r in rows] == [1, 2] and result.steps == 4 and result.epochs == 2
    assert result.val_accuracy == result.scores.accuracy == pytest.approx(rows[-1]["val_accuracy"])
    assert (tmp_path / "run/classes.csv").read_text().count("\n") == 9
    assert (tmp_path / "run/confusion.csv").read_text().startswith("true,0,1,2")
    assert "learning" in (tmp_path / "run/report.html").read_text().lower()
    model = neuro.load(tmp_path / "run")
    assert model.metrics["val_accuracy"] == result.val_accuracy and model.preprocess is not None
    assert capsys.readouterr() == ("", "")
    again = quick(tmp_path / "run", resume=True)  # finished: only read
    assert again.val_accuracy == result.val_accuracy and again.summary() == result.summary()


def test_stops_early_and_keeps_the_best(tmp_path):
    rows, added = [], (0.0, -1.0, 2.0)

    def loss(logits, label):  # in validation falls, then rises, whatever was learned
        return cross_entropy(logits, label) + (0.0 if torch.is_grad_enabled() else added[len(rows)])

    result = quick(tmp_path / "run", epochs=8, patience=1, keep_best=True, loss=loss, on_epoch=rows.append)
    losses = [r["val_loss"] for r in rows]
    assert len(rows) == 3 and min(losses) == losses[1]
    labels = [r.label for r in tiny_data().sets["val"]]
    model, frames = neuro.load(tmp_path / "run"), tiny_data().frames
    x = torch.cat([model.preprocess(r.events) for r in tiny_data().sets["val"]], 1)
    assert frames == model.preprocess.frames
    assert float(cross_entropy(model(x).detach(), torch.tensor(labels))) - 1.0 == pytest.approx(losses[1], rel=1e-4)
    assert result.scores.recordings == 8


def test_stopping_on_the_way_follows_the_course_of_the_whole(tmp_path):
    rows, part = [], []
    quick(tmp_path / "whole", epochs=4, on_epoch=rows.append)
    result = quick(tmp_path / "part", epochs=4, stop_after=2, on_epoch=part.append)
    assert result.epochs == len(part) == 2
    assert [r["lr"] for r in part] == [r["lr"] for r in rows[:2]] and [r["val_loss"] for r in part] == [r["val_loss"] for r in rows[:2]]
    with pytest.raises(ParameterError, match=r"outside its range.\n  stop_after=5, must be 0 .. epochs$"):  # which one, and no other
        quick(tmp_path / "never", epochs=4, stop_after=5)


@pytest.mark.parametrize("how", [{"patience": 2}, {"keep_best": True}])
def test_to_stop_or_choose_by_validation_needs_recordings_for_it(tmp_path, how):
    data = tiny_data(shuffled=8)
    data.sets["val"] = None
    with pytest.raises(ParameterError, match=f"no validation recordings(.|\\n)*{next(iter(how))}"):
        quick(tmp_path / "run", data=data, **how)


def test_a_layer_that_stays_silent_is_named(tmp_path):
    model = tiny_model()
    model.blocks[0].mlp.up_lif.threshold = 1e6
    with pytest.warns(TrainingWarning) as warned:
        quick(tmp_path / "run", model, epochs=5, look_every=5, data=tiny_data(batch_size=2))
    said = [str(w.message) for w in warned if "blocks.0.mlp.up_lif" in str(w.message)]
    assert len(said) == 1 and "Lower its threshold" in said[0]


def test_checkpoint_of_another_model_is_refused(tmp_path):
    quick(tmp_path / "run", epochs=1)
    (tmp_path / "run/model.json").unlink()
    for dim, says in ((16, "was saved from"), (24, "of another shape")):
        other = neuro.models.create("spikformer_nmnist", dim=dim, heads=2, image=32, classes=8)
        with pytest.raises(FormatError, match="spikformer_nmnist") as error:
            quick(tmp_path / "run", other, epochs=1, resume=True)
        assert "spikformer_2_256" in str(error.value) and says in str(error.value)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The weights of a run that had room all the time."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    quick(folder, checkpoint_batches=1)
    return neuro.load(folder).state_dict()


@pytest.mark.parametrize("write", [3, 5, 8])
def test_a_full_disk_in_training_leaves_a_run_that_goes_on(tmp_path, monkeypatch, whole, write):
    """The disk is full from the n-th write on; with room again the run ends as the one that had room all the time."""
    synced, count = os.fsync, [0]

    def full(handle):
        count[0] += 1
        if count[0] >= write:
            raise OSError(errno.ENOSPC, "No space left on device")
        return synced(handle)

    with monkeypatch.context() as patched, pytest.raises(WriteError, match="No space left(.|\n)*MB are free"):
        patched.setattr("os.fsync", full)
        quick(tmp_path / "run", checkpoint_batches=1)
    assert not list((tmp_path / "run").rglob("*.part")) and not (tmp_path / "run/model.safetensors").exists()
    quick(tmp_path / "run", checkpoint_batches=1, resume=True)
    ours = neuro.load(tmp_path / "run").state_dict()
    assert all(torch.equal(ours[k], whole[k]) for k in whole)


def test_watch_counts_what_the_model_does():
    lif = neuro.neurons.LIF(decay=0.5)
    x = torch.tensor([0.0, 2.0, 0.6]).expand(4, 2, 3).clone().requires_grad_()
    with Watch(lif) as watch:
        lif(x).sum().backward()
    (layer,) = watch.layers()
    assert layer.silent == pytest.approx(1 / 3) and layer.always == pytest.approx(1 / 3)
    assert layer.gradient == pytest.approx(24**0.5)
    assert not lif._forward_hooks


def test_training_that_diverges_stops_and_saves_nothing(tmp_path):
    with pytest.raises(TrainingError, match="diverged") as error:
        quick(tmp_path / "run", loss=lambda logits, label: cross_entropy(logits, label) / 0 * 0)
    assert "Lower lr" in str(error.value)
    assert not (tmp_path / "run/model.safetensors").exists() and not (tmp_path / "run/checkpoints/last.ckpt").exists()


def test_batches_cut_otherwise_are_refused_when_going_on(tmp_path):
    """As with another number of devices: the position in the epoch and the course of the learning rate count batches."""

    def stop(row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quick(tmp_path / "run", epochs=3, on_epoch=stop, checkpoint_batches=1)
    with pytest.raises(ParameterError, match="cannot go on with these batches") as error:
        quick(tmp_path / "run", epochs=3, data=tiny_data(batch_size=2, shuffled=8), resume=True)
    assert re.search(r"(\d) then, (?!\1)\d+ now", str(error.value))


def test_processes_are_not_given_the_same_batches():
    two, one = SimpleNamespace(world_size=2), SimpleNamespace(world_size=1)
    plain = DataLoader(range(8), batch_size=2)
    _refuse_copies(plain, one)
    _refuse_copies(DataLoader(range(8), batch_sampler=EpochBatches(8, 2, world=2)), two)
    with pytest.raises(ParameterError, match="the same batches"):
        _refuse_copies(plain, two)


def test_an_error_of_ours_in_a_process_comes_out_without_its_traceback():
    text = "-- Process 0 terminated --\nTraceback ...\nneuro.files.WriteError: could not write x.\n  No space\n"
    assert str(_told(ProcessRaisedException(text, 0, 1))) == "could not write x.\n  No space"
    foreign = ProcessRaisedException("Traceback ...\nValueError: x", 0, 1)
    assert _told(foreign) is foreign


class Bare(nn.Module):
    def forward(self, x):
        raise AssertionError("it is refused before it runs")


def test_what_could_not_be_saved_or_trained_is_refused_before_the_first_step(tmp_path):
    for model, says in ((Bare(), "fit: this Bare does not say how it was made"), (tiny_model().double(), r"float64(.|\n)*model\.float\(\)")):
        with pytest.raises(ParameterError, match=says):
            quick(tmp_path / "run", model=model)


def test_fewer_classes_than_labels_are_told(tmp_path):
    model, data = tiny_model(), tiny_data(shuffled=8)
    head = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    head.weight, head.bias = nn.Parameter(head.weight[:2].detach()), None if head.bias is None else nn.Parameter(head.bias[:2].detach())
    with pytest.raises(ParameterError, match=r"fewer classes than there are.\n  answers 2   labels up to [2-7]"):
        quick(tmp_path / "run", model=model, data=data)


@pytest.mark.parametrize("accelerator", ["gpuu", pytest.param("cuda", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one"))])
def test_a_machine_that_is_not_there_is_told(tmp_path, accelerator):
    with pytest.raises(ParameterError, match=f"accelerator='{accelerator}'(.|\n)*auto"):
        quick(tmp_path / "run", accelerator=accelerator)

"""Which recordings a run was begun with is written down, and others are refused when it goes on."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset
from train_tiny import tiny_data, tiny_model

from neuro.datasets import EventDataModule, Frames, make_motions
from neuro.errors import ParameterError
from neuro.training import Run
from neuro.training.fingerprint import fingerprint
from neuro.training.fit import fit
from neuro.training.folds import Part


def data_of(train, val=None):
    return EventDataModule(train, val, frames=Frames(bins=4), batch_size=4, seed=3)


class Lazy:
    """Recordings that are read when asked for, as those of N-MNIST."""

    def __init__(self, recordings):
        self.recordings, self.reads = recordings, 0
        self.names, self.labels = [r.name for r in recordings], [r.label for r in recordings]

    def __len__(self):
        return len(self.recordings)

    def __getitem__(self, i):
        self.reads += 1
        return self.recordings[i]


def other_events(recording):
    events = recording.events.copy()
    events["x"][0] ^= 1
    return replace(recording, events=events)


@pytest.mark.parametrize(
    "kind", [list, Lazy, lambda r: Part(r, np.arange(len(r))), lambda r: Part(Lazy(r), np.arange(len(r)))]
)
def test_every_difference_is_seen(kind):
    recordings = make_motions(16)
    same = fingerprint(data_of(kind(recordings)))
    assert same == fingerprint(data_of(kind(make_motions(16)))) and same["train"]["recordings"] == 16
    for what, changed in (
        ("events", [other_events(recordings[0]), *recordings[1:]]), ("labels", [replace(recordings[0], label=7), *recordings[1:]]),
        ("names", [replace(recordings[0], name="x"), *recordings[1:]]), ("labels", [recordings[1], recordings[0], *recordings[2:]]),
    ):  # fmt: skip
        assert fingerprint(data_of(kind(changed)))["train"][what] != same["train"][what], what
    assert fingerprint(data_of(kind(recordings), recordings[:3]))["val"]["recordings"] == 3


def test_a_large_set_is_not_read():
    lazy = Lazy(make_motions(8) * 100)
    assert set(fingerprint(data_of(lazy))["train"]) == {"recordings", "names", "labels", "events"} and lazy.reads == 64


def test_of_other_loaders_the_number_is_known():
    class Plain:
        def train_dataloader(self):
            return DataLoader(TensorDataset(torch.zeros(5, 2)))

    assert fingerprint(Plain()) == {"train": {"recordings": 5}}


def test_going_on_with_other_recordings_is_refused(tmp_path):
    """As many batches of as many recordings, with the same options: only the recordings differ."""

    def go(data, resume, stop):
        run = Run.create(tmp_path / "run", recipe="tiny", seed=3, resume=resume)
        return fit(
            tiny_model(), data, run, 2, accelerator="cpu", resume=resume, report=False, progress=False, on_epoch=stop
        )

    def stop(row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(tiny_data(shuffled=8), False, stop)
    other = tiny_data(shuffled=8)
    other.sets["train"] = make_motions(8, seed=6)
    with pytest.raises(
        ParameterError,
        match="begun with other recordings(.|\n)*train events: [0-9a-f]+ then, [0-9a-f]+ now(.|\n)*new run",
    ):
        go(other, True, None)
    assert go(tiny_data(shuffled=8), True, None).epochs == 2
    with pytest.raises(
        ParameterError, match="begun with other"
    ):  # also of a finished run, whose validation would be taken anew
        go(other, True, None)


def test_a_run_of_an_older_version_takes_what_it_is_given(tmp_path):
    run = Run.create(tmp_path / "run", recipe="tiny", seed=3)
    fit(tiny_model(), tiny_data(shuffled=8), run, 1, accelerator="cpu", report=False, progress=False)
    run.data.unlink()
    fit(tiny_model(), tiny_data(shuffled=8), run, 1, accelerator="cpu", report=False, progress=False, resume=True)
    assert json.loads(run.data.read_text())["sets"] == fingerprint(tiny_data(shuffled=8))

"""Mixed recordings: labels are the shares of the events' sources, the same in every process, and a network trains on them."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import neuro
from neuro import loss
from neuro.datasets import (
    CompactLoader,
    EpochBatches,
    EventCutMix,
    EventDataModule,
    EventFrames,
    EventMixup,
    Frames,
    MixedFrames,
    collate,
)
from neuro.datasets.augment import RandomShift
from neuro.datasets.events import Recording, Sensor, make_events
from neuro.datasets.motions import CLASSES, make_motions
from neuro.errors import ParameterError, ShapeError
from neuro.training import Run
from neuro.training.fit import fit

FRAMES = Frames(bins=2, dtype=np.uint8)


def column(label, count=400):
    """All events in one column, which is the label."""
    return Recording(make_events(np.full(count, label), np.arange(count) % 8, np.arange(count), np.ones(count, bool)), Sensor(8, 8), label, str(label))


@pytest.mark.parametrize("mix", [EventMixup(), EventCutMix()])
def test_labels_are_shares_of_what_is_mixed(mix):
    data = MixedFrames([column(k) for k in range(8)], FRAMES, mix, classes=8, seed=4)
    soft = 0
    for epoch in range(5):
        for index in range(8):
            x, label = data[epoch, index]
            assert label.dtype == np.float32 and label.min() >= 0 and abs(label.sum() - 1) < 1e-6
            seen = set(np.flatnonzero(x.sum((0, 1, 2)).numpy()))
            assert seen <= set(np.flatnonzero(label > 0))
            if isinstance(mix, EventMixup):
                counts = x.sum((0, 1, 2)).numpy()
                assert np.abs(counts / counts.sum() - label).max() < 0.15
            soft += 0 < label[index] < 1
    assert soft > 20
    again = MixedFrames([column(k) for k in range(8)], FRAMES, mix, classes=8, seed=4)
    assert all(torch.equal(data[1, k].x, again[1, k].x) and np.array_equal(data[1, k].label, again[1, k].label) for k in range(8))
    assert any(not np.array_equal(data[1, k].label, data[2, k].label) for k in range(8))


def test_without_chance_nothing_is_mixed():
    made = make_motions(6)
    plain, mixed = EventFrames(made, FRAMES), MixedFrames(made, FRAMES, EventMixup(), len(CLASSES), chance=0.0)
    for k in range(6):
        assert torch.equal(plain[k].x, mixed[k].x) and mixed[k].label.argmax() == plain[k].label and mixed[k].label.max() == 1


def test_batches_carry_soft_labels_in_both_loaders():
    data = MixedFrames(make_motions(8), FRAMES, EventMixup(), len(CLASSES), RandomShift(2))
    cut = EpochBatches(8, 4)
    plain = list(DataLoader(data, batch_sampler=cut, collate_fn=collate))
    for a, b in zip(plain, CompactLoader(data, batch_sampler=cut), strict=True):
        assert list(a.label.shape) == [4, len(CLASSES)] and a.label.dtype == b.label.dtype == torch.float32
        assert torch.equal(a.label, b.label) and torch.equal(a.x, b.x)
    hard = next(iter(DataLoader(EventFrames(make_motions(4), FRAMES), batch_size=4, collate_fn=collate)))
    assert hard.label.dtype == torch.int64 and hard.label.shape == (4,)


def test_a_network_trains_on_mixtures(tmp_path):
    net = neuro.models.create("spikformer_nmnist", dim=16, heads=2, depth=1, image=32, classes=len(CLASSES))
    data = EventDataModule(make_motions(16), make_motions(8, seed=1), frames=Frames(bins=2), mix=EventMixup(), classes=CLASSES, batch_size=8)
    run = Run.create(tmp_path / "run", recipe="tiny")
    fitted = fit(net, data, run, 2, 1e-3, loss=loss.cross_entropy, accelerator="cpu", progress=False, report=False)
    assert fitted.steps == 4 and np.isfinite(fitted.val_accuracy)


def test_what_cannot_be_mixed_is_refused():
    other = Recording(column(1).events, Sensor(16, 16), 1, "large")
    with pytest.raises(ShapeError, match="two sensors"):
        [MixedFrames([column(0), other], FRAMES, EventMixup(), 2, seed=s)[0] for s in range(20)]
    with pytest.raises(ParameterError, match="no class"):
        MixedFrames([column(3)], FRAMES, EventMixup(), 2)[0]
    for wrong in ({"classes": 0}, {"classes": 2, "chance": 1.5}, {"classes": 2, "seed": -1}):
        with pytest.raises(ParameterError):
            MixedFrames([column(0)], FRAMES, EventMixup(), **wrong)
    with pytest.raises(ParameterError, match="classes="):
        EventDataModule(make_motions(2), frames=FRAMES, mix=EventMixup())

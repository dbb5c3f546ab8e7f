"""Batches that travel as bytes are the batches that travel as floats."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from neuro.datasets.augment import TimeJitter
from neuro.datasets.cache import cache_frames
from neuro.datasets.compact import ByteSamples, CompactLoader
from neuro.datasets.examples import EncodedExamples
from neuro.datasets.loading import EventFrames, collate
from neuro.datasets.mixed import MixedFrames
from neuro.datasets.mixing import EventMixup
from neuro.datasets.mnist import MNIST
from neuro.datasets.motions import make_motions
from neuro.datasets.sampling import EpochBatches
from neuro.datasets.transforms import Frames
from neuro.datasets.voxels import VoxelGrid
from neuro.errors import ParameterError


def same(a, b):
    return len(a) == len(b) and all(
        torch.equal(s, t) and s.dtype == t.dtype for one, other in zip(a, b, strict=True) for s, t in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "frames", [Frames(bins=7, dtype=np.uint8), Frames(window_us=30_000, dtype=np.uint8), Frames(bins=7), VoxelGrid(5)], ids=repr
)
def test_the_batches_are_those_of_collate(frames, workers):
    data = EventFrames(make_motions(7), frames, TimeJitter(500.0), seed=3)
    batches = EpochBatches(7, 3, seed=1)
    plain = list(DataLoader(data, batch_sampler=batches, collate_fn=collate))
    compact = CompactLoader(data, batch_sampler=batches, num_workers=workers)
    assert same(list(compact), plain)
    assert plain[0].x.dtype == torch.float32 and plain[0].x.any()
    assert same(list(compact), plain)  # a second time


def test_small_counts_travel_as_bytes_and_others_as_floats():
    recordings = make_motions(2)
    for dtype, expected in ((np.uint8, torch.uint8), (np.uint16, torch.uint8), (np.int64, torch.uint8), (np.float32, torch.float32)):
        data = EventFrames(recordings, Frames(bins=4, dtype=dtype))
        loader = CompactLoader(data, batch_size=2)
        assert ByteSamples(data)[0].x.dtype == expected
        sent = loader.collate_fn([loader.dataset[0]])
        assert all(isinstance(part, np.ndarray) for part in sent) and torch.from_numpy(sent[0]).dtype == expected
        assert next(iter(loader)).x.dtype == torch.float32


@pytest.mark.parametrize(
    "values",
    [
        np.array([0, 255]), np.array([0, 256]), np.array([-1, 3]), np.array([True, False]), np.array([0.0, 255.0]), np.array([-0.0, 0.5]),
        np.array([2**24 + 1, 0]), np.array([255, 0], np.uint8)[::-1], np.zeros(0, np.int64),
    ],
    ids=lambda v: f"{v.dtype} {v.tolist()}",
)  # fmt: skip
def test_any_numbers_arrive_as_with_collate(values):
    shaped = values.reshape(1, 1, 1, -1)[..., ::-1]
    shaped.flags.writeable = False
    data = EventFrames(make_motions(2), lambda events, sensor: shaped)
    plain = DataLoader(data, 2, collate_fn=collate)
    assert same(list(CompactLoader(data, batch_size=2)), [plain.collate_fn([data[0], data[1]])])


def test_shares_of_classes_arrive():
    data = MixedFrames(make_motions(5), Frames(bins=3), EventMixup(), classes=8, seed=2)
    plain = list(DataLoader(data, 2, collate_fn=collate))
    assert same(list(CompactLoader(data, batch_size=2, num_workers=1)), plain)
    assert plain[0].label.shape == (2, 8)


def test_a_sample_that_does_not_fit_a_byte_changes_nothing_of_the_others():
    frames = iter([np.full((1, 1, 1, 1), 7), np.full((1, 1, 1, 1), 1000)])
    data = EventFrames(make_motions(2), lambda events, sensor: next(frames))
    (batch,) = CompactLoader(data, batch_size=2)
    assert batch.x.flatten().tolist() == [7, 1000]


def test_large_bytes_stay_large():
    """200 in a byte is 200, not -56."""
    recordings = make_motions(1)
    loud = EventFrames(recordings, lambda events, sensor: np.full((2, 2, 3, 3), 200, np.uint8))
    assert (next(iter(CompactLoader(loud))).x == 200).all()


def test_cached_frames_come_the_same_way(tmp_path):
    data = EventFrames(make_motions(6), Frames(bins=5, dtype=np.uint8))
    kept = cache_frames(data, tmp_path, "motions 6 0")
    plain = list(DataLoader(data, 4, collate_fn=collate))
    assert same(list(CompactLoader(kept, batch_size=4, num_workers=2)), plain)
    assert same(list(DataLoader(kept, 4, collate_fn=collate)), plain)
    with pytest.raises(IndexError, match="no sample 6"):
        kept.counted(6)


def test_data_without_counts_is_refused():
    with pytest.raises(ParameterError, match="EncodedExamples"):
        CompactLoader(EncodedExamples(MNIST.simulated(2), lambda x, rng: x[None]))


def test_lightning_predicts_with_it():
    import lightning

    class Sums(lightning.LightningModule):
        def predict_step(self, batch, index):
            return batch.x.sum().item()

    data = EventFrames(make_motions(3), Frames(bins=2))
    trainer = lightning.Trainer(logger=False, enable_progress_bar=False, accelerator="cpu", enable_checkpointing=False)
    expected = [b.x.sum().item() for b in DataLoader(data, 2, collate_fn=collate)]
    assert trainer.predict(Sums(), CompactLoader(data, batch_size=2)) == expected
    with pytest.raises(ParameterError, match="collates by itself"):
        CompactLoader(data, collate_fn=collate)


def seeded(worker):
    np.random.seed(100 + worker)


def test_what_a_worker_is_to_do_first_is_done():
    data = EventFrames(make_motions(2), lambda events, sensor: np.random.random((1, 1, 1, 1)))
    loader = CompactLoader(data, batch_size=1, num_workers=2, worker_init_fn=seeded)
    assert [b.x.item() for b in loader] == [np.float32(np.random.RandomState(100 + k).random_sample()) for k in range(2)]


def test_recordings_of_different_length_are_filled_up():
    recordings = make_motions(2)
    short = recordings[1]
    short = type(short)(short.events[short.events["t"] < 40_000], short.sensor, 1, "short")
    data = EventFrames([recordings[0], short], Frames(window_us=10_000, dtype=np.uint8))
    (batch,) = CompactLoader(data, batch_size=2)
    assert batch.lengths[0] > batch.lengths[1] and (batch.x[batch.lengths[1] :, 1] == 0).all()

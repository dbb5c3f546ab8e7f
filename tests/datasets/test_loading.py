"""Loading: the same batches whatever the workers, padding that is zero, and Lightning going on mid-epoch."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from neuro.datasets.augment import Compose, RandomDrop, RandomShift
from neuro.datasets.events import Recording
from neuro.datasets.loading import Batch, EventFrames, Sample, collate
from neuro.datasets.motions import make_motions
from neuro.datasets.sampling import EpochBatches
from neuro.datasets.transforms import Frames
from neuro.errors import ParameterError, ShapeError

MOTIONS = make_motions(21)
FRAMES = Frames(bins=4, duration_us=100_000, origin_us=0)
DATA = EventFrames(MOTIONS, FRAMES, Compose(RandomShift(3), RandomDrop(0.2)), seed=5)


def epochs(workers, count=2):
    batches = EpochBatches(len(DATA), 8, seed=5)
    how = {"num_workers": workers, "persistent_workers": workers > 0}
    loader, result = DataLoader(DATA, batch_sampler=batches, collate_fn=collate, **how), []
    for epoch in range(count):
        batches.set_epoch(epoch)
        result.extend(loader)
    return result


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert all(torch.equal(u, v) for u, v in zip(a, b, strict=True))


def test_persistent_workers_give_what_no_workers_give():
    alone = epochs(0)
    assert_same(alone, epochs(2))
    assert not torch.equal(alone[0].x, alone[3].x)


def test_augmentation_depends_on_seed_epoch_and_index():
    same, again, later = DATA[0, 3], DATA[0, 3], DATA[1, 3]
    assert torch.equal(same.x, again.x) and not torch.equal(same.x, later.x)
    assert torch.equal(DATA[3].x, same.x)
    assert not torch.equal(EventFrames(MOTIONS, FRAMES, DATA.augment, seed=6)[0, 3].x, same.x)
    plain = EventFrames(MOTIONS, FRAMES)
    assert torch.equal(plain[0, 3].x, plain[9, 3].x) and plain[3].x.sum() == len(MOTIONS[3].events)


def test_a_batch_has_time_first_and_says_its_lengths():
    batch = collate([DATA[i] for i in range(3)])
    assert isinstance(batch, Batch) and batch.x.shape == (4, 3, 2, 32, 32)
    assert [t.dtype for t in batch] == [torch.float32, torch.int64, torch.int64]
    assert batch.lengths.tolist() == [4, 4, 4] and batch.label.tolist() == [0, 1, 2]
    assert torch.equal(batch.x[:, 1], DATA[1].x)


def test_shorter_samples_are_filled_with_zeros():
    windows = Frames(window_us=20_000)
    short = MOTIONS[0].events[:50]
    recordings = [MOTIONS[0], Recording(short, MOTIONS[0].sensor, 6), Recording(short[:0], MOTIONS[0].sensor, 7)]
    data = EventFrames(recordings, windows)
    batch = collate([data[i] for i in range(3)])
    assert batch.lengths.tolist() == [len(data[i].x) for i in range(3)] and batch.lengths[1] < batch.lengths[0]
    for b in range(3):
        assert batch.x[:, b].sum() == len(recordings[b].events) and not batch.x[batch.lengths[b] :, b].any()


def test_wrong_batches_and_keys_are_refused():
    with pytest.raises(ShapeError, match="agree"):
        collate([Sample(torch.zeros(3, 2, 4, 4), 0), Sample(torch.zeros(3, 2, 5, 4), 0)])
    with pytest.raises(ShapeError, match="no samples"):
        collate([])
    for key in (21, -1, (0, 21)):
        with pytest.raises(IndexError):
            DATA[key]
    with pytest.raises(ParameterError):
        EventFrames(MOTIONS, FRAMES, seed=-1)


def test_lightning_goes_on_mid_epoch_with_the_very_next_batch(tmp_path):
    import lightning
    from lightning.pytorch.callbacks import ModelCheckpoint

    from neuro.datasets.datamodule import EventDataModule

    class Seen(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer, self.seen = torch.nn.Linear(1, 8), []

        def training_step(self, batch, number):
            self.seen.append((self.current_epoch, number, batch.label.tolist(), batch.x.clone()))
            return torch.nn.functional.cross_entropy(self.layer(batch.x.mean((0, 2, 3, 4))[:, None]), batch.label)

        def validation_step(self, batch, number):
            raise AssertionError("no validation recordings were given")

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    def fit(workers, resume=None, **how):
        model = Seen()
        data = EventDataModule(
            MOTIONS, frames=FRAMES, augment=DATA.augment, classes="abcdefgh", batch_size=8, workers=workers
        )
        quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = lightning.Trainer(**quiet, **how)
        trainer.fit(model, data, ckpt_path=resume)
        return model.seen

    whole = fit(0, max_epochs=2, enable_checkpointing=False)
    assert [s[:2] for s in whole] == [(e, b) for e in range(2) for b in range(3)]
    for step in (2, 3, 4):
        keep = ModelCheckpoint(tmp_path / str(step), filename="at", every_n_train_steps=step, save_top_k=-1)
        fit(2 if step == 4 else 0, max_steps=step, max_epochs=2, callbacks=[keep])
        rest = fit(0, tmp_path / str(step) / "at.ckpt", max_epochs=2, enable_checkpointing=False)
        assert [s[:3] for s in rest] == [s[:3] for s in whole[step:]]
        assert all(torch.equal(a[3], b[3]) for a, b in zip(rest, whole[step:], strict=True))


def test_a_data_module_without_a_trainer():
    from neuro.datasets.datamodule import EventDataModule

    data = EventDataModule(MOTIONS, val=MOTIONS[:5], frames=FRAMES, classes=("a", "b"), batch_size=4)
    assert data.classes == ("a", "b")
    assert sum(len(b.label) for b in data.train_dataloader()) == 21
    assert np.concatenate([b.label for b in data.val_dataloader()]).tolist() == [0, 1, 2, 3, 4]
    assert EventDataModule(MOTIONS, frames=FRAMES).val_dataloader() == []
    with pytest.raises(ParameterError, match="no test recordings were given.\n  given: train, val"):
        data.test_dataloader()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_module_gives_what_collate_gives(workers):
    from neuro.datasets.compact import CompactLoader
    from neuro.datasets.datamodule import EventDataModule

    data = EventDataModule(MOTIONS, frames=FRAMES, augment=DATA.augment, batch_size=8, seed=5, workers=workers)
    loader = data.train_dataloader()
    assert isinstance(loader, CompactLoader)
    for a, b in zip(loader, epochs(0), strict=False):
        assert all(torch.equal(u, v) and u.dtype == v.dtype for u, v in zip(a, b, strict=True))
    assert len(loader) == 3


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, neuro.datasets; from neuro.datasets import Frames, NMNIST; print([m for m in {} if m in sys.modules])"
    heavy = ["lightning", "tonic", "numba", "matplotlib", "pandas"]
    run = subprocess.run([sys.executable, "-c", code.format(heavy)], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"

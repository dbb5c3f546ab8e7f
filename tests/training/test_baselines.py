"""The plain networks that a spiking one is held against: they learn what can be learned, stop when they should, and count right."""

import numpy as np
import pytest
import torch

from neuro.datasets.datamodule import EventDataModule
from neuro.datasets.loading import Batch
from neuro.datasets.motions import CLASSES as MOTIONS
from neuro.datasets.motions import DURATION_US, make_motions
from neuro.datasets.transforms import Frames
from neuro.errors import ParameterError
from neuro.training.baselines import (
    LinearOnFrames,
    SmallCNN,
    accuracy,
    linear_classifier,
    mean_features,
    train_on_summed_frames,
    train_until_it_fits,
)

N, IMAGE, CLASSES = 96, 8, 4


def stripes(n=N, seed=0):
    """Frames [N, 2, 8, 8] whose class is the pair of columns that is bright; noise elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(n) % CLASSES
    x = torch.rand(n, 2, IMAGE, IMAGE, generator=generator)
    for i, c in enumerate(label):
        x[i, :, :, 2 * c : 2 * c + 2] += 1.5
    return x, label


@pytest.mark.parametrize("kind", [LinearOnFrames, SmallCNN])
def test_what_can_be_learned_is_learned(kind):
    model, seen = kind(2, IMAGE, CLASSES), []
    found = train_until_it_fits(model, stripes(), stripes(seed=1), on_epoch=lambda epoch, reached: seen.append((epoch, reached)))
    assert found.train_accuracy > 0.9 and found.test_accuracy > 0.9
    assert [epoch for epoch, _ in seen] == list(range(1, found.epochs + 1)) and seen[-1][1] == found.train_accuracy
    assert all(reached <= 0.9 for _, reached in seen[:-1])  # it stops as soon as it fits
    assert found.test_accuracy == accuracy(model, *stripes(seed=1))


def test_it_stops_when_the_training_accuracy_no_longer_rises():
    x, label = stripes()
    found = train_until_it_fits(LinearOnFrames(2, IMAGE, CLASSES), (torch.zeros_like(x), label), (x, label), patience=3, most_epochs=50)
    assert found.epochs < 20 and found.train_accuracy < 0.5


def test_it_stops_at_the_last_epoch():
    assert train_until_it_fits(LinearOnFrames(2, IMAGE, CLASSES), stripes(), stripes(), enough=1.0, lr=1e-6, most_epochs=2).epochs == 2


def test_the_same_seed_trains_the_same_network():
    def trained(seed):
        torch.manual_seed(0)
        model = LinearOnFrames(2, IMAGE, CLASSES)
        train_until_it_fits(model, stripes(), stripes(), seed=seed, enough=1.1, most_epochs=2)
        return model.head.weight.detach()

    assert torch.equal(trained(1), trained(1)) and not torch.equal(trained(1), trained(2))


def test_a_last_batch_of_one_is_left_out():
    x, label = stripes(9)
    model = SmallCNN(2, IMAGE, CLASSES)
    train_until_it_fits(model, (x, label), (x, label), batch=8, most_epochs=1)  # batch norm on one sample of 1x1 maps would fail
    assert int(model.features[1].num_batches_tracked) == 1


@pytest.mark.parametrize("batch", [1, 3, 256])
def test_accuracy_is_the_share_of_right_answers_in_evaluation_mode(batch):
    x, label = stripes(10)
    model = SmallCNN(2, IMAGE, CLASSES)
    statistics = model.features[1].running_mean.clone()
    found = accuracy(model, x, label, batch=batch)
    assert not model.training and torch.equal(model.features[1].running_mean, statistics)
    with torch.no_grad():
        assert found == sum(int(model(a[None]).argmax()) == int(b) for a, b in zip(x, label, strict=True)) / 10


@pytest.mark.parametrize("image", [8, 10, 34])
def test_shapes_and_gradients(image):
    for model in (LinearOnFrames(3, image, 5), SmallCNN(3, image, 5)):
        y = model(torch.rand(2, 3, image, image))
        assert y.shape == (2, 5)
        y.square().sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_summed_frames_of_a_data_module():
    frames = Frames(bins=3, duration_us=DURATION_US, origin_us=0)
    train, val = make_motions(40, seed=1), make_motions(24, seed=2)

    def trained(epochs, looks=()):
        torch.manual_seed(0)
        model = LinearOnFrames(2, 32, len(MOTIONS))
        return model, train_on_summed_frames(model, EventDataModule(train, val, frames=frames, classes=MOTIONS, batch_size=10, seed=4), epochs, looks=looks)

    model, reached = trained(4)
    x = torch.stack([torch.as_tensor(frames(r.events, r.sensor)).float().sum(0) for r in val])
    assert reached == {4: accuracy(model, x, torch.tensor([r.label for r in val]))} and reached[4] > 1.5 / len(MOTIONS)  # it learned something
    again, same = trained(4)
    assert torch.equal(model.head.weight, again.head.weight) and same == reached
    _, looked = trained(4, looks=(2, 4))
    half, stopped = trained(4, looks=(2,))  # the first two of the same four
    assert looked == {2: stopped[2], 4: reached[4]} and not torch.equal(half.head.weight, model.head.weight)
    with pytest.raises(ParameterError, match="looks"):
        trained(4, looks=(5,))


def test_mean_features_are_those_of_each_samples_own_steps():
    x = torch.full((4, 2, 1), float("nan"))  # what fills up a sample is not looked at
    x[:, 0, 0], x[:1, 1, 0] = torch.tensor([1.0, 3.0, 5.0, 7.0]), 9.0
    rows, labels = mean_features([Batch(x, torch.tensor([4, 1]), torch.tensor([1, 0]))], bins=2)
    assert rows.tolist() == [[2.0, 6.0], [9.0, 9.0]] and labels.tolist() == [1, 0]
    rows, _ = mean_features([Batch(x[:3, :1], torch.tensor([3]), torch.tensor([0]))], bins=2)
    assert rows.tolist() == [[2.0, 4.0]]  # three steps in two parts share the second


def test_a_linear_classifier_learns_what_is_linear_and_nothing_of_the_test_samples():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(400, 5)), rng.integers(0, 3, 400)
    x[:, :3] += 6 * np.eye(3)[y]
    assert linear_classifier((x[:300], y[:300]), (x[300:], y[300:])) > 0.95
    assert linear_classifier((x[:300], rng.permutation(y[:300])), (x[300:], y[300:])) < 0.6
    parts = [linear_classifier((x[:300], y[:300]), (x[a:b], y[a:b])) for a, b in ((300, 350), (350, 400))]
    assert linear_classifier((x[:300], y[:300]), (x[300:], y[300:])) == pytest.approx(sum(parts) / 2)


def test_a_linear_classifier_of_one_class_or_of_few_samples_still_answers():
    x = np.array([[0.0], [1.0], [2.0]])
    assert linear_classifier((x[:1], np.array([2])), (x, np.array([2, 2, 0]))) == pytest.approx(2 / 3)
    assert linear_classifier((x, np.array([1, 1, 1])), (x, np.array([0, 2, 0]))) == 0.0
    for seed in range(4):  # whichever of the two is left to learn from
        assert linear_classifier((x[[0, 2]], np.array([0, 1])), (x[[0, 2]], np.array([0, 1])), seed=seed) == 1.0

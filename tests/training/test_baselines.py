"""The plain networks that a spiking one is held against: they learn what can be learned, stop when they should, and count right."""

import pytest
import torch

from neuro.datasets.datamodule import EventDataModule
from neuro.datasets.motions import CLASSES as MOTIONS
from neuro.datasets.motions import DURATION_US, make_motions
from neuro.datasets.transforms import Frames
from neuro.errors import ParameterError
from neuro.training.baselines import LinearOnFrames, SmallCNN, accuracy, train_on_summed_frames, train_until_it_fits

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

"""Recordings of static images: the path, what symmetric images must give, and N-MNIST's own recordings of the same digits."""

import numpy as np
import pytest
import torch

from neuro.datasets.events import Recording, Sensor, check_events
from neuro.datasets.loading import EventFrames
from neuro.datasets.mnist import MNIST
from neuro.datasets.nmnist import NMNIST
from neuro.datasets.saccades import AS_NMNIST, SaccadeRecordings, Triangle, saccades
from neuro.datasets.transforms import Frames
from neuro.datasets.video import VideoCamera
from neuro.deploy import nir
from neuro.errors import ParameterError, ShapeError

QUIET = VideoCamera(threshold=0.25, mismatch=0.0)


def test_the_path_goes_round_its_corners_and_rests_there():
    path = Triangle()
    times, places = path.places()
    corners = np.array(path.corners) - np.mean(path.corners, axis=0)
    assert times[0] == 0 and times[-1] == path.duration_us == 300_000 and (np.diff(times) > 0).all()
    for k in range(4):
        (at,) = np.flatnonzero(times == k * 100_000)
        assert np.allclose(places[at], corners[k % 3], atol=1e-12)
    speed = np.hypot(*np.diff(places, axis=0).T) / np.diff(times)
    legs = np.hypot(*(np.roll(corners, -1, 0) - corners).T)
    for k, leg in enumerate(speed.reshape(3, -1)):
        assert leg.sum() * path.step_us == pytest.approx(legs[k])  # straight: no longer than from corner to corner
        assert leg[[0, -1]].max() < 0.01 * leg.max()
        assert leg.max() == pytest.approx(1.875 * legs[k] / 100_000, rel=2e-3)  # least jerk; the mean of a step, not its peak
    assert np.hypot(*np.diff(places, axis=0).T).max() < 0.25


def test_the_last_step_may_be_shorter():
    times, _ = Triangle(corners=((0, 0), (1, 0)), leg_us=1000, step_us=300).places()
    assert times.tolist() == [0, 300, 600, 900, 1200, 1500, 1800, 2000]


def test_the_edges_tell_the_direction():
    """A bright square that moves down and right fires ON at its right and lower edge, OFF at the others."""
    image = np.zeros((20, 20))
    image[6:14, 6:14] = 1
    events = saccades(image, 0, QUIET).events
    first = events[events["t"] < 100_000]
    on, off = first[first["p"]], first[~first["p"]]
    assert len(on) > 50 and len(off) > 50
    assert on["x"].mean() > off["x"].mean() + 1 and on["y"].mean() > off["y"].mean() + 2
    dark = saccades(image, 0, QUIET, Triangle(negative=True)).events  # a dark square on a bright screen: the other way round
    dark = dark[dark["t"] < 100_000]
    assert dark[dark["p"]]["x"].mean() < dark[~dark["p"]]["x"].mean() - 1
    third = events[events["t"] >= 200_000]  # to the left
    assert third[third["p"]]["x"].mean() < third[~third["p"]]["x"].mean() - 4


def test_what_went_up_came_down():
    """The path is closed, so each pixel ends within a threshold of where it began."""
    events = saccades(np.random.default_rng(0).random((16, 16)), 0, QUIET).events
    net = np.zeros((22, 22), int)
    np.add.at(net, (events["y"], events["x"]), np.where(events["p"], 1, -1))
    assert len(events) > 2000 and np.abs(net).max() <= 1


def test_an_image_mirrored_along_a_vertical_path_gives_mirrored_events():
    image, path = np.random.default_rng(1).random((9, 12)), Triangle(corners=((0, 0), (0, 4)))
    one, other = (saccades(i, 0, QUIET, path) for i in (image, image[:, ::-1]))
    flipped = other.events.copy()
    flipped["x"] = one.sensor.width - 1 - flipped["x"]
    assert len(one.events) > 100
    assert np.array_equal(np.sort(flipped), np.sort(one.events))


def test_a_blank_image_gives_nothing_but_noise():
    black, white = np.zeros((10, 10)), np.full((10, 10), 0.2)
    assert len(saccades(black, 0, QUIET).events) == 0
    assert len(saccades(white, 0, QUIET, Triangle(black=1.0)).events) == 0  # no contrast on a screen that is all white
    noisy = saccades(black, 0, VideoCamera(noise_hz=100.0), Triangle(black=0.0)).events
    mean = 100 * (1 - 0.75 * 0.02) * 0.3 * 16 * 16
    assert abs(len(noisy) - mean) < 4 * np.sqrt(mean)


def test_a_data_set_of_images_and_labels():
    digits = MNIST.simulated(4)
    made = SaccadeRecordings(digits.x, digits.labels, seed=3)
    assert [r.label for r in made] == list(digits.labels)
    for i, recording in enumerate(made):
        assert isinstance(recording, Recording) and recording.sensor == Sensor(34, 34)
        check_events(recording.events, recording.sensor)
        assert recording.name == f"saccades/3/{i}"
        assert np.array_equal(recording.events, made[i].events)
    assert np.array_equal(SaccadeRecordings(digits.x[:1], digits.labels[:1], seed=3)[0].events, made[0].events)
    assert not np.array_equal(SaccadeRecordings(digits.x, digits.labels, seed=4)[0].events, made[0].events)
    assert EventFrames(made, Frames(bins=5))[0].x.shape == (5, 2, 34, 34)


def test_wrong_values_are_refused():
    for wrong in (
        {"corners": ((0, 0),)}, {"corners": ((0, 0, 0), (1, 1, 1))}, {"corners": ((0, 0), (np.nan, 1))}, {"leg_us": 0},
        {"step_us": 0}, {"margin": -1}, {"black": 1.5}, {"black": np.nan},
    ):  # fmt: skip
        with pytest.raises(ParameterError, match="Triangle"):
            Triangle(**wrong)
    with pytest.raises(ShapeError, match="2 and 1"):
        SaccadeRecordings(np.zeros((2, 4, 4)), [0])
    with pytest.raises(ParameterError, match="seed=-1"):
        SaccadeRecordings(np.zeros((1, 4, 4)), [0], seed=-1)
    with pytest.raises(IndexError, match="no recording 1 among 1"):
        SaccadeRecordings(np.zeros((1, 4, 4)), [0])[1]
    with pytest.raises(ParameterError, match="highest 2.0"):
        saccades(np.full((4, 4), 2.0), 0, path=AS_NMNIST)
    with pytest.raises(ShapeError, match="not an image"):
        saccades(np.zeros((2, 4, 4)), 0)


@pytest.fixture
def digits(real_data):
    """Test images; no constant was fitted on them. The file holds the even ones: row i is image 2 i."""
    return MNIST(real_data / "mnist", "test")


def test_digits_look_as_n_mnist_recorded_them(real_data, digits):
    """Number of events, where and when each polarity fires, rate over time, of the same images.

    Measured on 25 images: 3611 events against 3622. Pictures of both polarities, one for each saccade, correlate by 0.81 with
    the recording of the same image (0.30 with a bright digit on a dark screen, whose polarities are the wrong way round),
    by 0.37 with the others, and all 25 are most like their own image. Rates in 30 bins correlate by 0.86.
    """
    real, pairs = NMNIST(real_data / "nmnist", "test"), []
    for i, name in enumerate(real.names):
        image = int(name.split("/")[-1][:5]) - 60001  # recording 60000 + n shows image n - 1
        if image % 2 == 0:
            assert digits.labels[image // 2] == real.labels[i]
            pairs.append((real[i].events, saccades(digits.x[image // 2], [7, i], path=AS_NMNIST).events))
    assert len(pairs) >= 20
    counts = np.array([(len(a), len(b)) for a, b in pairs])
    assert 0.85 < counts[:, 1].sum() / counts[:, 0].sum() < 1.15
    assert np.corrcoef(counts.T)[0, 1] > 0.85
    likeness = np.corrcoef([picture(a) for a, _ in pairs], [picture(b) for _, b in pairs])[: len(pairs), len(pairs) :]
    assert np.diag(likeness).mean() > 0.75
    assert (likeness.argmax(1) == np.arange(len(pairs))).all()
    rates = [sum(np.histogram(pair[side]["t"], 30, (0, 300_000))[0] for pair in pairs) for side in (0, 1)]
    assert np.corrcoef(*rates)[0, 1] > 0.8


def picture(events):
    """Counts of both polarities in each 100 ms, flat."""
    leg = np.minimum(events["t"] // 100_000, 2)
    cells = ((leg * 2 + events["p"]) * 34 + events["y"]) * 34 + events["x"]
    return np.bincount(cells, minlength=3 * 2 * 34 * 34).astype(float)


def test_a_network_trained_on_n_mnist_reads_the_simulated_digits(real_data, digits):
    """The convolutional graph published with the NIR paper, which gets 48 of 50 real ones; here 48 of the first 50 images; 30 are run."""
    network = nir.load(real_data / "nir_graphs/02_cnn/cnn_sinabs.nir")
    made = SaccadeRecordings(digits.x[:30], digits.labels[:30], path=AS_NMNIST)
    frames = np.stack([Frames(bins=300)(r.events, r.sensor) for r in made], axis=1).astype(np.float32)
    with torch.no_grad():
        answer = torch.cat([network(part).sum(0).argmax(1) for part in torch.from_numpy(frames).split(10, dim=1)])
    assert (answer.numpy() == made.labels).sum() >= 27

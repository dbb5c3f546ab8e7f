"""Arrays to input over time, and changes of arrays: by closed forms, by hand, and against librosa."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro.datasets import ArrayDataModule, Centred, Frames, Sensor, make_events
from neuro.datasets.array_augment import (
    AddNoise,
    DropSpikes,
    FlipPicture,
    Louder,
    Several,
    ShiftInTime,
    ShiftPicture,
    Turned,
)
from neuro.datasets.centring import Prepared
from neuro.datasets.encoding import Accelerations, Binned, Direct, MelBands, OneHot, Standardised
from neuro.datasets.examples import Examples
from neuro.datasets.resizing import SpatialDownsample
from neuro.datasets.text import TextFile
from neuro.errors import FormatError, NeuroError, ParameterError, ShapeError
from neuro.training.described import build, describe
from neuro.training.preprocess import PreprocessArray

RNG = np.random.default_rng(0)
ENCODERS = {
    Direct(3): RNG.integers(0, 256, (2, 4, 5), np.uint8), Binned(4): RNG.integers(0, 2, (10, 3), np.uint8),
    Standardised((1.0, 2.0), (3.0, 4.0)): RNG.normal(size=(6, 2)), Accelerations(): RNG.normal(size=(6, 3)),
    OneHot(7): RNG.integers(0, 7, 9), MelBands(8000): RNG.normal(0, 0.1, 900).astype(np.float32),
}  # fmt: skip
EVERY = pytest.mark.parametrize(("encode", "x"), ENCODERS.items(), ids=lambda v: type(v).__name__)


@EVERY
def test_time_comes_first_as_float32_and_the_array_stays(encode, x):
    before = x.copy()
    y = encode(x)
    assert y.dtype == np.float32 and len(y) >= 1 and np.array_equal(x, before)
    assert torch.equal(PreprocessArray(encode)(x)[:, 0], torch.from_numpy(np.ascontiguousarray(y)))


@EVERY
def test_it_is_saved_with_a_model_and_comes_back(encode, x):
    assert np.array_equal(build(describe(PreprocessArray(encode)))(x), PreprocessArray(encode)(x))


@EVERY
def test_arrays_of_another_kind_are_refused(encode, x):
    with pytest.raises(ShapeError):
        encode(x.astype(complex)[None, None])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("encode", [Binned(2), Standardised((0.0,), (1.0,)), Accelerations(), MelBands(8000)], ids=lambda e: type(e).__name__)
def test_values_that_are_not_finite_are_refused_by_place_and_name(encode, bad):
    x = np.ones({MelBands: (9,), Accelerations: (9, 3)}.get(type(encode), (9, 1)))
    x[4] = bad
    with pytest.raises(FormatError, match=r"at \[4"):
        PreprocessArray(encode)(x)
    data = ArrayDataModule(Examples([np.ones_like(x), x], [0, 0], ["good", "gap"], ("a",)), encode=encode, batch_size=1)
    with pytest.raises(FormatError, match="example 1, 'gap'"):
        list(data.train_dataloader())


def test_numbers_must_be_real():
    for wrong in (np.ones((4, 2), complex), np.full((4, 2), "1")):
        with pytest.raises(ShapeError, match="real numbers"):
            Binned(2)(wrong)


def test_labels_that_are_no_whole_numbers_are_refused():
    assert Examples(np.zeros((2, 3)), np.array([0.0, 1.0]), ["a", "b"], ("no", "yes")).labels == (0, 1)
    for labels in ([0.5, 1], ["0", "1"]):
        with pytest.raises(ParameterError, match="whole numbers"):
            Examples(np.zeros((2, 3)), labels, ["a", "b"], ("no", "yes"))


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_bins_keep_every_spike(steps, width, channels):
    x = np.random.default_rng(steps).integers(0, 3, (steps, channels))
    y = Binned(width)(x)
    assert len(y) == -(-steps // width) and np.array_equal(y.sum(0), x.sum(0))
    assert np.array_equal(y[0], x[:width].sum(0))


def test_one_hot_answers_with_one_spike_a_step():
    y = OneHot(5)(np.array([4, 0, 0]))
    assert np.array_equal(y.argmax(1), [4, 0, 0]) and np.array_equal(y.sum(1), [1, 1, 1])
    with pytest.raises(ShapeError, match=r"0 \.\. 4"):
        OneHot(5)(np.array([5]))


def test_accelerations_at_rest_and_in_a_step():
    y = Accelerations()(np.array([[0, 0, 9.81], [0, 0, 9.81], [3, 0, 9.81]]))
    assert np.allclose(y[1], [0, 0, 9.81 / 5, 0, 0, 0, 0, 0, 0, 0])
    assert np.allclose(y[2, 3:9], [1.5, 0, 0, 1.5, 0, 0]) and y[2, 9] == pytest.approx((np.hypot(3, 9.81) - 9.81) / 4, rel=1e-5)


def test_standardised_series_have_mean_0_and_deviation_1():
    x = np.random.default_rng(0).normal((3, -5), (2, 0.1), (5000, 2))
    y = Standardised.of(x)(x)
    assert np.allclose(y.mean(0), 0, atol=2e-3) and np.allclose(y.std(0), 1, atol=2e-3)
    with pytest.raises(ParameterError):
        Standardised((0.0,), (0.0,))


# --- bands ---


@pytest.mark.parametrize("band", [5, 20, 35])
def test_a_tone_at_the_middle_of_a_band_is_loudest_there(band):
    bands = MelBands(8000, window=1024, hop=512)
    mel = np.linspace(2595 * np.log10(1 + 20 / 700), 2595 * np.log10(1 + 4000 / 700), 42)
    hz = 700 * (10 ** (mel[band + 1] / 2595) - 1)
    y = bands(np.sin(2 * np.pi * hz * np.arange(4096) / 8000))
    assert y[3].argmax() == band
    assert 0.35 < y[3].max() < 0.6  # a full-scale sine has a power of 1/4 in each half of the spectrum: -6 dB and what the window spreads


def test_silence_and_loudness_in_decibels():
    bands, x = MelBands(8000), np.random.default_rng(0).normal(0, 0.1, 2000)
    assert np.allclose(bands(np.zeros(500)), -0.5)
    soft, loud = (10 ** (10 * (bands(wave) + 0.5) - 10) - 1e-10 for wave in (x, 10 * x))
    assert np.allclose(loud, 100 * soft, rtol=1e-4)  # ten times the amplitude: 20 dB


@pytest.mark.parametrize("samples", [1, 127, 128, 129, 1000])
def test_every_sample_lies_in_a_window_and_steps_are_counted_up(samples):
    bands = MelBands(8000)
    assert len(bands(np.zeros(samples))) == -(-samples // 128)
    click = np.zeros(samples)
    click[samples - 1 - (samples % 128 == 1)] = 1.0  # a window's own first sample has the weight 0 in it
    assert bands(click).max() > -0.5 or samples == 1


def test_filters_equal_librosas_where_its_bands_are_wide_enough():
    librosa = pytest.importorskip("librosa")
    ours = MelBands(16_000, bands=24, window=2048, low_hz=300.0).filters()
    theirs = librosa.filters.mel(sr=16_000, n_fft=2048, n_mels=24, fmin=300.0, htk=True, norm=None)
    assert np.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 44_100])
def test_no_band_is_deaf(rate_hz):
    assert (MelBands(rate_hz).filters().sum(1) > 0.5).all()


# --- changes ---


@pytest.mark.parametrize(
    ("change", "x"),
    [
        (ShiftPicture(2), RNG.integers(0, 9, (3, 6, 7), np.uint8)), (FlipPicture(), RNG.integers(0, 9, (3, 6, 7), np.uint8)),
        (ShiftInTime(20), RNG.integers(0, 2, (8, 3), np.uint8)), (DropSpikes(0.3), RNG.integers(0, 2, (8, 3), np.uint8)),
        (Louder(0.5), RNG.normal(size=50).astype(np.float32)), (AddNoise(0.1), RNG.normal(size=50).astype(np.float32)),
        (Turned(30.0), RNG.normal(size=(9, 3)).astype(np.float32)), (Several((Louder(0.5), AddNoise(0.1))), RNG.normal(size=50)),
    ],
    ids=lambda v: type(v).__name__,
)  # fmt: skip
def test_a_change_keeps_shape_and_type_depends_on_its_generator_alone_and_leaves_the_input(change, x):
    before = x.copy()
    found = [change(x, np.random.default_rng(seed)) for seed in (0, 0, 1, 2, 3)]
    assert np.array_equal(x, before) and np.array_equal(found[0], found[1])
    assert all(y.shape == x.shape and y.dtype == x.dtype for y in found)
    assert any(not np.array_equal(found[0], y) for y in found[2:])


@pytest.mark.parametrize(
    ("kind", "bad"), [(ShiftPicture, -1), (ShiftPicture, 0.5), (FlipPicture, 1.1), (ShiftInTime, -3), (Louder, -0.1), (AddNoise, -1.0), (AddNoise, np.nan), (Turned, -5.0)]
)
def test_changes_outside_their_range_are_refused_when_made(kind, bad):
    with pytest.raises(ParameterError, match=rf"{kind.__name__}.*\n.*=.*{bad}"):
        kind(bad)


def test_shifts_lose_only_what_leaves():
    x = np.arange(1, 6, dtype=np.uint8)[:, None]
    seen = {tuple(ShiftInTime(2)(x, np.random.default_rng(s)).ravel()) for s in range(60)}
    assert seen == {(1, 2, 3, 4, 5), (0, 1, 2, 3, 4), (0, 0, 1, 2, 3), (2, 3, 4, 5, 0), (3, 4, 5, 0, 0)}
    corner = np.zeros((3, 3), np.uint8)
    corner[1, 1] = 1
    places = {tuple(np.argwhere(ShiftPicture(1)(corner, np.random.default_rng(s)))[0]) for s in range(200)}
    assert places == {(i, j) for i in range(3) for j in range(3)}


def test_turned_vectors_keep_lengths_and_angles():
    x = np.random.default_rng(0).normal(size=(20, 3))
    y = Turned(90.0)(x, np.random.default_rng(1))
    assert np.allclose(x @ x.T, y @ y.T) and not np.allclose(x, y)


# --- events ---


@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(0, 200))
@settings(max_examples=30, deadline=None)
def test_centred_puts_the_median_on_the_middle_and_keeps_what_is_near(seed, size, count):
    rng, sensor = np.random.default_rng(seed), Sensor(30, 50)
    events = make_events(rng.integers(0, 50, count), rng.integers(0, 30, count), np.arange(count), rng.integers(0, 2, count))
    y = Centred(size)(events, sensor)
    if not count:
        assert len(y) == 0
        return
    dx, dy = (events[a].astype(int) - int(np.median(events[a])) + size // 2 for a in "xy")
    keep = (dx >= 0) & (dx < size) & (dy >= 0) & (dy < size)
    assert np.array_equal(y["t"], events["t"][keep]) and np.array_equal(y["x"], dx[keep]) and np.array_equal(y["y"], dy[keep])


def test_prepared_frames_are_saved_and_bounded():
    frames = Prepared((Centred(8), SpatialDownsample(2)), Frames(bins=2, duration_us=10, origin_us=0), most=3)
    events = make_events([5] * 9, [5] * 9, list(range(9)), [1] * 9)
    x = build(describe(frames))(events, Sensor(20, 20))
    assert x.shape == (2, 2, 4, 4) and x.max() == 3 and x.sum() == 6


# --- loaders ---


def test_batches_depend_on_seed_and_epoch_and_only_training_is_changed():
    x = RNG.integers(0, 256, (9, 5, 5), np.uint8)
    pictures = Examples(x, [0, 1, 2] * 3, list("abcdefghi"), ("a", "b", "c"))

    def batches(**how):
        data = ArrayDataModule(pictures, test=pictures, encode=Direct(2), augment=ShiftPicture(2), batch_size=4, seed=3, **how)
        return list(data.train_dataloader()), list(data.test_dataloader())

    (train, test), (again, _) = batches(), batches(workers=1)
    assert [list(b.x.shape) for b in train] == [[2, 4, 1, 5, 5], [2, 4, 1, 5, 5], [2, 1, 1, 5, 5]]
    assert all(torch.equal(a.x, b.x) and torch.equal(a.label, b.label) for a, b in zip(train, again, strict=True))
    shown = torch.cat([b.x for b in test], 1)
    assert torch.equal(shown[0, :, 0], torch.from_numpy(x) / 255) and torch.cat([b.label for b in test]).tolist() == [0, 1, 2] * 3


def test_text_has_a_label_for_each_step():
    text = TextFile.simulated(4, steps=16)
    data = ArrayDataModule(text, encode=OneHot(len(text.vocabulary)), batch_size=4, seed=0)
    ((x, lengths, label),) = data.train_dataloader()
    assert x.shape == (16, 4, len(text.vocabulary)) and label.shape == (4, 16) and lengths.tolist() == [16] * 4
    assert torch.equal(x.argmax(2).T[:, 1:], label[:, :-1])  # what follows a symbol is the next one


def test_errors_say_what_was_given():
    for bad in (lambda: Direct(0), lambda: Binned(-1), lambda: MelBands(8000, low_hz=4000.0), lambda: MelBands(8000, window=1), lambda: Centred(0), lambda: DropSpikes(1.0), lambda: OneHot(True * 0)):
        with pytest.raises(NeuroError, match="="):
            bad()

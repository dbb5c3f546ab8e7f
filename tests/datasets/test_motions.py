"""The motions: each moves as its name says, and reversed pairs are the same thing played backwards."""

import numpy as np
import pytest

from neuro.datasets.events import check_events
from neuro.datasets.motions import (
    CAMERA,
    CLASSES,
    DURATION_US,
    SHAPES,
    Scene,
    backwards,
    draw_scene,
    film,
    make_motion,
    make_motions,
    opposite,
    render,
)
from neuro.datasets.transforms import Frames

RECORDINGS = make_motions(160, seed=7)


def test_the_set_is_balanced_and_sound():
    assert np.bincount([r.label for r in RECORDINGS]).tolist() == [20] * 8
    assert len({r.name for r in RECORDINGS}) == 160
    for r in RECORDINGS:
        check_events(r.events, r.sensor)
        assert 100 < len(r.events) < 5000
        assert 0 <= r.events["t"][0] and r.events["t"][-1] < DURATION_US


def test_a_recording_depends_on_seed_and_index_alone():
    longer = make_motions(12, seed=7)
    assert all(np.array_equal(a.events, b.events) for a, b in zip(longer, RECORDINGS[:12], strict=True))
    assert np.array_equal(make_motion(5, seed=7).events, RECORDINGS[5].events)
    assert not np.array_equal(make_motion(5, seed=8).events, RECORDINGS[5].events)


@pytest.mark.parametrize("motion", CLASSES)
def test_the_object_moves_as_its_class_says(motion):
    rng = np.random.default_rng(0)
    for _ in range(10):
        scene = draw_scene(motion, rng)
        forward = motion in CLASSES[::2]
        sign = 1 if forward else -1
        quantity = {0: scene.dx, 1: scene.dy, 2: scene.turn, 3: scene.growth}[CLASSES.index(motion) // 2]
        assert sign * quantity > 0.3
        frames = render(scene, [-1.0, 1.0], 96, 96)  # large enough to hold every object
        y, x = np.mgrid[:96, :96]
        mass = frames / frames.sum((1, 2), keepdims=True)
        if motion in ("right", "left"):
            assert sign * np.diff((mass * x).sum((1, 2)))[0] > 5
        elif motion in ("down", "up"):
            assert sign * np.diff((mass * y).sum((1, 2)))[0] > 5
        elif motion in ("approach", "recede"):
            assert sign * np.diff(np.abs(frames).sum((1, 2)))[0] > 20


def test_a_bar_that_turns_clockwise_goes_from_horizontal_to_right_end_down():
    bar = Scene("bar", 10.0, 0.0, 0.0, angle=0.0, contrast=1.0, turn=0.4)
    end = render(bar, [1.0], 33, 33)[0]
    y, x = np.mgrid[:33, :33] - 16
    assert (end * x * y).sum() > 0  # y points down: the right end is low
    assert (render(bar, [-1.0], 33, 33)[0] * x * y).sum() < 0


@pytest.mark.parametrize("shape", SHAPES)
def test_objects_are_filled_and_contrast_is_symmetric(shape):
    scene = Scene(shape, 8.0, 0.0, 0.0, 0.3, contrast=0.75)
    bright = render(scene, [0.0], 32, 32)
    dark = render(Scene(shape, 8.0, 0.0, 0.0, 0.3, contrast=-0.75), [0.0], 32, 32)
    assert np.array_equal(bright, -dark)
    assert bright.max() == 0.75 and bright.min() == 0 and 40 < (bright > 0.4).sum() < 260


def test_half_of_each_class_is_its_opposite_played_backwards():
    played = 0
    for index, recording in enumerate(RECORDINGS):
        as_filmed = film(CLASSES[recording.label], [7, index])
        reverse = backwards(film(CLASSES[opposite(recording.label)], [7, index]), DURATION_US)
        is_filmed = np.array_equal(recording.events, as_filmed)
        assert is_filmed != np.array_equal(recording.events, reverse)
        played += not is_filmed
    assert 55 < played < 105  # 4 sigma about 80


def test_playing_backwards_keeps_every_summed_frame():
    frames = Frames(bins=1, duration_us=DURATION_US, origin_us=0)
    events = RECORDINGS[0].events
    reverse = check_events(backwards(events, DURATION_US), CAMERA.sensor)
    assert np.array_equal(frames(events, CAMERA.sensor), frames(reverse, CAMERA.sensor))
    assert np.array_equal(backwards(reverse, DURATION_US), events)


def test_pairs_are_named_as_pairs():
    pairs = {CLASSES[i]: CLASSES[opposite(i)] for i in range(0, 8, 2)}
    assert pairs == {"right": "left", "down": "up", "clockwise": "anticlockwise", "approach": "recede"}

"""EVT words written by hand: vectors, times in two parts and their overflow, triggers between, events before the first time."""

from __future__ import annotations

import numpy as np
import pytest

from neuro.datasets import iterate_events, read_events
from neuro.datasets.events import Sensor
from neuro.errors import NeuroError


def file(version: str, words: list[int], width: int) -> bytes:
    """A RAW file of a sensor of 1280 x 720."""
    name = version.replace(".", "")
    head = f"% date 2026-01-01\n% evt {version}\n% format EVT{name};height=720;width=1280\n% geometry 1280x720\n% end\n"
    return head.encode() + np.array(words, f"<u{width}").tobytes()


def both(data: bytes) -> list[tuple]:
    """The events, read whole and one word at a time."""
    found = read_events(data)
    assert np.array_equal(np.concatenate(list(iterate_events(data, 1))), found.events)
    assert found.sensor == Sensor(720, 1280)
    return found.events.tolist()


def test_evt21_masks_are_columns():
    words = [
        8 << 60 | 5 << 32,
        1 << 60 | 3 << 54 | 64 << 43 | 7 << 32 | 1 << 31 | 0b101,
        0 << 60 | 4 << 54 | 96 << 43 | 719 << 32 | 0b10,
    ]
    assert both(file("2.1", words, 8)) == [
        (64, 7, 323, True),
        (66, 7, 323, True),
        (95, 7, 323, True),
        (97, 719, 324, False),
    ]


def test_evt3_vectors_move_on_by_their_width():
    words = [
        0x8000 | 2,
        0x6000 | 9,
        0x0000 | 100,
        0x3000 | 1 << 11 | 640,
        0x4000 | 0b100000000001,
        0x5000 | 0xF00 | 0b10000010,
        0x4000 | 1,
        0x2000 | 5,
    ]
    t = 2 * 4096 + 9
    columns = [
        (640, True),
        (651, True),
        (653, True),
        (659, True),
        (660, True),
        (5, False),
    ]  # 12 pixels, then 8 of which bits 8-11 are none
    assert both(file("3.0", words, 2)) == [(x, 100, t, p) for x, p in columns]


def test_d54_evt3_time_low_that_steps_back_is_no_overflow_and_time_high_is():
    at = [0x0000 | 1]
    words = [
        *at,
        0x8000 | 4,
        0x6000 | 4000,
        0x2000 | 1,
        0x8000 | 5,
        0x6000 | 3,
        0x2000 | 2,
        0x8000 | 4095,
        0x6000 | 1,
        0x2000 | 3,
        0x8000 | 0,
        0x6000 | 2,
        0x2000 | 4,
    ]
    assert [e[2] for e in both(file("3.0", words, 2))] == [
        4 * 4096 + 4000,
        5 * 4096 + 3,
        4095 * 4096 + 1,
        4096 * 4096 + 2,
    ]


def test_evt2_overflow_triggers_and_untimed_events():
    top = 2**28 - 1
    words = [
        1 << 28 | 9,
        8 << 28 | top,
        1 << 28 | 63 << 22 | 1279 << 11 | 719,
        10 << 28 | 1,
        8 << 28 | 0,
        0 << 28 | 1 << 22 | 2 << 11 | 3,
    ]
    data = file("2.0", words, 4)
    assert both(data) == [(1279, 719, top * 64 + 63, True), (2, 3, 2**34 + 1, False)]
    assert read_events(data).others == {"triggers": 1, "events before the first time": 1}


def test_events_just_off_the_sensor_are_damage():
    for x, y, good in ((1279, 719, True), (1280, 0, False), (0, 720, False)):
        data = file("2.0", [8 << 28, 1 << 28 | x << 11 | y], 4)
        if good:
            assert len(read_events(data).events) == 1
            continue
        with pytest.raises(NeuroError, match="outside the sensor of 1280x720"):
            read_events(data)
        assert read_events(data, damaged="prefix").dropped_bytes == 4


def test_a_vector_that_leaves_the_sensor_keeps_the_pixels_before():
    words = [0x8000, 0x6000, 0x0000, 0x3000 | 1278, 0x4000 | 0xFFF, 0x2000 | 5]
    found = read_events(file("3.0", words, 2), damaged="prefix")
    assert found.events["x"].tolist() == [1278, 1279] and found.dropped_events == 11
    assert found.dropped_bytes == 4  # the vector, of which a part is kept, and the word behind it

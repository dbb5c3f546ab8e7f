"""Event arrays: what is accepted, what is refused and in which words."""

import numpy as np
import pytest

from neuro.datasets.events import EVENT, Sensor, check_events, in_order, inside, make_events
from neuro.errors import FormatError, ParameterError, ShapeError

SENSOR = Sensor(height=4, width=6)


def test_the_dtype_is_the_one_of_the_conventions():
    assert EVENT.descr == [("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "|b1")]


def test_columns_survive():
    events = make_events([0, 5], [3, 0], [7, 2**40], [0, 1])
    assert events.dtype == EVENT
    assert [e.tolist() for e in events] == [(0, 3, 7, False), (5, 0, 2**40, True)]
    assert check_events(events, SENSOR) is events


@pytest.mark.parametrize(
    "columns, words",
    [
        (([40_000], [0], [0], [0]), "x does not fit int16"),
        (([0.5], [0], [0], [0]), "x\\[0\\] = 0.5"),
        (([0], [0], [np.nan], [0]), "t does not fit int64"),
        (([0, 1], [0, 0], [0, 0], [1, -1]), "p\\[1\\] = -1"),
        (([0], [0], [0], [2]), "pass p > 0"),
    ],
)
def test_d38_nothing_is_wrapped_or_rounded(columns, words):
    with pytest.raises(FormatError, match=words):
        make_events(*columns)


def test_columns_of_different_length_are_refused():
    with pytest.raises(ShapeError, match=r"x \[2\]   y \[1\]"):
        make_events([0, 1], [0], [0], [0])


@pytest.mark.parametrize("x, y, axis", [(6, 0, "x"), (-1, 0, "x"), (0, 4, "y"), (0, -1, "y")])
def test_d38_a_coordinate_off_the_sensor_is_named(x, y, axis):
    events = make_events([0, x], [0, y], [0, 1], [0, 0])
    with pytest.raises(FormatError, match=rf"{axis} lies outside the sensor.\n  events\[1\]"):
        check_events(events, SENSOR)
    assert len(inside(events, SENSOR)) == 1


def test_time_running_backwards_is_named_and_cured():
    events = make_events([0, 1, 2], [0, 0, 0], [5, 9, 8], [0, 0, 0])
    with pytest.raises(FormatError, match=r"events\[1\] t=9 us   events\[2\] t=8 us"):
        check_events(events, SENSOR)
    assert check_events(in_order(events), SENSOR)["x"].tolist() == [0, 2, 1]


def test_other_arrays_are_refused():
    for wrong in (np.zeros((2, 4)), [(0, 0, 0, 0)], np.zeros((2, 2), EVENT), np.zeros(2, [("x", "<i2"), ("t", "<i8")])):
        with pytest.raises(ShapeError, match="make_events"):
            check_events(wrong, SENSOR)


def test_a_sensor_has_sides():
    with pytest.raises(ParameterError):
        Sensor(0, 5)

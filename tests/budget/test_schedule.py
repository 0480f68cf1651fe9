"""How far a schedule has come."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synaprune.budget import SHAPES, constant, cosine, cubic, linear, progress, sine, stairs
from synaprune.budget.schedule import check
from synaprune.errors import UsageError

RISING = (linear, cubic, sine, cosine)


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (linear, [0.0, 0.25, 0.5, 0.75, 1.0]),
        (cubic, [0.0, 0.578125, 0.875, 0.984375, 1.0]),
        (sine, [0.0, 0.5 - math.sqrt(0.125), 0.5, 0.5 + math.sqrt(0.125), 1.0]),
        (cosine, [0.0, 0.5 - math.sqrt(0.125), 0.5, 0.5 + math.sqrt(0.125), 1.0]),
        (constant, [0.0, 1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_values_by_hand(schedule, values):
    assert [progress(schedule(steps=8), step) for step in (0, 2, 4, 6, 8)] == pytest.approx(values, abs=1e-15)


@pytest.mark.parametrize("schedule", RISING)
def test_pause_and_flat_end(schedule):
    """The curve of 50 steps, moved by the 30 of the pause; before it 0 and after it 1, exactly."""
    late, plain = schedule(steps=100, pause=0.3, flat=0.2), schedule(steps=50)
    assert [progress(late, step) for step in (0, 29, 30)] == [0.0, 0.0, 0.0]
    assert [progress(late, step) for step in (80, 81, 100, 1000)] == [1.0, 1.0, 1.0, 1.0]
    assert [progress(late, 30 + n) for n in range(51)] == pytest.approx([progress(plain, n) for n in range(51)])


def test_constant_begins_after_the_pause():
    assert [progress(constant(steps=10, pause=0.3), step) for step in (3, 4)] == [0.0, 1.0]
    assert progress(constant(steps=10, pause=0.3, flat=0.69), 4) == 1.0


@given(st.sampled_from(sorted(SHAPES)), st.integers(2, 10_000), st.floats(0, 0.4), st.floats(0, 0.4))
def test_never_falls_and_stays_within_0_and_1(name, steps, pause, flat):
    schedule = {"name": name, "steps": steps, "pause": pause, "flat": flat}
    values = [progress(schedule, step) for step in range(0, steps + 1, max(steps // 50, 1))]
    assert values == sorted(values)
    assert values[0] == 0.0
    assert progress(schedule, steps) == 1.0


def test_stairs_rest_at_each_level_until_its_time_is_over():
    schedule = stairs(steps=300, levels=[0.5, 0.75, 1], hold=0.5)
    found = [progress(schedule, step) for step in (0, 25, 50, 99, 100, 125, 150, 200, 225, 250, 300)]
    assert found == pytest.approx([0, 0.25, 0.5, 0.5, 0.5, 0.625, 0.75, 0.75, 0.875, 1, 1])
    whole = stairs(steps=7, levels=[1.0], hold=0.0)
    assert [progress(whole, step) for step in range(8)] == pytest.approx([progress(linear(7), n) for n in range(8)])


@given(st.lists(st.floats(0.01, 0.99), max_size=6, unique=True), st.integers(10, 1000), st.floats(0, 0.9))
def test_stairs_never_fall(levels, steps, hold):
    schedule = stairs(steps, [*sorted(levels), 1.0], hold)
    values = [progress(schedule, step) for step in range(steps + 1)]
    assert values == sorted(values)
    assert (values[0], values[-1]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("levels", "hold", "words"),
    [
        ([], 0.5, "must rise from above 0 to 1"),
        ([0.5], 0.5, "must rise from above 0 to 1"),
        ([0.5, 0.5, 1], 0.5, "must rise"),
        ([0, 1], 0.5, "must rise"),
        (["a", 1], 0.5, "is no list of numbers"),
        ([1], 1.0, "hold=1.0 of stairs"),
        ([1], "a", "hold='a' of stairs"),
    ],
)
def test_levels_that_make_no_stairs(levels, hold, words):
    with pytest.raises(UsageError, match=words):
        stairs(10, levels, hold)


def test_the_last_step_is_the_end_whatever_rounding_says():
    assert progress(linear(143, pause=0.30911673635615045), 143) == 1.0


def test_a_schedule_is_plain_data():
    assert cubic(steps=7, flat=0.5) == {"name": "cubic", "steps": 7, "pause": 0.0, "flat": 0.5}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "not steps=0"),
        ({"steps": 1e4}, r"not steps=10000\.0"),
        ({"steps": True}, "not steps=True"),
        ({"steps": 10, "pause": 1.0}, r"pause=1\.0"),
        ({"steps": 10, "flat": -0.1}, r"flat=-0\.1"),
        ({"steps": 10, "flat": "half"}, "flat='half'"),
        ({"steps": 10, "flat": math.nan}, "flat=nan"),
        ({"steps": 10, "pause": 0.5, "flat": 0.5}, "no step of its 10 left to change anything"),
        ({"steps": 10, "pause": 0.5, "flat": 0.46}, "no step of its 10 left to change anything"),
    ],
)
def test_bad_numbers_are_named(options, words):
    with pytest.raises(UsageError, match=words) as error:
        cubic(**options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (100, "schedule=100 is no schedule; write for instance schedule=cubic"),
        (cubic, "is no schedule"),
        ({"name": "cubic", "steps": 10}, "is no schedule"),
        ({**cubic(steps=10), "name": "cubik"}, "no schedule 'cubik'; did you mean 'cubic'"),
        ({**cubic(steps=10), "name": "x"}, "no schedule 'x'; there are constant, linear, cubic, sine, cosine"),
    ],
)
def test_what_is_no_schedule(schedule, words):
    with pytest.raises(UsageError, match=words):
        check(schedule)


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_numpy_s_numbers_are_numbers(kind):
    schedule = cubic(kind(40), pause=np.float32(0.25), flat=np.float64(0.5))
    assert schedule == cubic(40, pause=0.25, flat=0.5)
    assert [type(value) for value in schedule.values()] == [str, int, float, float]
    assert stairs(kind(40), np.array([0.5, 1.0])) == stairs(40, [0.5, 1.0])

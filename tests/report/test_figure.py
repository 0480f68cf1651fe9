"""Figures as data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synaprune.report.figure import Axis, Column, Figure, Table, Trace, ends, has_place, shown, ticks, wide

EMPTY = Table([], [])
X, Y = Axis("x"), Axis("y")


def figure(*traces, x=X, y=Y):
    return Figure("key", "title", "note", x, y, traces, EMPTY)


def test_series_come_in_order_and_once_and_levels_are_none():
    traces = [
        Trace("b", [1], [1]),
        Trace("a", [1], [1], "point"),
        Trace("b", [2], [2]),
        Trace("dense", [], [1], "level"),
    ]
    assert figure(*traces).series == ["b", "a"]


def test_ends_see_intervals_and_fixed_ends_and_not_what_is_missing():
    means = Trace("a", [2, 4], [0.5, None], "mean", [0.4, None], [0.7, None])
    assert ends(figure(means), "y") == (0.4, 0.7)
    assert ends(figure(means, y=Axis("y", high=1.0)), "y") == (0.4, 1.0)
    assert ends(figure(means), "x") == (2, 4)
    assert ends(figure(Trace("a", [], [], "line")), "y") is None
    assert ends(figure(Trace("a", ["fc1"], [float("inf")], "bar")), "y") is None


def test_the_ends_of_an_axis_of_errors_are_errors():
    error = Axis("e", "error")
    mean = Trace("a", [1, 2, 3], [0.9, 0.98, 1.0], "mean", [0.8, 0.97, None], [0.95, 0.99, 1.0])
    low, high = ends(figure(mean, y=error), "y")
    assert 0 < low < 0.01  # the interval that ends at no error does not stretch the axis without end
    assert low > 0.005
    assert 0.2 < high < 0.25
    assert ends(figure(Trace("a", [1], [1.0], "mean"), y=error), "y") is None
    assert not has_place(error, 1.0)
    assert has_place(error, 0.0)


@given(st.floats(1e-9, 1), st.floats(1.0001, 1e6))
def test_a_logarithmic_axis_has_ticks_enough_and_not_too_many(low, ratio):
    found = ticks(low, low * ratio, "log")
    assert found == sorted(set(found))
    assert 3 <= len(found) <= 16
    assert all(0.998 * low <= value <= 1.002 * low * ratio for value in found)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.02, 0.3, [0.02, 0.05, 0.1, 0.2]), (1e-6, 1.0, [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0])],
)
def test_logarithmic_ticks(low, high, expected):
    assert ticks(low, high, "log") == expected


@pytest.mark.parametrize("ends", [(0.0, 3.0), (-1.0, 3.0), (0.0, 0.0), (-2.0, -1.0)])
def test_a_logarithmic_axis_without_a_place_for_its_ends_has_no_ticks(ends):
    assert ticks(*ends, "log") == []


@pytest.mark.parametrize("bad", [0, 0.0, -1.0, None, float("nan"), float("inf")])
def test_ends_see_only_what_has_a_place(bad):
    log = Axis("y", "log")
    assert not has_place(log, bad)
    assert ends(figure(Trace("a", [1, 2, 3], [bad, 0.1, 0.2], "line", [bad] * 3, [bad] * 3), y=log), "y") == (0.1, 0.2)
    assert ends(figure(Trace("a", [bad], [bad], "line"), x=log, y=log), "x") is None


def test_a_wide_table_has_a_row_for_each_x():
    table = wide("epoch", [Trace("a", [1, 2], [0.1, 0.2]), Trace("b", [2, 3], [0.3, 0.4], names="run b")], "share")
    assert table.columns == [Column("epoch", "number"), Column("a", "share"), Column("run b", "share")]
    assert table.rows == [[1, 0.1, None], [2, 0.2, 0.3], [3, None, 0.4]]


def test_cells_as_text():
    assert shown("95 % ± 1", "share") == "95 % ± 1"
    assert shown(float("nan"), "number") == ""
    assert shown(0.05, "share") == "5.00 %"

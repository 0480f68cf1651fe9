"""What is shown of a sweep."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from synaprune.train.results import NOTE, Estimate, Row
from synaprune.train.settings import Settings
from synaprune.train.sweep import Point
from synaprune.train.sweep_display import SweepDisplay, listing, means, where
from synaprune.train.sweep_run import State


def state(label, kind="waiting", epoch=None, seconds=0.0):
    metrics = epoch and {"epoch": epoch, "test_accuracy": 0.975, "connectivity": 0.05}
    return State(Point(label, Settings(epochs=60), ()), kind, metrics, seconds)


STATES = [state("a", "done", 60, 12.5), state("b", "failed"), state("c", "running", 3, 0.75), state("d")]


def rows(table, width=100):
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    lines = [re.split(r"\s{2,}", line.strip()) for line in console.file.getvalue().splitlines()]
    return [line for line in lines if line != [""] and "─" not in line[0]]


def test_a_row_per_point_and_the_counts():
    assert rows(listing(STATES)) == [
        ["point", "state", "accuracy", "connectivity", "seconds"],
        ["a-seed0", "done", "97.50%", "5.00%", "12.5"],
        ["b-seed0", "failed"],
        ["c-seed0", "epoch 3/60", "97.50%", "5.00%", "0.8"],
        ["d-seed0", "waiting"],
        ["1 done, 1 running, 1 failed of 4 points"],
    ]


@pytest.mark.parametrize(
    ("height", "seen"), [(9, "abcd"), (4, "abcd"), (3, "abc"), (2, "bc"), (1, "c"), (0, "c"), (-3, "c")]
)
def test_a_low_terminal_shows_what_matters_most(height, seen):
    assert [row[0][0] for row in rows(listing(STATES, height))[1:-1]] == list(seen)


def test_of_points_done_the_last_stay_and_of_those_that_wait_the_first():
    states = [*(state(f"done{i}", "done", 60) for i in range(9)), *(state(f"wait{i}") for i in range(9))]
    assert [row[0] for row in rows(listing(states, 2))[1:-1]] == ["done7-seed0", "done8-seed0"]
    assert [row[0] for row in rows(listing(states[8:], 3))[1:-1]] == ["done8-seed0", "wait0-seed0", "wait1-seed0"]


def test_in_a_narrow_terminal_names_are_cut_and_figures_are_not():
    table = rows(listing([state("x" * 80, "done", 60, 12.5)], 5), width=60)
    assert table[1][0].startswith("xxxx")
    assert table[1][0].endswith("…")
    assert table[1][1:] == ["done", "97.50%", "5.00%", "12.5"]


def test_where_a_point_stands():
    assert [where(s) for s in STATES] == ["done", "failed", "epoch 3/60", "waiting"]
    assert where(state("a", "running")) == "epoch 0/60"
    assert where(state("a", "waiting", 2)) == "waiting at epoch 2/60"


def test_elsewhere_than_in_a_terminal_one_line_per_finished_point():
    console = Console(file=io.StringIO(), width=40)
    with SweepDisplay(console) as display:
        display([STATES[0], state("b"), state("c")])
        display(STATES[:3])
        display([*STATES[:2], state("c", "done", 60, 9.0)])
    assert console.file.getvalue() == (
        "1 of 3 points were done before\nb-seed0  failed\nc-seed0  test 97.50%  connectivity 5.00%  9.0 s\n"
    )


def test_in_a_terminal_a_live_table():
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True, color_system=None)
    with SweepDisplay(console) as display:
        display(STATES)
        display([state("a", "running", 7)])
    last = console.file.getvalue().split("seconds")[-1]
    assert "epoch 7/60" in last
    assert "0 done, 1 running of 1 points" in last


def test_means_have_a_title_and_say_what_the_interval_is():
    two = [Row("a", (0, 1), {"connectivity": Estimate(0.05, 0.001)}), Row("b", (0,), {})]
    shown = rows(means(two, "Any [b]title[/b]"))
    assert shown[:4] == [
        ["Any [b]title[/b]"],
        ["point", "connectivity", "seeds"],
        ["a", "5.00 % ± 0.10", "2"],
        ["b", "1"],
    ]
    assert " ".join(line[0] for line in shown[4:]) == NOTE
    assert rows(means(two[1:], "x")) == [["x"], ["point", "seeds"], ["b", "1"]]

"""A running training in the terminal."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from examples import metrics, write_run
from synaprune.errors import UsageError
from synaprune.report.watch import sparkline, stamp, watch
from synaprune.train.run import Run


def shown(run, terminal=False, width=100):
    out = io.StringIO()
    watch(run, Console(file=out, width=width, force_terminal=terminal, color_system=None))
    return out.getvalue()


def test_where_a_run_stands(tmp_path):
    text = shown(write_run(tmp_path, 3, epochs=9))
    assert "digits, Grad R, seed 0: epoch 3 of 9" in text
    assert "about 9 s to go" in text
    assert "loss               █▃▁" in text
    assert "50.00 %" in text
    assert "fc1" in text


def test_a_run_that_has_just_begun_and_one_that_is_done(tmp_path):
    assert "no epoch is finished yet" in shown(write_run(tmp_path / "a", 0))
    assert "to go" not in shown(write_run(tmp_path / "b", 2))


def test_a_narrow_terminal_gets_a_narrow_table(tmp_path):
    text = shown(write_run(tmp_path, 100), width=60)
    assert max(map(len, text.splitlines())) <= 60
    assert "silent" not in text


def test_in_a_terminal_it_follows_until_the_last_epoch(tmp_path):
    run = write_run(tmp_path, 1, epochs=2)
    timer = threading.Timer(0.3, lambda: run.append(metrics(2)))
    timer.start()
    text = shown(run, terminal=True)
    timer.join()
    assert "epoch 1 of 2" in text
    assert "epoch 2 of 2" in text


def test_sparklines():
    assert sparkline([1.0]) == "▁"
    assert sparkline(range(80), 40) == sparkline(range(40))
    assert len(sparkline(range(1000), 33)) == 33


def test_the_stamp_changes_with_the_run(tmp_path):
    run = write_run(tmp_path, 1)
    before = stamp(run)
    assert stamp(run) == before
    run.append(metrics(2))
    assert stamp(run) != before


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match="holds no run"):
        shown(Run(tmp_path))

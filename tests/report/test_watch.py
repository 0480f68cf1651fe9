"""A running training in the terminal."""

from __future__ import annotations

import io
import json
import threading

import pytest
from rich.console import Console

from examples import ODD_LINES, metrics, write_run
from synaprune.errors import UsageError
from synaprune.report import watch as module
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


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("odd", ODD_LINES)
def test_metrics_of_another_shape_are_shown_or_refused_in_a_sentence(tmp_path, odd, terminal):
    run = write_run(tmp_path, 2)
    run.metrics_path.write_bytes(odd + b"\n" + run.metrics_path.read_bytes().splitlines()[1] + b"\n")
    try:
        said = shown(run, terminal)
    except UsageError as error:
        said = str(error)
    assert "epoch 2 of 2" in said or ("line 1" in said and len(said) < 400)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_training_that_diverged_can_be_watched(tmp_path, value):
    run = write_run(tmp_path, 3)
    lines = [{**one, "loss": value, "test_accuracy": value} for one in run.metrics()]
    run.metrics_path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    text = shown(run)
    assert "epoch 3 of 3" in text
    assert "loss" not in text


def test_it_reads_no_line_twice(tmp_path, monkeypatch):
    run = write_run(tmp_path, 300, epochs=302)
    parsed = []
    real = json.loads
    monkeypatch.setattr(json, "loads", lambda text, **more: parsed.append(text) or real(text, **more))
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    timers = [threading.Timer(0.2 * epoch, run.append, [metrics(300 + epoch)]) for epoch in (1, 2)]
    for timer in timers:
        timer.start()
    assert "epoch 302 of 302" in shown(run, terminal=True)
    assert len(parsed) == 1 + 302  # settings.json, and each line once


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

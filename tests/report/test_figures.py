"""The figure of a run: it exists, it shows something, it copes with odd runs."""

from __future__ import annotations

import errno
import os

import matplotlib.image
import pytest

from examples import metrics, write_run
from synaprune.errors import MachineError, UsageError
from synaprune.report import training_figure
from synaprune.train.run import Run
from synaprune.train.settings import Settings


def run_with(folder, epochs, left=lambda epoch: 1000 // epoch, **settings):
    run = Run(folder)
    run.create(Settings(**settings))
    part = "validation" if settings.get("holdout") else "test"
    for epoch in range(1, epochs + 1):
        share = left(epoch) / 1000
        run.append({**metrics(epoch, share, part), "pruned": 1000 // epoch, "regrown": epoch})
    return run


@pytest.mark.parametrize(("epochs", "settings"), [(1, {}), (60, {}), (3, {"holdout": 10}), (3, {"method": "dense"})])
def test_figure_exists_and_is_not_blank(tmp_path, epochs, settings):
    run_with(tmp_path, epochs, **settings)
    path = training_figure(tmp_path)
    assert path == tmp_path / "training.png"
    pixels = matplotlib.image.imread(path)[..., :3]
    assert pixels.shape[0] > 800
    assert pixels.shape[1] > 800
    # Each third holds a curve: a colour that is neither white nor grey.
    third = len(pixels) // 3
    for part in (pixels[:third], pixels[third : 2 * third], pixels[2 * third :]):
        assert (part.max(-1) - part.min(-1) > 0.3).sum() > 50


@pytest.mark.parametrize("lost_at", [1, 2])
def test_a_network_that_lost_all_its_synapses_can_be_drawn(tmp_path, lost_at):
    run_with(tmp_path, 4, left=lambda epoch: 1000 if epoch < lost_at else 0)
    assert training_figure(tmp_path).stat().st_size > 10_000


@pytest.mark.parametrize("name", ["$x$", "$\\frac", "\x1b[2J", "_hidden"])
def test_names_of_layers_may_hold_anything(name, tmp_path):
    write_run(tmp_path, 2, layer=name)
    assert training_figure(tmp_path).stat().st_size > 10_000


def test_a_full_disk_keeps_the_old_figure_and_says_that_the_run_is_safe(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run_with(tmp_path, 2)
    before = training_figure(tmp_path).read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError, match=r"no space left on the disk for '.*training.png'; the run itself is saved"):
        training_figure(tmp_path)
    assert (tmp_path / "training.png").read_bytes() == before
    assert not list(tmp_path.glob("*.tmp"))


def test_no_run_and_no_epoch(tmp_path):
    with pytest.raises(UsageError, match="holds no run"):
        training_figure(tmp_path)
    run_with(tmp_path, 0)
    with pytest.raises(UsageError, match="has no finished epoch to draw"):
        training_figure(tmp_path)

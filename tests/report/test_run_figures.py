"""The figures of one run show what the run holds, and say what it does not."""

from __future__ import annotations

import json

import pytest

from examples import write_run
from synaprune.report import training_figure
from synaprune.report.paper import draw
from synaprune.report.run_figures import run_figures
from synaprune.report.vega import data, specification
from synaprune.train.checkpoint import load

ZERO = ("loss", "connectivity", "pruned", "regrown", "rate", "train_accuracy", "test_accuracy")


def test_a_whole_run_has_every_figure(trained):
    figures, missing = run_figures(trained)
    assert missing == []
    assert [figure.key for figure in figures] == [
        "accuracy", "loss", "connectivity", "turnover", "firing", "silent", "theta-fc1", "w-fc1", "theta-fc2", "w-fc2",
        "inputs", "operations",
    ]  # fmt: skip
    by_key = {figure.key: figure for figure in figures}
    lines = trained.metrics()
    assert by_key["accuracy"].traces[0].y == [line["test_accuracy"] for line in lines]
    assert by_key["connectivity"].series == ["all", "fc1", "fc2"]
    assert by_key["turnover"].table.rows == [[line["epoch"], line["pruned"], line["regrown"]] for line in lines]
    weight = load(trained.checkpoint_path)["model"]["fc1.weight"]
    assert sum(by_key["inputs"].traces[0].values) == (weight != 0).sum()
    assert all(figure.table.rows for figure in figures)


def test_the_mass_below_zero_is_that_of_the_absent_synapses(trained):
    theta = next(figure for figure in run_figures(trained)[0] if figure.key == "theta-fc1")
    assert theta.absent_below == 0.0
    absent = sum(row[-1] for row in theta.table.rows if row[1] <= 0)
    layer = trained.metrics()[-1]["layers"]["fc1.weight"]
    assert absent == pytest.approx(1 - layer["connectivity"], abs=0.03)  # the bin around zero was cut
    assert f"{1 - layer['connectivity']:.1%} at epoch 6" in theta.note


def test_a_bare_run_says_what_is_missing(tmp_path):
    figures, missing = run_figures(write_run(tmp_path, 2, epochs=5))
    assert [figure.key for figure in figures] == ["accuracy", "loss", "connectivity", "turnover", "firing", "silent"]
    assert len(missing) == 4
    for word, said in zip(("not finished: 2 of 5", "distributions", "first layer's", "synaprune eval"), missing):
        assert word in said


def test_a_network_without_synapses_leaves_gaps_on_a_logarithmic_axis(tmp_path):
    figures, _ = run_figures(write_run(tmp_path, 2, connectivity=0.0))
    connectivity = next(figure for figure in figures if figure.key == "connectivity")
    assert connectivity.traces[0].y == [None, None]


def test_an_evaluation_of_another_epoch_is_not_shown(trained):
    trained.keep_evaluation({**trained.evaluation(6), "epoch": 5})
    assert "operations" not in [figure.key for figure in run_figures(trained)[0]]


def test_a_held_out_part_is_named(tmp_path):
    figures, _ = run_figures(write_run(tmp_path, 2, holdout=10))
    assert figures[0].series == ["validation", "training"]


@pytest.mark.parametrize("zero", ["loss", "connectivity", "pruned", "regrown", "rate", "train_accuracy", "all"])
def test_figures_of_zeros_can_be_drawn(tmp_path, zero):
    run = write_run(tmp_path, 3)

    def zeroed(node):
        if isinstance(node, dict):
            return {key: 0.0 if zero in (key, "all") and key in ZERO else zeroed(value) for key, value in node.items()}
        return node

    lines = [json.dumps(zeroed(json.loads(line))) for line in run.metrics_path.read_text().splitlines()]
    run.metrics_path.write_text("".join(f"{line}\n" for line in lines))
    for figure in run_figures(run)[0]:
        json.dumps([specification(figure), data(figure)], allow_nan=False)
        draw(figure).draw_without_rendering()
    assert training_figure(run.folder).exists()

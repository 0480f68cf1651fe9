"""Figures of comparisons."""

from __future__ import annotations

import json

import pytest

from examples import write_result, write_run
from synaprune.report.compare_page import comparison, comparison_page
from synaprune.report.paper import draw
from synaprune.report.published import POINTS, published_for
from synaprune.report.vega import specification


@pytest.fixture
def sweep(tmp_path):
    for seed, shift in enumerate((-0.01, 0.0, 0.01)):
        write_result(tmp_path, "dense", 0.98 + shift, 1.0, seed, sops=5000, method="dense")
        write_result(tmp_path, "a", 0.95 + shift, 0.1, seed, sops=500, alpha=0.1)
        write_result(tmp_path, "b", 0.90 + shift, 0.01, seed, sops=50, alpha=0.2)
    return tmp_path


def test_means_seeds_intervals_and_the_dense_line(sweep):
    _, figures, missing = comparison([sweep])
    figure = figures[0]
    assert figure.key == "accuracy-connectivity"
    assert figure.x.scale == "log"
    mean = next(trace for trace in figure.traces if trace.kind == "mean" and trace.series == "Grad R")
    assert mean.x == pytest.approx([0.01, 0.1])  # one curve, from left to right
    assert mean.y == pytest.approx([0.90, 0.95])
    half = 4.302653 * 0.01 / 3**0.5  # Student's t with two degrees of freedom
    assert mean.low == pytest.approx([0.90 - half, 0.95 - half])
    assert mean.high == pytest.approx([0.90 + half, 0.95 + half])
    seeds = next(trace for trace in figure.traces if trace.kind == "point" and trace.series == "Grad R")
    assert len(seeds.x) == 6
    assert seeds.names[0] == "a-seed0"
    level = next(trace for trace in figure.traces if trace.kind == "level")
    assert level.y == pytest.approx([0.98])
    assert level.names == ["dense 98.00 %"]
    assert missing == []


def test_an_interval_does_not_leave_the_picture(tmp_path):
    for seed, accuracy in enumerate((0.5, 0.9)):
        write_result(tmp_path, "a", accuracy, 0.1, seed)
    _, figures, _ = comparison([tmp_path])
    mean = next(trace for trace in figures[0].traces if trace.kind == "mean")
    assert (mean.low, mean.high) == ([pytest.approx(0.4)], [1.0])  # not 0.7 ± 2.5


def test_operations_are_shown_for_those_that_have_them(sweep):
    assert [figure.key for figure in comparison([sweep])[1]] == ["accuracy-connectivity", "accuracy-sops"]
    write_result(sweep, "c", 0.8, 0.005, alpha=0.4)
    _, figures, missing = comparison([sweep])
    sops = figures[1]
    assert sorted({row[1] for row in sops.table.rows}) == ["a", "b", "dense"]
    assert "not measured for 1 of 4 points (c)" in missing[0]


def test_runs_show_their_course(tmp_path):
    write_run(tmp_path / "a", 3)
    write_run(tmp_path / "b", 4, seed=1)
    figures = {figure.key: figure for figure in comparison([tmp_path])[1]}
    course = figures["course-accuracy"]
    assert [len(trace.x) for trace in course.traces] == [3, 4]
    assert [column.title for column in course.table.columns] == ["epoch", "a", "b"]


def test_too_many_curves_become_one_per_method_without_lines_between_them(tmp_path):
    for index in range(15):
        write_result(tmp_path, f"p{index}", 0.9, 0.1, lr=0.001 * (index + 1))
    records, figures, _ = comparison([tmp_path])
    assert {record.series for record in records} == {"Grad R"}
    assert all(len(trace.x) == 1 for trace in figures[0].traces if trace.kind == "mean")


def test_what_of_few_series_is_a_curve_keeps_its_line(tmp_path):
    for sparsity in (0.9, 0.95):
        write_result(tmp_path, f"s{sparsity}", 0.9, 1 - sparsity, sparsity=sparsity)
        write_result(tmp_path, f"a{sparsity}", 0.9, 1 - sparsity, alpha=1 - sparsity)
    for index in range(15):
        write_result(tmp_path, f"p{index}", 0.9, 0.1, method="dense", lr=0.001 * (index + 1))
    _, figures, _ = comparison([tmp_path])
    lines = [len(t.x) for t in figures[0].traces if t.kind == "mean" and t.series == "Grad R"]
    assert lines == [2, 2]


def test_a_lost_network_is_left_out_of_the_figure_and_not_of_the_table(sweep):
    write_result(sweep, "gone", 0.1, 0.0, sops=0, alpha=9.0)
    figure = comparison([sweep])[1][0]
    drawn = [name for trace in figure.traces if trace.kind == "mean" for name in trace.names]
    assert not any("gone" in name for name in drawn)
    assert any(row[1] == "gone" for row in figure.table.rows)
    assert "gone (has no synapse left)" in figure.note


@pytest.mark.parametrize("others", [0, 1])
@pytest.mark.parametrize("seeds", [(0,), (0, 300), (0, 0)])
@pytest.mark.parametrize("method", ["grad_r", "dense"])
def test_a_point_that_fires_no_spike_is_named(tmp_path, method, seeds, others):
    for seed, sops in enumerate(seeds):
        write_result(tmp_path, "mute", 0.1, 0.01, seed, sops=sops, method=method)
    for _ in range(others):
        write_result(tmp_path, "loud", 0.9, 0.1, sops=500, method="set", sparsity=0.9)
    page = comparison_page([tmp_path])
    assert "Not drawn, since a logarithmic axis has no 0: mute (fired no spike)." in page
    for figure in comparison([tmp_path])[1]:
        json.dumps(specification(figure), allow_nan=False)
        draw(figure).draw_without_rendering()


def test_published_points_stand_only_where_task_and_network_are_the_same(tmp_path):
    same = {"task": "cifar10", "model": "cnn", "width": 256, "time_steps": 8}
    assert len(published_for(same)) == 5
    for name, other in (("task", "mnist"), ("model", "mlp"), ("width", 128), ("time_steps", 4), ("holdout", 100)):
        assert published_for({**same, name: other}) == []
    write_result(tmp_path, "mine", 0.9, 0.02, **same)
    figure = comparison([tmp_path])[1][0]
    trace = next(trace for trace in figure.traces if trace.kind == "published")
    assert list(zip(trace.x, trace.y))[-1] == (0.00746, 0.9021)
    assert trace.series == "published in papers"
    assert "not measured here: STDS" in figure.note


def test_every_published_point_has_a_source_and_can_be():
    for _, point in POINTS:
        assert 0 < point.connectivity < 1
        assert 0.5 < point.accuracy < 1
        assert "authors' own logs" in point.source

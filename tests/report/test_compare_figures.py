"""Figures of comparisons."""

from __future__ import annotations

import json

import pytest

from examples import write_result, write_run, write_sweeps
from synaprune.errors import UsageError
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
    keys = [figure.key for figure in comparison([sweep])[1]]
    assert keys == ["accuracy-connectivity", "accuracy-energy", "accuracy-sops"]  # MACs are not known
    write_result(sweep, "c", 0.8, 0.005, alpha=0.4)
    _, figures, missing = comparison([sweep])
    sops = figures[2]
    assert sorted({row[1] for row in sops.table.rows}) == ["a", "b", "dense"]
    assert "not measured for 1 of 4 points (c)" in missing[0]


@pytest.mark.parametrize(
    ("best", "axis", "scale"),
    [
        (0.85, None, "linear"),
        (0.9, None, "linear"),
        (0.901, None, "error"),
        (0.98, None, "error"),
        (1.0, None, "error"),
        (0.98, "accuracy", "linear"),
        (0.5, "error", "error"),
    ],
)
def test_errors_are_drawn_where_accuracies_are_high_or_as_was_asked(tmp_path, best, axis, scale):
    write_result(tmp_path, "a", best, 0.1, alpha=0.1)
    write_result(tmp_path, "b", 0.3, 0.01, alpha=0.2)
    write_run(tmp_path / "run", 3, alpha=0.3, epochs=30)
    figures = comparison([tmp_path], axis=axis)[1]
    accuracies = [figure for figure in figures if figure.key != "course-connectivity"]
    assert len(accuracies) == 2
    for figure in accuracies:
        assert (figure.y.scale, figure.other_y.scale) == (scale, "linear" if scale == "error" else "error")
        assert figure.y.title.startswith("test error" if scale == "error" else "test accuracy")
        assert all(0 <= y <= 1 for trace in figure.traces for y in trace.y)  # the data are accuracies on both
        drawn = specification(figure)["layer"][0]["encoding"]["y"]["scale"]["type"]
        assert drawn == ("log" if scale == "error" else "linear")
    course = next(figure for figure in figures if figure.key == "course-connectivity")
    assert course.other_y is None


def test_a_figure_for_each_cost_that_is_known(tmp_path):
    for seed in (0, 1):
        write_result(tmp_path, "a", 0.9, 0.1, seed, sops=100 + 20 * seed, macs=1000, alpha=0.1)
    figures = {figure.option: figure for figure in comparison([tmp_path])[1] if figure.option}
    at = {option: next(t.x[0] for t in f.traces if t.kind == "mean") for option, f in figures.items()}
    assert at == {"energy": pytest.approx((0.9 * 110 + 4600) / 1e3), "all operations": 1110.0, "SOPs": 110.0}


def front_of(places, *show):
    return list(comparison(places, show)[1][0].front)


def test_the_best_and_dense_and_what_was_chosen_are_in_front(tmp_path):
    places = write_sweeps(tmp_path)
    assert front_of(places) == ["dense · first", "Grad R · first"]
    assert front_of(places, "set") == ["SET · first", "SET · second", "dense · first", "Grad R · first"]
    assert front_of(places, "stds · SECOND", "SET") == [
        "STDS · second", "SET · first", "SET · second", "dense · first", "Grad R · first",
    ]  # fmt: skip
    assert len(front_of(places, "second")) == 13  # what was chosen is shown, however much
    assert front_of(places[:1]) == ["dense", "Grad R"]
    with pytest.raises(UsageError, match="no series is called 'nothing'; there are Deep R · first, dense · first, "):
        front_of(places, "nothing")
    with pytest.raises(UsageError, match=r"'grad-r'; did you mean 'grad_r'\?; there are .* and 14 more$"):
        front_of(places, "grad-r")


def test_at_most_five_are_in_front_however_many_are_best_somewhere(tmp_path):
    methods = ("set", "rigl", "granet", "static", "deep_r", "magnitude", "stds")
    for rank, method in enumerate(methods):
        for index, sparsity in enumerate((0.9, 0.92, 0.94, 0.96, 0.97, 0.98, 0.99)):
            accuracy = 0.95 if index == rank else 0.9
            write_result(tmp_path, f"{method}{sparsity}", accuracy, 1 - sparsity, method=method, sparsity=sparsity)
    write_result(tmp_path, "dense", 0.97, 1.0, method="dense")
    front = front_of([tmp_path])
    assert len(front) == 5
    assert front[0] == "dense"


@pytest.mark.parametrize("count", [1, 5])
def test_few_series_are_all_in_front(tmp_path, count):
    for method in ("set", "rigl", "granet", "static", "deep_r")[:count]:
        for sparsity in (0.9, 0.95):
            write_result(tmp_path, f"{method}{sparsity}", 0.9, 1 - sparsity, method=method, sparsity=sparsity)
    assert len(front_of([tmp_path])) == count


def test_series_of_two_sweeps_are_told_apart_by_name_and_look(tmp_path):
    figure = comparison(write_sweeps(tmp_path))[1][0]
    assert len(figure.looks) == len(set(figure.looks.values())) == 26
    assert figure.looks["Grad R · second"] == ("Grad R", "second")
    assert {trace.series for trace in figure.traces if trace.kind == "mean"} == set(figure.looks)


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
    lines = {t.series: len(t.x) for t in figures[0].traces if t.kind == "mean" and t.series != "dense"}
    assert lines == {"Grad R": 2, "Grad R, fixed alpha": 2}


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

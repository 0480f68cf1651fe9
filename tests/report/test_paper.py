"""Figures for papers: they exist, show something, can be read in grey, and are the same each time."""

from __future__ import annotations

import errno
import os
from xml.etree import ElementTree

import matplotlib.image
import pytest

from examples import write_result, write_sweeps
from synaprune.errors import MachineError, UsageError
from synaprune.report.compare_page import comparison
from synaprune.report.figure import Axis, Figure, Look, Table, Trace
from synaprune.report.paper import COLOURS, DASHES, GREY, MARKERS, draw, write_figures
from synaprune.report.run_figures import run_figures
from synaprune.terminal import safe


def test_every_figure_of_a_run_is_drawn_as_svg_and_png(trained, tmp_path):
    figures, _ = run_figures(trained)
    written = write_figures(figures, tmp_path / "new" / "figures")
    assert [path.name for path in written[:2]] == ["accuracy.svg", "accuracy.png"]
    assert len(written) == 2 * len(figures)
    for path in written:
        if path.suffix == ".png":
            pixels = matplotlib.image.imread(path)[..., :3]
            assert 900 < pixels.shape[1] < 1100  # a column of a paper at 300 dpi
            assert (pixels.min(-1) < 0.5).mean() > 0.005
        else:
            ElementTree.parse(path)
    text = (tmp_path / "new" / "figures" / "accuracy.svg").read_text()
    assert ">epoch</text>" in text  # words stay words
    again = write_figures(figures[:1], tmp_path / "again")
    assert again[0].read_bytes() == written[0].read_bytes()


def test_many_series_are_named_beneath_the_figure_which_keeps_its_size():
    few, many = (
        draw(
            Figure(
                "k", "t", "n", Axis("x"), Axis("y"), [Trace(str(i), [0, 1], [0, i]) for i in range(n)], Table([], [])
            )
        )
        for n in (6, 14)
    )
    assert (len(few.legends), len(many.legends)) == (0, 1)
    heights = []
    for drawing in (few, many):
        drawing.draw_without_rendering()
        heights.append(drawing.axes[0].get_window_extent().height)
    assert heights[1] > 0.85 * heights[0]


def test_a_comparison_is_drawn(tmp_path):
    for seed in (0, 1):
        write_result(tmp_path, "dense", 0.98, 1.0, seed, method="dense")
        write_result(tmp_path, "a", 0.95 + seed / 100, 0.1, seed, alpha=0.1)
        write_result(tmp_path, "b", 0.9 + seed / 100, 0.01, seed, alpha=0.2)
    drawing = draw(comparison([tmp_path])[1][0])
    (axes,) = drawing.axes
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["Grad R", "dense"]
    assert [text.get_text() for text in axes.texts] == ["dense 98.00 %"]


def test_errors_and_sweeps_in_figures_for_papers(tmp_path):
    (figure,) = (f for f in comparison(write_sweeps(tmp_path), ["grad_r"])[1] if f.key == "accuracy-connectivity")
    drawing = draw(figure)
    (axes,) = drawing.axes
    assert axes.get_yscale() == "log"
    assert axes.get_ylabel() == "test error, less is better"
    (legend,) = drawing.legends  # beneath, where it hides no grey line
    assert {text.get_text() for text in legend.get_texts()} == {"Grad R · first", "Grad R · second", "dense · first"}
    lines = {tuple(line.get_ydata()): line for line in axes.lines if len(line.get_xdata()) == 3}
    looks = {}
    for trace in figure.traces:
        if trace.kind == "mean" and len(trace.x) == 3:
            errors = [1 - y for y in trace.y]
            line = next(line for y, line in lines.items() if y == pytest.approx(errors))
            looks[trace.series] = (line.get_color(), line.get_linestyle(), line.get_markerfacecolor())
    one, two = looks["Grad R · first"], looks["Grad R · second"]
    assert one[0] == two[0] == one[2] != GREY
    assert one[1:] != two[1:]
    assert two[2] == "white"
    assert {look[0] for series, look in looks.items() if not series.startswith("Grad R")} == {GREY}
    bottom, top = axes.get_ylim()
    assert 0 < bottom < min(min(y) for y in lines)
    assert max(max(y) for y in lines) < top


def test_intervals_reach_as_far_on_an_axis_of_errors():
    trace = Trace("a", [1, 2], [0.9, 0.99], "mean", [0.8, 0.9], [0.95, 1.0])
    figure = Figure(
        "k", "t", "n", Axis("x"), Axis("e", "error"), [trace], Table([], []), looks={"a": Look("a", "")}, front=["a"]
    )
    (axes,) = draw(figure).axes
    (bars,) = (c for c in axes.collections if len(c.get_segments()) == 2)
    spans = [sorted(y for _, y in segment) for segment in bars.get_segments()]
    assert spans[0] == pytest.approx([0.05, 0.2])
    assert spans[1][1] == pytest.approx(0.1)
    assert 0 < spans[1][0] < 0.01


def test_series_can_be_told_apart_without_colour():
    looks = [(DASHES[i % len(DASHES)], MARKERS[i % len(MARKERS)]) for i in range(len(COLOURS))]
    assert len(set(looks)) == len(COLOURS)
    lines = [Trace(str(index), [1, 2], [index, index + 1]) for index in range(4)]
    drawing = draw(Figure("k", "t", "n", Axis("x"), Axis("y"), lines, Table([], [])))
    assert {line.get_linestyle() for line in drawing.axes[0].lines} == {"-", "--"}  # "--" is any pattern of dashes


def test_names_of_layers_may_hold_anything(tmp_path):
    figure = Figure("w-../../x y$", "t", "n", Axis("x"), Axis("y"), [Trace("a$b", [1], [1])], Table([], []))
    (svg, png) = write_figures([figure], tmp_path)
    assert svg.parent == png.parent == tmp_path
    assert svg.name == "w-.._.._x_y_.svg"


@pytest.mark.parametrize("name", ["$x$", "$\\frac", "\x1b[2J", "\x00", "_hidden", "\ud800", "</text>"])
def test_names_that_mean_something_to_the_drawer_stay_text(name, tmp_path):
    axes = Axis(name, "band"), Axis(name)
    traces = [Trace(name, [name], [1], "bar"), Trace("other", [name], [2], "bar")]
    (svg, _) = write_figures([Figure("k", name, name, *axes, traces, Table([], []))], tmp_path)
    assert safe(name) in "".join(ElementTree.parse(svg).getroot().itertext())


def test_where_figures_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file; name a folder with --figures"):
        write_figures([], tmp_path / "file")

    def refused(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "fsync", refused)
    figure = Figure("k", "t", "n", Axis("x"), Axis("y"), [Trace("a", [1], [1])], Table([], []))
    with pytest.raises(MachineError, match=r"cannot be written \(Permission denied\)"):
        write_figures([figure], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

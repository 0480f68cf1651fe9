"""Specifications and the data beside them."""

from __future__ import annotations

import json

import pytest

from synaprune.report.figure import Axis, Figure, Look, Table, Trace
from synaprune.report.vega import COLOURS, colour, dash, data, specification

X, LOG = Axis("epoch"), Axis("connectivity", "log", share=True, high=1.0)


def figure(*traces, x=X, y=LOG, **more):
    return Figure("key", "title", "note", x, y, traces, Table([], []), **more)


def test_data_are_short():
    line = Trace("a", [1, 2, 3], [0.123456789, None, float("nan")])
    seeds = Trace("b", [0.5, 2], [0.25, 1], "point", names=["run 1", "run 2"])
    mean = Trace("b", [0.5], [0.25], "mean", [0.2], [0.3], "all")
    assert data(figure(line, seeds, mean)) == [
        {"k": "line", "s": "a", "x": 3, "y": [0.123457, None, None]},
        {"k": "point", "s": "b", "x": [0.5, 2], "y": [0.25, 1], "n": ["run 1", "run 2"]},
        {"k": "mean", "s": "b", "x": [0.5], "y": [0.25], "l": [0.2], "h": [0.3], "n": "all"},
    ]


def test_what_a_logarithmic_axis_has_no_place_for_is_a_gap():
    none = Trace("a", [0, 1], [0.0, 0.5], "mean", [-0.1, 0.4], [0.0, 0.6])
    linear, log = Axis("x"), Axis("x", "log")
    for axes, x, y in (((linear, linear), [0, 1], [0.0, 0.5]), ((log, log), [None, 1], [None, 0.5])):
        (trace,) = data(figure(none, x=axes[0], y=axes[1]))
        assert (trace["x"], trace["y"]) == (x, y)
    assert (trace["l"], trace["h"]) == ([None, 0.4], [None, 0.6])


def test_every_series_has_a_look_of_its_own():
    lines = [Trace(str(index), [1], [0.5]) for index in range(2 * COLOURS)]
    looks = {(colour(figure(*lines), s), tuple(dash(figure(*lines), s))) for s in figure(*lines).series}
    assert len(looks) == 2 * COLOURS
    lines = lines[:COLOURS]
    encoding = specification(figure(*lines))["layer"][0]["encoding"]
    assert encoding["color"]["scale"]["domain"] == [str(index) for index in range(COLOURS)]
    assert len(set(encoding["color"]["scale"]["range"])) == COLOURS
    assert len({tuple(dash) for dash in encoding["strokeDash"]["scale"]["range"]}) == 4


def test_steps_of_one_quantity_go_from_faint_to_strong():
    for count, expected in ((1, [4]), (2, [3, 4]), (4, [1, 2, 3, 4])):
        steps = figure(*(Trace(str(i), [0], [1], "step") for i in range(count)), ordered=True)
        assert [colour(steps, series) for series in steps.series] == [f"var(--s{number})" for number in expected]


def test_axes():
    y = specification(figure(Trace("a", [1, 2], [0.05, 0.5])))["layer"][0]["encoding"]["y"]
    assert y["scale"] == {"type": "log", "nice": False, "domainMax": 1.0}
    assert y["axis"]["values"] == [0.05, 0.1, 0.2, 0.5, 1.0]
    assert "tickCount" not in y["axis"]  # by which Vega would leave out every second of them
    bars = specification(figure(Trace("a", ["fc1"], [3], "bar"), x=Axis("layer", "band")))["layer"][0]["encoding"]
    assert bars["x"]["type"] == "nominal"


def test_the_zone_of_absent_synapses_is_behind_all():
    spec = specification(figure(Trace("a", [-2.0, 1.0], [0.1, 0.2], "step"), absent_below=0.0))
    assert spec["layer"][0]["data"] == {"values": [{"x": -2.0, "to": 0.0}]}


def test_a_map_fits_a_phone():
    for side in (8, 28, 32):
        cells = [(x, y) for x in range(side) for y in range(side)]
        trace = Trace("n", [x for x, _ in cells], [y for _, y in cells], "map", values=[1] * side * side)
        assert specification(figure(trace))["width"] <= 330


KINDS = [(kind, False) for kind in ("line", "step", "bar")]
KINDS += [(kind, True) for kind in ("line", "point", "mean", "published", "level")]


@pytest.mark.parametrize(("kind", "compared"), KINDS)
@pytest.mark.parametrize("y", [LOG, Axis("accuracy", "error")])
def test_names_from_outside_are_only_data(kind, compared, y):
    name = "datum.x'\"]; alert(1)//"
    more = {"looks": {name: Look(name, name)}, "front": [name]} if compared else {}
    spec = specification(figure(Trace(name, [1], [0.5], kind, [0.4], [0.6], names=[name]), y=y, **more))

    def elsewhere(node, key=""):
        if isinstance(node, dict):
            return any(elsewhere(value, key) for key, value in node.items())
        if isinstance(node, list):
            return key != "domain" and any(elsewhere(value, key) for value in node)
        return node == name

    assert not elsewhere(spec)
    json.dumps(spec, allow_nan=False)

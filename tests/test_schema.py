"""Forms of values: what fits passes, what does not is named with its place and what it must be."""

from __future__ import annotations

import math

import pytest

from synaprune.errors import short
from synaprune.reading import Fault
from synaprune.schema import ANYTHING, TEXT, TRUTH, List, Maybe, Number, Record, Table, loose

LAYER = Record({"synapses": Number(1, whole=True), "share": Number(0, 1)}, {"names": List(TEXT), "gpu": Maybe(TEXT)})
RUN = Record({"layers": Table(LAYER, 1)}, {"compile": TRUTH, "loss": Number(finite=False), "more": ANYTHING})
GOOD = {"synapses": 3, "share": 0.5, "names": ["a"], "gpu": None}


def said(form, value):
    with pytest.raises(Fault) as raised:
        form.check(value)
    return str(raised.value)


@pytest.mark.parametrize(
    "value",
    [
        {"layers": {"fc1": GOOD}},
        {"layers": {"fc1": {"synapses": 1, "share": 0, "of a later version": [[]]}}, "compile": True, "loss": math.nan},
        {"layers": {"": GOOD}, "loss": -math.inf, "more": {"a": [None]}},
    ],
)
def test_what_fits_passes(value):
    RUN.check(value)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"synapses": 0}, "holds 0 where 'layers/fc1/synapses' must be a whole number of at least 1"),
        ({"synapses": 1.0}, "holds 1.0 where 'layers/fc1/synapses' must be a whole number of at least 1"),
        ({"synapses": True}, "holds true where 'layers/fc1/synapses' must be a whole number of at least 1"),
        ({"synapses": None}, "holds null where 'layers/fc1/synapses' must be a whole number of at least 1"),
        ({"synapses": 10**400}, "holds a number of 401 digits where 'layers/fc1/synapses' must be a whole number of a"),
        ({"share": 1.5}, "holds 1.5 where 'layers/fc1/share' must be a number of at least 0 and at most 1"),
        ({"share": math.nan}, "holds nan where 'layers/fc1/share' must be a number of at least 0 and at most 1"),
        ({"share": "half"}, "holds 'half' where 'layers/fc1/share' must be a number of at least 0 and at most 1"),
        ({"names": "a"}, "holds 'a' where 'layers/fc1/names' must be a list"),
        ({"names": ["a", 1]}, "holds 1 where 'layers/fc1/names/1' must be a text"),
        ({"gpu": False}, "holds false where 'layers/fc1/gpu' must be a text"),
    ],
    ids=short,
)
def test_what_does_not_fit_is_named(change, fault):
    assert said(RUN, {"layers": {"fc1": {**GOOD, **change}}}).startswith(fault)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ({}, "holds no layers"),
        ([], "holds no layers"),
        (None, "holds no layers"),
        ({"layers": {}}, "holds {} where 'layers' must be an object that is not empty"),
        ({"layers": []}, "holds [] where 'layers' must be an object that is not empty"),
        ({"layers": {"fc1": []}}, "holds [] where 'layers/fc1' must be an object"),
        ({"layers": {"fc1": {"share": 0}}}, "holds no synapses in 'layers/fc1'"),
        ({"layers": {"fc1": GOOD}, "compile": 1}, "holds 1 where 'compile' must be true or false"),
        ({"layers": {"fc1": GOOD}, "loss": "x"}, "holds 'x' where 'loss' must be a number"),
        ({"layers": {7: GOOD}}, "holds 7 where 'layers/a name' must be a text"),
    ],
)
def test_what_is_missing_or_of_another_kind_is_named(value, fault):
    assert said(RUN, value) == fault


def test_long_names_and_values_are_cut():
    sentence = said(RUN, {"layers": {"fc" * 5000: {**GOOD, "share": "x\n" * 5000}}})
    assert len(sentence) < 200
    assert sentence.isprintable()


def test_a_loose_form_asks_for_nothing_and_checks_what_is_there():
    form = loose(RUN)
    for value in ({}, {"layers": {}}, {"layers": {"fc1": {}}}, {"layers": {"fc1": {"share": 1}}}):
        form.check(value)
    assert said(form, {"layers": {"fc1": {"share": 2}}}).startswith("holds 2 where 'layers/fc1/share' must be")
    assert said(form, []) == "holds [] in place of an object"
    RUN.check({"layers": {"fc1": GOOD}})


def test_bounds_in_words():
    assert Number(0).words == "a number of at least 0"
    assert Number(-1, 1, whole=True).words == "a whole number of at least -1 and at most 1"
    assert Number().words == "a number"
    assert Maybe(Number(0)).words == "a number of at least 0 or null"

"""A budget said as a share that is absent, a share that is left, or a number that is left."""

import contextlib
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synaprune.budget import ALLOCATIONS, Plan, constant
from synaprune.budget.forms import absent, one_form
from synaprune.errors import UsageError

NAMES, SIZES = ["fc1.weight", "fc2.weight"], [8000, 200]


@given(st.integers(1, 10**7), st.data())
def test_a_connectivity_in_decimals_is_a_sparsity_in_decimals(parts, data):
    left = data.draw(st.integers(1, parts))
    digits = len(str(parts))
    connectivity = round(left / parts, digits)
    if connectivity:
        assert absent(connectivity) == float(f"{1 - connectivity:.{digits}f}")


@given(st.lists(st.integers(1, 10**8), min_size=1, max_size=5), st.sampled_from(sorted(ALLOCATIONS)), st.data())
def test_a_number_is_met_to_the_synapse(sizes, allocation, data):
    names = [f"layer{i}" for i in range(len(sizes))]
    count = data.draw(st.integers(len(sizes), sum(sizes)))
    sparsity = one_form({"synapses": count}, names, sizes)
    options = {"sparsity": sparsity, "schedule": constant(1), "allocation": allocation, "period": 1, "floor": 0.0}
    with contextlib.suppress(UsageError):  # a layer would have less than one
        assert Plan(options, names, [torch.Size([size]) for size in sizes], sizes).count(1) == count


def test_numbers_by_pattern_are_those_of_each_layer():
    found = one_form({"synapses": {"fc1.*": 2000, "*": 50}}, NAMES, SIZES)
    assert [round((1 - share) * size) for share, size in zip(found.values(), SIZES)] == [2000, 50]


def test_none_asks_for_none():
    assert one_form({"sparsity": None}, NAMES, SIZES) is None
    assert one_form({"sparsity": 0.5, "connectivity": None}, NAMES, SIZES) == 0.5


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"sparsity": 0.9, "connectivity": 0.1}, "sparsity=0.9 and connectivity=0.1 both say"),
        ({"connectivity": 0.1, "synapses": 5}, "give one of them"),
        ({"connectivity": 0.0}, r"connectivity=0.0 is not a share in \(0, 1\]"),
        ({"connectivity": 1.5}, "not a share"),
        ({"connectivity": math.nan}, "not a share"),
        ({"connectivity": True}, "not a share"),
        ({"connectivity": "0.1"}, "not a share"),
        ({"connectivity": {"fc1.*": 0}}, "not a share"),
        ({"synapses": 0}, "synapses=0 is not a whole number from 1 to the 8,200 synapses of the network"),
        ({"synapses": 8201}, "not a whole number"),
        ({"synapses": 10.5}, "not a whole number"),
        ({"synapses": math.nan}, "not a whole number"),
        ({"synapses": True}, "not a whole number"),
        ({"synapses": {"fc2.*": 201, "*": 5}}, "from 1 to the 200 synapses of fc2.weight"),
        ({"synapses": {"fc3.*": 5}}, "no layer's name matches 'fc3.\\*'; did you mean"),
        ({"synapses": {"fc1.*": 5}}, "synapses names no budget for fc2.weight; add '\\*'"),
    ],
)
def test_bad_values_are_named(asked, words):
    with pytest.raises(UsageError, match=words):
        one_form(asked, NAMES, SIZES)

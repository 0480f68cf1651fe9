"""Exactly n, whatever the values."""

import math
import resource
import sys
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synaprune.budget import cutoff, largest, split

# Few different values, so that ties are the rule.
VALUES = st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.25, 1.0]), min_size=1, max_size=30)


def test_cutoff_by_hand():
    values = torch.tensor([[0.5, -1.0], [2.0, 0.5]])
    assert [cutoff(values, count) for count in range(5)] == [2.0, 0.5, 0.5, -1.0, -math.inf]


@given(VALUES, st.data())
def test_largest_are_as_many_as_asked_and_none_is_smaller_than_another(values, data):
    values = torch.tensor(values)
    count = data.draw(st.integers(0, len(values)))
    mask = largest(values, count)
    assert int(mask.sum()) == count
    if 0 < count < len(values):
        assert values[mask].min() >= values[~mask].max()
    order = sorted(range(len(values)), key=lambda i: (-values[i].item(), i))  # of equal ones, the first
    assert sorted(order[:count]) == mask.nonzero().flatten().tolist()


@pytest.mark.parametrize("near", [-math.inf, -2.0, 0.25, 0.3, 5.0])
def test_a_hint_changes_nothing(near):
    values = torch.tensor([0.1, 0.3, 0.3, 0.4])
    assert all(torch.equal(largest(values, n, near), largest(values, n)) for n in range(5))


@given(st.lists(VALUES, min_size=1, max_size=4), st.data())
def test_split_is_the_count_of_the_largest_of_all(tensors, data):
    tensors = [torch.tensor(values) for values in tensors]
    pool = torch.cat(tensors)
    count = data.draw(st.integers(0, len(pool)))
    counts, bound = split(tensors, count, [0] * len(tensors))
    mask = largest(pool, count)
    assert counts == [int(part.sum()) for part in mask.split([len(t) for t in tensors])]
    assert bound == cutoff(pool, count)


def test_floors_take_from_the_others():
    large, small = torch.tensor([5.0, 4.0, 3.0, 2.0]), torch.tensor([0.3, 0.2, 0.1])
    assert split([large, small], 4, [0, 0]) == ([4, 0], pytest.approx(0.3))
    assert split([large, small], 4, [1, 2]) == ([2, 2], 3.0)
    assert split([large, small, small - 1.0], 4, [1, 1, 1]) == ([2, 1, 1], 3.0)
    assert split([large, torch.empty(0)], 3, [1, 0]) == ([3, 0], 2.0)


@given(st.lists(VALUES, min_size=1, max_size=4), st.data())
def test_no_tensor_falls_below_its_floor(tensors, data):
    tensors = [torch.tensor(values) for values in tensors]
    floors = [data.draw(st.integers(0, len(values))) for values in tensors]
    count = data.draw(st.integers(sum(floors), sum(len(values) for values in tensors)))
    counts, _ = split(tensors, count, floors)
    assert sum(counts) == count
    assert all(floor <= n <= len(values) for floor, n, values in zip(floors, counts, tensors))


def test_layers_of_two_types():
    """The bound of all is a float64 value, which the float32 layer has to be compared with."""
    fine = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    for count in range(7):
        counts, _ = split([fine, fine.float()], count, [0, 0])
        assert sum(counts) == count


@pytest.mark.slow
def test_millions_of_values_with_many_ties_in_little_time_and_memory():
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(-(2**22), 2**22, (36_715_264,), generator=generator).float()  # four of each
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    for count in (36_715, 826_093, 18_357_632):
        assert int(torch.count_nonzero(largest(values, count))) == count
        assert sum(split([values[:20_000_000], values[20_000_000:]], count, [10, 10])[0]) == count
    assert int(torch.count_nonzero(largest(torch.zeros(36_715_264), 826_093))) == 826_093
    assert time.process_time() - start < 30  # ten times what it takes
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB here
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit < 2e9

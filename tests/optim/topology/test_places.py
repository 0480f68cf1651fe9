"""Lists of places, against sets."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from synaprune.optim.topology import places

SETS = st.sets(st.integers(0, 30))


def ascending(members):
    return torch.tensor(sorted(members), dtype=torch.int64)


@given(SETS)
def test_vacant_counts_through_all_others(taken):
    free = [place for place in range(40) if place not in taken]
    assert places.vacant(ascending(taken), torch.arange(len(free))).tolist() == free


@given(SETS, SETS)
def test_union_and_without(one, other):
    both = places.union(ascending(one), ascending(other - one))
    assert both.tolist() == sorted(one | other)
    members = torch.tensor([i for i, place in enumerate(sorted(one | other)) if place in other], dtype=torch.int64)
    assert places.without(both, members).tolist() == sorted(one - other)


def test_places_are_counted_in_memory():
    values = torch.zeros(2, 3)
    values[1, 0] = 1.0
    assert places.occupied(values).tolist() == [3]
    assert places.occupied(values.T.contiguous().T).tolist() == [1]
    assert places.flat(values.T)[3] == 1.0

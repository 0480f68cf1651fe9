"""How a threshold drifts, and how it leaves exactly n synapses."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synaprune.optim.maps import signed, threshold


def begin(values, dtype=torch.float32, sign_dtype=None):
    return signed.start(torch.tensor(values, dtype=dtype), margin=0.0, seed=0, sign_dtype=sign_dtype)


def theta(state):
    return (state["latent"].double() * state["sign"] - state["offset"]).tolist()


def exists(state, dtype):
    weight = torch.empty_like(state["latent"], dtype=dtype)
    signed.project([weight], [state])
    return (weight != 0).tolist()


def test_drift_keeps_less_than_one_quantum_beside_the_latents():
    state = begin([1.0, -1.0])
    threshold.drift(state, 2.5 * threshold.QUANTUM)
    assert state["latent"].tolist() == [1 - 2 * threshold.QUANTUM, -1 + 2 * threshold.QUANTUM]
    assert state["offset"] == 0.5 * threshold.QUANTUM
    threshold.drift(state, -2.5 * threshold.QUANTUM)
    assert state["latent"].tolist() == [1.0, -1.0]
    assert state["offset"] == 0.0


def test_fold_changes_no_theta():
    state = begin([1.0, -0.5])
    state["offset"] = 0.3
    before = theta(state)
    threshold.fold(state)
    assert 0 <= state["offset"] < threshold.QUANTUM
    assert theta(state) == pytest.approx(before, abs=1e-15)


@pytest.mark.parametrize("count", range(5))
def test_threshold_becomes_the_largest_that_is_not_to_exist(count):
    state = begin([0.1, -0.4, 0.3, -0.2])
    assert threshold.leave(state, count) == 4
    assert state["offset"] == pytest.approx([0.4, 0.3, 0.2, 0.1, 0.0][count])
    assert exists(state, torch.float32) == [value > 0.4 - 0.1 * count + 0.05 for value in (0.1, 0.4, 0.3, 0.2)]


def test_a_threshold_that_leaves_as_many_already_stays():
    state = begin([0.1, 0.2, 0.4])
    state["offset"] = 0.3
    assert threshold.leave(state, 1) == 1
    assert state["offset"] == 0.3


def test_all_come_back_when_all_shall_exist():
    state = begin([0.1, -0.2, 0.0])
    state["offset"] = 0.5
    assert threshold.leave(state, 3) == 0
    assert all(value > 0 for value in theta(state))
    assert exists(state, torch.bfloat16) == [True, True, True]


@pytest.mark.parametrize(("near", "offset"), [(0.25, 0.25), (0.35, 0.2), (-math.inf, 0.2), (None, 0.2)])
def test_near_is_taken_where_it_leaves_as_many(near, offset):
    state = begin([0.1, 0.2, 0.3, 0.4])
    threshold.leave(state, 2, near)
    assert state["offset"] == pytest.approx(offset)


def test_of_equal_synapses_the_first_are_raised_by_one_ulp():
    state = begin([0.5, -0.5, 0.5, 0.5])
    threshold.leave(state, 2)
    ulp = 2.0**-24
    assert theta(state) == [ulp, ulp, 0.0, 0.0]
    assert state["latent"].tolist() == [0.5 + ulp, -0.5 - ulp, 0.5, 0.5]


@given(
    st.lists(
        st.sampled_from([-1e4, -0.5, -1e-30, 0.0, 1e-42, 1e-35, 2e-20, 0.001, 0.5, 0.5000001, 3.0, 1e4]), max_size=20
    ),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
    st.sampled_from([None, torch.int8]),
    st.sampled_from([0.0, 1e-38, -1e-25, 7.7e-4, 0.3]),
    st.data(),
)
def test_count_is_exact_before_and_after_folding(values, dtype, sign_dtype, offset, data):
    weight = torch.tensor(values, dtype=dtype)
    state = signed.start(weight, margin=0.1, seed=0, sign_dtype=sign_dtype)
    state["offset"] = offset
    for near in (None, -math.inf, 0.25):
        count = data.draw(st.integers(0, len(values)))
        threshold.leave(state, count, near)
        assert sum(exists(state, dtype)) == count
        threshold.fold(state)
        assert sum(exists(state, dtype)) == count


def test_lift_carries_what_a_latent_cannot_hold():
    state = begin([-4.0, 4.0])
    for _ in range(1000):
        threshold.lift(state, torch.tensor([1e-7, 0.0]))  # a latent of 4 moves by 4.8e-7 at least
    assert theta(state) == pytest.approx([4.0001, 4.0], abs=5e-7)


@given(
    st.lists(
        st.sampled_from([-3.0, -0.5, -0.2, -1e-30, 0.0, 1e-35, 0.001, 0.5, 0.50000006, 3.0]), min_size=1, max_size=20
    ),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
    st.sampled_from([0.0, 1e-38, 7.7e-4, 0.3]),
    st.sampled_from([0.0, 1e-9, 0.1, 1.0]),
    st.data(),
)
def test_a_threshold_falls_so_far_and_no_further(thetas, dtype, offset, fall, data):
    """No living weight grows by more than that, the largest exist, and their number is exact."""
    count = data.draw(st.integers(0, len(thetas)))
    state = begin([1.0] * len(thetas), torch.promote_types(dtype, torch.float32))
    state["latent"].copy_(torch.tensor(thetas) + offset)
    state["offset"] = offset
    before = theta(state)
    threshold.leave(state, count, None, fall)
    alive = exists(state, dtype)
    assert sum(alive) == count
    for old, new, lives in zip(before, theta(state), alive):
        if old > 0:
            assert new <= old + fall + 1e-6
        assert not lives or old >= sorted(before, reverse=True)[count - 1]


def test_the_missing_are_raised_where_a_threshold_may_not_fall():
    state = begin([0.5, -0.25, 0.125, 0.0625])
    state["offset"] = 0.2
    assert threshold.leave(state, 4, None, fall=0.1) == 2
    assert state["offset"] == pytest.approx(0.1)
    assert theta(state) == pytest.approx([0.4, 0.15, 0.025, 0.0], abs=1e-7)
    assert all(exists(state, torch.float32))

"""The map z → sign(z)·[|z| − d]₊: how latents start, change hands, become weights, and leave exactly n synapses."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synaprune.optim.maps import soft
from synaprune.optim.maps.threshold import TINY
from synaprune.optim.reference import soft_threshold as reference


def state_of(values, threshold, dtype=torch.float32):
    return {"latent": torch.tensor(values, dtype=dtype), "threshold": threshold}


def weights(state, dtype=torch.float32):
    weight = torch.empty(state["latent"].shape, dtype=dtype)
    soft.project(weight, state)
    return weight


def test_projection_in_small_numbers():
    state = state_of([3.0, 1.0, 0.5, 0.0, -0.5, -1.0, -3.0], 1.0)
    assert weights(state).tolist() == [2.0, 0.0, 0.0, 0.0, 0.0, 0.0, -2.0]
    state["absent"] = torch.tensor([True] + [False] * 6)
    assert weights(state).tolist() == [0.0] * 6 + [-2.0]
    assert weights(state_of([3.0, -2.0], 0.0)).tolist() == [3.0, -2.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_projection_is_the_twins(dtype):
    latent = torch.randn(40, 50, dtype=torch.promote_types(dtype, torch.float32))
    expected = reference.soft_threshold(latent, 0.75).to(dtype)
    assert torch.equal(weights({"latent": latent, "threshold": 0.75}, dtype), expected)


def test_projection_keeps_memory_and_layout():
    flat = torch.zeros(20)
    weight = flat[2:18].view(4, 4)[:, ::2]
    latent = torch.arange(8.0).view(4, 2)
    soft.project(weight, {"latent": latent, "threshold": 3.0})
    assert torch.equal(flat[2:18].view(4, 4)[:, ::2], (latent - 3.0).relu())
    assert torch.count_nonzero(flat) == 4


def test_gate_is_the_gradient_of_the_projection():
    z = torch.randn(200, requires_grad=True)
    g = torch.randn(200)
    (true,) = torch.autograd.grad(reference.soft_threshold(z, 0.5), z, g)
    assert torch.equal(soft.gate(g, {"latent": z.detach(), "threshold": 0.5}), true)


def test_start_keeps_weights_and_puts_absent_ones_in_the_middle_of_the_zone():
    weight = torch.tensor([0.5, -2.0, 0.0])
    state = soft.start(weight, torch.ones(3), 0.25)
    assert state["latent"].tolist() == [0.75, -2.25, 0.0]
    assert torch.equal(weights(state), weight)


@pytest.mark.parametrize("threshold", [0.0, 0.25])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_tensor_of_zeros_starts_alive_by_the_smallest_bit(threshold, dtype):
    state = soft.start(torch.zeros(3, dtype=dtype), torch.tensor([1.0, -1.0, 1.0]), threshold)
    assert state["latent"].dtype == torch.float32
    w = weights(state, dtype)
    assert w.sign().tolist() == [1.0, -1.0, 1.0]
    assert w.abs().max() < 1e-7


def test_moving_the_threshold_changes_no_weight_and_wakes_none():
    state = state_of([1.0, -0.75, 0.5, -0.25], 0.5)
    before = weights(state)
    soft.move(state, 2.0)
    assert state["threshold"] == 2.0
    assert torch.equal(weights(state), before)
    assert state["latent"].tolist() == [2.5, -2.25, 0.5, -0.25]
    soft.move(state, 0.3)
    assert state["threshold"] == 0.3
    torch.testing.assert_close(weights(state), before)
    assert state["latent"].tolist() == pytest.approx([0.8, -0.55, 0.3, -0.25])


def test_weights_written_by_others_are_taken_over():
    state = state_of([1.0, -1.0, 0.125, 3.0], 0.5)
    weight = weights(state)
    weight[0], weight[1] = 0.0, 4.0  # masked; a new value of the other sign
    soft.adopt(weight, state, 0.25)
    assert state["latent"].tolist() == [0.0, 4.5, 0.125, 3.0]
    assert weight.tolist() == [0.0, 4.0, 0.0, 2.5]


def test_a_masked_weight_gets_a_zone_to_lie_in():
    state = state_of([1.0, -1.0, 2.0], 0.0)
    weight = weights(state)
    weight[2] = 0.0
    soft.adopt(weight, state, 0.25)
    assert state["threshold"] == 0.25
    assert state["latent"].tolist() == [1.25, -1.25, 0.0]
    assert torch.equal(weights(state), weight)


def test_buried_synapses_stay_buried():
    state = state_of([1.0, -1.0, 0.25, -3.0], 0.5)
    soft.bury(state, torch.tensor([True, True, True, False]))
    assert state["latent"].tolist() == [0.5, -0.5, 0.25, -3.0]
    assert weights(state).tolist() == [0.0, 0.0, 0.0, -2.5]


@settings(max_examples=200, deadline=None)
@given(
    # Few different values, zeros of both signs among them: ties everywhere.
    values=st.lists(st.sampled_from([0.0, -0.0, 1e-30, 0.5, -0.5, 1.0, -1.0, 2.0, 1e30]), min_size=1, max_size=30),
    share=st.floats(0, 1),
    near=st.sampled_from([None, -math.inf, -1.0, 0.0, 0.5, 1.0]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
)
def test_exactly_n_are_left_and_they_are_the_first_of_the_largest(values, share, near, dtype):
    count = round(share * len(values))
    state = state_of(values, 0.5, torch.promote_types(dtype, torch.float32))
    expected = reference.top(state["latent"], count)
    before = state["latent"].clone()
    assert soft.leave(state, count, near) == sum(abs(value) > 0.5 for value in values)
    assert state["threshold"] >= 0.0
    left = weights(state, dtype)
    assert torch.equal(left != 0, expected)
    assert torch.equal(torch.signbit(left[expected]), torch.signbit(before[expected]))
    torch.testing.assert_close(state["latent"], before, rtol=1e-6, atol=2 * TINY)  # one ulp at most


def test_the_threshold_is_the_largest_that_is_lost_or_0():
    state = state_of([0.25, -1.0, 0.5, 3.0], 7.0)
    assert soft.leave(state, 2) == 0
    assert state["threshold"] == 0.5
    assert soft.leave(state, 2, near=0.75) == 2  # the same for all tensors of the group
    assert state["threshold"] == 0.75
    assert soft.leave(state, 2) == 2  # no need to move
    assert state["threshold"] == 0.75
    soft.leave(state, 4)
    assert state["threshold"] == 0.0
    assert weights(state).tolist() == [0.25, -1.0, 0.5, 3.0]

"""How a number of synapses is spread over the layers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synaprune.budget import allocate, erdos_renyi_kernel, uniform
from synaprune.errors import UsageError


def shapes(*dimensions):
    return [torch.Size(d) for d in dimensions]


def test_uniform():
    assert uniform(shapes((800, 784), (10, 800)), 0.1) == [0.1, 0.1]


def test_erdos_renyi_kernel_in_closed_form():
    """ε·Σdims/Πdims with one ε: 100·150 and 4·3·3·3 synapses, of which together a tenth."""
    first, second = erdos_renyi_kernel(shapes((100, 150), (4, 3, 3, 3)), 0.01)
    epsilon = 0.01 * (15_000 + 108) / (250 + 13)
    assert first == pytest.approx(epsilon * 250 / 15_000)
    assert second == pytest.approx(epsilon * 13 / 108)


def test_a_layer_that_would_exceed_1_is_dense():
    """Half of 1,000·1,000 + 10·10: the small layer would get 500,050·20/2,020 = 4,951 of its 100."""
    first, second = erdos_renyi_kernel(shapes((1000, 1000), (10, 10)), 0.5)
    assert second == 1.0
    assert first == pytest.approx((500_050 - 100) / 1_000_000)


def test_several_layers_become_dense_one_after_the_other():
    connectivities = erdos_renyi_kernel(shapes((100, 100), (20, 20), (3, 3)), 0.9)
    assert connectivities[1:] == [1.0, 1.0]
    assert connectivities[0] == pytest.approx((0.9 * 10_409 - 409) / 10_000)


@given(
    st.lists(st.lists(st.integers(1, 40), min_size=2, max_size=4), min_size=1, max_size=6),
    st.floats(0.001, 1.0),
)
def test_erdos_renyi_kernel_keeps_the_total(dimensions, connectivity):
    sizes = [math.prod(d) for d in dimensions]
    shares = erdos_renyi_kernel(shapes(*dimensions), connectivity)
    assert all(0 < share <= 1 for share in shares)
    assert sum(share * size for share, size in zip(shares, sizes)) == pytest.approx(connectivity * sum(sizes))


def test_empty_layers_take_nothing():
    assert erdos_renyi_kernel(shapes((10, 10), (0, 3)), 0.3) == pytest.approx([0.3, 0.0])
    assert allocate([100, 0], [0.3, 0.0], ["a", "b"]) == [30, 0]


def test_whole_numbers_by_largest_remainder():
    assert allocate([10, 10, 10], [0.24, 0.25, 0.31], ["a", "b", "c"]) == [2, 3, 3]  # 2.4, 2.5, 3.1: 8 in all
    assert allocate([100, 10], [0.05, 1.0], ["a", "b"]) == [5, 10]


@given(st.lists(st.integers(1, 10**8), min_size=1, max_size=8), st.floats(0.001, 1.0))
def test_the_sum_is_the_rounded_total(sizes, share):
    sizes = [size + 1000 for size in sizes]
    counts = allocate(sizes, [share] * len(sizes), [""] * len(sizes))
    assert sum(counts) == round(sum(share * size for size in sizes))
    assert all(abs(count - share * size) < 1 for count, size in zip(counts, sizes))


def test_less_than_one_synapse():
    with pytest.raises(UsageError, match=r"a connectivity of 0\.1000% leaves fc2 less than one of its 100 synapses"):
        allocate([100_000, 100], [0.001, 0.001], ["fc1", "fc2"])

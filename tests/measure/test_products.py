"""The arithmetic of synaptic operations against loops over every pair, and against torch's own convolutions."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from synaprune.measure.products import Product, count_nonzero, countable, multiplies, products_of, tally

CONVOLUTIONS = {
    False: {1: F.conv1d, 2: F.conv2d, 3: F.conv3d},
    True: {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d},
}


def sparse(*size, seed, share=0.5):
    """Values of which about `share` are not zero, none of them 1."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(*size, generator=generator) + 2) * (torch.rand(*size, generator=generator) < share)


def counted(function, *args, **kwargs):
    (product,) = products_of(function.__name__, args, kwargs, function(*args, **kwargs))
    found = tally(product)
    effective, blind, nonzero, *_ = found.counts.tolist()
    return effective, blind, found.dense, nonzero, found.inputs, int(found.alive)


def test_linear_against_a_loop_over_every_pair():
    x, weight = sparse(2, 5, 4, seed=0), sparse(3, 4, seed=1)
    effective = blind = 0
    for t, n, i, o in itertools.product(range(2), range(5), range(4), range(3)):
        effective += bool(x[t, n, i]) and bool(weight[o, i])
        blind += bool(x[t, n, i])
    assert 0 < effective < blind < 120
    expected = (effective, blind, 120, int((x != 0).sum()), 40, int((weight != 0).sum()))
    assert counted(F.linear, x, weight, torch.ones(3)) == expected
    assert counted(F.linear, x, weight=weight) == expected


@pytest.mark.parametrize(
    ("channels", "out", "stride", "padding", "dilation", "groups"),
    [
        (2, 3, (1, 1), (0, 0), (1, 1), 1),
        (2, 3, (2, 3), (1, 2), (1, 1), 1),
        (4, 6, (1, 1), (1, 1), (2, 1), 2),
        (3, 3, (2, 2), (2, 2), (1, 2), 3),
    ],
    ids=["plain", "strided and padded", "dilated, two groups", "depthwise"],
)
def test_convolution_against_a_loop_over_every_pair(channels, out, stride, padding, dilation, groups):
    x, weight = sparse(2, channels, 5, 6, seed=0), sparse(out, channels // groups, 3, 2, seed=1)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    height, width = F.conv2d(x, weight, **options).shape[2:]
    effective = blind = dense = 0
    places = (range(2), range(out), range(channels // groups), range(3), range(2), range(height), range(width))
    for n, o, c, a, b, i, j in itertools.product(*places):
        y = i * stride[0] - padding[0] + a * dilation[0]
        z = j * stride[1] - padding[1] + b * dilation[1]
        if 0 <= y < 5 and 0 <= z < 6:
            spike = bool(x[n, o // (out // groups) * (channels // groups) + c, y, z])
            effective += spike and bool(weight[o, c, a, b])
            blind += spike
            dense += 1
    assert 0 < effective < blind < dense
    assert counted(F.conv2d, x, weight, **options)[:3] == (effective, blind, dense)


@st.composite
def convolutions(draw):
    dims, transposed, groups = draw(st.integers(1, 3)), draw(st.booleans()), draw(st.integers(1, 3))
    numbers = {
        name: [draw(st.integers(low, high)) for _ in range(dims)]
        for name, low, high in [("kernel", 1, 3), ("stride", 1, 3), ("dilation", 1, 2), ("padding", 0, 2)]
    }
    size = [draw(st.integers(6, 8)) for _ in range(dims)]  # never smaller than a kernel that reaches 5 wide
    channels, out = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    options = {name: numbers[name] for name in ("stride", "dilation", "padding")} | {"groups": groups}
    if transposed:
        options["output_padding"] = [
            draw(st.integers(0, max(s, d) - 1)) for s, d in zip(options["stride"], options["dilation"])
        ]
    elif draw(st.booleans()):
        options |= {"stride": 1, "padding": draw(st.sampled_from(["same", "valid"]))}
    front = (channels, out // groups) if transposed else (out, channels // groups)
    seed, batched = draw(st.integers(0, 99)), draw(st.booleans())
    x = sparse(*([2] if batched else []), channels, *size, seed=seed)
    return CONVOLUTIONS[transposed][dims], x, sparse(*front, *numbers["kernel"], seed=seed + 100), options


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@given(convolutions())
@settings(max_examples=80, deadline=None)
def test_any_convolution_counts_what_one_of_ones_and_zeros_sums_to(case):
    function, x, weight, options = case

    def total(x, weight):
        return int(function(x.double(), weight.double(), **options).sum().round())

    some, every = (x != 0), torch.ones_like(weight)
    expected = (total(some, weight != 0), total(some, every), total(torch.ones_like(x), every), int(some.sum()))
    assert counted(function, x, weight, **options)[:4] == expected


@pytest.mark.parametrize("rows", [0, 1, 254, 255, 256, 1021])
def test_counting_within_bytes(rows):
    x = sparse(rows, 3, 2, seed=0, share=0.9)
    assert torch.equal(count_nonzero(x), torch.count_nonzero(x, 0))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_more_rows_than_a_byte_counts_in_any_memory_format(memory_format):
    x = torch.ones(600, 2, 3, 3).to(memory_format=memory_format)
    x[:7, 0, 1, 1] = 0
    weight = torch.ones(3, 2, 3, 3).to(memory_format=memory_format)
    weight[0, 0] = 0
    assert counted(F.conv2d, x, weight)[:3] == (600 * 45 - 7 * 2, 600 * 54 - 7 * 3, 600 * 54)


def test_totals_that_float32_cannot_hold_are_exact():
    x, weight = torch.ones(1, 5001), torch.ones(3355, 5001)
    assert counted(F.linear, x, weight)[:3] == (16_778_355,) * 3  # 2²⁴ is 16,777,216


@pytest.mark.parametrize(
    ("values", "analog", "wild"),
    [
        ([0.0, 1.0, -1.0, -0.0], 0, 0),
        ([0.0, 0.0, 0.0, 0.0], 0, 0),
        ([1.0, 1.0, 0.0, 0.99999994], 1, 0),
        ([1.0, 1.0, 0.0, 1.0000001], 1, 0),
        ([1.0, 2.0, 0.0, 0.0], 1, 0),
        ([257.0, 0.0, 0.0, 0.0], 1, 0),
        ([1e-45, 0.0, 0.0, 0.0], 1, 0),
        ([0.0, torch.nan, 0.0, 0.0], 1, 1),
        ([0.0, 0.0, -torch.inf, 0.0], 1, 1),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_a_spike(values, analog, wild, dtype):
    found = tally(Product(torch.tensor([values], dtype=torch.float32).to(dtype), torch.ones(2, 4, dtype=dtype)))
    assert [bool(flag) for flag in found.counts[3:]] == [bool(analog), bool(wild), False]
    assert int(found.counts[2]) == sum(value != 0 for value in values)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_weight_that_is_not_finite_is_flagged(value):
    weight = torch.ones(2, 4)
    weight[1, 2] = value
    assert tally(Product(torch.ones(1, 4), weight)).counts[3:].tolist() == [0, 0, 1]


def test_cells_have_two_products():
    x, h, feed, back = sparse(5, 4, seed=0), sparse(5, 3, seed=1), sparse(9, 4, seed=2), sparse(9, 3, seed=3)
    for name, state in [("gru_cell", h), ("lstm_cell", (h, torch.ones(5, 3))), ("rnn_tanh_cell", h)]:
        one, two = products_of(name, (x, state, feed, back, None, None), {}, None)
        assert (one.input is x, one.weight is feed, two.input is h, two.weight is back) == (True,) * 4


def test_nothing_waits_for_a_gpu():
    """Tensors without data: whatever reads a value to decide something raises."""
    x, weight, kernel = (torch.empty(*size, device="meta") for size in [(600, 4), (3, 4), (3, 4, 2, 2)])
    assert tally(Product(x, weight)).dense == 600 * 12
    images = torch.empty(5, 4, 3, 3, device="meta")
    (product,) = products_of("conv2d", (images, kernel), {"padding": 1}, F.conv2d(images, kernel, padding=1))
    assert tally(product).counts.shape == (6,)


def test_empty_batches_cost_nothing():
    assert counted(F.linear, torch.ones(0, 4), torch.ones(3, 4)) == (0, 0, 0, 0, 0, 12)


def test_what_is_neither_counted_nor_harmless_is_known_by_name():
    x = torch.ones(2, 2)
    for function in [torch.matmul, torch.mm, torch.einsum, torch.baddbmm, torch.linalg.multi_dot, torch.lstm]:
        assert multiplies(function.__name__)
    assert multiplies(torch.Tensor.__matmul__.__name__)
    assert not any(map(multiplies, ["mul", "add", "relu", "linear", "conv2d", "max_pool2d", "sum"]))
    assert countable(Product(x, x))
    assert not countable(Product(x.to_sparse(), x))
    assert not countable(Product(x, x.to(torch.complex64)))

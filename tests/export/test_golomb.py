"""Numbers as bits: the codes of the textbook, and numbers of any size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synaprune.export import golomb


@pytest.mark.parametrize(
    ("m", "codes"),
    [
        (1, ["1", "01", "001", "0001"]),
        (2, ["0 1", "1 1", "0 01", "1 01"]),
        (3, ["0 1", "1 1 0", "1 1 1", "0 01", "1 01 0"]),
        (4, ["00 1", "01 1", "10 1", "11 1", "00 01"]),
        (5, ["00 1", "01 1", "10 1", "11 1 0", "11 1 1", "00 01"]),
    ],
)
def test_the_code_of_single_numbers(m, codes):
    for number, code in enumerate(codes):
        assert "".join(map(str, golomb.code(np.array([number]), m))) == code.replace(" ", "")


@given(st.lists(st.integers(0, 10**4), min_size=1), st.integers(1, 300))
def test_round_trip(numbers, m):
    reader = golomb.Reader(np.packbits(golomb.code(np.array(numbers), m)))
    assert reader.golomb(len(numbers), m, 300).tolist() == numbers
    assert -(-reader.at // 8) == len(reader.code) - 8


@given(st.lists(st.tuples(st.integers(1, 2**53 - 1), st.floats(0, 1, exclude_max=True)), min_size=1), st.integers(0, 9))
def test_round_trip_below_limits(pairs, shift):
    limits = np.array([limit for limit, _ in pairs])
    numbers = np.array([int(part * limit) for limit, part in pairs])
    bits = np.concatenate([np.ones(shift, np.uint8), *golomb.binary(numbers, limits)])
    assert len(bits) - shift <= sum((limit - 1).bit_length() for limit, _ in pairs)
    reader = golomb.Reader(np.packbits(bits))
    reader.at = shift
    assert reader.binary(limits).tolist() == numbers.tolist()


def test_a_mean_of_zero_and_large_means():
    assert golomb.parameter(np.zeros(3, np.int64)) == 1
    assert golomb.parameter(np.array([999])) == 693  # ln 2 of a thousand


def test_more_numbers_than_bits_are_refused():
    reader = golomb.Reader(np.zeros(2, np.uint8))
    for count, m in [(17, 1), (3, 1), (1, 0), (1, 8), (4, 7)]:
        with pytest.raises(EOFError):
            reader.golomb(count, m, 7)

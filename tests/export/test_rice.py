"""Positions in few bits: what goes in comes out, within 1 % of the entropy, and damage is found or harmless."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synaprune.errors import UsageError
from synaprune.export import rice


def chosen(connectivity, size, seed=0):
    """Positions that are left at random."""
    return np.flatnonzero(np.random.default_rng(seed).random(size) < connectivity)


def test_gaps_by_hand():
    # 2 of 30: gaps 3 and 7 have mean 5, for which m = 4: remainders 3, 3 as 11 11, quotients 0, 1 as 1 01.
    m, code = rice.encode(np.array([3, 11]), 30)
    assert (m, [f"{byte:08b}" for byte in code]) == (4, ["11111010"])
    assert rice.decode(code, m, 2, 30).tolist() == [3, 11]


def test_blocks_by_hand():
    # 28 of 56, one block: as many as the mean, "1"; the last of C(56, 28), which takes 53 bits.
    m, code = rice.encode(np.arange(28, 56), 56)
    assert (m, code[0] >> 7, len(code)) == (1, 1, math.ceil((1 + 53) / 8))
    number = int.from_bytes(code.tobytes()) >> 2 & (1 << 53) - 1
    assert number == math.comb(56, 28) - 1 + (1 << 53) - math.comb(56, 28)
    assert rice.decode(code, m, 28, 56).tolist() == list(range(28, 56))


@pytest.mark.parametrize(("count", "size"), [(0, 0), (0, 1), (0, 10**12), (1, 1), (1000, 1000)])
def test_none_and_all_take_no_bits(count, size):
    m, code = rice.encode(np.arange(count), size)
    assert (m, len(code)) == (1, 0)
    assert rice.decode(code, m, count, size).tolist() == list(range(count))
    assert rice.entropy(count, size) == 0


@given(st.integers(1, 500), st.floats(0, 1), st.integers(0, 99))
@settings(deadline=None, max_examples=300)
def test_round_trip(size, connectivity, seed):
    positions = chosen(connectivity, size, seed)
    m, code = rice.encode(positions, size)
    assert rice.decode(code, m, len(positions), size).tolist() == positions.tolist()


@given(st.sets(st.integers(0, 2**40)), st.integers(2**40 + 1, 2**50))
@settings(deadline=None)
def test_round_trip_of_huge_gaps(positions, size):
    ascending = np.array(sorted(positions), np.int64)
    m, code = rice.encode(ascending, size)
    assert rice.decode(code, m, len(ascending), size).tolist() == ascending.tolist()


@pytest.mark.parametrize("connectivity", [*np.geomspace(0.001, 0.5, 40), 1 / 7 - 0.001, 1 / 7 + 0.001, 0.382, 0.7])
def test_within_1_percent_of_the_entropy(connectivity):
    size = 1_000_000
    positions = chosen(connectivity, size)
    m, code = rice.encode(positions, size)
    assert np.array_equal(rice.decode(code, m, len(positions), size), positions)
    assert 8 * len(code) < 1.01 * rice.entropy(len(positions), size)


def test_synapses_in_clusters_take_no_more():
    rows = chosen(0.02, 1000)
    positions = (rows[:, None] * 1000 + chosen(0.3, 1000)).ravel()
    m, code = rice.encode(positions, 1_000_000)
    assert np.array_equal(rice.decode(code, m, len(positions), 1_000_000), positions)
    assert 8 * len(code) < 1.01 * rice.entropy(len(positions), 1_000_000)


def test_entropy():
    assert rice.entropy(1, 4) == pytest.approx(4 * (0.25 * 2 + 0.75 * math.log2(4 / 3)))
    assert rice.entropy(1, 10**15) == pytest.approx(math.log2(10**15) + 1 / math.log(2))


@given(st.data(), st.integers(2, 400), st.floats(0.01, 0.99), st.integers(0, 9))
@settings(deadline=None, max_examples=500)
def test_a_damaged_code_is_refused_or_of_other_positions(data, size, connectivity, seed):
    positions = chosen(connectivity, size, seed)
    m, code = rice.encode(positions, size)
    raw = bytearray(code.tobytes())
    if raw:
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(-2, 2))
    raw = raw[:cut] if cut < 0 else raw + bytes(cut)
    numbers = st.sampled_from([0, 1, 2, -1, len(positions), size, 2**31, 2**53, 2**62, 2**70])
    m, count, size = data.draw(numbers) or m, data.draw(numbers) or len(positions), data.draw(numbers) or size
    count = min(count, 1000)  # all synapses take no bits; the values, of which there are as many, are the limit
    try:
        found = rice.decode(np.frombuffer(bytes(raw), np.uint8), m, count, size)
    except UsageError:
        return
    assert len(found) == count
    assert (np.diff(found, prepend=-1) > 0).all()
    assert not count or found[-1] < size


@pytest.mark.parametrize(
    ("m", "count", "size"),
    [(6, 3, 30), (10**6, 2, 30), (0, 2, 30), (-1, 2, 30), (4, 2, 11), (4, -2, 30), (4, 31, 30), (1, 5, 6)],
)
def test_numbers_that_do_not_fit_are_refused(m, count, size):
    _, code = rice.encode(np.array([3, 11]), 30)
    with pytest.raises(UsageError, match=rf"1 bytes with parameter {m} are no code of {count} positions below {size}"):
        rice.decode(code, m, count, size)


@pytest.mark.parametrize("size", [2**34, 10**11])
def test_a_short_code_takes_little_memory(size):
    code = np.full(1000, 0xFF, np.uint8)
    tracemalloc.start()
    try:
        for count in (size // 1000, size // 3):
            with pytest.raises(UsageError):
                rice.decode(code, 2, count, size)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_the_largest_layers_take_seconds():
    for connectivity in (0.0073, 0.5):
        positions = chosen(connectivity, 36_715_264)
        m, code = rice.encode(positions, 36_715_264)
        assert np.array_equal(rice.decode(code, m, len(positions), 36_715_264), positions)

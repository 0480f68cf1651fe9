"""Distributions as a run's TensorBoard files hold them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synaprune.report.histograms import Histogram, common, read
from synaprune.train.checkpoint import load


def test_every_epoch_is_found_and_the_last_is_that_of_the_checkpoint(trained):
    found = read(trained.tensorboard_path)
    assert set(found) == {"w/fc1.weight", "w/fc2.weight", "theta/fc1.weight", "theta/fc2.weight"}
    assert sorted(found["w/fc1.weight"]) == [1, 2, 3, 4, 5, 6]
    weight = load(trained.checkpoint_path)["model"]["fc1.weight"]
    last = found["w/fc1.weight"][6]
    assert last.counts.sum() == (weight != 0).sum()
    assert (last.low, last.high) == (weight.min(), weight.max())


def test_of_an_epoch_that_was_repeated_the_later_file_counts(trained):
    first = next(trained.tensorboard_path.glob("*"))
    before = read(trained.tensorboard_path)
    first.with_name("events.out.tfevents.000005").write_bytes(first.read_bytes())  # a resumed run
    assert read(trained.tensorboard_path).keys() == before.keys()
    first.with_name("events.out.tfevents.000006").write_bytes(first.read_bytes()[:-20])  # a killed one
    assert len(read(trained.tensorboard_path)["w/fc1.weight"]) == 6


def test_no_folder_holds_no_histogram(tmp_path):
    assert read(tmp_path / "nowhere") == {}


@given(
    st.lists(
        st.tuples(
            st.floats(-5, 5),
            st.floats(1e-3, 5),
            st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(any),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_common_bins_keep_every_value_and_have_an_edge_at_zero(drawn):
    given = [Histogram(low, low + width, np.array(counts, dtype=float)) for low, width, counts in drawn]
    edges, shares = common(given)
    assert np.abs(edges).min() == 0
    assert all(share.sum() == pytest.approx(1.0) for share in shares)
    assert all((share >= 0).all() for share in shares)


def test_equal_values_are_one_bin():
    edges, (share,) = common([Histogram(0.5, 0.5, np.array([7.0]))])
    assert share.max() == 1.0
    assert edges[share.argmax()] <= 0.5 <= edges[share.argmax() + 1]

"""Distributions as a run's TensorBoard files hold them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synaprune.report.histograms import Histogram, Histograms, common, read
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


def test_a_growing_file_is_read_on_and_a_replaced_one_anew(trained):
    (path,) = trained.tensorboard_path.glob("*")
    whole, expected = path.read_bytes(), read(trained.tensorboard_path)
    path.write_bytes(b"")
    histograms = Histograms(trained.tensorboard_path)
    assert histograms.follow() == {}
    taken = []
    real = histograms._take
    histograms._take = lambda raw, epochs: taken.append(raw) or real(raw, epochs)
    for end in range(0, len(whole) + 999, 1000):
        path.write_bytes(whole[:end])
        found = histograms.follow()
    assert len(taken) == len(set(taken))  # none twice
    assert {tag: list(by_epoch) for tag, by_epoch in found.items()} == {tag: list(e) for tag, e in expected.items()}
    path.write_bytes(whole[: len(whole) // 2])
    assert max(histograms.follow()["w/fc1.weight"]) < 6


def test_only_the_epochs_that_are_asked_for_are_kept(trained):
    histograms = Histograms(trained.tensorboard_path)
    assert list(histograms.follow({1, 5})["w/fc1.weight"]) == [1, 5]
    assert list(histograms.follow({1})["w/fc1.weight"]) == [1]


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

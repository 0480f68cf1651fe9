"""Noise of either kind: its moments, and that it comes of seed, step and purpose alone."""

import pytest
import torch

from synaprune.optim.topology.noise import NOISES, gaussian, numpy_generator, uniform

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", NOISES)
def test_mean_and_deviation(name):
    count = 1_000_000
    values, deviation = NOISES[name](count, CPU, 0)
    values = values.double() / deviation
    assert values.shape == (count,)
    assert abs(values.mean()) < 5 / count**0.5
    assert abs(values.square().mean() - 1) < 5 * (2 / count) ** 0.5


def test_uniform_noise_is_the_odd_numbers_of_a_byte_equally_often():
    counts = torch.bincount(uniform(1_280_000, CPU, 0)[0].long() + 128, minlength=256)
    assert counts[::2].sum() == 0
    assert (counts[1::2] - 10_000).abs().max() < 500
    values = uniform(1_280_000, CPU, 0)[0].double()
    for lag in range(1, 9):  # the eight that come of one draw know nothing of each other
        assert abs((values[lag:] * values[:-lag]).mean() / values.square().mean()) < 0.005


def test_count_need_not_fill_a_word():
    assert len(uniform(13, CPU, 0)[0]) == 13
    assert len(uniform(0, CPU, 0)[0]) == 0


def test_equal_keys_draw_the_same_and_others_differ():
    draw = lambda *key: gaussian(4, CPU, *key)[0].tolist()  # noqa: E731
    assert draw(3, 1, 0) == draw(3, 1, 0)
    assert len({tuple(draw(*key)) for key in [(3, 1, 0), (3, 0, 1), (1, 3, 0), (31, 0), (-3, 1, 0)]}) == 5
    assert numpy_generator(3, 1).random() == numpy_generator(3, 1).random() != numpy_generator(1, 3).random()


def test_nobody_elses_random_numbers_are_used():
    before = torch.get_rng_state()
    gaussian(8, CPU, 0)
    uniform(8, CPU, 0)
    assert torch.equal(before, torch.get_rng_state())

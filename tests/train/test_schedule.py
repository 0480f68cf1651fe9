"""Learning rate and augmentation strength as functions of the step."""

from __future__ import annotations

import pytest

from synaprune.train.schedule import augmentation, learning_rate, steps_per_epoch
from synaprune.train.settings import Settings


def test_steps_keep_the_last_partial_batch():
    assert [steps_per_epoch(Settings(batch_size=64), count) for count in (64, 65, 1437)] == [1, 2, 23]


def test_constant_rate_after_a_warm_up():
    settings = Settings(lr=0.8, warmup=0.5, epochs=2)
    assert [learning_rate(settings, step, 8) for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])


def test_cosine_falls_from_the_rate_towards_zero():
    settings = Settings(lr=0.5, lr_schedule="cosine", epochs=2)
    rates = [learning_rate(settings, step, 2) for step in range(4)]
    assert rates == pytest.approx([0.5, 0.5 * 0.8535533905932737, 0.25, 0.5 * 0.14644660940672627])


def test_cosine_starts_where_the_warm_up_ends():
    settings = Settings(lr=1.0, lr_schedule="cosine", warmup=1.0, epochs=3)
    rates = [learning_rate(settings, step, 2) for step in range(5)]
    assert rates == pytest.approx([0.5, 1, 1, 0.8535533905932737, 0.5])


def test_warm_up_may_last_the_whole_run():
    settings = Settings(lr=1.0, lr_schedule="cosine", warmup=1.0, epochs=1)
    assert [learning_rate(settings, step, 4) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]


def test_strength_fades_linearly_between_two_shares():
    settings = Settings(task="mnist", augment=1.0, augment_end=0.2, fade_start=0.25, fade_end=0.75, epochs=4)
    strengths = [augmentation(settings, step, 2) for step in range(8)]
    assert strengths == pytest.approx([1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0.2])


def test_strength_is_constant_without_an_end_and_may_jump():
    settings = Settings(task="mnist", augment=0.7, epochs=1)
    assert {augmentation(settings, step, 9) for step in range(9)} == {0.7}
    jump = Settings(task="mnist", augment=1.0, augment_end=0.0, fade_start=0.5, fade_end=0.5, epochs=1)
    assert [augmentation(jump, step, 4) for step in range(4)] == [1.0, 1.0, 1.0, 0.0]

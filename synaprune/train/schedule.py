"""What changes from step to step: functions of the progress alone, so that a resumed run needs no state for them."""

from __future__ import annotations

import math

from synaprune.train.settings import Settings

__all__ = ["augmentation", "learning_rate", "steps_per_epoch", "stops"]


def steps_per_epoch(settings: Settings, count: int) -> int:
    """Return the number of batches in `count` images; the last one may be smaller."""
    return -(-count // settings.batch_size)


def learning_rate(settings: Settings, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of one step, counted from 0 over the whole run.

    It rises linearly for `warmup` epochs, then stays (constant) or falls along half a cosine towards 0.
    """
    warmup, total = round(settings.warmup * steps_per_epoch), settings.epochs * steps_per_epoch
    if step < warmup:
        return settings.lr * (step + 1) / warmup
    if settings.lr_schedule == "constant":
        return settings.lr
    return settings.lr * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2


def augmentation(settings: Settings, step: int, steps_per_epoch: int) -> float:
    """Return the augmentation's strength at one step, counted from 0 over the whole run.

    It is `augment` up to `fade_start` of the training, `augment_end` from `fade_end` on, linear in between.
    """
    start, progress = settings.augment, step / (settings.epochs * steps_per_epoch)
    end = start if settings.augment_end is None else settings.augment_end
    if progress <= settings.fade_start:
        return start
    if progress >= settings.fade_end:
        return end
    return start + (end - start) * (progress - settings.fade_start) / (settings.fade_end - settings.fade_start)


def stops(settings: Settings) -> dict[int, float]:
    """Return after which epochs a tail branches off, and the sparsity of each.

    >>> stops(Settings(sparsity=0.98, levels=(0.9, 0.95), tail=2, epochs=30))
    {10: 0.9, 20: 0.95, 30: 0.98}
    """
    if settings.levels is None or settings.sparsity is None or settings.tail is None:
        return {}
    levels = (*settings.levels, settings.sparsity)
    return {settings.epochs * (i + 1) // len(levels): level for i, level in enumerate(levels)}

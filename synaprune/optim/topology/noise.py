"""Random numbers: noise on synaptic parameters, and draws of synapses.

Every draw has a generator of its own, made of a seed, the number of the step and what is drawn. So nothing random is
to be saved: a copy, a replica or a loaded state draws the same.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from synaprune.optim.groups import Group

__all__ = ["NOISES", "gaussian", "generator", "numpy_generator", "rand", "scale", "uniform"]

BIRTHS, DEPTHS, MOVES, SIGNS, START = range(5)
"""What is drawn for."""


def numpy_generator(*key: int) -> np.random.Generator:
    """Return NumPy's generator for this seed, step and purpose."""
    return np.random.default_rng(_mixed(key))


def generator(device: torch.device, *key: int) -> torch.Generator:
    """Return torch's generator for this seed, step and purpose, on a device."""
    return torch.Generator(device).manual_seed(_mixed(key))


def rand(like: Tensor, source: torch.Generator) -> Tensor:
    """Return numbers in [0, 1), float32 whatever torch's default is, in the shape of `like` and where the source is."""
    return torch.rand(like.shape, generator=source, dtype=torch.float32, device=source.device)


def _mixed(key: tuple[int, ...]) -> int:
    return int.from_bytes(hashlib.blake2b(repr(tuple(map(int, key))).encode(), digest_size=8).digest(), "little")


def gaussian(count: int, device: torch.device, *key: int) -> tuple[Tensor, float]:
    """Return Gaussian numbers, float32, and their standard deviation, which is 1."""
    return torch.empty(count, dtype=torch.float32, device=device).normal_(generator=generator(device, *key)), 1.0


def uniform(count: int, device: torch.device, *key: int) -> tuple[Tensor, float]:
    """Return the 128 odd numbers of one byte, equally often, and their standard deviation.

    Cheap, for eight of them come out of one draw; odd, for their mean is exactly 0: of all 256 it is −1/2.

    >>> values, deviation = uniform(10_000, torch.device("cpu"), 0)
    >>> values.dtype, values.abs().max().item(), round(deviation, 2)
    (torch.int8, 127, 73.9)
    """
    draws = count // 8 + 1
    if device.type == "cpu":  # numpy has generators that take half the time of torch's
        words = torch.from_numpy(np.random.SFC64(_mixed(key)).random_raw(draws).view(np.int64))
    else:
        words = torch.empty(draws, dtype=torch.int64, device=device)
        words.random_(-(2**63), None, generator=generator(device, *key))
    return words.bitwise_or_(0x0101010101010101).view(torch.int8)[:count], math.sqrt((128**2 - 1) / 3)


NOISES: dict[str, Callable[..., tuple[Tensor, float]]] = {"gaussian": gaussian, "uniform": uniform}


def scale(group: Group) -> float:
    """Return √(2ηT), the standard deviation of one step's noise."""
    return math.sqrt(2.0 * float(group["lr"]) * group["temperature"])

"""A data set held whole as uint8, and how batches are cut from it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from synaprune.errors import UsageError

__all__ = ["Dataset", "batches", "normalize"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels of a training and a test part.

    Images are uint8 [N, C, H, W], labels int64 [N] from 0 to `classes` − 1. `mean` and `std`, per channel and
    of pixels scaled to 0..1, are what `normalize` takes.
    """

    name: str
    train_images: Tensor = field(repr=False)
    train_labels: Tensor = field(repr=False)
    test_images: Tensor = field(repr=False)
    test_labels: Tensor = field(repr=False)
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def to(self, device: str | torch.device) -> Dataset:
        """Return the same data set with its tensors on `device`."""
        return replace(
            self,
            train_images=self.train_images.to(device),
            train_labels=self.train_labels.to(device),
            test_images=self.test_images.to(device),
            test_labels=self.test_labels.to(device),
        )

    def holdout(self, count: int) -> Dataset:
        """Return a data set to choose settings on: its test part is the last `count` training images.

        The other training images are its training part; the real test images cannot be reached from it.

        Raises:
            UsageError: `count` leaves one of the two parts empty.

        """
        if not 0 < count < len(self.train_labels):
            raise UsageError(
                f"cannot hold out {count} of the {len(self.train_labels)} training images of {self.name}; "
                f"choose from 1 to {len(self.train_labels) - 1}"
            )
        return replace(
            self,
            train_images=self.train_images[:-count],
            train_labels=self.train_labels[:-count],
            test_images=self.train_images[-count:],
            test_labels=self.train_labels[-count:],
        )

    def first(self, count: int) -> Dataset:
        """Return the first `count` images of each part, to try things out."""
        return replace(
            self,
            train_images=self.train_images[:count],
            train_labels=self.train_labels[:count],
            test_images=self.test_images[:count],
            test_labels=self.test_labels[:count],
        )


def normalize(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Return (images/255 − mean)/std per channel, float32, of uint8 images [N, C, H, W]."""
    centre, width = _per_channel(mean, images.device), _per_channel(std, images.device)
    return images.to(torch.float32).sub_(centre).div_(width)


@functools.cache  # to bring them to a GPU, it would have to be waited for at each step
def _per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    return 255 * torch.tensor(values, dtype=torch.float32, device=device).view(-1, 1, 1)


def batches(count: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Return the indices 0..count−1, shuffled, batch by batch on the generator's device; the last may be smaller."""
    order = torch.randperm(count, generator=generator, device=generator.device)
    return iter(order.split(batch_size))

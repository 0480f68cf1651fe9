"""Augmentation of a whole batch on its device, with a strength that can fade over training.

Both classes take images uint8 or float [N, C, H, W] before normalisation, fill with 0, and return the same
shape and dtype. They draw from the generator given and from nothing else; on whatever device the images are,
equal draws give equal images. Strength 0 returns the images themselves and draws nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from synaprune.errors import UsageError

__all__ = ["CropFlip", "RandomAffine"]


@dataclass(frozen=True)
class RandomAffine:
    """Scale, rotate about the centre and shift each image, by nearest pixels: the published MNIST recipe.

    The angle is uniform in ±`degrees`, the shift in ±`translate` times the image's size and then rounded to
    whole pixels, the scale in `scale`. `strength` multiplies `degrees` and `translate` and draws `scale`
    towards 1.

    An output pixel with the centre (x, y) shows the input pixel at c + R(p − c − t)/s, where p = (x, y), c is
    the centre of the image, t the shift, s the scale and R turns by minus the angle (positive angles turn the
    image clockwise). It is computed in 16.16 fixed point, as Pillow does, and equals Pillow's result to the
    pixel: that is what torchvision's RandomAffine gives on Pillow images.
    """

    degrees: float = 30.0
    translate: float = 0.15
    scale: tuple[float, float] = (0.85, 1.11)

    def __call__(self, images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
        """Return transformed images.

        Raises:
            UsageError: `strength` is not in [0, 1].

        """
        if _nothing_to_do(strength):
            return images
        count, _, height, width = images.shape
        angle, dx, dy, scale = self._draw(count, height, width, strength, generator)
        cos, sin = angle.cos() / scale, angle.sin() / scale
        left, top = 0.5 - width / 2 - dx, 0.5 - height / 2 - dy  # p − c − t of the first pixel
        first_x = width / 2 + cos * left + sin * top
        first_y = height / 2 - sin * left + cos * top
        fixed = (torch.stack([cos, sin, first_x, first_y]) * 65536 + 0.5).floor().to(torch.int32)
        cos, sin, first_x, first_y = fixed.to(images.device).view(4, -1, 1, 1)
        x = torch.arange(width, dtype=torch.int32, device=images.device)
        y = torch.arange(height, dtype=torch.int32, device=images.device).view(-1, 1)
        columns = (first_x + sin * y) + cos * x
        rows = (first_y + cos * y) - sin * x
        return _pick(images, rows.bitwise_right_shift_(16), columns.bitwise_right_shift_(16))

    def _draw(
        self, count: int, height: int, width: int, strength: float, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return angle [radians], shift right and down [pixels] and scale, float64 [count] each."""
        uniform = torch.rand(4, count, generator=generator, dtype=torch.float64, device=generator.device)
        angle, dx, dy = 2 * uniform[:3] - 1
        low, high = (1 + strength * (bound - 1) for bound in self.scale)
        return (
            angle * math.radians(strength * self.degrees),
            (dx * strength * self.translate * width).round(),
            (dy * strength * self.translate * height).round(),
            low + (high - low) * uniform[3],
        )


@dataclass(frozen=True)
class CropFlip:
    """Pad with zeros, crop back to the old size at a random place, mirror half of the images left to right.

    The shift is uniform in ±`padding` whole pixels in each direction. `strength` multiplies `padding`
    (rounded) and the probability ½ of mirroring.
    """

    padding: int = 4

    def __call__(self, images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
        """Return shifted and mirrored images.

        Raises:
            UsageError: `strength` is not in [0, 1].

        """
        if _nothing_to_do(strength):
            return images
        count, _, height, width = images.shape
        most = round(self.padding * strength)
        shift = torch.randint(-most, most + 1, (2, count, 1, 1), generator=generator, device=generator.device)
        chance = torch.rand(count, 1, 1, generator=generator, dtype=torch.float32, device=generator.device)
        (dx, dy), mirror = shift.to(images.device), (chance < strength / 2).to(images.device)
        x = torch.arange(width, device=images.device)
        y = torch.arange(height, device=images.device).view(-1, 1)
        return _pick(images, y + dy, torch.where(mirror, width - 1 - x, x) + dx)


def _nothing_to_do(strength: float) -> bool:
    """Return whether strength is 0, or raise if it is no strength."""
    if not 0 <= strength <= 1:
        raise UsageError(f"augmentation strength {strength} is not in [0, 1]")
    return strength == 0


def _pick(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the images whose pixel (y, x) is the old pixel (row, column), or 0 where that is outside.

    `rows` and `columns` are integers that broadcast to [N, H, W].
    """
    height, width = images.shape[2:]
    # With a border of one zero pixel, everything outside is that border.
    rows, columns = (rows + 1).clamp_(0, height + 1), (columns + 1).clamp_(0, width + 1)
    index = (rows.mul_(width + 2) + columns).long().flatten(1).unsqueeze(1)
    padded = F.pad(images, (1, 1, 1, 1)).flatten(2)
    return padded.gather(2, index.expand(-1, images.shape[1], -1)).view(images.shape)

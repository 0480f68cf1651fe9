from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from synaprune.data import CropFlip, RandomAffine
from synaprune.errors import UsageError

AUGMENTATIONS = [RandomAffine(), CropFlip()]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_torchs_defaults_change_nothing(augmentation, dtype):
    images, generators = noise(50, 1, 8, 8), (seeded(), seeded())
    expected = augmentation(images, 1.0, generators[0])
    torch.set_default_dtype(dtype)
    torch.set_default_device("meta")
    try:
        drawn = augmentation(images, 1.0, generators[1])
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert torch.equal(drawn, expected)


def noise(*shape: int, low: int = 0) -> torch.Tensor:
    return torch.randint(low, 256, shape, dtype=torch.uint8, generator=seeded(9))


def turn(angle: float) -> np.ndarray:
    return np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])


def shift(x: float, y: float) -> np.ndarray:
    return np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]])


@pytest.mark.parametrize("size", [(28, 28), (20, 33)])
@pytest.mark.parametrize("strength", [1.0, 0.3])
def test_affine_equals_pillow(size, strength):
    height, width = size
    images = noise(300, 1, height, width, low=1)
    affine = RandomAffine()
    out = affine(images, strength, seeded(1))
    draws = affine._draw(300, height, width, strength, seeded(1))
    for image, result, angle, dx, dy, scale in zip(images, out, *(d.tolist() for d in draws)):
        # Forward: to the centre, scale, turn, back, shift. Pillow asks for the way back, output to input.
        forward = shift(width / 2 + dx, height / 2 + dy) @ turn(angle) @ np.diag([scale, scale, 1])
        back = np.linalg.inv(forward @ shift(-width / 2, -height / 2))
        coefficients = tuple(back[:2].flatten())
        expected = Image.fromarray(image[0].numpy()).transform(
            (width, height), Image.Transform.AFFINE, coefficients, Image.Resampling.NEAREST, fillcolor=0
        )
        assert np.array_equal(result[0].numpy(), np.asarray(expected))


def test_affine_turns_as_pillow_rotates():
    images = noise(50, 1, 28, 28, low=1)
    affine = RandomAffine(translate=0.0, scale=(1.0, 1.0))
    out = affine(images, 1.0, seeded(2))
    angles = affine._draw(50, 28, 28, 1.0, seeded(2))[0].rad2deg()
    for image, result, angle in zip(images, out, angles.tolist()):
        expected = Image.fromarray(image[0].numpy()).rotate(-angle)  # Pillow counts anticlockwise
        assert np.count_nonzero(result[0].numpy() != np.asarray(expected)) <= 2  # ties: Pillow rounds its matrix


def test_affine_shifts_by_whole_pixels():
    images = noise(200, 2, 12, 20, low=1)
    affine = RandomAffine(degrees=0.0, scale=(1.0, 1.0))
    out = affine(images, 1.0, seeded(3))
    _, dx, dy, _ = affine._draw(200, 12, 20, 1.0, seeded(3))
    for image, result, x, y in zip(images, out, dx.int().tolist(), dy.int().tolist()):
        expected = torch.zeros(2, 32, 40, dtype=torch.uint8)
        expected[:, 10 + y : 22 + y, 10 + x : 30 + x] = image
        assert torch.equal(result, expected[:, 10:22, 10:30])


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_affine_ranges(strength):
    angle, dx, dy, scale = RandomAffine()._draw(20_000, 28, 56, strength, seeded(4))
    assert 0.99 < angle.rad2deg().abs().max().item() / (30 * strength) <= 1
    assert abs(angle.mean().item()) < 0.01
    low, high = 1 - 0.15 * strength, 1 + 0.11 * strength
    assert low <= scale.min().item() < low + 1e-3
    assert high - 1e-3 < scale.max().item() <= high
    # round(0.15·28·strength·u): at strength 1 the bounds ±4.2 give −4..4 with the outer ones 0.7 as likely.
    for drawn, size in ((dx, 56), (dy, 28)):
        most = round(0.15 * size * strength)
        assert drawn.unique().tolist() == list(range(-most, most + 1))
    if strength == 1.0:
        assert (dy == 4).double().mean().item() == pytest.approx(0.7 / 8.4, abs=0.01)
        assert (dy == 0).double().mean().item() == pytest.approx(1 / 8.4, abs=0.01)


def test_affine_changes_every_image():
    images = noise(500, 1, 28, 28)
    assert (RandomAffine()(images, 1.0, seeded()) != images).flatten(1).any(1).all()


@pytest.mark.parametrize("strength", [1.0, 0.5, 0.1])
def test_crop_flip_is_a_crop_of_the_padded_image(strength):
    images = noise(400, 3, 10, 14, low=1)
    out = CropFlip(padding=4)(images, strength, seeded(5))
    most = {1.0: 4, 0.5: 2, 0.1: 0}[strength]
    padded = torch.nn.functional.pad(images, (4, 4, 4, 4))
    crops = {
        (dy, dx, mirror): crop.flip(3) if mirror else crop
        for dy in range(-most, most + 1)
        for dx in range(-most, most + 1)
        for mirror in (False, True)
        for crop in [padded[:, :, 4 + dy : 14 + dy, 4 + dx : 18 + dx]]
    }
    found = []
    for i, result in enumerate(out):
        matches = [key for key, crop in crops.items() if torch.equal(result, crop[i])]
        assert len(matches) == 1
        found += matches
    assert {dy for dy, _, _ in found} == {dx for _, dx, _ in found} == set(range(-most, most + 1))
    assert {mirror for _, _, mirror in found} == {False, True}


@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_crop_flip_mirrors_half_of_the_images_times_strength(strength):
    images = torch.tensor([1, 2]).expand(20_000, 1, 1, 2)
    out = CropFlip(padding=0)(images, strength, seeded(5))
    mirrored = (out == torch.tensor([2, 1])).all(-1)
    assert ((out == images).all(-1) | mirrored).all()
    assert mirrored.double().mean().item() == pytest.approx(strength / 2, abs=0.015)


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_only_the_given_generator_counts(augment):
    images = noise(32, 3, 16, 16)
    state = torch.get_rng_state()
    first = augment(images, 0.7, seeded(6))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, augment(images, 0.7, seeded(6)))
    assert not torch.equal(first, augment(images, 0.7, seeded(7)))
    assert torch.equal(images, noise(32, 3, 16, 16))


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_float_images_move_as_uint8_images_do(augment):
    images = noise(32, 3, 16, 16)
    as_float = augment(images.float(), 1.0, seeded(6))
    assert as_float.dtype == torch.float32
    assert torch.equal(as_float, augment(images, 1.0, seeded(6)).float())


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_strength_zero_returns_the_images_and_draws_nothing(augment):
    images, generator = noise(4, 1, 8, 8), seeded()
    state = generator.get_state()
    assert augment(images, 0.0, generator) is images
    assert torch.equal(generator.get_state(), state)


@pytest.mark.parametrize("augment", AUGMENTATIONS)
@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_a_strength_outside_0_to_1_is_refused(augment, strength):
    with pytest.raises(UsageError, match=f"augmentation strength {strength} is not in \\[0, 1\\]"):
        augment(noise(4, 1, 8, 8), strength, seeded())


@pytest.mark.parametrize("augment", AUGMENTATIONS)
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_images(augment):
    images = noise(64, 3, 32, 32)
    assert torch.equal(augment(images.cuda(), 1.0, seeded()).cpu(), augment(images, 1.0, seeded()))

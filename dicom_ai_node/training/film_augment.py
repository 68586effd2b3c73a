"""What films of the world vary in: turns, makers' grey scales, noise, sharpness, shade."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from dicom_ai_node.networks.intensity import smoothed
from dicom_ai_node.training.augment import chance, normal, uniform


@dataclass(frozen=True)
class FilmLook:
    """Probability of each change of brightness, and their strengths (brightness runs from 0 to 1).

    `smear` is a blur from head to foot alone, by up to `smear_pixels` (standard deviation): a patient who
    breathes, or a film that was projected from thick slices of CT.
    """

    gamma: float = 0.6
    window: float = 0.6
    shade: float = 0.4
    blur: float = 0.3
    noise: float = 0.5
    noise_share: float = 0.06
    inverted: float = 0.05
    smear: float = 0.0
    smear_pixels: float = 3.5


PLAIN = FilmLook(gamma=0, window=0, shade=0, blur=0, noise=0, inverted=0)
"""No change at all."""


def vary_film(generator: Generator, image: Tensor, look: FilmLook) -> Tensor:
    """The film as another maker might have shown it; shape (rows, columns), 0 to 1 in and out."""
    if chance(generator, look.gamma):
        image = image.clamp(0, 1) ** math.exp(uniform(generator, -0.6, 0.6))
    if chance(generator, look.window):
        low, high = uniform(generator, -0.15, 0.2), uniform(generator, 0.75, 1.2)
        image = (image - low) / (high - low)
    if chance(generator, look.shade):
        field = normal(generator, 1, 1, 3, 3)
        smooth = functional.interpolate(field, size=image.shape, mode="bilinear", align_corners=True)
        image = image + 0.12 * smooth[0, 0]
    if chance(generator, look.blur):
        image = smoothed(image, uniform(generator, 0.4, 1.3))
    if look.smear and chance(generator, look.smear):
        image = smoothed(image, uniform(generator, 0.8, look.smear_pixels), axes=(0,))
    if chance(generator, look.noise):
        image = image + look.noise_share * uniform(generator, 0, 1) ** 2 * normal(generator, *image.shape)
    if chance(generator, look.inverted):
        image = 1 - image
    return image.clamp(0, 1)


def pose(generator: Generator, degrees: float, *, mirrored: float = 0.5, upside_down: float = 0.0) -> Tensor:
    """A 2x2 matrix, crop offsets [row, column] to film offsets: turned, and mirrored now and then."""
    angle = math.radians(uniform(generator, -degrees, degrees))
    turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    flip = torch.tensor(
        [-1.0 if chance(generator, upside_down) else 1.0, -1.0 if chance(generator, mirrored) else 1.0]
    )
    return turn * flip


def collimated(generator: Generator, image: Tensor) -> Tensor:
    """The film with a field that leaves part of it unexposed: black, or white where a station inverts it.

    Shape (rows, columns) in and out; at least a third of each edge stays.
    """
    rows, columns = image.shape
    height, width = (max(1, round(n * uniform(generator, 0.35, 1.0))) for n in (rows, columns))
    top, left = round(uniform(generator, 0, rows - height)), round(uniform(generator, 0, columns - width))
    field = torch.zeros_like(image, dtype=torch.bool)
    field[top : top + height, left : left + width] = True
    return torch.where(field, image, torch.full_like(image, float(chance(generator, 0.5))))

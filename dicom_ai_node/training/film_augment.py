"""What films of the world vary in: crops, turns, makers' grey scales, noise, sharpness, shade."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor
from torch.nn import functional

from dicom_ai_node.training.augment import chance, normal, uniform


@dataclass(frozen=True)
class FilmLook:
    """Probability of each change of brightness, and their strengths (brightness runs from 0 to 1)."""

    gamma: float = 0.6
    window: float = 0.6
    shade: float = 0.4
    blur: float = 0.3
    noise: float = 0.5
    noise_share: float = 0.06
    inverted: float = 0.05


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
        image = _blurred(image, uniform(generator, 0.4, 1.3))
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


def crop(pixels: npt.NDArray[np.generic], center: Tensor, matrix: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut a turned crop out of a film; what lies beyond the film repeats its border.

    Args:
        pixels: shape (rows, columns).
        center: of the crop in the film, [row, column].
        matrix: shape (2, 2), crop offsets to film offsets, both in pixels [row, column].
        size: of the crop.

    Returns:
        float32, shape `size`, in the film's own brightness.
    """
    rows, columns = pixels.shape
    axes = [torch.arange(length, dtype=torch.float32) - (length - 1) / 2 for length in size]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) @ matrix.T + center
    # A fine film is averaged first, so that no pixel of it goes unseen.
    factor = max(1, int(float(torch.linalg.det(matrix).abs().sqrt())))
    limit = torch.tensor([rows, columns]) - 1
    low = (places.amin(dim=(0, 1)).floor().long() - factor).clamp(min=0)
    low = torch.minimum(low, (limit - factor).clamp(min=0))
    high = torch.minimum(places.amax(dim=(0, 1)).ceil().long() + 2 * factor, limit + 1)
    high = torch.minimum(torch.maximum(high, low + factor), limit + 1)
    (top, left), (bottom, right) = low.tolist(), high.tolist()
    part = torch.from_numpy(pixels[top:bottom, left:right].astype(np.float32))[None, None]
    if factor > 1:
        part = functional.avg_pool2d(part, factor, ceil_mode=True)
    extent = torch.tensor(part.shape[2:], dtype=torch.float32)
    inside = (places - low - (factor - 1) / 2) / factor
    grid = (inside * 2 + 1) / extent - 1
    return functional.grid_sample(
        part, grid.flip(-1)[None], mode="bilinear", padding_mode="border", align_corners=False
    )[0, 0]


def into_crop(points: Tensor, center: Tensor, matrix: Tensor, size: tuple[int, int]) -> Tensor:
    """Film places (n, 2) as places of a crop that `crop` cut with the same arguments."""
    answer: Tensor = torch.linalg.solve(matrix, (points - center).T).T
    return answer + (torch.tensor(size) - 1) / 2


def out_of_crop(points: Tensor, center: Tensor, matrix: Tensor, size: tuple[int, int]) -> Tensor:
    """Places of a crop (n, 2) as places of the film: the way back of `into_crop`."""
    return (points - (torch.tensor(size) - 1) / 2) @ matrix.T + center


def fitting(shape: tuple[int, int], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """(center, matrix) of the crop of that size that shows a whole film, as large as it goes."""
    center = (torch.tensor(shape, dtype=torch.float32) - 1) / 2
    return center, torch.eye(2) * max(shape[0] / size[0], shape[1] / size[1])


def _blurred(image: Tensor, sigma: float) -> Tensor:
    radius = max(1, round(2.5 * sigma))
    steps = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = functional.pad(image[None, None], (radius,) * 4, mode="replicate")
    return functional.conv2d(functional.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))[
        0, 0
    ]

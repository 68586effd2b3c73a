"""What real MR varies in and the phantom does not enough: contrast, coil, noise, sharpness, field of view.

Everything draws from a `torch.Generator`. Images are (slices, rows, columns) in -1 to 1, as
`networks.mr_intensity.mr_contrast` gives them; -1 is no signal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from dicom_ai_node.networks.mr_intensity import EMPTY
from dicom_ai_node.training.augment import chance, normal, uniform


@dataclass(frozen=True)
class MrLook:
    """The probability of each change, and its strength where one number tells it.

    Attributes:
        gamma, curve, inverted: other contrasts; `curve` is any monotonous one, `inverted` a negative.
        bias: a coil's uneven sensitivity; `bias_strength` is the standard deviation of its logarithm.
        noise, noise_level: Rician noise, its standard deviation as a share of the range.
        blur: a smaller matrix.
        window: the brightest part cut off, as a narrow display window that was burnt in.
        cropped: an image that ends early.
        lost: a neighbouring slice that is missing (or is another one's copy).
        moved: neighbours displaced by motion, in pixels.
    """

    gamma: float = 0.5
    curve: float = 0.2
    inverted: float = 0.12
    bias: float = 0.4
    bias_strength: float = 0.35
    noise: float = 0.4
    noise_level: float = 0.08
    blur: float = 0.3
    window: float = 0.25
    cropped: float = 0.25
    lost: float = 0.12
    moved: float = 0.15


def vary_mr(generator: Generator, image: Tensor, look: MrLook) -> Tensor:
    """The slices as another scanner, coil or sequence might show them; shape and range stay."""
    share = (image + 1) / 2
    share = _neighbours(generator, share, look)
    empty = share <= 0
    if chance(generator, look.window):
        share = (share / uniform(generator, 0.45, 1.0)).clamp(max=1.0)
    if chance(generator, look.curve):
        share = _curve(generator, share)
    if chance(generator, look.gamma):
        share = share.clamp(min=1e-4) ** math.exp(0.35 * float(normal(generator, 1).clamp(-2, 2)))
    if chance(generator, look.inverted):
        share = torch.where(empty, share, 1 - share)
    if chance(generator, look.bias):
        grid = look.bias_strength * normal(generator, 1, 1, 4, 4)
        smooth = functional.interpolate(grid, size=share.shape[1:], mode="bicubic", align_corners=True)
        share = share * smooth[0, 0].exp()
    if chance(generator, look.blur):
        share = _coarser(share, uniform(generator, 0.35, 0.9))
    if chance(generator, look.noise):
        level = look.noise_level * uniform(generator, 0.0, 1.0)
        grain = level * normal(generator, 2, *share.shape)
        share = torch.where(empty, share, torch.hypot(share + grain[0], grain[1]))
    # Where nothing was measured there is neither noise nor gain.
    return 2 * torch.where(empty, torch.zeros_like(share), share.clamp(0, 1)) - 1


def field_of_view(generator: Generator, image: Tensor, look: MrLook) -> tuple[Tensor, Tensor]:
    """The image, sometimes ending early, and where it still is: bool, (rows, columns)."""
    rows, columns = image.shape[1:]
    inside = torch.ones(rows, columns, dtype=torch.bool)
    if chance(generator, look.cropped):
        edges = [uniform(generator, 0.0, 0.3) * chance(generator, 0.5) for _ in range(4)]
        top, bottom = int(edges[0] * rows), rows - int(edges[1] * rows)
        left, right = int(edges[2] * columns), columns - int(edges[3] * columns)
        inside[:] = False
        inside[top:bottom, left:right] = True
        image = torch.where(inside, image, torch.tensor(EMPTY))
    return image, inside


def _neighbours(generator: Generator, share: Tensor, look: MrLook) -> Tensor:
    if chance(generator, look.lost):
        lost = 0 if chance(generator, 0.5) else 2
        share = share.clone()
        share[lost] = share[1]
    if chance(generator, look.moved):
        shift = (2 * normal(generator, 2).clamp(-2, 2)).round().int().tolist()
        share = share.clone()
        share[0] = torch.roll(share[0], shift, dims=(0, 1))
    return share


def _curve(generator: Generator, share: Tensor) -> Tensor:
    """A random rising curve through six knots from 0 to 1."""
    steps = torch.rand(5, generator=generator) ** 1.5 + 0.05
    heights = torch.cat([torch.zeros(1), steps.cumsum(0)]) / steps.sum()
    place = share * 4.999
    left = place.long()
    return heights[left] + (place - left) * (heights[left + 1] - heights[left])


def _coarser(share: Tensor, scale: float) -> Tensor:
    size = [max(8, round(length * scale)) for length in share.shape[1:]]
    small = functional.interpolate(share[None], size=size, mode="area")
    return functional.interpolate(small, size=share.shape[1:], mode="bilinear", align_corners=False)[0]

"""What real images vary in and the phantom does not: pose, contrast, slices, sharpness, noise.

Everything draws from a `torch.Generator`, so that one seed gives one patch. Images are (slices, rows,
columns) or (rows, columns) in HU until `standardise`; arrays run head-ward, back-ward, left-ward.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from dicom_ai_node.networks.intensity import smoothed


@dataclass(frozen=True)
class Pose:
    """How far a patch may be turned (degrees, about the array's axes), stretched and mirrored."""

    degrees: tuple[float, ...] = (8.0, 8.0, 15.0)
    scale: tuple[float, float] = (0.85, 1.18)
    stretch: float = 0.06
    mirror_left_right: bool = True


@dataclass(frozen=True)
class Intensity:
    """How intensities may vary: the probability of each change, and the strength of noise in HU.

    The phantom varies noise, sharpness and slice thickness itself; stronger changes on top of them kept the
    networks from learning edges at all in the time that one or two CPU cores have.
    """

    clip_hu: tuple[float, float] = (-500.0, 1300.0)
    curve: float = 0.25
    inverted: float = 0.3
    thick_slices: float = 0.25
    blur: float = 0.2
    noise: float = 0.4
    noise_hu: float = 50.0
    bias_field: float = 0.2


def uniform(generator: Generator, low: float, high: float) -> float:
    """One number from a uniform distribution."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def normal(generator: Generator, *shape: int) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(shape, generator=generator)


def chance(generator: Generator, probability: float) -> bool:
    """True with that probability."""
    return float(torch.rand((), generator=generator)) < probability


def random_affine(generator: Generator, pose: Pose) -> Tensor:
    """A 3x3 matrix that takes offsets in the patch to offsets in the case, in voxels [slice, row, column]."""
    angles = [math.radians(uniform(generator, -limit, limit)) for limit in pose.degrees]
    matrix = torch.eye(3)
    for axis, angle in enumerate(angles):
        first, second = [other for other in range(3) if other != axis]
        turn = torch.eye(3)
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ turn
    scale = uniform(generator, *pose.scale)
    stretch = torch.tensor([scale * (1 + uniform(generator, -pose.stretch, pose.stretch)) for _ in range(3)])
    if pose.mirror_left_right and chance(generator, 0.5):
        stretch[2] = -stretch[2]
    return matrix * stretch


def sample_patch(
    volume: Tensor,
    center: Tensor,
    matrix: Tensor,
    size: Sequence[int],
    *,
    outside: float,
    nearest: bool = False,
    reflected: bool = False,
    label: int | None = None,
) -> Tensor:
    """Cut a turned patch out of a volume.

    Args:
        volume: shape (channels, slices, rows, columns).
        center: voxel coordinates of the patch's centre in the volume, shape (3,).
        matrix: 3x3, patch voxel offsets to volume voxel offsets.
        size: of the patch, in voxels.
        outside: value where the patch leaves the volume.
        nearest: take the nearest voxel (labels) instead of interpolating.
        reflected: continue the volume as its mirror image instead of with `outside`.
        label: sample the mask of the voxels that have this value.

    Returns:
        float32, shape (channels, *size).
    """
    axes = [torch.arange(length, dtype=torch.float32) - (length - 1) / 2 for length in size]
    offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    places = offsets @ matrix.T.float() + center.float()
    shape = torch.tensor(volume.shape[1:], dtype=torch.float32)
    # Only the part of the volume that the patch can touch is converted to floating point.
    low = torch.floor(places.amin(dim=(0, 1, 2))).clamp(min=0).long()
    high = torch.minimum(torch.ceil(places.amax(dim=(0, 1, 2))) + 2, shape).long()
    low = torch.minimum(low, shape.long() - 1)
    high = torch.maximum(high, low + 1)
    part = volume[:, low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    part = (part if label is None else part == label).float() - outside
    extent = torch.tensor(part.shape[1:], dtype=torch.float32)
    grid = ((places - low) * 2 + 1) / extent - 1
    sampled = functional.grid_sample(
        part[None],
        grid.flip(-1)[None],
        mode="nearest" if nearest else "bilinear",
        padding_mode="reflection" if reflected else "zeros",
        align_corners=False,
    )
    return sampled[0] + outside


def vary_intensity(generator: Generator, image: Tensor, options: Intensity) -> Tensor:
    """The patch as another scanner might have shown it; shape (slices, rows, columns), HU in and out."""
    if chance(generator, options.thick_slices):
        image = _thick_slices(generator, image)
    if chance(generator, options.blur):
        image = smoothed(image, uniform(generator, 0.3, 1.1))
    if chance(generator, options.noise):
        strength = options.noise_hu * uniform(generator, 0.0, 1.0) ** 2
        grain = normal(generator, *image.shape)
        if chance(generator, 0.5):
            grain = smoothed(grain, 0.7) * 2.2
        image = image + strength * grain
    return image


def vary_contrast(generator: Generator, image: Tensor, options: Intensity) -> Tensor:
    """A standardised patch seen through a random curve, sometimes inverted: not real, so it teaches shape."""
    if chance(generator, options.curve):
        image = _random_curve(generator, image, chance(generator, options.inverted))
    if chance(generator, options.bias_field):
        field = normal(generator, 1, 1, 3, 3, 3)
        smooth = functional.interpolate(field, size=image.shape, mode="trilinear", align_corners=True)[0, 0]
        image = image * torch.exp(0.25 * smooth)
    return image * uniform(generator, 0.75, 1.3) + 0.2 * float(normal(generator, 1))


def _random_curve(generator: Generator, image: Tensor, inverted: bool) -> Tensor:
    low, high = float(image.min()), float(image.max())
    knots = 6
    steps = torch.rand(knots - 1, generator=generator) ** 1.5 + 0.05
    heights = torch.cat([torch.zeros(1), steps.cumsum(0)])
    heights = heights / heights[-1]
    if inverted:
        heights = heights.flip(0)
    place = ((image - low) / max(high - low, 1e-6) * (knots - 1)).clamp(0, knots - 1 - 1e-4)
    left = place.floor().long()
    share = place - left
    curved = heights[left] * (1 - share) + heights[left + 1] * share
    deviation, mean = torch.std_mean(curved, correction=0)
    return (curved - mean) / (deviation + 1e-3)


def _thick_slices(generator: Generator, image: Tensor) -> Tensor:
    """Slices of 2 to 5 voxels along one axis, mostly the first (axial series), interpolated back in place.

    The first slice may begin before the patch. Both ends are padded to whole slices: a last slice that is
    thinner than the others would squeeze the image on the way back, and move it away from its labels.
    """
    axis = 0 if chance(generator, 0.6) else int(torch.randint(3, (), generator=generator))
    count = int(torch.randint(2, 6, (), generator=generator))
    before = int(torch.randint(count, (), generator=generator))
    moved = image.movedim(axis, 0)[None, None]
    length = moved.shape[2]
    whole = -(-(before + length) // count) * count
    padded = functional.pad(moved, (0, 0, 0, 0, before, whole - before - length), mode="replicate")
    pooled = functional.avg_pool3d(padded, (count, 1, 1), (count, 1, 1))
    size = (whole, *moved.shape[3:])
    if chance(generator, 0.3):
        back = functional.interpolate(pooled, size=size, mode="nearest")
    else:
        back = functional.interpolate(pooled, size=size, mode="trilinear", align_corners=False)
    return back[0, 0, before : before + length].movedim(0, axis)

"""What a scanner does to an ideal image: kernel, noise, motion, table; and contrast curves for training.

Sums run in a fixed order of whole-array operations, so that the number of threads cannot change a bit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dicom_ai_node.phantom.ct_palette import CtPalette
from dicom_ai_node.phantom.grid import Grid
from dicom_ai_node.phantom.randomness import between, stream
from dicom_ai_node.phantom.tissues import Matter, Tissue
from dicom_ai_node.phantom.trunk import Trunk

_FWHM = 2.3548


def smoothed(value: Tensor, axis: int, sigma: float) -> Tensor:
    """Gaussian smoothing along one axis with repeated borders; `sigma` in voxels."""
    if sigma < 0.2:
        return value
    radius = max(1, int(2.5 * sigma + 0.5))
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    size = value.shape[axis]
    if size == 1:
        return value
    first, last = value.narrow(axis, 0, 1), value.narrow(axis, size - 1, 1)
    padded = torch.cat([first] * radius + [value] + [last] * radius, dim=axis)
    out = padded.narrow(axis, radius, size) * float(weights[radius])
    for k in range(1, radius + 1):
        pair = padded.narrow(axis, radius - k, size) + padded.narrow(axis, radius + k, size)
        out.add_(pair, alpha=float(weights[radius + k]))
    return out


def blur(value: Tensor, width_mm: float, enhancement: float, pixel_mm: tuple[float, float]) -> Tensor:
    """In-plane point spread of the kernel, then its edge enhancement (an unsharp mask).

    The pixel's own width is already in the painting's partial volume and is taken off.
    """
    sigmas = [np.sqrt(max(0.0, (width_mm / _FWHM) ** 2 - (0.29 * pixel) ** 2)) / pixel for pixel in pixel_mm]
    value = smoothed(smoothed(value, 1, sigmas[0]), 2, sigmas[1])
    if enhancement > 0.02:
        broad = [max(0.5, 1.1 / pixel) for pixel in pixel_mm]
        soft = smoothed(smoothed(value, 1, broad[0]), 2, broad[1])
        value = value + enhancement * (value - soft)
    return value


def add_noise(
    value: Tensor,
    generator: np.random.Generator,
    deviation: float,
    grain_mm: float,
    spacing_mm: tuple[float, float, float],
) -> None:
    """Add noise of a standard deviation in HU that is correlated over `grain_mm` in the plane, in place."""
    if deviation <= 0:
        return
    noise = torch.from_numpy(generator.standard_normal(value.shape, dtype=np.float32)).to(value.device)
    _, row, column = spacing_mm
    sigmas = [grain_mm / _FWHM / row * 1.5, grain_mm / _FWHM / column * 1.5]
    gain = 1.0
    for axis, sigma in zip((1, 2), sigmas, strict=True):
        if sigma >= 0.2 and value.shape[axis] > 1:
            noise = smoothed(noise, axis, sigma)
            radius = max(1, int(2.5 * sigma + 0.5))
            weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
            weights /= weights.sum()
            gain *= float(np.sqrt((weights**2).sum()))
    # Air at -1000 HU lets nearly all photons through: there the noise is low.
    strength = ((value + 1000.0) / 900.0).clamp(0.25, 1.0)
    value.add_(noise.mul_(deviation / gain).mul_(strength))


def motion_along(motion_mm: float, seed: int, count: int) -> npt.NDArray[np.float64]:
    """How far a patient moves during each slice: shape (count, 2), mm along rows and columns, in bursts."""
    generator = stream(seed, "motion")
    place = np.arange(count)
    burst = np.zeros(count)
    for _ in range(max(1, round(count / 60))):
        burst += np.exp(-(((place - between(generator, 0, count)) / between(generator, 2.0, 12.0)) ** 2))
    angle = between(generator, 0.0, np.pi)
    along: npt.NDArray[np.float64] = (
        motion_mm * np.minimum(burst, 1.0)[:, None] * [np.sin(angle), np.cos(angle)]
    )
    return along


def moved_apart(value: Tensor, motion: npt.NDArray[np.float64], spacing_mm: tuple[float, float]) -> None:
    """Double contours of a patient who moves while the tube goes around, in place.

    A half rotation sees him here, the other half there: each slice is the mean of two shifted copies. Labels
    need no change: the mean of both places is the true one.

    Args:
        value: HU, (slices, rows, columns).
        motion: mm along rows and columns of each slice, see `motion_along`.
        spacing_mm: of rows and columns.
    """
    for k, (down, across) in enumerate(motion / np.array(spacing_mm)):
        if max(abs(down), abs(across)) > 0.1:
            here = _shifted(value[k], float(down), float(across))
            value[k].copy_(0.5 * (here + _shifted(value[k], -float(down), -float(across))))


def _shifted(image: Tensor, down: float, across: float) -> Tensor:
    """An image moved by a part of pixels, borders wrapped (linear interpolation)."""
    for axis, step in ((0, down), (1, across)):
        low = int(np.floor(step))
        share = step - low
        image = (1.0 - share) * torch.roll(image, low, axis) + share * torch.roll(image, low + 1, axis)
    return image


def table_top(value: Tensor, grid: Grid, trunk: Trunk, palette: CtPalette) -> None:
    """Put the couch below the back wherever there is still air."""
    generator = stream(trunk.seed, "table")
    back = float((trunk.profile[:, 1] + trunk.profile[:, 3]).max())
    curved, thick = between(generator, 0.0, 0.0012), between(generator, 35.0, 70.0)
    half = between(generator, 190.0, 260.0)
    shell = palette.tissue(Matter(Tissue.TABLE_SHELL, between(generator, -1.0, 1.5)))
    foam = palette.tissue(Matter(Tissue.TABLE_FOAM))
    gap = between(generator, 0.0, 12.0)
    x, y, _ = grid.coordinates(trunk.frame)
    depth = y - (back + gap - curved * x * x)
    outside = torch.maximum(x.abs() - half, (depth - 0.5 * thick).abs() - 0.5 * thick)
    reach = float(outside.min())
    if reach > 2.0:
        return
    scale = 1.0 / grid.voxel_mm
    whole = (0.5 - outside * scale).clamp(0.0, 1.0)
    inner = (0.5 - (outside + 2.0) * scale).clamp(0.0, 1.0)
    air = value < -900.0
    couch = value * (1.0 - whole) + shell * (whole - inner) + foam * inner
    value.copy_(torch.where(air & (whole > 0), couch, value))


def randomised(value: Tensor, strength: float, seed: int) -> Tensor:
    """A random monotone contrast curve over the HU scale, at times inverted: beyond realism, for training.

    The result stays in the range of HU.
    """
    if strength <= 0:
        return value
    generator = stream(seed, "contrast")
    knots = np.array(
        [-1024.0, -900.0, -500.0, -150.0, -50.0, 20.0, 80.0, 200.0, 500.0, 1000.0, 2000.0, 3071.0]
    )
    steps = np.diff(knots) * np.exp(strength * 0.7 * generator.standard_normal(len(knots) - 1))
    curve = np.concatenate([[0.0], np.cumsum(steps)])
    if generator.random() < 0.25:
        curve = -curve
    # Fat and dense bone land between -250 and 800: all tissues stay in the window that networks look at.
    fat, bone = np.interp([-120.0, 600.0], knots, curve)
    low, high = between(generator, -250.0, 50.0), between(generator, 250.0, 800.0)
    if bone < fat:
        low, high = high, low
    curve = np.clip(low + (curve - fat) * (high - low) / (bone - fat), -1024.0, 3071.0)
    table = np.interp(np.arange(-1024, 3072), knots, curve).astype(np.float32)
    index = value.clamp(-1024.0, 3071.0).add(1024.0).to(torch.int64)
    return torch.from_numpy(table).to(value.device)[index]

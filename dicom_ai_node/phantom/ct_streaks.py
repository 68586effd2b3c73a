"""Streaks that metal throws over a slice: beam hardening and starved rays, projected and filtered back.

A cheap model of De Man 1999 (IEEE Trans Nucl Sci 46:691): per slice the dense voxels are projected in
parallel beams; what a polychromatic beam measures less than it should, and the noise of rays that hardly any
photon survives, is filtered with a ramp and projected back. Only what is wrong is reconstructed, coarsely.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dicom_ai_node.phantom.randomness import stream

Array = npt.NDArray[np.float64]

DENSE_HU: Final = 2300.0
"""Above this a voxel is metal or thick cement; the densest cortex stays below."""

WATER_PER_MM: Final = 0.0195
"""Attenuation of water at the mean energy of a 120 kVp beam."""

HARDENING: Final = 0.11
"""Share of a metal's attenuation that is lost per unit of it: p is measured as p - h p^2 / (1 + h p)."""

PHOTONS: Final = 4.0e5
"""Per ray, before the patient."""

ANGLES: Final = 150
PIXEL_MM: Final = 1.6
LARGEST_HU: Final = 1400.0


@dataclass(frozen=True)
class Beam:
    """How a slice is measured.

    Attributes:
        kvp: tube voltage: a harder beam is hardened less.
        seed: of the noise; each slice has a stream of its own.
        strength: 1 for a scanner without any correction for metal.
    """

    kvp: int
    seed: int
    strength: float = 1.0


def add_streaks(value: Tensor, spacing_mm: tuple[float, float], beam: Beam, first: int) -> None:
    """Add the streaks of every slice that has metal in it, in place.

    Args:
        value: float32 HU, (slices, rows, columns), not yet clipped; the image plane is the gantry's.
        spacing_mm: of rows and columns.
        beam: of the scanner.
        first: number of the first slice in its series.
    """
    dense = value > DENSE_HU
    found = torch.nonzero(dense.flatten(1).sum(dim=1) > 2).flatten().tolist()
    if not found or beam.strength <= 0:
        return
    _, rows, columns = value.shape
    row_mm, column_mm = spacing_mm
    angles = np.pi * np.arange(ANGLES) / ANGLES
    reach = 0.5 * float(np.hypot(rows * row_mm, columns * column_mm)) + 2.0 * PIXEL_MM
    bins = 2 * int(np.ceil(reach / PIXEL_MM)) + 1
    wrong = np.empty((len(found), ANGLES, bins), dtype=np.float32)
    for k, index in enumerate(found):
        image = value[index]
        y, x = (part.cpu().numpy() for part in torch.nonzero(dense[index], as_tuple=True))
        weight = image[dense[index]].cpu().numpy() * (1e-3 * WATER_PER_MM * row_mm * column_mm / PIXEL_MM)
        metal = _projected(
            (x - 0.5 * (columns - 1)) * column_mm, (y - 0.5 * (rows - 1)) * row_mm, weight, angles, bins
        )
        water = _water(image, spacing_mm, angles, bins)
        hardening = HARDENING * 120.0 / beam.kvp
        error = -hardening * metal**2 / (1.0 + hardening * metal)
        noise = np.sqrt(np.exp(np.minimum(metal + water, 16.0)) / PHOTONS).clip(max=1.2)
        draws = stream(beam.seed, "streaks", first + index).standard_normal(metal.shape)
        wrong[k] = _ramped(error + draws * noise * (metal > 0.05))
    coarse = _back(
        torch.from_numpy(wrong).to(value.device), angles, (rows * row_mm, columns * column_mm), bins
    )
    coarse = coarse * (beam.strength * 1000.0 / WATER_PER_MM)
    # Soft limits: a logarithm of nothing is cut off in every scanner.
    coarse = LARGEST_HU * torch.tanh(coarse / LARGEST_HU)
    for k, index in enumerate(found):
        fine = torch.nn.functional.interpolate(
            coarse[k][None, None], size=(rows, columns), mode="bilinear", align_corners=False
        )[0, 0]
        inside = value[index] > -850.0
        value[index].add_(fine * torch.where(inside, 1.0, 0.35))


def _projected(x: Array, y: Array, weight: Array, angles: Array, bins: int) -> Array:
    """Parallel projections, (angles, bins), of points in mm from the centre with weights."""
    place = (np.cos(angles)[:, None] * x + np.sin(angles)[:, None] * y) / PIXEL_MM + bins // 2
    low = np.floor(place).astype(np.int64).clip(0, bins - 2)
    share = (place - low).clip(0.0, 1.0)
    offset = np.arange(len(angles))[:, None] * bins
    size = len(angles) * bins
    total = np.bincount((low + offset).ravel(), (weight * (1.0 - share)).ravel(), size).astype(np.float64)
    total += np.bincount((low + 1 + offset).ravel(), (weight * share).ravel(), size)
    projected: Array = total.reshape(len(angles), bins)
    return projected


def _water(image: Tensor, spacing_mm: tuple[float, float], angles: Array, bins: int) -> Array:
    """Attenuation of the patient himself, from every few voxels of him."""
    row_mm, column_mm = spacing_mm
    steps = max(1, round(6.0 / row_mm)), max(1, round(6.0 / column_mm))
    rows, columns = image.shape
    thin = image[:: steps[0], :: steps[1]]
    y, x = (part.cpu().numpy() for part in torch.nonzero(thin > -300.0, as_tuple=True))
    area = steps[0] * row_mm * steps[1] * column_mm
    weight = np.full(len(x), WATER_PER_MM * area / PIXEL_MM)
    across = (x * steps[1] - 0.5 * (columns - 1)) * column_mm
    down = (y * steps[0] - 0.5 * (rows - 1)) * row_mm
    rough = _projected(across, down, weight, angles, bins)
    width = 7
    padded = np.pad(rough, ((0, 0), (width // 2, width // 2)), mode="edge")
    smooth: Array = np.mean([padded[:, k : k + bins] for k in range(width)], axis=0)
    return smooth


def _ramped(sinogram: Array) -> Array:
    """Projections after the ramp filter of filtered back-projection (Kak and Slaney 1988, section 3.3)."""
    bins = sinogram.shape[1]
    size = 1 << int(np.ceil(np.log2(2 * bins)))
    n = np.minimum(np.arange(size), size - np.arange(size))
    kernel = np.zeros(size)
    kernel[0] = 0.25
    odd = n % 2 == 1
    kernel[odd] = -1.0 / (np.pi * n[odd]) ** 2
    spectrum = np.fft.rfft(sinogram, size, axis=1) * np.fft.rfft(kernel)
    filtered: Array = np.fft.irfft(spectrum, size, axis=1)[:, :bins] / PIXEL_MM
    return filtered


def _back(filtered: Tensor, angles: Array, field_mm: tuple[float, float], bins: int) -> Tensor:
    """Back-projection of (slices, angles, bins) to a coarse image, (slices, rows, columns), per mm."""
    rows, columns = (max(8, round(edge / PIXEL_MM)) for edge in field_mm)
    down = ((torch.arange(rows) + 0.5) / rows - 0.5) * field_mm[0]
    across = ((torch.arange(columns) + 0.5) / columns - 0.5) * field_mm[1]
    out = filtered.new_zeros((len(filtered), rows * columns))
    for k, angle in enumerate(angles):
        place = (float(np.sin(angle)) * down[:, None] + float(np.cos(angle)) * across[None, :]) / PIXEL_MM
        place = (place + bins // 2).flatten().clamp(0.0, bins - 1.001).to(filtered.device)
        low = place.floor()
        index, share = low.to(torch.int64), place - low
        row = filtered[:, k]
        out += row[:, index] * (1.0 - share) + row[:, index + 1] * share
    return out.reshape(-1, rows, columns) * float(np.pi / len(angles))

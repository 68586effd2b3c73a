"""The beam: spectrum, attenuation by water and bone mineral, scatter, noise, blur.

Mass attenuation coefficients: NIST Standard Reference Database 126 (Hubbell and Seltzer), water and
aluminium as listed, hydroxyapatite from its elements (H 0.2 %, O 41.4 %, P 18.5 %, Ca 39.9 % by mass).
Spectrum: Kramers 1923 behind aluminium; the detector adds up the photons' energy.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dicom_ai_node.phantom.ct_signal import smoothed
from dicom_ai_node.phantom.radiograph_processing import downsampled, upsampled

Array = npt.NDArray[np.float64]

ENERGY_KEV: Final = np.array([20.0, 30.0, 40.0, 50.0, 60.0, 80.0, 100.0, 150.0])
WATER_CM2_G: Final = np.array([0.8096, 0.3756, 0.2683, 0.2269, 0.2059, 0.1837, 0.1707, 0.1505])
ALUMINIUM_CM2_G: Final = np.array([3.441, 1.128, 0.5685, 0.3681, 0.2778, 0.2018, 0.1704, 0.1378])
_HYDROGEN: Final = np.array([0.3695, 0.3570, 0.3458, 0.3355, 0.3260, 0.3091, 0.2944, 0.2651])
_OXYGEN: Final = np.array([0.8651, 0.3779, 0.2585, 0.2132, 0.1907, 0.1678, 0.1551, 0.1361])
_PHOSPHORUS: Final = np.array([5.385, 1.700, 0.8096, 0.4916, 0.3494, 0.2324, 0.1865, 0.1432])
_CALCIUM: Final = np.array([13.06, 4.080, 1.830, 1.019, 0.6578, 0.3656, 0.2571, 0.1674])
HYDROXYAPATITE_CM2_G: Final = 0.0020 * _HYDROGEN + 0.4141 * _OXYGEN + 0.1850 * _PHOSPHORUS + 0.3989 * _CALCIUM

_BINS: Final = 7


def spectrum(kvp: float, filter_mm: float) -> tuple[Array, Array]:
    """(energies in keV, shares of the signal behind nothing), each of shape (7,).

    Args:
        kvp: tube voltage.
        filter_mm: aluminium in the beam.
    """
    edges = np.linspace(18.0, kvp, _BINS + 1)
    fine = np.linspace(18.0, kvp, _BINS * 12 + 1)
    middle = 0.5 * (fine[:-1] + fine[1:])
    photons = (kvp / middle - 1.0) * np.exp(-_at(middle, ALUMINIUM_CM2_G) * 2.699 * 0.1 * filter_mm)
    signal = photons * middle
    bins = np.clip(np.searchsorted(edges, middle) - 1, 0, _BINS - 1)
    weights = np.bincount(bins, signal, _BINS)
    energies = np.bincount(bins, signal * middle, _BINS) / weights
    return energies, weights / weights.sum()


def primary(water: Tensor, mineral: Tensor, kvp: float, filter_mm: float) -> Tensor:
    """Transmitted share of the signal, of the shape of the thicknesses (g/cm2), both float32."""
    energies, weights = spectrum(kvp, filter_mm)
    total = torch.zeros_like(water)
    for energy, weight in zip(energies, weights, strict=True):
        line = water * -_one(energy, WATER_CM2_G) - mineral * _one(energy, HYDROXYAPATITE_CM2_G)
        total.add_(line.exp_(), alpha=float(weight))
    return total


def scattered(transmitted: Tensor, field: Tensor, water: Tensor, ratio: float, pixel_mm: float) -> Tensor:
    """Scattered signal behind the grid: the primary in the field, spread over centimetres.

    Args:
        transmitted: the primary.
        field: bool, pixels that the collimator left open.
        water: thickness in g/cm2; where it is small, little is scattered (Boone and Seibert 1988).
        ratio: scattered over primary behind 25 cm of water.
        pixel_mm: edge of a pixel.
    """
    factor = max(1, round(6.0 / pixel_mm))
    shape = (transmitted.shape[0], transmitted.shape[1])
    # What the air lets through is not scattered: the share grows with the thickness.
    origin = (transmitted.sqrt() * 0.02).minimum(transmitted) * (water / 25.0).clamp(0.0, 1.6) * field
    coarse = downsampled(origin, factor)
    sigma = 45.0 / (factor * pixel_mm)
    spread = smoothed(smoothed(coarse, 0, sigma), 1, sigma)
    reference = downsampled((transmitted * field), factor)
    behind = (
        float(reference[downsampled(water * field, factor) > 15.0].median())
        if bool((water * field > 15.0).any())
        else float(reference.mean())
    )
    level = float(spread.median()) + 1e-12
    return upsampled(spread * (ratio * behind / level), factor, shape)


def blurred(image: Tensor, sigma_px: float) -> Tensor:
    """Gaussian blur in both directions."""
    return smoothed(smoothed(image, 0, sigma_px), 1, sigma_px)


def noisy(exposure: Tensor, quanta: float, detector_blur_px: float, generator: np.random.Generator) -> Tensor:
    """Quantum noise of an exposure (1 where `quanta` photons are counted), blurred by the detector.

    The detector blurs photons, so that noise and image lose their edges alike; electronic noise comes after.
    """
    draws = generator.standard_normal((2, *exposure.shape), dtype=np.float32)
    quantum, electronic = torch.from_numpy(draws).to(exposure.device)
    counted = exposure + (exposure.clamp(min=0.0) / quanta).sqrt() * quantum
    detected: Tensor = blurred(counted, detector_blur_px) + 0.004 * electronic
    return detected.clamp(min=1e-3)


def _at(energies: Array, table: Array) -> Array:
    """A coefficient between the listed energies: straight in the logarithms."""
    found: Array = np.exp(np.interp(np.log(energies), np.log(ENERGY_KEV), np.log(table)))
    return found


def _one(energy: float, table: Array) -> float:
    return float(_at(np.array([energy]), table)[0])

"""Small MR series on disk in the habits of real makes, without a phantom's pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dicom_ai_node.imaging.mr_habits import Make, MrKind, MrSettings, mr_header, sample_site
from dicom_ai_node.imaging.write_mr import MrHeader, write_enhanced_mr, write_mr_series

SAGITTAL = np.array([[4.4, 0, 0, -10.0], [0, 0, 1.3, -120.0], [0, -1.3, 0, 60.0], [0, 0, 0, 1.0]])
"""Slices to the left every 4.4 mm (with a gap), rows to the feet, columns to the back, 1.3 mm pixels."""
AXIAL = np.array([[0, 0, 1.3, -60.0], [0, 1.3, 0, -120.0], [4.4, 0, 0, 0.0], [0, 0, 0, 1.0]])
SAGITTAL_SHAPE = (6, 90, 12)

_TIMES: dict[MrKind, tuple[str, tuple[float, float], tuple[float, float], float | None, int]] = {
    "t1": ("SE", (420.0, 720.0), (8.0, 15.0), None, 3),
    "t2": ("SE", (2600.0, 4800.0), (82.0, 125.0), None, 17),
    "t2-fs": ("SE", (2600.0, 4800.0), (55.0, 85.0), None, 15),
    "stir": ("IR", (3200.0, 6000.0), (30.0, 75.0), 165.0, 12),
    "dixon-water": ("SE", (2800.0, 4500.0), (70.0, 100.0), None, 13),
    "dixon-fat": ("SE", (2800.0, 4500.0), (70.0, 100.0), None, 13),
    "dixon-in": ("SE", (2800.0, 4500.0), (70.0, 100.0), None, 13),
    "dixon-opposed": ("GR", (5.5, 20.0), (2.2, 4.8), None, 1),
    "localizer": ("GR", (7.0, 12.0), (2.5, 5.0), None, 1),
}
"""Readout, repetition and echo times as the phantom's studies draw them."""
KINDS = tuple(_TIMES)


def made_by(make: Make, kind: MrKind, seed: int, **changes: object) -> MrHeader:
    """The header that a scanner of this make writes about such a series."""
    readout, repetition, echo, inversion, train = _TIMES[kind]
    generator = np.random.default_rng(seed)
    settings = MrSettings(
        kind=kind, readout=readout, repetition_ms=float(generator.uniform(*repetition)),  # type: ignore[arg-type]
        echo_ms=float(generator.uniform(*echo)), inversion_ms=inversion, flip_deg=20.0, echo_train=train,
        bandwidth_hz=200.0, field_t=1.5, fat_saturated=kind == "t2-fs", saturation_band=True,
        partial_fourier=False, phase_by_rows=True, matrix=(80, 10), slice_thickness_mm=4.0,
    )  # fmt: skip
    site = replace(sample_site(seed), make=make)
    header = mr_header(seed, site, settings, number=2, highest=3000)
    return replace(header, **changes)  # type: ignore[arg-type]


def pixels(shape: tuple[int, int, int] = SAGITTAL_SHAPE, seed: int = 0) -> npt.NDArray[np.uint16]:
    """Values that all may differ, below 12 bits."""
    return np.random.default_rng(seed).integers(0, 4000, shape).astype(np.uint16)


def write(
    folder: Path,
    header: MrHeader | None = None,
    *,
    affine: npt.NDArray[np.float64] = SAGITTAL,
    shape: tuple[int, int, int] = SAGITTAL_SHAPE,
    enhanced: bool = False,
    seed: int = 0,
) -> Sequence[Path]:
    """One series of noise."""
    values = pixels(shape, seed)
    if enhanced:
        return [write_enhanced_mr(values, affine, folder, seed=seed, header=header)]
    return write_mr_series([(values, affine)], folder, seed=seed, header=header)

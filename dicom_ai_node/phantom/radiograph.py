"""Radiographs of a digital spine: the same anatomy as CT, seen by a point source and a flat detector.

    acquisition = sample_radiograph_acquisition(7, spine)
    phantom = render_radiograph(spine, acquisition)
    phantom.pixels, phantom.photometric, phantom.truth

Physics: polychromatic line integrals of water and bone mineral in exact cone geometry, scatter behind a
grid, blur of the focal spot and of the detector, quantum noise, collimator, things on the patient; then a
workstation's processing. Not simulated: motion, grid lines, dead pixels, heel effect.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom.radiograph_acquisition import (
    RadiographAcquisition,
    View,
    sample_radiograph_acquisition,
)
from dicom_ai_node.phantom.radiograph_beam import blurred, noisy, primary, scattered
from dicom_ai_node.phantom.radiograph_objects import buckle_steel, cable_copper, lead_marker, text_mask
from dicom_ai_node.phantom.radiograph_processing import Processing, process, stored
from dicom_ai_node.phantom.radiograph_thickness import Thickness, thickness
from dicom_ai_node.phantom.radiograph_truth import (
    field_distance,
    radiograph_truth,
    radiograph_truth_schema,
)
from dicom_ai_node.phantom.randomness import stream
from dicom_ai_node.phantom.spine import Spine

_METAL_G_CM2_PER_MM = 2.2
"""Hydroxyapatite that attenuates at 60 keV like a millimetre of steel or brass."""

_LEAKAGE = 0.004
"""Share of the beam that a collimator's blade lets through to the detector."""


@dataclass(frozen=True)
class RadiographPhantom:
    """A rendered radiograph.

    Attributes:
        pixels: uint16, (rows, columns), stored values of `bits` bits.
        photometric: "MONOCHROME1" where they fall from black to white, else "MONOCHROME2".
        bits: bits stored.
        acquisition: how it was taken.
        truth: see `radiograph_truth`.
    """

    pixels: npt.NDArray[np.uint16]
    photometric: Literal["MONOCHROME1", "MONOCHROME2"]
    bits: int
    acquisition: RadiographAcquisition
    truth: dict[str, Any]

    @property
    def shown(self) -> npt.NDArray[np.float32]:
        """Brightness on a display, (rows, columns): 0 black to 1 white; bone is bright."""
        share = self.pixels.astype(np.float32) / np.float32((1 << self.bits) - 1)
        return np.float32(1.0) - share if self.photometric == "MONOCHROME1" else share


def render_radiograph(
    spine: Spine, acquisition: RadiographAcquisition, *, device: str | torch.device = "cpu"
) -> RadiographPhantom:
    """The radiograph of a person; the same arguments give the same pixels on a CPU."""
    where = torch.device(device)
    passed = thickness(
        spine,
        acquisition.cone,
        acquisition.water,
        acquisition.mineral,
        device=where,
        arms=acquisition.arms,
    )
    pixels = expose(spine, acquisition, passed).cpu().numpy().astype(np.uint16)
    return RadiographPhantom(
        pixels,
        "MONOCHROME1" if acquisition.processing.inverted else "MONOCHROME2",
        acquisition.processing.bits,
        acquisition,
        radiograph_truth(spine, acquisition),
    )


def expose(spine: Spine, acquisition: RadiographAcquisition, passed: Thickness) -> Tensor:
    """Stored values, int32 (rows, columns), of rays that passed through known thicknesses."""
    water, mineral = passed.water, passed.mineral + _things(spine, acquisition).to(passed.mineral)
    rows, columns = acquisition.matrix
    grid_rows, grid_columns = np.arange(rows, dtype=np.float64)[:, None], np.arange(columns, dtype=np.float64)
    distance = torch.from_numpy(
        field_distance(grid_columns[None], grid_rows, acquisition).astype(np.float32)
    ).to(water.device)
    field = distance < 0
    # Half-shadow of the blades: they are nearer to the focal spot than the patient is.
    blades = torch.from_numpy(_blade_distance(grid_columns[None], grid_rows, acquisition)).to(water.device)
    opening = (0.5 - blades * acquisition.pixel_mm / (2.0 * acquisition.focus_mm)).clamp(_LEAKAGE, 1.0)
    direct = primary(water, mineral, acquisition.kvp, acquisition.filter_mm)
    spread = acquisition.focus_mm * (acquisition.magnification - 1.0) / acquisition.pixel_mm / 2.355
    direct = blurred(direct, spread)
    signal = direct * opening + scattered(direct, field, water, acquisition.scatter, acquisition.pixel_mm)
    behind = signal[field & (water > 12.0)]
    signal = signal / float(behind.median() if behind.numel() else signal.median())
    noise = stream(acquisition.seed, "noise")
    exposure = noisy(signal, acquisition.quanta, acquisition.detector_blur_px, noise)
    shown = process(exposure, field, acquisition.processing)
    if acquisition.annotation is not None:
        height = rows / 45.0
        text = text_mask((rows, columns), acquisition.annotation, (0.03 * columns, 0.02 * rows), height)
        shown = torch.maximum(shown, text.to(shown.device))
    return stored(shown, acquisition.processing)


def _blade_distance(
    column: npt.NDArray[np.float64], row: npt.NDArray[np.float64], acquisition: RadiographAcquisition
) -> npt.NDArray[np.float32]:
    """Distance in pixels to the shadow of the nearest blade, negative in the field.

    A field that ends with the detector has its blades somewhere beyond.
    """
    rows, columns = acquisition.matrix
    top, bottom, left, right = acquisition.collimation
    away = 0.2 * max(rows, columns)
    beyond = (
        round(top - away * (top <= 0)),
        round(bottom + away * (bottom >= rows)),
        round(left - away * (left <= 0)),
        round(right + away * (right >= columns)),
    )
    return field_distance(column, row, replace(acquisition, collimation=beyond)).astype(np.float32)


def _things(spine: Spine, acquisition: RadiographAcquisition) -> Tensor:
    """What lies on the patient or the detector, as g/cm2 of mineral."""
    total = torch.zeros(acquisition.matrix)
    if acquisition.marker is not None:
        # Two millimetres of lead: nothing passes.
        total += 25.0 * lead_marker(
            acquisition.matrix, acquisition.marker, acquisition.seed, acquisition.pixel_mm
        )
    if acquisition.buckle:
        hip = spine[Level.S1].frame[:3, 3] + np.array([0.0, -110.0, 10.0])
        column, row, _ = acquisition.cone.project(hip[None])[0]
        total += _METAL_G_CM2_PER_MM * buckle_steel(
            acquisition.matrix, (column, row), acquisition.seed, acquisition.pixel_mm
        )
    if acquisition.cable:
        total += _METAL_G_CM2_PER_MM * cable_copper(
            acquisition.matrix, acquisition.seed, acquisition.pixel_mm
        )
    return total


__all__ = [
    "Processing",
    "RadiographAcquisition",
    "RadiographPhantom",
    "View",
    "expose",
    "radiograph_truth",
    "radiograph_truth_schema",
    "render_radiograph",
    "sample_radiograph_acquisition",
]

"""A radiograph of a real CT: line integrals of water and bone mineral through Hounsfield units.

No labelled lateral films can be had; this makes films of real anatomy whose truth is in the CT. Sharpness is
that of the CT's slices.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from dicom_ai_node.phantom.radiograph_cone import Cone
from dicom_ai_node.phantom.radiograph_thickness import Thickness

_BONE_HU: Final = (90.0, 300.0)
"""Between soft tissue and bone the share of mineral grows."""

_MINERAL_PER_HU: Final = 0.8
"""mg/cm3 of hydroxyapatite per HU at 120 kVp (Genant 1982 and later calibrations: 0.7 to 0.9)."""

_STRIP: Final = 24


def thickness_of_volume(
    hu: npt.NDArray[np.int16], affine: npt.NDArray[np.float64], cone: Cone, *, step_mm: float = 1.5
) -> Thickness:
    """Water and mineral in g/cm2 along the ray of every pixel; outside of the volume is air.

    Args:
        hu: shape (slices, rows, columns).
        affine: 4x4, (slice, row, column, 1) to patient LPS millimetres.
        cone: the exposure; its matrix is that of the answer.
        step_mm: distance of the samples along a ray.
    """
    volume = torch.from_numpy(hu.astype(np.float32))
    # What couch and air hold is nothing; metal is cut off at what the calibration covers.
    volume = volume.clamp(-1000.0, 2500.0)
    share = ((volume - _BONE_HU[0]) / (_BONE_HU[1] - _BONE_HU[0])).clamp(0.0, 1.0)
    mineral = share * _MINERAL_PER_HU * volume.clamp(min=0.0) * 1e-3
    # Of what remains of bone, marrow and collagen are as heavy as water, mineral displaces a third of it.
    water = torch.where(volume < 0, 1.0 + volume * 1e-3, 1.0 + (1 - share) * volume * 1e-3 - 0.33 * mineral)
    both = torch.stack([water, mineral])[None]
    inverse = np.linalg.inv(affine)
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * (np.array(hu.shape) - 1)
    depths = (corners @ affine[:3, :3].T + affine[:3, 3] - cone.source) @ cone.normal
    t = np.arange(max(float(depths.min()), 1.0), float(depths.max()), step_mm)
    rows, columns = cone.matrix
    x = (np.arange(columns) - cone.origin[0]) * (cone.pixel / cone.distance)
    found = torch.empty(2, rows, columns)
    extent = torch.tensor(hu.shape, dtype=torch.float32)
    for first in range(0, rows, _STRIP):
        y = (np.arange(first, min(rows, first + _STRIP)) - cone.origin[1]) * (cone.pixel / cone.distance)
        rays = cone.normal + x[None, :, None] * cone.across + y[:, None, None] * cone.down
        start = cone.source @ inverse[:3, :3].T + inverse[:3, 3]
        along = rays @ inverse[:3, :3].T
        # In single precision from the middle of the way on: depths are long, voxels are small.
        middle = float(t.mean())
        base = torch.from_numpy((start + middle * along).astype(np.float32))
        way = torch.from_numpy((t - middle).astype(np.float32))[:, None, None, None]
        index = torch.addcmul(base[None], way, torch.from_numpy(along.astype(np.float32))[None])
        grid = (index * 2 + 1) / extent - 1
        values = functional.grid_sample(
            both, grid.flip(-1)[None], mode="bilinear", padding_mode="zeros", align_corners=False
        )[0]
        lengths = torch.from_numpy(np.linalg.norm(rays, axis=2).astype(np.float32)) * step_mm
        found[:, first : first + len(y)] = values.sum(dim=1) * lengths * 0.1
    return Thickness(found[0].clamp(min=0.0), found[1].clamp(min=0.0))

"""Label maps as NIfTI, for the tools of the field; the node itself reads and sends DICOM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK


def write_label_map(path: Path, labels: npt.NDArray[np.uint8], affine: npt.NDArray[np.float64]) -> None:
    """Writes a label map; the suffix ``.nii.gz`` compresses it.

    Args:
        path: ends in ``.nii`` or ``.nii.gz``.
        labels: shape (slices, rows, columns).
        affine: 4x4, (slice, row, column, 1) to LPS millimetres; axes at right angles.

    Raises:
        ValueError: a sheared affine, which SimpleITK's images cannot have.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    direction = affine[:3, :3] / spacing
    if np.abs(direction.T @ direction - np.eye(3)).max() > 1e-4:
        raise ValueError("the axes of a label map stand at right angles in NIfTI; resample it first")
    itk: Any = SimpleITK
    image = itk.GetImageFromArray(labels)
    # SimpleITK names the fastest axis first: column, row, slice.
    image.SetSpacing(spacing[::-1].tolist())
    image.SetDirection(direction[:, ::-1].ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    itk.WriteImage(image, str(path), useCompression=True)

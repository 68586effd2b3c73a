"""Images and label maps as NIfTI, for the tools of the field; the node itself reads and sends DICOM."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK

from dicom_ai_node.errors import UnreadableInstance


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


def read_nifti(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """An image or a label map, with its geometry.

    Returns:
        Shape (slices, rows, columns), slowest axis of the file first; 4x4, (slice, row, column, 1) to LPS
        millimetres.

    Raises:
        UnreadableInstance: the file cannot be read.
    """
    itk: Any = SimpleITK
    try:
        image = itk.ReadImage(str(path))
    except RuntimeError as error:
        raise UnreadableInstance(f"{path} is no NIfTI image that can be read") from error
    affine = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    affine[:3, :3] = (direction * np.array(image.GetSpacing()))[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    return itk.GetArrayFromImage(image), affine


def turned_to(
    arrays: Sequence[npt.NDArray[Any]], affine: npt.NDArray[np.float64], axes: npt.NDArray[np.float64]
) -> tuple[list[npt.NDArray[Any]], npt.NDArray[np.float64]]:
    """Arrays of one grid with their axes reordered and mirrored, nothing resampled.

    Args:
        arrays: each (slices, rows, columns).
        affine: of all of them.
        axes: 3x3; column k is the direction in LPS that axis k is to be nearest to.
    """
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    likeness = axes.T @ directions
    order = max(itertools.permutations(range(3)), key=lambda p: sum(abs(likeness[k, p[k]]) for k in range(3)))
    turned = affine.copy()
    turned[:3, :3] = affine[:3, list(order)]
    moved = [array.transpose(order) for array in arrays]
    for axis in range(3):
        if likeness[axis, order[axis]] < 0:
            turned[:3, 3] += turned[:3, axis] * (moved[0].shape[axis] - 1)
            turned[:3, axis] *= -1
            moved = [np.flip(array, axis) for array in moved]
    return [np.ascontiguousarray(array) for array in moved], turned


def read_nifti_slice(path: Path) -> tuple[npt.NDArray[Any], tuple[float, float]]:
    """A single slice as it lies in the file: a two-dimensional image, or a volume of one slice.

    Returns:
        Shape (rows, columns), columns along the file's fastest axis; mm between rows and between columns.

    Raises:
        UnreadableInstance: the file cannot be read, or holds more than one slice.
    """
    itk: Any = SimpleITK
    try:
        image = itk.ReadImage(str(path))
    except RuntimeError as error:
        raise UnreadableInstance(f"{path} is no NIfTI image that can be read") from error
    pixels, spacing = itk.GetArrayFromImage(image), image.GetSpacing()[::-1]
    # The slice may lie along any axis of its file.
    kept = [axis for axis in range(pixels.ndim) if pixels.shape[axis] > 1]
    if len(kept) != 2:
        raise UnreadableInstance(f"{path} is no single slice: its shape is {pixels.shape}")
    return pixels.squeeze(), (float(spacing[kept[0]]), float(spacing[kept[1]]))

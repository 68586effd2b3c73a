"""Small CT series on disk, and ways to spoil them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
import pytest

from dicom_ai_node.imaging.write_ct import CtHeader, write_ct_series

AXIAL = np.array([[0.0, 0, 0.7, -50], [0, 0.7, 0, -60], [1.25, 0, 0, -300], [0, 0, 0, 1]])
"""Slices to superior every 1.25 mm, rows to posterior, columns to the left."""


def numbered_voxels(shape: tuple[int, int, int] = (8, 10, 12)) -> npt.NDArray[np.int16]:
    """Voxels that all differ, so that no exchange of slices, rows or columns goes unseen."""
    return np.arange(np.prod(shape), dtype=np.int16).reshape(shape) - 500


@pytest.fixture
def axial_series(tmp_path: Path) -> list[Path]:
    """Eight slices of 10 x 12 pixels."""
    return write_ct_series(numbered_voxels(), AXIAL, tmp_path / "series")


@pytest.fixture
def write_series(tmp_path: Path) -> Callable[..., list[Path]]:
    """Writes a series into a folder of its own."""
    count = 0

    def write(
        voxels: npt.NDArray[np.int16], affine: npt.NDArray[np.float64] = AXIAL, **header: object
    ) -> list[Path]:
        nonlocal count
        count += 1
        return write_ct_series(voxels, affine, tmp_path / f"series-{count}", header=CtHeader(**header))  # type: ignore[arg-type]

    return write


def change(path: Path, **values: object) -> None:
    """Sets attributes of a file by keyword; None removes one."""
    dataset = pydicom.dcmread(path)
    for keyword, value in values.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path)

"""CT series on disk, small, and ways to change single headers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest

from dicom_ai_node.config import CtRoute, Settings
from dicom_ai_node.imaging.write_ct import CtHeader, write_ct_series

AXIAL = np.array([[0.0, 0, 2.0, -50], [0, 2.0, 0, -60], [4.0, 0, 0, -300], [0, 0, 0, 1]])
"""Slices to superior every 4 mm, rows to posterior, columns to the left, 2 mm pixels."""

SeriesWriter = Callable[..., list[Path]]
Change = Callable[..., None]


@pytest.fixture
def write_series(tmp_path: Path) -> SeriesWriter:
    """Writes `count` slices of 8 x 10 pixels into a folder of their own."""
    made = 0

    def write(count: int = 24, affine: np.ndarray = AXIAL, **header: object) -> list[Path]:
        nonlocal made
        made += 1
        voxels = np.full((count, 8, 10), made, dtype=np.int16)
        about = CtHeader(**header)  # type: ignore[arg-type]
        return write_ct_series(voxels, affine, tmp_path / f"series-{made}", header=about)

    return write


@pytest.fixture
def change() -> Change:
    """Sets attributes of files by keyword; None removes one."""

    def apply(paths: Path | Sequence[Path], **values: object) -> None:
        for path in [paths] if isinstance(paths, Path) else paths:
            dataset = pydicom.dcmread(path)
            for keyword, value in values.items():
                if value is None:
                    delattr(dataset, keyword)
                else:
                    setattr(dataset, keyword, value)
            dataset.save_as(path)

    return apply


@pytest.fixture
def rules() -> Settings:
    """The default settings, and they are what the tests' numbers refer to."""
    settings = Settings()
    assert settings.routes.ct == CtRoute()
    return settings

"""The picture of found and true outlines: both are drawn, where they lie, whatever the axes of the volume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.commands.outline_sheet import draw_outlines
from dicom_ai_node.imaging.nifti import turned_to
from dicom_ai_node.imaging.resample import LPS_AXES
from dicom_ai_node.imaging.volume import SliceRef, Volume
from dicom_ai_node.training.mri_cases import UNLABELLED

AFFINE = np.array([[4.0, 0, 0, 0], [0, 0, 1.0, 0], [0, -1.0, 0, 90.0], [0, 0, 0, 1.0]])
SHAPE = (9, 90, 60)


def _volume(voxels: npt.NDArray[np.float32], affine: npt.NDArray[np.float64]) -> Volume:
    refs = tuple(SliceRef("1.2", f"1.2.{k}", 1, Path("drawn")) for k in range(len(voxels)))
    return Volume(voxels, affine, refs, "1.2", "1.3", "1.4", "MR")


def _block(top: int) -> npt.NDArray[np.uint8]:
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:8, top : top + 20, 15:45] = verse_label(Level.L2)
    return labels


def _coloured(file: Path) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Rows of pixels that are clearly green, and clearly red."""
    red, green, blue = np.moveaxis(np.asarray(Image.open(file).convert("RGB")).astype(int), -1, 0)
    return (
        np.nonzero((green > 180) & (red < 90) & (blue < 90))[0],
        np.nonzero((red > 180) & (green < 90) & (blue < 90))[0],
    )


@pytest.mark.parametrize("axial", [False, True])
def test_both_outlines_are_drawn_the_found_one_as_much_lower_as_it_lies(tmp_path: Path, axial: bool) -> None:
    image, found, truth = np.zeros(SHAPE, np.float32), _block(40), _block(30)
    affine = AFFINE
    if axial:
        (image, found, truth), affine = turned_to([image, found, truth], AFFINE, LPS_AXES)
    file = tmp_path / "plots" / "case.png"
    draw_outlines(file, _volume(image, affine), found, truth, (0.0, 1.0))
    green, red = _coloured(file)
    assert min(green.size, red.size) > 1000
    # The red outline ends 10 mm below the green one, of a picture that is 30 mm and its margins high.
    height = np.ptp(np.concatenate([green, red]))
    assert red.max() - green.max() == pytest.approx(height / 3, rel=0.1)
    assert red.min() - green.min() == pytest.approx(height / 3, rel=0.1)


def test_what_nobody_labelled_is_not_drawn(tmp_path: Path) -> None:
    truth = np.full(SHAPE, UNLABELLED, np.uint8)
    draw_outlines(
        tmp_path / "case.png", _volume(np.zeros(SHAPE, np.float32), AFFINE), _block(30), truth, (0, 1)
    )
    green, red = _coloured(tmp_path / "case.png")
    # The title is black.
    assert green.size == 0
    assert red.size > 1000


def test_a_case_without_any_body_is_shown_whole(tmp_path: Path) -> None:
    nothing = np.zeros(SHAPE, np.uint8)
    draw_outlines(
        tmp_path / "case.png", _volume(np.ones(SHAPE, np.float32), AFFINE), nothing, nothing, (0, 2)
    )
    green, red = _coloured(tmp_path / "case.png")
    assert green.size == red.size == 0

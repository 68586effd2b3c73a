"""What was segmented on a crop lands on the right voxels of the source, and is measured there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.imaging.resample import grid_around
from dicom_ai_node.imaging.volume import SliceRef, Volume
from dicom_ai_node.pipelines.bodies import (
    Body,
    axial_box,
    body_from_probabilities,
    is_cut_off,
    mean_hu,
    paste,
)

SHAPE, SPACING = (64, 64, 64), 1.5
RADII = np.array([13.0, 16.0, 21.0])  # superior, posterior, left


def volume_of(affine: npt.NDArray[np.float64], shape: tuple[int, int, int]) -> Volume:
    instances = tuple(
        SliceRef("1.2.840.10008.5.1.4.1.1.2", f"1.2.{k + 1}", 1, Path("x")) for k in range(shape[0])
    )
    return Volume(np.full(shape, 40, np.int16), affine, instances, "1.2", "1.3", "1.4", "CT")


def axial(spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> npt.NDArray[np.float64]:
    """Slices from feet to head, rows to posterior, columns to left; the middle is at the origin."""
    axes = np.array([[0, 0, 1.0], [0, 1, 0], [1, 0, 0]])
    return grid_around(np.zeros(3), shape, spacing, axes=axes)


def ellipsoid(
    center_mm: npt.NDArray[np.float64], affine: npt.NDArray[np.float64], shape
) -> npt.NDArray[np.float64]:  # type: ignore[no-untyped-def]
    index = np.stack(np.indices(shape), axis=-1)
    relative = index @ affine[:3, :3].T + affine[:3, 3] - center_mm
    return np.linalg.norm(relative / RADII[::-1], axis=-1)


def body_at(center_mm: npt.NDArray[np.float64], fractured: float = 0.0) -> Body:
    affine = grid_around(center_mm, SHAPE, SPACING)
    inside = 1 / (1 + np.exp((ellipsoid(center_mm, affine, SHAPE) - 1) * 20))
    probabilities = np.stack([1 - inside, inside * (1 - fractured), inside * fractured]).astype(np.float32)
    body = body_from_probabilities(probabilities, affine)
    assert body is not None
    return body


@settings(max_examples=12)
@given(
    spacing=st.tuples(st.floats(0.7, 4), st.floats(0.6, 1.2), st.floats(0.6, 1.2)),
    flips=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    order=st.permutations([0, 1, 2]),
    shift=st.tuples(*[st.floats(-8, 8)] * 3),
)
def test_a_body_lands_where_it_is_on_any_grid(spacing, flips, order, shift) -> None:  # type: ignore[no-untyped-def]
    shape = tuple(int(130 / value) for value in spacing)
    axes = np.eye(3)[:, order] * flips
    volume = volume_of(grid_around(np.zeros(3), shape, spacing, axes=axes), shape)
    center = np.array(shift)
    labels = paste({Level.L2: body_at(center)}, volume).labels
    truth = ellipsoid(center, volume.affine, shape) <= 1
    found = labels == verse_label(Level.L2)
    assert 2 * (truth & found).sum() / (truth.sum() + found.sum()) > 0.93


def test_neighbours_share_no_voxel_and_keep_their_own() -> None:
    volume = volume_of(axial((1.0, 1.0, 1.0), (120, 90, 90)), (120, 90, 90))
    upper, lower = (body_at(np.array([0, 0, z])) for z in (11.0, -11.0))
    labels = paste({Level.L1: upper, Level.L2: lower}, volume).labels
    z = volume.affine[2, 0] * np.arange(120) + volume.affine[2, 3]
    assert (labels[z > 2] != verse_label(Level.L2)).all()
    assert (labels[z < -2] != verse_label(Level.L1)).all()
    assert (labels == verse_label(Level.L1)).sum() == pytest.approx(
        (labels == verse_label(Level.L2)).sum(), rel=0.03
    )


def test_a_piece_of_the_neighbour_in_the_crop_is_not_taken_along() -> None:
    center = np.array([0.0, 0.0, 0.0])
    body = body_at(center)
    corner = np.zeros(SHAPE, np.float32)
    corner[:6, 10:50, 10:50] = 1
    both = np.maximum(body.probability, corner)
    again = body_from_probabilities(np.stack([1 - both, both, 0 * both]), body.affine)
    assert again is not None
    assert again.volume_ml == pytest.approx(body.volume_ml, rel=0.01)
    assert np.linalg.norm(again.center_mm() - center) < 0.5


def test_an_empty_crop_is_no_body() -> None:
    empty = np.zeros((3, *SHAPE), np.float32)
    empty[0] = 1
    assert body_from_probabilities(empty, np.eye(4)) is None


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_fractured_share_is_that_of_the_voxels(share: float) -> None:
    assert body_at(np.zeros(3), fractured=share).fractured == pytest.approx(share, abs=0.01)


def test_a_body_at_the_last_slice_is_cut_off_and_one_inside_is_not() -> None:
    volume = volume_of(axial((2.0, 1.0, 1.0), (60, 90, 90)), (60, 90, 90))  # from -59 to 59 mm
    assert not is_cut_off(body_at(np.array([0.0, 0.0, 40.0])), volume)
    assert is_cut_off(body_at(np.array([0.0, 0.0, 50.0])), volume)
    assert is_cut_off(body_at(np.array([0.0, -35.0, 0.0])), volume)


def test_attenuation_is_that_of_the_inside_not_of_the_cortex() -> None:
    volume = volume_of(axial((1.5, 0.8, 0.8), (70, 120, 120)), (70, 120, 120))
    distance = ellipsoid(np.zeros(3), volume.affine, volume.shape)
    volume.voxels[distance < 1.05] = 600
    volume.voxels[distance < 0.85] = 150
    body = body_at(np.zeros(3))
    assert mean_hu(Level.L2, body, volume, paste({Level.L2: body}, volume)) == pytest.approx(150, abs=15)


def test_the_box_lies_on_the_slice_through_the_centre() -> None:
    volume = volume_of(axial((1.0, 1.0, 1.0), (100, 100, 100)), (100, 100, 100))
    body = body_at(np.array([5.0, -3.0, 7.5]))
    box = axial_box(Level.L2, body, volume, paste({Level.L2: body}, volume))
    assert box is not None
    assert box.sop_instance_uid in {"1.2.57", "1.2.58"}
    middle = (100 - 1) / 2
    assert sum(box.rows) / 2 == pytest.approx(middle - 3, abs=1)
    assert sum(box.columns) / 2 == pytest.approx(middle + 5, abs=1)
    assert box.columns[1] - box.columns[0] == pytest.approx(2 * RADII[2], abs=2)

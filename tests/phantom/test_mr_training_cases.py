"""Labelled MR series to learn from: labels lie where the truth says, on any grid, the same for a seed."""

from __future__ import annotations

import numpy as np
import pytest

from dicom_ai_node.anatomy import verse_label
from dicom_ai_node.phantom.mr_training_cases import MrTrainingCase, render_mr_training_case


@pytest.fixture(scope="module")
def thick() -> MrTrainingCase:
    return render_mr_training_case(4, 2.0, series="t1", edge_mm=160.0, region="lumbar")


@pytest.fixture(scope="module")
def cubic() -> MrTrainingCase:
    return render_mr_training_case(4, 2.0, series="t1", edge_mm=160.0, region="lumbar", slice_mm=2.0)


def centroids(case: MrTrainingCase) -> dict[str, np.ndarray]:
    found = {}
    for level in case.six_points_mm:
        index = np.argwhere(case.labels == verse_label(level))
        if len(index):
            found[level.value] = case.affine[:3, :3] @ index.mean(axis=0) + case.affine[:3, 3]
    return found


@pytest.mark.parametrize("which", ["thick", "cubic"])
def test_labels_lie_where_the_truth_says(which: str, request: pytest.FixtureRequest) -> None:
    case: MrTrainingCase = request.getfixturevalue(which)
    labelled = centroids(case)
    whole = [e for e in case.truth["vertebrae"] if e["visible"] > 0.999 and e["six_points"] is not None]
    assert len(whole) >= 2
    for entry in whole:
        np.testing.assert_allclose(labelled[entry["level"]], entry["center_mm"], atol=2.5)


def test_slices_are_as_thick_as_scanners_measure_them_unless_cubic_ones_are_wanted(
    thick: MrTrainingCase, cubic: MrTrainingCase
) -> None:
    assert 3.0 <= np.linalg.norm(thick.affine[:3, 0]) <= 6.5
    np.testing.assert_allclose(np.linalg.norm(cubic.affine[:3, :3], axis=0), 2.0)
    assert thick.image.shape[1:] == cubic.image.shape[1:] == (80, 80)
    assert cubic.labels.shape == cubic.image.shape
    # Both show the same person: where slices coincide, so do pixels.
    np.testing.assert_array_equal(thick.image[0], cubic.image[0])


def test_the_same_seed_gives_the_same_case_and_another_seed_another() -> None:
    first, again, other = (
        render_mr_training_case(seed, 4.0, series="t2", edge_mm=120.0) for seed in (4, 4, 5)
    )
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert other.image.shape != first.image.shape or (other.image != first.image).mean() > 0.5


def test_a_spacing_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        render_mr_training_case(0, 0.0)

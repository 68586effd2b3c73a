"""Phantom patients for the classifier: a function of the seed, balanced, and shown where the body lies."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from dicom_ai_node.networks.mri_classes import FEATURES
from dicom_ai_node.phantom.disease import Disease
from dicom_ai_node.phantom.randomness import stream
from dicom_ai_node.training import mri_people
from dicom_ai_node.training.mri_crops import SERIES, MrExample
from dicom_ai_node.training.mri_people import mri_patient


@pytest.fixture(scope="module")
def malignant() -> MrExample:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(mri_people, "PIXEL_MM", 2.0)
        examples = mri_patient(1, training=False)
        again = mri_patient(1, training=False)
    assert len(examples) == 1
    np.testing.assert_array_equal(examples[0].images, again[0].images)
    return examples[0]


def test_a_patient_for_a_test_is_the_papers(malignant: MrExample) -> None:
    assert malignant.malignant
    assert malignant.fractured
    assert set(malignant.features.tolist()) <= {0.0, 1.0}
    assert malignant.images.shape[0] == len(SERIES)
    assert malignant.images.dtype == np.uint8
    assert set(malignant.lesion_slices) <= set(malignant.slices)


def test_the_box_lies_in_the_middle_and_the_wide_one_is_rendered(malignant: MrExample) -> None:
    rows, columns = malignant.images.shape[2:]
    first_row, first_column, last_row, last_column = malignant.box
    # The field reaches further behind the body than in front of it.
    assert (first_row + last_row) / 2 == pytest.approx(rows / 2, abs=0.1 * rows)
    assert columns * 0.3 < (first_column + last_column) / 2 < columns * 0.5
    longest = max(last_row - first_row, last_column - first_column)
    assert 2.0 * longest < rows < 3.2 * longest
    # Slices through a body are neighbours.
    assert malignant.slices == tuple(range(malignant.slices[0], malignant.slices[-1] + 1))
    assert len(malignant.slices) >= 3


def test_three_series_are_three_contrasts_of_one_anatomy(malignant: MrExample) -> None:
    t1, t2, stir = (malignant.images[k].astype(float) for k in range(3))
    for one, other in ((t1, t2), (t2, stir), (t1, stir)):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] < 0.97
    assert all(image.std() > 10 for image in (t1, t2, stir))


def test_a_pool_is_balanced_between_the_diseases() -> None:
    kinds: Counter[str] = Counter()
    alone = 0
    for seed in range(300):
        ill, shown = mri_people._plan(stream(seed, "test"), training=True, malignant=seed % 2 == 1)
        assert set(shown) <= set(ill)
        kinds.update(disease.value for level in shown for disease in ill[level])
        sick = [level for level in ill if Disease.MALIGNANT in ill[level]]
        assert bool(sick) == bool(seed % 2)
        alone += len(sick) == 1
    total = sum(kinds.values())
    assert 0.2 < kinds["malignant"] / total < 0.35
    assert 0.3 < kinds["OVCF"] / total < 0.55
    assert 0.15 < kinds["OF"] / total < 0.35
    assert kinds["KD"] > 10
    # P4: skipped lesions in 39 of 50.
    assert alone / 150 == pytest.approx(11 / 50, abs=0.1)


def test_a_test_patient_has_one_chosen_vertebra_and_at_times_more_that_are_ill() -> None:
    for seed in range(40):
        ill, shown = mri_people._plan(stream(seed, "test"), training=False, malignant=seed % 2 == 1)
        assert len(shown) == 1
        malignant = Disease.MALIGNANT in ill[shown[0]]
        assert malignant == bool(seed % 2)
        assert malignant or not any(Disease.MALIGNANT in diseases for diseases in ill.values())


def test_healthy_vertebrae_are_no_fractures_but_have_features() -> None:
    spine = mri_people.sample_spine(5)
    sound = next(v for v in spine.vertebrae if not v.diseases and v.features is None)
    known = dict(zip(FEATURES, mri_people.features_of(sound).tolist(), strict=True))
    assert mri_people.kind_of(sound) == "healthy"
    assert known["absence_of_collapse"] == known["homogeneous_marrow"] == 1.0
    assert known["mass"] == 0.0
    assert np.isnan(known["skip_lesion"])

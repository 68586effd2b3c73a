"""Labelled vertebrae come back from disk as they were, and patients are not parted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.training.mri_crops import (
    body_slices,
    load_patient,
    load_patients,
    patients_of,
    save_patient,
)
from tests.training.mri_drawn import drawn_patients


def test_a_patient_comes_back_as_written(tmp_path: Path) -> None:
    written = drawn_patients(2)[2:]
    path = save_patient(written, tmp_path)
    assert path.name == "patient-001.npz"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    found = load_patient(path)
    assert [(one.level, one.kind, one.slices, one.lesion_slices) for one in found] == [
        (one.level, one.kind, one.slices, one.lesion_slices) for one in written
    ]
    assert [one.malignant for one in found] == [True, None]
    for one, other in zip(found, written, strict=True):
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.features, other.features)
        np.testing.assert_array_equal(one.box, other.box)


def test_a_folder_is_read_patient_by_patient(tmp_path: Path) -> None:
    examples = drawn_patients(7)
    for first in range(0, 14, 2):
        save_patient(examples[first : first + 2], tmp_path)
    found = load_patients(tmp_path)
    assert len(found) == 14
    assert patients_of(found) == [example.patient for example in examples[::2]]


def test_other_files_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"patient-\*\.npz"):
        load_patients(tmp_path)
    (tmp_path / "patient-1.npz").write_bytes(b"PK nonsense")
    with pytest.raises(ConfigurationError, match="no file of labelled vertebrae"):
        load_patients(tmp_path)


def test_slices_that_only_graze_a_body_are_left_out() -> None:
    assert body_slices([0, 10, 60, 100, 49, 50, 0]) == (2, 3, 5)
    assert body_slices([0, 0]) == ()

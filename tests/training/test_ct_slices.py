"""Sagittal slices of phantoms: boxes where the bodies are, diseases where they are seen, files kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dicom_ai_node.anatomy import Level, order
from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.networks.ct_diseases import DISEASES
from dicom_ai_node.training.ct_slice_people import slice_person
from dicom_ai_node.training.ct_slice_pool import phantom_slices, slice_pool
from dicom_ai_node.training.ct_slices import (
    CtSlice,
    load_slice_folder,
    load_slices,
    save_slices,
    slices_path,
)
from dicom_ai_node.training.patients import split_by_patient


@pytest.fixture(scope="module")
def patients() -> list[list[CtSlice]]:
    return [phantom_slices(seed, training=True) for seed in (1001, 1003)]


def test_slices_are_read_back_as_they_were_written(patients: list[list[CtSlice]], tmp_path: Path) -> None:
    save_slices(patients[0], tmp_path)
    found = load_slice_folder(tmp_path)
    assert [one.name for one in found] == [one.name for one in patients[0]]
    for first, second in zip(found, patients[0], strict=True):
        np.testing.assert_array_equal(first.image, second.image)
        np.testing.assert_array_equal(first.boxes, second.boxes)
        np.testing.assert_array_equal(first.diseases, second.diseases)
        assert (first.levels, first.spacing_mm) == (second.levels, second.spacing_mm)


def test_one_file_holds_one_patient(patients: list[list[CtSlice]], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one patient"):
        save_slices([patients[0][0], patients[1][0]], tmp_path)
    assert not list(tmp_path.iterdir())


def test_folder_without_slices_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no slices"):
        load_slice_folder(tmp_path)


def test_same_seed_gives_the_same_slices(patients: list[list[CtSlice]]) -> None:
    again = phantom_slices(1001, training=True)
    for first, second in zip(again, patients[0], strict=True):
        np.testing.assert_array_equal(first.image, second.image)
        np.testing.assert_array_equal(first.boxes, second.boxes)


def test_boxes_lie_in_the_slice_in_order_from_head_to_foot(patients: list[list[CtSlice]]) -> None:
    for one in (one for slices in patients for one in slices):
        assert one.image.dtype == np.int16
        assert len(one.boxes) == len(one.levels) == len(one.diseases)
        rows, columns = one.image.shape
        assert (one.boxes >= 0).all()
        assert (one.boxes[:, 2] <= columns).all()
        assert (one.boxes[:, 3] <= rows).all()
        heights = (one.boxes[:, 3] - one.boxes[:, 1]) * one.spacing_mm[0]
        assert ((heights > 4) & (heights < 55)).all()
        orders = [order(Level(level)) for level in one.levels]
        assert orders == sorted(orders)
        assert (np.diff(one.boxes[:, 1]) > 0).all()
    assert sum(len(one.boxes) for slices in patients for one in slices) > 30


def test_bodies_in_boxes_are_bone_and_what_is_beside_them_is_less(patients: list[list[CtSlice]]) -> None:
    one = patients[1][len(patients[1]) // 2]
    inside = np.zeros(one.image.shape, dtype=bool)
    for left, top, right, bottom in one.boxes.astype(int):
        inside[top:bottom, left:right] = True
    assert one.image[inside].mean() > one.image[~inside].mean() + 80


def test_sacrum_has_no_box(patients: list[list[CtSlice]]) -> None:
    assert all("S1" not in one.levels for slices in patients for one in slices)


def test_diseases_are_those_of_the_person_and_only_where_they_are_seen() -> None:
    seed = 1003
    spine = slice_person(seed, training=True).spine
    planned = {vertebra.level.value: {d.value for d in vertebra.diseases} for vertebra in spine.vertebrae}
    found: dict[str, set[str]] = {}
    for one in phantom_slices(seed, training=True):
        for level, row in zip(one.levels, one.diseases, strict=True):
            shown = {name for name, value in zip(DISEASES, row, strict=True) if value == 1}
            assert shown <= planned[level]
            found.setdefault(level, set()).update(shown)
    assert "PS" in set().union(*found.values())
    assert {"OVCF", "KD"} & set().union(*found.values())


def test_evaluation_patients_have_a_fresh_fracture_and_training_patients_are_of_other_seeds(
    tmp_path: Path,
) -> None:
    for seed in range(4):
        person = slice_person(seed, training=False)
        assert person.spine.age >= 55
        assert any("OVCF" in vertebra.diseases for vertebra in person.spine.vertebrae)
    slice_pool(tmp_path, 1, lambda _: None)
    assert slices_path(tmp_path, "01000").exists()


def test_pool_is_not_made_again(patients: list[list[CtSlice]], tmp_path: Path) -> None:
    save_slices([*patients[0][:2]], tmp_path)
    said: list[str] = []
    found = slice_pool(tmp_path, 1, said.append, first_seed=1001)
    assert len(found) == 2
    assert said == []
    assert [one.number for one in load_slices(slices_path(tmp_path, "01001"))] == [0, 1]


def test_patients_are_never_parted(patients: list[list[CtSlice]]) -> None:
    training, held_out = split_by_patient(
        [one for slices in patients for one in slices], lambda one: one.patient, 5
    )
    assert {one.patient for one in held_out} == {"01001"}
    assert {one.patient for one in training} == {"01003"}

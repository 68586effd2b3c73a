"""Files of several series to groups of stacks with their roles; asked twice, the answer is the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.imaging.mr_groups import group_of, groups_of
from dicom_ai_node.imaging.mr_habits import MrKind
from tests.imaging.mr_files import AXIAL, SAGITTAL, SAGITTAL_SHAPE, made_by, write

SEED = 5


def series(folder: Path, kind: MrKind, **options: object) -> list[Path]:
    """A series of one and the same study."""
    header = made_by("siemens", kind, SEED, study_identity="mr", patient_id="P1", omit=())
    return list(write(folder / kind, header, seed=SEED, **options))  # type: ignore[arg-type]


def test_t2_t1_and_stir_are_one_group_whatever_the_order_of_their_files(tmp_path: Path) -> None:
    files = {kind: series(tmp_path, kind) for kind in ("t1", "t2", "stir")}
    everything = [path for paths in files.values() for path in paths]
    found = groups_of(everything)
    assert groups_of(everything[::-1]) == found
    (group,) = found.groups
    assert found.refusal is None
    for role, paths in files.items():
        stack = group.of(role)  # type: ignore[arg-type]
        assert stack is not None
        assert set(stack.paths) == set(paths)
    assert group.fixed is group.of("t2")
    assert group.of("fat") is None
    assert set(group.paths[: len(files["t2"])]) == set(files["t2"])
    assert set(group.paths) == set(everything)


def test_the_files_of_a_group_give_that_group_again(tmp_path: Path) -> None:
    two_t2 = [
        *series(tmp_path / "a", "t2"),
        *series(tmp_path / "b", "t2", affine=SAGITTAL @ np.diag([1, 0.7, 0.7, 1]), shape=(6, 128, 12)),
    ]
    found = groups_of([*two_t2, *series(tmp_path, "t1", enhanced=True)])
    (group,) = found.groups
    assert "another t2 of the same place" in found.left_out[0][1]
    again = group_of(group.paths)
    assert again.stacks == group.stacks
    assert again.missing == ()


def test_a_jobs_group_is_the_one_of_its_first_file(tmp_path: Path) -> None:
    lower, upper = SAGITTAL.copy(), SAGITTAL.copy()
    upper[2, 3] += 400.0
    low = series(tmp_path / "low", "t2", affine=lower, shape=(6, 100, 12))
    high = series(tmp_path / "high", "t2", affine=upper, shape=SAGITTAL_SHAPE)
    both = groups_of([*low, *high])
    assert [set(group.paths) for group in both.groups] == [set(low), set(high)]
    assert set(group_of([*high, *low]).paths) == set(high)
    assert group_of(low).missing == ("t1",)


def test_two_patients_and_axial_slices_alone_are_no_group(tmp_path: Path) -> None:
    t2 = series(tmp_path, "t2")
    header = made_by("siemens", "t1", SEED, study_identity="mr", patient_id="P2", omit=())
    found = groups_of([*t2, *write(tmp_path / "other", header, seed=SEED)])
    assert found.groups == ()
    assert found.refusal is not None
    assert found.refusal.code == "patient-mismatch"
    axial = write(tmp_path / "axial", replace(header, patient_id="P1"), affine=AXIAL, shape=(24, 8, 8))
    with pytest.raises(NotAnalysable, match="axial slices") as refused:
        group_of(axial)
    assert refused.value.code == "orientation"

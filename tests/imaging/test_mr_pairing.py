"""Which series of a study belong together: place, plane, patient, time; whatever the order of arrival."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from dicom_ai_node.imaging.mr_contrast import MrIdentity, MrImageKind
from dicom_ai_node.imaging.mr_pairing import MrGroup, MrSeries, overlap, pair
from dicom_ai_node.imaging.mr_timing import Weighting
from dicom_ai_node.report import Reason

WEIGHTINGS: dict[MrImageKind, Weighting] = {"t1": "T1", "t1-contrast": "T1"}


def series(
    uid: str,
    kind: MrImageKind,
    *,
    height_mm: float = 300.0,
    top_mm: float = 0.0,
    slices: int = 15,
    step_mm: float = 4.4,
    pixel_mm: float = 0.8,
    acquired: float | None = None,
    weighting: Weighting | None = None,
    **changes: object,
) -> MrSeries:
    """Sagittal slices from right to left about x = 0, from `top_mm` down."""
    rows = round(height_mm / pixel_mm)
    affine = np.array(
        [
            [step_mm, 0, 0, -step_mm * (slices - 1) / 2],
            [0, 0, pixel_mm, -120.0],
            [0, -pixel_mm, 0, top_mm],
            [0, 0, 0, 1.0],
        ]
    )
    one = MrSeries(
        study_instance_uid="1.2",
        series_instance_uid=uid,
        patient=("P1", "Doe^J", "19500101"),
        frame_of_reference_uid="1.2.9",
        identity=MrIdentity(kind, weighting or WEIGHTINGS.get(kind, "T2"), "sure", ("test",)),
        plane="sagittal",
        shape=(slices, rows, rows),
        affine=tuple(tuple(row) for row in affine.tolist()),
        acquired=acquired,
    )
    return replace(one, **changes)  # type: ignore[arg-type]


def uids(group: MrGroup) -> dict[str, str]:
    return {role: one.series_instance_uid for role, one in group.members}


STUDY = [
    series("1", "t2", acquired=0.0),
    series("2", "t1", acquired=300.0),
    series("3", "stir", acquired=600.0),
]


def test_t2_t1_and_stir_of_one_place_are_one_group() -> None:
    found = pair(STUDY)
    (group,) = found.groups
    assert uids(group) == {"t2": "1", "t1": "2", "stir": "3"}
    assert group.fixed.series_instance_uid == "1"
    assert group.missing == ()
    assert found.refusal is None
    assert len(group.reasons) == 3


def test_the_order_of_arrival_changes_nothing() -> None:
    crowd = [
        *STUDY,
        series("4", "t2", pixel_mm=1.1),
        series("5", "t1-contrast"),
        series("6", "t2", top_mm=420.0, height_mm=260.0),
        series("7", "dixon-in", weighting="T2"),
    ]
    whole = pair(crowd)
    for some in itertools.islice(itertools.permutations(crowd), 0, 5040, 631):
        assert pair(some) == whole
    assert [uids(group)["t2"] for group in whole.groups] == ["1", "6"]


def test_different_patients_in_one_study_are_refused() -> None:
    found = pair([STUDY[0], replace(STUDY[1], patient=("P2", "Doe^J", "19500101"))])
    assert found.groups == ()
    assert found.refusal is not None
    assert found.refusal.code == "patient-mismatch"
    born = pair([STUDY[0], replace(STUDY[1], patient=("P1", "Doe^J", "19600101"))])
    assert born.refusal is not None
    # A name that was typed anew, or an ID that is missing, is no other patient.
    renamed = replace(STUDY[1], patient=("", "DOE^JANE", ""))
    assert len(pair([STUDY[0], renamed]).groups) == 1


def test_partners_share_frame_of_reference_and_place() -> None:
    elsewhere = series("2", "t1", top_mm=280.0)
    other_frame = replace(STUDY[1], frame_of_reference_uid="1.2.10")
    for stranger in (elsewhere, other_frame):
        found = pair([STUDY[0], stranger])
        assert [uids(group) for group in found.groups] == [{"t2": "1"}, {"t1": "2"}]
        assert found.groups[0].missing == ("t1",)
        assert found.groups[1].missing == ("t2",)


def test_overlap_is_that_of_boxes_in_the_patient() -> None:
    one = series("1", "t2")
    assert overlap(one, one) == 1.0
    assert overlap(one, series("2", "t1", top_mm=-150.0)) == pytest.approx(0.5, abs=0.06)
    assert overlap(one, series("2", "t1", top_mm=-310.0)) == 0.0
    # A small field of view inside a large one is wholly there.
    assert overlap(one, series("2", "t1", top_mm=-50.0, height_mm=150.0)) == 1.0


@pytest.mark.parametrize(
    ("other", "kept", "why"),
    [
        ({"pixel_mm": 0.5}, "4", "finest pixels"),
        ({"pixel_mm": 1.3}, "1", "finest pixels"),
        ({"height_mm": 400.0, "top_mm": 50.0}, "4", "tallest"),
        ({"slices": 9}, "1", "widest"),
        ({"step_mm": 3.3, "slices": 20}, "4", "thinnest"),
        ({"acquired": 900.0}, "4", "measured last"),
        ({"identity": MrIdentity("t2", "T2", "likely", ("test",))}, "1", "surest"),
    ],
)
def test_of_two_t2_one_is_taken_for_a_reason(other: dict[str, object], kept: str, why: str) -> None:
    found = pair([series("4", "t2", **other), *STUDY])  # type: ignore[arg-type]
    (group,) = found.groups
    assert uids(group)["t2"] == kept
    assert why in group.reasons[0]
    ((left, reason),) = found.left_out
    assert {left.series_instance_uid, kept} == {"1", "4"}
    assert "another t2 of the same place is used" in reason


def test_measured_sagittal_slices_are_taken_before_a_volume_that_must_be_cut() -> None:
    cut = np.array([[0, 0, 1.0, -170.0], [0, 1.0, 0, -170.0], [1.0, 0, 0, -310.0], [0, 0, 0, 1.0]])
    volume = replace(
        series("4", "t2"),
        plane="axial",
        shape=(320, 340, 340),
        affine=tuple(tuple(row) for row in cut.tolist()),
    )
    (group,) = pair([volume, *STUDY]).groups
    assert uids(group)["t2"] == "1"
    assert "the only sagittal one of 2" in group.reasons[0]


def test_a_repeated_t1_nearest_in_time_is_taken() -> None:
    found = pair([*STUDY, series("4", "t1", acquired=2400.0)])
    assert uids(found.groups[0])["t1"] == "2"
    assert "nearest in time" in found.groups[0].reasons[1]


def test_two_regions_of_one_study_are_two_groups() -> None:
    neck = [
        series("4", "t2", top_mm=430.0, height_mm=250.0),
        series("5", "t1", top_mm=425.0, height_mm=250.0),
    ]
    found = pair([*neck, *STUDY])
    assert [uids(group) for group in found.groups] == [
        {"t2": "1", "t1": "2", "stir": "3"},
        {"t2": "4", "t1": "5"},
    ]


def test_dixon_images_stand_in_for_what_they_show() -> None:
    parts: list[MrImageKind] = ["dixon-in", "dixon-water", "dixon-fat", "dixon-opposed"]
    study = [series("8", kind, weighting="T2", number=k) for k, kind in enumerate(parts)]
    found = pair([*study, STUDY[1]])
    assert uids(found.groups[0]) == {"t2": "8", "t1": "2", "stir": "8", "fat": "8"}
    # A plain T2 is taken before a Dixon's.
    assert uids(pair([*study, *STUDY]).groups[0])["t2"] == "1"


def test_a_t1_after_contrast_medium_is_no_partner() -> None:
    found = pair([STUDY[0], series("5", "t1-contrast")])
    assert uids(found.groups[0]) == {"t2": "1"}
    assert "t1-contrast has no part" in found.left_out[0][1]


def test_a_lone_t1_is_a_group_that_misses_its_t2() -> None:
    (group,) = pair([STUDY[1]]).groups
    assert (uids(group), group.missing) == ({"t1": "2"}, ("t2",))


def test_a_study_without_anything_to_analyse_has_a_coded_reason() -> None:
    axial = replace(series("1", "t2"), plane="axial")
    refused = pair([], wrong=[(axial, Reason("orientation", "24 axial slices"))])
    assert refused.refusal is not None
    assert refused.refusal.code == "orientation"
    phase = pair([], wrong=[(series("1", "phase"), Reason("modality-mismatch", "phase images"))])
    assert phase.refusal == Reason("modality-mismatch", "phase images")
    nothing = pair([series("1", "t1-contrast")])
    assert nothing.refusal is not None
    assert "no sagittal T2, T1 or STIR" in nothing.refusal.text
    assert pair([]).refusal is not None

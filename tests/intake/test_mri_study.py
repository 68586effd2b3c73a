"""MR series of one study side by side: one of each group carries the files, the others say why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_ai_node.config import Settings
from dicom_ai_node.imaging.mr_habits import MrKind
from dicom_ai_node.imaging.write_mr import write_mr_series
from dicom_ai_node.intake.decision import RouteDecision
from dicom_ai_node.intake.mri_study import MriStudy, mri_study
from dicom_ai_node.intake.router import route_files, route_spooled
from tests.imaging.mr_files import SAGITTAL, SAGITTAL_SHAPE, made_by, pixels, write

ON = Settings.model_validate({"routes": {"mri": {"enabled": True}}})


def series(
    folder: Path, kind: MrKind, *, places_mm: tuple[float, ...] = (0.0,), patient: str = "P1"
) -> list[Path]:
    """One series of one and the same study, in one place or in several, one above the other."""
    header = made_by("philips", kind, 5, study_identity="mr", patient_id=patient, omit=())
    stacks = []
    for number, place_mm in enumerate(places_mm):
        affine = SAGITTAL.copy()
        affine[2, 3] += place_mm
        stacks.append((pixels((6, 100 - 5 * number, 12)), affine))
    return write_mr_series(stacks, folder / kind, seed=5, header=header)


def judged(**files: list[Path]) -> MriStudy:
    decisions = {name: route_spooled(paths, ON) for name, paths in files.items()}
    assert {decision.pipeline for decision in decisions.values()} == {"mri"}
    found = mri_study(decisions)
    assert mri_study(dict(reversed(decisions.items()))) == found
    return found


def test_the_t2_carries_the_t1_and_the_stir(tmp_path: Path) -> None:
    t1, t2, stir = (series(tmp_path, kind) for kind in ("t1", "t2", "stir"))
    found = judged(t1=t1, t2=t2, stir=stir)
    assert found.settled
    carrying = found.series["t2"]
    assert (carrying.partners, carrying.missing, carrying.standing) == (("stir", "t1"), (), "")
    assert [path.parent.name for path in carrying.decision.paths] == ["t2"] * 6 + ["t1"] * 6 + ["stir"] * 6
    for name in ("t1", "stir"):
        aside = found.series[name]
        assert (aside.decision.pipeline, aside.decision.refusal, aside.standing) == (None, None, "with t2")
        assert aside.carried_by == "t2"


def test_a_lone_series_keeps_the_decision_of_its_own(tmp_path: Path) -> None:
    t1 = series(tmp_path, "t1")
    found = judged(t1=t1)
    assert not found.settled
    assert found.series["t1"].decision == route_spooled(t1, ON)
    assert found.series["t1"].missing == ("t2",)


def test_of_two_places_in_one_series_the_taller_is_analysed_and_the_other_named(tmp_path: Path) -> None:
    t1, t2 = (series(tmp_path, kind, places_mm=(0.0, 400.0)) for kind in ("t1", "t2"))
    decision = judged(t1=t1, t2=t2).series["t2"].decision
    assert len(decision.paths) == 12
    assert len(decision.excluded) == 12
    assert "shows another place too, taller" in decision.reasons[-1]
    assert decision.reasons[-1].startswith("12 left out")


def test_files_of_two_patients_are_one_refusal(tmp_path: Path) -> None:
    found = judged(t1=series(tmp_path, "t1"), t2=series(tmp_path, "t2", patient="P2"))
    assert found.settled, "nobody who may still come mends it"
    refusals = {name: one.decision.refusal for name, one in found.series.items()}
    assert refusals["t2"] is None
    assert refusals["t1"] is not None
    assert refusals["t1"].code == "patient-mismatch"


def test_a_file_that_went_bad_meanwhile_is_a_reason_and_no_fault(tmp_path: Path) -> None:
    t2 = list(write(tmp_path, shape=SAGITTAL_SHAPE))
    decision = route_spooled(t2, ON)
    t2[0].write_bytes(b"no DICOM")
    (told,) = mri_study({"t2": decision}).series.values()
    assert told.decision.refusal is not None
    assert told.decision.refusal.code == "unreadable"
    assert t2[0].name in told.decision.refusal.text


@pytest.mark.parametrize("first", ["t1", "t2"])
def test_files_on_a_disk_are_judged_by_study_too(tmp_path: Path, first: MrKind) -> None:
    for kind in ("t1", "t2"):
        series(tmp_path, kind)
    other: MrKind = "t2" if first == "t1" else "t1"
    found: dict[str, RouteDecision] = {
        route.paths[0].parent.name: route.decision
        for route in route_files([tmp_path / first, tmp_path / other], ON)
    }
    assert (found["t2"].pipeline, len(found["t2"].paths)) == ("mri", 12)
    assert found["t1"].pipeline is None
    assert "analysed together with series" in found["t1"].reasons[0]

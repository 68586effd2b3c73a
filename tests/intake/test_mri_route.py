"""Routing of MR: what is analysed, what is left alone, what is refused, each with its reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest

from dicom_ai_node.config import Settings
from dicom_ai_node.imaging.mr_habits import Make
from dicom_ai_node.imaging.write_mr import MrHeader
from dicom_ai_node.intake.completeness import Completeness
from dicom_ai_node.intake.router import RouteDecision, route_files, route_spooled
from dicom_ai_node.intake.spool import SpooledSeries
from tests.imaging.mr_files import AXIAL, SAGITTAL, made_by, write

Change = Callable[..., None]

ON = Settings()


def decide(paths: Sequence[Path], settings: Settings = ON) -> RouteDecision:
    (route,) = route_files(paths, settings)
    return route.decision


def rules(**values: object) -> Settings:
    return Settings.model_validate({"routes": {"mri": values}})


def test_mr_is_not_analysed_where_it_is_switched_off(tmp_path: Path) -> None:
    decision = decide(write(tmp_path), rules(enabled=False))
    assert decision.pipeline is None
    assert decision.reasons == ("MR is not analysed: [routes.mri] enabled = false",)
    assert decision.refusal is None


@pytest.mark.parametrize("make", ["siemens", "ge", "philips", "canon"])
def test_sagittal_series_of_every_make_are_analysed(tmp_path: Path, make: Make) -> None:
    for kind in ("t1", "t2", "stir", "dixon-water"):
        for enhanced in (False, True):
            header = made_by(make, kind, 3, body_part_examined="LSPINE")  # type: ignore[arg-type]
            paths = write(tmp_path / f"{kind}-{enhanced}", header, enhanced=enhanced)
            decision = decide(paths)
            assert decision.pipeline == "mri", decision.reasons
            assert "6 sagittal slices, 4.4 mm apart, 117 mm from head to feet" in decision.reasons[0]
            assert kind in decision.reasons[0]
            assert set(decision.paths) == set(paths)
            assert decision.excluded == ()


def test_the_spool_gets_the_same_decision(tmp_path: Path) -> None:
    paths = write(tmp_path)
    assert route_spooled(paths, ON) == decide(paths)


@pytest.mark.parametrize(
    ("header", "word"),
    [
        (MrHeader(series_description="localizer"), "localizer"),
        (MrHeader(image_type=("ORIGINAL", "PRIMARY", "P", "ND")), "phase"),
        (MrHeader(image_type=("ORIGINAL", "PRIMARY", "R", "ND")), "real or imaginary"),
        (MrHeader(image_type=("ORIGINAL", "PRIMARY", "M", "MOSAIC")), "mosaic"),
        (MrHeader(image_type=("DERIVED", "PRIMARY", "ADC")), "diffusion"),
        (MrHeader(series_description="T1 sag", body_part_examined="BRAIN", study_description=""), "BRAIN"),
        (MrHeader(series_description="t2_sag_knee"), "refused_descriptions"),
        (MrHeader(series_description="T1 sag +KM", repetition_ms=500.0, echo_ms=10.0), "t1-contrast"),
    ],
)  # fmt: skip
def test_what_nobody_waits_for_is_left_alone_with_its_reason(
    tmp_path: Path, header: MrHeader, word: str
) -> None:
    decision = decide(write(tmp_path, header))
    assert decision.pipeline is None
    assert decision.refusal is None
    assert word in decision.reasons[0], decision.reasons


def test_axial_slices_are_left_alone_with_their_reason(tmp_path: Path) -> None:
    decision = decide(write(tmp_path, affine=AXIAL, shape=(24, 8, 8)))
    assert (decision.pipeline, decision.refusal) == (None, None)
    assert "24 axial slices" in decision.reasons[0]


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        ({"shape": (1, 90, 12)}, "coverage", "one sagittal slice only"),
        ({"shape": (4, 90, 12)}, "coverage", "min_slices"),
        ({"shape": (6, 60, 12)}, "coverage", "min_coverage_mm"),
        ({"affine": SAGITTAL * [[2.0], [1], [1], [1]]}, "spacing", "max_spacing_mm"),
        ({"affine": SAGITTAL @ np.diag([1, 2, 2, 1.0])}, "spacing", "max_pixel_spacing_mm"),
        ({"header": MrHeader(series_description="T2 sag HWS", study_description="")}, "coverage", "cervical"),
    ],
)
def test_a_sagittal_series_that_falls_short_is_refused_with_a_report(
    tmp_path: Path, options: dict[str, object], code: str, word: str
) -> None:
    decision = decide(write(tmp_path, **options))  # type: ignore[arg-type]
    assert decision.pipeline is None
    assert decision.refusal is not None
    assert decision.refusal.code == code
    assert word in decision.refusal.text
    assert decision.reasons[0] == decision.refusal.text


def test_the_neck_is_analysed_where_the_settings_say_so(tmp_path: Path) -> None:
    paths = write(tmp_path, MrHeader(series_description="T2 sag HWS", study_description=""))
    assert decide(paths, rules(cervical=True)).pipeline == "mri"
    whole = write(tmp_path / "b", MrHeader(series_description="T2 sag HWS BWS", study_description=""))
    assert decide(whole).pipeline == "mri"


def test_an_accelerated_lumbar_series_is_not_taken_for_a_neck(tmp_path: Path) -> None:
    header = MrHeader(series_description="sT2W_TSE CS", study_description="MRI LUMBAR SPINE")
    assert decide(write(tmp_path, header)).pipeline == "mri"
    head = MrHeader(
        series_description="T2W_TSE CS",
        study_description="",
        protocol_name="T2 CS",
        body_part_examined="HEAD",
    )
    assert decide(write(tmp_path / "head", head)).pipeline is None, "it names no spine"


def test_a_wrong_body_part_is_outweighed_by_words_and_by_height(tmp_path: Path) -> None:
    named = MrHeader(body_part_examined="HEAD", study_description="MRT LWS")
    decision = decide(write(tmp_path / "named", named))
    assert decision.pipeline == "mri"
    assert "Body Part Examined says HEAD; not relied on" in decision.reasons
    silent = MrHeader(body_part_examined="HEAD", study_description="", series_description="T2 sag")
    assert decide(write(tmp_path / "short", silent)).pipeline is None
    assert decide(write(tmp_path / "tall", silent, shape=(6, 240, 8))).pipeline == "mri"


def test_different_patients_in_one_series_are_refused(tmp_path: Path, change: Change) -> None:
    paths = write(tmp_path)
    change(paths[:2], PatientID="ANOTHER")
    decision = decide(paths)
    assert decision.refusal is not None
    assert decision.refusal.code == "patient-mismatch"


def test_the_analysed_part_of_a_mixed_series_is_taken(tmp_path: Path, change: Change) -> None:
    magnitude = write(tmp_path / "a")
    phase = write(tmp_path / "b", MrHeader(image_type=("ORIGINAL", "PRIMARY", "P", "ND")))
    uid = pydicom.dcmread(magnitude[0]).SeriesInstanceUID
    change(phase, SeriesInstanceUID=uid)
    decision = decide([*phase, *magnitude])
    assert decision.pipeline == "mri"
    assert set(decision.paths) == set(magnitude)
    assert len(decision.excluded) == len(phase)
    assert all("phase" in reason for _, reason in decision.excluded)
    assert any("the series holds 2 stacks" in reason for reason in decision.reasons)


def test_copies_and_truncated_files_are_left_out_by_name(tmp_path: Path, change: Change) -> None:
    paths = list(write(tmp_path, shape=(8, 90, 12)))
    copy = tmp_path / "copy.dcm"
    copy.write_bytes(paths[3].read_bytes())
    paths[0].write_bytes(paths[0].read_bytes()[:-20])
    decision = decide([*paths, copy])
    assert decision.pipeline == "mri"
    assert len(decision.paths) == 7
    assert sorted("cut short" in reason for _, reason in decision.excluded) == [False, True]
    for path in [*paths[1:], copy]:
        path.write_bytes(path.read_bytes()[:-20])
    spoilt = decide([*paths, copy])
    assert spoilt.refusal is not None
    assert spoilt.refusal.code == "unreadable"


def test_every_real_mr_file_ends_in_a_reasoned_state(shared_data: Path) -> None:
    folders = ("dcm_qa_enh/In", "dcmqi", "wg04/RLE", "pydicom-data/data_store/data")
    routes = route_files([shared_data / "dicom" / folder for folder in folders], ON)
    seen = [route for route in routes if route.modality == "MR"]
    assert len(seen) >= 6
    for route in seen:
        assert route.decision.pipeline is None
        assert route.decision.reasons[0]


def test_mr_waits_for_its_own_quiet_time() -> None:
    series = SpooledSeries("s", "k", "1.2", "1.3", "MR", "", (Path("gone.dcm"),), (), 0.0, 0.0, "g")
    settings = rules(quiet_seconds=7.0)
    early, late = (Completeness(settings.routes, now=lambda at=at: at).assess(series) for at in (6.5, 7.5))  # type: ignore[misc]
    assert (early.complete, late.complete) == (False, True)
    assert "7 s" in late.reason

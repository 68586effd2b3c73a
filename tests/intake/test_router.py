"""Routing from what images are: which series is analysed, what is left out of it, and why, in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage, SegmentationStorage

from dicom_ai_node.config import Settings, settings_from
from dicom_ai_node.intake.headers import read_instance
from dicom_ai_node.intake.router import RouteDecision, route_files, route_series, route_spooled
from dicom_ai_node.results.identity import MANUFACTURER, MODEL_NAME

Series = Callable[..., list[Path]]
Change = Callable[..., None]

AXIAL = np.array([[0.0, 0, 2.0, -50], [0, 2.0, 0, -60], [4.0, 0, 0, -300], [0, 0, 0, 1]])


def decide(paths: list[Path], settings: Settings | None = None) -> RouteDecision:
    (route,) = route_files(paths, settings or Settings())
    return route.decision


def ct_rules(**values: object) -> Settings:
    return settings_from({"routes": {"ct": values}})


def affine(
    slice_step: tuple[float, float, float], row: tuple[float, ...], column: tuple[float, ...]
) -> np.ndarray:
    """Columns of the affine from the step between slices, and the directions down and along a row."""
    matrix = np.eye(4)
    for index, vector in enumerate((slice_step, row, column)):
        matrix[:3, index] = vector
    return matrix


def test_plain_axial_ct_is_analysed(write_series: Series) -> None:
    paths = write_series(24)
    decision = decide(paths)
    assert decision.pipeline == "ct-volume"
    assert decision.reasons == ("24 axial slices, 4 mm apart, 96 mm from head to feet",)
    assert decision.excluded == ()
    assert sorted(decision.paths) == sorted(paths)
    assert decision.refusal is None


def test_headers_alone_give_the_same_decision(write_series: Series) -> None:
    paths = write_series(24)
    headers = [read_instance(path).header for path in paths]
    from_headers = route_series(headers, Settings().routes)
    assert from_headers == route_spooled(paths, Settings())
    assert from_headers.pipeline == "ct-volume"


@pytest.mark.parametrize(
    ("name", "matrix"),
    [
        ("axial", affine((0, 0, 10), (0, 2, 0), (2, 0, 0))),
        ("axial", affine((0, 3, 10), (0, 2, 0), (2, 0, 0))),
        ("sagittal", affine((5, 0, 0), (0, 0, -12), (0, 2, 0))),
        ("coronal", affine((0, 5, 0), (0, 0, -12), (2, 0, 0))),
    ],
)
def test_orientation_comes_from_geometry(write_series: Series, name: str, matrix: np.ndarray) -> None:
    decision = decide(write_series(12, matrix), ct_rules(max_spacing_mm=11.0, max_pixel_spacing_mm=15.0))
    assert decision.pipeline == "ct-volume"
    assert f"12 {name} slices" in decision.reasons[0]
    refusing = ct_rules(
        max_spacing_mm=11.0, max_pixel_spacing_mm=15.0, orientations=["oblique"], sagittal=False
    )
    refused = decide([*decision.paths], refusing)
    assert refused.pipeline is None
    assert refused.refusal is not None
    assert refused.refusal.code == "orientation"


def test_oblique_slices_are_refused_by_default(write_series: Series) -> None:
    half = np.sqrt(0.5)
    matrix = affine((0, 4 * half, 4 * half), (0, -2 * half, 2 * half), (2, 0, 0))
    decision = decide(write_series(40, matrix))
    assert decision.refusal is not None
    assert decision.refusal.code == "orientation"
    assert "40 oblique slices" in decision.refusal.text


@pytest.mark.parametrize(
    ("rule", "code", "setting"),
    [
        ({"min_slices": 25}, "coverage", "min_slices"),
        ({"min_coverage_mm": 97.0}, "coverage", "min_coverage_mm"),
        ({"max_spacing_mm": 3.9}, "spacing", "max_spacing_mm"),
        ({"max_pixel_spacing_mm": 1.9}, "spacing", "max_pixel_spacing_mm"),
    ],
)
def test_limits_come_from_the_settings_and_are_named(
    write_series: Series, rule: dict[str, float], code: str, setting: str
) -> None:
    paths = write_series(24)
    assert decide(paths).pipeline == "ct-volume"
    decision = decide(paths, ct_rules(**rule))
    assert decision.pipeline is None
    assert decision.refusal is not None
    assert decision.refusal.code == code
    assert f"[routes.ct] {setting}" in decision.refusal.text
    assert decision.reasons[0] == decision.refusal.text


def test_contradicting_tags_are_noted_and_not_believed(write_series: Series, change: Change) -> None:
    paths = write_series(24)
    change(paths, BodyPartExamined="BREAST", Modality="PT")
    decision = decide(paths)
    assert decision.pipeline == "ct-volume"
    assert "Body Part Examined says BREAST; not relied on" in decision.reasons
    assert any("Modality says PT" in reason for reason in decision.reasons)


@pytest.mark.parametrize("body_part", ["LSPINE", "CHEST", "ABDOMEN", "CSPINE", "CHESTABDPELVIS", ""])
def test_body_parts_that_hold_a_spine_are_no_contradiction(
    write_series: Series, change: Change, body_part: str
) -> None:
    paths = write_series(24)
    change(paths, BodyPartExamined=body_part)
    assert len(decide(paths).reasons) == 1


@pytest.mark.parametrize(
    "image_type",
    [
        ["ORIGINAL", "PRIMARY", "LOCALIZER"],
        ["DERIVED", "SECONDARY", "AXIAL"],
        ["DERIVED", "SECONDARY", "SCREEN SAVE"],
        ["DERIVED", "PRIMARY", "AXIAL"],
    ],
)
def test_localizers_and_derived_images_are_left_out_one_by_one(
    write_series: Series, change: Change, image_type: list[str]
) -> None:
    paths = write_series(24)
    change(paths[:2], ImageType=image_type)
    decision = decide(paths)
    assert decision.pipeline == "ct-volume"
    assert sorted(decision.paths) == sorted(paths[2:])
    left_out = {pydicom.dcmread(path).SOPInstanceUID for path in paths[:2]}
    assert {uid for uid, _ in decision.excluded} == left_out
    assert all("Image Type" in reason and "refused_image_types" in reason for _, reason in decision.excluded)
    change(paths, ImageType=image_type)
    whole = decide(paths)
    assert whole.pipeline is None
    assert whole.refusal is None
    assert "24 left out" in whole.reasons[0]
    allowed = ct_rules(refused_image_types=[])
    assert decide(paths, allowed).pipeline == "ct-volume"


def test_lossy_copies_of_original_slices_are_analysed(write_series: Series, change: Change) -> None:
    paths = write_series(24)
    change(paths, ImageType=["DERIVED", "PRIMARY", "AXIAL"], LossyImageCompression="01")
    assert decide(paths).pipeline == "ct-volume"
    change(paths, ImageType=["DERIVED", "SECONDARY", "MPR"])
    assert decide(paths).pipeline is None


@pytest.mark.parametrize("description", ["Topogram 0.6 T20s", "SCOUT", "SmartPrep Series", "Dose Report"])
def test_descriptions_can_keep_a_series_out(write_series: Series, change: Change, description: str) -> None:
    paths = write_series(24)
    change(paths, SeriesDescription=description)
    decision = decide(paths)
    assert decision.pipeline is None
    assert "refused_descriptions" in decision.reasons[0]
    assert decide(paths, ct_rules(refused_descriptions=[])).pipeline == "ct-volume"


def test_mixed_geometry_is_split_and_the_largest_stack_is_taken(write_series: Series, change: Change) -> None:
    tall, small = write_series(30), write_series(14, AXIAL)
    sagittal = write_series(5, affine((5, 0, 0), (0, 0, -2), (0, 2, 0)))
    header = pydicom.dcmread(tall[0])
    same = {
        "SeriesInstanceUID": header.SeriesInstanceUID,
        "FrameOfReferenceUID": header.FrameOfReferenceUID,
        "StudyInstanceUID": header.StudyInstanceUID,
    }
    change(small, **same, PixelSpacing=[1.0, 1.0])
    change(sagittal, **same)
    decision = decide([*small, *sagittal, *tall])
    assert decision.pipeline == "ct-volume"
    assert sorted(decision.paths) == sorted(tall)
    assert "30 axial slices" in decision.reasons[0]
    assert any(
        "falls into 3 stacks" in reason and "5 sagittal slices" in reason for reason in decision.reasons
    )
    assert len(decision.excluded) == 19


def test_missing_slices_divide_a_series_unless_gaps_are_allowed(write_series: Series) -> None:
    paths = write_series(60)
    gapped = paths[:20] + paths[21:]
    divided = decide(gapped)
    assert divided.pipeline == "ct-volume"
    assert sorted(divided.paths) == sorted(paths[21:])
    bridged = decide(gapped, ct_rules(max_gap_mm=8.0))
    assert sorted(bridged.paths) == sorted(gapped)
    assert any("1 missing slice" in reason for reason in bridged.reasons)


def test_duplicates_and_second_passes_are_taken_once(
    write_series: Series, change: Change, tmp_path: Path
) -> None:
    paths = write_series(24)
    copy = tmp_path / "copy.dcm"
    copy.write_bytes(paths[3].read_bytes())
    second = tmp_path / "second.dcm"
    second.write_bytes(paths[5].read_bytes())
    change(second, SOPInstanceUID="1.2.3.4.5", AcquisitionNumber=9)
    decision = decide([*paths, copy, second])
    assert decision.pipeline == "ct-volume"
    assert len(decision.paths) == 24
    assert second not in decision.paths
    reasons = [reason for _, reason in decision.excluded]
    assert sorted(reason.split(" (")[0] for reason in reasons) == [
        "a copy of an instance that is used",
        "another image of the same plane is used",
    ]


def test_one_slice_is_not_analysable(write_series: Series) -> None:
    decision = decide(write_series(1))
    assert decision.refusal is not None
    assert decision.refusal.code == "coverage"
    assert "1 axial slice" in decision.refusal.text


def test_truncated_files_are_left_out_by_name(write_series: Series) -> None:
    paths = write_series(40)
    paths[0].write_bytes(paths[0].read_bytes()[:-20])
    decision = decide(paths)
    assert decision.pipeline == "ct-volume"
    assert sorted(decision.paths) == sorted(paths[1:])
    ((_, reason),) = decision.excluded
    assert paths[0].name in reason
    assert "cut short" in reason
    for path in paths[1:]:
        path.write_bytes(path.read_bytes()[:-20])
    spoilt = decide(paths)
    assert spoilt.pipeline is None
    assert spoilt.refusal is not None
    assert spoilt.refusal.code == "unreadable"


@pytest.mark.parametrize(
    ("values", "tag"),
    [
        ({"ImagePositionPatient": None}, "ImagePositionPatient"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "ImageOrientationPatient"),
        ({"PixelSpacing": [0, 1]}, "PixelSpacing"),
        ({"Rows": None}, "Rows"),
    ],
)
def test_broken_headers_are_left_out_by_tag(
    write_series: Series, change: Change, values: dict[str, object], tag: str
) -> None:
    paths = write_series(40)
    change(paths[0], **values)
    decision = decide(paths)
    assert decision.pipeline == "ct-volume"
    ((_, reason),) = decision.excluded
    element = pydicom.tag.Tag(tag)
    assert f"({element.group:04X},{element.element:04X})" in reason
    assert paths[0].name in reason


def test_colour_pictures_are_left_out(write_series: Series, change: Change) -> None:
    paths = write_series(30)
    change(paths[-1], SamplesPerPixel=3)
    decision = decide(paths)
    assert decision.pipeline == "ct-volume"
    assert "colour" in decision.excluded[0][1]


@pytest.mark.parametrize(
    ("sop_class", "kind"),
    [
        ("1.2.840.10008.5.1.4.1.1.128", "PET"),
        ("1.2.840.10008.5.1.4.1.1.6.1", "Ultrasound Image"),
    ],
)
def test_other_images_have_no_pipeline_yet(
    write_series: Series, change: Change, sop_class: str, kind: str
) -> None:
    paths = write_series(2)
    change(paths, SOPClassUID=sop_class)
    decision = decide(paths)
    assert decision.pipeline is None
    assert decision.refusal is None
    assert decision.reasons[0] == f"no pipeline in this version for {kind}"


FILMS = Settings()
NO_FILMS = Settings.model_validate({"routes": {"radiograph": {"enabled": False}}})
RADIOGRAPHS = [
    "1.2.840.10008.5.1.4.1.1.1",
    "1.2.840.10008.5.1.4.1.1.1.1",
    "1.2.840.10008.5.1.4.1.1.1.1.1",
]


@pytest.mark.parametrize("sop_class", RADIOGRAPHS)
def test_radiographs_of_any_view_are_looked_at(write_series: Series, change: Change, sop_class: str) -> None:
    paths = write_series(2)
    change(paths, SOPClassUID=sop_class, ViewPosition="AP", BodyPartExamined="CHEST")
    decision = decide(paths, FILMS)
    assert decision.pipeline == "radiograph"
    assert set(decision.paths) == set(paths)


def test_radiographs_of_limbs_are_left_alone(write_series: Series, change: Change) -> None:
    paths = write_series(2)
    change(paths, SOPClassUID=RADIOGRAPHS[0])
    change(paths[:1], BodyPartExamined="HAND")
    decision = decide(paths, FILMS)
    assert decision.paths == (paths[1],)
    assert "HAND" in decision.excluded[0][1]
    change(paths, BodyPartExamined="LEFT KNEE")
    nothing = decide(paths, FILMS)
    assert nothing.pipeline is None
    assert nothing.refusal is None


def test_secondary_captures_are_films_where_the_settings_say_so(write_series: Series, change: Change) -> None:
    paths = write_series(1)
    change(paths, SOPClassUID=SecondaryCaptureImageStorage, Modality="CR")
    assert decide(paths, FILMS).pipeline is None
    allowed = Settings.model_validate({"routes": {"radiograph": {"secondary_captures": True}}})
    assert decide(paths, allowed).pipeline == "radiograph"
    # Whether colours are grey is seen in the pixels, which the pipeline reads.
    change(paths, SamplesPerPixel=3, PhotometricInterpretation="RGB")
    assert decide(paths, FILMS).pipeline is None
    assert decide(paths, allowed).pipeline == "radiograph"
    change(paths, Modality="CT")
    assert decide(paths, allowed).pipeline is None


def test_radiographs_that_are_switched_off_say_so(write_series: Series, change: Change) -> None:
    paths = write_series(1)
    change(paths, SOPClassUID=RADIOGRAPHS[0])
    decision = decide(paths, NO_FILMS)
    assert decision.pipeline is None
    assert "[routes.radiograph] enabled = false" in decision.reasons[0]


def test_a_truncated_radiograph_is_refused_with_a_report(write_series: Series, change: Change) -> None:
    (path,) = write_series(1)
    change([path], SOPClassUID=RADIOGRAPHS[0])
    path.write_bytes(path.read_bytes()[:-20])
    decision = decide([path], FILMS)
    assert decision.pipeline is None
    assert decision.refusal is not None
    assert decision.refusal.code == "unreadable"


@pytest.mark.parametrize("sop_class", [SegmentationStorage, SecondaryCaptureImageStorage])
def test_objects_that_are_no_images_are_never_analysed(
    write_series: Series, change: Change, sop_class: str
) -> None:
    paths = write_series(24)
    change(paths[:1], SOPClassUID=sop_class)
    decision = decide(paths)
    assert decision.pipeline == "ct-volume"
    assert "no image of a patient" in decision.excluded[0][1]
    change(paths, SOPClassUID=sop_class)
    assert decide(paths).pipeline is None


def test_own_results_are_never_analysed_whatever_they_look_like(write_series: Series) -> None:
    paths = write_series(24)
    for path in paths:
        dataset = pydicom.dcmread(path)
        maker = Dataset()
        maker.Manufacturer, maker.ManufacturerModelName = MANUFACTURER, MODEL_NAME
        dataset.ContributingEquipmentSequence = [maker]
        dataset.save_as(path)
    decision = decide(paths)
    assert decision.pipeline is None
    assert "a result of this node" in decision.reasons[0]


def test_disabled_route_says_so(write_series: Series) -> None:
    assert "enabled = false" in decide(write_series(24), ct_rules(enabled=False)).reasons[0]


def test_folders_are_searched_and_series_told_apart(write_series: Series, tmp_path: Path) -> None:
    write_series(24)
    write_series(3)
    (tmp_path / "series-1" / "README").write_text("no DICOM")
    routes = route_files([tmp_path], Settings())
    assert [len(route.paths) for route in routes] == [24, 3, 1]
    assert routes[0].decision.pipeline == "ct-volume"
    assert routes[2].series_instance_uid == ""
    assert "README" in routes[2].decision.reasons[0]


def test_files_without_study_or_series_are_named(write_series: Series, change: Change) -> None:
    paths = write_series(2)
    change(paths[0], StudyInstanceUID=None)
    change(paths[1], SeriesInstanceUID="")
    (route,) = route_files(paths, Settings())
    reasons = dict(route.decision.excluded)
    assert "(0020,000D) is missing" in reasons[paths[0].name]
    assert "(0020,000E) is missing" in reasons[paths[1].name]


def test_spooled_series_with_nothing_readable_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(b"rot")
    decision = route_spooled([path], Settings())
    assert decision.pipeline is None
    assert "x.dcm" in decision.reasons[0]


def test_real_ct_is_analysed_though_its_header_says_breast(shared_data: Path) -> None:
    (route,) = route_files([shared_data / "ct" / "acrin-flt-breast-lumbar"], Settings())
    assert route.decision.pipeline == "ct-volume"
    assert len(route.decision.paths) == 99
    assert route.decision.reasons[0] == "99 axial slices, 4.25 mm apart, 421 mm from head to feet"
    assert any("BREAST" in reason for reason in route.decision.reasons)


def test_every_real_file_gets_a_decision_with_a_reason(shared_data: Path) -> None:
    routes = route_files([shared_data / "dicom"], FILMS)
    assert len(routes) > 50
    for route in routes:
        assert route.decision.reasons[0]
        # Fragments of studies, none of them a CT of a spine; what a radiograph shows is seen in the image.
        assert route.decision.pipeline in {None, "radiograph"}
    kinds = {route.decision.reasons[0] for route in routes}
    assert any(reason.startswith("one sagittal slice only (MR2") for reason in kinds)
    assert any(route.decision.pipeline == "radiograph" for route in routes)

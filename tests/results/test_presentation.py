"""Presentation states and the reformat: what is drawn lies on the bodies, in the right image and colour."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pydicom
import pytest

from conformance import mr_studies
from conformance.studies import GRIDS, SPINE
from dicom_ai_node.colours import GRADE_COLOURS, pcs_cielab
from dicom_ai_node.imaging.volume import load_volume
from dicom_ai_node.results.encode import encode
from dicom_ai_node.results.source import SourceSeries

NAMES = [grid.name for grid in GRIDS]
ON_REFORMAT = [name for name in NAMES if "sagittal" not in name]
ON_SLICES = [name for name in NAMES if "sagittal" in name]


def drawn(state: pydicom.Dataset, kind: str) -> list[tuple[pydicom.Dataset, str, np.ndarray]]:
    """(image, layer, points as (column, row) edges) of all graphics of one kind."""
    return [
        (
            annotation.ReferencedImageSequence[0],
            annotation.GraphicLayer,
            np.array(graphic.GraphicData, float).reshape(-1, 2),
        )
        for annotation in state.GraphicAnnotationSequence
        for graphic in annotation.get("GraphicObjectSequence", ())
        if graphic.GraphicType == kind
    ]


def boxes(state: pydicom.Dataset) -> list[tuple[pydicom.Dataset, str, np.ndarray]]:
    return [item for item in drawn(state, "POLYLINE") if _is_box(item[2])]


def _is_box(points: np.ndarray) -> bool:
    return len(points) == 5 and bool((np.sort(np.abs(np.diff(points, axis=0)), axis=1)[:, 0] == 0).all())


def plane_to_mm(image: pydicom.Dataset, points: np.ndarray) -> np.ndarray:
    """(column, row) edges on a CT image to LPS millimetres."""
    spacing = np.array(image.PixelSpacing, float)
    cosines = np.array(image.ImageOrientationPatient, float)
    at = points - 0.5
    return (
        np.array(image.ImagePositionPatient, float)
        + at[:, :1] * spacing[1] * cosines[:3]
        + at[:, 1:] * spacing[0] * cosines[3:]
    )


def slice_to_mm(study, reference: pydicom.Dataset, points: np.ndarray) -> np.ndarray:
    """(column, row) edges on a source slice to LPS millimetres."""
    volume = study.source.volume
    index = next(
        k
        for k, item in enumerate(volume.instances)
        if item.sop_instance_uid == reference.ReferencedSOPInstanceUID
        and item.frame == reference.get("ReferencedFrameNumber", 1)
    )
    at = np.column_stack([np.full(len(points), index), points[:, 1] - 0.5, points[:, 0] - 0.5])
    return at @ volume.affine[:3, :3].T + volume.affine[:3, 3]


def assert_frames_the_block(corners_mm: np.ndarray, block, tolerance: float) -> None:
    highest = max(block.anterior, block.middle, block.posterior) / 2
    low, high = corners_mm.min(axis=0), corners_mm.max(axis=0)
    centre = np.array(block.centre)
    assert abs(low[1] - (centre[1] - block.half_depth)) < tolerance
    assert abs(high[1] - (centre[1] + block.half_depth)) < tolerance
    assert abs(low[2] - (centre[2] - highest)) < tolerance
    assert abs(high[2] - (centre[2] + highest)) < tolerance


@pytest.mark.parametrize("name", [name for name in ON_REFORMAT if name != "oblique axial"])
def test_every_box_on_the_reformat_frames_its_body(encoded, name):
    reformat, state = encoded(name).read("reformat"), encoded(name).read("pr-1")
    found = boxes(state)
    found.sort(key=lambda item: item[2][:, 1].min())
    assert len(found) == len(SPINE)
    # Slices of 3 to 4.25 mm round a body's end by up to one of them.
    for (reference, layer, points), block in zip(found, SPINE, strict=True):
        assert reference.ReferencedSOPInstanceUID == reformat.SOPInstanceUID
        assert_frames_the_block(plane_to_mm(reformat, points), block, tolerance=3.2)
        if block.level != "L5":
            assert layer == f"AI GRADE {block.grade}"
        else:
            assert layer == "AI UNGRADED"


def test_boxes_on_the_reformat_of_an_oblique_series_lie_on_their_bodies(encoded):
    reformat, state = encoded("oblique axial").read("reformat"), encoded("oblique axial").read("pr-1")
    found = sorted(boxes(state), key=lambda item: item[2][:, 1].min())
    for (_, _, points), block in zip(found, SPINE, strict=True):
        middle = plane_to_mm(reformat, points[:4].mean(axis=0)[None])[0]
        assert np.linalg.norm(middle[1:] - np.array(block.centre)[1:]) < 3.0


@pytest.mark.parametrize("name", ON_SLICES)
def test_every_box_on_a_sagittal_slice_frames_its_body(encoded, name):
    study, state = encoded(name).study, encoded(name).read("pr-1")
    assert not (encoded(name).folder / "reformat.dcm").exists()
    found = boxes(state)
    in_space = sorted(
        ((slice_to_mm(study, image, points), image) for image, _, points in found),
        key=lambda item: -item[0][:, 2].max(),
    )
    assert len(found) == len(SPINE)
    for (corners, _), block in zip(in_space, SPINE, strict=True):
        assert_frames_the_block(corners, block, tolerance=1.6)
        assert abs(corners[0, 0] - block.centre[0]) <= 1.51


@pytest.mark.parametrize("name", ["axial", "axial, column cosine negated", "axial, gantry tilted 15 degrees"])
def test_the_six_points_stand_where_they_were_measured(encoded, name):
    reformat, state = encoded(name).read("reformat"), encoded(name).read("pr-1")
    centres = np.concatenate(
        [points[:1] for _, layer, points in drawn(state, "CIRCLE") if layer == "AI POINTS"]
    )
    measured = np.concatenate([block.six_points() for block in SPINE if block.level != "L5"])
    seen = plane_to_mm(reformat, centres)
    distance = np.linalg.norm(seen[:, None, 1:] - measured[None, :, 1:], axis=-1).min(axis=1)
    assert len(centres) == len(measured)
    assert distance.max() < 0.6


def test_outlines_follow_the_wedge_and_not_only_its_box(encoded):
    reformat, state = encoded("sagittal").read, encoded("sagittal").read("pr-1")
    del reformat
    wedge = next(block for block in SPINE if block.level == "L1")
    outlines = [item for item in drawn(state, "POLYLINE") if not _is_box(item[2]) and item[1] == "AI GRADE 2"]
    assert len(outlines) > 5
    for image, _, points in outlines:
        where = slice_to_mm(encoded("sagittal").study, image, points)
        edge = np.abs(where[:, 2] - wedge.centre[2])
        allowed = wedge.half_height(where[:, 1])
        assert (edge <= allowed + 1.6).all()
    front = where[where[:, 1] < wedge.centre[1] - 12]
    assert np.ptp(front[:, 2]) < wedge.middle


@pytest.mark.parametrize("name", NAMES)
def test_dcmpschk_finds_nothing(encoded, tool, name):
    assert "Test passed" in tool("dcmpschk", encoded(name).folder / "pr-1.dcm")


def test_every_grade_has_its_layer_and_colour(encoded):
    state = encoded("axial").read("pr-1")
    colours = {
        item.GraphicLayer: list(item.GraphicLayerRecommendedDisplayCIELabValue)
        for item in state.GraphicLayerSequence
    }
    for grade, colour in enumerate(GRADE_COLOURS):
        assert colours[f"AI GRADE {grade}"] == pcs_cielab(colour)
    assert len({tuple(colour) for colour in colours.values()}) == len(colours)
    orders = [item.GraphicLayerOrder for item in state.GraphicLayerSequence]
    assert orders == list(range(1, len(orders) + 1))


@pytest.mark.parametrize("name", NAMES)
def test_labels_lie_inside_the_image_and_beside_the_bodies(encoded, name):
    state = encoded(name).read("pr-1")
    assert_labels_stand_free(state)
    heights = [
        label.BoundingBoxBottomRightHandCorner[1] - label.BoundingBoxTopLeftHandCorner[1]
        for label in labels_of(state)
    ]
    rows = state.DisplayedAreaSelectionSequence[0].DisplayedAreaBottomRightHandCorner[1]
    # As large as the image asks for, and never too small to be read.
    assert max(heights) < max(8.0, 0.03 * rows) + 0.01
    assert min(heights) > 3.99


@pytest.mark.parametrize("dress", mr_studies.DRESSES, ids=lambda dress: dress.name)
def test_labels_stand_free_on_every_make_of_mr(tmp_path, tool, dress):
    study = mr_studies.make_mr_study(dress, tmp_path)
    encode(study.analysis, study.source, tmp_path / "r", overlay=False)
    state = pydicom.dcmread(tmp_path / "r" / "pr-1.dcm")
    assert len(labels_of(state)) >= 3
    assert_labels_stand_free(state)
    assert "Test passed" in tool("dcmpschk", tmp_path / "r" / "pr-1.dcm")


def labels_of(state: pydicom.Dataset) -> list[pydicom.Dataset]:
    """The texts beside vertebrae; the notice stands in display coordinates."""
    return [
        label
        for annotation in state.GraphicAnnotationSequence
        for label in annotation.get("TextObjectSequence", ())
        if label.BoundingBoxAnnotationUnits == "PIXEL"
    ]


def assert_labels_stand_free(state: pydicom.Dataset) -> None:
    """Inside the image, on no vertebra and on no other label of the same image."""
    area = state.DisplayedAreaSelectionSequence[0]
    size = np.array(area.DisplayedAreaBottomRightHandCorner, float)
    taken: dict[tuple[str, int], list[tuple[np.ndarray, np.ndarray]]] = {}
    for annotation in state.GraphicAnnotationSequence:
        image = annotation.ReferencedImageSequence[0]
        place = image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber", 1)
        shapes = [
            points
            for other, _, points in drawn(state, "POLYLINE")
            if (other.ReferencedSOPInstanceUID, other.get("ReferencedFrameNumber", 1)) == place
        ]
        for label in annotation.get("TextObjectSequence", ()):
            if label.BoundingBoxAnnotationUnits != "PIXEL":
                continue
            first = np.array(label.BoundingBoxTopLeftHandCorner, float)
            last = np.array(label.BoundingBoxBottomRightHandCorner, float)
            assert (first >= 0).all()
            assert (last <= size + 0.01).all()
            assert (last > first).all()
            for points in shapes:
                apart = (points.max(axis=0) <= first + 0.01) | (points.min(axis=0) >= last - 0.01)
                assert apart.any()
            for begin, end in taken.setdefault(place, []):
                assert ((end <= first + 0.01) | (begin >= last - 0.01)).any()
            taken[place].append((first, last))


def test_the_state_says_research_use_on_every_image(encoded):
    state = encoded("sagittal").read("pr-1")
    images = {
        item.ReferencedSOPInstanceUID for item in state.ReferencedSeriesSequence[0].ReferencedImageSequence
    }
    noticed = {
        annotation.ReferencedImageSequence[0].ReferencedSOPInstanceUID
        for annotation in state.GraphicAnnotationSequence
        if annotation.GraphicLayer == "AI NOTICE"
    }
    assert noticed == images


def test_slices_with_another_rescale_get_a_state_of_their_own(encoded, tmp_path):
    study = encoded("sagittal").study
    paths = []
    for number, path in enumerate(study.source.paths):
        image = pydicom.dcmread(path)
        if number < 10:
            image.RescaleIntercept = -1000
            image.PixelData = (image.pixel_array.astype(np.int32) - 24).clip(0).astype(np.uint16).tobytes()
        paths.append(tmp_path / path.name)
        image.save_as(paths[-1])
    source = SourceSeries(tuple(paths), load_volume(paths))
    objects = encode(study.analysis, source, tmp_path / "results", overlay=False)
    assert [item.kind for item in objects] == ["seg", "pr", "pr", "sr"]
    states = [pydicom.dcmread(item.path) for item in objects if item.kind == "pr"]
    assert {float(state.RescaleIntercept) for state in states} == {-1024.0, -1000.0}
    for state in states:
        for item in state.ReferencedSeriesSequence[0].ReferencedImageSequence:
            path = next(
                path
                for path in paths
                if pydicom.dcmread(path).SOPInstanceUID == item.ReferencedSOPInstanceUID
            )
            assert pydicom.dcmread(path).RescaleIntercept == state.RescaleIntercept
    assert len({state.SOPInstanceUID for state in states}) == 2


@pytest.mark.parametrize("name", ON_REFORMAT)
def test_the_reformat_shows_each_body_where_its_geometry_says(encoded, name):
    reformat = encoded(name).read("reformat")
    shown = reformat.pixel_array.astype(float) * float(reformat.RescaleSlope) + float(
        reformat.RescaleIntercept
    )
    rows, columns = np.indices(shown.shape)
    edges = np.column_stack([columns.ravel() + 0.5, rows.ravel() + 0.5])
    where = plane_to_mm(reformat, edges).reshape(*shown.shape, 3)
    for block in SPINE:
        core = replace(
            block,
            half_depth=block.half_depth - 5,
            half_width=block.half_width - 5,
            anterior=block.anterior - 11,
            middle=block.middle - 11,
            posterior=block.posterior - 11,
        )
        inside = core.contains(where)
        assert inside.sum() > 20
        np.testing.assert_allclose(shown[inside], 180 + 20 * block.grade, atol=1)


def test_the_reformat_is_a_derived_image_in_the_source_s_space(encoded):
    reformat, volume = encoded("axial").read("reformat"), encoded("axial").study.source.volume
    assert list(reformat.ImageType) == ["DERIVED", "SECONDARY", "REFORMATTED"]
    assert reformat.FrameOfReferenceUID == volume.frame_of_reference_uid
    assert reformat.SeriesInstanceUID != volume.series_instance_uid
    assert reformat.DerivationCodeSequence[0].CodeValue == "113072"
    sources = {item.ReferencedSOPInstanceUID for item in reformat.SourceImageSequence}
    assert sources == {item.sop_instance_uid for item in volume.instances}
    # Seen from the left: columns to posterior, rows to the feet.
    cosines = np.array(reformat.ImageOrientationPatient, float)
    assert cosines[1] > 0.9
    assert cosines[5] < -0.9


def test_a_plane_beside_a_body_draws_its_box_but_no_outline(encoded, tmp_path):
    study = encoded("axial").study
    # One vertebra far off to the side: the plane through the others misses it.
    labels = np.zeros_like(study.analysis.label_map.labels)
    labels[study.analysis.label_map.labels == 19] = 19
    labels[study.analysis.label_map.labels == 22] = 22
    labels[:, :, :48] = np.where(labels[:, :, :48] == 19, 0, labels[:, :, :48])
    moved = replace(study.analysis.label_map, labels=labels)
    encode(replace(study.analysis, label_map=moved), study.source, tmp_path, overlay=False)
    state = pydicom.dcmread(tmp_path / "pr-1.dcm")
    crush = [points for _, layer, points in drawn(state, "POLYLINE") if layer == "AI GRADE 3"]
    assert [_is_box(points) for points in crush] == [True]
    labels = [
        text.UnformattedTextValue
        for annotation in state.GraphicAnnotationSequence
        for text in annotation.get("TextObjectSequence", ())
        if annotation.GraphicLayer == "AI GRADE 3"
    ]
    assert labels == ["T12 G3 -44% off plane"]

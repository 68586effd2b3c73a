"""Presentation states as a renderer that shares nothing with the node shows them: boxes lie on the bodies."""

from __future__ import annotations

import os
from copy import deepcopy
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from scipy import ndimage

from conformance.films import DRESSES, make_film_study
from conformance.mr_studies import DRESSES as MR_DRESSES
from conformance.mr_studies import make_mr_study
from conformance.studies import SPINE
from dicom_ai_node.anatomy import verse_label
from dicom_ai_node.colours import grade_colour
from dicom_ai_node.results.encode import encode
from dicom_ai_node.results.film_views import found_pose
from tests.results import softcopy
from tests.results.shown import rendered

Extent = tuple[int, int, int, int]
"""First and last row, first and last column."""


@pytest.fixture
def keep(request):
    """Writes a picture where pictures are kept."""
    folder = os.environ.get("DICOM_AI_NODE_SCREENSHOTS")

    def save(picture):
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            name = request.node.name.replace("/", "-").replace(" ", "-")
            Image.fromarray(picture).save(Path(folder) / f"{name}.png")

    return save


def drawn_in(picture, colour) -> list[Extent]:
    """The extents of what is drawn in a colour and hangs together, from the top, in pixels of the screen."""
    near = (np.abs(picture.astype(int) - colour) <= 3).all(axis=-1)
    pieces, _ = ndimage.label(near, np.ones((3, 3)))
    found = [
        (rows.start, rows.stop - 1, columns.start, columns.stop - 1)
        for rows, columns in ndimage.find_objects(pieces)
    ]
    # Not the rests of a line that another one crosses.
    return sorted(item for item in found if min(item[1] - item[0], item[3] - item[2]) > 5 * softcopy.ZOOM)


def extent_of(mask) -> Extent:
    rows, columns = np.nonzero(mask)
    zoom = softcopy.ZOOM
    return (
        zoom * rows.min(),
        zoom * (rows.max() + 1),
        zoom * columns.min(),
        zoom * (columns.max() + 1),
    )


def assert_same(found: list[Extent], wanted: list[Extent], tolerance: float = 2.0) -> None:
    assert len(found) == len(wanted)
    np.testing.assert_allclose(found, sorted(wanted), atol=tolerance)


def assert_bodies_are_framed(picture, state, report, plane) -> None:
    """Each grade's boxes and outlines are where the label map has the bodies of that grade.

    Args:
        plane: the labels on the image as stored.
    """
    upright = softcopy.turned(plane, state)
    for grade in (None, 0, 1, 2, 3):
        levels = [vertebra.level for vertebra in report if vertebra.genant_grade == grade]
        masks = [upright == verse_label(level) for level in levels]
        wanted = [extent_of(mask) for mask in masks if mask.any()]
        assert_same(drawn_in(picture, grade_colour(grade)), wanted)


@pytest.mark.parametrize("turned_back", [False, True])
@pytest.mark.parametrize("dress", DRESSES, ids=lambda dress: dress.name)
def test_boxes_on_a_film_lie_on_its_bodies_however_it_is_stored_and_shown(dress, turned_back, tmp_path, keep):
    study = make_film_study(dress, tmp_path)
    pose = found_pose(study.analysis.report) if turned_back else None
    encode(study.analysis, study.source, tmp_path / "results", overlay=False, pose=pose)
    state, image = pydicom.dcmread(tmp_path / "results" / "pr-1.dcm"), pydicom.dcmread(study.path)
    # Boxes of neighbours cross on a film: without the texts and one colour after the other.
    plane = study.analysis.label_map.labels[0]
    keep(softcopy.shown(state, image))
    for grade in (None, 0, 1, 2):
        alone = only(state, _layer(grade))
        level = next(item.level for item in study.analysis.report if item.genant_grade == grade)
        wanted = extent_of(softcopy.turned(plane == verse_label(level), state))
        assert_same(drawn_in(softcopy.shown(alone, image, texts=False), grade_colour(grade)), [wanted])
    if turned_back:
        # Head up, back to the right, as the film was before it was stored.
        head, feet = (
            extent_of(softcopy.turned(study.masks[level], state))
            for level in list(study.masks)[:: len(study.masks) - 1]
        )
        assert head[0] < feet[0]


def _layer(grade: int | None) -> str:
    return "AI UNGRADED" if grade is None else f"AI GRADE {grade}"


def only(state, *layers):
    """The state with these layers alone."""
    alone = deepcopy(state)
    alone.GraphicAnnotationSequence = [
        item for item in state.GraphicAnnotationSequence if item.GraphicLayer in layers
    ]
    return alone


def graded(state):
    """Without the six points, which lie on the lines of the boxes."""
    return only(state, *map(_layer, (None, 0, 1, 2, 3)))


@pytest.mark.parametrize("dress", DRESSES[:5], ids=lambda dress: dress.name)
def test_the_second_opinion_shows_the_greys_that_dcmtk_shows(dress, tool, tmp_path):
    study = make_film_study(dress, tmp_path)
    pose = found_pose(study.analysis.report)
    encode(study.analysis, study.source, tmp_path / "results", overlay=False, pose=pose)
    path = tmp_path / "results" / "pr-1.dcm"
    state = pydicom.dcmread(path)
    ours = softcopy.shown(only(state), pydicom.dcmread(study.path))[:: softcopy.ZOOM, :: softcopy.ZOOM, 0]
    theirs = rendered(tool, study.path, path, tmp_path)
    assert ours.shape == theirs.shape
    # DCMTK draws overlays only where asked to: all pixels count.
    assert np.abs(ours - theirs).max() <= 2


@pytest.mark.parametrize("dress", [MR_DRESSES[0], MR_DRESSES[4]], ids=lambda dress: dress.name)
def test_boxes_on_mr_lie_on_its_bodies(dress, tmp_path, keep):
    study = make_mr_study(dress, tmp_path)
    encode(study.analysis, study.source, tmp_path / "results", overlay=False)
    state = pydicom.dcmread(tmp_path / "results" / "pr-1.dcm")
    _assert_every_slice_is_framed(study, state, keep)


@pytest.mark.parametrize(
    "name",
    [
        "sagittal",
        "sagittal, row cosine negated",
        "sagittal, column cosine negated",
        "sagittal, enhanced multi-frame",
    ],
)
def test_boxes_on_sagittal_ct_lie_on_its_bodies(encoded, name, keep):
    _assert_every_slice_is_framed(encoded(name).study, encoded(name).read("pr-1"), keep)


def _assert_every_slice_is_framed(study, state, keep) -> None:
    for number, (instance, plane) in enumerate(
        zip(study.source.volume.instances, study.analysis.label_map.labels, strict=True)
    ):
        if not plane.any():
            continue
        image = pydicom.dcmread(instance.path)
        picture = softcopy.shown(graded(state), image, frame=instance.frame, texts=False)
        assert_bodies_are_framed(picture, state, study.analysis.report, plane)
        if number == len(study.analysis.label_map.labels) // 2:
            keep(softcopy.shown(state, image, frame=instance.frame))


@pytest.mark.parametrize("name", ["axial", "axial, column cosine negated", "coronal"])
def test_boxes_on_the_reformat_lie_on_the_bodies(encoded, name, keep):
    image, state = encoded(name).read("reformat"), encoded(name).read("pr-1")
    keep(softcopy.shown(state, image))
    picture = softcopy.shown(graded(state), image, texts=False)
    spacing = float(image.PixelSpacing[0])
    origin = np.array(image.ImagePositionPatient, float)
    cosines = np.array(image.ImageOrientationPatient, float)
    for grade in (None, 0, 1, 2, 3):
        wanted = []
        for block in SPINE:
            if (None if block.level == "L5" else block.grade) == grade:
                corners = block.six_points() - origin
                columns, rows = corners @ cosines[:3] / spacing + 0.5, corners @ cosines[3:] / spacing + 0.5
                wanted.append(
                    tuple(
                        softcopy.ZOOM * edge
                        for edge in (rows.min(), rows.max(), columns.min(), columns.max())
                    )
                )
        # Slices round a body's end by up to half of one.
        assert_same(drawn_in(picture, grade_colour(grade)), wanted, tolerance=3.2 / spacing * softcopy.ZOOM)


def test_every_layer_s_colour_is_the_grade_s_on_a_screen(encoded):
    for layer in encoded("axial").read("pr-1").GraphicLayerSequence:
        name, seen = layer.GraphicLayer, softcopy.srgb(layer.GraphicLayerRecommendedDisplayCIELabValue)
        if name.startswith("AI GRADE"):
            assert np.abs(np.subtract(seen, grade_colour(int(name[-1])))).max() <= 3

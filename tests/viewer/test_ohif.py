"""What a reader sees of the node's results in OHIF before Debian's Orthanc: segments, boxes, numbers, levels.

The screen is compared with the truth of the drawn studies, never with the objects. Pictures are kept in the
folder that DICOM_AI_NODE_SCREENSHOTS names.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from PIL import Image
from playwright.sync_api import BrowserContext

from conformance.films import DRESSES, make_film_study
from conformance.mr_studies import DRESSES as MR_DRESSES
from conformance.mr_studies import make_mr_study
from conformance.studies import GRIDS, SPINE, make_study
from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.colours import Rgb, grade_colour
from dicom_ai_node.report import Analysis
from dicom_ai_node.results.encode import encode
from dicom_ai_node.results.source import SourceSeries
from tests.viewer import screen
from tests.viewer.ohif import Ohif, Picture, chromium
from tests.viewer.reading_room import ReadingRoom

Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Drawn:
    """A study of known truth with its results.

    Attributes:
        images: SOP Instance UID of each slice of the labels.
        spacing: height and width of a pixel.
        reformat: where its boxes are on an image of their own: edges by level, rows and columns, spacing.
    """

    analysis: Analysis
    source: SourceSeries
    images: tuple[str, ...]
    labels: Labels
    spacing: tuple[float, float]
    folder: Path

    @property
    def uid(self) -> str:
        return self.analysis.report.source.study_instance_uid

    def slice_of(self, image: str) -> Labels:
        found: Labels = self.labels[self.images.index(image)]
        return found

    def fullest_slice(self) -> str:
        """The image on which most bodies are seen; of several, one in the middle."""
        counts = [len(np.unique(plane)) for plane in self.labels]
        best = [index for index, count in enumerate(counts) if count == max(counts)]
        return self.images[best[len(best) // 2]]

    def colours(self, plane: Labels) -> dict[Rgb, screen.Mask]:
        """What is to be seen in each colour."""
        found: dict[Rgb, screen.Mask] = {}
        for vertebra in self.analysis.report:
            mask = plane == verse_label(vertebra.level)
            if mask.any():
                colour = grade_colour(vertebra.genant_grade)
                found[colour] = found.get(colour, np.zeros(plane.shape, bool)) | mask
        return found


def _ct(name: str, folder: Path) -> Drawn:
    study = make_study(next(grid for grid in GRIDS if grid.name == name), folder / "source")
    volume = study.source.volume
    assert volume is not None
    return _in_space(study.analysis, study.source, folder)


def _mr(folder: Path) -> Drawn:
    study = make_mr_study(MR_DRESSES[0], folder / "source")
    return _in_space(study.analysis, study.source, folder)


def _film(folder: Path) -> Drawn:
    (folder / "source").mkdir(parents=True)
    # OHIF 3.13 misreads bit planes whose pixels do not fill whole bytes: conformance/viewers.md.
    study = make_film_study(DRESSES[1], folder / "source", size=(240, 120))
    assert study.analysis.label_map is not None
    alone = SourceSeries((study.path,), None, study.film)
    image = study.film.instance.sop_instance_uid
    return Drawn(study.analysis, alone, (image,), study.analysis.label_map.labels, (1.0, 1.0), folder)


def _in_space(analysis: Analysis, source: SourceSeries, folder: Path) -> Drawn:
    volume, label_map = source.volume, analysis.label_map
    assert volume is not None
    assert label_map is not None
    down, right = np.linalg.norm(volume.affine[:3, 1:3], axis=0)
    images = tuple(item.sop_instance_uid for item in volume.instances)
    return Drawn(analysis, source, images, label_map.labels, (float(down), float(right)), folder)


STUDIES: dict[str, Callable[[Path], Drawn]] = {
    "axial CT, column cosine negated": lambda folder: _ct("axial, column cosine negated", folder),
    "sagittal CT, row cosine negated": lambda folder: _ct("sagittal, row cosine negated", folder),
    "MR": _mr,
    "radiograph, turned by 90": _film,
}


@dataclass
class Seen:
    """What was on the screen.

    Attributes:
        segments: SOP Instance UID of the image -> the screen with the segmentation.
        canvas: left, top, width, height of the viewport.
        words: written on the image as the report opens.
        boxes: the screen with the report's boxes once it is loaded; with the image that they are on.
        listed: the rows of the panel of measurements.
    """

    drawn: Drawn
    canvas: tuple[float, float, float, float]
    segments: dict[str, Picture] = field(default_factory=dict)
    words: str = ""
    boxes: Picture | None = None
    boxes_on: str = ""
    canvas_of_boxes: tuple[float, float, float, float] = (0, 0, 0, 0)
    listed: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReadingRoom]:
    room = ReadingRoom(tmp_path_factory.mktemp("reading-room"))
    room.open()
    yield room
    room.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    with chromium() as context:
        yield context


@pytest.fixture(scope="module")
def keep() -> Callable[[str, Picture], None]:
    """Writes a picture where pictures are kept."""
    folder = os.environ.get("DICOM_AI_NODE_SCREENSHOTS")

    def save(name: str, picture: Picture) -> None:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(Path(folder) / f"{name.replace(' ', '-').replace(',', '')}.png")

    return save


@pytest.fixture(scope="module", params=STUDIES)
def seen(
    request: pytest.FixtureRequest,
    room: ReadingRoom,
    browser: BrowserContext,
    keep: Callable[[str, Picture], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Seen:
    """A study read from beginning to end."""
    name = str(request.param)
    drawn = STUDIES[name](tmp_path_factory.mktemp("study"))
    results = encode(drawn.analysis, drawn.source, drawn.folder / "results", overlay=False)
    for path in (*drawn.source.paths, *(item.path for item in results)):
        room.archive.store(path)
    viewer = Ohif(browser, room.url, drawn.uid)
    viewer.preview("SEG")
    viewer.look_only()
    seen = Seen(drawn, viewer.canvas())
    for image in dict.fromkeys((viewer.image_on_screen(), drawn.fullest_slice())):
        viewer.scroll_to(image)
        seen.segments[image] = viewer.picture()
        keep(f"{name} SEG {len(seen.segments)}", seen.segments[image])
    viewer.preview("SR")
    seen.words = viewer.words_on_image()
    keep(f"{name} SR", viewer.picture())
    viewer.load()
    seen.listed = viewer.measurements()
    viewer.words_on_image()
    # The panel has made the viewport narrower.
    seen.boxes, seen.boxes_on, seen.canvas_of_boxes = (
        viewer.picture(),
        viewer.image_on_screen(),
        viewer.canvas(),
    )
    keep(f"{name} SR measurements", seen.boxes)
    seen.faults = viewer.faults
    viewer.close()
    return seen


def test_segments_lie_on_their_bodies_in_the_colour_of_their_grade(seen):
    for image, picture in seen.segments.items():
        plane = seen.drawn.slice_of(image)
        fitted = screen.Fitted(seen.canvas, plane.shape, seen.drawn.spacing)
        area = fitted.shown(np.ones(plane.shape, bool), picture.shape[:2])
        for colour, mask in seen.drawn.colours(plane).items():
            coloured = screen.of_hue(picture, colour) & area
            wanted = fitted.shown(mask, picture.shape[:2])
            assert screen.dice(coloured, wanted) > 0.9
            assert np.abs(screen.middle(coloured) - screen.middle(wanted)).max() < 2
            for mirrored in (mask[::-1], mask[:, ::-1]):
                assert screen.dice(coloured, fitted.shown(mirrored, picture.shape[:2])) < 0.85


def test_nothing_is_coloured_beside_the_bodies(seen):
    for image, picture in seen.segments.items():
        plane = seen.drawn.slice_of(image)
        fitted = screen.Fitted(seen.canvas, plane.shape, seen.drawn.spacing)
        near = np.pad(plane > 0, 2)
        near = np.any([np.roll(near, (r, c), (0, 1)) for r in (-1, 0, 1) for c in (-1, 0, 1)], axis=0)
        beside = fitted.shown(~near[2:-2, 2:-2], picture.shape[:2])
        for vertebra in seen.drawn.analysis.report:
            # The viewer's own words are blue.
            if vertebra.genant_grade is not None:
                spots = screen.of_hue(picture, grade_colour(vertebra.genant_grade)) & beside
                assert spots.sum() < 20


def test_the_boxes_of_the_report_frame_their_bodies(seen):
    fitted, boxes = _expected_boxes(seen)
    drawn = screen.pure(seen.boxes)
    # Half a slice of an axial CT, and what a line is thick.
    tolerance = 2.5 if seen.boxes_on in seen.drawn.images else 2.5 + 1.6 * fitted.scale[0] / fitted.spacing[0]
    assert boxes
    for box in boxes.values():
        top, bottom, left, right = box
        rows, columns = fitted.shape
        assert screen.drawn_along(drawn, fitted.edges(box), tolerance) > 0.8
        across = (top, bottom, columns - right, columns - left)
        assert screen.drawn_along(drawn, fitted.edges(across), tolerance) < 0.5
        upside_down = (rows - bottom, rows - top, left, right)
        if min(abs(upside_down[0] - other[0]) for other in boxes.values()) > 6:
            assert screen.drawn_along(drawn, fitted.edges(upside_down), tolerance) < 0.5


def test_numbers_stand_beside_the_boxes(seen):
    _, boxes = _expected_boxes(seen)
    for vertebra in seen.drawn.analysis.report:
        if vertebra.level in boxes and vertebra.height_loss:
            assert f"Vertebral body height loss: {100 * vertebra.height_loss:.2f} %" in seen.words
            assert (
                f"Probability of vertebral fracture: {100 * vertebra.fracture_probability:.2f} %"
                in seen.words
            )


def test_measurements_are_listed_by_level_and_finding(seen):
    for vertebra in seen.drawn.analysis.report:
        rows = [row for row in seen.listed if f"{vertebra.level.value} " in f"{row} "]
        assert len(rows) == 1, (vertebra.level, seen.listed)
        if vertebra.genant_grade:
            assert f"G{vertebra.genant_grade} -{100 * vertebra.height_loss:.0f}%" in rows[0]
    assert len(seen.listed) == len(seen.drawn.analysis.report.vertebrae)


def test_the_page_meets_no_error(seen):
    assert seen.faults == []


def _expected_boxes(seen: Seen) -> tuple[screen.Fitted, dict[Level, screen.Edges]]:
    """Where the boxes are on the image of the report, by the truth."""
    drawn = seen.drawn
    if seen.boxes_on not in drawn.images:
        return _on_the_reformat(seen)
    plane = drawn.slice_of(seen.boxes_on)
    boxes: dict[Level, screen.Edges] = {}
    for vertebra in drawn.analysis.report:
        if _middle_image(drawn, vertebra.level) == seen.boxes_on:
            rows, columns = np.nonzero(plane == verse_label(vertebra.level))
            boxes[vertebra.level] = (rows.min(), rows.max() + 1.0, columns.min(), columns.max() + 1.0)
    return screen.Fitted(seen.canvas_of_boxes, plane.shape, drawn.spacing), boxes


def _middle_image(drawn: Drawn, level: Level) -> str:
    """The slice through the middle of a body."""
    slices = np.flatnonzero((drawn.labels == verse_label(level)).any(axis=(1, 2)))
    volume = drawn.source.volume
    if volume is None:
        return drawn.images[slices[0]]
    centre = next(vertebra.center_mm for vertebra in drawn.analysis.report if vertebra.level is level)
    assert centre is not None
    index = np.linalg.solve(volume.affine, np.array([*centre, 1.0]))[0]
    return drawn.images[min(slices, key=lambda number: abs(number - round(index)))]


def _on_the_reformat(seen: Seen) -> tuple[screen.Fitted, dict[Level, screen.Edges]]:
    """Boxes around the blocks as the sagittal image's own header places them; columns run to the back."""
    image = pydicom.dcmread(seen.drawn.folder / "results" / "reformat.dcm", stop_before_pixels=True)
    assert image.SOPInstanceUID == seen.boxes_on
    spacing = float(image.PixelSpacing[0])
    origin = np.array(image.ImagePositionPatient, float)
    cosines = np.array(image.ImageOrientationPatient, float)
    boxes: dict[Level, screen.Edges] = {}
    for block in SPINE:
        corners = block.six_points() - origin
        columns, rows = corners @ cosines[:3] / spacing + 0.5, corners @ cosines[3:] / spacing + 0.5
        boxes[block.level] = (rows.min(), rows.max(), columns.min(), columns.max())
    return screen.Fitted(
        seen.canvas_of_boxes, (int(image.Rows), int(image.Columns)), (spacing, spacing)
    ), boxes

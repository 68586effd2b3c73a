"""Boxes, outlines, six points and labels as Grayscale Softcopy Presentation States (PS3.3 A.33.1).

One graphic layer per colour, so that a reader can switch grades on and off. A presentation state has one
modality LUT for all its images: slices with another rescale get a state of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

from dicom_ai_node.colours import LABEL_COLOUR, POINT_COLOUR, Rgb, grade_colour, pcs_cielab
from dicom_ai_node.imaging.slices import read_slices
from dicom_ai_node.report import Analysis, Vertebra
from dicom_ai_node.results.identity import ResultIdentity
from dicom_ai_node.results.modules import RESEARCH_USE_ONLY, Stamp, new_object
from dicom_ai_node.results.reformat import WINDOW_CENTER, WINDOW_WIDTH
from dicom_ai_node.results.seg import decimals
from dicom_ai_node.results.source import ImageReference, SourceImages
from dicom_ai_node.results.views import VertebraView

SERIES_NUMBER: Final = 9104
POINT_RADIUS_MM: Final = 1.0
TEXT_HEIGHT_SHARE: Final = 0.028
"""Height of a label by height of the image."""
_WIDTH_OF_A_LETTER: Final = 0.55
"""By its height."""

UNGRADED_LAYER: Final = "AI UNGRADED"
POINTS_LAYER: Final = "AI POINTS"
NOTICE_LAYER: Final = "AI NOTICE"
_GRADE_LAYERS: Final = ("AI GRADE 0", "AI GRADE 1", "AI GRADE 2", "AI GRADE 3")


@dataclass(frozen=True)
class Canvas:
    """What a presentation state is drawn on: images of one size, spacing and rescale.

    Attributes:
        series_instance_uid: the series of the images.
        shape: rows, columns.
        spacing_mm: distance of rows, of columns; None where the image does not say.
        slope, intercept: of the modality LUT.
    """

    series_instance_uid: str
    shape: tuple[int, int]
    spacing_mm: tuple[float, float] | None
    slope: float
    intercept: float


def canvas_of(reformat: Dataset) -> Canvas:
    """The derived sagittal image."""
    rows, columns = (float(value) for value in reformat.PixelSpacing)
    return Canvas(
        str(reformat.SeriesInstanceUID),
        (int(reformat.Rows), int(reformat.Columns)),
        (rows, columns),
        float(reformat.RescaleSlope),
        float(reformat.RescaleIntercept),
    )


def canvases_of_slices(
    views: Sequence[VertebraView], source: SourceImages
) -> list[tuple[Canvas, tuple[VertebraView, ...]]]:
    """The views on source slices, parted by the rescale of their slices."""
    if source.affine is None or source.shape is None:
        header = source.header
        spacing = header.get("PixelSpacing") or header.get("ImagerPixelSpacing")
        canvas = Canvas(
            source.series[0][0],
            (int(header.Rows), int(header.Columns)),
            None if spacing is None else (float(spacing[0]), float(spacing[1])),
            float(header.get("RescaleSlope") or 1),
            float(header.get("RescaleIntercept") or 0),
        )
        return [(canvas, tuple(views))] if views else []
    rescales = _rescales(views, source)
    lengths = np.linalg.norm(source.affine[:3, 1:3], axis=0)
    spacing_mm = (float(lengths[0]), float(lengths[1]))
    parted: dict[tuple[float, float], list[VertebraView]] = {}
    for view in views:
        assert view.slice_index is not None
        parted.setdefault(rescales[view.slice_index], []).append(view)
    return [
        (Canvas(source.series[0][0], source.shape[1:], spacing_mm, slope, intercept), tuple(found))
        for (slope, intercept), found in parted.items()
    ]


def encode_presentation(
    analysis: Analysis,
    source: SourceImages,
    identity: ResultIdentity,
    stamp: Stamp,
    *,
    views: Sequence[VertebraView],
    canvas: Canvas,
    number: int = 1,
) -> FileDataset:
    """One presentation state.

    Args:
        views: at least one; all on images of `canvas`.
        number: 1 for the first state of the analysis.
    """
    dataset = new_object(
        source,
        identity,
        analysis.report.algorithms,
        stamp,
        kind=f"pr-{number}",
        sop_class_uid=GrayscaleSoftcopyPresentationStateStorage,
        modality="PR",
        series_number=SERIES_NUMBER,
        series_description="AI spine overlay",
        instance_number=number,
    )
    dataset.PresentationCreationDate, dataset.PresentationCreationTime = stamp.date, stamp.time
    dataset.ContentLabel = "AI SPINE"
    dataset.ContentDescription = f"Vertebrae found by AI. {RESEARCH_USE_ONLY}"
    dataset.ContentCreatorName = ""
    images = list(dict.fromkeys(view.image for view in views))
    _relationship_module(dataset, images, canvas)
    _display_modules(dataset, canvas)
    annotations = _annotations(views, images, canvas)
    dataset.GraphicAnnotationSequence = annotations
    dataset.GraphicLayerSequence = _layers({str(item.GraphicLayer) for item in annotations})
    return dataset


def _rescales(views: Sequence[VertebraView], source: SourceImages) -> dict[int, tuple[float, float]]:
    indices = sorted({view.slice_index for view in views if view.slice_index is not None})
    found: dict[int, tuple[float, float]] = {}
    by_file = {}
    for index in indices:
        path, reference = source.paths[index], source.slices[index]
        if path not in by_file:
            by_file[path] = {item.frame: item.pixels for item in read_slices(path)}
        pixels = by_file[path][(reference.frame if reference is not None else None) or 1]
        found[index] = (pixels.slope, pixels.intercept)
    return found


def _relationship_module(dataset: Dataset, images: Sequence[ImageReference], canvas: Canvas) -> None:
    item = Dataset()
    item.SeriesInstanceUID = canvas.series_instance_uid
    item.ReferencedImageSequence = _image_items(images)
    dataset.ReferencedSeriesSequence = [item]


def _image_items(images: Iterable[ImageReference]) -> list[Dataset]:
    """Image references, with the frames of one multi-frame image in one item."""
    frames: dict[ImageReference, list[int]] = {}
    for image in images:
        frames.setdefault(image.instance(), []).extend([] if image.frame is None else [image.frame])
    items = []
    for instance, numbers in frames.items():
        item = instance.item()
        if numbers:
            item.ReferencedFrameNumber = numbers[0] if len(numbers) == 1 else sorted(numbers)
        items.append(item)
    return items


def _display_modules(dataset: Dataset, canvas: Canvas) -> None:
    """Displayed area, modality LUT, softcopy VOI LUT, presentation LUT (PS3.3 C.10.4, C.11)."""
    area = Dataset()
    area.DisplayedAreaTopLeftHandCorner = [1, 1]
    area.DisplayedAreaBottomRightHandCorner = [canvas.shape[1], canvas.shape[0]]
    area.PresentationSizeMode = "SCALE TO FIT"
    if canvas.spacing_mm is not None:
        area.PresentationPixelSpacing = decimals(canvas.spacing_mm)
    else:
        area.PresentationPixelAspectRatio = [1, 1]
    dataset.DisplayedAreaSelectionSequence = [area]
    dataset.RescaleIntercept, dataset.RescaleSlope = decimals([canvas.intercept, canvas.slope])
    dataset.RescaleType = "HU"
    window = Dataset()
    window.WindowCenter, window.WindowWidth = WINDOW_CENTER, WINDOW_WIDTH
    dataset.SoftcopyVOILUTSequence = [window]
    dataset.PresentationLUTShape = "IDENTITY"


def _annotations(
    views: Sequence[VertebraView], images: Sequence[ImageReference], canvas: Canvas
) -> list[Dataset]:
    """One item per image and layer (PS3.3 C.10.5)."""
    annotations = []
    for image in images:
        here = [view for view in views if view.image == image]
        for layer in dict.fromkeys(_layer(view.vertebra) for view in here):
            drawn = [view for view in here if _layer(view.vertebra) == layer]
            graphics = [item for view in drawn for item in _shapes(view)]
            texts = [_label(view, canvas) for view in drawn]
            annotations.append(_annotation(image, layer, graphics, texts))
        points = [item for view in here for item in _points(view, canvas)]
        if points:
            annotations.append(_annotation(image, POINTS_LAYER, points, []))
        annotations.append(_annotation(image, NOTICE_LAYER, [], [_notice()]))
    return annotations


def _layer(vertebra: Vertebra) -> str:
    return UNGRADED_LAYER if vertebra.genant_grade is None else _GRADE_LAYERS[vertebra.genant_grade]


def _layers(used: set[str]) -> list[Dataset]:
    """The layers that are drawn on, the most serious grade on top (PS3.3 C.10.7)."""
    colours: dict[str, tuple[Rgb, str]] = {
        UNGRADED_LAYER: (grade_colour(None), "Vertebrae without a grade"),
        **{
            name: (grade_colour(grade), f"Vertebrae of Genant grade {grade}")
            for grade, name in enumerate(_GRADE_LAYERS)
        },
        POINTS_LAYER: (POINT_COLOUR, "Six points of each vertebral body"),
        NOTICE_LAYER: (LABEL_COLOUR, "Notice"),
    }
    layers: list[Dataset] = []
    for name in (name for name in colours if name in used):
        colour, description = colours[name]
        item = Dataset()
        item.GraphicLayer = name
        item.GraphicLayerOrder = len(layers) + 1
        item.GraphicLayerRecommendedDisplayGrayscaleValue = 65535
        item.GraphicLayerRecommendedDisplayCIELabValue = pcs_cielab(colour)
        item.GraphicLayerDescription = description
        layers.append(item)
    return layers


def _annotation(
    image: ImageReference, layer: str, graphics: Sequence[Dataset], texts: Sequence[Dataset]
) -> Dataset:
    item = Dataset()
    item.ReferencedImageSequence = [image.item()]
    item.GraphicLayer = layer
    if texts:
        item.TextObjectSequence = list(texts)
    if graphics:
        item.GraphicObjectSequence = list(graphics)
    return item


def _shapes(view: VertebraView) -> Iterable[Dataset]:
    if view.rows is not None and view.columns is not None:
        (top, bottom), (left, right) = view.rows, view.columns
        corners = [(top, left), (top, right), (bottom, right), (bottom, left), (top, left)]
        yield _graphic("POLYLINE", np.array(corners), filled=False)
    for outline in view.outlines:
        yield _graphic("POLYLINE", outline, filled=False)


def _points(view: VertebraView, canvas: Canvas) -> Iterable[Dataset]:
    """Small discs: viewers draw a POINT as they like, often as one pixel."""
    if view.points is None:
        return
    radius = POINT_RADIUS_MM / canvas.spacing_mm[1] if canvas.spacing_mm else canvas.shape[0] / 300
    for row, column in view.points:
        if 0 <= row <= canvas.shape[0] and 0 <= column <= canvas.shape[1]:
            yield _graphic("CIRCLE", np.array([(row, column), (row, column + radius)]), filled=True)


def _graphic(kind: str, points: npt.NDArray[np.float64], *, filled: bool) -> Dataset:
    """Points are (row, column) edges; the standard wants column, row."""
    item = Dataset()
    item.GraphicAnnotationUnits = "PIXEL"
    item.GraphicDimensions = 2
    item.NumberOfGraphicPoints = len(points)
    item.GraphicData = [round(float(value), 2) for value in points[:, ::-1].ravel()]
    item.GraphicType = kind
    if kind == "CIRCLE" or np.array_equal(points[0], points[-1]):
        # Type 1C: for closed graphics only.
        item.GraphicFilled = "Y" if filled else "N"
    return item


def _label(view: VertebraView, canvas: Canvas) -> Dataset:
    """Level and finding beside the vertebra, never on it: where there is more room, smaller if need be."""
    (top, bottom), (left, right) = _extent(view)
    words = _label_text(view.vertebra) + (" off plane" if view.off_plane else "")
    rows, columns = canvas.shape
    height = max(8.0, TEXT_HEIGHT_SHARE * rows)
    gap = height / 3
    before, after = left - gap, columns - right - gap
    wanted = _WIDTH_OF_A_LETTER * height * len(words)
    # Before the vertebra are vessels and bowel, behind it are the arches: before is better to read.
    ahead = before >= min(wanted, after)
    room = before if ahead else after
    width = max(1.0, min(wanted, room))
    height = max(4.0, height * width / wanted)
    first = max(0.0, left - gap - width) if ahead else min(right + gap, columns - width)
    # Below the notice.
    above = float(np.clip((top + bottom - height) / 2, 0.05 * rows, rows - height))
    item = Dataset()
    item.BoundingBoxAnnotationUnits = "PIXEL"
    item.UnformattedTextValue = words
    item.BoundingBoxTopLeftHandCorner = [round(first, 2), round(above, 2)]
    item.BoundingBoxBottomRightHandCorner = [round(first + width, 2), round(above + height, 2)]
    item.BoundingBoxTextHorizontalJustification = "RIGHT" if ahead else "LEFT"
    return item


def _extent(view: VertebraView) -> tuple[tuple[float, float], tuple[float, float]]:
    """(first, last) row and column of what is drawn of the vertebra."""
    if view.rows is not None and view.columns is not None:
        return view.rows, view.columns
    corners = np.concatenate(view.outlines)
    (top, left), (bottom, right) = corners.min(axis=0), corners.max(axis=0)
    return (float(top), float(bottom)), (float(left), float(right))


def _label_text(vertebra: Vertebra) -> str:
    if vertebra.status != "analysed":
        return f"{vertebra.level.value} not judged"
    if not vertebra.genant_grade or vertebra.height_loss is None:
        return vertebra.level.value
    return f"{vertebra.level.value} G{vertebra.genant_grade} -{100 * vertebra.height_loss:.0f}%"


def _notice() -> Dataset:
    item = Dataset()
    item.BoundingBoxAnnotationUnits = "DISPLAY"
    item.UnformattedTextValue = f"AI - {RESEARCH_USE_ONLY}"
    item.BoundingBoxTopLeftHandCorner = [0.02, 0.01]
    item.BoundingBoxBottomRightHandCorner = [0.98, 0.045]
    item.BoundingBoxTextHorizontalJustification = "LEFT"
    return item

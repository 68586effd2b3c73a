"""Boxes, outlines, six points and labels as softcopy presentation states (PS3.3 A.33.1; in colour A.33.2).

One graphic layer per colour, so that a reader can switch grades on and off. A presentation state has one
modality LUT for all its images: slices with another rescale get a state of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import ColorSoftcopyPresentationStateStorage, GrayscaleSoftcopyPresentationStateStorage

from dicom_ai_node.colours import LABEL_COLOUR, POINT_COLOUR, Rgb, grade_colour, pcs_cielab
from dicom_ai_node.imaging.film_pose import FilmPose
from dicom_ai_node.report import Analysis, Vertebra
from dicom_ai_node.results.canvas import Canvas
from dicom_ai_node.results.decimals import decimals
from dicom_ai_node.results.identity import ResultIdentity, in_language
from dicom_ai_node.results.labels import labels, notice
from dicom_ai_node.results.language import ENGLISH, Language
from dicom_ai_node.results.modules import RESEARCH_USE_ONLY, Stamp, new_object
from dicom_ai_node.results.repertoire import settle_texts
from dicom_ai_node.results.source import ImageReference, SourceImages
from dicom_ai_node.results.views import VertebraView

SERIES_NUMBER: Final = 9104
POINT_RADIUS_MM: Final = 1.0

UNGRADED_LAYER: Final = "AI UNGRADED"
POINTS_LAYER: Final = "AI POINTS"
NOTICE_LAYER: Final = "AI NOTICE"
_GRADE_LAYERS: Final = ("AI GRADE 0", "AI GRADE 1", "AI GRADE 2", "AI GRADE 3")


def encode_presentation(
    analysis: Analysis,
    source: SourceImages,
    identity: ResultIdentity,
    stamp: Stamp,
    *,
    views: Sequence[VertebraView],
    canvas: Canvas,
    number: int = 1,
    language: Language = ENGLISH,
) -> FileDataset:
    """One presentation state.

    Args:
        views: at least one; all on images of `canvas`.
        number: 1 for the first state of the analysis.
        language: of labels and notice. Another language is another object of the same series.
    """
    dataset = new_object(
        source,
        identity,
        analysis.report.algorithms,
        stamp,
        kind=in_language(f"pr-{number}", language),
        sop_class_uid=ColorSoftcopyPresentationStateStorage
        if canvas.coloured
        else GrayscaleSoftcopyPresentationStateStorage,
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
    annotations = _annotations(views, images, canvas, language)
    dataset.GraphicAnnotationSequence = annotations
    dataset.GraphicLayerSequence = _layers({str(item.GraphicLayer) for item in annotations})
    settle_texts(dataset)
    return dataset


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
    """Displayed area, spatial transformation and grey scale (PS3.3 C.10.4, C.10.6, C.11)."""
    area = Dataset()
    rows, columns = canvas.shown_shape
    first, last = canvas.to_stored([(0.5, 0.5), (rows - 0.5, columns - 0.5)]) + 0.5
    # The pixels that stand in the corners once the image is turned, counted in the image as stored.
    area.DisplayedAreaTopLeftHandCorner = [round(first[1]), round(first[0])]
    area.DisplayedAreaBottomRightHandCorner = [round(last[1]), round(last[0])]
    area.PresentationSizeMode = "SCALE TO FIT"
    if canvas.spacing_mm is not None and canvas.at_patient:
        area.PresentationPixelSpacing = decimals(canvas.spacing_mm)
    else:
        # No spacing that a viewer would measure the patient with.
        area.PresentationPixelAspectRatio = _aspect_ratio(canvas.spacing_mm)
    dataset.DisplayedAreaSelectionSequence = [area]
    if canvas.pose != FilmPose():
        # Clockwise, before the flip (PS3.3 C.10.6), as in a pose.
        dataset.ImageRotation = -90 * canvas.pose.quarters % 360
        dataset.ImageHorizontalFlip = "Y" if canvas.pose.mirrored else "N"
    dataset.update(canvas.greys)


def _aspect_ratio(spacing_mm: tuple[float, float] | None) -> list[int]:
    """Height to width of a pixel in whole numbers."""
    if spacing_mm is None:
        return [1, 1]
    ratio = Fraction(spacing_mm[0] / spacing_mm[1]).limit_denominator(1000)
    return [ratio.numerator, ratio.denominator]


def _annotations(
    views: Sequence[VertebraView], images: Sequence[ImageReference], canvas: Canvas, language: Language
) -> list[Dataset]:
    """One item per image and layer (PS3.3 C.10.5)."""
    annotations = []
    for image in images:
        here = [view for view in views if view.image == image]
        for layer in dict.fromkeys(_layer(view.vertebra) for view in here):
            drawn = [view for view in here if _layer(view.vertebra) == layer]
            graphics = [item for view in drawn for item in _shapes(view)]
            annotations.append(_annotation(image, layer, graphics, labels(here, drawn, canvas, language)))
        points = [item for view in here for item in _points(view, canvas)]
        if points:
            annotations.append(_annotation(image, POINTS_LAYER, points, []))
        annotations.append(_annotation(image, NOTICE_LAYER, [], [notice(language)]))
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

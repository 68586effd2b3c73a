"""The measurement groups of a structured report (PS3.16 TID 1410, 1411 and 1501), one set per vertebra."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pydicom.dataset import Dataset

from dicom_ai_node.anatomy import Code, Level, code
from dicom_ai_node.presets import BoxShape
from dicom_ai_node.prior import PriorReport
from dicom_ai_node.report import HeightsMm, PlaneMeasures, SpineReport, Vertebra
from dicom_ai_node.results import codes
from dicom_ai_node.results.comparison import changes
from dicom_ai_node.results.content import (
    CONTAINS,
    HAS_CONCEPT_MOD,
    HAS_OBS_CONTEXT,
    INFERRED_FROM,
    box,
    coded,
    container,
    coordinates,
    image,
    number,
    polygon_in_space,
    text,
    uidref,
)
from dicom_ai_node.results.disease_groups import disease_evaluations, disease_measurements, region_of
from dicom_ai_node.results.explanations import explanations, in_english
from dicom_ai_node.results.follow_up import change_of_loss
from dicom_ai_node.results.identity import ResultIdentity
from dicom_ai_node.results.labels import label_text
from dicom_ai_node.results.language import ENGLISH, Language
from dicom_ai_node.results.source import ImageReference, SourceImages
from dicom_ai_node.results.views import VertebraView
from dicom_ai_node.results.wording import alternatives, class_shares, standing_out


@dataclass(frozen=True)
class SegmentReference:
    """One segment of a segmentation object, and the series that it was drawn on."""

    segmentation: ImageReference
    number: int
    source_series_uid: str
    has_own_frame: bool = True
    """On a film: the segment is a frame by itself (BINARY), or shares one with the others (LABELMAP)."""

    @classmethod
    def by_level(cls, segmentation: Dataset | None, source: SourceImages) -> dict[Level, SegmentReference]:
        """The segments of a segmentation that `seg.encode_segmentation` made; empty for None."""
        if segmentation is None:
            return {}
        reference = ImageReference(str(segmentation.SOPClassUID), str(segmentation.SOPInstanceUID))
        series = source.series[0][0]
        own_frame = segmentation.SegmentationType == "BINARY"
        return {
            Level(item.SegmentLabel): cls(reference, int(item.SegmentNumber), series, own_frame)
            for item in segmentation.SegmentSequence
            if item.SegmentNumber != segmentation.get("PixelPaddingValue")
        }


def measurement_groups(
    report: SpineReport,
    source: SourceImages,
    identity: ResultIdentity,
    segments: dict[Level, SegmentReference],
    views: Sequence[VertebraView],
    *,
    prior: PriorReport | None = None,
    language: Language = ENGLISH,
    shape: BoxShape = "closed",
) -> list[Dataset]:
    """All groups of a report, from head to tail; the groups of one vertebra stand together.

    Args:
        source: the images. Without a frame of reference no box is given in space; on a film no region has a
            volume: every group is planar.
        prior: the earlier report that this one is compared with.
        language: of texts.
        shape: how boxes are written.
    """
    regions = {view.vertebra.level: view for view in views if view.rows is not None}
    since = changes(report, prior)
    film, space = source.is_film, source.frame_of_reference_uid
    groups = []
    for vertebra in report:
        segment, region = segments.get(vertebra.level), regions.get(vertebra.level)
        lines = None if region is None or not film else _Lines.of(region)
        change = change_of_loss(since.get(vertebra.level), prior)
        statements = [
            *_measurements(vertebra, report, lines, source, shape),
            *disease_measurements(vertebra, source, lambda name: _algorithm(report, name), shape),
            *([] if change is None else [change]),
            *_evaluations(vertebra, language),
        ]
        head = [*_identification(vertebra, identity), *_algorithms(report)]
        if segment is not None:
            if film and region is not None:
                groups.append(_flat(head, segment, region, statements))
            else:
                groups.append(_volumetric(head, segment, statements))
            if region is not None:
                # OHIF makes a measurement of its own of a box that stands without numbers, and names it after
                # the comment.
                named = text(CONTAINS, codes.COMMENT, label_text(vertebra, language))
                groups.append(_planar([*_identification(vertebra, identity), named], region, shape, []))
        elif region is not None:
            groups.append(_planar(head, region, shape, statements))
        else:
            groups.append(container(codes.MEASUREMENT_GROUP, [*head, *statements], template="1501"))
        if film and region is not None:
            # After the box: readers that merge by tracking UID show the first region.
            groups += _outlines(vertebra, identity, region)
        if region is not None and region.corners_mm is not None and space is not None:
            # TID 1410 allows one region to a group: the same box in space is a group of its own.
            place = polygon_in_space(CONTAINS, codes.IMAGE_REGION, region.corners_mm, space)
            own = [*_identification(vertebra, identity), place]
            groups.append(container(codes.MEASUREMENT_GROUP, own, template="1410"))
    return groups


def _volumetric(head: Sequence[Dataset], segment: SegmentReference, statements: Sequence[Dataset]) -> Dataset:
    place = [
        image(CONTAINS, codes.REFERENCED_SEGMENT, segment.segmentation, segment=segment.number),
        uidref(CONTAINS, codes.SOURCE_SERIES_FOR_SEGMENTATION, segment.source_series_uid),
    ]
    return container(codes.MEASUREMENT_GROUP, [*head, *place, *statements], template="1411")


def _flat(
    head: Sequence[Dataset], segment: SegmentReference, region: VertebraView, statements: Sequence[Dataset]
) -> Dataset:
    """A segment on a film, whose one frame is a region of the plane."""
    # Every segment of a BINARY object is one frame, in the same order. A frame's number excludes the
    # segment's (PS3.3 table C.17.3-4); of a label map the segment is named instead.
    drawn, number = segment.segmentation, segment.number
    frame = replace(drawn, frame=number) if segment.has_own_frame else drawn
    named = None if segment.has_own_frame else number
    place = [
        image(CONTAINS, codes.REFERENCED_SEGMENTATION_FRAME, frame, segment=named),
        image(CONTAINS, codes.SOURCE_IMAGE_FOR_SEGMENTATION, region.image),
    ]
    return container(codes.MEASUREMENT_GROUP, [*head, *place, *statements], template="1410")


def _outlines(vertebra: Vertebra, identity: ResultIdentity, region: VertebraView) -> Iterable[Dataset]:
    """The body's outline: TID 1410 allows one region to a group."""
    for outline in region.outlines:
        place = coordinates(CONTAINS, codes.IMAGE_REGION, "POLYLINE", outline, region.image)
        head = _identification(vertebra, identity)
        yield container(codes.MEASUREMENT_GROUP, [*head, place], template="1410")


@dataclass(frozen=True)
class _Lines:
    """The coordinates that heights and their loss were measured with, as items (TID 320)."""

    heights: Sequence[Dataset]
    """Anterior, middle, posterior; each from its superior to its inferior point."""
    six_points: Dataset

    @classmethod
    def of(cls, region: VertebraView) -> _Lines | None:
        points = region.points
        if points is None:
            return None
        pairs = [
            coordinates(INFERRED_FROM, codes.SOURCE_OF_MEASUREMENT, "POLYLINE", pair, region.image)
            for pair in points.reshape(3, 2, 2)
        ]
        whole = coordinates(INFERRED_FROM, codes.SOURCE_OF_MEASUREMENT, "MULTIPOINT", points, region.image)
        return cls(pairs, whole)


def _planar(
    head: Iterable[Dataset], region: VertebraView, shape: BoxShape, statements: Sequence[Dataset]
) -> Dataset:
    assert region.rows is not None
    assert region.columns is not None
    place = box(codes.IMAGE_REGION, region.rows, region.columns, region.image, shape=shape)
    return container(codes.MEASUREMENT_GROUP, [*head, place, *statements], template="1410")


def _identification(vertebra: Vertebra, identity: ResultIdentity) -> Iterable[Dataset]:
    yield text(HAS_OBS_CONTEXT, codes.TRACKING_IDENTIFIER, vertebra.level.value)
    yield uidref(HAS_OBS_CONTEXT, codes.TRACKING_UID, identity.tracking_uid(vertebra.level.value))
    yield coded(CONTAINS, codes.FINDING, _finding(vertebra))
    yield coded(HAS_CONCEPT_MOD, codes.FINDING_SITE, code(vertebra.level))


def _finding(vertebra: Vertebra) -> Code:
    if vertebra.fractured is None:
        return codes.NORMALITY_UNDETERMINED
    if vertebra.fractured:
        return codes.COMPRESSION_FRACTURE
    strange = vertebra.genant_grade or vertebra.abnormal or vertebra.diseases
    return codes.ABNORMAL if strange else codes.NORMAL


def _algorithms(report: SpineReport) -> Iterable[Dataset]:
    """TID 4019: the report does not part who said what, so they are named together, in the same order."""
    if report.algorithms:
        names = "; ".join(item.name for item in report.algorithms)
        versions = "; ".join(item.version for item in report.algorithms)
        yield text(HAS_CONCEPT_MOD, codes.ALGORITHM_NAME, names)
        yield text(HAS_CONCEPT_MOD, codes.ALGORITHM_VERSION, versions)


_PERCENT_OF: Final = (
    (codes.HEIGHT_LOSS, "height_loss"),
    (codes.FRACTURE_PROBABILITY, "fracture_probability"),
)


def _measurements(
    vertebra: Vertebra, report: SpineReport, lines: _Lines | None, source: SourceImages, shape: BoxShape
) -> Iterable[Dataset]:
    # What decides comes first: viewers write the first few numbers on the image.
    for name, attribute in _PERCENT_OF:
        value = getattr(vertebra, attribute)
        if value is not None:
            drawn = [lines.six_points] if lines is not None and attribute == "height_loss" else []
            yield number(name, 100 * value, codes.PERCENT, drawn)
    if vertebra.heights_mm is not None:
        several = [_mean()] if sum(plane.counts for plane in vertebra.planes) > 1 else []
        yield from _heights(vertebra.heights_mm, code(vertebra.level), lines, several)
    yield number(codes.LEVEL_CONFIDENCE, 100 * vertebra.level_confidence, codes.PERCENT)
    for algorithm, classes in _acuities(vertebra):
        said_by = list(_algorithm(report, algorithm))
        for kind, share in classes.items():
            probability, likely = codes.ACUITIES[kind]
            yield number(
                probability,
                100 * share,
                codes.PERCENT,
                [coded(HAS_CONCEPT_MOD, codes.FINDING, likely), *said_by],
            )
    yield from _mr_measurements(vertebra, report, source, shape)
    if vertebra.mean_hu is not None:
        yield number(codes.ATTENUATION_COEFFICIENT, vertebra.mean_hu, codes.HOUNSFIELD, [_mean()])
    if len(vertebra.planes) > 1:
        # Last: what viewers write on the image is what counts.
        for plane in vertebra.planes:
            yield from _plane(plane, code(vertebra.level))


def _mean() -> Dataset:
    return coded(HAS_CONCEPT_MOD, codes.DERIVATION, codes.MEAN)


def _shown_best(vertebra: Vertebra, source: SourceImages, shape: BoxShape) -> list[Dataset]:
    """The vertebra on the slice that looks most malignant, whose probability is the vertebra's own (P4)."""
    seen = vertebra.seen_on.get("malignant")
    return [] if seen is None else list(region_of(seen, source, shape))


def _mr_measurements(
    vertebra: Vertebra, report: SpineReport, source: SourceImages, shape: BoxShape
) -> Iterable[Dataset]:
    """P4's probabilities, the features beside them that a reader can check, and the body's signal."""
    for algorithm, classes in vertebra.classes.items():
        if classes.keys() != codes.MALIGNANCIES.keys():
            continue
        said_by = list(_algorithm(report, algorithm))
        for key, share in classes.items():
            shown = _shown_best(vertebra, source, shape)
            yield number(codes.MALIGNANCIES[key], 100 * share, codes.PERCENT, [*said_by, *shown])
        for key, share in vertebra.features.items():
            yield number(codes.MR_FEATURES[key], 100 * share, codes.PERCENT, said_by)
    for series, against in vertebra.signal.items():
        for key, value in against.items():
            yield number(codes.SIGNALS[series, key], value, codes.RATIO)


def _heights(
    heights: HeightsMm, level: Code, lines: _Lines | None, derivation: Sequence[Dataset]
) -> Iterable[Dataset]:
    for place, (name, value, where) in enumerate(
        (
            (codes.ANTERIOR_HEIGHT, heights.anterior, codes.ANTERIOR),
            (codes.MIDDLE_HEIGHT, heights.middle, codes.MIDDLE),
            (codes.POSTERIOR_HEIGHT, heights.posterior, codes.POSTERIOR),
        )
    ):
        modifier = coded(HAS_CONCEPT_MOD, codes.TOPOGRAPHICAL_MODIFIER, where)
        site = coded(HAS_CONCEPT_MOD, codes.FINDING_SITE, level, [modifier])
        drawn = [] if lines is None else [lines.heights[place]]
        yield number(name, value, codes.MILLIMETRE, [site, *derivation, *drawn])
    yield number(codes.REFERENCE_HEIGHT, heights.reference, codes.MILLIMETRE)


def _plane(plane: PlaneMeasures, level: Code) -> Iterable[Dataset]:
    """Loss and heights of one sagittal plane, named after it; the site says the side too (TID 300)."""
    name = "MID" if plane.aside_mm == 0 else "LEFT" if plane.aside_mm > 0 else "RIGHT"
    side = codes.LATERALITIES.get(name)
    beside = [] if side is None else [coded(HAS_CONCEPT_MOD, codes.LATERALITY, side)]
    if plane.height_loss is not None:
        site = coded(HAS_CONCEPT_MOD, codes.FINDING_SITE, level, beside)
        yield number(codes.PLANE_LOSSES[name], 100 * plane.height_loss, codes.PERCENT, [site])
    for part, where in (
        ("anterior", codes.ANTERIOR),
        ("middle", codes.MIDDLE),
        ("posterior", codes.POSTERIOR),
    ):
        modifier = coded(HAS_CONCEPT_MOD, codes.TOPOGRAPHICAL_MODIFIER, where)
        site = coded(HAS_CONCEPT_MOD, codes.FINDING_SITE, level, [*beside, modifier])
        value = getattr(plane.heights_mm, part)
        yield number(codes.PLANE_HEIGHTS[name, part], value, codes.MILLIMETRE, [site])


def _acuities(vertebra: Vertebra) -> Iterable[tuple[str, Mapping[str, float]]]:
    """The algorithms that judged how old a fracture is or what caused it, with their probabilities."""
    for algorithm, classes in vertebra.classes.items():
        if classes and classes.keys() <= codes.ACUITIES.keys():
            yield algorithm, classes


def _algorithm(report: SpineReport, name: str) -> Iterable[Dataset]:
    """TID 4019 for the one algorithm that said so; nothing where the report does not list it."""
    for item in report.algorithms:
        if item.name == name:
            yield text(HAS_CONCEPT_MOD, codes.ALGORITHM_NAME, item.name)
            yield text(HAS_CONCEPT_MOD, codes.ALGORITHM_VERSION, item.version)


def _evaluations(vertebra: Vertebra, language: Language) -> Iterable[Dataset]:
    refused = vertebra.status == "not-analysable"
    yield coded(CONTAINS, codes.ANALYSABILITY, codes.NOT_ANALYSABLE if refused else codes.ANALYSED)
    if vertebra.genant_grade is not None:
        yield coded(CONTAINS, codes.GENANT_GRADE, codes.GENANT_GRADES[vertebra.genant_grade])
        severity = codes.SEVERITIES[vertebra.genant_grade]
        if severity is not None:
            yield coded(CONTAINS, codes.SEVERITY, severity)
    if vertebra.deformity is not None:
        yield coded(CONTAINS, codes.DEFORMITY, codes.DEFORMITIES[vertebra.deformity])
    if vertebra.acuity is not None:
        yield coded(CONTAINS, codes.ACUITY, codes.ACUITIES[vertebra.acuity[0]][1])
    if vertebra.malignant is not None:
        yield coded(CONTAINS, codes.MALIGNANCY, codes.MALIGNANT if vertebra.malignant else codes.BENIGN)
    yield from disease_evaluations(vertebra, language)
    for words in vertebra.abnormal:
        told = standing_out(words, language)
        if told is not None:
            yield text(CONTAINS, codes.COMMENT, language.stands_out.format(told))
        else:
            yield in_english(codes.COMMENT, ENGLISH.stands_out.format(words))
    yield from explanations(vertebra.reasons, language)
    other = alternatives(vertebra, language)
    if other is not None:
        yield text(CONTAINS, codes.COMMENT, other)
    for algorithm, classes in vertebra.classes.items():
        yield text(CONTAINS, codes.COMMENT, class_shares(algorithm, classes, language))

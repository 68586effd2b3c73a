"""What a measurement group says about diseases on sagittal CT slices (PS3.16 TID 300, 320 and 4019).

Each probability is inferred from a region: the vertebra's box on the slice that shows the disease best, or,
where the node cut that plane out of a volume, the same box in space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pydicom.dataset import Dataset

from dicom_ai_node.presets import BoxShape
from dicom_ai_node.report import SeenOn, Vertebra
from dicom_ai_node.results import codes
from dicom_ai_node.results.content import (
    CONTAINS,
    HAS_CONCEPT_MOD,
    INFERRED_FROM,
    box,
    coded,
    number,
    polygon_in_space,
    text,
)
from dicom_ai_node.results.disease_words import seen_on
from dicom_ai_node.results.language import Language
from dicom_ai_node.results.source import SourceImages

SaidBy = Callable[[str], Iterable[Dataset]]
"""Name of an algorithm -> items that identify it."""


def disease_measurements(
    vertebra: Vertebra, source: SourceImages, said_by: SaidBy, shape: BoxShape = "closed"
) -> Iterable[Dataset]:
    """The probability of each disease, and of none of them, with what it was seen on."""
    shares = vertebra.disease_shares
    if shares is None:
        return
    algorithm = next(name for name, classes in vertebra.classes.items() if classes is shares)
    for name, share in shares.items():
        probability, finding = codes.DISEASES[name]
        children = [coded(HAS_CONCEPT_MOD, codes.FINDING, finding), *said_by(algorithm)]
        seen = vertebra.seen_on.get(name)
        if seen is not None:
            children += region_of(seen, source, shape)
        yield number(probability, 100 * share, codes.PERCENT, children)


def disease_evaluations(vertebra: Vertebra, language: Language) -> Iterable[Dataset]:
    """The diseases that reached the threshold, and on how many slices they were seen."""
    for name in vertebra.diseases or ():
        yield coded(CONTAINS, codes.DISEASE, codes.DISEASES[name][1])
        words = seen_on(vertebra, name, language)
        if words:
            yield text(CONTAINS, codes.COMMENT, f"{language.classes[name]}: {words}")


def region_of(seen: SeenOn, source: SourceImages, shape: BoxShape) -> Iterable[Dataset]:
    """What a probability was inferred from: the box on the slice that shows it best, or in space."""
    image = None if seen.box_px is None else source.image_of(seen.box_px)
    if image is not None and seen.box_px is not None:
        # Pixel centres become the edges of pixels.
        rows, columns = ((first, last + 1.0) for first, last in (seen.box_px.rows, seen.box_px.columns))
        yield box(codes.SOURCE_OF_MEASUREMENT, rows, columns, image, shape=shape, relationship=INFERRED_FROM)
    elif seen.corners_mm is not None and source.frame_of_reference_uid is not None:
        yield polygon_in_space(
            INFERRED_FROM, codes.SOURCE_OF_MEASUREMENT, seen.corners_mm, source.frame_of_reference_uid
        )

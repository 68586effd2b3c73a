"""In which form one destination gets its results; what several destinations want alike is encoded once.

An object in another form is another object: it has UIDs of its own, derived from input, bundles, kind and
form. Compression makes no other object, only another transfer syntax.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    RLELossless,
    SegmentationStorage,
)

from dicom_ai_node.presets import PRESETS, BoxShape, Compression, ResultKind, SegmentationForm

SEGMENTATION_SOP_CLASSES: Final[dict[SegmentationForm, UID]] = {
    "binary": SegmentationStorage,
    # Label Map Segmentation Storage (PS3.6), newer than the dictionaries of our libraries.
    "labelmap": UID("1.2.840.10008.5.1.4.1.1.66.7"),
}
TRANSFER_SYNTAXES: Final[dict[Compression, UID]] = {
    "none": ExplicitVRLittleEndian,
    # One bit per pixel has no place in PS3.5 table 8.2.2-1: label maps alone are compressed this way.
    "rle": RLELossless,
    # The whole data set, so that any pixels can be in it, and older than every reader that is still in use;
    # Deflated Image Frame Compression (PS3.5 A.4.13) is known to hardly any.
    "deflated": DeflatedExplicitVRLittleEndian,
}


@dataclass(frozen=True)
class Rendition:
    """What one destination wants.

    Attributes:
        kinds: of results.
        segmentation: how the segmentation is made.
        compression: of the segmentation.
        box: how the report's boxes are drawn.
    """

    kinds: tuple[ResultKind, ...] = PRESETS["standard"].results
    segmentation: SegmentationForm = "binary"
    compression: Compression = "none"
    box: BoxShape = "closed"

    @property
    def segmentation_variant(self) -> str:
        """Names the segmentation's file among others."""
        return f"{self.segmentation}-{self.compression}"

    @property
    def report_variant(self) -> str:
        """Names the report's file among others: it refers to the segmentation beside it, or to none."""
        return f"{self.segmentation if 'seg' in self.kinds else 'alone'}-{self.box}"

    @property
    def beside_report(self) -> str:
        """What its report is derived for beyond language and boxes; empty for the usual one."""
        return {"binary": "", "labelmap": "labelmap"}[self.segmentation] if "seg" in self.kinds else "alone"

    def takes(self, kind: str, variant: str) -> bool:
        """Whether an object of this kind and variant is what the destination wants."""
        mine = {"seg": self.segmentation_variant, "sr": self.report_variant}.get(kind, "")
        return kind in self.kinds and variant in ("", mine)


def distinct(
    renditions: Sequence[Rendition], kind: ResultKind, variant: Callable[[Rendition], str]
) -> Iterable[Rendition]:
    """One rendition per variant of a kind; the first one of all where nobody wants the kind."""
    found: dict[str, Rendition] = {}
    for item in [item for item in renditions if kind in item.kinds] or renditions[:1]:
        found.setdefault(variant(item), item)
    return found.values()

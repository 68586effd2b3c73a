"""What results say, and in which form."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dicom_ai_node.config.section import Section
from dicom_ai_node.config.values import Bounds, Loss
from dicom_ai_node.presets import BoxShape, Compression, SegmentationForm


class ResultSettings(Section):
    """`[results]`: the language of what a human reads in a report, the height losses at which a Genant
    grade begins (Genant 1993), the signal on MR, over that of the neighbours, at which a body stands out
    (below the first, above the second), the probabilities from which on such a one is called malignant (P4)
    and a disease on sagittal CT slices is reported (P2), and the form that results have where a destination
    has no wish of its own.
    """

    language: Literal["en", "de", "fr", "es"] = "en"
    genant_mild: Loss = 0.20
    genant_moderate: Loss = 0.25
    genant_severe: Loss = 0.40
    signal_t1: Bounds = (0.7, 1.6)
    signal_t2: Bounds = (0.6, 1.7)
    signal_stir: Bounds = (0.0, 1.8)
    malignant_threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    disease_threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    segmentation: SegmentationForm = "binary"
    compression: Compression = "none"
    box: BoxShape = "closed"

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if not self.genant_mild < self.genant_moderate < self.genant_severe:
            raise ValueError("genant_mild, genant_moderate and genant_severe must rise in this order")
        return self

    @model_validator(mode="after")
    def _holdable(self) -> Self:
        check_compression(self.segmentation, self.compression)
        return self


def check_compression(segmentation: SegmentationForm, compression: Compression) -> None:
    """Refuses a compression that a form of segmentations cannot have.

    Raises:
        ValueError: with what to set instead.
    """
    if (segmentation, compression) == ("binary", "rle"):
        # PS3.5 table 8.2.2-1
        raise ValueError(
            'compression = "rle" cannot hold a binary segmentation (one bit per pixel); '
            'set segmentation = "labelmap", or compression = "deflated"'
        )

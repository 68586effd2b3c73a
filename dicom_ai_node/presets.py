"""Which results a viewer makes something of: what `[[destinations]] preset` in node.toml stands for.

A preset never decides against an explicit setting of the same destination. Whoever has a viewer that is not
among them names the kinds by `results`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

ResultKind = Literal["sr", "seg", "pr", "sc", "pdf", "reformat"]
SegmentationForm = Literal["binary", "labelmap"]
"""One bit plane per vertebra and slice (Segmentation Storage), or one number per pixel (Label Map
Segmentation Storage, PS3.3 A.51)."""
Compression = Literal["none", "rle", "deflated"]
"""Of the segmentation; both compressions lose nothing."""
BoxShape = Literal["closed", "open"]
"""Whether a box in the structured report says its first corner again at the end (five points) or not (four):
viewers differ in what they draw as a box."""
PresetName = Literal["standard", "ohif", "slicer", "weasis-horos", "plain-pacs"]


@dataclass(frozen=True)
class Preset:
    """What one sort of destination takes; None leaves the matter to `[results]`."""

    results: tuple[ResultKind, ...]
    segmentation: SegmentationForm | None = None
    compression: Compression | None = None
    box: BoxShape | None = None


PRESETS: Final[Mapping[PresetName, Preset]] = {
    "standard": Preset(("seg", "sr", "pr", "reformat")),
    # Shows SEG, the boxes of an SR on the reformat, and PDF; presentation states it does not open.
    "ohif": Preset(("seg", "sr", "reformat", "pdf"), "binary", "none", "closed"),
    # Loads SEG and TID 1500 SR by dcmqi, which reads one bit per pixel.
    "slicer": Preset(("seg", "sr", "reformat"), "binary", "none", "closed"),
    # Draw presentation states; a SEG would lie among the images as black pictures in Horos.
    "weasis-horos": Preset(("pr", "reformat", "sr", "sc", "pdf")),
    # Takes whatever is an image.
    "plain-pacs": Preset(("sc",)),
}

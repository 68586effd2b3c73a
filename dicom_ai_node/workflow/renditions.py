"""What each destination of the settings wants, as the encoders understand it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dicom_ai_node.config import Destination, ResultSettings, Settings
from dicom_ai_node.results.rendition import Rendition


def rendition_of(destination: Destination, defaults: ResultSettings) -> Rendition:
    """The destination's own wishes, its preset's, or those of `[results]`, in this order."""
    return Rendition(
        destination.results,
        destination.segmentation or defaults.segmentation,
        destination.compression or defaults.compression,
        destination.box or defaults.box,
    )


def renditions(settings: Settings) -> tuple[Rendition, ...]:
    """Every form in which results are needed; that of `[results]` where there is no destination."""
    wanted = (rendition_of(item, settings.results) for item in settings.destinations)
    own = settings.results
    return tuple(dict.fromkeys(wanted)) or (
        Rendition(segmentation=own.segmentation, compression=own.compression, box=own.box),
    )


def deliveries(objects: Sequence[Mapping[str, Any]], settings: Settings) -> dict[str, list[str]]:
    """Destination -> the files that it gets.

    Args:
        objects: as `handover.JobFolder` keeps them; those of an earlier version have no variant.
    """
    found = {}
    for destination in settings.destinations:
        wanted = rendition_of(destination, settings.results)
        found[destination.name] = [
            item["file"] for item in objects if wanted.takes(item["kind"], item.get("variant", ""))
        ]
    return found

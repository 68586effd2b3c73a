"""The vertebra that the chain says must be there, but that nobody saw."""

from __future__ import annotations

from dicom_ai_node.pipelines.labelling import NamedCentre
from dicom_ai_node.report import Reason, Vertebra


def unseen(link: NamedCentre) -> Vertebra:
    """A link of the chain without a body: named, placed between its neighbours, and not judged."""
    return Vertebra(
        level=link.level,
        level_confidence=link.confidence,
        level_alternatives=link.alternatives,
        center_mm=tuple(float(value) for value in link.center_mm),
        status="not-analysable",
        reasons=(Reason("model-refused", f"{link.level} must lie here, but no body was recognised."),),
    )

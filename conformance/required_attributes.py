"""Makes `results/required_attributes.json` from the tables of PS3.3 that highdicom carries.

Run as `python -m conformance.required_attributes`; a test fails where the file is not what this makes.
"""

from __future__ import annotations

import json
import pkgutil
from pathlib import Path
from typing import Any, Final

TARGET: Final = (
    Path(__file__).resolve().parent.parent / "dicom_ai_node" / "results" / "required_attributes.json"
)

SOP_CLASSES: Final = {
    "1.2.840.10008.5.1.4.1.1.66.4": (
        "segmentation",
        ("enhanced-general-equipment", "common-instance-reference"),
    ),
    # The tables are older than the label map, which shares its modules with the bit planes (PS3.3 A.51).
    "1.2.840.10008.5.1.4.1.1.66.7": (
        "segmentation",
        ("enhanced-general-equipment", "common-instance-reference"),
    ),
    "1.2.840.10008.5.1.4.1.1.104.1": ("encapsulated-pdf", ()),
    "1.2.840.10008.5.1.4.1.1.88.34": ("comprehensive-3d-sr", ()),
    "1.2.840.10008.5.1.4.1.1.11.1": (
        "grayscale-softcopy-presentation-state",
        ("graphic-annotation", "graphic-layer", "softcopy-voi-lut"),
    ),
    "1.2.840.10008.5.1.4.1.1.11.2": (
        "color-softcopy-presentation-state",
        ("graphic-annotation", "graphic-layer"),
    ),
    "1.2.840.10008.5.1.4.1.1.2": ("ct-image", ("general-reference", "voi-lut")),
    "1.2.840.10008.5.1.4.1.1.4": ("mr-image", ("general-reference", "voi-lut")),
    "1.2.840.10008.5.1.4.1.1.7": ("secondary-capture-image", ("general-equipment",)),
}
"""SOP class -> IOD, and the conditional or optional modules of it that our objects have."""

WRITTEN_SEQUENCES: Final = frozenset(
    {
        "ContributingEquipmentSequence",
        "CodingSchemeIdentificationSequence",
        "CurrentRequestedProcedureEvidenceSequence",
        "DerivationCodeSequence",
        "DimensionIndexSequence",
        "DimensionOrganizationSequence",
        "DisplayedAreaSelectionSequence",
        "GraphicAnnotationSequence",
        "GraphicLayerSequence",
        "ReferencedRequestSequence",
        "ReferencedSeriesSequence",
        "SegmentSequence",
        "SoftcopyVOILUTSequence",
        "SourceImageSequence",
    }
)
"""What our encoders write; sequences that are copied from the source are the source's affair. Functional
groups may stand in either of two places and are checked apart.
"""


def table() -> dict[str, list[list[Any]]]:
    """SOP Class UID -> [type, path of sequences, keyword], of type 1 and 2 attributes."""
    modules = _highdicom("iod_module_map.json")
    attributes = _highdicom("module_attribute_map.json")
    result = {}
    for uid, (iod, also) in SOP_CLASSES.items():
        rows = set()
        for module in modules[iod]:
            wanted = module["usage"] == "M" or module["key"] in also
            # What a content item needs depends on its value type: checked by code.
            if not wanted or module["key"] == "sr-document-content":
                continue
            for attribute in attributes[module["key"]]:
                path = attribute["path"]
                if attribute["type"] in {"1", "2"} and (not path or path[0] in WRITTEN_SEQUENCES):
                    rows.add((attribute["type"], "/".join(path), attribute["keyword"]))
        # An attribute that one module needs more than another counts as the stricter one says.
        strict = {row[1:] for row in rows if row[0] == "1"}
        kept = [row for row in rows if row[0] == "1" or row[1:] not in strict]
        result[uid] = [list(row) for row in sorted(kept, key=lambda row: (row[1], row[2]))]
    return result


def written(rows: dict[str, list[list[Any]]]) -> str:
    """The table as the file holds it: one attribute a line."""
    blocks = []
    for uid, attributes in rows.items():
        lines = ",\n".join(f"  {json.dumps(attribute)}" for attribute in attributes)
        blocks.append(f" {json.dumps(uid)}: [\n{lines}\n ]")
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def _highdicom(name: str) -> Any:
    data = pkgutil.get_data("highdicom", f"_standard/{name}")
    assert data is not None
    return json.loads(data)


if __name__ == "__main__":
    TARGET.write_text(written(table()), encoding="utf-8")

"""One study of the conformance suite through every validator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conformance import checks
from conformance.cases import Encoded, encoded
from dicom_ai_node.errors import EncodingError
from dicom_ai_node.results.validate import validate

COLUMNS: Final = (
    "own checks",
    "dciodvfy",
    "dcmpschk",
    "dsrdump",
    "dcmqi masks",
    "dcmqi numbers",
    "highdicom",
    "round trip",
)

BEYOND_DCMQI: Final = frozenset({"axial, gantry tilted 20 degrees back"})
"""Series that are sheared towards lower rows: dcmqi, whose images cannot be sheared, counts rows from the
first slice and says that the others lie outside. Highdicom reads the same masks."""


@dataclass(frozen=True)
class Row:
    """What all validators say of one study.

    Attributes:
        objects: the kinds of its results.
        cells: column -> "ok", "-" where the check does not apply, "missing", or the number of complaints.
    """

    name: str
    objects: tuple[str, ...]
    cells: dict[str, str]
    complaints: tuple[str, ...]
    missing: frozenset[str]


def examine(name: str, folder: Path) -> Row:
    """Makes the study of that name below `folder`, encodes its results and shows them to everyone."""
    made = encoded(name, folder)
    applicable = _checks(name, made)
    cells: dict[str, str] = {}
    complaints: list[str] = []
    missing: set[str] = set()
    for column in COLUMNS:
        check = applicable.get(column)
        if check is None:
            cells[column] = "-"
            continue
        try:
            found = check()
        except checks.ToolMissing as error:
            missing.add(str(error))
            cells[column] = "missing"
            continue
        except Exception as error:
            # A reader that fails is a complaint like any other.
            found = [f"{type(error).__name__}: {error}"]
        cells[column] = "ok" if not found else f"{len(found)}"
        complaints += [f"{name}, {column}: {words}" for words in found]
    return Row(name, tuple(item.kind for item in made.objects), cells, tuple(complaints), frozenset(missing))


def _checks(name: str, made: Encoded) -> dict[str, Callable[[], list[str]]]:
    """Column -> the check; columns that do not apply are left out."""
    objects, folder = made.objects, made.folder
    states = [item.path for item in objects if item.kind == "pr"]
    applicable: dict[str, Callable[[], list[str]]] = {
        "own checks": lambda: _own(made),
        "dciodvfy": lambda: [
            f"{item.path.name}: {words}" for item in objects for words in checks.dciodvfy(item.path)
        ],
        # DCMTK 3.6.7 reads no report that points at a label map, whose SOP class it does not know.
        "dsrdump": lambda: checks.dsrdump(folder / "sr.dcm"),
        "highdicom": lambda: checks.highdicom_reads(folder),
        "round trip": lambda: [
            words for item in objects for words in checks.same_bytes_through_pydicom(item.path)
        ],
    }
    if states:
        applicable["dcmpschk"] = lambda: [words for path in states for words in checks.dcmpschk(path)]
    if any(item.kind == "seg" for item in objects):
        judged = any(item.disease_shares for item in made.analysis.report)
        if made.analysis.prior is None and not judged:
            # What changed, and diseases with a region of their own, are numbers more than are compared.
            applicable["dcmqi numbers"] = lambda: checks.same_numbers(made, folder / "sr.dcm")
        if made.source.volume is not None and name not in BEYOND_DCMQI:
            # dcmqi places segments in a frame of reference, which a film has not.
            drawn = [item.path for item in objects if item.kind == "seg"]
            applicable["dcmqi masks"] = lambda: [
                words for path in drawn for words in checks.same_masks(made, path)
            ]
    return applicable


def _own(made: Encoded) -> list[str]:
    try:
        validate(list(made.objects))
    except EncodingError as error:
        return [str(error)]
    return []

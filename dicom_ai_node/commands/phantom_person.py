"""Who a phantom is: the fractures and diseases that the command line asks for, and the person with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, get_args

import typer

from dicom_ai_node.anatomy import Level
from dicom_ai_node.report import Deformity

if TYPE_CHECKING:
    from dicom_ai_node.phantom.disease import Disease
    from dicom_ai_node.phantom.spine import Spine

Fractures = Mapping[Level, tuple[Deformity, int]]


class Amount(StrEnum):
    """How much of something a person has."""

    NONE = "none"
    REALISTIC = "realistic"
    RICH = "rich"


@dataclass(frozen=True)
class PersonWish:
    """What is asked of a person; chance decides the rest, by the seed.

    Attributes:
        fractures: exactly these; None leaves them to chance, an empty mapping is a spine without any.
        diseases: how many by chance, or exactly these.
        degeneration: wear of discs, endplates and joints.
    """

    fractures: Fractures | None = None
    diseases: Amount | Mapping[Level, tuple[Disease, ...]] = Amount.NONE
    degeneration: Amount = Amount.NONE

    @property
    def shown(self) -> frozenset[Level]:
        """The levels that the images must show."""
        ill = self.diseases if isinstance(self.diseases, Mapping) else {}
        return frozenset(self.fractures or {}) | frozenset(ill)


@dataclass(frozen=True)
class SeriesEntry:
    """What `study.json` says of one series.

    Attributes:
        kind: what it shows.
        modality: "CT", "DX", "CR" or "MR".
        folder: of its files, relative to the file that names it, as all paths are.
        files: how many.
        route: the kind of series that a node analyses it as: "ct", "radiograph" or "mr"; None where no
            node should.
        pipeline: what this version of the node runs on it; None where it is refused.
        why: in words.
        truth: file of the truth.
        labels: files of the label maps on its grid.
        study_instance_uid, series_instance_uid: as its files say.
    """

    kind: str
    modality: str
    folder: str
    files: int
    route: str | None
    pipeline: str | None
    why: str
    truth: str
    labels: tuple[str, ...] = ()
    study_instance_uid: str = ""
    series_instance_uid: str = ""


def person(seed: int, wish: PersonWish) -> Spine:
    """Draw the person.

    Raises:
        typer.BadParameter: this person cannot have such a fracture or disease.
    """
    # Imported here: the command's help and refusals need no torch.
    from dicom_ai_node.phantom.spine import SpineOptions, sample_spine  # noqa: PLC0415

    worn = wish.degeneration is not Amount.NONE
    options = SpineOptions(
        diseases=wish.diseases.value if isinstance(wish.diseases, Amount) else wish.diseases,
        degeneration=wish.degeneration.value,
        sacralised=None if worn else False,
        uncinate=worn,
    )
    try:
        return sample_spine(seed, fractures=wish.fractures, options=options)
    except ValueError as error:
        raise typer.BadParameter(f"seed {seed}: {error}", param_hint="--fracture, --disease") from error


def parse_fractures(texts: Sequence[str]) -> Fractures | None:
    """``["L1:wedge:2"]`` as `sample_spine` takes it; ``["none"]`` is an empty mapping, no text None.

    Raises:
        typer.BadParameter: a text that names no fracture, or one level twice.
    """
    if not texts:
        return None
    if list(texts) == ["none"]:
        return {}
    found: dict[Level, tuple[Deformity, int]] = {}
    kinds = {kind: kind for kind in get_args(Deformity) if kind != "none"}
    for text in texts:
        level, _, rest = text.partition(":")
        kind, _, grade = rest.partition(":")
        if level not in set(Level) or kind not in kinds or grade not in {"1", "2", "3"}:
            raise typer.BadParameter(
                f"{text!r} is no fracture; write LEVEL:TYPE:GRADE, such as L1:wedge:2, with a type of "
                f"{', '.join(kinds)} and a grade of 1, 2 or 3",
                param_hint="--fracture",
            )
        if Level(level) in found:
            raise typer.BadParameter(f"{level} can break in one way only", param_hint="--fracture")
        found[Level(level)] = (kinds[kind], int(grade))
    return found


def parse_diseases(texts: Sequence[str]) -> dict[Level, tuple[Disease, ...]]:
    """``["L1:KD", "L1:PS", "T12:malignant"]`` as {level: diseases}.

    Raises:
        typer.BadParameter: a text that names no level and disease.
    """
    from dicom_ai_node.phantom.disease import Disease  # noqa: PLC0415

    names = {disease.value.lower(): disease for disease in Disease}
    found: dict[Level, tuple[Disease, ...]] = {}
    for text in texts:
        level, _, name = text.partition(":")
        if level not in set(Level) or name.lower() not in names:
            raise typer.BadParameter(
                f"{text!r} is no disease; write LEVEL:DISEASE, such as L1:KD, with a disease of "
                f"{', '.join(disease.value for disease in Disease)}",
                param_hint="--disease",
            )
        place = Level(level)
        if names[name.lower()] not in found.get(place, ()):
            found[place] = (*found.get(place, ()), names[name.lower()])
    return found


def in_words(vertebrae: Sequence[Mapping[str, object]]) -> str:
    """``L1 wedge 2 (OVCF), T12 (SN)`` of the entries of a truth, ``no fracture or disease`` where none."""
    words = []
    for item in vertebrae:
        diseases = item.get("disease")
        ill = f" ({', '.join(map(str, diseases))})" if isinstance(diseases, list) and diseases else ""
        broken = f" {item['deformity']} {item['genant_grade']}" if item["fractured"] else ""
        if ill or broken:
            words.append(f"{item['level']}{broken}{ill}")
    return ", ".join(words) or "no fracture or disease"

"""What an earlier report of this node said about the same patient, as far as a new one compares with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, Self

from dicom_ai_node.anatomy import Level


@dataclass(frozen=True)
class PriorVertebra:
    """One vertebra of the earlier report.

    Attributes:
        tracking_uid: Tracking Unique Identifier (112040, DCM); later reports carry it on.
        height_loss: 0 to 1; None where it was not measured.
        fractured: None where that was not judged.
    """

    level: Level
    tracking_uid: str
    height_loss: float | None
    fractured: bool | None


@dataclass(frozen=True)
class PriorReport:
    """An earlier report, and where it lies.

    Attributes:
        study_date: of the study that it speaks of; None where the report does not say.
        modality: of the images that it speaks of, as "CT"; empty where it does not say.
        level_uncertain: it said that its vertebrae may be numbered otherwise.
    """

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    study_date: date | None
    modality: str
    level_uncertain: bool
    vertebrae: tuple[PriorVertebra, ...]

    def __iter__(self) -> Iterator[PriorVertebra]:
        return iter(self.vertebrae)

    def of(self, level: Level) -> PriorVertebra | None:
        """What it said about a vertebra."""
        return next((item for item in self.vertebrae if item.level is level), None)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        plain = asdict(self)
        plain["study_date"] = None if self.study_date is None else self.study_date.isoformat()
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """What `to_dict` wrote."""
        day = data["study_date"]
        vertebrae = (PriorVertebra(**{**item, "level": Level(item["level"])}) for item in data["vertebrae"])
        return cls(
            **{
                **data,
                "study_date": None if day is None else date.fromisoformat(day),
                "vertebrae": tuple(vertebrae),
            }
        )

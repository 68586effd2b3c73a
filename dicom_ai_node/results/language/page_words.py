"""What stands on the page of the report beside the findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PageWords:
    """Headings and fixed sentences of the page.

    Attributes:
        sexes: Patient's Sex (0010,0040) -> word.
        modalities: what was examined, by Modality (0008,0060).
        fractured, one_fractured, unbroken: the headline.
    """

    title: str
    name: str
    birth_date: str
    sex: str
    sexes: Mapping[str, str]
    patient_id: str
    accession: str
    study_date: str
    examined: str
    modalities: Mapping[str, str]
    images: str
    one_image: str
    impression: str
    fractured: str
    one_fractured: str
    malignant: str
    unbroken: str
    picture: str
    table: str
    level: str
    finding: str
    grade: str
    loss: str
    heights: str
    rest: str
    remarks: str
    disclaimer: str
    made_by: str

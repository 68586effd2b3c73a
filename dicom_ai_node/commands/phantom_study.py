"""`dicom-ai-node phantom --kind study`: one person as a PACS holds them, seen by all three modalities.

A case is a folder with a folder per examination, ``ct/``, ``radiograph/`` and ``mr/``, each as its own kind
writes it. As in a hospital each examination is ordered by itself: a DICOM study with its own UID, accession
number and day (films and CT, MR three days later), all of one patient. ``study.json`` lists every series:
what it shows, its folder, truth and label maps, the kind of series that it is analysed as (``route``, null
where no node should), the ``pipeline`` that this version runs on it, and ``why``; see
`phantom_person.SeriesEntry`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from dicom_ai_node.commands.phantom_ct import write_ct_study
from dicom_ai_node.commands.phantom_mr import write_mr_case
from dicom_ai_node.commands.phantom_person import PersonWish, SeriesEntry
from dicom_ai_node.commands.phantom_radiograph import write_radiograph_case

SCHEMA: Final = "dicom-ai-node/study/1"

_FILMS: Final = (
    ("lateral", "radiograph", "truth.json", "a lateral radiograph"),
    (
        "frontal",
        None,
        "truth-frontal.json",
        "a frontal radiograph: the view is seen in the image, and a report says that heights are read off "
        "lateral ones",
    ),
)
"""View, route, truth and why."""

_MR: Final = {
    "localizer": "planes that cross: a localizer",
    "t2": "sagittal MR: the study's report lies on its T2",
}


def write_study_case(folder: Path, seed: int, wish: PersonWish) -> str:
    """One person's CT, radiographs and MR.

    Returns:
        One line about what was written.

    Raises:
        typer.BadParameter: this person cannot have such a fracture or disease.
    """
    series = [_within("ct", entry) for entry in write_ct_study(folder / "ct", seed, wish)]
    line = write_radiograph_case(folder / "radiograph", seed, wish)
    for view, route, truth, why in _FILMS:
        place = f"dicom/{view}"
        entry = SeriesEntry(f"{view} radiograph", "", place, 1, route, "radiograph", why, truth)
        series.append(_within("radiograph", entry))
    write_mr_case(folder / "mr", seed, wish)
    for item in json.loads((folder / "mr" / "series.json").read_text())["series"]:
        kind, place, files, truth = (item[key] for key in ("kind", "folder", "files", "truth"))
        maps = [path for name in ("labels", "whole", "structures", "lesions") for path in item[name]]
        route = None if kind == "localizer" else "mr"
        pipeline = "mri" if kind == "t2" else None
        why = _MR.get(kind, "sagittal MR: analysed together with the T2")
        entry = SeriesEntry(kind, "", place, files, route, pipeline, why, truth, tuple(maps))
        series.append(_within("mr", entry))
    listed = [asdict(_identified(folder, entry)) for entry in series]
    text = json.dumps({"schema": SCHEMA, "seed": seed, "series": listed}, indent=2)
    (folder / "study.json").write_text(text + "\n")
    findings = line.rsplit(": ", 1)[-1]
    return f"{folder}: {len(series)} series of CT, radiograph and MR; {findings}"


def _within(part: str, entry: SeriesEntry) -> SeriesEntry:
    return replace(
        entry,
        folder=f"{part}/{entry.folder}",
        truth=f"{part}/{entry.truth}",
        labels=tuple(f"{part}/{path}" for path in entry.labels),
    )


def _identified(folder: Path, entry: SeriesEntry) -> SeriesEntry:
    """With what its files say of themselves."""
    from pydicom import dcmread  # noqa: PLC0415

    header = dcmread(min((folder / entry.folder).iterdir()), stop_before_pixels=True)
    return replace(
        entry,
        modality=str(header.Modality),
        study_instance_uid=str(header.StudyInstanceUID),
        series_instance_uid=str(header.SeriesInstanceUID),
    )

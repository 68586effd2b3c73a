"""`dicom-ai-node phantom --kind study`: one person as a PACS holds them, seen by all three modalities.

A case is a folder with a folder per examination, ``ct/``, ``radiograph/`` and ``mr/``, each as its own kind
writes it; an examination is a DICOM study with its own UID, the patient is the same in all three, as in a
hospital. ``study.json`` lists every series: folder, kind, modality, number of files, the pipeline that the
node routes it to (null where it refuses it), and why.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

from dicom_ai_node.commands.phantom_ct import write_ct_study
from dicom_ai_node.commands.phantom_mr import write_mr_case
from dicom_ai_node.commands.phantom_person import PersonWish, SeriesEntry, patient_name
from dicom_ai_node.commands.phantom_radiograph import write_radiograph_case

_NO_PIPELINE = "no pipeline in this version"


def write_study_case(folder: Path, seed: int, wish: PersonWish) -> str:
    """One person's CT, radiographs and MR.

    Returns:
        One line about what was written.

    Raises:
        typer.BadParameter: this person cannot have such a fracture or disease.
    """
    series = [_within("ct", entry) for entry in write_ct_study(folder / "ct", seed, wish)]
    line = write_radiograph_case(folder / "radiograph", seed, wish)
    series += [
        SeriesEntry(f"{view} radiograph", "DX", f"radiograph/dicom/{view}", 1, None, _NO_PIPELINE)
        for view in ("lateral", "frontal")
    ]
    write_mr_case(folder / "mr", seed, wish, patient_name=patient_name(seed))
    about = json.loads((folder / "mr" / "series.json").read_text())["series"]
    series += [
        SeriesEntry(item["kind"], "MR", f"mr/{item['folder']}", item["files"], None, _NO_PIPELINE)
        for item in about
    ]
    text = json.dumps({"seed": seed, "series": [asdict(entry) for entry in series]}, indent=2)
    (folder / "study.json").write_text(text + "\n")
    findings = line.rsplit(": ", 1)[-1]
    return f"{folder}: {len(series)} series of CT, radiograph and MR; {findings}"


def _within(part: str, entry: SeriesEntry) -> SeriesEntry:
    return replace(entry, folder=f"{part}/{entry.folder}")

"""Steps that take milliseconds: a real report and real DICOM objects about the input, no image analysis.

What they do is steered by words in SeriesDescription: `refuse` (cannot be analysed), `busy` (asks to be asked
again, twice), `broken` (fails), `invalid` (its report is none by the node's own validation), `die` (ends the
analysis process, the first time), `slow` (takes a second), `films` (two reports, L1 and L2).
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ExplicitVRLittleEndian,
    RawDataStorage,
    SegmentationStorage,
)

from dicom_ai_node.anatomy import Level
from dicom_ai_node.config import Settings
from dicom_ai_node.errors import EncodingError, NotAnalysable, TransientError
from dicom_ai_node.report import Analysis, Source, SpineReport, Vertebra
from dicom_ai_node.results import validate as results
from dicom_ai_node.workflow.handover import in_film
from dicom_ai_node.workflow.steps import Progress, Steps

KINDS = {"sr": BasicTextSRStorage, "seg": SegmentationStorage, "pr": RawDataStorage}


@dataclass(frozen=True)
class Written:
    kind: str
    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    variant: str = ""


def fast_steps(
    settings: Settings,
    *,
    secondary_capture: bool = False,
    page: bool = False,
) -> Steps:
    return Steps(
        lambda _pipeline, paths, progress: analyse(settings, paths, progress),
        encode,
        validate,
        lambda paths: paths,
    )


def analyse(settings: Settings, paths: Sequence[Path], progress: Progress) -> tuple[Analysis, Any]:
    headers = [dcmread(path, stop_before_pixels=True) for path in paths]
    words = str(headers[0].get("SeriesDescription", "")).split()
    once = settings.storage.folder / f"seen-{headers[0].SeriesInstanceUID}"
    seen = int(once.read_text()) if once.exists() else 0
    once.write_text(str(seen + 1))
    if "refuse" in words:
        raise NotAnalysable("coverage", "the field of view ends at T12; send the lumbar spine")
    if "busy" in words and seen < 2:
        raise TransientError("the device is out of memory")
    if "broken" in words:
        raise RuntimeError("the analysis has a fault")
    if "die" in words and seen < 1:
        os._exit(9)
    for number in range(4):
        time.sleep(0.25 if "slow" in words else 0.01)
        progress("localise", (number + 1) / 4)
    source = Source(str(headers[0].StudyInstanceUID), (str(headers[0].SeriesInstanceUID),), "CT", None)
    levels = (Level.L1, Level.L2) if "films" in words else (Level.L1,)
    vertebrae = [Vertebra(level, 0.9, mean_hu=float(len(paths))) for level in levels]
    reports = [SpineReport("analysed", source, vertebrae=(vertebra,)) for vertebra in vertebrae]
    return Analysis.joined([Analysis(report) for report in reports]), tuple(paths)


def encode(analysis: Analysis, paths: Any, folder: Path) -> list[Written]:
    instances = sorted(str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in paths)
    time.sleep(0.02)
    (folder / "report.json").write_text(analysis.report.to_json())
    for film, colour in enumerate(("navy", "maroon")[: len(analysis.each)], start=1):
        Image.new("RGB", (64, 96), colour).save(folder / in_film("overlay.png", film))
    words = str(dcmread(paths[0], stop_before_pixels=True).get("SeriesDescription", "")).split()
    kinds = KINDS | ({"sr": Comprehensive3DSRStorage} if "invalid" in words else {})
    patient = str(dcmread(paths[0], stop_before_pixels=True).PatientID)
    return [write(kind, uid, analysis.report, instances, patient, folder) for kind, uid in kinds.items()]


def write(  # noqa: PLR0917 - all that an object says
    kind: str,
    sop_class_uid: str,
    report: SpineReport,
    instances: Sequence[str],
    patient: str,
    folder: Path,
) -> Written:
    seed = hashlib.sha256("\n".join([kind, *instances]).encode()).digest()[:16]
    uid = f"2.25.{int.from_bytes(seed)}"
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class_uid, uid
    dataset.StudyInstanceUID = report.source.study_instance_uid
    dataset.SeriesInstanceUID = f"{uid}.1"[:64]
    dataset.Modality = {"sr": "SR", "seg": "SEG", "pr": "OT"}[kind]
    dataset.PatientID, dataset.PatientName = patient, "Test^Spine"
    dataset.SeriesDescription = f"{report.status} from {len(instances)} instances"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = sop_class_uid
    dataset.file_meta.MediaStorageSOPInstanceUID = uid
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = folder / f"{kind}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return Written(kind, path, str(sop_class_uid), uid)


def validate(objects: Sequence[Any]) -> None:
    results.validate([item for item in objects if item.sop_class_uid == Comprehensive3DSRStorage])
    for item in objects:
        if dcmread(item.path).SOPInstanceUID != item.sop_instance_uid:
            raise EncodingError(f"{item.path.name} holds another instance than its record says")

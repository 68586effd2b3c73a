"""`bench encode`: the segmentation of a whole spine CT, beside dcmqi on the same label map in the same run.

Both start from files: the series on disk, and the label map in memory (dcmqi: as NIfTI). What is timed ends
with the object on disk.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from rich.console import Console

from dicom_ai_node.anatomy import Code, code, level_of_verse_label
from dicom_ai_node.commands.bench import Measured
from dicom_ai_node.errors import EncodingError
from dicom_ai_node.presets import Compression, SegmentationForm
from dicom_ai_node.results import codes

if TYPE_CHECKING:
    from dicom_ai_node.report import Analysis
    from dicom_ai_node.results.source import SourceSeries

SEED: Final = 3
SLICES, EDGE = 324, 512
DCMQI: Final = "itkimage2segimage"
_REPEATS: Final = 3

FORMS: Final[dict[str, tuple[SegmentationForm, Compression]]] = {
    "BINARY": ("binary", "none"),
    "BINARY deflated": ("binary", "deflated"),
    "LABELMAP": ("labelmap", "none"),
    "LABELMAP RLE": ("labelmap", "rle"),
    "LABELMAP deflated": ("labelmap", "deflated"),
}


def measure(console: Console) -> Measured:
    """Encode one label map in every form, here and by dcmqi.

    Returns:
        For each form the least of three runs in processor and wall seconds, and the size in megabytes; the
        ratios of dcmqi's BINARY to each.
    """
    with tempfile.TemporaryDirectory(prefix="dicom-ai-node-bench-") as place:
        folder = Path(place)
        console.print(f"making a CT of {SLICES} slices", markup=False)
        analysis, paths = _phantom(folder)
        ours: dict[str, float] = {}
        theirs: dict[str, float] = {}
        peer = _dcmqi(folder, analysis, paths)
        for name, (form, compression) in FORMS.items():
            console.print(f"encoding {name}", markup=False)
            target = folder / "ours.dcm"
            ours |= _timed(name, target, _encoder(analysis, paths, target, form, compression))
            if peer is not None and compression != "rle":
                target = folder / "theirs.dcm"
                theirs |= _timed(name, target, peer(target, form, compression))
        ratios = {}
        if theirs:
            for name in FORMS:
                for unit in ("processor s", "wall s"):
                    if f"{name}, {unit}" in theirs:
                        key = f"{name}: {unit} of dcmqi over ours"
                        ratios[key] = theirs[f"{name}, {unit}"] / ours[f"{name}, {unit}"]
            for name in FORMS:
                ratios[f"{name}: size over that of dcmqi's BINARY"] = (
                    ours[f"{name}, MB"] / theirs["BINARY, MB"]
                )
        else:
            console.print(f"{DCMQI} is not installed: measured without its peer", markup=False)
    return Measured("encode", ours, {"dcmqi": theirs} if theirs else {}, ratios)


def _phantom(folder: Path) -> tuple[Analysis, list[Path]]:
    """One person's CT on disk with the true label map."""
    # Imported here: loading torch takes seconds.
    from dicom_ai_node.imaging.volume import load_volume  # noqa: PLC0415
    from dicom_ai_node.imaging.write_ct import write_ct_series  # noqa: PLC0415
    from dicom_ai_node.phantom.ct import CtAcquisition, render_ct  # noqa: PLC0415
    from dicom_ai_node.phantom.spine import SpineOptions, sample_spine  # noqa: PLC0415
    from dicom_ai_node.report import (  # noqa: PLC0415
        Algorithm,
        Analysis,
        LabelMap,
        Source,
        SpineReport,
        Vertebra,
    )

    spine = sample_spine(SEED, options=SpineOptions(diseases="realistic", degeneration="realistic"))
    # A quarter of the pixels is drawn, each of them four times as large as those of the files.
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = -1.2, 1.4, 1.4, 1.0
    trunk = spine.trunk.frame[:3, 3]
    affine[:3, 3] = [trunk[0] - 179.0, trunk[1] - 250.0, float(spine.vertebrae[8].frame[2, 3])]
    case = render_ct(spine, CtAcquisition((SLICES, EDGE // 2, EDGE // 2), affine, 1.2))
    hu, labels = (item.repeat(2, axis=1).repeat(2, axis=2) for item in (case.hu, case.labels))
    fine = affine.copy()
    fine[:3, 1:3] /= 2
    fine[:3, 3] -= fine[:3, 1:3].sum(axis=1) / 2
    paths = write_ct_series(hu, fine, folder / "series")
    volume = load_volume(paths)
    # The volume has its own order of slices.
    turned = labels[::-1] if volume.affine[2, 0] * fine[2, 0] < 0 else labels
    bodies = sorted(set(np.unique(turned).tolist()) - {0})
    report = SpineReport(
        "analysed",
        Source(volume.study_instance_uid, (volume.series_instance_uid,), "CT", volume.frame_of_reference_uid),
        algorithms=(Algorithm("phantom", "1", "0" * 64, "2.25.1"),),
        vertebrae=tuple(Vertebra(level_of_verse_label(label), 1.0) for label in bodies),
    )
    return Analysis(report, LabelMap(np.ascontiguousarray(turned), volume.affine)), paths


def _encoder(
    analysis: Analysis, paths: Sequence[Path], target: Path, form: SegmentationForm, compression: Compression
) -> Callable[[], None]:
    from dicom_ai_node.imaging.volume import load_volume  # noqa: PLC0415
    from dicom_ai_node.results.identity import ResultIdentity  # noqa: PLC0415
    from dicom_ai_node.results.modules import Stamp  # noqa: PLC0415
    from dicom_ai_node.results.seg import encode_segmentation  # noqa: PLC0415
    from dicom_ai_node.results.source import SourceSeries, read_source  # noqa: PLC0415

    # The node has read the series for its analysis; the headers that encoding needs are read again.
    series: SourceSeries = SourceSeries(tuple(paths), load_volume(paths))

    def encode() -> None:
        source = read_source(series)
        algorithms = analysis.report.algorithms
        instances = (item.sop_instance_uid for item in source.everything)
        identity = ResultIdentity.of(source.study_instance_uid, instances, algorithms)
        stamp = Stamp.of(source.header)
        dataset = encode_segmentation(analysis, source, identity, stamp, form=form, compression=compression)
        assert dataset is not None
        dataset.save_as(target, enforce_file_format=True)

    return encode


def _dcmqi(
    folder: Path, analysis: Analysis, paths: Sequence[Path]
) -> Callable[[Path, SegmentationForm, Compression], Callable[[], None]] | None:
    """Encoding by dcmqi; None where it is not installed."""
    from dicom_ai_node.imaging.nifti import write_label_map  # noqa: PLC0415

    program = shutil.which(DCMQI) or shutil.which(DCMQI, path=str(Path(sys.executable).parent))
    label_map = analysis.label_map
    if program is None or label_map is None or label_map.affine is None:
        return None
    # Not compressed: what NIfTI costs is no part of this.
    image, words = folder / "labels.nii", folder / "segments.json"
    write_label_map(image, label_map.labels, label_map.affine)
    words.write_text(json.dumps(segment_words(np.unique(label_map.labels).tolist()[1:])), encoding="utf-8")

    def by_form(target: Path, form: SegmentationForm, compression: Compression) -> Callable[[], None]:
        command = [program, "--inputDICOMDirectory", str(paths[0].parent), "--inputImageList", str(image)]
        command += ["--inputMetadata", str(words), "--outputDICOM", str(target), "--segmentationType", form]
        command += ["--skip", "1", "--compress", "deflate" if compression == "deflated" else "none"]

        def encode() -> None:
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
            if done.returncode != 0:
                raise EncodingError(f"{DCMQI}: {(done.stdout + done.stderr)[-500:]}")

        return encode

    return by_form


def segment_words(labels: Sequence[int]) -> dict[str, Any]:
    """What dcmqi wants to know of the segments."""
    body, structure = _macro(codes.VERTEBRAL_BODY), _macro(codes.ANATOMICAL_STRUCTURE)
    items = []
    for label in labels:
        level = level_of_verse_label(label)
        items.append(
            {
                "labelID": label,
                "SegmentDescription": level.value,
                "SegmentLabel": level.value,
                "SegmentAlgorithmType": "AUTOMATIC",
                "SegmentAlgorithmName": "phantom",
                "SegmentedPropertyCategoryCodeSequence": structure,
                "SegmentedPropertyTypeCodeSequence": body,
                "AnatomicRegionSequence": _macro(code(level)),
                "recommendedDisplayRGBValue": [0, 158, 115],
            }
        )
    return {
        "ContentCreatorName": "Bench",
        "ClinicalTrialSeriesID": "1",
        "ClinicalTrialTimePointID": "1",
        "SeriesDescription": "Bodies",
        "SeriesNumber": "300",
        "InstanceNumber": "1",
        "BodyPartExamined": "SPINE",
        "segmentAttributes": [items],
    }


def _macro(concept: Code) -> dict[str, str]:
    return {
        "CodeValue": concept.value,
        "CodingSchemeDesignator": concept.scheme,
        "CodeMeaning": concept.meaning,
    }


def _timed(name: str, target: Path, encode: Callable[[], None]) -> dict[str, float]:
    wall, processor = [], []
    for _ in range(_REPEATS):
        target.unlink(missing_ok=True)
        began, used = time.perf_counter(), _processor_seconds()
        encode()
        wall.append(time.perf_counter() - began)
        processor.append(_processor_seconds() - used)
    return {
        f"{name}, processor s": min(processor),
        f"{name}, wall s": min(wall),
        f"{name}, MB": target.stat().st_size / 1e6,
    }


def _processor_seconds() -> float:
    """Of this process and of those that it ran."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)

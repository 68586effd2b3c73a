"""A study of sagittal CT slices with diseases, as the encoders get it: what P2's pipeline says, and where."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from dicom_ai_node.anatomy import Level
from dicom_ai_node.imaging.volume import Volume, load_volume
from dicom_ai_node.imaging.write_ct import CtHeader, write_ct_series, write_enhanced_ct
from dicom_ai_node.report import (
    Algorithm,
    Analysis,
    BoxPx,
    Reason,
    SeenOn,
    Source,
    SpineReport,
    Vertebra,
)
from dicom_ai_node.results.source import SourceSeries

SHAPE: Final = (7, 140, 100)
STEP_MM: Final = 5.0
AFFINE: Final = np.array(
    [[STEP_MM, 0.0, 0.0, -15.0], [0.0, 0.0, 1.2, -120.0], [0.0, -1.2, 0.0, 80.0], [0.0, 0.0, 0.0, 1.0]]
)
"""Slices to the left every 5 mm, rows to the feet, columns to the back, 1.2 mm pixels."""

CLASSIFIER: Final = "ct-classify"

DISEASED: Final = {
    Level.T12: {},
    Level.L1: {"OVCF": 0.94, "KD": 0.71},
    Level.L2: {},
    Level.L3: {"SN": 0.62},
    Level.L4: {"PS": 0.99, "OF": 0.58},
}
"""Which vertebra has what; T12 and L2 are normal. T12 is cut off by the edge."""


@dataclass(frozen=True)
class SliceDress:
    """How the series is stored."""

    name: str
    enhanced: bool = False
    reversed_slices: bool = False


DRESSES: Final = (
    SliceDress("thick slices"),
    SliceDress("from left to right", reversed_slices=True),
    SliceDress("enhanced multi-frame", enhanced=True),
)


@dataclass(frozen=True)
class SliceStudy:
    """Analysis and source."""

    analysis: Analysis
    source: SourceSeries


def make_slice_study(dress: SliceDress, folder: Path) -> SliceStudy:
    """Writes the series below `folder`, and says what there is to find in it."""
    voxels, affine = _pictures(), AFFINE.copy()
    if dress.reversed_slices:
        voxels = voxels[::-1].copy()
        affine[:3, 3] += affine[:3, 0] * (SHAPE[0] - 1)
        affine[:3, 0] *= -1
    header = CtHeader(image_type=("DERIVED", "SECONDARY", "MPR"), series_description="Spine sagittal")
    if dress.enhanced:
        paths = [write_enhanced_ct(voxels, affine, folder / "dicom", header=header)]
    else:
        paths = write_ct_series(voxels, affine, folder / "dicom", header=header)
    volume = load_volume(paths)
    return SliceStudy(Analysis(_report(volume)), SourceSeries(tuple(paths), volume))


def with_opinions(analysis: Analysis) -> Analysis:
    """An analysis of a volume, with diseases seen on planes that no image shows."""
    vertebrae = []
    for vertebra in analysis.report:
        if vertebra.center_mm is None or vertebra.status != "analysed":
            vertebrae.append(vertebra)
            continue
        x, y, z = vertebra.center_mm
        corners = ((x, y - 17, z + 14), (x, y + 17, z + 14), (x, y + 17, z - 14), (x, y - 17, z - 14))
        shares = {"OVCF": 0.03, "OF": 0.81, "SN": 0.55, "KD": 0.02, "PS": 0.01, "normal": 0.1}
        vertebrae.append(
            replace(
                vertebra,
                classes={**vertebra.classes, CLASSIFIER: shares},
                diseases=("OF", "SN"),
                seen_on={name: SeenOn(2, 5, None, corners) for name in shares},
            )
        )
    algorithm = Algorithm(CLASSIFIER, "1.0.0", "0" * 64, "2.25.82")
    report = replace(
        analysis.report,
        vertebrae=tuple(vertebrae),
        algorithms=(*analysis.report.algorithms, algorithm),
    )
    return replace(analysis, report=report)


def box_of(number: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Rows and columns of a vertebra, counted from the uppermost."""
    return (4.0 + 27 * number, 25.0 + 27 * number), (35.0, 62.0)


def _pictures() -> np.ndarray:
    voxels = np.full(SHAPE, 30, np.int16)
    voxels += np.random.default_rng(1).normal(0, 15, SHAPE).astype(np.int16)
    for number in range(len(DISEASED)):
        (top, bottom), (front, back) = box_of(number)
        voxels[1:6, int(top) : int(bottom) + 1, int(front) : int(back) + 1] += 250
    return voxels


def _report(volume: Volume) -> SpineReport:
    algorithms = tuple(
        Algorithm(name, "1.0.0", "0" * 64, f"2.25.{number}")
        for number, name in enumerate(("ct-detect", CLASSIFIER, "ct-localise"), start=81)
    )
    vertebrae = [
        _vertebra(volume, level, number, diseases)
        for number, (level, diseases) in enumerate(DISEASED.items())
    ]
    limitations = (
        Reason("research-use", "For research use."),
        Reason("spacing", "No heights were measured."),
    )
    return SpineReport(
        status="analysed",
        source=Source(
            volume.study_instance_uid,
            (volume.series_instance_uid,),
            volume.modality,
            volume.frame_of_reference_uid,
        ),
        limitations=limitations,
        algorithms=algorithms,
        vertebrae=tuple(vertebrae),
    )


def _vertebra(volume: Volume, level: Level, number: int, diseases: dict[str, float]) -> Vertebra:
    rows, columns = box_of(number)
    center = _on(volume, 3, sum(rows) / 2, sum(columns) / 2)
    vertebra = Vertebra(level, 0.9, center_mm=center, box_px=_box(volume, 3, number))
    if level is Level.T12:
        reason = Reason("coverage", "T12 is cut off by the edge of the image.")
        return Vertebra(
            level, 0.9, center_mm=center, box_px=vertebra.box_px, status="not-analysable", reasons=(reason,)
        )
    names = ("OVCF", "OF", "SN", "KD", "PS")
    shares = {name: diseases.get(name, 0.02) for name in names}
    shares["normal"] = 0.05 if diseases else 0.93
    seen = {}
    for place, name in enumerate(shares):
        best = 2 + place % 3
        corners = tuple(
            _on(volume, best, row, column)
            for row, column in (
                (rows[0], columns[0]),
                (rows[0], columns[1]),
                (rows[1], columns[1]),
                (rows[1], columns[0]),
            )
        )
        seen[name] = SeenOn(3 if shares[name] >= 0.5 else 0, 5, _box(volume, best, number), corners)
    fracture = max(shares[name] for name in ("OVCF", "OF", "KD"))
    return Vertebra(
        level,
        0.9,
        center_mm=center,
        box_px=vertebra.box_px,
        classes={CLASSIFIER: shares},
        diseases=tuple(name for name in names if shares[name] >= 0.5),
        seen_on=seen,
        fractured=fracture >= 0.5,
        fracture_probability=fracture,
    )


def _box(volume: Volume, index: int, number: int) -> BoxPx:
    rows, columns = box_of(number)
    image = volume.instances[index]
    return BoxPx(image.sop_instance_uid, image.frame, rows, columns)


def _on(volume: Volume, index: int, row: float, column: float) -> tuple[float, ...]:
    place = volume.affine[:3, :3] @ [index, row, column] + volume.affine[:3, 3]
    return tuple(round(float(value), 3) for value in place)

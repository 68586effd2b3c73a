"""MR studies of known truth, T2 and T1 of one place, as different makes write them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.imaging.mr_groups import StackGroup, group_of
from dicom_ai_node.imaging.mr_habits import Make, MrSettings, mr_header, sample_site
from dicom_ai_node.imaging.mr_volume import load_mr_volume
from dicom_ai_node.imaging.volume import Volume
from dicom_ai_node.imaging.write_mr import StudyIdentity, write_enhanced_mr, write_mr_series
from dicom_ai_node.report import (
    Algorithm,
    Analysis,
    BoxPx,
    HeightsMm,
    LabelMap,
    SeenOn,
    SixPoints,
    Source,
    SpineReport,
    Vertebra,
)
from dicom_ai_node.results.source import SourceSeries

SHAPE: Final = (6, 96, 64)
AFFINE: Final = np.array(
    [[4.4, 0.0, 0.0, -10.0], [0.0, 0.0, 1.3, -120.0], [0.0, -1.3, 0.0, 60.0], [0.0, 0.0, 0.0, 1.0]]
)
"""Slices to the left every 4.4 mm, rows to the feet, columns to the back, 1.3 mm pixels."""

Kind = Literal["t2", "t1", "stir"]
Step = tuple[float, float, float]

BODY_COLUMNS: Final = slice(14, 38)
"""In front of the middle, so that a mirror image is another picture."""

LEVELS: Final = (Level.L1, Level.L2, Level.L3)
"""L1 is wedged and benign, L2 healthy, L3 dark on T1 and malignant."""

FEATURES: Final = {
    "absence_of_collapse": 0.3, "anterior_wedge": 0.1, "whole_body_compression": 0.1,
    "central_concavity": 0.1,
    "homogeneous_marrow": 0.2, "dark_line": 0.1, "band_oedema": 0.1, "dark_patch": 0.1, "cleft": 0.1,
    "diffuse_change": 0.6, "mass": 0.9, "protrusion": 0.4, "soft_tissue_mass": 0.2, "posterior_elements": 0.5,
    "skip_lesion": 0.1,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class MrDress:
    """How a study is stored."""

    name: str
    make: Make
    enhanced: bool = False
    kinds: tuple[Kind, ...] = ("t2", "t1")
    affine: npt.NDArray[np.float64] = field(default_factory=lambda: AFFINE, repr=False)


def _along(
    slices: Step, rows: Step, columns: Step, turned: tuple[float, float, float] = (0, 0, 0)
) -> npt.NDArray[np.float64]:
    """An affine of these steps in LPS millimetres, turned by degrees, around the same middle as `AFFINE`."""
    affine = np.eye(4)
    about: npt.NDArray[np.float64] = Rotation.from_euler("xyz", turned, degrees=True).as_matrix()
    affine[:3, :3] = about @ np.array([slices, rows, columns]).T
    middle = (np.array(SHAPE) - 1) / 2
    affine[:3, 3] = AFFINE[:3, :3] @ middle + AFFINE[:3, 3] - affine[:3, :3] @ middle
    return affine


DRESSES: Final = (
    MrDress("classic, Siemens", "siemens"),
    MrDress("classic, Philips", "philips"),
    MrDress("classic, GE", "ge"),
    MrDress("classic, Canon", "canon"),
    MrDress("enhanced multi-frame", "siemens", enhanced=True),
)

FURTHER_DRESSES: Final = (
    MrDress("enhanced multi-frame, Philips", "philips", enhanced=True),
    MrDress("T2 alone", "siemens", kinds=("t2",)),
    MrDress("T1 alone", "ge", kinds=("t1",)),
    MrDress("T2, T1 and STIR", "philips", kinds=("t2", "t1", "stir")),
    MrDress("T1 and STIR", "siemens", kinds=("t1", "stir")),
    MrDress("from the left", "ge", affine=_along((-4.4, 0, 0), (0, 0, -1.3), (0, 1.3, 0))),
    MrDress("oblique", "siemens", affine=_along((4.4, 0, 0), (0, 0, -1.3), (0, 1.3, 0), (5, -4, 9))),
    MrDress("pixels higher than wide", "canon", affine=_along((4.4, 0, 0), (0, 0, -1.5), (0, 1.1, 0))),
)


@dataclass(frozen=True)
class MrStudyOfTruth:
    """The study as the encoders get it."""

    analysis: Analysis
    source: SourceSeries
    group: StackGroup


def make_mr_study(dress: MrDress, folder: Path) -> MrStudyOfTruth:
    """Writes T2 and T1 below `folder`, and says what there is to find in them."""
    paths = [
        path for number, kind in enumerate(dress.kinds) for path in _written(dress, kind, number, folder)
    ]
    group = group_of(paths)
    source = SourceSeries(group.paths, load_mr_volume(group.fixed))
    return MrStudyOfTruth(_analysis(source, group, dress.affine), source, group)


def _written(dress: MrDress, kind: Kind, number: int, folder: Path) -> list[Path]:
    site = replace(sample_site(3), make=dress.make)
    slow, inverted = kind != "t1", kind == "stir"
    settings = MrSettings(
        kind=kind, readout="IR" if inverted else "SE", repetition_ms=3600.0 if slow else 550.0,
        echo_ms=100.0 if slow else 11.0, inversion_ms=160.0 if inverted else None, flip_deg=90.0,
        echo_train=17 if slow else 3, bandwidth_hz=200.0, field_t=1.5, fat_saturated=False,
        saturation_band=True, partial_fourier=False, phase_by_rows=True, matrix=(90, 60),
        slice_thickness_mm=4.0,
    )  # fmt: skip
    header = mr_header(3, site, settings, number=number + 2, highest=1000)
    patient = f"2.25.{3003 + (*DRESSES, *FURTHER_DRESSES).index(dress)}"
    study = StudyIdentity(patient, "20240131", frame_of_reference_uid=f"{patient}.1")
    header = replace(header, study=study)
    pixels = drawn(dark=() if slow else (Level.L3,))
    target = folder / kind
    if dress.enhanced:
        return [write_enhanced_mr(pixels, dress.affine, target, seed=3, header=header)]
    return write_mr_series([(pixels, dress.affine)], target, seed=3, header=header)


def body_rows(number: int) -> slice:
    """Rows of a body, counted from the head."""
    return slice(12 + 26 * number, 30 + 26 * number)


def drawn(dark: tuple[Level, ...] = ()) -> npt.NDArray[np.uint16]:
    """Three bodies in soft tissue with a canal behind them, and some noise."""
    signal = np.full(SHAPE, 180.0)
    signal[:, :, 50:56] = 600.0
    signal[:, :, 58:] = 900.0
    for number, level in enumerate(LEVELS):
        signal[1:5, body_rows(number), BODY_COLUMNS] = 160.0 if level in dark else 420.0
    noise = np.random.default_rng(5).normal(0.0, 12.0, SHAPE)
    return np.clip(signal + noise, 0, 1000).astype(np.uint16)


def _analysis(source: SourceSeries, group: StackGroup, affine: npt.NDArray[np.float64]) -> Analysis:
    volume = source.volume
    assert volume is not None
    to_index = np.linalg.inv(volume.affine) @ affine
    labels = np.zeros(volume.shape, np.uint8)
    vertebrae = []
    for number, level in enumerate(LEVELS):
        rows, first = body_rows(number), BODY_COLUMNS.start
        inside = np.argwhere(np.ones((4, rows.stop - rows.start, 24))) + np.array([1, rows.start, first])
        index = np.rint(inside @ to_index[:3, :3].T + to_index[:3, 3]).astype(int)
        labels[tuple(index.T)] = verse_label(level)
        corners = np.array(
            [
                [2.5, row, column]
                for column in (first, first + 12, BODY_COLUMNS.stop - 1)
                for row in (rows.start, rows.stop - 1)
            ],
            np.float64,
        )
        vertebra = _vertebra(level, corners @ affine[:3, :3].T + affine[:3, 3])
        if vertebra.malignant is not None:
            vertebra = replace(vertebra, seen_on={"malignant": _seen_on(rows, volume, affine)})
        vertebrae.append(vertebra)
    report = SpineReport(
        "analysed",
        Source(
            volume.study_instance_uid,
            tuple(series.series_instance_uid for _, series in group.paired.members),
            "MR",
            volume.frame_of_reference_uid,
        ),
        algorithms=tuple(
            Algorithm(name, "1.0", 64 * "0", f"2.25.{number}")
            for number, name in enumerate(("mri-detect", "mri-points", "mri-classify"), start=1)
        ),
        vertebrae=tuple(vertebrae),
    )
    return Analysis(report, LabelMap(labels, volume.affine))


def _seen_on(rows: slice, volume: Volume, affine: npt.NDArray[np.float64]) -> SeenOn:
    """The body on the last slice that shows it."""
    first, last = BODY_COLUMNS.start, BODY_COLUMNS.stop - 1
    around = [(rows.start, first), (rows.start, last), (rows.stop - 1, last), (rows.stop - 1, first)]
    corners = np.array([[4, row, column] for row, column in around]) @ affine[:3, :3].T + affine[:3, 3]
    to_index = np.linalg.inv(volume.affine)
    index = np.rint(corners @ to_index[:3, :3].T + to_index[:3, 3]).astype(int)
    image = volume.instances[int(index[0, 0])]
    (top, left), (bottom, right) = index[:, 1:].min(axis=0).tolist(), index[:, 1:].max(axis=0).tolist()
    box = BoxPx(image.sop_instance_uid, image.frame, (top, bottom), (left, right))
    return SeenOn(1, 4, box, tuple(tuple(float(value) for value in corner) for corner in corners))


def _vertebra(level: Level, points: npt.NDArray[np.float64]) -> Vertebra:
    wedged, ill = level is Level.L1, level is Level.L3
    plain = Vertebra(
        level,
        0.98,
        center_mm=tuple(float(value) for value in points.mean(axis=0)),
        six_points=SixPoints.from_array(points),
        heights_mm=HeightsMm(16.0 if wedged else 22.0, 22.0, 22.1, 23.0),
        height_loss=0.3 if wedged else 0.05,
        genant_grade=2 if wedged else 0,
        deformity="wedge" if wedged else "none",
        fractured=wedged,
        fracture_probability=0.9 if wedged else 0.02,
        signal={"t1": {"to_neighbours": 0.41 if ill else 1.0}, "t2": {"to_canal": 0.7, "to_cord": 1.4}},
    )
    if not wedged and not ill:
        return plain
    return replace(
        plain,
        classes={
            "mri-classify": {"benign": 0.1, "malignant": 0.9} if ill else {"benign": 0.8, "malignant": 0.2}
        },
        malignant=ill,
        features=FEATURES,
        abnormal=("dark on T1: 0.41 of its neighbours",) if ill else ("height loss 30%",),
    )

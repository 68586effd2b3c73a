"""MR studies of a spine as they are ordered: a localizer, then sagittal series that do not quite agree.

Protocols follow what large vendors deliver for the spine; series of one study differ in grid, matrix and in
how the patient lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom.column import rotation
from dicom_ai_node.phantom.mr import MrAcquisition
from dicom_ai_node.phantom.mr_coil import Coil
from dicom_ai_node.phantom.mr_kspace import Readout
from dicom_ai_node.phantom.mr_palette import FAT_T1, MrPalette, sample_person
from dicom_ai_node.phantom.mr_sequence import MrSequence, SeriesKind
from dicom_ai_node.phantom.randomness import around, between, stream
from dicom_ai_node.phantom.spine import Spine

Array = npt.NDArray[np.float64]
Region = Literal["lumbar", "thoracic", "cervical", "thoracolumbar"]

SAGITTAL: Final = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""Columns: steps of slices (to the left), of rows (to the feet) and of columns (to the back)."""

_REGIONS: Final[dict[Region, tuple[Level, Level, float, float]]] = {
    "lumbar": (Level.T12, Level.S1, 250.0, 340.0),
    "thoracic": (Level.T2, Level.L1, 320.0, 400.0),
    "cervical": (Level.C3, Level.T3, 220.0, 280.0),
    "thoracolumbar": (Level.T8, Level.L5, 340.0, 420.0),
}
"""First and last level in the middle of the field of view, and its edge in mm."""


@dataclass(frozen=True)
class _Scan:
    """What all series of one study share."""

    spine: Spine
    palette: MrPalette
    coil: Coil
    center: Array
    turn: Array
    edge: float
    slices: int
    thickness: float
    gap: float
    leftwards: bool
    phase_axis: Literal["rows", "columns"]
    noise: float
    wrap: float
    max_matrix: int
    training: bool


def sample_mr_study(
    seed: int,
    spine: Spine,
    *,
    region: Region | None = None,
    training: bool = False,
    max_matrix: int = 512,
) -> tuple[MrAcquisition, ...]:
    """A plausible MR study of this person: three planes of a localizer, then the sagittal series.

    Args:
        seed: same seed, same study.
        spine: who is scanned.
        region: what is examined; by chance mostly the lumbar spine.
        training: randomise relaxation times, contrast and artefacts beyond what scanners do.
        max_matrix: no image has more rows or columns.

    Returns:
        Series T2, T1 and STIR always; often others. The patient lies as `truth` says in the T2 series and may
        have moved a little in the others.
    """
    generator = stream(seed, "mr-study")
    scan = _scan(seed, spine, region, generator, training=training, max_matrix=max_matrix)
    kinds: list[SeriesKind] = ["t2", "t1", "stir"]
    if generator.random() < 0.25:
        kinds.append("t2-fs")
    if generator.random() < 0.25:
        kinds += ["dixon-water", "dixon-fat"]
        if generator.random() < 0.5:
            kinds += ["dixon-in", "dixon-opposed"]
    study = [*_localizer(scan, stream(seed, "mr-localizer"))]
    rest = stream(seed, "mr-motion")
    dixon: MrAcquisition | None = None
    for kind in kinds:
        own = stream(seed, "mr-series", kind)
        if kind.startswith("dixon") and dixon is not None:
            # The images of one Dixon measurement share all but what is shown.
            sequence = replace(
                _sequence(kind, scan.palette.field_t, stream(seed, "mr-series", "dixon-water"))
            )
            study.append(replace(dixon, series=kind, palette=scan.palette.with_sequence(sequence)))
            continue
        one = _series(scan, kind, own)
        if kind != "t2":
            one = replace(one, motion=_motion(scan.center, rest))
        if kind == "dixon-water":
            dixon = one
        study.append(one)
    return tuple(study)


def sample_mr_series(
    seed: int,
    spine: Spine,
    kind: SeriesKind,
    *,
    region: Region | None = None,
    training: bool = False,
    max_matrix: int = 512,
) -> MrAcquisition:
    """One sagittal series of any kind, the patient lying as `truth` says; arguments as `sample_mr_study`."""
    scan = _scan(seed, spine, region, stream(seed, "mr-study"), training=training, max_matrix=max_matrix)
    return _series(scan, kind, stream(seed, "mr-series", kind))


def _scan(
    seed: int,
    spine: Spine,
    region: Region | None,
    generator: np.random.Generator,
    *,
    training: bool,
    max_matrix: int,
) -> _Scan:
    names: list[Region] = list(_REGIONS)
    chosen = region or names[int(generator.choice(len(names), p=[0.72, 0.12, 0.06, 0.10]))]
    first, last, low, high = _REGIONS[chosen]
    present = list(spine.vertebrae)
    top = next((v for v in present if v.level is first), present[len(present) // 2])
    bottom = next((v for v in present if v.level is last), present[-1])
    inner = present[present.index(top) : present.index(bottom) + 1]
    middle = np.mean([v.frame[:3, 3] for v in inner], axis=0)
    span = float(np.linalg.norm(top.frame[:3, 3] - bottom.frame[:3, 3]))
    edge = float(
        np.clip(max(span + between(generator, 30.0, 90.0), between(generator, low, high)), low, 420.0)
    )
    left = np.mean([v.frame[:3, 0] for v in inner], axis=0)
    yaw = float(np.arctan2(left[1], left[0])) + around(generator, 0.0, 0.03)
    lean = float(np.arctan2(left[2], left[0])) + around(generator, 0.0, 0.03)
    turn = rotation(0.0, 0.0, yaw) @ rotation(0.0, -lean, 0.0) if generator.random() < 0.8 else np.eye(3)
    ahead = between(generator, 0.0, 0.16) * edge if chosen != "cervical" else between(generator, -10.0, 20.0)
    center = middle + np.array([around(generator, 0.0, 2.5), -ahead, between(generator, -15.0, 15.0)])
    field_t = 1.5 if generator.random() < 0.65 else 3.0
    sequence = MrSequence("t2", "SE", 3500.0, 100.0)
    person = sample_person(stream(seed, "mr-person"), training=training)
    palette = MrPalette(
        sequence,
        field_t,
        person,
        fat_left=between(generator, 0.03, 0.15),
        texture=between(generator, 0.6, 1.4),
    )
    coil = Coil(
        radius_mm=between(generator, 75.0, 135.0),
        pitch_mm=between(generator, 80.0, 120.0),
        loops=int(generator.integers(3, 6)),
        gap_mm=between(generator, 10.0, 35.0),
        front=between(generator, 0.3, 1.0) if generator.random() < 0.4 else 0.0,
        evened=between(generator, 0.4, 0.9) if generator.random() < 0.6 else between(generator, 0.0, 0.15),
    )
    thickness = float(generator.choice([3.0, 3.5, 4.0, 4.0, 4.5, 5.0]))
    gap = float(generator.choice([0.0, 0.1, 0.1, 0.2, 0.25])) * thickness
    return _Scan(
        spine=spine,
        palette=palette,
        coil=coil,
        center=center,
        turn=turn,
        edge=edge,
        slices=int(np.clip(round(between(generator, 58.0, 88.0) / (thickness + gap)), 11, 20)),
        thickness=thickness,
        gap=gap,
        leftwards=bool(generator.random() < 0.6),
        phase_axis="rows" if generator.random() < 0.7 else "columns",
        noise=between(generator, 3.0, 9.0) * (0.75 if field_t > 2 else 1.0),
        wrap=between(generator, 0.02, 0.09) if generator.random() < 0.12 else 0.0,
        max_matrix=max_matrix,
        training=training,
    )


def _sequence(kind: SeriesKind, field_t: float, generator: np.random.Generator) -> MrSequence:
    high = field_t > 2.0
    wide = between(generator, 120.0, 260.0) * (1.5 if high else 1.0)
    saturating = between(generator, 0.4, 1.0)
    if kind == "t1":
        turbo = generator.random() < 0.75
        return MrSequence(
            kind, "SE", round(between(generator, 420.0, 720.0)), round(between(generator, 8.0, 15.0), 1),
            echo_train=int(generator.integers(2, 6)) if turbo else 1, bandwidth_hz=wide,
            magnetisation_transfer=0.6 * saturating if turbo else 0.2,
        )  # fmt: skip
    if kind in ("t2", "t2-fs"):
        return MrSequence(
            kind, "SE", round(between(generator, 2600.0, 4800.0)),
            round(between(generator, 55.0, 85.0) if kind == "t2-fs" else between(generator, 82.0, 125.0)),
            echo_train=int(generator.integers(11, 28)), bandwidth_hz=wide,
            fat="saturated" if kind == "t2-fs" else "with", magnetisation_transfer=saturating,
        )  # fmt: skip
    if kind == "stir":
        silent = float(np.log(2.0)) * FAT_T1[1 if high else 0]
        return MrSequence(
            kind, "IR", round(between(generator, 3200.0, 6000.0)), round(between(generator, 30.0, 75.0)),
            inversion_ms=round(silent * between(generator, 0.92, 1.04)),
            echo_train=int(generator.integers(8, 20)), bandwidth_hz=wide, magnetisation_transfer=saturating,
        )  # fmt: skip
    if kind == "localizer":
        echo = round(between(generator, 2.5, 5.0), 2)
        return MrSequence(
            kind, "GR", round(between(generator, 7.0, 12.0), 2), echo,
            flip_deg=between(generator, 10.0, 40.0), bandwidth_hz=400.0,
        )  # fmt: skip
    show: dict[SeriesKind, Literal["water-image", "fat-image", "in-phase", "opposed-phase"]] = {
        "dixon-water": "water-image", "dixon-fat": "fat-image",
        "dixon-in": "in-phase", "dixon-opposed": "opposed-phase",
    }  # fmt: skip
    if generator.random() < 0.5:
        return MrSequence(
            kind, "SE", round(between(generator, 2800.0, 4500.0)), round(between(generator, 70.0, 100.0)),
            echo_train=int(generator.integers(11, 20)), fat=show[kind], bandwidth_hz=1.6 * wide,
            magnetisation_transfer=saturating,
        )  # fmt: skip
    return MrSequence(
        kind, "GR", round(between(generator, 5.5, 9.0), 2), round(between(generator, 2.2, 4.8), 2),
        flip_deg=between(generator, 3.0, 12.0), fat=show[kind], bandwidth_hz=3.0 * wide,
    )  # fmt: skip


def _series(scan: _Scan, kind: SeriesKind, generator: np.random.Generator) -> MrAcquisition:
    sequence = _sequence(kind, scan.palette.field_t, generator)
    edge = scan.edge * between(generator, 0.95, 1.05)
    pixel = between(generator, 0.55, 1.15)
    choices = [m for m in (256, 320, 384, 448, 512) if m <= scan.max_matrix and 0.5 <= edge / m <= 1.2]
    matrix = min(choices, key=lambda m: abs(edge / m - pixel)) if choices else min(scan.max_matrix, 384)
    thickness = scan.thickness if generator.random() < 0.8 else 4.0
    step = thickness + scan.gap
    shift = np.array(
        [around(generator, 0.0, 0.35 * step), around(generator, 0.0, 4.0), around(generator, 0, 6.0)]
    )
    if generator.random() < 0.4:
        shift[0] = 0.0
    tilt = rotation(0.0, around(generator, 0.0, 0.01), around(generator, 0.0, 0.01))
    affine = stack_affine(
        scan.center + shift, scan.turn @ tilt @ SAGITTAL, (scan.slices, matrix, matrix), (step, edge / matrix)
    )
    if not scan.leftwards:
        affine[:3, 3] += (scan.slices - 1) * affine[:3, 0]
        affine[:3, 0] *= -1.0
    by_rows = scan.phase_axis == "rows" if generator.random() < 0.85 else scan.phase_axis != "rows"
    frequency = int(matrix * between(generator, 0.8, 1.0))
    lines = int(frequency * between(generator, 0.6, 0.95))
    clean = generator.random() < 0.5
    noise = scan.noise * {"stir": 0.8, "t2-fs": 0.8}.get(kind, 1.0)
    readout = Readout(
        matrix=(lines, frequency) if by_rows else (frequency, lines),
        phase_axis="rows" if by_rows else "columns",
        partial=between(generator, 0.58, 0.85) if generator.random() < 0.2 else 1.0,
        apodisation=between(generator, 0.0, 0.7),
        fat_shift_px=sequence.fat_shift_px(scan.palette.field_t) * float(generator.choice([-1.0, 1.0])),
        breathing=0.0 if clean else between(generator, 0.0, 0.06),
        pulsation=0.0 if clean and generator.random() < 0.5 else between(generator, 0.02, 0.25),
        breaths=between(generator, 8.0, 40.0),
        beats=between(generator, 40.0, 160.0),
        motion_px=0.0 if generator.random() < 0.7 else between(generator, 0.1, 0.9),
        noise=noise,
    )
    acquisition = MrAcquisition(
        series=kind,
        plane="sagittal",
        shape=(scan.slices, matrix, matrix),
        affine=affine,
        slice_thickness_mm=thickness,
        palette=scan.palette.with_sequence(sequence),
        readout=readout,
        coil=scan.coil,
        saturation_ahead_mm=_band(sequence, by_rows=by_rows, generator=generator),
        wrap=scan.wrap if generator.random() < 0.7 else 0.0,
        transmit=between(generator, 0.02, 0.14)
        if scan.palette.field_t > 2
        else between(generator, 0.0, 0.05),
        fat_return=between(generator, 0.0, 1.2),
        white=int(generator.choice([255, 700, 1200, 1800, 3000])),
        texture=between(generator, 0.015, 0.05),
        seed=int(generator.integers(2**31)),
    )
    return _for_training(acquisition, generator) if scan.training else acquisition


def _band(sequence: MrSequence, *, by_rows: bool, generator: np.random.Generator) -> float | None:
    chance = 0.45 if by_rows else 0.8
    if sequence.readout == "GR" or generator.random() > chance:
        return None
    return between(generator, 38.0, 75.0)


def _for_training(acquisition: MrAcquisition, generator: np.random.Generator) -> MrAcquisition:
    readout = acquisition.readout
    return replace(
        acquisition,
        readout=replace(
            readout,
            noise=readout.noise * float(generator.choice([1.0, 1.0, 2.0, 4.0])),
            apodisation=between(generator, 0.0, 1.0),
        ),
        texture=acquisition.texture * float(generator.choice([1.0, 1.0, 2.0, 4.0])),
        randomise=between(generator, 0.4, 1.0) if generator.random() < 0.5 else 0.0,
    )


def _motion(center: Array, generator: np.random.Generator) -> Array:
    """A small rigid motion about the middle of the field of view, 4x4, LPS mm -> LPS mm."""
    size = float(generator.choice([0.2, 0.6, 1.5]))
    motion = np.eye(4)
    motion[:3, :3] = rotation(*(around(generator, 0.0, 0.004 * size) for _ in range(3)))
    shift = np.array([around(generator, 0.0, size) for _ in range(3)])
    motion[:3, 3] = center - motion[:3, :3] @ center + shift
    return motion


def _localizer(scan: _Scan, generator: np.random.Generator) -> Sequence[MrAcquisition]:
    """Few thick slices in three planes, on a coarse matrix."""
    sequence = _sequence("localizer", scan.palette.field_t, generator)
    matrix = min(scan.max_matrix, 256)
    edge = between(generator, 380.0, 450.0)
    thickness, step = between(generator, 6.0, 10.0), between(generator, 14.0, 30.0)
    count = int(generator.choice([1, 3, 3, 5]))
    planes = {
        "sagittal": SAGITTAL,
        "coronal": np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]),
        "axial": np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]),
    }
    motion = _motion(scan.center, generator)
    out = []
    for plane, axes in planes.items():
        shape = (count, matrix, matrix)
        out.append(
            MrAcquisition(
                series="localizer",
                plane=plane,
                shape=shape,
                affine=stack_affine(scan.center, axes, shape, (step, edge / matrix)),
                slice_thickness_mm=thickness,
                palette=scan.palette.with_sequence(sequence),
                readout=Readout((int(0.7 * matrix), int(0.95 * matrix)), fat_shift_px=0.5, noise=scan.noise),
                coil=scan.coil,
                motion=motion,
                white=1000,
                seed=int(generator.integers(2**31)),
            )
        )
    return out


def stack_affine(
    center: Array, axes: Array, shape: tuple[int, int, int], spacing_mm: tuple[float, float]
) -> Array:
    """4x4, (slice, row, column, 1) -> LPS mm, of a stack about a centre.

    Args:
        center: LPS mm.
        axes: 3x3; columns are the unit steps of slices, rows and columns.
        shape: (slices, rows, columns).
        spacing_mm: distance of slices, and edge of the pixels.
    """
    affine = np.eye(4)
    affine[:3, :3] = axes * np.array([spacing_mm[0], spacing_mm[1], spacing_mm[1]])
    affine[:3, 3] = center - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine

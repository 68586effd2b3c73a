"""Sagittal CT slices of phantom patients for P2's networks, and a folder that keeps a pool of them.

Only a thin slab about the column is painted. Metal leaves no streaks in it: those lie in the gantry's plane.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_ai_node.anatomy import Level, order, verse_label
from dicom_ai_node.networks.ct_diseases import DISEASES
from dicom_ai_node.phantom.ct import CtAcquisition, CtPhantom, render_ct
from dicom_ai_node.phantom.ct_palette import CtPalette
from dicom_ai_node.phantom.disease import Disease
from dicom_ai_node.phantom.lesion import LesionKind
from dicom_ai_node.phantom.randomness import around, between, stream
from dicom_ai_node.phantom.spine import Spine, Vertebra
from dicom_ai_node.phantom.training_cases import plane_acquisition
from dicom_ai_node.training.ct_slice_people import SlicePerson, slice_person
from dicom_ai_node.training.ct_slices import CtSlice, load_slices, save_slices, slices_path

Floats = npt.NDArray[np.float64]

FIRST_SEED: Final = 1000
"""Patients of a training pool count from here; seeds below are kept for evaluation."""

CUT_SHARE: Final = 0.42
"""A body has a box where the slice shows at least this share of its cross-section in the middle."""

_MOST_PIXELS: Final = 320_000
"""Per slice; finer slices are made coarser, for each patient costs time."""

_SEEN_MM2: Final = 8.0
"""Area in a slice from which a node, a cleft, cement or a screw counts as seen; any less is not known."""


def slice_pool(
    folder: Path,
    count: int,
    say: Callable[[str], None],
    *,
    first_seed: int = FIRST_SEED,
    training: bool = True,
) -> list[CtSlice]:
    """The slices of phantom patients; those that lie in the folder already are not made again.

    Args:
        folder: where they are kept.
        count: patients.
        say: gets a line per patient made.
        first_seed: of the first patient; seeds below `FIRST_SEED` are kept for evaluation.
        training: as `phantom_slices` takes it.
    """
    slices: list[CtSlice] = []
    for number in range(count):
        path = slices_path(folder, _patient(first_seed + number))
        if not path.exists():
            save_slices(phantom_slices(first_seed + number, training=training), folder)
            say(f"CT slices: phantom {number + 1} of {count}")
        slices += load_slices(path)
    return slices


def phantom_slices(seed: int, *, training: bool) -> list[CtSlice]:
    """Sagittal slices of one phantom patient from his right to his left.

    Args:
        seed: decides everything.
        training: many ill bodies, and scans beyond what radiology does; else P2's patients and scans.
    """
    person = slice_person(seed, training=training)
    generator = stream(seed, "ct-slices", "scan")
    acquisition = _acquisition(seed, person, generator, training=training)
    phantom = render_ct(person.spine, acquisition)
    hu = _as_reformatted(phantom.hu, acquisition, generator)
    spacing = (round(acquisition.spacing_mm[1], 4), round(acquisition.spacing_mm[2], 4))
    out = []
    for k in range(acquisition.shape[0]):
        boxes, levels, diseases = _bodies(person.spine, phantom, k, spacing)
        out.append(CtSlice(_patient(seed), k, hu[k], spacing, boxes, levels, diseases))
    return out


def _patient(seed: int) -> str:
    return f"{seed:05d}"


def _acquisition(
    seed: int, person: SlicePerson, generator: np.random.Generator, *, training: bool
) -> CtAcquisition:
    """A slab of sagittal slices about the middle of the column."""
    shown = _between(person.spine, person.first, person.last)
    places = np.array([vertebra.frame[:3, 3] for vertebra in shown])
    top = places[0, 2] + between(generator, 5.0, 40.0)
    bottom = places[-1, 2] - between(generator, 5.0, 40.0)
    deep = between(generator, 110.0, 180.0) if generator.random() < 0.4 else between(generator, 180.0, 300.0)
    # Spines lie behind the middle of most images.
    ahead = between(generator, -0.05, 0.22) * deep
    middle = 0.5 * (places.min(axis=0) + places.max(axis=0))
    aside = around(generator, 0.0, 3.0) + (between(generator, -9.0, 9.0) if generator.random() < 0.2 else 0.0)
    center = np.array([middle[0] + aside, middle[1] - ahead, 0.5 * (top + bottom)])
    thick = generator.random() < 0.15
    thickness = between(generator, 5.0, 10.0) if thick else float(generator.choice([2.0, 2.5, 3.0, 4.0, 5.0]))
    count = int(generator.integers(5, 9)) if training else int(generator.integers(7, 11))
    step = between(generator, 14.0, 30.0) / (count - 1)
    spacing = between(generator, 0.38, 0.85)
    spacing = max(spacing, float(np.sqrt((top - bottom) * deep / _MOST_PIXELS)))
    yaw, roll = (around(generator, 0.0, np.deg2rad(4.0)) for _ in range(2))
    if training and generator.random() < 0.2:
        yaw = between(generator, -0.25, 0.25)
    rows, columns = _axes(yaw, 0.6 * roll)
    wild = training and bool(generator.random() < 0.5)
    sharp = generator.random() < 0.4
    like = CtAcquisition(
        shape=(1, 1, 1),
        affine=np.eye(4),
        slice_thickness_mm=thickness,
        palette=CtPalette.sample(stream(seed, "palette"), training=wild),
        resolution_mm=between(generator, 0.7, 1.8) * (1.6 if wild and generator.random() < 0.3 else 1.0),
        enhancement=between(generator, 0.2, 1.3) if sharp else between(generator, 0.0, 0.25),
        noise_hu=between(generator, 4.0, 30.0) * (2.5 if wild and generator.random() < 0.4 else 1.0),
        noise_grain_mm=between(generator, 0.6, 2.2),
        seed=int(generator.integers(2**31)),
    )
    shape = (count, max(64, round((top - bottom) / spacing)), max(64, round(deep / spacing)))
    placed = plane_acquisition(like, center, rows, columns, shape=shape, spacing_mm=(step, spacing, spacing))
    return replace(placed, slice_thickness_mm=thickness, table=bool(generator.random() < 0.85))


def _between(spine: Spine, first: Level, last: Level) -> Sequence[Vertebra]:
    return [one for one in spine.vertebrae if order(first) <= order(one.level) <= order(last)]


def _axes(yaw: float, roll: float) -> tuple[Floats, Floats]:
    """Unit vectors along rows (foot-ward) and columns (back-ward) of slices that are turned a little.

    Args:
        yaw: about the patient's long axis, radians.
        roll: about the axis from front to back.
    """
    columns = np.array([np.sin(yaw), np.cos(yaw), 0.0])
    down = np.array([np.sin(roll), 0.0, -np.cos(roll)])
    down = down - (down @ columns) * columns
    return down / np.linalg.norm(down), columns


def _as_reformatted(
    hu: npt.NDArray[np.int16], acquisition: CtAcquisition, generator: np.random.Generator
) -> npt.NDArray[np.int16]:
    """Most sagittal images are computed from axial slices, whose thickness blurs along the patient."""
    axial = between(generator, 0.6, 1.2) if generator.random() < 0.6 else between(generator, 1.2, 4.0)
    size = round(axial / acquisition.spacing_mm[1])
    if size < 2:
        return hu
    averaged = ndimage.uniform_filter1d(hu.astype(np.float32), size, axis=1, mode="nearest")
    stored: npt.NDArray[np.int16] = np.rint(averaged).astype(np.int16)
    return stored


def _bodies(
    spine: Spine, phantom: CtPhantom, k: int, spacing_mm: tuple[float, float]
) -> tuple[npt.NDArray[np.float32], tuple[str, ...], npt.NDArray[np.int8]]:
    """(boxes, levels, diseases) of slice k, as `CtSlice` has them; the sacrum has no box (P2: T1 to L5)."""
    labels, lesions = phantom.labels[k], phantom.lesions[k]
    boxes, levels, diseases = [], [], []
    found = ndimage.find_objects(labels, max_label=32)
    for vertebra in spine.vertebrae:
        place = found[verse_label(vertebra.level) - 1]
        if place is None or vertebra.level is Level.S1:
            continue
        inside = labels[place] == verse_label(vertebra.level)
        area = float(inside.sum()) * spacing_mm[0] * spacing_mm[1]
        if area < CUT_SHARE * _midsagittal_mm2(vertebra):
            continue
        rows, columns = place
        boxes.append([columns.start, rows.start, columns.stop, rows.stop])
        levels.append(vertebra.level.value)
        diseases.append(_diseases(vertebra, lesions[place], spacing_mm))
    return (
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        tuple(levels),
        np.array(diseases, dtype=np.int8).reshape(-1, len(DISEASES)),
    )


def _midsagittal_mm2(vertebra: Vertebra) -> float:
    body = vertebra.body
    heights = body.upper_front - body.lower_front, body.upper_back - body.lower_back
    depths = body.back_upper - body.front_upper, body.back_lower - body.front_lower
    return float(0.25 * sum(heights) * sum(depths))


def _diseases(
    vertebra: Vertebra, lesions: npt.NDArray[np.uint8], spacing_mm: tuple[float, float]
) -> list[int]:
    """What this slice shows of a body's diseases: 1, 0, or -1 where hardly anything is seen of it."""
    ill = set(vertebra.diseases)

    def seen(disease: Disease, *kinds: LesionKind) -> int:
        area = float(np.isin(lesions, kinds).sum()) * spacing_mm[0] * spacing_mm[1]
        if disease not in ill:
            return 0
        return 1 if area >= _SEEN_MM2 else -1 if area > 0.0 else 0

    cleft = seen(Disease.KD, LesionKind.CLEFT)
    surgery = seen(Disease.PS, LesionKind.CEMENT, LesionKind.METAL, LesionKind.CAGE)
    fresh, old = int(Disease.OVCF in ill), int(Disease.OF in ill)
    if Disease.KD in ill and not fresh and not old and cleft != 1:
        # A collapse beside its cleft: which kind of fracture the slice shows, nobody can say.
        fresh = old = cleft = -1
    if surgery == 1 and cleft == -1:
        cleft = 0
    return [fresh, old, seen(Disease.SN, LesionKind.SCHMORL), cleft, surgery]

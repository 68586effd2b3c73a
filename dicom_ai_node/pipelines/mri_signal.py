"""Signal of vertebral bodies on MR against what lies beside them, and which bodies stand out.

MR has no unit: a body is bright or dark only beside others of the same image. It is put in relation to the
bodies above and below (as Genant's reference heights are), to the discs at its endplates, to the canal with
all that it holds, and to the cord where one is told from the fluid about it (`mri_cord`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_ai_node.anatomy import Level, order, verse_label
from dicom_ai_node.genant import NEIGHBOURS_EACH_WAY
from dicom_ai_node.imaging.mr_pairing import Role
from dicom_ai_node.pipelines.mri_cord import body_axes, cord_signal
from dicom_ai_node.pipelines.mri_partners import ROLE_NAMES
from dicom_ai_node.report import LabelMap

INSIDE_MM: Final = 2.5
"""So far from a body's edge its signal is measured: endplates and partial volume do not count."""

MIN_VOXELS: Final = 12
"""From fewer voxels nothing is told."""

DISC_REACH_MM: Final = (4.0, 5.0)
"""A disc is sampled so far to the sides and so far to front and back of its middle."""

MIN_DISC_MM: Final = 3.0
"""A lower disc is endplate in its middle, too."""

CANAL_DEPTH_MM: Final = 9.0
"""The middle of the canal lies so far behind the posterior wall (adults: 15 to 20 mm from front to back)."""

CANAL_REACH_MM: Final = (2.0, 3.0, 5.0)
"""It is sampled so far to the sides, to front and back, up and down."""

_EXTREME: Final = 0.2
"""A lesion need not fill a body: its darkest and its brightest fifth are compared with those of others."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SignalLimits:
    """Below and above which ratio to its neighbours a body stands out; 0 and infinity: not by this.

    Marrow with oedema or tumour is dark on T1 and bright where fat is dark; a haemangioma is bright on T1 as
    well; sclerosis is dark on all. The bounds follow from these rules alone: they were not measured yet.

    Attributes:
        t1, t2, stir: (least, largest).
    """

    t1: tuple[float, float] = (0.7, 1.6)
    t2: tuple[float, float] = (0.6, 1.7)
    stir: tuple[float, float] = (0.0, 1.8)


@dataclass(frozen=True)
class BodySignal:
    """Signal of one body in one series.

    Attributes:
        dark, middle, bright: signal that a fifth, half and four fifths of the body stay below.
        disc, canal: of what lies beside; None where it was not seen.
        cord: of the spinal cord; None below its end and where it does not stand out.
    """

    dark: float
    middle: float
    bright: float
    disc: float | None
    canal: float | None
    cord: float | None = None


def body_signals(
    image: npt.NDArray[np.floating],
    seen: npt.NDArray[np.bool_],
    label_map: LabelMap,
    points_mm: Mapping[Level, Floats],
    *,
    across: int,
    role: Role,
) -> dict[Level, BodySignal]:
    """Signal of every labelled body in one image on the grid of the label map.

    Args:
        image: shape (slices, rows, columns).
        seen: where the image reaches, same shape.
        label_map: of the bodies; patient space by its affine.
        points_mm: six points of those bodies that were measured, shape (6, 3), LPS.
        across: axis of the grid along which slices are stacked.
        role: what the image is.
    """
    assert label_map.affine is not None
    discs = _discs(image, seen, label_map.affine, points_mm)
    spacing = np.linalg.norm(label_map.affine[:3, :3], axis=0)
    found = {}
    for level in sorted({*points_mm, *_levels_in(label_map)}, key=order):
        values = image[_inner(label_map.labels == verse_label(level), spacing, across) & seen]
        if values.size < MIN_VOXELS:
            continue
        dark, middle, bright = (float(v) for v in np.quantile(values, (_EXTREME, 0.5, 1 - _EXTREME)))
        canal = cord = None
        if level in points_mm:
            canal = _canal(image, seen, label_map.affine, points_mm[level])
            cord = cord_signal(image, seen, label_map.affine, points_mm[level], level=level, role=role)
        found[level] = BodySignal(dark, middle, bright, discs.get(level), canal, cord)
    return found


def ratios(signals: Mapping[Level, BodySignal]) -> dict[Level, dict[str, float]]:
    """`report.SIGNAL_RATIOS` of every body, as far as there is something to compare with."""
    answer = {}
    for level, own in signals.items():
        around = _neighbours(level, signals)
        against = {
            "to_neighbours": median(item.middle for item in around) if around else None,
            "to_discs": own.disc,
            "to_canal": own.canal,
            "to_cord": own.cord,
        }
        answer[level] = {name: own.middle / other for name, other in against.items() if other}
    return answer


def standing_out(
    signals: Mapping[Role, Mapping[Level, BodySignal]], limits: SignalLimits
) -> dict[Level, list[str]]:
    """Why bodies stand out from their neighbours, in words; bodies that do not are absent."""
    answer: dict[Level, list[str]] = {}
    bounds = {"t1": limits.t1, "t2": limits.t2, "stir": limits.stir}
    for role, bodies in signals.items():
        least, largest = bounds.get(role, (0.0, math.inf))
        for level, own in bodies.items():
            around = _neighbours(level, bodies)
            if not around:
                continue
            dark = _over(own.dark, median(item.dark for item in around))
            bright = _over(own.bright, median(item.bright for item in around))
            if dark < least:
                words = f"dark on {ROLE_NAMES[role]}: {dark:.2f} of its neighbours"
                answer.setdefault(level, []).append(words)
            if bright > largest:
                words = f"bright on {ROLE_NAMES[role]}: {bright:.2f} of its neighbours"
                answer.setdefault(level, []).append(words)
    return answer


def _neighbours(level: Level, signals: Mapping[Level, BodySignal]) -> list[BodySignal]:
    """The nearest bodies above and below, as many each way as reference heights are taken from."""
    above = [item for item in signals if order(item) < order(level)]
    below = [item for item in signals if order(item) > order(level)]
    return [signals[item] for item in (*above[-NEIGHBOURS_EACH_WAY:], *below[:NEIGHBOURS_EACH_WAY])]


def _over(value: float, other: float) -> float:
    return value / other if other > 0 else 1.0


def _levels_in(label_map: LabelMap) -> list[Level]:
    present = set(np.unique(label_map.labels).tolist()) - {0}
    return [level for level in Level if verse_label(level) in present]


def _inner(mask: npt.NDArray[np.bool_], spacing: Floats, across: int) -> npt.NDArray[np.bool_]:
    """The body without its edge in the plane of the slices; slices are too thick to lose one."""
    where = ndimage.find_objects(mask.astype(np.uint8))
    if not where:
        return mask
    inner = np.zeros_like(mask)
    # Across the slices nothing is near: a body's own slices never end it.
    sampling = [1e6 if axis == across else float(step) for axis, step in enumerate(spacing)]
    padded = np.pad(mask[where[0]], 1)
    deep = ndimage.distance_transform_edt(padded, sampling=sampling)[1:-1, 1:-1, 1:-1] > INSIDE_MM
    inner[where[0]] = deep
    return inner


def _discs(
    image: npt.NDArray[np.floating],
    seen: npt.NDArray[np.bool_],
    affine: Floats,
    points_mm: Mapping[Level, Floats],
) -> dict[Level, float]:
    """Mean signal of the discs at a body's endplates."""
    beside: dict[Level, list[float]] = {}
    levels = sorted(points_mm, key=order)
    for upper, lower in itertools.pairwise(levels):
        if order(lower) - order(upper) > 2:
            continue
        top, bottom = points_mm[upper][3], points_mm[lower][2]
        if np.linalg.norm(bottom - top) < MIN_DISC_MM:
            continue
        left, back = body_axes(points_mm[upper])
        aside, deep = DISC_REACH_MM
        value = _sampled(image, seen, affine, 0.5 * (top + bottom), [(left, aside), (back, deep)])
        if value is not None:
            beside.setdefault(upper, []).append(value)
            beside.setdefault(lower, []).append(value)
    return {level: float(np.mean(values)) for level, values in beside.items()}


def _canal(
    image: npt.NDArray[np.floating], seen: npt.NDArray[np.bool_], affine: Floats, points: Floats
) -> float | None:
    left, back = body_axes(points)
    wall = 0.5 * (points[4] + points[5])
    up = np.cross(left, back)
    aside, deep, tall = CANAL_REACH_MM
    return _sampled(
        image, seen, affine, wall + CANAL_DEPTH_MM * back, [(left, aside), (back, deep), (up, tall)]
    )


def _sampled(
    image: npt.NDArray[np.floating],
    seen: npt.NDArray[np.bool_],
    affine: Floats,
    middle: Floats,
    reach: Sequence[tuple[Floats, float]],
) -> float | None:
    """Median signal of the voxels about a point; None where the image does not reach."""
    steps = [np.linspace(-far, far, 5)[:, None] * direction for direction, far in reach]
    points = middle[None]
    for step in steps:
        points = (points[:, None] + step[None]).reshape(-1, 3)
    inverse = np.linalg.inv(affine)
    index = np.rint(points @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    inside = ((index >= 0) & (index < image.shape)).all(axis=1)
    chosen = tuple(index[inside].T)
    values = image[chosen][seen[chosen]]
    return float(np.median(values)) if values.size >= 0.5 * len(points) else None

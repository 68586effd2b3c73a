"""Slices in any order to one stack with one affine, or the reason why they form none.

Slices are ordered along the normal of their planes (row cosines x column cosines), never by number or file
name. The affine is the least-squares line through the positions, so that a tilted gantry becomes the
shear that it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from dicom_ai_node.errors import InconsistentGeometry, NotAnalysable
from dicom_ai_node.imaging.header import as_written, name_of
from dicom_ai_node.imaging.slices import Slice
from dicom_ai_node.report import Reason

SAME_POSITION_MM: Final = 0.01
"""Slices closer than this lie in one plane."""

_COSINE_TOLERANCE: Final = 2e-3
_SPACING_TOLERANCE: Final = 1e-3

Vectors = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Stack:
    """Slices at equal steps: plane `k` of the affine is `slices[k]`."""

    slices: tuple[Slice, ...]
    affine: Vectors
    """4x4, (slice, row, column, 1) to LPS millimetres."""
    interpolated: frozenset[int]
    """Planes that were not sent; there `slices` repeats the nearest plane that was."""
    notes: tuple[Reason, ...]


def stack(slices: Sequence[Slice], *, max_gap_mm: float | None = None) -> Stack:
    """The one stack that all of `slices` form.

    Copies of one instance are taken once. Where several instances lie in one plane, those of the pass
    (acquisition, phase, kernel) that covers most planes are kept. Both are noted.

    Args:
        slices: in any order.
        max_gap_mm: distance of neighbouring slices up to which planes between them count as missing and
            may be interpolated; None tolerates no missing plane.

    Raises:
        NotAnalysable: fewer than two planes.
        InconsistentGeometry: different series, orientations, sizes or spacings, unequal steps, or a gap.
    """
    notes: list[Reason] = []
    unique = _without_copies(slices, notes)
    _check_alike(unique)
    planes = _one_per_plane(unique, notes)
    if len(planes) < 2:
        raise NotAnalysable(
            "coverage",
            "The series has one slice only"
            f"{f' ({planes[0].path.name})' if planes else ''}: heights cannot be measured in it. "
            "Send the whole series.",
        )
    return _regular(planes, max_gap_mm, notes)


def stacks(slices: Sequence[Slice]) -> list[tuple[Slice, ...]]:
    """The stacks that a mixed series falls into, largest first; each can be given to `stack`.

    Slices are one stack when they agree in series, orientation, size and spacing and follow one another at
    equal steps. Where the step changes, a new stack begins.
    """
    found: list[tuple[Slice, ...]] = []
    for group in _alike(_without_copies(slices, [])):
        planes = _one_per_plane(group, [])
        if len(planes) < 3:
            found.append(tuple(planes))
            continue
        steps = np.diff(_positions(planes), axis=0)
        usual = np.median(steps, axis=0)
        tolerance = _step_tolerance(float(np.linalg.norm(usual)))
        breaks = [k + 1 for k, step in enumerate(steps) if np.linalg.norm(step - usual) > tolerance]
        for first, last in zip([0, *breaks], [*breaks, len(planes)], strict=True):
            found.append(tuple(planes[first:last]))
    return sorted(found, key=lambda group: (-len(group), group[0].path))


def _without_copies(slices: Sequence[Slice], notes: list[Reason]) -> list[Slice]:
    ordered = sorted(slices, key=lambda item: (str(item.path), item.frame))
    by_instance: dict[tuple[str, int], Slice] = {}
    for item in ordered:
        by_instance.setdefault((item.sop_instance_uid, item.frame), item)
    taken = list(by_instance.values())
    copies = [
        item.path.name for item in ordered if by_instance[item.sop_instance_uid, item.frame] is not item
    ]
    if copies:
        notes.append(
            Reason("partial", f"{_listed(copies)}: copies of instances that were sent before; taken once.")
        )
    return taken


def _difference(item: Slice, other: Slice) -> str | None:
    """The attribute in which two slices differ so that no volume holds both; None where there is none."""
    cosines = np.subtract(
        (*item.row_cosines, *item.column_cosines), (*other.row_cosines, *other.column_cosines)
    )
    if item.series_instance_uid != other.series_instance_uid:
        return "SeriesInstanceUID"
    if item.frame_of_reference_uid != other.frame_of_reference_uid:
        return "FrameOfReferenceUID"
    if np.abs(cosines).max() > _COSINE_TOLERANCE:
        return "ImageOrientationPatient"
    if item.rows != other.rows:
        return "Rows"
    if item.columns != other.columns:
        return "Columns"
    if np.abs(np.subtract(item.pixel_spacing, other.pixel_spacing)).max() > _SPACING_TOLERANCE:
        return "PixelSpacing"
    return None


def _alike(slices: Sequence[Slice]) -> list[list[Slice]]:
    groups: list[list[Slice]] = []
    for item in slices:
        for group in groups:
            if _difference(item, group[0]) is None:
                group.append(item)
                break
        else:
            groups.append([item])
    return sorted(groups, key=len, reverse=True)


_ATTRIBUTE_VALUES: Final[dict[str, Callable[[Slice], str]]] = {
    "SeriesInstanceUID": lambda item: item.series_instance_uid,
    "FrameOfReferenceUID": lambda item: item.frame_of_reference_uid or "absent",
    "ImageOrientationPatient": lambda item: as_written(
        f"{value:.4g}" for value in (*item.row_cosines, *item.column_cosines)
    ),
    "Rows": lambda item: str(item.rows),
    "Columns": lambda item: str(item.columns),
    "PixelSpacing": lambda item: as_written(f"{value:g}" for value in item.pixel_spacing),
}


def _check_alike(slices: Sequence[Slice]) -> None:
    groups = _alike(slices)
    if len(groups) <= 1:
        return
    most, others = groups[0], [item for group in groups[1:] for item in group]
    keyword = _difference(others[0], most[0]) or "ImageOrientationPatient"
    value = _ATTRIBUTE_VALUES[keyword]
    raise InconsistentGeometry(
        f"The series mixes {len(groups)} geometries: {_listed([_named(item) for item in others])} differ"
        f"{'s' if len(others) == 1 else ''} from the {len(most)} others in {name_of(keyword)} "
        f"({value(others[0])}, not {value(most[0])}). Send each stack as a series of its own, "
        "or leave the odd images out."
    )


def _one_per_plane(slices: Sequence[Slice], notes: list[Reason]) -> list[Slice]:
    if not slices:
        return []
    normal = _normal(slices[0])
    heights = [float(np.dot(normal, item.position)) for item in slices]
    ordered = [slices[index] for index in np.argsort(heights, kind="stable")]
    planes: list[list[Slice]] = [[ordered[0]]]
    for item in ordered[1:]:
        shift = np.subtract(item.position, planes[-1][0].position)
        if abs(float(np.dot(normal, shift))) < SAME_POSITION_MM:
            planes[-1].append(item)
        else:
            planes.append([item])
    if all(len(plane) == 1 for plane in planes):
        return ordered
    covered: dict[tuple[str, ...], int] = {}
    for plane in planes:
        for acquisition in {item.acquisition for item in plane}:
            covered[acquisition] = covered.get(acquisition, 0) + 1
    kept = [
        min(
            plane,
            key=lambda item: (
                -covered[item.acquisition],
                item.acquisition,
                item.instance_number,
                item.sop_instance_uid,
                item.frame,
            ),
        )
        for plane in planes
    ]
    dropped = [
        _named(item) for plane, keep in zip(planes, kept, strict=True) for item in plane if item != keep
    ]
    notes.append(
        Reason(
            "partial",
            f"{_listed(dropped)}: another image lies in the same plane ({name_of('ImagePositionPatient')}); "
            "of each plane one image was used.",
        )
    )
    return kept


def _step_tolerance(spacing: float) -> float:
    # Positions are decimal strings that some scanners round to 0.1 mm.
    return max(0.12, 0.05 * spacing)


def _regular(planes: list[Slice], max_gap_mm: float | None, notes: list[Reason]) -> Stack:
    normal = _normal(planes[0])
    positions = _positions(planes)
    gaps = np.diff(positions @ normal)
    spacing = float(np.median(gaps))
    tolerance = min(_step_tolerance(spacing), 0.4 * spacing)
    multiples = np.maximum(1, np.rint(gaps / spacing)).astype(int)
    uneven = np.flatnonzero(np.abs(gaps - multiples * spacing) > tolerance * np.maximum(1, multiples - 1))
    limit = 0.0 if max_gap_mm is None else max_gap_mm + tolerance
    wide = np.flatnonzero((multiples > 1) & (gaps > limit))
    if len(wide) or len(uneven):
        raise InconsistentGeometry(_gap_message(planes, gaps, spacing, np.union1d(wide, uneven), wide))
    indices = np.concatenate([[0], np.cumsum(multiples)])
    design = np.stack([indices, np.ones_like(indices)], axis=1).astype(np.float64)
    (step, origin), *_ = np.linalg.lstsq(design, positions, rcond=None)
    residuals = np.linalg.norm(design @ np.stack([step, origin]) - positions, axis=1)
    worst = int(np.argmax(residuals))
    if residuals[worst] > _step_tolerance(spacing):
        raise InconsistentGeometry(
            f"{_named(planes[worst])} lies {residuals[worst]:.2f} mm off the line through all "
            f"{len(planes)} slices ({name_of('ImagePositionPatient')}). Send one stack per series."
        )
    if float(np.dot(step, normal)) < 0.4 * float(np.linalg.norm(step)):
        raise InconsistentGeometry(
            f"From {_named(planes[0])} to {_named(planes[-1])} the slices are shifted sideways rather than "
            f"stacked ({name_of('ImagePositionPatient')}). Send the slices of one stack."
        )
    if indices[-1] + 1 > len(planes):
        notes.append(
            Reason(
                "partial",
                f"{indices[-1] + 1 - len(planes)} missing slices were interpolated: "
                f"{_gaps_listed(planes, gaps, np.flatnonzero(multiples > 1))}.",
            )
        )
    return _filled(planes, indices, step, origin, notes)


def _filled(
    planes: list[Slice], indices: npt.NDArray[np.int_], step: Vectors, origin: Vectors, notes: list[Reason]
) -> Stack:
    first = planes[0]
    affine = np.eye(4)
    # A nanometre is beyond any position: what is left of the fit's rounding goes.
    affine[:3, 0] = np.round(step, 9)
    affine[:3, 1] = np.multiply(first.column_cosines, first.pixel_spacing[0])
    affine[:3, 2] = np.multiply(first.row_cosines, first.pixel_spacing[1])
    affine[:3, 3] = np.round(origin, 9)
    everywhere = np.arange(indices[-1] + 1)
    after = np.searchsorted(indices, everywhere)
    before = np.maximum(after - 1, 0)
    nearest = np.where(indices[after] - everywhere <= everywhere - indices[before], after, before)
    return Stack(
        slices=tuple(planes[k] for k in nearest),
        affine=affine,
        interpolated=frozenset(set(everywhere.tolist()) - set(indices.tolist())),
        notes=tuple(notes),
    )


def _gap_message(
    planes: list[Slice],
    gaps: Vectors,
    spacing: float,
    odd: npt.NDArray[np.intp],
    wide: npt.NDArray[np.intp],
) -> str:
    way_out = (
        f"Send the missing slices, or allow gaps with max_gap_mm = {np.ceil(gaps[wide].max() * 10) / 10:g}."
        if len(wide) == len(odd)
        else "Send one reconstruction with equal steps."
    )
    return (
        f"Unequal steps between slices: {_gaps_listed(planes, gaps, odd)}; the others are {spacing:.4g} mm "
        f"apart ({name_of('ImagePositionPatient')}). {way_out}"
    )


def _gaps_listed(planes: list[Slice], gaps: Vectors, places: npt.NDArray[np.intp]) -> str:
    return _listed(
        [f"{_named(planes[k])} and {_named(planes[k + 1])} are {gaps[k]:.4g} mm apart" for k in places]
    )


def _positions(planes: Sequence[Slice]) -> Vectors:
    return np.array([item.position for item in planes], dtype=np.float64)


def _normal(item: Slice) -> Vectors:
    normal: Vectors = np.cross(item.row_cosines, item.column_cosines)
    return normal / np.linalg.norm(normal)


def _named(item: Slice) -> str:
    return (
        item.path.name
        if item.frame == 1 and ".1.1.2.1" not in item.sop_class_uid
        else (f"{item.path.name} frame {item.frame}")
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"

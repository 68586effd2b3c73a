"""From the slices of a series to the one stack worth analysing, and what that stack covers.

Source: PS3.3 C.7.6.2 (image plane).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from dicom_ai_node.config import CtRoute, Orientation
from dicom_ai_node.errors import InconsistentGeometry, NotAnalysable
from dicom_ai_node.imaging.slices import Slice
from dicom_ai_node.imaging.stack import stack, stacks
from dicom_ai_node.report import Reason

_PLANES: Final[tuple[Orientation, ...]] = ("sagittal", "coronal", "axial")
_OBLIQUE_COSINE: Final = 0.766
"""A plane whose normal is 40 degrees or more off every patient axis is oblique."""


@dataclass(frozen=True)
class Shape:
    """The chosen stack.

    Attributes:
        slices: in ascending order along their normal.
        left_out: every other slice, with the reason.
        notes: what the choice was between, in words.
        flaw: why the slices form no volume, None where they do.
    """

    slices: tuple[Slice, ...]
    left_out: tuple[tuple[Slice, str], ...] = ()
    notes: tuple[str, ...] = ()
    flaw: str | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files of the slices, each once."""
        return tuple(dict.fromkeys(item.path for item in self.slices))

    @property
    def orientation(self) -> Orientation:
        """The patient plane that the slices lie in."""
        first = self.slices[0]
        normal = np.abs(np.cross(first.row_cosines, first.column_cosines))
        axis = int(np.argmax(normal))
        return _PLANES[axis] if normal[axis] > _OBLIQUE_COSINE else "oblique"

    @property
    def spacing_mm(self) -> float:
        """Usual distance of neighbouring slices, 0 for a single slice."""
        if len(self.slices) < 2:
            return 0.0
        positions = np.array([item.position for item in self.slices])
        return float(np.median(np.linalg.norm(np.diff(positions, axis=0), axis=1)))

    @property
    def coverage_mm(self) -> float:
        """How much of the patient from head to feet lies between the edges of the stack."""
        first, last = self.slices[0], self.slices[-1]
        stacked = abs(last.position[2] - first.position[2])
        if len(self.slices) > 1:
            stacked *= len(self.slices) / (len(self.slices) - 1)
        rows_mm = abs(first.column_cosines[2]) * first.rows * first.pixel_spacing[0]
        columns_mm = abs(first.row_cosines[2]) * first.columns * first.pixel_spacing[1]
        return max(stacked, rows_mm, columns_mm)

    def in_words(self) -> str:
        """`99 axial slices, 4.25 mm apart, 421 mm from head to feet`."""
        count = f"{len(self.slices)} {self.orientation} slice{'s' if len(self.slices) > 1 else ''}"
        apart = f", {self.spacing_mm:.4g} mm apart" if len(self.slices) > 1 else ""
        return f"{count}{apart}, {self.coverage_mm:.0f} mm from head to feet"

    def refusal(self, rules: CtRoute) -> Reason | None:
        """Why the stack cannot be analysed under these rules; None where it can."""
        if self.flaw is not None:
            return Reason("geometry", self.flaw)
        pixel_mm = max(self.slices[0].pixel_spacing)
        if self.orientation not in rules.orientations:
            return Reason(
                "orientation",
                f"{self.in_words()}: {self.orientation} slices are not analysed; send an axial "
                "reconstruction, or change [routes.ct] orientations",
            )
        if len(self.slices) < rules.min_slices:
            return Reason(
                "coverage",
                f"{self.in_words()}: {rules.min_slices} slices are the least ([routes.ct] min_slices); "
                "send the whole series",
            )
        if self.coverage_mm < rules.min_coverage_mm:
            return Reason(
                "coverage",
                f"{self.in_words()}: {rules.min_coverage_mm:g} mm are the least "
                "([routes.ct] min_coverage_mm); send a series that covers more of the spine",
            )
        if self.spacing_mm > rules.max_spacing_mm:
            return Reason(
                "spacing",
                f"{self.in_words()}: {rules.max_spacing_mm:g} mm are the most ([routes.ct] max_spacing_mm); "
                "send a thinner reconstruction",
            )
        if pixel_mm > rules.max_pixel_spacing_mm:
            return Reason(
                "spacing",
                f"{self.in_words()}, pixels of {pixel_mm:.4g} mm: {rules.max_pixel_spacing_mm:g} mm are "
                "the most ([routes.ct] max_pixel_spacing_mm); send a reconstruction with a finer matrix",
            )
        return None


def choose_stack(slices: Sequence[Slice], rules: CtRoute) -> Shape:
    """The stack of a series that is analysed: of those the rules allow the one that covers most.

    Args:
        slices: at least one, in any order; copies and second images of a plane are left out.
    """
    try:
        whole = stack(slices, max_gap_mm=rules.max_gap_mm or None)
    except NotAnalysable:
        return _among(slices, [(slices[0],)], rules)
    except InconsistentGeometry as error:
        groups = [group for group in stacks(slices) if group]
        return _among(slices, groups, rules, mixed=str(error))
    sent = tuple(item for k, item in enumerate(whole.slices) if k not in whole.interpolated)
    count = len(whole.interpolated)
    gaps = (f"{count} missing slice{'s' if count > 1 else ''} bridged ([routes.ct] max_gap_mm)",)
    return _leaving_out(Shape(sent, notes=gaps if whole.interpolated else ()), slices)


def _among(
    slices: Sequence[Slice], groups: Sequence[tuple[Slice, ...]], rules: CtRoute, mixed: str | None = None
) -> Shape:
    shapes = sorted(
        (Shape(group) for group in groups),
        key=lambda shape: (shape.refusal(rules) is not None, -shape.coverage_mm, -len(shape.slices)),
    )
    best = shapes[0]
    if len(shapes) == 1:
        return _leaving_out(Shape(best.slices, flaw=mixed), slices)
    others = "; ".join(shape.in_words() for shape in shapes[1:4])
    more = f"; and {len(shapes) - 4} more" if len(shapes) > 4 else ""
    notes = (
        f"the series falls into {len(shapes)} stacks, this is the one that covers most; "
        f"the others: {others}{more}",
    )
    return _leaving_out(Shape(best.slices, notes=notes, flaw=_flaw(best.slices, slices, mixed)), slices)


def _flaw(chosen: Sequence[Slice], slices: Sequence[Slice], mixed: str | None) -> str | None:
    if len(chosen) < 2:
        return mixed
    try:
        stack(chosen)
    except (InconsistentGeometry, NotAnalysable) as error:
        return str(error)
    taken = {(item.path, item.frame) for item in chosen}
    paths = {item.path for item in chosen}
    for item in slices:
        if item.path in paths and (item.path, item.frame) not in taken:
            return (
                f"{item.path.name}: its frames form several stacks (frame {item.frame} is in another one); "
                "send each stack as an instance of its own"
            )
    return None


def _leaving_out(shape: Shape, slices: Sequence[Slice]) -> Shape:
    taken = {(item.path, item.frame) for item in shape.slices}
    instances = {(item.sop_instance_uid, item.frame) for item in shape.slices}
    positions = {item.position for item in shape.slices}
    left_out: list[tuple[Slice, str]] = []
    for item in slices:
        if (item.path, item.frame) in taken:
            continue
        if (item.sop_instance_uid, item.frame) in instances:
            reason = "a copy of an instance that is used"
        elif item.position in positions:
            reason = "another image of the same plane is used (ImagePositionPatient)"
        else:
            reason = "not part of the stack that is analysed (other position, orientation, size or spacing)"
        left_out.append((item, reason))
    return Shape(shape.slices, tuple(left_out), shape.notes, shape.flaw)

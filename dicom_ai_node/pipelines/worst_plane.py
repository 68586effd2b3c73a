"""Which sagittal plane of a body counts: the middle, or a worse place to one side of it.

Every plane is graded among the same plane of the neighbours. Beside the middle all bodies of a scoliotic
spine are lower on the hollow side, and the rims of all bodies lie closer together: only what stands out from
the neighbours' same side is a loss.

The six points of one plane err by about a millimetre, which is a twentieth of a height, so the worst of
three measurements would be worse than the truth more often than not, and one misplaced point would break a
body. A broken endplate is a surface: what is lower to one side is lower next to it, too. So a plane beside
the middle counts together with the middle plane, its neighbour, by the mean of their points: half of what
only one of them shows is believed, all of what both show. It is the rule by which two neighbouring slices
judge a disease (`networks.slice_opinions`). The mean of two planes' points lies in the plane between
them, so points, heights and loss still belong together.

A body that no plane grades is told by its middle: what its planes differ by is error, and an earlier report
can be compared with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from dicom_ai_node.anatomy import Level
from dicom_ai_node.genant import Grading, Heights, Thresholds, grade_spine
from dicom_ai_node.pipelines.ct_heights import MeasuredBody, PlanePoints
from dicom_ai_node.pipelines.fracture_evidence import fracture_probabilities
from dicom_ai_node.pipelines.morphometry import six_point_heights
from dicom_ai_node.report import HeightsMm, PlaneMeasures, SixPoints

Side = Literal["middle", "right", "left"]
SIDES: Final[tuple[Side, ...]] = ("middle", "right", "left")

Spine = Mapping[Level, Heights]


@dataclass(frozen=True)
class CountedPlane:
    """What counts of one body.

    Attributes:
        points: six points, LPS millimetres.
        spine: heights of all bodies in the same place, this one's among them.
        grading: None for levels that have no Genant grade.
        probability: of a fracture by the heights alone; None without a grade.
        planes: all that were measured, right to left.
    """

    points: SixPoints
    spine: Spine
    grading: Grading | None
    probability: float | None
    planes: tuple[PlaneMeasures, ...]


def counted_planes(
    measured: Mapping[Level, MeasuredBody], thresholds: Thresholds, *, error: float
) -> dict[Level, CountedPlane]:
    """The plane that counts of every body that was measured.

    Args:
        measured: head to tail.
        thresholds: of the grades.
        error: what the error of a height loss is taken to be, see `fracture_probabilities`.
    """
    planes = {level: _planes(body) for level, body in measured.items() if body.middle is not None}
    own = {side: _heights(planes, side) for side in SIDES}
    own_gradings = {side: grade_spine(own[side], thresholds) for side in SIDES}
    believed = {level: {side: _believed(found, side) for side in found} for level, found in planes.items()}
    spines = {side: _heights(believed, side) for side in SIDES}
    gradings = {side: grade_spine(spines[side], thresholds) for side in SIDES}
    broken = {
        side: fracture_probabilities(spines[side], gradings[side], thresholds, error=error) for side in SIDES
    }
    counted = {}
    for level, found in planes.items():
        side: Side = "middle"
        if level in gradings[side]:
            # The first of equals is the middle.
            judged = {name: (gradings[name][level], broken[name][level]) for name in found}
            worst = max(found, key=lambda name: _severity(*judged[name]))
            side = worst if gradings[worst][level].grade else "middle"
        counted[level] = CountedPlane(
            SixPoints.from_array(believed[level][side].points_mm),
            spines[side],
            gradings[side].get(level),
            broken[side].get(level),
            tuple(
                _told(
                    found[name],
                    own[name][level],
                    own_gradings[name].get(level),
                    counts=name in ("middle", side),
                )
                for name in ("right", "middle", "left")
                if name in found
            ),
        )
    return counted


def _severity(grading: Grading, probability: float) -> tuple[float, ...]:
    """Of planes with the same grade the one counts that looks most like a fracture."""
    return grading.grade, probability, grading.loss


def _planes(body: MeasuredBody) -> dict[Side, PlanePoints]:
    there = {"middle": body.middle, "right": body.right, "left": body.left}
    return {side: plane for side in SIDES if (plane := there[side]) is not None}


def _believed(found: Mapping[Side, PlanePoints], side: Side) -> PlanePoints:
    """The mean of a plane and the middle one."""
    middle, plane = found["middle"], found[side]
    return PlanePoints((middle.aside_mm + plane.aside_mm) / 2, (middle.points_mm + plane.points_mm) / 2)


def _heights(planes: Mapping[Level, Mapping[Side, PlanePoints]], side: Side) -> dict[Level, Heights]:
    """Heights of the whole spine at one side; of a body that has no such plane those of its middle."""
    return {
        level: six_point_heights(found.get(side, found["middle"]).points_mm)
        for level, found in planes.items()
    }


def _told(plane: PlanePoints, own: Heights, grading: Grading | None, *, counts: bool) -> PlaneMeasures:
    reference = own.largest if grading is None else grading.reference_mm
    return PlaneMeasures(
        round(plane.aside_mm, 2),
        counts,
        SixPoints.from_array(np.asarray(plane.points_mm)),
        HeightsMm(own.anterior, own.middle, own.posterior, reference),
        None if grading is None else grading.loss,
    )

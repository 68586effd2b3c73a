"""Which vertebrae of a spine break and how, so that a reader grades them as was asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, cast

import numpy as np
import numpy.typing as npt

from dicom_ai_node.anatomy import SUPERNUMERARY, Level
from dicom_ai_node.genant import TYPICAL_POSTERIOR_HEIGHT_MM, Grading, Heights, grade_spine
from dicom_ai_node.phantom.body import BodyShape, heights
from dicom_ai_node.phantom.column import rotation
from dicom_ai_node.phantom.deformity import (
    LOOK_ALIKE_LOSS,
    LOSS_BY_GRADE,
    Collapse,
    FractureKind,
    collapsed,
    sample_collapse,
)
from dicom_ai_node.phantom.randomness import between
from dicom_ai_node.report import Deformity

Array = npt.NDArray[np.float64]
Adjustment = Callable[[Level, Collapse], Collapse]

FRACTURE_LEVELS: Final[Mapping[Level, float]] = {
    Level.T4: 0.4, Level.T5: 0.6, Level.T6: 0.9, Level.T7: 1.3, Level.T8: 1.3, Level.T9: 1.0, Level.T10: 0.8,
    Level.T11: 1.3, Level.T12: 2.0, Level.L1: 2.2, Level.L2: 1.4, Level.L3: 1.0, Level.L4: 0.8, Level.L5: 0.4,
}  # fmt: skip
"""Relative frequency of osteoporotic fractures per level: two peaks, mid-thoracic and thoracolumbar."""


SOUND: Final[tuple[Deformity, int]] = ("none", 0)
ATTEMPTS: Final = 12


def random_fractures(
    levels: Sequence[Level], chance: float, look_alikes: float, generator: np.random.Generator
) -> dict[Level, tuple[Deformity, int]]:
    """A plan of fractures as osteoporosis makes them, in clusters, with look-alikes (grade 0) beside them.

    Args:
        levels: of the spine.
        chance: that there is any fracture.
        look_alikes: mean number of bodies that look deformed but are not broken.
        generator: where the randomness comes from.
    """
    plan: dict[Level, tuple[Deformity, int]] = {}
    candidates = [level for level in levels if level in FRACTURE_LEVELS]
    weights = np.array([FRACTURE_LEVELS[level] for level in candidates])
    if generator.random() < chance:
        count = int(generator.choice([1, 2, 3, 4], p=[0.4, 0.3, 0.18, 0.12]))
        for _ in range(count):
            level = candidates[int(generator.choice(len(candidates), p=weights / weights.sum()))]
            kind = cast(
                "Deformity", str(generator.choice(["wedge", "biconcave", "crush"], p=[0.5, 0.28, 0.22]))
            )
            plan[level] = (kind, int(generator.choice([1, 2, 3], p=[0.3, 0.4, 0.3])))
            # Fractures come in clusters: the load goes to the neighbours.
            apart = np.array([abs(candidates.index(level) - k) for k in range(len(candidates))])
            weights = weights * (1.0 + 2.5 * np.exp(-apart / 1.5)) * (apart > 0)
    for _ in range(int(generator.poisson(look_alikes))):
        level = candidates[int(generator.integers(len(candidates)))]
        kind = "wedge" if generator.random() < 0.6 else "biconcave"
        plan.setdefault(level, (cast("Deformity", kind), 0))
    return plan


def check_plan(levels: Sequence[Level], plan: Mapping[Level, tuple[Deformity, int]]) -> None:
    """Raise ValueError where a plan asks for what cannot break, or for an unknown deformity or grade."""
    for level, (kind, grade) in plan.items():
        if level not in levels or not (level in FRACTURE_LEVELS or level in SUPERNUMERARY):
            raise ValueError(
                f"{level} cannot be fractured in this spine; T4 to L5 can, and T13 or L6 if present"
            )
        if kind not in ("wedge", "biconcave", "crush", "none") or grade not in (0, 1, 2, 3):
            raise ValueError(
                f"{level}: {kind}, grade {grade}: use wedge, biconcave or crush with grade 1, 2 or 3"
            )
        if kind == "none" and grade:
            raise ValueError(f"{level}: a fracture of grade {grade} has a kind: wedge, biconcave or crush")


def fractured_bodies(
    levels: Sequence[Level],
    healthy: Sequence[BodyShape],
    plan: Mapping[Level, tuple[Deformity, int]],
    generator: np.random.Generator,
    *,
    at_random: bool,
    adjusted: Adjustment | None = None,
) -> tuple[list[BodyShape], list[Collapse | None], dict[Level, Grading]]:
    """(bodies, how each gave way, gradings) after a plan, graded as a reader of the whole spine would.

    A random plan that cannot be had loses its last fracture; one that was asked for is an error (ValueError).
    `adjusted` may change how a body gives way (not its kind and loss), as its disease asks.
    """
    left = dict(plan)
    while True:
        try:
            return _break(levels, healthy, left, generator, adjusted)
        except ValueError:
            if not at_random or not left:
                raise
            left.pop(next(reversed(left)))


def _break(
    levels: Sequence[Level],
    healthy: Sequence[BodyShape],
    plan: Mapping[Level, tuple[Deformity, int]],
    generator: np.random.Generator,
    adjusted: Adjustment | None,
) -> tuple[list[BodyShape], list[Collapse | None], dict[Level, Grading]]:
    for _ in range(ATTEMPTS):
        try:
            bodies, collapses = _try_to_break(levels, healthy, plan, generator, adjusted)
        except ValueError:
            continue
        gradings = grade_spine(_measured(levels, bodies))
        if all(
            (gradings[level].deformity, gradings[level].grade)
            == (asked if (asked := plan.get(level, SOUND))[1] else SOUND)
            for level in gradings
        ):
            return bodies, collapses, gradings
    wanted = ", ".join(f"{level}:{kind}:{grade}" for level, (kind, grade) in plan.items())
    raise ValueError(
        f"no spine was found with {wanted}: too many crushed neighbours leave no healthy reference"
    )


def _measured(levels: Sequence[Level], bodies: Sequence[BodyShape]) -> dict[Level, Heights]:
    return {
        level: heights(body)
        for level, body in zip(levels, bodies, strict=True)
        if level in TYPICAL_POSTERIOR_HEIGHT_MM
    }


def _try_to_break(
    levels: Sequence[Level],
    healthy: Sequence[BodyShape],
    plan: Mapping[Level, tuple[Deformity, int]],
    generator: np.random.Generator,
    adjusted: Adjustment | None,
) -> tuple[list[BodyShape], list[Collapse | None]]:
    bodies = list(healthy)
    collapses: list[Collapse | None] = [None] * len(bodies)
    crushed: dict[int, Collapse] = {}
    for k, level in enumerate(levels):
        kind, grade = plan.get(level, SOUND)
        if kind == "none" or (kind == "crush" and grade == 0):
            continue
        low, high = LOSS_BY_GRADE[grade] if grade else LOOK_ALIKE_LOSS
        fracture: FractureKind = kind
        collapse = sample_collapse(fracture, between(generator, low, high), generator)
        if adjusted is not None and grade:
            collapse = adjusted(level, collapse)
        if kind == "crush":
            crushed[k] = collapses[k] = collapse
        elif grade:
            collapses[k] = collapse
            bodies[k] = collapsed(healthy[k], collapse)
        else:
            gentle = replace(collapse, bulge=0.0, step=0.0, retropulsion=0.0, sag=0.0, upper_share=0.5)
            own = heights(healthy[k])
            if min(own.anterior, own.middle) / own.largest > 1.0 - gentle.loss:
                bodies[k] = collapsed(healthy[k], gentle)
    # A crush is measured against its neighbours, which may be crushed too: found by repetition.
    for _ in range(4 if crushed else 0):
        for k, collapse in crushed.items():
            # A posterior height of nothing makes the grading tell what the neighbours say it should be.
            asking = {**_measured(levels, bodies), levels[k]: Heights(1.0, 1.0, 0.0)}
            bodies[k] = collapsed(healthy[k], collapse, grade_spine(asking)[levels[k]].reference_mm)
    return bodies, collapses


def settled(
    frames: Array,
    healthy: Sequence[BodyShape],
    bodies: Sequence[BodyShape],
    collapses: Sequence[Collapse | None],
) -> Array:
    """The frames after the column above every fracture has sunk and tilted forward; the sacrum stays."""
    moved = frames.copy()
    for k in range(len(frames) - 2, -1, -1):
        below_before, own_before = frames[k + 1], frames[k]
        step = np.linalg.inv(below_before) @ own_before
        moved[k] = (
            moved[k + 1]
            @ _endplate_move(healthy[k + 1], bodies[k + 1], collapses[k + 1], upper=True)
            @ step
            @ np.linalg.inv(_endplate_move(healthy[k], bodies[k], collapses[k], upper=False))
        )
    return moved


def _endplate_move(before: BodyShape, after: BodyShape, collapse: Collapse | None, *, upper: bool) -> Array:
    """4x4: how an endplate of a body has moved in the body's frame; the neighbour beyond follows it."""
    move = np.eye(4)
    if collapse is None:
        return move
    if upper:
        rise_front, rise_back = after.upper_front - before.upper_front, after.upper_back - before.upper_back
    else:
        rise_front, rise_back = after.lower_front - before.lower_front, after.lower_back - before.lower_back
    depth = before.back_upper - before.front_upper
    angle = float(np.arctan2(rise_back - rise_front, depth)) * collapse.kyphosis
    move[:3, :3] = rotation(angle, 0.0, 0.0)
    # Turned about the middle of the endplate, which itself goes up or down.
    pivot = np.array([0.0, 0.0, before.upper_back if upper else before.lower_back])
    move[:3, 3] = pivot - move[:3, :3] @ pivot + np.array([0.0, 0.0, 0.5 * (rise_front + rise_back)])
    return move

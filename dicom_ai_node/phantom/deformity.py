"""Fracture a healthy body so that its heights say exactly what was asked for.

A deformity is a path of shapes from healthy to flat; the point on the path is found by bisection on the loss
that a reader would measure (`genant`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from dicom_ai_node.genant import Heights
from dicom_ai_node.phantom.body import BodyShape, heights
from dicom_ai_node.phantom.randomness import between

FractureKind = Literal["wedge", "biconcave", "crush"]

LOSS_BY_GRADE: Final = {1: (0.210, 0.243), 2: (0.26, 0.39), 3: (0.41, 0.68)}
"""Losses drawn for each Genant grade: off the thresholds, so that rounding cannot change the grade."""

LOOK_ALIKE_LOSS: Final = (0.10, 0.175)
"""Losses of bodies that look deformed but are no fracture (grade 0)."""


@dataclass(frozen=True)
class Collapse:
    """How one body gives way.

    Attributes:
        kind: wedge, biconcave or crush.
        loss: height loss to be reached, a fraction.
        upper_share: part of the loss that the upper endplate bears (0..1).
        sag: extra depression of the anterior half per mm of loss.
        bulge: bulging of the walls per mm of loss.
        step: step of the upper anterior cortex per mm of loss.
        retropulsion: posterior displacement of the upper posterior corner in mm.
        tilt: slope of the upper endplate to one side, mm per mm at full loss of height.
        evenness: how much less than the middle the front and the back of a crush lose (two fractions).
        kyphosis: part of the wedge angle that the column above follows (the discs take up the rest).
    """

    kind: FractureKind
    loss: float
    upper_share: float = 0.8
    sag: float = 0.05
    bulge: float = 0.15
    step: float = 0.0
    retropulsion: float = 0.0
    tilt: float = 0.0
    evenness: tuple[float, float] = (0.0, 0.0)
    kyphosis: float = 0.75


def sample_collapse(kind: FractureKind, loss: float, generator: np.random.Generator) -> Collapse:
    """A collapse of the asked kind and loss with everything else at random."""
    severe = loss > 0.35
    spare = max(0.0, min(0.06, loss - 0.208))
    return Collapse(
        kind=kind,
        loss=loss,
        upper_share=between(generator, 0.35, 0.75) if kind == "biconcave" else between(generator, 0.55, 1.0),
        sag=between(generator, 0.0, 0.08),
        bulge=between(generator, 0.05, 0.25),
        step=between(generator, 0.0, 0.12) if generator.random() < 0.5 else 0.0,
        retropulsion=between(generator, 1.0, 5.0) if severe and generator.random() < 0.4 else 0.0,
        tilt=between(generator, -0.12, 0.12) if generator.random() < 0.5 else 0.0,
        evenness=(between(generator, 0.0, spare), between(generator, 0.0, spare)),
        kyphosis=between(generator, 0.55, 0.9),
    )


def measured_loss(kind: FractureKind, measured: Heights, reference: float | None) -> float:
    """The loss by Genant's rule: against `reference` (mm) for a crush, else the largest own height."""
    if kind == "crush":
        if reference is None:
            raise ValueError("a crush fracture is measured against its neighbours: give the reference height")
        return 1.0 - measured.smallest / max(reference, measured.largest)
    return 1.0 - min(measured.anterior, measured.middle) / measured.largest


def collapsed(healthy: BodyShape, collapse: Collapse, reference: float | None = None) -> BodyShape:
    """The healthy body after the collapse; its measured loss is `collapse.loss` within 1e-4.

    Args:
        healthy: the body before.
        collapse: what is to happen.
        reference: posterior height in mm that a crush is measured against; unused for the other kinds.

    Raises:
        ValueError: the loss cannot be reached (beyond about 80 %, or below that of the healthy body).
    """
    path = _crush(healthy, collapse, reference) if collapse.kind == "crush" else _bend(healthy, collapse)
    low, high = 0.0, 0.85
    if measured_loss(collapse.kind, heights(path(high)), reference) < collapse.loss:
        raise ValueError(f"a {collapse.kind} loss of {collapse.loss:.0%} is beyond what a body can lose")
    if measured_loss(collapse.kind, heights(path(low)), reference) > collapse.loss:
        raise ValueError(f"the healthy body has already lost more than {collapse.loss:.0%}")
    for _ in range(24):
        middle = (low + high) / 2
        if measured_loss(collapse.kind, heights(path(middle)), reference) < collapse.loss:
            low = middle
        else:
            high = middle
    return path(high)


def _bend(shape: BodyShape, collapse: Collapse) -> Callable[[float], BodyShape]:
    """Wedge and biconcave: the front or the middle gives way, the posterior wall stands."""
    front, back = shape.upper_front - shape.lower_front, shape.upper_back - shape.lower_back

    def at(severity: float) -> BodyShape:
        if collapse.kind == "wedge":
            # The bowls flatten as the front goes down, else the middle would be lower than the front.
            return _moved(shape, collapse, (severity * front, 0.0, 0.0), max(0.0, 1.0 - 1.2 * severity))
        return _moved(shape, collapse, (0.12 * severity * front, 0.0, 0.95 * severity * back), 1.0)

    return at


def _crush(shape: BodyShape, collapse: Collapse, reference: float | None) -> Callable[[float], BodyShape]:
    """Crush: front, middle and back go down to nearly one height."""
    front, back = shape.upper_front - shape.lower_front, shape.upper_back - shape.lower_back
    whole = back if reference is None else reference
    dish = shape.dish_upper + shape.dish_lower

    def at(severity: float) -> BodyShape:
        goal = whole * (1.0 - severity)
        anterior = min(front, goal + collapse.evenness[0] * whole)
        posterior = min(back, goal + collapse.evenness[1] * whole)
        spare = max(0.0, 0.5 * (anterior + posterior) - goal) / max(dish, 0.1)
        return _moved(shape, collapse, (front - anterior, back - posterior, 0.0), min(1.0, spare))

    return at


def _moved(
    shape: BodyShape, collapse: Collapse, falls: tuple[float, float, float], spare: float
) -> BodyShape:
    # How much front, back and middle have come down (mm), and what is left of the healthy bowls.
    fall_front, fall_back, dish = falls
    up, down = collapse.upper_share, 1.0 - collapse.upper_share
    fall = max(fall_front, dish)
    bulge = collapse.bulge * fall * (0.3 if collapse.kind == "biconcave" else 1.0)
    sag = collapse.sag * fall_front if collapse.kind == "biconcave" else 0.3 * collapse.sag * fall_front
    severity = fall / (shape.upper_front - shape.lower_front)
    return replace(
        shape,
        upper_front=shape.upper_front - up * fall_front,
        lower_front=shape.lower_front + down * fall_front,
        upper_back=shape.upper_back - up * fall_back,
        lower_back=shape.lower_back + down * fall_back,
        dish_upper=shape.dish_upper * spare + dish * up,
        dish_lower=shape.dish_lower * spare + dish * down,
        sag_upper=shape.sag_upper + sag * up,
        sag_lower=shape.sag_lower + sag * down,
        step_upper=shape.step_upper + collapse.step * fall_front,
        lateral_upper=shape.lateral_upper + collapse.tilt * severity,
        waist_front=shape.waist_front - bulge,
        waist_width=shape.waist_width - bulge,
        waist_back=shape.waist_back - (0.5 * bulge if collapse.kind == "crush" else 0.0),
        back_upper=shape.back_upper + collapse.retropulsion * min(1.0, 2.0 * severity),
    )

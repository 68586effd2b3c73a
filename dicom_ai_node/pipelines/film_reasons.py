"""What a report on a film says besides its findings: what was not measured, what networks disagree on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from dicom_ai_node.genant import Thresholds
from dicom_ai_node.imaging.film_field import ExposedField
from dicom_ai_node.networks.film_geometry import box_area, box_common, box_overlap
from dicom_ai_node.pipelines.film_chain import FilmBody, missing_between
from dicom_ai_node.pipelines.limitations import every_limitation
from dicom_ai_node.report import Reason, Vertebra

Floats = npt.NDArray[np.float64]


def film_limitations(
    vertebrae: Sequence[Vertebra],
    bodies: Sequence[FilmBody],
    cuts: Thresholds,
    *,
    min_level_confidence: float,
    scaled: bool,
    healthy_seen: bool = True,
) -> list[Reason]:
    """What the reader of a film's report must know.

    Args:
        vertebrae: of the report.
        bodies: of the chain, head to tail.
        cuts: thresholds of the grades.
        min_level_confidence: below it the numbering is called uncertain.
        scaled: whether millimetres at the patient are known.
        healthy_seen: whether the detector sees healthy bodies too: else to have not seen one says nothing.
    """
    limitations = every_limitation(vertebrae, cuts, min_level_confidence)
    missing = missing_between(bodies)
    if missing:
        limitations.append(
            Reason("partial", f"Not found between the others: {', '.join(level.value for level in missing)}.")
        )
    for told, alone in (
        (
            "drawn by the dense network, not seen by the detector",
            _alone(bodies, "outlined") if healthy_seen else [],
        ),
        ("seen by the detector, not drawn by the dense network", _alone(bodies, "seen")),
        (
            "named by the dense network, but neither drawn by it nor seen by the detector: the box is "
            "guessed from the neighbours",
            [body.link.level.value for body in bodies if body.guessed],
        ),
    ):
        if alone:
            limitations.append(Reason("disagreement", f"{', '.join(alone)}: {told}."))
    other = [body.link.level.value for body in bodies if _named_otherwise(body)]
    if 2 * len(other) > len(bodies):
        limitations.append(
            Reason(
                "disagreement",
                f"The detector names {', '.join(other)} otherwise than the chain of all vertebrae does.",
            )
        )
    if not scaled:
        limitations.append(
            Reason("spacing", "Heights are compared with each other; no millimetres can be told.")
        )
    return limitations


MAX_SPREAD: Final = 0.1
"""Points of which the looks lie further apart than this share of a height would tell a loss of height that
nobody sees: a mild fracture is twice as much."""


LEAST_COMMON: Final = 0.55
"""Bodies that both networks see have more of their boxes in common. Of the 58 on 232 tuning films that had
less the loss of height was 0.06 off on average, of the others 0.02 to 0.04."""

CLOSE_SPREAD: Final = 0.015
"""Where it is unsure where a body lies its points are used if the looks agree as closely as this. Of 134
bodies that one network overlooked, on 232 tuning films, 47 pass, and their losses of height are 0.021 off on
average, those of other bodies 0.019; of the 58 that lie in different places 16 pass, none off by much."""

LEAST_EXPOSED: Final = 0.5
"""A body of which less than this share of its box lies in the exposed field is not reported."""

UNDER_BLADE: Final = 0.03
"""A body of which more than this share of its height lies under a blade of the collimator is cut off: so much
boxes of whole bodies next to a blade go on under it. Of 66 bodies that were cut off on 137 tuning films 52
are told so, and of 1,222 whole ones two that were measured no longer are."""


def why_not_measured(
    body: FilmBody, points: Floats, spread: float, field: ExposedField, *, overlooked: bool = False
) -> Reason | None:
    """Why the six points of a body are not used; None where they are.

    Args:
        body: with its box in the film.
        points: shape (6, 2), [row, column] of the film.
        spread: see `networks.film_points.FoundPoints`.
        field: of the film.
        overlooked: the dense network alone saw it (`film_opinions.DetectorKnowledge`).
    """
    level = body.link.level
    height, width = body.box[2:] - body.box[:2]
    edge = _cut_off_by(body.box, field)
    if edge is not None:
        return Reason("coverage", f"{level} is cut off by the edge of the {edge}.")
    doubt = unsure_place(body, overlooked=overlooked)
    words = None
    if spread > (MAX_SPREAD if doubt is None else CLOSE_SPREAD):
        words = doubt or f"looked at three times, its points lie {spread:.0%} of its height apart"
    upper, lower = points[0::2], points[1::2]
    if (lower[:, 0] <= upper[:, 0]).any():
        words = "the points of its two endplates are in the wrong order"
    order = points[0::2, 1] + points[1::2, 1]
    if not (order[0] < order[1] < order[2] or order[0] > order[1] > order[2]):
        words = "the points are not in order from front to back"
    low, high = body.box[:2] - 0.3 * np.array([height, width]), body.box[2:] + 0.3 * np.array([height, width])
    if ((points < low) | (points > high)).any():
        words = "the points lie outside of the body that the detector saw"
    if words is not None:
        return Reason("model-refused", f"The measurement of {level} was not used: {words}.")
    return None


def unsure_place(body: FilmBody, *, overlooked: bool) -> str | None:
    """Why it is unsure where a body lies, in words; None where both networks agree on it.

    Args:
        body: with what each of the networks saw of it.
        overlooked: see `why_not_measured`.
    """
    common = _agreement(body)
    if common < LEAST_COMMON:
        return f"the two networks see it in different places ({common:.0%} of their boxes in common)"
    if overlooked:
        return "only one of the two networks sees this body, and where it begins and ends is unsure"
    return None


def _agreement(body: FilmBody) -> float:
    """Intersection over union of what both networks see of a body; 1 where only one sees it."""
    if body.seen is None or body.outlined is None:
        return 1.0
    return box_overlap(body.seen.box, body.outlined.box)


def hardly_seen(body: FilmBody, field: ExposedField) -> bool:
    """Whether a body is left out of the report: most of it lies beyond the edge of the exposed field.

    The networks go on with the column where the film ends: of 29 bodies that were reported where none is,
    on 118 phantom films, 16 ended with the film. They still take part in the numbering.

    Args:
        body: with its box, which may reach beyond the film.
        field: of the film.
    """
    exposed = box_common(body.box, field.about(_middle(body.box))) / max(box_area(body.box), 1e-9)
    return exposed < LEAST_EXPOSED


def _cut_off_by(box: Floats, field: ExposedField) -> str | None:
    """What a body ends with that should go on, "film" or "exposed field"; None where it is whole.

    At the edge of the film boxes end with the film; under a blade they go on as if nothing were there.
    """
    height = box[2] - box[0]
    last = np.array(field.shape) - 1
    if _beyond(box, np.array([0, 0, *last]), -0.02 * height):
        return "film"
    return "exposed field" if _beyond(box, field.about(_middle(box)), UNDER_BLADE * height) else None


def _beyond(box: Floats, limits: Floats, by: float) -> bool:
    return bool((limits[:2] - box[:2] > by).any() or (box[2:] - limits[2:] > by).any())


def _middle(box: Floats) -> Floats:
    middle: Floats = (box[:2] + box[2:]) / 2
    return middle


def _alone(bodies: Sequence[FilmBody], by: str) -> list[str]:
    """The bodies that only one network found."""
    return [
        body.link.level.value
        for body in bodies
        if (body.seen if by == "seen" else body.outlined) is not None
        and (body.outlined if by == "seen" else body.seen) is None
    ]


def _named_otherwise(body: FilmBody) -> bool:
    if body.seen is None:
        return False
    levels = body.seen.levels
    return max(levels, key=lambda level: levels[level]) is not body.link.level

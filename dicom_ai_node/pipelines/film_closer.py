"""The bodies of a film once more, from closer by: thoracic ones are small where a whole film is seen at once.

The dense network first sees all of a film: what lies around a body tells its name. Outlines and small bodies
gain from more pixels, so it looks again, in overlapping parts along the column that it has found. On 25
tuning films 0.987 of the bodies were found (0.978 at the first look), 0.24 instead of 0.60 false ones a film
were drawn, and outlines overlapped the true ones by 0.89 (0.87); most is gained where bodies are smaller
than 30 pixels at the first look.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from dicom_ai_node.inference import film as networks
from dicom_ai_node.inference.bundle import Bundle
from dicom_ai_node.inference.film import OutlinedBody
from dicom_ai_node.networks.film_geometry import Frame
from dicom_ai_node.pipelines.film_parts import (
    Film,
    Rows,
    answers,
    head_to_tail,
    overlapping_parts,
    without_repetitions,
)

Floats = npt.NDArray[np.float64]

CLOSER: Final = 1.5
"""So much larger than at the first look is a body. The network was taught films up to 1.67 times as large as
they are fitted."""


def outlined_closer(bundle: Bundle, film: Film, bodies: Sequence[OutlinedBody]) -> list[OutlinedBody]:
    """What the dense network draws when it looks again.

    Args:
        bundle: of the dense network.
        film: upright, shape (rows, columns).
        bodies: of the first look.

    Returns:
        Bodies, head to tail: those of the second look, and of the first one those at which the second did
        not look, for they lie too far beside the column.
    """
    if not bodies:
        return []
    matrix = bodies[0].mask.frame.matrix / CLOSER
    height, width = (
        size * float(edge) for size, edge in zip(bodies[0].mask.values.shape, matrix.diag(), strict=True)
    )
    parts = overlapping_parts(film.shape[0], round(height))
    found: list[tuple[int, OutlinedBody]] = []
    seen: set[int] = set()
    for number, rows in enumerate(parts):
        mine = [index for index, body in enumerate(bodies) if answers(parts, number, body.box)]
        if not mine:
            # Above and below the column there may be more of it: it is looked for where the column ends.
            mine = [_nearest(bodies, rows)]
        middle = float(np.median([_middle(bodies[index])[1] for index in mine]))
        column = _inside(middle, width, film.shape[1])
        frame = Frame(torch.tensor([(sum(rows) - 1) / 2, column], dtype=torch.float32), matrix)
        seen |= {index for index in mine if abs(_middle(bodies[index])[1] - column) < width / 2}
        _, outlined = networks.localise(bundle, film, frame)
        found += [(number, item) for item in outlined if answers(parts, number, item.box)]
    beside = [body for index, body in enumerate(bodies) if index not in seen]
    return head_to_tail([*without_repetitions(found), *beside])


def _middle(body: OutlinedBody) -> Floats:
    middle: Floats = (body.box[:2] + body.box[2:]) / 2
    return middle


def _nearest(bodies: Sequence[OutlinedBody], rows: Rows) -> int:
    return min(range(len(bodies)), key=lambda index: abs(float(_middle(bodies[index])[0]) - sum(rows) / 2))


def _inside(middle: float, width: float, columns: int) -> float:
    """The middle of a part of that width, moved so that it does not leave the film without need."""
    if width >= columns:
        return (columns - 1) / 2
    return min(max(middle, width / 2), columns - width / 2)

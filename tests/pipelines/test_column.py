"""The column is walked: what the heatmaps did not show is found from its neighbours, and nothing else is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from dicom_ai_node.pipelines.bodies import Body
from dicom_ai_node.pipelines.column import bodies_of_column, looked_for_again

Array = npt.NDArray[np.float64]

STEP_MM = 30.0
COLUMN = [np.array([0.0, 4.0 * np.sin(k), -STEP_MM * k]) for k in range(8)]
INSIDE = (-STEP_MM * 7 - 12.0, 12.0)
"""Feet and head end of the image."""


def body_at(center: Array) -> Body:
    """A ball of 22 mm about a centre."""
    affine = np.eye(4)
    affine[:3, :3] *= 2.0
    affine[:3, 3] = center - 14.0
    places = np.indices((15, 15, 15)) - 7
    ball = ((places**2).sum(axis=0) <= 5.5**2).astype(np.float32)
    return Body(ball, 0.1, affine)


class Sees:
    """Finds the body that lies within reach of a point, and remembers how it was asked."""

    def __init__(self, centers: Sequence[Array] = COLUMN, reach_mm: float = 12.0) -> None:
        self.centers, self.reach_mm = centers, reach_mm
        self.asked: list[int] = []

    def __call__(self, points: Sequence[Array]) -> list[Body | None]:
        self.asked.append(len(points))
        return [self._one(point) for point in points]

    def _one(self, point: Array) -> Body | None:
        nearest = min(self.centers, key=lambda center: float(np.linalg.norm(center - point)))
        return body_at(nearest) if np.linalg.norm(nearest - point) <= self.reach_mm else None


def inside(point: Array) -> bool:
    return bool(INSIDE[0] <= point[2] <= INSIDE[1])


def centers_of(bodies: Sequence[Body]) -> list[float]:
    return [round(float(body.center_mm()[2]), 3) for body in bodies]


@pytest.mark.parametrize("seen", [[0, 1, 2, 3, 4, 5, 6, 7], [3, 4], [1, 6], [0, 7, 2], [5]])
def test_all_bodies_are_found_from_some(seen: list[int]) -> None:
    found = bodies_of_column([COLUMN[k] + [2.0, 1.0, 4.0] for k in seen], Sees(), inside)
    assert centers_of(found) == [round(float(center[2]), 3) for center in COLUMN]


def test_seeds_are_asked_for_together_and_again_only_where_they_were_off() -> None:
    sees = Sees()
    seeds = [center + np.array([0.0, 0.0, 8.0 if k < 2 else 0.0]) for k, center in enumerate(COLUMN)]
    bodies_of_column(seeds, sees, inside)
    assert sees.asked[:2] == [8, 2]


def test_a_seed_without_a_body_and_two_of_one_body_change_nothing() -> None:
    seeds = [*COLUMN, COLUMN[2] + [3.0, 0.0, 5.0], np.array([90.0, 60.0, -100.0])]
    assert len(bodies_of_column(seeds, Sees(), inside)) == len(COLUMN)


def test_what_lies_beside_the_column_is_left_out() -> None:
    aside = COLUMN[3] + np.array([60.0, 0.0, 0.0])
    found = bodies_of_column([*COLUMN, aside], Sees([*COLUMN, aside]), inside)
    assert max(abs(float(body.center_mm()[0])) for body in found) < 1.0
    assert len(found) == len(COLUMN)


def test_without_seeds_there_is_nothing() -> None:
    assert bodies_of_column([], Sees(), inside) == []


def test_a_column_that_lies_nearly_flat_is_followed() -> None:
    steep = np.deg2rad(63.0)
    step = 20.0 * np.array([0.0, np.sin(steep), -np.cos(steep)])
    neck = [COLUMN[0] - k * step for k in (3, 2, 1)]
    column = [*neck, *COLUMN]
    found = bodies_of_column(column, Sees(column, reach_mm=8.0), lambda _: False)
    assert centers_of(found) == [round(float(center[2]), 3) for center in column]


def test_of_a_column_with_every_second_body_the_others_are_found_when_told_where() -> None:
    seen = [body_at(center) for center in COLUMN[::2]]
    missed = [center + np.array([3.0, -2.0, 5.0]) for center in COLUMN[1::2]]
    found = looked_for_again(seen, [*missed, np.array([0.0, 80.0, -90.0]), COLUMN[2]], Sees())
    assert centers_of(found) == [round(float(center[2]), 3) for center in COLUMN]


def block(top_mm: float, bottom_mm: float) -> Body:
    """A body of 22 mm by 22 mm that reaches from one height to another."""
    affine = np.diag([1.0, 2.0, 2.0, 1.0])
    affine[:3, :3] = [[0.0, 0.0, 2.0], [0.0, 2.0, 0.0], [1.0, 0.0, 0.0]]
    affine[:3, 3] = [-14.0, -14.0, bottom_mm]
    probability = np.zeros((round(top_mm - bottom_mm) + 1, 15, 15), dtype=np.float32)
    probability[:, 2:13, 2:13] = 1.0
    return Body(probability, 0.1, affine)


class SeesBlocks:
    """Finds the block that holds a point; two of them are one about `together_mm`."""

    def __init__(self, blocks: Sequence[tuple[float, float]], together_mm: float | None = None) -> None:
        self.blocks, self.together_mm = blocks, together_mm

    def __call__(self, points: Sequence[Array]) -> list[Body | None]:
        return [self._one(float(point[2])) for point in points]

    def _one(self, height: float) -> Body | None:
        own = [item for item in self.blocks if item[1] - 10 <= height <= item[0] + 10]
        if self.together_mm is not None and abs(height - self.together_mm) < 5:
            return block(max(top for top, _ in own), min(bottom for _, bottom in own))
        if not own:
            return None
        return block(*min(own, key=lambda item: abs(sum(item) / 2 - height)))


SOUND = [(-25.0 * k, -25.0 * k - 19.0) for k in range(6)]
"""Top and bottom of six bodies of 19 mm."""


def test_a_crushed_body_taken_together_with_its_neighbour_is_found_as_two() -> None:
    # Below the third a crushed one of 8 mm: what is asked for between them is answered as one body.
    shifted = [(top - 14.0, bottom - 14.0) for top, bottom in SOUND[3:]]
    blocks = [*SOUND[:3], (-75.0, -83.0), *shifted]
    seeds = [np.array([0.0, 0.0, (top + bottom) / 2]) for top, bottom in blocks if top not in (-50.0, -75.0)]
    between = np.array([0.0, 0.0, -66.0])
    found = bodies_of_column([*seeds, between], SeesBlocks(blocks, together_mm=-66.0), lambda _: False)
    assert centers_of(found) == [round((top + bottom) / 2, 3) for top, bottom in blocks]


def test_a_body_that_is_only_tall_stays_one() -> None:
    blocks = [*SOUND[:3], (-75.0, -107.0), *((top - 13.0, bottom - 13.0) for top, bottom in SOUND[4:])]
    seeds = [np.array([0.0, 0.0, (top + bottom) / 2]) for top, bottom in blocks]
    found = bodies_of_column(seeds, SeesBlocks(blocks), lambda _: False)
    assert centers_of(found) == [round((top + bottom) / 2, 3) for top, bottom in blocks]

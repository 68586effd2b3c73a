"""Names of bodies on films whose scale is known, and on films whose scale is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dicom_ai_node.anatomy import Level, order
from dicom_ai_node.inference.film import LevelMaps, OutlinedBody, SeenVertebra
from dicom_ai_node.networks.film_geometry import FittedMask, Frame, fitting, into_crop
from dicom_ai_node.networks.heatmaps import gaussian_heatmaps
from dicom_ai_node.pipelines.film_chain import named_bodies
from dicom_ai_node.pipelines.labelling import TYPICAL_SPACING_MM
from dicom_ai_node.training.localise import TAUGHT_LEVELS

UPPER = (Level.T4, Level.T5, Level.T6, Level.T7, Level.T8, Level.T9)
SHAPE, SIZE = (480, 240), (240, 120)
MM = 0.4


def film(sure: float) -> tuple[list[SeenVertebra], LevelMaps]:
    """T4 to T9 in a straight column; the heatmaps name each, and six levels lower less surely."""
    centers, row = {}, 60.0
    for level in UPPER:
        centers[level] = np.array([row, 120.0])
        row += TYPICAL_SPACING_MM[level] / MM
    center, matrix = fitting(SHAPE, SIZE)
    heatmaps = torch.zeros(len(TAUGHT_LEVELS), *SIZE)
    for number, (level, place) in enumerate(centers.items()):
        there = into_crop(torch.tensor(place[None], dtype=torch.float32), center, matrix, SIZE)
        blob = gaussian_heatmaps(there[None], SIZE, 2.5)[0, 0]
        heatmaps[TAUGHT_LEVELS.index(level)] = sure * blob
        lower = [item for item in TAUGHT_LEVELS if order(item) >= order(Level.T11) and item is not Level.T13]
        heatmaps[TAUGHT_LEVELS.index(lower[number])] = 0.3 * blob
    half = np.array([20.0, 32.0])
    seen = [
        SeenVertebra(np.concatenate([place - half, place + half]), 0.9, {}, 0.1) for place in centers.values()
    ]
    return seen, LevelMaps(TAUGHT_LEVELS, heatmaps, center, matrix)


@pytest.mark.parametrize("scale", [MM, None])
def test_bodies_are_named_by_their_looks_whatever_the_scale(scale: float | None) -> None:
    seen, maps = film(0.6)
    chain = named_bodies(seen, [], maps, scale)
    assert tuple(body.link.level for body in chain) == UPPER


def test_distances_decide_where_the_scale_is_known_and_looks_do_not() -> None:
    seen, maps = film(0.3)
    chain = named_bodies(seen, [], maps, MM)
    assert tuple(body.link.level for body in chain) == UPPER


def drawn(seen: list[SeenVertebra], *, taller: float = 0.0) -> list[OutlinedBody]:
    """The same bodies as the dense network draws them; boxes may reach into their neighbours'."""
    reach = np.array([-taller, 0, taller, 0])
    nothing = FittedMask(np.zeros((1, 1), dtype=np.float32), Frame(torch.zeros(2), torch.eye(2)))
    return [OutlinedBody(item.box + reach, 0.9, nothing) for item in seen]


def test_a_box_half_in_another_body_takes_nothing_from_it() -> None:
    seen, maps = film(0.6)
    beside = SeenVertebra(seen[2].box + np.array([14.0, 0, 14.0, 0]), 0.95, {}, 0.1)
    chain = named_bodies([beside, *seen], drawn(seen), maps, MM)
    assert tuple(body.link.level for body in chain) == UPPER
    assert [body.seen for body in chain] == seen
    assert all(body.outlined is not None for body in chain)


def test_bodies_that_the_dense_network_draws_count_even_where_their_boxes_overlap() -> None:
    seen, maps = film(0.6)
    chain = named_bodies([], drawn(seen, taller=30.0), maps, MM)
    assert tuple(body.link.level for body in chain) == UPPER
    assert all(body.outlined is not None for body in chain)


@pytest.mark.parametrize(("lower", "between"), [(6.0, True), (16.0, False)])
def test_a_body_is_shown_where_the_dense_network_draws_it_if_the_detector_sees_it_elsewhere(
    lower: float, between: bool
) -> None:
    seen, maps = film(0.6)
    outlined = drawn(seen)
    moved = replace(seen[2], box=seen[2].box + np.array([lower, 0, lower, 0]))
    third = named_bodies([*seen[:2], moved, *seen[3:]], outlined, maps, MM)[2]
    expected = (moved.box + outlined[2].box) / 2 if between else outlined[2].box
    assert third.seen is moved
    assert third.box == pytest.approx(expected)

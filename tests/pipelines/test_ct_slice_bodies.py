"""Boxes on single slices become bodies: misses are bridged, what one slice shows alone is no vertebra."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dicom_ai_node.inference.ct_slices import SliceBox
from dicom_ai_node.pipelines.ct_planes import SagittalPlanes
from dicom_ai_node.pipelines.ct_slice_bodies import bodies_of_boxes, cut_off

STEP_MM = 5.0


def planes_of(count: int, step_mm: float = STEP_MM) -> SagittalPlanes:
    affine = np.array([[step_mm, 0, 0, -10.0], [0, 0, 1.0, -100.0], [0, -1.0, 0, 50.0], [0, 0, 0, 1.0]])
    return SagittalPlanes(torch.zeros((count, 200, 120)), affine, measured=True)


def box(top: float, score: float = 0.95, *, front: float = 40.0, deep: float = 32.0) -> SliceBox:
    return SliceBox((top, top + 22), (front, front + deep), score)


COLUMN = (10.0, 42.0, 75.0, 108.0)


def column(planes: int) -> list[list[SliceBox]]:
    return [[box(top + 0.5 * plane) for top in COLUMN] for plane in range(planes)]


def test_boxes_of_neighbouring_slices_are_one_body_from_head_to_tail() -> None:
    found = bodies_of_boxes(column(6), planes_of(6))
    assert [body.planes for body in found.bodies] == [tuple(range(6))] * 4
    assert found.left_out == 0
    heights = [body.center_mm[2] for body in found.bodies]
    assert heights == sorted(heights, reverse=True)
    # Rows 10 to 32 at the first, 12.5 to 34.5 at the last plane: the middle is row 22.25.
    assert found.bodies[0].center_mm == pytest.approx([2.5, -44.0, 50.0 - 22.25], abs=0.3)


def test_a_vertebra_missed_on_one_slice_is_still_one_body_and_the_gap_is_known() -> None:
    boxes = column(6)
    del boxes[3][1]
    found = bodies_of_boxes(boxes, planes_of(6))
    assert len(found.bodies) == 4
    assert found.bodies[1].planes == (0, 1, 2, 4, 5)
    assert found.bodies[1].gaps() == (3,)


def test_a_box_on_one_slice_alone_is_counted_out_and_told() -> None:
    boxes = column(6)
    boxes[2].append(box(150.0))
    boxes[4].append(box(60.0, front=85.0))
    found = bodies_of_boxes(boxes, planes_of(6))
    assert len(found.bodies) == 4
    assert found.left_out == 2


def test_on_close_slices_two_are_not_enough() -> None:
    boxes = column(6)
    boxes[2].append(box(150.0))
    boxes[3].append(box(150.0))
    assert len(bodies_of_boxes(boxes, planes_of(6, step_mm=3.0)).bodies) == 4
    assert len(bodies_of_boxes(boxes, planes_of(6, step_mm=5.0)).bodies) == 5


def test_an_unsure_box_does_not_count() -> None:
    boxes = [[box(top, 0.7) for top in COLUMN] for _ in range(6)]
    found = bodies_of_boxes(boxes, planes_of(6))
    assert found.bodies == ()
    assert found.left_out == 0


def test_two_boxes_of_one_vertebra_are_one() -> None:
    boxes = [[*own, box(13.0, 0.8)] for own in column(6)]
    assert len(bodies_of_boxes(boxes, planes_of(6)).bodies) == 4


def test_a_box_of_quite_another_size_is_no_body_of_this_spine() -> None:
    boxes = [[*own, SliceBox((150, 160), (40, 50), 0.9)] for own in column(6)]
    found = bodies_of_boxes(boxes, planes_of(6))
    assert len(found.bodies) == 4
    assert found.left_out == 6


def test_a_vertebra_at_the_edge_of_the_slices_is_cut_off() -> None:
    boxes = [[SliceBox((0.0, 15.0), (40, 72), 0.9), box(42), box(75)] for _ in range(6)]
    planes = planes_of(6)
    first, second, _ = bodies_of_boxes(boxes, planes).bodies
    assert cut_off(first.boxes, planes)
    assert not cut_off(second.boxes, planes)


def test_no_boxes_are_no_bodies() -> None:
    assert bodies_of_boxes([[] for _ in range(5)], planes_of(5)).bodies == ()

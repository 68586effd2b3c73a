"""Six points of bodies on CT: in each body's own middle plane, and in a plane to either side of it.

P3 looks at the sagittal plane of the centre (section 2.3.3). A body that gives way to one side is lower a
quarter of its width beside it, where its endplates are still broad. All planes of all bodies go through the
network together; which of them counts is told by `worst_plane`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dicom_ai_node.anatomy import Level
from dicom_ai_node.imaging.resample import resample_to_grid
from dicom_ai_node.imaging.volume import Volume
from dicom_ai_node.inference import ct
from dicom_ai_node.inference.bundle import Bundle
from dicom_ai_node.pipelines.bodies import CUT_SHARE, METAL_ML, Body, at_edge, is_cut_off, metal_ml
from dicom_ai_node.pipelines.body_frame import BodyFrame, frames_along_chain, turned_to_symmetry
from dicom_ai_node.pipelines.morphometry import SagittalPlane, held_to_outline, implausible
from dicom_ai_node.report import Reason

Floats = npt.NDArray[np.float64]

RIM_REACH_MM: Final = 2.0
"""How far outside of the segmented body, whose corners are round, a rim may lie. On phantoms (from seed 100
on) points up to 2.5 mm outside err by 0.9 mm, as all others do, those beyond by 2 to 5 mm."""

ASIDE: Final = 0.25
"""Where the planes beside the middle lie, as a share of the body's width."""

WHOLE_SHARE: Final = 0.6
"""A plane beside the middle shows a sound body at four fifths of the middle's area; one that shows less than
this passes beside the body, or the body was not outlined there."""

LEAST_WIDTH_MM: Final = 18.0
"""Half the width of a lumbar body: where less is seen of a body that is cut to its sides, its middle may lie
beyond the edge."""


@dataclass(frozen=True)
class PlanePoints:
    """Six points in one sagittal plane of a body.

    Attributes:
        aside_mm: distance from the middle plane to the patient's left, negative to the right.
        points_mm: shape (6, 3), patient LPS millimetres, in the order of `report.SIX_POINT_NAMES`.
    """

    aside_mm: float
    points_mm: Floats


LEAST_OF_NEIGHBOUR: Final = 0.15
"""A body has at least this share of its larger neighbour's volume: one crushed by 70 % has twice as much."""


@dataclass(frozen=True)
class MeasuredBody:
    """One body with the six points of its planes, or with the reason why there are none.

    Attributes:
        body: as it was segmented.
        middle: the plane through its centre; None with a reason.
        right, left: the planes beside it; None where that one could not be used.
        reason: why it was not measured.
    """

    body: Body
    middle: PlanePoints | None
    right: PlanePoints | None
    left: PlanePoints | None
    reason: Reason | None


def measured_bodies(
    points: Bundle, volume: Volume, bodies: Mapping[Level, Body]
) -> dict[Level, MeasuredBody]:
    """The six points of all bodies in up to three planes each.

    Args:
        points: bundle of ct-points.
        volume: the series.
        bodies: head to tail; the neighbours tell where up is.
    """
    if not bodies:
        return {}
    chain = frames_along_chain([body.center_mm() for body in bodies.values()])
    frames = {
        level: turned_to_symmetry(frame, *body.points_mm())
        for (level, body), frame in zip(bodies.items(), chain, strict=True)
    }
    shape, spacing = ct.crop_shape(points), ct.spacing_mm(points)
    asides = {level: _quarter_mm(body, frames[level]) for level, body in bodies.items()}
    planes = [
        SagittalPlane.through(_moved(frames[level], aside), (shape[-2], shape[-1]), spacing)
        for level in bodies
        for aside in (0.0, -asides[level], asides[level])
    ]
    owners = [body for body in bodies.values() for _ in range(3)]
    pictures = torch.stack(
        [_picture(volume, body, plane) for body, plane in zip(owners, planes, strict=True)]
    )
    found = ct.six_points(points, pictures.to(points.device)).cpu().numpy()
    places = [
        plane.to_patient(held_to_outline(pixels, picture[1].numpy(), RIM_REACH_MM / spacing))
        for plane, pixels, picture in zip(planes, found, pictures, strict=True)
    ]
    measured = {}
    for number, (level, body) in enumerate(bodies.items()):
        own = slice(3 * number, 3 * number + 3)
        outlines = [picture[1].numpy() >= 0.5 for picture in pictures[own]]
        whole = [
            _is_inside(outline, plane, volume) for outline, plane in zip(outlines, planes[own], strict=True)
        ]
        reason = _why_not(level, body, frames[level], places[own][0], volume, middle_is_whole=whole[0])
        if reason is None or reason.code == "model-refused":
            reason = _too_small(level, list(bodies.values()), number) or reason
        # Where a quarter of the width lies is not known of a body that is cut.
        cut = is_cut_off(body, volume)
        beside: list[PlanePoints | None] = [None, None]
        for side in (1, 2):
            aside = asides[level] * (2 * side - 3)
            points_mm = places[own][side]
            shown = whole[side] and not cut and outlines[side].sum() >= WHOLE_SHARE * outlines[0].sum()
            if reason is None and shown and not implausible(points_mm, _moved(frames[level], aside)):
                beside[side - 1] = PlanePoints(aside, points_mm)
        middle = None if reason else PlanePoints(0.0, places[own][0])
        measured[level] = MeasuredBody(body, middle, beside[0], beside[1], reason)
    return measured


def _picture(volume: Volume, body: Body, plane: SagittalPlane) -> Tensor:
    """HU, and the probability that a pixel is the body; shape (2, rows, columns)."""
    shape = (1, *plane.shape)
    image = resample_to_grid(volume.voxels, volume.affine, plane.affine(), shape)
    outline = resample_to_grid(
        torch.from_numpy(body.probability), body.affine, plane.affine(), shape, antialias=False, fill=0.0
    )
    return torch.cat([image, outline])


def _quarter_mm(body: Body, frame: BodyFrame) -> float:
    """A quarter of the width of a body; a few stray voxels do not make it wider."""
    points, _ = body.points_mm()
    right, left = np.quantile((points - frame.center_mm) @ frame.left, [0.01, 0.99])
    return ASIDE * float(left - right)


def _moved(frame: BodyFrame, aside_mm: float) -> BodyFrame:
    return replace(frame, center_mm=frame.center_mm + aside_mm * frame.left)


def _is_inside(outline: npt.NDArray[np.bool_], plane: SagittalPlane, volume: Volume) -> bool:
    """Whether a plane shows the body, and all of it away from the edge of the image."""
    if not outline.any():
        return False
    points = plane.to_patient(np.argwhere(outline).astype(np.float64))
    return bool(at_edge(points, volume).sum() <= CUT_SHARE * len(points))


def _is_cut_to_both_sides(body: Body, frame: BodyFrame, volume: Volume) -> bool:
    """Whether the image ends to both sides of a body's middle, as a narrow sagittal series does.

    The middle of what is seen is then about the middle of the body. Of a body that is cut to one side it is
    not, and the planes there look broken.
    """
    points, _ = body.points_mm()
    aside = (points - frame.center_mm) @ frame.left
    cut, quarter = at_edge(points, volume), _quarter_mm(body, frame)
    sides = [(cut & (aside * side > quarter)).sum() > CUT_SHARE * len(points) for side in (-1, 1)]
    return all(sides) and 4 * quarter >= LEAST_WIDTH_MM


def _too_small(level: Level, bodies: Sequence[Body], number: int) -> Reason | None:
    """Why a body is none beside its neighbours; None where it is as large as one may be."""
    beside = [bodies[place].volume_ml for place in (number - 1, number + 1) if 0 <= place < len(bodies)]
    share = bodies[number].volume_ml / max(beside) if beside else 1.0
    if share >= LEAST_OF_NEIGHBOUR:
        return None
    return Reason(
        "model-refused",
        f"What was drawn as {level} has {share:.0%} of the volume of the body next to it: a piece of a body "
        "or of a disc, and no fracture.",
    )


def _why_not(
    level: Level,
    body: Body,
    frame: BodyFrame,
    points_mm: Floats,
    volume: Volume,
    *,
    middle_is_whole: bool,
) -> Reason | None:
    """Why the middle plane of a body is not believed; None where it is.

    A body that is cut to both sides only, as in a narrow sagittal series, is measured in its middle.
    """
    if is_cut_off(body, volume) and not (middle_is_whole and _is_cut_to_both_sides(body, frame, volume)):
        return Reason("coverage", f"{level} is cut off by the edge of the image.")
    metal = metal_ml(body, volume)
    if metal >= METAL_ML:
        return Reason(
            "implants",
            f"{metal:.1f} ml of metal lie in or beside {level}: what is measured there cannot be relied on.",
        )
    words = implausible(points_mm, frame)
    if words is not None:
        return Reason("model-refused", f"The measurement of {level} was not used: {words}.")
    return None

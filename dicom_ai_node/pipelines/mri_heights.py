"""Six points of bodies on MR: each in the slice that runs through its middle, as it was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import cKDTree

from dicom_ai_node.anatomy import Level
from dicom_ai_node.imaging.resample import resample_to_grid
from dicom_ai_node.imaging.volume import Volume
from dicom_ai_node.inference import mri
from dicom_ai_node.inference.bundle import Bundle
from dicom_ai_node.pipelines.bodies import Body
from dicom_ai_node.pipelines.body_frame import BodyFrame, frames_along_chain, turned_to_symmetry
from dicom_ai_node.pipelines.morphometry import SagittalPlane, implausible
from dicom_ai_node.pipelines.sagittal_stack import SagittalStack, plane_signal
from dicom_ai_node.report import Reason

EDGE_MM: Final = 2.0
"""A body nearer than this to the edge of its slices is cut off."""

HALF_BODY_MM: Final = 18.0
"""Half the width of a lumbar body: slices that end within one and show less of it may miss its middle."""

MAX_OUTSIDE_MM: Final = 3.0
"""A point so far from the outlined body lies beyond a disc, on the next one."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MeasuredBody:
    """One body with its six points, or with the reason why there are none.

    Attributes:
        body: as it was seen.
        plane: the mid-sagittal plane in which it was measured.
        points_mm: shape (6, 3), patient LPS, in the order of `report.SIX_POINT_NAMES`; None with a reason.
        reason: why it was not measured.
    """

    body: Body
    plane: SagittalPlane
    points_mm: Floats | None
    reason: Reason | None


def measured_bodies(  # noqa: PLR0917 - the series, what was seen in it, and the network
    points: Bundle,
    volume: Volume,
    stack: SagittalStack,
    bodies: Mapping[Level, Body],
    measured: Sequence[Level],
    signal: tuple[float, float],
) -> dict[Level, MeasuredBody]:
    """The six points of bodies.

    Args:
        points: bundle of mri-points.
        volume: the series.
        stack: of the series.
        bodies: of the whole chain, head to tail; the neighbours tell where up is.
        measured: which of them are measured.
        signal: see `inference.mri.signal_range_of`.
    """
    frames = dict(zip(bodies, _frames(stack, list(bodies.values())), strict=True))
    shape, spacing = mri.plane_shape(points), mri.spacing_mm(points)
    planes = {level: SagittalPlane.through(frames[level], shape, spacing) for level in measured}
    if not planes:
        return {}
    pictures = torch.stack(
        [
            torch.cat(
                [
                    plane_signal(volume, plane.affine(), shape, signal[0]),
                    resample_to_grid(
                        torch.from_numpy(bodies[level].probability),
                        bodies[level].affine,
                        plane.affine(),
                        (1, *shape),
                        antialias=False,
                        fill=0.0,
                    ),
                ]
            )
            for level, plane in planes.items()
        ]
    )
    found = mri.six_points(points, pictures, signal).numpy()
    answer = {}
    for (level, plane), pixels in zip(planes.items(), found, strict=True):
        points_mm = plane.to_patient(pixels)
        reason = _why_not(level, bodies[level], frames[level], points_mm, volume, stack)
        answer[level] = MeasuredBody(bodies[level], plane, None if reason else points_mm, reason)
    return answer


def _frames(stack: SagittalStack, bodies: Sequence[Body]) -> list[BodyFrame]:
    """Own axes of each body: those of its slice, or of its symmetry where slices are thin."""
    frames = frames_along_chain([body.center_mm() for body in bodies])
    if stack.thin:
        return [
            turned_to_symmetry(frame, *body.points_mm()) for body, frame in zip(bodies, frames, strict=True)
        ]
    left = stack.normal
    answer = []
    for frame in frames:
        place = stack.slice_of(frame.center_mm)
        nearest = int(np.clip(round(place), 0, stack.signal.shape[0] - 1))
        # Along the normal: a stack may be sheared.
        aside = (nearest - place) * float(stack.affine[:3, 0] @ left)
        superior = frame.superior - (frame.superior @ left) * left
        superior /= np.linalg.norm(superior)
        answer.append(BodyFrame(frame.center_mm + aside * left, left, np.cross(superior, left), superior))
    return answer


def _why_not(  # noqa: PLR0917 - all that can speak against it
    level: Level,
    body: Body,
    frame: BodyFrame,
    points_mm: Floats,
    volume: Volume,
    stack: SagittalStack,
) -> Reason | None:
    if _is_cut_off(body, volume, stack.across):
        return Reason("coverage", f"{level} is cut off by the edge of the image.")
    if _is_half_seen(body, stack):
        return Reason("coverage", f"The slices end in the middle of {level}.")
    words = implausible(points_mm, frame)
    outside = _outside_mm(points_mm, body, frame)
    if words is None and outside > MAX_OUTSIDE_MM:
        words = f"a point lies {outside:.0f} mm outside of the body that was outlined"
    if words is not None:
        return Reason("model-refused", f"The measurement of {level} was not used: {words}.")
    return None


def _outside_mm(points_mm: Floats, body: Body, frame: BodyFrame) -> float:
    """How far in its plane the worst of six points lies from the outlined body, whichever slice shows it."""
    axes = np.stack([frame.superior, frame.posterior], axis=1)
    outlined, _ = body.points_mm()
    distance, _ = cKDTree((outlined - frame.center_mm) @ axes).query((points_mm - frame.center_mm) @ axes)
    return float(np.max(distance))


def _is_cut_off(body: Body, volume: Volume, across: int) -> bool:
    """Whether the body runs over the edge of its slices; that it is not seen to its sides does not matter."""
    points, _ = body.points_mm()
    to_index = np.linalg.inv(volume.affine)
    index = points @ to_index[:3, :3].T + to_index[:3, 3]
    margin = EDGE_MM / volume.spacing_mm - 0.5
    outside = (index < margin) | (index > np.array(volume.shape) - 1 - margin)
    outside[:, across] = False
    return bool(outside.any(axis=1).sum() > 0.005 * len(points))


def _is_half_seen(body: Body, stack: SagittalStack) -> bool:
    """Whether the slices end within the body before its middle may have been reached."""
    points, _ = body.points_mm()
    to_index = np.linalg.inv(stack.affine)
    index = np.rint(points @ to_index[0, :3] + to_index[0, 3]).astype(int)
    first, last = int(index.min()), int(index.max())
    ends = (first <= 0) + (last >= stack.signal.shape[0] - 1)
    seen_mm = (last - first + 1) * float(stack.affine[:3, 0] @ stack.normal)
    return ends == 1 and seen_mm < HALF_BODY_MM

"""From dense answers on slices to vertebral bodies in three dimensions, and to their names.

Every pixel of a body points to the body's centre (Kendall 2018; Cheng 2020), on whatever slice it lies: the
votes of all slices pile up in one picture of the plane, whose peaks are the bodies. So bodies that touch come
apart, and the slices of one body come together, without any rule for either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_ai_node.anatomy import Level
from dicom_ai_node.inference.mri import DenseAnswer
from dicom_ai_node.pipelines.bodies import Body
from dicom_ai_node.pipelines.chain_ends import counted_up
from dicom_ai_node.pipelines.labelling import (
    Candidate,
    LabellingSettings,
    NamedCentre,
    name_chain,
    with_thirteenth,
)

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

VOTE_SIGMA_MM: Final = 2.5
"""Votes of one body scatter by about so much."""

APART_MM: Final = 7.0
"""Centres of two bodies are further apart than this, in the plane, even of crushed ones."""

REACH_MM: Final = 12.0
"""A pixel that points further than this from every peak is no body's."""

MARGIN_MM: Final = 40.0
"""Centres of bodies that are cut off by the edge of the image lie beyond it, at most so far."""

MIN_BODY_ML: Final = 1.2
"""Less than this is no adult vertebral body, even a crushed one on few slices."""

MIN_BODY_SHARE: Final = 0.15
"""Nor is less than this of the median body of the series: a piece of S2 or of a spinous process. What is left
of a body crushed by 70 %, or cut in half by the edge of the image, is twice as much."""

PLAUSIBLE_EXTENT_MM: Final = (6.0, 62.0)
"""Height and depth of a body with its osteophytes on a slice, along the image's axes."""

MIN_FILLING: Final = 0.42
"""A body fills this share of its box on its largest slice; a turned one fills half of it."""

NAMED_PIXELS_MM2: Final = 80.0
"""A slice that shows less of a body has no say in its name; the same as in training."""

MIN_PIECE_MM2: Final = 40.0
"""A piece of an outline that is smaller than this on its slice is a speck: the network is in doubt where a
slice cuts the side of a body."""

_HARDLY: Final = 0.05
"""So far from one half is what its surroundings decide."""

EVIDENCE_MM: Final = 9.0
"""A name's heatmap counts as far as this from the body's centre."""


@dataclass(frozen=True)
class SeenBody:
    """One body before it has a name.

    Attributes:
        body: probabilities on a part of the stack's grid, and where that lies.
        evidence: for each level of the answer.
    """

    body: Body
    evidence: Floats


@dataclass(frozen=True)
class NamedBody:
    """One link of the chain; `body` is None where one must lie but was not seen."""

    link: NamedCentre
    body: Body | None


def seen_bodies(answer: DenseAnswer, affine: Floats) -> list[SeenBody]:
    """The bodies of a stack, head to tail.

    Args:
        answer: of the network.
        affine: of the stack, index to patient LPS millimetres.
    """
    pixel = float(np.linalg.norm(affine[:3, 1]))
    answer = replace(answer, body=without_specks(answer.body, pixel))
    inside = answer.body >= 0.5
    if not inside.any():
        return []
    peaks = _peaks(answer, inside, pixel)
    owner = _owners(answer, inside, peaks, pixel)
    found = []
    for number, place in enumerate(peaks, start=1):
        body = _body(answer, owner, number, affine)
        if body is not None and not _odd(body, pixel):
            found.append(SeenBody(body, _evidence(answer, owner == number, place, pixel)))
    least = MIN_BODY_SHARE * float(np.median([item.body.volume_ml for item in found])) if found else 0.0
    found = [item for item in found if item.body.volume_ml >= least]
    return sorted(found, key=lambda item: -item.body.center_mm()[2])


def named_bodies(
    seen: Sequence[SeenBody], levels: Sequence[Level], settings: LabellingSettings
) -> list[NamedBody]:
    """The chain of bodies with names, head to tail; bodies outside the chain are left out.

    Those above it, which no heatmap knows, are counted up to C3.
    """
    known = [Candidate(item.body.center_mm(), item.evidence) for item in seen]
    chain = name_chain(*with_thirteenth(known, levels), settings)
    if chain:
        chain = counted_up(chain, [item.center_mm for item in known])
    return [NamedBody(link, None if link.interpolated else _body_at(seen, link)) for link in chain]


def without_specks(body: npt.NDArray[np.float32], pixel: float) -> npt.NDArray[np.float32]:
    """Probabilities whose outlines at one half have no holes and no pieces under `MIN_PIECE_MM2`.

    Args:
        body: probability, (slices, rows, columns).
        pixel: edge, mm.
    """
    settled = body.copy()
    for drawn in settled:
        inside = drawn >= 0.5
        filled = ndimage.binary_fill_holes(inside)
        pieces, count = ndimage.label(filled)
        speck = np.bincount(pieces.ravel(), minlength=count + 1) * pixel**2 < MIN_PIECE_MM2
        kept = filled & ~speck[pieces]
        drawn[kept & ~inside] = 0.5 + _HARDLY
        drawn[inside & ~kept] = 0.5 - _HARDLY
    return settled


def _peaks(answer: DenseAnswer, inside: Mask, pixel: float) -> Floats:
    """[row, column] of the places to which pixels point, shape (bodies, 2)."""
    margin = round(MARGIN_MM / pixel)
    shape = np.array(inside.shape[1:]) + 2 * margin
    votes = np.moveaxis(answer.pointed_at, 1, -1)[inside] + margin
    weights = answer.body[inside]
    places = np.rint(votes).astype(int)
    kept = ((places >= 0) & (places < shape)).all(axis=1)
    pile = np.zeros(shape, dtype=np.float64)
    np.add.at(pile, tuple(places[kept].T), weights[kept])
    smooth = ndimage.gaussian_filter(pile, VOTE_SIGMA_MM / pixel)
    radius = max(1, round(APART_MM / pixel))
    grid = np.indices((2 * radius + 1,) * 2) - radius
    highest = ndimage.maximum_filter(smooth, footprint=(grid**2).sum(axis=0) <= radius**2)
    tops = np.argwhere((smooth == highest) & (smooth >= 0.02 * smooth.max()))
    # Two pixels of one top may be equally high.
    kept_tops: list[npt.NDArray[np.intp]] = []
    for top in tops[np.argsort(-smooth[tuple(tops.T)], kind="stable")]:
        if all(np.hypot(*(top - other)) > radius for other in kept_tops):
            kept_tops.append(top)
    return np.array(kept_tops, dtype=np.float64) - margin


def _owners(answer: DenseAnswer, inside: Mask, peaks: Floats, pixel: float) -> npt.NDArray[np.int32]:
    """Number of the body (from 1) that each pixel belongs to, 0 for none; connected in three dimensions."""
    votes = np.moveaxis(answer.pointed_at, 1, -1)[inside]
    distance = np.stack([np.hypot(*(votes - peak).T) for peak in peaks])
    nearest = distance.argmin(axis=0)
    owner = np.zeros(inside.shape, dtype=np.int32)
    owner[inside] = np.where(distance.min(axis=0) * pixel <= REACH_MM, nearest + 1, 0)
    for number, window in enumerate(ndimage.find_objects(owner, max_label=len(peaks)), start=1):
        if window is None:
            continue
        pieces, count = ndimage.label(owner[window] == number, structure=np.ones((3, 3, 3)))
        if count > 1:
            largest = int(np.bincount(pieces.ravel())[1:].argmax()) + 1
            owner[window][(pieces > 0) & (pieces != largest)] = 0
    return owner


def _body(answer: DenseAnswer, owner: npt.NDArray[np.int32], number: int, affine: Floats) -> Body | None:
    """The body on the part of the grid that it needs, with a soft edge that no other body claims."""
    mine = owner == number
    if not mine.any():
        return None
    window = tuple(slice(max(0, int(axis.min()) - 2), int(axis.max()) + 3) for axis in np.nonzero(mine))
    around = ndimage.binary_dilation(mine[window], structure=np.ones((1, 3, 3)), iterations=2)
    free = around & (mine[window] | (answer.body[window] < 0.5))
    # Neighbouring slices beyond the last one of a body take part in its soft edge as well.
    beside = ndimage.binary_dilation(mine[window], structure=np.ones((3, 1, 1))) & (answer.body[window] < 0.5)
    probability = np.where(free | beside, answer.body[window], 0).astype(np.float32)
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ [part.start for part in window]
    return Body(probability, 0.0, moved)


def _odd(body: Body, pixel: float) -> bool:
    """Whether something of this size and shape is no vertebral body."""
    if body.volume_ml < MIN_BODY_ML:
        return True
    mask = body.probability >= 0.5
    largest = mask[int(mask.sum(axis=(1, 2)).argmax())]
    rows, columns = np.nonzero(largest)
    height, depth = (np.ptp(rows) + 1) * pixel, (np.ptp(columns) + 1) * pixel
    low, high = PLAUSIBLE_EXTENT_MM
    filling = float(largest.sum()) * pixel**2 / (height * depth)
    return bool(not (low <= height <= high and low <= depth <= high) or filling < MIN_FILLING)


def _evidence(answer: DenseAnswer, mine: Mask, place: Floats, pixel: float) -> Floats:
    """How much each level's heatmap says so at the body's centre, over the slices that show enough of it."""
    shown = mine.sum(axis=(1, 2)).astype(np.float64)
    weight = np.where(shown * pixel**2 >= NAMED_PIXELS_MM2, shown, 0.0)
    if weight.sum() == 0:
        weight = shown
    stride = answer.stride
    middle = (place - (stride - 1) / 2) / stride
    reach = EVIDENCE_MM / pixel / stride
    limit = np.array(answer.heatmaps.shape[2:])
    low = np.clip(np.ceil(middle - reach), 0, limit - 1).astype(int)
    high = np.clip(np.floor(middle + reach) + 1, low + 1, limit).astype(int)
    slices = np.nonzero(weight)[0]
    near = answer.heatmaps[slices, :, low[0] : high[0], low[1] : high[1]].max(axis=(2, 3))
    return np.asarray(np.average(near, axis=0, weights=weight[slices]), dtype=np.float64)


def _body_at(seen: Sequence[SeenBody], link: NamedCentre) -> Body | None:
    return next((item.body for item in seen if np.allclose(item.body.center_mm(), link.center_mm)), None)

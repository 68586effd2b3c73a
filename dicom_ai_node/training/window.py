"""Whether a case's contrast can be seen through the window of HU that networks are shown.

A third of the phantoms made for training have a random contrast curve, and some of them lie far outside the
values of any CT. Where the window (`Intensity.clip_hu`) would cut bone and its surroundings to one value, the
case is brought back by a linear map, or left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from dicom_ai_node.training.cases import Case

_SEEN_HU = (-300.0, 1250.0)
_BODY_MEDIAN_HU = (0.0, 700.0)
_BODY_HU = (-450.0, 1250.0)
_TARGET_HU = (-100.0, 500.0)
_FAT_HU = -200.0

Mask = npt.NDArray[np.bool_]


def usable(cases: Iterable[Case], *, bright_bone: bool) -> list[Case]:
    """The cases that teach something, brought into the window.

    Args:
        cases: as they were made.
        bright_bone: keep only cases in which bone is brighter than what surrounds it, as in every real CT.
    """
    kept = (into_window(case) for case in cases)
    return [case for case in kept if _bodies_are_seen(case) and (not bright_bone or _bone_is_bright(case))]


def into_window(case: Case) -> Case:
    """The case itself, or mapped linearly where its bodies and their edges lie outside the window."""
    voxels, bodies = _thinned(case)
    if not bodies.any():
        return case
    step = 2 if case.spacing_mm < 4 else 1
    pixel = step * case.spacing_mm
    low, high = np.percentile(voxels[_grown(bodies, 3 / pixel)], [5, 95])
    if low > _SEEN_HU[0] and high < _SEEN_HU[1]:
        return case
    dark, bright = np.percentile(voxels[_grown(bodies, 15 / pixel)], [2, 98])
    scale = (_TARGET_HU[1] - _TARGET_HU[0]) / max(float(bright - dark), 1.0)
    mapped = (case.voxels.float() - float(dark)) * scale + _TARGET_HU[0]
    return replace(case, voxels=mapped.clamp(-1500, 3000).round().to(torch.int16))


def _bodies_are_seen(case: Case) -> bool:
    inside = case.voxels[case.labels > 0].float()
    if inside.numel() == 0:
        return False
    median = float(inside.median())
    seen = ((inside > _BODY_HU[0]) & (inside < _BODY_HU[1])).float().mean()
    return _BODY_MEDIAN_HU[0] <= median <= _BODY_MEDIAN_HU[1] and float(seen) >= 0.9


def _bone_is_bright(case: Case) -> bool:
    voxels, bodies = _thinned(case)
    around = _grown(bodies, 4) & ~_grown(bodies, 1) & (voxels > _FAT_HU)
    return bool(bodies.any() and around.any() and np.median(voxels[bodies]) - np.median(voxels[around]) > 20)


def _thinned(case: Case) -> tuple[npt.NDArray[np.int16], Mask]:
    step = 2 if case.spacing_mm < 4 else 1
    every = (slice(None, None, step),) * 3
    return case.voxels.numpy()[every], case.labels.numpy()[every] > 0


def _grown(mask: Mask, voxels: float) -> Mask:
    grown: Mask = ndimage.binary_dilation(mask, iterations=max(1, round(voxels)))
    return grown

"""Names for bodies that were found on sagittal CT slices: from the sacrum where it shows, else relative.

The network that names bodies in whole volumes looks at the stack of slices too. It was taught with whole
bodies of people: beyond the outermost slices it is shown soft tissue, as lies beside a spine, and not air,
which would end the patient there. The sacrum looks like no other vertebra; who sees it counts from there.
Without it the bodies between look alike, and the names are a guess that the report calls one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dicom_ai_node.anatomy import Level
from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.imaging.resample import resample_isotropic
from dicom_ai_node.imaging.volume import Volume
from dicom_ai_node.inference import ct
from dicom_ai_node.inference.bundle import Bundle
from dicom_ai_node.pipelines.chain_ends import with_ends
from dicom_ai_node.pipelines.ct_heatmaps import heatmaps_of_coarse
from dicom_ai_node.pipelines.ct_slice_bodies import SliceBody
from dicom_ai_node.pipelines.labelling import (
    LabellingSettings,
    NamedCentre,
    candidates_at,
    find_candidates,
    name_chain,
    with_thirteenth,
)

Floats = npt.NDArray[np.float64]

STACK_LABELLING: Final = LabellingSettings(anchor_weight=3.0)
"""Bodies look alike on few slices and their names err together; a clear sacrum outweighs them."""

WIDTH_MM: Final = 160.0
"""As wide as the network is shown a patient."""

AIR_BELOW_HU: Final = -300.0
SOFT_TISSUE_HU: Final = 20.0

CLEAR_ANCHOR: Final = 0.16
"""Height of the sacrum's heatmap from which on names count from it. On 24 stacks of eight phantoms it was
0.22 to 0.37 in six of the eight where the sacrum was in view, and 0.10 at most where it was not."""

LEAST_EVIDENCE: Final = 0.4
"""Where no name is surer than this at any body, the network sees no thoracic or lumbar spine: on the same
stacks the surest name had 0.45 and more, boxes in a head 0.36."""

RELATIVE_AT_MOST: Final = 0.5
"""Confidence of names that count from nothing: an even bet, whatever the network says."""

_SACRUM_BELOW_MM: Final = (12.0, 70.0)
"""How far the sacrum's centre may lie below the lowest body's."""


@dataclass(frozen=True)
class NamedSliceBody:
    """One link of the chain; `body` is None where one must lie but was not seen."""

    link: NamedCentre
    body: SliceBody | None


@dataclass(frozen=True)
class NamedSlices:
    """The chain, head to tail, the sacrum included; `anchored` where the names count from it."""

    chain: tuple[NamedSliceBody, ...]
    anchored: bool


def named_slice_bodies(
    localise: Bundle,
    volume: Volume,
    bodies: Sequence[SliceBody],
    settings: LabellingSettings = STACK_LABELLING,
) -> NamedSlices:
    """Names for the bodies of a series of sagittal slices.

    Args:
        localise: the bundle `ct-localise`.
        volume: the series.
        bodies: at least one.
        settings: of the chain.

    Raises:
        NotAnalysable: nothing of what was found can be named.
    """
    coarse, affine = resample_isotropic(
        volume.voxels, volume.affine, ct.spacing_mm(localise), device=localise.device
    )
    between_tissue, affine = beside_soft_tissue(coarse, affine)
    heatmaps, affine = heatmaps_of_coarse(localise, between_tissue, affine)
    levels = ct.levels(localise)
    centers = [body.center_mm for body in bodies]
    sacrum = _sacrum(centers, heatmaps[levels.index(Level.S1)], affine, settings)
    candidates = candidates_at([*centers, *sacrum], heatmaps, affine)
    if max(float(candidate.evidence.max()) for candidate in candidates) < LEAST_EVIDENCE:
        raise NotAnalysable(
            "coverage",
            f"{len(bodies)} bodies were seen, but none can be named: too little of the thoracic or lumbar "
            "spine is in view. Send a series that shows more of it.",
        )
    chain = with_ends(name_chain(*with_thirteenth(candidates, levels), settings), centers)
    index = levels.index(Level.S1)
    clear = {
        tuple(candidate.center_mm) for candidate in candidates if candidate.evidence[index] >= CLEAR_ANCHOR
    }
    anchored = any(
        link.level is Level.S1 and not link.interpolated and tuple(link.center_mm) in clear for link in chain
    )
    if not anchored:
        chain = [replace(link, confidence=min(link.confidence, RELATIVE_AT_MOST)) for link in chain]
    return NamedSlices(
        tuple(NamedSliceBody(link, None if link.interpolated else _body_at(bodies, link)) for link in chain),
        anchored,
    )


def beside_soft_tissue(coarse: Tensor, affine: Floats, width_mm: float = WIDTH_MM) -> tuple[Tensor, Floats]:
    """A stack of slices with soft tissue beside them, as wide as a patient.

    Args:
        coarse: HU, shape (to superior, to posterior, to left), as `resample_isotropic` gives it.
        affine: of it.
        width_mm: of the result, from side to side; a wider stack is left as it is.
    """
    spacing = float(np.linalg.norm(affine[:3, 2]))
    missing = max(0, int(np.ceil(width_mm / spacing)) - coarse.shape[2])
    right, left = missing // 2, missing - missing // 2
    sides = [coarse[:, :, :1], coarse[:, :, -1:]]
    tissue = torch.tensor(SOFT_TISSUE_HU, device=coarse.device)
    first, last = (torch.where(side > AIR_BELOW_HU, tissue, side) for side in sides)
    whole = torch.cat([first.expand(-1, -1, right), coarse, last.expand(-1, -1, left)], dim=2)
    moved = affine.copy()
    moved[:3, 3] -= affine[:3, 2] * right
    return whole, moved


def _sacrum(
    centers: Sequence[Floats], heatmap: npt.NDArray[np.float32], affine: Floats, settings: LabellingSettings
) -> list[Floats]:
    """The highest peak below the lowest body, where there is one."""
    lowest = min(float(center[2]) for center in centers)
    near, far = _SACRUM_BELOW_MM
    peaks = [
        peak
        for peak in find_candidates(heatmap[None], affine, settings)
        if near < lowest - peak.center_mm[2] < far
    ]
    return [max(peaks, key=lambda peak: float(peak.evidence[0])).center_mm] if peaks else []


def _body_at(bodies: Sequence[SliceBody], link: NamedCentre) -> SliceBody | None:
    return next((body for body in bodies if np.allclose(body.center_mm, link.center_mm)), None)

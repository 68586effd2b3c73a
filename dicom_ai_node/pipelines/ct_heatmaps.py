"""The heatmaps of a CT volume, in whichever way its bundle was taught: at once, or in overlapping patches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dicom_ai_node.imaging.resample import HasGrid, isotropic_grid, resample_isotropic, resample_to_grid
from dicom_ai_node.inference import ct
from dicom_ai_node.inference.bundle import Bundle
from dicom_ai_node.inference.ct_patches import block_edge, in_patches, localise_in_patches
from dicom_ai_node.networks.overlapping import reader_of

Heatmaps = tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]
"""Shape (levels, slices, rows, columns), and the affine of the last three axes to LPS millimetres."""

Progress = Callable[[int, int], None]


def heatmaps_of_volume(
    localise: Bundle, volume: HasGrid, progress: Progress = lambda _done, _of: None
) -> Heatmaps:
    """The heatmaps of a volume on any grid, on cubic voxels along the patient's axes.

    Args:
        localise: the bundle `ct-localise`.
        volume: HU.
        progress: is told how many patches of how many are done, where there are patches.
    """
    spacing = ct.spacing_mm(localise)
    if not in_patches(localise):
        coarse, affine = resample_isotropic(volume.voxels, volume.affine, spacing, device=localise.device)
        return ct.localise(localise, coarse).cpu().numpy(), affine
    affine, shape = isotropic_grid(volume.affine, volume.voxels.shape, spacing)

    def read(first: Sequence[int], size: Sequence[int]) -> Tensor:
        # Patch by patch: at 1 mm a whole body would be larger than what was scanned.
        there = affine.copy()
        there[:3, 3] += affine[:3, :3] @ np.asarray(first, dtype=np.float64)
        return resample_to_grid(volume.voxels, volume.affine, there, size, device=localise.device)

    scanned = torch.as_tensor(volume.voxels)
    merged = localise_in_patches(localise, read, shape, scanned, progress)
    return merged.numpy(), _of_blocks(affine, block_edge(localise))


def heatmaps_of_coarse(localise: Bundle, coarse: Tensor, affine: npt.NDArray[np.float64]) -> Heatmaps:
    """The heatmaps of a volume that lies on the network's grid already.

    Args:
        localise: the bundle `ct-localise`.
        coarse: HU, shape (to superior, to posterior, to left), of the bundle's spacing.
        affine: of it.
    """
    if not in_patches(localise):
        return ct.localise(localise, coarse).cpu().numpy(), affine
    merged = localise_in_patches(localise, reader_of(coarse), coarse.shape, coarse)
    return merged.numpy(), _of_blocks(affine, block_edge(localise))


def _of_blocks(affine: npt.NDArray[np.float64], block: int) -> npt.NDArray[np.float64]:
    coarser = affine.copy()
    coarser[:3, :3] *= block
    coarser[:3, 3] += affine[:3, :3] @ np.full(3, (block - 1) / 2)
    return coarser

"""ct-localise in overlapping patches (P3 figure 2), for bundles that were trained on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

from dicom_ai_node.inference.bundle import Bundle
from dicom_ai_node.inference.ct import crop_shape, look_of, spacing_mm
from dicom_ai_node.networks.overlapping import Read, Tiling, block_of, merged_heatmaps

_COARSEST_MM: Final = 4.0
"""Heatmaps are kept in blocks no longer than this: exact places are told by the bodies found from them."""

_PATCHES_AT_ONCE: Final = 4
"""On a device; on processors one by one, for they are no faster together and take more memory."""


def in_patches(bundle: Bundle) -> bool:
    """Whether the network sees a volume in overlapping patches, or the whole of it at once."""
    return bundle.metadata.ct.size is not None


def block_edge(bundle: Bundle) -> int:
    """Voxels of the network along an edge of what `localise_in_patches` gives one value for."""
    return block_of(spacing_mm(bundle), _COARSEST_MM)


@torch.inference_mode()
def localise_in_patches(
    bundle: Bundle,
    read: Read,
    shape: Sequence[int],
    scanned: Tensor,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Tensor:
    """One heatmap per level over a whole volume that is read patch by patch.

    Args:
        bundle: of ct-localise, trained on patches.
        read: HU of a box at the network's spacing, with air beyond the volume.
        shape: of the volume at that spacing.
        scanned: HU of the volume at any spacing: what standardisation is told by.
        progress: is told how many patches of how many are done.

    Returns:
        float32 on the CPU, shape (levels, *blocks) of `block_edge` voxels each.

    Raises:
        ModelError: the bundle takes volumes of any size at once.
    """
    return merged_heatmaps(
        lambda patches: bundle.network(patches.to(bundle.device)).product,
        read,
        Tiling(tuple(shape), crop_shape(bundle), block_edge(bundle)),
        look_of(bundle, scanned),
        batch=1 if bundle.device.type == "cpu" else _PATCHES_AT_ONCE,
        progress=progress,
    )

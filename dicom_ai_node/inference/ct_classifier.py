"""P2's classifier as a function from sagittal CT slices and the boxes on them to diseases."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dicom_ai_node.errors import InconsistentGeometry
from dicom_ai_node.inference.bundle import Bundle
from dicom_ai_node.networks.ct_classifier import answers_of
from dicom_ai_node.networks.ct_patch import fixed_views, vertebra_patches


@torch.inference_mode()
def classify(
    bundle: Bundle, images: Tensor, spacing_mm: tuple[float, float], boxes: Sequence[Tensor]
) -> list[Tensor]:
    """Probabilities of `networks.ct_diseases.OUTPUTS` of every vertebra on every slice.

    They are independent of each other: several diseases may be there at once. Each is the mean over the four
    patches of `networks.ct_patch.fixed_views`.

    Args:
        bundle: of ct-classify.
        images: HU of any number type, (slices, rows, columns); rows run foot-ward, columns back-ward.
        spacing_mm: of the rows and of the columns.
        boxes: for each slice (m, 4), left, top, right, bottom of the vertebral bodies in pixels, integers at
            pixel edges; a box may reach beyond the slice.

    Returns:
        For each slice float32 (m, 6), on the CPU.

    Raises:
        InconsistentGeometry: there are not as many sets of boxes as slices, or a box is empty.
        ModelError: it is no bundle of ct-classify.
    """
    seen = bundle.metadata.ct_patch
    if images.ndim != 3 or len(images) != len(boxes):
        raise InconsistentGeometry(
            f"{len(boxes)} sets of boxes for images of shape {tuple(images.shape)}; give one for each slice"
        )
    views = fixed_views(seen.scales, seen.shift)
    told = []
    for number, (image, own) in enumerate(zip(images, boxes, strict=True)):
        if bool((own[:, 2:] <= own[:, :2]).any()):
            raise InconsistentGeometry(
                f"slice {number} has a box without area; give left < right, top < bottom"
            )
        # Slice by slice: the patches of a whole volume would be larger than the volume.
        patches = vertebra_patches(
            image.to(bundle.device), spacing_mm, own, views, size=seen.size, windows_hu=seen.windows_hu
        )
        told.append(answers_of(bundle.network, patches).float().cpu())
    return told

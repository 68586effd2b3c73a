"""P4's classifier as functions from paired MR series and a body's box to what it says of the body.

Series are arrays (slices, rows, columns) on one grid of square pixels, resampled to the series on which the
bodies were found; slices are parallel to the sagittal plane, rows run to inferior and columns to posterior.
Places are pixels [row, column] of it, integers at pixel centres.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dicom_ai_node.errors import InconsistentGeometry, ModelError
from dicom_ai_node.inference.bundle import Bundle
from dicom_ai_node.networks.mri_classes import CLASSES
from dicom_ai_node.networks.mri_classifier import over_slices
from dicom_ai_node.networks.mri_patch import body_patches

_BATCH = 64


@dataclass(frozen=True)
class MrBody:
    """Where one body lies.

    Attributes:
        box: first row, first column, last row, last column of it over all slices, shape (4,).
        slices: those that go through it; each is looked at with both its neighbours. The classifier was
            taught with those that cut at least half of the body's largest section.
    """

    box: npt.NDArray[np.float64]
    slices: tuple[int, ...]


@dataclass(frozen=True)
class MriOpinion:
    """What the classifier says of one body.

    Attributes:
        classes: probabilities of "benign" and "malignant": of the slice that looks most malignant (P4).
        features: probability of each of P4's features: the highest of all slices, or the lowest of those that
            every slice must show (`mri_classes.ABSENCES`).
        slices: that were looked at.
        malignant_by_slice: probability of malignancy in each of them.
        features_by_slice: of the features in each of them.
    """

    classes: Mapping[str, float]
    features: Mapping[str, float]
    slices: tuple[int, ...]
    malignant_by_slice: tuple[float, ...]
    features_by_slice: tuple[Mapping[str, float], ...]

    @property
    def slice_of_highest(self) -> int:
        """The slice that looks most malignant: the one to show."""
        return self.slices[int(np.argmax(self.malignant_by_slice))]


def series_wanted(bundle: Bundle) -> tuple[str, ...]:
    """Which of "t1", "t2" and "stir" the bundle needs.

    Raises:
        ModelError: it is no bundle of mri-classify.
    """
    return bundle.metadata.mri_patch.series


@torch.inference_mode()
def classify(
    bundle: Bundle, series: Mapping[str, npt.NDArray[Any]], bodies: Sequence[MrBody]
) -> list[MriOpinion]:
    """What the bundle says of every body.

    Args:
        bundle: of mri-classify.
        series: "t1", "t2" and, where the bundle needs it, "stir": (slices, rows, columns) of any number type
            and scale, all on one grid.
        bodies: those to be looked at: abnormal ones; of healthy ones the classifier knows nothing.

    Raises:
        InconsistentGeometry: the series differ in shape, or a body lies in no slice of them.
        ModelError: it is no bundle of mri-classify, or it needs a series that is not there.
    """
    seen = bundle.metadata.mri_patch
    missing = [name for name in seen.series if name not in series]
    if missing:
        raise ModelError(f"{bundle.name} needs {', '.join(missing)}; take a bundle that does without")
    arrays = [np.asarray(series[name]) for name in seen.series]
    shape = arrays[0].shape
    if len(shape) != 3 or any(array.shape != shape for array in arrays):
        shapes = ", ".join(f"{name} {array.shape}" for name, array in zip(seen.series, arrays, strict=True))
        raise InconsistentGeometry(f"paired series lie on one grid of slices; these do not: {shapes}")
    for body in bodies:
        if not body.slices or not all(0 <= k < shape[0] for k in body.slices):
            raise InconsistentGeometry(f"a body in slices {body.slices} of a series of {shape[0]}")
    if not bodies:
        return []
    stacks = torch.from_numpy(np.stack([array.astype(np.float32) for array in arrays]))
    patches = [
        body_patches(
            stacks,
            torch.from_numpy(np.asarray(body.box, dtype=np.float32)),
            body.slices,
            size=seen.size,
            margin=seen.margin,
            behind=seen.behind,
        )
        for body in bodies
    ]
    said = torch.cat(
        [
            bundle.network(part.to(bundle.device)).sigmoid().cpu()
            for part in torch.split(torch.cat(patches), _BATCH)
        ]
    )
    names = bundle.metadata.output_channels[1:]
    return [
        _opinion(body, part.double(), names)
        for body, part in zip(bodies, torch.split(said, [len(body.slices) for body in bodies]), strict=True)
    ]


def _opinion(body: MrBody, said: Tensor, names: Sequence[str]) -> MriOpinion:
    together = over_slices(said).tolist()
    rows = said.tolist()
    return MriOpinion(
        classes=dict(zip(CLASSES, (1.0 - together[0], together[0]), strict=True)),
        features=dict(zip(names, together[1:], strict=True)),
        slices=tuple(body.slices),
        malignant_by_slice=tuple(row[0] for row in rows),
        features_by_slice=tuple(dict(zip(names, row[1:], strict=True)) for row in rows),
    )

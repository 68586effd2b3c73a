"""What P2's classifier says of vertebrae, put together over the slices that show them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dicom_ai_node.networks.ct_diseases import OUTPUTS
from dicom_ai_node.networks.slice_opinions import best_slices, over_slices
from dicom_ai_node.pipelines.ct_planes import SagittalPlanes
from dicom_ai_node.pipelines.ct_slice_bodies import Box
from dicom_ai_node.report import DISEASES, FRACTURES, BoxPx, SeenOn, Vertebra

OnImage = Callable[[int, tuple[float, float], tuple[float, float]], BoxPx | None]
"""Plane, rows and columns of a box -> the same box on the image that was sent; None where none shows it."""


class Judge(Protocol):
    """Says which diseases the vertebrae on slices have: `inference.ct_classifier.classify`."""

    def __call__(
        self, images: Tensor, spacing_mm: tuple[float, float], boxes: Sequence[Tensor]
    ) -> Sequence[Tensor]:
        """Probabilities of `networks.ct_diseases.OUTPUTS`, for each slice (m, 6).

        Args:
            images: HU, shape (slices, rows, columns), head up, front left.
            spacing_mm: of rows and columns.
            boxes: for each slice (m, 4), left, top, right, bottom at pixel edges.
        """


@dataclass(frozen=True)
class Opinion:
    """What was said of one vertebra.

    Attributes:
        planes: that show it, in order.
        boxes: its box on each.
        probabilities: shape (planes, 6), of `OUTPUTS`.
    """

    planes: tuple[int, ...]
    boxes: tuple[Box, ...]
    probabilities: npt.NDArray[np.float64]

    @property
    def shares(self) -> dict[str, float]:
        """Probability of each output over all slices."""
        return {
            name: float(share) for name, share in zip(OUTPUTS, over_slices(self.probabilities), strict=True)
        }


def opinions(judge: Judge, planes: SagittalPlanes, bodies: Sequence[Mapping[int, Box]]) -> list[Opinion]:
    """What the classifier says of each body.

    Args:
        judge: see there.
        planes: that were looked at.
        bodies: plane -> box, of each body; at least one box each.
    """
    on_plane: list[list[tuple[int, Box]]] = [[] for _ in range(len(planes))]
    for number, boxes in enumerate(bodies):
        for plane, box in boxes.items():
            on_plane[plane].append((number, box))
    answers = judge(planes.images, planes.spacing_mm, [_edges([box for _, box in own]) for own in on_plane])
    said: list[dict[int, npt.NDArray[np.float64]]] = [{} for _ in bodies]
    for plane, (own, told) in enumerate(zip(on_plane, answers, strict=True)):
        for (number, _), row in zip(own, told, strict=True):
            said[number][plane] = row.double().cpu().numpy()
    return [
        Opinion(
            tuple(sorted(boxes)),
            tuple(boxes[k] for k in sorted(boxes)),
            np.stack([own[k] for k in sorted(boxes)]),
        )
        for boxes, own in zip(bodies, said, strict=True)
    ]


def with_opinion(
    vertebra: Vertebra,
    opinion: Opinion,
    planes: SagittalPlanes,
    on_image: OnImage,
    *,
    algorithm: str,
    threshold: float,
) -> Vertebra:
    """The vertebra with its diseases, their probabilities, and where they show best.

    Args:
        vertebra: as it is known.
        opinion: of it.
        planes: of the opinion.
        on_image: see there.
        algorithm: whose opinion it is.
        threshold: probability over all slices from which on a disease is reported.
    """
    shares = opinion.shares
    seen_on = {}
    for column, (name, best) in enumerate(zip(OUTPUTS, best_slices(opinion.probabilities), strict=True)):
        plane, box = opinion.planes[best], opinion.boxes[best]
        seen_on[name] = SeenOn(
            slices=int((opinion.probabilities[:, column] >= threshold).sum()),
            of=len(opinion.planes),
            box_px=on_image(plane, box.rows, box.columns),
            corners_mm=planes.corners_mm(plane, box.rows, box.columns),
        )
    return replace(
        vertebra,
        classes={**vertebra.classes, algorithm: shares},
        diseases=tuple(name for name in DISEASES if shares[name] >= threshold),
        seen_on=seen_on,
    )


def fracture_share(shares: Mapping[str, float]) -> float:
    """Probability of a fracture of whatever age: of the likeliest kind."""
    return max(shares[name] for name in FRACTURES)


def _edges(boxes: Sequence[Box]) -> Tensor:
    return torch.tensor(
        [(box.columns[0], box.rows[0], box.columns[1] + 1.0, box.rows[1] + 1.0) for box in boxes],
        dtype=torch.float32,
    ).reshape(-1, 4)

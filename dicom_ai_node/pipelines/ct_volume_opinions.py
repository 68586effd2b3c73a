"""P2's opinions beside P3's report on a CT volume: planes along the column, judged body by body.

P3 knows where the bodies lie and what they are called, so P2's detector is not asked: its boxes are those of
the label map on each plane. Where that outlines a body badly, as it may around much cement, so is the box.
Both systems' words stand in the report; where they disagree on a fracture, the vertebra says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.imaging.resample import resample_to_grid
from dicom_ai_node.imaging.volume import Volume
from dicom_ai_node.inference.bundle import load_bundle
from dicom_ai_node.inference.ct_classifier import classify
from dicom_ai_node.inference.ct_slices import SliceBox
from dicom_ai_node.pipelines.ct_planes import SagittalPlanes, box_on_image, cut_planes, measured_planes
from dicom_ai_node.pipelines.ct_slice_bodies import Box, cut_off
from dicom_ai_node.pipelines.ct_slice_opinions import Judge, fracture_share, opinions, with_opinion
from dicom_ai_node.pipelines.limitations import disease_limitation
from dicom_ai_node.report import Algorithm, Analysis, BoxPx, LabelMap, Reason, Vertebra

Floats = npt.NDArray[np.float64]

CLASSIFY: Final = "ct-classify"

MIN_AREA_MM2: Final = 150.0
"""A plane that meets less of a body than this grazes it."""

INNER_SHARE: Final = 0.55
"""A body is judged on planes within this share of its half width: further out they show its rounded side."""

MEASURED_FROM_MM: Final = 2.0
"""Sagittal volumes with slices at least so far apart are judged on the slices themselves."""


@dataclass(frozen=True)
class CtVolumeOpinions:
    """P2's classifier for volumes.

    Attributes:
        judge: says which diseases vertebrae on slices have.
        algorithm: the judge, as the report names it.
        threshold: probability over all planes from which on a disease is reported.
    """

    judge: Judge
    algorithm: Algorithm
    threshold: float = 0.5

    @classmethod
    def load(cls, models_dir: Path, device: torch.device, threshold: float = 0.5) -> Self:
        """Load the bundle `ct-classify`.

        Raises:
            ModelError: the bundle is missing, was changed, or does not fit.
        """
        bundle = load_bundle(models_dir / CLASSIFY, device)
        return cls(
            lambda images, spacing_mm, boxes: classify(bundle, images, spacing_mm, boxes),
            bundle.algorithm(),
            threshold,
        )

    def added(self, analysis: Analysis, volume: Volume) -> Analysis:
        """The analysis of a volume, with diseases for every vertebra of its label map.

        Args:
            analysis: of P3, with its label map on the grid of `volume`.
            volume: that was analysed.
        """
        bodies = _bodies(analysis)
        if not bodies:
            return analysis
        planes = _planes(volume, bodies)
        boxes = {level: found for level, body in bodies.items() if (found := _boxes(body, planes))}
        told = dict(zip(boxes, opinions(self.judge, planes, list(boxes.values())), strict=True))

        def on_image(plane: int, rows: tuple[float, float], columns: tuple[float, float]) -> BoxPx | None:
            return box_on_image(volume, planes, plane, rows, columns)

        vertebrae = []
        for vertebra in analysis.report:
            opinion = told.get(vertebra.level)
            if opinion is None or _incomplete(vertebra, boxes[vertebra.level], planes):
                vertebrae.append(vertebra)
                continue
            judged = with_opinion(
                vertebra,
                opinion,
                planes,
                on_image,
                algorithm=self.algorithm.name,
                threshold=self.threshold,
            )
            vertebrae.append(self._joined(judged, fracture_share(opinion.shares)))
        report = replace(
            analysis.report,
            vertebrae=tuple(vertebrae),
            algorithms=(*analysis.report.algorithms, self.algorithm),
            limitations=(*analysis.report.limitations, disease_limitation(self.threshold)),
        )
        return replace(analysis, report=report)

    def _joined(self, vertebra: Vertebra, share: float) -> Vertebra:
        """With a reason where heights and slices do not agree on whether the body is broken.

        A body without usable heights is judged by its slices alone; why it has none stays among its reasons.
        """
        says = share >= self.threshold
        if vertebra.fractured is None:
            return replace(vertebra, fractured=says, fracture_probability=share, status="analysed")
        if vertebra.fractured == says:
            return vertebra
        seen = "show a fracture" if says else "show no fracture"
        heights = "is broken" if vertebra.fractured else "is not broken"
        reason = Reason(
            "disagreement",
            f"By its heights {vertebra.level} {heights}; its sagittal slices {seen} ({share:.0%}).",
        )
        return replace(vertebra, reasons=(*vertebra.reasons, reason))


def _incomplete(vertebra: Vertebra, boxes: Mapping[int, Box], planes: SagittalPlanes) -> bool:
    """Whether too little of a body is in view: slices that were sent may cut it at its sides alone."""
    cut = any(reason.code == "coverage" for reason in vertebra.reasons)
    return cut and not (planes.measured and not cut_off(boxes, planes))


@dataclass(frozen=True, eq=False)
class _LabelledBody:
    """One body of the label map: 1 inside, 0 outside, with a border, and where that lies."""

    inside: npt.NDArray[np.float32]
    affine: Floats
    low_mm: Floats
    high_mm: Floats


def _bodies(analysis: Analysis) -> dict[Level, _LabelledBody]:
    label_map = analysis.label_map
    if label_map is None or label_map.affine is None:
        return {}
    places = ndimage.find_objects(label_map.labels)
    found = {}
    for vertebra in analysis.report:
        label = verse_label(vertebra.level)
        place = places[label - 1] if label <= len(places) else None
        if place is not None:
            found[vertebra.level] = _labelled(label_map, place, label)
    return found


def _labelled(label_map: LabelMap, place: tuple[slice, ...], label: int) -> _LabelledBody:
    assert label_map.affine is not None
    inside = np.pad((label_map.labels[place] == label).astype(np.float32), 1)
    affine = label_map.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [part.start - 1 for part in place]
    points = np.argwhere(inside > 0) @ affine[:3, :3].T + affine[:3, 3]
    return _LabelledBody(inside, affine, points.min(axis=0), points.max(axis=0))


def _planes(volume: Volume, bodies: Mapping[Level, _LabelledBody]) -> SagittalPlanes:
    """The slices themselves where they are sagittal and thick; else planes through all bodies."""
    across = int(np.abs(volume.direction[0]).argmax())
    if across == 0 and volume.spacing_mm[0] >= MEASURED_FROM_MM:
        try:
            return measured_planes(volume)
        except NotAnalysable:  # too oblique, or pixels too coarse: planes can still be cut
            pass
    low = np.min([body.low_mm for body in bodies.values()], axis=0)
    high = np.max([body.high_mm for body in bodies.values()], axis=0)
    return cut_planes(volume, low, high)


def _boxes(body: _LabelledBody, planes: SagittalPlanes) -> dict[int, SliceBox]:
    """The body's box on every plane that passes well through it."""
    to_index = np.linalg.inv(planes.affine)
    ends = np.array(np.meshgrid(*zip(body.low_mm, body.high_mm, strict=True), indexing="ij")).reshape(3, -1).T
    index = ends @ to_index[:3, :3].T + to_index[:3, 3]
    middle, half = (index[:, 0].min() + index[:, 0].max()) / 2, np.ptp(index[:, 0]) / 2
    shape = np.array(planes.images.shape)
    low = np.clip(np.floor(index.min(axis=0)) - 1, 0, shape).astype(int)
    high = np.clip(np.ceil(index.max(axis=0)) + 2, 0, shape).astype(int)
    pixel_mm2 = float(np.prod(planes.spacing_mm))
    found: dict[int, SliceBox] = {}
    if (high <= low).any():
        return found
    affine = planes.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ low
    cut = resample_to_grid(
        torch.from_numpy(body.inside), body.affine, affine, high - low, antialias=False, fill=0.0
    ).numpy()
    for number, part in enumerate(cut >= 0.5):
        plane = int(low[0]) + number
        rows, columns = np.nonzero(part)
        if rows.size * pixel_mm2 < MIN_AREA_MM2 or abs(plane - middle) > max(INNER_SHARE * half, 0.5):
            continue
        found[plane] = SliceBox(
            (float(rows.min() + low[1]), float(rows.max() + low[1])),
            (float(columns.min() + low[2]), float(columns.max() + low[2])),
            1.0,
        )
    return found

"""The pipeline for sagittal CT slices that form no volume (P2): find vertebrae, name them, judge them.

P2's two networks look at each slice by itself. What they say becomes a statement about vertebrae: boxes of
neighbouring slices are one body (`ct_slice_bodies`), the chain of bodies gets names (`ct_slice_levels`), and
the slices' probabilities are put together (`networks.slice_opinions`). No heights are measured: thick slices
do not hold them in three dimensions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol, Self

import torch
from torch import Tensor

from dicom_ai_node.anatomy import Level
from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.imaging.volume import Volume
from dicom_ai_node.inference.bundle import Bundle, load_bundle
from dicom_ai_node.inference.ct_classifier import classify
from dicom_ai_node.inference.ct_slices import detect_all
from dicom_ai_node.pipelines.ct_planes import SagittalPlanes, box_on_image, measured_planes
from dicom_ai_node.pipelines.ct_slice_bodies import Box, FoundBodies, SliceBody, bodies_of_boxes, cut_off
from dicom_ai_node.pipelines.ct_slice_levels import (
    STACK_LABELLING,
    NamedSliceBody,
    NamedSlices,
    named_slice_bodies,
)
from dicom_ai_node.pipelines.ct_slice_opinions import Judge, Opinion, fracture_share, opinions, with_opinion
from dicom_ai_node.pipelines.labelling import LabellingSettings
from dicom_ai_node.pipelines.limitations import (
    RESEARCH_USE,
    disease_limitation,
    numbering_variants,
    uncertain_levels,
)
from dicom_ai_node.pipelines.unseen import unseen
from dicom_ai_node.report import Algorithm, Analysis, BoxPx, Reason, Source, SpineReport, Vertebra

Progress = Callable[[str, float], None]
"""Called with the name of the stage that begins and the share of the whole that is done."""

DETECT: Final = "ct-detect"
CLASSIFY: Final = "ct-classify"
LOCALISE: Final = "ct-localise"

MIN_PLANES: Final = 4
"""Fewer slices cannot tell a body from a shadow beside it."""

NOT_REPORTED: Final = frozenset({Level.S1})
"""The sacrum anchors the numbering."""


class DetectBoxes(Protocol):
    """Finds vertebrae on slices: `inference.ct_slices.detect_all`."""

    def __call__(self, images: Tensor, spacing_mm: tuple[float, float]) -> Sequence[Sequence[Box]]:
        """The boxes of each slice.

        Args:
            images: HU, shape (slices, rows, columns), head up, front left.
            spacing_mm: of rows and columns.
        """


@dataclass(frozen=True)
class CtSagittalSettings:
    """What the administrator may set.

    Attributes:
        disease_threshold: probability over all slices from which on a disease is reported.
        labelling: of the chain of names.
        min_level_confidence: below it the numbering is called uncertain.
    """

    disease_threshold: float = 0.5
    labelling: LabellingSettings = field(default_factory=lambda: STACK_LABELLING)
    min_level_confidence: float = 0.7


class CtSagittalPipeline:
    """P2's two networks and the one that names, loaded once, for one device.

    Args:
        detect: finds vertebrae.
        judge: says which diseases they have.
        localise: the bundle `ct-localise`.
        algorithms: that find and judge, in this order, as the report names them.
        settings: see there.
    """

    def __init__(
        self,
        detect: DetectBoxes,
        judge: Judge,
        localise: Bundle,
        algorithms: tuple[Algorithm, Algorithm],
        settings: CtSagittalSettings | None = None,
    ) -> None:
        self.detect, self.judge, self.localise = detect, judge, localise
        self.algorithms = algorithms
        self.settings = settings or CtSagittalSettings()

    @classmethod
    def load(cls, models_dir: Path, device: torch.device, settings: CtSagittalSettings | None = None) -> Self:
        """Load the bundles `ct-detect`, `ct-classify` and `ct-localise`.

        Raises:
            ModelError: a bundle is missing, was changed, or does not fit.
        """
        finds, judges, names = (
            load_bundle(models_dir / name, device) for name in (DETECT, CLASSIFY, LOCALISE)
        )
        return cls(
            lambda images, spacing_mm: detect_all(finds, images, spacing_mm),
            lambda images, spacing_mm, boxes: classify(judges, images, spacing_mm, boxes),
            names,
            (finds.algorithm(), judges.algorithm()),
            settings,
        )

    def analyse(self, volume: Volume, progress: Progress = lambda _stage, _share: None) -> Analysis:
        """What this pipeline says about one series of sagittal CT slices.

        Raises:
            NotAnalysable: no statement can be made; the reason is coded and in words.
        """
        progress("find", 0.0)
        planes = measured_planes(volume)
        if len(planes) < MIN_PLANES:
            raise NotAnalysable(
                "coverage",
                f"The series has {volume.shape[0]} sagittal slices; {MIN_PLANES} are the least that show "
                "where a vertebra begins and ends. Send the whole series.",
            )
        found = bodies_of_boxes(self.detect(planes.images, planes.spacing_mm), planes)
        if not found.bodies:
            raise NotAnalysable(
                "no-spine",
                "No vertebra was found on these slices. Send a sagittal series that shows the spine.",
            )
        progress("name", 0.5)
        named = named_slice_bodies(self.localise, volume, found.bodies, self.settings.labelling)
        reported = [
            item for item in named.chain if item.body is not None and item.link.level not in NOT_REPORTED
        ]
        if not reported:
            raise NotAnalysable("no-spine", "Nothing that was found on these slices can be named.")
        progress("judge", 0.6)
        told = opinions(self.judge, planes, [item.body.boxes for item in reported if item.body is not None])
        progress("report", 0.95)
        by_level = {item.link.level: opinion for item, opinion in zip(reported, told, strict=True)}
        report = self._report(volume, planes, found, named, by_level)
        progress("report", 1.0)
        return Analysis(report)

    def _report(
        self,
        volume: Volume,
        planes: SagittalPlanes,
        found: FoundBodies,
        named: NamedSlices,
        told: dict[Level, Opinion],
    ) -> SpineReport:
        shown = _shown_plane([item.body for item in named.chain if item.body is not None])
        vertebrae = [
            unseen(item.link) if item.body is None else self._vertebra(item, planes, volume, shown, told)
            for item in named.chain
            if item.link.level not in NOT_REPORTED
        ]
        return SpineReport(
            status="analysed",
            source=Source(
                volume.study_instance_uid,
                (volume.series_instance_uid,),
                volume.modality,
                volume.frame_of_reference_uid,
            ),
            limitations=(*volume.notes, *self._limitations(vertebrae, found, anchored=named.anchored)),
            algorithms=(*self.algorithms, self.localise.algorithm()),
            vertebrae=tuple(vertebrae),
        )

    def _vertebra(
        self,
        item: NamedSliceBody,
        planes: SagittalPlanes,
        volume: Volume,
        shown: int,
        told: dict[Level, Opinion],
    ) -> Vertebra:
        link, body = item.link, item.body
        assert body is not None

        def on_image(plane: int, rows: tuple[float, float], columns: tuple[float, float]) -> BoxPx | None:
            return box_on_image(volume, planes, plane, rows, columns)

        plane = min(body.planes, key=lambda k: abs(k - shown))
        box = body.boxes[plane]
        vertebra = Vertebra(
            level=link.level,
            level_confidence=link.confidence,
            level_alternatives=link.alternatives,
            center_mm=tuple(float(value) for value in body.center_mm),
            box_px=on_image(plane, box.rows, box.columns),
        )
        if cut_off(body.boxes, planes):
            reason = Reason("coverage", f"{link.level} is cut off by the edge of the image.")
            return replace(vertebra, status="not-analysable", reasons=(reason,))
        threshold = self.settings.disease_threshold
        judged = with_opinion(
            vertebra,
            told[link.level],
            planes,
            on_image,
            algorithm=self.algorithms[1].name,
            threshold=threshold,
        )
        share = fracture_share(told[link.level].shares)
        return replace(
            judged,
            fractured=share >= threshold,
            fracture_probability=share,
            reasons=_gaps(link.level, body),
        )

    def _limitations(
        self, vertebrae: Sequence[Vertebra], found: FoundBodies, *, anchored: bool
    ) -> list[Reason]:
        limitations = [
            RESEARCH_USE,
            disease_limitation(self.settings.disease_threshold),
            Reason(
                "spacing",
                "No heights were measured and no grades given: this is an opinion on single sagittal slices. "
                "Send the thin axial series for heights.",
            ),
            *numbering_variants(vertebrae),
        ]
        if found.left_out:
            limitations.append(
                Reason(
                    "model-refused",
                    f"{found.left_out} boxes that single slices show were not counted as vertebrae.",
                )
            )
        # A chain without an anchor is said to be relative; that it may be shifted is said with it.
        if anchored:
            return limitations + uncertain_levels(vertebrae, self.settings.min_level_confidence)
        limitations.append(
            Reason(
                "level-uncertain",
                "The sacrum is not clearly in view: the vertebrae are numbered relative to each other only, "
                f"from {vertebrae[0].level} to {vertebrae[-1].level} by their looks; all of them may be "
                "shifted. Compare with a series that shows the sacrum.",
            )
        )
        return limitations


def _shown_plane(bodies: Sequence[SliceBody]) -> int:
    """The plane that shows most bodies, of equal ones the middle one."""
    counts = Counter(plane for body in bodies for plane in body.planes)
    most = [plane for plane, count in counts.items() if count == max(counts.values())]
    return sorted(most)[len(most) // 2]


def _gaps(level: Level, body: SliceBody) -> tuple[Reason, ...]:
    """That slices within a body did not show it: what is there was not judged."""
    gaps = body.gaps()
    if not gaps:
        return ()
    count = f"{len(gaps)} slice{'s' if len(gaps) > 1 else ''}"
    return (Reason("partial", f"{level} was not recognised on {count} between others that show it."),)

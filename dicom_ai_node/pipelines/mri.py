"""The MR pipeline for one sagittal series: find and part the bodies, name them, place six points, grade.

`MriPipeline.bodies` gives what was found in arrays and millimetres: the signal of bodies, discs and cord, on
this series or on another one of the same frame of reference, is measured from there. `MriPipeline.analyse`
makes the report of it. The label map comes back on the source grid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import torch

from dicom_ai_node.anatomy import Level
from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.genant import GENANT_THRESHOLDS, Thresholds, grade_spine
from dicom_ai_node.imaging.volume import Volume
from dicom_ai_node.inference import mri
from dicom_ai_node.inference.bundle import Bundle, load_bundle
from dicom_ai_node.pipelines.bodies import Body, axial_box, paste
from dicom_ai_node.pipelines.fracture_evidence import fracture_probabilities, with_grade
from dicom_ai_node.pipelines.labelling import ANCHORS, LabellingSettings, NamedCentre
from dicom_ai_node.pipelines.limitations import every_limitation
from dicom_ai_node.pipelines.morphometry import six_point_heights
from dicom_ai_node.pipelines.mri_bodies import NamedBody, named_bodies, seen_bodies
from dicom_ai_node.pipelines.mri_heights import MeasuredBody, measured_bodies
from dicom_ai_node.pipelines.sagittal_stack import SagittalStack, sagittal_stack
from dicom_ai_node.pipelines.unseen import unseen
from dicom_ai_node.report import (
    Analysis,
    HeightsMm,
    LabelMap,
    Reason,
    SixPoints,
    Source,
    SpineReport,
    Vertebra,
)

Progress = Callable[[str, float], None]
"""Called with the name of the stage that begins and the share of the whole that is done."""

BUNDLES: Final = ("mri-detect", "mri-points")

LOSS_ERROR: Final = 0.025
"""What the error of a height loss on MR is taken to be: the width of the curve from sound to broken."""

NOT_REPORTED: Final = frozenset({Level.S1})
"""The sacrum anchors the numbering; it has no Genant grade."""

MRI_LABELLING: Final = LabellingSettings(anchor_weight=3.0, supernumerary_penalty=4.5)
"""A network that sees a lumbar examination counts from the sacrum: the further up, the more names err, all
in one direction. Together they must not outweigh a sacrum that is clear. Ribs are hardly seen on sagittal
slices: a T13 or an L6 is taken to be half as frequent as where they are, one spine in ninety."""


@dataclass(frozen=True)
class MriSettings:
    """What the administrator may set."""

    thresholds: Thresholds = GENANT_THRESHOLDS
    labelling: LabellingSettings = MRI_LABELLING
    min_level_confidence: float = 0.7
    fracture_threshold: float = 0.5


@dataclass(frozen=True)
class MriBodies:
    """What was found in one series.

    Attributes:
        stack: the upright sagittal slices that were looked at.
        chain: every link from head to tail, the sacrum included.
        measured: by level, head to tail, those that are reported and were seen.
        label_map: of the measured bodies, on the series' own grid.
        signal: what the networks were shown as black and as white.
        unnamed: bodies above the chain, for which there is no name.
    """

    stack: SagittalStack
    chain: tuple[NamedBody, ...]
    measured: Mapping[Level, MeasuredBody]
    label_map: LabelMap
    signal: tuple[float, float]
    unnamed: int = 0

    @property
    def anchored(self) -> bool:
        """Whether something in view says by itself which levels these are."""
        return any(item.link.level in ANCHORS and item.body is not None for item in self.chain)


class MriPipeline:
    """The networks that find and measure bodies on MR, loaded once, for one device."""

    def __init__(self, detect: Bundle, points: Bundle, settings: MriSettings | None = None) -> None:
        self.detect, self.points = detect, points
        self.settings = settings or MriSettings()

    @classmethod
    def load(cls, models_dir: Path, device: torch.device, settings: MriSettings | None = None) -> Self:
        """Load the `BUNDLES`.

        Raises:
            ModelError: a bundle is missing, was changed, or does not fit.
        """
        detect, points = (load_bundle(models_dir / name, device) for name in BUNDLES)
        return cls(detect, points, settings)

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels that have a heatmap; T13 is told from its neighbours."""
        return mri.levels(self.detect)

    def analyse(self, volume: Volume, progress: Progress = lambda _stage, _share: None) -> Analysis:
        """What this pipeline says about one series of MR.

        Raises:
            NotAnalysable: no statement can be made; the reason is coded and in words.
        """
        found = self.bodies(volume, progress)
        progress("report", 0.95)
        report = self.report(volume, found)
        progress("report", 1.0)
        return Analysis(report, found.label_map)

    def bodies(self, volume: Volume, progress: Progress = lambda _stage, _share: None) -> MriBodies:
        """The bodies of one series, named and measured.

        Raises:
            NotAnalysable: the series is not sagittal, too coarse, or shows no vertebra.
        """
        progress("find", 0.0)
        signal = mri.signal_range_of(self.detect, volume.voxels)
        stack = sagittal_stack(volume, mri.spacing_mm(self.detect), signal[0])
        answer = mri.detect(self.detect, stack.signal, signal)
        progress("name", 0.6)
        seen = seen_bodies(answer, stack.affine)
        chain = named_bodies(seen, answer.levels, self.settings.labelling)
        bodies = {item.link.level: item.body for item in chain if item.body is not None}
        reported = [level for level in bodies if level not in NOT_REPORTED]
        if not reported:
            raise NotAnalysable(
                "no-spine", "No vertebral body was found in this series. Send a series that shows the spine."
            )
        progress("measure", 0.7)
        measured = measured_bodies(self.points, volume, stack, bodies, reported, signal)
        label_map = paste({level: bodies[level] for level in reported}, volume)
        # Head to tail: the first link stands on a body that was seen.
        unnamed = sum(item.body.center_mm()[2] > chain[0].link.center_mm[2] + 1.0 for item in seen)
        return MriBodies(stack, tuple(chain), measured, label_map, signal, unnamed)

    def report(self, volume: Volume, found: MriBodies) -> SpineReport:
        """What was found, in the words of the waist; without signal and without opinions of it."""
        heights = {
            level: six_point_heights(item.points_mm)
            for level, item in found.measured.items()
            if item.points_mm is not None
        }
        cuts = self.settings.thresholds
        gradings = grade_spine(heights, cuts)
        # Nothing but the loss of height tells whether a body is broken.
        probabilities = fracture_probabilities(heights, gradings, cuts, error=LOSS_ERROR)
        vertebrae = []
        for item in found.chain:
            level = item.link.level
            if level in NOT_REPORTED:
                continue
            if level not in found.measured:
                vertebrae.append(unseen(item.link))
                continue
            vertebra = _vertebra(item.link, found.measured[level], volume, found.label_map)
            if level in gradings:
                vertebra = with_grade(
                    vertebra,
                    heights,
                    gradings[level],
                    probabilities[level],
                    threshold=self.settings.fracture_threshold,
                )
            elif level in heights:
                own = heights[level]
                own_mm = HeightsMm(own.anterior, own.middle, own.posterior, own.largest)
                vertebra = replace(vertebra, heights_mm=own_mm)
            vertebrae.append(vertebra)
        return SpineReport(
            status="analysed",
            source=Source(
                volume.study_instance_uid,
                (volume.series_instance_uid,),
                volume.modality,
                volume.frame_of_reference_uid,
            ),
            limitations=(
                *volume.notes,
                *self._limitations(vertebrae, anchored=found.anchored),
                *self._left_out(vertebrae, found.unnamed),
            ),
            algorithms=tuple(bundle.algorithm() for bundle in (self.detect, self.points)),
            vertebrae=tuple(vertebrae),
        )

    def _limitations(self, vertebrae: Sequence[Vertebra], *, anchored: bool) -> list[Reason]:
        cuts = self.settings.thresholds
        # A chain without an anchor is said to be relative; that it may be shifted is said with it.
        least = self.settings.min_level_confidence if anchored else 0.0
        limitations = every_limitation(vertebrae, cuts, least)
        if not anchored:
            limitations.append(
                Reason(
                    "level-uncertain",
                    f"{self._no_anchor()}: the vertebrae are numbered relative to each other only, from "
                    f"{vertebrae[0].level} to {vertebrae[-1].level} by their looks; all of them may be "
                    "shifted. Compare with a series that shows the sacrum.",
                )
            )
        return limitations

    def _no_anchor(self) -> str:
        """What was not seen that numbering can count from; a bundle need not know all of it."""
        names = {Level.S1: "the sacrum", Level.C2: "C2"}
        known = [words for level, words in names.items() if level in self.levels]
        if len(known) == len(names):
            return f"Neither {' nor '.join(known)} was recognised in this series"
        return f"{(known or ['a vertebra to count from'])[0].capitalize()} was not recognised in this series"

    def _left_out(self, vertebrae: Sequence[Vertebra], count: int) -> list[Reason]:
        if not count:
            return []
        seen = "1 body was" if count == 1 else f"{count} bodies were"
        text = (
            f"{seen} seen above {vertebrae[0].level} and not named: above C3, or too far from the next one "
            "to count on. Not in this report."
        )
        return [Reason("partial", text)]


def _vertebra(link: NamedCentre, measured: MeasuredBody, volume: Volume, label_map: LabelMap) -> Vertebra:
    body: Body = measured.body
    return Vertebra(
        level=link.level,
        level_confidence=link.confidence,
        level_alternatives=link.alternatives,
        center_mm=_point(body.center_mm()),
        box_px=axial_box(link.level, body, volume, label_map),
        status="analysed" if measured.reason is None else "not-analysable",
        reasons=() if measured.reason is None else (measured.reason,),
        six_points=None if measured.points_mm is None else SixPoints.from_array(measured.points_mm),
    )


def _point(point: npt.NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in point)

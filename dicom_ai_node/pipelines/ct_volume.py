"""The CT volume pipeline (P3): localise and name, segment each body, place six points, grade.

Each stage is one network of `inference.ct` at its own resolution; all between the stages is geometry. The
label map comes back on the source grid and marks vertebral bodies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import torch

from dicom_ai_node.anatomy import Level
from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.genant import GENANT_THRESHOLDS, Thresholds
from dicom_ai_node.imaging.resample import crop_around
from dicom_ai_node.imaging.volume import Volume
from dicom_ai_node.inference import ct
from dicom_ai_node.inference.bundle import Bundle, load_bundle
from dicom_ai_node.networks.overlapping import PatchInput
from dicom_ai_node.pipelines.bodies import (
    Body,
    axial_box,
    body_from_probabilities,
    mean_hu,
    paste,
)
from dicom_ai_node.pipelines.chain_ends import counted_up
from dicom_ai_node.pipelines.column import bodies_of_column, looked_for_again
from dicom_ai_node.pipelines.ct_heatmaps import heatmaps_of_volume
from dicom_ai_node.pipelines.ct_heights import MeasuredBody, measured_bodies
from dicom_ai_node.pipelines.fracture_evidence import combined, with_grade
from dicom_ai_node.pipelines.labelling import (
    Candidate,
    LabellingSettings,
    NamedCentre,
    above_sacrum,
    candidates_at,
    find_candidates,
    name_chain,
    with_thirteenth,
)
from dicom_ai_node.pipelines.limitations import every_limitation
from dicom_ai_node.pipelines.unseen import unseen
from dicom_ai_node.pipelines.worst_plane import CountedPlane, counted_planes
from dicom_ai_node.report import (
    Analysis,
    HeightsMm,
    LabelMap,
    Reason,
    Source,
    SpineReport,
    Vertebra,
)

Progress = Callable[[str, float], None]
"""Called with the name of the stage that begins and the share of the whole that is done."""

LOSS_ERROR: Final = 0.025
"""What the error of a height loss on CT is taken to be: the width of the curve from sound to broken."""

HEIGHT_LOSS: Final = "height-loss"
"""Under this name `classes` has what the heights alone say, beside what the network says of the voxels."""

NOT_REPORTED: Final = frozenset({Level.S1})
"""The sacrum anchors the numbering; it has no Genant grade."""

SURE_SHARE: Final = 0.55
"""A peak of the heatmaps this high, as a share of the highest, is where the walk along the column begins."""

MIN_SURE_PEAK: Final = 0.46
"""Without any peak this high there is no thoracic or lumbar spine: eight necks gave 0.30 to 0.44, a head
0.44; phantoms of few vertebrae 0.53 and more, real spines 0.74 and more."""

NARROW_MM: Final = 125.0
"""Fields of view narrower than this across the body show little beside the spine: heatmaps are lower (0.31
and more), and heads, necks and legs are rarely sent so."""

MIN_PEAK_IF_NARROW: Final = 0.3
"""`MIN_SURE_PEAK` there."""

DENSEST_HU: Final = 800.0
"""In no spine half of the bodies are denser inside: cancellous bone has 50 to 350 HU, with metastases up to
700. Shafts of long bones and skulls have 1100 and more."""

MAX_SPACING_MM: Final = 6.5
"""Heights cannot be told from slices further apart than this."""

THICK_MM: Final = 4.0
"""From this distance of slices on the reader is told that heights are less sure: a mild loss is 5 mm."""


@dataclass(frozen=True)
class CtVolumeSettings:
    """What the administrator may set.

    Attributes:
        thresholds: at which loss of height a grade begins.
        labelling: of the chain.
        min_level_confidence: below it the numbering is called uncertain,
        min_confidence_without_sacrum: and below this where no sacrum is in view: of parts of phantoms that
            show none one in five is numbered wrong, also where the confidence is 0.7 to 0.9.
        fracture_threshold: probability from which on a body is called fractured.
    """

    thresholds: Thresholds = GENANT_THRESHOLDS
    labelling: LabellingSettings = field(default_factory=LabellingSettings)
    min_level_confidence: float = 0.7
    min_confidence_without_sacrum: float = 0.9
    fracture_threshold: float = 0.5


class CtVolumePipeline:
    """The three networks of P3, loaded once, for one device."""

    def __init__(
        self, localise: Bundle, segment: Bundle, points: Bundle, settings: CtVolumeSettings | None = None
    ) -> None:
        self.localise, self.segment, self.points = localise, segment, points
        self.settings = settings or CtVolumeSettings()

    @classmethod
    def load(cls, models_dir: Path, device: torch.device, settings: CtVolumeSettings | None = None) -> Self:
        """Load the bundles `ct-localise`, `ct-segment` and `ct-points`.

        Raises:
            ModelError: a bundle is missing, was changed, or does not fit.
        """
        localise, segment, points = (
            load_bundle(models_dir / name, device) for name in ("ct-localise", "ct-segment", "ct-points")
        )
        return cls(localise, segment, points, settings)

    def in_half(self) -> Self:
        """The same pipeline with networks that compute in half precision."""
        return type(self)(
            self.localise.in_half(), self.segment.in_half(), self.points.in_half(), self.settings
        )

    def in_graphs(self) -> Self:
        """The same pipeline; on a GPU crops and planes, whose shapes repeat, run as captured graphs."""
        return type(self)(self.localise, self.segment.in_graphs(), self.points.in_graphs(), self.settings)

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels that are told by their looks; the neck above them is counted on."""
        return tuple(with_thirteenth([], ct.levels(self.localise))[1])

    def analyse(self, volume: Volume, progress: Progress = lambda _stage, _share: None) -> Analysis:
        """What this pipeline says about one CT volume.

        Raises:
            NotAnalysable: no statement can be made; the reason is coded and in words.
        """
        _refuse_unfit(volume)
        progress("localise", 0.0)
        heatmaps, affine = heatmaps_of_volume(
            self.localise, volume, lambda done, of: progress("localise", 0.2 * done / of)
        )
        width_mm = float((np.abs(volume.affine[:2, :3]) @ np.array(volume.shape)).min())
        peaks = _outstanding(
            find_candidates(heatmaps, affine, self.settings.labelling),
            least=MIN_SURE_PEAK if width_mm >= NARROW_MM else MIN_PEAK_IF_NARROW,
        )
        progress("segment", 0.2)
        look = ct.look_of(self.segment, torch.as_tensor(volume.voxels))

        def segment(centers_mm: Sequence[npt.NDArray[np.float64]]) -> list[Body | None]:
            return self._bodies(volume, look, centers_mm)

        found = bodies_of_column(
            [peak.center_mm for peak in peaks],
            segment,
            _Inside(volume),
            lambda done, about: progress("segment", 0.2 + 0.55 * done / about),
        )
        if not found:
            raise NotAnalysable(
                "no-spine",
                "No thoracic or lumbar vertebral body was found in this series. Send a series that shows the "
                "spine from C7 down.",
            )
        chain = self._named_chain(found, heatmaps, affine)
        missed = [link.center_mm for link in chain if link.interpolated and link.level not in NOT_REPORTED]
        if missed:
            found = looked_for_again(found, missed, segment)
            chain = self._named_chain(found, heatmaps, affine)
        bodies = {link.level: body for link in chain if (body := _body_at(found, link)) is not None}
        for level in NOT_REPORTED:
            bodies.pop(level, None)
        if not bodies:
            raise NotAnalysable(
                "no-spine", "Nothing that was found in this series can be named as a vertebra."
            )
        progress("measure", 0.75)
        label_map = paste(bodies, volume)
        _refuse_no_cancellous_bone(volume, bodies, label_map)
        measured = measured_bodies(self.points, volume, bodies)
        progress("report", 0.95)
        report = self._report(volume, chain, measured, label_map)
        progress("report", 1.0)
        return Analysis(report, label_map)

    def _named_chain(
        self, found: Sequence[Body], heatmaps: npt.NDArray[np.float32], affine: npt.NDArray[np.float64]
    ) -> list[NamedCentre]:
        """Names for the bodies; the sacrum, which is no body of the column's, takes part as a peak.

        The neck has no heatmaps: its bodies are counted on from those that have.
        """
        lowest = min(float(body.center_mm()[2]) for body in found)
        levels = ct.levels(self.localise)
        sacrum = [
            peak
            for peak in find_candidates(heatmaps[[levels.index(Level.S1)]], affine, self.settings.labelling)
            if 12.0 < lowest - peak.center_mm[2] < 70.0
        ]
        centers = [body.center_mm() for body in found]
        centers += [max(sacrum, key=lambda peak: float(peak.evidence[0])).center_mm] if sacrum else []
        candidates = above_sacrum(candidates_at(centers, heatmaps, affine), levels)
        chain = name_chain(*with_thirteenth(candidates, levels), self.settings.labelling)
        return counted_up(chain, [body.center_mm() for body in found]) if chain else chain

    def _bodies(
        self, volume: Volume, look: PatchInput, centers_mm: Sequence[npt.NDArray[np.float64]]
    ) -> list[Body | None]:
        """The body about each centre; crops go through the network together."""
        margin = look.margin
        shape = [edge + 2 * margin for edge in ct.crop_shape(self.segment)]
        bodies: list[Body | None] = []
        for first in range(0, len(centers_mm), ct.BATCH):
            crops, affines = zip(
                *(
                    crop_around(
                        volume.voxels,
                        volume.affine,
                        center,
                        shape,
                        ct.spacing_mm(self.segment),
                        device=self.segment.device,
                    )
                    for center in centers_mm[first : first + ct.BATCH]
                ),
                strict=True,
            )
            answers = ct.segment(self.segment, torch.stack(crops), look).cpu().numpy()
            bodies += [
                body_from_probabilities(found, _inner(affine, margin))
                for found, affine in zip(answers, affines, strict=True)
            ]
        return bodies

    def _report(
        self,
        volume: Volume,
        chain: list[NamedCentre],
        measured: Mapping[Level, MeasuredBody],
        label_map: LabelMap,
    ) -> SpineReport:
        cuts = self.settings.thresholds
        counted = counted_planes(measured, cuts, error=LOSS_ERROR)
        vertebrae = []
        for link in chain:
            if link.interpolated and link.level not in NOT_REPORTED:
                vertebrae.append(unseen(link))
            elif link.level in measured:
                body = measured[link.level]
                found = self._vertebra(link, body, volume, label_map)
                plane = counted.get(link.level)
                vertebrae.append(found if plane is None else self._judged(found, body, plane))
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
                *_thick_slices(volume),
                *every_limitation(vertebrae, cuts, self._least_confidence(chain)),
            ),
            algorithms=tuple(bundle.algorithm() for bundle in (self.localise, self.segment, self.points)),
            vertebrae=tuple(vertebrae),
        )

    def _least_confidence(self, chain: Sequence[NamedCentre]) -> float:
        """Below which confidence the numbering is called uncertain."""
        if any(link.level is Level.S1 for link in chain):
            return self.settings.min_level_confidence
        return self.settings.min_confidence_without_sacrum

    def _judged(self, found: Vertebra, measured: MeasuredBody, plane: CountedPlane) -> Vertebra:
        """The vertebra with what the plane that counts says of it."""
        found = replace(found, six_points=plane.points, planes=plane.planes)
        if plane.grading is None or plane.probability is None:
            own = plane.spine[found.level]
            own_mm = HeightsMm(own.anterior, own.middle, own.posterior, own.largest)
            return replace(found, heights_mm=own_mm)
        taught = self.segment.metadata.taught_shares.get("fractured", 0.5)
        probability = combined([(measured.body.fractured, taught)], plane.probability)
        by_heights = {"normal": 1 - plane.probability, "fractured": plane.probability}
        told = replace(found, classes={**found.classes, HEIGHT_LOSS: by_heights})
        return with_grade(
            told, plane.spine, plane.grading, probability, threshold=self.settings.fracture_threshold
        )

    def _vertebra(
        self, link: NamedCentre, measured: MeasuredBody, volume: Volume, label_map: LabelMap
    ) -> Vertebra:
        body = measured.body
        return Vertebra(
            level=link.level,
            level_confidence=link.confidence,
            level_alternatives=link.alternatives,
            center_mm=_point(body.center_mm()),
            box_px=axial_box(link.level, body, volume, label_map),
            classes={self.segment.name: {"normal": 1 - body.fractured, "fractured": body.fractured}},
            mean_hu=mean_hu(link.level, body, volume, label_map),
            status="analysed" if measured.reason is None else "not-analysable",
            reasons=() if measured.reason is None else (measured.reason,),
        )


def _refuse_unfit(volume: Volume) -> None:
    coverage = np.abs(volume.affine[:3, :3]) @ (np.array(volume.shape) - 1)
    if coverage[2] < 30 or coverage[0] < 30 or coverage[1] < 30:
        raise NotAnalysable(
            "coverage",
            f"The series covers {coverage[0]:.0f} x {coverage[1]:.0f} x {coverage[2]:.0f} mm "
            "(left-right, front-back, head-feet); one vertebra needs 30 mm each way. Send the whole series.",
        )
    if volume.spacing_mm.max() > MAX_SPACING_MM:
        raise NotAnalysable(
            "spacing",
            f"Slices are {volume.spacing_mm.max():.1f} mm apart; heights need {MAX_SPACING_MM:g} mm or less. "
            "Send the thin reconstruction.",
        )


def _thick_slices(volume: Volume) -> list[Reason]:
    widest = float(volume.spacing_mm.max())
    if widest < THICK_MM:
        return []
    return [
        Reason(
            "spacing",
            f"Slices are {widest:.1f} mm apart, as far as a mild fracture takes off a body: heights and "
            "grades are less sure. Send the thin reconstruction.",
        )
    ]


def _refuse_no_cancellous_bone(volume: Volume, bodies: Mapping[Level, Body], label_map: LabelMap) -> None:
    """What is as dense as a shaft or a skull is no vertebral body, however much it may look like one."""
    inside = [mean_hu(level, body, volume, label_map) for level, body in bodies.items()]
    known = [value for value in inside if value is not None]
    if known and float(np.median(known)) > DENSEST_HU:
        raise NotAnalysable(
            "no-spine",
            f"What looks like vertebral bodies has {np.median(known):.0f} HU inside, more than any spine: "
            "long bones or a skull, metal everywhere, or values that are no Hounsfield units. Send a CT of "
            "the spine with its Rescale Intercept.",
        )


def _outstanding(peaks: Sequence[Candidate], *, least: float) -> list[Candidate]:
    """The peaks that are sure: what is weaker beside them is found by walking from body to body."""
    highest = max((float(peak.evidence.max()) for peak in peaks), default=0.0)
    if highest < least:
        return []
    return [peak for peak in peaks if float(peak.evidence.max()) >= SURE_SHARE * highest]


def _inner(affine: npt.NDArray[np.float64], margin: int) -> npt.NDArray[np.float64]:
    """The affine of a crop without the voxels about it that a filter looks at."""
    inner = affine.copy()
    inner[:3, 3] += affine[:3, :3] @ np.full(3, float(margin))
    return inner


def _body_at(found: Sequence[Body], link: NamedCentre) -> Body | None:
    return next((body for body in found if np.allclose(body.center_mm(), link.center_mm)), None)


class _Inside:
    """Whether a point lies within a volume."""

    def __init__(self, volume: Volume) -> None:
        self.to_index = np.linalg.inv(volume.affine)
        self.last = np.array(volume.shape) - 1

    def __call__(self, point_mm: npt.NDArray[np.float64]) -> bool:
        index = self.to_index[:3, :3] @ point_mm + self.to_index[:3, 3]
        return bool((index >= 0).all() and (index <= self.last).all())


def _point(point: npt.NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in point)

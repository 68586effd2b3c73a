"""The MR pipeline for the series of one place in a study: bodies, their signal, and P4's opinion of some.

Bodies are found on one series (`pipelines.mri`); the others are brought onto its patient. What stands out by
height or by signal is an abnormal body; of those, and of no others, P4's classifier is asked, as in the paper
a reader chose the vertebra.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import torch

from dicom_ai_node.anatomy import Level
from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.imaging.mr_pairing import ROLES, Role
from dicom_ai_node.imaging.volume import Volume
from dicom_ai_node.inference.bundle import Bundle, load_bundle
from dicom_ai_node.inference.mri_classifier import MrBody, MriOpinion, classify, series_wanted
from dicom_ai_node.networks.mri_patch import BODY_SHARE, PIXEL_MM
from dicom_ai_node.pipelines.bodies import Body
from dicom_ai_node.pipelines.ct_planes import SagittalPlanes, box_on_image
from dicom_ai_node.pipelines.mri import MriBodies, MriPipeline, MriSettings, Progress
from dicom_ai_node.pipelines.mri_partners import ROLE_NAMES, Partner, brought_together
from dicom_ai_node.pipelines.mri_signal import BodySignal, SignalLimits, body_signals, ratios, standing_out
from dicom_ai_node.pipelines.sagittal_stack import sagittal_stack
from dicom_ai_node.report import Analysis, Reason, SeenOn, SpineReport, Vertebra

CLASSIFIER: Final = "mri-classify"


@dataclass(frozen=True)
class MriStudySettings:
    """What the administrator may set.

    Attributes:
        bodies: of the search for bodies.
        signal: from where on a body's signal stands out.
        malignant_threshold: probability from which on a body is called malignant (P4: 0.5).
    """

    bodies: MriSettings = field(default_factory=MriSettings)
    signal: SignalLimits = field(default_factory=SignalLimits)
    malignant_threshold: float = 0.5


@dataclass(frozen=True, eq=False)
class _Grid:
    """What P4's classifier is shown: the slices as measured, pixels as it was taught."""

    voxels: npt.NDArray[np.float32]
    affine: npt.NDArray[np.float64]


class MriStudyPipeline:
    """The networks of MR, loaded once, for one device."""

    def __init__(
        self, bodies: MriPipeline, classifier: Bundle, settings: MriStudySettings | None = None
    ) -> None:
        self.bodies, self.classifier = bodies, classifier
        self.settings = settings or MriStudySettings()

    @classmethod
    def load(cls, models_dir: Path, device: torch.device, settings: MriStudySettings | None = None) -> Self:
        """Load the bundles `mri-detect`, `mri-points` and `mri-classify`.

        Raises:
            ModelError: a bundle is missing, was changed, or does not fit.
        """
        chosen = settings or MriStudySettings()
        bodies = MriPipeline.load(models_dir, device, chosen.bodies)
        return cls(bodies, load_bundle(models_dir / CLASSIFIER, device), chosen)

    def analyse(
        self, series: Mapping[Role, Volume], progress: Progress = lambda _stage, _share: None
    ) -> Analysis:
        """What this pipeline says about the series of one place.

        Args:
            series: T2, T1, STIR and Dixon fat image of one study and one frame of reference, as many as there
                are; bodies are found in the first of `imaging.mr_pairing.ROLES`.
            progress: told how far it is.

        Raises:
            NotAnalysable: no statement can be made; the reason is coded and in words.
        """
        ordered = {role: series[role] for role in ROLES if role in series}
        if not ordered:
            raise NotAnalysable("modality-mismatch", "There is no T2, T1 or STIR series. Send one.")
        fixed = next(iter(ordered.values()))
        found = self.bodies.bodies(fixed, lambda stage, share: progress(stage, 0.6 * share))
        progress("register", 0.55)
        partners, reasons = brought_together(ordered)
        progress("signal", 0.75)
        signals = self._signals(found, partners, fixed)
        report = self.bodies.report(fixed, found)
        vertebrae = self._with_signal(report.vertebrae, signals)
        progress("classify", 0.85)
        vertebrae, more = self._with_opinions(vertebrae, found, partners, fixed)
        progress("report", 1.0)
        return Analysis(
            self._complete(report, vertebrae, ordered, [*reasons, *more]),
            found.label_map,
        )

    def _signals(
        self, found: MriBodies, partners: Mapping[Role, Partner], fixed: Volume
    ) -> dict[Role, dict[Level, BodySignal]]:
        points = {
            level: item.points_mm for level, item in found.measured.items() if item.points_mm is not None
        }
        answer = {}
        for role, partner in partners.items():
            image, seen = partner.on(fixed)
            answer[role] = body_signals(
                image, seen, found.label_map, points, across=found.stack.across, role=role
            )
        return answer

    def _with_signal(
        self, vertebrae: Sequence[Vertebra], signals: Mapping[Role, Mapping[Level, BodySignal]]
    ) -> list[Vertebra]:
        compared = {role: ratios(bodies) for role, bodies in signals.items()}
        striking = standing_out(signals, self.settings.signal)
        answer = []
        for vertebra in vertebrae:
            why = list(striking.get(vertebra.level, ()))
            if vertebra.fractured and vertebra.height_loss is not None:
                why.insert(0, f"height loss {vertebra.height_loss:.0%}")
            own: dict[str, dict[str, float]] = {
                role: told[vertebra.level] for role, told in compared.items() if told.get(vertebra.level)
            }
            answer.append(replace(vertebra, signal=own, abnormal=tuple(why)))
        return answer

    def _with_opinions(
        self,
        vertebrae: Sequence[Vertebra],
        found: MriBodies,
        partners: Mapping[Role, Partner],
        fixed: Volume,
    ) -> tuple[list[Vertebra], list[Reason]]:
        wanted = series_wanted(self.classifier)
        chosen = [item for item in vertebrae if item.abnormal and item.level in found.measured]
        missing = [ROLE_NAMES[role] for role in ROLES if role in wanted and role not in partners]
        if not chosen or missing:
            reasons = []
            if missing:
                words = " and ".join(missing)
                text = (
                    f"Benign or malignant was not judged: that takes {words} of the same place beside "
                    f"{ROLE_NAMES[next(iter(partners))]}."
                )
                reasons.append(Reason("partial", text))
            return list(vertebrae), reasons
        planes = _classifier_planes(fixed)
        grid = _Grid(planes.images.numpy(), planes.affine)
        images: dict[str, npt.NDArray[np.float32]] = {
            role: partners[role].on(grid)[0] for role in ROLES if role in wanted
        }
        bodies = [_body_on(found.measured[item.level].body, grid) for item in chosen]
        opinions = classify(self.classifier, images, bodies)
        judged = {
            item.level: self._judged(item, opinion, self._seen_on(opinion, body, planes, fixed))
            for item, opinion, body in zip(chosen, opinions, bodies, strict=True)
        }
        return [judged.get(item.level, item) for item in vertebrae], []

    def _seen_on(self, opinion: MriOpinion, body: MrBody, planes: SagittalPlanes, fixed: Volume) -> SeenOn:
        """Where a body looks most malignant, on the series in which it was found."""
        best = opinion.slice_of_highest
        top, front, bottom, back = (float(value) for value in body.box)
        rows, columns = (top, bottom), (front, back)
        return SeenOn(
            slices=sum(share >= self.settings.malignant_threshold for share in opinion.malignant_by_slice),
            of=len(opinion.slices),
            box_px=box_on_image(fixed, planes, best, rows, columns),
            corners_mm=planes.corners_mm(best, rows, columns),
        )

    def _judged(self, vertebra: Vertebra, opinion: MriOpinion, seen_on: SeenOn) -> Vertebra:
        classes = {**vertebra.classes, self.classifier.name: dict(opinion.classes)}
        malignant = opinion.classes["malignant"] >= self.settings.malignant_threshold
        return replace(
            vertebra,
            classes=classes,
            malignant=malignant,
            features=dict(opinion.features),
            seen_on={**vertebra.seen_on, "malignant": seen_on},
        )

    def _complete(
        self,
        report: SpineReport,
        vertebrae: Sequence[Vertebra],
        series: Mapping[Role, Volume],
        reasons: Sequence[Reason],
    ) -> SpineReport:
        # A classifier that nothing was shown to had no say.
        asked = any(vertebra.malignant is not None for vertebra in vertebrae)
        uids = tuple(dict.fromkeys(volume.series_instance_uid for volume in series.values()))
        notes = [note for volume in list(series.values())[1:] for note in volume.notes]
        return replace(
            report,
            vertebrae=tuple(vertebrae),
            source=replace(report.source, series_instance_uids=uids),
            algorithms=(*report.algorithms, *([self.classifier.algorithm()] if asked else [])),
            limitations=(*report.limitations, *notes, *reasons),
        )


def _classifier_planes(fixed: Volume) -> SagittalPlanes:
    stack = sagittal_stack(fixed, PIXEL_MM, float(fixed.voxels.min()))
    # Only slices that were measured along the volume's first axis are images that were sent.
    return SagittalPlanes(stack.signal, stack.affine, measured=stack.across == 0)


def _body_on(body: Body, grid: _Grid) -> MrBody:
    """A body's box and the slices through it, on the grid of the classifier."""
    points, _ = body.points_mm()
    inverse = np.linalg.inv(grid.affine)
    index = points @ inverse[:3, :3].T + inverse[:3, 3]
    last = np.array(grid.voxels.shape) - 1
    low, high = index[:, 1:].min(axis=0), index[:, 1:].max(axis=0)
    slices, counts = np.unique(np.clip(np.rint(index[:, 0]), 0, last[0]).astype(int), return_counts=True)
    through = tuple(int(k) for k in slices[counts >= BODY_SHARE * counts.max()])
    return MrBody(np.array([*low, *high]), through)

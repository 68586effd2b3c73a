"""The pipeline of lateral radiographs: find, name, outline, measure and grade every vertebra (P0, P1).

Mask R-CNN (P0) finds bodies and says which are broken, a dense network finds them too and names them, a 2-D
M-SCN places six points, P1's ResNet-18 tells the age of each fracture. All of it happens on the film turned
upright; what is reported lies on the film as it is stored.
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
from dicom_ai_node.imaging.film_field import ExposedField
from dicom_ai_node.imaging.film_pose import FilmPose
from dicom_ai_node.imaging.radiograph import Radiograph
from dicom_ai_node.inference import film as networks
from dicom_ai_node.inference.bundle import Bundle, load_bundle
from dicom_ai_node.networks.film_classes import FRACTURED, HEALTHY
from dicom_ai_node.networks.film_geometry import FittedMask
from dicom_ai_node.pipelines import film_parts, film_view
from dicom_ai_node.pipelines.film_chain import FILM_LABELLING, FilmBody, named_bodies
from dicom_ai_node.pipelines.film_closer import outlined_closer
from dicom_ai_node.pipelines.film_label_map import film_label_map
from dicom_ai_node.pipelines.film_opinions import (
    DetectorKnowledge,
    held_against_sound,
    sound_enough,
    with_dissent,
)
from dicom_ai_node.pipelines.film_reasons import (
    MAX_SPREAD,
    film_limitations,
    hardly_seen,
    unsure_place,
    why_not_measured,
)
from dicom_ai_node.pipelines.fracture_evidence import (
    NO_HEIGHTS,
    combined,
    fracture_probabilities,
    with_grade,
    with_looks,
)
from dicom_ai_node.pipelines.labelling import LabellingSettings
from dicom_ai_node.pipelines.morphometry import six_point_heights
from dicom_ai_node.report import (
    Analysis,
    BoxPx,
    LabelMap,
    Reason,
    SixPoints,
    Source,
    SpineReport,
    Vertebra,
)

Floats = npt.NDArray[np.float64]
Progress = Callable[[str, float], None]
"""Called with the name of the stage that begins and the share of the whole that is done."""

BUNDLES: Final = (
    "radiograph-view",
    "radiograph-detect",
    "radiograph-localise",
    "radiograph-points",
    "radiograph-acuity",
)
"""What the pipeline needs."""

_IN_HALF: Final = ("radiograph-localise", "radiograph-points", "radiograph-acuity")
_IN_GRAPHS: Final = ("radiograph-view", *_IN_HALF)

COLUMN: Final = 3
"""So many sure bodies are a column; one or two may be anything."""

SURE_BODY: Final = 0.8
"""A body is sure where the detector's score reaches this and the dense network draws it too; a detector that
knows fractures alone has no say."""

MIN_PIXELS: Final = 120
"""Smaller images are icons: a body would be ten pixels high."""
LOSS_ERROR: Final = 0.03
"""What the error of a height loss on films is taken to be: the width of the curve from sound to broken."""

BROKEN_SHARE: Final = 0.25
"""Where P1's network has an opinion too, healthy bodies that seem broken are more frequent: of all bodies one
in fifteen is broken. Set on forty phantom films."""

UNMEASURED_SHARE: Final = 0.1
"""Of the bodies whose points cannot be used so many are taken to be broken. Where points can be used, the
heights raise the question; here nothing does but the looks themselves."""

BROKEN_OR_NOT: Final = "-fracture"
"""Added to the name of P1's bundle: its own word on whether a body is broken, of every body."""

_NOT_GRADED: Final = frozenset({Level.S1})


@dataclass(frozen=True)
class RadiographSettings:
    """What the administrator may set.

    Attributes:
        thresholds: of the height loss.
        labelling: of the chain.
        min_level_confidence: below it the report says that the numbering is uncertain.
        fracture_threshold: probability from which on a vertebra is reported as fractured.
        min_lateral: a film of which the view network believes less is refused.
        min_lateral_as_said: the same where the header calls it lateral and tells no other way up than the
            image.
        sure_lateral: one of which it believes less is refused unless a column of sure bodies is found on it.
        detector_score: places that the detector gives less are dropped.
    """

    thresholds: Thresholds = GENANT_THRESHOLDS
    labelling: LabellingSettings = FILM_LABELLING
    min_level_confidence: float = 0.7
    fracture_threshold: float = 0.5
    min_lateral: float = 0.35
    min_lateral_as_said: float = 0.15
    sure_lateral: float = 0.9
    detector_score: float = 0.3


@dataclass(frozen=True)
class _Measured:
    """A body with its six points in the upright film, or with the reason why there are none.

    Attributes:
        agreed: whether the looks agree on its points or the networks on its place.
    """

    body: FilmBody
    points: Floats | None
    reason: Reason | None
    agreed: bool


class RadiographPipeline:
    """The five networks of radiographs, loaded once, for one device."""

    def __init__(self, bundles: Mapping[str, Bundle], settings: RadiographSettings | None = None) -> None:
        self.view, self.detector, self.localise, self.points, self.acuity = (
            bundles[name] for name in BUNDLES
        )
        self.settings = settings or RadiographSettings()
        told = self.detector.metadata
        self.knows = DetectorKnowledge.of(
            told.output_channels, told.taught_shares.get("fractured", 0.5), self.settings.detector_score
        )

    @classmethod
    def load(cls, models_dir: Path, device: torch.device, settings: RadiographSettings | None = None) -> Self:
        """Load the bundles named in `BUNDLES`.

        Raises:
            ModelError: a bundle is missing, was changed, or does not fit.
        """
        return cls({name: load_bundle(models_dir / name, device) for name in BUNDLES}, settings)

    def in_half(self) -> Self:
        """The same pipeline with most networks in half precision.

        Not so the view, which may refuse a film, and the detector, which picks regions by scores that lie
        close together.
        """
        return self._with(_IN_HALF, Bundle.in_half)

    def in_graphs(self) -> Self:
        """The same pipeline; on a GPU all but the detector, whose work varies, run as captured graphs."""
        return self._with(_IN_GRAPHS, Bundle.in_graphs)

    def _with(self, names: Sequence[str], way: Callable[[Bundle], Bundle]) -> Self:
        mine = dict(zip(BUNDLES, self.bundles, strict=True))
        return type(self)(mine | {name: way(mine[name]) for name in names}, self.settings)

    @property
    def bundles(self) -> tuple[Bundle, ...]:
        """All that had a say."""
        return (self.view, self.detector, self.localise, self.points, self.acuity)

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels that can be named."""
        return tuple(Level(name) for name in self.localise.metadata.output_channels)

    def analyse(self, film: Radiograph, progress: Progress = lambda _stage, _share: None) -> Analysis:
        """What this pipeline says about one film.

        Raises:
            NotAnalysable: no statement can be made; the reason is coded and in words.
        """
        if min(film.shape) < MIN_PIXELS:
            raise NotAnalysable(
                "coverage",
                f"The image has {film.shape[0]} x {film.shape[1]} pixels; {MIN_PIXELS} are the least. "
                "Send the original image.",
            )
        progress("view", 0.0)
        shown = film_view.upright(
            self.view,
            film,
            lambda pixels, parts: film_parts.localise(self.localise, pixels, parts)[0],
            least=self.settings.min_lateral,
            least_as_said=self.settings.min_lateral_as_said,
        )
        turn, pixels, parts = shown.turn, shown.pixels, shown.parts
        progress("detect", 0.1)
        seen = film_parts.detect(self.detector, pixels, parts, score=self.settings.detector_score)
        progress("localise", 0.55)
        maps, first_look = film_parts.localise(self.localise, pixels, parts)
        outlined = outlined_closer(self.localise, pixels, first_look)
        scale = _mm_at_patient(film, turn)
        chain = named_bodies(seen, outlined, maps, scale, self.settings.labelling)
        field = ExposedField.of(pixels)
        bodies = [
            body for body in chain if body.link.level not in _NOT_GRADED and not hardly_seen(body, field)
        ]
        if not bodies:
            raise NotAnalysable(
                "no-spine", "No vertebral body was found on this film. Send lateral films of the spine."
            )
        # Of a stitched film's many parts one may look like anything; so may a film turned over.
        doubtful = shown.lateral < self.settings.sure_lateral or len(parts) > 1 or shown.inverted
        if doubtful and sum(self._sure(body) for body in bodies) < COLUMN:
            raise NotAnalysable(
                "no-spine",
                f"This film hardly looks like a lateral view of the spine ({shown.lateral:.0%}), and no "
                "column of vertebrae was found on it. Send lateral films of the spine.",
            )
        progress("measure", 0.65)
        measured = self._measured(pixels, field, bodies)
        progress("report", 0.85)
        vertebrae = self._vertebrae(film, turn, pixels, measured)
        label_map = film_label_map(
            {item.body.link.level: (_mask(item.body), item.body.reach, item.points) for item in measured},
            pixels.shape,
        )
        labels = turn.image_as_stored(label_map)[None]
        report = SpineReport(
            status="analysed",
            source=Source(film.study_instance_uid, (film.series_instance_uid,), film.modality, None),
            limitations=(
                *film.notes,
                *shown.notes,
                *film_limitations(
                    vertebrae,
                    bodies,
                    self.settings.thresholds,
                    min_level_confidence=self.settings.min_level_confidence,
                    scaled=scale is not None,
                    healthy_seen=self.knows.healthy,
                ),
            ),
            algorithms=tuple(bundle.algorithm() for bundle in self.bundles),
            vertebrae=tuple(vertebrae),
        )
        progress("report", 1.0)
        return Analysis(report, LabelMap(labels, None))

    def _sure(self, body: FilmBody) -> bool:
        if body.outlined is None:
            return False
        if not self.knows.healthy:
            return body.outlined.score >= SURE_BODY
        return body.seen is not None and body.seen.score >= SURE_BODY

    def _measured(
        self, pixels: npt.NDArray[np.float32], field: ExposedField, bodies: Sequence[FilmBody]
    ) -> list[_Measured]:
        found = networks.six_points(self.points, pixels, [body.box for body in bodies])
        measured = []
        for body, points, spread in zip(bodies, found.places, found.spread.tolist(), strict=True):
            overlooked = self.knows.overlooked(body)
            reason = why_not_measured(body, points, spread, field, overlooked=overlooked)
            agreed = spread <= MAX_SPREAD or unsure_place(body, overlooked=overlooked) is None
            measured.append(_Measured(body, None if reason else points, reason, agreed))
        return measured

    def _vertebrae(
        self,
        film: Radiograph,
        turn: FilmPose,
        pixels: npt.NDArray[np.float32],
        measured: Sequence[_Measured],
    ) -> list[Vertebra]:
        heights = {
            item.body.link.level: six_point_heights(item.points * _edges(film, turn))
            for item in measured
            if item.points is not None
        }
        cuts = self.settings.thresholds
        gradings = grade_spine(heights, cuts)
        by_heights = fracture_probabilities(heights, gradings, cuts, error=LOSS_ERROR)
        looks = networks.fracture_looks(self.acuity, pixels, [item.body.box for item in measured])
        of_all = [by_heights.get(item.body.link.level) for item in measured]
        believed = held_against_sound([look.fractured for look in looks], of_all)
        comparable = sound_enough(of_all)
        vertebrae = []
        for item, look, broken in zip(measured, looks, believed, strict=True):
            level = item.body.link.level
            opinion = self.knows.fractured(item.body)
            opinions = [(opinion, self.knows.taught), (broken, look.taught)]
            vertebra = self._vertebra(film, turn, item)
            if level in gradings:
                vertebra = with_grade(
                    vertebra,
                    heights,
                    gradings[level],
                    combined(opinions, by_heights[level], share=0.5 if broken is None else BROKEN_SHARE),
                    threshold=self.settings.fracture_threshold,
                    mm=_mm_at_patient(film, turn),
                )
            elif broken is not None and comparable and self._may_be_broken(item):
                vertebra = with_looks(
                    vertebra,
                    combined(opinions, NO_HEIGHTS, share=UNMEASURED_SHARE),
                    threshold=self.settings.fracture_threshold,
                )
            vertebra = with_dissent(vertebra, opinion)
            classes = {**vertebra.classes}
            if look.fractured is not None:
                # Beside its ages, which are given that the body is broken and told of broken bodies alone.
                classes[f"{self.acuity.name}{BROKEN_OR_NOT}"] = _odds(look.fractured)
            if vertebra.fractured:
                classes[self.acuity.name] = look.ages
            vertebrae.append(replace(vertebra, classes=classes))
        return vertebrae

    def _may_be_broken(self, item: _Measured) -> bool:
        """Whether the looks of a body without a grade count.

        All of it must be seen, the detector must know its level, and not everything of where it is may be in
        doubt: a crop beside a sound body shows something else.
        """
        whole = item.reason is None or item.reason.code != "coverage"
        return whole and item.agreed and item.body.link.level in self.knows.levels

    def _vertebra(self, film: Radiograph, turn: FilmPose, item: _Measured) -> Vertebra:
        body = item.body
        corners = turn.as_stored(body.reach.reshape(2, 2), film.shape)
        low, high = corners.min(axis=0), corners.max(axis=0)
        limit = np.array(film.shape, dtype=np.float64) - 1
        low, high = np.clip(low, 0, limit), np.clip(high, 0, limit)
        classes = {}
        broken = self.knows.fractured(body)
        if broken is not None:
            classes[self.detector.name] = _odds(broken)
        return Vertebra(
            level=body.link.level,
            level_confidence=body.link.confidence,
            level_alternatives=body.link.alternatives,
            box_px=BoxPx(
                film.instance.sop_instance_uid,
                film.instance.frame,
                (float(low[0]), float(high[0])),
                (float(low[1]), float(high[1])),
            ),
            six_points=None
            if item.points is None
            else SixPoints.from_array(turn.as_stored(item.points, film.shape)),
            classes=classes,
            status="analysed" if item.reason is None else "not-analysable",
            reasons=() if item.reason is None else (item.reason,),
        )


def _odds(broken: float) -> dict[str, float]:
    return {HEALTHY: 1 - broken, FRACTURED: broken}


def _mask(body: FilmBody) -> FittedMask | None:
    """The dense network's outline, for it is finer; the detector's where that alone saw the body.

    On 34 tuning films the dense network's overlapped the true outline by 0.89, the mean of both by 0.885.
    """
    if body.outlined is not None:
        return body.outlined.mask
    return None if body.seen is None else body.seen.mask


def _edges(film: Radiograph, turn: FilmPose) -> Floats:
    """Edges of a pixel of the upright film, rows and columns, in units of the former: not all are square."""
    if film.spacing is None:
        return np.ones(2)
    across = turn.quarters % 2 == 1
    rows_mm, columns_mm = film.spacing.rows_mm, film.spacing.columns_mm
    return np.array([1.0, rows_mm / columns_mm if across else columns_mm / rows_mm])


def _mm_at_patient(film: Radiograph, turn: FilmPose) -> float | None:
    """Distance of the rows of the upright film at the patient, None where it is not known."""
    if film.spacing is None or not film.spacing.at_patient:
        return None
    return film.spacing.columns_mm if turn.quarters % 2 == 1 else film.spacing.rows_mm

"""The waist of the house: what a pipeline says about one study, and all that an encoder gets.

Plain frozen dataclasses that convert to and from JSON without loss (`to_json`, `from_json`); the JSON's
schema is in `report_schema`. Points are [x, y, z] in patient LPS millimetres where the image has a frame of
reference, else [row, column] pixels with the image named in `box_px`. A key that does not apply is null,
never absent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from dicom_ai_node.anatomy import Level, order
from dicom_ai_node.prior import PriorReport

SCHEMA: Final = "dicom-ai-node/report/1"

Status = Literal["analysed", "not-analysable"]
Deformity = Literal["wedge", "biconcave", "crush", "none"]
Point = tuple[float, ...]

REASON_CODES: Final[dict[str, str]] = {
    "coverage": "the field of view holds too little of the spine or of the vertebra",
    "spacing": "the slices are too thick or too few for the measurement",
    "implants": "metal or cement makes the measurement meaningless",
    "orientation": "the image does not show the spine in a usable plane",
    "modality-mismatch": "the image is not what its header says",
    "geometry": "the slices do not form one volume",
    "unreadable": "the pixel data cannot be decoded",
    "no-spine": "no vertebra was found",
    "model-refused": "the model's answer is implausible and was not used",
    "level-uncertain": "the vertebrae may be numbered otherwise",
    "numbering-variant": "the spine was numbered with a vertebra more or less than most people have",
    "partial": "only part of what was sent could be used",
    "further-films": "other films of the series have reports of their own",
    "disagreement": "two models, or a model and the header, say different things",
    "research-use": "results are for research use and were not validated clinically",
    "thresholds": "the thresholds that were applied",
    "usual-shape": "a height loss is the usual shape of this spine and was not counted as a fracture",
    "patient-mismatch": "images of different patients stand under one study",
    "registration": "two series could not be brought onto each other",
    "prior": "earlier reports could not be compared with",
}
"""Every reason and limitation code, with what it means."""

ACUITIES: Final = ("acute", "chronic", "pathologic")
"""The classes of an algorithm that judges how old a fracture is, or whether it has another cause (P1)."""

MALIGNANCIES: Final = ("benign", "malignant")
"""The classes of an algorithm that judges whether an abnormal vertebra holds a tumour (P4)."""

DISEASES: Final[dict[str, str]] = {
    "OVCF": "osteoporotic compression fracture",
    "OF": "old fracture",
    "SN": "Schmorl's node",
    "KD": "Kümmell's disease",
    "PS": "previous surgery",
}
"""The diseases of an algorithm that looks at vertebrae on sagittal CT slices (P2), in words. Several may be
in one vertebra; beside them the algorithm says `NO_DISEASE`."""

NO_DISEASE: Final = "normal"

SEEN_ON: Final = (*DISEASES, NO_DISEASE, "malignant")
"""What may have a slice that shows it best: diseases on CT (P2), a tumour on MR (P4)."""

FRACTURES: Final = ("OVCF", "OF", "KD")
"""Those of `DISEASES` that are fractures, fresh, healed or not healing."""

SIGNAL_RATIOS: Final = ("to_neighbours", "to_discs", "to_canal", "to_cord")
"""What the signal of a body on MR is put in relation to: the bodies above and below, the discs at its
endplates, the canal behind it with all that it holds, and the cord in it where there is one (to about L1)."""

SIX_POINT_NAMES: Final = (
    "anterior_superior",
    "anterior_inferior",
    "middle_superior",
    "middle_inferior",
    "posterior_superior",
    "posterior_inferior",
)
"""The order of the six points wherever they stand in an array of shape (6, 2) or (6, 3)."""


@dataclass(frozen=True)
class Reason:
    """A coded statement for the reader: why something could not be judged, or what limits it."""

    code: str
    text: str

    def __post_init__(self) -> None:
        if self.code not in REASON_CODES:
            raise ValueError(f"reason code {self.code!r} is not one of {', '.join(REASON_CODES)}")


@dataclass(frozen=True)
class Source:
    """The images that the report speaks of."""

    study_instance_uid: str
    series_instance_uids: tuple[str, ...]
    modality: str
    frame_of_reference_uid: str | None


@dataclass(frozen=True)
class Algorithm:
    """One model that had a say; `bundle_sha256` is the hash of its weights, `device_uid` its Device UID."""

    name: str
    version: str
    bundle_sha256: str
    device_uid: str


@dataclass(frozen=True)
class BoxPx:
    """A box on one frame; rows and columns are [first, last] pixel centres, frame counts from 1."""

    sop_instance_uid: str
    frame: int
    rows: tuple[float, float]
    columns: tuple[float, float]


@dataclass(frozen=True)
class SeenOn:
    """On which sagittal slices a disease of a vertebra, or a tumour in it, was seen.

    Attributes:
        slices: on how many its probability reached the threshold.
        of: on how many the vertebra was looked at.
        box_px: the vertebra on the image that shows the disease best; None where the node cut that plane out
            of a volume, so that no image shows it.
        corners_mm: the same box, its four corners in order around it; None where no millimetres can be told.
    """

    slices: int
    of: int
    box_px: BoxPx | None
    corners_mm: tuple[Point, ...] | None


@dataclass(frozen=True)
class SixPoints:
    """The six morphometry points of a body (Genant 1993; P3 section 2.3.3)."""

    anterior_superior: Point
    anterior_inferior: Point
    middle_superior: Point
    middle_inferior: Point
    posterior_superior: Point
    posterior_inferior: Point

    @classmethod
    def from_array(cls, points: npt.NDArray[np.floating[Any]]) -> Self:
        """From shape (6, 2) or (6, 3) in the order of `SIX_POINT_NAMES`."""
        if points.shape not in ((6, 2), (6, 3)):
            raise ValueError(f"six points have shape (6, 2) or (6, 3), not {points.shape}")
        return cls(*(tuple(float(value) for value in point) for point in points))

    def to_array(self) -> npt.NDArray[np.float64]:
        """Shape (6, 2) or (6, 3) in the order of `SIX_POINT_NAMES`."""
        return np.array([getattr(self, name) for name in SIX_POINT_NAMES], dtype=np.float64)


@dataclass(frozen=True)
class HeightsMm:
    """Heights of a body in millimetres, and the reference height that the loss is measured against."""

    anterior: float
    middle: float
    posterior: float
    reference: float


@dataclass(frozen=True)
class PlaneMeasures:
    """What was measured in one sagittal plane of a body, which may lie beside its middle.

    Attributes:
        aside_mm: distance from the middle plane to the patient's left, negative to the right.
        counts: whether the vertebra's own points and heights are those of this plane, or their mean over this
            plane and its neighbour that counts too.
        heights_mm: the reference is that of the same plane of the neighbouring vertebrae.
        height_loss: of this plane alone; None where the level has no Genant grade.
    """

    aside_mm: float
    counts: bool
    six_points: SixPoints
    heights_mm: HeightsMm
    height_loss: float | None


@dataclass(frozen=True)
class Vertebra:
    """All that is known of one vertebra.

    Points, heights, loss, grade and deformity belong together: they are those of the plane that counts, which
    may lie beside the middle (see `planes`), so that a reader finds the loss in the heights and the heights
    between the points. A picture of the middle shows `middle_points` instead, which lie on its endplates.

    Attributes:
        planes: from the patient's right to his left, where more than one plane may have been measured (CT);
            empty elsewhere.
        classes: algorithm -> class -> probability.
        malignant: whether an abnormal vertebra on MR holds a tumour; None where that was not judged.
        features: probability of each imaging feature of P4, table 1, where MR was looked at for them.
        signal: weighting ("t1", "t2", "stir") -> one of `SIGNAL_RATIOS` -> the body's signal over that of the
            others; MR only.
        abnormal: why a body on MR was looked at closely, in words; empty where nothing stood out.
        diseases: those of `DISEASES` whose probability over all slices reached the threshold; None where
            nobody looked for them.
        seen_on: each of `SEEN_ON` that was looked for -> where it was seen; the probabilities over all slices
            are in `classes`. That of "malignant" is the highest of all slices (P4), on the slice told here.
    """

    level: Level
    level_confidence: float
    level_alternatives: Mapping[str, float] = field(default_factory=dict)
    center_mm: Point | None = None
    box_px: BoxPx | None = None
    six_points: SixPoints | None = None
    heights_mm: HeightsMm | None = None
    height_loss: float | None = None
    genant_grade: int | None = None
    deformity: Deformity | None = None
    fractured: bool | None = None
    fracture_probability: float | None = None
    classes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    mean_hu: float | None = None
    malignant: bool | None = None
    features: Mapping[str, float] = field(default_factory=dict)
    signal: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    abnormal: tuple[str, ...] = ()
    diseases: tuple[str, ...] | None = None
    seen_on: Mapping[str, SeenOn] = field(default_factory=dict)
    status: Status = "analysed"
    reasons: tuple[Reason, ...] = ()
    planes: tuple[PlaneMeasures, ...] = ()

    @property
    def middle_points(self) -> SixPoints | None:
        """The six points of the plane nearest to the middle; None where nothing was measured."""
        nearest = min(self.planes, key=lambda plane: abs(plane.aside_mm), default=None)
        return self.six_points if nearest is None else nearest.six_points

    @property
    def ungraded_fracture(self) -> bool:
        """Called a fracture by its looks alone: neither heights nor a disease say more of it."""
        return bool(self.fractured) and self.genant_grade is None and not self.diseases

    @property
    def malignancy(self) -> float | None:
        """Probability that a tumour changed the vertebra; None where nobody judged it."""
        for classes in self.classes.values():
            if set(classes) == set(MALIGNANCIES):
                return classes["malignant"]
        return None

    @property
    def opinion(self) -> tuple[str, float] | None:
        """What an abnormal vertebra on MR is called, one of `MALIGNANCIES`, with the probability of that."""
        share = self.malignancy
        if share is None or self.malignant is None:
            return None
        return ("malignant", share) if self.malignant else ("benign", 1 - share)

    @property
    def disease_shares(self) -> Mapping[str, float] | None:
        """Probability of each of `DISEASES` and of `NO_DISEASE`; None where nobody looked for them."""
        for classes in self.classes.values():
            if set(DISEASES) <= set(classes):
                return classes
        return None

    @property
    def acuity(self) -> tuple[str, float] | None:
        """The likeliest of `ACUITIES` of a fracture with its probability; None where nobody judged it."""
        for classes in self.classes.values():
            if self.fractured and classes and set(classes) <= set(ACUITIES):
                return max(classes.items(), key=lambda item: item[1])
        return None


@dataclass(frozen=True)
class SpineReport:
    """What one pipeline says about one series (or T1+T2 pair); vertebrae stand from head to tail."""

    status: Status
    source: Source
    reasons: tuple[Reason, ...] = ()
    limitations: tuple[Reason, ...] = ()
    algorithms: tuple[Algorithm, ...] = ()
    vertebrae: tuple[Vertebra, ...] = ()

    def __post_init__(self) -> None:
        if self.status == "not-analysable" and not self.reasons:
            raise ValueError("a report that is not-analysable says why: give at least one reason")
        levels = [order(vertebra.level) for vertebra in self.vertebrae]
        if levels != sorted(set(levels)):
            raise ValueError("vertebrae stand from head to tail, each level once")

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON types, with the schema's name first."""
        return {"schema": SCHEMA, **_plain(self)}

    def to_json(self, indent: int | None = 2) -> str:
        """The report as JSON text."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SpineReport:
        """The report that `to_dict` wrote.

        Raises:
            ValueError: another schema, a missing key, or a value of the wrong kind.
        """
        if data.get("schema") != SCHEMA:
            raise ValueError(f"the schema is {data.get('schema')!r}, this version reads {SCHEMA!r}")
        try:
            return _report(data)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a {SCHEMA} report: {error!r}") from error

    @classmethod
    def from_json(cls, text: str) -> SpineReport:
        """The report that `to_json` wrote."""
        return cls.from_dict(json.loads(text))

    def __iter__(self) -> Iterator[Vertebra]:
        return iter(self.vertebrae)


@dataclass(frozen=True)
class LabelMap:
    """Which voxel belongs to which vertebra, on the source grid.

    Attributes:
        labels: uint8, shape (slices, rows, columns) in the order of the source volume (or (1, rows, columns)
            for a radiograph); values are VerSe labels (`anatomy.verse_label`), 0 is background.
        affine: 4x4, maps (slice, row, column, 1) to patient LPS millimetres; None without a frame of
            reference.
    """

    labels: npt.NDArray[np.uint8]
    affine: npt.NDArray[np.float64] | None


@dataclass(frozen=True)
class Analysis:
    """A report with what travels beside its JSON, not in it.

    Attributes:
        label_map: which voxel is which vertebra.
        prior: the earlier report of the patient that this one is compared with.
        further: what is said of the other films of the series, each a whole analysis with results of its own;
            none of them has further ones.
    """

    report: SpineReport
    label_map: LabelMap | None = None
    prior: PriorReport | None = None
    further: tuple[Analysis, ...] = ()

    @property
    def each(self) -> tuple[Analysis, ...]:
        """The analysis without further ones, then those."""
        return (replace(self, further=()), *self.further)

    @classmethod
    def joined(cls, analyses: Sequence[Analysis]) -> Analysis:
        """The way back of `each`: the first analysis with the others as further ones."""
        return replace(analyses[0], further=tuple(analyses[1:]))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Level):
        return value.value
    return value


def _report(data: Mapping[str, Any]) -> SpineReport:
    source = data["source"]
    return SpineReport(
        status=_one_of(data["status"], Status),
        source=Source(
            source["study_instance_uid"],
            tuple(source["series_instance_uids"]),
            source["modality"],
            source["frame_of_reference_uid"],
        ),
        reasons=_reasons(data["reasons"]),
        limitations=_reasons(data["limitations"]),
        algorithms=tuple(Algorithm(**item) for item in data["algorithms"]),
        vertebrae=tuple(_vertebra(item) for item in data["vertebrae"]),
    )


def _box(data: Mapping[str, Any] | None) -> BoxPx | None:
    if data is None:
        return None
    return BoxPx(data["sop_instance_uid"], data["frame"], tuple(data["rows"]), tuple(data["columns"]))


def _seen_on(data: Mapping[str, Any]) -> SeenOn:
    corners = None if data["corners_mm"] is None else tuple(map(tuple, data["corners_mm"]))
    return SeenOn(data["slices"], data["of"], _box(data["box_px"]), corners)


def _six_points(data: Mapping[str, Any]) -> SixPoints:
    return SixPoints(**{key: tuple(data[key]) for key in SIX_POINT_NAMES})


def _plane(data: Mapping[str, Any]) -> PlaneMeasures:
    return PlaneMeasures(
        data["aside_mm"],
        data["counts"],
        _six_points(data["six_points"]),
        HeightsMm(**data["heights_mm"]),
        data["height_loss"],
    )


def _vertebra(data: Mapping[str, Any]) -> Vertebra:
    points, heights, deformity = data["six_points"], data["heights_mm"], data["deformity"]
    plain = {item.name: data[item.name] for item in fields(Vertebra)}
    built = {
        "level": Level(data["level"]),
        "level_alternatives": dict(data["level_alternatives"]),
        "center_mm": None if data["center_mm"] is None else tuple(data["center_mm"]),
        "box_px": _box(data["box_px"]),
        "six_points": None if points is None else _six_points(points),
        "heights_mm": None if heights is None else HeightsMm(**heights),
        "deformity": None if deformity is None else _one_of(deformity, Deformity),
        "classes": {name: dict(classes) for name, classes in data["classes"].items()},
        "features": dict(data["features"]),
        "signal": {series: dict(ratios) for series, ratios in data["signal"].items()},
        "abnormal": tuple(data["abnormal"]),
        "diseases": None if data["diseases"] is None else tuple(data["diseases"]),
        "seen_on": {name: _seen_on(item) for name, item in data["seen_on"].items()},
        "status": _one_of(data["status"], Status),
        "reasons": _reasons(data["reasons"]),
        "planes": tuple(_plane(item) for item in data["planes"]),
    }
    return Vertebra(**plain | built)


def _reasons(items: list[Mapping[str, str]]) -> tuple[Reason, ...]:
    return tuple(Reason(item["code"], item["text"]) for item in items)


def _one_of(value: str, kind: Any) -> Any:
    if value not in get_args(kind):
        raise ValueError(f"{value!r} is not one of {', '.join(get_args(kind))}")
    return value

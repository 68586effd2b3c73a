"""The pipeline of radiographs with networks that know the truth: what is joined, mapped, graded and said.

The stand-ins see the picture that the real networks would see and answer from the film's truth, so that
everything between the networks is what runs in the node.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.imaging.film_pose import ALL_POSES, FilmPose
from dicom_ai_node.imaging.film_spacing import FilmSpacing
from dicom_ai_node.imaging.radiograph import Radiograph
from dicom_ai_node.imaging.volume import SliceRef
from dicom_ai_node.inference import film as networks
from dicom_ai_node.inference.bundle import (
    Bundle,
    FilmPreprocessing,
    Metadata,
    NetworkDefinition,
    WeightsFile,
)
from dicom_ai_node.networks.column_detector import HEATMAP_STRIDE, ColumnAnswer
from dicom_ai_node.networks.film_bodies import OFFSET_UNIT
from dicom_ai_node.networks.film_classes import EVERY_VERTEBRA, PUBLISHED_CLASSES, DetectClass
from dicom_ai_node.networks.film_geometry import crop, fitting, into_crop, square_crop
from dicom_ai_node.networks.film_points import LOOKS, MIRROR
from dicom_ai_node.networks.half_precision import InHalfTheBits
from dicom_ai_node.networks.heatmaps import gaussian_heatmaps
from dicom_ai_node.networks.mscn import Heatmaps
from dicom_ai_node.pipelines.radiograph import BUNDLES, RadiographPipeline
from dicom_ai_node.report import Analysis
from dicom_ai_node.report_schema import json_schema
from dicom_ai_node.results.language import LANGUAGES
from dicom_ai_node.results.wording import class_shares, finding
from dicom_ai_node.training.films import Film, FilmVertebra, polygon_mask
from dicom_ai_node.training.localise import TAUGHT_LEVELS

SIZE = (200, 120)
LEVELS = (Level.T12, Level.L1, Level.L2, Level.L3, Level.L4)


def column(*, crushed: Level | None = Level.L2, facing: int = 1) -> Film:
    """Five bodies, one above the other, one of them wedged; the front is to the left (1) or right (-1)."""
    vertebrae = []
    for number, level in enumerate(LEVELS):
        top, left = 40.0 + 64 * number, 70.0 + 6 * number
        low = 44.0 * (0.65 if level is crushed else 1.0)
        points = np.array(
            [
                [top + 44 - low, left], [top + 44, left],
                [top + (44 - low) / 2, left + 32], [top + 44, left + 32],
                [top, left + 64], [top + 44, left + 64],
            ]
        )  # fmt: skip
        if facing < 0:
            points[:, 1] = 2 * (left + 32) - points[:, 1]
        outline = points[[0, 2, 4, 5, 3, 1]]
        broken = level is crushed
        vertebrae.append(
            FilmVertebra(level, outline, points, broken, 2 if broken else 0, "wedge" if broken else "none")
        )
    shape = (400, 240)
    pixels = np.full(shape, 0.3, dtype=np.float32)
    for vertebra in vertebrae:
        pixels[polygon_mask(vertebra.outline, shape)] = 0.8
    pixels[:28] = 0.0
    return Film("drawn", pixels, 0.55, tuple(vertebrae))


@dataclass
class Oracle:
    """What the stand-ins answer from."""

    film: Film
    age: tuple[float, float, float] = (0.1, 0.7, 0.2)
    sees_healthy: bool = False
    tells_apart: bool = False
    broken: float = 0.9
    unsure: float = 0.0
    unsure_of: tuple[Level, ...] = LEVELS
    sure: float = 6.0
    seen: tuple[Level, ...] = LEVELS
    drawn: tuple[Level, ...] = LEVELS
    lateral: Callable[[Tensor], bool] | None = None
    known: Callable[[Tensor], float] = lambda _picture: 1.0
    classes: tuple[DetectClass, ...] = EVERY_VERTEBRA
    draws: bool = True


class View(nn.Module):
    def __init__(self, oracle: Oracle) -> None:
        super().__init__()
        self.oracle = oracle

    def forward(self, x: Tensor) -> Tensor:
        # The dark stripe of the drawn film tells where up is.
        picture = x[0, 0]
        sides = [picture[1], picture[:, -2], picture[-2], picture[:, 1]]
        darkest = int(np.argmin([float(side.mean()) for side in sides]))
        upright = darkest == 0 if self.oracle.lateral is None else self.oracle.lateral(picture)
        return torch.tensor([[self.oracle.sure if upright else -6.0, 0.0, -3.0, 1.0]])


class Detector(nn.Module):
    def __init__(self, oracle: Oracle) -> None:
        super().__init__()
        self.oracle = oracle

    def forward(self, x: Tensor) -> list[dict[str, Tensor]]:
        film, size = self.oracle.film, (x.shape[2], x.shape[3])
        center, matrix = fitting(film.pixels.shape, size)
        boxes, labels, scores, masks = [], [], [], []
        for item in film.vertebrae:
            if item.level not in self.oracle.seen:
                continue
            outline = into_crop(torch.from_numpy(item.outline).float(), center, matrix, size)
            low, high = outline.amin(dim=0), outline.amax(dim=0)
            share = self.oracle.broken if item.fractured else 1 - self.oracle.broken
            for broken, score in ((True, share), (False, 1 - share)):
                if DetectClass(item.level, broken) not in self.oracle.classes or score < 0.05:
                    continue
                boxes.append([float(low[1]), float(low[0]), float(high[1]) + 1, float(high[0]) + 1])
                labels.append(1 + self.oracle.classes.index(DetectClass(item.level, broken)))
                scores.append(score)
                masks.append(torch.from_numpy(polygon_mask(outline.numpy(), size)).float()[None])
        answer = {
            "boxes": torch.tensor(boxes).reshape(-1, 4),
            "labels": torch.tensor(labels, dtype=torch.int64),
            "scores": torch.tensor(scores),
        }
        if self.oracle.draws:
            answer["masks"] = torch.stack(masks) if masks else torch.zeros(0, 1, *size)
        return [answer]


CUT: list[tuple[Tensor, Tensor]] = []
"""(center, matrix) of the crops that were cut out of a film, the last one at the end."""


@pytest.fixture(autouse=True)
def crops_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in that sees parts of a film is told where they lie."""

    def known(pixels: Any, center: Tensor, matrix: Tensor, size: tuple[int, int]) -> Tensor:
        CUT[:] = [(center, matrix)]
        return crop(pixels, center, matrix, size)

    monkeypatch.setattr(networks, "crop", known)


class Localiser(nn.Module):
    def __init__(self, oracle: Oracle) -> None:
        super().__init__()
        self.oracle = oracle

    def forward(self, x: Tensor) -> ColumnAnswer:
        size = (x.shape[2], x.shape[3])
        center, matrix = CUT[-1]
        places = torch.full((1, len(TAUGHT_LEVELS), 2), float("nan"))
        body, offset = torch.full((1, *size), -6.0), torch.zeros(1, 2, *size)
        for item in self.oracle.film.vertebrae:
            middle = torch.from_numpy((item.box[:2] + item.box[2:]) / 2).float()
            place = into_crop(middle[None], center, matrix, size)[0]
            places[0, TAUGHT_LEVELS.index(item.level)] = place
            if item.level not in self.oracle.drawn:
                continue
            outline = into_crop(torch.from_numpy(item.outline).float(), center, matrix, size)
            where = torch.from_numpy(polygon_mask(outline.numpy(), size)).nonzero()
            body[0, where[:, 0], where[:, 1]] = 4.0
            offset[0, :, where[:, 0], where[:, 1]] = ((place - where) / OFFSET_UNIT).T
        small = (size[0] // HEATMAP_STRIDE, size[1] // HEATMAP_STRIDE)
        maps = gaussian_heatmaps((places - (HEATMAP_STRIDE - 1) / 2) / HEATMAP_STRIDE, small, 1.3)
        return ColumnAnswer(body, offset, maps * self.oracle.known(x[0, 0]))


class Points(nn.Module):
    """Answers for crops in the order in which the pipeline asks: head to tail."""

    def __init__(self, oracle: Oracle, margin: float, size: tuple[int, int]) -> None:
        super().__init__()
        self.oracle, self.margin, self.size = oracle, margin, size
        # As a network that has not understood a body it sees something else at every look.
        self.looks = itertools.cycle(zip((torch.eye(2), MIRROR, *LOOKS), (0, 0, 1, -1), strict=True))

    def forward(self, x: Tensor) -> Heatmaps:
        places = []
        turn, sign = next(self.looks)
        for item in self.oracle.film.vertebrae[: len(x)]:
            assert item.six_points is not None
            center, matrix = square_crop(item.box, self.margin, self.size)
            points = torch.from_numpy(item.six_points).float()
            unsure = self.oracle.unsure if item.level in self.oracle.unsure_of else 0.0
            places.append(into_crop(points, center, matrix @ turn, self.size) + sign * unsure)
        maps = gaussian_heatmaps(torch.stack(places), self.size, 2.0)
        return Heatmaps(maps, maps, maps)


class Acuity(nn.Module):
    def __init__(self, oracle: Oracle) -> None:
        super().__init__()
        self.oracle = oracle

    def forward(self, x: Tensor) -> Tensor:
        age = torch.tensor(self.oracle.age)
        if not self.oracle.sees_healthy:
            return age.log().expand(len(x), -1)
        said = []
        for item in self.oracle.film.vertebrae[: len(x)]:
            sound = self.oracle.tells_apart and not item.fractured
            ages = age * (0.05 if sound else 1.0)
            said.append(torch.cat([ages, 1 - ages.sum()[None]]))
        return torch.stack(said).log()


def pipeline(oracle: Oracle) -> RadiographPipeline:
    crops = FilmPreprocessing(size=(96, 96), margin=1.7, marker_sigma=9.0)
    stand_ins: Mapping[str, tuple[nn.Module, FilmPreprocessing, tuple[str, ...]]] = {
        "radiograph-view": (
            View(oracle), FilmPreprocessing(size=(64, 64)),
            ("lateral-spine", "frontal-spine", "chest", "other"),
        ),
        "radiograph-detect": (
            Detector(oracle), FilmPreprocessing(size=SIZE), tuple(item.name for item in oracle.classes)
        ),
        "radiograph-localise": (
            Localiser(oracle), FilmPreprocessing(size=SIZE), tuple(level.value for level in TAUGHT_LEVELS)
        ),
        "radiograph-points": (Points(oracle, 1.7, (96, 96)), crops, ()),
        "radiograph-acuity": (
            Acuity(oracle), FilmPreprocessing(size=(32, 32), margin=1.2),
            ("acute", "chronic", "pathologic", *(("healthy",) if oracle.sees_healthy else ())),
        ),
    }  # fmt: skip
    assert tuple(stand_ins) == BUNDLES
    return RadiographPipeline({name: bundle(name, *parts) for name, parts in stand_ins.items()})


def bundle(
    name: str, network: nn.Module, preprocessing: FilmPreprocessing, channels: tuple[str, ...]
) -> Bundle:
    metadata = Metadata(
        name=name,
        version="1",
        task=name,
        description="stand-in",
        authors="",
        license="",
        intended_use="",
        training_data="",
        trained_on="cpu",
        rebuild="",
        output_channels=channels,
        network=NetworkDefinition(architecture="MSCN", arguments={}),
        preprocessing=preprocessing,
        metrics={},
        weights=(WeightsFile(file="weights.safetensors", sha256="0" * 64),),
        device_uid="2.25.1",
    )
    return Bundle(metadata, network, torch.device("cpu"))


def radiograph(film: Film, **changes: Any) -> Radiograph:
    pixels: npt.NDArray[np.float32] = np.ascontiguousarray(film.pixels)
    instance = SliceRef("1.2.840.10008.5.1.4.1.1.1.1", "1.2.9", 1, Path("film.dcm"))
    plain = Radiograph(pixels, instance, "1.2", "1.3", "DX", FilmSpacing(0.55, 0.55, "fiducial"), None)
    return replace(plain, **changes)


def by_level(analysis: Analysis) -> dict[Level, Any]:
    return {item.level: item for item in analysis.report}


def test_every_vertebra_is_named_measured_and_graded() -> None:
    film = column()
    analysis = pipeline(Oracle(film)).analyse(radiograph(film))
    found = by_level(analysis)
    assert tuple(found) == LEVELS
    for item in film.vertebrae:
        answer = found[item.level]
        assert item.six_points is not None
        assert answer.six_points.to_array() == pytest.approx(item.six_points, abs=1.0)
        assert answer.genant_grade == item.grade
        assert answer.fractured is item.fractured
        assert answer.deformity == item.deformity
        assert answer.box_px.rows == pytest.approx(item.box[[0, 2]], abs=1.5)
        assert answer.box_px.columns == pytest.approx(item.box[[1, 3]], abs=1.5)
        assert answer.heights_mm.posterior == pytest.approx(44 * 0.55, rel=0.04)
    assert found[Level.L2].classes["radiograph-acuity"] == pytest.approx(
        {"acute": 0.1, "chronic": 0.7, "pathologic": 0.2}, abs=1e-6
    )
    assert "radiograph-acuity" not in found[Level.L1].classes
    assert len(analysis.report.algorithms) == 5


@pytest.mark.parametrize("pose", ALL_POSES, ids=str)
def test_films_stored_turned_or_mirrored_are_read_alike_and_mapped_back(pose: FilmPose) -> None:
    upright = column()
    # A stored film that is mirrored is, once turned, a film that faces the other way.
    seen = column(facing=-1) if pose.mirrored else upright
    pixels = upright.pixels if not pose.mirrored else seen.pixels
    turn = FilmPose(pose.quarters)
    stored = turn.image_as_stored(pixels)
    analysis = pipeline(Oracle(seen)).analyse(radiograph(seen, pixels=stored))
    assert analysis.label_map is not None
    labels = analysis.label_map.labels[0]
    assert labels.shape == stored.shape
    for item in seen.vertebrae:
        assert item.six_points is not None
        answer = by_level(analysis)[item.level]
        expected = turn.as_stored(item.six_points, stored.shape)
        assert answer.six_points.to_array() == pytest.approx(expected, abs=1.0)
        true = turn.image_as_stored(polygon_mask(item.outline, pixels.shape))
        mine = labels == verse_label(item.level)
        assert 2 * (mine & true).sum() / (mine.sum() + true.sum()) > 0.93
        assert answer.genant_grade == item.grade


def test_without_a_calibration_ratios_are_given_and_no_millimetres() -> None:
    film = column()
    for spacing in (None, FilmSpacing(0.9, 0.9, "detector")):
        analysis = pipeline(Oracle(film)).analyse(radiograph(film, spacing=spacing))
        answer = by_level(analysis)[Level.L2]
        assert answer.heights_mm is None
        assert answer.height_loss == pytest.approx(0.35, abs=0.03)
        assert answer.genant_grade == 2
        assert any(note.code == "spacing" for note in analysis.report.limitations)


@pytest.mark.parametrize(
    ("missed", "told"),
    [
        ({"seen"}, "drawn by the dense network"),
        ({"drawn"}, "seen by the detector"),
        ({"seen", "drawn"}, "guessed from the neighbours"),
    ],
)
def test_a_body_that_one_network_missed_is_reported_and_told(missed: set[str], told: str) -> None:
    film = column()
    others = tuple(level for level in LEVELS if level is not Level.L3)
    analysis = pipeline(replace(Oracle(film), **dict.fromkeys(missed, others))).analyse(radiograph(film))
    assert tuple(by_level(analysis)) == LEVELS
    (note,) = (note for note in analysis.report.limitations if note.code == "disagreement")
    assert note.text.startswith("L3: ")
    assert told in note.text
    # A box that the detector did not confirm may hold half a body, or two.
    third = by_level(analysis)[Level.L3]
    assert (third.six_points is None) == (missed == {"seen"})
    assert [reason.code for reason in third.reasons] == ["model-refused"] * (missed == {"seen"})
    assert (analysis.label_map.labels == verse_label(Level.L3)).any()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("rows", "missed", "told"),
    [(400, (), True), (325, (), True), (310, (), False), (325, (LEVELS[-1],), False)],
)
def test_what_lies_beyond_the_edge_of_the_film_is_not_reported(
    rows: int, missed: tuple[Level, ...], told: bool
) -> None:
    film = column()
    assert film.vertebrae[-1].box[[0, 2]].tolist() == [296, 340]
    film = replace(film, pixels=film.pixels[:rows])
    oracle = Oracle(film, seen=tuple(level for level in LEVELS if level not in missed))
    analysis = pipeline(oracle).analyse(radiograph(film))
    found = by_level(analysis)
    assert tuple(found) == (LEVELS if told else LEVELS[:-1])
    if told:
        assert [reason.code for reason in found[LEVELS[-1]].reasons] == ["coverage"] * (rows < 400)


def test_detector_and_heights_that_disagree_are_told() -> None:
    film = column()
    analysis = pipeline(Oracle(film, broken=0.1)).analyse(radiograph(film))
    answer = by_level(analysis)[Level.L2]
    assert [reason.code for reason in answer.reasons] == ["disagreement"]
    assert "sound" in answer.reasons[0].text
    assert "grade 2" in answer.reasons[0].text


def test_a_detector_of_boxes_alone_serves_too() -> None:
    film = column()
    analysis = pipeline(Oracle(film, draws=False)).analyse(radiograph(film))
    assert tuple(by_level(analysis)) == LEVELS
    assert by_level(analysis)[Level.L2].fractured
    for level in LEVELS:
        assert (analysis.label_map.labels == verse_label(level)).any()  # type: ignore[union-attr]


def test_p0_s_six_classes_find_fractures_beside_bodies_that_the_dense_network_finds() -> None:
    film = column()
    published = Oracle(film, classes=PUBLISHED_CLASSES, sure=1.2)
    analysis = pipeline(published).analyse(radiograph(film))
    found = by_level(analysis)
    assert tuple(found) == LEVELS
    assert [level for level in LEVELS if found[level].fractured] == [Level.L2]
    # Of a detector of fractures nobody expects that it sees healthy bodies.
    assert not [note for note in analysis.report.limitations if note.code == "disagreement"]
    assert not any(item.reasons for item in analysis.report)
    # What it does not see it calls sound, and its word counts.
    blind = by_level(pipeline(replace(published, seen=())).analyse(radiograph(film)))
    assert blind[Level.L2].fracture_probability < found[Level.L2].fracture_probability - 0.01
    assert [reason.code for reason in blind[Level.L2].reasons] == ["disagreement"]


def test_a_body_that_was_not_measured_but_looks_broken_is_pointed_out() -> None:
    film = column()
    found = by_level(pipeline(Oracle(film, unsure=9.0)).analyse(radiograph(film)))
    assert [reason.code for reason in found[Level.L2].reasons] == ["model-refused", "disagreement"]
    assert "broken (90% fractured), but it was not measured" in found[Level.L2].reasons[1].text
    assert [reason.code for reason in found[Level.L1].reasons] == ["model-refused"]


BROKEN_BY_LOOKS = (0.25, 0.45, 0.28)


def test_a_body_that_was_not_measured_is_a_fracture_where_both_networks_see_one() -> None:
    film = column()
    looks = Oracle(
        film, age=BROKEN_BY_LOOKS, sees_healthy=True, tells_apart=True, unsure=9.0, unsure_of=(Level.L2,)
    )
    found = by_level(pipeline(looks).analyse(radiograph(film)))
    answer = found[Level.L2]
    assert (answer.status, answer.fractured, answer.genant_grade) == ("analysed", True, None)
    assert answer.acuity[0] == "chronic"
    assert [reason.code for reason in answer.reasons] == ["model-refused"]
    assert finding(answer).startswith("L2: vertebral fracture, not graded, possibly chronic")
    # The others are sound by their heights, and stay so.
    assert not any(found[level].fractured for level in LEVELS if level is not Level.L2)


@pytest.mark.parametrize(
    "changes",
    [
        {"age": (0.01, 0.02, 0.02)},
        # A network that calls sound bodies broken too speaks of the film.
        {"tells_apart": False},
        # Of a film on which nothing was measured nobody knows whether it does.
        {"unsure_of": LEVELS},
        # As published it knows fractures alone.
        {"sees_healthy": False},
        # Where a body lies that the detector does not see is unsure: the crop may show something else.
        {"seen": tuple(level for level in LEVELS if level is not Level.L2)},
    ],
)
def test_what_was_not_measured_and_is_not_plainly_broken_is_not_judged(changes: dict[str, Any]) -> None:
    film = column()
    looks = Oracle(
        film, age=BROKEN_BY_LOOKS, sees_healthy=True, tells_apart=True, unsure=9.0, unsure_of=(Level.L2,)
    )
    if not changes.get("sees_healthy", True):
        changes = {**changes, "age": (0.1, 0.7, 0.2)}
    answer = by_level(pipeline(replace(looks, **changes)).analyse(radiograph(film)))[Level.L2]
    assert (answer.status, answer.fractured, answer.fracture_probability) == ("not-analysable", None, None)


def test_heights_of_a_turned_film_are_told_by_the_spacing_along_the_spine() -> None:
    film = column()
    for quarters, spacing in ((0, (0.55, 1.1)), (1, (1.1, 0.55))):
        stored = FilmPose(quarters).image_as_stored(film.pixels)
        about = radiograph(film, pixels=stored, spacing=FilmSpacing(*spacing, "fiducial"))
        answer = by_level(pipeline(Oracle(film)).analyse(about))[Level.L3]
        assert answer.heights_mm.posterior == pytest.approx(44 * 0.55, rel=0.04)


def test_what_looks_healthy_is_broken_only_where_its_heights_are_clear() -> None:
    film = column()
    plain = by_level(pipeline(Oracle(film)).analyse(radiograph(film)))
    age = (0.01, 0.02, 0.02)
    seen = by_level(pipeline(Oracle(film, age=age, sees_healthy=True)).analyse(radiograph(film)))
    for level in (Level.L1, Level.L2):
        assert seen[level].fracture_probability < plain[level].fracture_probability
        assert seen[level].genant_grade == plain[level].genant_grade
    # Ages are told given that the body is broken.
    assert seen[Level.L2].fractured
    assert seen[Level.L2].classes["radiograph-acuity"] == pytest.approx(
        {"acute": 0.2, "chronic": 0.4, "pathologic": 0.4}, abs=1e-6
    )


def test_what_p1_thinks_of_every_body_is_kept_beside_the_ages_of_broken_ones() -> None:
    film = column()
    seen = by_level(
        pipeline(Oracle(film, age=(0.01, 0.02, 0.02), sees_healthy=True)).analyse(radiograph(film))
    )
    for vertebra in seen.values():
        own = vertebra.classes["radiograph-acuity-fracture"]
        assert own == pytest.approx({"healthy": 0.95, "fractured": 0.05}, abs=1e-6)
        said = class_shares("radiograph-acuity-fracture", own, LANGUAGES["de"])
        assert said == "radiograph-acuity-fracture: nicht gebrochen 95 %, gebrochen 5 %"
    assert "radiograph-acuity" not in seen[Level.L1].classes
    assert seen[Level.L2].acuity is not None
    # As published it knows fractures alone, and has no such opinion.
    published = by_level(pipeline(Oracle(film)).analyse(radiograph(film)))
    assert not any("radiograph-acuity-fracture" in vertebra.classes for vertebra in published.values())


def test_points_that_lie_elsewhere_at_every_look_are_not_used() -> None:
    film = column()
    sure, unsure = (pipeline(Oracle(film, unsure=px)).analyse(radiograph(film)) for px in (1.0, 9.0))
    assert all(item.heights_mm is not None for item in sure.report)
    for item in unsure.report:
        assert item.six_points is None
        assert item.genant_grade is None
        assert "looked at three times" in item.reasons[0].text


def test_a_view_that_the_header_calls_otherwise_is_told() -> None:
    film = column()
    analysis = pipeline(Oracle(film)).analyse(radiograph(film, view="frontal", view_source="ViewPosition"))
    assert any("frontal" in note.text for note in analysis.report.limitations)


def test_a_refusal_tells_that_the_header_says_otherwise() -> None:
    film = column()
    oracle = Oracle(film, lateral=lambda _picture: False)
    with pytest.raises(NotAnalysable, match=r"calls it lateral \(ViewPosition\); the image was believed"):
        pipeline(oracle).analyse(radiograph(film, view="lateral", view_source="ViewPosition"))


def test_where_the_image_is_in_doubt_the_header_is_heard() -> None:
    film = column()
    doubtful = Oracle(film, sure=0.23)  # 25 %
    for view in (None, "frontal"):
        with pytest.raises(NotAnalysable, match="does not look like"):
            pipeline(doubtful).analyse(radiograph(film, view=view, view_source="ViewPosition"))
    said = radiograph(film, view="lateral", view_source="ViewPosition")
    assert tuple(by_level(pipeline(doubtful).analyse(said))) == LEVELS
    with pytest.raises(NotAnalysable, match="no column of vertebrae"):
        pipeline(replace(doubtful, seen=LEVELS[:2])).analyse(said)


def _air_is_dark(picture: Tensor) -> bool:
    """Above the drawn column lies a stripe without anything; pictures reach from 0 or from -1 to 1."""
    return float(picture[2].mean()) < float(picture.mean()) - 0.1


def test_a_film_whose_header_exchanges_black_and_white_is_read_as_it_looks_and_told() -> None:
    film = column()
    seeing = Oracle(film, lateral=_air_is_dark, known=lambda picture: 1.0 if _air_is_dark(picture) else 0.4)
    plain = pipeline(seeing).analyse(radiograph(film))
    assert not any("black and white" in note.text for note in plain.report.limitations)
    stored = radiograph(film, pixels=1 - film.pixels)
    inverted = pipeline(seeing).analyse(stored)
    assert [note.code for note in inverted.report.limitations if "black and white" in note.text] == [
        "modality-mismatch"
    ]
    assert by_level(inverted)[Level.L2].genant_grade == 2
    # The header is believed unless both networks know the film better otherwise.
    with pytest.raises(NotAnalysable, match="does not look like"):
        pipeline(replace(seeing, known=lambda _picture: 1.0)).analyse(stored)
    with pytest.raises(NotAnalysable, match="no column"):
        pipeline(replace(seeing, seen=LEVELS[:2])).analyse(stored)


def test_a_film_that_is_not_lateral_is_refused_with_what_it_shows() -> None:
    film = column()
    oracle = Oracle(film, lateral=lambda _picture: False)
    with pytest.raises(NotAnalysable, match="something else") as refusal:
        pipeline(oracle).analyse(radiograph(film))
    assert refusal.value.code == "orientation"


def test_a_doubtful_view_is_read_where_a_column_is_found_and_refused_where_none_is() -> None:
    film = column()
    doubtful = Oracle(film, sure=1.2)
    assert tuple(by_level(pipeline(doubtful).analyse(radiograph(film)))) == LEVELS
    two = replace(
        doubtful, film=replace(film, vertebrae=film.vertebrae[:2]), seen=LEVELS[:2], drawn=LEVELS[:2]
    )
    with pytest.raises(NotAnalysable, match="no column of vertebrae") as refusal:
        pipeline(two).analyse(radiograph(film))
    assert refusal.value.code == "no-spine"
    unseen = replace(doubtful, seen=LEVELS[:2])
    with pytest.raises(NotAnalysable, match="no column of vertebrae"):
        pipeline(unseen).analyse(radiograph(film))
    sure = pipeline(replace(two, sure=6.0)).analyse(radiograph(film))
    assert tuple(by_level(sure)) == LEVELS[:2]


def test_a_film_without_bodies_is_refused() -> None:
    film = column()
    oracle = Oracle(replace(film, vertebrae=()), seen=())
    with pytest.raises(NotAnalysable) as refusal:
        pipeline(oracle).analyse(radiograph(film))
    assert refusal.value.code == "no-spine"


def test_reports_follow_the_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    film = column()
    analysis = pipeline(Oracle(film)).analyse(radiograph(film))
    jsonschema.validate(analysis.report.to_dict(), json_schema())


def test_icons_are_refused() -> None:
    film = column()
    small = np.ascontiguousarray(film.pixels[::8, ::8])
    with pytest.raises(NotAnalysable) as refusal:
        pipeline(Oracle(film)).analyse(radiograph(film, pixels=small))
    assert refusal.value.code == "coverage"


def test_in_half_precision_the_view_and_the_detector_stay_as_they_are() -> None:
    film = column()
    plain = pipeline(Oracle(film))
    half = plain.in_half()
    halved = [item.name for item in half.bundles if isinstance(item.network, InHalfTheBits)]
    assert halved == ["radiograph-localise", "radiograph-points", "radiograph-acuity"]
    assert [item.name for item in half.bundles] == [item.name for item in plain.bundles]
    assert tuple(by_level(half.analyse(radiograph(film)))) == LEVELS
    # On a processor there is nothing to capture.
    assert [item.network for item in plain.in_graphs().bundles] == [item.network for item in plain.bundles]

"""Stitched films are read in parts, and what the parts say is told once, where it lies on the film."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import ndimage

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.inference import film as networks
from dicom_ai_node.inference.bundle import find_models_dir
from dicom_ai_node.inference.film import LevelMaps, OutlinedBody, SeenVertebra
from dicom_ai_node.networks.film_geometry import FittedMask, Frame, crop, fitting, into_crop
from dicom_ai_node.phantom import radiograph_acquisition
from dicom_ai_node.phantom.radiograph import render_radiograph, sample_radiograph_acquisition
from dicom_ai_node.phantom.spine import Spine, sample_spine
from dicom_ai_node.pipelines import film_parts
from dicom_ai_node.pipelines.film_label_map import film_label_map
from dicom_ai_node.pipelines.radiograph import RadiographPipeline
from dicom_ai_node.training.films import film_of_truth
from tests.e2e.running_node import needs_models
from tests.pipelines.film_oracle import radiograph

SHAPE = (1500, 300)
TOPS = range(20, 1460, 48)
BUNDLE: Any = SimpleNamespace()
"""The networks are stood in for by what finds every bright body of the picture that it is given."""


def long_film() -> npt.NDArray[np.float32]:
    """Thirty bodies of 36 x 60 pixels, 48 rows apart."""
    pixels = np.full(SHAPE, 0.2, dtype=np.float32)
    for top in TOPS:
        pixels[top : top + 36, 120:180] = 0.9
    return pixels


def boxes_in(pixels: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float64]]:
    places = ndimage.find_objects(ndimage.label(pixels > 0.5)[0])
    return [np.array([rows.start, cols.start, rows.stop - 1, cols.stop - 1], float) for rows, cols in places]


def mask_of(film: npt.NDArray[np.float32]) -> FittedMask:
    """Of a picture of one pixel that shows the whole film."""
    return FittedMask(np.zeros((1, 1), np.float32), Frame(*fitting((film.shape[0], film.shape[1]), (1, 1))))


@pytest.fixture
def seeing(monkeypatch: pytest.MonkeyPatch) -> None:
    def detect(_bundle: Any, film: npt.NDArray[np.float32], *, score: float) -> list[SeenVertebra]:
        assert score == 0.3
        # What is cut off looks less like a body.
        return [
            SeenVertebra(box, 0.5 + (box[2] - box[0]) / 100, {}, 0.1, mask_of(film)) for box in boxes_in(film)
        ]

    def localise(_bundle: Any, film: npt.NDArray[np.float32]) -> tuple[LevelMaps, list[OutlinedBody]]:
        size = (film.shape[0] // 4, film.shape[1] // 4)
        center, matrix = fitting((film.shape[0], film.shape[1]), size)
        heatmaps = torch.zeros(1, *size)
        for box in boxes_in(film):
            middle = torch.tensor(box[:2] + box[2:], dtype=torch.float32)[None] / 2
            row, column = into_crop(middle, center, matrix, size)[0].round().long().tolist()
            heatmaps[0, row, column] = 0.8
        outlined = [OutlinedBody(box, 0.9, mask_of(film)) for box in boxes_in(film)]
        return LevelMaps((Level.L1,), heatmaps, center, matrix), outlined

    monkeypatch.setattr(networks, "detect", detect)
    monkeypatch.setattr(networks, "localise", localise)


@pytest.mark.parametrize(
    ("shape", "row_mm", "parts"),
    [
        ((1700, 1000), None, 1),
        ((2900, 1000), 0.15, 1),  # 435 mm: one exposure, shuttered narrowly
        ((2900, 1000), 0.3, 3),
        ((2900, 1000), None, 3),
        ((1000, 2900), 0.3, 1),
        ((9000, 500), 0.14, 5),
    ],
)
def test_only_films_longer_than_any_exposure_are_parted(
    shape: tuple[int, int], row_mm: float | None, parts: int
) -> None:
    found = film_parts.parts_of(shape, row_mm)
    assert len(found) == parts
    assert (found[0][0], found[-1][1]) == (0, shape[0])
    for upper, lower in pairwise(found):
        assert upper[1] - lower[0] >= 0.35 * (upper[1] - upper[0])


@pytest.mark.usefixtures("seeing")
def test_every_body_is_told_once_and_whole() -> None:
    film = long_film()
    parts = film_parts.parts_of(SHAPE, None)
    assert len(parts) > 2
    wanted = [[top, 120, top + 35, 179] for top in TOPS]
    seen = film_parts.detect(BUNDLE, film, parts, score=0.3)
    assert sorted(item.box.tolist() for item in seen) == wanted
    for item in seen:
        assert item.mask is not None
        # The middle of a part that shows all of the body.
        middle = float(item.mask.frame.center[0])
        assert (middle + 0.5) * 2 in {sum(part) for part in parts}
        assert abs(item.center[0] - middle) < (parts[0][1] - parts[0][0]) / 2 - 17
    maps, outlined = film_parts.localise(BUNDLE, film, parts)
    # From head to tail, as the networks answer of one film.
    assert [item.box.tolist() for item in outlined] == wanted
    peaks = sorted(float(place[0]) for place, _ in maps.peaks(0.5))
    assert peaks == pytest.approx([top + 17.5 for top in TOPS], abs=4)
    for top in TOPS:
        assert maps.evidence(np.array([top + 17.5, 149.5]), 10.0)[0] == pytest.approx(0.8)
        assert maps.evidence(np.array([top + 41.5, 149.5]), 10.0)[0] == 0.0


@pytest.mark.usefixtures("seeing")
def test_a_film_of_one_part_is_answered_as_before() -> None:
    film = long_film()[:400]
    parts = film_parts.parts_of((400, 300), None)
    assert parts == ((0, 400),)
    (first, *_) = film_parts.detect(BUNDLE, film, parts, score=0.3)
    assert first.box.tolist()[1] == 120
    assert isinstance(film_parts.localise(BUNDLE, film, parts)[0], LevelMaps)


def test_a_mask_of_a_part_lies_where_the_part_does() -> None:
    film, rows = long_film(), (700, 1180)
    body = np.array([740.0, 120, 775, 179])
    only = np.zeros(SHAPE, np.float32)
    only[740:776, 120:180] = 1.0
    size = (240, 150)
    center, matrix = fitting((480, 300), size)
    mask = crop(only[slice(*rows)], center, matrix, size).numpy()
    fitted = FittedMask(mask, Frame(center, matrix).below(rows[0]))
    labels = film_label_map({Level.L1: (fitted, body, None)}, SHAPE)
    found = labels == verse_label(Level.L1)
    true = (film > 0.5) & (only > 0)
    assert 2 * (found & true).sum() / (found.sum() + true.sum()) > 0.97


@needs_models
def test_a_stitched_film_of_the_whole_spine_is_read_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def from_the_skull_to_the_hips(spine: Spine, _generator: Any) -> tuple[float, float]:
        heights = {item.level: float(item.frame[2, 3]) for item in spine.vertebrae}
        return max(heights.values()) + 60.0, heights[Level.S1] - 120.0

    monkeypatch.setattr(radiograph_acquisition, "_levels", from_the_skull_to_the_hips)
    spine = sample_spine(311)
    made = render_radiograph(spine, sample_radiograph_acquisition(311, spine, max_pixels=500_000))
    film = film_of_truth("stitched", made.shown, made.truth)
    assert film.pixels.shape[0] > 3 * film.pixels.shape[1]
    pipeline = RadiographPipeline.load(find_models_dir(None), torch.device("cpu"))
    analysis = pipeline.analyse(radiograph(film, spacing=None))
    true = {item.level: item.box for item in film.vertebrae}
    right = []
    for item in analysis.report:
        assert item.box_px is not None
        middle = [sum(item.box_px.rows) / 2, sum(item.box_px.columns) / 2]
        box = true[item.level]
        if (box[:2] < middle).all() and (middle < box[2:]).all():
            right.append(item.level)
    # T4 to L5 are fourteen.
    assert len(right) >= 13, right

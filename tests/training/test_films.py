"""Films: kept, read from others' folders, cut without losing their truth."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator
from torchvision.io import write_png

from dicom_ai_node.anatomy import Level
from dicom_ai_node.errors import ConfigurationError, UnreadableInstance
from dicom_ai_node.networks.film_geometry import crop, into_crop, out_of_crop
from dicom_ai_node.report import SIX_POINT_NAMES
from dicom_ai_node.training.film_augment import PLAIN, FilmLook, pose, vary_film
from dicom_ai_node.training.film_folders import leave_one_patient_out, load_coco, load_labelme, load_vcfnet
from dicom_ai_node.training.films import (
    film_of_truth,
    load_films,
    polygon_mask,
    save_film,
)
from tests.training.drawn_films import box_outline, drawn_film


def _image(folder: Path, name: str = "film.png") -> None:
    write_png((torch.arange(40 * 30) % 255).to(torch.uint8).reshape(1, 40, 30), str(folder / name))


def test_film_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    film = drawn_film(1)
    save_film(film, tmp_path)
    (found,) = load_films(tmp_path)
    np.testing.assert_array_equal(found.pixels, film.pixels)
    assert (found.name, found.view, found.spacing_mm) == (film.name, film.view, film.spacing_mm)
    for first, second in zip(found.vertebrae, film.vertebrae, strict=True):
        np.testing.assert_array_equal(first.outline, second.outline)
        np.testing.assert_array_equal(first.six_points, second.six_points)
        assert (first.level, first.grade, first.acuity) == (second.level, second.grade, second.acuity)


def test_folder_without_films_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no film"):
        load_films(tmp_path)


def test_labelme_polygons_turn_into_rows_and_columns(tmp_path: Path) -> None:
    _image(tmp_path)
    shapes = [
        {"label": "L1 fracture", "shape_type": "polygon", "points": [[5, 10], [20, 10], [20, 18], [5, 18]]},
        {"label": "T12", "shape_type": "polygon", "points": [[5, 1], [20, 1], [20, 8], [5, 8]]},
    ]
    (tmp_path / "film.json").write_text(json.dumps({"imagePath": "film.png", "shapes": shapes}))
    (film,) = load_labelme(tmp_path)
    assert film.pixels.shape == (40, 30)
    assert [(v.level, v.fractured) for v in film.vertebrae] == [(Level.T12, False), (Level.L1, True)]
    # Edges of pixels there, centres here: 15 x 8 pixels are covered.
    np.testing.assert_allclose(film.vertebrae[1].box, [9.5, 4.5, 17.5, 19.5])
    assert polygon_mask(film.vertebrae[1].outline, (40, 30)).sum() == 15 * 8
    assert all(v.fractured for v in load_labelme(tmp_path, fractured_unless_said=True)[0].vertebrae)


def test_coco_takes_the_largest_polygon_of_a_body(tmp_path: Path) -> None:
    _image(tmp_path)
    content = {
        "images": [{"id": 7, "file_name": "film.png"}],
        "categories": [{"id": 3, "name": "L2_acute"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3,
             "segmentation": [[0, 0, 2, 0, 2, 2], [4, 6, 24, 6, 24, 16, 4, 16]]},
        ],
    }  # fmt: skip
    (tmp_path / "coco.json").write_text(json.dumps(content))
    (film,) = load_coco(tmp_path / "coco.json", tmp_path)
    (vertebra,) = film.vertebrae
    assert (vertebra.level, vertebra.fractured, vertebra.acuity) == (Level.L2, True, "acute")
    np.testing.assert_allclose(vertebra.box, [5.5, 3.5, 15.5, 23.5])


@pytest.mark.parametrize("label", ["fracture", "L9", "vertebra L1"])
def test_label_without_a_level_is_refused(tmp_path: Path, label: str) -> None:
    _image(tmp_path)
    shapes = [{"label": label, "points": [[0, 0], [4, 0], [4, 4]]}]
    (tmp_path / "film.json").write_text(json.dumps({"imagePath": "film.png", "shapes": shapes}))
    with pytest.raises(ConfigurationError, match="names no vertebral level"):
        load_labelme(tmp_path)


def test_image_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "1-Acute-1-70-F.png").write_bytes(b"not a picture")
    with pytest.raises(UnreadableInstance, match="1-Acute-1-70-F"):
        load_vcfnet(tmp_path)


def test_vcfnet_tells_level_acuity_and_whose_it_may_be(shared_data: Path) -> None:
    films = load_vcfnet(shared_data / "xray" / "vcfnet")
    assert len(films) == 15
    acuities = [film.vertebrae[0].acuity for film in films]
    assert {name: acuities.count(name) for name in set(acuities)} == {
        "acute": 5,
        "chronic": 5,
        "pathologic": 5,
    }
    by_name = {film.name: film for film in films}
    assert by_name["vcfnet-9"].vertebrae[0].level is Level.T12
    assert by_name["vcfnet-4"].vertebrae[0].level is Level.L4
    # The same age, sex and level twice: they may be one person, and are never parted.
    assert by_name["vcfnet-582"].group == by_name["vcfnet-583"].group
    folds = list(leave_one_patient_out(films))
    assert sum(len(held_out) for _, held_out in folds) == 15
    for training, held_out in folds:
        assert not {film.group for film in training} & {film.group for film in held_out}


def test_polygon_mask_holds_the_pixels_whose_centre_is_inside() -> None:
    mask = polygon_mask(box_outline(1.5, 2.5, 4.5, 6.5), (8, 9))
    expected = np.zeros((8, 9), dtype=bool)
    expected[2:5, 3:7] = True
    np.testing.assert_array_equal(mask, expected)
    # A polygon that leaves the image keeps what is inside.
    assert polygon_mask(box_outline(-5, -5, 2.5, 3.5), (8, 9)).sum() == 3 * 4
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    disc = np.stack([50 + 30 * np.sin(angle), 50 + 30 * np.cos(angle)], axis=1)
    assert polygon_mask(disc, (100, 100)).sum() == pytest.approx(np.pi * 900, rel=0.01)


def test_crop_places_are_those_of_the_film_and_back() -> None:
    generator = Generator().manual_seed(2)
    for edge in (0.6, 1.0, 3.7):
        pixels = np.zeros((200, 160), np.uint16)
        pixels[90:97, 60:67] = 1000
        matrix, center = pose(generator, 40) * edge, torch.tensor([88.0, 70.0])
        image = crop(pixels, center, matrix, (48, 48))
        spot = torch.tensor([[93.0, 63.0]])
        place = into_crop(spot, center, matrix, (48, 48))
        rows, columns = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
        centroid = torch.stack([(image * axis).sum() / image.sum() for axis in (rows, columns)])
        torch.testing.assert_close(centroid, place[0], atol=0.3, rtol=0)
        torch.testing.assert_close(out_of_crop(place, center, matrix, (48, 48)), spot)


def test_changed_films_stay_between_black_and_white() -> None:
    generator = Generator().manual_seed(1)
    everything = FilmLook(gamma=1, window=1, shade=1, blur=1, noise=1, inverted=0.5)
    image = torch.from_numpy(drawn_film(0).pixels)
    seen = set()
    for _ in range(8):
        changed = vary_film(generator, image, everything)
        assert changed.shape == image.shape
        assert 0 <= float(changed.min()) <= float(changed.max()) <= 1
        seen.add(float(changed.mean()))
    assert len(seen) == 8


def test_a_smeared_film_is_blurred_from_head_to_foot_alone() -> None:
    look = replace(PLAIN, smear=1.0)
    stripes = (torch.arange(40) // 10 % 2).float()
    upright, lying = stripes.expand(40, 40), stripes[:, None].expand(40, 40)
    torch.testing.assert_close(vary_film(torch.Generator().manual_seed(1), upright, look), upright)
    smeared = vary_film(torch.Generator().manual_seed(1), lying, look)
    assert float((smeared - lying).abs().max()) > 0.2
    torch.testing.assert_close(smeared, smeared[:, :1].expand(40, 40))


def test_truth_of_the_phantom_becomes_a_film() -> None:
    points = {name: [10.0 + number, 20.0 + number] for number, name in enumerate(SIX_POINT_NAMES)}
    entry = {
        "level": "L1", "visible": 0.9, "fractured": True, "genant_grade": 2, "deformity": "wedge",
        "projection": {"outline_px": [[2, 1], [2, 5], [9, 5], [9, 1]], "six_points_px": points},
    }  # fmt: skip
    image = {"view": "lateral", "pixel_mm": 0.3, "magnification": 1.2}
    film = film_of_truth("a", np.zeros((30, 20)), {"image": image, "vertebrae": [entry]})
    assert film.spacing_mm == pytest.approx(0.25)
    (vertebra,) = film.vertebrae
    np.testing.assert_array_equal(vertebra.box, [2, 1, 9, 5])
    assert vertebra.six_points is not None
    np.testing.assert_array_equal(vertebra.six_points[2], [12, 22])
    frontal = {"image": image | {"view": "frontal"}, "vertebrae": [entry]}
    assert film_of_truth("b", np.zeros((30, 20)), frontal).view == "frontal-spine"

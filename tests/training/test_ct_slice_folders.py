"""Slices of others: a COCO file beside PNG, NIfTI and NumPy images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
import torch
from torchvision.io import write_png

from dicom_ai_node.commands.ct_slice_data import labelled_slices
from dicom_ai_node.errors import ConfigurationError, UnreadableInstance
from dicom_ai_node.training.ct_slice_folders import load_labelled_slices
from dicom_ai_node.training.ct_slices import save_slices
from tests.training.drawn_slices import drawn_slice

IMAGE = np.arange(40 * 30, dtype=np.int16).reshape(40, 30) - 500


def _coco(
    folder: Path, images: list[dict[str, Any]], boxes: list[tuple[int, str, list[float]]], **more: Any
) -> None:
    names = more.get("names", ["vertebra", "OVCF", "OF", "SN", "KD", "PS", "normal"])
    (folder / "boxes.json").write_text(
        json.dumps(
            {
                "images": images,
                "categories": [{"id": k, "name": name} for k, name in enumerate(names)],
                "annotations": [
                    {"id": k, "image_id": image, "category_id": names.index(name), "bbox": box}
                    for k, (image, name, box) in enumerate(boxes)
                ],
            }
        )
    )


def _archive(folder: Path, name: str = "a.npz") -> dict[str, Any]:
    np.savez(folder / name, image=IMAGE, spacing_mm=[0.5, 0.4])
    return {"id": 1, "file_name": name}


def test_boxes_of_one_body_are_one_body_with_all_its_diseases(tmp_path: Path) -> None:
    _coco(
        tmp_path,
        [_archive(tmp_path)],
        [
            (1, "OVCF", [4, 20, 12, 9]),
            (1, "vertebra", [5, 2, 10, 10]),
            (1, "vertebra", [5, 20, 10, 10]),
            (1, "KD", [5, 21, 9, 8]),
        ],
    )
    (one,) = load_labelled_slices(tmp_path)
    np.testing.assert_array_equal(one.image, IMAGE)
    assert one.spacing_mm == (0.5, 0.4)
    assert one.boxes.tolist() == [[5, 2, 15, 12], [5, 20, 15, 30]]
    assert one.diseases.tolist() == [[0, 0, 0, 0, 0], [1, 0, 0, 1, 0]]


def test_without_categories_of_disease_nothing_is_known_of_them(tmp_path: Path) -> None:
    _coco(tmp_path, [_archive(tmp_path)], [(1, "vertebra", [5, 2, 10, 10])], names=["vertebra"])
    (one,) = load_labelled_slices(tmp_path)
    assert one.diseases.tolist() == [[-1] * 5]
    assert one.levels == ("",)


def test_images_on_which_the_ill_alone_have_boxes_teach_no_detector(tmp_path: Path) -> None:
    _coco(tmp_path, [_archive(tmp_path)], [(1, "PS", [5, 2, 10, 10])])
    with pytest.raises(ConfigurationError, match="healthy bodies the category vertebra"):
        load_labelled_slices(tmp_path)
    (one,) = load_labelled_slices(tmp_path, every_body=False)
    assert one.diseases.tolist() == [[0, 0, 0, 0, 1]]


def test_png_of_16_bits_holds_hu_and_of_8_bits_a_window(tmp_path: Path) -> None:
    SimpleITK.WriteImage(
        SimpleITK.GetImageFromArray((IMAGE + 1024).astype(np.uint16)), str(tmp_path / "a.png")
    )
    write_png(torch.tensor([[[0, 255], [51, 102]]], dtype=torch.uint8), str(tmp_path / "b.png"))
    entries = [
        {"id": 1, "file_name": "a.png", "spacing_mm": [1, 2]},
        {"id": 2, "file_name": "b.png", "spacing_mm": [1, 1], "window_hu": [-300, 1000]},
    ]
    _coco(tmp_path, entries, [])
    first, second = load_labelled_slices(tmp_path)
    np.testing.assert_array_equal(first.image, IMAGE)
    assert first.spacing_mm == (1.0, 2.0)
    assert second.image.tolist() == [[-300, 1000], [-40, 220]]
    _coco(tmp_path, [entries[1] | {"window_hu": None}], [])
    with pytest.raises(ConfigurationError, match="window_hu"):
        load_labelled_slices(tmp_path)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_nifti_slice_lies_as_in_its_file(tmp_path: Path, dimensions: int) -> None:
    made = SimpleITK.GetImageFromArray(IMAGE if dimensions == 2 else IMAGE[:, :, None])
    made.SetSpacing((0.4, 0.5) if dimensions == 2 else (3.0, 0.4, 0.5))
    SimpleITK.WriteImage(made, str(tmp_path / "a.nii.gz"))
    _coco(tmp_path, [{"id": 1, "file_name": "a.nii.gz"}], [(1, "vertebra", [5, 2, 10, 10])])
    (one,) = labelled_slices(tmp_path)
    np.testing.assert_array_equal(one.image, IMAGE)
    assert one.spacing_mm == pytest.approx((0.5, 0.4))


def test_volume_is_no_slice(tmp_path: Path) -> None:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((3, 4, 5), np.int16)), str(tmp_path / "a.nii"))
    _coco(tmp_path, [{"id": 1, "file_name": "a.nii"}], [])
    with pytest.raises(UnreadableInstance, match="no single slice"):
        labelled_slices(tmp_path)


def test_patient_is_told_by_the_entry_or_the_folder_of_the_image(tmp_path: Path) -> None:
    (tmp_path / "p1").mkdir()
    entries = [
        _archive(tmp_path, "p1/a.npz"),
        _archive(tmp_path, "p1/b.npz") | {"id": 2},
        _archive(tmp_path, "c.npz") | {"id": 3, "patient": "p9"},
        _archive(tmp_path, "d.npz") | {"id": 4},
    ]
    _coco(tmp_path, entries, [])
    found = load_labelled_slices(tmp_path)
    assert [one.name for one in found] == ["p1-000", "p1-001", "p9-000", "d-000"]


@pytest.mark.parametrize(
    ("box", "name", "words"),
    [([1, 2, 0, 5], "vertebra", "empty"), ([1, 2], "vertebra", "no bbox"), ([1, 2, 3, 4], "rib", "unknown")],
)
def test_what_is_wrong_is_named(tmp_path: Path, box: list[float], name: str, words: str) -> None:
    _coco(tmp_path, [_archive(tmp_path)], [(1, name, box)], names=[name])
    with pytest.raises(ConfigurationError, match=words):
        load_labelled_slices(tmp_path)


def test_folder_of_kept_slices_is_read_and_an_empty_one_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no slices"):
        load_labelled_slices(tmp_path)
    save_slices([drawn_slice(1)], tmp_path)
    assert len(load_labelled_slices(tmp_path)) == 1

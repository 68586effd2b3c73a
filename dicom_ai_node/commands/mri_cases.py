"""Labelled real MR as cases: ``case-*.npz``, or NIfTI with one mask per body and a manifest.

The manifest is a list of ``{"id": "VB2_02", "labels": "label 1 = L5 ... 7 = T11"}``: label 1 is the lowest
body, the next ones follow upwards; ``<id>_img.nii.gz`` and ``<id>_seg.nii.gz`` lie beside it. Entries whose
files are not there are passed over, so that a folder may hold a part of a set.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from dicom_ai_node.anatomy import USUAL_LEVELS, Level, verse_label
from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.imaging.nifti import read_nifti, turned_to
from dicom_ai_node.imaging.resample import SAGITTAL_AXES
from dicom_ai_node.training.mri_cases import UNLABELLED, MrCase, as_int16
from dicom_ai_node.training.mri_recipes import load_mr_cases

_MARGIN_MM: Final = 2.0
"""How far beyond the outermost labelled bodies labels are still complete."""


def labelled_cases(folder: Path) -> list[MrCase]:
    """The cases of a folder, by name.

    Raises:
        ConfigurationError: it holds none, or a manifest that cannot be understood.
        UnreadableInstance: an image cannot be read.
    """
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        return load_mr_cases(folder)
    cases = []
    for entry in json.loads(manifest.read_text("utf-8")):
        image, labels = (folder / f"{entry['id']}_{kind}.nii.gz" for kind in ("img", "seg"))
        if image.is_file() and labels.is_file():
            cases.append(nifti_case(entry["id"], image, labels, lowest_level(str(entry["labels"]))))
    if not cases:
        raise ConfigurationError(f"{manifest} names no image that lies beside it")
    return sorted(cases, key=lambda case: case.name)


def lowest_level(text: str) -> Level:
    """The level of label 1, from words such as "label 1 = S1, 2 = L5 ... upward".

    Raises:
        ConfigurationError: the words name none.
    """
    found = re.search(r"\b1 = ([CTLS]\d+)", text)
    if found is None or found[1] not in {level.value for level in USUAL_LEVELS}:
        raise ConfigurationError(f"manifest.json: {text!r} does not say which level label 1 is")
    return Level(found[1])


def nifti_case(name: str, image_file: Path, labels_file: Path, lowest: Level) -> MrCase:
    """One image with its labels; pixels beyond the labelled column are `UNLABELLED`."""
    image, affine = read_nifti(image_file)
    numbers, _ = read_nifti(labels_file)
    (image, numbers), affine = turned_to([image, numbers], affine, SAGITTAL_AXES)
    labels = np.zeros(numbers.shape, dtype=np.uint8)
    vertebrae: list[dict[str, Any]] = []
    present = [int(number) for number in np.unique(numbers) if number]
    places = {n: np.argwhere(numbers == n) @ affine[:3, :3].T + affine[:3, 3] for n in present}
    centers = {n: points.mean(axis=0) for n, points in places.items()}
    for number in reversed(present):
        level = USUAL_LEVELS[USUAL_LEVELS.index(lowest) - (number - 1)]
        labels[numbers == number] = verse_label(level)
        superior = _up(number, centers)
        vertebrae.append(
            {
                "level": level.value,
                "center_mm": centers[number].tolist(),
                "six_points": None,
                "axes": {"superior": superior.tolist()},
                "fractured": False,
            }
        )
    labels[(labels == 0) & ~_labelled_part(labels.shape, affine, places, centers)] = UNLABELLED
    return MrCase(name, as_int16(image), torch.from_numpy(labels), affine, {"vertebrae": vertebrae})


def _up(number: int, centers: dict[int, npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """From the neighbour below to the one above, or as far as there are neighbours."""
    upper, lower = centers.get(number + 1, centers[number]), centers.get(number - 1, centers[number])
    step = upper - lower
    length = float(np.linalg.norm(step))
    return step / length if length > 0 else np.array([0.0, 0.0, 1.0])


def _labelled_part(
    shape: tuple[int, ...],
    affine: npt.NDArray[np.float64],
    places: dict[int, npt.NDArray[np.float64]],
    centers: dict[int, npt.NDArray[np.float64]],
) -> npt.NDArray[np.bool_]:
    """Between the ends of the labelled column: bodies above and below are real, but nobody labelled them.

    The ends are planes across the column, a little beyond the outermost labelled voxels.
    """
    inside = np.ones(shape, dtype=bool)
    numbers = sorted(centers)
    if len(numbers) < 2:
        return inside
    grid = np.moveaxis(np.indices(shape, dtype=np.float32), 0, -1)
    for end, inner in ((numbers[0], numbers[1]), (numbers[-1], numbers[-2])):
        outwards = centers[end] - centers[inner]
        outwards /= np.linalg.norm(outwards)
        limit = float((places[end] @ outwards).max()) + _MARGIN_MM
        along = grid @ (affine[:3, :3].T @ outwards).astype(np.float32) + float(affine[:3, 3] @ outwards)
        inside &= along <= limit
    return inside

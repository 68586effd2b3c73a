"""Labelled CT of others: ``case-*.npz``, or a folder in VerSe's layout (image, mask, centroids).

Below the folder, wherever they lie (VerSe parts them into ``rawdata`` and ``derivatives``):

- ``<name>_ct.nii.gz``: the image in HU;
- ``<name>_seg-vert_msk.nii.gz``: whole vertebrae, 1 C1 ... 24 L5, 25 L6, 26 sacrum, 28 T13;
- ``<name>_seg-subreg_ctd.json``: centres of the bodies in voxels, after the directions that it names;
- ``fractures.csv``, if there is one: ``name,level,grade`` with Genant grades. VerSe has its gradings in a
  table of its own; where none is given, no body counts as fractured.

Masks lose their arches (`training.whole_vertebrae`): our networks draw bodies.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from dicom_ai_node.anatomy import LEVELS, Level, level_of_verse_label, verse_label
from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.imaging.nifti import read_nifti
from dicom_ai_node.imaging.resample import isotropic_grid, resample_labels_to, resample_to_grid
from dicom_ai_node.training.cases import Case, load_cases
from dicom_ai_node.training.whole_vertebrae import axes_along, body_of_vertebra

Floats = npt.NDArray[np.float64]

_IMAGE, _MASK, _CENTROIDS, _GRADES = (
    "_ct.nii.gz",
    "_seg-vert_msk.nii.gz",
    "_seg-subreg_ctd.json",
    "fractures.csv",
)
_TO_LPS: Final[Mapping[str, Floats]] = {
    "L": np.array([1.0, 0.0, 0.0]),
    "R": np.array([-1.0, 0.0, 0.0]),
    "P": np.array([0.0, 1.0, 0.0]),
    "A": np.array([0.0, -1.0, 0.0]),
    "S": np.array([0.0, 0.0, 1.0]),
    "I": np.array([0.0, 0.0, -1.0]),
}


def labelled_ct(folder: Path, spacing_mm: float) -> list[Case]:
    """The cases of a folder, in the order of their names; VerSe's on cubic voxels of `spacing_mm`.

    Raises:
        ConfigurationError: it holds none, or a file that does not fit the others.
        UnreadableInstance: an image cannot be read.
    """
    masks = sorted(folder.rglob(f"*{_MASK}"))
    if not masks:
        return load_cases(folder)
    files = {path.name: path for path in folder.rglob("*") if path.is_file()}
    grades = _grades(files[_GRADES]) if _GRADES in files else {}
    cases = []
    for mask in masks:
        name = mask.name.removesuffix(_MASK)
        missing = [name + ending for ending in (_IMAGE, _CENTROIDS) if name + ending not in files]
        if missing:
            raise ConfigurationError(f"{mask} has no {' and no '.join(missing)} below {folder}")
        cases.append(
            _case(
                name, files[name + _IMAGE], mask, files[name + _CENTROIDS], grades.get(name, {}), spacing_mm
            )
        )
    return cases


def centroids_mm(path: Path, shape: tuple[int, ...], affine: Floats) -> dict[Level, Floats]:
    """Centres of the bodies in LPS millimetres, head to tail.

    Args:
        path: VerSe's: ``[{"direction": ["P", "I", "R"]}, {"label": 20, "X": 1.0, ...}, ...]``; X, Y, Z
            are voxels of the image turned so that its first axis runs to P, its second to I, its third to R.
        shape: of the image's array.
        affine: 4x4, its index to LPS millimetres.

    Raises:
        ConfigurationError: the file is of another form.
    """
    try:
        first, *entries = json.loads(path.read_text("utf-8"))
        wanted = np.stack([_TO_LPS[letter] for letter in first["direction"]], axis=1)
        places = {
            level_of_verse_label(int(entry["label"])): np.array([float(entry[k]) for k in "XYZ"])
            for entry in entries
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{path} does not list centroids as VerSe does: a direction, then label, X, Y, Z each ({error})"
        ) from error
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    likeness = wanted.T @ directions
    axes = np.abs(likeness).argmax(axis=1)
    answer = {}
    for level in sorted(places, key=LEVELS.index):
        index = np.zeros(3)
        for letter, axis in enumerate(axes):
            along = places[level][letter]
            index[axis] = along if likeness[letter, axis] > 0 else shape[axis] - 1 - along
        answer[level] = affine[:3, :3] @ index + affine[:3, 3]
    return answer


def _case(  # noqa: PLR0917 - the files of one case
    name: str, image: Path, mask: Path, centroids: Path, grades: Mapping[Level, int], spacing_mm: float
) -> Case:
    voxels, affine = read_nifti(image)
    labels, its_affine = read_nifti(mask)
    if labels.shape != voxels.shape or np.abs(its_affine - affine).max() > 0.1:
        raise ConfigurationError(f"{mask} does not lie on the grid of {image.name}")
    centers = centroids_mm(centroids, labels.shape, affine)
    axes = axes_along({LEVELS.index(level): center for level, center in centers.items()})
    bodies = np.zeros(labels.shape, dtype=np.uint8)
    vertebrae: list[dict[str, Any]] = []
    for level, center in centers.items():
        own = axes[LEVELS.index(level)]
        body = body_of_vertebra(labels == verse_label(level), affine, center, own)
        if not body.any():
            continue
        bodies[body] = verse_label(level)
        grade = grades.get(level, 0)
        vertebrae.append(
            {
                "level": level.value,
                "center_mm": center.tolist(),
                "axes": dict(zip(("left", "posterior", "superior"), own.tolist(), strict=True)),
                "six_points": None,
                "heights_mm": None,
                "fractured": grade > 0,
                "genant_grade": grade,
            }
        )
    if not vertebrae:
        raise ConfigurationError(f"{mask} shows none of the vertebrae that {centroids.name} lists")
    grid, size = isotropic_grid(affine, voxels.shape, spacing_mm)
    resampled = resample_to_grid(voxels.astype(np.float32), affine, grid, size)
    return Case(
        name,
        resampled.round().clamp(-32768, 32767).to(torch.int16),
        torch.from_numpy(resample_labels_to(bodies, affine, size, grid)),
        grid,
        {"vertebrae": vertebrae},
    )


def _grades(path: Path) -> dict[str, dict[Level, int]]:
    """Case -> level -> Genant grade."""
    answer: dict[str, dict[Level, int]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                answer.setdefault(row["name"].strip(), {})[Level(row["level"].strip())] = int(row["grade"])
    except (KeyError, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"{path} has no columns name, level, grade with levels as L1 ({error})"
        ) from error
    return answer

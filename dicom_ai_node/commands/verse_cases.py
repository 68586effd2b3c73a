"""Labelled CT of others: ``case-*.npz``, or a folder in VerSe's layout (image, mask, centroids).

Below the folder, wherever they lie (VerSe parts them into ``rawdata`` and ``derivatives``):

- ``<name>_ct.nii.gz``: the image in HU;
- ``<name>_seg-vert_msk.nii.gz``: whole vertebrae, 1 C1 ... 24 L5, 25 L6, 26 sacrum, 28 T13;
- ``<name>_seg-subreg_ctd.json``: centres of the bodies in voxels, after the directions that it names;
- ``fractures.csv``, if there is one: ``name,level,grade`` with Genant grades. VerSe has its gradings in a
  table of its own; where none is given, no body counts as fractured in training, and
  `evaluate ct-volume` tells nothing of grades.

Masks lose their arches (`training.whole_vertebrae`): our networks draw bodies.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from dicom_ai_node.anatomy import LEVELS, Level, level_of_verse_label, verse_label
from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.imaging.nifti import read_nifti, turned_to
from dicom_ai_node.imaging.resample import LPS_AXES, isotropic_grid, resample_labels_to, resample_to_grid
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


@dataclass(frozen=True)
class LabelledScan:
    """One labelled CT as it was scanned.

    Attributes:
        name: of the case.
        hu: int16, shape (slices, rows, columns); slices run to superior, rows to posterior, columns to the
            left, as far as the scan's own axes do.
        labels: uint8 VerSe numbers of bodies, same shape.
        affine: 4x4, index to LPS millimetres.
        vertebrae: what is known of each, with the phantom's keys; `extent_mm`: two opposite corners of the
            body's box along the scan's axes, where its points are not known.
    """

    name: str
    hu: npt.NDArray[np.int16]
    labels: npt.NDArray[np.uint8]
    affine: Floats
    vertebrae: Sequence[Mapping[str, Any]]


def labelled_ct(folder: Path, spacing_mm: float) -> list[Case]:
    """The cases of a folder, in the order of their names; VerSe's on cubic voxels of `spacing_mm`.

    Raises:
        ConfigurationError: it holds none, or a file that does not fit the others.
        UnreadableInstance: an image cannot be read.
    """
    if next(folder.rglob(f"*{_MASK}"), None) is None:
        return load_cases(folder)
    return [_on_cubic_voxels(scan, spacing_mm) for scan in _verse_scans(folder)]


def labelled_scans(folder: Path) -> Iterator[LabelledScan]:
    """The labelled CT of a folder one by one, in the order of their names, on their own grids.

    Raises:
        ConfigurationError: it holds none, or a file that does not fit the others.
        UnreadableInstance: an image cannot be read.
    """
    if next(folder.rglob(f"*{_MASK}"), None) is not None:
        yield from _verse_scans(folder)
        return
    for case in load_cases(folder):
        known = [
            {"six_points": None, "heights_mm": None, "genant_grade": None, **item}
            for item in case.truth["vertebrae"]
        ]
        yield LabelledScan(case.name, case.voxels.numpy(), case.labels.numpy(), case.affine, known)


def _verse_scans(folder: Path) -> Iterator[LabelledScan]:
    masks = sorted(folder.rglob(f"*{_MASK}"))
    files = {path.name: path for path in folder.rglob("*") if path.is_file()}
    grades = _grades(files[_GRADES]) if _GRADES in files else None
    for mask in masks:
        name = mask.name.removesuffix(_MASK)
        missing = [name + ending for ending in (_IMAGE, _CENTROIDS) if name + ending not in files]
        if missing:
            raise ConfigurationError(f"{mask} has no {' and no '.join(missing)} below {folder}")
        own = None if grades is None else grades.get(name, {})
        yield _scan(name, files[name + _IMAGE], mask, files[name + _CENTROIDS], own)


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


def _scan(
    name: str, image: Path, mask: Path, centroids: Path, grades: Mapping[Level, int] | None
) -> LabelledScan:
    """One case; no grade is known of any body where `grades` is None, else of all: 0 unless they say so."""
    voxels, affine = read_nifti(image)
    labels, its_affine = read_nifti(mask)
    if labels.shape != voxels.shape or np.abs(its_affine - affine).max() > 0.1:
        raise ConfigurationError(f"{mask} does not lie on the grid of {image.name}")
    centers = centroids_mm(centroids, labels.shape, affine)
    (voxels, labels), affine = turned_to([voxels, labels], affine, LPS_AXES)
    axes = axes_along({LEVELS.index(level): center for level, center in centers.items()})
    bodies = np.zeros(labels.shape, dtype=np.uint8)
    vertebrae: list[dict[str, Any]] = []
    for level, center in centers.items():
        own = axes[LEVELS.index(level)]
        body = body_of_vertebra(labels == verse_label(level), affine, center, own)
        if not body.any():
            continue
        bodies[body] = verse_label(level)
        grade = None if grades is None else grades.get(level, 0)
        box = [[float(edge) for edge in edges] for edges in _box(body)]
        vertebrae.append(
            {
                "level": level.value,
                "center_mm": center.tolist(),
                "axes": dict(zip(("left", "posterior", "superior"), own.tolist(), strict=True)),
                "six_points": None,
                "heights_mm": None,
                "extent_mm": [(affine @ [*corner, 1.0])[:3].tolist() for corner in box],
                "fractured": bool(grade),
                "genant_grade": grade,
            }
        )
    if not vertebrae:
        raise ConfigurationError(f"{mask} shows none of the vertebrae that {centroids.name} lists")
    hu = np.clip(np.rint(voxels), -32768, 32767).astype(np.int16)
    return LabelledScan(name, hu, bodies, affine, vertebrae)


def _box(body: npt.NDArray[np.bool_]) -> tuple[Sequence[int], Sequence[int]]:
    """First and last voxel of a mask along each axis."""
    along = [np.flatnonzero(body.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    return [int(places[0]) for places in along], [int(places[-1]) for places in along]


def _on_cubic_voxels(scan: LabelledScan, spacing_mm: float) -> Case:
    grid, size = isotropic_grid(scan.affine, scan.hu.shape, spacing_mm)
    resampled = resample_to_grid(scan.hu.astype(np.float32), scan.affine, grid, size)
    return Case(
        scan.name,
        resampled.round().clamp(-32768, 32767).to(torch.int16),
        torch.from_numpy(resample_labels_to(scan.labels, scan.affine, size, grid)),
        grid,
        {"vertebrae": scan.vertebrae},
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

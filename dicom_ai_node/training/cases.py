"""One labelled CT as training sees it, and how it is kept on disk.

A case is a NumPy archive ``case-<name>.npz`` with `voxels` (int16 HU), `labels` (uint8, VerSe numbers of the
vertebral bodies), `affine` (float64 4x4) and `truth` (UTF-8 JSON as uint8: ``{"vertebrae": [...]}`` with the
phantom's keys). Arrays run head-ward, back-ward, left-ward: the affine takes (slice, row, column, 1) to LPS
millimetres and its direction is that of the LPS axes, slowest axis superior.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Generator, Tensor

from dicom_ai_node.anatomy import Level
from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.report import SIX_POINT_NAMES


@dataclass(frozen=True)
class LabelledVertebra:
    """The truth about one vertebra; places are voxel coordinates [slice, row, column] of its case.

    Attributes:
        level: which one.
        center: shape (3,).
        six_points: shape (6, 3) in the order of `report.SIX_POINT_NAMES`, or None (S1, cut off).
        axes: shape (3, 3), rows are the unit vectors left, posterior, superior of the body in voxel axes.
        fractured: Genant grade 1 or more.
        grade: Genant grade.
        heights_mm: anterior, middle, posterior, or None.
        beside: six points, shape (6, 3), in each of the parasagittal planes that the truth knows.
    """

    level: Level
    center: Tensor
    six_points: Tensor | None
    axes: Tensor
    fractured: bool
    grade: int
    heights_mm: tuple[float, float, float] | None
    beside: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Case:
    """One labelled CT with cubic voxels.

    Attributes:
        name: of the case; the same name is the same patient.
        voxels: int16 HU, shape (slices, rows, columns).
        labels: uint8 VerSe numbers of bodies, same shape.
        affine: 4x4, index to LPS millimetres.
        truth: the phantom's truth.
    """

    name: str
    voxels: Tensor
    labels: Tensor
    affine: npt.NDArray[np.float64]
    truth: Mapping[str, Any]

    def generator(self) -> Generator:
        """Random numbers of this case's own: a test of it is the same whatever other cases are tested."""
        return Generator().manual_seed(zlib.crc32(self.name.encode()))

    @property
    def spacing_mm(self) -> float:
        """Edge of a voxel."""
        return float(np.linalg.norm(self.affine[:3, 0]))

    def index(self, points_mm: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """LPS millimetres, shape (..., 3), as voxel coordinates."""
        inverse = np.linalg.inv(self.affine)
        answer: npt.NDArray[np.float64] = (
            np.asarray(points_mm, dtype=np.float64) @ inverse[:3, :3].T + inverse[:3, 3]
        )
        return answer

    @cached_property
    def vertebrae(self) -> tuple[LabelledVertebra, ...]:
        """The vertebrae whose centre lies inside the case, from head to tail."""
        found = (self._vertebra(entry) for entry in self.truth["vertebrae"])
        limit = np.array(self.voxels.shape) - 1
        return tuple(
            vertebra
            for vertebra in found
            if bool((vertebra.center.numpy() >= 0).all() and (vertebra.center.numpy() <= limit).all())
        )

    def _vertebra(self, entry: Mapping[str, Any]) -> LabelledVertebra:
        directions = np.linalg.inv(self.affine)[:3, :3] * self.spacing_mm
        points = entry.get("six_points")
        heights = entry.get("heights_mm")
        return LabelledVertebra(
            level=Level(entry["level"]),
            center=torch.tensor(self.index(entry["center_mm"]), dtype=torch.float32),
            six_points=None if points is None else self._six_points(points),
            axes=torch.tensor(_axes(entry["axes"]) @ directions.T, dtype=torch.float32),
            fractured=bool(entry.get("fractured")),
            grade=int(entry.get("genant_grade") or 0),
            heights_mm=None
            if heights is None
            else (float(heights["anterior"]), float(heights["middle"]), float(heights["posterior"])),
            beside=tuple(self._six_points(plane["six_points"]) for plane in entry.get("beside") or ()),
        )

    def _six_points(self, points: Mapping[str, Any]) -> Tensor:
        return torch.tensor(self.index([points[name] for name in SIX_POINT_NAMES]), dtype=torch.float32)


def _axes(axes: Any) -> npt.NDArray[np.float64]:
    rows = [axes[name] for name in ("left", "posterior", "superior")] if isinstance(axes, Mapping) else axes
    return np.asarray(rows, dtype=np.float64)


def save_case(case: Case, folder: Path) -> Path:
    """Write ``case-<name>.npz``; it appears under that name only when complete."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"case-{case.name}.npz"
    unfinished = folder / f"unfinished-{case.name}.npz"
    np.savez(
        unfinished,
        voxels=case.voxels.numpy(),
        labels=case.labels.numpy(),
        affine=case.affine,
        truth=np.frombuffer(json.dumps(case.truth).encode(), dtype=np.uint8),
    )
    unfinished.replace(target)
    return target


def load_case(path: Path) -> Case:
    """Read what `save_case` wrote."""
    with np.load(path, allow_pickle=False) as archive:
        return Case(
            name=path.stem.removeprefix("case-"),
            voxels=torch.from_numpy(archive["voxels"]),
            labels=torch.from_numpy(archive["labels"]),
            affine=archive["affine"],
            truth=json.loads(archive["truth"].tobytes().decode()),
        )


def load_cases(folder: Path) -> list[Case]:
    """All cases of a folder in the order of their names.

    Raises:
        ConfigurationError: the folder holds no case.
    """
    paths = sorted(folder.glob("case-*.npz"))
    if not paths:
        raise ConfigurationError(
            f"{folder} holds no case-*.npz; write cases with dicom_ai_node.training.cases.save_case, "
            "or train with --data phantom"
        )
    return [load_case(path) for path in paths]


def with_cubic_voxels_of(cases: Iterable[Case], spacing_mm: float) -> list[Case]:
    """The cases, each averaged over blocks of voxels so that its spacing is `spacing_mm`.

    Raises:
        ConfigurationError: the spacing is no multiple of a case's own.
    """
    return [_averaged(case, spacing_mm) for case in cases]


def _averaged(case: Case, spacing_mm: float) -> Case:
    factor = round(spacing_mm / case.spacing_mm)
    if factor < 1 or abs(factor * case.spacing_mm - spacing_mm) > 1e-3:
        raise ConfigurationError(
            f"case {case.name} has voxels of {case.spacing_mm:g} mm, training needs {spacing_mm:g} mm or an "
            "integer part of it; resample the case"
        )
    if factor == 1:
        return case
    pooled = torch.nn.functional.avg_pool3d(case.voxels[None, None].float(), factor)[0, 0]
    affine = case.affine.copy()
    affine[:3, :3] *= factor
    affine[:3, 3] += case.affine[:3, :3] @ np.full(3, (factor - 1) / 2)
    labels = _labels_of_blocks(case.labels, factor, pooled.shape)
    return Case(case.name, pooled.round().to(torch.int16), labels, affine, case.truth)


def _labels_of_blocks(labels: Tensor, factor: int, size: Sequence[int]) -> Tensor:
    """The label that fills half of a block of voxels or more, 0 where none does; shape `size`.

    No voxel lies in the middle of a block of an even edge: the nearest one lies half a voxel beside it.
    """
    answer = torch.zeros(tuple(size), dtype=labels.dtype)
    for label, box in enumerate(ndimage.find_objects(labels.numpy()), start=1):
        if box is None:
            continue
        blocks = tuple(
            slice(edge.start // factor, min(-(-edge.stop // factor), length))
            for edge, length in zip(box, size, strict=True)
        )
        if any(edge.start >= edge.stop for edge in blocks):
            continue  # it lies in voxels that fill no whole block
        voxels = tuple(slice(edge.start * factor, edge.stop * factor) for edge in blocks)
        here = (labels[voxels] == label)[None, None].float()
        answer[blocks][torch.nn.functional.avg_pool3d(here, factor)[0, 0] >= 0.5] = label
    return answer


def split(cases: Sequence[Case], held_out: int) -> tuple[list[Case], list[Case]]:
    """Training cases, and up to `held_out` cases (a fifth at most) from the beginning for validation."""
    held_out = min(held_out, max(1, len(cases) // 5))
    return list(cases[held_out:]), list(cases[:held_out])

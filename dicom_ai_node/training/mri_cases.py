"""One labelled MR series as training sees it, and how it is kept on disk.

A case is a NumPy archive ``case-<name>.npz`` with `image` (int16, arbitrary units), `labels` (uint8, VerSe
numbers of the vertebral bodies, 255 where nobody labelled), `affine` (float64 4x4), `truth` (UTF-8 JSON as
uint8: ``{"vertebrae": [...]}`` with the phantom's keys) and `series` (UTF-8 as uint8). Slices run to the
patient's left, rows foot-ward, columns back-ward; pixels are square, slices as far apart as they were taken.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.networks.mr_intensity import signal_range
from dicom_ai_node.report import SIX_POINT_NAMES

UNLABELLED: Final = 255
"""Label of pixels of which nobody said whether they are a vertebral body: they teach nothing."""


@dataclass(frozen=True)
class MrVertebra:
    """The truth about one vertebra; places are [slice, row, column] of its case.

    Attributes:
        level: which one.
        center: shape (3,).
        six_points: shape (6, 3) in the order of `report.SIX_POINT_NAMES`, or None (S1, not labelled).
        superior: unit vector of the body's own axis in the plane of the slices, [row, column].
        fractured: Genant grade 1 or more.
    """

    level: Level
    center: Tensor
    six_points: Tensor | None
    superior: Tensor
    fractured: bool

    @property
    def label(self) -> int:
        """In the label map."""
        return verse_label(self.level)


@dataclass(frozen=True, eq=False)
class MrCase:
    """One labelled sagittal series.

    Attributes:
        name: of the case; the same name is the same patient.
        image: int16, shape (slices, rows, columns).
        labels: uint8, same shape.
        affine: 4x4, index to LPS millimetres.
        truth: the phantom's truth, or as much of it as is known.
        series: what it shows, as "t2"; "" where it is not known.
    """

    name: str
    image: Tensor
    labels: Tensor
    affine: npt.NDArray[np.float64]
    truth: Mapping[str, Any]
    series: str = ""

    def generator(self) -> Generator:
        """Random numbers of this case's own: a test of it is the same whatever other cases are tested."""
        return Generator().manual_seed(zlib.crc32(self.name.encode()))

    @property
    def slice_mm(self) -> float:
        """Distance of the slices."""
        return float(np.linalg.norm(self.affine[:3, 0]))

    @property
    def pixel_mm(self) -> float:
        """Edge of a pixel."""
        return float(np.linalg.norm(self.affine[:3, 1]))

    @cached_property
    def range(self) -> tuple[float, float]:
        """Signal that is shown as black and as white."""
        return signal_range(self.image)

    @cached_property
    def vertebrae(self) -> tuple[MrVertebra, ...]:
        """The vertebrae whose label is in the case, from head to tail."""
        present = set(torch.unique(self.labels).tolist())
        found = (self._vertebra(entry) for entry in self.truth["vertebrae"])
        return tuple(vertebra for vertebra in found if vertebra.label in present)

    @cached_property
    def slices_with_bodies(self) -> Tensor:
        """Indices of the slices that show a labelled body."""
        bodies = (self.labels > 0) & (self.labels != UNLABELLED)
        return torch.nonzero(bodies.flatten(1).sum(dim=1) > 30).flatten()

    def _vertebra(self, entry: Mapping[str, Any]) -> MrVertebra:
        inverse = np.linalg.inv(self.affine)

        def index(points_mm: npt.ArrayLike) -> Tensor:
            places = np.asarray(points_mm, dtype=np.float64) @ inverse[:3, :3].T + inverse[:3, 3]
            return torch.tensor(places, dtype=torch.float32)

        points = entry.get("six_points")
        superior = torch.tensor(
            inverse[1:3, :3] @ np.asarray(entry["axes"]["superior"], dtype=np.float64), dtype=torch.float32
        )
        return MrVertebra(
            level=Level(entry["level"]),
            center=index(entry["center_mm"]),
            six_points=None if points is None else index([points[name] for name in SIX_POINT_NAMES]),
            superior=superior / torch.linalg.vector_norm(superior),
            fractured=bool(entry.get("fractured")),
        )


def save_mr_case(case: MrCase, folder: Path) -> Path:
    """Write ``case-<name>.npz``; it appears under that name only when complete."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"case-{case.name}.npz"
    unfinished = folder / f"unfinished-{case.name}.npz"
    np.savez_compressed(
        unfinished,
        image=case.image.numpy(),
        labels=case.labels.numpy(),
        affine=case.affine,
        truth=np.frombuffer(json.dumps(case.truth).encode(), dtype=np.uint8),
        series=np.frombuffer(case.series.encode(), dtype=np.uint8),
    )
    unfinished.replace(target)
    return target


def load_mr_case(path: Path) -> MrCase:
    """Read what `save_mr_case` wrote.

    Raises:
        ConfigurationError: a case of another kind, as one of CT.
    """
    with np.load(path, allow_pickle=False) as archive:
        if "image" not in archive or "series" not in archive:
            raise ConfigurationError(
                f"{path} is no case of MR; write it with training.mri_cases.save_mr_case"
            )
        return MrCase(
            name=path.stem.removeprefix("case-"),
            image=torch.from_numpy(archive["image"]),
            labels=torch.from_numpy(archive["labels"]),
            affine=archive["affine"],
            truth=json.loads(archive["truth"].tobytes().decode()),
            series=archive["series"].tobytes().decode(),
        )


def as_int16(image: npt.NDArray[Any]) -> Tensor:
    """Signal as whole numbers of 16 bits; larger ones are scaled down, for they have no unit."""
    top = float(image.max(initial=0))
    scale = min(1.0, 32767 / top) if top > 0 else 1.0
    return torch.from_numpy(np.rint(image.astype(np.float32) * np.float32(scale)).astype(np.int16))

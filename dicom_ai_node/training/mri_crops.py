"""One labelled vertebra on paired MR series as training sees it, and how it is kept on disk.

Series of one vertebra lie on one grid: slices parallel to the sagittal plane, rows to inferior, columns to
posterior. All vertebrae of a patient are one NumPy archive ``patient-<name>.npz``: an array of images per
vertebra, and `truth` (UTF-8 JSON as uint8). `training.mri_people` makes them of phantoms.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor

from dicom_ai_node.anatomy import Level
from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.networks.mri_classes import FEATURES
from dicom_ai_node.networks.mri_patch import BODY_SHARE

Floats = npt.NDArray[np.float64]
Kind = Literal["fresh", "old", "kuemmell", "malignant", "haemangioma", "healthy"]

SERIES: Final = ("t1", "t2", "stir")
"""Series of an example; the order of its images."""


@dataclass(frozen=True)
class MrExample:
    """The truth about one vertebra and the images about it.

    Attributes:
        patient: whose it is; examples of one patient are never parted between training and test.
        level: which vertebra.
        kind: what it has; "healthy" and "haemangioma" are look-alikes, not fractures.
        features: float32, (15,), 0 or 1 in the order of `FEATURES`; NaN where not known.
        images: uint8, (series, slices, rows, columns), `SERIES`.
        pixel_mm, step_mm: edge of the pixels, distance of the slices.
        box: first row, first column, last row, last column of the body over all its slices, shape (4,).
        slices: those that go through the body (`BODY_SHARE`), in order.
        lesion_slices: those of them that show what it has (all where nothing can be pointed at).
    """

    patient: str
    level: Level
    kind: Kind
    features: npt.NDArray[np.float32]
    images: npt.NDArray[np.uint8]
    pixel_mm: float
    step_mm: float
    box: Floats
    slices: tuple[int, ...]
    lesion_slices: tuple[int, ...]

    @property
    def malignant(self) -> bool | None:
        """Whether it is; None for a healthy vertebra, of which nobody asks."""
        return None if self.kind == "healthy" else self.kind == "malignant"

    @property
    def fractured(self) -> bool:
        """Whether it is one of P4's patients: a benign fracture or a malignant vertebra."""
        return self.kind not in ("healthy", "haemangioma")

    def stacks(self, series: Sequence[str]) -> Tensor:
        """uint8 (series, slices, rows, columns) of the named series."""
        return torch.from_numpy(self.images[[SERIES.index(name) for name in series]])

    def generator(self) -> Generator:
        """Random numbers of this vertebra's own: its test is the same whatever else is tested."""
        return Generator().manual_seed(zlib.crc32(f"{self.patient} {self.level.value}".encode()))


def save_patient(examples: Sequence[MrExample], folder: Path) -> Path:
    """Write ``patient-<name>.npz`` of one patient's examples; it appears only when complete."""
    folder.mkdir(parents=True, exist_ok=True)
    name = examples[0].patient
    unfinished = folder / f"unfinished-{name}.npz"
    target = folder / f"patient-{name}.npz"
    truth = {"patient": name, "examples": [_to_json(example) for example in examples]}
    arrays: dict[str, npt.NDArray[Any]] = {
        f"images-{number}": example.images for number, example in enumerate(examples)
    }
    arrays["truth"] = np.frombuffer(json.dumps(truth).encode(), dtype=np.uint8)
    np.savez_compressed(unfinished, allow_pickle=False, **arrays)
    unfinished.replace(target)
    return target


def load_patient(path: Path) -> list[MrExample]:
    """The examples of a file that `save_patient` wrote.

    Raises:
        ConfigurationError: the file is missing or is none of these.
    """
    try:
        with np.load(path) as archive:
            truth = json.loads(archive["truth"].tobytes().decode())
            return [
                _from_json(truth["patient"], entry, archive[f"images-{number}"])
                for number, entry in enumerate(truth["examples"])
            ]
    except (OSError, KeyError, ValueError, zlib.error) as error:
        raise ConfigurationError(f"{path} is no file of labelled vertebrae on MR: {error}") from error


def load_patients(folder: Path) -> list[MrExample]:
    """All examples of a folder, patient by patient.

    Raises:
        ConfigurationError: there is no ``patient-*.npz``.
    """
    paths = sorted(folder.glob("patient-*.npz"))
    if not paths:
        raise ConfigurationError(f"{folder} holds no patient-*.npz; make them with train mri-classify")
    return [example for path in paths for example in load_patient(path)]


def patients_of(examples: Sequence[MrExample]) -> list[str]:
    """The patients in the order in which they come."""
    return list(dict.fromkeys(example.patient for example in examples))


def body_slices(areas: npt.ArrayLike) -> tuple[int, ...]:
    """The slices that go through a body, from the area of its section in each."""
    values = np.asarray(areas, dtype=np.float64)
    return tuple(int(k) for k in np.flatnonzero((values > 0) & (values >= BODY_SHARE * values.max())))


def _to_json(example: MrExample) -> dict[str, Any]:
    return {
        "level": example.level.value,
        "kind": example.kind,
        "features": {
            name: None if np.isnan(value) else bool(value)
            for name, value in zip(FEATURES, example.features, strict=True)
        },
        "pixel_mm": example.pixel_mm,
        "step_mm": example.step_mm,
        "box": example.box.tolist(),
        "slices": list(example.slices),
        "lesion_slices": list(example.lesion_slices),
    }


def _from_json(patient: str, entry: dict[str, Any], images: npt.NDArray[np.uint8]) -> MrExample:
    known = [entry["features"][name] for name in FEATURES]
    return MrExample(
        patient=patient,
        level=Level(entry["level"]),
        kind=entry["kind"],
        features=np.array([np.nan if value is None else float(value) for value in known], dtype=np.float32),
        images=images,
        pixel_mm=entry["pixel_mm"],
        step_mm=entry["step_mm"],
        box=np.array(entry["box"], dtype=np.float64),
        slices=tuple(entry["slices"]),
        lesion_slices=tuple(entry["lesion_slices"]),
    )

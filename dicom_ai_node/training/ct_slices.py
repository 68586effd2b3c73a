"""One sagittal CT slice as P2 sees it, with its boxes and diseases, and how slices are kept.

A patient's slices are one compressed NumPy archive ``slices-<patient>.npz``: for each slice k
`image-k`, `boxes-k`, `diseases-k`, and `about` (UTF-8 JSON as uint8) with the patient, numbers,
spacings and levels.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Generator

from dicom_ai_node.errors import ConfigurationError


@dataclass(frozen=True, eq=False)
class CtSlice:
    """One sagittal slice; rows run foot-ward, columns back-ward.

    Attributes:
        patient: whose it is; slices of one patient are never parted between training and test.
        number: of the slice within the patient, from his right to his left.
        image: int16 HU, shape (rows, columns).
        spacing_mm: of rows and of columns.
        boxes: float32, shape (n, 4): left, top, right, bottom of each vertebral body in pixels, integers at
            pixel edges.
        levels: of each box, "" where it is not known.
        diseases: int8, shape (n, 5) in the order of `ct_diseases.DISEASES`: 1 is seen, 0 is not,
            -1 is not known.
    """

    patient: str
    number: int
    image: npt.NDArray[np.int16]
    spacing_mm: tuple[float, float]
    boxes: npt.NDArray[np.float32]
    levels: tuple[str, ...]
    diseases: npt.NDArray[np.int8]

    @property
    def name(self) -> str:
        """Of the slice, unique among the slices of all patients."""
        return f"{self.patient}-{self.number:03d}"

    def generator(self) -> Generator:
        """Random numbers of this slice's own: a test of it is the same whatever other slices are tested."""
        return Generator().manual_seed(zlib.crc32(self.name.encode()))


def slices_path(folder: Path, patient: str) -> Path:
    """Where `save_slices` keeps a patient's slices."""
    return folder / f"slices-{patient}.npz"


def save_slices(slices: Sequence[CtSlice], folder: Path) -> Path:
    """Write all slices of one patient; the file appears under its name only when complete.

    Raises:
        ValueError: there is no slice, or they are of several patients.
    """
    patients = {one.patient for one in slices}
    if len(patients) != 1:
        raise ValueError(f"one file holds the slices of one patient, not of {len(patients)}")
    patient = patients.pop()
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {}
    for k, one in enumerate(slices):
        arrays |= {f"image-{k}": one.image, f"boxes-{k}": one.boxes, f"diseases-{k}": one.diseases}
    about = {
        "patient": patient,
        "slices": [
            {"number": one.number, "spacing_mm": one.spacing_mm, "levels": one.levels} for one in slices
        ],
    }
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
    unfinished = folder / f"unfinished-{patient}.npz"
    np.savez_compressed(unfinished, **arrays)
    target = slices_path(folder, patient)
    unfinished.replace(target)
    return target


def load_slices(path: Path) -> list[CtSlice]:
    """Read what `save_slices` wrote."""
    with np.load(path, allow_pickle=False) as archive:
        about = json.loads(archive["about"].tobytes().decode())
        return [
            CtSlice(
                patient=about["patient"],
                number=int(entry["number"]),
                image=archive[f"image-{k}"],
                spacing_mm=(float(entry["spacing_mm"][0]), float(entry["spacing_mm"][1])),
                boxes=archive[f"boxes-{k}"],
                levels=tuple(entry["levels"]),
                diseases=archive[f"diseases-{k}"],
            )
            for k, entry in enumerate(about["slices"])
        ]


def load_slice_folder(folder: Path) -> list[CtSlice]:
    """The slices of all ``slices-*.npz`` of a folder in the order of their names.

    Raises:
        ConfigurationError: the folder holds none.
    """
    paths = sorted(folder.glob("slices-*.npz"))
    if not paths:
        raise ConfigurationError(
            f"{folder} holds no slices-*.npz; write some with dicom_ai_node.training.ct_slices.save_slices, "
            "or give a COCO file (see dicom_ai_node.training.ct_slice_folders)"
        )
    return [one for path in paths for one in load_slices(path)]

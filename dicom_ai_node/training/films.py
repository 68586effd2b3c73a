"""One labelled radiograph as training sees it, and how it is kept on disk.

Places are film pixels [row, column], integers at pixel centres, the first pixel is [0, 0]. A film is a NumPy
archive ``film-<name>.npz`` with `pixels` and `truth` (UTF-8 JSON as uint8). `training.film_folders` reads
labelme, COCO and VCFNet.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from torch import Generator

from dicom_ai_node.anatomy import Level
from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.report import SIX_POINT_NAMES

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

View = Literal["lateral-spine", "frontal-spine", "chest", "other"]
VIEWS: Final[tuple[View, ...]] = ("lateral-spine", "frontal-spine", "chest", "other")
ACUITIES: Final = ("acute", "chronic", "pathologic")
"""The classes of P1, in this order."""


@dataclass(frozen=True)
class FilmVertebra:
    """The truth about one vertebra on a film.

    Attributes:
        level: which one.
        outline: polygon of the body, shape (n, 2).
        six_points: shape (6, 2) in the order of `report.SIX_POINT_NAMES`, or None where not known.
        fractured: whether it is.
        grade: Genant grade, or None where not known.
        deformity: "wedge", "biconcave", "crush", "none", or None where not known.
        acuity: one of `ACUITIES` of a fracture, or None where not known.
        visible: share of the body that lies in the exposed field, 0 to 1.
    """

    level: Level
    outline: Array
    six_points: Array | None = None
    fractured: bool = False
    grade: int | None = None
    deformity: str | None = None
    acuity: str | None = None
    visible: float = 1.0

    @property
    def box(self) -> Array:
        """First row, first column, last row, last column of the outline, shape (4,)."""
        return np.concatenate([self.outline.min(axis=0), self.outline.max(axis=0)])


@dataclass(frozen=True)
class Film:
    """One labelled radiograph.

    Attributes:
        name: of the film.
        pixels: shape (rows, columns), uint8, uint16 or float32; bone is brighter than air.
        spacing_mm: pixel edge at the patient where it is known.
        vertebrae: from head to tail; for a detector, all that count as its classes.
        view: what it shows.
        patient: films of one patient are never parted between training and test; the name where not given.
    """

    name: str
    pixels: npt.NDArray[Any]
    spacing_mm: float | None
    vertebrae: tuple[FilmVertebra, ...]
    view: View = "lateral-spine"
    patient: str = ""

    @property
    def group(self) -> str:
        """Whose film it is."""
        return self.patient or self.name

    def generator(self) -> Generator:
        """Random numbers of this film's own: a test of it is the same whatever other films are tested."""
        return Generator().manual_seed(zlib.crc32(self.name.encode()))


def save_film(film: Film, folder: Path) -> Path:
    """Write ``film-<name>.npz``; it appears under that name only when complete."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"film-{film.name}.npz"
    unfinished = folder / f"unfinished-{film.name}.npz"
    truth = {
        "spacing_mm": film.spacing_mm,
        "view": film.view,
        "patient": film.patient,
        "vertebrae": [_to_json(vertebra) for vertebra in film.vertebrae],
    }
    np.savez_compressed(
        unfinished, pixels=film.pixels, truth=np.frombuffer(json.dumps(truth).encode(), dtype=np.uint8)
    )
    unfinished.replace(target)
    return target


def load_film(path: Path) -> Film:
    """Read what `save_film` wrote."""
    with np.load(path, allow_pickle=False) as archive:
        truth = json.loads(archive["truth"].tobytes().decode())
        return Film(
            name=path.stem.removeprefix("film-"),
            pixels=archive["pixels"],
            spacing_mm=truth["spacing_mm"],
            vertebrae=tuple(_from_json(entry) for entry in truth["vertebrae"]),
            view=truth["view"],
            patient=truth["patient"],
        )


def load_films(folder: Path) -> list[Film]:
    """All ``film-*.npz`` of a folder in the order of their names.

    Raises:
        ConfigurationError: the folder holds none.
    """
    paths = sorted(folder.glob("film-*.npz"))
    if not paths:
        raise ConfigurationError(
            f"{folder} holds no film-*.npz; write films with dicom_ai_node.training.films.save_film, "
            "or train with --data phantom"
        )
    return [load_film(path) for path in paths]


def phantom_film(
    seed: int,
    *,
    training: bool = True,
    max_pixels: int = 1024 * 512,
    view: Literal["lateral", "frontal"] = "lateral",
    fractures: Any = None,
) -> Film:
    """The radiograph of a phantom with its truth.

    Args:
        seed: of person and exposure.
        training: every second person has many diseases, and two films of three have contrast and noise beyond
            what radiography does; else persons and films are realistic.
        max_pixels: of the film.
        view: lateral, or from the front.
        fractures: level -> (deformity, grade), else as the person's age has it.
    """
    # The phantom is needed only where films are made.
    from dicom_ai_node.phantom.radiograph import (  # noqa: PLC0415
        render_radiograph,
        sample_radiograph_acquisition,
    )
    from dicom_ai_node.phantom.spine import SpineOptions, sample_spine  # noqa: PLC0415

    rich, beyond = training and seed % 2 == 1, training and seed % 3 != 0
    options = SpineOptions(
        diseases="rich" if rich else "realistic", degeneration="rich" if rich else "realistic"
    )
    spine = sample_spine(seed, fractures=fractures, options=options)
    acquisition = sample_radiograph_acquisition(
        seed, spine, view=view, training=beyond, max_pixels=max_pixels
    )
    made = render_radiograph(spine, acquisition)
    pixels = np.rint(made.shown * np.float32(65535)).astype(np.uint16)
    return film_of_truth(f"{seed:05d}", pixels, made.truth)


def film_of_truth(name: str, pixels: npt.NDArray[Any], truth: Mapping[str, Any]) -> Film:
    """A film from its pixels and the truth of the radiograph phantom."""
    image = truth["image"]
    lateral = image["view"] == "lateral"
    return Film(
        name,
        pixels,
        float(image["pixel_mm"]) / float(image["magnification"]),
        tuple(_projected(entry) for entry in truth["vertebrae"] if entry["visible"] > 0) if lateral else (),
        "lateral-spine" if lateral else "frontal-spine",
    )


def polygon_mask(outline: npt.ArrayLike, shape: tuple[int, int]) -> Mask:
    """Pixels whose centre lies inside a polygon (even-odd rule).

    Args:
        outline: shape (n, 2), [row, column]; may leave the image.
        shape: (rows, columns).
    """
    points = np.asarray(outline, dtype=np.float64)
    inside: Mask = np.zeros(shape, dtype=np.bool_)
    # A body fills a small part of a film: only the rectangle about it is looked at.
    low = np.clip(np.floor(points.min(axis=0)), 0, shape).astype(np.int64)
    high = np.clip(np.ceil(points.max(axis=0)) + 1, 0, shape).astype(np.int64)
    if (low >= high).any():
        return inside
    start, end = points - low, np.roll(points, -1, axis=0) - low
    row = np.arange(high[0] - low[0])[:, None]
    crosses = (start[None, :, 0] <= row) != (end[None, :, 0] <= row)
    at_row, edge = np.nonzero(crosses)
    share = (at_row - start[edge, 0]) / (end[edge, 0] - start[edge, 0])
    column = np.ceil(start[edge, 1] + share * (end[edge, 1] - start[edge, 1]))
    width = int(high[1] - low[1])
    # Each crossing turns everything to its right over.
    turned = np.zeros((len(row), width + 1), dtype=np.uint8)
    np.add.at(turned, (at_row, np.clip(column, 0, width).astype(np.int64)), 1)
    inside[low[0] : high[0], low[1] : high[1]] = np.bitwise_xor.accumulate(turned[:, :width], axis=1) & 1
    return inside


def _projected(entry: Mapping[str, Any]) -> FilmVertebra:
    projection = entry["projection"]
    points = projection["six_points_px"]
    return FilmVertebra(
        level=Level(entry["level"]),
        outline=np.array(projection["outline_px"], dtype=np.float64),
        six_points=None
        if points is None
        else np.array([points[name] for name in SIX_POINT_NAMES], dtype=np.float64),
        fractured=bool(entry["fractured"]),
        grade=entry["genant_grade"],
        deformity=entry["deformity"],
        acuity=entry.get("acuity"),
        visible=float(entry["visible"]),
    )


def _to_json(vertebra: FilmVertebra) -> dict[str, Any]:
    return {
        "level": vertebra.level.value,
        "outline": vertebra.outline.tolist(),
        "six_points": None if vertebra.six_points is None else vertebra.six_points.tolist(),
        "fractured": vertebra.fractured,
        "grade": vertebra.grade,
        "deformity": vertebra.deformity,
        "acuity": vertebra.acuity,
        "visible": vertebra.visible,
    }


def _from_json(entry: Mapping[str, Any]) -> FilmVertebra:
    points = entry["six_points"]
    return FilmVertebra(
        level=Level(entry["level"]),
        outline=np.array(entry["outline"], dtype=np.float64),
        six_points=None if points is None else np.array(points, dtype=np.float64),
        fractured=entry["fractured"],
        grade=entry["grade"],
        deformity=entry["deformity"],
        acuity=entry["acuity"],
        visible=entry["visible"],
    )

"""Labelled radiographs of others: folders of labelme or COCO polygons, and VCFNet's crops.

Polygons there are [x, y] in pixels; x runs along columns. labelme and COCO put integers at pixel edges, films
at pixel centres: half a pixel lies between them. A label names the level and may say more: "L1",
"L1 fracture", "T12-fractured", "L2_acute"; P0's six labels "L1 fracture" to "T12 fracture" are among them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torchvision.io import ImageReadMode, decode_image

from dicom_ai_node.anatomy import Level, order
from dicom_ai_node.errors import ConfigurationError, UnreadableInstance
from dicom_ai_node.training.films import ACUITIES, Film, FilmVertebra, load_films

_LABEL = re.compile(r"^\s*([CTLS]\d{1,2})(?:[\s_/-]+(.*))?$", re.IGNORECASE)
_HEALTHY = ("", "normal", "healthy", "vertebra")
_VCFNET = re.compile(r"^(\d+)-(Acute|Chronic|Pathologic)-(\d+)-(\d+)-([MF])$")


def load_labelme(folder: Path, *, fractured_unless_said: bool = False) -> list[Film]:
    """Films of a folder with one labelme file per image (P0, "Data source and preprocessing").

    Args:
        folder: of ``*.json`` beside their images.
        fractured_unless_said: a bare level means a fracture, as where only fractures were drawn (P0).

    Raises:
        ConfigurationError: there is no labelme file, or a label names no level.
        UnreadableInstance: an image cannot be decoded.
    """
    films = []
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text("utf-8"))
        if "shapes" not in content:
            continue
        shapes = [shape for shape in content["shapes"] if shape.get("shape_type", "polygon") == "polygon"]
        vertebrae = [_drawn(shape["label"], shape["points"], path, fractured_unless_said) for shape in shapes]
        films.append(_film(path.stem, path.parent / content["imagePath"], vertebrae))
    if not films:
        raise ConfigurationError(f"{folder} holds no labelme file (*.json with 'shapes')")
    return films


def load_coco(annotations: Path, images: Path, *, fractured_unless_said: bool = False) -> list[Film]:
    """Films of a COCO instances file; of several polygons of one body the largest is taken.

    Raises:
        ConfigurationError: the file is no COCO file, masks are run lengths, or a category names no level.
        UnreadableInstance: an image cannot be decoded.
    """
    content = json.loads(annotations.read_text("utf-8"))
    if not {"images", "annotations", "categories"} <= set(content):
        raise ConfigurationError(f"{annotations} is no COCO file: it lacks images, annotations or categories")
    names = {entry["id"]: entry["name"] for entry in content["categories"]}
    drawn: dict[int, list[FilmVertebra]] = {entry["id"]: [] for entry in content["images"]}
    for entry in content["annotations"]:
        polygons = entry["segmentation"]
        if not isinstance(polygons, list):
            raise ConfigurationError(
                f"{annotations}: annotation {entry['id']} is a run-length mask; export polygons"
            )
        largest = max((np.reshape(polygon, (-1, 2)) for polygon in polygons), key=_area)
        drawn[entry["image_id"]].append(
            _drawn(names[entry["category_id"]], largest, annotations, fractured_unless_said)
        )
    return [
        _film(Path(entry["file_name"]).stem, images / entry["file_name"], drawn[entry["id"]])
        for entry in content["images"]
    ]


def load_vcfnet(folder: Path) -> list[Film]:
    """VCFNet's crops, one vertebra each, told by their file names: number-type-level-age-sex (P1).

    Level 1 to 4 is L1 to L4, 11 and 12 are T11 and T12. The names know no patient: crops that share age and
    sex count as one patient's, so that no test is made on a person who may have been trained on.

    Raises:
        ConfigurationError: the folder holds no such file.
        UnreadableInstance: an image cannot be decoded.
    """
    films = []
    for path in sorted(folder.rglob("*.png")):
        found = _VCFNET.match(path.stem)
        if found is None:
            continue
        number, kind, level, age, sex = found.groups()
        pixels = read_grey(path)
        rows, columns = pixels.shape
        corners = [[0, 0], [0, columns - 1], [rows - 1, columns - 1], [rows - 1, 0]]
        vertebra = FilmVertebra(
            level=Level(f"T{level}" if int(level) > 10 else f"L{level}"),
            outline=np.array(corners, dtype=np.float64),
            fractured=True,
            acuity=kind.lower(),
        )
        films.append(Film(f"vcfnet-{number}", pixels, None, (vertebra,), patient=f"{age}-{sex}"))
    if not films:
        raise ConfigurationError(f"{folder} holds no file named number-type-level-age-sex.png")
    return films


def leave_one_patient_out(films: Sequence[Film]) -> Iterator[tuple[list[Film], list[Film]]]:
    """(training films, films of one patient), once for every patient."""
    for group in dict.fromkeys(film.group for film in films):
        yield [f for f in films if f.group != group], [f for f in films if f.group == group]


def read_grey(path: Path) -> npt.NDArray[Any]:
    """A PNG or JPEG as (rows, columns), uint8 or uint16.

    Raises:
        UnreadableInstance: it is missing or cannot be decoded.
    """
    try:
        image = decode_image(str(path), mode=ImageReadMode.UNCHANGED)
    except RuntimeError as error:
        raise UnreadableInstance(f"{path} cannot be decoded: {str(error).splitlines()[0]}") from error
    # A second or fourth channel is opacity; colours of a radiograph are all the same grey.
    grey: npt.NDArray[Any] = image[0].numpy()
    return grey


def _film(name: str, image: Path, vertebrae: Sequence[FilmVertebra]) -> Film:
    return Film(name, read_grey(image), None, tuple(sorted(vertebrae, key=lambda v: order(v.level))))


def _drawn(label: str, points: Any, source: Path, fractured_unless_said: bool) -> FilmVertebra:
    level, said = _read_label(label, source)
    outline = np.asarray(points, dtype=np.float64).reshape(-1, 2)[:, ::-1] - 0.5
    acuity = next((name for name in ACUITIES if said.startswith(name[:-2])), None)
    fractured = (fractured_unless_said if not said else said not in _HEALTHY) or acuity is not None
    return FilmVertebra(level, outline.copy(), fractured=fractured, acuity=acuity)


def _read_label(label: str, source: Path) -> tuple[Level, str]:
    found = _LABEL.match(label)
    try:
        if found is None:
            raise ValueError(label)
        return Level(found[1].upper()), (found[2] or "").strip().lower()
    except ValueError as error:
        raise ConfigurationError(
            f"{source}: the label {label!r} names no vertebral level; write 'L1' or 'L1 fracture'"
        ) from error


def _area(polygon: npt.NDArray[Any]) -> float:
    x, y = polygon[:, 0], polygon[:, 1]
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def load_labelled(folder: Path, *, fractured_unless_said: bool = False) -> list[Film]:
    """The films of a folder of any kind that is known here, told by what lies in it.

    Args:
        folder: with films and what was drawn on them.
        fractured_unless_said: of polygons a bare level means a fracture, as where only those were drawn (P0).

    Raises:
        ConfigurationError: none of the kinds.
        UnreadableInstance: an image cannot be decoded.
    """
    if any(folder.glob("film-*.npz")):
        return load_films(folder)
    if any(_VCFNET.match(path.stem) for path in folder.rglob("*.png")):
        return load_vcfnet(folder)
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text("utf-8"))
        if "annotations" in content:
            return load_coco(path, folder, fractured_unless_said=fractured_unless_said)
        if "shapes" in content:
            return load_labelme(folder, fractured_unless_said=fractured_unless_said)
    raise ConfigurationError(
        f"{folder} holds no films: film-*.npz, labelme or COCO polygons (*.json), or VCFNet's crops are read"
    )

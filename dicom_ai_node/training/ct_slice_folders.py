"""Sagittal CT slices of others with boxes: a folder of `slices-*.npz`, or a COCO file beside its images.

The COCO file is any ``*.json`` of the folder with `images`, `annotations` and `categories`.

- An image entry has `file_name`, below the folder; it may have `patient` (else the image's folder is the
  patient, else its name), `spacing_mm` [row, column] where the image does not tell it, and `window_hu`
  [black, white], which 8-bit PNGs need. 16-bit PNGs hold HU + 1024; NumPy archives (``.npz``) `image` in HU
  and, if known, `spacing_mm`; what else is read, the caller says (`read`). The head is up, the front left.
- An annotation has `bbox` [left, top, width, height] in pixels from the image's corner, and may have `level`.
- Categories are vertebra, OVCF, OF, SN, KD, PS, normal (in any case). Boxes of one image that hit each other
  as P2 has it (intersection over the smaller one above one half) are one body with several labels.

As in P2, a file that knows a category of disease calls bodies without one healthy. Where it knows none,
diseases are not known.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from torchvision.io import ImageReadMode, decode_image

from dicom_ai_node.errors import ConfigurationError, UnreadableInstance
from dicom_ai_node.networks.ct_diseases import DISEASES
from dicom_ai_node.training.ct_slices import CtSlice, load_slice_folder
from dicom_ai_node.training.detection_metrics import shares_of_smaller
from dicom_ai_node.training.slice_scores import HIT

ImageOfFile = tuple[npt.NDArray[Any], tuple[float, float] | None]
"""Pixels, (rows, columns), and the spacing of rows and columns in mm where the file tells it."""

ReadImage = Callable[[Path], ImageOfFile]

VERTEBRA: Final = "vertebra"
NORMAL: Final = "normal"
_STORED_AIR: Final = 1024


def load_labelled_slices(
    folder: Path, *, every_body: bool = True, read: Mapping[str, ReadImage] | None = None
) -> list[CtSlice]:
    """The slices of a folder of either kind, told by what lies in it.

    Args:
        folder: with ``slices-*.npz``, or a COCO file.
        every_body: leave out images on which diseased bodies alone have boxes: to a detector the others
            would look like background.
        read: more kinds of images by the end of their names, as ``".nii.gz"``; they hold HU.

    Raises:
        ConfigurationError: none of the kinds, no usable image, or a COCO file that lacks something.
        UnreadableInstance: an image cannot be decoded.
    """
    if any(folder.glob("slices-*.npz")):
        return load_slice_folder(folder)
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text("utf-8"))
        if isinstance(content, dict) and {"images", "annotations", "categories"} <= set(content):
            return _coco(path, content, every_body, read or {})
    raise ConfigurationError(
        f"{folder} holds no slices: slices-*.npz, or a COCO file (*.json with images, annotations and "
        "categories) are read"
    )


def _coco(
    file: Path, content: Mapping[str, Any], every_body: bool, read: Mapping[str, ReadImage]
) -> list[CtSlice]:
    names = {entry["id"]: _category(str(entry["name"]), file) for entry in content["categories"]}
    knows_diseases = any(name in DISEASES for name in names.values())
    drawn: dict[Any, list[Mapping[str, Any]]] = {entry["id"]: [] for entry in content["images"]}
    for entry in content["annotations"]:
        if entry["image_id"] not in drawn or entry["category_id"] not in names:
            raise ConfigurationError(
                f"{file}: annotation {entry.get('id')} names an image or a category that is not there"
            )
        drawn[entry["image_id"]].append(entry)
    slices: list[CtSlice] = []
    numbers: dict[str, int] = {}
    for entry in content["images"]:
        own = drawn[entry["id"]]
        if every_body and own and all(names[a["category_id"]] in DISEASES for a in own):
            continue
        patient = _patient(entry)
        numbers[patient] = numbers.get(patient, -1) + 1
        image, spacing = _image(file, entry, read)
        boxes, levels, diseases = _bodies(own, names, knows_diseases, file)
        slices.append(CtSlice(patient, numbers[patient], image, spacing, boxes, levels, diseases))
    if not slices:
        raise ConfigurationError(
            f"{file}: no image has boxes of all its vertebrae; give healthy bodies the category vertebra"
        )
    return slices


def _category(name: str, file: Path) -> str:
    for known in (VERTEBRA, NORMAL, *DISEASES):
        if name.strip().lower() == known.lower():
            return known
    raise ConfigurationError(
        f"{file}: the category {name!r} is unknown; there are {VERTEBRA}, {', '.join(DISEASES)}, {NORMAL}"
    )


def _patient(entry: Mapping[str, Any]) -> str:
    if entry.get("patient"):
        return str(entry["patient"])
    place = Path(entry["file_name"])
    return place.parent.name or place.name.split(".")[0]


def _bodies(
    drawn: Sequence[Mapping[str, Any]], names: Mapping[Any, str], knows_diseases: bool, file: Path
) -> tuple[npt.NDArray[np.float32], tuple[str, ...], npt.NDArray[np.int8]]:
    # The box that was drawn for the body comes first: it stands for all labels of the body.
    ordered = sorted(drawn, key=lambda entry: names[entry["category_id"]] in DISEASES)
    boxes: list[npt.NDArray[np.float64]] = []
    levels: list[str] = []
    diseases: list[npt.NDArray[np.int8]] = []
    for entry in ordered:
        name, box = names[entry["category_id"]], _box(entry, file)
        place = _same_body(box, boxes)
        if place is None:
            place = len(boxes)
            boxes.append(box)
            levels.append("")
            healthy = 0 if knows_diseases or name == NORMAL else -1
            diseases.append(np.full(len(DISEASES), healthy, dtype=np.int8))
        levels[place] = str(entry.get("level") or levels[place])
        if name in DISEASES:
            diseases[place][DISEASES.index(name)] = 1
    order = sorted(range(len(boxes)), key=lambda k: boxes[k][1])
    return (
        np.array([boxes[k] for k in order], dtype=np.float32).reshape(-1, 4),
        tuple(levels[k] for k in order),
        np.array([diseases[k] for k in order], dtype=np.int8).reshape(-1, len(DISEASES)),
    )


def _same_body(box: npt.NDArray[np.float64], boxes: Sequence[npt.NDArray[np.float64]]) -> int | None:
    if not boxes:
        return None
    shares = shares_of_smaller(box[None], np.array(boxes))[0]
    best = int(shares.argmax())
    return best if shares[best] > HIT else None


def _box(entry: Mapping[str, Any], file: Path) -> npt.NDArray[np.float64]:
    try:
        left, top, width, height = (float(value) for value in entry["bbox"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{file}: annotation {entry.get('id')} has no bbox [left, top, width, height]"
        ) from error
    if width <= 0 or height <= 0:
        raise ConfigurationError(f"{file}: the box of annotation {entry.get('id')} is empty")
    return np.array([left, top, left + width, top + height])


def _image(
    file: Path, entry: Mapping[str, Any], read: Mapping[str, ReadImage]
) -> tuple[npt.NDArray[np.int16], tuple[float, float]]:
    path = file.parent / entry["file_name"]
    reader = next((own for end, own in read.items() if path.name.endswith(end)), None)
    if reader is not None:
        pixels, spacing = reader(path)
    elif path.suffix == ".npz":
        pixels, spacing = _archive(path)
    else:
        pixels, spacing = _picture(path, entry, file), None
    if pixels.ndim != 2:
        raise UnreadableInstance(f"{path} is no single slice: its shape is {pixels.shape}")
    told = entry.get("spacing_mm") or spacing
    if told is None:
        raise ConfigurationError(f"{file}: {entry['file_name']} needs spacing_mm [row, column]")
    image: npt.NDArray[np.int16] = np.clip(np.rint(pixels), -32768, 32767).astype(np.int16)
    return image, (float(told[0]), float(told[1]))


def _archive(path: Path) -> ImageOfFile:
    try:
        with np.load(path, allow_pickle=False) as archive:
            spacing = archive.get("spacing_mm")
            return archive["image"], None if spacing is None else (float(spacing[0]), float(spacing[1]))
    except (OSError, ValueError, KeyError) as error:
        raise UnreadableInstance(f"{path} is no NumPy archive with an image") from error


def _picture(path: Path, entry: Mapping[str, Any], file: Path) -> npt.NDArray[np.float64]:
    try:
        grey = decode_image(str(path), mode=ImageReadMode.UNCHANGED)[0].numpy()
    except RuntimeError as error:
        raise UnreadableInstance(f"{path} cannot be decoded: {str(error).splitlines()[0]}") from error
    if grey.dtype == np.uint16:
        stored: npt.NDArray[np.float64] = grey.astype(np.float64) - _STORED_AIR
        return stored
    if not entry.get("window_hu"):
        raise ConfigurationError(
            f"{file}: {entry['file_name']} has 8 bits; say with window_hu [black, white] which HU they mean"
        )
    low, high = (float(value) for value in entry["window_hu"])
    window: npt.NDArray[np.float64] = low + grey.astype(np.float64) * (high - low) / 255
    return window

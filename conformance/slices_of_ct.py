"""ct-detect on sagittal slices of real CT: `python -m conformance.slices_of_ct`.

Slices are columns of voxels as they are. Where bodies are labelled (TotalSegmentator, TPTBox), boxes are held
against theirs, between the ends of the labelled column; the other scan is drawn alone. Written are
`<name>.png` and `slices-of-ct.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import nibabel
import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from conformance.phantom.ct import acrin, totalsegmentator
from dicom_ai_node.commands.evaluate_ct_detect import draw_slices, found_on, tables
from dicom_ai_node.inference.bundle import bundle_of, find_models_dir
from dicom_ai_node.networks.ct_diseases import DISEASES
from dicom_ai_node.training.ct_detect import truth_of
from dicom_ai_node.training.ct_slice_pool import CUT_SHARE
from dicom_ai_node.training.ct_slices import CtSlice
from dicom_ai_node.training.slice_scores import SliceBoxes, matched

_S1: Final = 26
_BODY: Final = (49, 50)
"""Corpus border and corpus in TPTBox's sub-regions."""

_ENDS_MM: Final = 8.0
_HALF_WIDTH_MM: Final = 15.0
_STEP_MM: Final = 3.0
_BONE_HU: Final = 250


@dataclass(frozen=True)
class Scan:
    """A real CT: slices from the head down, rows to posterior, columns to the left.

    Attributes:
        hu: int16, (slices, rows, columns).
        bodies: numbers of the bodies, same shape; None where nobody labelled.
        spacing_mm: of slices, rows, columns.
    """

    hu: npt.NDArray[np.int16]
    bodies: npt.NDArray[np.uint8] | None
    spacing_mm: tuple[float, float, float]


def scans(data: Path) -> dict[str, Scan]:
    """The real CTs."""
    hu, spacing = acrin(data / "ct" / "acrin-flt-breast-lumbar")
    voxels, whole, bodies, mm = totalsegmentator(data / "ct" / "totalsegmentator")
    labels = np.where(bodies & (whole != _S1), whole, 0).astype(np.uint8)
    return {
        "acrin": Scan(hu, None, spacing),
        "totalsegmentator": Scan(voxels, labels, (mm, mm, mm)),
        "tptbox": _tptbox(data / "ct" / "tptbox"),
    }


def slices_of(name: str, scan: Scan) -> list[CtSlice]:
    """Sagittal slices about the middle of the column, some 3 mm apart."""
    # Without labels the bone tells where the column is.
    places = np.nonzero(scan.hu > _BONE_HU if scan.bodies is None else scan.bodies)[2]
    middle, mm = float(np.median(places)), scan.spacing_mm[2]
    offsets = np.arange(-_HALF_WIDTH_MM, _HALF_WIDTH_MM + 0.1, max(_STEP_MM, mm))
    chosen = sorted({round(middle + offset / mm) for offset in offsets})
    made = []
    for number in chosen:
        boxes = _boxes(scan.bodies, number)
        made.append(
            CtSlice(
                patient=name,
                number=number,
                image=np.ascontiguousarray(scan.hu[:, :, number]),
                spacing_mm=(scan.spacing_mm[0], scan.spacing_mm[1]),
                boxes=boxes,
                levels=("",) * len(boxes),
                diseases=np.full((len(boxes), len(DISEASES)), -1, dtype=np.int8),
            )
        )
    return made


def judged(one: CtSlice, found: SliceBoxes) -> SliceBoxes:
    """Detections between the ends of the labelled column: bodies beyond are real and not labelled."""
    if not len(one.boxes):
        return SliceBoxes(found.patient, found.boxes[:0], found.scores[:0])
    margin = _ENDS_MM / one.spacing_mm[0]
    middle = (found.boxes[:, 1] + found.boxes[:, 3]) / 2
    kept = (middle > one.boxes[:, 1].min() - margin) & (middle < one.boxes[:, 3].max() + margin)
    return SliceBoxes(found.patient, found.boxes[kept], found.scores[kept])


def main() -> int:
    """Look at the slices, write pictures and numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of real images")
    parser.add_argument("--models", type=Path, help="folder of bundles")
    parser.add_argument("--out", type=Path, required=True, help="folder for pictures and numbers")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    bundle = bundle_of("ct-detect", find_models_dir(asked.models) / "ct-detect")
    told: dict[str, Any] = {}
    for name, scan in scans(asked.data).items():
        slices = slices_of(name, scan)
        with torch.inference_mode():
            found = found_on(bundle, slices)
        draw_slices(asked.out / f"{name}.png", list(zip(slices, found, strict=True)))
        if scan.bodies is not None:
            told[name] = _scores(slices, found)
    text = json.dumps(told, indent=2) + "\n"
    (asked.out / "slices-of-ct.json").write_text(text, "utf-8")
    sys.stdout.write(text)
    return 0


def _scores(slices: Sequence[CtSlice], found: Sequence[SliceBoxes]) -> Mapping[str, Any]:
    compared = [matched(judged(a, b), truth_of(a)) for a, b in zip(slices, found, strict=True)]
    # All slices are of one patient: an interval over patients would say nothing.
    return {name: value for name, value in tables(compared).items() if "intervals" not in name}


def _boxes(bodies: npt.NDArray[np.uint8] | None, number: int) -> npt.NDArray[np.float32]:
    if bodies is None:
        return np.zeros((0, 4), dtype=np.float32)
    boxes = []
    for label, place in enumerate(ndimage.find_objects(bodies[:, :, number]), start=1):
        if place is None:
            continue
        areas = (bodies == label).sum(axis=(0, 1))
        if areas[number] >= CUT_SHARE * areas.max():
            rows, columns = place
            boxes.append([columns.start, rows.start, columns.stop, rows.stop])
    return np.array(sorted(boxes, key=lambda box: box[1]), dtype=np.float32).reshape(-1, 4)


def _tptbox(folder: Path) -> Scan:
    images = {}
    for name in ("ct", "seg-subreg", "seg-vert"):
        file = "sub-ct_label-22_ct" if name == "ct" else f"sub-ct_{name}_label-22_msk"
        image = nibabel.load(str(folder / f"{file}.nii.gz"))
        image = nibabel.funcs.as_closest_canonical(image)  # type: ignore[no-untyped-call]
        # Right-anterior-superior, (x, y, z) -> slices down, rows to posterior, columns to the left.
        images[name] = np.transpose(np.asanyarray(image.dataobj), (2, 1, 0))[::-1, ::-1, ::-1]
        mm = float(image.header.get_zooms()[0])
    labels = np.where(np.isin(images["seg-subreg"], _BODY), images["seg-vert"], 0)
    return Scan(images["ct"].astype(np.int16), labels.astype(np.uint8), (mm, mm, mm))


if __name__ == "__main__":
    raise SystemExit(main())

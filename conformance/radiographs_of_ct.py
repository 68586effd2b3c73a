"""Lateral films of real CT, read by the radiograph pipeline: `python -m conformance.radiographs_of_ct`.

The CT pipeline reads the same anatomy first; its names and its heights, projected, are what the film is held
against. Written are `<name>.png` (the film with what was read) and `films-of-ct.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import nibabel
import numpy as np
import numpy.typing as npt
import torch

from dicom_ai_node.errors import InputError
from dicom_ai_node.imaging.film_picture import film_sheet
from dicom_ai_node.imaging.film_pose import FilmPose
from dicom_ai_node.imaging.film_spacing import FilmSpacing
from dicom_ai_node.imaging.radiograph import Radiograph
from dicom_ai_node.imaging.volume import SliceRef, Volume, load_volume
from dicom_ai_node.inference.bundle import find_models_dir
from dicom_ai_node.phantom.radiograph import RadiographAcquisition, expose
from dicom_ai_node.phantom.radiograph_volume import thickness_of_volume
from dicom_ai_node.phantom.spine import sample_spine
from dicom_ai_node.pipelines.ct_volume import CtVolumePipeline
from dicom_ai_node.pipelines.radiograph import RadiographPipeline
from dicom_ai_node.report import Analysis
from dicom_ai_node.results.overview import draw_overview

_PIXEL_MM: Final = 0.5
_DISTANCE_MM: Final = 1150.0
_GAP_MM: Final = 200.0


@dataclass(frozen=True)
class FilmOfCt:
    """A film of a CT, how it was taken, and what the CT pipeline says of the same anatomy."""

    name: str
    film: Radiograph
    acquisition: RadiographAcquisition
    ct: Analysis


def volumes(data: Path) -> dict[str, Volume]:
    """The real CTs."""
    acrin = sorted((data / "ct" / "acrin-flt-breast-lumbar").rglob("*.dcm"))
    return {"acrin": load_volume(acrin), "totalsegmentator": _nifti(data / "ct" / "totalsegmentator")}


def film_of(name: str, volume: Volume, ct: Analysis) -> FilmOfCt:
    """A lateral film whose central ray goes through the middle of what the CT pipeline found."""
    found = [item.center_mm for item in ct.report if item.center_mm is not None]
    center = np.mean(np.array(found), axis=0)
    last = np.array(volume.shape) - 1
    reach = np.abs(volume.affine[:3, :3]) @ last
    # The field ends a little inside of the volume: above and below there is nothing.
    center[2] = (volume.affine[:3, :3] @ (last / 2) + volume.affine[:3, 3])[2]
    scale = _DISTANCE_MM / (_DISTANCE_MM - _GAP_MM)
    rows = int(0.93 * min(float(reach[2]), 480.0) * scale / _PIXEL_MM)
    columns = int(min(float(reach[1]), 260.0) * scale / _PIXEL_MM)
    taken = RadiographAcquisition(
        view="lateral",
        center=center,
        matrix=(rows, columns),
        pixel_mm=_PIXEL_MM,
        source_detector_mm=_DISTANCE_MM,
        source_object_mm=_DISTANCE_MM - _GAP_MM,
        collimation=(0, rows, 0, columns),
    )
    passed = thickness_of_volume(volume.voxels, volume.affine, taken.cone, step_mm=2.0)
    spine = sample_spine(0)
    stored = expose(spine, taken, passed).numpy().astype(np.float32)
    shown = stored / float((1 << taken.processing.bits) - 1)
    shown = 1.0 - shown if taken.processing.inverted else shown
    spacing = FilmSpacing(_PIXEL_MM / taken.magnification, _PIXEL_MM / taken.magnification, "distances")
    instance = SliceRef("1.2.840.10008.5.1.4.1.1.1.1", "1.2.3", 1, Path(name))
    return FilmOfCt(name, Radiograph(shown, instance, "1.2", "1.3", "DX", spacing, None), taken, ct)


def compared(film: FilmOfCt, read: Analysis) -> list[dict[str, Any]]:
    """Per vertebra of the CT that lies on the film: found there, how far off, named right, heights."""
    rows, columns = film.film.shape
    answers = [item for item in read.report if item.box_px is not None]
    centers = np.array([[np.mean(item.box_px.rows), np.mean(item.box_px.columns)] for item in answers])  # type: ignore[union-attr]
    lines = []
    for vertebra in film.ct.report:
        if vertebra.center_mm is None or vertebra.status != "analysed":
            continue
        column, row, depth = film.acquisition.cone.project(np.array([vertebra.center_mm]))[0]
        if not (20 < row < rows - 20 and 20 < column < columns - 20):
            continue
        away = np.hypot(*(centers - [row, column]).T) if len(centers) else np.array([np.inf])
        best = int(away.argmin())
        mm = film.acquisition.pixel_mm * depth / film.acquisition.source_detector_mm
        line: dict[str, Any] = {"level": vertebra.level.value, "away_mm": round(float(away[best] * mm), 1)}
        if away[best] * mm < 12.0:
            answer = answers[best]
            line["named"] = answer.level.value
            if answer.heights_mm is not None and vertebra.heights_mm is not None:
                line["heights_mm"] = {
                    name: [
                        round(getattr(vertebra.heights_mm, name), 1),
                        round(getattr(answer.heights_mm, name), 1),
                    ]
                    for name in ("anterior", "middle", "posterior")
                }
            line["grades"] = [vertebra.genant_grade, answer.genant_grade]
        lines.append(line)
    return lines


def main() -> int:
    """Make the films, read them, write pictures and numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of real images")
    parser.add_argument("--models", type=Path, help="folder of bundles")
    parser.add_argument("--out", type=Path, required=True, help="folder for pictures and numbers")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cpu")
    by_ct = CtVolumePipeline.load(find_models_dir(None), device)
    by_film = RadiographPipeline.load(find_models_dir(asked.models), device)
    told: dict[str, Any] = {}
    for name, volume in volumes(asked.data).items():
        film = film_of(name, volume, by_ct.analyse(volume))
        try:
            read = by_film.analyse(film.film)
        except InputError as error:
            told[name] = {"refused": str(error)}
            continue
        draw_overview(*film_sheet(film.film, read, FilmPose()), read.report).save(asked.out / f"{name}.png")
        told[name] = {"vertebrae": compared(film, read), **_summary(compared(film, read))}
    (asked.out / "films-of-ct.json").write_text(json.dumps(told, indent=2) + "\n", "utf-8")
    sys.stdout.write(json.dumps(told, indent=2) + "\n")
    return 0


def _summary(lines: list[dict[str, Any]]) -> dict[str, float]:
    errors = [abs(b - a) / a for line in lines for a, b in line.get("heights_mm", {}).values() if a > 0]
    return {
        "in_view": len(lines),
        "found": sum("named" in line for line in lines),
        "named_right": sum(line.get("named") == line["level"] for line in lines),
        "height_error": round(float(np.mean(errors)), 4) if errors else float("nan"),
    }


def _nifti(folder: Path) -> Volume:
    """TotalSegmentator's example as a volume; NIfTI's affine is RAS, its axes columns, rows, slices."""
    image: Any = nibabel.load(folder / "example_ct.nii.gz")
    functions: Any = nibabel
    canonical = functions.as_closest_canonical(image)
    voxels: npt.NDArray[np.int16] = np.asarray(canonical.dataobj).astype(np.int16)
    to_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(canonical.affine)
    order = np.zeros((4, 4))
    order[2, 0] = order[1, 1] = order[0, 2] = order[3, 3] = 1.0
    turned = np.ascontiguousarray(voxels.transpose(2, 1, 0))
    refs = tuple(SliceRef("", f"1.2.{k + 1}", 1, folder) for k in range(turned.shape[0]))
    return Volume(turned, to_lps @ order, refs, "1.2", "1.3", "1.4", "CT")


if __name__ == "__main__":
    raise SystemExit(main())

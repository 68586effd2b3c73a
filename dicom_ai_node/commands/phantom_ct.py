"""`dicom-ai-node phantom --kind ct`: the CT of one person, one series or a whole study.

A case is a folder: ``dicom/`` with the axial series, ``truth.json``, and label maps on the grid of it:
``labels.nii.gz`` (bodies), ``whole.nii.gz`` (whole vertebrae), ``structures.nii.gz`` (discs and canal),
``lesions.nii.gz``; see `phantom.painting` for their numbers. In a study the series are folders of ``dicom/``:
two scouts, axial, sagittal reformat; truth and label maps are those of the axial one.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from dicom_ai_node.anatomy import Level
from dicom_ai_node.commands.phantom_person import (
    PersonWish,
    SeriesEntry,
    in_words,
    patient_name,
    person,
)

if TYPE_CHECKING:
    from dicom_ai_node.imaging.write_ct import CtHeader
    from dicom_ai_node.phantom.ct import CtAcquisition, CtPhantom
    from dicom_ai_node.phantom.spine import Spine

_SAGITTAL_MM: Final = 3.0
_SAGITTAL_SLICES: Final = 20
_ATTEMPTS: Final = 40
_SEED_STEP: Final = 1_000_003


def write_ct_case(folder: Path, seed: int, wish: PersonWish) -> str:
    """One person's axial CT: series, truth and label maps.

    Returns:
        One line about what was written.

    Raises:
        typer.BadParameter: this person cannot have such a fracture or disease.
    """
    spine = person(seed, wish)
    acquisition = _showing(spine, seed, wish.shown)
    case, files = _write_axial(folder, folder / "dicom", (spine, seed), acquisition, number=2)
    _, rows, columns = case.hu.shape
    return f"{folder}: {files} slices of {rows}x{columns}, {_seen(case)}"


def write_ct_study(folder: Path, seed: int, wish: PersonWish) -> list[SeriesEntry]:
    """One person's CT study: scout, axial series and sagittal reformat, with the truth of the axial one.

    Returns:
        What `study.json` says of each series.

    Raises:
        typer.BadParameter: this person cannot have such a fracture or disease.
    """
    spine = person(seed, wish)
    whose = (spine, seed)
    acquisition = _showing(spine, seed, wish.shown)
    series = [
        _write_scout(folder / "dicom" / "01-scout", whose, acquisition, "frontal", number=1),
        _write_scout(folder / "dicom" / "02-scout", whose, acquisition, "lateral", number=2),
    ]
    case, files = _write_axial(folder, folder / "dicom" / "03-axial", whose, acquisition, number=3)
    series.append(SeriesEntry("axial", "CT", "dicom/03-axial", files, "ct-volume", "an axial CT"))
    series.append(_write_sagittal(folder / "dicom" / "04-sagittal", whose, acquisition, case, number=4))
    return series


def _write_axial(
    folder: Path, dicom: Path, whose: tuple[Spine, int], acquisition: CtAcquisition, *, number: int
) -> tuple[CtPhantom, int]:
    """The axial series with its truth and label maps; the phantom and the number of files."""
    # Imported here: the command's help and refusals need no torch.
    from dicom_ai_node.imaging.nifti import write_label_map  # noqa: PLC0415
    from dicom_ai_node.imaging.write_ct import write_ct_series  # noqa: PLC0415
    from dicom_ai_node.phantom.ct import render_ct  # noqa: PLC0415

    spine, seed = whose
    case = render_ct(spine, acquisition)
    header = replace(_header(spine, seed, acquisition), series_number=number)
    paths = write_ct_series(case.hu, case.affine, dicom, seed=seed, header=header)
    (folder / "truth.json").write_text(json.dumps(case.truth, indent=2) + "\n")
    maps = {
        "labels": case.labels,
        "whole": case.whole_labels,
        "structures": case.structures,
        "lesions": case.lesions,
    }
    for name, labels in maps.items():
        write_label_map(folder / f"{name}.nii.gz", labels, case.affine)
    return case, len(paths)


def _write_sagittal(
    dicom: Path, whose: tuple[Spine, int], acquisition: CtAcquisition, case: CtPhantom, *, number: int
) -> SeriesEntry:
    """The sagittal reformat that scanners add to an axial series."""
    from dicom_ai_node.imaging.write_ct import write_ct_series  # noqa: PLC0415
    from dicom_ai_node.phantom.ct_reformat import reformat_grid, reformatted  # noqa: PLC0415

    spine, seed = whose
    step, _, pixel = acquisition.spacing_mm
    edge = max(pixel, 0.5 * step)
    middle = spine[Level.L2].frame[:3, 3]
    shape, affine = reformat_grid(case, "sagittal", (_SAGITTAL_MM, edge, edge), middle, _SAGITTAL_SLICES)
    other = reformatted(case, spine, shape, affine, thickness_mm=_SAGITTAL_MM)
    header = replace(
        _header(spine, seed, acquisition),
        series_number=number,
        series_description=f"Spine sagittal {_SAGITTAL_MM:g} mm",
        image_type=("DERIVED", "SECONDARY", "REFORMATTED"),
        slice_thickness_mm=_SAGITTAL_MM,
    )
    files = write_ct_series(other.hu, other.affine, dicom, seed=seed, header=header)
    why = "made from the axial series: Image Type says DERIVED"
    return SeriesEntry("sagittal reformat", "CT", f"dicom/{dicom.name}", len(files), None, why)


def _write_scout(
    dicom: Path,
    whose: tuple[Spine, int],
    acquisition: CtAcquisition,
    view: Literal["frontal", "lateral"],
    *,
    number: int,
) -> SeriesEntry:
    from dicom_ai_node.imaging.write_ct import write_ct_series  # noqa: PLC0415
    from dicom_ai_node.phantom.ct_scout import render_scout  # noqa: PLC0415

    spine, seed = whose
    image, affine = render_scout(spine, acquisition, view)
    header = replace(
        _header(spine, seed, acquisition),
        series_number=number,
        series_description=f"Scout {view}",
        image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"),
        slice_thickness_mm=1.0,
        pixel_padding_value=None,
    )
    write_ct_series(image, affine, dicom, seed=seed, header=header)
    return SeriesEntry(
        f"{view} scout", "CT", f"dicom/{dicom.name}", 1, None, "a projection: Image Type says LOCALIZER"
    )


def _header(spine: Spine, seed: int, acquisition: CtAcquisition) -> CtHeader:
    from dicom_ai_node.imaging.write_ct import CtHeader  # noqa: PLC0415

    sharp = acquisition.enhancement > 0.3
    padded = acquisition.circle and acquisition.padding_hu < -1024
    return CtHeader(
        patient_name=patient_name(seed),
        patient_age=round(spine.age),
        series_description=f"Spine {acquisition.slice_thickness_mm:g} mm {'bone' if sharp else 'soft'}",
        kernel="B60s" if sharp else "B30s",
        slice_thickness_mm=acquisition.slice_thickness_mm,
        pixel_padding_value=acquisition.padding_hu + 1024 if padded else None,
    )


def _seen(case: CtPhantom) -> str:
    seen = [item for item in case.truth["vertebrae"] if item["visible"] > 0.99]
    if not seen:
        return "no whole vertebra"
    return f"{seen[0]['level']} to {seen[-1]['level']}, {in_words(seen)}"


def _showing(spine: Spine, seed: int, levels: frozenset[Level]) -> CtAcquisition:
    """The first plausible acquisition that shows every level that was asked for, else the best of many."""
    import torch  # noqa: PLC0415

    from dicom_ai_node.phantom.ct import sample_ct_acquisition  # noqa: PLC0415
    from dicom_ai_node.phantom.grid import Grid  # noqa: PLC0415
    from dicom_ai_node.phantom.truth import visible_share  # noqa: PLC0415

    def least_seen(acquisition: CtAcquisition) -> float:
        grid = Grid(acquisition.shape, acquisition.affine, torch.device("cpu"))
        return min(
            (visible_share(item, grid) for item in spine.vertebrae if item.level in levels), default=1.0
        )

    best = sample_ct_acquisition(seed, spine)
    for k in range(1, _ATTEMPTS):
        if least_seen(best) >= 1.0:
            break
        best = max(best, sample_ct_acquisition(seed + k * _SEED_STEP, spine), key=least_seen)
    return best

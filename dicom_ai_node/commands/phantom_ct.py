"""`dicom-ai-node phantom --kind ct`: the CT of one person, one series or a whole study.

A case is a folder: ``dicom/`` with the axial series, ``truth.json``, and label maps on the grid of it:
``labels.nii.gz`` (bodies), ``whole.nii.gz`` (whole vertebrae), ``structures.nii.gz`` (discs and canal),
``lesions.nii.gz``; see `phantom.painting` for their numbers. In a study the series are folders of
``dicom/``: two scouts, axial, and a sagittal reformat, whose truth and label maps end in ``-sagittal``. The
seed decides on scanner and site (`imaging.ct_habits`): make, words, alphabet, missing tags, encoding, classic
or enhanced.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from dicom_ai_node.anatomy import Level
from dicom_ai_node.commands.phantom_person import PersonWish, SeriesEntry, in_words, person

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from dicom_ai_node.phantom.ct import CtAcquisition, CtPhantom
    from dicom_ai_node.phantom.spine import Spine

_MAPS: Final = {
    "labels": "labels",
    "whole": "whole_labels",
    "structures": "structures",
    "lesions": "lesions",
}
"""Files of label maps, and where `CtPhantom` has them."""

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
    case, _ = _write_axial(folder, folder / "dicom", (spine, seed), acquisition, number=2)
    slices, rows, columns = case.hu.shape
    return f"{folder}: {slices} slices of {rows}x{columns}, {_seen(case)}"


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
    scouts = [
        _write_scout(folder, whose, acquisition, "frontal", number=1),
        _write_scout(folder, whose, acquisition, "lateral", number=2),
    ]
    name = "03-axial"
    case, files = _write_axial(folder, folder / "dicom" / name, whose, acquisition, number=3)
    maps = tuple(f"{word}.nii.gz" for word in _MAPS)
    axial = SeriesEntry(
        "axial", "CT", f"dicom/{name}", files, "ct", "ct-volume", "an axial CT", "truth.json", maps
    )
    return [*scouts, axial, _write_sagittal(folder, whose, acquisition, case, number=4)]


def _write_axial(
    folder: Path, dicom: Path, whose: tuple[Spine, int], acquisition: CtAcquisition, *, number: int
) -> tuple[CtPhantom, int]:
    """The axial series with its truth and label maps; the phantom and the number of files."""
    # Imported here: the command's help and refusals need no torch.
    from dicom_ai_node.phantom.ct import render_ct  # noqa: PLC0415

    case = render_ct(whose[0], acquisition)
    files = _write(case.hu, case.affine, dicom, whose, acquisition, kind="axial", number=number)
    _write_truth(folder, case)
    return case, files


def _write_truth(folder: Path, case: CtPhantom, suffix: str = "") -> None:
    from dicom_ai_node.imaging.nifti import write_label_map  # noqa: PLC0415

    (folder / f"truth{suffix}.json").write_text(json.dumps(case.truth, indent=2) + "\n")
    for name, attribute in _MAPS.items():
        write_label_map(folder / f"{name}{suffix}.nii.gz", getattr(case, attribute), case.affine)


def _write_sagittal(
    folder: Path, whose: tuple[Spine, int], acquisition: CtAcquisition, case: CtPhantom, *, number: int
) -> SeriesEntry:
    """The sagittal reformat that scanners add to an axial series."""
    from dicom_ai_node.phantom.ct_reformat import reformat_grid, reformatted  # noqa: PLC0415

    spine, _ = whose
    step, _, pixel = acquisition.spacing_mm
    edge = max(pixel, 0.5 * step)
    middle = spine[Level.L2].frame[:3, 3]
    shape, affine = reformat_grid(case, "sagittal", (_SAGITTAL_MM, edge, edge), middle, _SAGITTAL_SLICES)
    other = reformatted(case, spine, shape, affine, thickness_mm=_SAGITTAL_MM)
    name = f"{number:02d}-sagittal"
    files = _write(
        other.hu, other.affine, folder / "dicom" / name, whose, acquisition, kind="sagittal", number=number
    )
    _write_truth(folder, other, "-sagittal")
    why = "made from the axial series, which is analysed itself"
    maps = tuple(f"{word}-sagittal.nii.gz" for word in _MAPS)
    place = f"dicom/{name}"
    return SeriesEntry("sagittal reformat", "CT", place, files, None, None, why, "truth-sagittal.json", maps)


def _write_scout(
    folder: Path,
    whose: tuple[Spine, int],
    acquisition: CtAcquisition,
    view: Literal["frontal", "lateral"],
    *,
    number: int,
) -> SeriesEntry:
    from dicom_ai_node.phantom.ct_scout import render_scout  # noqa: PLC0415

    image, affine = render_scout(whose[0], acquisition, view)
    name = f"{number:02d}-scout"
    _write(image, affine, folder / "dicom" / name, whose, acquisition, kind="scout", number=number)
    why = "a projection: Image Type says LOCALIZER"
    return SeriesEntry(f"{view} scout", "CT", f"dicom/{name}", 1, None, None, why, "truth.json")


def _write(
    hu: npt.NDArray[np.int16],
    affine: npt.NDArray[np.float64],
    dicom: Path,
    whose: tuple[Spine, int],
    acquisition: CtAcquisition,
    *,
    kind: Literal["axial", "sagittal", "scout"],
    number: int,
) -> int:
    """One series as the scanner of this seed writes it; the number of files."""
    from dicom_ai_node.imaging.ct_habits import CtSettings, ct_header, sample_ct_site  # noqa: PLC0415
    from dicom_ai_node.imaging.habits import examination  # noqa: PLC0415
    from dicom_ai_node.imaging.write_ct import write_ct_series, write_enhanced_ct  # noqa: PLC0415

    spine, seed = whose
    site = sample_ct_site(seed)
    thickness = {"axial": acquisition.slice_thickness_mm, "sagittal": _SAGITTAL_MM, "scout": 1.0}[kind]
    settings = CtSettings(
        kind=kind,
        slice_thickness_mm=thickness,
        kvp=acquisition.palette.kvp,
        sharp=acquisition.enhancement > 0.3,
        lowest_hu=int(hu.min()),
        padded=kind == "axial" and acquisition.circle and acquisition.padding_hu < -1024,
    )
    visit = examination(seed, "ct")
    header = replace(
        ct_header(seed, site, settings, number=number),
        patient_age=round(spine.age),
        study_instance_uid=visit.study_instance_uid,
        study_date=visit.day,
        study_time=visit.time,
        accession_number=visit.accession_number,
        frame_of_reference_uid=visit.frame_of_reference_uid,
    )
    if site.enhanced and kind != "scout":
        write_enhanced_ct(hu, affine, dicom, seed=seed, header=header)
        return 1
    return len(write_ct_series(hu, affine, dicom, seed=seed, header=header))


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

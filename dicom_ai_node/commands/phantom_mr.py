"""`dicom-ai-node phantom --kind mr`: one person's MR study as DICOM, with the truth about it.

A case is a folder: ``dicom/<series>/`` for every series; on its grid ``labels/<series>.nii.gz`` (bodies),
``whole/``, ``structures/`` (discs and canal) and ``lesions/`` (a localizer has one map per plane); for every
series ``truth/<series>.json``, how the patient lay in it, and ``truth.json``, that of the sagittal T2; and
``series.json``, which says of every series what it is and how the patient had moved since (4x4, LPS mm).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dicom_ai_node.anatomy import Level
from dicom_ai_node.commands.phantom_person import PersonWish, in_words, person

if TYPE_CHECKING:
    from dicom_ai_node.imaging.mr_habits import MrSettings, Site
    from dicom_ai_node.phantom.mr import MrAcquisition, MrPhantom
    from dicom_ai_node.phantom.spine import Spine

_ATTEMPTS: Final = 8
_SEED_STEP: Final = 1_000_003

_MAPS: Final = {"labels": "labels", "whole": "whole_labels", "structures": "structures", "lesions": "lesions"}
"""Folders of label maps, and where a rendered stack holds them."""


def write_mr_case(folder: Path, seed: int, wish: PersonWish) -> str:
    """One person's MR study: series, truth and label maps.

    Returns:
        One line about what was written.

    Raises:
        typer.BadParameter: this person cannot have such a fracture or disease.
    """
    # Imported here: the command's help and refusals need no torch.
    from dicom_ai_node.imaging.mr_habits import sample_site  # noqa: PLC0415
    from dicom_ai_node.phantom.mr import render_mr  # noqa: PLC0415

    spine = person(seed, wish)
    site = _in_the_persons_language(sample_site(seed), seed)
    for name in (*_MAPS, "truth"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    about: list[dict[str, Any]] = []
    truth: dict[str, Any] = {}
    for number, stacks in enumerate(_by_series(_showing(spine, seed, wish.shown)), start=1):
        rendered = [render_mr(spine, stack) for stack in stacks]
        about.append(_write_series(folder, number, stacks, rendered, (site, seed, round(spine.age))))
        if stacks[0].series == "t2":
            truth = rendered[0].truth
    (folder / "truth.json").write_text(json.dumps(truth, indent=2) + "\n")
    (folder / "series.json").write_text(json.dumps({"series": about}, indent=2) + "\n")
    seen = [item for item in truth["vertebrae"] if item["visible"] > 0.99]
    series = ", ".join(one["kind"] for one in about)
    where = f"{seen[0]['level']} to {seen[-1]['level']}" if seen else "no whole vertebra"
    return f"{folder}: {series}; {where}, {in_words(seen)}"


def write_mr_series_of(
    folder: Path, number: int, stack: MrAcquisition, spine: Spine, seed: int
) -> list[Path]:
    """One series of a person's study as DICOM, without truth: for whoever needs files to analyse."""
    from dicom_ai_node.imaging.mr_habits import sample_site  # noqa: PLC0415
    from dicom_ai_node.phantom.mr import render_mr  # noqa: PLC0415

    whose = _in_the_persons_language(sample_site(seed), seed), seed, round(spine.age)
    return _write_dicom(
        folder / f"{number:02d}-{stack.series}", number, [stack], [render_mr(spine, stack)], whose
    )[1]


def _in_the_persons_language(site: Site, seed: int) -> Site:
    """The same scanner in the hospital where the person's other examinations are made."""
    from dicom_ai_node.imaging.habits import ALPHABETS, sample_language  # noqa: PLC0415

    language = sample_language(seed)
    alphabet = ALPHABETS[language]
    return replace(
        site,
        language=language,
        patient_name=alphabet.patient_name,
        character_set=alphabet.character_set,
        study_description=site.study_description if site.language == language else "MR SPINE",
    )


def _by_series(study: Sequence[MrAcquisition]) -> list[list[MrAcquisition]]:
    groups: dict[str, list[MrAcquisition]] = {}
    for stack in study:
        groups.setdefault(stack.series, []).append(stack)
    return list(groups.values())


def _write_series(
    folder: Path,
    number: int,
    stacks: Sequence[MrAcquisition],
    rendered: Sequence[MrPhantom],
    whose: tuple[Site, int, int],
) -> dict[str, Any]:
    """Write one series and its label maps; what `series.json` says of it. `whose`: site, seed, age."""
    from dicom_ai_node.imaging.nifti import write_label_map  # noqa: PLC0415

    first = stacks[0]
    name = f"{number:02d}-{first.series}"
    description, files = _write_dicom(folder / "dicom" / name, number, stacks, rendered, whose)
    maps: dict[str, list[str]] = {kind: [] for kind in _MAPS}
    for stack, one in zip(stacks, rendered, strict=True):
        for kind, attribute in _MAPS.items():
            path = Path(kind) / f"{name}{f'-{stack.plane}' if len(stacks) > 1 else ''}.nii.gz"
            write_label_map(folder / path, getattr(one, attribute), one.affine)
            maps[kind].append(path.as_posix())
    (folder / "truth" / f"{name}.json").write_text(json.dumps(rendered[0].truth, indent=2) + "\n")
    return {
        "kind": first.series,
        "description": description,
        "folder": f"dicom/{name}",
        "files": len(files),
        **maps,
        "truth": f"truth/{name}.json",
        "motion": [[round(float(v), 6) for v in row] for row in first.motion],
    }


def _write_dicom(
    target: Path,
    number: int,
    stacks: Sequence[MrAcquisition],
    rendered: Sequence[MrPhantom],
    whose: tuple[Site, int, int],
) -> tuple[str, list[Path]]:
    """Series Description and files of one series. `whose`: site, seed, age."""
    from dicom_ai_node.imaging.habits import examination  # noqa: PLC0415
    from dicom_ai_node.imaging.mr_habits import mr_header  # noqa: PLC0415
    from dicom_ai_node.imaging.write_mr import StudyIdentity, write_enhanced_mr, write_mr_series  # noqa: PLC0415

    site, seed, age = whose
    highest = max(int(one.pixels.max()) for one in rendered)
    header = mr_header(seed, site, _settings(stacks[0]), number=number, highest=highest)
    visit = examination(seed, "mr")
    study = StudyIdentity(
        visit.study_instance_uid, f"{visit.day:%Y%m%d}", frame_of_reference_uid=visit.frame_of_reference_uid
    )
    header = replace(header, patient_age=age, study=study)
    if site.enhanced and len(stacks) == 1:
        files = [write_enhanced_mr(rendered[0].pixels, rendered[0].affine, target, seed=seed, header=header)]
    else:
        files = write_mr_series(
            [(one.pixels, one.affine) for one in rendered], target, seed=seed, header=header
        )
    return header.series_description, files


def _settings(stack: MrAcquisition) -> MrSettings:
    from dicom_ai_node.imaging.mr_habits import MrSettings  # noqa: PLC0415

    sequence = stack.palette.sequence
    return MrSettings(
        kind=sequence.kind,
        readout=sequence.readout,
        repetition_ms=sequence.repetition_ms,
        echo_ms=sequence.echo_ms,
        inversion_ms=sequence.inversion_ms,
        flip_deg=sequence.flip_deg,
        echo_train=sequence.echo_train,
        bandwidth_hz=sequence.bandwidth_hz,
        field_t=stack.palette.field_t,
        fat_saturated=sequence.fat == "saturated",
        saturation_band=stack.saturation_ahead_mm is not None,
        partial_fourier=stack.readout.partial < 1.0,
        phase_by_rows=stack.readout.phase_axis == "rows",
        matrix=stack.readout.matrix,
        slice_thickness_mm=stack.slice_thickness_mm,
    )


def _showing(spine: Spine, seed: int, levels: frozenset[Level]) -> tuple[MrAcquisition, ...]:
    """The first plausible study that shows every fracture that was asked for, else the best of some."""
    import torch  # noqa: PLC0415

    from dicom_ai_node.phantom.grid import Grid  # noqa: PLC0415
    from dicom_ai_node.phantom.mr_study import sample_mr_study  # noqa: PLC0415
    from dicom_ai_node.phantom.truth import visible_share  # noqa: PLC0415

    def least_seen(study: tuple[MrAcquisition, ...]) -> float:
        shown = next(stack for stack in study if stack.series == "t2")
        grid = Grid(shown.shape, shown.affine, torch.device("cpu"))
        return min(
            (visible_share(item, grid) for item in spine.vertebrae if item.level in levels), default=1.0
        )

    best = sample_mr_study(seed, spine)
    for k in range(1, _ATTEMPTS):
        if least_seen(best) >= 1.0:
            break
        for region in ("lumbar", "thoracolumbar", "thoracic"):
            best = max(best, sample_mr_study(seed + k * _SEED_STEP, spine, region=region), key=least_seen)
    return best

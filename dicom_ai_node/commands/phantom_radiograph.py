"""`dicom-ai-node phantom --kind radiograph`: the lateral and the frontal radiograph of one person.

A case is a folder: ``dicom/`` with ``lateral.dcm`` and ``frontal.dcm`` of one study; ``truth.json`` of the
lateral image and ``truth-frontal.json`` of the other (see `phantom.radiograph_truth`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import typer

from dicom_ai_node.anatomy import Level
from dicom_ai_node.report import Deformity

if TYPE_CHECKING:
    from dicom_ai_node.imaging.write_radiograph import RadiographHeader
    from dicom_ai_node.phantom.radiograph import RadiographAcquisition, RadiographPhantom
    from dicom_ai_node.phantom.spine import Spine

_ATTEMPTS: Final = 40
_SEED_STEP: Final = 1_000_003

_BODY_PARTS: Final = {
    "LSPINE": 0.42, "SPINE": 0.25, "TSPINE": 0.1, "ABDOMEN": 0.08, "WS LATERAL": 0.05, "HIP": 0.04, "": 0.06,
}  # fmt: skip
"""What stations write under Body Part Examined: right, old, of their own language, wrong, or nothing."""

_SYNTAXES: Final = {"explicit": 0.64, "implicit": 0.12, "jpeg-ls": 0.08, "jpeg-2000": 0.08, "rle": 0.08}

_NAMES: Final[tuple[tuple[str | tuple[str, ...], str], ...]] = (
    ("ISO_IR 100", "Phantom^Seed {seed}"),
    ("ISO_IR 192", "Phantom^Wirbelsäule {seed}"),
    (("", "ISO 2022 IR 87"), "Mokei^Sekitsui=模型^脊椎=もけい^せきつい"),
)
"""Character sets, and fictional patients that need them."""


def write_radiograph_case(
    folder: Path, seed: int, fractures: Mapping[Level, tuple[Deformity, int]] | None
) -> str:
    """One person's radiographs with their truth.

    Returns:
        One line about what was written.

    Raises:
        typer.BadParameter: this person cannot have such a fracture.
    """
    # Imported here: the command's help and refusals need no torch.
    from dicom_ai_node.imaging.write_radiograph import write_radiograph  # noqa: PLC0415
    from dicom_ai_node.phantom.radiograph import render_radiograph  # noqa: PLC0415
    from dicom_ai_node.phantom.spine import sample_spine  # noqa: PLC0415

    try:
        spine = sample_spine(seed, fractures=fractures)
    except ValueError as error:
        raise typer.BadParameter(f"seed {seed}: {error}", param_hint="--fracture") from error
    views: tuple[Literal["lateral", "frontal"], ...] = ("lateral", "frontal")
    seen: list[str] = []
    broken: list[str] = []
    for number, view in enumerate(views, start=1):
        case = render_radiograph(spine, showing(spine, seed, view, fractures or {}))
        header = film_header(case, spine, seed, number)
        write_radiograph(case.pixels, folder / "dicom" / f"{view}.dcm", header=header, seed=seed)
        name = "truth.json" if view == "lateral" else f"truth-{view}.json"
        (folder / name).write_text(json.dumps(case.truth, indent=2) + "\n")
        if view == "lateral":
            whole = [item for item in case.truth["vertebrae"] if item["visible"] > 0.99]
            seen = [item["level"] for item in whole]
            broken = [
                f"{item['level']} {item['deformity']} {item['genant_grade']}"
                for item in whole
                if item["fractured"]
            ]
    levels = f"{seen[0]} to {seen[-1]}, {', '.join(broken) or 'no fracture'}" if seen else "no whole vertebra"
    return f"{folder}: lateral and frontal radiograph, {levels}"


def showing(
    spine: Spine,
    seed: int,
    view: Literal["lateral", "frontal"],
    fractures: Mapping[Level, tuple[Deformity, int]],
) -> RadiographAcquisition:
    """The first plausible exposure that shows every fracture that was asked for, else the best of many."""
    from dicom_ai_node.phantom.radiograph import sample_radiograph_acquisition  # noqa: PLC0415
    from dicom_ai_node.phantom.radiograph_truth import shown_share  # noqa: PLC0415

    def least_seen(acquisition: RadiographAcquisition) -> float:
        return min(
            (shown_share(item, acquisition) for item in spine.vertebrae if item.level in fractures),
            default=1.0,
        )

    best = sample_radiograph_acquisition(seed, spine, view=view)
    for k in range(1, _ATTEMPTS):
        if least_seen(best) >= 1.0:
            break
        best = max(
            best, sample_radiograph_acquisition(seed + k * _SEED_STEP, spine, view=view), key=least_seen
        )
    return best


def film_header(case: RadiographPhantom, spine: Spine, seed: int, number: int) -> RadiographHeader:
    """One maker's habits by the seed: which class, spacing and encoding, which optional tags.

    A study that holds more than films replaces `study_instance_uid` and its like in what this returns.
    """
    from dicom_ai_node.imaging.write_radiograph import RadiographHeader  # noqa: PLC0415
    from dicom_ai_node.phantom.randomness import stream  # noqa: PLC0415

    generator = stream(seed, "station")
    taken = case.acquisition
    lateral = taken.view == "lateral"
    tells = bool(generator.random() < 0.7)
    spacing = str(generator.choice(["imager", "detector", "calibrated"], p=[0.5, 0.3, 0.2]))
    positions = {"left": "LL", "right": "RL", "back": "AP", "front": "PA"}
    across = {"left": "P", "right": "A"} if lateral else {"right": "L", "left": "R"}
    object_class = "DX" if generator.random() < 0.6 else "CR"
    part = str(generator.choice(list(_BODY_PARTS), p=list(_BODY_PARTS.values())))
    private = bool(generator.random() < 0.5)
    omit = ("SoftwareVersions", "AcquisitionTime") if generator.random() < 0.2 else ()
    syntax = str(generator.choice(list(_SYNTAXES), p=list(_SYNTAXES.values())))
    character_set, name = _NAMES[int(generator.choice(3, p=[0.8, 0.14, 0.06]))]
    return RadiographHeader(
        object_class=object_class,  # type: ignore[arg-type]
        photometric=case.photometric,
        bits_stored=case.bits,
        imager_pixel_mm=taken.pixel_mm,
        pixel_spacing=spacing,  # type: ignore[arg-type]
        magnification=taken.magnification if tells or spacing == "calibrated" else None,
        source_detector_mm=taken.source_detector_mm if tells else None,
        source_patient_mm=taken.source_object_mm if tells else None,
        view=positions[taken.toward],  # type: ignore[arg-type]
        patient_orientation=(across[taken.facing], "F"),
        body_part_examined=part or None,
        kvp=taken.kvp,
        mas=taken.mas,
        patient_name=name.format(seed=seed),
        patient_age=round(spine.age),
        series_description=f"Spine {taken.view}",
        series_number=number,
        character_set=character_set,
        burned_in=taken.annotation is not None,
        private=private,
        transfer_syntax=syntax,  # type: ignore[arg-type]
        omit=omit,
    )

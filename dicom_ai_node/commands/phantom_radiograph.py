"""`dicom-ai-node phantom --kind radiograph`: the lateral and the frontal radiograph of one person.

A case is a folder: ``dicom/lateral/`` and ``dicom/frontal/``, two series of one study; ``truth.json`` of the
lateral image and ``truth-frontal.json`` of the other (see `phantom.radiograph_truth`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from dicom_ai_node.anatomy import Level
from dicom_ai_node.commands.phantom_person import PersonWish, in_words, patient_name, person

if TYPE_CHECKING:
    from dicom_ai_node.imaging.write_radiograph import RadiographHeader
    from dicom_ai_node.phantom.radiograph import RadiographAcquisition, RadiographPhantom
    from dicom_ai_node.phantom.spine import Spine

_ATTEMPTS: Final = 40
_SEED_STEP: Final = 1_000_003


def write_radiograph_case(folder: Path, seed: int, wish: PersonWish) -> str:
    """One person's radiographs with their truth.

    Returns:
        One line about what was written.

    Raises:
        typer.BadParameter: this person cannot have such a fracture or disease.
    """
    # Imported here: the command's help and refusals need no torch.
    from dicom_ai_node.imaging.write_radiograph import write_radiograph  # noqa: PLC0415
    from dicom_ai_node.phantom.radiograph import render_radiograph  # noqa: PLC0415

    spine = person(seed, wish)
    views: tuple[Literal["lateral", "frontal"], ...] = ("lateral", "frontal")
    line = "no whole vertebra"
    for number, view in enumerate(views, start=1):
        case = render_radiograph(spine, _showing(spine, seed, view, wish.shown))
        header = _header(case, spine, seed, number)
        write_radiograph(case.pixels, folder / "dicom" / view / f"{view}.dcm", header=header, seed=seed)
        name = "truth.json" if view == "lateral" else f"truth-{view}.json"
        (folder / name).write_text(json.dumps(case.truth, indent=2) + "\n")
        if view == "lateral":
            whole = [item for item in case.truth["vertebrae"] if item["visible"] > 0.99]
            if whole:
                line = f"{whole[0]['level']} to {whole[-1]['level']}, {in_words(whole)}"
    return f"{folder}: lateral and frontal radiograph: {line}"


def _showing(
    spine: Spine,
    seed: int,
    view: Literal["lateral", "frontal"],
    levels: frozenset[Level],
) -> RadiographAcquisition:
    """The first plausible exposure that shows every fracture that was asked for, else the best of many."""
    from dicom_ai_node.phantom.radiograph import sample_radiograph_acquisition  # noqa: PLC0415
    from dicom_ai_node.phantom.radiograph_truth import shown_share  # noqa: PLC0415

    def least_seen(acquisition: RadiographAcquisition) -> float:
        return min(
            (shown_share(item, acquisition) for item in spine.vertebrae if item.level in levels),
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


def _header(case: RadiographPhantom, spine: Spine, seed: int, number: int) -> RadiographHeader:
    """One maker's habits by the seed: which class, which spacing, which optional tags."""
    from dicom_ai_node.imaging.write_radiograph import RadiographHeader  # noqa: PLC0415
    from dicom_ai_node.phantom.randomness import stream  # noqa: PLC0415

    generator = stream(seed, "station")
    taken = case.acquisition
    lateral = taken.view == "lateral"
    tells = bool(generator.random() < 0.7)
    spacing = str(generator.choice(["imager", "detector", "calibrated"], p=[0.5, 0.3, 0.2]))
    positions = {"left": "LL", "right": "RL", "back": "AP", "front": "PA"}
    across = {"left": "P", "right": "A"} if lateral else {"right": "L", "left": "R"}
    return RadiographHeader(
        object_class="DX" if generator.random() < 0.6 else "CR",
        photometric=case.photometric,
        bits_stored=case.bits,
        imager_pixel_mm=taken.pixel_mm,
        pixel_spacing=spacing,  # type: ignore[arg-type]
        magnification=taken.magnification if tells or spacing == "calibrated" else None,
        source_detector_mm=taken.source_detector_mm if tells else None,
        source_patient_mm=taken.source_object_mm if tells else None,
        view=positions[taken.toward],  # type: ignore[arg-type]
        patient_orientation=(across[taken.facing], "F"),
        body_part_examined=str(
            generator.choice(["LSPINE", "SPINE", "TSPINE", "ABDOMEN"], p=[0.5, 0.3, 0.1, 0.1])
        ),
        kvp=taken.kvp,
        mas=taken.mas,
        patient_name=patient_name(seed),
        patient_age=round(spine.age),
        series_description=f"Spine {taken.view}",
        series_number=number,
        private=bool(generator.random() < 0.5),
        omit=("SoftwareVersions", "AcquisitionTime") if generator.random() < 0.2 else (),
    )

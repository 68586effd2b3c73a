"""How long a radiograph of 2500 x 3000 takes from file to validated results, stage by stage."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from rich.console import Console

from dicom_ai_node.commands.bench import Measured, peak_memory_gb, process_twice, switched_on

SEED: Final = 5
ROWS, COLUMNS = 3000, 2500
AIM_S: Final = 6.0


def measure(console: Console) -> Measured:
    """One film twice: the first pass loads models, the second is what a node sees."""
    from dicom_ai_node.intake.router import route_files  # noqa: PLC0415 - loads torch
    from dicom_ai_node.workflow.steps import node_steps  # noqa: PLC0415

    settings = switched_on("radiograph")
    ours: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="bench-radiograph-") as text:
        folder = Path(text)
        console.print(f"making a film of {ROWS} x {COLUMNS}", markup=False)
        _write_film(folder / "film.dcm")
        before = peak_memory_gb()
        routed = route_files([folder / "film.dcm"], settings)[0]
        ours |= process_twice("film", routed, folder, node_steps(settings))
    ours["peak memory, GB"] = peak_memory_gb()
    # Making the film takes memory too; a node does not.
    ours["peak memory of making the film, GB"] = before
    return Measured("radiograph", ours, {"aim": {"film, s": AIM_S}}, {"film": AIM_S / ours["film, s"]})


def _write_film(path: Path) -> None:
    from dicom_ai_node.commands.phantom_radiograph import film_header  # noqa: PLC0415 - loads torch
    from dicom_ai_node.imaging.write_radiograph import write_radiograph  # noqa: PLC0415
    from dicom_ai_node.phantom.radiograph import (  # noqa: PLC0415
        render_radiograph,
        sample_radiograph_acquisition,
    )
    from dicom_ai_node.phantom.spine import sample_spine  # noqa: PLC0415

    spine = sample_spine(SEED)
    sampled = sample_radiograph_acquisition(SEED, spine)
    rows, columns = sampled.matrix
    edge = sampled.pixel_mm * max(rows / ROWS, columns / COLUMNS)
    taken = replace(sampled, matrix=(ROWS, COLUMNS), pixel_mm=edge, collimation=(0, ROWS, 0, COLUMNS))
    made = render_radiograph(spine, taken)
    header = replace(film_header(made, spine, SEED, 1), transfer_syntax="explicit")
    write_radiograph(made.pixels, path, header=header, seed=SEED)

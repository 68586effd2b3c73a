"""How long an MR study of T2, T1 and STIR takes from files to validated results, stage by stage."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from rich.console import Console

from dicom_ai_node.commands.bench import Measured, peak_memory_gb, process_twice, switched_on

if TYPE_CHECKING:
    from dicom_ai_node.phantom.mr import MrAcquisition

SEED: Final = 3
KINDS: Final = ("t2", "t1", "stir")
SHAPE: Final = (15, 512, 512)
"""Slices, rows, columns of each series, whatever the phantom's scanner would have chosen."""
AIMS_S: Final = {"cpu": 10.0, "cuda": 0.3}


def measure(console: Console) -> Measured:
    """One study twice: the first pass loads models, the second is what a node sees."""
    from dicom_ai_node.inference.device import choose_device  # noqa: PLC0415
    from dicom_ai_node.intake.router import route_files  # noqa: PLC0415 - loads torch
    from dicom_ai_node.workflow.steps import node_steps  # noqa: PLC0415

    settings = switched_on("mri")
    ours: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="bench-mri-") as text:
        folder = Path(text)
        console.print(f"making {', '.join(KINDS)}", markup=False)
        ours["slices"] = float(_write_study(folder / "study"))
        before = peak_memory_gb()
        routes = route_files([folder / "study"], settings)
        routed = next(item for item in routes if item.decision.pipeline is not None)
        ours |= process_twice("study", routed, folder, node_steps(settings))
    ours["peak memory, GB"] = peak_memory_gb()
    # Making the study takes memory too; a node does not.
    ours["peak memory of making the study, GB"] = before
    aim_s = AIMS_S[choose_device(settings.models.device).type]
    return Measured("mri", ours, {"aim": {"study, s": aim_s}}, {"study": aim_s / ours["study, s"]})


def of_shape(one: MrAcquisition, shape: tuple[int, int, int]) -> MrAcquisition:
    """The same slices of the same field of view about the same middle, with so many slices, rows and columns.

    What is sampled stays: scanners too reconstruct larger images than they measured.
    """
    affine = one.affine.copy()
    affine[:3, 1:3] *= np.array(one.shape[1:]) / np.array(shape[1:])
    middle = one.affine[:3, :3] @ ((np.array(one.shape) - 1) / 2) + one.affine[:3, 3]
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return replace(one, shape=shape, affine=affine)


def _write_study(folder: Path) -> int:
    """Writes the series of one person; how many slices they have."""
    from dicom_ai_node.commands.phantom_mr import write_mr_series_of  # noqa: PLC0415 - loads torch
    from dicom_ai_node.phantom.mr_study import sample_mr_study  # noqa: PLC0415
    from dicom_ai_node.phantom.spine import sample_spine  # noqa: PLC0415

    spine = sample_spine(SEED)
    study = [one for one in sample_mr_study(SEED, spine, region="lumbar") if one.series in KINDS]
    for number, one in enumerate(study, start=1):
        write_mr_series_of(folder, number, of_shape(one, SHAPE), spine, SEED)
    return len(study) * SHAPE[0]

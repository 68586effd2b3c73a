"""How long a spine CT takes from files to validated results, stage by stage, on a phantom."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from rich.console import Console

from dicom_ai_node.commands.bench import Measured, peak_memory_gb, process_twice
from dicom_ai_node.config import load_settings

SEED: Final = 5


def measure(console: Console) -> Measured:
    """One phantom twice: the first pass loads models and compiles, the second is what a node sees."""
    from dicom_ai_node.commands.phantom_ct import write_ct_case  # noqa: PLC0415 - loads torch
    from dicom_ai_node.commands.phantom_person import PersonWish  # noqa: PLC0415
    from dicom_ai_node.intake.router import route_files  # noqa: PLC0415
    from dicom_ai_node.workflow.steps import node_steps  # noqa: PLC0415

    settings = load_settings(None)
    ours: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="bench-ct-") as text:
        folder = Path(text)
        console.print(write_ct_case(folder / "study", SEED, PersonWish()), markup=False)
        routed = route_files([folder / "study" / "dicom"], settings)[0]
        ours |= process_twice("study", routed, folder, node_steps(settings))
        ours["slices"] = float(len(routed.paths))
    ours["peak memory, GB"] = peak_memory_gb()
    return Measured("ct", ours)

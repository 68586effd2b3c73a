"""How long a spine CT takes from files to validated results, stage by stage, on a phantom."""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path
from typing import Final

from rich.console import Console

from dicom_ai_node.commands.bench import Measured, Stages
from dicom_ai_node.commands.process import process_series
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
        steps = node_steps(settings)
        for name in ("first", "second"):
            stages = Stages()
            began = time.perf_counter()
            done = process_series(routed, folder / name, steps, stages)
            whole = time.perf_counter() - began
            if name == "first":
                ours["first study with loading, s"] = whole
                continue
            ours["study, s"] = whole
            ours.update({f"{stage}, s": seconds for stage, seconds in stages.seconds.items()})
            ours["slices"] = float(len(routed.paths))
            ours["vertebrae"] = float(len(done.report.vertebrae))
    ours["peak memory, GB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return Measured("ct", ours)

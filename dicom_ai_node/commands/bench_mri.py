"""How long an MR study of T2, T1 and STIR takes from files to validated results, stage by stage."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from rich.console import Console

from dicom_ai_node.commands.bench import Measured, peak_memory_gb, process_twice, switched_on

SEED: Final = 3
KINDS: Final = ("t2", "t1", "stir")
AIM_S: Final = 10.0


def measure(console: Console) -> Measured:
    """One study twice: the first pass loads models, the second is what a node sees."""
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
    return Measured("mri", ours, {"aim": {"study, s": AIM_S}}, {"study": AIM_S / ours["study, s"]})


def _write_study(folder: Path) -> int:
    """Writes the series of one person; how many slices they have."""
    from dicom_ai_node.commands.phantom_mr import write_mr_series_of  # noqa: PLC0415 - loads torch
    from dicom_ai_node.phantom.mr_study import sample_mr_study  # noqa: PLC0415
    from dicom_ai_node.phantom.spine import sample_spine  # noqa: PLC0415

    spine = sample_spine(SEED)
    study = [one for one in sample_mr_study(SEED, spine, region="lumbar") if one.series in KINDS]
    for number, one in enumerate(study, start=1):
        write_mr_series_of(folder, number, one, spine, SEED)
    return sum(one.shape[0] for one in study)

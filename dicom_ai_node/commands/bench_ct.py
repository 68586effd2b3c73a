"""How long a spine CT takes from files to validated results, stage by stage, on a phantom.

The peer is the way of the paper (P3 section 2.1): the same networks with the same weights, in windows of the
paper's size over the whole volume at 1 mm, float32, by MONAI's `SlidingWindowInferer`. All windows of a spine
would take hours on a few cores: some are measured, the time of all is told as their number times that.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from rich.console import Console

from dicom_ai_node.commands.bench import Measured, peak_memory_gb, process_twice
from dicom_ai_node.commands.progress import showing_progress
from dicom_ai_node.config import load_settings
from dicom_ai_node.errors import NodeError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dicom_ai_node.imaging.volume import Volume
    from dicom_ai_node.inference.bundle import Bundle

Progress = Callable[[str, float], None]
Predictor = Callable[["Tensor"], "Tensor"]

SEED: Final = 5

WINDOWS: Final = 2
"""How many windows of each network are measured, after one that is not."""

SPACING_MM: Final = 1.0
OVERLAP: Final = 0.25
"""MONAI's own; P3 names none."""

ROI: Final[dict[str, tuple[int, int, int]]] = {"localise": (128, 96, 96), "segment": (128, 128, 128)}
"""Windows of P3 sections 2.1 and 2.2, slices first."""


def measure(console: Console, *, windows: int = WINDOWS, memory_slices: int = 0) -> Measured:
    """One phantom twice, and the peer's windows on the same volume.

    Args:
        console: gets progress.
        windows: of each network that are measured of the peer; 0 leaves it out.
        memory_slices: if any, the peak memory of a series of so many slices of 512 x 512 is measured too, in
            a process of its own.
    """
    from dicom_ai_node.commands.phantom_ct import write_ct_case  # noqa: PLC0415 - loads torch
    from dicom_ai_node.commands.phantom_person import PersonWish  # noqa: PLC0415
    from dicom_ai_node.imaging.volume import load_volume  # noqa: PLC0415
    from dicom_ai_node.intake.router import route_files  # noqa: PLC0415
    from dicom_ai_node.workflow.steps import node_steps  # noqa: PLC0415

    settings = load_settings(None)
    ours: dict[str, float] = {}
    peers: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-ct-") as text:
        folder = Path(text)
        console.print(write_ct_case(folder / "study", SEED, PersonWish()), markup=False)
        routed = route_files([folder / "study" / "dicom"], settings)[0]
        # The first pass loads models and compiles, the second is what a node sees.
        ours |= process_twice("study", routed, folder, node_steps(settings))
        ours["slices"] = float(len(routed.paths))
        ours["peak memory, GB"] = peak_memory_gb()
        if windows:
            with showing_progress(console) as progress:
                name = f"MONAI at {SPACING_MM:g} mm, extrapolated from {windows} windows each"
                peers[name] = sliding_windows(load_volume(routed.paths), windows, progress)
        if memory_slices:
            console.print(f"making and reading a CT of {memory_slices} slices", markup=False)
            ours[f"peak memory of {memory_slices} slices, GB"] = _peak_of(folder / "long", memory_slices)
    ratios = {
        f"{stage}: seconds of {name} over ours": values[f"{stage}, s"] / ours[f"{stage}, s"]
        for name, values in peers.items()
        for stage in ROI
        if ours.get(f"{stage}, s")
    }
    return Measured("ct", ours, peers, ratios)


def sliding_windows(volume: Volume, windows: int, progress: Progress) -> dict[str, float]:
    """What the peer needs for a volume.

    Args:
        volume: the series.
        windows: of each network that are measured.
        progress: is told how far it is.

    Returns:
        Seconds of resampling and per window as measured; windows of the whole volume as counted; seconds of
        each network as extrapolated from both.
    """
    import torch  # noqa: PLC0415

    from dicom_ai_node.imaging.resample import resample_isotropic  # noqa: PLC0415
    from dicom_ai_node.inference.bundle import find_models_dir, load_bundle  # noqa: PLC0415

    models, cpu = find_models_dir(None), torch.device("cpu")
    progress("resampling to 1 mm", 0.0)
    began = time.perf_counter()
    whole, _ = resample_isotropic(volume.voxels, volume.affine, SPACING_MM, device=cpu)
    found = {"resampling to 1 mm, s": time.perf_counter() - began}
    for number, (stage, roi) in enumerate(ROI.items()):
        progress(f"{stage}, {windows} windows", (1 + 2 * number) / 5)
        predictor = _predictor(load_bundle(models / f"ct-{stage}", cpu), stage, roi)
        per_window = seconds_per_window(predictor, whole, roi, windows)
        count = windows_of(tuple(whole.shape), roi)
        found |= {
            f"{stage}, windows of the volume": float(count),
            f"{stage}, windows measured": float(windows),
            f"{stage}, s per window": per_window,
            f"{stage}, s": count * per_window,
        }
    progress("done", 1.0)
    return found


def windows_of(shape: Sequence[int], roi: Sequence[int]) -> int:
    """How many windows `SlidingWindowInferer` lays over a volume with `OVERLAP`."""
    count = 1
    for length, edge in zip(shape, roi, strict=True):
        step = max(1, int(edge * (1 - OVERLAP)))
        count *= 1 + max(0, -(-(length - edge) // step))
    return count


def seconds_per_window(predictor: Predictor, whole: Tensor, roi: Sequence[int], windows: int) -> float:
    """Wall seconds of one window, blending included; from a part of the volume that so many windows cover.

    Args:
        predictor: takes (1, 1, *roi).
        whole: HU, shape (slices, rows, columns).
        roi: size of a window.
        windows: how many; one more is run before, unmeasured.
    """
    import torch  # noqa: PLC0415
    from monai.inferers.inferer import SlidingWindowInferer  # noqa: PLC0415 - takes seconds to load
    from torch.nn import functional  # noqa: PLC0415

    step = int(roi[0] * (1 - OVERLAP))
    size = (roi[0] + (windows - 1) * step, roi[1], roi[2])
    # From the middle, where the spine is; a volume that is smaller is continued by air.
    first = [max(0, (have - want) // 2) for have, want in zip(whole.shape, size, strict=True)]
    part = whole[tuple(slice(low, low + want) for low, want in zip(first, size, strict=True))]
    missing = [
        amount
        for have, want in zip(reversed(part.shape), reversed(size), strict=True)
        for amount in (0, want - have)
    ]
    image = functional.pad(part.float(), missing, value=-1024.0)[None, None]
    inferer = SlidingWindowInferer(roi_size=tuple(roi), sw_batch_size=1, overlap=OVERLAP, mode="gaussian")
    with torch.inference_mode():
        predictor(image[:, :, : roi[0]])
        began = time.perf_counter()
        inferer(image, predictor)
        return (time.perf_counter() - began) / windows


def _predictor(bundle: Bundle, stage: str, roi: Sequence[int]) -> Predictor:
    """A bundle's network as MONAI wants it: HU in, one tensor out."""
    import torch  # noqa: PLC0415

    from dicom_ai_node.networks.intensity import marker, standardise  # noqa: PLC0415

    options, network = bundle.metadata.ct, bundle.network
    meant: torch.Tensor | None = None
    if stage == "segment":
        assert options.marker_sigma_mm is not None
        meant = marker(tuple(roi), options.marker_sigma_mm / SPACING_MM)[None, None]

    def predict(window: torch.Tensor) -> torch.Tensor:
        image = standardise(window[0, 0], options.clip_hu)[None, None]
        answer = network(image if meant is None else torch.cat([image, meant], dim=1))
        heatmaps: torch.Tensor = answer.product if stage == "localise" else answer
        return heatmaps

    return predict


def _peak_of(folder: Path, slices: int) -> float:
    """Peak memory in GB of a process that reads a long series and writes its results."""
    from dicom_ai_node.imaging.write_ct import write_ct_series  # noqa: PLC0415
    from dicom_ai_node.phantom.ct import CtAcquisition, render_ct  # noqa: PLC0415
    from dicom_ai_node.phantom.spine import sample_spine  # noqa: PLC0415

    # Drawn at a third of the slices and a quarter of the pixels, each repeated: memory knows no detail.
    repeated = (3, 4, 4)
    spine = sample_spine(SEED)
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = -500.0 / (slices / 3), 2.8, 2.8, 1.0
    trunk = spine.trunk.frame[:3, 3]
    affine[:3, 3] = [trunk[0] - 179.0, trunk[1] - 250.0, float(spine.vertebrae[8].frame[2, 3])]
    drawn = render_ct(spine, CtAcquisition((-(-slices // 3), 128, 128), affine, 1.5)).hu
    for axis, times in enumerate(repeated):
        drawn = drawn.repeat(times, axis=axis)
    fine = affine.copy()
    fine[:3, :3] /= np.array(repeated)
    write_ct_series(drawn[:slices], fine, folder / "series")
    del drawn
    program = [sys.executable, "-c", "from dicom_ai_node.cli import app; app()"]
    command = [*program, "process", str(folder / "series"), "--out", str(folder / "results")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise NodeError(f"process failed on {slices} slices: {(done.stdout + done.stderr)[-500:]}")
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9

"""`bench phantom`: how long the digital spine takes to be seen by each modality, and to teach.

There is no peer that makes such images: what stands beside it are the aims for two idle cores, wall time.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from rich.console import Console

from dicom_ai_node.commands.bench import Measured

if TYPE_CHECKING:
    from dicom_ai_node.phantom.spine import Spine

SEED: Final = 3
AIMS: Final = {
    "CT 400x256x256, s": 15.0,
    "lateral radiograph 2048x1024, s": 5.0,
    "MR series 18x384x384, s": 8.0,
    "crops of 64x64x64 per second and core": 200.0,
}
_CROPS: Final = 600


def measure(console: Console) -> Measured:
    """Make one person's images, and crops from a small cache.

    Returns:
        Wall seconds and processor seconds of each image, and crops per second; the aims as the peer.
    """
    # Imported here: loading torch takes seconds.
    from dicom_ai_node.phantom.spine import SpineOptions, sample_spine  # noqa: PLC0415

    spine = sample_spine(SEED, options=SpineOptions(diseases="realistic", degeneration="realistic"))
    ours: dict[str, float] = {}
    for name, make in zip(AIMS, (_ct, _radiograph, _mr), strict=False):
        console.print(f"making {name.rpartition(',')[0]}", markup=False)
        render = make(spine)
        wall, processor = time.perf_counter(), time.process_time()
        render()
        ours[name] = time.perf_counter() - wall
        ours[f"{name}, processor"] = time.process_time() - processor
    console.print("drawing crops", markup=False)
    ours["crops of 64x64x64 per second and core"] = _crops()
    ratios = {f"{name}: aim over ours": aim / ours[name] for name, aim in AIMS.items() if name.endswith(" s")}
    return Measured("phantom", ours, {"aim": AIMS}, ratios)


def _ct(spine: Spine) -> Callable[[], object]:
    from dicom_ai_node.phantom.ct import CtAcquisition, render_ct  # noqa: PLC0415

    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = -1.0, 1.5, 1.5, 1.0
    trunk = spine.trunk.frame[:3, 3]
    affine[:3, 3] = [trunk[0] - 192.0, trunk[1] - 270.0, float(spine.vertebrae[8].frame[2, 3])]
    acquisition = CtAcquisition((400, 256, 256), affine, 1.0)
    return lambda: render_ct(spine, acquisition)


def _radiograph(spine: Spine) -> Callable[[], object]:
    from dicom_ai_node.phantom.radiograph import (  # noqa: PLC0415
        render_radiograph,
        sample_radiograph_acquisition,
    )

    sampled = sample_radiograph_acquisition(SEED, spine, view="lateral")
    rows, columns = sampled.matrix
    edge = sampled.pixel_mm * max(rows / 2048, columns / 1024)
    acquisition = replace(sampled, matrix=(2048, 1024), pixel_mm=edge, collimation=(0, 2048, 0, 1024))
    return lambda: render_radiograph(spine, acquisition)


def _mr(spine: Spine) -> Callable[[], object]:
    from dicom_ai_node.phantom.mr import render_mr  # noqa: PLC0415
    from dicom_ai_node.phantom.mr_study import sample_mr_study  # noqa: PLC0415

    study = sample_mr_study(SEED, spine, region="lumbar", max_matrix=384)
    series = next(one for one in study if one.series == "t2")
    affine = series.affine.copy()
    affine[:3, 1:3] *= series.shape[1] / 384
    lines = replace(series.readout, matrix=(300, 360), phase_axis="rows")
    acquisition = replace(series, shape=(18, 384, 384), affine=affine, readout=lines)
    return lambda: render_mr(spine, acquisition)


def _crops() -> float:
    """Crops per second of processor time."""
    from dicom_ai_node.phantom.cached_volumes import ct_volume, fill_cache, volume_names  # noqa: PLC0415
    from dicom_ai_node.phantom.stream import CropStream  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="dicom-ai-node-bench-") as folder:
        cache = Path(folder)
        fill_cache(cache, volume_names("CT", range(3)), ct_volume)
        crops = iter(CropStream(cache))
        next(crops)
        begun = time.process_time()
        for _ in islice(crops, _CROPS):
            pass
        return _CROPS / (time.process_time() - begun)

"""Which pipeline runs, with which models, on which device: by the name that the router gave."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

import torch

from dicom_ai_node.config import Settings
from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.genant import Thresholds
from dicom_ai_node.imaging.volume import Volume, load_volume
from dicom_ai_node.inference.bundle import find_models_dir
from dicom_ai_node.inference.device import choose_device
from dicom_ai_node.pipelines.ct_volume import CtVolumePipeline, CtVolumeSettings, Progress
from dicom_ai_node.report import Analysis

PIPELINES: Final = ("ct-volume",)
"""The names that `analyse` knows."""


def analyse(
    pipeline: str, paths: Sequence[Path], settings: Settings, progress: Progress = lambda _stage, _share: None
) -> tuple[Analysis, Volume]:
    """Run one pipeline over the files of one series; the models stay loaded for the next call.

    Returns:
        What the pipeline says, and the volume that it was said of.

    Raises:
        InputError: the files cannot be read, form no volume, or allow no statement.
        ModelError: a bundle is missing or was changed.
        ConfigurationError: there is no pipeline of that name.
    """
    if pipeline not in PIPELINES:
        raise ConfigurationError(f"there is no pipeline {pipeline!r}; there are: {', '.join(PIPELINES)}")
    if settings.models.threads:
        torch.set_num_threads(settings.models.threads)
    gap = settings.routes.ct.max_gap_mm
    progress("load", 0.0)
    volume = load_volume(paths, max_gap_mm=gap or None)
    cuts = settings.results
    thresholds = Thresholds(cuts.genant_mild, cuts.genant_moderate, cuts.genant_severe)
    models_dir = find_models_dir(settings.models.models_dir)
    loaded = _loaded(models_dir, str(choose_device(settings.models.device)), thresholds)
    return loaded.analyse(volume, progress), volume


@lru_cache(maxsize=1)
def _loaded(models_dir: Path, device: str, thresholds: Thresholds) -> CtVolumePipeline:
    return CtVolumePipeline.load(models_dir, torch.device(device), CtVolumeSettings(thresholds))

"""Which pipeline runs, with which models, on which device: by the name that the router gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

import torch

from dicom_ai_node.config import Settings
from dicom_ai_node.errors import ConfigurationError, InputError, NotAnalysable
from dicom_ai_node.genant import Thresholds
from dicom_ai_node.imaging.mr_groups import group_of
from dicom_ai_node.imaging.mr_volume import load_mr_volume
from dicom_ai_node.imaging.radiograph import Radiograph, load_radiograph
from dicom_ai_node.imaging.volume import Volume, load_volume
from dicom_ai_node.inference.bundle import find_models_dir
from dicom_ai_node.inference.device import choose_device
from dicom_ai_node.pipelines.ct_sagittal import CtSagittalPipeline, CtSagittalSettings
from dicom_ai_node.pipelines.ct_volume import CtVolumePipeline, CtVolumeSettings, Progress
from dicom_ai_node.pipelines.ct_volume_opinions import CtVolumeOpinions
from dicom_ai_node.pipelines.mri import MriSettings
from dicom_ai_node.pipelines.mri_study import MriStudyPipeline, MriStudySettings
from dicom_ai_node.pipelines.radiograph import RadiographPipeline, RadiographSettings
from dicom_ai_node.report import Analysis, Reason

PIPELINES: Final = ("ct-volume", "ct-sagittal", "radiograph", "mri")
"""The names that `analyse` knows."""


@dataclass(frozen=True)
class Analysed:
    """What a pipeline says, and the images that it was said of: a volume, or one radiograph."""

    analysis: Analysis
    volume: Volume | None = None
    radiograph: Radiograph | None = None


def analyse(
    pipeline: str, paths: Sequence[Path], settings: Settings, progress: Progress = lambda _stage, _share: None
) -> Analysed:
    """Run one pipeline over the files of one series, or of the MR series that belong together.

    The models stay loaded for the next call.

    Args:
        pipeline: one of `PIPELINES`.
        paths: the files; of several MR series those of the one that gives the grid stand first.
        settings: folders, device, thresholds.
        progress: told how far it is.

    Raises:
        InputError: the files cannot be read, form no volume, or allow no statement.
        ModelError: a bundle is missing or was changed.
        ConfigurationError: there is no pipeline of that name.
    """
    if pipeline not in PIPELINES:
        raise ConfigurationError(f"there is no pipeline {pipeline!r}; there are: {', '.join(PIPELINES)}")
    if settings.models.threads:
        torch.set_num_threads(settings.models.threads)
    progress("load", 0.0)
    cuts = settings.results
    thresholds = Thresholds(cuts.genant_mild, cuts.genant_moderate, cuts.genant_severe)
    models_dir = find_models_dir(settings.models.models_dir)
    device = str(choose_device(settings.models.device))
    if pipeline == "mri":
        limits = MriStudySettings(MriSettings(thresholds), malignant_threshold=cuts.malignant_threshold)
        return _mr_study(paths, _mri(models_dir, device, limits), progress)
    if pipeline == "radiograph":
        return _films(paths, _radiograph(models_dir, device, thresholds), progress)
    volume = load_volume(paths, max_gap_mm=settings.routes.ct.max_gap_mm or None)
    if pipeline == "ct-sagittal":
        slices = _ct_sagittal(models_dir, device, CtSagittalSettings(cuts.disease_threshold))
        return Analysed(slices.analyse(volume, progress), volume=volume)
    wanted = settings.routes.ct.diseases
    judge = _ct_opinions(models_dir, device, cuts.disease_threshold) if wanted else None
    told = _part_of(progress, 0, 2) if wanted else progress
    half = settings.models.precision == "half" and device != "cpu"
    analysis = _ct_volume(models_dir, device, thresholds, half=half).analyse(volume, told)
    if judge is not None:
        progress("judge", 0.5)
        analysis = judge.added(analysis, volume)
        progress("report", 1.0)
    return Analysed(analysis, volume=volume)


def _mr_study(paths: Sequence[Path], pipeline: MriStudyPipeline, progress: Progress) -> Analysed:
    group = group_of(paths)
    members = zip(group.paired.members, group.stacks, strict=True)
    series = {role: load_mr_volume(stack) for (role, _), stack in members}
    return Analysed(pipeline.analyse(series, progress), volume=next(iter(series.values())))


def _films(paths: Sequence[Path], pipeline: RadiographPipeline, progress: Progress) -> Analysed:
    """The lateral film of a series that shows most vertebrae; the others are named with their reasons."""
    best: Analysed | None = None
    refused: list[InputError] = []
    others = 0
    for number, path in enumerate(paths):
        shown = _part_of(progress, number, len(paths))
        try:
            film = load_radiograph(path)
            found = Analysed(pipeline.analyse(film, shown), radiograph=film)
        except InputError as error:
            refused.append(error)
            continue
        others += best is not None
        if best is None or len(found.analysis.report.vertebrae) > len(best.analysis.report.vertebrae):
            best = found
    if best is None:
        if not refused:
            raise NotAnalysable("partial", "The series holds no radiograph.")
        raise refused[0]
    notes = [
        Reason("partial", f"Another image of this series was not analysed: {error}") for error in refused
    ]
    if others:
        notes.append(
            Reason(
                "partial",
                f"Of {others + 1} lateral films in this series the one with most vertebrae is reported.",
            )
        )
    report = best.analysis.report
    report = replace(report, limitations=(*report.limitations, *notes))
    return replace(best, analysis=replace(best.analysis, report=report))


def _part_of(progress: Progress, number: int, count: int) -> Progress:
    return lambda stage, share: progress(stage, (number + share) / count)


@lru_cache(maxsize=1)
def _ct_volume(models_dir: Path, device: str, thresholds: Thresholds, *, half: bool) -> CtVolumePipeline:
    pipeline = CtVolumePipeline.load(models_dir, torch.device(device), CtVolumeSettings(thresholds))
    return pipeline.in_half() if half else pipeline


@lru_cache(maxsize=1)
def _ct_sagittal(models_dir: Path, device: str, settings: CtSagittalSettings) -> CtSagittalPipeline:
    return CtSagittalPipeline.load(models_dir, torch.device(device), settings)


@lru_cache(maxsize=1)
def _ct_opinions(models_dir: Path, device: str, threshold: float) -> CtVolumeOpinions:
    return CtVolumeOpinions.load(models_dir, torch.device(device), threshold)


@lru_cache(maxsize=1)
def _mri(models_dir: Path, device: str, settings: MriStudySettings) -> MriStudyPipeline:
    return MriStudyPipeline.load(models_dir, torch.device(device), settings)


@lru_cache(maxsize=1)
def _radiograph(models_dir: Path, device: str, thresholds: Thresholds) -> RadiographPipeline:
    return RadiographPipeline.load(models_dir, torch.device(device), RadiographSettings(thresholds))

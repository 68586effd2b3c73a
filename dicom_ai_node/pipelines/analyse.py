"""Which pipeline runs, with which models, on which device: by the name that the router gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final, TypeVar

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
from dicom_ai_node.pipelines.mri_signal import SignalLimits
from dicom_ai_node.pipelines.mri_study import MriStudyPipeline, MriStudySettings
from dicom_ai_node.pipelines.radiograph import RadiographPipeline, RadiographSettings
from dicom_ai_node.report import Analysis, Reason

PIPELINES: Final = ("ct-volume", "ct-sagittal", "radiograph", "mri")
"""The names that `analyse` knows."""


@dataclass(frozen=True)
class Analysed:
    """What a pipeline says, and the images that it was said of: a volume, or one radiograph.

    Where a series holds several lateral films the radiograph is the first one's.
    """

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
    half = settings.models.precision == "half" and device != "cpu"
    graphs = settings.models.cuda_graphs
    if pipeline == "mri":
        signal = SignalLimits(cuts.signal_t1, cuts.signal_t2, cuts.signal_stir)
        limits = MriStudySettings(MriSettings(thresholds), signal, cuts.malignant_threshold)
        return _mr_study(paths, _mri(models_dir, device, limits), progress)
    if pipeline == "radiograph":
        films = _radiograph(models_dir, device, thresholds, half=half, graphs=graphs)
        return _films(paths, films, progress)
    volume = load_volume(paths, max_gap_mm=settings.routes.ct.max_gap_mm or None)
    if pipeline == "ct-sagittal":
        slices = _ct_sagittal(models_dir, device, CtSagittalSettings(cuts.disease_threshold))
        return Analysed(slices.analyse(volume, progress), volume=volume)
    wanted = settings.routes.ct.diseases
    judge = _ct_opinions(models_dir, device, cuts.disease_threshold) if wanted else None
    told = _part_of(progress, 0, 2) if wanted else progress
    analysis = _ct_volume(models_dir, device, thresholds, half=half, graphs=graphs).analyse(volume, told)
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
    """Every lateral film of a series, that with most vertebrae first; the rest is named with its reasons."""
    found: list[Analysis] = []
    refused: list[InputError] = []
    # Of many films one alone is kept in memory.
    first: Radiograph | None = None
    for number, path in enumerate(paths):
        try:
            film = load_radiograph(path)
            said = pipeline.analyse(film, _part_of(progress, number, len(paths)))
        except InputError as error:
            refused.append(error)
            continue
        if first is None or len(said.report.vertebrae) > len(found[0].report.vertebrae):
            first = film
            found.insert(0, said)
        else:
            found.append(said)
    if first is None:
        if not refused:
            raise NotAnalysable("partial", "The series holds no radiograph.")
        raise refused[0]
    notes = [
        Reason("partial", f"Another image of this series was not analysed: {error}") for error in refused
    ]
    if len(found) > 1:
        told = f"This report speaks of one of {len(found)} lateral films in the series; each has its own."
        notes.append(Reason("further-films", told))
    return Analysed(
        Analysis.joined(
            [
                replace(one, report=replace(one.report, limitations=(*one.report.limitations, *notes)))
                for one in found
            ]
        ),
        radiograph=first,
    )


def _part_of(progress: Progress, number: int, count: int) -> Progress:
    return lambda stage, share: progress(stage, (number + share) / count)


@lru_cache(maxsize=1)
def _ct_volume(
    models_dir: Path, device: str, thresholds: Thresholds, *, half: bool, graphs: bool
) -> CtVolumePipeline:
    pipeline = CtVolumePipeline.load(models_dir, torch.device(device), CtVolumeSettings(thresholds))
    return _computed(pipeline, half=half, graphs=graphs)


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
def _radiograph(
    models_dir: Path, device: str, thresholds: Thresholds, *, half: bool, graphs: bool
) -> RadiographPipeline:
    pipeline = RadiographPipeline.load(models_dir, torch.device(device), RadiographSettings(thresholds))
    return _computed(pipeline, half=half, graphs=graphs)


_Computed = TypeVar("_Computed", CtVolumePipeline, RadiographPipeline)


def _computed(pipeline: _Computed, *, half: bool, graphs: bool) -> _Computed:
    """The pipeline as `[models] precision` and `cuda_graphs` ask for it."""
    precise = pipeline.in_half() if half else pipeline
    return precise.in_graphs() if graphs else precise

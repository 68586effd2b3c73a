"""The steps of a job that need the images: analyse, encode, validate.

They are injected, so that the workflow knows no model: the worker process makes its `Steps` once from the
settings, by the name of a function (`module:function`); the node's own is `node_steps`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from dicom_ai_node.config import Settings
from dicom_ai_node.errors import InconsistentGeometry, InputError, NotAnalysable
from dicom_ai_node.report import Analysis, Reason, Source, SpineReport
from dicom_ai_node.results.validate import EncodedObject
from dicom_ai_node.workflow.handover import in_film

if TYPE_CHECKING:
    from dicom_ai_node.imaging.radiograph import Radiograph
    from dicom_ai_node.results.source import SourceSeries

Progress = Callable[[str, float], None]
"""Told the name of what is being done, and how much of it is done (0 to 1)."""

NODE_STEPS: Final = "dicom_ai_node.workflow.steps:node_steps"


@dataclass(frozen=True)
class Steps:
    """What the workflow asks of the rest of the house.

    Attributes:
        analyse: pipeline name, files of one series, progress -> the analysis, and the source series as
            encoding wants it. Raises InputError where no statement can be made, TransientError to be asked
            again later.
        encode: analysis, source series, an empty folder -> the objects written into it.
        validate: objects -> nothing, or EncodingError.
        source: files of one series -> the source series, for encoding after a restart.
        compare: analysis, files of one series -> the analysis, compared with what an archive has of the
            patient. Raises nothing: what went wrong is among the limitations.
    """

    analyse: Callable[[str, Sequence[Path], Progress], tuple[Analysis, Any]]
    encode: Callable[[Analysis, Any, Path], Sequence[EncodedObject]]
    validate: Callable[[Sequence[EncodedObject]], None]
    source: Callable[[Sequence[Path]], Any]
    compare: Callable[[Analysis, Sequence[Path]], Analysis] = lambda analysis, _paths: analysis


StepsFactory = Callable[[Settings], Steps]


def load_factory(name: str) -> StepsFactory:
    """The function that `module:function` names."""
    module, _, function = name.partition(":")
    return cast("StepsFactory", getattr(import_module(module), function))


def refused(error: InputError, paths: Sequence[Path], modality: str) -> Analysis:
    """The report that says why an input could not be analysed.

    Args:
        error: NotAnalysable brings its own code; other input errors are `geometry` or `unreadable`.
        paths: the instances; the report names their study and series.
        modality: for the case that no header can be read.
    """
    if isinstance(error, NotAnalysable):
        code = error.code
    else:
        code = "geometry" if isinstance(error, InconsistentGeometry) else "unreadable"
    return Analysis(SpineReport("not-analysable", _source(paths, modality), (Reason(code, str(error)),)))


def with_limitation(analysis: Analysis, left_out: str) -> Analysis:
    """The analysis, with a limitation that says which images of the series it did not see."""
    if not left_out:
        return analysis
    limited = []
    for one in analysis.each:
        limitations = (*one.report.limitations, Reason("partial", left_out))
        limited.append(replace(one, report=replace(one.report, limitations=limitations)))
    return Analysis.joined(limited)


def _source(paths: Sequence[Path], modality: str) -> Source:
    tags = ["StudyInstanceUID", "SeriesInstanceUID", "Modality", "FrameOfReferenceUID"]
    for path in paths:
        try:
            header = dcmread(path, specific_tags=tags, stop_before_pixels=True)
            return Source(
                str(header.StudyInstanceUID),
                (str(header.SeriesInstanceUID),),
                str(header.get("Modality", "") or modality),
                str(header.FrameOfReferenceUID) if header.get("FrameOfReferenceUID") else None,
            )
        except (OSError, AttributeError, InvalidDicomError):
            continue
    raise InputError(f"none of {len(paths)} files has a readable header; send the series again")


def node_steps(settings: Settings, *, secondary_capture: bool = False, page: bool = False) -> Steps:
    """The steps as the node takes them: the pipelines of `pipelines`, the encoders of `results`.

    Results are made in every form that a destination wants; a Secondary Capture also where
    `secondary_capture` says so, and the report of one page as files where `page` does.
    """
    # Here and not above: whoever only asks for the types must not wait for torch.
    from dicom_ai_node.imaging.film_pose import FilmPose  # noqa: PLC0415
    from dicom_ai_node.imaging.mr_groups import group_of  # noqa: PLC0415
    from dicom_ai_node.imaging.mr_volume import load_mr_volume  # noqa: PLC0415
    from dicom_ai_node.imaging.volume import load_volume  # noqa: PLC0415
    from dicom_ai_node.pipelines.analyse import analyse  # noqa: PLC0415
    from dicom_ai_node.results.encode import ResultObject, encode  # noqa: PLC0415
    from dicom_ai_node.results.film_views import found_pose  # noqa: PLC0415
    from dicom_ai_node.results.source import SourceSeries  # noqa: PLC0415
    from dicom_ai_node.results.validate import validate  # noqa: PLC0415
    from dicom_ai_node.workflow.priors import compare_with_prior  # noqa: PLC0415
    from dicom_ai_node.workflow.renditions import renditions  # noqa: PLC0415

    wanted = renditions(settings)

    def analysed(pipeline: str, paths: Sequence[Path], progress: Progress) -> tuple[Analysis, SourceSeries]:
        found = analyse(pipeline, paths, settings, progress)
        return found.analysis, SourceSeries(tuple(paths), found.volume, found.radiograph)

    def encoded(analysis: Analysis, series: SourceSeries, folder: Path) -> Sequence[EncodedObject]:
        first, *further = analysis.each
        objects = written(first, series, folder)
        for number, film in enumerate(further, start=2):
            part = folder / f"film-{number}"
            own = written(film, SourceSeries(series.paths), part)
            for file in part.iterdir():
                file.rename(folder / in_film(file.name, number))
            part.rmdir()
            objects += [replace(item, path=folder / in_film(item.path.name, number)) for item in own]
        return objects

    def written(analysis: Analysis, series: SourceSeries, folder: Path) -> list[ResultObject]:
        if series.volume is None and series.radiograph is None:
            series = replace(series, radiograph=_film_of(analysis, series.paths))
        lies = None if series.radiograph is None else found_pose(analysis.report)
        return encode(
            analysis,
            series,
            folder,
            settings.results,
            renditions=wanted,
            secondary_capture=secondary_capture,
            page=page,
            # Head up, but never mirrored: letters on the film stay readable.
            pose=None if lies is None else FilmPose(lies.quarters),
            language=settings.results.language,
        )

    def compared(analysis: Analysis, paths: Sequence[Path]) -> Analysis:
        return Analysis.joined([compare_with_prior(one, paths, settings) for one in analysis.each])

    def source(paths: Sequence[Path]) -> SourceSeries:
        try:
            if _source(paths, "").modality == "MR":
                return SourceSeries(tuple(paths), load_mr_volume(group_of(paths).fixed))
            return SourceSeries(
                tuple(paths), load_volume(paths, max_gap_mm=settings.routes.ct.max_gap_mm or None)
            )
        except InputError:
            # What cannot be stacked was reported as such; that report needs the headers alone.
            return SourceSeries(tuple(paths), None)

    return Steps(
        analyse=analysed,
        encode=encoded,
        validate=validate,
        source=source,
        compare=compared,
    )


def _film_of(analysis: Analysis, paths: Sequence[Path]) -> Radiograph | None:
    """The radiograph that a report speaks of; None where it speaks of none."""
    from dicom_ai_node.imaging.radiograph import load_radiograph  # noqa: PLC0415

    named = {item.box_px.sop_instance_uid for item in analysis.report.vertebrae if item.box_px is not None}
    if analysis.label_map is None or analysis.label_map.affine is not None:
        return None
    for path in paths:
        try:
            film = load_radiograph(path)
        except InputError:
            # Another file of the series, which the report says was not analysed.
            continue
        if film.instance.sop_instance_uid in named:
            return film
    return None

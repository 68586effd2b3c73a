"""Which pipeline a series goes to, and why; from what its images are, not from trust in one tag.

The kind of object comes from the SOP class, the place and shape from the geometry. Descriptions and image
types can only keep images out; so can Body Part Examined where it names a limb or a head on a radiograph or
MR, and it is believed in nothing else. Every image that is left out is named
with its reason, and every decision is in words that can be shown to a person.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import MediaStorageDirectoryStorage

from dicom_ai_node.config import CtRoute, RadiographRoute, Routes, Settings
from dicom_ai_node.errors import InputError, UnreadableInstance
from dicom_ai_node.imaging.header import name_of, reading_quietly
from dicom_ai_node.imaging.slices import Slice, slices_of
from dicom_ai_node.intake.ct_sagittal_route import CT_SAGITTAL_PIPELINE, reformats_beside, route_sagittal
from dicom_ai_node.intake.decision import RouteDecision, summary
from dicom_ai_node.intake.geometry import choose_stack
from dicom_ai_node.intake.headers import Instance, read_instance
from dicom_ai_node.intake.images import (
    RADIOGRAPHS,
    captured_film,
    contradictions,
    instance_uid,
    kind,
    no_image,
    sop_class,
    text,
    unwanted,
    unwanted_film,
)
from dicom_ai_node.intake.mri_route import MRI_PIPELINE, route_mri
from dicom_ai_node.intake.mri_study import mri_study
from dicom_ai_node.report import Reason

__all__ = [
    "CT_PIPELINE",
    "CT_SAGITTAL_PIPELINE",
    "MRI_PIPELINE",
    "RADIOGRAPH_PIPELINE",
    "RouteDecision",
    "SeriesRoute",
    "route_files",
    "route_series",
    "route_spooled",
]

CT_PIPELINE: Final = "ct-volume"
RADIOGRAPH_PIPELINE: Final = "radiograph"


@dataclass(frozen=True)
class SeriesRoute:
    """One series among files, and what becomes of it; files that are unreadable have no UIDs."""

    study_instance_uid: str
    series_instance_uid: str
    modality: str
    description: str
    paths: tuple[Path, ...]
    decision: RouteDecision


def route_files(paths: Iterable[Path], settings: Settings) -> list[SeriesRoute]:
    """What would happen to these files; folders are searched. Nothing is raised for a bad file."""
    groups: dict[tuple[str, str], list[Instance]] = {}
    unreadable: list[tuple[Path, str]] = []
    for path in _files(paths):
        try:
            instance = read_instance(path)
        except UnreadableInstance as error:
            unreadable.append((path, str(error)))
            continue
        if sop_class(instance.header) == MediaStorageDirectoryStorage:
            continue
        study, series = (text(instance.header, f"{level}InstanceUID") for level in ("Study", "Series"))
        if study and series:
            groups.setdefault((study, series), []).append(instance)
        else:
            missing = name_of("SeriesInstanceUID" if study else "StudyInstanceUID")
            unreadable.append((path, f"{path.name}: {missing} is missing; send it again from its source"))
    found = [_series_route(*key, group, settings) for key, group in groups.items()]
    if unreadable:
        found.append(
            SeriesRoute("", "", "", "", tuple(path for path, _ in unreadable), _nothing_readable(unreadable))
        )
    return _side_by_side(found, settings.routes.ct)


def route_spooled(paths: Sequence[Path], settings: Settings) -> RouteDecision:
    """The decision for the files of one series; unreadable ones are left out and named."""
    instances: list[Instance] = []
    unreadable: list[tuple[Path, str]] = []
    for path in paths:
        try:
            instances.append(read_instance(path))
        except UnreadableInstance as error:
            unreadable.append((path, str(error)))
    if not instances:
        return _nothing_readable(unreadable)
    return _route(instances, settings.routes, [(path.name, reason) for path, reason in unreadable])


def route_series(headers: Sequence[Dataset], rules: Routes) -> RouteDecision:
    """The decision from headers alone (`headers.ROUTING_TAGS` at least), pixel data taken as whole."""
    instances = [
        Instance(Path(str(getattr(header, "filename", None) or "header")), header) for header in headers
    ]
    return _route(instances, rules, [])


def _route(instances: Sequence[Instance], rules: Routes, excluded: list[tuple[str, str]]) -> RouteDecision:
    with reading_quietly():
        images = []
        for instance in instances:
            reason = no_image(instance.header)
            if reason is None or (rules.radiograph.secondary_captures and captured_film(instance.header)):
                images.append(instance)
            else:
                excluded.append((instance_uid(instance), reason))
        kinds = Counter(kind(instance.header) for instance in images)
        if not kinds:
            return RouteDecision(None, (summary(excluded) or "there is no image",), tuple(excluded))
        if "CT" not in kinds and RADIOGRAPHS in kinds:
            films = [item for item in images if kind(item.header) == RADIOGRAPHS]
            return _route_radiographs(films, rules.radiograph, excluded)
        if "CT" not in kinds and kinds.most_common(1)[0][0] == "MR":
            excluded += [
                (instance_uid(item), f"{kind(item.header)} in a series of MR images")
                for item in images
                if kind(item.header) != "MR"
            ]
            return route_mri([item for item in images if kind(item.header) == "MR"], rules.mri, excluded)
        if "CT" not in kinds:
            most = kinds.most_common(1)[0][0]
            return RouteDecision(None, (f"no pipeline in this version for {most}",), tuple(excluded))
        excluded += [
            (instance_uid(instance), f"{kind(instance.header)} in a series of CT images")
            for instance in images
            if kind(instance.header) != "CT"
        ]
        return _route_ct([item for item in images if kind(item.header) == "CT"], rules.ct, excluded)


def _route_ct(
    instances: Sequence[Instance], rules: CtRoute, excluded: list[tuple[str, str]]
) -> RouteDecision:
    """As a volume where it is one; else, where that is wanted, as sagittal slices."""
    others = list(excluded)
    decision = _route_ct_volume(instances, rules, excluded)
    if decision.pipeline is not None or not (rules.enabled and rules.sagittal):
        return decision
    sagittal = route_sagittal(instances, rules)
    return decision if sagittal is None else replace(sagittal, excluded=(*others, *sagittal.excluded))


def _route_ct_volume(
    instances: Sequence[Instance], rules: CtRoute, excluded: list[tuple[str, str]]
) -> RouteDecision:
    if not rules.enabled:
        return RouteDecision(None, ("CT is not analysed: [routes.ct] enabled = false",), tuple(excluded))
    wanted = []
    for instance in instances:
        reason = unwanted(instance.header, rules)
        if reason is None:
            wanted.append(instance)
        else:
            excluded.append((instance_uid(instance), reason))
    if not wanted:
        return RouteDecision(None, (summary(excluded),), tuple(excluded))
    slices: list[Slice] = []
    broken: list[str] = []
    for instance in wanted:
        try:
            if instance.complaint is not None:
                raise UnreadableInstance(f"{instance.path.name}: {instance.complaint}")
            slices += slices_of(instance.header, instance.path)
        except InputError as error:
            broken.append(str(error))
            excluded.append((instance_uid(instance), str(error)))
    if not slices:
        text = f"none of the {len(wanted)} CT images can be used; the first: {broken[0]}"
        return RouteDecision(None, (text,), tuple(excluded), refusal=Reason("unreadable", text))
    shape = choose_stack(slices, rules)
    excluded += [(item.sop_instance_uid, reason) for item, reason in shape.left_out]
    notes = (*shape.notes, *contradictions(wanted), *([summary(excluded)] if excluded else []))
    refusal = shape.refusal(rules)
    if refusal is not None:
        return RouteDecision(None, (refusal.text, *notes), tuple(excluded), refusal=refusal)
    return RouteDecision(CT_PIPELINE, (shape.in_words(), *notes), tuple(excluded), shape.paths)


def _route_radiographs(
    instances: Sequence[Instance], rules: RadiographRoute, excluded: list[tuple[str, str]]
) -> RouteDecision:
    if not rules.enabled:
        text = "radiographs are not analysed: [routes.radiograph] enabled = false"
        return RouteDecision(None, (text,), tuple(excluded))
    wanted: list[Instance] = []
    broken: list[str] = []
    for instance in instances:
        reason = unwanted_film(instance.header, rules)
        if reason is None and instance.complaint is not None:
            reason = f"{instance.path.name}: {instance.complaint}"
            broken.append(reason)
        if reason is None:
            wanted.append(instance)
        else:
            excluded.append((instance_uid(instance), reason))
    if not wanted:
        text = summary(excluded)
        refusal = Reason("unreadable", broken[0]) if broken else None
        return RouteDecision(None, (text,), tuple(excluded), refusal=refusal)
    count = len(wanted)
    words = f"{count} radiograph{'s' if count > 1 else ''}; which view each shows is seen in the image"
    notes = [summary(excluded)] if excluded else []
    paths = tuple(instance.path for instance in wanted)
    return RouteDecision(RADIOGRAPH_PIPELINE, (words, *notes), tuple(excluded), paths)


def _series_route(
    study_uid: str, series_uid: str, instances: Sequence[Instance], settings: Settings
) -> SeriesRoute:
    header = instances[0].header
    return SeriesRoute(
        study_instance_uid=study_uid,
        series_instance_uid=series_uid,
        modality=text(header, "Modality"),
        description=text(header, "SeriesDescription"),
        paths=tuple(instance.path for instance in instances),
        decision=_route(instances, settings.routes, []),
    )


def _side_by_side(routes: Sequence[SeriesRoute], rules: CtRoute) -> list[SeriesRoute]:
    """With the decisions about MR series and sagittal CT that know of the others of their study."""
    studies: dict[str, dict[str, RouteDecision]] = {}
    scans: dict[str, dict[str, RouteDecision]] = {}
    for item in routes:
        if item.decision.pipeline == MRI_PIPELINE:
            studies.setdefault(item.study_instance_uid, {})[item.series_instance_uid] = item.decision
        if item.decision.pipeline in {CT_PIPELINE, CT_SAGITTAL_PIPELINE}:
            scans.setdefault(item.study_instance_uid, {})[item.series_instance_uid] = item.decision
    told = {
        (study, series): one
        for study, decisions in scans.items()
        for series, one in reformats_beside(decisions, rules, CT_PIPELINE).items()
    }
    told |= {
        (study, series): one.decision
        for study, decisions in studies.items()
        for series, one in mri_study(decisions).series.items()
    }
    return [
        replace(item, decision=told.get((item.study_instance_uid, item.series_instance_uid), item.decision))
        for item in routes
    ]


def _nothing_readable(unreadable: Sequence[tuple[Path, str]]) -> RouteDecision:
    first = unreadable[0][1] if unreadable else "there are no files"
    more = f"; and {len(unreadable) - 1} more files" if len(unreadable) > 1 else ""
    return RouteDecision(None, (f"{first}{more}",), tuple((path.name, reason) for path, reason in unreadable))


def _files(paths: Iterable[Path]) -> list[Path]:
    found: dict[Path, None] = {}
    for path in paths:
        inside = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
        found.update(dict.fromkeys(inside))
    return list(found)

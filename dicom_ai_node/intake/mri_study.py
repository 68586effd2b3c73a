"""MR series that were routed one by one, put together by study: a T2 with its T1 and STIR is one analysis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_ai_node.imaging.mr_groups import StackGroup, StudyGroups, groups_of
from dicom_ai_node.imaging.mr_pairing import ROLES
from dicom_ai_node.intake.decision import RouteDecision
from dicom_ai_node.intake.mri_route import MRI_PIPELINE

if TYPE_CHECKING:
    from dicom_ai_node.intake.router import SeriesRoute


def together(routes: Sequence[SeriesRoute]) -> list[SeriesRoute]:
    """The same routes, but of MR series that belong together the first alone goes to a pipeline, with the
    files of all; the others say whose part they are, or why they have none.

    Raises:
        UnreadableInstance, InconsistentGeometry, NotAnalysable: as `groups_of`; routed files are readable.
    """
    studies: dict[str, list[SeriesRoute]] = {}
    for item in routes:
        if item.decision.pipeline == MRI_PIPELINE:
            studies.setdefault(item.study_instance_uid, []).append(item)
    decided: dict[str, RouteDecision] = {}
    for members in studies.values():
        decided |= _decided(members)
    return [
        replace(item, decision=decided[item.series_instance_uid])
        if item.decision.pipeline == MRI_PIPELINE
        else item
        for item in routes
    ]


def _decided(members: Sequence[SeriesRoute]) -> dict[str, RouteDecision]:
    """Series Instance UID -> its decision."""
    found = groups_of(path for item in members for path in item.decision.paths or item.paths)
    owner = {path: item.series_instance_uid for item in members for path in item.paths}
    answer = {
        item.series_instance_uid: replace(
            item.decision, pipeline=None, reasons=_left_out(item, found, owner), refusal=found.refusal
        )
        for item in members
    }
    for group in reversed(found.groups):
        fixed = owner[group.fixed.paths[0]]
        for path in group.paths:
            if owner[path] != fixed:
                words = f"analysed together with series {fixed}"
                answer[owner[path]] = replace(answer[owner[path]], reasons=(words,), refusal=None)
        own = next(item.decision for item in members if item.series_instance_uid == fixed)
        answer[fixed] = replace(own, reasons=(*_words(group), *own.reasons), paths=group.paths)
    return answer


def _words(group: StackGroup) -> list[str]:
    names = [role for role in ROLES if group.of(role) is not None]
    said = [f"one analysis of {' and '.join(names)}" if len(names) > 1 else f"{names[0]} alone"]
    return [*said, *group.paired.reasons]


def _left_out(item: SeriesRoute, found: StudyGroups, owner: dict[Path, str]) -> tuple[str, ...]:
    if found.refusal is not None:
        return (found.refusal.text,)
    mine = [why for one, why in found.left_out if owner[one.paths[0]] == item.series_instance_uid]
    return tuple(dict.fromkeys(mine)) or ("no part of any analysis of its study",)

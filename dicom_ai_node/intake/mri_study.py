"""Which MR series of one study are analysed together: decisions about single series, seen side by side.

`mri_route` judges each series by itself. Those that it gives to the pipeline are paired here: one series of
each group, the one whose grid the others come onto, carries the files of all; each other series is told what
it is analysed with, or why it is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dicom_ai_node.errors import InputError
from dicom_ai_node.imaging.mr_groups import StackGroup, StudyGroups, groups_of
from dicom_ai_node.imaging.mr_pairing import Role
from dicom_ai_node.imaging.mr_series import MrStack
from dicom_ai_node.intake.decision import RouteDecision, summary
from dicom_ai_node.intake.mri_route import MRI_PIPELINE
from dicom_ai_node.report import Reason


@dataclass(frozen=True)
class InStudy:
    """What becomes of one series beside the others of its study.

    Attributes:
        decision: as about a single series; where others are analysed with it, `paths` are the files of the
            stack that gives the grid, then theirs.
        partners: the other series that have files among them.
        missing: which of T2 and T1 the group does without; empty where the series carries no group.
        standing: empty where the series carries a group; else a word that stays the same as long as its place
            in the study does.
        carried_by: which series carries the group that this one has a part in, or the report about it.
    """

    decision: RouteDecision
    partners: tuple[str, ...] = ()
    missing: tuple[Role, ...] = ()
    standing: str = ""
    carried_by: str = ""


@dataclass(frozen=True)
class MriStudy:
    """What becomes of the MR series of one study.

    Attributes:
        series: by the name of the series.
        settled: no partner that may still come is needed: a T2 has its T1, or nothing can be analysed at all.
    """

    series: Mapping[str, InStudy]
    settled: bool

    @property
    def waiting(self) -> frozenset[str]:
        """The series that wait for a partner: each place of a study for its own, whatever another has.

        As long as no place has its pair, the whole study waits: what comes may change who is left out.
        """
        if not self.settled:
            return frozenset(self.series)
        alone = {name for name, one in self.series.items() if one.missing}
        return frozenset(name for name, one in self.series.items() if {name, one.carried_by} & alone)


def mri_study(decisions: Mapping[str, RouteDecision]) -> MriStudy:
    """What becomes of the series of one study that the router gave to the MR pipeline.

    Args:
        decisions: by any name that tells the series apart; their order changes nothing.
    """
    owner = {path: name for name, decision in decisions.items() for path in decision.paths}
    try:
        found = groups_of(owner)
    except InputError as error:
        found = StudyGroups((), (), Reason("unreadable", str(error)))
    if not found.groups:
        return MriStudy(_refused(decisions, found.refusal), settled=True)
    groups: dict[str, StackGroup] = {}
    left = [(stack, why) for stack, why in found.left_out]
    for group in found.groups:
        if groups.setdefault(owner[group.fixed.paths[0]], group) is not group:
            # Results bear the name of the series they are drawn on: one place of it has one report.
            uid = group.fixed.slices[0].series_instance_uid
            why = f"series {uid} shows another place too, taller, which is the one that is analysed"
            left += [(stack, why) for stack in group.stacks]
    with_which = {owner[path]: name for name in reversed(groups) for path in groups[name].paths}
    told: dict[str, InStudy] = {}
    for name, decision in decisions.items():
        if name in groups:
            told[name] = _carrying(name, groups[name], decisions, owner, left)
        elif name in with_which:
            uid = groups[with_which[name]].fixed.slices[0].series_instance_uid
            carrier = with_which[name]
            told[name] = _aside(decision, f"analysed together with series {uid}", f"with {carrier}", carrier)
        else:
            reasons = dict.fromkeys(why for stack, why in left if owner[stack.paths[0]] == name)
            text = "; ".join(reasons) or "nothing in it has a part in the analysis"
            told[name] = _aside(decision, text, "left out")
    return MriStudy(told, settled=any(not group.missing for group in groups.values()))


def _carrying(
    name: str,
    group: StackGroup,
    decisions: Mapping[str, RouteDecision],
    owner: Mapping[Path, str],
    left: Iterable[tuple[MrStack, str]],
) -> InStudy:
    members = tuple(dict.fromkeys((name, *(owner[path] for path in group.paths))))
    reasons = list(_reasons(decisions[name]))
    if len(group.stacks) > 1:
        reasons += [
            f"{reason} (series {stack.slices[0].series_instance_uid})"
            for reason, stack in zip(group.paired.reasons, group.stacks, strict=True)
        ]
    excluded = [item for member in members for item in decisions[member].excluded]
    paths = set(group.paths)
    for stack, why in left:
        if owner[stack.paths[0]] in members:
            excluded += [(item.sop_instance_uid, why) for item in stack.slices if item.path not in paths]
    decision = RouteDecision(MRI_PIPELINE, _summed_up(reasons, excluded), tuple(excluded), group.paths)
    return InStudy(decision, tuple(sorted(members[1:])), group.missing)


def _aside(decision: RouteDecision, why: str, standing: str, carried_by: str = "") -> InStudy:
    return InStudy(
        RouteDecision(None, _summed_up([why], decision.excluded), decision.excluded),
        standing=standing,
        carried_by=carried_by,
    )


def _refused(decisions: Mapping[str, RouteDecision], refusal: Reason | None) -> dict[str, InStudy]:
    """One report for the study, under the first of its series; the others are told the same."""
    reason = refusal or Reason("modality-mismatch", "The study has no sagittal T2, T1 or STIR. Send one.")
    first = min(decisions)
    told = {
        name: _aside(decision, reason.text, f"refused: {reason.code}", first)
        for name, decision in decisions.items()
    }
    about = replace(told[first].decision, paths=decisions[first].paths, refusal=reason)
    return told | {first: InStudy(about, standing=f"refusal: {reason.code}")}


def _reasons(decision: RouteDecision) -> tuple[str, ...]:
    """Those of the router, without its summary of what is left out."""
    return decision.reasons[:-1] if decision.excluded else decision.reasons


def _summed_up(reasons: Sequence[str], excluded: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    return (*reasons, summary(excluded)) if excluded else tuple(reasons)

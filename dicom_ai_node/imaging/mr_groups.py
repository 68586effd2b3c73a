"""From the files of MR series to the stacks that are analysed together, and what each of them is there.

The one place where files are paired: the workflow asks which series of a study make one job, the pipeline
asks again, about that job's files, which of them are the T2, the T1 and the STIR. Headers tell; pixels are
decoded only where tags leave it open what a stack shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dicom_ai_node.errors import InputError, NotAnalysable
from dicom_ai_node.imaging.header import read_header_and_end, reading_quietly
from dicom_ai_node.imaging.mr_contrast import MAGNITUDE_CONTRASTS
from dicom_ai_node.imaging.mr_pairing import MrGroup, MrSeries, Role, pair, series_of
from dicom_ai_node.imaging.mr_series import MrStack, images_of, split, unsuited
from dicom_ai_node.imaging.mr_tags import MR_TAGS, MrTags
from dicom_ai_node.imaging.slices import SLICE_TAGS, Slice
from dicom_ai_node.report import Reason


@dataclass(frozen=True)
class StackGroup:
    """A group of `mr_pairing.pair`, and the stacks that its members are.

    Attributes:
        paired: the group, with the reasons.
        stacks: of `paired.members`, in their order; the first gives the grid.
    """

    paired: MrGroup
    stacks: tuple[MrStack, ...]

    def of(self, role: Role) -> MrStack | None:
        """The stack with this role."""
        members = zip(self.paired.members, self.stacks, strict=True)
        return next((stack for (name, _), stack in members if name == role), None)

    @property
    def fixed(self) -> MrStack:
        """The stack onto whose grid the others come, and results are drawn on."""
        return self.stacks[0]

    @property
    def missing(self) -> tuple[Role, ...]:
        """Which of T2 and T1 is not there."""
        return self.paired.missing

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files of all stacks, each once, those of the fixed stack first."""
        return tuple(dict.fromkeys(path for stack in self.stacks for path in stack.paths))


@dataclass(frozen=True)
class StudyGroups:
    """What belongs together among the files of one study.

    Attributes:
        groups: the tallest first; empty where nothing can be analysed.
        left_out: stacks and why, in words.
        refusal: why the study cannot be analysed at all, as a coded reason.
    """

    groups: tuple[StackGroup, ...]
    left_out: tuple[tuple[MrStack, str], ...]
    refusal: Reason | None = None


def groups_of(paths: Iterable[Path]) -> StudyGroups:
    """The groups among the files of the MR series of one study, the same whatever the order of the files.

    Raises:
        UnreadableInstance, InconsistentGeometry, NotAnalysable: as `slices.read_slices`, for single files.
    """
    series: dict[str, list[tuple[Slice, MrTags]]] = {}
    patients = {}
    with reading_quietly():
        for path in paths:
            header, end = read_header_and_end(Path(path), (*SLICE_TAGS, *MR_TAGS))
            patients[Path(path)] = header
            for image in images_of(header, Path(path), header_end=end):
                series.setdefault(image[0].series_instance_uid, []).append(image)
    stacks: dict[MrSeries, MrStack] = {}
    wanted: list[MrSeries] = []
    wrong: list[tuple[MrSeries, Reason]] = []
    for images in series.values():
        for number, found in enumerate(split(images)):
            one = looked_at(found)
            about = series_of(one, patients[one.slices[0].path], number=number)
            stacks[about] = one
            refusal = unsuited(one)
            if refusal is None:
                wanted.append(about)
            else:
                wrong.append((about, refusal))
    pairing = pair(wanted, wrong=wrong)
    return StudyGroups(
        tuple(StackGroup(group, tuple(stacks[one] for _, one in group.members)) for group in pairing.groups),
        tuple((stacks[one], why) for one, why in pairing.left_out),
        pairing.refusal,
    )


def group_of(paths: Sequence[Path]) -> StackGroup:
    """The group that the files of one job are: the one whose fixed stack holds the first of them.

    Args:
        paths: as `StackGroup.paths` gave them, the fixed stack's first. Files that hold other images besides
            (an enhanced Dixon) may make further groups; those are no part of the job.

    Raises:
        UnreadableInstance, InconsistentGeometry: a file cannot be used.
        NotAnalysable: nothing in the files can be analysed, with the coded reason.
    """
    found = groups_of(paths)
    if not found.groups:
        reason = found.refusal or Reason(
            "modality-mismatch", "There is no sagittal T2, T1 or STIR. Send one."
        )
        raise NotAnalysable(reason.code, reason.text)
    return next((group for group in found.groups if Path(paths[0]) in group.fixed.paths), found.groups[0])


def looked_at(one: MrStack) -> MrStack:
    """Where tags leave it open what the images are, the images are asked."""
    if one.identity.certainty != "unsure" or one.plane != "sagittal" or len(one.slices) < 3:
        return one
    if one.identity.kind not in MAGNITUDE_CONTRASTS | {"unknown"}:
        return one
    # Here and not above: few series need it, and those who receive images should not wait for decoders.
    from dicom_ai_node.imaging.mr_appearance import decided_by_sight  # noqa: PLC0415
    from dicom_ai_node.imaging.mr_volume import load_mr_volume  # noqa: PLC0415

    try:
        return replace(one, identity=decided_by_sight(one.identity, load_mr_volume(one)))
    except InputError:
        # What cannot be decoded is said when the series is loaded; what is there to route by are its tags.
        return one

"""Which series of one MR study belong together: a sagittal T2, its T1 and its STIR, of the same place.

A pure function over descriptions of series: the answer is the same whatever the order in which they came. A
study of several regions (neck and lower back) gives several groups. Coordinates of two series can be compared
only within one frame of reference (PS3.3 C.7.4.1), so partners share it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicom_ai_node.imaging.mr_contrast import MrIdentity
from dicom_ai_node.imaging.mr_series import MrStack, Plane
from dicom_ai_node.imaging.mr_timing import Weighting
from dicom_ai_node.report import Reason

Role = Literal["t2", "t1", "stir", "fat"]
ROLES: Final[tuple[Role, ...]] = ("t2", "t1", "stir", "fat")
"""In the order in which they are taken as the grid that the others come onto. `fat`: a Dixon fat image."""

_LEAST_OVERLAP: Final = 0.5
_ALIKE: Final = 0.1
"""Differences of resolution and coverage below this share decide nothing."""


@dataclass(frozen=True)
class MrSeries:
    """One stack of one series, as far as pairing needs it.

    Attributes:
        patient: identifies the patient: ID, name and birth date as the header has them.
        number: counts the stacks of one series, 0 for the largest.
        acquired: seconds since midnight at which it was measured; None where unknown.
    """

    study_instance_uid: str
    series_instance_uid: str
    patient: tuple[str, str, str]
    frame_of_reference_uid: str | None
    identity: MrIdentity
    plane: Plane
    shape: tuple[int, int, int]
    affine: tuple[tuple[float, ...], ...]
    acquired: float | None
    number: int = 0

    @property
    def matrix(self) -> npt.NDArray[np.float64]:
        """4x4, (slice, row, column, 1) to LPS millimetres."""
        return np.array(self.affine, dtype=np.float64)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Length of one step in slice, row and column direction."""
        lengths = np.linalg.norm(self.matrix[:3, :3], axis=0)
        return float(lengths[0]), float(lengths[1]), float(lengths[2])

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Size of the field of view in slice, row and column direction."""
        first, second, third = (step * count for step, count in zip(self.spacing_mm, self.shape, strict=True))
        return first, second, third

    @property
    def role(self) -> Role | None:
        """What it can be in a group; None where it has no part in one."""
        return role_of(self.identity)


@dataclass(frozen=True)
class MrGroup:
    """Series of one place, at most one for each role; the first of `ROLES` that is there gives the grid."""

    members: tuple[tuple[Role, MrSeries], ...]
    reasons: tuple[str, ...]

    def of(self, role: Role) -> MrSeries | None:
        """The member with this role."""
        return next((one for name, one in self.members if name == role), None)

    @property
    def fixed(self) -> MrSeries:
        """The series onto whose grid the others come, and results are drawn on."""
        return self.members[0][1]

    @property
    def missing(self) -> tuple[Role, ...]:
        """Which of T2 and T1 a partner is still to be waited for."""
        return tuple(role for role in ("t2", "t1") if self.of(role) is None)


@dataclass(frozen=True)
class MrPairing:
    """What belongs together in a study.

    Attributes:
        groups: the tallest first; empty where nothing can be analysed.
        left_out: series and why, in words.
        refusal: why the study cannot be analysed at all, as a coded reason.
    """

    groups: tuple[MrGroup, ...]
    left_out: tuple[tuple[MrSeries, str], ...]
    refusal: Reason | None = None


def role_of(identity: MrIdentity) -> Role | None:
    """The role of a kind: an in-phase Dixon image is what its weighting says, its water image fat-free.

    A contrast medium changes what a lesion looks like: a T1 after it is no partner.
    """
    kind, weighting = identity.kind, identity.weighting
    if kind in ("t2", "t1"):
        return "t2" if kind == "t2" else "t1"
    if kind in ("stir", "t2-fs"):
        return "stir"
    if kind == "dixon-fat":
        return "fat"
    by_weight: dict[Weighting | None, Role] = {"T2": "t2", "T1": "t1"}
    if kind == "dixon-in":
        return by_weight.get(weighting)
    return "stir" if kind == "dixon-water" and weighting != "T1" else None


def series_of(stack: MrStack, header: Dataset, *, number: int = 0) -> MrSeries:
    """The description of a stack; `header` is that of one of its images."""
    first = stack.slices[0]
    patient = tuple(_word(header, key) for key in ("PatientID", "PatientName", "PatientBirthDate"))
    return MrSeries(
        study_instance_uid=first.study_instance_uid,
        series_instance_uid=first.series_instance_uid,
        patient=(patient[0], patient[1], patient[2]),
        frame_of_reference_uid=first.frame_of_reference_uid,
        identity=stack.identity,
        plane=stack.plane,
        shape=stack.shape,
        affine=tuple(tuple(float(v) for v in row) for row in stack.affine),
        acquired=_seconds(header),
        number=number,
    )


def pair(series: Iterable[MrSeries], *, wrong: Sequence[tuple[MrSeries, Reason]] = ()) -> MrPairing:
    """The groups of one study.

    Args:
        series: every stack of every series of one study that may be measured in, in any order.
        wrong: stacks that may not (`mr_series.unsuited`), with the reason; named among what is left out.
    """
    ordered = sorted(series, key=_identity_key)
    left_out = [(one, reason.text) for one, reason in sorted(wrong, key=lambda item: _identity_key(item[0]))]
    everyone = [*ordered, *(one for one, _ in left_out)]
    stranger = _different_patients(everyone)
    if stranger is not None:
        return MrPairing((), tuple((one, stranger.text) for one in ordered), stranger)
    candidates: list[MrSeries] = []
    for one in ordered:
        if one.plane != "sagittal" and not _fine(one):
            left_out.append((one, f"{one.plane} slices"))
        elif one.role is None:
            left_out.append((one, f"{one.identity.kind} has no part in the analysis"))
        else:
            candidates.append(one)
    groups: list[MrGroup] = []
    while candidates:
        group, candidates = _take_group(candidates, left_out)
        groups.append(group)
    groups.sort(key=lambda group: (-group.fixed.extent_mm[1], _identity_key(group.fixed)))
    refusal = None if groups else _why_nothing(everyone, wrong)
    return MrPairing(tuple(groups), tuple(left_out), refusal)


def overlap(one: MrSeries, other: MrSeries) -> float:
    """Share of the smaller field of view that lies in the other, 0..1, both as boxes in one patient space."""
    if one.frame_of_reference_uid != other.frame_of_reference_uid:
        return 0.0
    small, large = sorted(
        (one, other), key=lambda item: (float(np.prod(item.extent_mm)), _identity_key(item))
    )
    shares = [np.linspace(0.0, 1.0, count) for count in (7, 11, 11)]
    grid = np.stack(np.meshgrid(*shares, indexing="ij"), axis=-1).reshape(-1, 3)
    points = grid * small.shape - 0.5
    places = points @ small.matrix[:3, :3].T + small.matrix[:3, 3]
    inverse = np.linalg.inv(large.matrix)
    inside = places @ inverse[:3, :3].T + inverse[:3, 3]
    held = np.all((inside >= -0.5 - 1e-6) & (inside <= np.array(large.shape) - 0.5 + 1e-6), axis=1)
    return float(held.mean())


def _take_group(
    candidates: list[MrSeries], left_out: list[tuple[MrSeries, str]]
) -> tuple[MrGroup, list[MrSeries]]:
    """The group around the best series of the first role that is there, and what remains for others."""
    role = next(role for role in ROLES if any(one.role == role for one in candidates))
    same = [one for one in candidates if one.role == role]
    anchor = min(
        same, key=lambda one: (-one.extent_mm[1] * one.extent_mm[0], _quality(one), _identity_key(one))
    )
    rivals = [one for one in same if overlap(anchor, one) >= _LEAST_OVERLAP]
    fixed, why = _best(rivals, None)
    members: list[tuple[Role, MrSeries]] = [(role, fixed)]
    reasons = [f"{role}: {why}"]
    left_out += [(one, f"another {role} of the same place is used: {why}") for one in rivals if one != fixed]
    rest = [one for one in candidates if one not in rivals]
    for partner_role in ROLES[ROLES.index(role) + 1 :]:
        near = [one for one in rest if one.role == partner_role and overlap(fixed, one) >= _LEAST_OVERLAP]
        if not near:
            continue
        chosen, why = _best(near, fixed)
        members.append((partner_role, chosen))
        reasons.append(f"{partner_role}: {why}, {overlap(fixed, chosen):.0%} of one lies in the other")
        left_out += [
            (one, f"another {partner_role} of the same place is used: {why}") for one in near if one != chosen
        ]
        rest = [one for one in rest if one not in near]
    return MrGroup(tuple(members), tuple(reasons)), rest


def _best(rivals: Sequence[MrSeries], fixed: MrSeries | None) -> tuple[MrSeries, str]:
    """One of several series with the same role and place, and by what it was chosen."""
    if len(rivals) == 1:
        return rivals[0], "the only one of its place"
    left = sorted(rivals, key=_identity_key)
    sagittal = [one for one in left if one.plane == "sagittal"]
    if sagittal and (fixed is None or fixed.plane == "sagittal"):
        # Results are drawn on measured slices rather than on planes cut out of others.
        left = sagittal
        if len(left) == 1:
            return left[0], f"the only sagittal one of {len(rivals)}"
    for name, value, alike in (
        ("surest contrast", lambda one: float(_CERTAINTIES.index(one.identity.certainty)), 0.0),
        ("plain rather than Dixon", lambda one: float(one.identity.kind.startswith("dixon")), 0.0),
        ("tallest", lambda one: -one.extent_mm[1], _ALIKE),
        ("widest from side to side", lambda one: -one.extent_mm[0], 2 * _ALIKE),
        ("finest pixels", lambda one: one.spacing_mm[1] * one.spacing_mm[2], 2 * _ALIKE),
        ("thinnest slices", lambda one: one.spacing_mm[0], _ALIKE),
        ("nearest in time" if fixed else "measured last", lambda one: _time_rank(one, fixed), 0.0),
    ):
        values = [value(one) for one in left]
        best = min(values)
        kept = [one for one, here in zip(left, values, strict=True) if here - best <= alike * abs(best)]
        if len(kept) == 1:
            return kept[0], f"{name} of {len(rivals)}"
        left = kept
    return left[0], f"the first by identifier of {len(left)} alike"


_CERTAINTIES: Final = ("sure", "likely", "unsure")


def _time_rank(one: MrSeries, fixed: MrSeries | None) -> float:
    """A series is repeated because the first had moved: the last one counts, near its partner in time."""
    if fixed is None:
        return -(one.acquired if one.acquired is not None else -1.0)
    if one.acquired is None or fixed.acquired is None:
        return 86_400.0
    return abs(one.acquired - fixed.acquired)


def _quality(one: MrSeries) -> float:
    return one.spacing_mm[0] * one.spacing_mm[1] * one.spacing_mm[2]


def _fine(one: MrSeries) -> bool:
    return max(one.spacing_mm) <= 1.6 and one.shape[0] >= 20


def _different_patients(series: Sequence[MrSeries]) -> Reason | None:
    """A coded reason where the series of one study name several patients."""
    numbers = {one.patient[0].strip().upper() for one in series if one.patient[0].strip()}
    # A name may be typed anew; the same ID with another date of birth is another person all the same.
    births = {one.patient[2].strip() for one in series if one.patient[2].strip()}
    if len(numbers) <= 1 and len(births) <= 1:
        return None
    what = "Patient IDs" if len(numbers) > 1 else "dates of birth"
    return Reason(
        "patient-mismatch",
        f"The series of this study have {max(len(numbers), len(births))} different {what} (Patient ID "
        "(0010,0020), Patient's Birth Date (0010,0030)). Correct the study at its source and send it again.",
    )


def _why_nothing(series: Sequence[MrSeries], wrong: Sequence[tuple[MrSeries, Reason]]) -> Reason:
    """The coded reason for a study in which nothing can be analysed."""
    planes = sorted({one.plane for one in series})
    codes = [reason for _, reason in sorted(wrong, key=lambda item: _identity_key(item[0]))]
    oriented = [reason for reason in codes if reason.code == "orientation"]
    if series and planes and "sagittal" not in planes:
        return Reason(
            "orientation", f"The study has {' and '.join(planes)} slices only. Send a sagittal T2 or T1."
        )
    if oriented and len(oriented) == len(codes):
        return oriented[0]
    if codes:
        return codes[0]
    kinds = ", ".join(sorted({one.identity.kind for one in series}))
    there = f", but {kinds}" if kinds else ""
    return Reason("modality-mismatch", f"The study has no sagittal T2, T1 or STIR{there}. Send one.")


def _identity_key(one: MrSeries) -> tuple[str, int, str, tuple[tuple[float, ...], ...]]:
    return one.series_instance_uid, one.number, one.identity.kind, one.affine


def _word(header: Dataset, keyword: str) -> str:
    try:
        return str(header.get(keyword) or "").strip()
    # pydicom converts on access and raises whatever the conversion raises
    except Exception:
        return ""


def _seconds(header: Dataset) -> float | None:
    """Seconds since midnight of the acquisition, or of the series where that is not said."""
    for keyword in ("AcquisitionDateTime", "AcquisitionTime", "SeriesTime"):
        text = _word(header, keyword)
        digits = text[8:] if keyword == "AcquisitionDateTime" else text
        if len(digits) >= 6 and digits[:6].isdigit():
            return int(digits[:2]) * 3600.0 + int(digits[2:4]) * 60.0 + int(digits[4:6])
    return None

"""Which MR series go to the spine pipeline, and why: what its images show, not what one tag claims.

A study of a spine holds many series that nobody analyses: localizers, axial slices, diffusion. They are
recorded with their reason and not reported upon. A sagittal series that should have been analysed and cannot
be is refused with a coded reason. Which series of a study go together is decided later (`mr_pairing`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from dicom_ai_node.config import MriRoute
from dicom_ai_node.errors import InputError, UnreadableInstance
from dicom_ai_node.imaging.mr_contrast import MAGNITUDE_CONTRASTS
from dicom_ai_node.imaging.mr_groups import looked_at
from dicom_ai_node.imaging.mr_pairing import role_of
from dicom_ai_node.imaging.mr_series import MrStack, images_of, split, unsuited
from dicom_ai_node.imaging.mr_tags import MrTags
from dicom_ai_node.imaging.mr_words import words_of
from dicom_ai_node.imaging.slices import Slice
from dicom_ai_node.intake.decision import RouteDecision, summary
from dicom_ai_node.intake.headers import Instance
from dicom_ai_node.intake.images import instance_uid, text
from dicom_ai_node.report import Reason

MRI_PIPELINE: Final = "mri"

_TALL_MM: Final = 300.0
"""No head, joint or organ is imaged with a field of view this tall; a spine is."""


def route_mri(
    instances: Sequence[Instance], rules: MriRoute, excluded: list[tuple[str, str]]
) -> RouteDecision:
    """The decision for the MR images of one series.

    Args:
        instances: their headers (`headers.ROUTING_TAGS`).
        rules: `[routes.mri]`.
        excluded: what was left out before; more is appended.
    """
    if not rules.enabled:
        return RouteDecision(None, ("MR is not analysed: [routes.mri] enabled = false",), tuple(excluded))
    stranger = _different_patients(instances)
    if stranger is not None:
        return RouteDecision(None, (stranger.text,), tuple(excluded), refusal=stranger)
    wanted: list[Instance] = []
    for instance in instances:
        reason = _unwanted(instance, rules)
        if reason is None:
            wanted.append(instance)
        else:
            excluded.append((instance_uid(instance), reason))
    images, broken = _readable(wanted, excluded)
    if not images:
        if broken:
            message = f"none of the {len(wanted)} MR images can be used; the first: {broken[0]}"
            return RouteDecision(None, (message,), tuple(excluded), refusal=Reason("unreadable", message))
        return RouteDecision(None, (summary(excluded),), tuple(excluded))
    found = [looked_at(one) for one in split(images)]
    other_part = _other_body_part(found[0], rules)
    if other_part is not None:
        return RouteDecision(None, (other_part,), tuple(excluded))
    stacked = {(item.path, item.frame) for one in found for item in one.slices}
    again = "another image of the same plane is used, or a copy of it (ImagePositionPatient)"
    excluded += [
        (item.sop_instance_uid, again) for item, _ in images if (item.path, item.frame) not in stacked
    ]
    return _decided(found, rules, excluded)


def _decided(found: Sequence[MrStack], rules: MriRoute, excluded: list[tuple[str, str]]) -> RouteDecision:
    taken: list[MrStack] = []
    refusals: list[tuple[MrStack, Reason]] = []
    for one in found:
        refusal = unsuited(one) or _against_rules(one, rules)
        if refusal is None:
            taken.append(one)
        else:
            refusals.append((one, refusal))
    paths = {path for one in taken for path in one.paths}
    for one, refusal in refusals:
        excluded += [(item.sop_instance_uid, refusal.text) for item in one.slices if item.path not in paths]
    notes = _notes(found)
    if not taken:
        first_stack, first = refusals[0]
        reportable = _reportable(first_stack, first)
        reasons = (first.text, *(refusal.text for _, refusal in refusals[1:3]), *notes)
        return RouteDecision(
            None, tuple(dict.fromkeys(reasons)), tuple(excluded), refusal=first if reportable else None
        )
    reasons = tuple(f"{one.in_words()}: {one.identity.in_words()}" for one in taken)
    left = [summary(excluded)] if excluded else []
    ordered = tuple(dict.fromkeys(path for one in taken for path in one.paths))
    return RouteDecision(MRI_PIPELINE, (*reasons, *notes, *left), tuple(excluded), ordered)


def _reportable(one: MrStack, refusal: Reason) -> bool:
    """Whether somebody waits for a result: a plain sagittal series that falls short, nothing else."""
    return (
        one.plane == "sagittal"
        and one.identity.kind in MAGNITUDE_CONTRASTS
        and refusal.code not in {"modality-mismatch", "orientation"}
    )


def _against_rules(one: MrStack, rules: MriRoute) -> Reason | None:
    """Why a stack that could be measured in is not, under these settings."""
    words = words_of(one.tags.descriptions)
    if role_of(one.identity) is None:
        return Reason(
            "modality-mismatch",
            f"{one.identity.in_words()}: only T2, T1, STIR and Dixon images are analysed",
        )
    if not rules.cervical and words.says("cervical") and not words.says("below-neck"):
        return Reason(
            "coverage",
            f"{words.says('cervical')}: the neck alone is not analysed ([routes.mri] cervical = false)",
        )
    if len(one.slices) < rules.min_slices:
        return Reason(
            "coverage",
            f"{one.in_words()}: {rules.min_slices} slices are the least ([routes.mri] min_slices); send the "
            "whole series",
        )
    if one.coverage_mm < rules.min_coverage_mm:
        return Reason(
            "coverage",
            f"{one.in_words()}: {rules.min_coverage_mm:g} mm are the least ([routes.mri] min_coverage_mm)",
        )
    if one.spacing_mm > rules.max_spacing_mm:
        return Reason(
            "spacing",
            f"{one.in_words()}: {rules.max_spacing_mm:g} mm are the most ([routes.mri] max_spacing_mm)",
        )
    pixel_mm = max(one.slices[0].pixel_spacing)
    if pixel_mm > rules.max_pixel_spacing_mm:
        return Reason(
            "spacing",
            f"{one.in_words()}, pixels of {pixel_mm:.3g} mm: {rules.max_pixel_spacing_mm:g} mm are the most "
            "([routes.mri] max_pixel_spacing_mm)",
        )
    return None


def _readable(
    wanted: Sequence[Instance], excluded: list[tuple[str, str]]
) -> tuple[list[tuple[Slice, MrTags]], list[str]]:
    images: list[tuple[Slice, MrTags]] = []
    broken: list[str] = []
    for instance in wanted:
        try:
            if instance.complaint is not None:
                raise UnreadableInstance(f"{instance.path.name}: {instance.complaint}")
            images += images_of(instance.header, instance.path)
        except InputError as error:
            broken.append(str(error))
            excluded.append((instance_uid(instance), str(error)))
    return images, broken


def _unwanted(instance: Instance, rules: MriRoute) -> str | None:
    samples = text(instance.header, "SamplesPerPixel")
    if samples not in {"", "1"}:
        return f"a colour picture, no slice (Samples per Pixel is {samples})"
    for keyword in ("SeriesDescription", "ProtocolName"):
        description = text(instance.header, keyword)
        for pattern in rules.refused_descriptions:
            if re.search(pattern, description, re.IGNORECASE):
                return f"{keyword} matches {pattern!r} ([routes.mri] refused_descriptions)"
    return None


def _other_body_part(one: MrStack, rules: MriRoute) -> str | None:
    """The body part by which the images are none of a spine, None where they may be one.

    Technologists leave the last patient's body part in the header: a description that names the spine, or a
    field of view too tall for that part, outweighs it.
    """
    part = one.tags.body_part
    for pattern in rules.refused_body_parts:
        if not re.search(pattern, part, re.IGNORECASE):
            continue
        words = words_of(one.tags.descriptions)
        if words.says("spine") or words.says("below-neck") or one.coverage_mm >= _TALL_MM:
            return None
        return f"Body Part Examined says {part} ([routes.mri] refused_body_parts)"
    return None


def _different_patients(instances: Sequence[Instance]) -> Reason | None:
    numbers = {found for one in instances if (found := text(one.header, "PatientID").upper())}
    births = {found for one in instances if (found := text(one.header, "PatientBirthDate"))}
    if len(numbers) <= 1 and len(births) <= 1:
        return None
    return Reason(
        "patient-mismatch",
        f"the images of this series name {max(len(numbers), len(births))} patients (Patient ID (0010,0020), "
        "Patient's Birth Date (0010,0030)); correct it at its source and send it again",
    )


def _notes(found: Sequence[MrStack]) -> list[str]:
    notes = []
    if len(found) > 1:
        shown = "; ".join(f"{one.identity.kind}, {one.in_words()}" for one in found[:4])
        more = f"; and {len(found) - 4} more" if len(found) > 4 else ""
        notes.append(f"the series holds {len(found)} stacks: {shown}{more}")
    part = found[0].tags.body_part
    if part and not words_of((("SeriesDescription", part),)).says("spine"):
        notes.append(f"Body Part Examined says {part}; not relied on")
    return notes

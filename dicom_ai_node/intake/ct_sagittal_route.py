"""Sagittal CT slices that form no volume good enough for heights: too few, too thick, or reformats.

P2's networks look at single slices, so that these series can be judged. A reformat of a volume that is
analysed itself would be reported twice: it is left alone, and the decision says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from dicom_ai_node.config import CtRoute
from dicom_ai_node.errors import InputError, UnreadableInstance
from dicom_ai_node.imaging.slices import Slice, slices_of
from dicom_ai_node.intake.decision import RouteDecision, summary
from dicom_ai_node.intake.geometry import Shape, choose_stack
from dicom_ai_node.intake.headers import Instance, read_instance
from dicom_ai_node.intake.images import contradictions, instance_uid, text, unwanted
from dicom_ai_node.report import Reason

CT_SAGITTAL_PIPELINE: Final = "ct-sagittal"

MIN_SLICES: Final = 4
"""Fewer cannot tell where a vertebra begins and ends."""

MAX_SPACING_MM: Final = 10.0
"""With slices further apart too few meet a body, which is 30 to 50 mm wide."""

_COMPUTED: Final = frozenset({"DERIVED", "SECONDARY"})
"""What reformats say of themselves in Image Type; projections and captures say more, and stay refused."""


def route_sagittal(instances: Sequence[Instance], rules: CtRoute) -> RouteDecision | None:
    """What becomes of a series as sagittal slices; None where it is no sagittal series.

    Args:
        instances: CT images of one series.
        rules: `[routes.ct]`; image types that reformats have are not refused here.
    """
    relaxed = rules.model_copy(
        update={
            "refused_image_types": tuple(word for word in rules.refused_image_types if word not in _COMPUTED),
            "orientations": ("sagittal",),
            "min_slices": MIN_SLICES,
            "max_spacing_mm": MAX_SPACING_MM,
        }
    )
    excluded: list[tuple[str, str]] = []
    wanted: list[Instance] = []
    for instance in instances:
        reason = unwanted(instance.header, relaxed)
        if reason is None:
            wanted.append(instance)
        else:
            excluded.append((instance_uid(instance), reason))
    slices: list[Slice] = []
    for instance in wanted:
        try:
            if instance.complaint is not None:
                raise UnreadableInstance(f"{instance.path.name}: {instance.complaint}")
            slices += slices_of(instance.header, instance.path)
        except InputError as error:
            excluded.append((instance_uid(instance), str(error)))
    if not slices:
        return None
    shape = choose_stack(slices, relaxed)
    if shape.orientation != "sagittal":
        return None
    excluded += [(item.sop_instance_uid, reason) for item, reason in shape.left_out]
    notes = (*shape.notes, *contradictions(wanted), *([summary(excluded)] if excluded else []))
    refusal = _refusal(shape, rules)
    if refusal is not None:
        # Whoever sent a reformat that shows too little has the images that it was made of.
        told = None if all(map(_is_computed, wanted)) else refusal
        return RouteDecision(None, (refusal.text, *notes), tuple(excluded), refusal=told)
    words = f"{shape.in_words()}: judged slice by slice"
    return RouteDecision(CT_SAGITTAL_PIPELINE, (words, *notes), tuple(excluded), shape.paths)


def _is_computed(instance: Instance) -> bool:
    words = instance.header.get("ImageType") or ()
    return not _COMPUTED.isdisjoint(str(word).upper() for word in words)


def _refusal(shape: Shape, rules: CtRoute) -> Reason | None:
    """Why sagittal slices cannot be judged; None where they can."""
    words = shape.in_words()
    if shape.flaw is not None:
        return Reason("geometry", shape.flaw)
    if len(shape.slices) < MIN_SLICES:
        return Reason("coverage", f"{words}: {MIN_SLICES} are the least; send the whole series")
    if shape.coverage_mm < rules.min_coverage_mm:
        return Reason(
            "coverage",
            f"{words}: {rules.min_coverage_mm:g} mm are the least ([routes.ct] min_coverage_mm); "
            "send a series that covers more of the spine",
        )
    if shape.spacing_mm > MAX_SPACING_MM:
        return Reason(
            "spacing", f"{words}: {MAX_SPACING_MM:g} mm are the most for sagittal slices; send closer ones"
        )
    pixel_mm = max(shape.slices[0].pixel_spacing)
    if pixel_mm > rules.max_pixel_spacing_mm:
        return Reason(
            "spacing",
            f"{words}, pixels of {pixel_mm:.4g} mm: {rules.max_pixel_spacing_mm:g} mm are the most "
            "([routes.ct] max_pixel_spacing_mm); send a finer matrix",
        )
    return None


def beside_its_volume(
    decision: RouteDecision, volumes: Iterable[tuple[str, RouteDecision]], rules: CtRoute
) -> RouteDecision:
    """The decision about sagittal slices, given what else of the study is analysed.

    Args:
        decision: about the sagittal series.
        volumes: Series Instance UID and decision of each series of the study that is analysed as a volume.
        rules: `[routes.ct]`.

    Returns:
        The same decision, or that nothing is done: a volume in the same frame of reference is analysed. The
        same networks can judge planes that are cut out of it (`[routes.ct] diseases`).
    """
    if decision.pipeline != CT_SAGITTAL_PIPELINE:
        return decision
    space = _frame_of_reference(decision.paths)
    for uid, other in volumes:
        if space and _frame_of_reference(other.paths) == space:
            words = f"series {uid} of the same study and frame of reference is analysed as a volume" + (
                ", and judged by the same networks: these sagittal slices carry nothing new"
                if rules.diseases
                else "; these sagittal slices are not reported beside it. [routes.ct] diseases = true has "
                "the volume judged for diseases too"
            )
            return RouteDecision(None, (words, *decision.reasons), decision.excluded)
    return decision


def reformats_beside(
    decisions: Mapping[str, RouteDecision], rules: CtRoute, volume_pipeline: str
) -> dict[str, RouteDecision]:
    """`beside_its_volume` for all series of one study, by Series Instance UID."""
    volumes = [(uid, one) for uid, one in decisions.items() if one.pipeline == volume_pipeline]
    return {uid: beside_its_volume(one, volumes, rules) for uid, one in decisions.items()}


def _frame_of_reference(paths: Sequence[Path]) -> str:
    """Of the first file; "" where there is none."""
    for path in paths[:1]:
        try:
            return text(read_instance(path).header, "FrameOfReferenceUID")
        except UnreadableInstance:
            return ""
    return ""

"""From the plan of a person's diseases to bodies, arches and findings, step by step as `sample_spine` goes.

Every vertebra draws from streams of its own (`stream(seed, "disease", level, ...)`), so that a disease in one
level leaves all others as they were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dicom_ai_node.anatomy import Level
from dicom_ai_node.genant import Grading, expected_posterior
from dicom_ai_node.phantom.body import BodyShape, heights
from dicom_ai_node.phantom.deformity import Collapse
from dicom_ai_node.phantom.degeneration import DiscWear, wear_findings
from dicom_ai_node.phantom.disc import DiscShape
from dicom_ai_node.phantom.disease import COLLAPSES, Disease, Features, shape_features
from dicom_ai_node.phantom.disease_plan import DiseasePlan
from dicom_ai_node.phantom.endplates import developed, limbus_findings, schmorl_findings
from dicom_ai_node.phantom.fracture_signs import age_of_collapse, fracture_findings, fresh_shape
from dicom_ai_node.phantom.fracturing import Adjustment
from dicom_ai_node.phantom.lesion import Findings
from dicom_ai_node.phantom.osteophytes import osteophytes
from dicom_ai_node.phantom.randomness import between, stream
from dicom_ai_node.phantom.surgery import cement_findings, instrumentation, laminectomised
from dicom_ai_node.phantom.tumour import haemangioma_findings, malignant_findings, malignant_shape

if TYPE_CHECKING:
    from dicom_ai_node.phantom.spine import Vertebra

Array = npt.NDArray[np.float64]


def grown_up(
    seed: int, levels: Sequence[Level], healthy: Sequence[BodyShape], plan: DiseasePlan
) -> list[BodyShape]:
    """The bodies as they were before any fracture: with the look-alikes that one grows up with."""
    posterior = {level: heights(body).posterior for level, body in zip(levels, healthy, strict=True)}
    out = []
    for level, body in zip(levels, healthy, strict=True):
        ill = plan.diseases.get(level)
        if not ill:
            out.append(body)
            continue
        expected = expected_posterior(level, posterior)
        # Never so low that Genant's method would call it a crush.
        least = 0.0 if expected is None else min(1.0, 0.84 * expected / posterior[level])
        out.append(developed(body, ill, stream(seed, "disease", level.value, "growth"), least))
    return out


def giving_way(seed: int, plan: DiseasePlan) -> Adjustment:
    """How the collapse of each level is changed by its disease and its age."""

    def adjusted(level: Level, collapse: Collapse) -> Collapse:
        ill, features = plan.diseases.get(level, ()), plan.features.get(level)
        if features is None:
            return collapse
        return age_of_collapse(collapse, ill, features, stream(seed, "disease", level.value, "collapse"))

    return adjusted


def reshaped(
    seed: int,
    levels: Sequence[Level],
    bodies: Sequence[BodyShape],
    collapses: Sequence[Collapse | None],
    plan: DiseasePlan,
) -> list[BodyShape]:
    """The bodies with what disease does to their walls; their six points stay."""
    out = []
    for level, body, collapse in zip(levels, bodies, collapses, strict=True):
        ill, features = plan.diseases.get(level, ()), plan.features.get(level)
        generator = stream(seed, "disease", level.value, "shape")
        shape = body
        if features is not None and Disease.MALIGNANT in ill:
            shape = malignant_shape(body, features, generator)
        elif features is not None and collapse is not None and not features.homogeneous_marrow:
            shape = fresh_shape(body, generator)
        out.append(shape)
    return out


def sinking(
    levels: Sequence[Level], collapses: Sequence[Collapse | None], plan: DiseasePlan
) -> list[Collapse | None]:
    """Which bodies let the column above sink and tilt: the broken, and those that grew wedged or low."""
    low = {Disease.SHORT_HEIGHT, Disease.SCHEUERMANN}
    return [
        Collapse("crush", 0.0, kyphosis=0.8)
        if collapse is None and low.intersection(plan.diseases.get(level, ()))
        else collapse
        for level, collapse in zip(levels, collapses, strict=True)
    ]


def ill_vertebrae(
    seed: int,
    vertebrae: Sequence[Vertebra],
    discs: Sequence[DiscShape],
    wear: Sequence[DiscWear],
    *,
    plan: DiseasePlan,
    gradings: Mapping[Level, Grading],
) -> tuple[Vertebra, ...]:
    """The vertebrae with their diseases, P4's features and findings.

    A fracture that could not be had (see `fractured_bodies`) takes its disease with it.
    """
    sound = DiscWear()
    ill = [
        _ill(
            seed,
            vertebra,
            plan,
            gradings.get(vertebra.level),
            (wear[k - 1] if k else sound, wear[k] if k < len(wear) else sound),
        )
        for k, vertebra in enumerate(vertebrae)
    ]
    by_level = {vertebra.level: vertebra for vertebra in ill}
    below = {vertebra.level: disc for vertebra, disc in zip(ill, discs, strict=False)}
    groups = plan.instrumented([vertebra.level for vertebra in vertebrae])
    held = {level for group in groups for level in group}
    for group in groups:
        generator = stream(seed, "disease", "screws", group[0].value)
        metal, opened = instrumentation([by_level[level] for level in group], below, generator)
        for level, found in metal.items():
            own = by_level[level]
            arch = laminectomised(own.arch) if level in opened else own.arch
            by_level[level] = replace(own, findings=own.findings + found, arch=arch)
    for vertebra in ill:
        if Disease.PS in vertebra.diseases and vertebra.level not in held:
            generator = stream(seed, "disease", vertebra.level.value, "cement")
            cement = cement_findings(vertebra.body, vertebra.frame, generator)
            by_level[vertebra.level] = replace(vertebra, findings=vertebra.findings + cement)
    return tuple(by_level[vertebra.level] for vertebra in vertebrae)


def _ill(
    seed: int,
    vertebra: Vertebra,
    plan: DiseasePlan,
    grading: Grading | None,
    wear: tuple[DiscWear, DiscWear],
) -> Vertebra:
    level = vertebra.level
    planned_break = plan.fractures.get(level, ("none", 0))[1] > 0
    diseases = tuple(
        disease
        for disease in plan.diseases.get(level, ())
        if not (disease in COLLAPSES and planned_break and vertebra.collapse is None)
    )
    if not plan.diseases and vertebra.collapse is not None:
        diseases = (Disease.OVCF,)
    features = plan.features.get(level) if diseases else None
    if features is not None:
        features = replace(features, **shape_features(heights(vertebra.body), grading))
    findings = wear_findings(*wear, stream(seed, "disease", level.value, "wear"))
    for disease in diseases:
        own = stream(seed, "disease", level.value, disease.value)
        findings = findings + _findings(vertebra, disease, diseases, features, own)
    vertebra = replace(vertebra, diseases=diseases, features=features, findings=findings)
    return _aged(vertebra, stream(seed, "disease", level.value, "bone")) if features is not None else vertebra


def _findings(
    vertebra: Vertebra,
    disease: Disease,
    diseases: tuple[Disease, ...],
    features: Features | None,
    generator: np.random.Generator,
) -> Findings:
    body, frame = vertebra.body, vertebra.frame
    if disease is Disease.MALIGNANT and features is not None:
        return malignant_findings(body, vertebra.arch, frame, features, generator)
    if disease is Disease.HAEMANGIOMA:
        return haemangioma_findings(body, frame, generator)
    if disease is Disease.SN:
        return schmorl_findings(body, frame, 1 + int(generator.random() < 0.35), generator)
    if disease is Disease.SCHEUERMANN:
        return schmorl_findings(body, frame, int(generator.integers(0, 3)), generator, small=True)
    if disease is Disease.LIMBUS:
        return limbus_findings(body, frame, generator)
    first = next((each for each in diseases if each in COLLAPSES), None)
    if disease is first and features is not None:
        return fracture_findings(body, frame, diseases, features, generator, density=vertebra.matter.density)
    return Findings()


def _aged(vertebra: Vertebra, generator: np.random.Generator) -> Vertebra:
    """The bone of a fracture as its age and cause leave it."""
    if Disease.MALIGNANT in vertebra.diseases:
        return replace(vertebra, compaction=0.0)
    if vertebra.features is None or not vertebra.features.homogeneous_marrow:
        return vertebra
    # Healed: the cortex is thick and smooth again, spurs have grown at the rims.
    spurs = osteophytes(
        vertebra.body, vertebra.frame, vertebra.matter, between(generator, 0.5, 1.0), generator
    )
    return replace(
        vertebra,
        compaction=between(generator, 0.0, 0.4),
        endplate_mm=vertebra.endplate_mm + between(generator, 0.2, 0.7),
        matter=replace(vertebra.matter, cortex=1.4 * vertebra.matter.cortex + 0.1),
        osteophytes=(*vertebra.osteophytes, *spurs),
    )

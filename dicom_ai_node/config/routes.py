"""Which series are analysed: one table per kind."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dicom_ai_node.config.section import Section
from dicom_ai_node.config.values import AS_TUPLE, Millimetres, Pattern

Orientation = Literal["axial", "sagittal", "coronal", "oblique"]


class CtRoute(Section):
    """`[routes.ct]`: which CT series are analysed, and when a series counts as complete."""

    enabled: bool = True
    quiet_seconds: Annotated[float, Field(ge=0)] = 30.0
    trust_header_counts: bool = True
    min_slices: Annotated[int, Field(ge=1)] = 12
    min_coverage_mm: Millimetres = 80.0
    max_spacing_mm: Millimetres = 6.0
    max_gap_mm: Annotated[float, Field(ge=0)] = 0.0
    max_pixel_spacing_mm: Millimetres = 2.0
    sagittal: bool = True
    diseases: bool = False
    orientations: Annotated[tuple[Orientation, ...], AS_TUPLE] = (
        "axial",
        "sagittal",
        "coronal",
    )
    refused_image_types: Annotated[tuple[str, ...], AS_TUPLE] = (
        "LOCALIZER",
        "DERIVED",
        "SECONDARY",
        "SCREEN SAVE",
        "PROJECTION IMAGE",
        "MIP",
        "MAX_IP",
        "MIN_IP",
        "VOLUME_RENDER",
        "SURFACE_RENDER",
    )
    refused_descriptions: Annotated[tuple[Pattern, ...], AS_TUPLE] = (
        "scout",
        "topogram",
        "locali[sz]er",
        "surview",
        "smart ?prep",
        "bolus",
        "pre-?monitoring",
        "dose (report|info)",
    )


class RadiographRoute(Section):
    """`[routes.radiograph]`: which projection radiographs are looked at; the image itself tells the view."""

    enabled: bool = True
    quiet_seconds: Annotated[float, Field(ge=0)] = 20.0
    secondary_captures: bool = False
    refused_body_parts: Annotated[tuple[Pattern, ...], AS_TUPLE] = (
        "hand",
        "finger",
        "thumb",
        "wrist",
        "forearm",
        "elbow",
        "humerus",
        "clavicle",
        "shoulder",
        "foot",
        "toe",
        "heel",
        "calcaneus",
        "ankle",
        "knee",
        "patella",
        "femur",
        "^(arm|leg)$",
        "extremity",
        "skull",
        "head",
        "jaw",
        "mandible",
        "sinus",
        "nose",
        "orbit",
        "breast",
        "tooth|teeth|dental",
    )
    refused_descriptions: Annotated[tuple[Pattern, ...], AS_TUPLE] = (
        "dose (report|info)",
        "screen ?shot",
    )


class MriRoute(Section):
    """`[routes.mri]`: which MR series are analysed; what a series is comes from its header and its image.

    The series of one study are analysed together. A T2 without T1, or a T1 without T2, is analysed when no MR
    of its study has come for `partner_wait_seconds`, and again when the partner has come; 0 never waits.
    """

    enabled: bool = True
    quiet_seconds: Annotated[float, Field(ge=0)] = 30.0
    partner_wait_seconds: Annotated[float, Field(ge=0)] = 600.0
    min_slices: Annotated[int, Field(ge=2)] = 5
    min_coverage_mm: Millimetres = 100.0
    max_spacing_mm: Millimetres = 8.0
    max_pixel_spacing_mm: Millimetres = 2.0
    cervical: bool = False
    refused_body_parts: Annotated[tuple[Pattern, ...], AS_TUPLE] = (
        "brain",
        "head",
        "skull",
        "orbit",
        "pituitary",
        "face",
        "sinus",
        "jaw",
        "tmj",
        "breast",
        "heart|cardiac",
        "prostate",
        "shoulder",
        "humerus",
        "elbow",
        "wrist",
        "hand",
        "finger",
        "femur",
        "knee",
        "ankle",
        "foot",
        "toe",
        "extremity",
    )
    refused_descriptions: Annotated[tuple[Pattern, ...], AS_TUPLE] = (
        "brain",
        "(?<![a-z])knee",
        "(?<![a-z])hips?(?![a-z])",
        "shoulder",
        "screen ?save",
        "report",
    )


class OtherRoute(Section):
    """`[routes.other]`: series that no pipeline takes; they are recorded as not applicable."""

    quiet_seconds: Annotated[float, Field(ge=0)] = 30.0


class Routes(Section):
    """`[routes]`: one table per kind of series."""

    ct: CtRoute = CtRoute()
    radiograph: RadiographRoute = RadiographRoute()
    mri: MriRoute = MriRoute()
    other: OtherRoute = OtherRoute()

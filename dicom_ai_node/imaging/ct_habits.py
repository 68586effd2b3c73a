"""What CT scanners of different makes and sites in different countries write about the same series.

Makes differ in kernels, Image Type, stored bits and private elements; sites in words, alphabets, and in what
they call a body part. The same seed gives the same scanner and site.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from dicom_ai_node.imaging.habits import (
    ALPHABETS,
    PrivateElement,
    habit_stream,
    sample_language,
    sample_transfer_syntax,
)
from dicom_ai_node.imaging.write_ct import CtHeader

Make = Literal["siemens", "ge", "philips", "canon"]
CtKind = Literal["axial", "sagittal", "coronal", "oblique", "scout"]


@dataclass(frozen=True)
class CtSettings:
    """How a series was made.

    Attributes:
        kind: what the images are; sagittal, coronal and oblique ones are reformats.
        slice_thickness_mm: of the slices.
        kvp: tube voltage.
        sharp: whether the kernel is one for bone.
        lowest_hu: the smallest value of the images, that of padding where there is any.
        padded: whether `lowest_hu` stands for no measurement.
    """

    kind: CtKind
    slice_thickness_mm: float
    kvp: float
    sharp: bool
    lowest_hu: int
    padded: bool = False


@dataclass(frozen=True)
class CtSite:
    """A scanner and its staff: the same for all series of a study.

    Attributes:
        make: of the scanner.
        language: of the staff, a key of `habits.ALPHABETS`.
        body_part: Body Part Examined; None where it is missing.
        omit: optional attributes this site's images lack.
        enhanced: whether the scanner writes enhanced multi-frame objects.
        transfer_syntax: how pixels are encoded.
    """

    make: Make
    language: str
    body_part: str | None
    omit: tuple[str, ...]
    enhanced: bool
    transfer_syntax: str


_MAKERS: Final[Mapping[Make, tuple[str, str]]] = {
    "siemens": ("SIEMENS", "Spine phantom S"),
    "ge": ("GE MEDICAL SYSTEMS", "Spine phantom G"),
    "philips": ("Philips", "Spine phantom P"),
    "canon": ("TOSHIBA", "Spine phantom C"),
}

_KERNELS: Final[Mapping[Make, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "siemens": (("B30s", "B31f", "I30f\\3"), ("B60s", "B70f", "I70f\\3")),
    "ge": (("STANDARD", "SOFT"), ("BONE", "BONEPLUS")),
    "philips": (("B", "C"), ("D", "YC")),
    "canon": (("FC08", "FC18"), ("FC30", "FC35")),
}
"""For soft tissue, and for bone."""

_STUDIES: Final[Mapping[str, str]] = {
    "en": "CT SPINE W/O CONTRAST",
    "de": "CT Wirbelsäule nativ",
    "fr": "TDM rachis dorso-lombaire",
    "es": "TC COLUMNA SIN CONTRASTE",
    "ru": "КТ позвоночника",
    "el": "CT ΣΠΟΝΔΥΛΙΚΗΣ ΣΤΗΛΗΣ",
    "ja": "脊椎CT",
    "zh": "胸腰椎平扫",
    "ko": "척추 CT",
}

_PLANES: Final[Mapping[str, Mapping[CtKind, str]]] = {
    "en": {"axial": "Ax", "sagittal": "Sag", "coronal": "Cor", "oblique": "Obl"},
    "de": {"axial": "ax", "sagittal": "sag", "coronal": "kor", "oblique": "schräg"},
    "fr": {"axial": "AX", "sagittal": "SAG", "coronal": "COR", "oblique": "OBL"},
    "ru": {"axial": "акс", "sagittal": "саг", "coronal": "кор", "oblique": "кос"},
    "ja": {"axial": "横断", "sagittal": "矢状断", "coronal": "冠状断", "oblique": "斜断"},
    "zh": {"axial": "横断", "sagittal": "矢状", "coronal": "冠状", "oblique": "斜"},
}
"""Site's words for planes; sites without any write those of the first."""

_SCOUTS: Final[Mapping[Make, str]] = {
    "siemens": "Topogramm 0.6 T20s",
    "ge": "Scout",
    "philips": "Surview",
    "canon": "Scanogram localizer",
}

_BODY_PARTS: Final = (
    "SPINE", "SPINE", "LSPINE", "TSPINE", "LUMBAR SPINE", "TLSPINE", "ABDOMEN", "CHEST", "HEAD", "PELVIS",
    "EXTREMITY", "WHOLEBODY",
)  # fmt: skip

_OPTIONAL: Final = (
    "SliceLocation", "PatientAge", "StudyDescription", "ProtocolName", "XRayTubeCurrent ExposureTime",
    "ConvolutionKernel", "GantryDetectorTilt", "TableHeight", "ReconstructionDiameter", "RescaleType",
    "WindowCenter WindowWidth", "AcquisitionDate AcquisitionTime", "SoftwareVersions DeviceSerialNumber",
    "SeriesDate SeriesTime",
)  # fmt: skip
"""What real images may lack; words of one string go together."""

_NEEDED_BY_ENHANCED: Final = frozenset(("SoftwareVersions", "DeviceSerialNumber"))


def sample_ct_site(seed: int) -> CtSite:
    """A scanner and a site; the same seed gives the same."""
    generator = habit_stream(seed, "ct-site")
    make: Make = ("siemens", "ge", "philips", "canon")[int(generator.choice(4, p=[0.38, 0.27, 0.2, 0.15]))]
    part = None if generator.random() < 0.2 else str(generator.choice(_BODY_PARTS))
    omit: list[str] = []
    if generator.random() < 0.5:
        for words in generator.choice(_OPTIONAL, size=int(generator.integers(1, 6)), replace=False):
            omit += str(words).split()
    enhanced = make in ("philips", "canon") and bool(generator.random() < 0.4)
    if enhanced:
        omit = [word for word in omit if word not in _NEEDED_BY_ENHANCED]
    syntax = sample_transfer_syntax(generator)
    return CtSite(make, sample_language(seed), part, tuple(omit), enhanced, syntax)


def ct_header(seed: int, site: CtSite, settings: CtSettings, *, number: int) -> CtHeader:
    """The header of one series as this site's scanner writes it.

    Args:
        seed: of the study; together with the kind it chooses among the site's words.
        site: where.
        settings: how it was made.
        number: Series Number.
    """
    generator = habit_stream(seed, "ct-series", settings.kind)
    maker, model = _MAKERS[site.make]
    alphabet = ALPHABETS[site.language]
    kernel = str(generator.choice(_KERNELS[site.make][int(settings.sharp)]))
    intercept, bits, signed = _stored_as(site.make, settings)
    thickness = f"{settings.slice_thickness_mm:g}"
    plane = _PLANES.get(site.language, _PLANES["en"]).get(settings.kind, "")
    description = {
        "siemens": f"{plane} {thickness} {kernel.split(chr(92), maxsplit=1)[0]}",
        "ge": f"{plane} {'BONE' if settings.sharp else 'ST'} {thickness}mm",
        "philips": f"{plane} {thickness}mm {'Bone' if settings.sharp else 'Soft'}",
        "canon": f"{plane} {'Bone' if settings.sharp else 'Body'} {thickness}",
    }[site.make]
    scout = settings.kind == "scout"
    derived = settings.kind in ("sagittal", "coronal", "oblique")
    # Sites that write nothing but ASCII often leave the character set out.
    plain = site.language == "en" and habit_stream(seed, "ct-plain").random() < 0.3
    return CtHeader(
        patient_name=alphabet.patient_name,
        character_set=None if plain else alphabet.character_set,
        study_description=_STUDIES[site.language],
        protocol_name="Spine" if site.make != "ge" else "6.1 LUMBAR SPINE",
        series_description=_SCOUTS[site.make] if scout else description,
        series_number=number,
        body_part_examined=site.body_part,
        image_type=_image_type(site.make, settings.kind),
        manufacturer=maker,
        model_name=model,
        kernel=kernel.split("\\", maxsplit=1)[0],
        kvp=settings.kvp,
        tube_current_ma=35 if scout else int(generator.integers(60, 420)),
        slice_thickness_mm=settings.slice_thickness_mm,
        window=(50.0, 500.0) if scout else (450.0, 1800.0) if settings.sharp else (50.0, 400.0),
        rescale_intercept=intercept,
        bits_stored=bits,
        signed=signed,
        pixel_padding_value=settings.lowest_hu - intercept if settings.padded else None,
        derivation="MPR" if derived else None,
        transfer_syntax=site.transfer_syntax,
        private=_private(site.make, thickness),
        omit=site.omit,
    )


def _stored_as(make: Make, settings: CtSettings) -> tuple[int, Literal[12, 16], bool]:
    """Rescale Intercept, Bits Stored and sign: 12 bits hold -1024 to 3071, padding below needs more."""
    if make == "canon":
        return 0, 16, True
    if make == "ge" or settings.lowest_hu < -1024:
        return -1024, 16, True
    return -1024, 12, False


def _image_type(make: Make, kind: CtKind) -> tuple[str, ...]:
    if kind == "scout":
        return ("ORIGINAL", "PRIMARY", "LOCALIZER", *(("CT_SOM5 TOP",) if make == "siemens" else ()))
    if kind == "axial":
        extra = {"siemens": ("CT_SOM5 SPI",), "philips": ("HELIX",)}.get(make, ())
        return ("ORIGINAL", "PRIMARY", "AXIAL", *extra)
    return {
        "siemens": ("DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 MPR"),
        "ge": ("DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"),
        "philips": ("DERIVED", "SECONDARY", "REFORMATTED"),
        "canon": ("DERIVED", "SECONDARY", "MPR"),
    }[make]


def _private(make: Make, thickness: str) -> tuple[PrivateElement, ...]:
    if make == "siemens":
        return (
            PrivateElement(0x0019, "SIEMENS CT VA0  COAD", 0x90, "DS", "0"),
            PrivateElement(0x0019, "SIEMENS CT VA0  COAD", 0xB0, "DS", thickness),
        )
    if make == "ge":
        return (
            PrivateElement(0x0009, "GEMS_IDEN_01", 0x01, "LO", "CT_PHANTOM"),
            PrivateElement(0x0045, "GEMS_HELIOS_01", 0x01, "SS", 64),
        )
    if make == "philips":
        return (PrivateElement(0x01E1, "ELSCINT1", 0x26, "CS", "SPINE"),)
    return (PrivateElement(0x7005, "TOSHIBA_MEC_CT3", 0x0B, "SH", "SPINE"),)

"""What scanners of different makes and sites in different countries write about the same MR series.

Real headers agree on little: names of sequences, what is called a body part, alphabets, which optional
attributes are there. Makes differ in how they fill the MR Image Module; sites in words and alphabets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from dicom_ai_node.imaging.write_mr import MrHeader, PrivateElement

Make = Literal["siemens", "ge", "philips", "canon"]
MrKind = Literal[
    "t1", "t2", "stir", "t2-fs", "dixon-water", "dixon-fat", "dixon-in", "dixon-opposed", "localizer"
]


@dataclass(frozen=True)
class MrSettings:
    """How a series was measured, in the words of the MR Image Module.

    Attributes:
        kind: what the images are.
        readout: SE, IR or GR.
        repetition_ms, echo_ms, inversion_ms, flip_deg, echo_train, bandwidth_hz: of the sequence.
        field_t: 1.5 or 3 T.
        fat_saturated: spectral fat saturation.
        saturation_band: a spatial one.
        partial_fourier: not all lines were read.
        phase_by_rows: lines of k-space are encoded from row to row.
        matrix: sampled (rows, columns).
        slice_thickness_mm: without the gap.
    """

    kind: MrKind
    readout: Literal["SE", "IR", "GR"]
    repetition_ms: float
    echo_ms: float
    inversion_ms: float | None
    flip_deg: float
    echo_train: int
    bandwidth_hz: float
    field_t: float
    fat_saturated: bool
    saturation_band: bool
    partial_fourier: bool
    phase_by_rows: bool
    matrix: tuple[int, int]
    slice_thickness_mm: float


@dataclass(frozen=True)
class Site:
    """A scanner and its staff: the same for all series of a study.

    Attributes:
        make: of the scanner.
        language: of the staff.
        patient_name: in the alphabet of `character_set`.
        character_set: Specific Character Set (0008,0005); None where it is missing.
        study_description: as the site calls a spine.
        body_part: Body Part Examined; None where it is missing.
        omit: optional attributes this site's images lack.
        enhanced: whether the scanner writes enhanced multi-frame objects.
        transfer_syntax: how pixels are encoded.
    """

    make: Make
    language: str
    patient_name: str
    character_set: str | tuple[str, ...] | None
    study_description: str
    body_part: str | None
    omit: tuple[str, ...]
    enhanced: bool
    transfer_syntax: str


_MAKERS: Final[Mapping[Make, tuple[str, str]]] = {
    "siemens": ("SIEMENS", "Spine phantom S"),
    "ge": ("GE MEDICAL SYSTEMS", "Spine phantom G"),
    "philips": ("Philips Medical Systems", "Spine phantom P"),
    "canon": ("TOSHIBA_MEC", "Spine phantom C"),
}

_LANGUAGES: Final[Mapping[str, tuple[str, str | tuple[str, ...], str, Mapping[str, str]]]] = {
    "en": ("Phantom^Spine", "ISO_IR 100", "MRI LUMBAR SPINE", {}),
    "de": ("Geist^Würbel", "ISO_IR 100", "MRT LWS nativ", {
        "t1": "T1 TSE sag LWS", "t2": "T2 TSE sag LWS", "stir": "TIRM sag LWS", "t2-fs": "T2 fs sag LWS",
        "localizer": "Übersicht"}),
    "fr": ("Fantôme^Épine", "ISO_IR 100", "IRM rachis lombaire", {
        "t1": "SAG T1 TSE", "t2": "SAG T2 TSE", "stir": "SAG STIR rachis", "t2-fs": "SAG T2 FAT SAT",
        "localizer": "Repérage"}),
    "es": ("Fantasma^Columna", "ISO_IR 100", "RM COLUMNA LUMBAR", {
        "t1": "SAG T1 columna", "t2": "SAG T2 columna", "stir": "STIR SAGITAL", "t2-fs": "SAG T2 SAT GRASA",
        "localizer": "Localizador"}),
    "ru": ("Призрак^Позвоночник", "ISO_IR 144", "МРТ поясничного отдела", {
        "t1": "Т1 саг", "t2": "Т2 саг", "stir": "STIR саг", "t2-fs": "Т2 FS саг",
        "localizer": "Локализатор"}),
    "el": ("Φάντασμα^Σπονδύλου", "ISO_IR 126", "MRI ΟΜΣΣ", {"localizer": "Localizer"}),
    "ja": ("Maboroshi^Sekitsui=幻^脊椎", ("", "ISO 2022 IR 87"), "腰椎MRI", {
        "t1": "矢状断T1強調", "t2": "矢状断T2強調", "stir": "矢状断STIR", "localizer": "位置決め"}),
    "zh": ("Youling^Jizhu=幽灵^脊柱", "GB18030", "腰椎平扫", {
        "t1": "矢状位T1", "t2": "矢状位T2", "stir": "矢状位STIR", "t2-fs": "矢状位T2压脂",
        "localizer": "定位"}),
    "ko": ("Yuryeong^Cheokchu=유령^척추", "ISO_IR 192", "요추 MRI", {"localizer": "LOC"}),
}  # fmt: skip
"""Fictional name, character set, what a spine study is called, and how series are called."""

_SERIES: Final[Mapping[Make, Mapping[MrKind, tuple[str, ...]]]] = {
    "siemens": {
        "t1": ("t1_tse_sag", "t1_tse_sag_320", "T1 TSE SAG"),
        "t2": ("t2_tse_sag", "t2_tse_sag_384", "T2 TSE SAG"),
        "stir": ("t2_tirm_sag", "stir_tse_sag", "tirm_sag_fs"),
        "t2-fs": ("t2_tse_fs_sag", "t2_tse_sag_spair"),
        "dixon-water": ("t2_tse_dixon_sag_W",), "dixon-fat": ("t2_tse_dixon_sag_F",),
        "dixon-in": ("t2_tse_dixon_sag_in",), "dixon-opposed": ("t2_tse_dixon_sag_opp",),
        "localizer": ("localizer", "3-plane loc"),
    },
    "ge": {
        "t1": ("Sag T1 FSE", "SAG T1", "O-Sag T1 FRFSE"),
        "t2": ("Sag T2 FRFSE", "SAG T2", "Sag T2 PROP"),
        "stir": ("Sag STIR", "SAG STIR FSE"),
        "t2-fs": ("Sag T2 FatSat", "Sag T2 FS"),
        "dixon-water": ("WATER: Sag T2 IDEAL",), "dixon-fat": ("FAT: Sag T2 IDEAL",),
        "dixon-in": ("InPhase: Sag T2 IDEAL",), "dixon-opposed": ("OutPhase: Sag T2 IDEAL",),
        "localizer": ("3-pl Loc SSFSE", "3Plane Loc"),
    },
    "philips": {
        "t1": ("T1W_TSE", "sT1W_TSE SAG", "T1 SAG"),
        "t2": ("T2W_TSE", "sT2W_TSE SAG", "T2W_DRIVE"),
        "stir": ("STIR_longTE", "sSTIR_TSE SAG", "STIR"),
        "t2-fs": ("T2W_SPIR", "sT2W_SPAIR SAG"),
        "dixon-water": ("W sT2W_mDIXON",), "dixon-fat": ("F sT2W_mDIXON",),
        "dixon-in": ("IP sT2W_mDIXON",), "dixon-opposed": ("OP sT2W_mDIXON",),
        "localizer": ("SURVEY", "Survey_3-plane"),
    },
    "canon": {
        "t1": ("FSE+5_sag T1", "SG T1"), "t2": ("FSE+10_sag T2", "SG T2"),
        "stir": ("FastSTIR sag", "SG STIR"), "t2-fs": ("SG T2 FATSAT",),
        "dixon-water": ("WFOP sag WATER",), "dixon-fat": ("WFOP sag FAT",),
        "dixon-in": ("WFOP sag IN",), "dixon-opposed": ("WFOP sag OUT",),
        "localizer": ("Locator", "LOCATOR 3AXIS"),
    },
}  # fmt: skip

_BODY_PARTS: Final = (
    "LSPINE", "LSPINE", "SPINE", "LUMBAR_SPINE", "TSPINE", "WHOLESPINE", "BACK", "PELVIS", "HEAD", "ABDOMEN",
)  # fmt: skip

_OPTIONAL: Final = (
    "SliceLocation", "SpacingBetweenSlices", "PixelBandwidth", "SequenceName", "ImagingFrequency",
    "AcquisitionMatrix", "InPlanePhaseEncodingDirection", "ProtocolName", "SAR", "ReceiveCoilName",
    "FlipAngle", "NumberOfAverages", "PatientAge", "WindowCenter WindowWidth", "StudyDescription",
    "EchoNumbers",
)  # fmt: skip
"""What real images may lack; words of one string go together."""


def sample_site(seed: int) -> Site:
    """A scanner and a site; the same seed gives the same."""
    generator = _generator(seed, "site")
    make: Make = ("siemens", "ge", "philips", "canon")[int(generator.choice(4, p=[0.4, 0.27, 0.25, 0.08]))]
    language = str(
        generator.choice(list(_LANGUAGES), p=[0.4, 0.12, 0.09, 0.09, 0.06, 0.04, 0.08, 0.08, 0.04])
    )
    name, character_set, study, _ = _LANGUAGES[language]
    part = None if generator.random() < 0.25 else str(generator.choice(_BODY_PARTS))
    omit: list[str] = []
    if generator.random() < 0.5:
        for words in generator.choice(_OPTIONAL, size=int(generator.integers(1, 6)), replace=False):
            omit += str(words).split()
    enhanced = make == "philips" and bool(generator.random() < 0.5)
    syntaxes = [ExplicitVRLittleEndian, JPEGLSLossless, JPEG2000Lossless, RLELossless]
    syntax = str(generator.choice(syntaxes, p=[0.7, 0.1, 0.1, 0.1]))
    # Sites that write nothing but ASCII often leave the character set out.
    if language == "en" and generator.random() < 0.3:
        return Site(make, language, name, None, study, part, tuple(omit), enhanced, syntax)
    return Site(make, language, name, character_set, study, part, tuple(omit), enhanced, syntax)


def mr_header(seed: int, site: Site, settings: MrSettings, *, number: int, highest: int) -> MrHeader:
    """The header of one series as this site's scanner writes it.

    Args:
        seed: of the study; together with the kind it chooses among the site's words.
        site: where.
        settings: how it was measured.
        number: Series Number.
        highest: largest pixel value, which decides on the bits.
    """
    generator = _generator(seed, "series", settings.kind)
    maker, model = _MAKERS[site.make]
    own = _LANGUAGES[site.language][3]
    words = _SERIES[site.make][settings.kind]
    description = str(generator.choice(words))
    if settings.kind in own and generator.random() < 0.7:
        description = own[settings.kind]
    scanning, variant, options, name = _sequence_words(site.make, settings)
    signed = site.make == "ge"
    return MrHeader(
        patient_name=site.patient_name,
        character_set=site.character_set,
        study_description=site.study_description,
        series_description=description,
        protocol_name=words[0],
        series_number=number,
        body_part_examined=site.body_part,
        image_type=_image_type(site.make, settings.kind),
        manufacturer=maker,
        model_name=model,
        field_t=settings.field_t,
        scanning_sequence=scanning,
        sequence_variant=variant,
        scan_options=options,
        sequence_name=name,
        contrast="T1" if settings.kind == "t1" else "STIR" if settings.readout == "IR" else "T2",
        fat_suppressed=settings.fat_saturated,
        repetition_ms=settings.repetition_ms,
        echo_ms=settings.echo_ms,
        inversion_ms=settings.inversion_ms,
        flip_deg=settings.flip_deg
        if settings.readout == "GR"
        else float(generator.choice([90, 120, 150, 160])),
        echo_train=settings.echo_train,
        bandwidth_hz=settings.bandwidth_hz,
        phase_direction="COL" if settings.phase_by_rows else "ROW",
        matrix=settings.matrix,
        slice_thickness_mm=settings.slice_thickness_mm,
        bits_stored=16 if signed or highest > 4095 else 12,
        signed=signed,
        transfer_syntax=site.transfer_syntax,
        private=_private(site.make, settings),
        omit=site.omit,
    )


def _sequence_words(
    make: Make, settings: MrSettings
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], str | None]:
    """Scanning Sequence, Sequence Variant, Scan Options and Sequence Name."""
    train = settings.echo_train
    scanning: tuple[str, ...] = {"SE": ("SE",), "IR": ("SE", "IR"), "GR": ("GR",)}[settings.readout]
    options: list[str] = []
    if settings.fat_saturated:
        options.append("FS")
    if settings.partial_fourier:
        options.append("PFP")
    if settings.saturation_band:
        options.append("SAT1" if make == "siemens" else "SP")
    if make == "siemens":
        core = {"SE": "tse2d1", "IR": "tir2d1", "GR": "fl2d1"}[settings.readout]
        name = f"*{core}_{train}" if settings.readout != "GR" else f"*{core}"
        variant: tuple[str, ...] = ("SK", "SP") if settings.readout != "GR" else ("SP", "OSP")
        return scanning, variant, tuple(options), name
    if make == "ge":
        # This make calls an inversion recovery by its echoes alone, and adds words of its own.
        scanning = ("IR",) if settings.readout == "IR" else scanning
        options += ["FAST_GEMS", "EDR_GEMS", "FILTERED_GEMS"]
        return scanning, ("SK",) if train > 1 else ("NONE",), tuple(options), None
    if make == "philips":
        scanning = ("IR",) if settings.readout == "IR" else scanning
        return scanning, ("SK",) if settings.readout != "GR" else ("SP",), tuple(options), None
    return scanning, ("SK", "OSP") if train > 1 else ("NONE",), tuple(options), "FSE2D"


def _image_type(make: Make, kind: MrKind) -> tuple[str, ...]:
    dixon = {"dixon-water": "W", "dixon-fat": "F", "dixon-in": "IP", "dixon-opposed": "OP"}.get(kind)
    if make == "siemens":
        if dixon in ("W", "F"):
            return "DERIVED", "PRIMARY", "DIXON", "WATER" if dixon == "W" else "FAT"
        return "ORIGINAL", "PRIMARY", "M", "NORM", "DIS2D"
    if make == "philips":
        return "ORIGINAL", "PRIMARY", f"{dixon or 'M'}_SE", dixon or "M", "SE"
    if make == "ge" and dixon:
        return (
            "DERIVED",
            "PRIMARY",
            "DIXON",
            {"W": "WATER", "F": "FAT", "IP": "IN_PHASE"}.get(dixon, "OUT_PHASE"),
        )
    return "ORIGINAL", "PRIMARY", "OTHER"


def _private(make: Make, settings: MrSettings) -> tuple[PrivateElement, ...]:
    if make == "siemens":
        return (
            PrivateElement(0x0019, "SIEMENS MR HEADER", 0x08, "CS", "IMAGE NUM 4"),
            PrivateElement(0x0019, "SIEMENS MR HEADER", 0x0B, "DS", f"{settings.repetition_ms:g}"),
            PrivateElement(0x0051, "SIEMENS MR HEADER", 0x0C, "LO", "FoV 280*280"),
        )
    if make == "ge":
        return (
            PrivateElement(0x0019, "GEMS_ACQU_01", 0x9C, "LO", "fse-xl"),
            PrivateElement(0x0043, "GEMS_PARM_01", 0x2F, "SS", 0),
        )
    if make == "philips":
        return (
            PrivateElement(0x2001, "Philips Imaging DD 001", 0x01, "FL", 0.0),
            PrivateElement(0x2005, "Philips MR Imaging DD 001", 0x0E, "FL", 4.25),
        )
    return (PrivateElement(0x700D, "TOSHIBA_MEC_MR3", 0x02, "DS", "1"),)


def _generator(seed: int, *words: str) -> np.random.Generator:
    digest = hashlib.sha256("/".join(["mr-habits", str(seed), *words]).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16])))

"""What written objects of every modality share: fictional patients and their studies, alphabets, encodings.

What makers of one modality put into a header is the business of `ct_habits` and `mr_habits`.
"""

from __future__ import annotations

import hashlib
import io
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, Literal

import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

UNPAIRED: Final = frozenset(
    (
        "CSPINE", "TSPINE", "LSPINE", "SSPINE", "TLSPINE", "SPINE", "BACK", "PELVIS", "HEAD", "NECK", "CHEST",
        "ABDOMEN", "WHOLEBODY",
    )
)  # fmt: skip
"""Body parts that are no pair; Laterality is type 2C beside any other (PS3.3 C.7.3.1)."""


@dataclass(frozen=True)
class PrivateElement:
    """One private element (PS3.5 7.8): group (odd), creator, element within the block, VR and value."""

    group: int
    creator: str
    element: int
    vr: str
    value: str | int | float | bytes


@dataclass(frozen=True)
class Alphabet:
    """How a site writes.

    Attributes:
        patient_name: plainly fictional, as DICOM writes names, in letters of `character_set`.
        character_set: Specific Character Set (0008,0005), several values with code extensions (ISO 2022);
            None where the attribute is missing.
    """

    patient_name: str
    character_set: str | tuple[str, ...] | None


ALPHABETS: Final[Mapping[str, Alphabet]] = {
    "en": Alphabet("Phantom^Spine", "ISO_IR 100"),
    "de": Alphabet("Geist^Würbel", "ISO_IR 100"),
    "fr": Alphabet("Fantôme^Épine", "ISO_IR 100"),
    "es": Alphabet("Fantasma^Columna", "ISO_IR 100"),
    "ru": Alphabet("Призрак^Позвоночник", "ISO_IR 144"),
    "el": Alphabet("Φάντασμα^Σπονδύλου", "ISO_IR 126"),
    "ja": Alphabet("Maboroshi^Sekitsui=幻^脊椎", ("", "ISO 2022 IR 87")),
    "zh": Alphabet("Youling^Jizhu=幽灵^脊柱", "GB18030"),
    "ko": Alphabet("Yuryeong^Cheokchu=유령^척추", "ISO_IR 192"),
}
_LANGUAGE_SHARES: Final = (0.4, 0.12, 0.09, 0.09, 0.06, 0.04, 0.08, 0.08, 0.04)

_ENCODERS: Final = {RLELossless: "pydicom", JPEGLSLossless: "pyjpegls", JPEG2000Lossless: "pylibjpeg"}


_NAMESPACE: Final = uuid.UUID("2f6f0f5e-52a0-5c0b-9d5f-1f0c7a1f7b52")


@dataclass(frozen=True)
class Examination:
    """A DICOM study: what its series share, whoever writes them.

    Attributes:
        study_instance_uid: (0020,000D).
        frame_of_reference_uid: (0020,0052) of images that have one.
        day, time: when it began.
        accession_number: (0008,0050) of the order.
    """

    study_instance_uid: str
    frame_of_reference_uid: str
    day: date
    time: str
    accession_number: str


def examination(seed: int, modality: Literal["radiograph", "ct", "mr"]) -> Examination:
    """A person's examination by one modality.

    Hospitals order each by itself, so each is a study with an accession number of its own: films in the
    morning, CT in the afternoon, MR three days later.
    """
    first = date(2020, 1, 1) + timedelta(days=seed % 1461)
    letter, hour, days = {"radiograph": ("R", 9, 0), "ct": ("C", 14, 0), "mr": ("M", 9, 3)}[modality]
    study, place = (
        UID(f"2.25.{uuid.uuid5(_NAMESPACE, f'{word}/{modality}/{seed}').int}") for word in ("study", "place")
    )
    day = first + timedelta(days=days)
    return Examination(study, place, day, f"{hour:02d}0000", f"{letter}{seed % 10**8:08d}")


def sample_language(seed: int) -> str:
    """The language of the hospital: the same for all of a person's examinations; a key of `ALPHABETS`."""
    return str(habit_stream(seed, "language").choice(list(ALPHABETS), p=_LANGUAGE_SHARES))


def sample_transfer_syntax(generator: np.random.Generator) -> str:
    """How pixels are encoded: mostly plain, always without loss."""
    return str(
        generator.choice(
            [
                ExplicitVRLittleEndian,
                ImplicitVRLittleEndian,
                JPEGLSLossless,
                JPEG2000Lossless,
                RLELossless,
            ],
            p=[0.6, 0.13, 0.1, 0.1, 0.07],
        )
    )


def habit_stream(seed: int, *words: str) -> np.random.Generator:
    """Random numbers of one habit; other habits do not disturb it."""
    digest = hashlib.sha256("/".join(["habits", str(seed), *words]).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16])))


def add_private(one: Dataset, elements: Sequence[PrivateElement]) -> None:
    """Add private elements, each in the block of its creator."""
    for element in elements:
        block = one.private_block(element.group, element.creator, create=True)
        block.add_new(element.element, element.vr, element.value)


def encoded(one: Dataset, transfer_syntax: str, implementation: UID) -> bytes:
    """A file (PS3.10) of a data set with plain pixels, in any transfer syntax of `sample_transfer_syntax`.

    Args:
        one: explicit little endian pixels of 16 bits; compressed in place where the syntax asks for it (JPEG
            2000 needs 32 rows and columns).
        transfer_syntax: its UID.
        implementation: Implementation Class UID.
    """
    wanted = UID(transfer_syntax)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = one.SOPClassUID
    meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian if wanted in _ENCODERS else wanted
    meta.ImplementationClassUID = implementation
    meta.ImplementationVersionName = "DICOM_AI_NODE"
    one.file_meta = meta
    one["PixelData"].VR = "OW"
    if wanted in _ENCODERS:
        one.compress(wanted, encoding_plugin=_ENCODERS[wanted], generate_instance_uid=False)
    buffer = io.BytesIO()
    dcmwrite(buffer, one, enforce_file_format=True)
    return buffer.getvalue()

"""Which objects the node takes in, and in which transfer syntaxes.

Source: PS3.4 Annex B (Storage Service Class), PS3.5 Annex A (transfer syntaxes).
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Final

import pydicom.uid as uids
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID
from pynetdicom import AllStoragePresentationContexts

from dicom_ai_node.config import Settings
from dicom_ai_node.intake.images import CAPTURES

IMAGE_SOP_CLASSES: Final[tuple[UID, ...]] = (
    uids.ComputedRadiographyImageStorage,
    uids.DigitalXRayImageStorageForPresentation,
    uids.DigitalXRayImageStorageForProcessing,
    uids.CTImageStorage,
    uids.EnhancedCTImageStorage,
    uids.LegacyConvertedEnhancedCTImageStorage,
    uids.MRImageStorage,
    uids.EnhancedMRImageStorage,
    uids.LegacyConvertedEnhancedMRImageStorage,
)
"""What a pipeline may look at, now or in a later version; always taken in."""

_UNCOMPRESSED: Final = (
    uids.ExplicitVRLittleEndian,
    uids.ImplicitVRLittleEndian,
    uids.DeflatedExplicitVRLittleEndian,
    uids.ExplicitVRBigEndian,
)
_COMPRESSED: Final = (
    uids.JPEGLosslessSV1,
    uids.JPEGLossless,
    uids.JPEGLSLossless,
    uids.JPEGLSNearLossless,
    uids.JPEG2000Lossless,
    uids.JPEG2000,
    uids.HTJ2KLossless,
    uids.HTJ2KLosslessRPCL,
    uids.HTJ2K,
    uids.RLELossless,
    uids.JPEGBaseline8Bit,
    uids.JPEGExtended12Bit,
)

# storage classes whose names end like those of images but that hold no slices or projections of a patient
_NO_IMAGES: Final = ("SecondaryCapture",)


@cache
def decodable_transfer_syntaxes() -> tuple[UID, ...]:
    """Every transfer syntax that an installed decoder reads, the uncompressed ones first."""
    _quieten_decoder_search()
    return (*_UNCOMPRESSED, *(syntax for syntax in _COMPRESSED if get_decoder(syntax).is_available))


@cache
def object_sop_classes() -> tuple[UID, ...]:
    """Storage classes of what is no image: reports, segmentations, presentation states, captures, plans."""
    known = (UID(str(context.abstract_syntax)) for context in AllStoragePresentationContexts)
    return tuple(uid for uid in known if "Image" not in uid.keyword or uid.keyword.startswith(_NO_IMAGES))


def accepted_sop_classes(settings: Settings) -> tuple[UID, ...]:
    """What the node's presentation contexts offer under these settings."""
    objects = object_sop_classes() if settings.node.non_images == "accept" else ()
    # Captures are no images of a patient, unless they are films.
    films = sorted(CAPTURES) if settings.routes.radiograph.secondary_captures else ()
    further = tuple(UID(uid) for uid in settings.node.further_sop_classes)
    return tuple(dict.fromkeys((*IMAGE_SOP_CLASSES, *objects, *films, *further)))


def _quieten_decoder_search() -> None:
    # each decoder that is not installed is an INFO line of pydicom's; which ones work is said by `doctor`
    logging.getLogger("pydicom").setLevel(logging.WARNING)

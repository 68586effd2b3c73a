"""What the node offers: every image class it was made for, in every transfer syntax it can decode."""

from __future__ import annotations

import pydicom.uid as uids
import pytest
from pydicom.pixels.decoders.base import get_decoder

from dicom_ai_node.config import settings_from
from dicom_ai_node.node.sop_classes import (
    IMAGE_SOP_CLASSES,
    accepted_sop_classes,
    decodable_transfer_syntaxes,
    object_sop_classes,
)


def test_installed_codecs_cover_what_scanners_and_archives_send() -> None:
    assert set(decodable_transfer_syntaxes()) >= {
        uids.ImplicitVRLittleEndian,
        uids.ExplicitVRLittleEndian,
        uids.ExplicitVRBigEndian,
        uids.DeflatedExplicitVRLittleEndian,
        uids.JPEGBaseline8Bit,
        uids.JPEGExtended12Bit,
        uids.JPEGLossless,
        uids.JPEGLosslessSV1,
        uids.JPEGLSLossless,
        uids.JPEGLSNearLossless,
        uids.JPEG2000Lossless,
        uids.JPEG2000,
        uids.HTJ2KLossless,
        uids.HTJ2K,
        uids.RLELossless,
    }
    for syntax in decodable_transfer_syntaxes():
        assert not syntax.is_compressed or syntax.is_deflated or get_decoder(syntax).is_available


@pytest.mark.parametrize("rule", ["accept", "refuse"])
def test_images_are_always_offered_and_objects_as_configured(rule: str) -> None:
    offered = accepted_sop_classes(settings_from({"node": {"non_images": rule}}))
    assert set(IMAGE_SOP_CLASSES) <= set(offered)
    assert len(offered) == len(set(offered))
    for sop_class in (
        uids.SegmentationStorage,
        uids.Comprehensive3DSRStorage,
        uids.GrayscaleSoftcopyPresentationStateStorage,
        uids.SecondaryCaptureImageStorage,
        uids.KeyObjectSelectionDocumentStorage,
    ):
        assert (sop_class in offered) == (rule == "accept")


def test_captures_are_offered_where_films_may_come_as_captures() -> None:
    films = {"routes": {"radiograph": {"secondary_captures": True}}, "node": {"non_images": "refuse"}}
    offered = accepted_sop_classes(settings_from(films))
    assert uids.SecondaryCaptureImageStorage in offered
    assert uids.MultiFrameGrayscaleWordSecondaryCaptureImageStorage in offered
    assert uids.SegmentationStorage not in offered


def test_no_image_of_a_patient_counts_as_an_object() -> None:
    assert not set(object_sop_classes()) & {
        *IMAGE_SOP_CLASSES,
        uids.UltrasoundImageStorage,
        uids.PositronEmissionTomographyImageStorage,
        uids.DigitalMammographyXRayImageStorageForPresentation,
    }

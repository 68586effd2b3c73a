"""What an instance that is brought is answered with, and the line in the log that says why.

    0x0000   the bytes are on the disk
    0x0110   an unforeseen fault of the node
    0x0122   the object is of a kind that the settings refuse
    0xA700   the disk is full
    0xA900   the request names another SOP class or instance than the data set or the presentation context
    0xC000   the data set cannot be parsed, or a UID that places it is missing
    0xC409   the instance is of another study than the request (DICOMweb only)
    0xC122   no decoder here reads the transfer syntax (files only; an association does not agree on it)

Files that come another way than by C-STORE are judged alike.

Source: PS3.4 table B.2-1, PS3.7 annex C, PS3.18 table I.2-2.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from enum import IntEnum
from io import BytesIO
from typing import Final

import structlog
from pydicom.filereader import read_dataset
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from dicom_ai_node.config import Settings
from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.imaging.header import reading_quietly
from dicom_ai_node.intake.identity import HEADER_BYTES, InstanceIdentity, read_identity
from dicom_ai_node.intake.part10 import FileMeta, split_file
from dicom_ai_node.intake.spool import Outcome, Spool, SpoolFull, key_of
from dicom_ai_node.node.sop_classes import accepted_sop_classes, decodable_transfer_syntaxes
from dicom_ai_node.results.identity import is_own_result

_log = structlog.get_logger(__name__)

_MAKER_TAGS: Final = tuple(
    map(Tag, ("Manufacturer", "ManufacturerModelName", "ContributingEquipmentSequence"))
)


class StoreStatus(IntEnum):
    """The status codes of the table above."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    OUT_OF_RESOURCES = 0xA700
    MISMATCH = 0xA900
    CANNOT_UNDERSTAND = 0xC000
    TRANSFER_SYNTAX_NOT_SUPPORTED = 0xC122
    ANOTHER_STUDY = 0xC409


@dataclass(frozen=True)
class StoreRequest:
    """One C-STORE request: the command's own words, and the data set as it came."""

    affected_sop_class_uid: str
    affected_sop_instance_uid: str
    context_sop_class_uid: str
    transfer_syntax_uid: str
    calling_ae_title: str
    data_set: bytes | memoryview


@dataclass(frozen=True)
class StoreAnswer:
    """The status; `outcome` where the instance is on the disk, else `reason` in words.

    `identity` is who it is, where that could be read.
    """

    status: StoreStatus
    outcome: Outcome | None = None
    reason: str = ""
    identity: InstanceIdentity | None = None


class Receiver:
    """Takes store requests into the spool.

    Args:
        settings: what is refused.
        spool: where accepted instances go.
    """

    def __init__(self, settings: Settings, spool: Spool) -> None:
        self._settings = settings
        self._spool = spool
        self._accepted: Final = frozenset(accepted_sop_classes(settings))

    def receive(self, request: StoreRequest) -> StoreAnswer:
        """Put the instance on the disk, or say why not; never raises."""
        identity: InstanceIdentity | None = None
        try:
            identity = read_identity(request.data_set, request.transfer_syntax_uid)
            answer = self._refusal(request, identity) or self._keep(request, identity)
        except UnreadableInstance as error:
            answer = StoreAnswer(StoreStatus.CANNOT_UNDERSTAND, reason=str(error))
        except SpoolFull as error:
            answer = StoreAnswer(StoreStatus.OUT_OF_RESOURCES, reason=str(error))
        except OSError as error:
            answer = StoreAnswer(
                StoreStatus.OUT_OF_RESOURCES, reason=f"the spool cannot be written: {error.strerror}"
            )
        # whatever else goes wrong, the sender must hear that the instance was not kept
        except Exception as error:
            _log.exception("fault while receiving", calling_ae=request.calling_ae_title)
            answer = StoreAnswer(
                StoreStatus.PROCESSING_FAILURE, reason=f"fault in the node: {type(error).__name__}"
            )
        if answer.status is not StoreStatus.SUCCESS:
            _log.warning(
                "instance refused",
                status=f"0x{answer.status:04X}",
                reason=answer.reason,
                calling_ae=request.calling_ae_title,
                sop_class=UID(request.affected_sop_class_uid).name,
                instance=key_of(request.affected_sop_instance_uid),
                **self._subject(identity),
            )
        return replace(answer, identity=identity)

    def receive_file(
        self, file: memoryview, calling_ae_title: str, *, study_instance_uid: str | None = None
    ) -> StoreAnswer:
        """Put a DICOM file on the disk as if it had been sent, or say why not; never raises.

        Args:
            file: from the preamble on (PS3.10 section 7.1).
            calling_ae_title: who is said to have sent it.
            study_instance_uid: refuse instances of other studies; None takes any.
        """
        try:
            meta, start = split_file(file, "the instance")
            identity = read_identity(file[start:], meta.transfer_syntax_uid)
        except UnreadableInstance as error:
            _log.warning("file refused", reason=str(error), calling_ae=calling_ae_title)
            return StoreAnswer(StoreStatus.CANNOT_UNDERSTAND, reason=str(error))
        if meta.transfer_syntax_uid not in decodable_transfer_syntaxes():
            reason = f"transfer syntax {UID(meta.transfer_syntax_uid).name} cannot be read here"
            _log.warning(
                "file refused", reason=reason, calling_ae=calling_ae_title, **self._subject(identity)
            )
            return StoreAnswer(StoreStatus.TRANSFER_SYNTAX_NOT_SUPPORTED, reason=reason, identity=identity)
        if study_instance_uid not in (None, identity.study_instance_uid):
            return StoreAnswer(
                StoreStatus.ANOTHER_STUDY, reason="an instance of another study", identity=identity
            )
        sop_class_uid = meta.sop_class_uid or identity.sop_class_uid
        return self.receive(
            StoreRequest(
                affected_sop_class_uid=sop_class_uid,
                affected_sop_instance_uid=meta.sop_instance_uid or identity.sop_instance_uid,
                context_sop_class_uid=sop_class_uid,
                transfer_syntax_uid=meta.transfer_syntax_uid,
                calling_ae_title=calling_ae_title,
                data_set=file[start:],
            )
        )

    def _refusal(self, request: StoreRequest, identity: InstanceIdentity) -> StoreAnswer | None:
        if request.affected_sop_class_uid not in self._accepted:
            return StoreAnswer(
                StoreStatus.SOP_CLASS_NOT_SUPPORTED,
                reason=f"SOP class {UID(request.affected_sop_class_uid).name} is not taken in here",
            )
        if request.affected_sop_class_uid != request.context_sop_class_uid:
            return StoreAnswer(
                StoreStatus.MISMATCH, reason="AffectedSOPClassUID is not that of the presentation context"
            )
        if identity.sop_class_uid != request.affected_sop_class_uid:
            return StoreAnswer(
                StoreStatus.MISMATCH, reason="AffectedSOPClassUID and SOPClassUID (0008,0016) differ"
            )
        if identity.sop_instance_uid != request.affected_sop_instance_uid:
            return StoreAnswer(
                StoreStatus.MISMATCH, reason="AffectedSOPInstanceUID and SOPInstanceUID (0008,0018) differ"
            )
        if self._settings.node.own_results == "refuse" and _is_own(request):
            return StoreAnswer(
                StoreStatus.SOP_CLASS_NOT_SUPPORTED,
                reason="a result of this node, refused by [node] own_results",
            )
        return None

    def _keep(self, request: StoreRequest, identity: InstanceIdentity) -> StoreAnswer:
        meta = FileMeta(
            sop_class_uid=identity.sop_class_uid,
            sop_instance_uid=identity.sop_instance_uid,
            transfer_syntax_uid=request.transfer_syntax_uid,
            sending_ae_title=request.calling_ae_title,
            receiving_ae_title=self._settings.node.ae_title,
        )
        return StoreAnswer(StoreStatus.SUCCESS, self._spool.store(request.data_set, identity, meta).outcome)

    def _subject(self, identity: InstanceIdentity | None) -> dict[str, str]:
        if identity is None:
            return {}
        if self._settings.security.log_identifiers:
            return {"study": identity.study_instance_uid, "series": identity.series_instance_uid}
        return {
            "study": key_of(identity.study_instance_uid),
            "series": key_of(identity.study_instance_uid, identity.series_instance_uid),
        }


def _is_own(request: StoreRequest) -> bool:
    syntax = request.transfer_syntax_uid
    # What says who made it stands before all that is large.
    head = bytes(request.data_set[:HEADER_BYTES])
    if syntax == DeflatedExplicitVRLittleEndian:
        head = zlib.decompressobj(-zlib.MAX_WBITS).decompress(head, HEADER_BYTES)
    with reading_quietly():
        header = read_dataset(
            BytesIO(head),
            is_implicit_VR=syntax == ImplicitVRLittleEndian,
            is_little_endian=syntax != ExplicitVRBigEndian,
            stop_when=lambda tag, _vr, _length: tag > _MAKER_TAGS[-1],
            specific_tags=[*_MAKER_TAGS],
        )
        return is_own_result(header)

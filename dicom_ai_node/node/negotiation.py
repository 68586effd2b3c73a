"""The answer to an association request: which presentation contexts, or which rejection.

Encoding and the negotiation of contexts are pynetdicom's; who may come in is decided here.

Source: PS3.8 sections 9.3.2 to 9.3.4 and 7.1.1.9 (rejection), PS3.7 annex D.3.3 (user information).
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, cast

import structlog
from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import PresentationContext, build_context, negotiate_as_acceptor
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dicom_ai_node.config import Settings
from dicom_ai_node.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_ai_node.node.sop_classes import accepted_sop_classes, decodable_transfer_syntaxes

_log = structlog.get_logger(__name__)

_APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
_ACCEPTED: Final = 0x00


class Rejection(Enum):
    """Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 table 9-21), with the words for the log."""

    APPLICATION_CONTEXT = (1, 1, 2, "the application context is not DICOM's")
    CALLING_AE_TITLE = (1, 1, 3, "calling AE title or its host is not among [[senders]]")
    CALLED_AE_TITLE = (1, 1, 7, "called AE title is not [node] ae_title")
    PROTOCOL_VERSION = (1, 2, 2, "the protocol version is not 1")
    TOO_MANY = (2, 3, 2, "more associations than [node] max_associations")

    @property
    def words(self) -> str:
        """Why, for the log."""
        return self.value[3]

    def to_pdu(self) -> bytes:
        """The A-ASSOCIATE-RJ PDU."""
        return bytes((3, 0, 0, 0, 0, 4, 0, *self.value[:3]))


@dataclass(frozen=True)
class Context:
    """An accepted presentation context."""

    sop_class_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True)
class Agreement:
    """The outcome: either `rejection`, or `contexts` by their ID; `pdu` is what the caller is sent."""

    pdu: bytes
    calling_ae_title: str
    called_ae_title: str
    contexts: Mapping[int, Context]
    peer_max_pdu: int
    rejection: Rejection | None = None


class MalformedRequest(Exception):
    """An A-ASSOCIATE-RQ PDU that cannot be decoded."""


class Negotiator:
    """Answers association requests under the settings; shared by all associations.

    Args:
        settings: `[node]` and `[[senders]]`.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        syntaxes = cast("list[str | UID]", list(decodable_transfer_syntaxes()))
        self._supported: Sequence[PresentationContext] = [
            build_context(Verification),
            *(build_context(sop_class, syntaxes) for sop_class in accepted_sop_classes(settings)),
        ]

    def answer(self, pdu: bytes, host: str, *, too_many: bool = False) -> Agreement:
        """The answer to an A-ASSOCIATE-RQ PDU.

        Args:
            pdu: the whole PDU.
            host: the caller's address.
            too_many: the node is full.

        Raises:
            MalformedRequest: the PDU cannot be decoded.
        """
        try:
            request = A_ASSOCIATE_RQ()
            request.decode(pdu)
            primitive: Any = request.to_primitive()
            calling, called = primitive.calling_ae_title.strip(), primitive.called_ae_title.strip()
            peer_max_pdu = int(primitive.maximum_length_received or 0)
            proposed = primitive.presentation_context_definition_list
            version = request.protocol_version
        # a decoder that trusts its input raises anything at all
        except Exception as error:
            raise MalformedRequest(
                f"association request cannot be decoded ({type(error).__name__})"
            ) from error
        rejection = self._rejection(primitive, version, host)
        if rejection is None and too_many:
            rejection = Rejection.TOO_MANY
        if rejection is not None:
            return Agreement(rejection.to_pdu(), calling, called, {}, peer_max_pdu, rejection)
        contexts, _ = negotiate_as_acceptor(proposed, list(self._supported))
        accepted = {
            cast("int", context.context_id): Context(
                str(context.abstract_syntax), str(context.transfer_syntax[0])
            )
            for context in contexts
            if context.result == _ACCEPTED
        }
        return Agreement(self._acceptance(primitive, contexts), calling, called, accepted, peer_max_pdu)

    def _rejection(self, request: Any, version: int, host: str) -> Rejection | None:
        node = self._settings.node
        if not version & 1:
            return Rejection.PROTOCOL_VERSION
        if str(request.application_context_name) != _APPLICATION_CONTEXT:
            return Rejection.APPLICATION_CONTEXT
        if node.require_called_ae_title and request.called_ae_title.strip() != node.ae_title:
            return Rejection.CALLED_AE_TITLE
        if not self._known(request.calling_ae_title.strip(), host):
            return Rejection.CALLING_AE_TITLE
        return None

    def _known(self, calling: str, host: str) -> bool:
        senders = self._settings.senders
        return not senders or any(
            sender.ae_title == calling and (sender.host is None or host in _addresses(sender.host))
            for sender in senders
        )

    def _acceptance(self, request: Any, contexts: list[PresentationContext]) -> bytes:
        answer = A_ASSOCIATE()
        answer.application_context_name = UID(_APPLICATION_CONTEXT)
        answer.calling_ae_title = request.calling_ae_title
        answer.called_ae_title = request.called_ae_title
        answer.result = 0x00
        answer.result_source = 0x01
        answer.presentation_context_definition_results_list = contexts
        length = MaximumLengthNotification()
        length.maximum_length_received = self._settings.node.max_pdu_bytes
        implementation = ImplementationClassUIDNotification()
        implementation.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        name = ImplementationVersionNameNotification()
        name.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        answer.user_information = [length, implementation, name]
        return A_ASSOCIATE_AC(answer).encode()


def _addresses(host: str) -> set[str]:
    try:
        return {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        _log.warning("sender's host has no address", host=host)
        return set()

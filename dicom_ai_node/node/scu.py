"""Sending objects to an archive with C-STORE: what was stored, object by object, and nothing else.

The files go out as they lie on disk where the archive takes them so, and a repeat sends the same bytes.
Retrying is left to the caller: a `Sender` says what happened once.
"""

from __future__ import annotations

import queue
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

from pydicom.errors import InvalidDicomError
from pydicom.filereader import dcmread, read_file_meta_info
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.status import code_to_category

from dicom_ai_node.errors import TransientError, UnreadableInstance
from dicom_ai_node.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

# Reads the file piece by piece while sending: the bytes on the wire are the bytes on disk.
_config.STORE_SEND_CHUNKED_DATASET = True

CALLING_AE_TITLE: Final = "DICOM_AI_NODE"
CONNECTION_TIMEOUT_S: Final = 10.0
RESPONSE_TIMEOUT_S: Final = 60.0
MAXIMUM_PDU_BYTES: Final = 131072

VERIFICATION_SOP_CLASS: Final = "1.2.840.10008.1.1"

_PLAINER: Final[Mapping[str, tuple[UID, ...]]] = {
    ExplicitVRLittleEndian: (ImplicitVRLittleEndian,),
    DeflatedExplicitVRLittleEndian: (ExplicitVRLittleEndian, ImplicitVRLittleEndian),
    RLELossless: (ExplicitVRLittleEndian, ImplicitVRLittleEndian),
}
"""What a file may go out as where its own transfer syntax is not accepted; no way loses anything."""


class Peer(Protocol):
    """Where to send: an application entity on the network."""

    @property
    def ae_title(self) -> str:
        """The called AE title (PS3.8 section 9.3.2)."""

    @property
    def host(self) -> str:
        """Host name or address."""

    @property
    def port(self) -> int:
        """TCP port."""


@dataclass(frozen=True)
class Outcome:
    """What became of one object at one destination.

    Attributes:
        file: name of the file that was sent.
        sop_class_uid: its SOP Class UID.
        sop_instance_uid: its SOP Instance UID.
        stored: the archive has it (success, or a warning of PS3.4 table B.2-1).
        status: the DIMSE status, None when no answer came.
        text: the status in words.
    """

    file: str
    sop_class_uid: str
    sop_instance_uid: str
    stored: bool
    status: int | None
    text: str

    def to_dict(self) -> dict[str, Any]:
        """The outcome as plain JSON types."""
        return dict(self.__dict__)


@dataclass(frozen=True)
class _Parcel:
    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str


def send(
    paths: Sequence[Path], destination: Peer, *, calling_ae_title: str = CALLING_AE_TITLE
) -> list[Outcome]:
    """Send files over one association.

    Returns:
        One outcome per file, in order.

    Raises:
        UnreadableInstance: a file is no DICOM file with meta information.
        TransientError: the archive is absent, rejects the association, or stops answering before anything
            was sent.
    """
    with Sender(paths, destination, calling_ae_title=calling_ae_title) as sender:
        sender.connect()
        return [sender.store(path) for path in paths]


def entity_named(calling_ae_title: str) -> AE:
    """An application entity of pynetdicom that says whose it is."""
    entity = AE(calling_ae_title)
    entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    return entity


def echo(destination: Peer, *, calling_ae_title: str = CALLING_AE_TITLE) -> str | None:
    """Ask with C-ECHO whether an archive is there; None if it is, else what is wrong."""
    entity = entity_named(calling_ae_title)
    entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = CONNECTION_TIMEOUT_S
    association = entity.associate(
        destination.host,
        destination.port,
        contexts=[build_context(VERIFICATION_SOP_CLASS)],
        ae_title=destination.ae_title,
    )
    place = f"{destination.ae_title} at {destination.host}:{destination.port}"
    if not association.is_established:
        return f"{place}: {_why_not(association)}"
    answer = association.send_c_echo()
    association.release()
    if "Status" not in answer or answer.Status != 0:
        return f"{place}: no success to C-ECHO"
    return None


class Sender:
    """One association with one archive, opened when the first object is sent.

    Presentation contexts are proposed for exactly the (SOP class, transfer syntax) pairs of `paths`, and for
    the plainer transfer syntaxes that a file can be sent in: at least Implicit VR Little Endian, which every
    archive must take (PS3.5 section 10.1). Compressed pixels are unpacked where the archive does not take
    them.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        destination: Peer,
        *,
        calling_ae_title: str = CALLING_AE_TITLE,
        connection_timeout_s: float = CONNECTION_TIMEOUT_S,
        response_timeout_s: float = RESPONSE_TIMEOUT_S,
    ) -> None:
        self._parcels = {path: _parcel(path) for path in paths}
        self._destination = destination
        self._calling_ae_title = calling_ae_title
        self._connection_timeout_s = connection_timeout_s
        self._response_timeout_s = response_timeout_s
        self._association: Association | None = None
        self._socket: socket.socket | None = None
        self._down: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._association is not None and self._association.is_established:
            self._association.release()
        if self._socket is not None:
            # pynetdicom leaves the socket open when the peer was the first to go.
            self._socket.close()

    def connect(self) -> None:
        """Open the association if it is not open.

        Raises:
            TransientError: nobody listens there, or the peer rejects or aborts.
        """
        if self._down is not None:
            raise TransientError(self._down)
        if self._association is not None and self._association.is_established:
            return
        if self._association is not None:
            raise self._lost("the association was lost")
        entity = entity_named(self._calling_ae_title)
        entity.maximum_pdu_size = MAXIMUM_PDU_BYTES
        entity.connection_timeout = self._connection_timeout_s
        entity.acse_timeout = self._response_timeout_s
        entity.dimse_timeout = self._response_timeout_s
        entity.network_timeout = self._response_timeout_s
        association = entity.associate(
            self._destination.host,
            self._destination.port,
            contexts=_contexts(self._parcels.values()),
            ae_title=self._destination.ae_title,
            max_pdu=MAXIMUM_PDU_BYTES,
            evt_handlers=[(evt.EVT_CONN_OPEN, self._send_at_once)],
        )
        if association.is_established:
            association.dimse.msg_queue = Answers()
            self._association = association
            return
        raise self._lost(_why_not(association))

    def store(self, path: Path) -> Outcome:
        """Send one of the files; network trouble is an outcome too, and ends this sender's attempts."""
        parcel = self._parcels[path]
        try:
            self.connect()
        except TransientError as error:
            return _outcome(parcel, None, str(error))
        association = self._association
        assert association is not None
        try:
            answer = association.send_c_store(self._payload(association, parcel))
        except ValueError:
            # pynetdicom's way of saying that no presentation context fits.
            words = (
                f"{self._place()} accepts no context for {parcel.sop_class_uid}; "
                "choose another form or other kinds of results for it"
            )
            return _outcome(parcel, None, words)
        except RuntimeError as error:
            return _outcome(parcel, None, str(self._lost(f"the association broke ({error})")))
        if "Status" not in answer:
            return _outcome(parcel, None, str(self._lost("the archive stopped answering")))
        status = int(answer.Status)
        comment = str(answer.get("ErrorComment", "") or "")
        text = f"{code_to_category(status)} 0x{status:04X}" + (f": {comment}" if comment else "")
        return _outcome(parcel, status, text)

    def _payload(self, association: Association, parcel: _Parcel) -> Any:
        exact = any(
            context.abstract_syntax == parcel.sop_class_uid
            and context.transfer_syntax[0] == parcel.transfer_syntax
            for context in association.accepted_contexts
        )
        if exact:
            return parcel.path
        dataset = dcmread(parcel.path)
        if parcel.transfer_syntax == RLELossless:
            dataset.decompress(as_rgb=False, generate_instance_uid=False)
        return dataset

    def _send_at_once(self, event: evt.Event) -> None:
        transport = event.assoc.dul.socket
        if transport is not None and transport.socket is not None:
            self._socket = transport.socket
            # Nagle's wait for a full segment costs 40 ms a message with peers that acknowledge late.
            transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _place(self) -> str:
        peer = self._destination
        return f"{peer.ae_title} at {peer.host}:{peer.port}"

    def _lost(self, what: str) -> TransientError:
        self._down = (
            f"{self._place()}: {what}. Check that the archive runs and knows {self._calling_ae_title}."
        )
        return TransientError(self._down)


class Answers(queue.Queue[Any]):
    """The messages of an association that only ever asks.

    pynetdicom's own thread looks for requests in this queue without waiting, and on a busy machine may take
    an answer just before the thread that waits for it, which then waits for ever. Nobody asks us anything
    here, so who does not wait gets nothing.
    """

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        if not block:
            raise queue.Empty
        return super().get(block, timeout)


def _why_not(association: Association) -> str:
    """Why an association was not established."""
    answer = association.acceptor.primitive
    if association.is_rejected:
        return f"the association was rejected ({getattr(answer, 'reason_str', 'no reason given')})"
    if answer is None:
        return "no connection, or no answer"
    return "no proposed SOP class was accepted, or the association was aborted"


def _parcel(path: Path) -> _Parcel:
    try:
        meta = read_file_meta_info(path)
        return _Parcel(
            path,
            str(meta.MediaStorageSOPClassUID),
            str(meta.MediaStorageSOPInstanceUID),
            str(meta.TransferSyntaxUID),
        )
    except (OSError, AttributeError, ValueError, InvalidDicomError) as error:
        raise UnreadableInstance(
            f"{path.name} cannot be sent: no readable file meta information ({error})."
        ) from error


def _contexts(parcels: Any) -> list[PresentationContext]:
    pairs: dict[tuple[str, str], None] = {}
    for parcel in parcels:
        pairs[parcel.sop_class_uid, parcel.transfer_syntax] = None
        for plainer in _PLAINER.get(parcel.transfer_syntax, ()):
            pairs[parcel.sop_class_uid, plainer] = None
    return [build_context(sop_class, syntax) for sop_class, syntax in pairs]


def _outcome(parcel: _Parcel, status: int | None, text: str) -> Outcome:
    stored = status is not None and code_to_category(status) in ("Success", "Warning")
    return Outcome(parcel.path.name, parcel.sop_class_uid, parcel.sop_instance_uid, stored, status, text)

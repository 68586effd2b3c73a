"""One association from request to end, on one blocking socket: the acceptor's side of the upper layer.

Bytes of a data set go from the socket straight to where the store finds them, once. pynetdicom's own reactor
is not used: two polling threads per association and pydicom objects for every message cost more than the rest
of receiving; its encoding and negotiation are (`negotiation`).

    state (PS3.8 section 9.2)            what may come                     else
    Sta2   before the request            A-ASSOCIATE-RQ, A-ABORT           A-ABORT, end
    Sta6   established                   P-DATA-TF, A-RELEASE-RQ, A-ABORT  A-ABORT, end
    Sta13  all is said                   anything, until the peer closes   -

Source: PS3.8 sections 9.2 (state machine) and 9.3 (PDUs), annex E (fragmentation).
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dicom_ai_node.node.dimse import Command, MalformedCommand, Request, decode_command, encode_response
from dicom_ai_node.node.negotiation import Agreement, Context, MalformedRequest

_ASSOCIATE_RQ: Final = 0x01
_P_DATA: Final = 0x04
_RELEASE_RQ: Final = 0x05
_ABORT: Final = 0x07

_RELEASE_RP: Final = b"\x06\x00\x00\x00\x00\x04\x00\x00\x00\x00"
_IS_COMMAND: Final = 0x01
_IS_LAST: Final = 0x02

_LARGEST_REQUEST: Final = 1024 * 1024
_LARGEST_COMMAND: Final = 64 * 1024
_KEPT_BUFFER: Final = 16 * 1024 * 1024
_FIRST_BUFFER: Final = 1024 * 1024
_CLOSING_SECONDS: Final = 2.0

_SUCCESS: Final = 0x0000
_UNRECOGNISED_OPERATION: Final = 0x0211


class _End(Exception):
    """The association is over; the message says how, for the log."""


class _Abort(_End):
    """The node ends the association: source and reason of the A-ABORT (PS3.8 table 9-26)."""

    def __init__(self, words: str, source: int = 2, reason: int = 0) -> None:
        super().__init__(words)
        self.pdu = bytes((_ABORT, 0, 0, 0, 0, 4, 0, 0, source, reason))


_UNRECOGNISED_PDU: Final = 1
_UNEXPECTED_PDU: Final = 2
_INVALID_VALUE: Final = 6


@dataclass(frozen=True)
class Timeouts:
    """Seconds to wait: for the association request, for the next message, and within one."""

    request: float
    idle: float
    message: float


@dataclass(frozen=True)
class Answer:
    """Status, and in words why it is no success."""

    status: int
    comment: str = ""


Store = Callable[[Agreement, Context, Command, memoryview], Answer]
"""Keeps a data set; the memory is valid until it returns."""


class AssociationAcceptor:
    """Serves one connection.

    Args:
        connection: an accepted socket, plain or TLS.
        negotiate: answers the association request.
        store: called for each C-STORE request.
        timeouts: how long to wait for the peer.
        largest_data_set: bytes; a larger one is read to its end and refused.
    """

    def __init__(
        self,
        connection: socket.socket,
        negotiate: Callable[[bytes], Agreement],
        store: Store,
        timeouts: Timeouts,
        largest_data_set: int,
    ) -> None:
        self._connection = connection
        self._negotiate = negotiate
        self._store = store
        self._timeouts = timeouts
        self._largest_data_set = largest_data_set
        self._buffer = bytearray(_FIRST_BUFFER)
        self._received = 0
        self._overflowed = False
        self._stopping = False
        self._idle = True
        self.agreement: Agreement | None = None

    def serve(self) -> str:
        """Everything from the request to the end; returns how it ended, in words."""
        try:
            agreement = self._establish()
            while True:
                self._message(agreement)
        except _Abort as abort:
            self._send_quietly(abort.pdu)
            self._linger()
            return str(abort)
        except _End as end:
            return str(end)
        except TimeoutError:
            self._send_quietly(_Abort("").pdu)
            return "aborted: the peer was silent for too long"
        except OSError as error:
            return f"connection lost: {error.strerror or error}"
        finally:
            self._connection.close()

    def stop(self) -> None:
        """End the association after the message that is being received, at once where there is none."""
        self._stopping = True
        if self._idle:
            self.cut()

    def cut(self) -> None:
        """End the association wherever it is."""
        self._stopping = True
        # it may have ended by itself
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RD)

    def _establish(self) -> Agreement:
        self._connection.settimeout(self._timeouts.request)
        kind, length = self._pdu_header()
        if kind == _ABORT:
            raise _End("aborted by the peer")
        if kind != _ASSOCIATE_RQ:
            raise _Abort("aborted: no association request", reason=_UNEXPECTED_PDU)
        if length > _LARGEST_REQUEST:
            raise _Abort("aborted: the association request is too long", reason=_INVALID_VALUE)
        pdu = struct.pack(">BBI", kind, 0, length) + self._exactly(length)
        try:
            agreement = self._negotiate(pdu)
        except MalformedRequest as error:
            raise _Abort(f"aborted: {error}", reason=_INVALID_VALUE) from error
        self.agreement = agreement
        self._connection.sendall(agreement.pdu)
        if agreement.rejection is not None:
            self._linger()
            raise _End(f"rejected: {agreement.rejection.words}")
        return agreement

    def _message(self, agreement: Agreement) -> None:
        """One DIMSE request and its answer."""
        command_set = bytearray()
        self._received, self._overflowed = 0, False
        command: Command | None = None
        command_context = 0
        self._connection.settimeout(self._timeouts.idle)
        self._idle = True
        if self._stopping:
            raise _Abort("aborted: the node stops")
        remaining = self._data_pdu()
        self._idle = False
        self._connection.settimeout(self._timeouts.message)
        while True:
            while remaining:
                context_id, control, length = self._pdv_header(remaining)
                remaining -= length + 6
                if context_id not in agreement.contexts:
                    raise _Abort("aborted: presentation context was not accepted", reason=_INVALID_VALUE)
                if control & _IS_COMMAND:
                    if command is not None or len(command_set) + length > _LARGEST_COMMAND:
                        raise _Abort("aborted: unexpected command fragment", reason=_INVALID_VALUE)
                    command_set += self._exactly(length)
                    if not control & _IS_LAST:
                        continue
                    try:
                        command = decode_command(command_set)
                    except MalformedCommand as error:
                        raise _Abort(f"aborted: {error}", reason=_INVALID_VALUE) from error
                    command_context = context_id
                    if command.has_data_set:
                        continue
                else:
                    if command is None or not command.has_data_set or context_id != command_context:
                        raise _Abort("aborted: unexpected data set fragment", reason=_INVALID_VALUE)
                    self._receive_data(length)
                    if not control & _IS_LAST:
                        continue
                # one request at a time: no asynchronous operations were negotiated
                if remaining:
                    raise _Abort("aborted: two messages in one PDU", reason=_INVALID_VALUE)
                self._respond(agreement, command, command_context)
                return
            remaining = self._data_pdu()

    def _respond(self, agreement: Agreement, command: Command, context_id: int) -> None:
        if command.field == Request.C_CANCEL:
            return
        if command.field == Request.C_ECHO:
            answer = Answer(_SUCCESS)
        elif command.field == Request.C_STORE:
            answer = self._stored(agreement, agreement.contexts[context_id], command)
        else:
            answer = Answer(_UNRECOGNISED_OPERATION)
        self._send_command(encode_response(command, answer.status, answer.comment), context_id, agreement)

    def _stored(self, agreement: Agreement, context: Context, command: Command) -> Answer:
        if self._overflowed:
            return Answer(0xA700, f"larger than {self._largest_data_set // 1_000_000} MB")
        with memoryview(self._buffer) as buffer, buffer[: self._received] as data_set:
            answer = self._store(agreement, context, command, data_set)
        if len(self._buffer) > _KEPT_BUFFER:
            self._buffer = bytearray(_FIRST_BUFFER)
        return answer

    def _send_command(self, command_set: bytes, context_id: int, agreement: Agreement) -> None:
        # a length of 0 means that the peer takes any (PS3.8 annex D.1)
        step = max(agreement.peer_max_pdu - 6, 16) if agreement.peer_max_pdu else len(command_set)
        for start in range(0, len(command_set), step):
            fragment = command_set[start : start + step]
            control = _IS_COMMAND | (_IS_LAST if start + step >= len(command_set) else 0)
            size = len(fragment)
            header = struct.pack(">BBIIBB", _P_DATA, 0, size + 6, size + 2, context_id, control)
            self._connection.sendall(header + fragment)

    def _data_pdu(self) -> int:
        """Length of the P-DATA-TF PDU that comes next; a release or an abort ends the association."""
        kind, length = self._pdu_header()
        if kind == _P_DATA:
            return length
        if kind == _RELEASE_RQ:
            self._exactly(min(length, _LARGEST_COMMAND))
            self._connection.sendall(_RELEASE_RP)
            self._linger()
            raise _End("released" if self._idle else "released in the middle of a message")
        if kind == _ABORT:
            raise _End("aborted by the peer")
        reason = _UNEXPECTED_PDU if kind in range(1, 8) else _UNRECOGNISED_PDU
        raise _Abort(f"aborted: unexpected PDU of type {kind:02X}H", reason=reason)

    def _pdu_header(self) -> tuple[int, int]:
        kind, _, length = struct.unpack(">BBI", self._exactly(6))
        return kind, length

    def _pdv_header(self, remaining: int) -> tuple[int, int, int]:
        """Context ID, message control header, and length of the fragment that follows."""
        if remaining < 6:
            raise _Abort("aborted: PDU holds half a fragment", reason=_INVALID_VALUE)
        item_length, context_id, control = struct.unpack(">IBB", self._exactly(6))
        length = item_length - 2
        if length < 0 or length + 6 > remaining:
            raise _Abort("aborted: fragment is longer than its PDU", reason=_INVALID_VALUE)
        return context_id, control, length

    def _receive_data(self, length: int) -> None:
        """Take a fragment from the socket to the end of the buffer."""
        if self._received + length > self._largest_data_set:
            self._overflowed, self._received = True, 0
        if self._overflowed:
            while length:
                length -= len(self._exactly(min(length, _FIRST_BUFFER)))
            return
        end = self._received + length
        if end > len(self._buffer):
            self._buffer.extend(bytes(max(end, 2 * len(self._buffer)) - len(self._buffer)))
        with memoryview(self._buffer) as buffer, buffer[self._received : end] as place:
            self._fill(place)
        self._received = end

    def _exactly(self, length: int) -> bytearray:
        data = bytearray(length)
        if length:
            with memoryview(data) as place:
                self._fill(place)
        return data

    def _fill(self, place: memoryview) -> None:
        done = 0
        while done < len(place):
            count = self._connection.recv_into(place[done:])
            if not count:
                if self._stopping:
                    raise _Abort("aborted: the node stops")
                raise _End("connection closed by the peer" if self._idle else "connection lost in a message")
            done += count

    def _linger(self) -> None:
        """Sta13: let the peer close first, so that it reads what was sent last."""
        with contextlib.suppress(OSError):
            self._connection.settimeout(_CLOSING_SECONDS)
            self._connection.shutdown(socket.SHUT_WR)
            while self._connection.recv(65536):
                pass

    def _send_quietly(self, pdu: bytes) -> None:
        # the peer may have gone
        with contextlib.suppress(OSError):
            self._connection.settimeout(_CLOSING_SECONDS)
            self._connection.sendall(pdu)

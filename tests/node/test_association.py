"""The upper layer, byte by byte: what the state table allows is served, all else ends in an A-ABORT."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.dsutils import decode
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import build_context

from dicom_ai_node.config import settings_from
from dicom_ai_node.node.association import Answer, AssociationAcceptor, Timeouts
from dicom_ai_node.node.dimse import Command
from dicom_ai_node.node.negotiation import Agreement, Context, MalformedRequest, Negotiator, Rejection

VERIFICATION = "1.2.840.10008.1.1"
ECHO_CONTEXT, CT_CONTEXT, REFUSED_CONTEXT = 1, 3, 5
RELEASE_RQ = bytes.fromhex("05000000000400000000")
RELEASE_RP = bytes.fromhex("06000000000400000000")
ABORT_RQ = bytes.fromhex("07000000000400000000")
NEGOTIATOR = Negotiator(settings_from({}))


def request_pdu(max_pdu: int = 16382, called: str = "DICOM_AI", calling: str = "SENDER") -> bytes:
    """An A-ASSOCIATE-RQ as pynetdicom makes it: verification, CT, and a class that nobody knows."""
    request = A_ASSOCIATE()
    request.application_context_name = "1.2.840.10008.3.1.1.1"
    request.calling_ae_title, request.called_ae_title = calling, called
    contexts = [
        build_context(VERIFICATION),
        build_context(CTImageStorage, ExplicitVRLittleEndian),
        build_context("1.2.3.4.5", ExplicitVRLittleEndian),
    ]
    for number, context in enumerate(contexts):
        context.context_id = 2 * number + 1
    request.presentation_context_definition_list = contexts
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = max_pdu
    implementation.implementation_class_uid = "1.2.3"
    request.user_information = [length, implementation]
    return A_ASSOCIATE_RQ(request).encode()


def element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, number, len(value)) + value


def command_set(field: int, *, data_set: bool = False, uid: bytes = b"1.2.3\0", message_id: int = 1) -> bytes:
    sop_class = str(CTImageStorage).encode()
    return b"".join(
        (
            element(0x0002, sop_class + b"\0" * (len(sop_class) % 2)),
            element(0x0100, struct.pack("<H", field)),
            element(0x0110, struct.pack("<H", message_id)),
            element(0x0800, struct.pack("<H", 1 if data_set else 0x0101)),
            element(0x1000, uid),
        )
    )


def pdv(context: int, control: int, data: bytes) -> bytes:
    return struct.pack(">IBB", len(data) + 2, context, control) + data


def p_data(*values: bytes) -> bytes:
    body = b"".join(values)
    return struct.pack(">BBI", 4, 0, len(body)) + body


def echo() -> bytes:
    return p_data(pdv(ECHO_CONTEXT, 3, command_set(0x0030)))


@dataclass
class Caller:
    """The other end of an association that is served in a thread."""

    connection: socket.socket
    acceptor: AssociationAcceptor
    stored: list[bytes] = field(default_factory=list)
    end: list[str] = field(default_factory=list)
    thread: threading.Thread | None = None

    def send(self, *data: bytes) -> None:
        for item in data:
            self.connection.sendall(item)

    def receive(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            more = self.connection.recv(length - len(data))
            if not more:
                return data
            data += more
        return data

    def pdu(self) -> tuple[int, bytes]:
        header = self.receive(6)
        if not header:
            return 0, b""
        kind, _, length = struct.unpack(">BBI", header)
        return kind, self.receive(length)

    def associate(self, **request: object) -> None:
        self.send(request_pdu(**request))  # type: ignore[arg-type]
        kind, body = self.pdu()
        assert kind == 2
        answer = A_ASSOCIATE_AC()
        answer.decode(struct.pack(">BBI", kind, 0, len(body)) + body)
        results = {item.context_id: item.result for item in answer.presentation_context}
        assert results == {ECHO_CONTEXT: 0, CT_CONTEXT: 0, REFUSED_CONTEXT: 3}

    def answer(self) -> dict[str, int]:
        """The command set of a response, from as many PDUs as it takes."""
        raw = b""
        while True:
            kind, body = self.pdu()
            assert kind == 4
            length, _, control = struct.unpack_from(">IBB", body)
            assert len(body) == length + 4
            raw += body[6:]
            if control & 2:
                dataset = decode(BytesIO(raw), True, True)
                return {item.keyword: item.value for item in dataset}

    def aborted(self) -> tuple[int, int]:
        """Source and reason of the A-ABORT that comes, and nothing after it."""
        kind, body = self.pdu()
        assert kind == 7
        assert self.receive(1) == b""
        return body[2], body[3]

    def ended(self) -> str:
        self.connection.close()
        assert self.thread is not None
        self.thread.join(20)
        (end,) = self.end
        return end


Call = Callable[..., Caller]


def serve(
    timeouts: Timeouts = Timeouts(20, 20, 20),  # noqa: B008 - frozen
    largest: int = 10_000_000,
    answer: Callable[[memoryview], Answer] = lambda _: Answer(0),
    too_many: bool = False,
) -> Caller:
    here, there = socket.socketpair()
    here.settimeout(20)
    stored: list[bytes] = []

    def store(_agreement: Agreement, _context: Context, _command: Command, data: memoryview) -> Answer:
        stored.append(bytes(data))
        return answer(data)

    acceptor = AssociationAcceptor(
        there, lambda pdu: NEGOTIATOR.answer(pdu, "127.0.0.1", too_many=too_many), store, timeouts, largest
    )
    caller = Caller(here, acceptor, stored)
    caller.thread = threading.Thread(target=lambda: caller.end.append(acceptor.serve()), daemon=True)
    caller.thread.start()
    return caller


@pytest.fixture
def call() -> Iterator[Call]:
    callers: list[Caller] = []

    def start(**options: object) -> Caller:
        callers.append(serve(**options))  # type: ignore[arg-type]
        return callers[-1]

    yield start
    for caller in callers:
        caller.connection.close()
        assert caller.thread is not None
        caller.thread.join(20)


@pytest.fixture
def caller(call: Call) -> Caller:
    """An established association."""
    found = call()
    found.associate()
    return found


def test_echo_and_release(caller: Caller) -> None:
    for number in (1, 77):
        caller.send(p_data(pdv(ECHO_CONTEXT, 3, command_set(0x0030, message_id=number))))
        answer = caller.answer()
        assert answer["CommandField"] == 0x8030
        assert answer["Status"] == 0
        assert answer["MessageIDBeingRespondedTo"] == number
    caller.send(RELEASE_RQ)
    assert caller.receive(10) == RELEASE_RP
    assert caller.ended() == "released"


DATA = bytes(range(256)) * 40


@given(st.lists(st.integers(1, 4000), max_size=12), st.lists(st.integers(1, 60), max_size=4), st.booleans())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_fragmentation_gives_the_same_bytes(
    caller: Caller, data_cuts: list[int], command_cuts: list[int], shared_pdu: bool
) -> None:
    def fragments(data: bytes, sizes: list[int], kind: int) -> list[bytes]:
        pieces = []
        for size in sizes:
            pieces.append(data[:size])
            data = data[size:]
        pieces.append(data)
        controls = [kind] * (len(pieces) - 1) + [kind | 2]
        return [pdv(CT_CONTEXT, control, piece) for control, piece in zip(controls, pieces, strict=True)]

    values = fragments(command_set(1, data_set=True), command_cuts, 1) + fragments(DATA, data_cuts, 0)
    caller.send(*([p_data(*values)] if shared_pdu else [p_data(value) for value in values]))
    assert caller.answer()["Status"] == 0
    assert caller.stored[-1] == DATA


def test_bytes_that_come_one_by_one_are_understood(caller: Caller) -> None:
    for byte in p_data(pdv(CT_CONTEXT, 3, command_set(1, data_set=True))) + p_data(
        pdv(CT_CONTEXT, 2, b"data")
    ):
        caller.send(bytes([byte]))
    assert caller.answer()["Status"] == 0
    assert caller.stored == [b"data"]


def test_large_data_sets_do_not_leave_their_traces_in_small_ones(caller: Caller) -> None:
    for data in (b"x" * 3_000_000, b"small", b"", b"y" * 1_500_000):
        caller.send(
            p_data(pdv(CT_CONTEXT, 3, command_set(1, data_set=True))), p_data(pdv(CT_CONTEXT, 2, data))
        )
        assert caller.answer()["Status"] == 0
        assert caller.stored[-1] == data


def test_response_keeps_to_the_peers_pdu_length(call: Call) -> None:
    caller = call(answer=lambda _: Answer(0xA700, "x" * 64))
    caller.associate(max_pdu=40)
    caller.send(
        p_data(pdv(CT_CONTEXT, 3, command_set(1, data_set=True))), p_data(pdv(CT_CONTEXT, 2, b"data"))
    )
    kind, body = caller.pdu()
    assert kind == 4
    assert len(body) <= 40
    raw = body[6:]
    while not body[5] & 2:
        kind, body = caller.pdu()
        assert len(body) <= 40
        raw += body[6:]
    assert decode(BytesIO(raw), True, True).ErrorComment == "x" * 64


def test_a_peer_that_takes_any_length_gets_one_pdu(call: Call) -> None:
    caller = call()
    caller.associate(max_pdu=0)
    caller.send(echo())
    assert caller.answer()["Status"] == 0


def test_data_set_that_is_too_large_is_read_and_refused(call: Call) -> None:
    caller = call(largest=1000)
    caller.associate()
    for size, status in ((1001, 0xA700), (1000, 0), (5_000_000, 0xA700), (10, 0)):
        caller.send(p_data(pdv(CT_CONTEXT, 3, command_set(1, data_set=True))))
        data = b"x" * size
        caller.send(p_data(pdv(CT_CONTEXT, 0, data[:500])), p_data(pdv(CT_CONTEXT, 2, data[500:])))
        assert caller.answer()["Status"] == status
    assert [len(data) for data in caller.stored] == [1000, 10]


def test_unknown_operations_are_answered_as_such(caller: Caller) -> None:
    caller.send(
        p_data(pdv(ECHO_CONTEXT, 3, command_set(0x0020, data_set=True))), p_data(pdv(ECHO_CONTEXT, 2, b"q"))
    )
    answer = caller.answer()
    assert (answer["CommandField"], answer["Status"]) == (0x8020, 0x0211)
    # a cancel has no answer
    caller.send(p_data(pdv(ECHO_CONTEXT, 3, command_set(0x0FFF))), echo())
    assert caller.answer()["CommandField"] == 0x8030
    assert caller.stored == []


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x02\x00\x00\x00\x00\x04\x00\x00\x00\x00", 2),
        (b"\x03\x00\x00\x00\x00\x04\x00\x00\x00\x00", 2),
        (b"\x06\x00\x00\x00\x00\x04\x00\x00\x00\x00", 2),
        (b"GET / HTTP/1.1\r\n\r\n", 1),
        (p_data(pdv(REFUSED_CONTEXT, 3, command_set(1))), 6),
        (p_data(pdv(99, 3, command_set(1))), 6),
        (p_data(pdv(CT_CONTEXT, 2, b"data without a command")), 6),
        (p_data(pdv(CT_CONTEXT, 3, b"no command set")), 6),
        (p_data(pdv(CT_CONTEXT, 3, b"")), 6),
        (p_data(b"\0\0\0"), 6),
        (p_data(b"\0\0\0\1\3\3"), 6),
        (p_data(b"\xff\xff\xff\xff\3\3"), 6),
        (
            p_data(pdv(CT_CONTEXT, 3, command_set(1, data_set=True)), pdv(ECHO_CONTEXT, 2, b"other context")),
            6,
        ),
        (p_data(pdv(CT_CONTEXT, 3, command_set(1, data_set=True)), pdv(CT_CONTEXT, 3, command_set(1))), 6),
        (p_data(pdv(ECHO_CONTEXT, 3, command_set(0x30)), pdv(ECHO_CONTEXT, 3, command_set(0x30))), 6),
        (p_data(pdv(CT_CONTEXT, 1, b"x" * 70_000)), 6),
    ],
)
def test_what_the_protocol_does_not_allow_is_aborted(caller: Caller, data: bytes, reason: int) -> None:
    caller.send(data)
    assert caller.aborted() == (2, reason)
    assert caller.ended().startswith("aborted: ")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (echo(), 2),
        (RELEASE_RQ, 2),
        (b"\x01\x00\xff\xff\xff\xff", 6),
        (b"\x01\x00\x00\x00\x00\x04abcd", 6),
        (b"\x01\x00\x00\x00\x00\x00", 6),
        (request_pdu()[:-1] + b"\xff", 6),
    ],
)
def test_what_is_no_request_is_aborted(call: Call, data: bytes, reason: int) -> None:
    caller = call()
    caller.send(data)
    assert caller.aborted() == (2, reason)


def test_every_byte_of_the_request_may_be_wrong() -> None:
    good = request_pdu()
    for position in range(6, len(good), 3):
        for value in (0x00, 0xFF):
            broken = good[:position] + bytes([value]) + good[position + 1 :]
            try:
                answer = NEGOTIATOR.answer(broken, "127.0.0.1")
            except MalformedRequest:
                continue
            assert answer.pdu[0] in (2, 3)


def test_rejections_are_encoded_as_the_standard_says(call: Call) -> None:
    version = bytearray(request_pdu())
    version[7] = 2
    application = request_pdu().replace(b"1.2.840.10008.3.1.1.1", b"1.2.840.10008.3.1.1.2")
    strict = Negotiator(
        settings_from({"node": {"require_called_ae_title": True}, "senders": [{"ae_title": "PACS"}]})
    )
    for negotiator, pdu, rejection, numbers in (
        (NEGOTIATOR, bytes(version), Rejection.PROTOCOL_VERSION, (1, 2, 2)),
        (NEGOTIATOR, application, Rejection.APPLICATION_CONTEXT, (1, 1, 2)),
        (strict, request_pdu(called="OTHER"), Rejection.CALLED_AE_TITLE, (1, 1, 7)),
        (strict, request_pdu(), Rejection.CALLING_AE_TITLE, (1, 1, 3)),
    ):
        answer = negotiator.answer(pdu, "127.0.0.1")
        assert answer.rejection is rejection
        assert answer.pdu == bytes((3, 0, 0, 0, 0, 4, 0, *numbers))
    assert strict.answer(request_pdu(calling="PACS"), "127.0.0.1").rejection is None
    full = call(too_many=True)
    full.send(request_pdu())
    assert full.pdu() == (3, bytes((0, 2, 3, 2)))
    assert full.ended().startswith("rejected: more associations")


def test_peer_may_go_at_any_byte(call: Call) -> None:
    whole = (
        request_pdu()
        + p_data(pdv(CT_CONTEXT, 3, command_set(1, data_set=True)))
        + p_data(pdv(CT_CONTEXT, 2, DATA[:100]))
    )
    for length in range(0, len(whole), 11):
        caller = call()
        caller.send(whole[:length])
        end = caller.ended()
        assert end.startswith("connection")
        assert caller.stored == []


def test_peers_abort_ends_the_association(call: Call) -> None:
    for established in (False, True):
        caller = call()
        if established:
            caller.associate()
        caller.send(ABORT_RQ)
        assert caller.ended() == "aborted by the peer"


def test_release_in_the_middle_of_a_message_keeps_nothing(caller: Caller) -> None:
    caller.send(p_data(pdv(CT_CONTEXT, 3, command_set(1, data_set=True))), RELEASE_RQ)
    assert caller.receive(10) == RELEASE_RP
    assert caller.ended() == "released in the middle of a message"
    assert caller.stored == []


@pytest.mark.parametrize("begun", [False, True])
def test_silence_is_aborted(call: Call, begun: bool) -> None:
    caller = call(timeouts=Timeouts(20, 0.05 if not begun else 20, 0.05))
    caller.associate()
    if begun:
        caller.send(p_data(pdv(CT_CONTEXT, 3, command_set(1, data_set=True))))
    assert caller.aborted() == (2, 0)
    assert "silent" in caller.ended()


def test_stop_lets_a_message_finish_and_ends_what_is_idle(call: Call) -> None:
    idle, busy = call(), call()
    for caller in (idle, busy):
        caller.associate()
    busy.send(p_data(pdv(CT_CONTEXT, 3, command_set(1, data_set=True))), p_data(pdv(CT_CONTEXT, 0, b"da")))
    while busy.acceptor._idle:
        pass
    for caller in (idle, busy):
        caller.acceptor.stop()
    assert idle.aborted() == (2, 0)
    busy.send(p_data(pdv(CT_CONTEXT, 2, b"ta")))
    assert busy.answer()["Status"] == 0
    assert busy.aborted() == (2, 0)
    assert busy.stored == [b"data"]


def test_cut_ends_a_message_that_never_ends(caller: Caller) -> None:
    caller.send(p_data(pdv(CT_CONTEXT, 3, command_set(1, data_set=True))))
    caller.acceptor.stop()
    caller.acceptor.cut()
    assert caller.aborted() == (2, 0)
    assert caller.ended() == "aborted: the node stops"


@given(st.binary(max_size=300))
@settings(max_examples=60)
def test_garbage_never_brings_the_server_down(data: bytes) -> None:
    caller = serve(timeouts=Timeouts(1, 1, 1))
    try:
        caller.send(request_pdu(), data)
        caller.connection.shutdown(socket.SHUT_WR)
        assert caller.receive(6)[0] == 2
        while caller.connection.recv(65536):
            pass
    except ConnectionError:
        pass
    assert caller.ended()

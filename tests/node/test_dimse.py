"""Command sets: decoded as pynetdicom encodes them, answered as pynetdicom reads them."""

from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import CTImageStorage
from pynetdicom.dimse_messages import C_ECHO_RQ, C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.dsutils import decode
from pynetdicom.pdu_primitives import P_DATA

from dicom_ai_node.node.dimse import Command, MalformedCommand, Request, decode_command, encode_response


def encoded_store(instance: str = "1.2.3") -> bytes:
    request = C_STORE()
    request.MessageID = 7
    request.AffectedSOPClassUID = CTImageStorage
    request.AffectedSOPInstanceUID = instance
    request.Priority = 2
    request.DataSet = BytesIO(b"data")
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    (command, *_) = message.encode_msg(1, 16382)
    return bytes(command.presentation_data_value_list[0][1][1:])


def test_store_request_is_understood() -> None:
    for instance in ("1.2.3", "1.2.34"):
        assert decode_command(encoded_store(instance)) == Command(
            Request.C_STORE, 7, str(CTImageStorage), instance, has_data_set=True
        )


def test_echo_request_is_understood() -> None:
    request = C_ECHO()
    request.MessageID = 65535
    message = C_ECHO_RQ()
    message.primitive_to_message(request)
    (command,) = message.encode_msg(1, 16382)
    found = decode_command(command.presentation_data_value_list[0][1][1:])
    assert (found.field, found.message_id, found.has_data_set) == (Request.C_ECHO, 65535, False)


@pytest.mark.parametrize("comment", ["", "odd", "even", "a \\ b \u00e9", "x" * 200])
def test_response_is_what_pynetdicom_understands(comment: str) -> None:
    command = Command(Request.C_STORE, 7, str(CTImageStorage), "1.2.3", has_data_set=True)
    raw = encode_response(command, 0xA700, comment)
    primitive = P_DATA()
    primitive.presentation_data_value_list = [[1, b"\x03" + raw]]
    message = DIMSEMessage()
    assert message.decode_msg(primitive)
    answer = message.message_to_primitive()
    assert isinstance(answer, C_STORE)
    assert answer.is_valid_response
    assert answer.Status == 0xA700
    assert answer.MessageIDBeingRespondedTo == 7
    assert answer.AffectedSOPClassUID == CTImageStorage
    assert answer.AffectedSOPInstanceUID == "1.2.3"
    shown = comment.replace("\\", "/").encode("ascii", "replace").decode()[:64]
    assert (getattr(answer, "ErrorComment", None) or "") == shown
    group_length = decode(BytesIO(raw), True, True).CommandGroupLength
    assert group_length == len(raw) - 12


def test_every_cut_is_refused() -> None:
    whole = encoded_store()
    for length in range(len(whole)):
        try:
            found = decode_command(whole[:length])
        except MalformedCommand:
            continue
        # elements that every request needs are there; only the instance's UID stands behind them
        assert found.affected_sop_instance_uid == ""


@given(st.binary(max_size=200))
def test_garbage_is_refused_and_nothing_else_happens(data: bytes) -> None:
    with pytest.raises(MalformedCommand):
        decode_command(data)

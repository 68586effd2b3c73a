"""Log lines: one form for all, nothing that leads to a patient."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from dicom_ai_node.log import configure_logging, logger


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("dbos", "pynetdicom", "pydicom", "highdicom", "sqlalchemy"):
        library = logging.getLogger(name)
        library.handlers[:], library.propagate = [], True
    structlog.reset_defaults()


def test_a_line_is_one_json_object_with_time_and_level(stream: io.StringIO) -> None:
    configure_logging(as_json=True, stream=stream)
    logger(job="5e12.1").info("stored", file="sr.dcm", status="Success 0x0000")
    (line,) = stream.getvalue().splitlines()
    said = json.loads(line)
    assert said.pop("timestamp").endswith("Z")
    assert said == {
        "event": "stored",
        "level": "info",
        "job": "5e12.1",
        "file": "sr.dcm",
        "status": "Success 0x0000",
    }


@pytest.mark.parametrize(
    ("identifiers", "expected"),
    [
        (False, "CT series <UID>: slices 40 and 41"),
        (True, "CT series 1.2.840.113619.2.5.1762: slices 40 and 41"),
    ],
)
def test_uids_are_left_out_unless_asked_for(stream: io.StringIO, identifiers: bool, expected: str) -> None:
    configure_logging(as_json=True, identifiers=identifiers, stream=stream)
    text = "CT series 1.2.840.113619.2.5.1762: slices 40 and 41"
    logger().warning(text, reason=text, port=11112, peer="127.0.0.1", version="0.1.0")
    said = json.loads(stream.getvalue())
    assert said["event"] == said["reason"] == expected
    assert (said["peer"], said["version"], said["port"]) == ("127.0.0.1", "0.1.0", 11112)


def test_libraries_are_heard_from_warnings_upwards_in_the_same_form(stream: io.StringIO) -> None:
    configure_logging(as_json=True, stream=stream)
    for name in ("dbos", "pynetdicom"):
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).warning("peer 1.2.840.113619.2.5.1762 is slow")
    said = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["event"], line["level"]) for line in said] == [("peer <UID> is slow", "warning")] * 2

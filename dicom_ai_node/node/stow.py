"""Sending objects to an archive with STOW-RS: what was stored, object by object, and nothing else.

The sibling of `scu.Sender`: one request an object, the bytes as they lie on disk. Retrying is left to the
caller. What the archive says is told in its own words.

Source: PS3.18 section 10.5 (Store transaction), tables 10.5.3-1 and I.2-2.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

from dicom_ai_node.config import DicomwebDestination
from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.intake.part10 import FileMeta, read_file
from dicom_ai_node.node.dicomweb import CONNECTION_TIMEOUT_S, Server, client_of, in_words, words_of
from dicom_ai_node.node.scu import Outcome

DICOM_JSON: Final = "application/dicom+json"
DUPLICATE_SOP_INSTANCE: Final = 0x0111
"""PS3.7 section C.4.1: the archive has an instance of this UID. UIDs of results stand for their content."""

_META_BYTES: Final = 65536
_PIECE: Final = 262144
_FAILED_SOP_SEQUENCE: Final = "00081198"
_OTHER_FAILURES_SEQUENCE: Final = "0008119A"
_REFERENCED_SOP_SEQUENCE: Final = "00081199"
_FAILURE_REASON: Final = "00081197"


class StowSender:
    """Sends files to one archive.

    Args:
        paths: what will be sent.
        destination: where to.

    Raises:
        ConfigurationError: a file with a secret or with certificates cannot be read.
        UnreadableInstance: a file is no DICOM file with meta information.
    """

    def __init__(self, paths: Sequence[Path], destination: DicomwebDestination) -> None:
        self._metas = {path: _meta(path) for path in paths}
        self._destination = destination
        self._client = client_of(destination, destination.timeout_seconds)
        self._down: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def store(self, path: Path) -> Outcome:
        """Send one of the files; network trouble is an outcome too, and ends this sender's attempts."""
        meta = self._metas[path]
        if self._down is not None:
            return _outcome(path, meta, False, None, self._down)
        try:
            with self._post(path) as answer:
                return self._judged(path, meta, answer, words_of(answer))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            self._down = f"{self._destination.url}: {_trouble(error)}. Check that the archive runs."
            return _outcome(path, meta, False, None, self._down)

    def _post(self, path: Path) -> Any:
        boundary = secrets.token_hex(16)
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        return self._client.stream(
            "POST",
            f"{self._destination.url}/studies",
            content=_body(path, head, tail),
            headers={
                "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
                "Content-Length": str(len(head) + path.stat().st_size + len(tail)),
                "Accept": DICOM_JSON,
            },
        )

    def _judged(self, path: Path, meta: FileMeta, answer: httpx.Response, body: bytes) -> Outcome:
        words = f"{self._destination.url}: {in_words(answer, body)}"
        said = _data_set(body)
        failures = _items(said, _FAILED_SOP_SEQUENCE) + _items(said, _OTHER_FAILURES_SEQUENCE)
        if answer.status_code in (200, 202) and not failures:
            referenced = bool(_items(said, _REFERENCED_SOP_SEQUENCE))
            # An archive that answers 200 without a data set has still answered 200.
            if referenced or answer.status_code == 200:
                return _outcome(path, meta, True, 0, f"HTTP {answer.status_code}")
        if answer.status_code in (200, 202, 409) and failures:
            reason = _first(failures[0], _FAILURE_REASON)
            status = reason if isinstance(reason, int) else None
            shown = "no failure reason" if status is None else f"failure reason 0x{status:04X}"
            if status == DUPLICATE_SOP_INSTANCE:
                return _outcome(path, meta, True, status, f"the archive has it already ({shown})")
            words = f"{self._destination.url}: {shown}, {in_words(answer, b'')}"
            return _outcome(path, meta, False, status, words)
        return _outcome(path, meta, False, None, words)


def answers(server: Server) -> str | None:
    """Ask whether a DICOMweb service is there and lets us in; None if so, else what is wrong.

    Raises:
        ConfigurationError: a file with a secret or with certificates cannot be read.
    """
    try:
        with (
            client_of(server, CONNECTION_TIMEOUT_S) as client,
            client.stream("GET", f"{server.url}/studies?limit=1", headers={"Accept": DICOM_JSON}) as answer,
        ):
            body = words_of(answer)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"{server.url}: {_trouble(error)}"
    # 404 and 405: a service that takes objects in need not answer questions.
    return None if answer.is_success or answer.status_code in (404, 405) else in_words(answer, body)


def _meta(path: Path) -> FileMeta:
    meta, _ = read_file(path, _META_BYTES)
    if not (meta.sop_class_uid and meta.sop_instance_uid):
        raise UnreadableInstance(f"{path.name} cannot be sent: its file meta information names no instance")
    return meta


def _body(path: Path, head: bytes, tail: bytes) -> Iterator[bytes]:
    yield head
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece
    yield tail


def _trouble(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return f"no answer ({text})" if isinstance(error, httpx.TimeoutException) else text


def _data_set(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    return found if isinstance(found, dict) else {}


def _items(data_set: Mapping[str, Any], tag: str) -> list[Mapping[str, Any]]:
    element = data_set.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return [item for item in values if isinstance(item, dict)] if isinstance(values, list) else []


def _first(item: Mapping[str, Any], tag: str) -> object:
    element = item.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values[0] if isinstance(values, list) and values else None


def _outcome(path: Path, meta: FileMeta, stored: bool, status: int | None, text: str) -> Outcome:
    return Outcome(path.name, meta.sop_class_uid, meta.sop_instance_uid, stored, status, text)

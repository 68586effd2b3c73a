"""Images in by reference: the node fetches a series from a DICOMweb server that [[http.dicomweb]] lists.

A request is a file until it is carried out, so that it outlives a restart; fetching twice changes nothing.

Source: PS3.18 section 10.4 (Retrieve transaction of the Studies Service, WADO-RS).
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Final, Literal

import httpx
from fastapi import APIRouter
from pydantic import BaseModel, Field

from dicom_ai_node.config import DicomwebServer
from dicom_ai_node.errors import ConfigurationError, InputError, TransientError
from dicom_ai_node.intake.spool import key_of
from dicom_ai_node.log import logger
from dicom_ai_node.node.dicomweb import client_of, in_words, words_of
from dicom_ai_node.node.store import StoreStatus
from dicom_ai_node.web.body import Keep, parameters_of
from dicom_ai_node.web.inside import Inside, NodeInside
from dicom_ai_node.web.multipart import parts
from dicom_ai_node.web.problems import RequestRefused, described

CALLING_AE_TITLE: Final = "DICOMWEB"
"""Who is said to have sent what was fetched."""

ATTEMPTS: Final = 5
MOST_WAITING: Final = 1000
_FIRST_PAUSE_SECONDS: Final = 2.0
_SILENCE_SECONDS: Final = 120.0
_LOOK_SECONDS: Final = 0.5
_KEPT_SECONDS: Final = 7 * 86400.0
_ACCEPT: Final = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_SERIES: Final = re.compile(r"/studies/([0-9.]{1,64})/series/([0-9.]{1,64})")

router = APIRouter(tags=["images in"])


class Reference(BaseModel):
    """A series on a DICOMweb server."""

    url: Annotated[
        str,
        Field(
            max_length=1024,
            pattern="^https?://",
            examples=["https://archive.example/dicom-web/studies/1.2.3/series/1.2.3.4"],
        ),
    ]


class Fetch(BaseModel):
    """A series that is fetched, or could not be: `reason` says why."""

    url: str
    study_instance_uid: str
    series_instance_uid: str
    state: Literal["waiting", "failed"]
    attempts: int
    reason: str


class Fetches(BaseModel):
    """What is being fetched, and what could not be."""

    fetches: list[Fetch]


@router.post(
    "/instances/dicomweb",
    status_code=202,
    summary="Have a series fetched from a DICOMweb server",
    responses=described(
        _400="the body is no JSON, or the address not that of a series",
        _403="the server is not among [[http.dicomweb]]",
        _413="the body is larger than 4 MiB",
        _429="too many are waiting; ask again later",
        _507="no room on the disk; ask again later",
    ),
)
def fetch(asked: Reference, inside: NodeInside) -> Fetch:
    """It is fetched in the background, and is then complete; `GET /series/{uid}` tells how it stands."""
    return _told(inside.fetcher.ask(asked.url))


@router.get("/instances/dicomweb", summary="What is being fetched")
def fetches(inside: NodeInside) -> Fetches:
    """What waits to be fetched, and what could not be; what is here is told by its series."""
    return Fetches(fetches=[_told(item) for item in inside.fetcher.asked()])


@dataclass(frozen=True)
class Asked:
    """A series that shall be fetched.

    Attributes:
        url: of the series.
        attempts: how often it was tried.
        failed: it will not be tried again.
        reason: why the last attempt failed.
        not_before: seconds since the epoch.
    """

    url: str
    attempts: int = 0
    failed: bool = False
    reason: str = ""
    not_before: float = 0.0

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{key_of(self.url)}.json"


class Fetcher:
    """Carries out what was asked for, one series after the other.

    Args:
        servers: where may be fetched from.
        folder: where the requests lie.
    """

    def __init__(self, servers: tuple[DicomwebServer, ...], folder: Path) -> None:
        self._servers = servers
        self._folder = folder
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._log = logger()

    def start(self, inside: Inside) -> None:
        """Begin, with whatever was left."""
        if not self._servers:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._loop, args=(inside,), name="fetch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop at the next piece; what is unfinished is fetched after the next start."""
        self._stopping.set()
        self._woken.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    def ask(self, url: str) -> Asked:
        """Have a series fetched.

        Raises:
            RequestRefused: the server is not listed, or the address is not that of a series.
        """
        server = self._server(url)
        if server is None:
            raise RequestRefused(403, "the server is not among [[http.dicomweb]] of the node's settings")
        if not _SERIES.fullmatch(url.removeprefix(server.url)):
            raise RequestRefused(400, "not the address of a series: SERVER/studies/UID/series/UID")
        asked = Asked(url)
        with self._lock:
            if sum(1 for item in self._read() if not item.failed) >= MOST_WAITING:
                raise RequestRefused(429, "too many series are waiting to be fetched; ask again later")
            self._write(asked)
        self._woken.set()
        return asked

    def asked(self) -> list[Asked]:
        """What is not here yet."""
        with self._lock:
            return self._read()

    def _server(self, url: str) -> DicomwebServer | None:
        return next((item for item in self._servers if url.startswith(f"{item.url}/studies/")), None)

    def _read(self) -> list[Asked]:
        paths = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        return [Asked(**json.loads(path.read_text(encoding="utf-8"))) for path in paths]

    def _write(self, asked: Asked) -> None:
        part = self._folder / f".{asked.name}.part"
        with part.open("w", encoding="utf-8") as file:
            json.dump(asdict(asked), file)
            file.flush()
            os.fsync(file.fileno())
        part.rename(self._folder / asked.name)

    def _loop(self, inside: Inside) -> None:
        while not self._stopping.is_set():
            try:
                for asked in self.asked():
                    if self._stopping.is_set():
                        return
                    self._turn(inside, asked)
            except Exception:
                # One that cannot be fetched must not stop the others; the turn is taken again.
                self._log.exception("fetching failed")
            self._woken.wait(_LOOK_SECONDS)
            self._woken.clear()

    def _turn(self, inside: Inside, asked: Asked) -> None:
        now = time.time()
        if asked.failed and now - asked.not_before > _KEPT_SECONDS:
            (self._folder / asked.name).unlink(missing_ok=True)
        if asked.failed or asked.not_before > now:
            return
        log = self._log.bind(fetch=key_of(asked.url))
        attempts = asked.attempts + 1
        try:
            count = asyncio.run(self._fetch(inside, asked.url))
        except (InputError, ConfigurationError, RequestRefused) as error:
            after = replace(asked, attempts=attempts, failed=True, reason=str(error), not_before=now)
        except (TransientError, httpx.HTTPError, OSError) as error:
            pause_s = _FIRST_PAUSE_SECONDS * 2**asked.attempts
            after = replace(
                asked,
                attempts=attempts,
                failed=attempts >= ATTEMPTS,
                reason=str(error) or type(error).__name__,
                not_before=time.time() + pause_s,
            )
        else:
            log.info("fetched", instances=count)
            with self._lock:
                (self._folder / asked.name).unlink(missing_ok=True)
            return
        log.warning("not fetched", attempt=attempts, again=not after.failed, reason=after.reason)
        with self._lock:
            self._write(after)

    async def _fetch(self, inside: Inside, url: str) -> int:
        """Fetch a series into the spool and say that it is complete; how many instances it has."""
        server = self._server(url)
        if server is None:
            raise ConfigurationError("the server is not among [[http.dicomweb]] any more")
        with (
            client_of(server, _SILENCE_SECONDS) as client,
            client.stream("GET", url, headers={"Accept": _ACCEPT}) as answer,
        ):
            if answer.status_code != 200:
                text = in_words(answer, words_of(answer))
                passing = answer.status_code >= 500 or answer.status_code in (408, 429)
                raise TransientError(text) if passing else InputError(text)
            kind, parameters = parameters_of(answer.headers.get("content-type", ""))
            if kind != "multipart/related" or not parameters.get("boundary"):
                raise InputError(f"the server sends {kind or 'something'} instead of multipart/related")
            count, series = 0, ("", "")
            body = self._pieces(answer)
            keeps = (inside.spool.root, inside.largest_instance)
            async for part in parts(body, parameters["boundary"], lambda: Keep(*keeps)):
                stored = inside.receiver.receive_file(part.keep.view(), CALLING_AE_TITLE)
                if stored.status is StoreStatus.OUT_OF_RESOURCES:
                    raise TransientError(stored.reason)
                if stored.status is not StoreStatus.SUCCESS or stored.identity is None:
                    raise InputError(stored.reason)
                series = (stored.identity.study_instance_uid, stored.identity.series_instance_uid)
                count += 1
        spooled = inside.spool.find(key_of(series[0]), key_of(*series))
        if spooled is None:
            raise InputError("the server sends no instances")
        inside.spool.announce(spooled)
        inside.coordinator.look_now()
        inside.watch.touch(spooled.series_key)
        return count

    async def _pieces(self, answer: httpx.Response) -> AsyncIterator[bytes]:
        for piece in answer.iter_bytes(262144):
            if self._stopping.is_set():
                raise TransientError("the node stops")
            yield piece


def _told(asked: Asked) -> Fetch:
    found = _SERIES.search(asked.url)
    study, series = found.groups() if found else ("", "")
    return Fetch(
        url=asked.url,
        study_instance_uid=study,
        series_instance_uid=series,
        state="failed" if asked.failed else "waiting",
        attempts=asked.attempts,
        reason=asked.reason,
    )

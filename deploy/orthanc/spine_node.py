"""Spine reports inside Orthanc: stable series are offered to a dicom-ai-node, its results stored beside them.

Install: put this file where Orthanc can read it, name it as `PythonScript` in Orthanc's configuration, set
the node's address and token in the section `SpineNode` (`spine_node.json`; README.md explains every setting),
and restart Orthanc. It needs Orthanc's Python plugin and nothing beyond the standard library.

Orthanc is never kept waiting: its callbacks only wake one thread, the courier, which reads Orthanc's list of
changes, hands series to the node and stores what comes back. Where it stopped is kept in Orthanc's database,
as a global property, how each series stands in metadata of the series; report and picture are attachments of
it. Every step may be repeated, since instances, jobs and results have UIDs that do not change.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.client
import ipaddress
import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import orthanc

VERSION = "1"
TELLING = (
    *("queued", "receiving", "analysing", "retrying", "delivering", "waiting", "failed", "delivered"),
    *("committed", "not-analysable", "not-applicable", "not-offered"),
)
"""Of several series of a study, the state that comes first here is the study's."""
FINAL = ("delivered", "committed", "not-applicable", "not-analysable", "failed")
STAGES = ("watch", "sift", "hand over")
"""What the courier does for a series; what is nearly done comes first, for people wait for it."""
ATTACHED = ("report", "overlay")
"""In the order of their numbers; those of a second film follow."""
OWN_EQUIPMENT = ("dicom-ai-node project", "dicom-ai-node")
"""Manufacturer and Manufacturer's Model Name of everything that a node has made."""
LONGEST_PAUSE_S = 60.0
STALE_S = 120.0
"""How long a final state is doubted that says nothing yet about what was just handed over."""
UNKNOWN_RESOURCE = 17
"""Orthanc's error code for what is not, or no longer, there."""


class NodeAway(Exception):
    """The node cannot be spoken to now; everything waits for it."""


class NodeRefuses(Exception):
    """The node will not have this one thing."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"the node answers {status}: {detail}")
        self.status = status


class Gone(Exception):
    """What was asked for is no longer in Orthanc."""


class SettingsError(Exception):
    """The administrator must change the section SpineNode."""


# -------------------------------------------------------------------------------------------- settings


@dataclass(frozen=True)
class Settings:
    """The section `SpineNode` of Orthanc's configuration; README.md has the table."""

    Url: str = "http://127.0.0.1:8080"
    Token: str = ""
    TokenFile: str = ""
    CertificateAuthority: str = ""
    PlainHttp: bool = False
    Command: list[str] = field(default_factory=list)
    SharedStorage: str = ""
    Modalities: list[str] = field(default_factory=lambda: ["CT", "CR", "DX", "MR"])
    Include: list[dict[str, str]] = field(default_factory=list)
    Exclude: list[dict[str, str]] = field(default_factory=list)
    Existing: bool = False
    TimeoutSeconds: float = 30.0
    FirstNumber: int = 4710

    @classmethod
    def of(cls, section: Mapping[str, Any]) -> Settings:
        """The settings, checked.

        Raises:
            SettingsError: an unknown key, a value of another kind, a regular expression that is none, or a
                token that would travel where others can read it.
        """
        standard = cls()
        for key, value in section.items():
            if not hasattr(standard, key):
                known = ", ".join(item.name for item in dataclasses.fields(cls))
                raise SettingsError(f"SpineNode.{key} is not known; known: {known}")
            kind = type(getattr(standard, key))
            if not isinstance(value, (int, float) if kind is float else kind):
                raise SettingsError(f"SpineNode.{key} = {json.dumps(value)}: {kind.__name__} expected")
        settings = cls(**section)
        for rule in [*settings.Include, *settings.Exclude]:
            for key, pattern in dict(rule).items():
                try:
                    re.compile(pattern)
                except (re.error, TypeError) as error:
                    raise SettingsError(f"SpineNode rule {key}: {pattern!r}: {error}") from error
        url = urlsplit(settings.Url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise SettingsError(f"SpineNode.Url = {settings.Url!r}: http(s)://HOST:PORT expected")
        if url.scheme == "http" and not settings.PlainHttp and not _is_loopback(url.hostname):
            raise SettingsError(
                f"SpineNode.Url = {settings.Url!r}: images and token would travel unencrypted; use https, or "
                "set PlainHttp to true in a network of your own"
            )
        if settings.TokenFile:
            try:
                token = Path(settings.TokenFile).read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsError(f"SpineNode.TokenFile cannot be read: {error}") from error
            settings = dataclasses.replace(settings, Token=token)
        if not re.fullmatch(r"[\x21-\x7e]*", settings.Token):
            raise SettingsError("SpineNode.Token: printable ASCII characters without spaces are expected")
        return settings


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def refusal(settings: Settings, tags: Mapping[str, str]) -> str:
    """Why a series with these main tags is not offered to the node; empty: it is offered."""
    modality = tags.get("Modality", "")
    if modality not in settings.Modalities:
        return f"modality {modality or 'unknown'} is not among SpineNode.Modalities"
    if settings.Include and not any(_matches(rule, tags) for rule in settings.Include):
        return "no rule of SpineNode.Include matches"
    for number, rule in enumerate(settings.Exclude, 1):
        if _matches(rule, tags):
            return f"rule {number} of SpineNode.Exclude matches"
    return ""


def _matches(rule: Mapping[str, str], tags: Mapping[str, str]) -> bool:
    return all(re.search(pattern, tags.get(key, ""), re.IGNORECASE) for key, pattern in rule.items())


# ----------------------------------------------------------------------------------------- the records


@dataclass
class Record:
    """How one series stands; kept as metadata of the series."""

    state: str = "none"
    reasons: list[str] = field(default_factory=list)
    job: str | None = None
    version: str = ""
    generation: int | None = None
    carried_by: str | None = None
    """MR: the SeriesInstanceUID of the series of the study that the result lies on."""
    results: list[dict[str, Any]] = field(default_factory=list)
    findings: str = ""
    films: int = 0
    """Reports that the series has: one, or one for every lateral film."""
    digest: str = ""
    """Which instances were handed over."""
    accepted: int = 0
    """How many of them the node has taken."""
    after_generation: int | None = None
    """The result that is waited for is of a later generation than this."""
    updated_at: str = ""

    @classmethod
    def from_json(cls, text: str) -> Record:
        """A record as it was kept; keys of another version are left out."""
        known = {item.name for item in dataclasses.fields(cls)}
        return cls(**{key: value for key, value in json.loads(text).items() if key in known})


@dataclass
class Item:
    """One series that the courier is busy with."""

    series: str
    again: bool = False
    """A person asked for it: whatever the rules say, and although nothing changed."""
    stage: str = "sift"
    """One of STAGES."""
    uid: str = ""
    record: Record = field(default_factory=Record)
    due: float = 0.0
    faults: int = 0
    sent: set[str] = field(default_factory=set)
    taken_up_at: float = field(default_factory=time.monotonic)
    error: str = ""


# ----------------------------------------------------------------------------------------- the archive


class Archive:
    """What the courier does in Orthanc, by Orthanc's own interface.

    Args:
        first_number: of the metadata, attachments and the global property that are ours.
    """

    def __init__(self, first_number: int) -> None:
        self._state, self._version, self._job, self._details = range(first_number, first_number + 4)
        self._property = first_number

    def series(self, series: str) -> dict[str, Any]:
        """The series with its main tags and those of its study and patient, as `tags`.

        Raises:
            Gone: it was deleted.
        """
        found = self._json(f"/series/{series}")
        study = self._json(f"/studies/{found['ParentStudy']}")
        metadata = self._json(f"/series/{series}/metadata?expand")
        tags: dict[str, str] = {}
        for part in (study["PatientMainDicomTags"], study["MainDicomTags"], metadata, found["MainDicomTags"]):
            tags |= part
        return {**found, "tags": tags}

    def series_of(self, study: str) -> list[str]:
        """The series of a study."""
        return list(self._json(f"/studies/{study}")["Series"])

    def find(self, uid: str) -> str | None:
        """The series with that SeriesInstanceUID."""
        found = json.loads(orthanc.RestApiPost("/tools/lookup", uid))
        return next((item["ID"] for item in found if item["Type"] == "Series"), None)

    def __contains__(self, series: str) -> bool:
        with contextlib.suppress(Gone):
            return bool(self.get(f"/series/{series}"))
        return False

    def is_own(self, series: Mapping[str, Any]) -> bool:
        """Whether a node has made the series, by the equipment that it names, also as contributor."""
        if self.record(series["ID"]).state == "result":
            return True
        if not series["Instances"]:
            return False
        tags = self._json(f"/instances/{series['Instances'][0]}/simplified-tags")
        makers = [tags, *(tags.get("ContributingEquipmentSequence") or [])]
        return any(
            (maker.get("Manufacturer"), maker.get("ManufacturerModelName")) == OWN_EQUIPMENT
            for maker in makers
        )

    def instance(self, instance: str) -> bytes:
        """The file."""
        return self.get(f"/instances/{instance}/file")

    def path(self, instance: str, folder: str) -> str | None:
        """Where the file lies in a storage area with Orthanc's own layout; None where it is compressed."""
        info = self._json(f"/instances/{instance}/attachments/dicom/info")
        uuid = info["Uuid"]
        if info["CompressedMD5"] != info["UncompressedMD5"]:
            return None
        return f"{folder.rstrip('/')}/{uuid[0:2]}/{uuid[2:4]}/{uuid}"

    def store(self, data: bytes) -> dict[str, Any]:
        """Store an instance; the answer says where it is, also where it was there before."""
        answer = json.loads(orthanc.RestApiPost("/instances", data))
        if answer.get("Status") not in ("Success", "AlreadyStored"):
            raise OSError(f"Orthanc does not store the result: {answer.get('Status')}")
        return dict(answer)

    def record(self, series: str) -> Record:
        """How the series stands; a series without record has the state `none`."""
        with contextlib.suppress(Gone, ValueError, TypeError):
            return Record.from_json(self.get(f"/series/{series}/metadata/{self._details}").decode())
        return Record()

    def keep(self, series: str, record: Record) -> None:
        """Write what has changed of the record."""
        before = self.record(series)
        if before == dataclasses.replace(record, updated_at=before.updated_at):
            return
        record.updated_at = datetime.now(timezone.utc).isoformat(timespec="seconds")  # noqa: UP017 - Python 3.9
        values = {
            self._state: (before.state, record.state),
            self._version: (before.version, record.version),
            self._job: (before.job, record.job),
            # Last, since it is what a restart goes by.
            self._details: ("", json.dumps(dataclasses.asdict(record))),
        }
        for number, (old, new) in values.items():
            if new and new != old:
                self._put(f"/series/{series}/metadata/{number}", new)

    def attach(self, series: str, kind: str, data: bytes, film: int = 1) -> None:
        """Keep the report or the overlay as an attachment of the series."""
        self._put(f"/series/{series}/attachments/{self._attachment(kind, film)}", data)

    def attached(self, series: str, kind: str, part: str = "data", film: int = 1) -> bytes | None:
        """The report or the overlay of the series; with `size`, only how large it is."""
        with contextlib.suppress(Gone):
            return self.get(f"/series/{series}/attachments/{self._attachment(kind, film)}/{part}")
        return None

    def _attachment(self, kind: str, film: int) -> int:
        return self._property + 2 * (film - 1) + ATTACHED.index(kind)

    def changes(self, since: int) -> Iterator[dict[str, Any]]:
        """Everything that happened after that sequence number, and what has happened meanwhile."""
        while True:
            page = self._json(f"/changes?since={since}&limit=1000")
            yield from page["Changes"]
            if page["Done"] or not page["Changes"]:
                return
            since = page["Changes"][-1]["Seq"]

    def last_change(self) -> int:
        """The sequence number of what happened last."""
        return int(self._json("/changes?last")["Last"])

    def journal(self) -> dict[str, Any]:
        """What was kept by `keep_journal`; empty at first."""
        text = orthanc.GetGlobalProperty(self._property, "")
        return dict(json.loads(text)) if text else {}

    def keep_journal(self, journal: Mapping[str, Any]) -> None:
        """Keep a value in Orthanc's database."""
        orthanc.SetGlobalProperty(self._property, json.dumps(journal, separators=(",", ":")))

    def get(self, path: str) -> bytes:
        """A resource as bytes."""
        with _gone_if_unknown():
            return bytes(orthanc.RestApiGet(path))

    def _json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def _put(self, path: str, data: str | bytes) -> None:
        with _gone_if_unknown():
            orthanc.RestApiPut(path, data)


@contextlib.contextmanager
def _gone_if_unknown() -> Iterator[None]:
    try:
        yield
    except orthanc.OrthancException as error:
        if error.args and error.args[0] == UNKNOWN_RESOURCE:
            raise Gone from error
        raise


# -------------------------------------------------------------------------------------------- the node


class Node:
    """The node's HTTP interface, over one connection that is kept open.

    Args:
        settings: where the node is, and by which token it knows us.
    """

    def __init__(self, settings: Settings) -> None:
        url = urlsplit(settings.Url)
        self._path = url.path.rstrip("/") + "/api/v1"
        self._headers = {"Authorization": f"Bearer {settings.Token}"} if settings.Token else {}
        self._connection: http.client.HTTPConnection | None = None
        self._stopped = False
        host, port, timeout = str(url.hostname), url.port, settings.TimeoutSeconds
        if url.scheme == "https":
            tls = ssl.create_default_context(cafile=settings.CertificateAuthority or None)
            self._open: Callable[[], http.client.HTTPConnection] = lambda: http.client.HTTPSConnection(
                host, port, timeout=timeout, context=tls
            )
        else:
            self._open = lambda: http.client.HTTPConnection(host, port, timeout=timeout)

    def version(self) -> str:
        """The node's version, if it is ready and knows our token."""
        self._json("GET", "/jobs?limit=1")
        return str(self._json("GET", "/health").get("version", ""))

    def send(self, data: bytes) -> None:
        """One instance."""
        self._call("POST", "/instances", data, "application/dicom")

    def send_paths(self, paths: list[str]) -> set[str]:
        """Instances that the node reads itself; returns the paths it would not."""
        answer = self._json("POST", "/instances/paths", {"paths": paths})
        return {item["path"] for item in answer["refused"]}

    def complete(self, uid: str) -> None:
        """Say that nothing will come but what is there."""
        self._json("POST", f"/series/{quote(uid)}/complete", {"instances": None})

    def analyse(self, uid: str) -> None:
        """Ask for another analysis of a series that has not changed."""
        self._json("POST", f"/series/{quote(uid)}/analyse")

    def series(self, uid: str) -> dict[str, Any] | None:
        """How the series stands; None where the node does not know it."""
        try:
            return self._json("GET", f"/series/{quote(uid)}")
        except NodeRefuses as error:
            if error.status != 404:
                raise
            return None

    def result(self, job: str, uid: str) -> bytes:
        """One result object of a job."""
        return self._call("GET", f"/jobs/{quote(job, safe='')}/results/{quote(uid)}")

    def beside(self, job: str, kind: str, film: int) -> bytes | None:
        """The report (JSON) or the overlay (PNG) of a job's film; None where it has none."""
        try:
            return self._call("GET", f"/jobs/{quote(job, safe='')}/{kind}?film={film}")
        except NodeRefuses as error:
            if error.status != 404:
                raise
            return None

    def stop(self) -> None:
        """Let a call in progress fail."""
        self._stopped = True
        sock = self._connection.sock if self._connection is not None else None
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        try:
            return dict(json.loads(self._call(method, path, data, "application/json")))
        except ValueError as error:
            raise NodeAway("something else than a dicom-ai-node answers at SpineNode.Url") from error

    def _call(self, method: str, path: str, body: bytes | None = None, kind: str = "") -> bytes:
        headers = {**self._headers, **({"Content-Type": kind} if body is not None else {})}
        status, data = self._exchange(method, self._path + path, body, headers)
        if status < 300:
            return data
        detail = _detail(data)
        if status in (401, 403) and not path.endswith("/paths"):
            raise NodeAway(f"the node refuses SpineNode.Token ({status}); set it as in the node's node.toml")
        if status in (502, 503, 504, 429):
            raise NodeAway(f"the node is not ready ({status}): {detail}")
        if status == 507:
            raise NodeAway(f"the node has no space (507): {detail}")
        raise NodeRefuses(status, detail)

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        if self._stopped:
            raise NodeAway("Orthanc is stopping")
        reused = self._connection is not None
        connection = self._connection = self._connection or self._open()
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            self._connection = None
            # A node may close a connection that was idle: only a fresh one that fails says something.
            if reused and not isinstance(error, TimeoutError):
                return self._exchange(method, path, body, headers)
            raise NodeAway(f"the node does not answer: {str(error) or type(error).__name__}") from error


def _detail(data: bytes) -> str:
    with contextlib.suppress(ValueError, AttributeError):
        problem = json.loads(data)
        return str(problem.get("detail") or problem.get("title") or "")[:500]
    return ""


# ----------------------------------------------------------------------------------------- the courier


class Courier:
    """The one thread that reads changes, hands series to the node and stores what comes back.

    Args:
        settings: the section of Orthanc's configuration.
        stable_age: seconds after which Orthanc calls a series stable.
    """

    def __init__(self, settings: Settings, stable_age: float) -> None:
        self.settings = settings
        self.archive = Archive(settings.FirstNumber)
        self.node = Node(settings)
        self.problem = ""
        """Why nothing can be done now; empty: the node answers."""
        self.last_error = ""
        self.node_version = ""
        self._stable_age = stable_age
        self._items: dict[str, Item] = {}
        self._asked: set[str] = set()
        self._lock = threading.Lock()
        self._position = 0
        self._kept_position = 0
        self._positions: deque[tuple[float, int]] = deque()
        self._kept: dict[str, Any] = {}
        self._kept_at = 0.0
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._pause = 0.0
        self._node_due = 0.0
        self._greeted_at = -1e9
        self._thread = threading.Thread(target=self._run, name="spine courier", daemon=True)

    # -- asked by callbacks: all of it returns at once

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End, and keep where we are."""
        self._stopping.set()
        self.node.stop()
        self._wake.set()
        self._thread.join(timeout=20)

    def wake(self) -> None:
        """Something has happened in Orthanc."""
        self._wake.set()

    def ask(self, series: list[str]) -> None:
        """A person wants these series analysed; kept before this returns."""
        with self._lock:
            self._asked.update(series)
        self._keep_journal()
        self._wake.set()

    def record(self, series: str) -> Record:
        """How the series stands now, with what it waits for."""
        item = self._items.get(series)
        # Read once, for the thread moves it on meanwhile.
        stage = item.stage if item else ""
        record = dataclasses.replace(item.record if item and stage != "sift" else self.archive.record(series))
        if series in self._asked or (item and (item.again or stage == "hand over")):
            record.state, record.reasons = "queued", []
        # One that is not sifted yet waits for nothing that the node would have to do.
        reason = (item.error if item else "") or (self.problem if stage in ("watch", "hand over") else "")
        if reason and record.state not in FINAL:
            record.reasons = [reason]
        return record

    def status(self) -> dict[str, Any]:
        """For the person who looks after it."""
        states: dict[str, int] = {}
        for item in list(self._items.values()):
            state = item.record.state if item.stage == "watch" else "queued"
            states[state] = states.get(state, 0) + 1
        wait = max(0.0, self._node_due - time.monotonic())
        return {
            "plugin_version": VERSION,
            "running": self._thread.is_alive(),
            "node": {
                "url": self.settings.Url,
                "version": self.node_version,
                "problem": self.problem or None,
                "next_attempt_in_seconds": round(wait, 1) if self.problem else None,
            },
            "queue": {"series": len(self._items) + len(self._asked), "states": states},
            "changes": {"read": self._position, "kept": self._kept_position},
            "last_error": self.last_error or None,
        }

    # -- the thread

    def _run(self) -> None:
        resumed = False
        while not self._stopping.is_set():
            self._wake.clear()
            pause = 5.0
            try:
                if not resumed:
                    self._resume()
                    self._keep_journal()
                    resumed = True
                self._read_changes()
                self._take_asked()
                item = self._next()
                if item is not None or time.monotonic() >= self._node_due:
                    self._attempt(item)
                pause = self._idle_seconds()
                if time.monotonic() - self._kept_at > 2.0:
                    self._keep_journal()
            # A fault in one turn must not end the thread; what was not done is done in the next.
            except Exception as error:
                self._say(f"fault: {type(error).__name__}: {error}")
            self._wake.wait(pause)
        if resumed:
            self._keep_journal()

    def _resume(self) -> None:
        """Go on where the last process stopped, however it stopped."""
        journal = self.archive.journal()
        for series, again in journal.get("open", {}).items():
            self._items[series] = Item(series, again=bool(again))
        since = journal.get("position")
        if since is None:
            since = 0 if self.settings.Existing else self.archive.last_change()
        self._position = self._kept_position = since
        touched, instances, last = set(), [], ""
        for change in self.archive.changes(since):
            self._position, last = change["Seq"], change["Date"]
            if change["ChangeType"] == "NewSeries":
                touched.add(change["ID"])
            elif change["ChangeType"] == "NewInstance":
                instances.append((change["Date"], change["ID"]))
            elif change["ChangeType"] == "StableSeries":
                touched.discard(change["ID"])
                self._offer(change["ID"])
        # Orthanc forgets in a restart what it had not yet called stable: series that were growing at the end.
        newest = _seconds(last) - 2 * self._stable_age - 10
        for date, instance in instances:
            if _seconds(date) >= newest:
                with contextlib.suppress(Gone):
                    touched.add(json.loads(self.archive.get(f"/instances/{instance}/series"))["ID"])
        for series in touched:
            if series not in self._items:
                self._offer(series, after=self._stable_age)

    def _read_changes(self) -> None:
        for change in self.archive.changes(self._position):
            self._position = change["Seq"]
            if change["ChangeType"] == "StableSeries":
                self._offer(change["ID"])
        # A position is kept once every series that was touched before it has been called stable.
        now = time.monotonic()
        if not self._positions or self._positions[-1][1] != self._position:
            self._positions.append((now, self._position))
        while self._positions and self._positions[0][0] < now - 2 * self._stable_age - 10:
            self._kept_position = self._positions.popleft()[1]

    def _take_asked(self) -> None:
        with self._lock:
            for series in self._asked:
                self._offer(series, again=True)
            self._asked.clear()

    def _revisit(self, state: Mapping[str, Any]) -> None:
        """The node has analysed a series again (a partner came): its record is no longer true."""
        series = self.archive.find(str(state["series_instance_uid"]))
        if series is None or series in self._items:
            return
        record = self.archive.record(series)
        if record.digest and (record.job, record.generation) != (state["job"], state["generation"]):
            item = self._items[series] = Item(series, stage="watch", uid=str(state["series_instance_uid"]))
            item.record = record

    def _offer(self, series: str, *, again: bool = False, after: float = 0.0) -> None:
        item = self._items.get(series) or Item(series)
        item.again = item.again or again
        item.stage, item.error, item.due = "sift", "", time.monotonic() + after
        self._items[series] = item

    def _next(self) -> Item | None:
        due = (item for item in self._items.values() if self._due(item) <= time.monotonic())
        return min(due, key=lambda item: (STAGES.index(item.stage), item.due), default=None)

    def _due(self, item: Item) -> float:
        return item.due if item.stage == "sift" else max(item.due, self._node_due)

    def _idle_seconds(self) -> float:
        due = min(map(self._due, self._items.values()), default=self._node_due)
        return min(5.0, max(0.0, due - time.monotonic())) if self._items or self.problem else 5.0

    def _attempt(self, item: Item | None) -> None:
        """One step for a series, or a look at the node."""
        try:
            if item is not None and item.stage == "sift":
                self._sift(item)
                return
            if self.problem or time.monotonic() > self._greeted_at + 30.0:
                self.node_version = self.node.version()
                self._greeted_at, self.problem, self._pause = time.monotonic(), "", 0.0
            if item is not None:
                (self._hand_over if item.stage == "hand over" else self._watch)(item)
                item.faults, item.error = 0, ""
        except NodeAway as error:
            self._wait_for_node(str(error), item)
        except Gone:
            # Deleted meanwhile, or a part of it: what is left tells.
            if item is not None and item.series not in self.archive:
                self._drop(item)
            elif item is not None:
                item.stage, item.due = "sift", time.monotonic() + 1.0
        # Whatever is wrong with one series, or with Orthanc's disk, must not end the thread.
        except Exception as error:
            if item is None:
                self._wait_for_node(str(error), None)
                return
            told = isinstance(error, (NodeRefuses, OSError))
            item.error = str(error) if told else f"{type(error).__name__}: {error}"
            self._say(item.error)
            item.faults += 1
            item.due = time.monotonic() + min(600.0, 2.0 * 2 ** min(item.faults, 9))

    def _wait_for_node(self, problem: str, item: Item | None) -> None:
        if self._stopping.is_set():
            return
        if problem != self.problem:
            self._say(problem)
        self.problem = problem
        self._pause = min(LONGEST_PAUSE_S, max(1.0, 2 * self._pause))
        self._node_due = time.monotonic() + self._pause
        if item is not None:
            # Another one is tried first next time, should it be this one that the node cannot stand.
            item.due = self._node_due + 1.0

    def _sift(self, item: Item) -> None:
        """Leave alone what is done, what the rules leave out and what the node has made."""
        series = self.archive.series(item.series)
        item.uid, item.record = series["MainDicomTags"]["SeriesInstanceUID"], self.archive.record(item.series)
        same = item.record.digest == _digest(series["Instances"])
        refused = refusal(self.settings, series["tags"])
        done = same and item.record.state in FINAL
        if (not item.again and (done or refused)) or self.archive.is_own(series):
            self._drop(item)
        else:
            item.stage = "hand over"
            if not same:
                item.record = Record("queued", version=item.record.version)
                self.archive.keep(item.series, item.record)

    def _hand_over(self, item: Item) -> None:
        instances, record = self.archive.series(item.series)["Instances"], item.record
        digest = _digest(instances)
        same = record.digest == digest
        known = self.node.series(item.uid)
        if known is None:
            item.sent.clear()
        if known is None or not same or known["instances"] < record.accepted:
            record.state, record.digest, record.reasons = "queued", "", []
            self.archive.keep(item.series, record)
            record.accepted, reasons = self._send(item, instances)
            if not record.accepted:
                record.state, record.reasons, record.digest = "failed", reasons, digest
                self.archive.keep(item.series, record)
                self._drop(item)
                return
            self.node.complete(item.uid)
        elif item.again and known["state"] in FINAL:
            record.after_generation = known["generation"]
            self.node.analyse(item.uid)
        record.state, record.digest, record.reasons = "waiting", digest, []
        self.archive.keep(item.series, record)
        item.again, item.stage, item.due = False, "watch", 0.0
        item.sent.clear()
        item.taken_up_at = time.monotonic()

    def _send(self, item: Item, instances: list[str]) -> tuple[int, list[str]]:
        """Send what was not sent before a pause; how many are there, and why the node refused others."""
        left = [instance for instance in instances if instance not in item.sent]
        if self.settings.SharedStorage:
            left = self._send_paths(item, left)
        refused: list[str] = []
        for instance in left:
            began = time.monotonic()
            try:
                self.node.send(self.archive.instance(instance))
                item.sent.add(instance)
            except NodeRefuses as error:
                # 400 unreadable, 413 too large, 415 of a kind that is not taken: true of this instance alone.
                if error.status not in (400, 413, 415):
                    raise
                refused.append(str(error))
            # Half of the time, so that whoever sends to Orthanc or asks it has the machine too.
            if self._stopping.wait(min(0.02, time.monotonic() - began)):
                raise NodeAway("Orthanc is stopping")
        return len(instances) - len(refused), sorted(set(refused))

    def _send_paths(self, item: Item, instances: list[str]) -> list[str]:
        """Name the files to the node; returns the instances that have to be sent."""
        paths = {instance: self.archive.path(instance, self.settings.SharedStorage) for instance in instances}
        there = [path for path in paths.values() if path is not None]
        try:
            refused = self.node.send_paths(there) if there else set()
        except NodeRefuses as error:
            self._say(f"{error}; instances are sent instead of SharedStorage's paths")
            return instances
        item.sent.update(name for name, path in paths.items() if path is not None and path not in refused)
        return [instance for instance in instances if instance not in item.sent]

    def _watch(self, item: Item) -> None:
        record, state = item.record, self.node.series(item.uid)
        if state is None:
            # The node has lost it, or it has expired there.
            item.record.digest, item.stage = "", "hand over"
            self.archive.keep(item.series, item.record)
            item.due = time.monotonic() + 2.0
            return
        final = ended = state["state"] in FINAL
        if ended and time.monotonic() - item.taken_up_at < STALE_S:
            later = record.after_generation is None or (state["generation"] or 0) > record.after_generation
            final = later and state["instances"] >= record.accepted
        shown = state["state"] if not ended else "delivering" if state["results"] else "waiting"
        # A glance a second each while they are few, twenty a second for all together.
        item.due = time.monotonic() + max(1.0, len(self._items) / 20.0)
        record.state, record.reasons = shown, list(state["reasons"])
        record.job, record.generation = state["job"], state["generation"]
        record.carried_by = state["carried_by"] if state["carried_by"] != item.uid else None
        self.archive.keep(item.series, record)
        if final:
            self._conclude(item, state)

    def _conclude(self, item: Item, state: Mapping[str, Any]) -> None:
        record, job = item.record, state["job"]
        ended = str(state["state"])
        if record.carried_by:
            carrier = self.node.series(record.carried_by)
            if carrier is None or carrier["state"] not in FINAL:
                return
            ended = str(carrier["state"])
            self._revisit(carrier)
        elif job:
            record.results = [self._fetch(item, job, result) for result in state["results"]]
            self._keep_films(item, job)
        record.state, record.version, record.after_generation = ended, self.node_version, None
        self.archive.keep(item.series, record)
        self._drop(item)

    def _keep_films(self, item: Item, job: str) -> None:
        """Report and overlay; those of every lateral film where the series has several."""
        told: list[str] = []
        while (report := self.node.beside(job, "report", len(told) + 1)) is not None:
            told.append(findings(report))
            self.archive.attach(item.series, "report", report, len(told))
            overlay = self.node.beside(job, "overlay", len(told))
            if overlay is not None:
                self.archive.attach(item.series, "overlay", overlay, len(told))
        item.record.films = len(told)
        if len(told) > 1:
            told = [f"film {film}: {words or 'nothing found'}" for film, words in enumerate(told, start=1)]
        item.record.findings = "; ".join(told)

    def _fetch(self, item: Item, job: str, result: Mapping[str, Any]) -> dict[str, Any]:
        data = self.node.result(job, str(result["sop_instance_uid"]))
        # A result must not bring back a study that was deleted meanwhile.
        study = self.archive.series(item.series)["ParentStudy"]
        stored = self.archive.store(data)
        self.archive.keep(stored["ParentSeries"], Record("result", job=job, version=self.node_version))
        if stored["ParentStudy"] != study:
            self._say(
                "a result lies in another study than its images; were identifiers of the patient changed?"
            )
        names = {name: result[name] for name in ("kind", "sop_instance_uid")}
        return {**names, "instance": stored["ID"], "series": stored["ParentSeries"]}

    def _drop(self, item: Item) -> None:
        self._items.pop(item.series, None)

    def _keep_journal(self) -> None:
        with self._lock:
            unfinished = {name: int(item.again) for name, item in list(self._items.items())}
            unfinished |= dict.fromkeys(self._asked, 1)
            journal = {"position": self._kept_position, "open": unfinished}
            if journal != self._kept:
                self.archive.keep_journal(journal)
                self._kept = journal
            self._kept_at = time.monotonic()

    def _say(self, text: str) -> None:
        self.last_error = text
        orthanc.LogWarning(f"spine node: {text}")


def _digest(instances: list[str]) -> str:
    return hashlib.sha256("\n".join(sorted(instances)).encode()).hexdigest()[:32]


def _seconds(date: str) -> float:
    """A date of Orthanc's list of changes."""
    with contextlib.suppress(ValueError):
        return time.mktime(time.strptime(date, "%Y%m%dT%H%M%S"))
    return 0.0


def findings(report: bytes) -> str:
    """A report in a line: which vertebrae were seen, and which of them are not as they should be."""
    with contextlib.suppress(ValueError, KeyError, TypeError, IndexError):
        vertebrae = json.loads(report)["vertebrae"]
        levels = [vertebra["level"] for vertebra in vertebrae]
        told = [f"{levels[0]} to {levels[-1]}" if len(levels) > 1 else levels[0]]
        for vertebra in vertebrae:
            grade, deformity = vertebra.get("genant_grade"), vertebra.get("deformity")
            if vertebra.get("fractured") or grade:
                words = [deformity if deformity != "none" else "", f"grade {grade}" if grade else ""]
                fracture = "fracture" if vertebra.get("fractured") else "height loss"
                told.append(
                    f"{vertebra['level']} {fracture} ({', '.join(filter(None, words)) or 'not graded'})"
                )
        return "; ".join(told)
    return ""


# ----------------------------------------------------------------------------------- a node of our own


class OwnNode:
    """A node as a child process: started with Orthanc, again when it ends, and stopped with Orthanc.

    Args:
        command: program and arguments.
        answers: whether a node is there already, such as one that outlived a killed Orthanc.
    """

    def __init__(self, command: list[str], answers: Callable[[], bool]) -> None:
        # The kernel ends the child also when Orthanc is killed.
        tied = ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []
        self._command = [*tied, *command]
        self._answers = answers
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep_running, name="spine child", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the child to end, and wait for it."""
        self._stopping.set()
        self._thread.join(timeout=40)

    def _keep_running(self) -> None:
        pause = 1.0
        while not self._stopping.is_set():
            if self._answers():
                self._stopping.wait(10.0)
                continue
            began = time.monotonic()
            try:
                self._run()
            except OSError as error:
                orthanc.LogError(f"spine node: SpineNode.Command cannot be run: {error}")
            pause = 1.0 if time.monotonic() - began > 60 else min(LONGEST_PAUSE_S, 2 * pause)
            self._stopping.wait(pause)

    def _run(self) -> None:
        child = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)  # noqa: S603 - the administrator's command
        while child.poll() is None and not self._stopping.wait(0.5):
            pass
        if child.returncode is None:
            child.terminate()
            try:
                child.wait(timeout=30)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        else:
            orthanc.LogError(
                f"spine node: the node has ended with code {child.returncode}; it is started again"
            )


# ------------------------------------------------------------------------------------------ the routes


class Routes:
    """`/spine/...`: all is answered from what Orthanc and the courier know; the node is not asked.

    Who may use them is decided by Orthanc before a request comes here.
    """

    def __init__(self, courier: Courier) -> None:
        self._courier = courier
        self._archive = courier.archive
        one = "/spine/(series|studies)/([0-9a-f-]+)"
        orthanc.RegisterRestCallback("/spine/status", _answering("GET", self._status))
        orthanc.RegisterRestCallback(one, _answering("GET", self._state))
        orthanc.RegisterRestCallback(f"{one}/analyse", _answering("POST", self._analyse))
        files = f"/spine/series/([0-9a-f-]+)/({'|'.join(ATTACHED)})"
        orthanc.RegisterRestCallback(files, _answering("GET", self._attachment, "film"))

    def _status(self) -> tuple[int, Any]:
        return 200, self._courier.status()

    def _state(self, kind: str, name: str) -> tuple[int, Any]:
        if kind == "series":
            return 200, self._series(name)
        found = [self._series(series) for series in self._archive.series_of(name)]
        states = [item["state"] for item in found]
        state = next((state for state in TELLING if state in states), "none")
        return 200, {"study": name, "state": state, "series": found}

    def _series(self, series: str) -> dict[str, Any]:
        found = self._archive.series(series)
        record = self._courier.record(series)
        if record.state == "none":
            reason = refusal(self._courier.settings, found["tags"])
            if reason:
                record.state, record.reasons = "not-offered", [reason]
        carrier = self._carrier(record) or series
        said = dataclasses.asdict(record)
        for key in ("digest", "accepted", "after_generation"):
            del said[key]
        for kind in ATTACHED:
            said[kind] = self._archive.attached(carrier, kind, "size") is not None
        uid = found["MainDicomTags"]["SeriesInstanceUID"]
        return {"series": series, "series_instance_uid": uid, "carrier": carrier, **said}

    def _carrier(self, record: Record) -> str | None:
        return self._archive.find(record.carried_by) if record.carried_by else None

    def _attachment(self, series: str, kind: str, film: str = "1") -> tuple[int, Any]:
        self._archive.get(f"/series/{series}")
        carrier = self._carrier(self._courier.record(series)) or series
        number = int(film) if re.fullmatch("[1-9][0-9]{0,3}", film) else 0
        # An earlier analysis may have left those of more films.
        if number == 1 or 1 < number <= self._courier.record(carrier).films:
            data = self._archive.attached(carrier, kind, film=number)
            if data is not None:
                return 200, data
        what = f"{kind} yet" if film == "1" else f"{kind} of a film {film}"
        return 404, {"reason": f"this series has no {what}"}

    def _analyse(self, kind: str, name: str) -> tuple[int, Any]:
        wanted, reasons = [], []
        for item in [name] if kind == "series" else self._archive.series_of(name):
            series = self._archive.series(item)
            # A person may ask for a series that the rules leave out; of a study the rules choose.
            if kind == "studies" and (reason := refusal(self._courier.settings, series["tags"])):
                reasons.append(reason)
            elif self._archive.is_own(series):
                reasons.append("a result of the node is not analysed")
            else:
                wanted.append(series["ID"])
        if not wanted:
            return 409, {"reason": "; ".join(sorted(set(reasons))) or "there is no series"}
        self._courier.ask(wanted)
        return 202, {"state": "queued", "series": wanted}


def _answering(method: str, answer: Callable[..., tuple[int, Any]], *asked: str) -> Callable[..., None]:
    """A callback of Orthanc's for a route that knows one method, and of what follows the `?` those names."""

    def callback(output: Any, _uri: str, **request: Any) -> None:
        if request["method"] != method:
            output.SendMethodNotAllowed(method)
            return
        try:
            named = {name: value for name, value in request.get("get", {}).items() if name in asked}
            status, said = answer(*request["groups"], **named)
        except Gone:
            status, said = 404, {"reason": "there is no such series or study"}
        if isinstance(said, bytes):
            kind = "image/png" if said.startswith(b"\x89PNG") else "application/json"
            output.AnswerBuffer(said, kind)
            return
        text = json.dumps(said, indent=1)
        if status == 200:
            output.AnswerBuffer(text, "application/json")
        else:
            output.SetHttpHeader("Content-Type", "application/json")
            output.SendHttpStatus(status, text, len(text))

    return callback


# ---------------------------------------------------------------------------------------- the Explorer


EXPLORER = r"""
(function () {
  'use strict';
  var BUSY = ['queued', 'receiving', 'waiting', 'analysing', 'delivering', 'retrying'];
  var WORDS = {
    'none': 'not analysed', 'not-offered': 'not offered', 'not-applicable': 'not a spine',
    'not-analysable': 'could not be judged', 'delivered': 'analysed', 'committed': 'analysed',
    'result': 'result of the node'
  };
  var COLOURS = {
    'delivered': '#1b7f3b', 'committed': '#1b7f3b', 'failed': '#b3261e', 'not-analysable': '#9a5b00',
    'result': '#5b4a8a'
  };
  var shown = null, due = 0;

  function badge(state) {
    var colour = COLOURS[state] || (BUSY.indexOf(state) >= 0 ? '#1f5fa8' : '#6b6b6b');
    return $('<span class="spine-badge">').attr('data-state', state)
      .text('Spine: ' + (WORDS[state] || state)).css({
        'background': colour, 'color': 'white', 'border-radius': '9px', 'padding': '2px 9px',
        'font-size': '11px', 'font-weight': 'bold', 'text-shadow': 'none', 'display': 'inline-block'
      });
  }

  function ask(path, then) {
    $.ajax({ url: '../spine/' + path, dataType: 'json', cache: false, success: then });
  }

  function link(content, icon, href) {
    return $('<li>').attr('data-icon', icon)
      .append($('<a target="_blank" rel="external">').attr('href', href).append(content));
  }

  function analyse(path) {
    return function (event) {
      event.preventDefault();
      $.ajax({
        url: '../spine/' + path + '/analyse', type: 'POST', data: '', dataType: 'json',
        success: function () { shown = null; },
        error: function (answer) {
          var reason = 'Orthanc refuses (' + answer.status + ')';
          try { reason = JSON.parse(answer.responseText).reason || reason; } catch (none) { /* no JSON */ }
          window.alert(reason);
        }
      });
    };
  }

  function panel(page, path, said) {
    var list = $('<ul data-role="listview" data-inset="true" data-theme="d" data-divider-theme="c">');
    var row = $('<li>').append(badge(said.state));
    var parts = said.series instanceof Array ? said.series : [said];
    list.addClass('spine-panel')
      .append($('<li data-role="list-divider">').text('Spine, for research use only'), row);
    if (said.state !== 'result') {
      list.append($('<li data-icon="refresh">').append(
        $('<a href="#" class="spine-analyse">').text('Analyse spine').click(analyse(path))));
    }
    parts.forEach(function (part) {
      var at = '../spine/series/' + part.carrier, told = part.findings || part.reasons.join('; ');
      if (part.carried_by) { told = 'read together with another series of this study'; }
      if (parts.length > 1 && ['result', 'not-offered', 'none'].indexOf(part.state) >= 0) { return; }
      if (told) { row.append($('<p>').text(told).css({ 'white-space': 'normal', 'margin': '5px 0 0 0' })); }
      if (parts.length > 1 && part.carried_by) { return; }
      for (var film = 1; film <= Math.max(part.films, 1); film += 1) {
        var which = '?film=' + film, name = part.films > 1 ? 'Film ' + film + ': ' : '';
        if (part.overlay) {
          list.append(link($('<div>').append($('<img>').attr('alt', name + 'Findings')
            .attr('src', at + '/overlay' + which).css({ 'max-width': '100%', 'max-height': '260px' })),
          'search', at + '/overlay' + which));
        }
        if (part.report) { list.append(link(name + 'Report (JSON)', 'info', at + '/report' + which)); }
      }
    });
    $(page + ' .spine-panel').remove();
    $(page + '-info').after(list);
    list.listview();
  }

  function mark(list, page, kind) {
    $(list + ' a[href*="' + page + '?uuid="]').each(function () {
      var place = $(this);
      if (place.data('spine')) { return; }
      place.data('spine', true);
      ask(kind + '/' + place.attr('href').split('uuid=')[1], function (said) {
        place.find('.spine-badge').remove();
        if (said.state !== 'none') { place.find('h3').first().append(' ', badge(said.state)); }
      });
    });
  }

  // Explorer fills its pages by itself, some time after it has shown them.
  window.setInterval(function () {
    var at = /(#study|#series|#patient)\?.*?uuid=([0-9a-f-]+)/.exec(window.location.hash);
    if (!at || document.hidden) { shown = null; return; }
    if (at[1] === '#patient') { mark('#list-studies', '#study', 'studies'); return; }
    mark('#list-series', '#series', 'series');
    var path = (at[1] === '#series' ? 'series/' : 'studies/') + at[2];
    if ($(at[1] + '-info li').length === 0 || (shown === path && Date.now() < due)) { return; }
    shown = path;
    due = Date.now() + 30000;
    ask(path, function (said) {
      if (shown !== path) { return; }
      panel(at[1], path, said);
      if (BUSY.indexOf(said.state) >= 0) { due = Date.now() + 2000; }
      $('#list-series a').data('spine', false);
    });
  }, 500);
}());
"""


# ------------------------------------------------------------------------------------------- the start


class Plugin:
    """All of it, from the start of Orthanc to its end."""

    def __init__(self) -> None:
        configuration = json.loads(orthanc.GetConfiguration())
        settings = Settings.of(configuration.get("SpineNode", {}))
        self._courier = Courier(settings, float(configuration.get("StableAge", 60)))
        self._own_node = OwnNode(settings.Command, lambda: _answers(settings)) if settings.Command else None
        Routes(self._courier)
        orthanc.ExtendOrthancExplorer(EXPLORER)

    def on_change(self, change: int, _level: int, _resource: str) -> None:
        """Orthanc's callback; returns at once, but for the end, where Orthanc waits for us."""
        if change == orthanc.ChangeType.STABLE_SERIES:
            self._courier.wake()
        elif change == orthanc.ChangeType.ORTHANC_STARTED:
            self._courier.start()
            if self._own_node is not None:
                self._own_node.start()
        elif change == orthanc.ChangeType.ORTHANC_STOPPED:
            self._courier.stop()
            if self._own_node is not None:
                self._own_node.stop()


def _answers(settings: Settings) -> bool:
    try:
        Node(settings).version()
    except NodeAway:
        return False
    except NodeRefuses:
        pass
    return True


def on_change(change: int, level: int, resource: str) -> None:
    """Tell the plugin what happened in Orthanc: for scripts that have Orthanc's only callback themselves."""
    if _plugin is not None:
        _plugin.on_change(change, level, resource)


def _start() -> Plugin | None:
    try:
        plugin = Plugin()
    except (SettingsError, OSError) as error:
        reason = str(error)
        # Orthanc itself must start; what is wrong is said in its log and at the status route.
        orthanc.LogError(f"spine node: switched off: {reason}")
        said = {"running": False, "last_error": reason}
        orthanc.RegisterRestCallback("/spine/status", _answering("GET", lambda: (200, said)))
        return None
    try:
        orthanc.RegisterOnChangeCallback(on_change)
    except orthanc.OrthancException:
        orthanc.LogWarning("spine node: another script has the callback; it must call spine_node.on_change")
    return plugin


_plugin = _start()

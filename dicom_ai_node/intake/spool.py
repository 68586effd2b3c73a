"""The journal on disk: what was received, byte for byte, under names that no UID can turn into a path.

    <root>/<study key>/<series key>/<instance key>.dcm        as received
    <root>/<study key>/<series key>/<instance key>.v2.dcm     other bytes that came later under the same UID
    <root>/<study key>/<series key>/complete.json             the sender's word that this is all

Keys are hashes of UIDs. A file appears under its final name only after its bytes are on the disk (temporary
file, fsync, link, fsync of the folder), and no file ever changes afterwards; so the folder alone tells what
was received, after a kill at any instant, and any number of processes may write to it without a lock. What
becomes of a series is the workflow's business; nothing about it is kept here.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import structlog

from dicom_ai_node.errors import NodeError, TransientError, UnreadableInstance
from dicom_ai_node.intake.announcement import Announcement, announce, announced, withdraw
from dicom_ai_node.intake.identity import HEADER_BYTES, InstanceIdentity, read_identity
from dicom_ai_node.intake.part10 import FileMeta, encode_file_meta, read_file, split_file

Outcome = Literal["new", "duplicate", "new-version"]

KEY_LENGTH: Final = 32
"""Hexadecimal digits of a key: 128 bits of SHA-256."""

_INSTANCE_NAME: Final = re.compile(rf"([0-9a-f]{{{KEY_LENGTH}}})(?:\.v([1-9][0-9]{{0,5}}))?\.dcm")
_KEY: Final = re.compile(rf"[0-9a-f]{{{KEY_LENGTH}}}")
_TEMPORARY_PREFIX: Final = ".receiving-"
_ABANDONED_AFTER_SECONDS: Final = 600.0
_RACY_SECONDS: Final = 2.0
_PIECE: Final = 1024 * 1024
_FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))

_log = structlog.get_logger(__name__)
_serial = itertools.count()


class SpoolFull(TransientError):
    """The disk has no room for another instance; the sender keeps it and tries again."""


def key_of(*uids: str) -> str:
    """The hash that stands for UIDs in file names and logs."""
    return hashlib.sha256("\0".join(uids).encode("utf-8", "surrogatepass")).hexdigest()[:KEY_LENGTH]


@dataclass(frozen=True)
class SpooledInstance:
    """One instance on the disk; `outcome` says whether it was there before."""

    path: Path
    study_key: str
    series_key: str
    sop_instance_uid: str
    outcome: Outcome


@dataclass(frozen=True)
class SpooledSeries:
    """All that has arrived of one series so far.

    Attributes:
        paths: one file per instance, the latest version of each, in the order of their names.
        superseded: earlier versions of instances that came again with other bytes.
        first_arrival, last_arrival: seconds since the epoch.
        generation: hash of the set of files; changes when, and only when, something new has arrived.
        calling_ae: who sent the first instance read, "" where unknown.
        announced: the sender said that these are all.
    """

    study_key: str
    series_key: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    calling_ae: str
    paths: tuple[Path, ...]
    superseded: tuple[Path, ...]
    first_arrival: float
    last_arrival: float
    generation: str
    announced: bool = False

    @property
    def count(self) -> int:
        """How many instances have arrived, versions of one instance counted once."""
        return len(self.paths)

    @property
    def folder(self) -> Path:
        """Where the files lie."""
        return self.paths[0].parent


@dataclass
class _Seen:
    """What an earlier look at a series folder found; valid as long as the folder's mtime stands."""

    folder_mtime_ns: int = -1
    arrivals: dict[str, float] = field(default_factory=dict)
    header: tuple[str, str, str, str] | None = None
    series: SpooledSeries | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class Spool:
    """The journal below one folder.

    Args:
        root: the folder; made where missing.
        minimum_free_bytes: `store` refuses while the disk has less than this free.
    """

    def __init__(self, root: Path, *, minimum_free_bytes: int = 0) -> None:
        self.root = root
        self.minimum_free_bytes = minimum_free_bytes
        root.mkdir(parents=True, exist_ok=True)
        self._durable_folders: set[Path] = set()
        self._seen: dict[Path, _Seen] = {}
        self._lock = threading.Lock()

    def store(
        self, data_set: bytes | memoryview, identity: InstanceIdentity, meta: FileMeta
    ) -> SpooledInstance:
        """Put one instance on the disk; when this returns, it survives a power cut.

        Args:
            data_set: the encoded data set exactly as received.
            identity: what `read_identity` found in it.
            meta: becomes the file meta information before it.

        Returns:
            Where it is. Bytes that are there already are a "duplicate" and nothing is written; other bytes
            under the same SOP Instance UID are kept beside the first as a "new-version".

        Raises:
            SpoolFull: less than `minimum_free_bytes` are free, or the disk filled up while writing.
        """
        study_key = key_of(identity.study_instance_uid)
        series_key = key_of(identity.study_instance_uid, identity.series_instance_uid)
        folder = self.root / study_key / series_key
        instance_key = key_of(identity.sop_instance_uid)
        self.require_room(len(data_set))
        while True:
            try:
                self._make_durable(folder)
                temporary = _write_temporary(folder, encode_file_meta(meta), data_set)
                try:
                    path, outcome = _publish(temporary, folder, instance_key, data_set)
                finally:
                    temporary.unlink(missing_ok=True)
                # also for a duplicate: another process may have linked it and not yet reached its own fsync
                _sync_folder(folder)
                break
            except FileNotFoundError:
                # the folder was expired between two steps
                self._durable_folders.discard(folder)
            except OSError as error:
                if error.errno in _FULL:
                    raise SpoolFull(self._full_text()) from error
                raise
        if outcome == "new-version":
            _log.warning("instance changed", study=study_key, series=series_key, file=path.name)
        return SpooledInstance(path, study_key, series_key, identity.sop_instance_uid, outcome)

    def store_file(self, path: Path, *, sending_ae_title: str = "") -> SpooledInstance:
        """Put a DICOM file into the journal as if it had been received.

        Raises:
            UnreadableInstance: no DICOM file, or one without the UIDs that place it.
            SpoolFull: see `store`.
        """
        meta, data_set = read_file(path)
        try:
            identity = read_identity(data_set, meta.transfer_syntax_uid)
        except UnreadableInstance as error:
            raise UnreadableInstance(f"{path}: {error}") from error
        return self.store(
            data_set,
            identity,
            FileMeta(
                identity.sop_class_uid,
                identity.sop_instance_uid,
                meta.transfer_syntax_uid,
                sending_ae_title or meta.sending_ae_title,
            ),
        )

    def series(self) -> Iterator[SpooledSeries]:
        """Every series with at least one instance, rebuilt from the folder alone."""
        present: set[Path] = set()
        for study in _folders(self.root):
            for folder in _folders(study):
                present.add(folder)
                found = self._look(folder)
                if found is not None:
                    yield found
        for gone in self._seen.keys() - present:
            self._seen.pop(gone, None)

    def find(self, study_key: str, series_key: str) -> SpooledSeries | None:
        """One series by its keys; None where nothing of it is in the journal."""
        if not (_KEY.fullmatch(study_key) and _KEY.fullmatch(series_key)):
            return None
        return self._look(self.root / study_key / series_key)

    def find_by_uid(self, series_instance_uid: str) -> SpooledSeries | None:
        """One series by its UID; where two studies have series of this UID, that which came last."""
        found = (item for item in self.series() if item.series_instance_uid == series_instance_uid)
        return max(found, key=lambda item: item.last_arrival, default=None)

    def announce(self, series: SpooledSeries, instances: int | None = None) -> None:
        """Keep the sender's word that nothing more will come of a series.

        Args:
            series: as it was when that was said.
            instances: how many there are in all, where the sender knows.

        Raises:
            SpoolFull: the disk has no room for it.
        """
        try:
            announce(series.folder, Announcement(series.generation, instances))
        except OSError as error:
            if error.errno in _FULL:
                raise SpoolFull(self._full_text()) from error
            raise

    def remove(self, series: SpooledSeries) -> None:
        """Delete exactly the files that `series` names; what has arrived since stays."""
        for path in (*series.paths, *series.superseded):
            path.unlink(missing_ok=True)
        withdraw(series.folder)
        for folder in (series.folder, series.folder.parent):
            try:
                folder.rmdir()
            except OSError:
                break

    def expire(
        self, keep_seconds: float, may_go: Callable[[SpooledSeries], bool], *, now: float | None = None
    ) -> list[SpooledSeries]:
        """Remove every series whose last instance is older than `keep_seconds` and that `may_go`."""
        deadline = (time.time() if now is None else now) - keep_seconds
        gone = [item for item in self.series() if item.last_arrival < deadline and may_go(item)]
        for item in gone:
            self.remove(item)
        return gone

    def sweep(self, *, now: float | None = None) -> int:
        """Delete temporary files that a killed receiver left behind; returns how many.

        Young ones stay, another process may be writing them.
        """
        deadline = (time.time() if now is None else now) - _ABANDONED_AFTER_SECONDS
        swept = 0
        for path in self.root.glob(f"*/*/{_TEMPORARY_PREFIX}*"):
            try:
                if path.stat().st_mtime < deadline:
                    path.unlink()
                    swept += 1
            except FileNotFoundError:
                continue
        return swept

    def free_bytes(self) -> int:
        """What the disk has left for the node."""
        return shutil.disk_usage(self.root).free

    def require_room(self, size: int) -> None:
        """See that so many bytes would leave enough of the disk free.

        Raises:
            SpoolFull: they would not.
        """
        if self.free_bytes() - size < self.minimum_free_bytes:
            raise SpoolFull(self._full_text())

    def _full_text(self) -> str:
        return (
            f"{self.root}: {self.free_bytes() // 1_000_000} MB free, "
            f"{self.minimum_free_bytes // 1_000_000} MB are kept free; make room, "
            "or lower [storage] minimum_free_mb or keep_days"
        )

    def _make_durable(self, folder: Path) -> None:
        if folder in self._durable_folders:
            return
        folder.mkdir(parents=True, exist_ok=True)
        for parent in (folder.parent, self.root, self.root.parent):
            _sync_folder(parent)
        if len(self._durable_folders) > 10_000:
            self._durable_folders.clear()
        self._durable_folders.add(folder)

    def _look(self, folder: Path) -> SpooledSeries | None:
        with self._lock:
            seen = self._seen.setdefault(folder, _Seen())
        with seen.lock:
            return self._look_again(folder, seen)

    def _look_again(self, folder: Path, seen: _Seen) -> SpooledSeries | None:
        looked = time.time_ns()
        try:
            folder_mtime_ns = folder.stat().st_mtime_ns
            if folder_mtime_ns == seen.folder_mtime_ns:
                return seen.series
            names = [entry.name for entry in os.scandir(folder) if _INSTANCE_NAME.fullmatch(entry.name)]
            # files never change, so each is looked at once
            arrivals = {
                name: seen.arrivals.get(name) or (folder / name).stat().st_mtime for name in sorted(names)
            }
        except (FileNotFoundError, NotADirectoryError):
            return None
        seen.arrivals = arrivals
        seen.series = self._describe(folder, seen) if arrivals else None
        # a folder touched within the clock's grain of this look may change again under the same mtime
        settled = looked - folder_mtime_ns > _RACY_SECONDS * 1e9
        seen.folder_mtime_ns = folder_mtime_ns if settled else -1
        return seen.series

    def _describe(self, folder: Path, seen: _Seen) -> SpooledSeries:
        if seen.header is None:
            seen.header = _first_header(folder, seen.arrivals)
        study_uid, series_uid, modality, calling_ae = seen.header or ("", "", "", "")
        latest: dict[str, tuple[int, str]] = {}
        for name in seen.arrivals:
            match = _INSTANCE_NAME.fullmatch(name)
            if match:
                version = (int(match[2] or 1), name)
                latest[match[1]] = max(latest.get(match[1], version), version)
        current = {name for _, name in latest.values()}
        generation, said = key_of(*seen.arrivals), announced(folder)
        return SpooledSeries(
            study_key=folder.parent.name,
            series_key=folder.name,
            study_instance_uid=study_uid,
            series_instance_uid=series_uid,
            modality=modality,
            calling_ae=calling_ae,
            paths=tuple(folder / name for name in seen.arrivals if name in current),
            superseded=tuple(folder / name for name in seen.arrivals if name not in current),
            first_arrival=min(seen.arrivals.values()),
            last_arrival=max(seen.arrivals.values()),
            generation=generation,
            announced=said is not None and said.covers(generation, len(current)),
        )


def _write_temporary(folder: Path, header: bytes, data_set: bytes | memoryview) -> Path:
    path = folder / f"{_TEMPORARY_PREFIX}{os.getpid()}-{next(_serial)}-{os.urandom(4).hex()}"
    try:
        with path.open("xb") as file:
            file.write(header)
            file.write(data_set)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def _publish(
    temporary: Path, folder: Path, instance_key: str, data_set: bytes | memoryview
) -> tuple[Path, Outcome]:
    """Give the file its final name; a link never replaces another file, as a rename would."""
    for version in range(1, 1_000_000):
        path = folder / (f"{instance_key}.dcm" if version == 1 else f"{instance_key}.v{version}.dcm")
        try:
            os.link(temporary, path)
        except FileExistsError:
            if _same_data_set(path, data_set):
                return path, "duplicate"
            continue
        return path, "new" if version == 1 else "new-version"
    raise NodeError(f"{folder}: an instance came in a million versions; look at its sender")


def _same_data_set(path: Path, data_set: bytes | memoryview) -> bool:
    """Whether the file holds these bytes; a piece at a time, for an enhanced CT is large."""
    with path.open("rb") as file, memoryview(data_set) as wanted:
        _, start = split_file(file.read(_PIECE), str(path))
        if os.fstat(file.fileno()).st_size - start != len(wanted):
            return False
        file.seek(start)
        return all(
            file.read(_PIECE) == wanted[place : place + _PIECE] for place in range(0, len(wanted), _PIECE)
        )


def _first_header(folder: Path, names: dict[str, float]) -> tuple[str, str, str, str] | None:
    for name in names:
        try:
            meta, data_set = read_file(folder / name, HEADER_BYTES)
            identity = read_identity(data_set, meta.transfer_syntax_uid)
        except UnreadableInstance as error:
            _log.error("spooled file unreadable", study=folder.parent.name, file=name, reason=str(error))
            continue
        return (
            identity.study_instance_uid,
            identity.series_instance_uid,
            identity.modality,
            meta.sending_ae_title,
        )
    return None


def _folders(parent: Path) -> list[Path]:
    try:
        return sorted(parent / entry.name for entry in os.scandir(parent) if _KEY.fullmatch(entry.name))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

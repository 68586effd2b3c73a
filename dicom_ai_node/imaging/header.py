"""Headers of DICOM files, read tolerantly, and values taken from them with errors that name file and tag.

Real archives hold files without preamble, with values that break their VR, and with elements cut short.
Nothing here warns about such values; whoever needs one asks for it, and gets an `UnreadableInstance` that
names the file, the tag and the way out where it is missing or unusable. Pixel data is left unread.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pydicom
from pydicom.datadict import dictionary_description, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicom_ai_node.errors import UnreadableInstance


def read_header(path: Path, tags: Sequence[str] | None = None) -> Dataset:
    """The data set of a DICOM file (PS3.10) up to, without, its pixel data.

    Args:
        path: a file with or without preamble and file meta information.
        tags: keywords of the attributes to keep; None keeps all. Fewer tags make a long series faster.

    Raises:
        UnreadableInstance: the file cannot be opened, is no DICOM instance, or ends inside its header.
    """
    header, _ = read_header_and_end(path, tags)
    return header


def read_header_and_end(path: Path, tags: Sequence[str] | None = None) -> tuple[Dataset, int]:
    """As `read_header`, and the byte of the file at which the pixel data element begins.

    The byte means nothing where the data set is deflated.
    """
    with reading_quietly():
        try:
            with path.open("rb") as file:
                header = pydicom.dcmread(
                    file,
                    stop_before_pixels=True,
                    force=True,
                    specific_tags=None if tags is None else list(tags),
                )
                end = file.tell()
            meta_class = header.file_meta.get("MediaStorageSOPClassUID")
            has_class = bool(meta_class) or bool(header.get("SOPClassUID"))
        except OSError as error:
            raise UnreadableInstance(f"{path.name}: the file cannot be opened ({error.strerror}).") from error
        except Exception as error:
            # pydicom lets struct, zlib, value, key, recursion and its own errors through for damaged bytes.
            raise UnreadableInstance(
                f"{path.name}: the header cannot be read ({_first_line(error)}). "
                "The file is damaged or cut short: send it again."
            ) from error
    if not has_class:
        raise UnreadableInstance(
            f"{path.name}: no DICOM instance, SOP Class UID (0008,0016) is missing. Send DICOM files only."
        )
    return header, end


def name_of(keyword: str) -> str:
    """An attribute as messages write it: ``Image Position (Patient) (0020,0032)``."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"{keyword!r} is no keyword of the DICOM dictionary")
    return f"{dictionary_description(tag)} {Tag(tag)}".replace(", ", ",")


def text(dataset: Dataset, keyword: str, path: Path) -> str | None:
    """A string value without padding, several values joined by a backslash; None where absent or empty.

    Raises:
        UnreadableInstance: the value cannot be converted at all.
    """
    value = _value(dataset, keyword, path)
    if value is None:
        return None
    joined = as_written(_several(value))
    return joined.strip(" \0") or None


def required_text(dataset: Dataset, keyword: str, path: Path) -> str:
    """As `text`, for what must be there.

    Raises:
        UnreadableInstance: absent, empty or unusable.
    """
    value = text(dataset, keyword, path)
    if value is None:
        raise UnreadableInstance(missing(keyword, path))
    return value


def numbers(dataset: Dataset, keyword: str, path: Path, count: int) -> tuple[float, ...] | None:
    """`count` finite numbers (DS, FD, IS, US ...); None where absent or empty.

    Raises:
        UnreadableInstance: another count of values, or one that is no finite number.
    """
    value = _value(dataset, keyword, path)
    if value is None or value == "":
        return None
    values = _several(value)
    if not values:
        return None
    try:
        found = tuple(float(str(item)) for item in values)
    except (TypeError, ValueError):
        found = ()
    if len(found) != count or not all(abs(item) < float("inf") for item in found):
        raise UnreadableInstance(
            f"{path.name}: {name_of(keyword)} is {as_written(values)}, "
            f"{count} finite number{'s' if count > 1 else ''} belong there. "
            "Correct the header at its source and send the image again."
        )
    return found


def number(dataset: Dataset, keyword: str, path: Path) -> float | None:
    """One finite number; None where absent or empty.

    Raises:
        UnreadableInstance: several values, or no finite number.
    """
    found = numbers(dataset, keyword, path, 1)
    return None if found is None else found[0]


def missing(keyword: str, path: Path) -> str:
    """The sentence for an attribute that is not there."""
    return (
        f"{path.name}: {name_of(keyword)} is missing. "
        "Send the images as the scanner made them, with their full header."
    )


def as_written(values: Iterable[object]) -> str:
    """Several values as DICOM separates them."""
    return "\\".join(str(value) for value in values)


def _several(value: object) -> list[object]:
    # pydicom's MultiValue is a sequence, but no list.
    return list(value) if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else [value]


def _value(dataset: Dataset, keyword: str, path: Path) -> object:
    try:
        return dataset.get(keyword)
    except Exception as error:
        # Elements are converted on first access, with whatever the conversion raises.
        raise UnreadableInstance(
            f"{path.name}: {name_of(keyword)} cannot be read ({_first_line(error)}). "
            "Correct the header at its source and send the image again."
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


_quiet_lock = threading.Lock()
_quiet_readers = 0
_quiet_stack: list[tuple[warnings.catch_warnings[None], int]] = []


@contextmanager
def reading_quietly() -> Iterator[None]:
    """Keeps pydicom from warning and logging about the values that it reads.

    Its messages quote the values (a patient's name among them), and real headers make thousands. Warning
    filters are state of the process, so the first reader of several threads sets them and the last resets.
    """
    global _quiet_readers  # noqa: PLW0603
    logger = logging.getLogger("pydicom")
    with _quiet_lock:
        if _quiet_readers == 0:
            catcher = warnings.catch_warnings()
            catcher.__enter__()
            warnings.simplefilter("ignore")
            _quiet_stack.append((catcher, logger.level))
            logger.setLevel(logging.CRITICAL + 1)
        _quiet_readers += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_readers -= 1
            if _quiet_readers == 0:
                catcher, level = _quiet_stack.pop()
                logger.setLevel(level)
                catcher.__exit__(None, None, None)

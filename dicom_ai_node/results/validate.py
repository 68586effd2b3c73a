"""`validate`: what is not valid does not leave. Own checks always; dciodvfy and dcmpschk where installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from dicom_ai_node.errors import EncodingError
from dicom_ai_node.imaging.header import reading_quietly
from dicom_ai_node.results.iod import problems, unresolved

TOOL_TIMEOUT_SECONDS: Final = 60.0

_COPIED_TAGS: Final = (
    "(0x0008,0x0050)",
    "(0x0008,0x1155)",
    "(0x0010,0x0010)",
    "(0x0010,0x0020)",
    "(0x0020,0x000d)",
    "(0x0020,0x000e)",
    "(0x0020,0x0052)",
    "(0x0040,0xa124)",
)
"""Names, numbers and UIDs of the source. An archive files by them, so they stay even where the sender broke
their VR; dciodvfy's word on them is no word on our object."""
_INVALID_VALUE: Final = "Error - Value invalid for this VR - "
_INVALID_VALUES: Final = "Error - Dicom dataset contains invalid data values"


class EncodedObject(Protocol):
    """One result object on disk, as `encode.ResultObject` is."""

    @property
    def kind(self) -> str:
        """What sort of result it is: "sr", "seg", "pr", "sc", "reformat"."""

    @property
    def path(self) -> Path:
        """Where it lies."""

    @property
    def sop_class_uid(self) -> str:
        """Its SOP Class UID."""

    @property
    def sop_instance_uid(self) -> str:
        """Its SOP Instance UID."""


def validate(objects: Sequence[EncodedObject]) -> None:
    """Checks the objects of one analysis, each by itself and together.

    Raises:
        EncodingError: something is not valid; the message has the validators' words, without patient data.
    """
    found = []
    datasets = []
    for item in objects:
        try:
            with reading_quietly():
                dataset = dcmread(item.path)
                for _ in dataset.iterall():
                    pass
        except (OSError, InvalidDicomError, ValueError, NotImplementedError) as error:
            found.append(f"{item.path.name} cannot be read back ({error})")
            continue
        if (dataset.SOPClassUID, dataset.SOPInstanceUID) != (item.sop_class_uid, item.sop_instance_uid):
            found.append(f"{item.path.name} holds another object than the one that was encoded")
        datasets.append(dataset)
        found.extend(problems(dataset))
        found.extend(f"{item.path.name}: {line}" for line in tool_complaints(item.path, item.kind))
    found.extend(unresolved(datasets))
    found = list(dict.fromkeys(found))
    if found:
        raise EncodingError(
            f"{len(found)} faults in the results, which are therefore not sent: {'; '.join(found[:10])}"
        )


def tool_complaints(path: Path, kind: str) -> Iterator[str]:
    """What dciodvfy, and dcmpschk for a presentation state, hold against a file; tools not installed say
    nothing.
    """
    dciodvfy = shutil.which("dciodvfy")
    if dciodvfy is not None:
        yield from (f"dciodvfy: {line}" for line in _errors(_run(dciodvfy, path)))
    dcmpschk = shutil.which("dcmpschk")
    if dcmpschk is not None and kind == "pr":
        yield from (f"dcmpschk: {line}" for line in _errors(_run(dcmpschk, path)))


def _errors(output: str) -> Iterator[str]:
    lines = [line.strip() for line in output.splitlines()]
    errors = [line for line in lines if line.startswith(("Error", "E:", "F:")) or "Test failed" in line]
    ours = [line for line in errors if not _about_the_source(line)]
    if any(line.startswith(_INVALID_VALUE) for line in ours):
        yield from map(_without_values, ours)
    else:
        yield from (_without_values(line) for line in ours if not line.startswith(_INVALID_VALUES))


def _about_the_source(line: str) -> bool:
    return line.startswith(_INVALID_VALUE) and line[len(_INVALID_VALUE) :].startswith(_COPIED_TAGS)


def _without_values(line: str) -> str:
    """The complaint without the value that it quotes, which may say who the patient is."""
    return re.sub(r"= <.*?>", "= <...>", line)


def _run(tool: str, path: Path) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - found on the PATH, one argument, no shell
            [tool, str(path)],
            capture_output=True,
            timeout=TOOL_TIMEOUT_SECONDS,
            check=False,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        return f"Error - no answer within {TOOL_TIMEOUT_SECONDS:.0f} s"
    output = done.stdout + done.stderr
    if done.returncode < 0:
        return f"{output}\nError - ended by signal {-done.returncode}"
    return output

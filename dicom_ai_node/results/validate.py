"""`validate`: what is not valid does not leave. Own checks always; dciodvfy and dcmpschk where installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from dicom_ai_node.errors import EncodingError
from dicom_ai_node.imaging.header import reading_quietly
from dicom_ai_node.results.iod import problems, unresolved
from dicom_ai_node.results.rendition import SEGMENTATION_SOP_CLASSES

TOOL_TIMEOUT_SECONDS: Final = 60.0
"""How long a validator may take for a small object."""

TOOL_SECONDS_PER_MB: Final = 10.0
"""And so much longer for a large one: dciodvfy's time grows with the frames of a segmentation, and on a busy
node it has less than a core."""

_COPIED_TAGS: Final = frozenset(
    {
        "(0008,0050)",
        "(0008,1155)",
        "(0010,0010)",
        "(0010,0020)",
        "(0020,000d)",
        "(0020,000e)",
        "(0020,0052)",
        "(0040,a124)",
    }
)
"""Names, numbers and UIDs of the source. An archive files by them, so they stay even where the sender broke
their VR; a validator's word on them is no word on our object."""
_UNKNOWN_CLASS: Final = (
    # Of a label map: the class is in no table; and its background has the number 0 (PS3.3 C.8.20.2).
    "Error - Information Object Not found",
    "Error - SegmentNumber not monotonically increasing from one by one",
    # Of a report that points at its segments.
    "Error - Shall not be present for Referenced SOP Class that is not segmentation - "
    "attribute <ReferencedSegmentNumber>",
)
"""What is said of a label map for want of its SOP class; dcmqi's label maps are told the same."""
_INVALID_VALUE: Final = "Error - Value invalid for this VR - "
_INVALID_VALUES: Final = "Error - Dicom dataset contains invalid data values"


class EncodedObject(Protocol):
    """One result object on disk, as `encode.ResultObject` is."""

    @property
    def kind(self) -> str:
        """What sort of result it is: "sr", "seg", "pr", "sc", "pdf", "reformat"."""

    @property
    def variant(self) -> str:
        """Which form of it (`rendition.Rendition`); empty where there is only one."""

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
    found: list[str] = []
    broken: list[str] = []
    datasets = []
    for item in objects:
        try:
            with reading_quietly():
                dataset = dcmread(item.path)
                for _ in dataset.iterall():
                    pass
        except (OSError, InvalidDicomError, ValueError, NotImplementedError) as error:
            broken.append(f"{item.path.name} cannot be read back ({error})")
            continue
        told = dataset.get("SOPClassUID"), dataset.get("SOPInstanceUID")
        if told != (item.sop_class_uid, item.sop_instance_uid):
            found.append(f"{item.path.name} holds another object than the one that was encoded")
        datasets.append(dataset)
        broken.extend(problems(dataset))
        found.extend(f"{item.path.name}: {line}" for line in tool_complaints(item.path, item.kind))
    # References are looked at by attributes that are there for certain once nothing is broken.
    found = list(dict.fromkeys([*broken, *found, *(() if broken else unresolved(datasets))]))
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
        with _inflated(path) as plain:
            output = _run(dciodvfy, plain)
        yield from (f"dciodvfy: {line}" for line in dciodvfy_errors(output, label_map=_about_label_map(path)))
    dcmpschk = shutil.which("dcmpschk")
    if dcmpschk is not None and kind == "pr":
        yield from (f"dcmpschk: {line}" for line in dcmpschk_errors(_run(dcmpschk, path)))


@contextmanager
def _inflated(path: Path) -> Iterator[Path]:
    """The file, or a copy of it that is not deflated: dciodvfy takes the deflated bytes for attributes."""
    if read_file_meta_info(path).TransferSyntaxUID != DeflatedExplicitVRLittleEndian:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder, reading_quietly():
        dataset = dcmread(path)
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.save_as(Path(folder) / path.name)
        yield Path(folder) / path.name


def _about_label_map(path: Path) -> bool:
    """Whether an object is a label map, or refers to one."""
    return SEGMENTATION_SOP_CLASSES["labelmap"].encode() in path.read_bytes()


def dciodvfy_errors(output: str, *, label_map: bool = False) -> list[str]:
    """The errors in what dciodvfy printed, but for those about values that the source brought along.

    Args:
        label_map: the object is a label map or refers to one; then those are left out too with which
            releases before 2024 meet that SOP class.
    """
    errors = [line.strip() for line in output.splitlines() if line.startswith("Error")]
    if label_map:
        errors = [line for line in errors if not line.startswith(_UNKNOWN_CLASS)]
    ours = [line for line in errors if not (line.startswith(_INVALID_VALUE) and _about_the_source(line))]
    if not any(line.startswith(_INVALID_VALUE) for line in ours):
        ours = [line for line in ours if not line.startswith(_INVALID_VALUES)]
    return [_without_values(line) for line in ours]


def dcmpschk_errors(output: str) -> list[str]:
    """The complaints in what dcmpschk printed, but for those about the source's values.

    It also fails a state without a patient's name or ID, which are type 2 and may be empty.
    """
    if "Test passed" in output:
        return []
    words: list[str] = []
    for complaint in re.split(r"^[EWFI]:\s*$", output, flags=re.MULTILINE):
        lines = [line[3:].strip() for line in complaint.splitlines() if line[:2] in {"E:", "W:", "F:"}]
        lines = [line for line in lines if not line.startswith(("Testing:", "Test failed")) and line != ""]
        lines = [line for line in lines if not re.match(r"patient\w+ absent or empty", line)]
        if lines and not _about_the_source(" ".join(lines)):
            words.append(" ".join(_without_values(line) for line in lines))
    # Neither passed nor a word on why: something else went wrong.
    return words if words or "Test failed" in output else [output.strip()[-200:] or "no answer"]


def _about_the_source(text: str) -> bool:
    plain = text.lower().replace("0x", "")
    tags = re.findall(r"\([0-9a-f]{4},[0-9a-f]{4}\)", plain)
    return bool(tags) and set(tags) <= _COPIED_TAGS


def _without_values(line: str) -> str:
    """The complaint without the value that it quotes, which may say who the patient is."""
    return re.sub(r"(= <|: \[|^.{2,16} \[)[^>\]]*[>\]]", r"\1...", line)


def _run(tool: str, path: Path) -> str:
    patience = TOOL_TIMEOUT_SECONDS + TOOL_SECONDS_PER_MB * path.stat().st_size / 1e6
    try:
        done = subprocess.run(  # noqa: S603 - found on the PATH, one argument, no shell
            [tool, str(path)],
            capture_output=True,
            timeout=patience,
            check=False,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        return f"Error - no answer within {patience:.0f} s"
    output = done.stdout + done.stderr
    if done.returncode < 0:
        return f"{output}\nError - ended by signal {-done.returncode}"
    return output

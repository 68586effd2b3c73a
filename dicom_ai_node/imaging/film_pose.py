"""How a patient lies in a radiograph, and the way between the film as it is stored and the film upright.

Upright means: head up, and in a lateral view the front of the body to the left. Half of all headers are
silent or wrong about it, so the image has the last word; what the header says is kept beside it.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicom_ai_node.imaging.header import text
from dicom_ai_node.report import Reason

View = Literal["lateral", "frontal", "oblique"]

# CID 4010 in SNOMED CT, and as SRT wrote it.
_LATERAL_CODES: Final = {"399067008", "399173006", "399198007", "R-102CD", "R-10232", "R-10236"}
_FRONTAL_CODES: Final = {"399348003", "272479007", "399033003", "R-10202", "R-10206", "R-10214", "R-40888"}
# Words of English, German, French, Spanish, Portuguese and Italian stations, without accents; then Japanese,
# Chinese and Korean, which have no spaces between words.
_OBLIQUE: Final = re.compile(r"\b(OBL|LAO|RAO|LPO|RPO|SCHRAG)|斜位", re.IGNORECASE)
_LATERAL: Final = re.compile(
    r"(^|[^A-Z])(LAT|LATER[A-Z]*|PROFIL|PROFILE|PROFILO|PERFIL|SEITLICH[A-Z]*|SEITL|SEITENBILD|SEITANSICHT"
    r"|SEITENANSICHT|SAG|SAGITTAL|LL|L[.-]L|RL|LLD|RLD|LLAT|RLAT)([^A-Z]|$)"
    r"|[側侧][面位]|측면|R ?(→|->) ?L|L ?(→|->) ?R",
    re.IGNORECASE,
)
_FRONTAL: Final = re.compile(
    r"(^|[^A-Z])(AP|PA|A[.-]P|P[.-]A|FRONTAL[A-Z]*|FACE|FRENTE|FRONTE|VON VORN|COR|CORONAL"
    r"|ANTERO[ -]?POST[A-Z]*|POSTERO[ -]?ANT[A-Z]*)([^A-Z]|$)"
    # 正側位 and its like name both views.
    r"|正[面位]|正(?=[側侧])|前[后後]位|[后後]前位|정면|전후|A ?(→|->) ?P|P ?(→|->) ?A",
    re.IGNORECASE,
)

_WORDS: Final[tuple[tuple[View, re.Pattern[str]], ...]] = (
    ("oblique", _OBLIQUE),
    ("lateral", _LATERAL),
    ("frontal", _FRONTAL),
)


@dataclass(frozen=True)
class FilmPose:
    """One of the eight ways in which a film may be stored: turned by quarters, mirrored or not.

    Attributes:
        quarters: how many quarter turns, counter-clockwise, bring the stored film upright.
        mirrored: whether it is mirrored left to right after that.
    """

    quarters: int = 0
    mirrored: bool = False

    def upright(self, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The film upright; a view of the array, shape (rows, columns)."""
        turned = np.rot90(stored, self.quarters)
        return turned[:, ::-1] if self.mirrored else turned

    def as_stored(
        self, points: npt.NDArray[np.floating[Any]], shape: tuple[int, int]
    ) -> npt.NDArray[np.float64]:
        """Points [row, column] of the upright film, shape (n, 2), in the film as stored.

        Args:
            points: integers are pixel centres.
            shape: (rows, columns) of the film as stored.
        """
        rows, columns = shape
        found = np.asarray(points, dtype=np.float64).copy()
        height, width = (rows, columns) if self.quarters % 2 == 0 else (columns, rows)
        if self.mirrored:
            found[:, 1] = width - 1 - found[:, 1]
        for _ in range(self.quarters % 4):
            # Back by a quarter, clockwise: the last row becomes the first column.
            found = np.stack([found[:, 1], height - 1 - found[:, 0]], axis=1)
            height, width = width, height
        return found

    def as_upright(
        self, points: npt.NDArray[np.floating[Any]], shape: tuple[int, int]
    ) -> npt.NDArray[np.float64]:
        """Points [row, column] of the film as stored in the upright film: the way back of `as_stored`."""
        rows, columns = shape
        found = np.asarray(points, dtype=np.float64).copy()
        for _ in range(self.quarters % 4):
            # A quarter counter-clockwise: the last column becomes the first row.
            found = np.stack([columns - 1 - found[:, 1], found[:, 0]], axis=1)
            rows, columns = columns, rows
        if self.mirrored:
            found[:, 1] = columns - 1 - found[:, 1]
        return found

    def image_as_stored(self, upright: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """An image of the upright film, such as a mask, in the film as stored."""
        turned = upright[:, ::-1] if self.mirrored else upright
        return np.ascontiguousarray(np.rot90(turned, -self.quarters))


ALL_POSES: Final = tuple(FilmPose(quarters, mirrored) for quarters in range(4) for mirrored in (False, True))


def pose_of(header: Dataset, path: Path) -> tuple[FilmPose | None, tuple[Reason, ...]]:
    """The pose that Patient Orientation (0020,0020) tells, where it tells one (PS3.3 C.7.6.1.1.1)."""
    said = text(header, "PatientOrientation", path)
    letters = [part.strip().upper()[:1] for part in (said or "").split("\\")]
    if len(letters) != 2 or not all(letters):
        return None, ()
    for pose in ALL_POSES:
        across, down = _directions_upright(pose, letters[0], letters[1])
        # A frontal film is never mirrored here: the patient's left stays where the station shows it.
        if down == "F" and (across == "P" or (across in {"L", "R"} and not pose.mirrored)):
            return pose, ()
    told = (
        f"Patient Orientation (0020,0020) says {said}, which is no view of an upright spine; not relied on."
    )
    return None, (Reason("orientation", told),)


_OPPOSITE: Final = {"L": "R", "R": "L", "A": "P", "P": "A", "H": "F", "F": "H"}


def _directions_upright(pose: FilmPose, across: str, down: str) -> tuple[str, str]:
    """Where columns and rows of the upright film run, given where they run as stored."""
    if across not in _OPPOSITE or down not in _OPPOSITE:
        return ("", "")
    for _ in range(pose.quarters % 4):
        # A quarter counter-clockwise: what ran down runs to the right, what ran to the right runs up.
        across, down = down, _OPPOSITE[across]
    return (_OPPOSITE[across] if pose.mirrored else across, down)


def said_view(header: Dataset) -> tuple[View | None, str]:
    """The view that a header tells, and the tag that told it: codes before words, image before study.

    Source: View Position (0018,5101), View Code Sequence (0054,0220) with CID 4010, Patient Orientation, and
    descriptions in the languages that stations are set to.
    """
    for item in header.get("ViewCodeSequence") or ():
        code = str(item.get("CodeValue", "")).strip()
        if code in _LATERAL_CODES:
            return "lateral", "View Code Sequence (0054,0220)"
        if code in _FRONTAL_CODES:
            return "frontal", "View Code Sequence (0054,0220)"
    for keyword in (
        "ViewPosition",
        "SeriesDescription",
        "ProtocolName",
        "AcquisitionDeviceProcessingDescription",
        "ImageComments",
        "StudyDescription",
    ):
        value = _plain(str(header.get(keyword) or "").strip().replace("_", " "))
        views: set[View] = {name for name, pattern in _WORDS if pattern.search(value)}
        # "AP and lateral" names the study's two views, not this image's.
        if len(views) == 1:
            return views.pop(), keyword
    across = str((header.get("PatientOrientation") or [""])[0])[:1].upper()
    down = str((header.get("PatientOrientation") or ["", ""])[-1])[:1].upper()
    sides = {across, down} - {"H", "F"}
    if sides and sides <= {"A", "P"}:
        return "lateral", "PatientOrientation"
    if sides and sides <= {"L", "R"}:
        return "frontal", "PatientOrientation"
    return None, ""


def _plain(words: str) -> str:
    """Without accents, and with full-width letters as narrow ones."""
    parts = unicodedata.normalize("NFKD", words)
    return unicodedata.normalize("NFKC", "".join(part for part in parts if not unicodedata.combining(part)))

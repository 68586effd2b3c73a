"""What dciodvfy says of correct objects, with the place in the standard that shows that it errs.

Everything else that it says, warning or error, is a complaint. Debian's dicom3tools are of 2022; their tables
are older than some of what they are shown.
"""

from __future__ import annotations

import re
from typing import Final

KNOWN: Final[dict[str, str]] = {
    r"Attribute is not present in standard DICOM IOD - \(0x0018,0x1002\) UI Device UID":
        "Device UID is an attribute of the items of Contributing Equipment Sequence (PS3.3 C.12.1, SOP "
        "Common Module).",
    r"Dicom dataset contains attributes not present in standard DICOM IOD":
        "Follows from Device UID, and on a film from the plane that PS3.3 table A.51-2 does not ask for: a "
        "Standard Extended SOP Class may have more attributes (PS3.2).",
    r"Unrecognized defined term <99DAINODE> for value 1 of attribute <Coding Scheme Designator>":
        "Designators that begin with 99 are private (PS3.3 8.2); the scheme is declared in Coding Scheme "
        "Identification Sequence (SOP Common Module, PS3.3 C.12.1).",
    r"Unrecognized defined term <[0-9.]+> for value 1 of attribute <Coding Scheme UID>":
        "A private scheme has a UID of its own (SOP Common Module, PS3.3 C.12.1).",
    r"Unrecognized defined term <REFORMATTED> for value 3 of attribute <Image Type>":
        "Value 3 of a CT's Image Type has defined terms (PS3.3 C.8.2.1.1.1): more are allowed (PS3.5 6.3).",
}  # fmt: skip
"""Pattern of a line without its level -> why it is wrong."""


def unexplained(lines: list[str]) -> list[str]:
    """The errors and warnings among dciodvfy's lines that no known false positive explains."""
    said = [line for line in lines if line.startswith(("Error", "Warning"))]
    return [line for line in said if not any(re.search(pattern, line) for pattern in KNOWN)]

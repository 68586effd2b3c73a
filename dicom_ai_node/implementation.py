"""What the node calls itself in file meta information and in association requests (PS3.7 section D.3.3.2)."""

from __future__ import annotations

from typing import Final

from dicom_ai_node import __version__

IMPLEMENTATION_CLASS_UID: Final = "2.25.42110075643564847158216962445226490179"
IMPLEMENTATION_VERSION_NAME: Final = f"DCMAINODE {__version__}"[:16]

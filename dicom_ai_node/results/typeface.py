"""The typeface of pages and pictures: DejaVu Sans, a free descendant of Bitstream Vera.

It comes with matplotlib and has umlauts, accents, Greek and Cyrillic letters, which Pillow's own typeface
lacks.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final

import matplotlib as mpl
from PIL import ImageFont

_FOLDER: Final = Path(mpl.get_data_path()) / "fonts" / "ttf"
PLAIN: Final = _FOLDER / "DejaVuSans.ttf"
BOLD: Final = _FOLDER / "DejaVuSans-Bold.ttf"


@lru_cache(maxsize=16)
def font(size: float) -> ImageFont.FreeTypeFont:
    """For pictures; `size` in pixels."""
    return ImageFont.truetype(str(PLAIN), size)

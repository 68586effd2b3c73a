"""Where pixels of an image stand on the screen, and which pixels of the screen have a colour.

A viewer fits an image into its viewport: as large as it will go, in the middle, its height and width in the
proportion of millimetres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tests.viewer.ohif import Picture

Mask = npt.NDArray[np.bool_]
Edges = tuple[float, float, float, float]
"""Top, bottom, left, right."""


@dataclass(frozen=True)
class Fitted:
    """An image in a viewport.

    Attributes:
        canvas: left, top, width, height of the viewport on the screen.
        shape: rows, columns of the image.
        spacing: height and width of a pixel of the image, in any unit.
    """

    canvas: tuple[float, float, float, float]
    shape: tuple[int, int]
    spacing: tuple[float, float] = (1.0, 1.0)

    @property
    def scale(self) -> tuple[float, float]:
        """Height and width of a pixel of the image in pixels of the screen."""
        _, _, width, height = self.canvas
        fit = min(height / (self.shape[0] * self.spacing[0]), width / (self.shape[1] * self.spacing[1]))
        return fit * self.spacing[0], fit * self.spacing[1]

    @property
    def corner(self) -> tuple[float, float]:
        """Row, column of the screen at which the image's first corner is."""
        left, top, width, height = self.canvas
        down, right = self.scale
        return top + (height - down * self.shape[0]) / 2, left + (width - right * self.shape[1]) / 2

    def edges(self, box: Edges) -> Edges:
        """A box in edges of image pixels, on the screen."""
        (y, x), (down, right) = self.corner, self.scale
        top, bottom, left, right_edge = box
        return y + down * top, y + down * bottom, x + right * left, x + right * right_edge

    def shown(self, mask: Mask, screen: tuple[int, int]) -> Mask:
        """Which pixels of the screen show the pixels of a mask."""
        (y, x), (down, right) = self.corner, self.scale
        rows = np.floor((np.arange(screen[0]) + 0.5 - y) / down).astype(int)
        columns = np.floor((np.arange(screen[1]) + 0.5 - x) / right).astype(int)
        inside = np.ix_((rows >= 0) & (rows < mask.shape[0]), (columns >= 0) & (columns < mask.shape[1]))
        seen = np.zeros(screen, bool)
        seen[inside] = mask[
            np.ix_(
                rows[(rows >= 0) & (rows < mask.shape[0])],
                columns[(columns >= 0) & (columns < mask.shape[1])],
            )
        ]
        return seen


def of_hue(picture: Picture, rgb: tuple[int, int, int], degrees: float = 6.0) -> Mask:
    """Pixels of that hue: a colour laid over grey keeps its hue, however transparent it is."""
    hue, saturation = _hue(picture)
    wanted = _hue(np.array([[rgb]], np.uint8))[0][0, 0]
    apart = np.abs((hue - wanted + 180) % 360 - 180)
    return (apart < degrees) & (saturation > 0.12)


def pure(picture: Picture) -> Mask:
    """Pixels in the colours in which the viewer draws measurements: yellow, and green for the chosen one."""
    red, green, blue = (picture[..., channel].astype(int) for channel in range(3))
    yellow = (red > 180) & (green > 180) & (blue < 50)
    return yellow | ((green > 180) & (red < 50) & (blue < 50))


def dice(first: Mask, second: Mask) -> float:
    """Overlap of two masks, 0 to 1."""
    return 2 * float((first & second).sum()) / max(1.0, float(first.sum() + second.sum()))


def middle(mask: Mask) -> npt.NDArray[np.float64]:
    """Mean row and column."""
    found: npt.NDArray[np.float64] = np.argwhere(mask).mean(axis=0)
    return found


def drawn_along(drawn: Mask, box: Edges, tolerance: float) -> float:
    """The share of a box's four edges beside which something is drawn, that of the worst edge."""
    top, bottom, left, right = box
    reach = int(np.ceil(tolerance))
    inset = 2 * reach
    down = np.arange(round(top) + inset, round(bottom) - inset)
    across = np.arange(round(left) + inset, round(right) - inset)
    shares = []
    for row in (top, bottom):
        band = drawn[round(row) - reach : round(row) + reach + 1][:, across]
        shares.append(float(band.any(axis=0).mean()))
    for column in (left, right):
        band = drawn[down][:, round(column) - reach : round(column) + reach + 1]
        shares.append(float(band.any(axis=1).mean()))
    return min(shares)


def _hue(picture: Picture) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Degrees and saturation of every pixel."""
    red, green, blue = (picture[..., channel].astype(np.float64) for channel in range(3))
    high, low = picture.max(axis=-1).astype(np.float64), picture.min(axis=-1).astype(np.float64)
    span = np.maximum(high - low, 1e-9)
    degrees = np.select(
        [high == red, high == green],
        [(green - blue) / span % 6, (blue - red) / span + 2],
        (red - green) / span + 4,
    )
    return 60 * degrees, (high - low) / np.maximum(high, 1)

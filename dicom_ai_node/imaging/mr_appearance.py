"""What sagittal MR images of a spine look like where their tags do not tell: is fat bright, is fluid bright.

Two simple statistics, no model. Fat: the layer under the skin of the back is the brightest of all tissues
wherever fat is not suppressed. Fluid: the canal stands out from the slices beside it, brighter where fluid is
bright and darker where it is not. Neither is asked for more than it can tell: a value between the bounds
says nothing, and the answer then stays "unsure". The bounds were set on six phantom studies: of their 18 T1,
T2 and STIR they decide 14, all of them rightly. Two real T1 are called so, the T2 beside them are left open.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_ai_node.imaging.mr_contrast import WATER_AND_FAT, MrIdentity, MrImageKind
from dicom_ai_node.imaging.mr_timing import Weighting

if TYPE_CHECKING:
    # Its module needs torch, which a receiver of images does without.
    from dicom_ai_node.imaging.resample import HasGrid

Array = npt.NDArray[np.float32]

_PIXEL_MM: Final = 2.0
_SKIN_MM: Final = 24.0
"""How deep under the skin of the back its fat is looked for."""
_BRIGHT_FAT: Final = 0.24
_DARK_FAT: Final = 0.08
"""Share of the brightest hundredths of the image that lies there."""
_BRIGHT_FLUID: Final = (0.40, -0.13)
"""At least so much brighter is the brightest path, and at most so much darker the darkest, where fluid is
bright; as shares of the bright tissues' signal."""
_DARK_FLUID: Final = (0.33, -0.15)
"""At most so much brighter, and at least so much darker, where it is dark."""
_BRIGHT_WITHOUT_FAT: Final = 0.8
"""Where fat is suppressed the canal is the brightest thing of all, or fluid is not bright."""
_ASIDE_MM: Final = 18.0
_CANAL_MM: Final = (20.0, 130.0)
"""How far aside the canal has ended, and how deep under the skin of the back it lies."""


@dataclass(frozen=True)
class Appearance:
    """What was seen; None where an image does not tell.

    Attributes:
        fat_share: of the brightest pixels, the share that lies under the skin of the back.
        bright_path, dark_path: mean signal above that of the slices beside it, as a share of the bright
            tissues' signal, of the path from head to feet where it is largest, and where it is least.
    """

    fat_share: float
    bright_path: float
    dark_path: float
    fat_bright: bool | None
    fluid_bright: bool | None


def appearance(volume: HasGrid) -> Appearance | None:
    """The look of a sagittal stack; None where it has too few slices or no patient in it.

    Args:
        volume: voxels of shape (slices, rows, columns) with their affine; slices sagittal.
    """
    image = _upright(volume)
    if image is None or image.shape[0] < 3:
        return None
    width_mm = float(np.linalg.norm(volume.affine[:3, 0]))
    top = float(np.percentile(image, 99.0))
    if top <= 0:
        return None
    inside = _patient(image, top)
    if inside.mean() < 0.2:
        return None
    depth = _depth_from_back(inside)
    middle = image.shape[0] // 2
    near = slice(max(0, middle - 1), middle + 2)
    bright = (image[near] >= np.percentile(image[near][inside[near]], 97.0)) & inside[near]
    fat_share = float((depth[near][bright] <= _SKIN_MM / _PIXEL_MM).mean()) if bright.any() else 0.0
    bright_path, dark_path = _canal_contrast(image, depth, width_mm)
    fat = True if fat_share >= _BRIGHT_FAT else False if fat_share <= _DARK_FAT else None
    fluid = None
    shining = bright_path >= _BRIGHT_FLUID[0] and dark_path >= _BRIGHT_FLUID[1]
    if bright_path <= _DARK_FLUID[0] and dark_path <= _DARK_FLUID[1]:
        fluid = False
    elif shining or (fat is False and bright_path >= _BRIGHT_WITHOUT_FAT):
        fluid = True
    return Appearance(fat_share, bright_path, dark_path, fat, fluid)


def decided_by_sight(identity: MrIdentity, volume: HasGrid) -> MrIdentity:
    """The identity after a look at the images; as it was where they do not decide."""
    seen = appearance(volume)
    if seen is None or seen.fat_bright is None or seen.fluid_bright is None:
        return replace(identity, reasons=(*identity.reasons, "the image does not decide"))
    kind, weighting, words = _SEEN[seen.fluid_bright, seen.fat_bright]
    reason = (
        f"the image: {words} (canal {seen.bright_path if seen.fluid_bright else seen.dark_path:+.2f} against "
        f"its sides, {seen.fat_share:.0%} of the brightest pixels under the skin of the back)"
    )
    both = identity.kind in WATER_AND_FAT
    if kind is None or (both and not seen.fat_bright):
        # Where an image of water and fat shows no fat it is not what it is said to be.
        return replace(identity, reasons=(*identity.reasons, reason))
    if both:
        # Which of the four images of a Dixon it is cannot be seen; what it is weighted by can.
        kind = identity.kind
    # What the image cannot show stays as the tags have it: how fat was suppressed, a contrast medium.
    if (kind, identity.kind) in {("stir", "t2-fs"), ("t1", "t1-contrast")}:
        kind = identity.kind
    return MrIdentity(
        kind=kind,
        weighting=weighting,
        certainty="likely",
        reasons=(reason,),
        disagreements=(*identity.reasons, *identity.disagreements),
    )


_SEEN: Final[dict[tuple[bool, bool], tuple[MrImageKind | None, Weighting | None, str]]] = {
    (True, True): ("t2", "T2", "fluid and fat are bright"),
    (True, False): ("stir", "T2", "fluid is bright, fat is dark"),
    (False, True): ("t1", "T1", "fat is bright, fluid is dark"),
    (False, False): (None, None, "neither fluid nor fat is bright"),
}


def _upright(volume: HasGrid) -> Array | None:
    """Slices, rows from head to feet, columns from front to back, pixels of about 2 mm; None if oblique."""
    steps = np.asarray(volume.affine)[:3, :3]
    rows, columns = steps[:, 1], steps[:, 2]
    image = np.asarray(volume.voxels, dtype=np.float32)
    if abs(rows[2]) < abs(rows[1]):
        image = image.swapaxes(1, 2)
        rows, columns = columns, rows
    if abs(rows[2]) < 0.7 * np.linalg.norm(rows) or abs(columns[1]) < 0.7 * np.linalg.norm(columns):
        return None
    if rows[2] > 0:
        image = image[:, ::-1]
    if columns[1] < 0:
        image = image[:, :, ::-1]
    blocks = [max(1, round(_PIXEL_MM / float(np.linalg.norm(step)))) for step in (rows, columns)]
    shape = [size // block for size, block in zip(image.shape[1:], blocks, strict=True)]
    cut = image[:, : shape[0] * blocks[0], : shape[1] * blocks[1]]
    small: Array = cut.reshape(len(cut), shape[0], blocks[0], shape[1], blocks[1]).mean(axis=(2, 4))
    return small


def _patient(image: Array, top: float) -> npt.NDArray[np.bool_]:
    """Where there is patient and no air: all between the first and the last pixel with signal of a row."""
    signal = ndimage.uniform_filter(image, size=(1, 5, 5)) > 0.07 * top
    from_front = np.maximum.accumulate(signal, axis=2)
    from_back = np.maximum.accumulate(signal[:, :, ::-1], axis=2)[:, :, ::-1]
    filled: npt.NDArray[np.bool_] = from_front & from_back
    return filled


def _depth_from_back(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.int_]:
    """Pixels between each pixel and the skin of the back in its row."""
    depth: npt.NDArray[np.int_] = np.cumsum(inside[:, :, ::-1], axis=2, dtype=np.int_)[:, :, ::-1]
    return depth


def _canal_contrast(image: Array, depth: npt.NDArray[np.int_], width_mm: float) -> tuple[float, float]:
    """Mean of the brightest and of the darkest path from head to feet in the middle against its sides.

    Of the tall things the canal alone is dark between brighter sides (foramina with their fat) where fluid is
    dark; where fluid is bright nothing is. The paths lie behind the bodies and before the skin.
    """
    middle = image.shape[0] // 2
    aside = max(1, round(_ASIDE_MM / width_mm))
    if middle - aside < 0 or middle + aside >= image.shape[0]:
        return 0.0, 0.0
    center = image[middle - 1 : middle + 2].max(axis=0) if width_mm < 3.0 else image[middle]
    sides = 0.5 * (image[middle - aside] + image[middle + aside])
    scale = float(np.percentile(center, 95.0))
    if scale <= 0:
        return 0.0, 0.0
    difference = ndimage.gaussian_filter((center - sides) / scale, (4.0, 1.5))
    reach = depth[middle]
    allowed = (reach >= _CANAL_MM[0] / _PIXEL_MM) & (reach <= _CANAL_MM[1] / _PIXEL_MM)
    rows = slice(len(difference) // 8, len(difference) - len(difference) // 8)
    return (
        _best_path(np.where(allowed, difference, -1.0)[rows]),
        -_best_path(np.where(allowed, -difference, -1.0)[rows]),
    )


def _best_path(values: npt.NDArray[np.floating]) -> float:
    """Largest mean along a path that takes one pixel of each row, and at most one column aside per row."""
    total = values[0].astype(np.float64)
    for row in values[1:]:
        padded = np.pad(total, 1, constant_values=-np.inf)
        total = row + np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
    return float(total.max()) / len(values)

"""What `evaluate ct-volume` and `evaluate mri` draw of each case: outlines found beside true ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from dicom_ai_node.anatomy import LEVELS, verse_label
from dicom_ai_node.imaging.nifti import turned_to
from dicom_ai_node.imaging.resample import SAGITTAL_AXES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from dicom_ai_node.imaging.volume import Volume

Labels = npt.NDArray[np.uint8]

SLICES: Final = 6
"""From the right end of the bodies to the left one: outlines go wrong at the ends."""

TRUE_COLOUR: Final = "lime"
FOUND_COLOUR: Final = "red"

_INCHES: Final = 3.0
"""Width of a slice."""

_MARGIN_MM: Final = 12.0
_LEVEL_OF: Final = {verse_label(level): level.value for level in LEVELS}


def draw_outlines(
    file: Path, volume: Volume, found: Labels, truth: Labels, window: tuple[float, float]
) -> None:
    """One picture of sagittal slices, with the outlines and names that are true (green) and found (red).

    Args:
        file: to write, named as the case; its folder is made.
        volume: the image; its axes may run in any order.
        found: VerSe labels on the volume's grid, 0 where nothing is.
        truth: the same; other values than those of levels are nobody's and not drawn.
        window: what is drawn black and white.
    """
    import matplotlib as mpl  # noqa: PLC0415 - only where plots are asked for

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the choice of the backend

    turned, affine = turned_to([volume.voxels, found, truth], volume.affine, SAGITTAL_AXES)
    image, found, truth = turned
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    marked = np.isin(found, list(_LEVEL_OF)) | np.isin(truth, list(_LEVEL_OF))
    window_of = _box(marked, spacing)
    low, high = window_of[0].start, window_of[0].stop - 1
    # A little inside of the ends: the very last slice of a body shows next to nothing.
    numbers = np.unique(np.rint(np.linspace(low, high, SLICES + 2)[1:-1]).astype(int))
    height, width = (
        (part.stop - part.start) * step
        for part, step in zip(window_of[1:], spacing[1:].tolist(), strict=True)
    )
    size = (_INCHES * len(numbers), _INCHES * height / width + 0.8)
    figure, axes = plt.subplots(1, len(numbers), figsize=size, layout="constrained", squeeze=False)
    for axis, number in zip(axes[0], numbers.tolist(), strict=True):
        part = (number, window_of[1], window_of[2])
        axis.imshow(
            image[part], cmap="gray", vmin=window[0], vmax=window[1], aspect=float(spacing[1] / spacing[2])
        )
        _outlined(axis, truth[part], TRUE_COLOUR, "left")
        _outlined(axis, found[part], FOUND_COLOUR, "right")
        axis.set(xticks=[], yticks=[])
        axis.set_title(f"slice {number + 1} of {len(image)}", fontsize=8)
    figure.suptitle(
        f"{file.stem}: true outlines green (names left), found ones red (names right)", fontsize=10
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _box(marked: npt.NDArray[np.bool_], spacing: npt.NDArray[Any]) -> tuple[slice, slice, slice]:
    """Where labels are, and a margin in the plane of the slices; everything where there are none."""
    if not marked.any():
        rows, columns = marked.shape[1:]
        return slice(0, len(marked)), slice(0, rows), slice(0, columns)
    ends = [(int(axis.min()), int(axis.max()) + 1) for axis in np.nonzero(marked)]
    margin = np.ceil(_MARGIN_MM / spacing[1:]).astype(int)
    rows, columns = (
        slice(max(0, start - more), min(length, stop + more))
        for (start, stop), more, length in zip(ends[1:], margin.tolist(), marked.shape[1:], strict=True)
    )
    return slice(*ends[0]), rows, columns


def _outlined(axis: Axes, labels: Labels, colour: str, side: str) -> None:
    for label in np.unique(labels).tolist():
        if label not in _LEVEL_OF:
            continue
        body = labels == label
        # An outline needs something outside of the body to run against.
        axis.contour(
            np.arange(-1, body.shape[1] + 1),
            np.arange(-1, body.shape[0] + 1),
            np.pad(body, 1).astype(float),
            levels=[0.5],
            colors=[colour],
            linewidths=0.8,
        )
        rows, columns = np.nonzero(body)
        column = columns.min() - 1 if side == "left" else columns.max() + 1
        axis.text(
            column,
            rows.mean(),
            _LEVEL_OF[label],
            color=colour,
            fontsize=6,
            ha="right" if side == "left" else "left",
            va="center",
            clip_on=True,
        )

"""Paint plain values of water and fat: for matter for which `Tissue` has no word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from torch import Tensor

from dicom_ai_node.phantom.painting_solids import Canvas, paint_solid
from dicom_ai_node.phantom.solids import Solid, Tube
from dicom_ai_node.phantom.spine import Spine, Vertebra
from dicom_ai_node.phantom.tissues import Marrow, Matter

Array = npt.NDArray[np.float64]
Direction = tuple[float, float, float]


class _OneValue:
    """A palette of one value."""

    def __init__(self, value: Tensor) -> None:
        self._value = value

    def tissue(self, matter: Matter) -> Tensor:  # noqa: ARG002
        return self._value

    def bone(self, density: Tensor | float, marrow: Marrow) -> Tensor:  # noqa: ARG002
        return self._value

    def grain(self, matter: Matter) -> float:  # noqa: ARG002
        return 0.0


def put(canvas: Canvas, solid: Solid, value: Tensor) -> None:
    """Cover a solid with a value of shape (2, 1, 1, 1)."""
    brush = Canvas(canvas.grid, canvas.value, _OneValue(value))
    brush.skin, brush.cavity = canvas.skin, canvas.cavity
    paint_solid(brush, replace(solid, matter=Matter()))


def put_tube(
    canvas: Canvas,
    path: Sequence[Array],
    radii: Sequence[float],
    value: Tensor,
    *,
    flat: float = 1.0,
    upright: Direction = (0.0, 0.0, 1.0),
) -> None:
    """Cover a tube (see `solids.Tube`) with a value."""
    put(canvas, Tube(np.array(path), np.array(radii), Matter(), flat=flat, upright=upright), value)


def at(vertebra: Vertebra, u: float, v: float, w: float) -> Array:
    """LPS mm of a point of a body's frame."""
    point: Array = (vertebra.frame @ np.array([u, v, w, 1.0]))[:3]
    return point


def leftwards(spine: Spine) -> Direction:
    """The spine's own left at its middle."""
    x, y, z = (float(value) for value in next(v for v in spine.vertebrae if v.level == "L3").frame[:3, 0])
    return x, y, z

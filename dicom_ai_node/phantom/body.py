"""The vertebral body as an implicit surface in its own frame, and the six points that lie on it.

The frame of a body: u to the patient's left, v to posterior, w to superior, millimetres, origin near the
body's centre. All corners are parameters of the surface, so the truth is exact by construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dicom_ai_node.genant import Heights

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BodyShape:
    """Parameters of one body, millimetres unless said otherwise.

    Attributes:
        front_upper, front_lower: v of the anterior rims (negative).
        back_upper, back_lower: v of the posterior rims at mid-sagittal (positive).
        half_width_upper, half_width_lower: u of the lateral rims.
        upper_front, upper_back, lower_front, lower_back: w of the four corners.
        dish_upper, dish_lower: depth of the endplates' concavity at half depth.
        dish_skew: how far the concavity's deepest point lies behind the middle (-1..1).
        dish_flatness: 0 for a bowl that begins at the rim, 1 for one with a broad flat rim.
        sag_upper, sag_lower: further depression of the anterior half of the endplates, as in fractures.
        step_upper: height of a step near the anterior rim, as where the cortex has buckled.
        lateral_upper, lateral_lower: slope of the endplates to the left (mm per mm).
        waist_width, waist_front, waist_back: narrowing at half height; negative bulges.
        wall_concavity: how far the posterior wall is hollowed towards the canal's middle.
        squareness: 0 for an elliptic outline, 1 for one with a fourth-power norm.
        buckle: how far the anterior wall is thrown forward below the upper rim, as in fresh fractures.
        irregularity: amplitude of an uneven surface of both endplates; `phase` makes it individual. It
            vanishes at the rims and at the middles of the endplates: the six points stay where they are.
        cupid: depth of the two hollows beside the midline in the back of the lower endplate (Cupid's bow).
        uncus: height of the lateral edges of the upper endplate (uncinate processes, C3-C7).
    """

    front_upper: float
    front_lower: float
    back_upper: float
    back_lower: float
    half_width_upper: float
    half_width_lower: float
    upper_front: float
    upper_back: float
    lower_front: float
    lower_back: float
    dish_upper: float
    dish_lower: float
    dish_skew: float = 0.0
    dish_flatness: float = 0.5
    sag_upper: float = 0.0
    sag_lower: float = 0.0
    step_upper: float = 0.0
    lateral_upper: float = 0.0
    lateral_lower: float = 0.0
    waist_width: float = 2.0
    waist_front: float = 1.5
    waist_back: float = 0.5
    wall_concavity: float = 1.5
    squareness: float = 0.3
    buckle: float = 0.0
    irregularity: float = 0.0
    phase: float = 0.0
    cupid: float = 0.0
    uncus: float = 0.0

    @property
    def extent(self) -> tuple[Array, Array]:
        """Lower and upper corner, shape (3,), of a box (u, v, w) that holds the body."""
        width = max(self.half_width_upper, self.half_width_lower) + max(0.0, -self.waist_width)
        slope = width * max(abs(self.lateral_upper), abs(self.lateral_lower))
        low = [
            -width,
            min(self.front_upper, self.front_lower) - max(0.0, -self.waist_front) - self.buckle,
            min(self.lower_front, self.lower_back) - slope - self.irregularity,
        ]
        high = [
            width,
            max(self.back_upper, self.back_lower)
            + max(0.0, -self.waist_back)
            + 3.0 * max(0.0, self.wall_concavity),
            max(self.upper_front, self.upper_back) + slope + self.irregularity + self.uncus,
        ]
        return np.array(low) - 1.0, np.array(high) + 1.0


class BodyField(NamedTuple):
    """Signed distances in mm (negative inside) from a body's walls, of one broadcast shape.

    The body is where all three are negative; `radial` runs from -1 at the axis to 0 at the wall.
    """

    side: Tensor
    upper: Tensor
    lower: Tensor

    @property
    def outside(self) -> Tensor:
        """Distance to the whole surface."""
        return torch.maximum(torch.maximum(self.side, self.upper), self.lower)

    def inside_shell(self, wall: float, endplate: float) -> Tensor:
        """Distance to the surface of the cancellous core under cortex of these thicknesses (mm)."""
        return torch.maximum(torch.maximum(self.side + wall, self.upper + endplate), self.lower + endplate)


def endplate(shape: BodyShape, u: Tensor, v: Tensor, *, upper: bool) -> Tensor:
    """W of the upper or the lower endplate over the points (u, v), any broadcastable shapes."""
    if upper:
        front, back, width = shape.front_upper, shape.back_upper, shape.half_width_upper
        at_front, at_back, slope = shape.upper_front, shape.upper_back, shape.lateral_upper
        dish, sag, step = -shape.dish_upper, -shape.sag_upper, shape.step_upper
    else:
        front, back, width = shape.front_lower, shape.back_lower, shape.half_width_lower
        at_front, at_back, slope = shape.lower_front, shape.lower_back, shape.lateral_lower
        dish, sag, step = shape.dish_lower, shape.sag_lower, 0.0
    s = ((v - front) / (back - front)).clamp(-0.1, 1.1)
    away = 2.0 * s - 1.0 - 0.25 * shape.dish_skew * (1.0 - (2.0 * s - 1.0) ** 2)
    normal = 1.0 - 0.0625 * shape.dish_skew**2
    bowl = ((1.0 - away**2 - (u / width) ** 2) / normal).clamp(min=0.0)
    soft = bowl * bowl * (3.0 - 2.0 * bowl)
    hollow = bowl + shape.dish_flatness * (soft - bowl)
    plate = at_front + (at_back - at_front) * s + slope * u + dish * hollow
    if sag:
        # Zero at both rims, deepest at a third of the depth: the anterior half gives way first.
        ramp = s.clamp(0.0, 1.0)
        plate = plate + sag * 6.75 * ramp * (1.0 - ramp) ** 2
    if step:
        plate = plate + step * torch.exp(-(((s - 0.14) / 0.07) ** 2)) * (s > 0.0)
    if shape.irregularity:
        plate = plate + shape.irregularity * _bumps(shape, u, v, 0.5 * (front + back), soft)
    if shape.cupid and not upper:
        beside = ((u / width).abs() - 0.42) / 0.15
        plate = plate + shape.cupid * torch.exp(-(beside**2) - ((s - 0.68) / 0.16) ** 2)
    if shape.uncus and upper:
        edge = (((u / width).abs() - 0.62) / 0.38).clamp(0.0, 1.0)
        plate = plate + shape.uncus * edge * edge * (3.0 - 2.0 * edge)
    return plate


def _bumps(shape: BodyShape, u: Tensor, v: Tensor, middle: float, window: Tensor) -> Tensor:
    # Waves of many directions and lengths (6 to 14 mm), so that no two bumps are alike; their value at the
    # middle is taken off, the window takes off the rims.
    def wave(left: Tensor, back: Tensor) -> Tensor:
        total = torch.zeros_like(left + back)
        for k, (across, along) in enumerate(
            ((0.45, 0.31), (-0.38, 0.57), (0.13, 0.83), (0.79, -0.49), (0.21, -1.09))
        ):
            total = total + torch.sin(across * left + along * back + (k + 1.0) * (shape.phase + 0.7 * k))
        return 0.5 * total

    flat = float(wave(torch.zeros(1, dtype=torch.float64), torch.tensor([middle], dtype=torch.float64)))
    return (wave(u, v) - flat) * window


def body_field(shape: BodyShape, u: Tensor, v: Tensor, w: Tensor) -> BodyField:
    """Signed distances at points of the body's frame (mm, broadcastable shapes)."""
    top = endplate(shape, u, v, upper=True)
    bottom = endplate(shape, u, v, upper=False)
    t = ((2.0 * w - top - bottom) / (top - bottom).clamp(min=0.5)).clamp(-1.0, 1.0)
    belly = 1.0 - t * t
    rise = 0.5 * (t + 1.0)
    front = shape.front_lower + (shape.front_upper - shape.front_lower) * rise + shape.waist_front * belly
    if shape.buckle:
        front = front - shape.buckle * torch.exp(-(((rise - 0.72) / 0.1) ** 2))
    back = shape.back_lower + (shape.back_upper - shape.back_lower) * rise - shape.waist_back * belly
    width = shape.half_width_lower + (shape.half_width_upper - shape.half_width_lower) * rise
    width = width - shape.waist_width * belly
    # An ellipse-like curve reaches behind the posterior wall, which cuts it: broadest behind the middle.
    reach = 0.60 * (back - front)
    dv = v - (front + reach)
    p, q = (u / width) ** 2, (dv / reach) ** 2
    norm = (1.0 - shape.squareness) * (p + q) + shape.squareness * torch.sqrt(p * p + q * q)
    radius = torch.sqrt(u * u + dv * dv + 1e-12)
    around = radius * (1.0 - torch.rsqrt(norm + 1e-9))
    wall = v - back - shape.wall_concavity * (u / (0.6 * width)) ** 2
    slant_upper = 1.0 / float(
        np.hypot(1.0, (shape.upper_back - shape.upper_front) / (shape.back_upper - shape.front_upper))
    )
    slant_lower = 1.0 / float(
        np.hypot(1.0, (shape.lower_back - shape.lower_front) / (shape.back_lower - shape.front_lower))
    )
    return BodyField(torch.maximum(around, wall), (w - top) * slant_upper, (bottom - w) * slant_lower)


def rim_points(shape: BodyShape, u: list[float], share: list[float], *, upper: bool) -> Array:
    """Points of an endplate, shape (n, 3), in the body's frame.

    Args:
        shape: the body.
        u: distances to the left of the mid-sagittal plane (mm).
        share: places along the depth, 0 at the anterior rim, 1 at the posterior one.
        upper: of which endplate.
    """
    front, back = (shape.front_upper, shape.back_upper) if upper else (shape.front_lower, shape.back_lower)
    left = torch.tensor(u, dtype=torch.float64)
    v = front + (back - front) * torch.tensor(share, dtype=torch.float64)
    points: Array = torch.stack([left, v, endplate(shape, left, v, upper=upper)], dim=1).numpy()
    return points


SAG_AT_HALF_DEPTH: Final = 6.75 * 0.5**3
"""What is left at half depth of a sag that is deepest at a third."""


def six_points(shape: BodyShape) -> Array:
    """Shape (6, 3): the six points in the body's frame, in the order of `report.SIX_POINT_NAMES`.

    At mid-sagittal the rims and the middle of an endplate are parameters of the shape.
    """
    upper_middle = 0.5 * (shape.upper_front + shape.upper_back) - shape.dish_upper
    lower_middle = 0.5 * (shape.lower_front + shape.lower_back) + shape.dish_lower
    return np.array(
        [
            [0.0, shape.front_upper, shape.upper_front],
            [0.0, shape.front_lower, shape.lower_front],
            [
                0.0,
                0.5 * (shape.front_upper + shape.back_upper),
                upper_middle - SAG_AT_HALF_DEPTH * shape.sag_upper,
            ],
            [
                0.0,
                0.5 * (shape.front_lower + shape.back_lower),
                lower_middle + SAG_AT_HALF_DEPTH * shape.sag_lower,
            ],
            [0.0, shape.back_upper, shape.upper_back],
            [0.0, shape.back_lower, shape.lower_back],
        ]
    )


def six_points_beside(shape: BodyShape, aside: float) -> Array:
    """Shape (6, 3): the six points in a sagittal plane beside the middle, in the body's frame.

    They are defined there as in the middle: where the outline meets an endplate in front and behind, and the
    endplates at half depth between these. An uneven endplate is followed, as its middle is no longer fixed.

    Args:
        shape: the body.
        aside: distance of the plane to the left (mm), negative to the right.

    Raises:
        ValueError: the plane passes beside an endplate.
    """
    points = []
    for upper in (True, False):
        front, back = _depth_beside(shape, aside, upper=upper)
        v = torch.tensor([front, 0.5 * (front + back), back], dtype=torch.float64)
        u = torch.full_like(v, aside)
        points.append(torch.stack([u, v, endplate(shape, u, v, upper=upper)], dim=1))
    answer: Array = torch.stack(points, dim=1).reshape(6, 3).numpy()
    return answer


def _depth_beside(shape: BodyShape, aside: float, *, upper: bool) -> tuple[float, float]:
    """V of the outline at an endplate (see `body_field`), in front and behind, in a sagittal plane."""
    front, back, width = (
        (shape.front_upper, shape.back_upper, shape.half_width_upper)
        if upper
        else (shape.front_lower, shape.back_lower, shape.half_width_lower)
    )
    share = (aside / width) ** 2
    if share >= 1.0:
        raise ValueError(f"a plane {aside:.1f} mm aside passes beside a body {2 * width:.1f} mm wide")
    reach, s = 0.60 * (back - front), shape.squareness
    # (1 - s)(p + q) + s sqrt(p^2 + q^2) = 1 for q, p being `share`: a quadratic equation of q.
    rest = 1.0 - (1.0 - s) * share
    a, b, c = (1.0 - s) ** 2 - s**2, -2.0 * (1.0 - s) * rest, rest**2 - s**2 * share**2
    root = c / -b if abs(a) < 1e-12 else (-b - np.sqrt(b * b - 4.0 * a * c)) / (2.0 * a)
    deep = reach * float(np.sqrt(root))
    wall = back + shape.wall_concavity * (aside / (0.6 * width)) ** 2
    return front + reach - deep, min(front + reach + deep, wall)


def heights(shape: BodyShape) -> Heights:
    """Distances of the three pairs of `six_points`."""
    return heights_of(six_points(shape))


def heights_of(points: Array) -> Heights:
    """Distances of the three pairs of six points, shape (6, 3), in millimetres."""
    return Heights(*(float(length) for length in np.linalg.norm(points[0::2] - points[1::2], axis=1)))

"""Healthy bodies of one person: sizes that hang together along the column, shapes with their own habits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom.body import BodyShape
from dicom_ai_node.phantom.column import Steps
from dicom_ai_node.phantom.morphometry import BODY_SIZES
from dicom_ai_node.phantom.randomness import around, between


def healthy_bodies(
    levels: Sequence[Level], steps: Steps, age: float, generator: np.random.Generator
) -> list[BodyShape]:
    """One body per level, head to tail, that fits between its neighbours; own losses stay below 18 %."""
    gap_above = np.concatenate([[steps.spacing[0]], steps.spacing])
    gap_below = np.concatenate([steps.spacing, [steps.spacing[-1]]])
    broad = steps.size * around(generator, 1.0, 0.05) * (1.0 + 0.0006 * (age - 50.0))
    deep = broad * around(generator, 1.0, 0.03)
    squareness, flatness = between(generator, 0.1, 0.5), between(generator, 0.2, 0.9)
    dishing = between(generator, 0.5, 1.5)
    shapes = []
    mean_gap = [BODY_SIZES[level].posterior_height for level in levels]
    local = (gap_above + gap_below) / 2
    relative = local / np.array(mean_gap)
    relative = relative / np.median(relative)
    for k, level in enumerate(levels):
        mean = BODY_SIZES[level]
        size = steps.size * float(np.clip(relative[k], 0.93, 1.07)) ** 0.4 * around(generator, 1.0, 0.015)
        posterior = mean.posterior_height * size
        if level is not Level.S1:
            posterior = min(posterior, 0.86 * float(local[k]))
        ratio = float(np.clip(mean.wedge_ratio + around(generator, 0.0, 0.025), 0.87, 1.15))
        if level is Level.S1:
            ratio = mean.wedge_ratio
        anterior = posterior * ratio
        widths = np.array([mean.upper_width, mean.lower_width]) * broad * around(generator, 1.0, 0.025) / 2
        depths = np.array([mean.upper_depth, mean.lower_depth]) * deep * around(generator, 1.0, 0.025)
        room = max(0.3, 0.5 * (0.83 * max(anterior, posterior) - 0.5 * (anterior + posterior)) * -1.0)
        dish = np.clip(mean.dish * dishing * generator.uniform(0.6, 1.4, 2), 0.2, room)
        middle_shift = around(generator, 0.0, 0.4)
        shapes.append(
            BodyShape(
                front_upper=-depths[0] / 2 + middle_shift,
                front_lower=-depths[1] / 2 - middle_shift,
                back_upper=depths[0] / 2 + middle_shift,
                back_lower=depths[1] / 2 - middle_shift,
                half_width_upper=widths[0],
                half_width_lower=widths[1],
                upper_front=anterior / 2,
                upper_back=posterior / 2,
                lower_front=-anterior / 2,
                lower_back=-posterior / 2,
                dish_upper=float(dish[0]) * 0.9,
                dish_lower=float(dish[1]),
                dish_skew=between(generator, -0.2, 0.8),
                dish_flatness=flatness,
                waist_width=widths[0] * between(generator, 0.08, 0.18),
                waist_front=depths[0] * between(generator, 0.04, 0.10),
                waist_back=between(generator, 1.0, 2.6)
                if level.region == "L"
                else between(generator, 0.5, 1.5),
                wall_concavity=between(generator, 0.8, 2.2)
                if level.region != "T"
                else between(generator, 0.5, 1.8),
                squareness=squareness,
            )
        )
    return shapes

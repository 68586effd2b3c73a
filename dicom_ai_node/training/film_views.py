"""Films of all views, for the network that tells a lateral spine from everything else."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom.radiograph import (
    RadiographAcquisition,
    render_radiograph,
    sample_radiograph_acquisition,
)
from dicom_ai_node.phantom.randomness import around, between, stream
from dicom_ai_node.phantom.spine import Spine, SpineOptions, sample_spine
from dicom_ai_node.training.films import Film, View

PIXELS: Final = 90_000
"""At most so many has a film: the view is told by the coarse picture."""

_KINDS: Final[tuple[View, ...]] = ("lateral-spine", "frontal-spine", "chest", "other")


def view_film(seed: int, *, training: bool = True) -> Film:
    """A film whose view goes in turn with the seed; it names no vertebrae.

    "other" is a pelvis, a hip from the side, or an abdomen beside the spine; further others are made of all
    films by turning them (`film_classify`).
    """
    view = _KINDS[seed % len(_KINDS)]
    spine = sample_spine(seed, options=SpineOptions(diseases="realistic", degeneration="realistic"))
    acquisition = _acquisition(seed, spine, view, training=training and seed % 3 != 0)
    made = render_radiograph(spine, acquisition)
    pixels = np.rint(made.shown * np.float32(65535)).astype(np.uint16)
    spacing = acquisition.pixel_mm / acquisition.magnification
    return Film(f"{seed:05d}", pixels, spacing, (), view)


def _acquisition(seed: int, spine: Spine, view: View, *, training: bool) -> RadiographAcquisition:
    generator = stream(seed, "view-film")
    lateral = view == "lateral-spine" or (view == "other" and generator.random() < 0.4)
    taken = sample_radiograph_acquisition(
        seed, spine, view="lateral" if lateral else "frontal", training=training, max_pixels=PIXELS
    )
    if view == "chest":
        middle = spine[Level.T7].frame[:3, 3] + np.array([0.0, -60.0, around(generator, 0.0, 15.0)])
        size = between(generator, 340.0, 430.0)
        return _aimed(taken, middle, size, size * between(generator, 0.85, 1.05), 1800.0)
    if view == "other":
        hip = spine[Level.S1].frame[:3, 3]
        beside = between(generator, 90.0, 150.0)
        if lateral:
            # A thigh, or the belly before the spine.
            away = [0.0, -60.0, -190.0] if generator.random() < 0.5 else [0.0, -beside - 40.0, 60.0]
        else:
            away = [0.0, -40.0, -110.0] if generator.random() < 0.6 else [beside, -40.0, 80.0]
        width = between(generator, 110.0, 170.0) if abs(away[0]) + abs(away[1]) > 80 else 330.0
        return _aimed(taken, hip + np.array(away), width * between(generator, 0.7, 1.2), width, 1150.0)
    return taken


def _aimed(
    taken: RadiographAcquisition,
    center: npt.NDArray[np.float64],
    height: float,
    width: float,
    distance: float,
) -> RadiographAcquisition:
    """The same exposure of another field; height and width in mm at the patient."""
    gap = taken.source_detector_mm - taken.source_object_mm
    scale = distance / (distance - gap)
    pixel = float(np.sqrt(height * width / PIXELS)) * scale
    rows, columns = int(height * scale / pixel), int(width * scale / pixel)
    return replace(
        taken,
        center=center,
        source_detector_mm=distance,
        source_object_mm=distance - gap,
        pixel_mm=pixel,
        matrix=(rows, columns),
        collimation=(0, rows, 0, columns),
        collimator_tilt=0.0,
    )

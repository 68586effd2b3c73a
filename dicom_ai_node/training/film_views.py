"""Films of all views, for the network that tells a lateral spine from everything else."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom.radiograph import (
    RadiographAcquisition,
    expose,
    render_radiograph,
    sample_radiograph_acquisition,
)
from dicom_ai_node.phantom.radiograph_thickness import Thickness
from dicom_ai_node.phantom.randomness import around, between, stream
from dicom_ai_node.phantom.spine import Spine, SpineOptions, sample_spine
from dicom_ai_node.training.films import Film, View

PIXELS: Final = 90_000
"""At most so many has a film: the view is told by the coarse picture."""

_KINDS: Final[tuple[View, ...]] = ("lateral-spine", "frontal-spine", "chest", "other")


def view_film(seed: int, *, training: bool = True) -> Film:
    """A film whose view goes in turn with the seed; it names no vertebrae.

    "other" is a limb, a pelvis, a hip from the side, or an abdomen beside the spine; further others are made
    of all films by turning them (`film_classify`).
    """
    view = _KINDS[seed % len(_KINDS)]
    limb = view == "other" and seed % 8 == 7
    spine = sample_spine(seed, options=SpineOptions(diseases="realistic", degeneration="realistic"))
    acquisition = _acquisition(seed, spine, view, training=training and seed % 3 != 0)
    if limb:
        passed = limb_thickness(seed, acquisition.matrix, acquisition.pixel_mm / acquisition.magnification)
        stored = expose(spine, acquisition, passed).numpy().astype(np.float32)
        shown = stored / np.float32((1 << acquisition.processing.bits) - 1)
        shown = np.float32(1) - shown if acquisition.processing.inverted else shown
    else:
        shown = render_radiograph(spine, acquisition).shown
    pixels = np.rint(shown * np.float32(65535)).astype(np.uint16)
    spacing = acquisition.pixel_mm / acquisition.magnification
    return Film(f"{seed:05d}", pixels, spacing, (), view)


def limb_thickness(seed: int, matrix: tuple[int, int], pixel_mm: float) -> Thickness:
    """Water and mineral in g/cm2 of an arm or a leg: one or two long bones with a joint, round throughout.

    Args:
        seed: of the limb.
        matrix: rows, columns of the film.
        pixel_mm: pixel edge at the limb.
    """
    generator = stream(seed, "limb")
    rows, columns = matrix
    angle = around(generator, 0.0, 0.35)
    row, column = np.meshgrid(np.arange(rows) - rows / 2, np.arange(columns) - columns / 2, indexing="ij")
    along = (row * np.cos(angle) + column * np.sin(angle)) * pixel_mm
    across = (column * np.cos(angle) - row * np.sin(angle)) * pixel_mm + around(generator, 0.0, 25.0)
    length = max(rows, columns) * pixel_mm
    joint = between(generator, -0.45, 0.45) * length
    width = between(generator, 28.0, 75.0) * (1.0 + 0.25 * np.tanh(along / (0.5 * length)))
    water = _chord(across, width)
    mineral = np.zeros(matrix)
    double = generator.random() < 0.5
    for place in (-0.33, 0.33) if double else (0.0,):
        radius = between(generator, 8.0, 17.0) * (0.7 if double else 1.0)
        # The shaft widens towards the joint, which lies between two ends of bone.
        beyond = np.abs(along - joint)
        outer = radius * (1.0 + 0.9 * np.exp(-((beyond / 28.0) ** 2)))
        outer = np.where(beyond < 2.5, 0.3, outer)
        cortex = np.clip(4.0 * (1.0 - np.exp(-((beyond / 40.0) ** 2))), 0.8, None)
        axis = across - place * width
        whole, core = _chord(axis, outer), _chord(axis, np.maximum(outer - cortex, 0.1))
        mineral += 0.11 * (whole - core) + 0.02 * core
    grams = [torch.from_numpy(part.astype(np.float32)) for part in (0.1 * water, mineral)]
    return Thickness(grams[0], grams[1])


def _chord(across: npt.NDArray[np.float64], radius: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Length in mm of a ray through a round rod, `across` mm from its axis."""
    found: npt.NDArray[np.float64] = 2.0 * np.sqrt(np.clip(radius**2 - across**2, 0.0, None))
    return found


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

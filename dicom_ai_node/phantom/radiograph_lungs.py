"""Vessels of the lungs, which a film shows and which cross the thoracic spine on it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dicom_ai_node.phantom.ground import PROFILE_COLUMNS, PROFILE_STEP_MM
from dicom_ai_node.phantom.randomness import between, stream
from dicom_ai_node.phantom.solids import Tube
from dicom_ai_node.phantom.tissues import Matter, Tissue
from dicom_ai_node.phantom.trunk import Trunk

Array = npt.NDArray[np.float64]

_TRUNKS = 14
"""First branches per lung; each has two of its own."""


def lung_vessels(trunk: Trunk) -> list[Tube]:
    """Branches from both hila, in patient LPS millimetres; the wall of the cavity cuts them off."""
    generator = stream(trunk.seed, "lung-vessels")
    floor = max(trunk.dome[0], trunk.dome[1])
    hilum = floor + 0.42 * (trunk.lung_top - floor)
    row = int(np.clip((hilum - trunk.bottom) / PROFILE_STEP_MM, 0, len(trunk.profile) - 1))
    here = dict(zip(PROFILE_COLUMNS, trunk.profile[row], strict=True))
    blood = Matter(Tissue.VEIN)
    out: list[Tube] = []
    for side in (1.0, -1.0):
        root = np.array([here["spine_x"] + side * 32.0, here["spine_y"] - 52.0, hilum])
        for _ in range(_TRUNKS):
            angle = between(generator, -1.25, 1.25)
            aside, upward = between(generator, 0.35, 1.0), between(generator, -1.3, 1.3)
            course = np.array([side * aside, 1.1 * np.sin(angle), upward])
            first = _branch(root, course, between(generator, 35.0, 60.0), generator)
            out.append(_tube(trunk, first, 3.2, 1.7, blood))
            for _ in range(2):
                bent = course / np.linalg.norm(course) + generator.normal(0.0, 0.4, 3)
                second = _branch(first[-1], bent, between(generator, 30.0, 60.0), generator)
                out.append(_tube(trunk, second, 1.8, 0.7, blood))
    return out


def _branch(start: Array, course: Array, length: float, generator: np.random.Generator) -> Array:
    along = course / np.linalg.norm(course)
    bow = generator.normal(0.0, 0.06 * length, 3)
    share = np.linspace(0.0, 1.0, 4)[:, None]
    path: Array = start + share * length * along + 4.0 * share * (1.0 - share) * bow
    return path


def _tube(trunk: Trunk, path: Array, first: float, last: float, blood: Matter) -> Tube:
    points = path @ trunk.frame[:3, :3].T + trunk.frame[:3, 3]
    # Below the diaphragm there is no lung: a vessel runs along it.
    lowest = trunk.frame[2, 3] + max(trunk.dome[0], trunk.dome[1]) - 12.0
    points[:, 2] = np.maximum(points[:, 2], lowest)
    return Tube(points, np.linspace(first, last, len(points)), blood, within="cavity")

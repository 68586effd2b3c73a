"""Drawn vertebrae on paired series: what is malignant is plain to see."""

from __future__ import annotations

import numpy as np

from dicom_ai_node.anatomy import Level
from dicom_ai_node.networks.mri_classes import FEATURES
from dicom_ai_node.training.mri_crops import Kind, MrExample


def drawn_example(patient: str, kind: Kind, level: Level = Level.L1, edge: int = 32) -> MrExample:
    """A body of 12 x 16 pixels in three of five slices; a malignant one is dark in T1 and bright in T2."""
    generator = np.random.default_rng(int(patient))
    images = generator.integers(90, 110, (3, 5, edge, edge)).astype(np.uint8)
    middle = edge // 2
    rows, columns = slice(middle - 6, middle + 6), slice(middle - 8, middle + 8)
    ill = kind == "malignant"
    for series, value in enumerate((30 if ill else 180, 200 if ill else 130, 220 if ill else 60)):
        images[series, 1:4, rows, columns] = value
    features = np.zeros(len(FEATURES), dtype=np.float32)
    features[FEATURES.index("diffuse_change")] = float(ill)
    features[FEATURES.index("skip_lesion")] = np.nan
    return MrExample(
        patient=patient,
        level=level,
        kind=kind,
        features=features,
        images=images,
        pixel_mm=1.5,
        step_mm=4.0,
        box=np.array([middle - 6.0, middle - 8.0, middle + 5.0, middle + 7.0]),
        slices=(1, 2, 3),
        lesion_slices=(2,) if ill else (1, 2, 3),
    )


def drawn_patients(count: int) -> list[MrExample]:
    """So many patients, every second one malignant, with a healthy vertebra each."""
    examples = []
    for number in range(count):
        name = f"{number:03d}"
        examples.append(drawn_example(name, "malignant" if number % 2 else "old"))
        examples.append(drawn_example(name, "healthy", Level.L4))
    return examples

"""Whether a pipeline says the same whatever computes it: processor or GPU, float32 or half precision.

The processor in float32 is what the others are held against: same levels, same grades, six points at most
`AGREED_MM` apart. Without a GPU half precision on the processor (bfloat16, coarser than a GPU's float16) is
all that is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, Self, TypeVar

import numpy as np
import torch

from dicom_ai_node.commands.ct_volume_answers import volume_of_phantom
from dicom_ai_node.commands.evaluate_radiograph import realistic_film
from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.imaging.radiograph import Radiograph
from dicom_ai_node.imaging.volume import Volume
from dicom_ai_node.phantom import render_ct, sample_ct_acquisition, sample_spine
from dicom_ai_node.pipelines.ct_volume import CtVolumePipeline
from dicom_ai_node.pipelines.radiograph import RadiographPipeline
from dicom_ai_node.report import Analysis, SpineReport

AGREED_MM: Final = 0.3
"""Two answers agree on a point that lies no further apart than this."""

Values = dict[str, list[float]]
Answer = tuple[list[Mapping[str, Sequence[float]]], dict[str, Any]]
"""Rows per phantom, as `agreement` gives them for each way, and what all of them were held against."""

Image = TypeVar("Image")
Image_contra = TypeVar("Image_contra", contravariant=True)


class Pipeline(Protocol[Image_contra]):
    """What can be computed in several ways."""

    def analyse(self, image: Image_contra, /) -> Analysis:
        """What it says of an image."""

    def in_half(self) -> Self:
        """The same in half precision."""

    def in_graphs(self) -> Self:
        """The same, its kernels launched at once on a GPU."""


def ct_volumes(models: Path, seeds: Iterable[int], say: Callable[[str], None]) -> Answer:
    """CT volumes of phantoms.

    Args:
        models: folder of the bundles.
        seeds: of the phantoms.
        say: gets a line per phantom and way.

    Raises:
        ModelError: a bundle is missing or was changed.
    """

    def volume(seed: int) -> tuple[Volume, float]:
        spine = sample_spine(seed)
        # Its points are told in millimetres.
        return volume_of_phantom(render_ct(spine, sample_ct_acquisition(seed, spine))), 1.0

    return _compared(lambda device: CtVolumePipeline.load(models, device), volume, seeds, say)


def radiographs(models: Path, seeds: Iterable[int], say: Callable[[str], None]) -> Answer:
    """Lateral films of phantoms; as `ct_volumes`."""

    def film(seed: int) -> tuple[Radiograph, float]:
        shown = realistic_film(seed)
        assert shown.spacing is not None
        return shown, shown.spacing.rows_mm

    return _compared(lambda device: RadiographPipeline.load(models, device), film, seeds, say)


def ways(load: Callable[[torch.device], Pipeline[Image]]) -> dict[str, Pipeline[Image]]:
    """The pipeline in every way that this machine can compute it, by name; the first is the reference.

    Args:
        load: the pipeline for a device. Each has bundles of its own: a network is moved to a device, not
            copied.
    """
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    found = {device: load(torch.device(device)) for device in devices}
    found |= {f"{device}_half": found[device].in_half() for device in devices}
    # As the node runs them by default; on a processor a graph changes nothing.
    return found | {f"{name}_graphs": way.in_graphs() for name, way in found.items() if "cuda" in name}


def _compared(
    load: Callable[[torch.device], Pipeline[Image]],
    phantom: Callable[[int], tuple[Image, float]],
    seeds: Iterable[int],
    say: Callable[[str], None],
) -> Answer:
    (reference, first), *others = ways(load).items()
    rows: list[Mapping[str, Sequence[float]]] = []
    for seed in seeds:
        image, unit_mm = phantom(seed)
        expected = _report(first, image)
        row: Values = {}
        for name, pipeline in others:
            found = agreement(expected, _report(pipeline, image), unit_mm)
            row |= {f"{name}_{what}": values for what, values in found.items()}
            far = max(found["point_mm"], default=0.0)
            same = "same levels" if found["levels_same"][0] else "other levels"
            say(f"phantom {seed}, {name}: {same}, points at most {far:.2f} mm apart")
        rows.append(row)
    return rows, {"held_against": f"{reference}, float32", "agreed_mm": AGREED_MM}


def agreement(expected: SpineReport | None, found: SpineReport | None, unit_mm: float = 1.0) -> Values:
    """How one report differs from another of the same image.

    Args:
        expected: None where the image was refused.
        found: likewise.
        unit_mm: of the points' places.

    Returns:
        `levels_same` (of the whole report), and per vertebra that both have: `grade_same`, `point_mm` (the
        largest distance of its six points), `points_agree`. A vertebra that only one has measured counts as
        one that does not agree.
    """
    ours = {} if expected is None else {item.level: item for item in expected}
    theirs = {} if found is None else {item.level: item for item in found}
    values: Values = {
        "levels_same": [float((expected is None) == (found is None) and list(ours) == list(theirs))],
        "grade_same": [],
        "point_mm": [],
        "points_agree": [],
    }
    for level in ours.keys() & theirs.keys():
        one, other = ours[level], theirs[level]
        values["grade_same"].append(float(one.genant_grade == other.genant_grade))
        if one.six_points is None and other.six_points is None:
            continue
        if one.six_points is None or other.six_points is None:
            values["points_agree"].append(0.0)
            continue
        between = unit_mm * (one.six_points.to_array() - other.six_points.to_array())
        apart = np.linalg.norm(between, axis=1)
        values["point_mm"].append(float(apart.max()))
        values["points_agree"].append(float(apart.max() <= AGREED_MM))
    return values


def _report(pipeline: Pipeline[Image], image: Image) -> SpineReport | None:
    try:
        return pipeline.analyse(image).report
    except NotAnalysable:
        return None

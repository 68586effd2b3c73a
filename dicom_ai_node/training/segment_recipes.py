"""The recipes of ct-segment: P3's U-Net as published, and the small one that two processor cores can train.

Published (P3 sections 2.1, 2.3 and 3.2, table 1): crops of 128^3 voxels of 1 mm about each vertebra, values
cut off at -2048 and 8192 HU, a Gaussian filter, standard score over the image; turned, mirrored and moved;
three labels, every vertebra as often as any other; Dice and cross-entropy (eq. 13) alone; SGD at 1e-4 that
falls on a plateau, an L2 term of 5e-4 (printed as 5^-4), gradients clipped at 2, four crops a step, 30,000
steps (``--steps 30000``). The vertebra that is meant is the one in the middle: nothing else tells. How many
features the U-Net has P3 does not say, nor how wide the filter is: it is that of `localise_recipes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from dicom_ai_node.training.augment import Intensity, Pose
from dicom_ai_node.training.published_loop import PUBLISHED_LOOP
from dicom_ai_node.training.segment import SegmentOptions, SegmentTask
from dicom_ai_node.training.tasks import RECIPES, TaskRecipe

_PUBLISHED: Final = SegmentOptions(
    spacing_mm=1.0,
    size=(128, 128, 128),
    marker_sigma_mm=None,
    channels=(32, 64, 128, 256),
    batch=4,
    fractured=None,
    elsewhere=0.0,
    towards=0.0,
    reflected=0.0,
    # How far P3 turns and moves it does not say.
    pose=Pose(degrees=(15.0, 15.0, 15.0), scale=(1.0, 1.0), stretch=0.0),
    intensity=Intensity(clip_hu=(-2048.0, 8192.0)),
    varied=False,
    loss="published",
    smoothing_mm=0.75,
    of_volume=True,
)

SEGMENTERS: Final[Mapping[str, SegmentOptions]] = {"published": _PUBLISHED, "small": SegmentOptions()}
"""The networks that can be trained; "small" is the one that is trained where none is named."""


def segment_recipe(name: str) -> TaskRecipe:
    """The recipe of one of `SEGMENTERS`."""
    options = SEGMENTERS[name]
    ours = RECIPES["ct-segment"]
    recipe = replace(
        ours,
        description=f"{name}: {ours.description}",
        arguments={**ours.arguments, "in_channels": options.in_channels, "channels": list(options.channels)},
        preprocessing={
            **ours.preprocessing,
            "spacing_mm": options.spacing_mm,
            "size": options.size,
            "clip_hu": options.intensity.clip_hu,
            "marker_sigma_mm": options.marker_sigma_mm,
        },
        pool_spacing_mm=options.spacing_mm,
        build=lambda training, held_out: SegmentTask(training, held_out, options),
        network=name,
    )
    if name == "small":
        return recipe
    # As many phantoms in as wide fields of view as for ct-localise: what is standardised over is a scan.
    return replace(
        recipe,
        preprocessing={
            **recipe.preprocessing,
            "smoothing_mm": options.smoothing_mm,
            "standardised": "volume",
        },
        loop=PUBLISHED_LOOP,
        pool_size=160,
        pool_fractured=80,
        pool_width_mm=None,
        taught_shares={},
    )

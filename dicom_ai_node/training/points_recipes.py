"""The recipes of ct-points: P3's 2-D M-SCN as published, and the small one that looks at the image too.

Published (P3 sections 2.1, 2.3.3 and 3.2, table 1): the binary mask of one body on the sagittal plane through
its centre (eq. 14), as it lies in the middle of a crop of 128 pixels of 1 mm, turned and moved; smooth L1
(eq. 9), every vertebra as often as any other; SGD at 1e-4 that falls on a plateau, an L2 term of 5e-4
(printed as 5^-4), gradients clipped at 2, four planes a step, 30,000 steps (``--steps 30000``). Mirrored
planes would exchange the names of the points. A mask has no intensities: nothing is filtered or standardised.
P3's planes are those of the image, ours those of each body, as the node cuts them. How many features the
network has and how wide its targets are P3 does not say: they are those of `localise_recipes` and our own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from dicom_ai_node.training.points import PointsOptions, PointsTask
from dicom_ai_node.training.published_loop import PUBLISHED_LOOP
from dicom_ai_node.training.tasks import RECIPES, TaskRecipe

_PUBLISHED: Final = PointsOptions(
    spacing_mm=1.0,
    size=(128, 128),
    channels=(16, 32, 64, 128, 256),
    global_channels=16,
    batch=4,
    reflected=0.0,
    sliced=0.0,
    hole=0.0,
    disc=0.0,
    beside=0.0,
    fractured=None,
    outline_only=True,
    varied=False,
    loss="published",
)

POINTERS: Final[Mapping[str, PointsOptions]] = {"published": _PUBLISHED, "small": PointsOptions()}
"""The networks that can be trained; "small" is the one that is trained where none is named."""


def points_recipe(name: str) -> TaskRecipe:
    """The recipe of one of `POINTERS`."""
    options = POINTERS[name]
    ours = RECIPES["ct-points"]
    seen = "the body's mask alone" if options.outline_only else "image and outline"
    return replace(
        ours,
        description=f"{name}: {ours.description}, of {seen}",
        arguments=options.network_arguments(),
        preprocessing={**ours.preprocessing, "spacing_mm": options.spacing_mm, "size": options.size},
        loop=PUBLISHED_LOOP if name == "published" else ours.loop,
        build=lambda training, held_out: PointsTask(training, held_out, options),
        network=name,
    )

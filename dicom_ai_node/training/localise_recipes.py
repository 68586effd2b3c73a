"""The recipes of ct-localise: P3's network as published, its ablation, and all of them small enough for CPUs.

Published (P3 sections 2.1, 2.2 and 3.2, table 1): voxels of 1 mm, patches of 96 x 96 x 128, values cut off at
-2048 and 8192 HU, a Gaussian filter, standard score over the image; turned, mirrored and moved; smooth L1;
SGD at 1e-4 that falls on a plateau, an L2 term of 5e-4 (printed as 5^-4), gradients clipped at 2, four
patches a step, 30,000 steps (``--steps 30000``). Where P3 is silent the numbers are those of the network that
it starts from (Payer 2020, VISAPP): targets of 4 mm, a filter of 0.75 mm; or our own, and said to be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from dicom_ai_node.anatomy import Level
from dicom_ai_node.training.augment import Intensity, Pose
from dicom_ai_node.training.localise import LocaliseOptions, LocaliseTask
from dicom_ai_node.training.published_loop import PUBLISHED_LOOP
from dicom_ai_node.training.tasks import RECIPES, TaskRecipe

_SMALL: Final = LocaliseOptions()

_PUBLISHED: Final = LocaliseOptions(
    spacing_mm=1.0,
    sizes=((128, 96, 96),),
    sigma_mm=4.0,
    arguments={"channels": [16, 32, 64, 128, 256], "global_channels": 16},
    batch=4,
    elsewhere=0.1,
    small=0.0,
    # How far P3 turns it does not say; exchanging head and feet would exchange names.
    pose=Pose(degrees=(15.0, 15.0, 15.0), scale=(1.0, 1.0), stretch=0.0),
    intensity=Intensity(clip_hu=(-2048.0, 8192.0)),
    varied=False,
    loss="published",
    overlapping=True,
    smoothing_mm=0.75,
    of_volume=True,
)
"""M-SCN whole. How many features it has P3 does not say."""

_HALF: Final = {"attention": False, "residual": False}
_WITHOUT: Final = {**_HALF, "multiple_filtering": False}

_TABLE_4: Final[Mapping[str, tuple[str, Mapping[str, Any], str]]] = {
    "scn": ("SCN", {}, "SCN (Payer 2019)"),
    "ln": ("LocalNetwork", _HALF, "local network alone"),
    "gn": ("GlobalNetwork", {}, "global network alone"),
    "ln-gn": ("MSCN", _WITHOUT, "local and global network"),
    "ag": ("MSCN", {**_WITHOUT, "attention": True}, "local and global network, attention gates"),
    "filtering": (
        "MSCN",
        {**_WITHOUT, "multiple_filtering": True},
        "local and global network, multiple filtering",
    ),
    "residual": ("MSCN", {**_WITHOUT, "residual": True}, "local and global network, residual connections"),
    "published": ("MSCN", {}, "M-SCN"),
}
"""Rows of P3's table 4: architecture, what its arguments take away or add, in words; M-SCN is the last."""

_SIZED: Final[Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any], tuple[str, ...]]]] = {
    "SCN": (
        {"channels": [64, 64, 64, 64], "global_channels": 64, "global_stride": 4},
        {"channels": [24, 24, 24, 24], "global_channels": 24, "global_stride": 4},
        (),
    ),
    "LocalNetwork": (_PUBLISHED.arguments, _SMALL.arguments, ("global_channels", "global_stride")),
    "GlobalNetwork": (_PUBLISHED.arguments, _SMALL.arguments, ("channels",)),
    "MSCN": (_PUBLISHED.arguments, _SMALL.arguments, ()),
}
"""Of each architecture: its size as published, that for a CPU, and the arguments of M-SCN that it has not."""


def _options(row: str, *, small: bool) -> LocaliseOptions:
    architecture, change, _ = _TABLE_4[row]
    published, ours, foreign = _SIZED[architecture]
    size = {name: value for name, value in (ours if small else published).items() if name not in foreign}
    return replace(_SMALL if small else _PUBLISHED, architecture=architecture, arguments={**size, **change})


LOCALISERS: Final[Mapping[str, LocaliseOptions]] = {
    **{row: _options(row, small=False) for row in _TABLE_4},
    **{f"small-{row}": _options(row, small=True) for row in _TABLE_4 if row != "published"},
    "small": _SMALL,
}
"""The networks that can be trained: the rows of P3's table 4 as published, and each as small as the one that
is trained where none is named, which is "small": M-SCN on whole volumes of 5 mm."""


def localise_recipe(name: str) -> TaskRecipe:
    """The recipe of one of `LOCALISERS`."""
    options = LOCALISERS[name]
    small = name.startswith("small")
    words = _TABLE_4["published" if name == "small" else name.removeprefix("small-")][2]
    way = "a whole CT volume" if small else "overlapping patches of a CT volume"
    recipe = replace(
        RECIPES["ct-localise"],
        description=f"{name}: {words}: one heatmap per vertebral level over {way} (P3 section 2.2, table 4)",
        architecture=options.architecture,
        arguments=options.network_arguments(),
        build=lambda training, held_out: LocaliseTask(training, held_out, options),
        network=name,
    )
    if small:
        return recipe
    return replace(
        recipe,
        preprocessing={
            "spacing_mm": options.spacing_mm,
            "size": options.sizes[0],
            "clip_hu": options.intensity.clip_hu,
            "smoothing_mm": options.smoothing_mm,
            "standardised": "volume",
        },
        # Some 20 GB of memory.
        pool_size=160,
        pool_fractured=80,
        pool_spacing_mm=options.spacing_mm,
        loop=PUBLISHED_LOOP,
    )


def localise_task_of(preprocessing: Mapping[str, Any], levels: Sequence[str]) -> LocaliseTask:
    """The task that a bundle of ct-localise was trained for, without cases: it measures what that bundle is.

    Args:
        preprocessing: of its metadata.
        levels: its output channels.
    """
    size = preprocessing["size"]
    options = replace(
        _PUBLISHED if size else _SMALL,
        spacing_mm=preprocessing["spacing_mm"],
        levels=tuple(Level(name) for name in levels),
        intensity=Intensity(clip_hu=tuple(preprocessing["clip_hu"])),
        smoothing_mm=preprocessing["smoothing_mm"],
        of_volume=preprocessing["standardised"] == "volume",
    )
    return LocaliseTask([], [], replace(options, sizes=(tuple(size),)) if size else options)

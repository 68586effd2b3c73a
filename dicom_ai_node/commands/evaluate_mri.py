"""A network of spine MR against phantoms that no training saw, or labelled real series."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch

from dicom_ai_node.commands.mri_cases import labelled_cases
from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.inference.bundle import bundle_of
from dicom_ai_node.training.mri_cases import MrCase
from dicom_ai_node.training.mri_recipes import MriRecipe, phantom_case


def rows_of_mr(
    recipe: MriRecipe, bundle: Path, data: str, count: int, progress: Callable[[str, float], None]
) -> list[Mapping[str, Sequence[float]]]:
    """What the recipe's task measures of a bundle on each case.

    Args:
        recipe: of the task.
        bundle: folder of the bundle.
        data: "phantom", or a folder as `mri_cases.labelled_cases` reads it.
        count: how many phantoms.
        progress: told after each case.

    Raises:
        ConfigurationError: there is no such data, or the bundle is of another task.
        ModelError: the bundle is missing or was changed.
    """
    if data != "phantom" and not Path(data).is_dir():
        raise ConfigurationError(f"--data is 'phantom' or a folder of cases; {data} is neither")
    loaded = bundle_of(recipe.name, bundle)
    cases: Iterator[MrCase]
    if data == "phantom":
        total, cases = count, (phantom_case(recipe, seed, training=False) for seed in range(count))
    else:
        labelled = labelled_cases(Path(data))
        total, cases = len(labelled), iter(labelled)
    task = recipe.build([], [])
    rows: list[Mapping[str, Sequence[float]]] = []
    for number, case in enumerate(cases, start=1):
        with torch.inference_mode():
            rows.append(task.measure(loaded.network, case))
        progress(f"case {number} of {total}", number / total)
    return rows

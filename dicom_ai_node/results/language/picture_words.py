"""What stands in pictures: labels beside vertebrae, titles, a legend.

There is little room beside a vertebra. Levels are the same in every language there ("L1"), as on the images
that radiologists know, and so are "G2" for Genant grade 2 and "-31%" for the height that was lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PictureWords:
    """Short words, which stand behind a level or by themselves.

    Attributes:
        notice: on every image; `{research_use}` is the language's own.
        reformat, film: what a key picture shows, its title.
        off_plane: the vertebra's centre does not lie in the image that it is drawn on.
        level_only: the vertebra was named and not measured.
        deformities: as the shape of a body; without "none".
        acuities, malignancies, diseases: opinions, each in as few letters as are understood.
        no_disease: diseases were looked for.
        slices: on how many slices of those that were looked at.
        six_points: the dots, in the legend.
    """

    notice: str
    reformat: str
    film: str
    not_judged: str
    off_plane: str
    abnormal: str
    level_only: str
    loss: str
    grade: str
    deformities: Mapping[str, str]
    acuities: Mapping[str, str]
    malignancies: Mapping[str, str]
    diseases: Mapping[str, str]
    no_disease: str
    slices: str
    six_points: str

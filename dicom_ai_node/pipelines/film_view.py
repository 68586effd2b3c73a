"""What a film shows, which way is up, and whether bone is bright: seen in the image, held against the header.

Half of all headers are wrong or silent. The image decides; the header is heard where the image is in doubt,
and what either says against the other is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.imaging.film_pose import FilmPose
from dicom_ai_node.imaging.radiograph import Radiograph
from dicom_ai_node.inference import film as networks
from dicom_ai_node.inference.bundle import Bundle
from dicom_ai_node.inference.film import LevelMaps
from dicom_ai_node.pipelines.film_parts import PartMaps, Rows, parts_of
from dicom_ai_node.report import Reason

Pixels = npt.NDArray[np.float32]
Looks = Mapping[int, Mapping[str, float]]
"""Quarter turns counter-clockwise -> probability of each view of the film so turned."""

LATERAL: Final = "lateral-spine"
_TURNED: Final = 0.4
"""What a turned look counts: most films are stored upright, and the image has to be clear about a turn."""

_BELIEVED: Final = 0.5
"""The header's way up is followed where the image thinks so much of it beside its own."""

_SEEN: Final = 1024
"""Finer pictures than so many pixels along an edge tell no more of the view."""

_PEAKS: Final = 8
"""So many of the dense network's surest bodies say how well it knows a film."""

_WORDS: Final = {
    "frontal-spine": "a frontal view of the spine",
    "chest": "a chest film",
    "other": "something else",
}

_DEGREES: Final = {1: "90", 2: "180", 3: "270"}


@dataclass(frozen=True)
class UprightFilm:
    """A film head up, bone bright.

    Attributes:
        pixels: brightness, 0 to 1.
        turn: from the stored film to this one; never mirrored, the networks know both sides.
        parts: in which it is looked at, see `film_parts`.
        lateral: probability that it is a lateral view of the spine.
        inverted: whether black and white were exchanged against the header.
        notes: where image and header disagree.
    """

    pixels: Pixels
    turn: FilmPose
    parts: tuple[Rows, ...]
    lateral: float
    inverted: bool
    notes: tuple[Reason, ...]


def upright(
    bundle: Bundle,
    film: Radiograph,
    maps_of: Callable[[Pixels, tuple[Rows, ...]], LevelMaps | PartMaps],
    *,
    least: float,
    least_as_said: float,
) -> UprightFilm:
    """The film as the networks below see it.

    Args:
        bundle: of the view network.
        film: as it is stored.
        maps_of: what the dense network sees on an upright film.
        least: a film of which the view network believes less is refused.
        least_as_said: the same where the header calls it lateral and tells no other way up than the
            image.

    Raises:
        NotAnalysable: it is no lateral view of the spine.
    """
    plain, inverted = (views(bundle, film, pixels) for pixels in (film.pixels, 1 - film.pixels))
    lateral = _best(plain)[1]
    if _best(inverted)[1] > lateral:
        found = _turned_over(film, plain, inverted, maps_of)
        if found is not None and _clear(film, found) >= least:
            notes = (*_about_view(film, found), *_about_turn(film, found)[1], _INVERTED)
            return _made(film, found, notes, inverted=True)
    # A header that calls the film lateral but tells another way up is wrong about one of them.
    believed = film.view == "lateral" and (
        film.pose is None or film.pose.quarters == _about_turn(film, plain)[0]
    )
    needed = least_as_said if believed else least
    if _clear(film, plain) < needed:
        raise NotAnalysable("orientation", _refusal(film, plain, needed))
    notes = (*_about_turn(film, plain)[1], *_about_view(film, plain))
    return _made(film, plain, notes, inverted=False)


def views(bundle: Bundle, film: Radiograph, pixels: Pixels) -> Looks:
    """What the view network says of each quarter turn of a film.

    Of a stitched film that of the part which looks most like a lateral spine.
    """
    step = max(1, max(film.shape) // _SEEN)
    answers = {}
    for quarters in range(4):
        small = np.rot90(pixels[::step, ::step], quarters)
        looks = [
            networks.view(bundle, np.ascontiguousarray(small[first // step : after // step]))
            for first, after in film_parts(film, quarters)
        ]
        answers[quarters] = max(looks, key=lambda look: look[LATERAL])
    return answers


def film_parts(film: Radiograph, quarters: int) -> tuple[Rows, ...]:
    """The parts in which a film is looked at that was turned by so many quarters."""
    across = quarters % 2 == 1
    row_mm = None
    if film.spacing is not None:
        row_mm = film.spacing.columns_mm if across else film.spacing.rows_mm
    return parts_of(film.shape[::-1] if across else film.shape, row_mm)


def _best(looks: Looks) -> tuple[int, float]:
    """The turn that looks most like a lateral spine, and how much that counts."""
    worth = {turn: look[LATERAL] * (1.0 if turn == 0 else _TURNED) for turn, look in looks.items()}
    best = max(worth, key=lambda turn: worth[turn])
    return best, worth[best]


def _clear(film: Radiograph, looks: Looks) -> float:
    """How clearly a film looks lateral the way it is read: a turn that its header tells too needs no more."""
    turn = _about_turn(film, looks)[0]
    told = film.pose is not None and film.pose.quarters == turn
    return looks[turn][LATERAL] * (1.0 if turn == 0 or told else _TURNED)


_INVERTED: Final = Reason(
    "modality-mismatch",
    "By its header (Photometric Interpretation (0028,0004), Presentation LUT Shape (2050,0020)) bone is dark "
    "on this film; it was read with black and white exchanged.",
)


def _turned_over(
    film: Radiograph,
    plain: Looks,
    inverted: Looks,
    maps_of: Callable[[Pixels, tuple[Rows, ...]], LevelMaps | PartMaps],
) -> Looks | None:
    """What the film looks like turned over, where the dense network too knows it better so."""
    known = []
    for looks, pixels in ((plain, film.pixels), (inverted, 1 - film.pixels)):
        turn = _about_turn(film, looks)[0]
        shown = np.ascontiguousarray(np.rot90(pixels, turn))
        peaks = maps_of(shown, film_parts(film, turn)).peaks(0.1)
        known.append(sum(height for _, height in peaks[:_PEAKS]))
    return inverted if known[1] > known[0] else None


def _made(film: Radiograph, looks: Looks, notes: tuple[Reason, ...], *, inverted: bool) -> UprightFilm:
    turn = _about_turn(film, looks)[0]
    shown = np.ascontiguousarray(np.rot90(1 - film.pixels if inverted else film.pixels, turn))
    parts = film_parts(film, turn)
    return UprightFilm(shown, FilmPose(turn), parts, looks[turn][LATERAL], inverted, notes)


def _about_turn(film: Radiograph, looks: Looks) -> tuple[int, tuple[Reason, ...]]:
    """The quarter turns, and what there is to say about them."""
    best, _ = _best(looks)
    if film.pose is None or film.pose.quarters == best:
        return best, ()
    if looks[film.pose.quarters][LATERAL] > _BELIEVED * looks[best][LATERAL]:
        return film.pose.quarters, ()
    return best, (
        Reason(
            "orientation",
            "Patient Orientation (0020,0020) disagrees with the image about which way is up; the image was "
            "followed.",
        ),
    )


def _about_view(film: Radiograph, looks: Looks) -> tuple[Reason, ...]:
    if film.view is None or film.view == "lateral":
        return ()
    lateral = looks[_best(looks)[0]][LATERAL]
    told = (
        f"The header calls this a {film.view} view ({film.view_source}); the image looks lateral "
        f"({lateral:.0%}) and was read as such."
    )
    return (Reason("modality-mismatch", told),)


def _refusal(film: Radiograph, looks: Looks, needed: float) -> str:
    said = ""
    if film.view == "lateral":
        said = f" Its header calls it lateral ({film.view_source}); the image was believed."
    turn = _about_turn(film, looks)[0]
    lateral = looks[turn][LATERAL]
    others = {view: share for view, share in looks[0].items() if view != LATERAL}
    shown, share = max(others.items(), key=lambda item: item[1])
    if lateral >= needed:
        return (
            f"This film looks like a lateral view of the spine ({lateral:.0%}) only when turned by "
            f"{_DEGREES[turn]} degrees counter-clockwise, and not clearly enough to turn it: as it is, it "
            f"looks rather like {_WORDS[shown]} ({share:.0%}).{said} Send lateral films of the spine, "
            "upright or with the right Patient Orientation (0020,0020)."
        )
    return (
        f"This film does not look like a lateral view of the spine ({lateral:.0%}): rather like "
        f"{_WORDS[shown]} ({share:.0%}).{said} Send lateral films of the spine."
    )

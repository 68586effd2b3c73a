"""The faults of a predicted outline, put on a true one: what the networks of six points are taught with.

Those networks see the outline of the body that is meant beside the image. One that was only ever shown good
outlines follows a bad one: where a thin dark disc is outlined with its body, the heights come out with the
disc. So training shows outlines that run into the neighbouring disc, or stop short of an endplate, and the
points stay where the image has them.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional

from dicom_ai_node.training.augment import chance, normal, uniform

_INTO_DISC_MM = (1.0, 5.0)
_SHORT_MM = (0.5, 3.0)


def faulty(generator: Generator, mask: Tensor, pixel_mm: float, *, hole: float, disc: float) -> Tensor:
    """The outline with faults: too small, too large, ragged, soft, with a hole, with a disc.

    Args:
        generator: of the random numbers.
        mask: shape (1, rows, columns), 0 to 1; rows run along the body's axis.
        pixel_mm: edge of a pixel.
        hole: share of outlines with a hole, or an island.
        disc: share of outlines that reach into a neighbouring disc, or stop short of an endplate.
    """
    _, rows, columns = mask.shape
    if chance(generator, disc):
        mask = _misplaced_endplate(generator, mask, pixel_mm)
    soft = functional.avg_pool2d(mask[None], 5, stride=1, padding=2)[0] if chance(generator, 0.7) else mask
    ragged = functional.interpolate(
        normal(generator, 1, 1, 9, 9), size=(rows, columns), mode="bicubic", align_corners=True
    )[0]
    threshold = 0.5 + 0.12 * float(normal(generator, 1)) + 0.14 * uniform(generator, 0, 1) * ragged
    answer = torch.sigmoid((soft - threshold) * uniform(generator, 8.0, 30.0))
    if chance(generator, hole):
        row, column = (torch.rand(2, generator=generator) * torch.tensor([rows, columns])).tolist()
        distance = (torch.arange(rows)[:, None] - row) ** 2 + (torch.arange(columns)[None] - column) ** 2
        answer = torch.where(distance < uniform(generator, 2, 7) ** 2, 1 - answer, answer)
    return answer


def _misplaced_endplate(generator: Generator, mask: Tensor, pixel_mm: float) -> Tensor:
    """One endplate of the outline or both, moved along the body's axis, sometimes in front or behind only."""
    side = int(torch.randint(3, (), generator=generator))
    moved = mask
    into = chance(generator, 0.75)
    for up in (True, False):
        if side == (1 if up else 0):
            continue
        pixels = max(1, round(uniform(generator, *(_INTO_DISC_MM if into else _SHORT_MM)) / pixel_mm))
        steps = [_shifted(mask, -step if up == into else step) for step in range(1, pixels + 1)]
        together = torch.stack([moved, *steps])
        moved = together.amax(dim=0) if into else together.amin(dim=0)
    if chance(generator, 0.4):
        # Such faults are often those of the front or of the back half alone.
        columns = torch.arange(mask.shape[2], dtype=torch.float32)
        middle = float((mask.sum(dim=1) * columns).sum() / mask.sum().clamp(min=1.0))
        share = torch.sigmoid((columns - middle) * (1.0 if chance(generator, 0.5) else -1.0))
        moved = share * moved + (1 - share) * mask
    return moved


def _shifted(mask: Tensor, rows: int) -> Tensor:
    """Moved by so many rows foot-ward, empty rows following."""
    answer = torch.zeros_like(mask)
    if rows > 0:
        answer[:, rows:] = mask[:, :-rows]
    else:
        answer[:, :rows] = mask[:, -rows:]
    return answer

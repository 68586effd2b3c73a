"""From what is said of a vertebra on each sagittal slice to what is said of the vertebra.

P2 stays with slices. One rule, for the node and for every evaluation by vertebra: a disease is as probable
as the best two neighbouring slices say on average. The best single slice would let one odd slice decide; the
mean of all would drown a node that two slices show. A vertebra shows nothing (`normal`) only as far as no two
neighbours say otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dicom_ai_node.networks.ct_diseases import NORMAL, OUTPUTS

Floats = npt.NDArray[np.float64]


def over_slices(
    probabilities: npt.NDArray[np.floating], outputs: Sequence[str] = OUTPUTS
) -> npt.NDArray[np.float64]:
    """What all slices together say of one vertebra.

    Args:
        probabilities: shape (slices, outputs), at least one slice, in the order in which they lie; slices
            in between that were not judged are left out.
        outputs: what each column stands for.

    Returns:
        float64, shape (outputs,).
    """
    each = np.asarray(probabilities, dtype=np.float64)
    pairs = (each[:-1] + each[1:]) / 2 if len(each) > 1 else each
    lowest = np.array([name == NORMAL for name in outputs])
    together: Floats = np.where(lowest, pairs.min(axis=0), pairs.max(axis=0))
    return together


def best_slices(probabilities: npt.NDArray[np.floating]) -> npt.NDArray[np.intp]:
    """The slice that shows each output best: the highest, of equal ones the middle one; shape (outputs,)."""
    each = np.asarray(probabilities, dtype=np.float64)
    middle = (len(each) - 1) / 2
    places = [np.flatnonzero(column == column.max()) for column in each.T]
    return np.array([place[np.abs(place - middle).argmin()] for place in places], dtype=np.intp)

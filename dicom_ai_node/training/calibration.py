"""Platt's scaling: from what a network says to a probability that is one half where the odds are even.

A probability that is the highest of several (the slices of a body), or that was learned from classes drawn
with other weights than they are met with, is right in its order and wrong in its height. A slope and an
offset of the logit, fitted on cases that the network did not learn from, mend that (Platt 1999,
"Probabilistic outputs for support vector machines").
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

_LEAST_CASES = 10
"""Of each class: fewer say nothing about a slope."""


def platt(logits: npt.NDArray[np.float64], truth: npt.NDArray[np.bool_]) -> tuple[float, float] | None:
    """Slope and offset that make logits those of a probability, both classes being equally frequent.

    Args:
        logits: shape (n,).
        truth: shape (n,).

    Returns:
        The slope, above 0, and the offset; None with too few cases of a class.
    """
    counts = np.array([(~truth).sum(), truth.sum()])
    if counts.min() < _LEAST_CASES:
        return None
    # Platt's targets: classes that come apart entirely would ask for a slope without end.
    targets = np.where(truth, (counts[1] + 1) / (counts[1] + 2), 1 / (counts[0] + 2))
    weights = np.where(truth, 0.5 / counts[1], 0.5 / counts[0])

    def loss(parameters: npt.NDArray[np.float64]) -> float:
        moved = np.exp(parameters[0]) * logits + parameters[1]
        return float((weights * (np.logaddexp(0.0, moved) - targets * moved)).sum())

    found = minimize(loss, np.zeros(2), method="Nelder-Mead").x
    return float(np.exp(found[0])), float(found[1])

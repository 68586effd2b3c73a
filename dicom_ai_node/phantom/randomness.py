"""Named streams of random numbers: the same seed and name give the same numbers on every machine.

Every part of the phantom draws from a stream of its own, so that a new draw in one part leaves all the
others as they were.
"""

from __future__ import annotations

import hashlib

import numpy as np


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """A generator that depends on nothing but `seed` and `names`."""
    text = "/".join([str(int(seed)), *map(str, names)])
    return np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16])))


def between(generator: np.random.Generator, low: float, high: float) -> float:
    """One number, uniform in [low, high)."""
    return float(generator.uniform(low, high))


def around(generator: np.random.Generator, mean: float, deviation: float, limit: float = 2.5) -> float:
    """One number from a normal distribution cut off at `limit` deviations."""
    return mean + deviation * min(limit, max(-limit, float(generator.standard_normal())))

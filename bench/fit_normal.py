"""Fit the polynomial of `normal_share` in csrc/kernels/map.inc, and print it as C.

    python bench/fit_normal.py

It approximates ``R(u) = exp(u^2 / 2) * normal(-u)``, where ``normal`` is the cumulative distribution, for u
from 0 to 14.5. ``(u + 3.5) R(u)`` is smooth in ``t = (u - 3.5) / (u + 3.5)``. The relative error is made even
by least squares with weights that grow where the error is large (Lawson's algorithm).
"""

from __future__ import annotations

import math

import numpy as np

BEND, TOP, DEGREE = 3.5, 14.5, 9


def share(u: float) -> float:
    return math.exp(u * u / 2) * 0.5 * math.erfc(u / math.sqrt(2))


def fit() -> tuple[np.ndarray, float]:
    """The coefficients from the lowest power up, and the largest relative error."""
    nodes = np.cos(np.pi * (np.arange(3000) + 0.5) / 3000)  # dense at both ends
    low, high = -1.0, (TOP - BEND) / (TOP + BEND)
    t = low + (high - low) * (nodes + 1) / 2
    u = BEND * (1 + t) / (1 - t)
    wanted = np.array([share(value) for value in u]) * (u + BEND)
    powers = np.vander(t, DEGREE + 1, increasing=True) / wanted[:, None]
    weights, best, least = np.full(len(t), 1 / len(t)), np.zeros(DEGREE + 1), math.inf
    for _ in range(2000):
        root = np.sqrt(weights)
        found = np.linalg.lstsq(powers * root[:, None], root, rcond=None)[0]
        error = abs(powers @ found - 1)
        if error.max() < least:
            best, least = found, float(error.max())
        weights *= error
        weights /= weights.sum()
    return best, least


if __name__ == "__main__":
    coefficients, error = fit()
    for power, value in enumerate(coefficients):
        print(f"t^{power}: {float(np.float32(value)).hex()}f")
    print(f"largest relative error: {error:.2g}")

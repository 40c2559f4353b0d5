"""Outlines of shapes, one for each start vector: the data of this example, made by a seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

KINDS = ("circle", "square", "triangle", "star", "heart")
POINTS = 48  # steps of a sequence
CODE = len(KINDS) + 3  # one kind is 1, the others 0; then width and height less 1, and the tilt in radians


def _polygon(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """(POINTS, 2) along the sides of a closed polygon, evenly apart."""
    closed = np.concatenate([corners, corners[:1]])
    lengths = np.hypot(*np.diff(closed, axis=0).T)
    ends = np.concatenate([[0], lengths.cumsum()])
    at = np.linspace(0, ends[-1], POINTS)
    return np.stack([np.interp(at, ends, axis) for axis in closed.T], 1)


def _ring(count: int, start: float = 90, radius: float = 1) -> NDArray[np.float64]:
    """(count, 2) points of a circle, the first at ``start`` degrees."""
    angles = np.radians(start + np.arange(count) * 360 / count)
    return radius * np.stack([np.cos(angles), np.sin(angles)], 1)


def _outlines() -> Array:
    """(kinds, POINTS, 2), each about as high as a circle of radius 1, begun above, to the left."""
    t = np.linspace(0, 2 * np.pi, POINTS)
    star = np.stack([_ring(5), _ring(5, 90 + 36, 0.45)], 1).reshape(10, 2)
    heart = np.stack(
        [-16 * np.sin(t) ** 3, 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)], 1
    )
    circle = np.stack([-np.sin(t), np.cos(t)], 1)
    square = _polygon(_ring(4, 45, 1.2))
    return np.stack([circle, square, _polygon(_ring(3)), _polygon(star), heart / 16]).astype(np.float32)


OUTLINES = _outlines()


def draw_codes(count: int, generator: np.random.Generator) -> Array:
    """(count, CODE) start vectors: any kind, width and height 0.5 .. 1.5, tilt within 45 degrees."""
    codes = np.zeros((count, CODE), np.float32)
    codes[np.arange(count), generator.integers(0, len(KINDS), count)] = 1
    codes[:, -3:-1] = generator.uniform(-0.5, 0.5, (count, 2))
    codes[:, -1] = generator.uniform(-np.pi / 4, np.pi / 4, count)
    return codes


def draw_outlines(codes: Array) -> Array:
    """The outlines to draw: (POINTS, B, 2), x and y, of the shapes that (B, CODE) start vectors name."""
    shapes = np.einsum("bk,kpa->pba", codes[:, : len(KINDS)], OUTLINES) * (1 + codes[:, -3:-1])
    cosine, sine = np.cos(codes[:, -1]), np.sin(codes[:, -1])
    x, y = shapes[..., 0], shapes[..., 1]
    return np.stack([cosine * x - sine * y, sine * x + cosine * y], -1).astype(np.float32)

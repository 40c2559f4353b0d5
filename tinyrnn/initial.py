"""The values that weights start from when none are loaded: PyTorch's distributions."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:  # numpy.random takes longer to import than all of tinyrnn: only when it is needed
    from numpy.random import Generator

Shape = tuple[int, ...]
Initialise = Callable[[list[tuple[str, Shape]]], Iterator[tuple[int, int, NDArray[np.float32]]]]

# Numbers that are drawn at once, as float64: few beside the weights of any large layer.
_PIECE = 1 << 16

_entropy = int.from_bytes(os.urandom(8), "little")
_layers = itertools.count()


def manual_seed(seed: int) -> None:
    """Make the initial weights of layers constructed from now on reproducible.

    Parameters
    ----------
    seed : int
        The same seed and the same constructors in the same order give the same weights. They follow
        PyTorch's distributions, but are not PyTorch's numbers.

    Raises
    ------
    TypeError, ValueError
        If it is no integer, or negative.
    """
    global _entropy, _layers
    if not isinstance(seed, (int, np.integer)):
        raise TypeError(f"manual_seed: seed is {seed!r}, expected an integer")
    if seed < 0:
        raise ValueError(f"manual_seed: seed is {seed}, expected at least 0")
    _entropy, _layers = seed, itertools.count()


def next_seed() -> int:
    """A seed for something else that is random: another one each time, after `manual_seed` the same ones."""
    return int(np.random.SeedSequence([_entropy, next(_layers)]).generate_state(1, np.uint64)[0])


def drawn(draw: Callable[[Generator, str, int], ArrayLike]) -> Initialise:
    """A function that fills a core layer when its weights are first needed.

    It calls ``draw(generator, name, count)`` for each chunk of each tensor. The seed is the layer's own, so
    the numbers are the same whenever and wherever it runs. A tensor's numbers are one sequence, wherever it
    is cut.
    """
    seed = [_entropy, next(_layers)]

    def initialise(params: list[tuple[str, Shape]]) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
        generator = np.random.default_rng(seed)
        for i, (name, shape) in enumerate(params):
            count = math.prod(shape)
            for first in range(0, count, _PIECE):
                numbers = draw(generator, name, min(_PIECE, count - first))
                yield i, first, np.ascontiguousarray(numbers, np.float32)

    return initialise


def normed(bound: float) -> Initialise:
    """The usual start, with gains of 1 and biases of 0 for layer normalisation."""

    def draw(generator: Generator, name: str, count: int) -> ArrayLike:
        if "_ln_" in name:
            return np.full(count, name.startswith("weight"), np.float32)
        return generator.uniform(-bound, bound, count)

    return drawn(draw)


def uniform(bound: float) -> Initialise:
    """PyTorch's usual start: uniform within the bound."""
    return drawn(lambda generator, name, count: generator.uniform(-bound, bound, count))

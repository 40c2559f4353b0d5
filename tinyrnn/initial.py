"""The values that weights start from when none are loaded: PyTorch's distributions."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:  # numpy.random takes longer to import than all of tinyrnn: only when it is needed
    from numpy.random import Generator

Shape = tuple[int, ...]
Initialise = Callable[[list[tuple[str, Shape]]], list[NDArray[np.float32]]]

_entropy = int.from_bytes(os.urandom(8), "little")
_layers = count()


def manual_seed(seed: int) -> None:
    """Make the initial weights of layers constructed from now on reproducible.

    Parameters
    ----------
    seed : int
        The same seed and the same constructors in the same order give the same weights. They follow
        PyTorch's distributions, but are not PyTorch's numbers.

    Raises
    ------
    ValueError
        If it is negative.
    """
    global _entropy, _layers
    if seed < 0:
        raise ValueError(f"manual_seed: seed is {seed}, expected at least 0")
    _entropy, _layers = seed, count()


def next_seed() -> int:
    """A seed for something else that is random: another one each time, after `manual_seed` the same ones."""
    return int(np.random.SeedSequence([_entropy, next(_layers)]).generate_state(1, np.uint64)[0])


def drawn(draw: Callable[[Generator, str, Shape], ArrayLike]) -> Initialise:
    """What fills a core layer when its weights are first needed: ``draw`` for each tensor, by a seed of
    the layer's own, so that it gives the same whenever and wherever it is called."""
    seed = [_entropy, next(_layers)]

    def initialise(params: list[tuple[str, Shape]]) -> list[NDArray[np.float32]]:
        generator = np.random.default_rng(seed)
        return [np.ascontiguousarray(draw(generator, name, shape), np.float32) for name, shape in params]

    return initialise


def uniform(bound: float) -> Initialise:
    """PyTorch's usual start: uniform within the bound."""
    return drawn(lambda generator, name, shape: generator.uniform(-bound, bound, shape))

"""The values that weights start from when none are loaded: PyTorch's distributions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tinyrnn import _core

_seeds = np.random.SeedSequence()


def manual_seed(seed: int) -> None:
    """Make the initial weights of layers constructed from now on reproducible.

    Parameters
    ----------
    seed : int
        The same seed and the same constructors in the same order give the same weights. They follow
        PyTorch's distributions, but are not PyTorch's numbers.
    """
    global _seeds
    _seeds = np.random.SeedSequence(seed)


def drawn(draw: Callable[[np.random.Generator, str, tuple[int, ...]], ArrayLike]) -> Any:
    """What fills a core layer when its weights are first needed: ``draw`` for each tensor."""
    (seed,) = _seeds.spawn(1)

    def initialise(core: _core.Layer) -> None:
        generator = np.random.default_rng(seed)
        for i, (name, shape) in enumerate(core.params):
            core.set(i, np.asarray(draw(generator, name, shape), dtype=np.float32))

    return initialise


def uniform(bound: float) -> Any:
    """PyTorch's usual start: uniform within the bound."""
    return drawn(lambda generator, name, shape: generator.uniform(-bound, bound, shape))

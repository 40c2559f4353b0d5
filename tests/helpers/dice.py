"""The random numbers of recurrent_dropout and zoneout in training, as `csrc/layers/bptt.c` throws them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Dice(NamedTuple):
    """For each level and direction, in turn: what multiplies h, and the shares of h and c that stay."""

    drop: list[NDArray[Any]]  # (B, size)
    h: list[NDArray[Any]]  # (T, B, size)
    c: list[NDArray[Any]]


def splitmix(seed: int, place: int) -> int:
    """Number ``place`` of SplitMix64 (Steele, Lea and Flood, 2014)."""
    z = (seed + place * 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def hashed(seed: int, layer: int, places: NDArray[Any]) -> NDArray[Any]:
    """24 bits for each place: lowbias32 of Wellons's hash-prospector, keyed twice."""
    first, second = seed % 2**32, (seed // 2**32 + layer * 0x9E3779B9) % 2**32
    h = places.astype(np.uint64) ^ np.uint64(first)
    for more in (second, 0):
        h ^= h >> np.uint64(16)
        h = h * np.uint64(0x7FEB352D) % np.uint64(2**32)
        h ^= h >> np.uint64(15)
        h = h * np.uint64(0x846CA68B) % np.uint64(2**32)
        h = ((h ^ h >> np.uint64(16)) + np.uint64(more)) % np.uint64(2**32)
    return h >> np.uint64(8)


def mean(arguments: Mapping[str, Any], steps: int, batch: int, size: int) -> Dice:
    """Those of a net in use: nothing is dropped, and a share of the state stays."""
    count = arguments.get("num_layers", 1) * (1 + arguments.get("bidirectional", False))
    h, c = (np.full((steps, batch, size), arguments.get(name, 0.0)) for name in ("zoneout", "zoneout_cell"))
    return Dice([np.ones((batch, size))] * count, [h] * count, [c] * count)


def thrown(
    net: Any, arguments: Mapping[str, Any], steps: int, batch: int, size: int, hidden: int, layer: int = 0
) -> Dice:
    """Those of a net's last pass in training; ``layer`` is its first one's place among the core layers."""
    practice = net._practised()
    seed = splitmix(practice.seed, practice.passes)
    ways = 1 + arguments.get("bidirectional", False)
    found = Dice([], [], [])
    p = arguments.get("recurrent_dropout", 0.0)
    for level in range(arguments.get("num_layers", 1)):

        def throw(places: NDArray[Any], share: float, level: int = level) -> NDArray[Any]:
            return hashed(seed, layer + level, places) < int(float(np.float32(share)) * 2**24)

        for way in range(ways):
            places = way * batch * size + np.arange(batch * size).reshape(batch, size)
            found.drop.append(np.where(throw(places, p), 0, 1 / (1 - p) if p < 1 else 0))
            rows = batch + way * steps * batch + np.arange(steps * batch).reshape(steps, batch, 1)
            for which, (name, shares) in enumerate((("zoneout", found.h), ("zoneout_cell", found.c))):
                own = hidden if which else size  # h is projected where nothing of it stays
                numbers = (2 * rows + which) * hidden + np.arange(own)
                shares.append(throw(numbers, arguments.get(name, 0.0)).astype(float))
    return found

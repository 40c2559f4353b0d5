"""A model of Keras as data: its architecture as parsed JSON, and where its weights are."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from tinyrnn.weights.safetensors import check_values
from tinyrnn.weights.spec import shown

MAX_CONFIG = 64 << 20  # bytes of an architecture


class Model(NamedTuple):
    """A model in a file.

    Attributes
    ----------
    config : dict, optional
        The architecture, as `parse` gives it; None if the file has weights alone.
    major : int
        The version of Keras that wrote it: 1 (which no net is read from), 2 or 3.
    layers : mapping, optional
        Names of tensors by layer, in Keras' order, of a whole model in HDF5. None: tensors go by their paths.
    """

    config: dict[str, Any] | None
    major: int
    layers: Mapping[str, Sequence[str]] | None = None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"{shown(twice)} occurs twice, expected once")
    return found


def parse(text: str, error: Callable[[str], Exception], what: str) -> dict[str, Any]:
    """Read JSON whose outermost value is an object; ``error`` makes the exception of a message."""
    if len(text) > MAX_CONFIG:
        raise error(f"{what}: got {len(text)} characters, expected at most {MAX_CONFIG}")
    check_values(text.encode("utf-8", "replace"), what, error)
    try:
        found = json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise error(f"{what}: values are nested too deep") from None
    except ValueError as problem:
        raise error(f"{what}: is no JSON that Keras writes: {shown(str(problem))}") from None
    if not isinstance(found, dict):
        raise error(f"{what}: got {type(found).__name__}, expected an object")
    return found


def major_of(version: Any, config: dict[str, Any] | None) -> int:
    """The version of Keras by its text, or by the form of the architecture: 1, 2 or 3."""
    if isinstance(version, str) and version[:2] in ("1.", "2.", "3."):
        return int(version[0])
    return 3 if config is None or "module" in config else 2

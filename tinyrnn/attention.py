"""Attention: each step of a value reads a weighted mean of another value's steps."""

from __future__ import annotations

import math
from typing import Any

from tinyrnn import _core, initial
from tinyrnn.arguments import check_bool, check_float, check_size
from tinyrnn.attributes import Live
from tinyrnn.layers import _Layer
from tinyrnn.ops import _Joining
from tinyrnn.tensors import Frame
from tinyrnn.values import masking


class _Attention(_Joining, _Layer):
    """A layer that reads a query, keys and values."""

    embed_dim: int
    num_heads = 1
    _counts = "3 values: the query, the keys and the values; and perhaps a mask"
    _meet = "keys, values and mask on one axis of time; with is_causal the query, too"

    def __call__(self, *given: Any, mask: Any = None) -> Any:  # type: ignore[override]
        """Return the value of the layer in a net that is being described.

        Parameters
        ----------
        *given : Value
            The query, the keys and the values.
        mask : Value, optional
            A number for each step of the keys: only those count where it is not 0. The result is 0 where none
            does.
        """
        return super().__call__(*given, *masking(type(self).__name__, mask))

    def _fits(self, count: int) -> bool:
        return count in (3, 4)

    @property
    def _is_apart(self) -> bool:
        return not getattr(self, "is_causal", False)

    def _core_for(self, frames: list[Frame]) -> tuple[_core.Layer, Frame]:
        query, keys, values = frames[:3]
        for mask in frames[3:]:
            if math.prod(mask) != 1:
                raise self._wants(mask, "(1,) for the mask")
        for frame in (query, keys):
            if frame != (self.embed_dim,):
                raise self._wants(frame, f"({self.embed_dim},) = (embed_dim,) for the query and the keys")
        if len(values) != 1 or values[0] % self.num_heads:
            raise self._wants(values, f"one axis, a multiple of num_heads, {self.num_heads}, for the values")
        return self._core_layer, values


class DotProductAttention(_Attention):
    """Attention by products, as ``torch.nn.functional.scaled_dot_product_attention``.

    ::

        source, target = tr.Input(8, time="source"), tr.Input(8, time="target")
        context = tr.DotProductAttention(8)(target, source, source)

    Each step of the query reads the mean of the values, weighted by the softmax over all steps of
    ``scale * query . key``. A query per sequence pools the steps to one mean. Keys and values are on one axis
    of time, the query's or another; their steps beyond a row's length do not count. Heads are equal parts of
    the frames.

    The weights themselves are no value, because a frame has no axis of time. To see them, attend with values
    that are one-hot: an input whose step ``s`` is the ``s``-th row of an identity matrix gives the weight of
    step ``s`` as its number ``s``.

    Parameters
    ----------
    embed_dim : int
        The size of the query and the keys.
    num_heads : int
        ``embed_dim`` and the size of the values are multiples of it.
    scale : float, optional
        ``1 / sqrt(embed_dim / num_heads)`` by default.
    is_causal : bool
        A step reads no later ones. Query, keys and values are then on one axis of time.
    """

    arguments = ("embed_dim", "num_heads", "scale", "is_causal")
    scale = Live(check_float)

    def __init__(
        self, embed_dim: int, num_heads: int = 1, scale: float | None = None, is_causal: bool = False
    ) -> None:
        self.embed_dim = check_size("DotProductAttention: embed_dim", embed_dim)
        self.num_heads = check_size("DotProductAttention: num_heads", num_heads)
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"DotProductAttention: embed_dim is {embed_dim}, expected a multiple of num_heads, "
                f"{num_heads}"
            )
        self.scale = (self.embed_dim // self.num_heads) ** -0.5 if scale is None else scale
        self.is_causal = check_bool("DotProductAttention: is_causal", is_causal)
        self._core_layer = _core.Layer(
            "causal_attention" if self.is_causal else "attention",
            size=self.embed_dim,
            heads=self.num_heads,
            scale=self.scale,
        )


class AdditiveAttention(_Attention):
    """Attention by a sum, as in Bahdanau, Cho and Bengio (2015).

    As `DotProductAttention` with the score ``weight . tanh(query + key)``. The maps of the query and the keys
    are layers of the net: `Linear` ones to ``embed_dim``.

    Parameters
    ----------
    embed_dim : int
        The size of the query and the keys.
    """

    arguments = ("embed_dim",)

    def __init__(self, embed_dim: int) -> None:
        self.embed_dim = check_size("AdditiveAttention: embed_dim", embed_dim)
        self._core_layer = _core.Layer("additive_attention", size=self.embed_dim)
        self._core_layer.initialise = initial.uniform(1 / math.sqrt(self.embed_dim))

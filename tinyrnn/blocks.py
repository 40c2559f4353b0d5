"""Nets of several layers that have a name in the field."""

from __future__ import annotations

from typing import Any

from tinyrnn.activations import Scale
from tinyrnn.arguments import check_bool, check_size
from tinyrnn.attention import AdditiveAttention
from tinyrnn.graph import Graph
from tinyrnn.layers import Linear
from tinyrnn.temporal import LastStep
from tinyrnn.values import Input


class AttentionPooling(Graph):
    """One frame for a sequence: the mean of its steps, weighted by what each of them holds.

    ``y = sum_t a_t x_t`` with ``a = softmax over t of attention.weight . tanh(key(x_t))``, within the
    lengths: the attention of Yang et al. (2016), "Hierarchical Attention Networks for Document
    Classification". Frames are ``(in_features,)``. It is a net of a `Linear` (``key``) and an
    `AdditiveAttention` (``attention``), and needs the full sequence.

    Parameters
    ----------
    in_features : int
    embed_dim : int
        The size of the keys.
    masked : bool
        It reads a second value, a mask: ``AttentionPooling(64, 24, masked=True)(x, m)`` weighs the steps
        where ``m`` is not 0.
    """

    def __init__(self, in_features: int, embed_dim: int, masked: bool = False) -> None:
        x: Any = Input(check_size("AttentionPooling: in_features", in_features))
        embed_dim = check_size("AttentionPooling: embed_dim", embed_dim)
        keys = Linear(in_features, embed_dim)(x).named("key")
        mask = Input(1, name="mask") if check_bool("AttentionPooling: masked", masked) else None
        nothing = Scale(0.0, 0.0)(LastStep()(keys, mask=mask))  # a query of zeros, once for the sequence
        pooled = AdditiveAttention(embed_dim)(nothing, keys, x, mask=mask).named("attention")
        super().__init__(x if mask is None else {"x": x, "mask": mask}, pooled)
